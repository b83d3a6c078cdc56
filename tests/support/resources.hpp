// Memory resources that watch who takes scratch, and whether it keeps within it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <new>
#include <thread>

namespace tests {

/// Counts allocations, notes their thread, and surrounds every block with bytes that must stay as they are.
class watched_resource : public std::pmr::memory_resource {
 public:
  int allocations = 0;
  int deallocations = 0;
  std::size_t bytes = 0;
  std::size_t held = 0;
  std::size_t most = 0;  // held at one time
  std::thread::id thread{};
  bool overrun = false;

 private:
  static constexpr std::size_t fence = 4096;
  static constexpr unsigned char mark = 0xa5;

  void* do_allocate(std::size_t size, std::size_t alignment) override {
    ++allocations;
    bytes += size;
    held += size;
    most = held > most ? held : most;
    thread = std::this_thread::get_id();
    auto* const memory = static_cast<unsigned char*>(::operator new(size + 2 * fence, std::align_val_t{alignment}));
    std::memset(memory, mark, size + 2 * fence);
    return memory + fence;
  }
  void do_deallocate(void* data, std::size_t size, std::size_t alignment) override {
    ++deallocations;
    held -= size;
    auto* const memory = static_cast<unsigned char*>(data) - fence;
    for (std::size_t i = 0; i < fence; ++i) overrun = overrun || memory[i] != mark || memory[fence + size + i] != mark;
    ::operator delete(memory, std::align_val_t{alignment});
  }
  [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
    return this == &other;
  }
};

/// Has no memory.
class empty_resource : public std::pmr::memory_resource {
  void* do_allocate(std::size_t, std::size_t) override { throw std::bad_alloc{}; }
  void do_deallocate(void*, std::size_t, std::size_t) override {}
  [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
    return this == &other;
  }
};

}  // namespace tests
