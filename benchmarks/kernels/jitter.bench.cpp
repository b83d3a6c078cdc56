// smoke: jitter/fp32/T=16/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// A router's input times random factors near 1. The ten rounds of Philox an element count as no flops, so the bound is that of a copy.
#include <cmath>

#include "support/rows.hpp"

namespace {
using namespace bench;

suite const all("jitter", [] {
  add_rows("jitter", {.flops = 3, .read = 4, .written = 4},
           check(&rows::y, 1e-6,
                 [](rows const& p, index_t i) {
                   // Word i of the stream as an odd multiple of 2^-32 in (-1, 1).
                   double const word = graft::detail::philox_word(1, 2, i);
                   return value(p.x, i) * (1 + 0.25 * std::ldexp(2 * word + 1 - 0x1p32, -32));
                 }),
           [](rows& p, auto const& ex) {
             graft::kernels::jitter(ex, graft::jitter_noise{0.25, 1, 2}, p.x_view(), p.y_view());
           });
});

}  // namespace
