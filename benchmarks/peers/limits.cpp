// SPDX-License-Identifier: Apache-2.0
// What the machine allows: fused multiply-adds a second, bytes a second of a level of memory, the cost of a parallel
// region. Everything has C linkage: ctypes loads it.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include <immintrin.h>

namespace {

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

bool const avx512 = __builtin_cpu_supports("avx512f");
bool const bf16 = __builtin_cpu_supports("avx512bf16");
bool const avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");

// Kernels work on count floats, a multiple of 128, 64-byte aligned. Barriers in them keep the work from being dropped.
[[gnu::target("avx512f")]] void fma_512(std::int64_t rounds) {
  __m512 a[12];
  for (auto& v : a) v = _mm512_set1_ps(1);
  __m512 x = _mm512_set1_ps(0.999F);
  __m512 y = _mm512_set1_ps(1e-3F);
  asm volatile("" : "+v"(x), "+v"(y));
  for (std::int64_t i = 0; i < rounds; ++i) {
    for (auto& v : a) v = _mm512_fmadd_ps(v, x, y);
  }
  for (auto& v : a) asm volatile("" : "+v"(v));
}
[[gnu::target("avx2,fma")]] void fma_256(std::int64_t rounds) {
  __m256 a[12];
  for (auto& v : a) v = _mm256_set1_ps(1);
  __m256 x = _mm256_set1_ps(0.999F);
  __m256 y = _mm256_set1_ps(1e-3F);
  asm volatile("" : "+x"(x), "+x"(y));
  for (std::int64_t i = 0; i < rounds; ++i) {
    for (auto& v : a) v = _mm256_fmadd_ps(v, x, y);
  }
  for (auto& v : a) asm volatile("" : "+x"(v));
}
[[gnu::target("avx512f,avx512bf16")]] void dots_bf16(std::int64_t rounds) {
  __m512 a[12];
  for (auto& v : a) v = _mm512_set1_ps(1);
  __m512i ones = _mm512_set1_epi32(0x3f803f80);
  asm volatile("" : "+v"(ones));
  for (std::int64_t i = 0; i < rounds; ++i) {
    for (auto& v : a) v = _mm512_dpbf16_ps(v, reinterpret_cast<__m512bh>(ones), reinterpret_cast<__m512bh>(ones));
  }
  for (auto& v : a) asm volatile("" : "+v"(v));
}

[[gnu::target("avx512f")]] void read_512(float const* p, std::size_t count) {
  __m512i a[8] = {};
  for (std::size_t i = 0; i < count; i += 128) {
    for (std::size_t j = 0; j < 8; ++j) a[j] = _mm512_or_si512(a[j], _mm512_load_si512(p + i + 16 * j));
  }
  for (auto& v : a) asm volatile("" : "+v"(v));
}
[[gnu::target("avx2")]] void read_256(float const* p, std::size_t count) {
  __m256i a[8] = {};
  for (std::size_t i = 0; i < count; i += 64) {
    for (std::size_t j = 0; j < 8; ++j)
      a[j] = _mm256_or_si256(a[j], _mm256_load_si256(reinterpret_cast<__m256i const*>(p + i + 8 * j)));
  }
  for (auto& v : a) asm volatile("" : "+x"(v));
}

[[gnu::target("avx512f")]] void update_512(float* p, std::size_t count) {
  __m512 one = _mm512_set1_ps(1);
  asm volatile("" : "+v"(one));
  for (std::size_t i = 0; i < count; i += 16) _mm512_store_ps(p + i, _mm512_mul_ps(_mm512_load_ps(p + i), one));
}
[[gnu::target("avx2")]] void update_256(float* p, std::size_t count) {
  __m256 one = _mm256_set1_ps(1);
  asm volatile("" : "+x"(one));
  for (std::size_t i = 0; i < count; i += 8) _mm256_store_ps(p + i, _mm256_mul_ps(_mm256_load_ps(p + i), one));
}

// The second half of p from the first, past the caches: streaming stores.
[[gnu::target("avx512f")]] void copy_512(float* p, std::size_t count) {
  for (std::size_t i = 0; i < count / 2; i += 16) _mm512_stream_ps(p + count / 2 + i, _mm512_load_ps(p + i));
  _mm_sfence();
}
[[gnu::target("avx2")]] void copy_256(float* p, std::size_t count) {
  for (std::size_t i = 0; i < count / 2; i += 8) _mm256_stream_ps(p + count / 2 + i, _mm256_load_ps(p + i));
  _mm_sfence();
}

/// The least time of `trials` runs of work(thread) on `threads` threads.
template <class Work>
double best(int threads, int trials, Work const& work) {
  double least = 1e30;
  for (int trial = 0; trial < trials; ++trial) {
    double const start = seconds();
#pragma omp parallel num_threads(threads)
    work(omp_get_thread_num());
    least = std::min(least, seconds() - start);
  }
  return least;
}

}  // namespace

