// SPDX-License-Identifier: Apache-2.0
#include "limits.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>

#include <omp.h>
#include <sys/mman.h>

#include <graft/executor/isa.hpp>

#if defined(GRAFT_HAS_LEVELS)
#include <immintrin.h>
#endif

namespace {

namespace limits_loops {
struct functions {
  void (*traffic[4])(char const* from, char* to, std::size_t bytes, long times);
  double (*fma)(long times);
};
}  // namespace limits_loops

#define GRAFT_LEVEL baseline
#define GRAFT_LEVEL_NUMBER 0
#include "limits_loops.inl.hpp"
#undef GRAFT_LEVEL
#undef GRAFT_LEVEL_NUMBER

#if defined(GRAFT_HAS_LEVELS)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define GRAFT_LEVEL avx2
#define GRAFT_LEVEL_NUMBER 1
#include "limits_loops.inl.hpp"
#undef GRAFT_LEVEL
#undef GRAFT_LEVEL_NUMBER
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx2,fma,prefer-vector-width=512")
#endif
#define GRAFT_LEVEL avx512
#define GRAFT_LEVEL_NUMBER 2
#include "limits_loops.inl.hpp"
#undef GRAFT_LEVEL
#undef GRAFT_LEVEL_NUMBER
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

limits_loops::functions const& loops() {
#if defined(GRAFT_HAS_LEVELS)
  if (graft_limits_isa() == 2) return limits_loops::avx512::table;
  if (graft_limits_isa() == 1) return limits_loops::avx2::table;
#endif
  return limits_loops::baseline::table;
}

#if defined(GRAFT_HAS_LEVELS)
[[gnu::target("avx512f,avx512bf16")]] void bf16_dots(long times) {
  __m512 sum[12];
  for (auto& s : sum) s = _mm512_set1_ps(1);
  __m512i ones = _mm512_set1_epi32(0x3f803f80);
  asm volatile("" : "+v"(ones));
  for (long i = 0; i < times; ++i)
    for (auto& s : sum) s = _mm512_dpbf16_ps(s, reinterpret_cast<__m512bh>(ones), reinterpret_cast<__m512bh>(ones));
  for (auto& s : sum) asm volatile("" : "+v"(s));
}
#endif

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Seconds of one time: rounds of as many times as a hundred microseconds need, until `seconds` are over.
/// `round(times)` returns the seconds of its slowest thread.
template <class Round>
double fastest(double seconds, Round const& round) {
  double const end = now() + seconds;
  double best = 1e300;
  long times = 1;
  do {
    double const t = round(times);
    if (t >= 100e-6 || times > (1L << 40)) best = std::min(best, t / static_cast<double>(times));
    else times *= t > 25e-6 ? 2 : 4;
  } while (best == 1e300 || now() < end);
  return best;
}

/// The slowest thread's seconds of `part(thread)`, begun together.
template <class Part>
double together(int threads, Part const& part) {
  double slowest = 0;
#pragma omp parallel num_threads(threads) reduction(max : slowest)
  {
#pragma omp barrier
    double const start = now();
    part(omp_get_thread_num());
    slowest = now() - start;
  }
  return slowest;
}

/// Memory in huge pages where there are any.
struct pages {
  explicit pages(std::size_t count)
      : bytes((count + huge - 1) / huge * huge + huge),
        all(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (!*this) return;
#if defined(MADV_HUGEPAGE)
    madvise(all, bytes, MADV_HUGEPAGE);
#endif
    first = static_cast<char*>(all);
    first += (huge - reinterpret_cast<std::uintptr_t>(first) % huge) % huge;
  }
  pages(pages const&) = delete;
  pages& operator=(pages const&) = delete;
  ~pages() {
    if (*this) munmap(all, bytes);
  }
  explicit operator bool() const { return all != MAP_FAILED; }
  static constexpr std::size_t huge = std::size_t{1} << 21;
  std::size_t bytes;
  void* all;
  char* first = nullptr;
};

}  // namespace

int graft_limits_isa(void) { return static_cast<int>(graft::active_isa()); }
char const* graft_limits_isa_name(void) { return graft::name(graft::active_isa()).data(); }

