// SPDX-License-Identifier: Apache-2.0
// Block rotations: whole blocks in sixteen lanes, or a row of a block at a time. The order of `rotate_body`: chains over a block.
// Included once per level by levels.hpp, after convert.inl.hpp.
namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL {

/// The two places of eight features each that vector `v` of a factor lies in: together they hold whole blocks.
struct half_places {
  index_t low;
  index_t high;
};
/// Sizes of blocks in lanes are powers of two: shifts in place of divisions, which would cost more than the rotation.
GRAFT_INLINE constexpr int log_of(index_t b) { return b == 2 ? 1 : b == 4 ? 2 : b == 8 ? 3 : 4; }
GRAFT_INLINE constexpr half_places places_of(index_t f, int log_b, index_t v) {
  index_t const log_group = log_b + f;
  if (log_group <= 3) return {16 * v, 16 * v + 8};
  index_t const log_vectors = log_group - 4;  // of a group
  index_t const low = ((v >> log_vectors) << log_group) + ((v & ((index_t{1} << log_vectors) - 1)) << 3);
  return {low, low + (index_t{1} << (log_group - 1))};
}
/// The block, and the element of it, that a feature is: what block_feature undoes.
struct block_element {
  index_t block;
  index_t element;
};
GRAFT_INLINE constexpr block_element element_of(index_t f, int log_b, index_t feature) {
  index_t const log_half = log_b - 1 + f;
  index_t const rest = feature & ((index_t{1} << log_half) - 1);
  index_t const side = (feature >> log_half) & 1;
  return {((feature >> (log_half + 1)) << f) + (rest >> (log_b - 1)),
          (side << (log_b - 1)) + (rest & ((index_t{1} << (log_b - 1)) - 1))};
}

/// Items [first, last) of a factor as `rotate` reads them: by vectors [b][16], else by blocks [b][b]. `out` is that of item 0.
template <class T>
void pack_rotation_as(rotation_problem const& p, index_t f, index_t first, index_t last, float* out) {
  index_t const b = p.size;
  T const* const r = static_cast<T const*>(p.r) + f * p.factor;
  index_t const row = p.transposed ? p.column : p.row;
  index_t const column = p.transposed ? p.row : p.column;
  if (!p.in_lanes()) {
    for (index_t k = first; k < last; ++k)
      for (index_t i = 0; i < b; ++i)
        for (index_t j = 0; j < b; ++j)
          out[(k * b + i) * b + j] = load_as<float>(r[k * p.block + i * row + j * column]);
    return;
  }
  index_t const place = p.first + f;
  int const log_b = log_of(b);
  index_t const run = place == 0 ? b : b / 2;  // lanes whose elements of a row lie side by side
  for (index_t v = first; v < last; ++v) {
    half_places const at = places_of(place, log_b, v);
    for (index_t l = 0; l < 16; l += run) {
      block_element const e = element_of(place, log_b, l < 8 ? at.low + l : at.high + l - 8);
      T const* const from = r + e.block * p.block + e.element * column;
      float* const to = out + v * b * 16 + l;
      if constexpr (std::is_same_v<T, float>)
        if (column == 1 && run % 2 == 0) {  // sizes that are known are moves
          for (index_t i = 0; i < b; ++i) {
            if (run == 2) std::memcpy(to + i * 16, from + i * row, 2 * sizeof(float));
            for (index_t j = 0; j + 4 <= run; j += 4)
              std::memcpy(to + i * 16 + j, from + i * row + j, 4 * sizeof(float));
          }
          continue;
        }
      for (index_t i = 0; i < b; ++i)
        for (index_t j = 0; j < run; ++j) to[i * 16 + j] = load_as<float>(from[i * row + j * column]);
    }
  }
}
template <int = 0>
inline void pack_rotation(rotation_problem const& p, index_t f, index_t first, index_t last, float* out) {
  if (p.kind == storage::fp32) pack_rotation_as<float>(p, f, first, last, out);
  else if (p.kind == storage::bf16) pack_rotation_as<bfloat16>(p, f, first, last, out);
  else pack_rotation_as<float16>(p, f, first, last, out);
}

/// Where the lanes of a vector take from, the same for all vectors of a factor. Packed: lane l of a term is output l. As they lie
/// in memory: lane l is element l % B of block l / B of the vector, and outputs are permuted once.
template <int B>
struct lane_pattern {
  std::int32_t of_term[16 * B];
  std::int32_t of_output[16];
};
/// Of factor f; those above 4 - log2(B) are like it.
template <int B>
constexpr lane_pattern<B> pattern_of(index_t f, bool packed) {
  constexpr int log_b = log_of(B);
  lane_pattern<B> out{};
  half_places const at = places_of(f, log_b, 0);
  for (int l = 0; l < 16; ++l) {
    block_element const e = element_of(f, log_b, l < 8 ? at.low + l : at.high + l - 8);
    out.of_output[l] = static_cast<std::int32_t>(e.block * B + e.element);
    for (int i = 0; i < B; ++i) {
      index_t const feature = kernels::block_feature(f, B, packed ? e.block : index_t{l / B}, i);
      out.of_term[16 * i + l] = static_cast<std::int32_t>(
          feature >= at.low && feature < at.low + 8 ? feature - at.low : feature - at.high + 8);
    }
  }
  return out;
}

/// Those of all factors: a run-time number serves where a permutation takes from anywhere at once.
template <int B>
struct lane_patterns {
  static constexpr int count = 5 - log_of(B);
  lane_pattern<B> of[count];
};
template <int B>
constexpr lane_patterns<B> patterns_of(bool packed) {
  lane_patterns<B> out{};
  for (int f = 0; f < lane_patterns<B>::count; ++f) out.of[f] = pattern_of<B>(f, packed);
  return out;
}

/// Factor f of rows and vectors [first, last). `r`: packed, or the first block of the factor as it lies in memory, of these strides.
struct lane_rotation {
  index_t f;
  float const* r;
  index_t block;
  index_t row;
  float const* from;
  index_t ldfrom;
  float* to;
  index_t ldto;
  index_t rows;
  index_t first;
  index_t last;
};
/// Row i of the blocks of a vector, b x b each and side by side.
GRAFT_INLINE lanes load_row_of_blocks(int b, float const* r, index_t block, index_t row, int i) {
  if (b == 16) return load(r + i * row);
  if (b == 8) return load_halves(r + i * row, r + block + i * row);
  return load_quarters(r + i * row, block);
}
/// MT rows of vector v: each term is a permutation of what was loaded. What is known when this is compiled is no argument then.
template <int MT, class Size>
GRAFT_INLINE void rotate_vector(lane_rotation const& p, Size b, bool packed, bool permuted, std::int32_t const* of_term,
                                std::int32_t const* of_output, index_t t, index_t v) {
  half_places const at = places_of(p.f, log_of(b), v);
  float const* const from = p.from + t * p.ldfrom;
  float* const to = p.to + t * p.ldto;
  float const* const r = p.r + v * (packed ? 16 * b : 16 / b * p.block);
  lanes x[MT];
  lanes c[MT];
  repeat<MT>([&](auto i) __attribute__((always_inline)) {
    x[i] = load_halves(from + i * p.ldfrom + at.low, from + i * p.ldfrom + at.high);
    c[i] = zero();
  });
  repeat_up_to(b, [&](auto i) __attribute__((always_inline)) {
    lanes const w = packed ? load(r + 16 * i) : load_row_of_blocks(b, r, p.block, p.row, i);
    repeat<MT>([&](auto m) __attribute__((always_inline)) { c[m] = fma(spread(x[m], of_term + 16 * i), w, c[m]); });
  });
  repeat<MT>([&](auto i) __attribute__((always_inline)) {
    if (permuted) c[i] = permute(c[i], of_output);
    store_halves(to + i * p.ldto + at.low, to + i * p.ldto + at.high, c[i]);
  });
}
/// A copy of the description stays in registers: what is stored might be it, were it elsewhere.
template <class Size>
GRAFT_INLINE void rotate_vectors(lane_rotation p, Size b, bool packed, bool permuted, std::int32_t const* of_term,
                                 std::int32_t const* of_output) {
  index_t t = 0;
  if constexpr (!is_compact)
    for (; t + 4 <= p.rows; t += 4)
      for (index_t v = p.first; v < p.last; ++v) rotate_vector<4>(p, b, packed, permuted, of_term, of_output, t, v);
  for (; t < p.rows; ++t)
    for (index_t v = p.first; v < p.last; ++v) rotate_vector<1>(p, b, packed, permuted, of_term, of_output, t, v);
}
#if GRAFT_LEVEL_NUMBER == 1  // a permutation of eight: from which half is known when it is compiled
template <int B, bool Packed, int Factor>
void rotate_in_lanes(lane_rotation const& p) {
  static constexpr lane_pattern<B> pattern = pattern_of<B>(Factor, Packed);
  rotate_vectors(p, std::integral_constant<int, B>{}, Packed, !Packed && Factor > 0, pattern.of_term,
                 pattern.of_output);
}
template <int B, bool Packed>
void rotate_in_lanes_of(lane_rotation const& p) {
  constexpr int last = lane_patterns<B>::count - 1;
  repeat<last + 1>([&](auto factor) __attribute__((always_inline)) {
    constexpr int Factor = decltype(factor)::value;
    if (p.f == Factor || (Factor == last && p.f > Factor)) rotate_in_lanes<B, Packed, Factor>(p);
  });
}
#else
template <int B, bool Packed, bool Permuted>
void rotate_in_lanes(lane_rotation const& p, lane_pattern<B> const& given) {
  lane_pattern<B> const pattern = given;  // a copy as well
  rotate_vectors(p, std::integral_constant<int, B>{}, Packed, Permuted, pattern.of_term, pattern.of_output);
}
template <int = 0>
void rotate_in_any_lanes(lane_rotation const& p, int b, bool packed, bool permuted, std::int32_t const* of_term,
                         std::int32_t const* of_output) {
  rotate_vectors(p, b, packed, permuted, of_term, of_output);
}
template <int B, bool Packed>
void rotate_in_lanes_of(lane_rotation const& p) {
  static constexpr lane_patterns<B> patterns = patterns_of<B>(Packed);
  constexpr index_t last = lane_patterns<B>::count - 1;
  lane_pattern<B> const& at = patterns.of[p.f < last ? p.f : last];
  bool const permuted = !Packed && p.f > 0 && last > 0;
  if constexpr (is_compact) rotate_in_any_lanes(p, B, Packed, permuted, at.of_term, at.of_output);
  else if constexpr (Packed || last == 0) rotate_in_lanes<B, Packed, false>(p, at);
  else if (permuted) rotate_in_lanes<B, Packed, true>(p, at);
  else rotate_in_lanes<B, Packed, false>(p, at);
}
#endif

/// Where a block lies in a row: in one piece, or in two of half its size.
struct block_pieces {
  index_t count;
  index_t run;  // of a piece
  index_t first;
  index_t second;
  block_pieces(index_t place, index_t b, index_t k)
      : count(place == 0 ? 1 : 2),
        run(b / count),
        first(kernels::block_feature(place, b, k, 0)),
        second(kernels::block_feature(place, b, k, b - run)) {}
};
/// More rows than this are not in the caches: their lines are fetched ahead.
inline constexpr index_t fetched_rows = 64;
/// MT rows x 16 NV outputs of a block from those of its column j on, or of the `part` that is left of a piece, to `to` and `next`.
template <int MT, int NV, bool Part>
GRAFT_INLINE void rotate_tile(float const* const* x, index_t pieces, index_t run, index_t ldx, float const* r,
                              index_t ldr, float* to, float* next, index_t ldto, index_t part) {
  lanes c[MT * NV];
  repeat<MT * NV>([&](auto i) __attribute__((always_inline)) { c[i] = zero(); });
  for (index_t h = 0; h < pieces; ++h) {
    float const* const piece = x[h];
    for (index_t i = 0; i < run; ++i) {
      lanes w[NV];
      repeat<NV>([&](auto j) __attribute__((always_inline)) {
        if constexpr (Part) w[j] = load_part(r, part);
        else w[j] = load(r + 16 * j);
      });
      repeat<MT>([&](auto t) __attribute__((always_inline)) {
        lanes const f = splat(piece[t * ldx + i]);
        repeat<NV>([&](auto j) __attribute__((always_inline)) { c[t * NV + j] = fma(f, w[j], c[t * NV + j]); });
      });
      r += ldr;
    }
  }
  repeat<MT * NV>([&](auto i) __attribute__((always_inline)) {
    float* const at = (i % NV == 0 ? to : next) + i / NV * ldto;
    if constexpr (Part) store_part(at, c[i], part);
    else store(at, c[i]);
  });
}
/// MT rows of one block; `ahead`: those of the next but one are fetched. Where they are rotated in place by more than one tile, `copy` has room for MT b numbers.
template <int MT>
void rotate_block(index_t b, block_pieces const& at, float const* from, index_t ldfrom, float const* r, index_t ldr,
                  float* to, index_t ldto, bool ahead, float* copy) {
  constexpr int NV = rotated_vectors;
  index_t const run = at.run;
  float const* x[2] = {from + at.first, from + at.second};
  if (ahead)
    for (index_t t = 0; t < MT; ++t)
      for (index_t h = 0; h < at.count; ++h)
        for (index_t i = 0; i < run; i += 16) {
          index_t const next = (h == 0 ? at.first : at.second) + 2 * run + i;
          __builtin_prefetch(from + t * ldfrom + next);
          __builtin_prefetch(to + t * ldto + next, 1);
        }
  index_t ldx = ldfrom;
  bool const one_tile = at.count == 1 ? run <= 16 || run == 16 * NV : NV == 2 && run == 16;
  if (from == to && !one_tile) {
    for (index_t t = 0; t < MT; ++t)
      for (index_t h = 0; h < at.count; ++h)
        for (index_t i = 0; i < run; i += 16) {
          index_t const some = run - i < 16 ? run - i : 16;
          store_part(copy + t * b + h * run + i, load_part(x[h] + t * ldfrom + i, some), some);
        }
    x[0] = copy;
    x[1] = copy + run;
    ldx = b;
  }
  float* const out[2] = {to + at.first, to + at.second};
  if constexpr (NV == 2)
    if (run == 16 && at.count == 2) return rotate_tile<MT, NV, false>(x, 2, run, ldx, r, ldr, out[0], out[1], ldto, 0);
  for (index_t h = 0; h < at.count; ++h) {
    index_t j = 0;
    float const* const w = r + h * run;
    for (; j + 16 * NV <= run; j += 16 * NV)
      rotate_tile<MT, NV, false>(x, at.count, run, ldx, w + j, ldr, out[h] + j, out[h] + j + 16, ldto, 0);
    for (; j + 16 <= run; j += 16)
      rotate_tile<MT, 1, false>(x, at.count, run, ldx, w + j, ldr, out[h] + j, nullptr, ldto, 0);
    if (j < run) rotate_tile<MT, 1, true>(x, at.count, run, ldx, w + j, ldr, out[h] + j, nullptr, ldto, run - j);
  }
}

/// Factor f of `rows` rows and items [first, last), from fp32 to fp32, which may be the same. `r`: packed, or null where blocks are
/// read as they lie. `scratch` holds 8 b floats.
template <int = 0>
inline void rotate(rotation_problem const& p, index_t f, float const* r, float const* from, index_t ldfrom, float* to,
                   index_t ldto, index_t rows, index_t first, index_t last, float* scratch) {
  index_t const b = p.size;
  index_t const place = p.first + f;
  if (p.in_lanes()) {
    bool const packed = r != nullptr;
    lane_rotation const of{place,   packed ? r : static_cast<float const*>(p.r) + f * p.factor,
                           p.block, p.row,
                           from,    ldfrom,
                           to,      ldto,
                           rows,    first,
                           last};
    if (b == 2) return rotate_in_lanes_of<2, true>(of);
    if (b == 4) return packed ? rotate_in_lanes_of<4, true>(of) : rotate_in_lanes_of<4, false>(of);
    if (b == 8) return packed ? rotate_in_lanes_of<8, true>(of) : rotate_in_lanes_of<8, false>(of);
    return packed ? rotate_in_lanes_of<16, true>(of) : rotate_in_lanes_of<16, false>(of);
  }
  bool const ahead = from != to && p.rows > fetched_rows;
  for (index_t k = first; k < last; ++k) {
    float const* const w = r != nullptr ? r + k * b * b : static_cast<float const*>(p.r) + f * p.factor + k * p.block;
    index_t const ldr = r != nullptr ? b : p.row;
    block_pieces const at(place, b, k);
    index_t t = 0;
    auto const run = [&](auto mt) __attribute__((always_inline)) {
      constexpr int MT = decltype(mt)::value;
      for (; t + MT <= rows; t += MT)
        rotate_block<MT>(b, at, from + t * ldfrom, ldfrom, w, ldr, to + t * ldto, ldto, ahead, scratch);
    };
    run(std::integral_constant<int, rotated_rows_of_tile>{});
    if constexpr (rotated_rows_of_tile > 4) run(std::integral_constant<int, 4>{});
    run(std::integral_constant<int, 1>{});
  }
}

/// Rows [t0, t1) of the result from fp32 to y, rounded once; added where the problem says so. `scratch` holds a row.
template <int = 0>
inline void finish_rotation(rotation_problem const& p, index_t t0, index_t t1, float const* from, index_t ldfrom,
                            float* scratch) {
  if (!p.adds) return unpack(from, ldfrom, t1 - t0, p.features, p.y.at(t0, 0));
  for (index_t t = t0; t < t1; ++t) {
    pack(p.y.at(t, 0), 1, p.features, scratch, packed_features(p.features));
    float const* const row = from + (t - t0) * ldfrom;
    for (index_t j = 0; j < p.features; ++j) scratch[j] = scratch[j] + row[j];
    unpack(scratch, packed_features(p.features), 1, p.features, p.y.at(t, 0));
  }
}

}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL
