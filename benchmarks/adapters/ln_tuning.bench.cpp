// smoke: .*/fp32/T=16/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// LayerNorm with trained weights, forward and backward of weight and bias (kernels/normalize has the rest).
#include <cmath>

#include "support/rows.hpp"

namespace {
using namespace bench;

double normalized(rows const& p, index_t i) {
  index_t const first = i / p.n * p.n;
  double const mean = sum(p.n, [&](index_t k) { return value(p.x, first + k); }) / double(p.n);
  double const variance = sum(p.n, [&](index_t k) { return std::pow(value(p.x, first + k) - mean, 2); }) / double(p.n);
  return (value(p.x, i) - mean) / std::sqrt(variance + 1e-5);
}

suite const all("ln_tuning", [] {
  add_rows("forward", {.flops = 7, .read = 4, .written = 4},
           check(&rows::y, 1e-5,
                 [](rows const& p, index_t i) { return normalized(p, i) * value(p.d, i % p.n) + value(p.e, i % p.n); }),
           [](rows& p, auto const& ex) {
             normalize(ex, graft::layer_norm{view(p.d), view(p.e), 1e-5}, p.x_view(), p.y_view());
           });
  for (index_t const T : {16, 64})
    add<rows>("backward/" + label<float>({{"T", T}, {"n", 4096}}),
              {.flops = 11.0 * double(T) * 4096, .read = 8.0 * double(T) * 4096}, [=] { return rows(T, 4096); },
              {check(&rows::e, 1e-5,
                     [](rows const& p, index_t k) {
                       return value(p.e, k) +
                              sum(p.T, [&](index_t t) { return value(p.y, t * p.n + k) * normalized(p, t * p.n + k); });
                     }),
               check(&rows::signs, 1e-5,
                     [](rows const& p, index_t k) {
                       return value(p.signs, k) + sum(p.T, [&](index_t t) { return value(p.y, t * p.n + k); });
                     })},
              {{"graft", [](rows& p, auto const& ex) {
                  backward(ex, graft::layer_norm{view(p.d), view(p.z.data(), p.n), 1e-5}, p.x_view(), p.y_view(),
                           graft::norm_gradients{view(p.e), view(p.signs)}, graft::none);
                }}});
});

}  // namespace