size_t graft_limits_cache_bytes(int level) {
  std::size_t found[3] = {};
  for (int index = 0; index < 8; ++index) {
    std::string const folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    std::string type;
    int of = 0;
    std::size_t size = 0;
    std::string unit;
    if (!(std::ifstream(folder + "type") >> type) || !(std::ifstream(folder + "level") >> of) ||
        !(std::ifstream(folder + "size") >> size >> unit))
      continue;
    if (type == "Instruction" || of < 1 || of > 3) continue;
    found[of - 1] = size * (unit == "M" ? 1024 * 1024 : 1024);
  }
  if (found[2] == 0) found[2] = found[1];
  return level >= 0 && level < 3 ? found[level] : 0;
}

double graft_limits_bandwidth(int traffic, size_t bytes, int threads, double seconds) {
  bool const in_place = traffic == graft_limits_read || traffic == graft_limits_update;
  std::size_t const parts = static_cast<std::size_t>(threads) * (in_place ? 1 : 2);
  std::size_t const part = std::max<std::size_t>(bytes / parts / 1024 * 1024, 1024);
  // Not a multiple of 4096 between what is read and what is written: their addresses would look alike.
  std::size_t const apart = part + (in_place ? 0 : 1088);
  std::size_t const share = (in_place ? 1 : 2) * apart;
  std::size_t const pitch = (share + 4095) / 4096 * 4096;
  pages const memory(pitch * static_cast<std::size_t>(threads));
  if (!memory) return 0;
  auto const own = [&](int thread) { return memory.first + pitch * static_cast<std::size_t>(thread); };
  together(threads, [&](int thread) { std::memset(own(thread), 0, pitch); });
  auto const loop = loops().traffic[traffic];
  double const t = fastest(seconds, [&](long times) {
    return together(threads, [&](int thread) {
      char* const from = own(thread);
      loop(from, in_place ? from : from + apart, part, times);
    });
  });
  return static_cast<double>(part) * threads * (traffic == graft_limits_read ? 1 : 2) / t;
}

double graft_limits_fma(int threads, double seconds) {
  double const flops = loops().fma(1);
  double const t = fastest(seconds, [&](long times) { return together(threads, [&](int) { loops().fma(times); }); });
  return flops * threads / t;
}

double graft_limits_bf16_dots(int threads, double seconds) {
#if defined(GRAFT_HAS_LEVELS)
  if (graft_limits_isa() == 2 && __builtin_cpu_supports("avx512bf16"))
    return 12.0 * 64.0 * threads /
           fastest(seconds, [&](long times) { return together(threads, [&](int) { bf16_dots(times); }); });
#endif
  static_cast<void>(threads), static_cast<void>(seconds);
  return 0;
}

double graft_limits_fork_join(int threads, double seconds) {
  return fastest(seconds, [&](long times) {
    double const start = now();
    for (long i = 0; i < times; ++i) {
#pragma omp parallel num_threads(threads)
      asm volatile("" ::: "memory");
    }
    return now() - start;
  });
}

double graft_limits_barrier(int threads, double seconds) {
  return fastest(seconds, [&](long times) {
    return together(threads, [&](int) {
      for (long i = 0; i < times; ++i) {
#pragma omp barrier
      }
    });
  });
}

void graft_limits_measure(int threads, double seconds, int quick, struct graft_limits* out) {
  *out = graft_limits{};
  double const cores = threads;
  double const l1 = static_cast<double>(std::max<std::size_t>(graft_limits_cache_bytes(0), 32 << 10)) * cores;
  double const l2 = std::max(static_cast<double>(graft_limits_cache_bytes(1)) * cores, 2 * l1);
  double const last = std::max(static_cast<double>(graft_limits_cache_bytes(2)), l2);
  double const capacity[4] = {l1, l2, last, 1e300};
  // Half of a level: what lies there with the rest of a program; of memory enough that the last level keeps nothing.
  double const bytes[4] = {l1 / 2, l2 / 2, std::max(last / 2, std::min(l2 * 1.5, last)),
                           std::clamp(4 * last, 128.0 * (1 << 20), 1024.0 * (1 << 20))};
  std::copy(capacity, capacity + 4, out->capacity);
  std::copy(bytes, bytes + 4, out->bytes);
  double const each = seconds / (quick != 0 ? 11 : 19);
  out->fma = graft_limits_fma(threads, each);
  for (int traffic : {0, 1, 2, 3}) {
    if (quick != 0 && traffic != graft_limits_read && traffic != graft_limits_update) continue;
    for (int level = 0; level < graft_limits_levels; ++level)
      out->bandwidth[traffic][level] =
          graft_limits_bandwidth(traffic, static_cast<std::size_t>(bytes[level]), threads, each);
  }
  out->fork_join = graft_limits_fork_join(threads, each);
  out->barrier = graft_limits_barrier(threads, each);
}
