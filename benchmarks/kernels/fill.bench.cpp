// smoke: fill/fp32/T=16/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// One number everywhere.
#include "support/rows.hpp"

namespace {
using namespace bench;

suite const all("fill", [] {
  add_rows("fill", {.written = 4}, check(&rows::y, 0, [](rows const&, index_t) { return 0.5; }),
           [](rows& p, auto const& ex) { graft::kernels::fill(ex, 0.5, p.y_view()); });
});

}  // namespace
