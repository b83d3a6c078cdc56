// smoke: dora/T=8/r=16/threads=1|vera/T=8/r=16/threads=1
// SPDX-License-Identifier: Apache-2.0
// Inference, n = m = 4096. DoRA with its factors prepared against the LoRA that it is made of, and with factors made on each
// call. VeRA against Eigen's two products with the scalings between and behind them.
#include <memory>

#include "support/peers.hpp"
#include "support/problem.hpp"
#include "support/ratios.hpp"

namespace {

using graft::view;

struct model {
  explicit model(bench::shape const& of)
      : p(of),
        d(bench::random<float>(of.rank, 5)),
        b(bench::random<float>(of.m, 6)),
        c(static_cast<std::size_t>(of.m), 1.0F),
        norms(c),
        v(static_cast<std::size_t>(of.tokens * of.rank)),
        delta(static_cast<std::size_t>(of.tokens * of.m)) {}
  bench::problem<float> p;
  bench::buffer<float> d, b, c, norms, v, delta;
  [[nodiscard]] auto x() const { return view(p.x, p.s.tokens, p.s.n); }
  [[nodiscard]] auto y() { return view(p.y, p.s.tokens, p.s.m); }
  [[nodiscard]] auto lora() const {
    return graft::lora{view(p.A, p.s.rank, p.s.n), view(p.B, p.s.m, p.s.rank), 0.5, {}};
  }
};

void add(bench::shape const& s) {
  auto const q = std::make_shared<model>(s);
  graft::openmp const ex{.threads = static_cast<int>(s.threads)};
  auto const reg = [&](std::string const& name, auto call) {
    benchmark::RegisterBenchmark((s.name(name.substr(0, 4).c_str()) + name.substr(4)).c_str(),
                                 [q, call](benchmark::State& state) {
                                   for (auto _ : state) call(*q);
                                   auto const& of = q->p.s;
                                   bench::counters(
                                       state, 2.0 * double(of.tokens * of.rank * (of.n + of.m)),
                                       4.0 * double(of.tokens * (of.n + 2 * of.m) + of.rank * (of.n + of.m)));
                                 })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  };
  reg("dora/lora", [ex](model& m) { graft::add_delta(ex, m.lora(), m.x(), m.y()); });
  reg("dora/prepared", [ex](model& m) {
    auto const factors = graft::as_const(view(m.c));
    graft::transform_output(
        ex, graft::prepared_dora<decltype(m.lora()), std::remove_const_t<decltype(factors)>>{m.lora(), factors}, m.x(),
        m.y());
  });
  reg("dora/unprepared",
      [ex](model& m) { graft::transform_output(ex, graft::dora{m.lora(), view(m.c), view(m.norms)}, m.x(), m.y()); });
  reg("vera/graft", [ex](model& m) {
    auto const l = m.lora();
    graft::add_delta(ex, graft::vera{l.A, l.B, view(m.d), view(m.b)}, m.x(), m.y());
  });
  reg("vera/eigen", [](model& m) {
    auto const& of = m.p.s;
    peers::eigen_vera(int(of.threads), m.p.x.data(), m.p.A.data(), m.p.B.data(), m.d.data(), m.b.data(), m.p.y.data(),
                      m.v.data(), m.delta.data(), of.tokens, of.n, of.m, of.rank);
  });
}

}  // namespace

int main(int argc, char** argv) {
  for (graft::index_t threads : {1, 2})
    for (graft::index_t tokens : {1, 8, 512})
      for (graft::index_t rank : {16, 256}) add({tokens, rank, threads});
  return bench::run(argc, argv);
}
