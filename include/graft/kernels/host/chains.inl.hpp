// SPDX-License-Identifier: Apache-2.0
// Chains of fma over the short axis, for one instruction set. Bits: those of the generic bodies. Included once per level by levels.hpp, after dots.inl.hpp.
namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL {

/// A chain from +0 and the y that it belongs to.
GRAFT_INLINE lanes finish(lanes sum, lanes y, expand_ending const& end, index_t column) {
  return end.delta != nullptr ? fma(load(end.delta + column), sum, y) : add(y, sum);
}

/// c[t * NV + i] <- chain of fma over `depth` terms from c[t * NV + i].
template <int MT, int NV, class TW>
GRAFT_INLINE void chain(float const* v, index_t vrow, index_t vcolumn, index_t depth, TW const* w, index_t ldw,
                        lanes* c) {
  for (index_t j = 0; j < depth; ++j) {
    lanes b[NV];
    repeat<NV>([&](auto i) __attribute__((always_inline)) { b[i] = load(w + j * ldw + 16 * i); });
    repeat<MT>([&](auto t) __attribute__((always_inline)) {
      lanes const f = splat(v[t * vrow + j * vcolumn]);
      repeat<NV>([&](auto i) __attribute__((always_inline)) { c[t * NV + i] = fma(f, b[i], c[t * NV + i]); });
    });
  }
}

/// MT rows x NV vectors of 16 columns: y <- chain of fma over `depth` terms from y, or as `end` says.
template <int MT, int NV, class TW>
void expand_tile(float const* v, index_t vrow, index_t vcolumn, index_t depth, TW const* w, index_t ldw,
                 operand const& y, expand_ending const& end) {
  lanes c[MT * NV];
  if (end.from_zero()) repeat<MT * NV>([&](auto i) __attribute__((always_inline)) { c[i] = zero(); });
  else
    typed(y, [&](auto* p) __attribute__((always_inline)) {
      repeat<MT * NV>([&](auto i) __attribute__((always_inline)) { c[i] = load(p + i / NV * y.row + 16 * (i % NV)); });
    });
  chain<MT, NV>(v, vrow, vcolumn, depth, w, ldw, c);
  typed(y, [&](auto* p) __attribute__((always_inline)) {
    if (end.from_zero())
      repeat<MT * NV>([&](auto i) __attribute__((always_inline)) {
        c[i] = finish(c[i], load(p + i / NV * y.row + 16 * (i % NV)), end, 16 * (i % NV));
      });
    if (end.result != nullptr)
      repeat<MT * NV>([&](auto i)
                          __attribute__((always_inline)) { c[i] = mul(load(end.result + 16 * (i % NV)), c[i]); });
    repeat<MT * NV>([&](auto i) __attribute__((always_inline)) { store(p + i / NV * y.row + 16 * (i % NV), c[i]); });
  });
}

/// `rows` rows (at most row_tile_expand) x 64 columns.
template <class TW>
void expand_panel(float const* v, index_t vrow, index_t vcolumn, index_t rows, index_t depth, TW const* w, index_t ldw,
                  operand const& y, expand_ending const& end) {
  constexpr int NV = vector_tile_expand;
  for (int i = 0; i < 4; i += NV) {
    TW const* const wi = w + 16 * i;
    expand_ending const ei = end.at(16 * i);
    index_t t = 0;
    if constexpr (row_tile_expand == 6 && std::is_same_v<TW, float>)
      if (rows == 6) {
        expand_tile<6, NV>(v, vrow, vcolumn, depth, wi, ldw, y.at(0, 16 * i), ei);
        continue;
      }
    if constexpr (row_tile_expand >= 4 && std::is_same_v<TW, float>)
      for (; rows - t >= 4; t += 4)
        expand_tile<4, NV>(v + t * vrow, vrow, vcolumn, depth, wi, ldw, y.at(t, 16 * i), ei);
    if constexpr (row_tile_expand >= 2)
      for (; rows - t >= 2; t += 2)
        expand_tile<2, NV>(v + t * vrow, vrow, vcolumn, depth, wi, ldw, y.at(t, 16 * i), ei);
    for (; t < rows; ++t) expand_tile<1, NV>(v + t * vrow, vrow, vcolumn, depth, wi, ldw, y.at(t, 16 * i), ei);
  }
}

/// Asks for the lines of y three panels on from column c, or at the end of the rows for those of the next tile: rows of y are more
/// streams than the hardware follows. Blocks of few panels are faster without.
template <class TY>
GRAFT_INLINE void ask_ahead(TY* y, index_t yrow, index_t rows, index_t c, index_t columns) {
  if (columns < 8 * panel_width) return;
  index_t const ahead = c + 3 * panel_width;
  TY* const next =
      ahead + panel_width <= columns ? y + ahead : y + rows * yrow + ahead % columns / panel_width * panel_width;
  for (index_t t = 0; t < rows; ++t)
    for (index_t i = 0; i < panel_width; i += 64 / static_cast<index_t>(sizeof(TY)))
      __builtin_prefetch(next + t * yrow + i, 1);
}

/// MT rows x all whole panels of a block whose sums start from y and are stored as they are: nothing to decide between tiles.
template <int MT, class TY>
void expand_panels(float const* v, index_t vrow, index_t vcolumn, index_t depth, float const* w, index_t ldw,
                   index_t panel_floats, TY* y, index_t yrow, index_t columns) {
  constexpr int NV = vector_tile_expand;
  for (index_t p = 0; p + panel_width <= columns; p += panel_width, w += panel_floats) {
    ask_ahead(y, yrow, MT, p, columns);
    for (index_t s = 0; s < panel_width; s += 16 * NV) {
      TY* const out = y + p + s;
      lanes c[MT * NV];
      repeat<MT * NV>([&](auto i) __attribute__((always_inline)) { c[i] = load(out + i / NV * yrow + 16 * (i % NV)); });
      chain<MT, NV>(v, vrow, vcolumn, depth, w + s, ldw, c);
      repeat<MT * NV>([&](auto i) __attribute__((always_inline)) { store(out + i / NV * yrow + 16 * (i % NV), c[i]); });
    }
  }
}

/// `rows` rows x one vector.
template <int = 0>
inline void expand_vector(float const* v, index_t vrow, index_t vcolumn, index_t rows, index_t depth, float const* w,
                          index_t ldw, operand const& y, expand_ending const& end) {
  index_t t = 0;
  if constexpr (row_tile_expand == 6)
    if (rows == 6) return expand_tile<6, 1>(v, vrow, vcolumn, depth, w, ldw, y, end);
  if constexpr (row_tile_expand >= 4)
    for (; t + 4 <= rows; t += 4) expand_tile<4, 1>(v + t * vrow, vrow, vcolumn, depth, w, ldw, y.at(t, 0), end);
  for (; t < rows; ++t) expand_tile<1, 1>(v + t * vrow, vrow, vcolumn, depth, w, ldw, y.at(t, 0), end);
}
inline float const* copied(float const* from, index_t count, float* to) {
  for (index_t k = 0; k < count; ++k) to[k] = from[k];
  return to;
}
/// The same for the `columns` < 64 at the end of a row; the last ones by way of a copy, so that nothing outside y is touched.
template <int = 0>
inline void expand_tail(float const* v, index_t vrow, index_t vcolumn, index_t rows, index_t columns, index_t depth,
                        float const* w, index_t ldw, operand const& y, expand_ending const& end) {
  index_t i = 0;
  for (; i + 16 <= columns; i += 16) expand_vector(v, vrow, vcolumn, rows, depth, w + i, ldw, y.at(0, i), end.at(i));
  if (i == columns) return;
  alignas(64) float part[row_tile_expand * 16];
  alignas(64) float factors[2][16] = {};
  expand_ending last = end;
  if (end.delta != nullptr) last.delta = copied(end.delta + i, columns - i, factors[0]);
  if (end.result != nullptr) last.result = copied(end.result + i, columns - i, factors[1]);
  typed(y, [&](auto* p) __attribute__((always_inline)) {
    for (index_t t = 0; t < rows; ++t) store(part + 16 * t, load_part(p + t * y.row + i, columns - i));
  });
  expand_vector(v, vrow, vcolumn, rows, depth, w + i, ldw, {part, storage::fp32, 16, 1}, last);
  typed(y, [&](auto* p) __attribute__((always_inline)) {
    for (index_t t = 0; t < rows; ++t) store_part(p + t * y.row + i, load(part + 16 * t), columns - i);
  });
}

/// One tile of at most row_tile_expand rows of y, which is row-major, against all panels of a block of columns.
template <int = 0>
inline void expand_row_tile(float const* v, index_t vrow, index_t vcolumn, index_t rows, index_t depth,
                            expand_block const& b, operand const& y, expand_ending const& end) {
  index_t first = 0;
  if constexpr (row_tile_expand >= 4)
    if (rows >= 4 && b.kind == storage::fp32 && end.is_none()) {
      first = b.columns / panel_width * panel_width;
      typed(y, [&](auto* out) {
        auto const* const w = static_cast<float const*>(b.w);
        index_t const panel = b.panel_bytes / static_cast<index_t>(sizeof(float));
        if (rows == 6) expand_panels<6>(v, vrow, vcolumn, depth, w, b.ldw, panel, out, y.row, b.columns);
        else expand_panels<4>(v, vrow, vcolumn, depth, w, b.ldw, panel, out, y.row, b.columns);
      });
    }
  for (index_t c = first; c < b.columns; c += panel_width) {
    index_t const columns = b.columns - c < panel_width ? b.columns - c : panel_width;
    auto const* const w = static_cast<std::byte const*>(b.w) + c / panel_width * b.panel_bytes;
    operand const yc = y.at(0, c);
    expand_ending const ec = end.at(c);
    typed(y, [&](auto* p) __attribute__((always_inline)) { ask_ahead(p, y.row, rows, c, b.columns); });
    if (columns < panel_width)
      expand_tail(v, vrow, vcolumn, rows, columns, depth, static_cast<float const*>(b.tail), panel_width, yc, ec);
    else if (b.kind == storage::fp32)
      expand_panel(v, vrow, vcolumn, rows, depth, reinterpret_cast<float const*>(w), b.ldw, yc, ec);
    else if (b.kind == storage::bf16)
      expand_panel(v, vrow, vcolumn, rows, depth, reinterpret_cast<bfloat16 const*>(w), b.ldw, yc, ec);
    else expand_panel(v, vrow, vcolumn, rows, depth, reinterpret_cast<float16 const*>(w), b.ldw, yc, ec);
  }
}

/// MT rows against a w that is stored output by output (a checkpoint's B): four terms of sixteen outputs are turned in
/// registers and used at once.
template <int MT>
void expand_turned_rows(float const* v, index_t vrow, index_t vcolumn, index_t depth, float const* w, index_t ldw,
                        operand const& y, index_t columns, expand_ending const& end) {
  index_t o = 0;
  for (; o + 16 <= columns; o += 16) {
    float const* const b = w + o * ldw;
    lanes c[MT];
    if (end.from_zero()) repeat<MT>([&](auto t) __attribute__((always_inline)) { c[t] = zero(); });
    else
      typed(y, [&](auto* p) __attribute__((always_inline)) {
        repeat<MT>([&](auto t) __attribute__((always_inline)) { c[t] = load(p + t * y.row + o); });
      });
    float const* const ahead = o + 32 <= columns ? b + 16 * ldw : b;
    index_t j = 0;
    for (; j + 4 <= depth; j += 4) {
      // Sixteen rows are more streams than the hardware follows: each line of the next sixteen is asked for once.
      float const* const next = ahead + j % 16 * ldw + j / 16 * 16;
      repeat<4>([&](auto i) __attribute__((always_inline)) { __builtin_prefetch(next + i * ldw); });
      lanes q[4];
      load_transposed4(q, b + j, ldw);
      repeat<4>([&](auto k) __attribute__((always_inline)) {
        repeat<MT>([&](auto t) __attribute__((always_inline)) {
          c[t] = fma(splat(v[t * vrow + (j + k) * vcolumn]), q[k], c[t]);
        });
      });
    }
    for (; j < depth; ++j) {
      alignas(64) float column[16];
      for (index_t l = 0; l < 16; ++l) column[l] = b[l * ldw + j];
      lanes const q = load(column);
      repeat<MT>([&](auto t) __attribute__((always_inline)) { c[t] = fma(splat(v[t * vrow + j * vcolumn]), q, c[t]); });
    }
    typed(y, [&](auto* p) __attribute__((always_inline)) {
      if (end.from_zero())
        repeat<MT>([&](auto t)
                       __attribute__((always_inline)) { c[t] = finish(c[t], load(p + t * y.row + o), end, o); });
      if (end.result != nullptr)
        repeat<MT>([&](auto t) __attribute__((always_inline)) { c[t] = mul(load(end.result + o), c[t]); });
      repeat<MT>([&](auto t) __attribute__((always_inline)) { store(p + t * y.row + o, c[t]); });
    });
  }
  if (o == columns) return;
  typed(y, [&](auto* p) __attribute__((always_inline)) {
    for (; o < columns; ++o)
      for (index_t t = 0; t < MT; ++t) {
        auto& e = p[t * y.row + o];
        float sum = end.from_zero() ? 0.0F : load_as<float>(e);
        for (index_t j = 0; j < depth; ++j) sum = std::fma(v[t * vrow + j * vcolumn], w[o * ldw + j], sum);
        if (end.delta != nullptr) sum = std::fma(end.delta[o], sum, load_as<float>(e));
        if (end.result != nullptr) sum = end.result[o] * sum;
        e = store_as<std::remove_cvref_t<decltype(e)>>(sum);
      }
  });
}
template <int = 0>
inline void expand_turned(float const* v, index_t vrow, index_t vcolumn, index_t rows, index_t depth, float const* w,
                          index_t ldw, operand const& y, index_t columns, expand_ending const& end) {
  for (index_t t = 0; t < rows;) {
    if constexpr (row_tile_expand >= 4)
      if (rows - t >= 2) {
        if (rows - t >= 4) expand_turned_rows<4>(v + t * vrow, vrow, vcolumn, depth, w, ldw, y.at(t, 0), columns, end);
        else expand_turned_rows<2>(v + t * vrow, vrow, vcolumn, depth, w, ldw, y.at(t, 0), columns, end);
        t += rows - t >= 4 ? 4 : 2;
        continue;
      }
    expand_turned_rows<1>(v + t * vrow, vrow, vcolumn, depth, w, ldw, y.at(t, 0), columns, end);
    ++t;
  }
}

/// Columns [c0, c0 + columns) of w over terms [j0, j0 + depth): as they lie in memory where that will do, else packed.
template <int = 0>
inline expand_block expand_prepare(expand_problem const& p, index_t rows, index_t c0, index_t columns, index_t j0,
                                   index_t depth, float* scratch) {
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
    for (index_t c = 0; c < whole; c += panel_width)
      pack(panel_at(c), depth, panel_width, scratch + c * depth, panel_width);
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

/// y <- result (y + delta stage), element by element.
template <int = 0>
inline void finish_stage(float const* stage, index_t stage_row, index_t rows, index_t columns, expand_problem const& p,
                         operand const& y, index_t first) {
  typed(y, [&](auto* out) {
    for (index_t t = 0; t < rows; ++t)
      for (index_t i = 0; i < columns; ++i) {
        auto& e = out[t * y.row + i * y.column];
        float sum = std::fma(p.delta[first + i], stage[t * stage_row + i], load_as<float>(e));
        if (p.result != nullptr) sum = p.result[first + i] * sum;
        e = store_as<std::remove_cvref_t<decltype(e)>>(sum);
      }
  });
}

/// Rows [r0, r1) and columns [c0, c1), complete. `scratch` holds expand_scratch(p, r1 - r0) floats.
template <int = 0>
inline void expand_rows(expand_problem const& p, index_t r0, index_t r1, index_t c0, index_t c1, float* scratch) {
  constexpr index_t chunk = kernels::chunk;
  index_t const chunks = (p.depth + chunk - 1) / chunk;
  bool const staged = expand_is_staged(p);
  bool const packs_v = expand_packs_v(p);
  if (expand_turns_w(p, r1 - r0))
    return expand_turned(p.v.at(r0, 0).as<float const>(), p.v.row, p.v.column, r1 - r0, p.depth,
                         p.w.at(c0, 0).as<float const>(), p.w.row, p.y.at(r0, c0), c1 - c0,
                         expand_ending{false, p.delta, p.result}.at(c0));
  expand_sizes const sizes = expand_sizes_of(p, r1 - r0);
  float* const wpack = scratch;
  float* const vpack = wpack + sizes.w;
  float* const stage = vpack + sizes.v;
  index_t const stage_row = sizes.columns + row_padding;
  for (index_t rs = r0; rs < r1; rs += sizes.rows)
    for (index_t c = c0; c < c1; c += sizes.columns) {
      index_t const re = r1 - rs < sizes.rows ? r1 : rs + sizes.rows;
      index_t const columns = c1 - c < sizes.columns ? c1 - c : sizes.columns;
      if (staged && p.delta != nullptr)
        for (index_t t = 0; t < re - rs; ++t)
          std::memset(stage + t * stage_row, 0, sizeof(float) * static_cast<std::size_t>(columns));
      else if (staged) pack(p.y.at(rs, c), re - rs, columns, stage, stage_row);
      for (index_t q = 0; q < chunks; ++q) {
        index_t const j0 = q * chunk;
        index_t const depth = p.depth - j0 < chunk ? p.depth - j0 : chunk;
        expand_block const block = expand_prepare(p, re - rs, c, columns, j0, depth, wpack);
        // A stage of sums from +0 meets its y afterwards.
        bool const ends = q + 1 == chunks && (!staged || p.delta == nullptr);
        expand_ending const end = expand_ending{q > 0, staged ? nullptr : p.delta, ends ? p.result : nullptr}.at(c);
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
            operand const y =
                staged ? operand{stage + (t - rs) * stage_row, storage::fp32, stage_row, 1} : p.y.at(t, c);
            expand_row_tile(vt, vrow, vcolumn, rows, depth, block, y, end);
            t += rows;
          }
        }
      }
      if (staged && p.delta != nullptr) finish_stage(stage, stage_row, re - rs, columns, p, p.y.at(rs, c), c);
      else if (staged) unpack(stage, stage_row, re - rs, columns, p.y.at(rs, c));
    }
}

}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL
