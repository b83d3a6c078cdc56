// SPDX-License-Identifier: Apache-2.0
// Sixteen virtual fp32 lanes at one instruction set: one zmm, two ymm, or sixteen scalars. The same bits in all of them:
// lanes never mix except in the tree (offsets 8, 4, 2, 1), and every multiply-add is an fma.
// Included once per level by levels.hpp, which defines GRAFT_LEVEL (a namespace) and GRAFT_LEVEL_NUMBER (0, 1, 2).
namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL {

/// Where better levels exist the baseline is for processors without FMA, whose every fma is a library call: one body and loops where
/// other levels have many, unrolled.
#if GRAFT_LEVEL_NUMBER == 0 && defined(GRAFT_HAS_LEVELS)
#define GRAFT_LANE __attribute__((noinline)) inline
inline constexpr bool is_compact = true;
#else
#define GRAFT_LANE GRAFT_INLINE
inline constexpr bool is_compact = false;
#endif

/// f(0), ..., f(N - 1), with compile-time indices where that is fast. Not `#pragma GCC unroll`: g++ 12.2 makes wrong code of it at -O1 and
/// -O2, and without any unrolling -O2 leaves accumulators in memory.
template <int N, class F>
GRAFT_INLINE void repeat(F const& f) {
  if constexpr (is_compact)
    for (int i = 0; i < N; ++i) f(i);
  else
    [&]<int... Step>(std::integer_sequence<int, Step...>) __attribute__((always_inline)) {
      (f(std::integral_constant<int, Step>{}), ...);
    }(std::make_integer_sequence<int, N>{});
}
/// The same for a number that may be an integral constant.
template <class Size, class F>
GRAFT_INLINE void repeat_up_to(Size n, F const& f) {
  if constexpr (std::is_same_v<Size, int>)
    for (int i = 0; i < n; ++i) f(i);
  else repeat<Size::value>(f);
}

#if GRAFT_LEVEL_NUMBER == 2

struct lanes {
  __m512 v;
};
inline constexpr int row_tile_expand = 6;  // rows x vectors of the big tile of chains
inline constexpr int vector_tile_expand = 4;
inline constexpr int rotated_rows_of_tile = 8;  // rows x vectors of the tile of rotations
inline constexpr int rotated_vectors = 2;
inline constexpr int series_rows = 4;  // and columns of the tile of Cayley's series

// maskz forms: the plain ones make g++ 12 warn about uninitialised values inside its own header; the same instructions.
GRAFT_INLINE lanes zero() { return {_mm512_setzero_ps()}; }
GRAFT_INLINE lanes splat(float f) { return {_mm512_set1_ps(f)}; }
GRAFT_INLINE lanes fma(lanes a, lanes b, lanes c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
GRAFT_INLINE lanes mul(lanes a, lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }
GRAFT_INLINE lanes add(lanes a, lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
GRAFT_INLINE lanes divide(lanes a, lanes b) { return {_mm512_div_ps(a.v, b.v)}; }
GRAFT_INLINE lanes widen(__m256i u, bfloat16) {
  return {_mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, u), 16))};
}
GRAFT_INLINE lanes widen(__m256i u, float16) { return {_mm512_maskz_cvtph_ps(0xffff, u)}; }
GRAFT_INLINE __m256i narrow(lanes a, bfloat16) {
  __m512i const u = _mm512_castps_si512(a.v);
  __m512i const odd = _mm512_and_si512(_mm512_maskz_srli_epi32(0xffff, u, 16), _mm512_set1_epi32(1));
  __m512i r = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
  r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q), u, _mm512_set1_epi32(0x400000));
  return _mm512_maskz_cvtepi32_epi16(0xffff, _mm512_maskz_srli_epi32(0xffff, r, 16));
}
GRAFT_INLINE __m256i narrow(lanes a, float16) {
  return _mm512_maskz_cvtps_ph(0xffff, a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
GRAFT_INLINE lanes load(float const* p) { return {_mm512_loadu_ps(p)}; }
template <class T>
GRAFT_INLINE lanes load(T const* p) {
  return widen(_mm256_loadu_si256(reinterpret_cast<__m256i const*>(p)), T{});
}
GRAFT_INLINE void store(float* p, lanes a) { _mm512_storeu_ps(p, a.v); }
GRAFT_INLINE void stream(float* p, lanes a) { _mm512_stream_ps(p, a.v); }
template <class T>
GRAFT_INLINE void store(T* p, lanes a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(a, T{}));
}
/// The first `count` of sixteen; the others are +0.
GRAFT_INLINE lanes load_part(float const* p, index_t count) {
  return {_mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << static_cast<unsigned>(count)) - 1U), p)};
}
template <class T>
GRAFT_INLINE lanes load_part(T const* p, index_t count) {
  return widen(_mm256_maskz_loadu_epi16(static_cast<__mmask16>((1U << static_cast<unsigned>(count)) - 1U), p), T{});
}
GRAFT_INLINE void store_part(float* p, lanes a, index_t count) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1U << static_cast<unsigned>(count)) - 1U), a.v);
}
template <class T>
GRAFT_INLINE void store_part(T* p, lanes a, index_t count) {
  _mm256_mask_storeu_epi16(p, static_cast<__mmask16>((1U << static_cast<unsigned>(count)) - 1U), narrow(a, T{}));
}
/// What is left of two sums at distance 2 W, lane by lane: of `a` where bit W of the lane is 0, of `b` where it is 1.
GRAFT_INLINE __m512 fold8(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_mask_blend_ps(0xff00, a, b), _mm512_maskz_shuffle_f32x4(0xffff, a, b, 0x4e));
}
GRAFT_INLINE __m512 fold4(__m512 a, __m512 b) {
  __m512d const other = _mm512_castps_pd(_mm512_mask_blend_ps(0xf0f0, b, a));
  return _mm512_add_ps(_mm512_mask_blend_ps(0xf0f0, a, b),
                       _mm512_castpd_ps(_mm512_maskz_permutex_pd(0xff, other, 0x4e)));
}
GRAFT_INLINE __m512 fold2(__m512 a, __m512 b) {
  __m512d const other = _mm512_maskz_shuffle_pd(0xff, _mm512_castps_pd(a), _mm512_castps_pd(b), 0x55);
  return _mm512_add_ps(_mm512_mask_blend_ps(0xcccc, a, b), _mm512_castpd_ps(other));
}
GRAFT_INLINE __m512 fold1(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_mask_blend_ps(0xaaaa, a, b),
                       _mm512_maskz_permute_ps(0xffff, _mm512_mask_blend_ps(0xaaaa, b, a), 0xb1));
}
/// out[i] = tree(a[i]): 15 adds, 15 shuffles, 22 blends for 16 trees.
GRAFT_INLINE lanes tree16(lanes const* a) {
  __m512 s[8];
  repeat<8>([&](auto i) __attribute__((always_inline)) { s[i] = fold8(a[i].v, a[i + 8].v); });
  repeat<4>([&](auto i) __attribute__((always_inline)) { s[i] = fold4(s[i], s[i + 4]); });
  repeat<2>([&](auto i) __attribute__((always_inline)) { s[i] = fold2(s[i], s[i + 2]); });
  return {fold1(s[0], s[1])};
}
/// The same for eight; the other lanes of the result mean nothing.
GRAFT_INLINE lanes tree8(lanes const* a) {
  __m512 s[4];
  repeat<4>([&](auto i) __attribute__((always_inline)) { s[i] = fold8(a[i].v, a[i + 4].v); });
  repeat<2>([&](auto i) __attribute__((always_inline)) { s[i] = fold4(s[i], s[i + 2]); });
  __m512 const r = fold2(s[0], s[1]);
  return {_mm512_maskz_compress_ps(0x5555, _mm512_add_ps(r, _mm512_maskz_permute_ps(0xffff, r, 0xb1)))};
}
/// Lane l of out[k] = lane k of v[l].
GRAFT_INLINE void transpose16(lanes* v) {
  __m512 t[16];
  __m512 u[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_maskz_unpacklo_ps(0xffff, v[2 * i].v, v[2 * i + 1].v);
    t[2 * i + 1] = _mm512_maskz_unpackhi_ps(0xffff, v[2 * i].v, v[2 * i + 1].v);
  }
  for (int i = 0; i < 4; ++i)
    for (int h = 0; h < 2; ++h) {
      __m512d const a = _mm512_castps_pd(t[4 * i + h]);
      __m512d const b = _mm512_castps_pd(t[4 * i + h + 2]);
      u[4 * i + 2 * h] = _mm512_castpd_ps(_mm512_maskz_unpacklo_pd(0xff, a, b));
      u[4 * i + 2 * h + 1] = _mm512_castpd_ps(_mm512_maskz_unpackhi_pd(0xff, a, b));
    }
  for (int j = 0; j < 4; ++j) {
    __m512 const a = _mm512_maskz_shuffle_f32x4(0xffff, u[j], u[4 + j], 0x88);
    __m512 const b = _mm512_maskz_shuffle_f32x4(0xffff, u[j], u[4 + j], 0xdd);
    __m512 const c = _mm512_maskz_shuffle_f32x4(0xffff, u[8 + j], u[12 + j], 0x88);
    __m512 const d = _mm512_maskz_shuffle_f32x4(0xffff, u[8 + j], u[12 + j], 0xdd);
    v[j].v = _mm512_maskz_shuffle_f32x4(0xffff, a, c, 0x88);
    v[8 + j].v = _mm512_maskz_shuffle_f32x4(0xffff, a, c, 0xdd);
    v[4 + j].v = _mm512_maskz_shuffle_f32x4(0xffff, b, d, 0x88);
    v[12 + j].v = _mm512_maskz_shuffle_f32x4(0xffff, b, d, 0xdd);
  }
}
/// v[k] lane l = p[l * ld + k] for k < 4. In 256-bit halves: rows come in as 128-bit quarters and inserts from memory, and
/// 256-bit shuffles run on two ports where 512-bit ones have one.
GRAFT_INLINE void load_transposed4(lanes* v, float const* p, index_t ld) {
  __m256 h[2][4];
  repeat<2>([&](auto half) __attribute__((always_inline)) {
    __m256 q[4];
    repeat<4>([&](auto i) __attribute__((always_inline)) {
      float const* const s = p + (8 * half + i) * ld;
      q[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(s)), _mm_loadu_ps(s + 4 * ld), 1);
    });
    __m256d const l01 = _mm256_castps_pd(_mm256_unpacklo_ps(q[0], q[1]));
    __m256d const h01 = _mm256_castps_pd(_mm256_unpackhi_ps(q[0], q[1]));
    __m256d const l23 = _mm256_castps_pd(_mm256_unpacklo_ps(q[2], q[3]));
    __m256d const h23 = _mm256_castps_pd(_mm256_unpackhi_ps(q[2], q[3]));
    h[half][0] = _mm256_castpd_ps(_mm256_unpacklo_pd(l01, l23));
    h[half][1] = _mm256_castpd_ps(_mm256_unpackhi_pd(l01, l23));
    h[half][2] = _mm256_castpd_ps(_mm256_unpacklo_pd(h01, h23));
    h[half][3] = _mm256_castpd_ps(_mm256_unpackhi_pd(h01, h23));
  });
  repeat<4>([&](auto k) __attribute__((always_inline)) {
    v[k].v = _mm512_maskz_insertf32x8(0xffff, _mm512_castps256_ps512(h[0][k]), h[1][k], 1);
  });
}
/// v[k] lane l = p[l * ld + k] for k < 16.
GRAFT_INLINE void load_transposed(lanes* v, float const* p, index_t ld) {
  repeat<4>([&](auto c) __attribute__((always_inline)) { load_transposed4(v + 4 * c, p + 4 * c, ld); });
}

