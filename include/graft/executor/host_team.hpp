// SPDX-License-Identifier: Apache-2.0
/// @file
/// What all host executors share: a team of one thread that plays its sixteen lanes.
#pragma once

#include <cmath>
#include <cstddef>
#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/scratch.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Lanes of a group.
inline constexpr int group_lanes = 16;

namespace detail {
inline namespace GRAFT_TARGET {

/// The one tree over sixteen lanes: offsets 8, 4, 2, 1. Also what a 16-lane xor shuffle gives.
template <class Accumulate>
GRAFT_FN Accumulate tree(Accumulate const* lane) {
  Accumulate a[8];
  for (int i = 0; i < 8; ++i) a[i] = lane[i] + lane[i + 8];
  for (int i = 0; i < 4; ++i) a[i] = a[i] + a[i + 4];
  a[0] = a[0] + a[2];
  a[1] = a[1] + a[3];
  return a[0] + a[1];
}

/// team::dot on a host: the lanes are an array that compilers vectorise over.
template <class Accumulate, int R, class W, class X>
GRAFT_FN void dot_on_host(index_t k0, index_t k1, W const& w, X const& x, Accumulate (&out)[R]) {
  Accumulate lane[R][group_lanes] = {};
  Accumulate f[group_lanes];
  index_t k = k0;
  for (; k + group_lanes <= k1; k += group_lanes) {
    for (int l = 0; l < group_lanes; ++l) f[l] = w(k + l);
    for (int t = 0; t < R; ++t)
      for (int l = 0; l < group_lanes; ++l) lane[t][l] = std::fma(x(t, k + l), f[l], lane[t][l]);
  }
  if (k < k1)
    for (int t = 0; t < R; ++t)
      for (int l = 0; l < group_lanes; ++l) {
        bool const there = k + l < k1;
        lane[t][l] = std::fma(there ? x(t, k + l) : Accumulate{0}, there ? w(k + l) : Accumulate{0}, lane[t][l]);
      }
  for (int t = 0; t < R; ++t) out[t] = detail::tree(lane[t]);
}

}  // namespace GRAFT_TARGET
}  // namespace detail

/// A team of one host thread. All members are GRAFT_FN, so that nvcc compiles bodies for `reference` too.
template <int Rows>
struct host_team {
  static constexpr int row_block = Rows;
  index_t rank;
  std::byte* memory;

  [[nodiscard]] GRAFT_FN index_t league_rank() const { return rank; }
  GRAFT_FN void barrier() const {}
  template <class T>
  [[nodiscard]] GRAFT_FN T* scratch(index_t) const {
    return reinterpret_cast<T*>(memory);
  }
  template <class F>
  GRAFT_FN void groups(index_t count, F const& f) const {
    for (index_t i = 0; i < count; ++i) f(i);
  }
  template <class F>
  GRAFT_FN void vector(index_t count, F const& f) const {
    for (index_t i = 0; i < count; ++i) f(i);
  }
  template <class F>
  GRAFT_FN void once(F const& f) const {
    f();
  }
  template <class Accumulate, int R, class W, class X>
  GRAFT_FN void dot(index_t k0, index_t k1, W const& w, X const& x, Accumulate (&out)[R]) const {
    detail::dot_on_host(k0, k1, w, x, out);
  }
};

namespace detail {
inline namespace GRAFT_TARGET {
/// Teams [first, last) of a league, one after the other. Not inlined: all host executors share one body.
template <int Rows, class Body>
__attribute__((noinline)) void run_teams(Body const& body, index_t first, index_t last, std::byte* memory) {
  for (index_t i = first; i < last; ++i) body(host_team<Rows>{i, memory});
}
/// What a host body runs in a region, with the name of its verb.
template <class F>
struct verb_region {
  std::string_view verb;
  F f;
  template <class Worker>
  GRAFT_INLINE void operator()(Worker const& w) const {
    f(w);
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

/// The only worker of a region that runs on its caller.
struct only_worker {
  [[nodiscard]] static constexpr int index() { return 0; }
  [[nodiscard]] static constexpr int size() { return 1; }
  static void barrier() {}
};

}  // namespace graft::inline GRAFT_CONTRACT
