// SPDX-License-Identifier: Apache-2.0
/// @file
/// `cuda_stream_executor`: a raw CUDA stream. Reached only through <graft/cuda.hpp>.
#pragma once

#if !defined(GRAFT_ENTRY_CUDA)
#error "include <graft/cuda.hpp>: an executor comes through its entry header"
#endif
#if !defined(__CUDACC__)
#error "graft/cuda.hpp holds kernels: compile this file as CUDA, with nvcc or clang++ -x cuda"
#endif

#include <cstddef>
#include <string_view>
#include <type_traits>

#include <cuda_runtime.h>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/device_team.hpp>
#include <graft/executor/launch.hpp>
#include <graft/executor/scratch_arena.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {

/// A block of threads; see device_team.hpp for its groups. The threads of a group agree after `once` and `dot`.
template <int Rows>
struct cuda_team {
  static constexpr int row_block = Rows;
  index_t rank;
  std::byte* memory;

  [[nodiscard]] __device__ __forceinline__ index_t league_rank() const { return rank; }
  [[nodiscard]] __device__ __forceinline__ int lanes() const { return static_cast<int>(blockDim.x); }
  __device__ __forceinline__ void barrier() const { __syncthreads(); }
  template <class T>
  [[nodiscard]] __device__ __forceinline__ T* scratch(index_t) const {
    return reinterpret_cast<T*>(memory);
  }
  template <class F>
  __device__ __forceinline__ void groups(index_t count, F const& f) const {
    for (index_t i = threadIdx.x / group_threads; i < count; i += blockDim.x / group_threads) f(i);
  }
  template <class F>
  __device__ __forceinline__ void vector(index_t count, F const& f) const {
    for (index_t i = threadIdx.x; i < count; i += blockDim.x) f(i);
  }
  template <class F>
  __device__ __forceinline__ void once(F const& f) const {
    if (number() == 0) f();
    __syncwarp(mask());
  }
  template <class Accumulate, int R, class W, class X>
  __device__ __forceinline__ void dot(index_t k0, index_t k1, W const& w, X const& x, Accumulate (&out)[R]) const {
    detail::dot_on_device(number(), mask(), k0, k1, w, x, out);
  }

 private:
  /// Of this thread in its group, and the group in its warp.
  [[nodiscard]] static __device__ __forceinline__ int number() { return static_cast<int>(threadIdx.x % group_threads); }
  [[nodiscard]] static __device__ __forceinline__ unsigned mask() {
    return 0xfU << (threadIdx.x % 32 - threadIdx.x % group_threads);
  }
};

/// Every team of a league, one after the other by the blocks that there are. `Global`: scratch of `bytes` a block in the
/// executor's memory, not in shared memory.
template <class Body, int Rows, bool Global>
__global__ void __launch_bounds__(threads_of<Body>, threads_of<Body> < most_threads ? 4 : 2)
    cuda_league(Body const body, index_t const size, std::byte* const scratch, std::size_t const bytes) {
  extern __shared__ __align__(64) unsigned char graft_shared_memory[];
  std::byte* memory = nullptr;
  if constexpr (Global) memory = scratch + blockIdx.x * bytes;
  else memory = reinterpret_cast<std::byte*>(graft_shared_memory);
  for (index_t rank = blockIdx.x; rank < size; rank += gridDim.x) {
    body(cuda_team<Rows>{rank, memory});
    __syncthreads();  // scratch is reused
  }
}

/// An error of the runtime, as a sentence. `call` says what was asked for.
inline void expects_cuda(cudaError_t error, std::string_view call) {
  if (error == cudaSuccess) [[likely]]
    return;
  static_cast<void>(cudaGetLastError());  // it has been seen
  raise(device_error(text("graft::cuda_stream_executor: ", call, ": ", cudaGetErrorString(error), " (",
                          cudaGetErrorName(error), ")")));
}

[[nodiscard]] inline int device_attribute(cudaDeviceAttr attribute) {
  int device = 0;
  int value = 0;
  expects_cuda(cudaGetDevice(&device), "cudaGetDevice");
  expects_cuda(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute");
  return value;
}
/// Shared memory that every kernel may have without being allowed more.
inline constexpr std::size_t free_shared_memory = std::size_t{48} << 10U;

/// Of the current device. The shared memory that kernels have without asking needs no question.
[[nodiscard]] inline device_limits limits_of_device(std::size_t bytes) {
  device_limits limits;
  limits.shared_of_block = free_shared_memory;
  if (bytes <= limits.shared_of_block) return limits;
  limits.shared_of_block = static_cast<std::size_t>(device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  limits.processors = device_attribute(cudaDevAttrMultiProcessorCount);
  limits.threads_of_processor = device_attribute(cudaDevAttrMaxThreadsPerMultiProcessor);
  return limits;
}

}  // namespace GRAFT_TARGET
}  // namespace detail