#else  // 256-bit vectors or none

#if GRAFT_LEVEL_NUMBER == 1

struct lanes {
  __m256 a;
  __m256 b;
};
inline constexpr int row_tile_expand = 6;
inline constexpr int vector_tile_expand = 1;
inline constexpr int rotated_rows_of_tile = 4;
inline constexpr int rotated_vectors = 1;
inline constexpr int series_rows = 2;

GRAFT_INLINE lanes zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
GRAFT_INLINE lanes splat(float f) { return {_mm256_set1_ps(f), _mm256_set1_ps(f)}; }
GRAFT_INLINE lanes fma(lanes x, lanes y, lanes c) {
  return {_mm256_fmadd_ps(x.a, y.a, c.a), _mm256_fmadd_ps(x.b, y.b, c.b)};
}
GRAFT_INLINE lanes mul(lanes x, lanes y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
GRAFT_INLINE lanes add(lanes x, lanes y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
GRAFT_INLINE lanes divide(lanes x, lanes y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
GRAFT_INLINE __m256 widen(__m128i u, bfloat16) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(u), 16));
}
GRAFT_INLINE __m256 widen(__m128i u, float16) { return _mm256_cvtph_ps(u); }
GRAFT_INLINE __m256i narrow_half(__m256 f) {
  __m256i const u = _mm256_castps_si256(f);
  __m256i const odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  __m256i const r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
  __m256i const nan = _mm256_castps_si256(_mm256_cmp_ps(f, f, _CMP_UNORD_Q));
  return _mm256_srli_epi32(_mm256_blendv_epi8(r, _mm256_or_si256(u, _mm256_set1_epi32(0x400000)), nan), 16);
}
GRAFT_INLINE __m256i narrow(lanes x, bfloat16) {
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(narrow_half(x.a), narrow_half(x.b)), 0xd8);
}
GRAFT_INLINE __m256i narrow(lanes x, float16) {
  return _mm256_inserti128_si256(
      _mm256_castsi128_si256(_mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)),
      _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), 1);
}
GRAFT_INLINE lanes load(float const* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
template <class T>
GRAFT_INLINE lanes load(T const* p) {
  auto const* const q = reinterpret_cast<__m128i const*>(p);
  return {widen(_mm_loadu_si128(q), T{}), widen(_mm_loadu_si128(q + 1), T{})};
}
GRAFT_INLINE void store(float* p, lanes x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
GRAFT_INLINE void stream(float* p, lanes x) {
  _mm256_stream_ps(p, x.a);
  _mm256_stream_ps(p + 8, x.b);
}
template <class T>
GRAFT_INLINE void store(T* p, lanes x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(x, T{}));
}
GRAFT_INLINE __m256 tree8_half(lanes const* l) {
  __m256 s[8];
  __m256 u[4];
  for (int i = 0; i < 8; ++i) s[i] = _mm256_add_ps(l[i].a, l[i].b);  // offset 8 needs no shuffle
  for (int i = 0; i < 4; ++i)
    u[i] = _mm256_add_ps(_mm256_permute2f128_ps(s[i], s[i + 4], 0x20), _mm256_permute2f128_ps(s[i], s[i + 4], 0x31));
  __m256d const p = _mm256_castps_pd(_mm256_add_ps(_mm256_unpacklo_ps(u[0], u[1]), _mm256_unpackhi_ps(u[0], u[1])));
  __m256d const q = _mm256_castps_pd(_mm256_add_ps(_mm256_unpacklo_ps(u[2], u[3]), _mm256_unpackhi_ps(u[2], u[3])));
  return _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(p, q)), _mm256_castpd_ps(_mm256_unpackhi_pd(p, q)));
}
GRAFT_INLINE lanes tree16(lanes const* l) { return {tree8_half(l), tree8_half(l + 8)}; }
GRAFT_INLINE lanes tree8(lanes const* l) { return {tree8_half(l), _mm256_setzero_ps()}; }
/// 8 x 8, in registers.
GRAFT_INLINE void transpose8(__m256* v) {
  __m256 t[8];
  __m256 u[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i)
    for (int h = 0; h < 2; ++h) {
      __m256d const a = _mm256_castps_pd(t[4 * i + h]);
      __m256d const b = _mm256_castps_pd(t[4 * i + h + 2]);
      u[4 * i + 2 * h] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
      u[4 * i + 2 * h + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
    }
  for (int j = 0; j < 4; ++j) {
    v[j] = _mm256_permute2f128_ps(u[j], u[4 + j], 0x20);
    v[4 + j] = _mm256_permute2f128_ps(u[j], u[4 + j], 0x31);
  }
}
GRAFT_INLINE void transpose16(lanes* v) {
  __m256 q[4][8];
  for (int i = 0; i < 8; ++i) {
    q[0][i] = v[i].a;
    q[1][i] = v[i].b;
    q[2][i] = v[8 + i].a;
    q[3][i] = v[8 + i].b;
  }
  for (auto& block : q) transpose8(block);
  for (int i = 0; i < 8; ++i) {
    v[i] = {q[0][i], q[2][i]};
    v[8 + i] = {q[1][i], q[3][i]};
  }
}

/// v[k] lane l = p[l * ld + k] for k < 4.
GRAFT_INLINE void load_transposed4(lanes* v, float const* p, index_t ld) {
  auto const half = [&](float const* s, __m256* out) __attribute__((always_inline)) {
    __m256 q[4];
    repeat<4>([&](auto i) __attribute__((always_inline)) {
      q[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(s + i * ld)), _mm_loadu_ps(s + (i + 4) * ld), 1);
    });
    __m256d const l01 = _mm256_castps_pd(_mm256_unpacklo_ps(q[0], q[1]));
    __m256d const h01 = _mm256_castps_pd(_mm256_unpackhi_ps(q[0], q[1]));
    __m256d const l23 = _mm256_castps_pd(_mm256_unpacklo_ps(q[2], q[3]));
    __m256d const h23 = _mm256_castps_pd(_mm256_unpackhi_ps(q[2], q[3]));
    out[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(l01, l23));
    out[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(l01, l23));
    out[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(h01, h23));
    out[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(h01, h23));
  };
  __m256 low[4];
  __m256 high[4];
  half(p, low);
  half(p + 8 * ld, high);
  for (int i = 0; i < 4; ++i) v[i] = {low[i], high[i]};
}

