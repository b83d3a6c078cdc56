// SPDX-License-Identifier: Apache-2.0
// Cayley transforms of sixteen blocks side by side, a block a lane: element e of all of them is one vector. The operations of
// `cayley_body` and `cayley_neumann_body`, in their order. Included once per level by levels.hpp, after convert.inl.hpp.
namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL {

/// q[e][16] = the skew matrices of blocks k to k + count; lanes beyond are 0.
template <class T>
void load_skew_as(cayley_problem const& p, index_t k, index_t count, float* q) {
  index_t const b = p.size;
  for (index_t l = 0; l < 16; ++l) {
    index_t const block = b < 2 ? 0 : l < count ? k + l : k;  // blocks of one have no parameters, perhaps no memory
    T const* const v = static_cast<T const*>(p.parameters.data) + block * p.parameters.row;
    index_t at = 0;
    for (index_t i = 0; i < b; ++i) {
      q[(i * b + i) * 16 + l] = 0.0F;
      for (index_t j = i + 1; j < b; ++j) {
        float e = 0.0F;
        if (p.packed) e = load_as<float>(v[at++ * p.parameters.column]);
        else
          e = 0.5F * (load_as<float>(v[i * p.parameters.column + j * p.inner]) -
                      load_as<float>(v[j * p.parameters.column + i * p.inner]));
        q[(i * b + j) * 16 + l] = e;
        q[(j * b + i) * 16 + l] = -e;
      }
    }
  }
}
template <class T>
void store_blocks_as(cayley_problem const& p, index_t k, index_t count, float const* m) {
  index_t const b = p.size;
  for (index_t l = 0; l < count; ++l) {
    T* const out = static_cast<T*>(p.rotations.data) + (k + l) * p.rotations.row;
    for (index_t i = 0; i < b; ++i)
      for (index_t j = 0; j < b; ++j) out[i * p.rotations.column + j * p.last] = store_as<T>(m[(i * b + j) * 16 + l]);
  }
}

/// (I + Q)^-1 in place, then 2 M - I.
template <int = 0>
inline void eliminate(index_t b, float* m) {
  float* const row = m + 16 * b * b;
  float* const column = row + 16 * b;
  for (index_t i = 0; i < b; ++i) store(m + (i * b + i) * 16, splat(1.0F));
  lanes const minus = splat(-1.0F);
  for (index_t pivot = 0; pivot < b; ++pivot) {
    lanes const inverse = divide(splat(1.0F), load(m + (pivot * b + pivot) * 16));
    for (index_t i = 0; i < b; ++i) {
      store(row + i * 16, i == pivot ? inverse : mul(load(m + (pivot * b + i) * 16), inverse));
      store(column + i * 16, mul(minus, load(m + (i * b + pivot) * 16)));
      store(m + (i * b + pivot) * 16, zero());
    }
    for (index_t i = 0; i < b; ++i) {
      if (i == pivot) {
        for (index_t j = 0; j < b; ++j) store(m + (i * b + j) * 16, load(row + j * 16));
        continue;
      }
      lanes const f = load(column + i * 16);
      float* const to = m + i * b * 16;
      for (index_t j = 0; j < b; ++j) store(to + j * 16, fma(f, load(row + j * 16), load(to + j * 16)));
    }
  }
  for (index_t i = 0; i < b; ++i)
    for (index_t j = 0; j < b; ++j) {
      float* const e = m + (i * b + j) * 16;
      store(e, fma(splat(2.0F), load(e), i == j ? minus : zero()));
    }
}

/// MT rows x NV columns of c I + Q H.
template <int MT, int NV>
GRAFT_INLINE void series_tile(index_t b, float const* q, float const* h, index_t i, index_t j, float c, float* out) {
  lanes sum[MT * NV];
  repeat<MT * NV>([&](auto e) __attribute__((always_inline)) { sum[e] = splat(i + e / NV == j + e % NV ? c : 0.0F); });
  for (index_t l = 0; l < b; ++l) {
    lanes w[NV];
    repeat<NV>([&](auto v) __attribute__((always_inline)) { w[v] = load(h + (l * b + j + v) * 16); });
    repeat<MT>([&](auto t) __attribute__((always_inline)) {
      lanes const f = load(q + ((i + t) * b + l) * 16);
      repeat<NV>([&](auto v) __attribute__((always_inline)) { sum[t * NV + v] = fma(f, w[v], sum[t * NV + v]); });
    });
  }
  repeat<MT * NV>([&](auto e)
                      __attribute__((always_inline)) { store(out + ((i + e / NV) * b + j + e % NV) * 16, sum[e]); });
}
/// The series by Horner's rule, back into q.
template <int = 0>
inline float const* sum_series(index_t b, int terms, float const* q, float* h, float* next) {
  int const degree = neumann_degree(terms);
  auto const top = static_cast<float>(neumann_coefficient(terms, degree));
  for (index_t i = 0; i < b; ++i)
    for (index_t j = 0; j < b; ++j) store(h + (i * b + j) * 16, splat(i == j ? top : 0.0F));
  for (int power = degree - 1; power >= 0; --power) {
    auto const c = static_cast<float>(neumann_coefficient(terms, power));
    constexpr int tile = series_rows;
    index_t const whole = b / tile * tile;
    for (index_t i = 0; i < whole; i += tile)
      for (index_t j = 0; j < whole; j += tile) series_tile<tile, tile>(b, q, h, i, j, c, next);
    for (index_t i = 0; i < b; ++i)
      for (index_t j = i < whole ? whole : 0; j < b; ++j) series_tile<1, 1>(b, q, h, i, j, c, next);
    float* const last = h;
    h = next;
    next = last;
  }
  return h;
}

/// Blocks [first, last). `scratch` holds cayley_scratch floats.
template <int = 0>
inline void cayley(cayley_problem const& p, index_t first, index_t last, float* scratch) {
  index_t const b = p.size;
  for (index_t k = first; k < last; k += 16) {
    index_t const count = last - k < 16 ? last - k : 16;
    if (p.parameters.kind == storage::fp32) load_skew_as<float>(p, k, count, scratch);
    else if (p.parameters.kind == storage::bf16) load_skew_as<bfloat16>(p, k, count, scratch);
    else load_skew_as<float16>(p, k, count, scratch);
    float const* result = scratch;
    if (p.terms == 0) eliminate(b, scratch);
    else result = sum_series(b, p.terms, scratch, scratch + 16 * b * b, scratch + 32 * b * b);
    if (p.rotations.kind == storage::fp32) store_blocks_as<float>(p, k, count, result);
    else if (p.rotations.kind == storage::bf16) store_blocks_as<bfloat16>(p, k, count, result);
    else store_blocks_as<float16>(p, k, count, result);
  }
}

}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL
