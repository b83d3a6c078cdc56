// smoke: (forward|backward|merge)/fp32/(T=8|m=1024)/r=16/threads=1/
// SPDX-License-Identifier: Apache-2.0
// VeRA, n = m = 4096, beside Eigen's two products with the scalings between and behind them; its backward and merge.
#include "support/peers.hpp"
#include "support/suite.hpp"

namespace {
using namespace bench;

struct problem : trained<float> {
  explicit problem(shape const& of)
      : trained<float>(of),
        d(random(of.r, 5, 2.0F)),
        b(random(of.m, 6, 2.0F)),
        dd(random(of.r, 7)),
        db(random(of.m, 8)),
        v(filled(of.T * of.r)),
        delta(filled(of.T * of.m)) {}
  buffer<float> d, b, dd, db, v, delta;
  [[nodiscard]] auto vera() { return graft::vera{A_view(), B_view(), view(d), view(b)}; }
  /// (dy diag(b) B)[t, j]
  [[nodiscard]] double u(index_t t, index_t j) const {
    return sum(s.m, [&](index_t o) { return value(y, t * s.m + o) * value(b, o) * value(B, o * s.r + j); });
  }
};

void forward(shape const& s) {
  add<problem>("forward/" + label<float>({{"T", s.T}, {"r", s.r}}),
               {.flops = s.flops() + double(s.T * (s.r + 2 * s.m)),
                .read = 4.0 * double(s.r * (s.n + s.m) + s.T * s.n),
                .updated = 4.0 * double(s.T * s.m)},
               [=] { return problem(s); },
               {check(&problem::y, 2e-5,
                      [](problem const& p, index_t i) {
                        index_t const t = i / p.s.m, o = i % p.s.m;
                        return value(p.y, i) + value(p.b, o) * sum(p.s.r, [&](index_t j) {
                                                 return value(p.d, j) * p.shrunk(t, j) * value(p.B, o * p.s.r + j);
                                               });
                      })},
               {{"graft", [](problem& p, auto const& ex) { add_delta(ex, p.vera(), p.x_view(), p.y_view()); }},
                {"eigen", [](problem& p, auto const& ex) {
                   peers::eigen_vera(ex.threads, p.x.data(), p.A.data(), p.B.data(), p.d.data(), p.b.data(), p.y.data(),
                                     p.v.data(), p.delta.data(), p.s.T, p.s.n, p.s.m, p.s.r);
                 }}});
}

void train(shape const& s) {
  double const rows = 4.0 * double(s.T * s.n), factors = 4.0 * double(s.r * (s.n + s.m));
  add<problem>("backward/" + label<float>({{"T", s.T}, {"r", s.r}}),
               {.flops = 4.0 * double(s.T * s.r) * double(s.n + s.m), .read = 2 * rows + factors, .updated = rows},
               [=] { return problem(s); },
               {check(&problem::dd, 2e-5,
                      [](problem const& p, index_t j) {
                        return value(p.dd, j) + sum(p.s.T, [&](index_t t) { return p.shrunk(t, j) * p.u(t, j); });
                      }),
                check(&problem::db, 2e-5,
                      [](problem const& p, index_t o) {
                        return value(p.db, o) + sum(p.s.T, [&](index_t t) {
                                 return value(p.y, t * p.s.m + o) * sum(p.s.r, [&](index_t j) {
                                          return value(p.d, j) * p.shrunk(t, j) * value(p.B, o * p.s.r + j);
                                        });
                               });
                      }),
                check(&problem::dx, 2e-5,
                      [](problem const& p, index_t i) {
                        return value(p.dx, i) + sum(p.s.r, [&](index_t j) {
                                 return value(p.d, j) * p.u(i / p.s.n, j) * value(p.A, j * p.s.n + i % p.s.n);
                               });
                      })},
               {{"graft", [](problem& p, auto const& ex) {
                   backward(ex, p.vera(), p.x_view(), p.y_view(), graft::vera_gradients{view(p.dd), view(p.db)},
                            p.dx_view());
                 }}});
}

struct merged : weighted {
  explicit merged(shape const& of) : weighted(of), d(random(of.r, 5, 2.0F)), b(random(of.m, 6, 2.0F)) {}
  buffer<float> d, b;
};

suite const all("vera", [] {
  for (index_t const r : {16, 256})
    for (index_t const T : {1, 8, 512}) forward({T, r});
  for (index_t const T : {8, 64}) train({T, 16});
  add<merged>("merge/" + label<float>({{"m", 1024}, {"r", 16}}),
              {.flops = 2.0 * 1024 * 4096 * 16, .read = 4.0 * 16 * (1024 + 4096), .updated = 4.0 * 1024 * 4096},
              [] { return merged({1, 16, 4096, 1024}); },
              {check(&merged::W, 2e-5,
                     [](merged const& p, index_t i) {
                       index_t const o = i / p.s.n;
                       return value(p.W, i) +
                              value(p.b, o) * sum(16, [&](index_t j) {
                                return value(p.d, j) * value(p.B, o * 16 + j) * value(p.A, j * p.s.n + i % p.s.n);
                              });
                     })},
              {{"graft", [](merged& p, auto const& ex) {
                  merge(ex, graft::vera{p.A_view(), p.B_view(), view(p.d), view(p.b)}, p.W_view());
                }}});
});

}  // namespace
