// smoke: (add_bias|sum_rows)/fp32/T=16/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// A bias added to every row, and its gradient.
#include "support/rows.hpp"

namespace {
using namespace bench;

suite const all("bias", [] {
  add_rows("add_bias", {.flops = 2, .updated = 4},
           check(&rows::y, 1e-6, [](rows const& p, index_t i) { return value(p.y, i) + 0.5 * value(p.d, i % p.n); }),
           [](rows& p, auto const& ex) { graft::kernels::add_bias(ex, view(p.d), p.y_view(), 0.5); });
  add_rows("sum_rows", {.flops = 2, .read = 4},
           check(&rows::d, 1e-5,
                 [](rows const& p, index_t j) {
                   return value(p.d, j) + 0.5 * sum(p.T, [&](index_t t) { return value(p.y, t * p.n + j); });
                 }),
           [](rows& p, auto const& ex) { graft::kernels::sum_rows(ex, p.y_view(), view(p.d), 0.5); });
});

}  // namespace
