// A device without one: work is queued when a verb is called and runs at the next fence, on memory that nothing else can
// touch.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <graft/graft.hpp>

#include "support/device_dot.hpp"

namespace tests {

/// Memory that faults when it is touched while no `host_access` lives. Blocks are never handed out twice while any is in
/// use, so queued work may outlive a block.
class far_memory {
 public:
  struct host_access {
    host_access() {
      if (accesses++ == 0) protect(PROT_READ | PROT_WRITE);
    }
    ~host_access() {
      if (--accesses == 0) protect(PROT_NONE);
    }
    host_access(host_access const&) = delete;
    host_access& operator=(host_access const&) = delete;
  };
  [[nodiscard]] static void* allocate(std::size_t bytes) {
    std::size_t const at = used;
    used += (bytes + 63) / 64 * 64 + 64;
    if (used > size) throw std::bad_alloc();
    ++blocks;
    return start() + at;
  }
  static void deallocate() {
    if (--blocks == 0) used = 0;
  }

 private:
  static constexpr std::size_t size = std::size_t{256} << 20U;
  inline static int accesses = 0;
  inline static int blocks = 0;
  inline static std::size_t used = 0;

  static std::byte* start() {
    static auto* const data = [] {
      void* const got = ::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (got == MAP_FAILED) throw std::bad_alloc();
      return static_cast<std::byte*>(got);
    }();
    return data;
  }
  static void protect(int how) {
    if (::mprotect(start(), size, how) != 0) std::abort();
  }
};
template <class T>
struct far_allocator {
  using value_type = T;
  far_allocator() = default;
  template <class U>
  explicit far_allocator(far_allocator<U> const&) {}
  [[nodiscard]] T* allocate(std::size_t count) { return static_cast<T*>(far_memory::allocate(sizeof(T) * count)); }
  void deallocate(T*, std::size_t) { far_memory::deallocate(); }
  friend bool operator==(far_allocator const&, far_allocator const&) { return true; }
};
/// Where the tensors of tests lie; see support/memory.hpp.
struct deferred_memory {
  using space = graft::device_space;
  static constexpr int unit_dimension = graft::no_unit_dimension;
  template <class T>
  using vector = std::vector<T, far_allocator<T>>;
  using host_access = far_memory::host_access;
};

/// A team of a device: many lanes, dots as four threads make them, and what may run in any order from last to first.
template <int Rows>
struct deferred_team {
  static constexpr int row_block = Rows;
  graft::index_t rank;
  int threads;
  std::byte* memory;

  [[nodiscard]] graft::index_t league_rank() const { return rank; }
  [[nodiscard]] int lanes() const { return threads; }
  void barrier() const {}
  template <class T>
  [[nodiscard]] T* scratch(graft::index_t) const {
    return reinterpret_cast<T*>(memory);
  }
  template <class F>
  void groups(graft::index_t count, F const& f) const {
    for (graft::index_t i = count; i-- > 0;) f(i);
  }
  template <class F>
  void vector(graft::index_t count, F const& f) const {
    for (graft::index_t i = count; i-- > 0;) f(i);
  }
  template <class F>
  void once(F const& f) const {
    f();
  }
  template <class Accumulate, int R, class W, class X>
  void dot(graft::index_t k0, graft::index_t k1, W const& w, X const& x, Accumulate (&out)[R]) const {
    Accumulate all[graft::group_threads][R];
    tests::dots_of_group(k0, k1, w, x, all);
    for (int t = 0; t < R; ++t) out[t] = all[static_cast<int>(k1 % graft::group_threads)][t];
  }
};
static_assert(graft::wide_team<deferred_team<4>>);

/// Launches that wait. Bodies are kept as bytes, as parameters of kernels are.
class work_queue {
 public:
  std::vector<std::string> verbs;  // of all that was ever enqueued

  template <class Body, int Rows>
  void push(Body const& body, graft::index_t size, graft::detail::launch_shape const& shape, std::byte* global) {
    launch one{size, shape, global, {}, &run<Body, Rows>};
    one.body.resize(sizeof(Body) / sizeof(block) + 1);
    std::memcpy(static_cast<void*>(one.body.data()), static_cast<void const*>(&body), sizeof(Body));
    waiting_.push_back(std::move(one));
  }
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }
  void forget() { waiting_.clear(); }
  void run_all() {
    far_memory::host_access const access;
    spoil_stack();
    for (launch const& one : waiting_) one.run(one);
    waiting_.clear();
  }

 private:
  struct alignas(64) block {
    std::byte bytes[64];
  };
  struct launch {
    graft::index_t size;
    graft::detail::launch_shape shape;
    std::byte* global;
    std::vector<block> body;
    void (*run)(launch const&);
  };
  template <class Body, int Rows>
  static void run(launch const& one) {
    auto const& body = *reinterpret_cast<Body const*>(one.body.data());
    std::vector<block> shared(one.shape.shared / sizeof(block) + 1);
    for (graft::index_t b = one.shape.blocks; b-- > 0;) {
      std::byte* const memory =
          one.shape.global == 0 ? shared.data()->bytes : one.global + static_cast<std::size_t>(b) * one.shape.global;
      std::memset(memory, 0xa5, one.shape.global == 0 ? one.shape.shared : one.shape.global);
      for (graft::index_t rank = b; rank < one.size; rank += one.shape.blocks)
        body(deferred_team<Rows>{rank, static_cast<int>(one.shape.threads), memory});
    }
  }
  /// What a verb left on the stack is gone.
  [[gnu::noinline]] static void spoil_stack() {
    unsigned char volatile stack[1U << 16U];
    for (auto& byte : stack) byte = 0xa5;
  }

  std::vector<launch> waiting_;
};

/// An executor as that of a stream, but for the device.
struct deferred {
  using space_type = graft::device_space;
  static constexpr int row_block = 4;
  static constexpr bool wide_teams = true;
  static constexpr bool ordered_scratch = true;

  work_queue* queue;
  graft::scratch_arena* scratch = nullptr;
  graft::fault_record* faults = nullptr;
  std::size_t shared = std::size_t{48} << 10U;

  [[nodiscard]] graft::scratch_arena* resource() const { return scratch; }
  [[nodiscard]] std::size_t scratch_left() const { return scratch == nullptr ? 0 : scratch->left(); }
  [[nodiscard]] static graft::index_t teams_at_once() { return 32; }
  [[nodiscard]] std::size_t league_scratch(graft::index_t size, std::size_t bytes) const {
    return graft::detail::shape_of_launch(size, bytes, graft::detail::most_threads, limits()).scratch();
  }
  template <class Body>
  void league(graft::index_t size, std::size_t bytes, Body const& body) const {
    static_assert(std::is_trivially_copyable_v<Body> && sizeof(Body) <= 4000);
    if (size == 0) return;
    auto const shape = graft::detail::shape_of_launch(size, bytes, graft::detail::lanes_of(body), limits());
    graft::detail::call_scratch const memory(*this, shape.scratch());
    queue->verbs.emplace_back(body.verb);
    queue->push<Body, row_block>(body, size, shape, memory.data());
  }
  void fence() const { queue->run_all(); }

 private:
  [[nodiscard]] graft::detail::device_limits limits() const {
    return {.processors = 3, .threads_of_processor = 512, .shared_of_block = shared};
  }
};
static_assert(graft::executor<deferred> && !graft::host_executor<deferred>);

}  // namespace tests
