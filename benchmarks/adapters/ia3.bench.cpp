// smoke: .*/fp32/T=16/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// (IA)3 on outputs and on the inputs of feed-forward layers, and its backward. By signs, so that calls may follow each other.
#include "support/rows.hpp"

namespace {
using namespace bench;

suite const all("ia3", [] {
  add_rows("forward", {.flops = 1, .updated = 4},
           check(&rows::y, 0, [](rows const& p, index_t i) { return value(p.signs, i % p.n) * value(p.y, i); }),
           [](rows& p, auto const& ex) { transform_output(ex, graft::ia3{view(p.signs)}, p.x_view(), p.y_view()); });
  add_rows(
      "feedforward", {.flops = 1, .read = 4, .written = 4},
      check(&rows::y, 1e-6, [](rows const& p, index_t i) { return value(p.d, i % p.n) * value(p.x, i); }),
      [](rows& p, auto const& ex) { transform_input(ex, graft::ia3_feedforward{view(p.d)}, p.x_view(), p.y_view()); });
  add_rows("backward", {.flops = 3, .read = 4, .updated = 4},
           check(&rows::e, 1e-5,
                 [](rows const& p, index_t j) {
                   return value(p.e, j) +
                          sum(p.T, [&](index_t t) { return value(p.y, t * p.n + j) * value(p.z, t * p.n + j); });
                 }),
           [](rows& p, auto const& ex) {
             backward(ex, graft::ia3{view(p.signs)}, p.x_view(), p.z_view(), p.y_view(),
                      graft::ia3_gradients{view(p.e)}, graft::none);
           });
});

}  // namespace