#else

struct lanes {
  float v[16];
};
inline constexpr int row_tile_expand = 1;
inline constexpr int vector_tile_expand = 1;
inline constexpr int rotated_rows_of_tile = 1;
inline constexpr int rotated_vectors = 1;
inline constexpr int series_rows = 1;

GRAFT_LANE lanes zero() { return {}; }
GRAFT_LANE lanes splat(float f) {
  lanes r;
  for (float& e : r.v) e = f;
  return r;
}
GRAFT_LANE lanes fma(lanes const& a, lanes const& b, lanes c) {
  for (int i = 0; i < 16; ++i) c.v[i] = std::fma(a.v[i], b.v[i], c.v[i]);
  return c;
}
GRAFT_LANE lanes mul(lanes a, lanes const& b) {
  for (int i = 0; i < 16; ++i) a.v[i] = a.v[i] * b.v[i];
  return a;
}
GRAFT_LANE lanes divide(lanes a, lanes const& b) {
  for (int i = 0; i < 16; ++i) a.v[i] = a.v[i] / b.v[i];
  return a;
}
GRAFT_LANE lanes add(lanes a, lanes const& b) {
  for (int i = 0; i < 16; ++i) a.v[i] = a.v[i] + b.v[i];
  return a;
}
template <class T>
GRAFT_LANE lanes load(T const* p) {
  lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = load_as<float>(p[i]);
  return r;
}
template <class T>
GRAFT_LANE void store(T* p, lanes const& a) {
  for (int i = 0; i < 16; ++i) p[i] = store_as<T>(a.v[i]);
}
GRAFT_LANE lanes tree16(lanes const* a) {
  lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = tree(a[i].v);
  return r;
}
GRAFT_LANE lanes tree8(lanes const* a) {
  lanes r = {};
  for (int i = 0; i < 8; ++i) r.v[i] = tree(a[i].v);
  return r;
}
GRAFT_LANE void transpose16(lanes* v) {
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < i; ++j) std::swap(v[i].v[j], v[j].v[i]);
}
/// v[k] lane l = p[l * ld + k] for k < 4.
GRAFT_LANE void load_transposed4(lanes* v, float const* p, index_t ld) {
  for (int k = 0; k < 4; ++k)
    for (int l = 0; l < 16; ++l) v[k].v[l] = p[l * ld + k];
}

#endif

/// The first `count` of sixteen; the others are +0. No part of their callers: copies of so many bytes are calls anyhow.
template <class T>
__attribute__((noinline)) lanes load_part(T const* p, index_t count) {
  T t[16];
  std::memset(static_cast<void*>(t), 0, sizeof t);
  std::memcpy(static_cast<void*>(t), p, sizeof(T) * static_cast<std::size_t>(count));
  return load(t);
}
template <class T>
__attribute__((noinline)) void store_part(T* p, lanes const& a, index_t count) {
  T t[16];
  store(t, a);
  std::memcpy(static_cast<void*>(p), t, sizeof(T) * static_cast<std::size_t>(count));
}
/// v[k] lane l = p[l * ld + k] for k < 16.
GRAFT_INLINE void load_transposed(lanes* v, float const* p, index_t ld) {
  for (int i = 0; i < 16; ++i) v[i] = load(p + i * ld);
  transpose16(v);
}

#endif

}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL
