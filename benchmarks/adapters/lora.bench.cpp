// smoke: T=8/r=8/threads=1|merge/r=8/threads=1
// SPDX-License-Identifier: Apache-2.0
// LoRA as training and loading use it: forward, backward (A, B and x) and merge, n = m = 4096, against Eigen's products.
// Every case rotates over two sets of tensors, so that forward and backward meet the caches in the same state.
#include <array>
#include <memory>

#include "support/peers.hpp"
#include "support/problem.hpp"
#include "support/ratios.hpp"

namespace {

using graft::view;

struct training {
  explicit training(bench::shape const& of)
      : s(of),
        sets{bench::problem<float>(s), bench::problem<float>(s)},
        dA(bench::random<float>(s.rank * s.n, 5)),
        dB(bench::random<float>(s.m * s.rank, 6)),
        dx(bench::random<float>(s.tokens * s.n, 7)),
        uv(bench::random<float>(2 * s.tokens * s.rank, 8)) {}
  bench::shape s;
  std::array<bench::problem<float>, 2> sets;
  bench::buffer<float> dA;
  bench::buffer<float> dB;
  bench::buffer<float> dx;
  bench::buffer<float> uv;
  std::size_t turn = 0;
  bench::problem<float>& next() { return sets[turn++ % 2]; }
  [[nodiscard]] auto lora(bench::problem<float>& p) const {
    return graft::lora{.A = view(p.A, s.rank, s.n), .B = view(p.B, s.m, s.rank), .scale = 0.5};
  }
};

void add_training(bench::shape const& s) {
  auto const t = std::make_shared<training>(s);
  graft::openmp const ex{.threads = static_cast<int>(s.threads)};
  double const tokens = double(s.tokens * s.rank);
  auto const reg = [&](std::string const& name, double flops, double elements, auto call) {
    benchmark::RegisterBenchmark((s.name("train") + "/" + name).c_str(),
                                 [t, call, flops, elements](benchmark::State& state) {
                                   for (auto _ : state) call(*t);
                                   bench::counters(state, flops, 4 * elements);
                                 })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  };
  double const in = double(s.tokens * s.n);
  double const out = double(s.tokens * s.m);
  reg("forward", 2 * tokens * double(s.n + s.m), in + 2 * out, [ex](training& q) {
    auto& p = q.next();
    graft::add_delta(ex, q.lora(p), view(p.x, q.s.tokens, q.s.n), view(p.y, q.s.tokens, q.s.m));
  });
  reg("backward", 2 * tokens * double(3 * s.n + 2 * s.m), 4 * in + 2 * out, [ex](training& q) {
    auto& p = q.next();
    graft::backward(ex, q.lora(p), view(p.x, q.s.tokens, q.s.n), view(p.y, q.s.tokens, q.s.m),
                    graft::lora_gradients{.A = view(q.dA, q.s.rank, q.s.n), .B = view(q.dB, q.s.m, q.s.rank)},
                    view(q.dx, q.s.tokens, q.s.n));
  });
  reg("eigen_backward", 2 * tokens * double(3 * s.n + 2 * s.m), 4 * in + 2 * out, [](training& q) {
    auto& p = q.next();
    peers::eigen_backward(int(q.s.threads), p.x.data(), p.A.data(), p.B.data(), p.y.data(), q.dA.data(), q.dB.data(),
                          q.dx.data(), q.uv.data(), q.s.tokens, q.s.n, q.s.m, q.s.rank, 0.5F);
  });
}

void add_merge(graft::index_t rank, graft::index_t threads) {
  static bench::buffer<float> W = bench::random<float>(graft::index_t{4096} * 4096, 9);
  bench::shape const s{1, rank, threads};
  auto const p = std::make_shared<bench::problem<float>>(s);
  std::string const name = "merge/r=" + std::to_string(rank) + "/threads=" + std::to_string(threads) + "/";
  graft::openmp const ex{.threads = static_cast<int>(threads)};
  auto const reg = [&](char const* what, auto call) {
    benchmark::RegisterBenchmark((name + what).c_str(),
                                 [p, call](benchmark::State& state) {
                                   for (auto _ : state) call(*p);
                                   bench::counters(state, 2.0 * double(p->s.rank * p->s.n * p->s.m),
                                                   8.0 * double(p->s.n * p->s.m));
                                 })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  };
  reg("graft", [ex](bench::problem<float>& q) {
    graft::merge(ex, graft::lora{.A = view(q.A, q.s.rank, q.s.n), .B = view(q.B, q.s.m, q.s.rank), .scale = 1e-6},
                 view(W, q.s.m, q.s.n));
  });
  reg("eigen", [](bench::problem<float>& q) {
    peers::eigen_merge(int(q.s.threads), q.A.data(), q.B.data(), W.data(), q.s.n, q.s.m, q.s.rank, 1e-6F);
  });
}

}  // namespace

int main(int argc, char** argv) {
  for (graft::index_t threads : {1, 2})
    for (graft::index_t rank : {8, 16, 64}) {
      for (graft::index_t tokens : {8, 64, 512}) add_training({tokens, rank, threads});
      add_merge(rank, threads);
    }
  return bench::run(argc, argv);
}
