// SPDX-License-Identifier: Apache-2.0
// Sixteen order keys (top_k.hpp) at one instruction set, and exp of sixteen numbers. Included once per level by levels.hpp, after
// lanes.inl.hpp.
namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL {

#if GRAFT_LEVEL_NUMBER == 2

struct order_lanes {
  __m512i v;
};
GRAFT_INLINE order_lanes load_keys(std::int32_t const* p) { return {_mm512_loadu_si512(p)}; }
GRAFT_INLINE void store_keys(std::int32_t* p, order_lanes a) { _mm512_storeu_si512(p, a.v); }
GRAFT_INLINE order_lanes splat_key(std::int32_t k) { return {_mm512_set1_epi32(k)}; }
GRAFT_INLINE order_lanes larger(order_lanes a, order_lanes b) { return {_mm512_maskz_max_epi32(0xffff, a.v, b.v)}; }
/// key_of for numbers that are no NaN.
GRAFT_INLINE order_lanes keys_of(lanes z) {
  __m512i const bits = _mm512_castps_si512(_mm512_add_ps(z.v, _mm512_setzero_ps()));
  return {_mm512_mask_xor_epi32(bits, _mm512_movepi32_mask(bits), bits, _mm512_set1_epi32(0x7fffffff))};
}
GRAFT_INLINE order_lanes magnitude_keys(lanes z) {
  return {_mm512_and_si512(_mm512_castps_si512(z.v), _mm512_set1_epi32(0x7fffffff))};
}
GRAFT_INLINE std::int32_t largest_key(order_lanes a) {
  __m256i const h =
      _mm256_max_epi32(_mm512_maskz_extracti32x8_epi32(0xff, a.v, 0), _mm512_maskz_extracti32x8_epi32(0xff, a.v, 1));
  __m128i q = _mm_max_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
  q = _mm_max_epi32(q, _mm_shuffle_epi32(q, 0x4e));
  q = _mm_max_epi32(q, _mm_shuffle_epi32(q, 0xb1));
  return _mm_cvtsi128_si32(q);
}
/// The first lane that has this key, or 32.
GRAFT_INLINE int first_lane(order_lanes a, std::int32_t key) {
  return __builtin_ctzll(_mm512_cmpeq_epi32_mask(a.v, _mm512_set1_epi32(key)) | (1ULL << 32U));
}
GRAFT_INLINE order_lanes put(order_lanes a, int lane, std::int32_t key) {
  return {_mm512_mask_set1_epi32(a.v, static_cast<__mmask16>(1U << static_cast<unsigned>(lane)), key)};
}
GRAFT_INLINE order_lanes first_keys(order_lanes a, int count, std::int32_t others) {
  return {_mm512_mask_mov_epi32(_mm512_set1_epi32(others),
                                static_cast<__mmask16>((1U << static_cast<unsigned>(count)) - 1U), a.v)};
}
GRAFT_INLINE lanes first_lanes(lanes a, int count) {
  return {_mm512_maskz_mov_ps(static_cast<__mmask16>((1U << static_cast<unsigned>(count)) - 1U), a.v)};
}
GRAFT_INLINE lanes numbers_of(order_lanes k) {
  __m512i const v = _mm512_mask_xor_epi32(k.v, _mm512_movepi32_mask(k.v), k.v, _mm512_set1_epi32(0x7fffffff));
  return {_mm512_castsi512_ps(v)};
}
GRAFT_INLINE bool any_greater(order_lanes a, order_lanes b) { return _mm512_cmpgt_epi32_mask(a.v, b.v) != 0; }
/// Where the candidate's key is greater, or has been before (`moved`), it and its number change places with what is there: what it
/// has displaced comes before its equals.
struct lane_mask {
  __mmask16 m;
};
GRAFT_INLINE void clear(lane_mask& moved) { moved.m = 0; }
GRAFT_INLINE void exchange(order_lanes& key, order_lanes& id, order_lanes& candidate, order_lanes& number,
                           lane_mask& moved) {
  moved.m = static_cast<__mmask16>(moved.m | _mm512_cmpgt_epi32_mask(candidate.v, key.v));
  __m512i const greater = _mm512_maskz_max_epi32(0xffff, candidate.v, key.v);
  candidate.v = _mm512_maskz_min_epi32(0xffff, candidate.v, key.v);
  key.v = greater;
  __m512i const before = id.v;
  id.v = _mm512_mask_mov_epi32(before, moved.m, number.v);
  number.v = _mm512_mask_mov_epi32(number.v, moved.m, before);
}
/// portable_exp for numbers that are no NaN.
GRAFT_INLINE lanes exponential(lanes x) {
  __m512 const in =
      _mm512_maskz_min_ps(0xffff, _mm512_set1_ps(89.0F), _mm512_maskz_max_ps(0xffff, _mm512_set1_ps(-104.0F), x.v));
  __m512 const magic = _mm512_set1_ps(0x1.8p23F);
  __m512 const shifted = _mm512_fmadd_ps(in, _mm512_set1_ps(1.44269504F), magic);
  __m512 const n = _mm512_sub_ps(shifted, magic);
  __m512 const r =
      _mm512_fmadd_ps(n, _mm512_set1_ps(-0x1.7f7d1cp-20F), _mm512_fmadd_ps(n, _mm512_set1_ps(-0x1.62e4p-1F), in));
  __m512 q = _mm512_fmadd_ps(r, _mm512_set1_ps(1.0F / 5040), _mm512_set1_ps(1.0F / 720));
  q = _mm512_fmadd_ps(r, q, _mm512_set1_ps(1.0F / 120));
  q = _mm512_fmadd_ps(r, q, _mm512_set1_ps(1.0F / 24));
  q = _mm512_fmadd_ps(r, q, _mm512_set1_ps(1.0F / 6));
  q = _mm512_fmadd_ps(r, q, _mm512_set1_ps(0.5F));
  __m512 const p = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(r, r), q, r), _mm512_set1_ps(1.0F));
  __m512i const whole = _mm512_sub_epi32(_mm512_castps_si512(shifted), _mm512_castps_si512(magic));
  __m512i const half = _mm512_maskz_srai_epi32(0xffff, whole, 1);
  __m512i const bias = _mm512_set1_epi32(127);
  __m512i const first = _mm512_maskz_slli_epi32(0xffff, _mm512_add_epi32(half, bias), 23);
  __m512i const second = _mm512_maskz_slli_epi32(0xffff, _mm512_add_epi32(_mm512_sub_epi32(whole, half), bias), 23);
  return {_mm512_mul_ps(_mm512_mul_ps(p, _mm512_castsi512_ps(first)), _mm512_castsi512_ps(second))};
}

