// SPDX-License-Identifier: Apache-2.0
/// @file
/// What teams of devices share: a group is four threads side by side, each of which plays four of the sixteen lanes that follow
/// each other. So a thread reads four elements at a time, and a group reads sixteen that are one or two sectors of memory.
#pragma once

#include <cmath>

#include <graft/config.hpp>
#include <graft/contracts.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Threads of a group on a device, and lanes that each of them plays.
inline constexpr int group_threads = 4;
inline constexpr int thread_lanes = 4;

namespace detail {

/// Terms that come four at a time: `terms.four(index..., k, out)` where `terms.packed()` holds.
template <class Terms>
inline constexpr bool comes_in_fours = requires(Terms const& terms) { terms.packed(); };

inline namespace GRAFT_TARGET {

/// The sums of the lanes that thread `q` of a group plays: lane[t][l] is number 4 q + l.
template <class Accumulate, int R, class W, class X>
GRAFT_FN void sums_of_thread(int q, index_t k0, index_t k1, W const& w, X const& x,
                             Accumulate (&lane)[R][thread_lanes]) {
  for (int t = 0; t < R; ++t)
    for (int l = 0; l < thread_lanes; ++l) lane[t][l] = Accumulate{0};
  index_t const whole = k0 + (k1 - k0) / 16 * 16;
  index_t k = k0 + thread_lanes * q;
  if constexpr (comes_in_fours<W> && comes_in_fours<X>)
    if (w.packed() && x.packed()) {
#if defined(__CUDA_ARCH__)
#pragma unroll 1
#endif
      for (; k < whole; k += 16) {
        Accumulate f[thread_lanes];
        Accumulate e[R][thread_lanes];
        w.four(k, f);
        for (int t = 0; t < R; ++t) x.four(t, k, e[t]);
        for (int t = 0; t < R; ++t)
          for (int l = 0; l < thread_lanes; ++l) lane[t][l] = std::fma(e[t][l], f[l], lane[t][l]);
      }
    }
#if defined(__CUDA_ARCH__)
#pragma unroll 1
#endif
  for (; k < whole; k += 16)
#if defined(__CUDA_ARCH__)
#pragma unroll  // lanes stay in registers
#endif
    for (int l = 0; l < thread_lanes; ++l) {
      Accumulate const f = w(k + l);
      for (int t = 0; t < R; ++t) lane[t][l] = std::fma(x(t, k + l), f, lane[t][l]);
    }
  if (whole < k1)
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
    for (int l = 0; l < thread_lanes; ++l) {
      bool const there = k + l < k1;  // what is missing counts as +0 times +0, as on hosts
      Accumulate const f = there ? w(k + l) : Accumulate{0};
      for (int t = 0; t < R; ++t) lane[t][l] = std::fma(there ? x(t, k + l) : Accumulate{0}, f, lane[t][l]);
    }
}

/// The tree over sixteen lanes, offsets 8, 4, 2, 1. `other(value, offset)`: what the thread of the group has whose number differs
/// by that bit.
template <class Accumulate, int R, class Other>
GRAFT_FN void tree_over_threads(Accumulate (&lane)[R][thread_lanes], Other const& other, Accumulate (&out)[R]) {
  for (int offset = group_threads / 2; offset > 0; offset /= 2)
    for (int t = 0; t < R; ++t)
      for (int l = 0; l < thread_lanes; ++l) lane[t][l] = lane[t][l] + other(lane[t][l], offset);
  for (int t = 0; t < R; ++t) out[t] = (lane[t][0] + lane[t][2]) + (lane[t][1] + lane[t][3]);
}

#if defined(__CUDACC__)
/// team::dot by the four threads of `mask`, a part of a warp; `q` is the number of this one.
template <class Accumulate, int R, class W, class X>
__device__ __forceinline__ void dot_on_device(int q, unsigned mask, index_t k0, index_t k1, W const& w, X const& x,
                                              Accumulate (&out)[R]) {
  Accumulate lane[R][thread_lanes];
  sums_of_thread(q, k0, k1, w, x, lane);
  tree_over_threads(
      lane, [mask](Accumulate value, int offset) { return __shfl_xor_sync(mask, value, offset, group_threads); }, out);
}
#endif

}  // namespace GRAFT_TARGET
}  // namespace detail
}  // namespace graft::inline GRAFT_CONTRACT
