// smoke: .*/fp32/T=16/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// Random numbers. The rounds of Philox and the fp64 arithmetic of an element count as no flops: the bound is that of a fill.
#include <cmath>
#include <numbers>

#include "support/rows.hpp"

namespace {
using namespace bench;

suite const all("random", [] {
  add_rows("fill_uniform", {.written = 4},
           check(&rows::y, 1e-6,
                 [](rows const&, index_t i) {
                   double const word = graft::detail::philox_word(1, 2, i);
                   return 0.5 * std::ldexp(2 * word + 1 - 0x1p32, -32);
                 }),
           [](rows& p, auto const& ex) { graft::kernels::fill_uniform(ex, {1, 2}, p.y_view(), 0.5); });
  add_rows("fill_normal", {.written = 4},
           check(&rows::y, 1e-5,
                 [](rows const&, index_t i) {
                   // Box and Muller, of 52 and 53 bits of a block of four words.
                   auto const w = graft::detail::philox(1, 2, static_cast<std::uint64_t>(i));
                   double const u = (2 * (std::ldexp(w[0], 20) + (w[1] >> 12U)) + 1) * 0x1p-53;
                   double const v = (std::ldexp(w[2], 21) + (w[3] >> 11U)) * 0x1p-53;
                   return 0.5 * std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
                 }),
           [](rows& p, auto const& ex) { graft::kernels::fill_normal(ex, {1, 2}, p.y_view(), 0.5); });
});

}  // namespace
