// SPDX-License-Identifier: Apache-2.0
// The loops of limits.cpp at one level: included once per level, inside a region of its target attributes.
namespace limits_loops::GRAFT_LEVEL {

#if GRAFT_LEVEL_NUMBER == 2
constexpr std::size_t width = 64;
#elif GRAFT_LEVEL_NUMBER == 1
constexpr std::size_t width = 32;
#else
constexpr std::size_t width = 16;
#endif
using words [[gnu::vector_size(width), gnu::may_alias]] = std::int64_t;
using lanes [[gnu::vector_size(width), gnu::may_alias]] = float;
constexpr int wide = 8;  // vectors of a step: bytes are multiples of 512

inline void read(char const* from, char*, std::size_t bytes, long times) {
  words sum[wide] = {};
  for (long i = 0; i < times; ++i) {
    for (std::size_t k = 0; k < bytes; k += wide * width)
#pragma GCC unroll 8
      for (int j = 0; j < wide; ++j)
        sum[j] |= *reinterpret_cast<words const*>(from + k + width * static_cast<std::size_t>(j));
    asm volatile("" ::: "memory");
  }
  for (int j = 1; j < wide; ++j) sum[0] |= sum[j];
  std::int64_t volatile kept = sum[0][0] | sum[0][1];
  static_cast<void>(kept);
}

inline void copy(char const* from, char* to, std::size_t bytes, long times) {
  for (long i = 0; i < times; ++i) {
    for (std::size_t k = 0; k < bytes; k += wide * width)
#pragma GCC unroll 8
      for (std::size_t j = 0; j < wide * width; j += width)
        *reinterpret_cast<lanes*>(to + k + j) = *reinterpret_cast<lanes const*>(from + k + j);
    asm volatile("" ::: "memory");
  }
}

inline void update(char const*, char* to, std::size_t bytes, long times) {
  for (long i = 0; i < times; ++i) {
    for (std::size_t k = 0; k < bytes; k += wide * width)
#pragma GCC unroll 8
      for (std::size_t j = 0; j < wide * width; j += width) *reinterpret_cast<lanes*>(to + k + j) *= 0.5F;
    asm volatile("" ::: "memory");
  }
}

inline void stream_copy(char const* from, char* to, std::size_t bytes, long times) {
  for (long i = 0; i < times; ++i) {
    for (std::size_t k = 0; k < bytes; k += wide * width)
#pragma GCC unroll 8
      for (std::size_t j = 0; j < wide * width; j += width) {
        lanes const v = *reinterpret_cast<lanes const*>(from + k + j);
#if GRAFT_LEVEL_NUMBER == 2
        _mm512_stream_ps(reinterpret_cast<float*>(to + k + j), v);
#elif GRAFT_LEVEL_NUMBER == 1
        _mm256_stream_ps(reinterpret_cast<float*>(to + k + j), v);
#elif defined(__SSE2__)
        _mm_stream_ps(reinterpret_cast<float*>(to + k + j), v);
#else
        *reinterpret_cast<lanes*>(to + k + j) = v;
#endif
      }
#if defined(__SSE2__)
    _mm_sfence();
#endif
    asm volatile("" ::: "memory");
  }
}

// Twelve sums, so that none waits for itself; they converge to 1. Returns flops of one time.
inline double fma(long times) {
  lanes sum[12];
  lanes const x = lanes{} + 0.75F;
  lanes const y = lanes{} + 0.25F;
  for (int j = 0; j < 12; ++j) sum[j] = lanes{} + static_cast<float>(j);
  for (long i = 0; i < times; ++i)
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) {
#if GRAFT_LEVEL_NUMBER == 2
      sum[j] = _mm512_fmadd_ps(sum[j], x, y);
#elif GRAFT_LEVEL_NUMBER == 1
      sum[j] = _mm256_fmadd_ps(sum[j], x, y);
#else
      sum[j] = sum[j] * x + y;
#endif
    }
  for (int j = 1; j < 12; ++j) sum[0] += sum[j];
  float volatile kept = sum[0][0] + sum[0][3];
  static_cast<void>(kept);
  return 12.0 * 2.0 * static_cast<double>(width / sizeof(float));
}

constexpr functions table{{&read, &copy, &update, &stream_copy}, &fma};

}  // namespace limits_loops::GRAFT_LEVEL
