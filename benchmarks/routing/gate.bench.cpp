// smoke: T=4096/E=64/k=2
// SPDX-License-Identifier: Apache-2.0
// Softmax gates on one thread, T = 4096: graft's with renormalized and with plain weights, against std::partial_sort of the indices of
// each row (ties to the lower index) and std::exp. A row is read once: 4 E bytes.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>

#include "support/problem.hpp"
#include "support/ratios.hpp"

namespace {

struct routing {
  routing(graft::index_t experts, graft::index_t choices)
      : E(experts),
        k(choices),
        z(bench::random<float>(T * E, 1)),
        w(size()),
        other_w(size()),
        ids(size()),
        other_ids(size()) {
    for (float& v : z) v *= 400.0F;
  }
  static constexpr graft::index_t T = 4096;
  graft::index_t E, k;
  bench::buffer<float> z, w, other_w;
  bench::buffer<std::int32_t> ids, other_ids;
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(T * k); }
  void graft_gate(graft::softmax_topk const& gate) {
    graft::route(graft::serial{}, gate, graft::view(z, T, E), graft::view(ids, T, k), graft::view(w, T, k));
  }
};

void with_partial_sort(routing& r, bool renormalize) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(r.E));
  for (graft::index_t t = 0; t < r.T; ++t) {
    float const* const row = r.z.data() + t * r.E;
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + r.k, order.end(),
                      [&](std::int32_t a, std::int32_t b) { return row[a] > row[b] || (row[a] == row[b] && a < b); });
    float const most = row[order[0]];
    float sum = 0;
    if (!renormalize)
      for (graft::index_t e = 0; e < r.E; ++e) sum += std::exp(row[e] - most);
    for (graft::index_t s = 0; s < r.k; ++s) {
      auto const at = static_cast<std::size_t>(t * r.k + s);
      r.other_ids[at] = order[static_cast<std::size_t>(s)];
      r.other_w[at] = std::exp(row[order[static_cast<std::size_t>(s)]] - most);
      if (renormalize) sum += r.other_w[at];
    }
    for (graft::index_t s = 0; s < r.k; ++s) r.other_w[static_cast<std::size_t>(t * r.k + s)] /= sum;
  }
}

bool agree(routing& r, bool renormalize) {
  r.graft_gate({.renormalize = renormalize});
  with_partial_sort(r, renormalize);
  bool right = r.ids == r.other_ids;
  for (std::size_t i = 0; i < r.w.size(); ++i) right = right && std::fabs(r.w[i] - r.other_w[i]) <= 1e-5F;
  return right;
}

void add(graft::index_t E, graft::index_t k) {
  auto const p = std::make_shared<routing>(E, k);
  for (bool const renormalize : {true, false}) {
    std::string const name =
        "T=4096/E=" + std::to_string(E) + "/k=" + std::to_string(k) + (renormalize ? "/renormalized/" : "/plain/");
    auto const reg = [&](char const* what, auto call) {
      benchmark::RegisterBenchmark((name + what).c_str(),
                                   [p, call, renormalize](benchmark::State& state) {
                                     if (!agree(*p, renormalize)) return state.SkipWithError("the results differ");
                                     for (auto _ : state) call(*p);
                                     bench::counters(state, 0.0, 4.0 * double(p->T * (p->E + 2 * p->k)));
                                   })
          ->UseRealTime()
          ->Unit(benchmark::kMicrosecond);
    };
    reg("graft", [renormalize](routing& r) { r.graft_gate({.renormalize = renormalize}); });
    reg("partial_sort", [renormalize](routing& r) { with_partial_sort(r, renormalize); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (graft::index_t const E : {8, 64, 256}) add(E, 2);
  for (graft::index_t const E : {64, 256}) add(E, 8);
  return bench::run(argc, argv);
}
