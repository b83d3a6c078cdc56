// SPDX-License-Identifier: Apache-2.0
// Norms of rows of W + s B A, for one instruction set, and the table of what the level offers. Bits: those of the generic body.
// Included once per level by levels.hpp, after chains.inl.hpp.
namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL {

/// Rows of W at a time, and ranks of A that L1 holds with them.
#if GRAFT_LEVEL_NUMBER == 2
inline constexpr index_t norm_rows_at_once = 4;
inline constexpr index_t norm_ranks_at_once = 16;
#else
inline constexpr index_t norm_rows_at_once = 6;
inline constexpr index_t norm_ranks_at_once = 8;
#endif
static_assert(norm_rows_at_once <= norm_row_step && norm_ranks_at_once <= shrink_rank_step);

/// MT rows of one chunk, each with itself: out[t] = tree(lanes), or += for the chunks after the first.
template <int MT>
GRAFT_INLINE void self_dot_tile(float const* x, index_t ldx, index_t length, float* out, bool first) {
  lanes c[16];
  repeat<16>([&](auto t) __attribute__((always_inline)) { c[t] = zero(); });
  index_t k = 0;
  for (; k + 16 <= length; k += 16)
    repeat<MT>([&](auto t) __attribute__((always_inline)) {
      lanes const v = load(x + t * ldx + k);
      c[t] = fma(v, v, c[t]);
    });
  if (k < length)
    repeat<MT>([&](auto t) __attribute__((always_inline)) {
      lanes const v = load_part(x + t * ldx + k, length - k);
      c[t] = fma(v, v, c[t]);
    });
  alignas(64) float sums[16];
  store(sums, tree16(c));
  for (int t = 0; t < MT; ++t) out[t] = first ? sums[t] : out[t] + sums[t];
}
template <int = 0>
inline void self_dots(float const* x, index_t ldx, index_t rows, index_t length, float* out, bool first) {
  index_t t = 0;
  for (; t + norm_rows_at_once <= rows; t += norm_rows_at_once)
    self_dot_tile<norm_rows_at_once>(x + t * ldx, ldx, length, out + t, first);
  for (; t < rows; ++t) self_dot_tile<1>(x + t * ldx, ldx, length, out + t, first);
}

#if GRAFT_LEVEL_NUMBER == 2  // other levels have not the registers
/// MT rows x MR ranks of one chunk, and where Squares each row with itself. Meanwhile rows `from`, `from` + `step`, ... of the
/// MT rows at `ahead` are fetched, line by line between the products: a burst would hold these up.
template <int MT, int MR, bool Squares>
GRAFT_INLINE void norm_tile(float const* x, index_t ldx, float const* a, index_t length, float* out, index_t ldo,
                            float* squares, bool first, float const* ahead, index_t from, index_t step) {
  constexpr int D = MT * MR;
  constexpr int N = (D + (Squares ? MT : 0) + 15) / 16 * 16;
  lanes c[N];
  repeat<N>([&](auto i) __attribute__((always_inline)) { c[i] = zero(); });
  index_t k = 0;
  for (; k + 16 <= length; k += 16) {
    for (index_t i = from; i < MT; i += step) __builtin_prefetch(ahead + i * ldx + k);
    lanes w[MR];
    repeat<MR>([&](auto j) __attribute__((always_inline)) { w[j] = load(a + j * packed_row + k); });
    repeat<MT>([&](auto t) __attribute__((always_inline)) {
      lanes const b = load(x + t * ldx + k);
      repeat<MR>([&](auto j) __attribute__((always_inline)) { c[t * MR + j] = fma(b, w[j], c[t * MR + j]); });
      if constexpr (Squares) c[D + t] = fma(b, b, c[D + t]);
    });
  }
  if (k < length) {
    lanes w[MR];
    repeat<MR>([&](auto j) __attribute__((always_inline)) { w[j] = load_part(a + j * packed_row + k, length - k); });
    repeat<MT>([&](auto t) __attribute__((always_inline)) {
      lanes const b = load_part(x + t * ldx + k, length - k);
      repeat<MR>([&](auto j) __attribute__((always_inline)) { c[t * MR + j] = fma(b, w[j], c[t * MR + j]); });
      if constexpr (Squares) c[D + t] = fma(b, b, c[D + t]);
    });
  }
  alignas(64) float o[N];
  repeat<N / 16>([&](auto g) __attribute__((always_inline)) { store(o + 16 * g, tree16(c + 16 * g)); });
  for (int t = 0; t < MT; ++t) {
    for (int j = 0; j < MR; ++j) out[t * ldo + j] = first ? o[t * MR + j] : out[t * ldo + j] + o[t * MR + j];
    if constexpr (Squares) squares[t] = first ? o[D + t] : squares[t] + o[D + t];
  }
}
#endif

/// Row o in fp64: each element a chain over the ranks from w, then its square by the long axis.
template <int = 0>
inline double exact_norm(norm_problem const& p, index_t o) {
  constexpr index_t chunk = kernels::chunk;
  double total = 0.0;
  double v[chunk];
  for (index_t k0 = 0; k0 < p.length; k0 += chunk) {
    index_t const count = p.length - k0 < chunk ? p.length - k0 : chunk;
    typed(p.w.at(o, k0), [&](auto const* w) {
      for (index_t k = 0; k < count; ++k) v[k] = load_as<double>(w[k * p.w.column]);
    });
    for (index_t j = 0; j < p.ranks; ++j) {
      double factor = 0.0;
      typed(p.b.at(o, j), [&](auto const* b) { factor = static_cast<double>(p.scale) * load_as<double>(*b); });
      typed(p.a.at(j, k0), [&](auto const* a) {
        for (index_t k = 0; k < count; ++k) v[k] = std::fma(factor, load_as<double>(a[k * p.a.column]), v[k]);
      });
    }
    double lane[group_lanes] = {};
    for (index_t k = 0; k < count; ++k) lane[k % group_lanes] = std::fma(v[k], v[k], lane[k % group_lanes]);
    double const part = detail::tree(lane);
    total = k0 == 0 ? part : total + part;
  }
  return std::sqrt(total);
}

/// Rows [t0, t1), at most norm_row_block. `gram`[ranks, ranks] and behind it the lengths of A's rows; `scratch` holds norm_scratch(ranks) floats.
template <int = 0>
inline void norm_rows(norm_problem const& p, index_t t0, index_t t1, float const* gram, float* scratch) {
  constexpr index_t chunk = kernels::chunk;
  index_t const rows = t1 - t0;
  index_t const r = p.ranks;
  float* const u = scratch;
  float* const q = u + norm_row_block * r;
  float* const ww = q + norm_row_block * r;
  index_t const r_padded = (r + 15) / 16 * 16;
  float* const bb = ww + norm_row_block;
  float* const wx = bb + norm_row_block * r_padded;
  float* const wa = wx + norm_row_step * packed_row;
  bool const direct = p.w.column == 1 && p.w.kind == storage::fp32;
  if (p.length == 0)
    for (index_t i = 0; i < rows * r; ++i) u[i] = 0.0F;
  for (index_t t = 0; t < rows; ++t) ww[t] = 0.0F;
  for (index_t k0 = 0; k0 < p.length; k0 += chunk) {
    index_t const length = p.length - k0 < chunk ? p.length - k0 : chunk;
    for (index_t j = 0; j < r; j += norm_ranks_at_once) {
      index_t const ranks = r - j < norm_ranks_at_once ? r - j : norm_ranks_at_once;
      // Always packed: rows whose stride is a power of two would evict each other.
      pack(p.a.at(j, k0), ranks, length, wa, packed_row);
      for (index_t t = 0; t < rows; t += norm_rows_at_once) {
        index_t const some = rows - t < norm_rows_at_once ? rows - t : norm_rows_at_once;
        if (!direct) pack(p.w.at(t0 + t, k0), some, length, wx, packed_row);
        float const* const x = direct ? p.w.at(t0 + t, k0).as<float const>() : wx;
        index_t const ldx = direct ? p.w.row : packed_row;
        bool const squares = j == 0 && p.base.data == nullptr;
        float* const out = u + t * r + j;
#if GRAFT_LEVEL_NUMBER == 2
        if (some == norm_rows_at_once && ranks % 4 == 0) {
          // Two tiles on, or of the next chunk. Other ranks find the rows in the cache.
          index_t const later = t + 2 * some;
          float const* const ahead = later + some <= rows ? x + 2 * some * ldx
                                     : k0 + chunk < p.length
                                         ? p.w.at(t0 + (later < rows ? 0 : later - rows), k0 + chunk).as<float const>()
                                         : x;
          index_t const fetches = direct && j == 0 ? 0 : norm_rows_at_once;
          for (index_t i = 0; i < ranks; i += 4) {
            float const* const a = wa + i * packed_row;
            if (squares && i == 0)
              norm_tile<norm_rows_at_once, 4, true>(x, ldx, a, length, out, r, ww + t, k0 == 0, ahead, fetches,
                                                    ranks / 4);
            else
              norm_tile<norm_rows_at_once, 4, false>(x, ldx, a, length, out + i, r, nullptr, k0 == 0, ahead,
                                                     fetches + i / 4, ranks / 4);
          }
          continue;
        }
#endif
        dot_many(x, ldx, some, wa, ranks, length, out, r, k0 == 0);
        if (squares) self_dots(x, ldx, some, length, ww + t, k0 == 0);
      }
    }
    if (r == 0 && p.base.data == nullptr)
      for (index_t t = 0; t < rows; t += norm_rows_at_once) {
        index_t const some = rows - t < norm_rows_at_once ? rows - t : norm_rows_at_once;
        if (!direct) pack(p.w.at(t0 + t, k0), some, length, wx, packed_row);
        self_dots(direct ? p.w.at(t0 + t, k0).as<float const>() : wx, direct ? p.w.row : packed_row, some, length,
                  ww + t, k0 == 0);
      }
  }
  if (p.base.data != nullptr)
    typed(p.base.at(t0, 0), [&](auto const* b) {
      for (index_t t = 0; t < rows; ++t) {
        auto const norm = load_as<float>(b[t * p.base.row]);
        ww[t] = norm * norm;
      }
    });
  if (r > 0) shrink_rows({p.b, {const_cast<float*>(gram), storage::fp32, r, 1}, {}, p.rows, r, r, 1.0F}, t0, t1, q, wx);
  if (r > 0) pack(p.b.at(t0, 0), rows, r, bb, r_padded);
  for (index_t t = 0; t < rows; ++t) {
    auto const square = expanded_norm(ww[t], u + t * r, q + t * r, plain_vector{bb + t * r_padded},
                                      plain_vector{gram + r * r}, r, p.scale);
    double const norm = square.sound ? static_cast<double>(std::sqrt(square.value)) : exact_norm(p, t0 + t);
    typed(p.norms.at(t0 + t, 0), [&](auto* out) { *out = store_as<std::remove_cvref_t<decltype(*out)>>(norm); });
  }
}

}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL
