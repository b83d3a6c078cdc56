// SPDX-License-Identifier: Apache-2.0
/// @file
/// Which instruction set host bodies use. Every translation unit holds them at all levels, whatever it is compiled for;
/// the processor is asked once and the best level is taken. Bits are equal at every level.
#pragma once

#include <atomic>
#include <cstdlib>
#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>

/// Defined where host bodies exist beyond the baseline.
#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__)) && \
    !defined(GRAFT_BASELINE_ONLY)
#define GRAFT_HAS_LEVELS 1
#endif

namespace graft::inline GRAFT_CONTRACT {

/// baseline: what the compiler was told. avx2: AVX2, FMA and F16C. avx512: AVX-512 F, BW, DQ and VL.
/// Below avx2 a fused multiply-add is a library call on x86-64: right bits, unusable speed.
enum class isa : int { baseline = 0, avx2 = 1, avx512 = 2 };

/// "baseline", "avx2" or "avx512".
[[nodiscard]] GRAFT_FN constexpr std::string_view name(isa level) {
  return level == isa::avx512 ? "avx512" : level == isa::avx2 ? "avx2" : "baseline";
}

namespace detail {
/// The level in use; negative before it is known. One per program: `inline` and outside GRAFT_TARGET.
inline std::atomic<int> isa_in_use{-1};

inline namespace GRAFT_TARGET {
[[nodiscard]] inline isa isa_of_processor() {
#if defined(GRAFT_HAS_LEVELS) && !defined(__CUDA_ARCH__)  // clang reads host functions for the device too
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c"))
    return isa::baseline;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return isa::avx512;
  return isa::avx2;
#else
  return isa::baseline;
#endif
}

/// The processor's level, lowered by the environment variable GRAFT_ISA (baseline, avx2 or avx512) when that is set.
[[nodiscard]] inline isa isa_from_environment() {
  isa const best = isa_of_processor();
  char const* const wish = std::getenv("GRAFT_ISA");
  if (wish == nullptr || *wish == '\0') return best;
  for (isa const level : {isa::baseline, isa::avx2, isa::avx512})
    if (name(level) == wish) return level < best ? level : best;
  raise(argument_error(
      text("graft: the environment variable GRAFT_ISA is \"", wish, "\" but must be baseline, avx2 or avx512")));
}
}  // namespace GRAFT_TARGET
}  // namespace detail

inline namespace GRAFT_TARGET {

/// The level that host bodies run at.
[[nodiscard]] inline isa active_isa() {
  int level = detail::isa_in_use.load(std::memory_order_relaxed);
  if (level < 0) [[unlikely]] {
    level = static_cast<int>(detail::isa_from_environment());
    detail::isa_in_use.store(level, std::memory_order_relaxed);
  }
  return static_cast<isa>(level);
}

/// Host bodies run at this level or at the processor's, whichever is lower, from the next call on. For tests and for
/// comparing; bits do not change. Returns the level now in use.
inline isa limit_isa(isa level) {
  isa const best = detail::isa_of_processor();
  isa const now = level < best ? level : best;
  detail::isa_in_use.store(static_cast<int>(now), std::memory_order_relaxed);
  return now;
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
