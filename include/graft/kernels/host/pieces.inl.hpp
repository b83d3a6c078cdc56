// SPDX-License-Identifier: Apache-2.0
// Sixteen lanes from pieces of memory and back, and their permutations. Included once per level by levels.hpp, after lanes.inl.hpp.
//
//   load_halves(p, q), store_halves    eight floats at p, eight at q
//   load_quarters(p, step)             four floats each at p, p + step, p + 2 step, p + 3 step
//   spread(a, from)                    lane l takes lane from[l]; the lanes of one half take from one half
//   permute(a, from)                   lane l takes lane from[l]
namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL {
#if GRAFT_LEVEL_NUMBER == 2

GRAFT_INLINE lanes load_halves(float const* p, float const* q) {
  return {_mm512_maskz_insertf32x8(0xffff, _mm512_castps256_ps512(_mm256_loadu_ps(p)), _mm256_loadu_ps(q), 1)};
}
GRAFT_INLINE void store_halves(float* p, float* q, lanes a) {
  _mm256_storeu_ps(p, _mm512_maskz_extractf32x8_ps(0xff, a.v, 0));
  _mm256_storeu_ps(q, _mm512_maskz_extractf32x8_ps(0xff, a.v, 1));
}
GRAFT_INLINE lanes spread(lanes a, std::int32_t const* from) {
  return {_mm512_maskz_permutexvar_ps(0xffff, _mm512_loadu_si512(from), a.v)};
}
GRAFT_INLINE lanes permute(lanes a, std::int32_t const* from) { return spread(a, from); }
GRAFT_INLINE lanes load_quarters(float const* p, index_t step) {  // masked broadcasts: loads, no shuffles
  __m512 v = _mm512_zextps128_ps512(_mm_loadu_ps(p));
  v = _mm512_mask_broadcast_f32x4(v, 0x00f0, _mm_loadu_ps(p + step));
  v = _mm512_mask_broadcast_f32x4(v, 0x0f00, _mm_loadu_ps(p + 2 * step));
  return {_mm512_mask_broadcast_f32x4(v, 0xf000, _mm_loadu_ps(p + 3 * step))};
}

#elif GRAFT_LEVEL_NUMBER == 1

GRAFT_INLINE lanes load_halves(float const* p, float const* q) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(q)}; }
GRAFT_INLINE void store_halves(float* p, float* q, lanes x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(q, x.b);
}
GRAFT_INLINE lanes spread(lanes x, std::int32_t const* from) {
  __m256i const low = _mm256_loadu_si256(reinterpret_cast<__m256i const*>(from));  // only three bits of each count
  __m256i const high = _mm256_loadu_si256(reinterpret_cast<__m256i const*>(from + 8));
  return {_mm256_permutevar8x32_ps(from[0] < 8 ? x.a : x.b, low),
          _mm256_permutevar8x32_ps(from[8] < 8 ? x.a : x.b, high)};
}
GRAFT_INLINE __m256 permute_half(lanes x, std::int32_t const* from) {
  __m256i const at = _mm256_loadu_si256(reinterpret_cast<__m256i const*>(from));
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(x.a, at), _mm256_permutevar8x32_ps(x.b, at),
                          _mm256_castsi256_ps(_mm256_slli_epi32(at, 28)));  // the fourth bit: x.b
}
GRAFT_INLINE lanes permute(lanes x, std::int32_t const* from) {
  return {permute_half(x, from), permute_half(x, from + 8)};
}
GRAFT_INLINE lanes load_quarters(float const* p, index_t step) {
  return {_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + step), 1),
          _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p + 2 * step)), _mm_loadu_ps(p + 3 * step), 1)};
}

#else

GRAFT_LANE lanes load_halves(float const* p, float const* q) {
  lanes r;
  for (int i = 0; i < 8; ++i) {
    r.v[i] = p[i];
    r.v[i + 8] = q[i];
  }
  return r;
}
GRAFT_LANE void store_halves(float* p, float* q, lanes const& a) {
  for (int i = 0; i < 8; ++i) {
    p[i] = a.v[i];
    q[i] = a.v[i + 8];
  }
}
GRAFT_LANE lanes spread(lanes const& a, std::int32_t const* from) {
  lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = a.v[from[i]];
  return r;
}
GRAFT_LANE lanes permute(lanes const& a, std::int32_t const* from) { return spread(a, from); }
GRAFT_LANE lanes load_quarters(float const* p, index_t step) {
  lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = p[i / 4 * step + i % 4];
  return r;
}

#endif

#undef GRAFT_LANE
}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL
