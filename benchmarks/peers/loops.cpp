// SPDX-License-Identifier: Apache-2.0
// What ./dev bench peers needs beside the C interface: calls repeated without Python between them, and the other
// libraries' LoRA. Everything has C linkage: ctypes loads it.
#include <dlfcn.h>
#include <malloc.h>

#include <climits>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include <Eigen/Core>

namespace {

using function = int (*)(void*, void*, void*, void*, void*, void*, void*, void*);

// C[M, N] += or = A[M, K] op(B) of row-major matrices, as each library spells it.
using cblas_sgemm = void (*)(int, int, int, int, int, int, float, float const*, int, float const*, int, float, float*,
                             int);
using dnnl_sgemm = int (*)(char, char, std::int64_t, std::int64_t, std::int64_t, float, float const*, std::int64_t,
                           float const*, std::int64_t, float, float*, std::int64_t);

struct lora {
  float const* x;
  float const* A;
  float const* B;
  float* y;
  float* v;
  int T, n, m, r;
  float s;
};

using prepared = std::function<void()>;

prepared blas_lora(void* gemm, lora const& p) {
  auto const f = reinterpret_cast<cblas_sgemm>(gemm);
  constexpr int row_major = 101;
  constexpr int plain = 111;
  constexpr int transposed = 112;
  return [=] {
    f(row_major, plain, transposed, p.T, p.r, p.n, 1, p.x, p.n, p.A, p.n, 0, p.v, p.r);
    f(row_major, plain, transposed, p.T, p.m, p.r, p.s, p.v, p.r, p.B, p.r, 1, p.y, p.m);
  };
}

prepared dnnl_lora(void* gemm, lora const& p) {
  auto const f = reinterpret_cast<dnnl_sgemm>(gemm);
  return [=] {
    f('N', 'T', p.T, p.r, p.n, 1, p.x, p.n, p.A, p.n, 0, p.v, p.r);
    f('N', 'T', p.T, p.m, p.r, p.s, p.v, p.r, p.B, p.r, 1, p.y, p.m);
  };
}

prepared eigen_lora(int threads, lora const& p) {
  using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using in = Eigen::Map<matrix const>;
  using out = Eigen::Map<matrix>;
  return [=] {
    Eigen::setNbThreads(threads);
    out v(p.v, p.T, p.r);
    v.noalias() = in(p.x, p.T, p.n) * in(p.A, p.r, p.n).transpose();
    v *= p.s;
    out(p.y, p.T, p.m).noalias() += v * in(p.B, p.m, p.r).transpose();
  };
}

}  // namespace

extern "C" {

/// A function all of whose arguments are words (pointers and integers; those behind the last are not looked at).
struct peers_call {
  void* function;
  void* words[8];
};
/// Makes the calls one after the other, `count` times; the first status that is not 0, else 0.
int peers_repeat(peers_call const* calls, std::size_t size, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    for (peers_call const* c = calls; c != calls + size; ++c) {
      void* const* const w = c->words;
      int const status = reinterpret_cast<function>(c->function)(w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]);
      if (status != 0) return status;
    }
  }
  return 0;
}

/// glibc's malloc from now on: tuned (nothing is mapped or given back on its own), or as a program finds it after it
/// has freed its first large block.
void peers_malloc(int tuned) {
  mallopt(M_MMAP_THRESHOLD, tuned != 0 ? INT_MAX : 32 << 20);
  mallopt(M_TRIM_THRESHOLD, tuned != 0 ? INT_MAX : 64 << 20);
  mallopt(M_TOP_PAD, tuned != 0 ? 256 << 20 : 128 << 10);
}

/// Reads and writes `bytes` of memory, each thread its part: nothing else is left in caches, and the threads are awake.
void peers_evict(float* memory, std::size_t bytes, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (std::size_t i = 0; i < bytes / sizeof(float); i += 16) memory[i] += 1;
}

/// y += s (x A^T) B^T by a library: "eigen", or FILE of one with cblas_sgemm or dnnl_sgemm. Null when it cannot be had.
void* peers_library_lora(char const* library, int threads, float const* x, float const* A, float const* B, float* y,
                         float* v, int T, int n, int m, int r, float s) {
  lora const p{x, A, B, y, v, T, n, m, r, s};
  if (std::string(library) == "eigen") return new prepared(eigen_lora(threads, p));
  // A library's names are its own, whatever else of that name is loaded.
  void* const handle = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  if (handle == nullptr) return nullptr;
  if (void* const gemm = dlsym(handle, "cblas_sgemm")) {
    if (auto const set = reinterpret_cast<void (*)(int)>(dlsym(handle, "openblas_set_num_threads"))) set(threads);
    return new prepared(blas_lora(gemm, p));
  }
  if (void* const gemm = dlsym(handle, "dnnl_sgemm")) return new prepared(dnnl_lora(gemm, p));
  return nullptr;
}
void peers_library_run(void* prepared_call, std::int64_t count) {
  auto& call = *static_cast<prepared*>(prepared_call);
  for (std::int64_t i = 0; i < count; ++i) call();
}
void peers_library_free(void* prepared_call) { delete static_cast<prepared*>(prepared_call); }
}