/// Generic bodies on a stream of the caller's. Calls enqueue and return; `fence` is the only wait.
/// Nothing is allocated, nothing is global: any number of devices and streams work at once, from any threads, each with an
/// executor of its own. The device of the stream must be the current one, as for every launch.
///
///     graft::scratch_arena scratch(device_pointer, graft::scratch_bytes(ex, call));
///     graft::cuda_stream_executor ex{.stream = stream, .scratch = &scratch, .faults = record_in_device_memory};
///
/// Errors       device_error when a launch or `fence` fails: names the verb, the configuration and CUDA's own error. What went
///              wrong in earlier work on the device shows there too, under the name of whoever launches next.
///              argument_error when a call needs more scratch than there is. Both before the launch in question; a call of several
///              leagues may have enqueued earlier ones by then.
struct cuda_stream_executor {
  using space_type = device_space;
  static constexpr int row_block = 4;
  static constexpr bool wide_teams = true;
  static constexpr bool ordered_scratch = true;

  cudaStream_t stream = nullptr;
  /// Memory of the device for calls that need any (`graft::scratch_bytes`). Only work on this stream may use it.
  scratch_arena* scratch = nullptr;
  /// Where data faults are written, in memory that the device reaches; see `fault_record`.
  fault_record* faults = nullptr;

  [[nodiscard]] scratch_arena* resource() const { return scratch; }
  [[nodiscard]] std::size_t scratch_left() const { return scratch == nullptr ? 0 : scratch->left(); }
  /// Teams that run together on the current device.
  [[nodiscard]] index_t teams_at_once() const {
    return index_t{detail::device_attribute(cudaDevAttrMultiProcessorCount)} *
           (detail::device_attribute(cudaDevAttrMaxThreadsPerMultiProcessor) / detail::most_threads);
  }
  /// Bytes of `scratch` that a league takes: none where its teams fit the shared memory of a block.
  [[nodiscard]] std::size_t league_scratch(index_t size, std::size_t bytes) const {
    return detail::shape_of_launch(size, bytes, detail::most_threads, detail::limits_of_device(bytes)).scratch();
  }

  /// The same for one body, which is refused where it cannot run.
  template <class Body>
  [[nodiscard]] std::size_t league_scratch(index_t size, std::size_t bytes, Body const& body) const {
    return shape_of(size, bytes, body).scratch();
  }

  template <class Body>
  void league(index_t size, std::size_t bytes, Body const& body) const {
    static_assert(std::is_trivially_copyable_v<Body> && sizeof(Body) <= 4000,
                  "graft: bodies are parameters of kernels");
    if (size == 0) return;
    auto const launch = shape_of(size, bytes, body);
    if constexpr (detail::has_unbounded_scratch<Body>)
      if (launch.global != 0) return run<true>(body, size, launch);
    run<false>(body, size, launch);
  }
  /// Waits for all that was enqueued on the stream.
  void fence() const {
    if (cudaError_t const error = cudaStreamSynchronize(stream); error != cudaSuccess) [[unlikely]]
      detail::expects_cuda(error, "cudaStreamSynchronize");
  }

 private:
  template <class Body>
  [[nodiscard]] static detail::launch_shape shape_of(index_t size, std::size_t bytes, Body const& body) {
    auto const launch = detail::shape_of_launch(size, bytes, detail::lanes_of(body), detail::limits_of_device(bytes));
    if (launch.global != 0 && !detail::has_unbounded_scratch<Body>) [[unlikely]]
      detail::raise(argument_error(detail::text("graft::", verb_of(body), ": a team needs ", bytes,
                                                " bytes of scratch, more than a block of this device can have")));
    return launch;
  }
  template <bool Global, class Body>
  void run(Body const& body, index_t size, detail::launch_shape const& launch) const {
    detail::call_scratch const memory(*this, launch.scratch());
    auto* const kernel = detail::cuda_league<Body, row_block, Global>;
    cudaError_t error = cudaSuccess;
    if (launch.shared > detail::free_shared_memory)
      error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(launch.most_shared));
    if (error == cudaSuccess) {
      Body argument = body;
      std::byte* block = memory.data();
      std::size_t bytes = launch.global;
      void* arguments[] = {&argument, &size, &block, &bytes};
      error = cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(launch.blocks)),
                               dim3(static_cast<unsigned>(launch.threads)), arguments, launch.shared, stream);
    }
    if (error != cudaSuccess) [[unlikely]]
      detail::expects_cuda(
          error, detail::text("graft::", verb_of(body), ", a launch of ", launch.blocks, " blocks of ", launch.threads,
                              " threads with ", launch.shared, " bytes of shared memory each"));
  }
  template <class Body>
  [[nodiscard]] static constexpr std::string_view verb_of(Body const& body) {
    if constexpr (requires { body.verb; }) return body.verb;
    else return "unnamed";
  }
};

}  // namespace graft::inline GRAFT_CONTRACT
