// smoke: .*/fp32/T=8/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// LoRA Dropout: masks on the factors and the forward with them, n = m = 4096, r = 16.
#include "support/suite.hpp"

namespace {
using namespace bench;

constexpr graft::lora_dropout mask{.probability = 0.25, .seed = 1, .stream = 2};
struct problem : trained<float> {
  using trained<float>::trained;
};

void add_all(shape const& s) {
  double const factors = 4.0 * double(s.r * (s.n + s.m));
  add<problem>("forward/" + label<float>({{"T", s.T}, {"r", s.r}}),
               {.flops = s.flops(),
                .read = 2 * factors + 4.0 * double(s.T * s.n),
                .updated = 4.0 * double(s.T * s.m),
                .written = factors},
               [=] { return problem(s); },
               {check(&problem::y, 2e-5,
                      [](problem const& p, index_t i) {
                        auto const keeps_in = mask.inputs(), keeps_out = mask.outputs();
                        index_t const t = i / p.s.m, o = i % p.s.m;
                        if (!keeps_out.keeps(o)) return value(p.y, i);
                        return value(p.y, i) + 0.5 * sum(p.s.r, [&](index_t j) {
                                                 return value(p.B, o * p.s.r + j) * sum(p.s.n, [&](index_t k) {
                                                          return keeps_in.keeps(k) ? value(p.x, t * p.s.n + k) *
                                                                                         value(p.A, j * p.s.n + k)
                                                                                   : 0.0;
                                                        });
                                               });
                      })},
               {{"graft", [](problem& p, auto const& ex) {
                   add_delta(ex, drop(ex, p.lora(), mask, p.dA_view(), p.dB_view()), p.x_view(), p.y_view());
                 }}});
}

suite const all("lora_dropout", [] {
  for (index_t const T : {8, 512}) add_all({T, 16});
});

}  // namespace
