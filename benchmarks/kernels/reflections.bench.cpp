// smoke: .*/fp32/n=4096/r=8/threads=1/
// SPDX-License-Identifier: Apache-2.0
// Unit vectors of reflections and what they are spread to, once a step: one team, in fp64. The bound is that of fp32's multiply-adds.
// (Their gradient is part of the suite of hra.)
#include <cmath>

#include "support/square.hpp"
#include "support/suite.hpp"

namespace {
using namespace bench;

struct problem {
  problem(index_t features, index_t rank)
      : n(features), r(rank), u(random(n * r, 1, 2.0F)), v(random(r * n, 2, 0.03F)), out(filled(n * r)) {}
  index_t n, r;
  buffer<float> u, v, out;
  /// S^-1 = I / 2 + the strict upper triangle of V^T V.
  [[nodiscard]] square S() const {
    square s(r, 0.5);
    for (index_t i = 0; i < r; ++i)
      for (index_t j = i + 1; j < r; ++j)
        s(i, j) = sum(n, [&](index_t k) { return value(v, i * n + k) * value(v, j * n + k); });
    return s.inverse();
  }
};

void add_all(index_t n, index_t r) {
  auto const make = [=] { return problem(n, r); };
  auto const name = label<float>({{"n", n}, {"r", r}});
  double const count = double(n * r);
  add<problem>("unit_vectors/" + name, {.flops = 2 * count, .read = 4 * count, .written = 4 * count}, make,
               {check(&problem::v, 1e-6,
                      [](problem const& p, index_t i) {
                        index_t const j = i / p.n;
                        double const square_sum =
                            sum(p.n, [&](index_t k) { return std::pow(value(p.u, k * p.r + j), 2); });
                        return value(p.u, i % p.n * p.r + j) / std::sqrt(square_sum);
                      })},
               {{"graft", [](problem& p, auto const& ex) {
                   graft::kernels::unit_vectors(ex, view(p.u, p.n, p.r), false, view(p.v, p.r, p.n));
                 }}});
  add<problem>("spread_vectors/" + name, {.flops = 4 * count * double(r), .read = 4 * count, .written = 4 * count},
               make,
               {check(&problem::out, 1e-6,
                      [](problem const& p, index_t i) {
                        square const s = p.S();
                        return sum(p.r, [&](index_t l) { return value(p.v, l * p.n + i / p.r) * s(l, i % p.r); });
                      })},
               {{"graft", [](problem& p, auto const& ex) {
                   graft::kernels::spread_vectors(ex, view(p.v, p.r, p.n), false, view(p.out, p.n, p.r));
                 }}});
}

suite const all("reflections", [] {
  for (index_t const r : {8, 32}) add_all(4096, r);
});

}  // namespace
