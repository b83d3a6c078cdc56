// SPDX-License-Identifier: Apache-2.0
// Dots over the long axis and chains over the short one, for one instruction set. Bits: those of the generic bodies.
// Included once per level by levels.hpp, after lanes.inl.hpp.
namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL {

// ---- Elements to fp32 and back ----------------------------------------------------------------------------------------

/// out[i * ld + k] = m(i, k) for i < ni, k < nk; k is filled up to a multiple of 16 with +0.
template <class T>
void pack_as(operand const& m, index_t ni, index_t nk, float* out, index_t ld) {
  T const* const p = m.as<T const>();
  if (m.column == 1) {
    for (index_t i = 0; i < ni; ++i) {
      index_t k = 0;
      for (; k + 16 <= nk; k += 16) store(out + i * ld + k, load(p + i * m.row + k));
      if (k < nk) store(out + i * ld + k, load_part(p + i * m.row + k, nk - k));
    }
  } else if (m.row == 1) {
    for (index_t i = 0; i < ni; i += 16)
      for (index_t k = 0; k < nk; k += 16) {
        lanes v[16];
        index_t const wide = ni - i < 16 ? ni - i : 16;
        index_t const deep = nk - k < 16 ? nk - k : 16;
        if (wide == 16 && deep == 16) {
          if constexpr (std::is_same_v<T, float>) load_transposed(v, p + i + k * m.column, m.column);
          else {
            for (int l = 0; l < 16; ++l) v[l] = load(p + i + (k + l) * m.column);
            transpose16(v);
          }
        } else {
          for (int l = 0; l < 16; ++l) v[l] = l < deep ? load_part(p + i + (k + l) * m.column, wide) : zero();
          transpose16(v);
        }
        for (index_t l = 0; l < wide; ++l) store(out + (i + l) * ld + k, v[l]);
      }
  } else {
    for (index_t i = 0; i < ni; ++i)
      for (index_t k = 0; k < (nk + 15) / 16 * 16; ++k) out[i * ld + k] = k < nk ? load_as<float>(p[i * m.row + k * m.column]) : 0.0F;
  }
}
inline void pack(operand const& m, index_t ni, index_t nk, float* out, index_t ld) {
  if (m.kind == storage::fp32) pack_as<float>(m, ni, nk, out, ld);
  else if (m.kind == storage::bf16) pack_as<bfloat16>(m, ni, nk, out, ld);
  else pack_as<float16>(m, ni, nk, out, ld);
}

/// m(i, k) = in[i * ld + k], rounded once.
template <class T>
void unpack_as(float const* in, index_t ld, index_t ni, index_t nk, operand const& m) {
  T* const p = m.as<T>();
  if (m.column == 1) {
    for (index_t i = 0; i < ni; ++i) {
      index_t k = 0;
      for (; k + 16 <= nk; k += 16) store(p + i * m.row + k, load(in + i * ld + k));
      if (k < nk) store_part(p + i * m.row + k, load_part(in + i * ld + k, nk - k), nk - k);
    }
  } else if (m.row == 1) {
    for (index_t i = 0; i < ni; i += 16)
      for (index_t k = 0; k < nk; k += 16) {
        index_t const wide = ni - i < 16 ? ni - i : 16;
        index_t const deep = nk - k < 16 ? nk - k : 16;
        lanes v[16];
        for (int l = 0; l < 16; ++l) v[l] = l < wide ? load_part(in + (i + l) * ld + k, deep) : zero();
        transpose16(v);
        for (index_t l = 0; l < deep; ++l) {
          if (wide == 16) store(p + i + (k + l) * m.column, v[l]);
          else store_part(p + i + (k + l) * m.column, v[l], wide);
        }
      }
  } else {
    for (index_t i = 0; i < ni; ++i)
      for (index_t k = 0; k < nk; ++k) p[i * m.row + k * m.column] = store_as<T>(in[i * ld + k]);
  }
}
inline void unpack(float const* in, index_t ld, index_t ni, index_t nk, operand const& m) {
  if (m.kind == storage::fp32) unpack_as<float>(in, ld, ni, nk, m);
  else if (m.kind == storage::bf16) unpack_as<bfloat16>(in, ld, ni, nk, m);
  else unpack_as<float16>(in, ld, ni, nk, m);
}

inline void multiply(float* v, index_t count, float s) {
  index_t i = 0;
  for (; i + 16 <= count; i += 16) store(v + i, mul(splat(s), load(v + i)));
  for (; i < count; ++i) v[i] = s * v[i];
}

// ---- Long axis: dots of sixteen lanes ---------------------------------------------------------------------------------

/// MT rows x MR ranks of one chunk: out[t * ldo + j] = tree(lanes), or += for the chunks after the first.
template <int MT, int MR, class TA>
GRAFT_INLINE void dot_tile(float const* x, index_t ldx, TA const* a, index_t lda, index_t length, float* out, index_t ldo, bool first) {
  constexpr int N = (MT * MR + 15) / 16 * 16;
  lanes c[N];
  repeat<N>([&](auto i) __attribute__((always_inline)) { c[i] = zero(); });
  index_t k = 0;
  for (; k + 16 <= length; k += 16) {
    lanes w[MR];
    repeat<MR>([&](auto j) __attribute__((always_inline)) { w[j] = load(a + j * lda + k); });
    repeat<MT>([&](auto t) __attribute__((always_inline)) {
      lanes const b = load(x + t * ldx + k);
      repeat<MR>([&](auto j) __attribute__((always_inline)) { c[t * MR + j] = fma(b, w[j], c[t * MR + j]); });
    });
  }
  if (k < length)
    repeat<MT>([&](auto t) __attribute__((always_inline)) {
      lanes const b = load_part(x + t * ldx + k, length - k);
      repeat<MR>([&](auto j) __attribute__((always_inline)) { c[t * MR + j] = fma(b, load_part(a + j * lda + k, length - k), c[t * MR + j]); });
    });
  alignas(64) float o[N];
  repeat<N / 16>([&](auto g) __attribute__((always_inline)) { store(o + 16 * g, tree16(c + 16 * g)); });
  for (int t = 0; t < MT; ++t)
    for (int j = 0; j < MR; ++j) out[t * ldo + j] = first ? o[t * MR + j] : out[t * ldo + j] + o[t * MR + j];
}

template <int MT, int MR, class TA>
void dot_rows(float const* x, index_t ldx, TA const* a, index_t lda, index_t ranks, index_t length, float* out, index_t ldo, bool first) {
  index_t j = 0;
  for (; j + MR <= ranks; j += MR) dot_tile<MT, MR>(x, ldx, a + j * lda, lda, length, out + j, ldo, first);
  for (; j < ranks; ++j) dot_tile<MT, 1>(x, ldx, a + j * lda, lda, length, out + j, ldo, first);
}

/// Up to three rows, of which the weight is read as it is stored.
template <class TA>
void dot_few(float const* x, index_t ldx, index_t rows, TA const* a, index_t lda, index_t ranks, index_t length, float* out, index_t ldo,
             bool first) {
  index_t t = 0;
#if GRAFT_LEVEL_NUMBER == 2
  if (rows >= 2) {
    dot_rows<2, 8>(x, ldx, a, lda, ranks, length, out, ldo, first);
    t = 2;
  }
  // Not 1 x 16: sixteen rows whose stride is a power of two share one set of an 8-way cache and evict each other.
  if (t < rows) dot_rows<1, 8>(x + t * ldx, ldx, a, lda, ranks, length, out + t * ldo, ldo, first);
#elif GRAFT_LEVEL_NUMBER == 1 || !defined(GRAFT_HAS_LEVELS)
  for (; t < rows; ++t) dot_rows<1, 4>(x + t * ldx, ldx, a, lda, ranks, length, out + t * ldo, ldo, first);
#else
  for (; t < rows; ++t) dot_rows<1, 1>(x + t * ldx, ldx, a, lda, ranks, length, out + t * ldo, ldo, first);
#endif
}

inline void dot_many(float const* x, index_t ldx, index_t rows, float const* a, index_t lda, index_t ranks, index_t length, float* out,
                     index_t ldo, bool first) {
  index_t t = 0;
#if GRAFT_LEVEL_NUMBER == 2
  for (; rows - t >= 6 && rows - t != 8; t += 6) dot_rows<6, 4>(x + t * ldx, ldx, a, lda, ranks, length, out + t * ldo, ldo, first);
  for (; rows - t >= 4; t += 4) dot_rows<4, 4>(x + t * ldx, ldx, a, lda, ranks, length, out + t * ldo, ldo, first);
#elif GRAFT_LEVEL_NUMBER == 1 || !defined(GRAFT_HAS_LEVELS)
  for (; rows - t >= 2; t += 2) dot_rows<2, 2>(x + t * ldx, ldx, a, lda, ranks, length, out + t * ldo, ldo, first);
#endif
  if (t < rows) dot_few(x + t * ldx, ldx, rows - t, a, lda, ranks, length, out + t * ldo, ldo, first);
}

/// Rows [t0, t1) against ranks [j0, j1) over chunk q: out[(t - t0) * ldo + (j - j0)]. `scratch` holds shrink_scratch(ranks) floats.
inline void shrink_chunk(shrink_problem const& p, index_t t0, index_t t1, index_t j0, index_t j1, index_t q, float* out, index_t ldo,
                         bool first, float* scratch) {
  constexpr index_t chunk = kernels::chunk;
  index_t const k0 = q * chunk;
  index_t const length = p.length - k0 < chunk ? p.length - k0 : chunk;
  float* const wx = scratch;
  float* const wa = scratch + shrink_row_step * packed_row;
  bool const few = t1 - t0 < 4;
  for (index_t j = j0; j < j1; j += shrink_rank_step) {
    index_t const ranks = j1 - j < shrink_rank_step ? j1 - j : shrink_rank_step;
    operand const a = p.a.at(j, k0);
    bool const direct_a = a.column == 1 && (few || a.kind == storage::fp32);
    if (!direct_a) pack(a, ranks, length, wa, packed_row);
    for (index_t t = t0; t < t1; t += shrink_row_step) {
      index_t const rows = t1 - t < shrink_row_step ? t1 - t : shrink_row_step;
      operand const x = p.x.at(t, k0);
      bool const direct_x = x.column == 1 && x.kind == storage::fp32;
      if (!direct_x) pack(x, rows, length, wx, packed_row);
      float const* const xs = direct_x ? x.as<float const>() : wx;
      index_t const ldx = direct_x ? x.row : packed_row;
      float* const o = out + (t - t0) * ldo + (j - j0);
      if (!direct_a) dot_many(xs, ldx, rows, wa, packed_row, ranks, length, o, ldo, first);
      else if (a.kind == storage::fp32) dot_many(xs, ldx, rows, a.as<float const>(), a.row, ranks, length, o, ldo, first);
      else if (a.kind == storage::bf16) dot_few(xs, ldx, rows, a.as<bfloat16 const>(), a.row, ranks, length, o, ldo, first);
      else dot_few(xs, ldx, rows, a.as<float16 const>(), a.row, ranks, length, o, ldo, first);
    }
  }
}

/// All chunks of rows [t0, t1), scaled: out[(t - t0) * ranks + j].
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
inline void combine_chunks(float const* part, index_t chunks, index_t first, index_t last, index_t count, float scale, float* out) {
  for (index_t i = first; i < last; ++i) {
    float sum = chunks == 0 ? 0.0F : part[i];
    for (index_t q = 1; q < chunks; ++q) sum = sum + part[q * count + i];
    out[i] = scale * sum;
  }
}

// ---- Short axis: chains ------------------------------------------------------------------------------------------------

/// f(pointer) with the elements' own type: once around many loads or stores, so that the sums between exist once only.
template <class F>
GRAFT_INLINE void typed(operand const& m, F const& f) {
  if (m.kind == storage::fp32) f(m.as<float>());
  else if (m.kind == storage::bf16) f(m.as<bfloat16>());
  else f(m.as<float16>());
}

/// MT rows x NV vectors of 16 columns: y <- chain of fma over `depth` terms from y; `more`: from +0, then added to y.
template <int MT, int NV, class TW>
void expand_tile(float const* v, index_t vrow, index_t vcolumn, index_t depth, TW const* w, index_t ldw, operand const& y, bool more) {
  lanes c[MT * NV];
  if (more) repeat<MT * NV>([&](auto i) __attribute__((always_inline)) { c[i] = zero(); });
  else
    typed(y, [&](auto* p) __attribute__((always_inline)) {
      repeat<MT * NV>([&](auto i) __attribute__((always_inline)) { c[i] = load(p + i / NV * y.row + 16 * (i % NV)); });
    });
  for (index_t j = 0; j < depth; ++j) {
    lanes b[NV];
    repeat<NV>([&](auto i) __attribute__((always_inline)) { b[i] = load(w + j * ldw + 16 * i); });
    repeat<MT>([&](auto t) __attribute__((always_inline)) {
      lanes const f = splat(v[t * vrow + j * vcolumn]);
      repeat<NV>([&](auto i) __attribute__((always_inline)) { c[t * NV + i] = fma(f, b[i], c[t * NV + i]); });
    });
  }
  typed(y, [&](auto* p) __attribute__((always_inline)) {
    if (more) repeat<MT * NV>([&](auto i) __attribute__((always_inline)) { c[i] = add(load(p + i / NV * y.row + 16 * (i % NV)), c[i]); });
    repeat<MT * NV>([&](auto i) __attribute__((always_inline)) { store(p + i / NV * y.row + 16 * (i % NV), c[i]); });
  });
}

/// `rows` rows (at most row_tile_expand) x 64 columns.
template <class TW>
void expand_panel(float const* v, index_t vrow, index_t vcolumn, index_t rows, index_t depth, TW const* w, index_t ldw, operand const& y, bool more) {
  constexpr int NV = vector_tile_expand;
  for (int i = 0; i < 4; i += NV) {
    TW const* const wi = w + 16 * i;
    index_t t = 0;
    if constexpr (row_tile_expand == 6 && std::is_same_v<TW, float>)
      if (rows == 6) {
        expand_tile<6, NV>(v, vrow, vcolumn, depth, wi, ldw, y.at(0, 16 * i), more);
        continue;
      }
    if constexpr (row_tile_expand >= 4 && std::is_same_v<TW, float>)
      for (; rows - t >= 4; t += 4) expand_tile<4, NV>(v + t * vrow, vrow, vcolumn, depth, wi, ldw, y.at(t, 16 * i), more);
    if constexpr (row_tile_expand >= 2)
      for (; rows - t >= 2; t += 2) expand_tile<2, NV>(v + t * vrow, vrow, vcolumn, depth, wi, ldw, y.at(t, 16 * i), more);
    for (; t < rows; ++t) expand_tile<1, NV>(v + t * vrow, vrow, vcolumn, depth, wi, ldw, y.at(t, 16 * i), more);
  }
}

/// `rows` rows x one vector.
inline void expand_vector(float const* v, index_t vrow, index_t vcolumn, index_t rows, index_t depth, float const* w, index_t ldw, operand const& y,
                          bool more) {
  index_t t = 0;
  if constexpr (row_tile_expand == 6)
    if (rows == 6) return expand_tile<6, 1>(v, vrow, vcolumn, depth, w, ldw, y, more);
  if constexpr (row_tile_expand >= 4)
    for (; t + 4 <= rows; t += 4) expand_tile<4, 1>(v + t * vrow, vrow, vcolumn, depth, w, ldw, y.at(t, 0), more);
  for (; t < rows; ++t) expand_tile<1, 1>(v + t * vrow, vrow, vcolumn, depth, w, ldw, y.at(t, 0), more);
}
/// The same for the `columns` < 64 at the end of a row; the last ones by way of a copy, so that nothing outside y is touched.
inline void expand_tail(float const* v, index_t vrow, index_t vcolumn, index_t rows, index_t columns, index_t depth, float const* w, index_t ldw,
                        operand const& y, bool more) {
  index_t i = 0;
  for (; i + 16 <= columns; i += 16) expand_vector(v, vrow, vcolumn, rows, depth, w + i, ldw, y.at(0, i), more);
  if (i == columns) return;
  alignas(64) float part[row_tile_expand * 16];
  typed(y, [&](auto* p) __attribute__((always_inline)) {
    for (index_t t = 0; t < rows; ++t) store(part + 16 * t, load_part(p + t * y.row + i, columns - i));
  });
  expand_vector(v, vrow, vcolumn, rows, depth, w + i, ldw, {part, storage::fp32, 16, 1}, more);
  typed(y, [&](auto* p) __attribute__((always_inline)) {
    for (index_t t = 0; t < rows; ++t) store_part(p + t * y.row + i, load(part + 16 * t), columns - i);
  });
}

/// One tile of at most row_tile_expand rows of y, which is row-major, against all panels of a block of columns.
inline void expand_row_tile(float const* v, index_t vrow, index_t vcolumn, index_t rows, index_t depth, expand_block const& b, operand const& y,
                            bool more) {
  for (index_t c = 0; c < b.columns; c += panel_width) {
    index_t const columns = b.columns - c < panel_width ? b.columns - c : panel_width;
    auto const* const w = static_cast<std::byte const*>(b.w) + c / panel_width * b.panel_bytes;
    operand const yc = y.at(0, c);
    if (c + 3 * panel_width <= b.columns)  // rows of y are more streams than the hardware follows
      for (index_t t = 0; t < rows; ++t)
        for (index_t i = 0; i < panel_width; i += y.kind == storage::fp32 ? 16 : 32) __builtin_prefetch(yc.at(t, 2 * panel_width + i).data, 1);
    if (columns < panel_width) expand_tail(v, vrow, vcolumn, rows, columns, depth, static_cast<float const*>(b.tail), panel_width, yc, more);
    else if (b.kind == storage::fp32) expand_panel(v, vrow, vcolumn, rows, depth, reinterpret_cast<float const*>(w), b.ldw, yc, more);
    else if (b.kind == storage::bf16) expand_panel(v, vrow, vcolumn, rows, depth, reinterpret_cast<bfloat16 const*>(w), b.ldw, yc, more);
    else expand_panel(v, vrow, vcolumn, rows, depth, reinterpret_cast<float16 const*>(w), b.ldw, yc, more);
  }
}

/// MT rows against a w that is stored output by output (a checkpoint's B): four terms of sixteen outputs are turned in
/// registers and used at once.
template <int MT>
void expand_turned_rows(float const* v, index_t vrow, index_t vcolumn, index_t depth, float const* w, index_t ldw, operand const& y, index_t columns) {
  index_t o = 0;
  for (; o + 16 <= columns; o += 16) {
    float const* const b = w + o * ldw;
    lanes c[MT];
    typed(y, [&](auto* p) __attribute__((always_inline)) { repeat<MT>([&](auto t) __attribute__((always_inline)) { c[t] = load(p + t * y.row + o); }); });
    float const* const ahead = o + 32 <= columns ? b + 16 * ldw : b;
    index_t j = 0;
    for (; j + 4 <= depth; j += 4) {
      // Sixteen rows are more streams than the hardware follows: each line of the next sixteen is asked for once.
      float const* const next = ahead + j % 16 * ldw + j / 16 * 16;
      repeat<4>([&](auto i) __attribute__((always_inline)) { __builtin_prefetch(next + i * ldw); });
      lanes q[4];
      load_transposed4(q, b + j, ldw);
      repeat<4>([&](auto k) __attribute__((always_inline)) {
        repeat<MT>([&](auto t) __attribute__((always_inline)) { c[t] = fma(splat(v[t * vrow + (j + k) * vcolumn]), q[k], c[t]); });
      });
    }
    for (; j < depth; ++j) {
      alignas(64) float column[16];
      for (index_t l = 0; l < 16; ++l) column[l] = b[l * ldw + j];
      lanes const q = load(column);
      repeat<MT>([&](auto t) __attribute__((always_inline)) { c[t] = fma(splat(v[t * vrow + j * vcolumn]), q, c[t]); });
    }
    typed(y, [&](auto* p) __attribute__((always_inline)) { repeat<MT>([&](auto t) __attribute__((always_inline)) { store(p + t * y.row + o, c[t]); }); });
  }
  if (o == columns) return;
  typed(y, [&](auto* p) __attribute__((always_inline)) {
    for (; o < columns; ++o)
      for (index_t t = 0; t < MT; ++t) {
        auto& e = p[t * y.row + o];
        float sum = load_as<float>(e);
        for (index_t j = 0; j < depth; ++j) sum = std::fma(v[t * vrow + j * vcolumn], w[o * ldw + j], sum);
        e = store_as<std::remove_cvref_t<decltype(e)>>(sum);
      }
  });
}
inline void expand_turned(float const* v, index_t vrow, index_t vcolumn, index_t rows, index_t depth, float const* w, index_t ldw, operand const& y,
                          index_t columns) {
  for (index_t t = 0; t < rows;) {
    if constexpr (row_tile_expand >= 4)
      if (rows - t >= 2) {
        if (rows - t >= 4) expand_turned_rows<4>(v + t * vrow, vrow, vcolumn, depth, w, ldw, y.at(t, 0), columns);
        else expand_turned_rows<2>(v + t * vrow, vrow, vcolumn, depth, w, ldw, y.at(t, 0), columns);
        t += rows - t >= 4 ? 4 : 2;
        continue;
      }
    expand_turned_rows<1>(v + t * vrow, vrow, vcolumn, depth, w, ldw, y.at(t, 0), columns);
    ++t;
  }
}

/// Columns [c0, c0 + columns) of w over terms [j0, j0 + depth): as they lie in memory where that will do, else packed.
inline expand_block expand_prepare(expand_problem const& p, index_t rows, index_t c0, index_t columns, index_t j0, index_t depth, float* scratch) {
  expand_block b{};
  b.columns = columns;
  b.kind = storage::fp32;
  b.ldw = panel_width;
  b.panel_bytes = depth * panel_width * static_cast<index_t>(sizeof(float));
  b.w = scratch;
  bool const scaled = p.scale_on_w && p.scale != 1.0F;
  index_t const width = p.w.kind == storage::fp32 ? 4 : 2;
  index_t const whole = columns / panel_width * panel_width;
  auto const panel_at = [&](index_t c) {  // rows are terms, columns are outputs
    if (p.w.panel_rank == 0) return p.w.at(c0 + c, j0).transposed();
    operand o = p.w;
    o.data = static_cast<std::byte*>(p.w.data) + ((c0 + c) * p.w.panel_rank + j0 * panel_width) * width;
    o.row = panel_width;
    o.column = 1;
    return o;
  };
  if (expand_streams_w(p, rows)) {
    operand const o = panel_at(0);
    b.kind = p.w.kind;
    b.w = o.data;
    b.ldw = o.row;
    b.panel_bytes = (p.w.panel_rank > 0 ? p.w.panel_rank * panel_width : panel_width) * width;
  } else {
    for (index_t c = 0; c < whole; c += panel_width) pack(panel_at(c), depth, panel_width, scratch + c * depth, panel_width);
    if (scaled) multiply(scratch, whole * depth, p.scale);
  }
  if (whole < columns) {
    float* const tail = expand_streams_w(p, rows) ? scratch : scratch + whole * depth;
    pack(panel_at(whole), depth, columns - whole, tail, panel_width);
    if (scaled)
      for (index_t j = 0; j < depth; ++j) multiply(tail + j * panel_width, (columns - whole + 15) / 16 * 16, p.scale);
    b.tail = tail;
  }
  return b;
}

/// Rows [r0, r1) and columns [c0, c1), complete. `scratch` holds expand_scratch(p) floats.
inline void expand_rows(expand_problem const& p, index_t r0, index_t r1, index_t c0, index_t c1, float* scratch) {
  constexpr index_t chunk = kernels::chunk;
  index_t const chunks = (p.depth + chunk - 1) / chunk;
  bool const staged = expand_is_staged(p);
  bool const packs_v = expand_packs_v(p);
  if (expand_turns_w(p, r1 - r0))
    return expand_turned(p.v.at(r0, 0).as<float const>(), p.v.row, p.v.column, r1 - r0, p.depth, p.w.at(c0, 0).as<float const>(), p.w.row,
                         p.y.at(r0, c0), c1 - c0);
  expand_sizes const sizes = expand_sizes_of(p, r1 - r0);
  float* const wpack = scratch;
  float* const vpack = wpack + sizes.w;
  float* const stage = vpack + sizes.v;
  index_t const stage_row = sizes.columns + row_padding;
  for (index_t rs = r0; rs < r1; rs += sizes.rows)
    for (index_t c = c0; c < c1; c += sizes.columns) {
      index_t const re = r1 - rs < sizes.rows ? r1 : rs + sizes.rows;
      index_t const columns = c1 - c < sizes.columns ? c1 - c : sizes.columns;
      if (staged) pack(p.y.at(rs, c), re - rs, columns, stage, stage_row);
      for (index_t q = 0; q < chunks; ++q) {
        index_t const j0 = q * chunk;
        index_t const depth = p.depth - j0 < chunk ? p.depth - j0 : chunk;
        expand_block const block = expand_prepare(p, re - rs, c, columns, j0, depth, wpack);
        for (index_t rg = rs; rg < re; rg += expand_row_group) {
          index_t const group_end = re - rg < expand_row_group ? re : rg + expand_row_group;
          float const* v = p.v.at(rg, j0).as<float const>();
          index_t vrow = p.v.row;
          index_t vcolumn = p.v.column;
          if (packs_v) {
            pack(p.v.at(rg, j0), group_end - rg, depth, vpack, packed_row);
            if (!p.scale_on_w && p.scale != 1.0F)
              for (index_t t = 0; t < group_end - rg; ++t) multiply(vpack + t * packed_row, depth, p.scale);
            v = vpack;
            vrow = packed_row;
            vcolumn = 1;
          }
          for (index_t t = rg; t < group_end;) {
            index_t const left = group_end - t;
            index_t const least = row_tile_expand < 4 ? row_tile_expand : 4;
            index_t const rows = left >= row_tile_expand && left != 8 ? row_tile_expand : left < least ? left : least;
            float const* const vt = v + (t - rg) * vrow;
            operand const y = staged ? operand{stage + (t - rs) * stage_row, storage::fp32, stage_row, 1} : p.y.at(t, c);
            expand_row_tile(vt, vrow, vcolumn, rows, depth, block, y, q > 0);
            t += rows;
          }
        }
      }
      if (staged) unpack(stage, stage_row, re - rs, columns, p.y.at(rs, c));
    }
}

inline level_functions const& functions() {
  static constexpr level_functions table{&shrink_chunk, &shrink_rows, &combine_chunks, &expand_rows, &unpack};
  return table;
}

}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL
