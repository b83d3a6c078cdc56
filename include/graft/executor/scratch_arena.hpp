// SPDX-License-Identifier: Apache-2.0
/// @file
/// `scratch_arena`: memory of the caller's as a resource for scratch. Executors of devices take theirs from nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>

#include <graft/config.hpp>
#include <graft/contracts.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Hands out one block of memory from its front and takes it back in reverse order, as verbs do. The memory may lie in any
/// memory space: it is never touched here. One arena serves one stream (one thread) at a time.
///
///     graft::scratch_arena scratch(device_pointer, bytes);
///     graft::cuda_stream_executor ex{.stream = stream, .scratch = &scratch};
///
/// Errors       argument_error, naming what is wanted and what is left, when it is too small; a call may have enqueued part of its work then.
class scratch_arena : public std::pmr::memory_resource {
 public:
  scratch_arena(void* data, std::size_t bytes) : data_(static_cast<std::byte*>(data)), bytes_(bytes) {}
  explicit scratch_arena(std::span<std::byte> memory) : scratch_arena(memory.data(), memory.size()) {}

  /// Bytes that a block of `alignment` may still have.
  [[nodiscard]] std::size_t left(std::size_t alignment = 64) const {
    std::size_t const skipped = padding(alignment);
    return bytes_ - used_ > skipped ? bytes_ - used_ - skipped : 0;
  }
  [[nodiscard]] std::size_t used() const { return used_; }
  /// The most that was ever used at one time.
  [[nodiscard]] std::size_t most() const { return most_; }

 private:
  [[nodiscard]] std::size_t padding(std::size_t alignment) const {
    auto const at = reinterpret_cast<std::uintptr_t>(data_) + used_;
    return static_cast<std::size_t>((alignment - at % alignment) % alignment);
  }
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    if (bytes > left(alignment)) [[unlikely]]
      detail::raise(argument_error(
          detail::text("graft::scratch_arena: a call needs ", bytes, " bytes more of scratch but ", left(alignment),
                       " of ", bytes_, " are left; graft::scratch_bytes(ex, call) says how many a call takes")));
    used_ += padding(alignment);
    std::byte* const block = data_ + used_;
    used_ += bytes;
    if (used_ > most_) most_ = used_;
    return block;
  }
  /// What was skipped before a block stays skipped until the block before it goes back.
  void do_deallocate(void* block, std::size_t, std::size_t) override {
    used_ = static_cast<std::size_t>(static_cast<std::byte*>(block) - data_);
  }
  [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
    return this == &other;
  }

  std::byte* data_;
  std::size_t bytes_;
  std::size_t used_ = 0;
  std::size_t most_ = 0;
};

}  // namespace graft::inline GRAFT_CONTRACT
