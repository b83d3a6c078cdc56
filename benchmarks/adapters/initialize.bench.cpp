// smoke: .*/fp32/r=16/threads=1/
// SPDX-License-Identifier: Apache-2.0
// A fresh LoRA, n = m = 4096. The rounds of Philox an element count as no flops: the bound is that of a fill.
#include <cmath>

#include "support/suite.hpp"

namespace {
using namespace bench;

suite const all("initialize", [] {
  for (index_t const r : {16, 64})
    add<low_rank<float>>("kaiming_uniform/" + label<float>({{"r", r}}), {.written = 8.0 * double(r) * 4096},
                         [=] { return low_rank<float>({1, r}); },
                         {check(&low_rank<float>::A, 1e-6,
                                [](low_rank<float> const&, index_t i) {
                                  double const word = graft::detail::philox_word(1, 2, i);
                                  return std::ldexp(2 * word + 1 - 0x1p32, -32) / 64;
                                }),
                          check(&low_rank<float>::B, 0, [](low_rank<float> const&, index_t) { return 0.0; })},
                         {{"graft", [](low_rank<float>& p, auto const& ex) {
                             initialize(ex, p.lora(), graft::kaiming_uniform{1, 2});
                           }}});
});

}  // namespace
