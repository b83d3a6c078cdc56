// smoke: .*/fp32/T=64/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// Every gate in which tokens choose, by its name. A row is read once; exponentials count as no flops, comparisons as one.
#include "support/routed.hpp"

namespace {
using namespace bench;

struct choice {
  index_t id;
  double weight;
};
/// The k choices of token t, in order.
using formula = std::function<std::vector<choice>(routed const&, index_t t)>;

std::vector<choice> largest(routed const& r, index_t t) {  // with plain softmax
  auto const order = r.order(t);
  std::vector<choice> all;
  for (index_t s = 0; s < r.k; ++s) {
    index_t const e = order[static_cast<std::size_t>(s)];
    all.push_back({e, r.softmax(t, e)});
  }
  return all;
}
std::vector<choice> over_sum(std::vector<choice> all, double epsilon) {
  double total = epsilon;
  for (auto const& c : all) total += c.weight;
  for (auto& c : all) c.weight /= total;
  return all;
}
/// DeepSeek-V3: of 8 groups the 4 whose two largest sigmoids have the largest sums.
std::vector<choice> grouped(routed const& r, index_t t) {
  index_t const size = r.E / 8;
  auto const order = r.order(t);
  auto const s = [&](index_t e) { return 1 / (1 + std::exp(-r.logit(t, e))); };
  std::vector<std::pair<double, index_t>> groups;
  for (index_t g = 0; g < 8; ++g) {
    double two = 0;
    int found = 0;
    for (index_t const e : order)
      if (e / size == g && found < 2) two += s(e), ++found;
    groups.emplace_back(-two, g);
  }
  std::sort(groups.begin(), groups.end());
  std::vector<choice> all;
  for (index_t const e : order)
    for (int g = 0; g < 4; ++g)
      if (groups[static_cast<std::size_t>(g)].second == e / size && static_cast<index_t>(all.size()) < r.k)
        all.push_back({e, s(e)});
  return over_sum(all, 1e-20);
}
std::vector<choice> nucleus(routed const& r, index_t t) {
  auto all = largest(r, t);
  double seen = 0;
  for (auto& c : all) {
    bool const kept = !(seen > 0.8);
    seen += c.weight;
    if (!kept) c = {-1, 0.0};
  }
  return all;
}

template <class Gate>
void add_all(char const* name, Gate const& gate, formula const& want, index_t T, index_t E, index_t k) {
  add<routed>(
      std::string(name) + "/" + label<float>({{"T", T}, {"E", E}, {"k", k}}),
      {.flops = double(T * (E + 2 * k)), .read = 4.0 * double(T * E), .written = 8.0 * double(T * k)},
      [=] { return routed(T, E, k); },
      {check(
           &routed::ids, 0,
           [=](routed const& r, index_t i) { return double(want(r, i / r.k)[static_cast<std::size_t>(i % r.k)].id); }),
       check(&routed::w, 1e-5,
             [=](routed const& r, index_t i) { return want(r, i / r.k)[static_cast<std::size_t>(i % r.k)].weight; })},
      {{"graft", [=](routed& r, auto const& ex) { route(ex, gate, r.logits(), r.ids_view(), r.w_view()); }}});
}

suite const all("route", [] {
  auto const renormalized = [](double epsilon) {
    return [=](routed const& r, index_t t) { return over_sum(largest(r, t), epsilon); };
  };
  for (index_t const T : {64, 4096}) {
    add_all("softmax_topk", graft::softmax_topk{}, renormalized(0), T, 64, 2);
    add_all("topk_softmax", graft::topk_softmax{}, renormalized(0), T, 64, 2);
    add_all("sigmoid_topk", graft::sigmoid_topk<>{.groups = 8, .kept_groups = 4}, grouped, T, 256, 8);
    add_all("switch_top1", graft::switch_top1{}, largest, T, 64, 1);
    add_all("gshard_top2", graft::gshard_top2{}, renormalized(1e-9), T, 64, 2);
    add_all("top_p", graft::top_p{}, nucleus, T, 64, 8);
  }
});

}  // namespace
