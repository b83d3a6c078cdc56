// SPDX-License-Identifier: Apache-2.0
// Dots of sixteen lanes over the long axis, for one instruction set. Bits: those of the generic bodies.
// Included once per level by levels.hpp, after convert.inl.hpp.
namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL {

/// MT rows x MR ranks of one chunk: out[t * ldo + j] = tree(lanes), or += for the chunks after the first. `ahead` rows of x
/// further on are asked for: they are more streams than the hardware follows.
template <int MT, int MR, int ahead = 0, class TX, class TA>
GRAFT_INLINE void dot_tile(TX const* x, index_t ldx, TA const* a, index_t lda, index_t length, float* out, index_t ldo,
                           bool first) {
  constexpr int N = (MT * MR + 7) / 8 * 8;
  constexpr int whole = N / 16 * 16;  // sums whose trees are taken sixteen at a time
  lanes c[N];
  repeat<N>([&](auto i) __attribute__((always_inline)) { c[i] = zero(); });
  index_t k = 0;
  for (; k + 16 <= length; k += 16) {
    lanes b[MT];
    repeat<MT>([&](auto t) __attribute__((always_inline)) {
      if constexpr (ahead > 0) __builtin_prefetch(x + (t + ahead) * ldx + k);
      b[t] = load(x + t * ldx + k);
    });
    repeat<MR>([&](auto j) __attribute__((always_inline)) {
      lanes const w = load(a + j * lda + k);
      repeat<MT>([&](auto t) __attribute__((always_inline)) { c[t * MR + j] = fma(b[t], w, c[t * MR + j]); });
    });
  }
  if (k < length) {
    lanes b[MT];
    repeat<MT>([&](auto t) __attribute__((always_inline)) { b[t] = load_part(x + t * ldx + k, length - k); });
    repeat<MR>([&](auto j) __attribute__((always_inline)) {
      lanes const w = load_part(a + j * lda + k, length - k);
      repeat<MT>([&](auto t) __attribute__((always_inline)) { c[t * MR + j] = fma(b[t], w, c[t * MR + j]); });
    });
  }
  alignas(64) float o[whole + 16];
  repeat<whole / 16>([&](auto g) __attribute__((always_inline)) { store(o + 16 * g, tree16(c + 16 * g)); });
  if constexpr (whole < N) store(o + whole, tree8(c + whole));
  repeat<MT>([&](auto t) __attribute__((always_inline)) {
    for (int j = 0; j < MR; ++j) out[t * ldo + j] = first ? o[t * MR + j] : out[t * ldo + j] + o[t * MR + j];
  });
}

/// `rows` rows, a multiple of MT, against all ranks of one chunk.
template <int MT, int MR, int ahead = 0, class TX, class TA>
void dot_rows(TX const* x, index_t ldx, index_t rows, TA const* a, index_t lda, index_t ranks, index_t length,
              float* out, index_t ldo, bool first) {
  index_t j = 0;
  for (; j + MR <= ranks; j += MR)
    for (index_t t = 0; t < rows; t += MT)
      dot_tile<MT, MR, ahead>(x + t * ldx, ldx, a + j * lda, lda, length, out + t * ldo + j, ldo, first);
  if constexpr (MR > 4)
    if (ranks - j >= 4) {
      for (index_t t = 0; t < rows; t += MT)
        dot_tile<MT, 4>(x + t * ldx, ldx, a + j * lda, lda, length, out + t * ldo + j, ldo, first);
      j += 4;
    }
  for (; j < ranks; ++j)
    for (index_t t = 0; t < rows; t += MT)
      dot_tile<MT, 1>(x + t * ldx, ldx, a + j * lda, lda, length, out + t * ldo + j, ldo, first);
}

/// Few rows, of which A is read as it is stored.
template <class TA>
void dot_few(float const* x, index_t ldx, index_t rows, TA const* a, index_t lda, index_t ranks, index_t length,
             float* out, index_t ldo, bool first) {
  index_t t = 0;
#if GRAFT_LEVEL_NUMBER == 2
  if constexpr (std::is_same_v<TA, float>)  // a narrow A is packed for four rows
    if (rows >= 4) {
      t = rows / 4 * 4;
      dot_rows<4, 4>(x, ldx, t, a, lda, ranks, length, out, ldo, first);
    }
  // Not 1 x 16: sixteen rows whose stride is a power of two share one set of an 8-way cache and evict each other.
  if (rows - t == 3) dot_rows<3, 8>(x + t * ldx, ldx, 3, a, lda, ranks, length, out + t * ldo, ldo, first);
  if (rows - t == 2) dot_rows<2, 8>(x + t * ldx, ldx, 2, a, lda, ranks, length, out + t * ldo, ldo, first);
  if (rows - t == 1) dot_rows<1, 8>(x + t * ldx, ldx, 1, a, lda, ranks, length, out + t * ldo, ldo, first);
#elif GRAFT_LEVEL_NUMBER == 1 || !defined(GRAFT_HAS_LEVELS)
  for (; rows - t >= 2; t += 2) dot_rows<2, 2>(x + t * ldx, ldx, 2, a, lda, ranks, length, out + t * ldo, ldo, first);
  if (t < rows) dot_rows<1, 4>(x + t * ldx, ldx, 1, a, lda, ranks, length, out + t * ldo, ldo, first);
#else
  for (; t < rows; ++t) dot_rows<1, 1>(x + t * ldx, ldx, 1, a, lda, ranks, length, out + t * ldo, ldo, first);
#endif
}

/// Many rows against a packed A: as many of its ranks at a time as the first cache holds.
template <class TX>
void dot_many(TX const* x, index_t ldx, index_t rows, float const* a, index_t ranks, index_t length, float* out,
              index_t ldo, bool first) {
#if GRAFT_LEVEL_NUMBER == 2
  constexpr int MT = 3;
  constexpr int MR = 8;
#elif GRAFT_LEVEL_NUMBER == 1 || !defined(GRAFT_HAS_LEVELS)
  constexpr int MT = 2;
  constexpr int MR = 2;
#else
  constexpr int MT = 1;
  constexpr int MR = 1;
#endif
  constexpr int rest = MR < 4 ? 2 * MR : MR;
  for (index_t j = 0; j < ranks; j += shrink_rank_group) {
    index_t const some = ranks - j < shrink_rank_group ? ranks - j : shrink_rank_group;
    index_t t = 0;
    for (; t + MT <= rows; t += MT)
      dot_rows<MT, MR, MT>(x + t * ldx, ldx, MT, a + j * packed_row, packed_row, some, length, out + t * ldo + j, ldo,
                           first);
    for (; t < rows; ++t)
      dot_rows<1, rest>(x + t * ldx, ldx, 1, a + j * packed_row, packed_row, some, length, out + t * ldo + j, ldo,
                        first);
  }
}

/// Rows [t0, t1) against ranks [j0, j1) over chunk q: out[(t - t0) * ldo + (j - j0)]. `scratch` holds shrink_scratch(ranks) floats.
template <int = 0>
inline void shrink_chunk(shrink_problem const& p, index_t t0, index_t t1, index_t j0, index_t j1, index_t q, float* out,
                         index_t ldo, bool first, float* scratch) {
  constexpr index_t chunk = kernels::chunk;
  index_t const k0 = q * chunk;
  index_t const length = p.length - k0 < chunk ? p.length - k0 : chunk;
  float* const wx = scratch;
  float* const wa = scratch + shrink_row_step * packed_row;
  bool const few = t1 - t0 < 4;
  for (index_t j = j0; j < j1; j += shrink_rank_step) {
    index_t const ranks = j1 - j < shrink_rank_step ? j1 - j : shrink_rank_step;
    operand const a = p.a.at(j, k0);
    bool const direct_a = a.column == 1 && (few || (a.kind == storage::fp32 && t1 - t0 < shrink_packs_rows));
    if (!direct_a) pack(a, ranks, length, wa, packed_row);
    for (index_t t = t0; t < t1; t += shrink_row_step) {
      index_t const rows = t1 - t < shrink_row_step ? t1 - t : shrink_row_step;
      operand const x = p.x.at(t, k0);
      float* const o = out + (t - t0) * ldo + (j - j0);
      if (!direct_a && x.column == 1) {
        typed(x, [&](auto const* xs) { dot_many(xs, x.row, t1 - t, wa, ranks, length, o, ldo, first); });
        break;
      }
      bool const direct_x = x.column == 1 && x.kind == storage::fp32;
      if (!direct_x) pack(x, rows, length, wx, packed_row);
      float const* const xs = direct_x ? x.as<float const>() : wx;
      index_t const ldx = direct_x ? x.row : packed_row;
      if (!direct_a) dot_many(wx, packed_row, rows, wa, ranks, length, o, ldo, first);
      else if (a.kind == storage::fp32)
        dot_few(xs, ldx, rows, a.as<float const>(), a.row, ranks, length, o, ldo, first);
      else if (a.kind == storage::bf16)
        dot_few(xs, ldx, rows, a.as<bfloat16 const>(), a.row, ranks, length, o, ldo, first);
      else dot_few(xs, ldx, rows, a.as<float16 const>(), a.row, ranks, length, o, ldo, first);
    }
  }
}

/// All chunks of rows [t0, t1), scaled: out[(t - t0) * ranks + j].
template <int = 0>
inline void shrink_rows(shrink_problem const& p, index_t t0, index_t t1, float* out, float* scratch) {
  index_t const chunks = (p.length + kernels::chunk - 1) / kernels::chunk;
  index_t const count = (t1 - t0) * p.ranks;
  // Few rows only stream A: along its rows, eight at a time. Many rows reuse a chunk of A while it is in the cache.
  index_t const group = t1 - t0 < 4 ? 8 : p.ranks;
  for (index_t j = 0; j < p.ranks; j += group)
    for (index_t q = 0; q < chunks; ++q)
      shrink_chunk(p, t0, t1, j, p.ranks - j < group ? p.ranks : j + group, q, out + j, p.ranks, q == 0, scratch);
  if (chunks == 0) std::memset(out, 0, sizeof(float) * static_cast<std::size_t>(count));
  multiply(out, count, p.scale);
}

/// Sums of all chunks in order, scaled: out[i] = scale (part[0][i] + part[1][i] + ...), each part `count` long.
template <int = 0>
inline void combine_chunks(float const* part, index_t chunks, index_t first, index_t last, index_t count, float scale,
                           float* out) {
  for (index_t i = first; i < last; ++i) {
    float sum = chunks == 0 ? 0.0F : part[i];
    for (index_t q = 1; q < chunks; ++q) sum = sum + part[q * count + i];
    out[i] = scale * sum;
  }
}

}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL
