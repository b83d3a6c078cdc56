// SPDX-License-Identifier: Apache-2.0
// Rows of tokens to rows of experts and back, for one instruction set. Bits: those of the generic bodies.
// Included once per level by levels.hpp, after dots.inl.hpp.
namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL {

/// Columns that are converted at a time.
inline constexpr index_t pair_columns = kernels::chunk;

/// The weight of a pair; 1 where there are none.
template <int = 0>
inline float weight_of_pair(operand const& w, index_t token, index_t pair) {
  if (w.data == nullptr) return 1.0F;
  float value = 0.0F;
  typed(w.at(token, pair), [&](auto const* p) __attribute__((always_inline)) { value = load_as<float>(*p); });
  return value;
}

#if GRAFT_LEVEL_NUMBER > 0
/// Rows [i0, i1) past the caches, where what is written would not fit them: its lines are not read first. Source rows lie
/// anywhere, so the hardware does not know which is next. False, and nothing is done, where rows are not whole vectors.
template <int = 0>
inline bool stream_rows(dispatch_problem const& p, index_t i0, index_t i1, std::size_t bytes) {
  auto const whole = [](std::size_t n) { return n % sizeof(float[16]) == 0; };
  auto const* const first = p.rows.at(i0, 0).as<std::byte const>();
  auto const row = static_cast<std::size_t>(p.rows.at(i0 + 1, 0).as<std::byte const>() - first);
  if (!whole(bytes) || !whole(row) || !whole(reinterpret_cast<std::uintptr_t>(first))) return false;
  auto const source = [&](index_t i) { return p.x.at(p.row_tokens[i] < 0 ? 0 : p.row_tokens[i], 0).as<float const>(); };
  for (index_t i = i0; i < i1; ++i) {
    bool const padding = p.row_tokens[i] < 0;
    float const* const from = source(i);
    float const* const next = source(i + 1 < i1 ? i + 1 : i);
    auto* const to = p.rows.at(i, 0).as<float>();
    for (index_t k = 0; k < static_cast<index_t>(bytes / sizeof(float)); k += 16) {
      __builtin_prefetch(next + k);
      stream(to + k, padding ? zero() : load(from + k));
    }
  }
  _mm_sfence();
  return true;
}
#endif

/// Rows [i0, i1) of experts.
template <int = 0>
inline void dispatch_rows(dispatch_problem const& p, index_t i0, index_t i1) {
  alignas(64) float block[pair_columns];
  bool const copies = p.w.data == nullptr && p.x.kind == p.rows.kind && p.x.column == 1 && p.rows.column == 1;
  std::size_t const bytes =
      static_cast<std::size_t>(p.columns) * (p.rows.kind == storage::fp32 ? sizeof(float) : sizeof(std::uint16_t));
#if GRAFT_LEVEL_NUMBER > 0
  if (copies && p.streams && stream_rows(p, i0, i1, bytes)) return;
#endif
  for (index_t i = i0; i < i1; ++i) {
    index_t const token = p.row_tokens[i];
    if (token >= 0 && copies) {
      std::memcpy(p.rows.at(i, 0).data, p.x.at(token, 0).data, bytes);
      continue;
    }
    float const w = token < 0 ? 0.0F : weight_of_pair(p.w, token, p.w.data == nullptr ? 0 : p.permutation[i]);
    for (index_t j = 0; j < p.columns; j += pair_columns) {
      index_t const n = p.columns - j < pair_columns ? p.columns - j : pair_columns;
      if (token < 0) std::memset(block, 0, sizeof block);
      else {
        pack(p.x.at(token, j), 1, n, block, pair_columns);
        if (p.w.data != nullptr) multiply(block, n, w);
      }
      unpack(block, pair_columns, 1, n, p.rows.at(i, j));
    }
  }
}

/// Rows of experts as fp32: as they lie in memory, or widened at a time.
inline constexpr index_t rows_at_once = 8;
[[nodiscard]] GRAFT_INLINE bool lies_ready(operand const& m) { return m.kind == storage::fp32 && m.column == 1; }
template <int = 0>
inline float const* ready_row(operand const& rows, index_t row, index_t first, index_t n, float* segment) {
  if (lies_ready(rows)) return rows.at(row, first).as<float const>();
  pack(rows.at(row, first), 1, n, segment, pair_columns);
  return segment;
}

/// out[j] = (from_zero ? 0 : out[j]) + sum of weight[s] row[s][j], an fma chain in order, for j < n. `ahead` are the rows that
/// the next call reads: rows lie anywhere, so the hardware does not know.
template <int = 0>
inline void chain_rows(float const* const* row, float const* const* ahead, float const* weight, index_t rows, index_t n,
                       float* out, bool from_zero) {
  index_t j = 0;
  for (; j + 64 <= n; j += 64) {
    lanes sum[4];
    repeat<4>([&](auto v) __attribute__((always_inline)) { sum[v] = from_zero ? zero() : load(out + j + 16 * v); });
    for (index_t s = 0; s < rows; ++s) {
      lanes const w = splat(weight[s]);
      repeat<4>([&](auto v) __attribute__((always_inline)) { __builtin_prefetch(ahead[s] + j + 16 * v); });
      repeat<4>([&](auto v) __attribute__((always_inline)) { sum[v] = fma(w, load(row[s] + j + 16 * v), sum[v]); });
    }
    repeat<4>([&](auto v) __attribute__((always_inline)) { store(out + j + 16 * v, sum[v]); });
  }
  for (; j < n; j += 16) {
    index_t const count = n - j < 16 ? n - j : 16;
    lanes sum = from_zero ? zero() : load_part(out + j, count);
    for (index_t s = 0; s < rows; ++s) sum = fma(splat(weight[s]), load_part(row[s] + j, count), sum);
    store_part(out + j, sum, count);
  }
}

/// Tokens [t0, t1).
template <int = 0>
inline void combine_rows(combine_problem const& p, index_t t0, index_t t1) {
  alignas(64) float block[pair_columns];
  alignas(64) float segments[rows_at_once][pair_columns];
  float const* row[rows_at_once] = {};
  float const* ahead[rows_at_once] = {};
  float weight[rows_at_once] = {};
  bool const direct = lies_ready(p.y);
  bool const whole = direct && lies_ready(p.rows);
  index_t const step = whole ? p.columns : pair_columns;
  for (index_t t = t0; t < t1; ++t) {
    index_t const last = p.pair_begin(t + 1);
    index_t const pairs = t + 1 < t1 ? p.pair_begin(t + 2) : last;
    for (index_t j = 0; j < p.columns; j += step) {
      index_t const n = p.columns - j < step ? p.columns - j : step;
      float* const out = direct ? p.y.at(t, j).as<float>() : block;
      if (p.adds && !direct) pack(p.y.at(t, j), 1, n, block, pair_columns);
      bool from_zero = !p.adds;
      index_t pair = p.pair_begin(t);
      do {
        index_t rows = 0;
        for (; pair < last && rows < rows_at_once; ++pair) {
          index_t const i = p.inverse[pair];
          if (i < 0) continue;
          weight[rows] = weight_of_pair(p.w, t, pair);
          row[rows] = ready_row(p.rows, i, j, n, segments[rows]);
          index_t const later = pair + (last - p.pair_begin(t));
          ahead[rows] = whole && later < pairs && p.inverse[later] >= 0
                            ? p.rows.at(p.inverse[later], 0).as<float const>()
                            : row[rows];
          ++rows;
        }
        chain_rows(row, ahead, weight, rows, n, out, from_zero);
        from_zero = false;
      } while (pair < last);
      if (!direct) unpack(block, pair_columns, 1, n, p.y.at(t, j));
    }
  }
}

/// sums[s] = or += y . row[s] of n columns of a chunk, a tree over sixteen lanes each, for M rows.
template <int M>
GRAFT_INLINE void dot_rows(float const* y, float const* const* row, index_t n, float* sums, bool first) {
  lanes c[16];
  repeat<16>([&](auto s) __attribute__((always_inline)) { c[s] = zero(); });
  index_t k = 0;
  for (; k + 16 <= n; k += 16) {
    lanes const v = load(y + k);
    repeat<M>([&](auto s) __attribute__((always_inline)) { c[s] = fma(load(row[s] + k), v, c[s]); });
  }
  if (k < n) {
    lanes const v = load_part(y + k, n - k);
    repeat<M>([&](auto s) __attribute__((always_inline)) { c[s] = fma(load_part(row[s] + k, n - k), v, c[s]); });
  }
  alignas(64) float trees[16];
  store(trees, tree16(c));
  for (int s = 0; s < M; ++s) sums[s] = first ? trees[s] : sums[s] + trees[s];
}

/// d w of tokens [t0, t1): y . rows(inverse[pair]), long axis; +0 where there is no row.
template <int = 0>
inline void dot_pair_rows(combine_problem const& p, index_t t0, index_t t1) {
  constexpr index_t most = 4;
  alignas(64) float block[pair_columns];
  alignas(64) float segments[most][pair_columns];
  float const* row[most] = {};
  index_t of[most] = {};
  auto const write = [&](index_t t, index_t pair, float value) {
    typed(p.w.at(t, pair), [&](auto* w) { *w = store_as<std::remove_reference_t<decltype(*w)>>(value); });
  };
  for (index_t t = t0; t < t1; ++t) {
    index_t pair = p.pair_begin(t);
    index_t const last = p.pair_begin(t + 1);
    while (pair < last) {
      float sums[most] = {};
      index_t count = 0;
      for (; pair < last && count < most; ++pair) {
        if (p.inverse[pair] < 0) write(t, pair, 0.0F);
        else of[count++] = pair;
      }
      for (index_t k = 0; k < p.columns && count > 0; k += pair_columns) {
        index_t const n = p.columns - k < pair_columns ? p.columns - k : pair_columns;
        float const* const y = ready_row(p.y, t, k, n, block);
        for (index_t s = 0; s < count; ++s) row[s] = ready_row(p.rows, p.inverse[of[s]], k, n, segments[s]);
        if (count == most) dot_rows<most>(y, row, n, sums, k == 0);
        else
          for (index_t s = 0; s < count; ++s) dot_rows<1>(y, row + s, n, sums + s, k == 0);
      }
      for (index_t s = 0; s < count; ++s) write(t, of[s], sums[s]);
    }
  }
}

}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL
