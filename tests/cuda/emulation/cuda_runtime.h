// What graft and its tests use of CUDA's language and runtime, for a compiler of C++ and a CPU: with this file in front,
// all that needs a GPU runs where there is none, in the blocks of two H100s. Work waits on its stream until somebody
// synchronises; threads of a block run in turn, from one barrier to the next, in an order that changes from launch to
// launch. So it shows what reads before a barrier, threads that part at one, masks and shuffles that name the wrong
// threads, scratch that is written behind its end, launches beyond limits. It knows nothing of memory spaces
// (executor/deferred.test.cpp does), of caches, and of what nvcc makes of arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <utility>

#define __host__
#define __device__
#define __global__
#define __shared__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrMaxThreadsPerMultiProcessor = 39,
  cudaDevAttrConcurrentManagedAccess = 89,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
inline constexpr unsigned cudaStreamNonBlocking = 1;
struct dim3 {
  unsigned x;
  explicit dim3(unsigned all) : x(all) {}
};
using cudaStream_t = struct emulated_stream*;
using cudaGraph_t = struct emulated_graph*;
using cudaGraphExec_t = cudaGraph_t;

char const* cudaGetErrorString(cudaError_t error);
char const* cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t ready, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaMalloc(void** data, std::size_t bytes);
cudaError_t cudaMallocManaged(void** data, std::size_t bytes);
cudaError_t cudaMallocAsync(void** data, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaFree(void* data);
cudaError_t cudaFreeAsync(void* data, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void* to, void const* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);

// --- what kernels see
struct emulated_index {
  unsigned x;
};
extern emulated_index threadIdx, blockIdx, blockDim, gridDim;
void __syncthreads();
void __syncwarp(unsigned mask);
namespace emulation {
std::uint64_t shuffled(unsigned mask, std::uint64_t bits, unsigned other, int width);
}  // namespace emulation
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int offset, int width) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = emulation::shuffled(mask, bits, static_cast<unsigned>(offset), width);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// --- launches
namespace emulation {
struct launch {
  void const* kernel;
  unsigned blocks;
  unsigned threads;
  int most_threads;
  std::size_t shared;
  std::function<void()> body;  // of one thread
};
cudaError_t enqueue(cudaStream_t stream, launch const& work);
cudaError_t allow_shared(void const* kernel, int bytes);
/// What `__launch_bounds__` says of a body.
template <class Body>
constexpr int most_threads() {
  if constexpr (requires { Body::most_lanes; }) return Body::most_lanes;
  else return 256;
}
}  // namespace emulation
template <class... A>
cudaError_t cudaFuncSetAttribute(void (*kernel)(A...), cudaFuncAttribute, int bytes) {
  return emulation::allow_shared(reinterpret_cast<void const*>(kernel), bytes);
}
template <class Body, class... A>
cudaError_t cudaLaunchKernel(void (*kernel)(Body, A...), dim3 blocks, dim3 threads, void** arguments,
                             std::size_t shared, cudaStream_t stream) {
  auto const taken = [&]<std::size_t... i>(std::index_sequence<i...>) {  // now: the caller's may be gone later
    return std::tuple<Body, A...>(*static_cast<Body*>(arguments[0]), *static_cast<A*>(arguments[i + 1])...);
  }(std::index_sequence_for<A...>());
  return emulation::enqueue(
      stream, {reinterpret_cast<void const*>(kernel), blocks.x, threads.x, emulation::most_threads<Body>(), shared,
               [kernel, taken] { std::apply(kernel, taken); }});
}