#elif GRAFT_LEVEL_NUMBER == 1

struct order_lanes {
  __m256i a;
  __m256i b;
};
GRAFT_INLINE order_lanes load_keys(std::int32_t const* p) {
  auto const* const q = reinterpret_cast<__m256i const*>(p);
  return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
GRAFT_INLINE void store_keys(std::int32_t* p, order_lanes x) {
  auto* const q = reinterpret_cast<__m256i*>(p);
  _mm256_storeu_si256(q, x.a);
  _mm256_storeu_si256(q + 1, x.b);
}
GRAFT_INLINE order_lanes splat_key(std::int32_t k) { return {_mm256_set1_epi32(k), _mm256_set1_epi32(k)}; }
GRAFT_INLINE order_lanes larger(order_lanes x, order_lanes y) {
  return {_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)};
}
GRAFT_INLINE __m256i keys_of_half(__m256 z) {
  __m256i const bits = _mm256_castps_si256(_mm256_add_ps(z, _mm256_setzero_ps()));
  return _mm256_xor_si256(bits, _mm256_srli_epi32(_mm256_srai_epi32(bits, 31), 1));
}
GRAFT_INLINE order_lanes keys_of(lanes z) { return {keys_of_half(z.a), keys_of_half(z.b)}; }
GRAFT_INLINE order_lanes magnitude_keys(lanes z) {
  __m256i const m = _mm256_set1_epi32(0x7fffffff);
  return {_mm256_and_si256(_mm256_castps_si256(z.a), m), _mm256_and_si256(_mm256_castps_si256(z.b), m)};
}
GRAFT_INLINE std::int32_t largest_key(order_lanes x) {
  __m256i const h = _mm256_max_epi32(x.a, x.b);
  __m128i q = _mm_max_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
  q = _mm_max_epi32(q, _mm_shuffle_epi32(q, 0x4e));
  q = _mm_max_epi32(q, _mm_shuffle_epi32(q, 0xb1));
  return _mm_cvtsi128_si32(q);
}
GRAFT_INLINE int first_lane(order_lanes x, std::int32_t key) {
  __m256i const k = _mm256_set1_epi32(key);
  auto const low = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(x.a, k))));
  auto const high = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(x.b, k))));
  return __builtin_ctzll(std::uint64_t{low} | std::uint64_t{high} << 8U | (1ULL << 32U));
}
GRAFT_INLINE __m256i numbered(int first) {
  return _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(first));
}
GRAFT_INLINE order_lanes put(order_lanes x, int lane, std::int32_t key) {
  __m256i const at = _mm256_set1_epi32(lane);
  __m256i const k = _mm256_set1_epi32(key);
  return {_mm256_blendv_epi8(x.a, k, _mm256_cmpeq_epi32(numbered(0), at)),
          _mm256_blendv_epi8(x.b, k, _mm256_cmpeq_epi32(numbered(8), at))};
}
GRAFT_INLINE order_lanes first_keys(order_lanes x, int count, std::int32_t others) {
  __m256i const n = _mm256_set1_epi32(count);
  __m256i const k = _mm256_set1_epi32(others);
  return {_mm256_blendv_epi8(k, x.a, _mm256_cmpgt_epi32(n, numbered(0))),
          _mm256_blendv_epi8(k, x.b, _mm256_cmpgt_epi32(n, numbered(8)))};
}
GRAFT_INLINE lanes first_lanes(lanes x, int count) {
  __m256i const n = _mm256_set1_epi32(count);
  return {_mm256_and_ps(x.a, _mm256_castsi256_ps(_mm256_cmpgt_epi32(n, numbered(0)))),
          _mm256_and_ps(x.b, _mm256_castsi256_ps(_mm256_cmpgt_epi32(n, numbered(8))))};
}
GRAFT_INLINE __m256 numbers_of_half(__m256i v) {
  return _mm256_castsi256_ps(_mm256_xor_si256(v, _mm256_srli_epi32(_mm256_srai_epi32(v, 31), 1)));
}
GRAFT_INLINE lanes numbers_of(order_lanes k) { return {numbers_of_half(k.a), numbers_of_half(k.b)}; }
GRAFT_INLINE bool any_greater(order_lanes x, order_lanes y) {
  __m256i const m = _mm256_or_si256(_mm256_cmpgt_epi32(x.a, y.a), _mm256_cmpgt_epi32(x.b, y.b));
  return _mm256_movemask_epi8(m) != 0;
}
struct lane_mask {
  __m256i a;
  __m256i b;
};
GRAFT_INLINE void clear(lane_mask& moved) { moved.a = moved.b = _mm256_setzero_si256(); }
GRAFT_INLINE void exchange_half(__m256i& key, __m256i& id, __m256i& candidate, __m256i& number, __m256i& moved) {
  moved = _mm256_or_si256(moved, _mm256_cmpgt_epi32(candidate, key));
  __m256i const greater = _mm256_max_epi32(candidate, key);
  candidate = _mm256_min_epi32(candidate, key);
  key = greater;
  __m256i const before = id;
  id = _mm256_blendv_epi8(before, number, moved);
  number = _mm256_blendv_epi8(number, before, moved);
}
GRAFT_INLINE void exchange(order_lanes& key, order_lanes& id, order_lanes& candidate, order_lanes& number,
                           lane_mask& moved) {
  exchange_half(key.a, id.a, candidate.a, number.a, moved.a);
  exchange_half(key.b, id.b, candidate.b, number.b, moved.b);
}
GRAFT_INLINE __m256 exponential_of_half(__m256 x) {
  __m256 const in = _mm256_min_ps(_mm256_set1_ps(89.0F), _mm256_max_ps(_mm256_set1_ps(-104.0F), x));
  __m256 const magic = _mm256_set1_ps(0x1.8p23F);
  __m256 const shifted = _mm256_fmadd_ps(in, _mm256_set1_ps(1.44269504F), magic);
  __m256 const n = _mm256_sub_ps(shifted, magic);
  __m256 const r =
      _mm256_fmadd_ps(n, _mm256_set1_ps(-0x1.7f7d1cp-20F), _mm256_fmadd_ps(n, _mm256_set1_ps(-0x1.62e4p-1F), in));
  __m256 q = _mm256_fmadd_ps(r, _mm256_set1_ps(1.0F / 5040), _mm256_set1_ps(1.0F / 720));
  q = _mm256_fmadd_ps(r, q, _mm256_set1_ps(1.0F / 120));
  q = _mm256_fmadd_ps(r, q, _mm256_set1_ps(1.0F / 24));
  q = _mm256_fmadd_ps(r, q, _mm256_set1_ps(1.0F / 6));
  q = _mm256_fmadd_ps(r, q, _mm256_set1_ps(0.5F));
  __m256 const p = _mm256_add_ps(_mm256_fmadd_ps(_mm256_mul_ps(r, r), q, r), _mm256_set1_ps(1.0F));
  __m256i const whole = _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_castps_si256(magic));
  __m256i const half = _mm256_srai_epi32(whole, 1);
  __m256i const bias = _mm256_set1_epi32(127);
  __m256i const first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  __m256i const second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23);
  return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}
