// SPDX-License-Identifier: Apache-2.0
// graft inside a framework that owns the device: its memory, its stream, its scratch. Calls only enqueue; there is one
// wait, at the end. The same function then runs on the host, and its bits are compared.
// test:
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <cuda_runtime.h>

#include <graft/cuda.hpp>

namespace {

constexpr int T = 37, n = 96, m = 64, r = 8;  // tokens, features in and out, rank
constexpr int factors = 2, b = 4;             // BOFT's
constexpr int E = 16, k = 2;                  // experts, and those of a token

void must(cudaError_t error, char const* what) {
  if (error == cudaSuccess) return;
  std::printf("cuda_embed: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}
#define MUST(call) must(call, #call)

/// The layer's tensors as views of memory in `Space`: what a framework has in its own tensor type.
template <class Space>
struct tensors {
  float *x_, *A_, *B_, *W_, *magnitude_, *boft_, *logits_;  // given
  float *y_, *z_, *turned_, *weights_;                      // results
  float *norms_, *ratios_, *rotations_;                     // kept by DoRA and BOFT
  std::int32_t *ids_, *codes_;                              // results of the gate

  template <class P, class... Shape>
  static auto of(P* data, Shape... shape) {
    return graft::view_in<Space>(data, shape...);
  }
  auto x() const { return of(x_, T, n); }
  auto lora() const { return graft::lora{.A = of(A_, r, n), .B = of(B_, m, r), .scale = graft::lora_scale(16.0, r)}; }
  auto dora() const { return graft::dora{lora(), of(magnitude_, m), of(norms_, m)}; }
  auto boft() const {
    return graft::boft{of(boft_, factors, n / b, b, b), of(magnitude_, m), of(rotations_, factors, n / b, b, b)};
  }
};

/// What a framework calls; `ex` says where it runs.
template <class Executor, class Space>
void layer(Executor const& ex, tensors<Space> const& t) {
  using graft::view_in;
  graft::add_delta(ex, t.lora(), t.x(), view_in<Space>(t.y_, T, m));  // y += scale (x A^T) B^T, after the base's GEMM

  graft::update_norms(ex, t.dora(), view_in<Space>(t.W_, m, n));  // once for each change of weights
  auto const fast = graft::prepare(ex, t.dora(), view_in<Space>(t.ratios_, m));
  graft::transform_output(ex, fast, t.x(), view_in<Space>(t.z_, T, m));

  graft::update_rotations(ex, t.boft());  // likewise
  graft::transform_input(ex, t.boft(), t.x(), view_in<Space>(t.turned_, T, n));

  // With a status a token whose logits are not finite has its code there; nothing is thrown and nobody waits.
  graft::route(ex, graft::softmax_topk{}, view_in<Space>(t.logits_, T, E), view_in<Space>(t.ids_, T, k),
               view_in<Space>(t.weights_, T, k), graft::gate_status{view_in<Space>(t.codes_, T)});
}

/// The tensors as pieces of one array of floats and one of ids: the first `given` of them are inputs.
constexpr std::array<int, 14> sizes{T * n, r* n, m* r, m* n, m, factors* n* b, T* E, T* m,
                                    T* m,  T* n, T* k, m,    m, factors* n* b};
constexpr std::array<char const*, 4> results{"lora, y", "dora, y", "boft, x", "gate, weights"};
constexpr int given = 9, first_result = 7, ids = T * (k + 1);  // y and z hold the base's output before
constexpr int begin_of(int piece) {
  int at = 0;
  for (int i = 0; i < piece; ++i) at += sizes[static_cast<std::size_t>(i)];
  return at;
}
constexpr int total = begin_of(static_cast<int>(sizes.size()));

template <class Space>
tensors<Space> lay_out(float* f, std::int32_t* i) {
  auto const at = [f](int piece) { return f + begin_of(piece); };
  return {at(0), at(1), at(2),  at(3),  at(4),  at(5),  at(6), at(7),
          at(8), at(9), at(10), at(11), at(12), at(13), i,     i + T * k};
}

/// Returns the number of results whose bits are not the host's.
int compare(std::vector<float> const& got, std::vector<float> const& right) {
  int wrong = 0;
  for (int piece = first_result; piece < first_result + 4; ++piece) {
    int different = 0;
    double most = 0;
    for (int i = begin_of(piece); i < begin_of(piece + 1); ++i) {
      auto const at = static_cast<std::size_t>(i);
      if (std::memcmp(&got[at], &right[at], sizeof(float)) == 0) continue;
      ++different;
      double const by = static_cast<double>(got[at]) - static_cast<double>(right[at]);
      most = by > most ? by : -by > most ? -by : most;
    }
    char const* const name = results[static_cast<std::size_t>(piece - first_result)];
    if (different == 0) std::printf("%-16s equal bits\n", name);
    else
      std::printf("%-16s %d of %d differ, by %g at most\n", name, different, sizes[static_cast<std::size_t>(piece)],
                  most);
    wrong += different;
  }
  return wrong;
}

}  // namespace

int main() {
  int devices = 0;
  if (cudaError_t const error = cudaGetDeviceCount(&devices); error != cudaSuccess || devices == 0) {
    std::printf("cuda_embed: no CUDA device here (%s); nothing was run\n",
                error != cudaSuccess ? cudaGetErrorString(error) : "there is none");
    return 0;
  }

  std::vector<float> numbers(total), back(total);
  std::vector<std::int32_t> choices(ids), choices_back(ids);
  graft::kernels::fill_normal(graft::reference{}, {.seed = 1}, graft::view(numbers.data(), 1, begin_of(given)), 0.5);

  // What the framework owns.
  cudaStream_t stream = nullptr;
  float* on_device = nullptr;
  std::int32_t* ids_on_device = nullptr;
  MUST(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  MUST(cudaMallocAsync(reinterpret_cast<void**>(&on_device), total * sizeof(float), stream));
  MUST(cudaMallocAsync(reinterpret_cast<void**>(&ids_on_device), ids * sizeof(std::int32_t), stream));
  MUST(cudaMemcpyAsync(on_device, numbers.data(), total * sizeof(float), cudaMemcpyHostToDevice, stream));
  auto const there = lay_out<graft::device_space>(on_device, ids_on_device);

  // Scratch, once for all calls of this shape: graft itself allocates nothing on the device.
  std::size_t const bytes =
      graft::scratch_bytes(graft::cuda_stream_executor{.stream = stream}, [&](auto const& ex) { layer(ex, there); });
  void* memory = nullptr;
  if (bytes != 0) MUST(cudaMallocAsync(&memory, bytes, stream));
  graft::scratch_arena scratch(memory, bytes);
  graft::cuda_stream_executor const ex{.stream = stream, .scratch = &scratch};

  int wrong = 0;
  try {
    layer(ex, there);
    MUST(cudaMemcpyAsync(back.data(), on_device, total * sizeof(float), cudaMemcpyDeviceToHost, stream));
    MUST(cudaMemcpyAsync(choices_back.data(), ids_on_device, ids * sizeof(std::int32_t), cudaMemcpyDeviceToHost,
                         stream));
    ex.fence();

    layer(graft::reference{}, lay_out<graft::host_space>(numbers.data(), choices.data()));
    std::printf("cuda_embed: %d tokens of %d features, %zu bytes of scratch\n", T, n, bytes);
    wrong = compare(back, numbers);
    bool const same = choices_back == choices;
    std::printf("%-16s %s\n", "gate, experts", same ? "equal" : "DIFFERENT");
    wrong += same ? 0 : 1;
  } catch (graft::error const& e) {
    std::printf("cuda_embed: %s\n", e.what());
    wrong = 1;
  }

  if (memory != nullptr) MUST(cudaFreeAsync(memory, stream));
  MUST(cudaFreeAsync(ids_on_device, stream));
  MUST(cudaFreeAsync(on_device, stream));
  MUST(cudaStreamSynchronize(stream));
  MUST(cudaStreamDestroy(stream));
  return wrong == 0 ? 0 : 1;
}
