// SPDX-License-Identifier: Apache-2.0
/// @file
/// What all host executors share: a team of one thread that plays its sixteen lanes, and scratch memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory_resource>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>

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
GRAFT_INLINE void dot_on_host(index_t k0, index_t k1, W const& w, X const& x, Accumulate (&out)[R]) {
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

/// Where a verb takes scratch that its caller did not pass.
template <class E>
[[nodiscard]] std::pmr::memory_resource* resource_of(E const& ex) {
  constexpr bool there = requires { ex.resource(); };
  static_assert(
      there,
      "graft: this executor has no resource() to take scratch from; call the form of the verb that is given scratch");
  if constexpr (there) return ex.resource();
  else return nullptr;
}

}  // namespace GRAFT_TARGET

/// One block from a memory resource, 64-byte aligned, given back at the end. Taken on the calling thread only.
class scratch_block {
 public:
  static constexpr std::size_t alignment = 64;

  scratch_block(std::pmr::memory_resource* resource, std::size_t bytes)
      : resource_(resource), bytes_(bytes), data_(bytes == 0 ? nullptr : resource->allocate(bytes, alignment)) {}
  scratch_block(scratch_block const&) = delete;
  scratch_block& operator=(scratch_block const&) = delete;
  ~scratch_block() {
    if (data_ != nullptr) resource_->deallocate(data_, bytes_, alignment);
  }
  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(data_); }

  /// Bytes that keep the next part aligned.
  [[nodiscard]] static constexpr std::size_t rounded(std::size_t bytes) {
    return (bytes + alignment - 1) / alignment * alignment;
  }

 private:
  std::pmr::memory_resource* resource_;
  std::size_t bytes_;
  void* data_;
};

inline namespace GRAFT_TARGET {

/// Bytes of rows x columns elements of `width` bytes, rounded up so that the next part stays aligned. Checked.
[[nodiscard]] inline std::size_t scratch_size(index_t rows, index_t columns, std::size_t width, std::string_view verb) {
  constexpr index_t most = (std::numeric_limits<index_t>::max)() - static_cast<index_t>(scratch_block::alignment);
  index_t const bytes = checked_product(checked_product(rows, columns, verb), static_cast<index_t>(width), verb);
  if (bytes > most)
    raise(shape_error(text("graft: ", verb, ": ", rows, " x ", columns, " elements of scratch overflow 64 bits")));
  return scratch_block::rounded(static_cast<std::size_t>(bytes));
}

template <class E>
inline constexpr bool says_teams_at_once = requires(E const& ex) { ex.teams_at_once(); };

/// How many teams the executor says that it runs at once; a smaller league leaves some of it idle. 1 where it does not say.
template <class E>
[[nodiscard]] index_t teams_at_once(E const& ex) {
  if constexpr (says_teams_at_once<E>) return ex.teams_at_once();
  else return 1;
}

/// True if `bytes` of memory that outlives a league can be had: from `resource()`, or of `workspace()`, a std::span that
/// its caller gave to an executor of another memory space.
template <class E>
[[nodiscard]] bool has_call_scratch(E const& ex, std::size_t bytes) {
  if constexpr (requires { ex.resource(); }) return true;
  else if constexpr (requires { ex.workspace(); }) return ex.workspace().size() >= bytes;
  else return false;
}

/// That memory, for a sequence of leagues. What came from `resource()` goes back when the last of them has ended.
template <class E>
class call_scratch {
 public:
  call_scratch(E const& ex, std::size_t bytes) : ex_(ex), block_(resource(ex), owns ? bytes : 0) {}
  call_scratch(call_scratch const&) = delete;
  call_scratch& operator=(call_scratch const&) = delete;
  ~call_scratch() {
    if constexpr (owns) ex_.fence();
  }
  [[nodiscard]] std::byte* data() const {
    if constexpr (!owns && requires { ex_.workspace(); }) return ex_.workspace().data();
    else return block_.data();
  }

 private:
  static constexpr bool owns = requires(E const& ex) { ex.resource(); };
  static std::pmr::memory_resource* resource(E const& ex) {
    if constexpr (owns) return ex.resource();
    else return nullptr;
  }
  E const& ex_;
  scratch_block block_;
};

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

/// A team of one host thread.
template <int Rows>
struct host_team {
  static constexpr int row_block = Rows;
  index_t rank;
  std::byte* memory;

  [[nodiscard]] GRAFT_INLINE index_t league_rank() const { return rank; }
  GRAFT_INLINE void barrier() const {}
  template <class T>
  [[nodiscard]] GRAFT_INLINE T* scratch(index_t) const {
    return reinterpret_cast<T*>(memory);
  }
  template <class F>
  GRAFT_INLINE void groups(index_t count, F const& f) const {
    for (index_t i = 0; i < count; ++i) f(i);
  }
  template <class F>
  GRAFT_INLINE void vector(index_t count, F const& f) const {
    for (index_t i = 0; i < count; ++i) f(i);
  }
  template <class F>
  GRAFT_INLINE void once(F const& f) const {
    f();
  }
  template <class Accumulate, int R, class W, class X>
  GRAFT_INLINE void dot(index_t k0, index_t k1, W const& w, X const& x, Accumulate (&out)[R]) const {
    detail::dot_on_host(k0, k1, w, x, out);
  }
};

/// The only worker of a region that runs on its caller.
struct only_worker {
  [[nodiscard]] static constexpr int index() { return 0; }
  [[nodiscard]] static constexpr int size() { return 1; }
  static void barrier() {}
};

}  // namespace graft::inline GRAFT_CONTRACT