GRAFT_INLINE lanes exponential(lanes x) { return {exponential_of_half(x.a), exponential_of_half(x.b)}; }

#else

struct order_lanes {
  std::int32_t v[16];
};
inline order_lanes load_keys(std::int32_t const* p) {
  order_lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = p[i];
  return r;
}
inline void store_keys(std::int32_t* p, order_lanes const& a) {
  for (int i = 0; i < 16; ++i) p[i] = a.v[i];
}
inline order_lanes splat_key(std::int32_t k) {
  order_lanes r;
  for (auto& e : r.v) e = k;
  return r;
}
inline order_lanes larger(order_lanes a, order_lanes const& b) {
  for (int i = 0; i < 16; ++i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
inline order_lanes keys_of(lanes const& z) {
  order_lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = key_of(z.v[i]);
  return r;
}
inline order_lanes magnitude_keys(lanes const& z) {
  order_lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = std::bit_cast<std::int32_t>(z.v[i]) & 0x7fffffff;
  return r;
}
inline std::int32_t largest_key(order_lanes const& a) {
  std::int32_t most = a.v[0];
  for (std::int32_t const k : a.v) most = k > most ? k : most;
  return most;
}
inline int first_lane(order_lanes const& a, std::int32_t key) {
  for (int i = 0; i < 16; ++i)
    if (a.v[i] == key) return i;
  return 32;
}
inline order_lanes put(order_lanes a, int lane, std::int32_t key) {
  a.v[lane] = key;
  return a;
}
inline order_lanes first_keys(order_lanes a, int count, std::int32_t others) {
  for (int i = count; i < 16; ++i) a.v[i] = others;
  return a;
}
inline lanes first_lanes(lanes a, int count) {
  for (int i = count; i < 16; ++i) a.v[i] = 0.0F;
  return a;
}
inline lanes numbers_of(order_lanes const& k) {
  lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = std::bit_cast<float>(k.v[i] < 0 ? k.v[i] ^ 0x7fffffff : k.v[i]);
  return r;
}
inline bool any_greater(order_lanes const& a, order_lanes const& b) {
  for (int i = 0; i < 16; ++i)
    if (a.v[i] > b.v[i]) return true;
  return false;
}
struct lane_mask {
  bool m[16];
};
inline void clear(lane_mask& moved) {
  for (bool& m : moved.m) m = false;
}
inline void exchange(order_lanes& key, order_lanes& id, order_lanes& candidate, order_lanes& number, lane_mask& moved) {
  for (int i = 0; i < 16; ++i) {
    moved.m[i] = moved.m[i] || candidate.v[i] > key.v[i];
    if (!moved.m[i]) continue;
    std::swap(candidate.v[i], key.v[i]);
    std::swap(number.v[i], id.v[i]);
  }
}
inline lanes exponential(lanes a) {
  for (float& e : a.v) e = portable_exp(e);
  return a;
}

#endif

}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL
