// smoke: .*/fp32/T=16/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// Pairs of features turned in groups of 64, in place, and the gradient of their sines. Of rotations, so that calls may follow each other.
#include <cmath>

#include "support/rows.hpp"

namespace {
using namespace bench;

index_t other(index_t j) { return j % 64 < 32 ? j + 32 : j - 32; }

suite const all("pairs", [] {
  add_rows("rotate_pairs", {.flops = 3, .updated = 4},
           check(&rows::y, 1e-6,
                 [](rows const& p, index_t i) {
                   double const sign = i % 64 < 32 ? -1 : 1;
                   return 0.8 * value(p.y, i) + sign * 0.6 * value(p.y, other(i));
                 }),
           [](rows& p, auto const& ex) {
             static buffer<float> const c = filled(4096, 0.8F), s = filled(4096, 0.6F);
             graft::kernels::rotate_pairs(ex, view(c), view(s), 64, p.y_view());
           });
  add_rows("dot_pairs", {.flops = 2, .read = 8},
           check(&rows::d, 1e-5,
                 [](rows const& p, index_t j) {
                   double const sign = j % 64 < 32 ? -1 : 1;
                   return value(p.d, j) + sign * sum(p.T, [&](index_t t) {
                                            return value(p.x, t * p.n + j) * value(p.y, t * p.n + other(j));
                                          });
                 }),
           [](rows& p, auto const& ex) { graft::kernels::dot_pairs(ex, p.y_view(), p.x_view(), 64, view(p.d)); });
});

}  // namespace
