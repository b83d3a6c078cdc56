// smoke: T=512/k=2/H=1024/threads=1
// SPDX-License-Identifier: Apache-2.0
// Rows of tokens to 64 experts and back (fp32), beside a copy that moves as many bytes: dispatch reads and writes T k H floats, combine
// reads T k H and writes T H, the gradient of its weights reads (k + 1) T H.
#include <cmath>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/peers.hpp"
#include "support/problem.hpp"
#include "support/ratios.hpp"

namespace {

using graft::index_t;
using graft::view;

struct layer {
  layer(index_t tokens, index_t chosen, index_t features)
      : T(tokens),
        k(chosen),
        H(features),
        ids(static_cast<std::size_t>(T * k)),
        memory(graft::plan_bytes(T * k, E)),
        p(graft::plan_in(memory, view(ids, T, k), E)),
        x(bench::random<float>(T * H, 1)),
        w(bench::random<float>(T * k, 2)),
        dw(w.size()),
        y(x.size()),
        rows(bench::random<float>(T * k * H, 3)),
        other(rows) {
    for (std::size_t i = 0; i < ids.size(); ++i)
      ids[i] = static_cast<std::int32_t>(graft::detail::philox_word(1, 4, static_cast<index_t>(i)) % E);
    graft::kernels::make_plan(graft::serial{}, view(ids, T, k), p);
  }
  static constexpr index_t E = 64;
  index_t T, k, H;
  std::vector<std::int32_t> ids;
  std::vector<std::byte> memory;
  graft::plan<> p;
  bench::buffer<float> x, w, dw, y, rows, other;
  [[nodiscard]] auto of_experts() { return view(rows, T * k, H); }
};

void add(index_t T, index_t k, index_t H, int threads) {
  auto const l = std::make_shared<layer>(T, k, H);
  std::string const name = "T=" + std::to_string(T) + "/k=" + std::to_string(k) + "/H=" + std::to_string(H) +
                           "/threads=" + std::to_string(threads) + "/";
  graft::openmp const ex{.threads = threads};
  // Validated once: what goes to the experts and comes back unchanged is k times itself.
  graft::kernels::dispatch(ex, l->p, view(l->x, T, H), l->of_experts());
  graft::kernels::combine(ex, l->p, l->of_experts(), graft::none, view(l->y, T, H));
  for (std::size_t i = 0; i < l->x.size(); ++i)
    if (std::fabs(l->y[i] - static_cast<float>(k) * l->x[i]) > 1e-6F) throw std::runtime_error("another sum: " + name);
  auto const reg = [&](std::string const& what, index_t floats, auto call) {
    benchmark::RegisterBenchmark((name + what).c_str(),
                                 [l, floats, call](benchmark::State& state) {
                                   for (auto _ : state) call(*l);
                                   bench::counters(state, 0, 4.0 * double(floats));
                                 })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  };
  auto const copies = [&](std::string const& what, index_t floats) {
    reg(what, floats, [threads, floats](layer& q) {
      peers::stream(threads, q.rows.data(), q.other.data(), floats / 2, nullptr, 0, 1);
    });
  };
  reg("dispatch/graft", 2 * T * k * H,
      [ex](layer& q) { graft::kernels::dispatch(ex, q.p, view(q.x, q.T, q.H), q.of_experts()); });
  copies("dispatch/copy", 2 * T * k * H);
  reg("combine/graft", (k + 1) * T * H,
      [ex](layer& q) { graft::kernels::combine(ex, q.p, q.of_experts(), view(q.w, q.T, q.k), view(q.y, q.T, q.H)); });
  copies("combine/copy", (k + 1) * T * H);
  reg("weights/graft", (k + 1) * T * H, [ex](layer& q) {
    graft::kernels::combine_backward_weights(ex, q.p, q.of_experts(), view(q.x, q.T, q.H), view(q.dw, q.T, q.k));
  });
  copies("weights/copy", (k + 1) * T * H);
}

}  // namespace

int main(int argc, char** argv) {
  for (int const threads : {1, 2}) {
    add(4096, 8, 1024, threads);
    add(512, 2, 1024, threads);
  }
  return bench::run(argc, argv);
}
