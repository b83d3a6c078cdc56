// smoke: .*/fp32/T=16/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// LayerNorm and RMSNorm, and their backward.
#include <cmath>

#include "support/rows.hpp"

namespace {
using namespace bench;

struct moments {
  double mean, reciprocal;  // 1 / sqrt(variance + eps)
};
moments of_row(rows const& p, index_t t, bool centred) {
  double const n = double(p.n);
  double const mean = centred ? sum(p.n, [&](index_t k) { return value(p.x, t * p.n + k); }) / n : 0.0;
  double const square = sum(p.n, [&](index_t k) { return std::pow(value(p.x, t * p.n + k) - mean, 2); }) / n;
  return {mean, 1 / std::sqrt(square + 1e-5)};
}
double normalized(rows const& p, index_t i, bool centred) {
  auto const [mean, reciprocal] = of_row(p, i / p.n, centred);
  return (value(p.x, i) - mean) * reciprocal;
}
double gradient(rows const& p, index_t i, bool centred) {
  index_t const t = i / p.n;
  auto const [mean, reciprocal] = of_row(p, t, centred);
  double of_g = 0, of_gh = 0;
  for (index_t k = 0; k < p.n; ++k) {
    double const g = value(p.y, t * p.n + k) * value(p.d, k);
    of_g += centred ? g / double(p.n) : 0.0;
    of_gh += g * (value(p.x, t * p.n + k) - mean) * reciprocal / double(p.n);
  }
  double const h = (value(p.x, i) - mean) * reciprocal;
  return value(p.z, i) + (value(p.y, i) * value(p.d, i % p.n) - of_g - h * of_gh) * reciprocal;
}

suite const all("normalize", [] {
  add_rows("layer_norm", {.flops = 7, .read = 4, .written = 4},
           check(&rows::y, 1e-5,
                 [](rows const& p, index_t i) {
                   return normalized(p, i, true) * value(p.d, i % p.n) + value(p.e, i % p.n);
                 }),
           [](rows& p, auto const& ex) {
             graft::kernels::layer_norm(ex, p.x_view(), view(p.d), view(p.e), 1e-5, p.y_view());
           });
  add_rows(
      "rms_norm", {.flops = 4, .read = 4, .written = 4},
      check(&rows::y, 1e-5, [](rows const& p, index_t i) { return normalized(p, i, false) * value(p.d, i % p.n); }),
      [](rows& p, auto const& ex) {
        graft::kernels::rms_norm(ex, p.x_view(), view(p.d), graft::none, 1e-5, p.y_view());
      });
  add_rows("layer_norm_backward", {.flops = 18, .read = 8, .updated = 4},
           check(&rows::z, 1e-5, [](rows const& p, index_t i) { return gradient(p, i, true); }),
           [](rows& p, auto const& ex) {
             graft::kernels::layer_norm_backward(ex, p.x_view(), view(p.d), 1e-5, p.y_view(), view(p.e), view(p.signs),
                                                 p.z_view());
           });
  add_rows("rms_norm_backward", {.flops = 16, .read = 8, .updated = 4},
           check(&rows::z, 1e-5, [](rows const& p, index_t i) { return gradient(p, i, false); }),
           [](rows& p, auto const& ex) {
             graft::kernels::rms_norm_backward(ex, p.x_view(), view(p.d), 1e-5, p.y_view(), view(p.e), graft::none,
                                               p.z_view());
           });
});

}  // namespace
