// smoke: .*/fp32/T=16/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// Rows and columns scaled in place (by signs, so that numbers stay what they are), and rows that are too long.
#include <cmath>

#include "support/rows.hpp"

namespace {
using namespace bench;

suite const all("scale", [] {
  add_rows("scale_rows", {.flops = 1, .updated = 4},
           check(&rows::y, 0, [](rows const& p, index_t i) { return value(p.signs, i / p.n) * value(p.y, i); }),
           [](rows& p, auto const& ex) { graft::kernels::scale_rows(ex, view(p.signs.data(), p.T), p.y_view()); });
  add_rows("scale_columns", {.flops = 1, .updated = 4},
           check(&rows::y, 0, [](rows const& p, index_t i) { return value(p.signs, i % p.n) * value(p.y, i); }),
           [](rows& p, auto const& ex) { graft::kernels::scale_columns(ex, view(p.signs), p.y_view()); });
  add_rows("limit_row_norms", {.flops = 3, .updated = 4},
           check(&rows::y, 1e-6,
                 [](rows const& p, index_t i) {
                   index_t const t = i / p.n;
                   double const length = std::sqrt(
                       sum(p.n, [&](index_t k) { return value(p.y, t * p.n + k) * value(p.y, t * p.n + k); }));
                   return value(p.y, i) * std::fmin(1.0, 20.0 / length);
                 }),
           [](rows& p, auto const& ex) { graft::kernels::limit_row_norms(ex, p.y_view(), 20.0); });
});

}  // namespace
