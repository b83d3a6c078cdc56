// smoke: (forward|backward|update_rotations|merge)/fp32/(T=8/b=32|D=16/b=4|m=512/b=32)/threads=1/
// SPDX-License-Identifier: Apache-2.0
// OFT, n = 4096: rotations of a step (five terms of the series), inputs turned, backward and merge.
#include "support/rotation.hpp"
#include "support/square.hpp"
#include "support/suite.hpp"

namespace {
using namespace bench;

struct problem {
  index_t T, n, N, b;
  buffer<float> x, y, dx, v, dv, R;
  [[nodiscard]] index_t packed() const { return b * (b - 1) / 2; }
  [[nodiscard]] auto parameters(buffer<float>& of) { return view(of, n / b, packed()); }
  [[nodiscard]] auto oft() { return graft::oft{parameters(v), n, b, 5, blocks(R, n / b, b)}; }
  [[nodiscard]] auto rows(buffer<float>& of) { return view(of, T, n); }
  /// x^T y of the features of a block.
  [[nodiscard]] square gradient(index_t k) const {
    square g(b);
    for (index_t i = 0; i < b; ++i)
      for (index_t j = 0; j < b; ++j)
        g(i, j) = sum(T, [&](index_t t) { return value(x, t * n + k * b + i) * value(y, t * n + k * b + j); });
    return g;
  }

  problem(index_t rows, index_t size, index_t features = 4096)
      : T(rows),
        n(features),
        N(1),
        b(size),
        x(random(T * n, 1)),
        y(random(T * n, 2)),
        dx(random(T * n, 3)),
        v(random(n / b * packed(), 4, 0.02F)),
        dv(random(n / b * packed(), 5)),
        R(filled(n * b)) {
    update_rotations(graft::serial{}, oft());
  }
};

void step(index_t D, index_t b) {
  double const count = double(D * b * b);
  add<problem>(
      "update_rotations/" + label<float>({{"D", D}, {"b", b}}),
      {.flops = 8 * count * double(b), .read = 2 * count, .written = 4 * count}, [=] { return problem(1, b, D * b); },
      {check(&problem::R, 2e-5,
             [](problem const& p, index_t i) { return cayley_series_of(p.v, i / (p.b * p.b), p.b)[i % (p.b * p.b)]; })},
      {{"graft", [](problem& p, auto const& ex) { update_rotations(ex, p.oft()); }}});
}

void turn(index_t T, index_t b) {
  double const rows = 4.0 * double(T * 4096), of_blocks = 4.0 * double(4096 * b), flops = 2.0 * double(T * b) * 4096;
  auto const name = label<float>({{"T", T}, {"b", b}});
  auto const make = [=] { return problem(T, b); };
  add<problem>(
      "forward/" + name, {.flops = flops, .read = rows + of_blocks, .written = rows}, make,
      {check(&problem::y, 2e-5, [](problem const& p, index_t i) { return turned(p, p.x, 0, i / p.n, i % p.n); })},
      {{"graft", [](problem& p, auto const& ex) { transform_input(ex, p.oft(), p.rows(p.x), p.rows(p.y)); }}});
  add<problem>(
      "backward/" + name,
      {.flops = 2 * flops + 24.0 * double(b * b) * 4096,  // of the blocks' gradient through the series
       .read = 2 * rows + of_blocks,
       .updated = rows + of_blocks / 2},
      make,
      {check(&problem::dx, 2e-5,
             [](problem const& p, index_t i) { return value(p.dx, i) + turned_back(p, p.y, 0, i / p.n, i % p.n); }),
       check(&problem::dv, 5e-5,
             [](problem const& p, index_t i) {
               index_t const k = i / p.packed();
               return value(p.dv, i) +
                      cayley_series_gradient(square::skew(p.v, k, p.b), p.gradient(k), p.b).of_pair(i % p.packed());
             })},
      {{"graft", [](problem& p, auto const& ex) {
          backward_input(ex, p.oft(), p.rows(p.x), p.rows(p.y), graft::oft_gradients{p.parameters(p.dv)}, p.rows(p.dx));
        }}});
}

void merging(index_t m, index_t b) {
  add<problem>(
      "merge/" + label<float>({{"m", m}, {"b", b}}),
      {.flops = 2.0 * double(m * b) * 4096, .read = 4.0 * double(4096 * b), .updated = 4.0 * double(m * 4096)},
      [=] { return problem(m, b); },
      {check(&problem::x, 2e-5, [](problem const& p, index_t i) { return turned_back(p, p.x, 0, i / p.n, i % p.n); })},
      {{"graft", [](problem& p, auto const& ex) { merge(ex, p.oft(), p.rows(p.x)); }}});
}

suite const all("oft", [] {
  step(16, 4);
  step(128, 32);
  for (index_t const T : {1, 8, 64, 512}) turn(T, 32);
  for (index_t const m : {512, 4096}) merging(m, 32);
});

}  // namespace
