// smoke: fp32/T=8/b=8/N=1/threads=1/|gradient/fp32/T=8/b=32/threads=1/
// SPDX-License-Identifier: Apache-2.0
// Block rotations of n = 4096 features by 1 to 4 butterfly factors, beside a copy of x and a read of the blocks for each factor (what
// caches allow) and Eigen's product a block (one factor); the gradient of a factor's blocks; merging beside a dense rotation.
#include "support/peers.hpp"
#include "support/rotation.hpp"
#include "support/suite.hpp"

#include <benchmark/benchmark.h>

namespace {
using namespace bench;

struct problem {
  problem(index_t tokens, index_t size, index_t count, index_t features = 4096)
      : T(tokens),
        n(features),
        N(count),
        b(size),
        x(random(T * n, 1)),
        y(random(T * n, 2)),
        R(random(N * n * b, 3, 1.0F)),
        dR(filled(n * b)) {}
  index_t T, n, N, b;
  buffer<float> x, y, R, dR;
  [[nodiscard]] auto x_view() { return view(x, T, n); }
  [[nodiscard]] auto y_view() { return view(y, T, n); }
  [[nodiscard]] auto factor_view() { return factors(R, N, n / b, b); }
};

void rotate(index_t T, index_t b, index_t N) {
  auto const make = [=] { return problem(T, b, N); };
  std::vector<column<problem>> columns{
      {"graft",
       [](problem& p, auto const& ex) { graft::kernels::rotate_blocks(ex, p.x_view(), p.factor_view(), p.y_view()); }},
      {"stream",
       [](problem& p, auto const& ex) {
         benchmark::DoNotOptimize(
             peers::stream(ex.threads, p.x.data(), p.y.data(), p.T * p.n, p.R.data(), p.n * p.b, p.N));
       },
       false}};
  if (N == 1)
    columns.push_back({"eigen", [](problem& p, auto const& ex) {
                         peers::eigen_rotate_blocks(ex.threads, p.x.data(), p.R.data(), p.y.data(), p.T, p.n, p.b);
                       }});
  add<problem>(
      label<float>({{"T", T}, {"b", b}, {"N", N}}),
      {.flops = 2.0 * double(T * N * 4096 * b),
       .read = 4.0 * double(T * 4096 + N * 4096 * b),
       .written = 4.0 * double(T * 4096)},
      make, {check(&problem::y, 2e-5, [](problem const& p, index_t i) { return turned(p, p.x, 0, i / p.n, i % p.n); })},
      columns);
}

void gradient(index_t T, index_t b) {
  add<problem>("gradient/" + label<float>({{"T", T}, {"b", b}}),
               {.flops = 2.0 * double(T * 4096 * b), .read = 8.0 * double(T * 4096), .updated = 4.0 * double(4096 * b)},
               [=] { return problem(T, b, 1); },
               {check(&problem::dR, 2e-5,
                      [](problem const& p, index_t i) {
                        index_t const k = i / (p.b * p.b), row = i / p.b % p.b, column = i % p.b;
                        return sum(p.T, [&](index_t t) {
                          return value(p.x, t * p.n + k * p.b + row) * value(p.y, t * p.n + k * p.b + column);
                        });
                      })},
               {{"graft", [](problem& p, auto const& ex) {
                   graft::kernels::rotate_blocks_gradient(ex, p.x_view(), p.y_view(), 0, blocks(p.dR, p.n / p.b, p.b));
                 }}});
}

struct weight : problem {
  explicit weight(index_t features) : problem(features, 4, 2, features), dense(random(features * features, 4)) {}
  buffer<float> dense;
};
void merge(index_t n) {
  add<weight>(
      "merge/" + label<float>({{"n", n}, {"b", 4}, {"N", 2}}),
      {.flops = 4.0 * double(n * n * 4), .read = 4.0 * double(n * n), .written = 4.0 * double(n * n)},
      [=] { return weight(n); },
      {check(&problem::y, 2e-5, [](weight const& p, index_t i) { return turned_back(p, p.x, 1, i / p.n, i % p.n); })},
      {{"graft",
        [](weight& p, auto const& ex) {
          graft::kernels::rotate_blocks_back(ex, p.x_view(), p.factor_view(), p.y_view());
        }},
       {"eigen_dense",
        [](weight& p, auto const& ex) {
          peers::eigen_dense_merge(ex.threads, p.x.data(), p.dense.data(), p.y.data(), p.n, p.n);
        },
        false}});
}

suite const all("rotate_blocks", [] {
  for (index_t const b : {4, 8, 32})
    for (index_t const T : {1, 8, 64, 512})
      for (index_t const N : {1, 4}) rotate(T, b, N);
  for (index_t const T : {8, 512}) gradient(T, 32);
  merge(1024);
});

}  // namespace
