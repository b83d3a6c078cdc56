// smoke: (drop|drop_add)/fp32/T=16/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// Dropout and its backward. The ten rounds of Philox an element count as no flops, so the bound is that of a copy.
#include "support/rows.hpp"

namespace {
using namespace bench;
constexpr graft::dropout mask{.probability = 0.25, .seed = 1, .stream = 2};
double dropped(rows const& p, index_t i) { return mask.keeps(i) ? value(p.x, i) / 0.75 : 0.0; }

suite const all("dropout", [] {
  add_rows("drop", {.flops = 1, .read = 4, .written = 4}, check(&rows::y, 1e-6, dropped),
           [](rows& p, auto const& ex) { graft::kernels::drop(ex, mask, p.x_view(), p.y_view()); });
  add_rows("drop_add", {.flops = 2, .read = 4, .updated = 4},
           check(&rows::y, 1e-6, [](rows const& p, index_t i) { return value(p.y, i) + dropped(p, i); }),
           [](rows& p, auto const& ex) { graft::kernels::drop_add(ex, mask, p.x_view(), p.y_view()); });
});

}  // namespace
