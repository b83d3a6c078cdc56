// smoke: fp32/D=16/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// BOFT's dropout: blocks that become the identity. D^2 comparisons, one team.
#include "support/suite.hpp"

namespace {
using namespace bench;

struct problem {
  problem(index_t count, index_t size) : D(count), b(size), R(random(D * b * b, 1)) {}
  index_t D, b;
  buffer<float> R;
};
constexpr graft::block_dropout mask{.probability = 0.25, .seed = 1, .stream = 2};

void add_all(index_t D, index_t b) {
  double const dropped = 0.25 * double(D);
  add<problem>(
      label<float>({{"D", D}, {"b", b}}), {.flops = double(D * D), .written = 4 * dropped * double(b * b)},
      [=] { return problem(D, b); },
      {check(&problem::R, 0,
             [](problem const& p, index_t i) {
               index_t const k = i / (p.b * p.b);
               auto const number = [](index_t j) { return double(graft::detail::philox_word(1, 2, j)); };
               bool const dropped_too =
                   sum(p.D, [&](index_t j) { return number(j) < number(k) ? 1.0 : 0.0; }) < double(p.D / 4);
               if (!dropped_too) return value(p.R, i);
               return i / p.b % p.b == i % p.b ? 1.0 : 0.0;
             })},
      {{"graft", [](problem& p, auto const& ex) { graft::kernels::drop_blocks(ex, mask, blocks(p.R, p.D, p.b)); }}});
}

suite const all("block_mask", [] {
  add_all(16, 4);
  add_all(1024, 4);
});

}  // namespace
