// smoke: (exact|series)/fp32/D=16/b=4/threads=1/
// SPDX-License-Identifier: Apache-2.0
// Rotations of packed skew parameters: exact, beside a loop of Eigen's LU, and by five terms of the series.
#include "support/peers.hpp"
#include "support/square.hpp"
#include "support/suite.hpp"

namespace {
using namespace bench;

struct problem {
  problem(index_t count, index_t size)
      : D(count), b(size), v(random(D * b * (b - 1) / 2, 1, 0.2F)), R(filled(D * b * b)) {}
  index_t D, b;
  buffer<float> v, R;
  [[nodiscard]] auto parameters() { return view(v, D, b * (b - 1) / 2); }
};

void add_all(index_t D, index_t b) {
  auto const make = [=] { return problem(D, b); };
  double const cube = double(D * b * b * b);
  double const read = 2.0 * double(D * b * (b - 1)), written = 4.0 * double(D * b * b);
  add<problem>(
      "exact/" + label<float>({{"D", D}, {"b", b}}), {.flops = 2 * cube, .read = read, .written = written}, make,
      {check(&problem::R, 2e-5,
             [](problem const& p, index_t i) { return cayley_of(p.v, i / (p.b * p.b), p.b)[i % (p.b * p.b)]; })},
      {{"graft", [](problem& p, auto const& ex) { graft::kernels::cayley(ex, p.parameters(), blocks(p.R, p.D, p.b)); }},
       {"eigen_lu", [](problem& p, auto const&) { peers::eigen_cayley(p.v.data(), p.R.data(), p.D, p.b); }}});
  add<problem>(
      "series/" + label<float>({{"D", D}, {"b", b}}), {.flops = 8 * cube, .read = read, .written = written}, make,
      {check(&problem::R, 2e-5,
             [](problem const& p, index_t i) { return cayley_series_of(p.v, i / (p.b * p.b), p.b)[i % (p.b * p.b)]; })},
      {{"graft", [](problem& p, auto const& ex) {
          graft::kernels::cayley_neumann(ex, p.parameters(), 5, blocks(p.R, p.D, p.b));
        }}});
}

suite const all("cayley", [] {
  add_all(16, 4);
  add_all(1024, 4);
  add_all(128, 32);
});

}  // namespace
