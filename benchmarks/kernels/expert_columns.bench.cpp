// smoke: fp32/T=64/E=8/k=2/threads=1/
// SPDX-License-Identifier: Apache-2.0
// What experts hold for the C = k T / E tokens that they chose, as a matrix over tokens.
#include "support/routed.hpp"

namespace {
using namespace bench;

struct problem : routed {
  problem(index_t tokens, index_t experts, index_t choices)
      : routed(tokens, experts, choices), C(T * k / E), tokens_of(filled<std::int32_t>(E * C)) {
    for (index_t e = 0; e < E; ++e)  // distinct: multiples of an odd number, T is a power of 2
      for (index_t s = 0; s < C; ++s)
        tokens_of[static_cast<std::size_t>(e * C + s)] = static_cast<std::int32_t>((e + 37 * s) % T);
  }
  index_t C;
  buffer<std::int32_t> tokens_of;
};

void add_all(index_t T, index_t E, index_t k) {
  double const chosen = double(T * k);
  add<problem>(label<float>({{"T", T}, {"E", E}, {"k", k}}),
               {.read = 8 * chosen, .written = 4.0 * double(T * E) + 4 * chosen}, [=] { return problem(T, E, k); },
               {check(&problem::p, 0,
                      [](problem const& p, index_t i) {
                        index_t const e = i % p.E;
                        return sum(p.C, [&](index_t s) {
                          return value(p.tokens_of, e * p.C + s) == double(i / p.E) ? value(p.w, e * p.C + s) : 0.0;
                        });
                      })},
               {{"graft", [](problem& p, auto const& ex) {
                   graft::kernels::spread_columns(ex, view(p.tokens_of, p.E, p.C), view(p.w, p.E, p.C),
                                                  view(p.p, p.T, p.E));
                 }}});
}

suite const all("expert_columns", [] {
  add_all(64, 8, 2);
  add_all(4096, 64, 2);
});

}  // namespace
