// smoke: (forward|backward|update_rotations|merge)/fp32/(T=8|D=16|m=512)/b=4/N=2/threads=1/
// SPDX-License-Identifier: Apache-2.0
// BOFT, n = 4096: rotations of a step (exact), inputs turned by N factors, backward and merge.
#include "support/rotation.hpp"
#include "support/square.hpp"
#include "support/suite.hpp"

namespace {
using namespace bench;

struct problem {
  index_t T, n, N, b;
  buffer<float> x, y, dx, A, dA, R, s;
  [[nodiscard]] auto of(buffer<float>& data) { return factors(data, N, n / b, b); }
  [[nodiscard]] auto boft() { return graft::boft{of(A), view(s), of(R)}; }
  [[nodiscard]] auto rows(buffer<float>& data) { return view(data, T, n); }
  /// Q = (A - A^T) / 2 of a block.
  [[nodiscard]] square skew(index_t block) const {
    square const a(A, block, b);
    return 0.5 * (a - a.transposed());
  }
  [[nodiscard]] square rotation(index_t block) const {
    square const one(b, 1.0), q = skew(block);
    return (one - q) * (one + q).inverse();
  }
  /// The gradient of a block of factor f: what went into the factor, transposed, times the gradient of what came out.
  [[nodiscard]] square gradient(index_t block) const {
    index_t const f = block / (n / b), k = block % (n / b);
    square g(b);
    for (index_t t = 0; t < T; ++t)
      for (index_t i = 0; i < b; ++i)
        for (index_t j = 0; j < b; ++j)
          g(i, j) +=
              turned(*this, x, f + 1, t, feature(b, f, k, i)) * turned_back(*this, y, f - 1, t, feature(b, f, k, j));
    return g;
  }

  problem(index_t rows, index_t size, index_t count, index_t features = 4096)
      : T(rows),
        n(features),
        N(count),
        b(size),
        x(random(T * n, 1)),
        y(random(T * n, 2)),
        dx(random(T * n, 3)),
        A(random(N * n * b, 4, 0.2F)),
        dA(random(N * n * b, 5)),
        R(filled(N * n * b)),
        s(filled(T, 1.0F)) {
    update_rotations(graft::serial{}, boft());
  }
};

void step(index_t D, index_t b, index_t N) {
  double const count = double(N * D * b * b);
  add<problem>("update_rotations/" + label<float>({{"D", D}, {"b", b}, {"N", N}}),
               {.flops = 2 * count * double(b), .read = 4 * count, .written = 4 * count},
               [=] { return problem(1, b, N, D * b); },
               {check(&problem::R, 2e-5,
                      [](problem const& p, index_t i) { return p.rotation(i / (p.b * p.b))[i % (p.b * p.b)]; })},
               {{"graft", [](problem& p, auto const& ex) { update_rotations(ex, p.boft()); }}});
}

void turn(index_t T, index_t b, index_t N) {
  double const rows = 4.0 * double(T * 4096), of_blocks = 4.0 * double(N * 4096 * b);
  double const flops = 2.0 * double(T * N * b) * 4096;
  auto const name = label<float>({{"T", T}, {"b", b}, {"N", N}});
  auto const make = [=] { return problem(T, b, N); };
  add<problem>(
      "forward/" + name, {.flops = flops, .read = rows + of_blocks, .written = rows}, make,
      {check(&problem::y, 2e-5, [](problem const& p, index_t i) { return turned(p, p.x, 0, i / p.n, i % p.n); })},
      {{"graft", [](problem& p, auto const& ex) { transform_input(ex, p.boft(), p.rows(p.x), p.rows(p.y)); }}});
  add<problem>(
      "backward/" + name,
      {.flops = 4 * flops + 4.0 * double(N * b * b) * 4096, .read = 2 * rows + of_blocks, .updated = rows + of_blocks},
      make,
      {check(
           &problem::dx, 2e-5,
           [](problem const& p, index_t i) { return value(p.dx, i) + turned_back(p, p.y, p.N - 1, i / p.n, i % p.n); }),
       check(&problem::dA, 5e-5,
             [](problem const& p, index_t i) {
               index_t const block = i / (p.b * p.b);
               square const q = cayley_gradient(p.rotation(block), p.gradient(block), p.b);
               return value(p.dA, i) + 0.5 * (q - q.transposed())[i % (p.b * p.b)];
             })},
      {{"graft", [](problem& p, auto const& ex) {
          graft::boft_gradients<decltype(p.of(p.dA))> const g{p.of(p.dA), {}};
          backward_input(ex, p.boft(), p.rows(p.x), p.rows(p.y), g, p.rows(p.dx));
        }}});
}

void merging(index_t m, index_t b, index_t N) {
  add<problem>(
      "merge/" + label<float>({{"m", m}, {"b", b}, {"N", N}}),
      {.flops = 2.0 * double(m * N * b) * 4096, .read = 4.0 * double(N * 4096 * b), .updated = 4.0 * double(m * 4096)},
      [=] { return problem(m, b, N); },
      {check(&problem::x, 2e-5,
             [](problem const& p, index_t i) { return turned_back(p, p.x, p.N - 1, i / p.n, i % p.n); })},
      {{"graft", [](problem& p, auto const& ex) { merge(ex, p.boft(), p.rows(p.x)); }}});
}

suite const all("boft", [] {
  step(16, 4, 2);
  step(1024, 4, 4);
  for (index_t const T : {8, 512}) {
    turn(T, 4, 2);
    turn(T, 4, 4);
  }
  for (index_t const m : {512, 4096}) merging(m, 4, 2);
});

}  // namespace
