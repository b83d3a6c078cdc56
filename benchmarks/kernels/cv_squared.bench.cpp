// smoke: fp32/E=64/threads=1/
// SPDX-License-Identifier: Apache-2.0
// The squared coefficient of variation of E numbers, and its gradient. One team.
#include "support/routed.hpp"

namespace {
using namespace bench;

struct problem {
  explicit problem(index_t experts) : E(experts), v(random(E, 1)), dv(random(E, 2)), loss(filled(1)) {
    for (float& x : v) x += 1;
  }
  index_t E;
  buffer<float> v, dv, loss;
  [[nodiscard]] double mean() const {
    return sum(E, [&](index_t e) { return value(v, e); }) / double(E);
  }
  [[nodiscard]] double variance() const {
    double const m = mean();
    return sum(E, [&](index_t e) { return (value(v, e) - m) * (value(v, e) - m); }) / double(E);
  }
};

void add_all(index_t E) {
  add<problem>(
      label<float>({{"E", E}}), {.flops = 8.0 * double(E), .read = 4.0 * double(E), .updated = 4.0 * double(E)},
      [=] { return problem(E); },
      {check(&problem::loss, 1e-5,
             [](problem const& p, index_t) { return 0.5 * p.variance() / (p.mean() * p.mean()); }),
       check(&problem::dv, 1e-5,
             [](problem const& p, index_t e) {
               double const m = p.mean(), n = double(p.E);
               return value(p.dv, e) +
                      0.5 * (2 * (value(p.v, e) - m) / (n * m * m) - 2 * p.variance() / (n * m * m * m));
             })},
      {{"graft",
        [](problem& p, auto const& ex) { graft::kernels::cv_squared(ex, view(p.v), 0.5, view(p.loss), view(p.dv)); }}});
}

suite const all("cv_squared", [] {
  for (index_t const E : {64, 4096}) add_all(E);
});

}  // namespace
