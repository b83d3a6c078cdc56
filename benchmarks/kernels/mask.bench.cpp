// smoke: .*/fp32/T=16/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// Whole columns kept or dropped: what masks on the factors of LoRA do.
#include "support/rows.hpp"

namespace {
using namespace bench;
constexpr graft::kernels::feature_mask mask{{.probability = 0.25, .seed = 1, .stream = 2}, 5};

suite const all("mask", [] {
  add_rows(
      "keep_columns", {.read = 4, .written = 4},
      check(&rows::y, 0, [](rows const& p, index_t i) { return mask.mask.keeps(5 + i % p.n) ? value(p.x, i) : 0.0; }),
      [](rows& p, auto const& ex) { graft::kernels::keep_columns(ex, mask, p.x_view(), p.y_view()); });
});

}  // namespace
