// smoke: .*/fp32/T=16/.*threads=1/|divide/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// Vectors that scale columns, and their gradients.
#include "support/rows.hpp"

namespace {
using namespace bench;

suite const all("columns", [] {
  add_rows(
      "add_scaled_columns", {.flops = 3, .read = 4, .updated = 4},
      check(&rows::y, 1e-6,
            [](rows const& p, index_t i) { return value(p.y, i) + (value(p.d, i % p.n) - 1) * value(p.x, i); }),
      [](rows& p, auto const& ex) { graft::kernels::add_scaled_columns(ex, view(p.d), p.x_view(), p.y_view(), -1.0); });
  add_rows("dot_columns", {.flops = 2, .read = 8},
           check(&rows::d, 1e-5,
                 [](rows const& p, index_t j) {
                   return value(p.d, j) +
                          sum(p.T, [&](index_t t) { return value(p.x, t * p.n + j) * value(p.y, t * p.n + j); });
                 }),
           [](rows& p, auto const& ex) { graft::kernels::dot_columns(ex, p.x_view(), p.y_view(), view(p.d)); });
  add<rows>("divide/" + label<float>({{"n", 4096}}), {.flops = 4096, .read = 8.0 * 4096, .written = 4.0 * 4096},
            [] { return rows(1, 4096); },
            {check(&rows::y, 1e-6, [](rows const& p, index_t j) { return value(p.d, j) / value(p.e, j); })},
            {{"graft", [](rows& p, auto const& ex) { graft::kernels::divide(ex, view(p.d), view(p.e), view(p.y)); }}});
});

}  // namespace
