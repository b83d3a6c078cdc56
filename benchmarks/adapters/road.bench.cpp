// smoke: .*/fp32/T=16/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// RoAd on outputs, in groups of 64: pairs of features turned. alpha = 1, so that calls may follow each other.
#include <cmath>

#include "support/rows.hpp"

namespace {
using namespace bench;

struct problem : rows {
  buffer<float> theta, alpha, factors;
  [[nodiscard]] auto road() { return graft::road{view(theta), view(alpha), 64, view(factors, 2, n)}; }

  problem(index_t tokens, index_t features)
      : rows(tokens, features), theta(random(n, 7, 6.0F)), alpha(filled(n, 1.0F)), factors(filled(2 * n)) {
    for (index_t j = 0; j < n; ++j)  // one angle a pair: a rotation
      if (j % 64 >= 32) theta[static_cast<std::size_t>(j)] = theta[static_cast<std::size_t>(j - 32)];
    update_factors(graft::serial{}, road());
  }
};

suite const all("road", [] {
  for (index_t const T : {16, 1024}) {
    double const count = double(T) * 4096;
    add<problem>(
        "forward/" + label<float>({{"T", T}, {"n", 4096}}),
        {.flops = 3 * count, .read = 8.0 * 4096, .updated = 4 * count}, [=] { return problem(T, 4096); },
        {check(&problem::y, 1e-6,
               [](problem const& p, index_t i) {
                 double const angle = value(p.theta, i % p.n);
                 double const other = i % 64 < 32 ? -value(p.y, i + 32) : value(p.y, i - 32);
                 return std::cos(angle) * value(p.y, i) + std::sin(angle) * other;
               })},
        {{"graft", [](problem& p, auto const& ex) { transform_output(ex, p.road(), p.x_view(), p.y_view()); }}});
  }
});

}  // namespace
