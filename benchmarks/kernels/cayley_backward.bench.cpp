// smoke: exact/fp32/D=16/b=4/threads=1/
// SPDX-License-Identifier: Apache-2.0
// Gradients of packed skew parameters: of the exact rotation, and of five terms of the series.
#include "support/square.hpp"
#include "support/suite.hpp"

namespace {
using namespace bench;

struct problem {
  problem(index_t count, index_t size)
      : D(count),
        b(size),
        v(random(D * b * (b - 1) / 2, 1, 0.2F)),
        R(random(D * b * b, 2, 0.5F)),
        dR(random(D * b * b, 3)),
        d(filled(D * b * (b - 1) / 2)) {}
  index_t D, b;
  buffer<float> v, R, dR, d;
  [[nodiscard]] index_t packed() const { return b * (b - 1) / 2; }
};

void add_all(index_t D, index_t b) {
  auto const make = [=] { return problem(D, b); };
  double const cube = double(D * b * b * b), matrices = 4.0 * double(D * b * b);
  add<problem>("exact/" + label<float>({{"D", D}, {"b", b}}),
               {.flops = 4 * cube, .read = 2 * matrices, .updated = matrices / 2}, make,
               {check(&problem::d, 5e-5,
                      [](problem const& p, index_t i) {
                        index_t const k = i / p.packed();
                        return cayley_gradient(square(p.R, k, p.b), square(p.dR, k, p.b), p.b).of_pair(i % p.packed());
                      })},
               {{"graft", [](problem& p, auto const& ex) {
                   graft::kernels::cayley_backward(ex, blocks(p.R, p.D, p.b), blocks(p.dR, p.D, p.b),
                                                   view(p.d, p.D, p.packed()));
                 }}});
  add<problem>(
      "series/" + label<float>({{"D", D}, {"b", b}}),
      {.flops = 24 * cube, .read = 1.5 * matrices, .updated = matrices / 2}, make,
      {check(
          &problem::d, 5e-5,
          [](problem const& p, index_t i) {
            index_t const k = i / p.packed();
            return cayley_series_gradient(square::skew(p.v, k, p.b), square(p.dR, k, p.b), p.b).of_pair(i % p.packed());
          })},
      {{"graft", [](problem& p, auto const& ex) {
          graft::kernels::cayley_neumann_backward(ex, view(p.v, p.D, p.packed()), 5, blocks(p.dR, p.D, p.b),
                                                  view(p.d, p.D, p.packed()));
        }}});
}

suite const all("cayley_backward", [] {
  add_all(16, 4);
  add_all(1024, 4);
  add_all(128, 32);
});

}  // namespace
