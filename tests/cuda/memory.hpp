// What tests on a device share: memory that the host touches too, a stream with scratch and a record, and what to do
// without a device.
#pragma once

#include <cstddef>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <cuda_runtime.h>

#include <catch2/catch_test_macros.hpp>
#include <graft/cuda.hpp>

#include "support/memory.hpp"
#include "support/sentence.hpp"

namespace tests {

/// Why there is nothing to run on, or nothing.
[[nodiscard]] inline std::string no_device() {
  int count = 0;
  cudaError_t const error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return std::string("no CUDA device: ") + cudaGetErrorString(error);
  }
  return count == 0 ? "no CUDA device: there is none" : "";
}
/// The first line of every test case.
#define GRAFT_TESTS_NEED_DEVICE() \
  if (std::string const why = tests::no_device(); !why.empty()) SKIP(why)

inline void right(cudaError_t error, std::string_view what) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}
[[nodiscard]] inline int attribute(cudaDeviceAttr a) {
  int value = 0;
  right(cudaDeviceGetAttribute(&value, a, 0), "cudaDeviceGetAttribute");
  return value;
}

/// Managed memory. Nothing that the device may still use goes back; and nothing runs while some is made, since the hosts of
/// some systems may touch none meanwhile.
template <class T>
struct managed_allocator {
  using value_type = T;
  managed_allocator() = default;
  template <class U>
  explicit managed_allocator(managed_allocator<U> const&) {}
  [[nodiscard]] T* allocate(std::size_t count) {
    right(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    void* data = nullptr;
    right(cudaMallocManaged(&data, count == 0 ? 1 : sizeof(T) * count), "cudaMallocManaged");
    return static_cast<T*>(data);
  }
  void deallocate(T* data, std::size_t) {
    static_cast<void>(cudaDeviceSynchronize());
    static_cast<void>(cudaFree(data));
  }
  friend bool operator==(managed_allocator const&, managed_allocator const&) { return true; }
};
template <class T>
using managed = std::vector<T, managed_allocator<T>>;

/// As `host_memory`; matrices of any strides.
struct managed_memory : host_memory {
  using space = graft::shared_space;
  template <class T>
  using vector = managed<T>;
};
/// The type of matrices knows that rows have unit stride: bodies may read four elements at a time.
struct managed_rows : managed_memory {
  static constexpr int unit_dimension = 1;
};

/// A stream of its own, so much memory of the device for scratch, and a record.
class stream {
 public:
  explicit stream(std::size_t scratch = std::size_t{64} << 20U) : record(1) {
    right(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    right(cudaMalloc(&data_, scratch), "cudaMalloc");
    arena = graft::scratch_arena(data_, scratch);
  }
  stream(stream const&) = delete;
  stream& operator=(stream const&) = delete;
  ~stream() {
    static_cast<void>(cudaStreamSynchronize(handle));
    static_cast<void>(cudaFree(data_));
    static_cast<void>(cudaStreamDestroy(handle));
  }
  [[nodiscard]] graft::cuda_stream_executor executor() {
    return {.stream = handle, .scratch = &arena, .faults = record.data()};
  }

  cudaStream_t handle = nullptr;
  graft::scratch_arena arena{nullptr, 0};
  managed<graft::fault_record> record;

 private:
  void* data_ = nullptr;
};

}  // namespace tests
