// smoke: m=512/r=16/threads=1
// SPDX-License-Identifier: Apache-2.0
// Norms of rows of W + s B A (n = 4096): graft's, with cached |W|, the same by forming B A (graft's own outer_add into a copy of
// W, and Eigen's product), and what reading W once takes (Eigen's squared norm of each row, memory's limit here).
#include <memory>

#include "support/peers.hpp"
#include "support/problem.hpp"
#include "support/ratios.hpp"

namespace {

using graft::view;

struct weight {
  weight(graft::index_t rows, graft::index_t ranks, graft::index_t threads)
      : m(rows),
        r(ranks),
        count(threads),
        W(bench::random<float>(m * n, 1)),
        copy(W),
        A(bench::random<float>(r * n, 2)),
        B(bench::random<float>(m * r, 3)),
        norms(static_cast<std::size_t>(m)),
        base(static_cast<std::size_t>(m), 1.0F) {}
  static constexpr graft::index_t n = 4096;
  graft::index_t m, r, count;
  bench::buffer<float> W, copy, A, B, norms, base;
};

void add(graft::index_t m, graft::index_t r, graft::index_t threads) {
  auto const p = std::make_shared<weight>(m, r, threads);
  graft::openmp const ex{.threads = static_cast<int>(threads)};
  std::string const name =
      "m=" + std::to_string(m) + "/r=" + std::to_string(r) + "/threads=" + std::to_string(threads) + "/";
  auto const reg = [&](char const* what, auto call) {
    benchmark::RegisterBenchmark((name + what).c_str(),
                                 [p, call](benchmark::State& state) {
                                   for (auto _ : state) call(*p);
                                   bench::counters(state, 2.0 * double(p->m * p->n * (p->r + 1)),
                                                   4.0 * double(p->m * p->n));
                                 })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  };
  reg("graft", [ex](weight& q) {
    graft::kernels::row_norms(ex, view(q.W, q.m, q.n), view(q.B, q.m, q.r), view(q.A, q.r, q.n), view(q.norms), 0.5);
  });
  reg("graft_cached", [ex](weight& q) {
    graft::kernels::row_norms(ex, view(q.W, q.m, q.n), view(q.B, q.m, q.r), view(q.A, q.r, q.n), view(q.norms), 0.5,
                              view(q.base));
  });
  reg("graft_formed", [ex](weight& q) {
    graft::kernels::copy(ex, view(q.W, q.m, q.n), view(q.copy, q.m, q.n));
    graft::kernels::outer_add(ex, view(q.B, q.m, q.r), view(q.A, q.r, q.n), view(q.copy, q.m, q.n), 0.5);
    graft::kernels::row_norms(ex, view(q.copy, q.m, q.n), view(q.norms));
  });
  reg("eigen_formed", [](weight& q) {
    peers::eigen_formed_norms(int(q.count), q.W.data(), q.A.data(), q.B.data(), q.copy.data(), q.norms.data(), q.n, q.m,
                              q.r, 0.5F);
  });
  reg("read_once", [](weight& q) { peers::eigen_norms(int(q.count), q.W.data(), q.norms.data(), q.n, q.m); });
}

}  // namespace

int main(int argc, char** argv) {
  for (graft::index_t threads : {1, 2})
    for (graft::index_t m : {512, 4096})
      for (graft::index_t r : {16, 64}) add(m, r, threads);
  return bench::run(argc, argv);
}
