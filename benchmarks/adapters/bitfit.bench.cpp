// smoke: .*/fp32/T=16/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// BitFit: a bias added to every row, and its gradient.
#include "support/rows.hpp"

namespace {
using namespace bench;

suite const all("bitfit", [] {
  add_rows("forward", {.flops = 1, .updated = 4},
           check(&rows::y, 1e-6, [](rows const& p, index_t i) { return value(p.y, i) + value(p.d, i % p.n); }),
           [](rows& p, auto const& ex) { add_delta(ex, graft::bitfit{view(p.d)}, p.x_view(), p.y_view()); });
  add_rows("backward", {.flops = 1, .read = 4},
           check(&rows::e, 1e-5,
                 [](rows const& p, index_t j) {
                   return value(p.e, j) + sum(p.T, [&](index_t t) { return value(p.y, t * p.n + j); });
                 }),
           [](rows& p, auto const& ex) {
             backward(ex, graft::bitfit{view(p.d)}, p.x_view(), p.y_view(), graft::bitfit_gradients{view(p.e)},
                      graft::none);
           });
});

}  // namespace
