// SPDX-License-Identifier: Apache-2.0
/// @file
/// Scratch memory of calls: where it comes from, when it goes back, how much there is.
#pragma once

#include <cstddef>
#include <limits>
#include <memory_resource>
#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {

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

template <class E>
inline constexpr bool has_resource = requires(E const& ex) { ex.resource(); };

/// Leagues run in the order in which they are enqueued, and scratch is reused by later ones only: it goes back at once.
template <class E>
inline constexpr bool has_ordered_scratch = requires { requires E::ordered_scratch; };

/// Where a verb takes scratch of so many bytes that its caller did not pass.
template <class E>
[[nodiscard]] std::pmr::memory_resource* resource_of(E const& ex, std::size_t bytes) {
  static_assert(
      has_resource<E>,
      "graft: this executor has no resource() to take scratch from; call the form of the verb that is given scratch");
  if constexpr (has_resource<E>) {
    std::pmr::memory_resource* const from = ex.resource();
    if (from == nullptr && bytes != 0) [[unlikely]]
      raise(argument_error(text("graft: a call needs ", bytes,
                                " bytes of scratch but its executor has none; give it a graft::scratch_arena")));
    return from;
  } else return nullptr;
}

/// True if a call can have so many bytes that outlive its leagues. Executors whose memory is limited say what is left.
template <class E>
[[nodiscard]] bool has_call_scratch(E const& ex, std::size_t bytes) {
  if constexpr (requires { ex.scratch_left(); }) return ex.scratch_left() >= bytes;
  else return has_resource<E>;
}

/// Memory for a sequence of leagues, or null. It goes back when the last of them has ended, or at once (see above).
template <class E>
class call_scratch {
 public:
  call_scratch(E const& ex, std::size_t bytes) : ex_(ex), block_(resource_of(ex, bytes), bytes) {}
  call_scratch(call_scratch const&) = delete;
  call_scratch& operator=(call_scratch const&) = delete;
  ~call_scratch() {
    if constexpr (!has_ordered_scratch<E>) ex_.fence();
  }
  [[nodiscard]] std::byte* data() const { return block_.data(); }
  /// Row-major elements from byte `at` on, in the executor's memory.
  template <class T, class... Index>
  [[nodiscard]] auto view_at(std::size_t at, Index... shape) const {
    return view_in<typename E::space_type>(reinterpret_cast<T*>(data() + at), shape...);
  }
  template <class T, class... Index>
  [[nodiscard]] auto view(Index... shape) const {
    return this->template view_at<T>(0, shape...);
  }

 private:
  E const& ex_;
  scratch_block block_;
};

}  // namespace GRAFT_TARGET
}  // namespace detail
}  // namespace graft::inline GRAFT_CONTRACT
