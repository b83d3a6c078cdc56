// smoke: (forward|backward|merge|update_reflections)/fp32/(T=8|m=512|n=4096)/r=8/threads=1/
// SPDX-License-Identifier: Apache-2.0
// HRA, n = 4096: reflections of a step (one team), inputs turned, backward and merge. The gradient of u is compared with differences of
// the reflections done one after another in double.
#include <cmath>

#include "support/suite.hpp"

namespace {
using namespace bench;

struct problem {
  index_t T, n, r;
  buffer<float> x, g, dx, u, du, vectors, spread;
  [[nodiscard]] auto rows(buffer<float>& of) { return view(of, T, n); }
  [[nodiscard]] auto hra() { return graft::hra{view(u, n, r), false, view(vectors, r, n), view(spread, n, r)}; }
  /// Row t times H, or times H^T = H_{r-1} ... H_0, with element `moved` of u larger by `by`.
  [[nodiscard]] std::vector<double> turned(buffer<float> const& of, index_t t, bool transposed, index_t moved = -1,
                                           double by = 0) const {
    std::vector<double> y(static_cast<std::size_t>(n));
    for (index_t k = 0; k < n; ++k) y[static_cast<std::size_t>(k)] = value(of, t * n + k);
    for (index_t l = 0; l < r; ++l) {
      index_t const i = transposed ? r - 1 - l : l;
      auto const at = [&](index_t k) { return value(u, k * r + i) + (k * r + i == moved ? by : 0.0); };
      double const length = sum(n, [&](index_t k) { return at(k) * at(k); });
      double const dot = sum(n, [&](index_t k) { return at(k) * y[static_cast<std::size_t>(k)]; });
      for (index_t k = 0; k < n; ++k) y[static_cast<std::size_t>(k)] -= 2 * dot / length * at(k);
    }
    return y;
  }
  /// Sum over tokens of g . x H^T.
  [[nodiscard]] double loss(index_t moved, double by) const {
    return sum(T, [&](index_t t) {
      auto const y = turned(x, t, true, moved, by);
      return sum(n, [&](index_t k) { return value(g, t * n + k) * y[static_cast<std::size_t>(k)]; });
    });
  }

  problem(index_t rows, index_t rank, index_t features = 4096)
      : T(rows),
        n(features),
        r(rank),
        x(random(T * n, 1)),
        g(random(T * n, 2)),
        dx(random(T * n, 3)),
        u(random(n * r, 4, 2.0F)),
        du(filled(n * r)),
        vectors(filled(r * n)),
        spread(filled(n * r)) {
    update_reflections(graft::serial{}, hra());
  }
};

void turn(index_t T, index_t r) {
  double const rows = 4.0 * double(T * 4096), vectors = 8.0 * double(r * 4096), flops = 4.0 * double(T * r) * 4096;
  auto const name = label<float>({{"T", T}, {"r", r}});
  auto const make = [=] { return problem(T, r); };
  add<problem>(
      "forward/" + name, {.flops = flops, .read = rows + vectors, .written = rows}, make,
      {check(
          &problem::dx, 2e-5,
          [](problem const& p, index_t i) { return p.turned(p.x, i / p.n, true)[static_cast<std::size_t>(i % p.n)]; })},
      {{"graft", [](problem& p, auto const& ex) { transform_input(ex, p.hra(), p.rows(p.x), p.rows(p.dx)); }}});
  std::vector<check_of<problem>> checks{check(&problem::dx, 2e-5, [](problem const& p, index_t i) {
    return value(p.dx, i) + p.turned(p.g, i / p.n, false)[static_cast<std::size_t>(i % p.n)];
  })};
  if (T <= 8)
    checks.push_back(check(&problem::du, 1e-4,
                           [](problem const& p, index_t i) { return (p.loss(i, 1e-4) - p.loss(i, -1e-4)) / 2e-4; }));
  add<problem>("backward/" + name, {.flops = 3 * flops, .read = 2 * rows + vectors, .updated = rows + vectors / 2},
               make, checks, {{"graft", [](problem& p, auto const& ex) {
                                 backward_input(ex, p.hra(), p.rows(p.x), p.rows(p.g),
                                                graft::hra_gradients{view(p.du, p.n, p.r)}, p.rows(p.dx));
                               }}});
}

suite const all("hra", [] {
  for (index_t const r : {8, 32})
    add<problem>(
        "update_reflections/" + label<float>({{"n", 4096}, {"r", r}}),
        {.flops = 6.0 * double(r * r) * 4096, .read = 4.0 * double(r) * 4096, .written = 8.0 * double(r) * 4096},
        [=] { return problem(1, r); },
        {check(&problem::vectors, 1e-6,
               [](problem const& p, index_t i) {
                 index_t const j = i / p.n;
                 double const length = sum(p.n, [&](index_t k) { return std::pow(value(p.u, k * p.r + j), 2); });
                 return value(p.u, i % p.n * p.r + j) / std::sqrt(length);
               })},
        {{"graft", [](problem& p, auto const& ex) { update_reflections(ex, p.hra()); }}});
  for (index_t const T : {8, 512}) turn(T, 8);
  for (index_t const m : {512, 4096})
    add<problem>("merge/" + label<float>({{"m", m}, {"r", 8}}),
                 {.flops = 4.0 * double(m * 8) * 4096, .read = 8.0 * 8 * 4096, .updated = 4.0 * double(m) * 4096},
                 [=] { return problem(m, 8); },
                 {check(&problem::x, 2e-5,
                        [](problem const& p, index_t i) {
                          return p.turned(p.x, i / p.n, false)[static_cast<std::size_t>(i % p.n)];
                        })},
                 {{"graft", [](problem& p, auto const& ex) { merge(ex, p.hra(), p.rows(p.x)); }}});
});

}  // namespace