extern "C" {

/// 512, 256, or 0: nothing here was measured.
int limits_vector_bits() { return avx512 ? 512 : avx2 ? 256 : 0; }

/// fp32 flop/s, a fused multiply-add being two.
double limits_fma(int threads) {
  constexpr std::int64_t rounds = 400000;
  double const time = best(threads, 8, [](int) {
    if (avx512) fma_512(rounds);
    else if (avx2) fma_256(rounds);
  });
  return 2. * 12 * (avx512 ? 16 : 8) * static_cast<double>(rounds) * threads / time;
}

/// The same of vdpbf16ps, which graft does not use (other rounding, no denormals); 0 where there is none.
double limits_bf16_dots(int threads) {
  constexpr std::int64_t rounds = 400000;
  if (!bf16) return 0;
  double const time = best(threads, 8, [](int) { dots_bf16(rounds); });
  return 2. * 12 * 32 * static_cast<double>(rounds) * threads / time;
}

/// Bytes a second that threads read (kind 0), read and write in place (1: both counted) or copy past the caches (2:
/// both counted), each over its own part of `bytes` of memory, again and again.
double limits_bytes(int kind, int threads, std::size_t bytes, int trials) {
  std::size_t const part = bytes / static_cast<std::size_t>(threads) / sizeof(float) / 256 * 256;
  std::size_t const all = part * static_cast<std::size_t>(threads) * sizeof(float);
  auto* const memory = static_cast<float*>(std::aligned_alloc(4096, (all + 4095) / 4096 * 4096));
  if (memory == nullptr || part == 0) return 0;
  auto const passes = static_cast<int>(std::max<std::size_t>(1, (std::size_t{1} << 26) / all));
  auto const work = [&](int thread) {
    float* const p = memory + static_cast<std::size_t>(thread) * part;
    for (int pass = 0; pass < passes; ++pass) {
      if (kind == 0) avx512 ? read_512(p, part) : read_256(p, part);
      else if (kind == 1) avx512 ? update_512(p, part) : update_256(p, part);
      else avx512 ? copy_512(p, part) : copy_256(p, part);
      asm volatile("" ::: "memory");
    }
  };
  best(threads, 1, [&](int thread) {  // pages are placed by the threads that use them
    float* const p = memory + static_cast<std::size_t>(thread) * part;
    std::fill(p, p + part, 1.0F);
  });
  double const time = best(threads, trials, work);
  std::free(memory);
  return (kind == 1 ? 2. : 1.) * static_cast<double>(all) * passes / time;
}

/// Seconds of an empty parallel region, the median of many.
double limits_fork_join(int threads) {
  double times[101];
  for (auto& time : times) {
    double const start = seconds();
    for (int i = 0; i < 100; ++i) {
#pragma omp parallel num_threads(threads)
      asm volatile("" ::: "memory");
    }
    time = (seconds() - start) / 100;
  }
  std::nth_element(times, times + 50, times + 101);
  return times[50];
}
}
