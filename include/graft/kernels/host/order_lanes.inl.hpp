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
/// The first `count` of sixteen; the others are -inf.
GRAFT_INLINE lanes load_masked(float const* p, index_t count) {
  return {_mm512_mask_loadu_ps(_mm512_set1_ps(-std::numeric_limits<float>::infinity()),
                               static_cast<__mmask16>((1U << static_cast<unsigned>(count)) - 1U), p)};
}
/// Of numbers that are no NaN.
GRAFT_INLINE lanes larger(lanes a, lanes b) { return {_mm512_maskz_max_ps(0xffff, a.v, b.v)}; }
GRAFT_INLINE lanes smaller(lanes a, lanes b) { return {_mm512_maskz_min_ps(0xffff, a.v, b.v)}; }
struct lane_mask {
  __mmask16 m;
};
GRAFT_INLINE lane_mask above(lanes a, lanes b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
GRAFT_INLINE order_lanes choose(lane_mask which, order_lanes yes, order_lanes no) {
  return {_mm512_mask_mov_epi32(no.v, which.m, yes.v)};
}
GRAFT_INLINE unsigned bits_of(lane_mask a) { return a.m; }
/// Bit 16 i + l: lane l of a[i] is not below that of `least`.
GRAFT_INLINE std::uint64_t reaching(lanes const* a, lanes least) {
  auto const at = [&](int i)
                      __attribute__((always_inline)) { return _mm512_cmp_ps_mask(a[i].v, least.v, _CMP_NLT_UQ); };
  return _cvtmask64_u64(_mm512_kunpackd(_mm512_kunpackw(at(3), at(2)), _mm512_kunpackw(at(1), at(0))));
}
GRAFT_INLINE lanes lanes_of(order_lanes a) { return {_mm512_castsi512_ps(a.v)}; }
GRAFT_INLINE void store_part_of_keys(std::int32_t* p, lanes a, index_t count) {
  _mm512_mask_storeu_epi32(p, static_cast<__mmask16>((1U << static_cast<unsigned>(count)) - 1U),
                           _mm512_castps_si512(a.v));
}
/// to[2 l], to[2 l + 1] = a, b at lane l.
GRAFT_INLINE void store_pairs(std::int32_t* to, order_lanes a, order_lanes b) {
  __m512i const low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  __m512i const high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  _mm512_storeu_si512(to, _mm512_maskz_permutex2var_epi32(0xffff, a.v, low, b.v));
  _mm512_storeu_si512(to + 16, _mm512_maskz_permutex2var_epi32(0xffff, a.v, high, b.v));
}
GRAFT_INLINE void store_pairs(float* to, lanes a, lanes b) {
  store_pairs(reinterpret_cast<std::int32_t*>(to), {_mm512_castps_si512(a.v)}, {_mm512_castps_si512(b.v)});
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
GRAFT_INLINE lanes load_masked(float const* p, index_t count) {
  __m256i const n = _mm256_set1_epi32(static_cast<int>(count));
  __m256 const masked = _mm256_set1_ps(-std::numeric_limits<float>::infinity());
  __m256i const low = _mm256_cmpgt_epi32(n, numbered(0));
  __m256i const high = _mm256_cmpgt_epi32(n, numbered(8));
  return {_mm256_blendv_ps(masked, _mm256_maskload_ps(p, low), _mm256_castsi256_ps(low)),
          _mm256_blendv_ps(masked, _mm256_maskload_ps(p + 8, high), _mm256_castsi256_ps(high))};
}
GRAFT_INLINE lanes larger(lanes x, lanes y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
GRAFT_INLINE lanes smaller(lanes x, lanes y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
struct lane_mask {
  __m256 a;
  __m256 b;
};
GRAFT_INLINE lane_mask above(lanes x, lanes y) {
  return {_mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ)};
}
GRAFT_INLINE order_lanes choose(lane_mask which, order_lanes yes, order_lanes no) {
  return {_mm256_blendv_epi8(no.a, yes.a, _mm256_castps_si256(which.a)),
          _mm256_blendv_epi8(no.b, yes.b, _mm256_castps_si256(which.b))};
}
GRAFT_INLINE unsigned bits_of(lane_mask x) {
  return static_cast<unsigned>(_mm256_movemask_ps(x.a)) | static_cast<unsigned>(_mm256_movemask_ps(x.b)) << 8U;
}
GRAFT_INLINE std::uint64_t reaching(lanes const* x, lanes least) {
  std::uint64_t word = 0;
  for (int i = 0; i < 4; ++i)
    word |= std::uint64_t{bits_of(
                {_mm256_cmp_ps(x[i].a, least.a, _CMP_NLT_UQ), _mm256_cmp_ps(x[i].b, least.b, _CMP_NLT_UQ)})}
            << static_cast<unsigned>(16 * i);
  return word;
}
GRAFT_INLINE lanes lanes_of(order_lanes x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
GRAFT_INLINE void store_part_of_keys(std::int32_t* p, lanes x, index_t count) {
  __m256i const n = _mm256_set1_epi32(static_cast<int>(count));
  _mm256_maskstore_epi32(p, _mm256_cmpgt_epi32(n, numbered(0)), _mm256_castps_si256(x.a));
  _mm256_maskstore_epi32(p + 8, _mm256_cmpgt_epi32(n, numbered(8)), _mm256_castps_si256(x.b));
}
GRAFT_INLINE void store_pairs(std::int32_t* to, order_lanes x, order_lanes y) {
  auto const half = [](std::int32_t* p, __m256i a, __m256i b) __attribute__((always_inline)) {
    __m256i const low = _mm256_unpacklo_epi32(a, b);
    __m256i const high = _mm256_unpackhi_epi32(a, b);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), _mm256_permute2x128_si256(low, high, 0x31));
  };
  half(to, x.a, y.a);
  half(to + 16, x.b, y.b);
}
GRAFT_INLINE void store_pairs(float* to, lanes x, lanes y) {
  store_pairs(reinterpret_cast<std::int32_t*>(to), {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)},
              {_mm256_castps_si256(y.a), _mm256_castps_si256(y.b)});
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
inline lanes load_masked(float const* p, index_t count) {
  lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = i < count ? p[i] : -std::numeric_limits<float>::infinity();
  return r;
}
inline lanes larger(lanes a, lanes const& b) {
  for (int i = 0; i < 16; ++i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
inline lanes smaller(lanes a, lanes const& b) {
  for (int i = 0; i < 16; ++i) a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
  return a;
}
struct lane_mask {
  bool m[16];
};
inline lane_mask above(lanes const& a, lanes const& b) {
  lane_mask r;
  for (int i = 0; i < 16; ++i) r.m[i] = a.v[i] > b.v[i];
  return r;
}
inline order_lanes choose(lane_mask const& which, order_lanes const& yes, order_lanes no) {
  for (int i = 0; i < 16; ++i)
    if (which.m[i]) no.v[i] = yes.v[i];
  return no;
}
inline unsigned bits_of(lane_mask const& a) {
  unsigned bits = 0;
  for (int i = 0; i < 16; ++i) bits |= (a.m[i] ? 1U : 0U) << static_cast<unsigned>(i);
  return bits;
}
inline std::uint64_t reaching(lanes const* a, lanes const& least) {
  std::uint64_t word = 0;
  for (int i = 0; i < 64; ++i)
    word |= (a[i / 16].v[i % 16] < least.v[i % 16] ? 0 : std::uint64_t{1}) << static_cast<unsigned>(i);
  return word;
}
inline lanes lanes_of(order_lanes const& a) { return std::bit_cast<lanes>(a); }
inline void store_part_of_keys(std::int32_t* p, lanes const& a, index_t count) {
  for (int i = 0; i < count; ++i) p[i] = std::bit_cast<std::int32_t>(a.v[i]);
}
template <class T, class Lanes>
inline void store_pairs(T* to, Lanes const& a, Lanes const& b) {
  for (int i = 0; i < 16; ++i) {
    to[2 * i] = a.v[i];
    to[2 * i + 1] = b.v[i];
  }
}
inline lanes exponential(lanes a) {
  for (float& e : a.v) e = portable_exp(e);
  return a;
}

#endif

}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL
