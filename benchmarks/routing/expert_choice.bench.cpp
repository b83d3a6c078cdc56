// smoke: .*/fp32/T=64/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// Experts choose C = 2 T / E tokens: a softmax and the C largest of every column. C log T comparisons an expert count as flops.
#include "support/routed.hpp"

namespace {
using namespace bench;

struct problem : routed {
  problem(index_t tokens, index_t experts)
      : routed(tokens, experts, 2), C(2 * T / E), tokens_of(filled<std::int32_t>(E * C)), of_tokens(filled(E * C)) {}
  index_t C;
  buffer<std::int32_t> tokens_of;
  buffer<float> of_tokens;
  /// The tokens of an expert in falling order of softmax.
  [[nodiscard]] std::vector<std::pair<double, index_t>> column(index_t e) const {
    std::vector<std::pair<double, index_t>> all;
    for (index_t t = 0; t < T; ++t) all.emplace_back(-softmax(t, e), t);
    std::sort(all.begin(), all.end());
    return all;
  }
};

void add_all(index_t T, index_t E) {
  double const count = double(T * E);
  add<problem>(
      "route/" + label<float>({{"T", T}, {"E", E}}),
      {.flops = 6 * count, .read = 8 * count, .written = 4 * count + 16.0 * double(T)}, [=] { return problem(T, E); },
      {check(&problem::of_tokens, 1e-5,
             [](problem const& p, index_t i) { return -p.column(i / p.C)[static_cast<std::size_t>(i % p.C)].first; }),
       {[](problem const& p) { return p.E * p.C; },  // the token named has that weight
        [](problem const& p, index_t i) {
          return p.softmax(index_t{p.tokens_of[static_cast<std::size_t>(i)]}, i / p.C);
        },
        [](problem const& p, index_t i) { return -p.column(i / p.C)[static_cast<std::size_t>(i % p.C)].first; }, 1e-5}},
      {{"graft", [](problem& p, auto const& ex) {
          route(ex, graft::expert_choice{}, p.logits(), view(p.p, p.T, p.E), view(p.tokens_of, p.E, p.C),
                view(p.of_tokens, p.E, p.C));
        }}});
}

suite const all("expert_choice", [] {
  add_all(64, 8);
  add_all(4096, 64);
});

}  // namespace
