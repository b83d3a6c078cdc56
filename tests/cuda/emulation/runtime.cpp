// See cuda_runtime.h. Threads of a block are contexts that take turns on one thread of the host.
#include "cuda_runtime.h"

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <graft/config.hpp>

namespace {
// H100s.
constexpr int devices = 2, processors = 132, threads_of_processor = 2048;
constexpr std::size_t shared_memory = 232448, free_shared_memory = 49152, guard_bytes = 64;
}  // namespace

namespace graft::inline GRAFT_CONTRACT::detail {
inline namespace GRAFT_TARGET {
extern unsigned char graft_shared_memory[];
alignas(64) unsigned char graft_shared_memory[shared_memory + guard_bytes];
}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT::detail

emulated_index threadIdx, blockIdx, blockDim, gridDim;

using work = std::function<void()>;
struct emulated_graph {
  std::vector<work> all;
};
struct emulated_stream {
  int device;
  std::vector<work> waiting;
  std::vector<work> captured;
  bool captures = false;
  bool invalid = false;
};

namespace {

using lock = std::lock_guard<std::recursive_mutex>;
std::recursive_mutex one_at_a_time;
std::set<emulated_stream*> streams;
std::map<void const*, std::size_t> allowed;  // shared memory of kernels
unsigned launches = 0;
thread_local int current_device = 0;

[[noreturn]] void give_up(std::string const& what) {
  std::fprintf(stderr, "emulation: %s (thread %u of %u, block %u of %u)\n", what.c_str(), threadIdx.x, blockDim.x,
               blockIdx.x, gridDim.x);
  std::abort();
}

// --- a block
enum class state { runs, at_barrier, in_warp, ended };
struct block_thread {
  static constexpr std::size_t stack_bytes = std::size_t{128} << 10U;
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  state now;
  unsigned mask;  // of what it waits for in its warp
  int operation;
  std::uint64_t offered;
};
std::array<block_thread, 256> threads;
ucontext_t scheduler;
work const* body = nullptr;

void wait_in(state s) {
  block_thread& t = threads[threadIdx.x];
  t.now = s;
  swapcontext(&t.context, &scheduler);
}
void begin() {
  (*body)();
  wait_in(state::ended);
}
void meet(unsigned mask, int operation) {
  if ((mask >> (threadIdx.x % 32U) & 1U) == 0) give_up("a thread is not in its own mask");
  threads[threadIdx.x].mask = mask;
  threads[threadIdx.x].operation = operation;
  wait_in(state::in_warp);
}
/// Lets threads go on that all those of their mask wait with, for the same.
bool let_warps_go_on(unsigned count) {
  bool any = false;
  for (unsigned i = 0; i < count; ++i) {
    block_thread const& t = threads[i];
    if (t.now != state::in_warp) continue;
    threadIdx.x = i;
    std::vector<block_thread*> all;
    for (unsigned lane = 0; lane < 32; ++lane)
      if ((t.mask >> lane & 1U) != 0) {
        unsigned const other = i / 32 * 32 + lane;
        if (other >= count || threads[other].now == state::ended)
          give_up("a mask names a thread that there is not, or no more");
        all.push_back(&threads[other]);
      }
    if (!std::all_of(all.begin(), all.end(), [&](block_thread const* o) {
          return o->now == state::in_warp && o->mask == t.mask && o->operation == t.operation;
        }))
      continue;
    for (block_thread* const o : all) o->now = state::runs;
    any = true;
  }
  return any;
}
/// The threads of one block, in the order `turn`.
void run_block(std::vector<unsigned> const& turn) {
  auto const count = static_cast<unsigned>(turn.size());
  for (unsigned i = 0; i < count; ++i) {
    block_thread& t = threads[i];
    if (t.stack == nullptr) t.stack = std::make_unique<char[]>(block_thread::stack_bytes);
    getcontext(&t.context);
    t.context.uc_stack.ss_sp = t.stack.get();
    t.context.uc_stack.ss_size = block_thread::stack_bytes;
    t.context.uc_link = nullptr;
    makecontext(&t.context, begin, 0);
    t.now = state::runs;
  }
  auto const in = [&](state s) {
    return std::count_if(threads.begin(), threads.begin() + count, [=](block_thread const& t) { return t.now == s; });
  };
  while (in(state::ended) != count) {
    if (in(state::at_barrier) == count)
      for (unsigned i = 0; i < count; ++i) threads[i].now = state::runs;
    bool any = false;
    for (unsigned const i : turn)
      if (threads[i].now == state::runs) {
        any = true;
        threadIdx.x = i;
        swapcontext(&scheduler, &threads[i].context);
      }
    if (!let_warps_go_on(count) && !any) give_up("threads part: some wait at a barrier that others do not come to");
  }
}
void run_launch(emulation::launch const& l) {
  unsigned const order = launches++ % 3;
  std::vector<unsigned> turn(l.threads);
  for (unsigned i = 0; i < l.threads; ++i)
    turn[i] = order == 0   ? i
              : order == 1 ? l.threads - 1 - i
                           : (11 * i + 3) % l.threads;  // eight warps have no such divisor
  unsigned char* const scratch = graft::detail::graft_shared_memory;
  body = &l.body;
  gridDim.x = l.blocks;
  blockDim.x = l.threads;
  for (unsigned i = 0; i < l.blocks; ++i) {
    blockIdx.x = order == 1 ? l.blocks - 1 - i : i;
    std::memset(scratch, 0x5a, l.shared);
    std::memset(scratch + l.shared, 0xa5, guard_bytes);
    run_block(turn);
    if (std::any_of(scratch + l.shared, scratch + l.shared + guard_bytes, [](unsigned char c) { return c != 0xa5; }))
      give_up("something was written behind the shared memory of a block");
  }
}

// --- streams
cudaError_t put(emulated_stream* stream, work const& w) {
  if (streams.count(stream) == 0 || stream->device != current_device) return cudaErrorInvalidResourceHandle;
  if (stream->invalid) return cudaErrorStreamCaptureInvalidated;
  (stream->captures ? stream->captured : stream->waiting).push_back(w);
  return cudaSuccess;
}
void run_waiting(emulated_stream& stream) {
  std::vector<work> const all = std::exchange(stream.waiting, {});
  for (work const& w : all) w();
}

}  // namespace

void __syncthreads() { wait_in(state::at_barrier); }
void __syncwarp(unsigned mask) { meet(mask, -1); }

namespace emulation {
std::uint64_t shuffled(unsigned mask, std::uint64_t bits, unsigned other, int width) {
  unsigned const from = threadIdx.x ^ other;
  if ((mask >> from % 32U & 1U) == 0 ||
      from / static_cast<unsigned>(width) != threadIdx.x / static_cast<unsigned>(width))
    give_up("a shuffle takes from a thread that does not take part");
  threads[threadIdx.x].offered = bits;
  meet(mask, static_cast<int>(2 * other));
  std::uint64_t const got = threads[from].offered;
  meet(mask, static_cast<int>(2 * other + 1));
  return got;
}
cudaError_t enqueue(cudaStream_t stream, launch const& l) {
  lock const held(one_at_a_time);
  auto const may_have = std::max(allowed[l.kernel], free_shared_memory);
  if (l.blocks == 0 || l.blocks > 0x7fffffffU || l.threads == 0 || l.threads > static_cast<unsigned>(l.most_threads) ||
      l.threads % 32 != 0 || l.shared > may_have)
    return cudaErrorInvalidValue;
  return put(stream, [l] { run_launch(l); });
}
cudaError_t allow_shared(void const* kernel, int bytes) {
  lock const held(one_at_a_time);
  if (bytes < 0 || static_cast<std::size_t>(bytes) > shared_memory) return cudaErrorInvalidValue;
  allowed[kernel] = static_cast<std::size_t>(bytes);
  return cudaSuccess;
}
}  // namespace emulation

char const* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorInvalidResourceHandle: return "cudaErrorInvalidResourceHandle";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated: return "cudaErrorStreamCaptureInvalidated";
  }
  return "unknown";
}
char const* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }
cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= devices) return cudaErrorInvalidValue;
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = processors; return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = threads_of_processor; return cudaSuccess;
    case cudaDevAttrConcurrentManagedAccess: *value = 1; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = static_cast<int>(shared_memory); return cudaSuccess;
  }
  return cudaErrorInvalidValue;
}
cudaError_t cudaDeviceSynchronize() {
  lock const held(one_at_a_time);
  for (emulated_stream* const s : streams)
    if (s->captures) return cudaErrorStreamCaptureUnsupported;
  for (emulated_stream* const s : streams) run_waiting(*s);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  lock const held(one_at_a_time);
  streams.insert(*stream = new emulated_stream{.device = current_device, .waiting = {}, .captured = {}});
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  lock const held(one_at_a_time);
  run_waiting(*stream);
  streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  lock const held(one_at_a_time);
  if (stream->captures) {
    stream->invalid = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  run_waiting(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  stream->captures = true;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  lock const held(one_at_a_time);
  std::vector<work> const all = std::exchange(stream->captured, {});
  stream->captures = false;
  *graph = nullptr;
  if (std::exchange(stream->invalid, false)) return cudaErrorStreamCaptureInvalidated;
  *graph = new emulated_graph{all};
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long) {
  *ready = new emulated_graph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t ready, cudaStream_t stream) {
  lock const held(one_at_a_time);
  for (work const& w : ready->all)
    if (cudaError_t const error = put(stream, w); error != cudaSuccess) return error;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready) { return cudaGraphDestroy(ready); }
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

// Memory begins with rubbish.
cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  constexpr std::size_t alignment = 256, most_rubbish = std::size_t{1} << 20U;
  *data = bytes == 0 ? nullptr : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (bytes != 0) std::memset(*data, 0x5b, std::min(bytes, most_rubbish));
  return cudaSuccess;
}
cudaError_t cudaMallocManaged(void** data, std::size_t bytes) { return cudaMalloc(data, bytes); }
cudaError_t cudaMallocAsync(void** data, std::size_t bytes, cudaStream_t) { return cudaMalloc(data, bytes); }
cudaError_t cudaFree(void* data) {
  static_cast<void>(cudaDeviceSynchronize());
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  lock const held(one_at_a_time);
  return put(stream, [data] { std::free(data); });
}
cudaError_t cudaMemcpyAsync(void* to, void const* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  lock const held(one_at_a_time);
  return put(stream, [=] { std::memcpy(to, from, bytes); });
}
