// smoke: fp32/m=512/r=16/threads=1/
// SPDX-License-Identifier: Apache-2.0
// Norms of rows of W + s B A (n = 4096): graft's, with cached |W|, the same by forming B A (graft's own outer_add into a copy of W, and
// Eigen's product), and what reading W once takes (Eigen's squared norm of each row).
#include <cmath>

#include "support/peers.hpp"
#include "support/suite.hpp"

namespace {
using namespace bench;

struct problem : low_rank<float> {
  explicit problem(shape const& of)
      : low_rank<float>(of), W(random(of.m * of.n, 5)), copy(W), norms(filled(of.m)), base(filled(of.m)) {
    for (index_t o = 0; o < s.m; ++o)
      base[static_cast<std::size_t>(o)] = static_cast<float>(
          std::sqrt(sum(s.n, [&](index_t k) { return value(W, o * s.n + k) * value(W, o * s.n + k); })));
  }
  buffer<float> W, copy, norms, base;
  [[nodiscard]] auto W_view() { return view(W, s.m, s.n); }
};

double norm(problem const& p, index_t o) {
  index_t const n = p.s.n;
  return std::sqrt(sum(n, [&](index_t k) {
    double const w = value(p.W, o * n + k) +
                     0.5 * sum(p.s.r, [&](index_t j) { return value(p.B, o * p.s.r + j) * value(p.A, j * n + k); });
    return w * w;
  }));
}

void add_all(index_t m, index_t r) {
  shape const s{1, r, 4096, m};
  add<problem>(
      label<float>({{"m", m}, {"r", r}}),
      {.flops = 2.0 * double(m * s.n * (r + 1)) + double(r * r * (s.n + m)),
       .read = 4.0 * double(m * s.n + r * (m + s.n)),
       .written = 4.0 * double(m)},
      [=] { return problem(s); }, {check(&problem::norms, 1e-5, norm)},
      {{"graft",
        [](problem& p, auto const& ex) {
          graft::kernels::row_norms(ex, p.W_view(), p.B_view(), p.A_view(), view(p.norms), 0.5);
        }},
       {"cached",
        [](problem& p, auto const& ex) {
          graft::kernels::row_norms(ex, p.W_view(), p.B_view(), p.A_view(), view(p.norms), 0.5, view(p.base));
        }},
       {"formed",
        [](problem& p, auto const& ex) {
          auto const v = view(p.copy, p.s.m, p.s.n);
          graft::kernels::copy(ex, p.W_view(), v);
          graft::kernels::outer_add(ex, p.B_view(), p.A_view(), v, 0.5);
          graft::kernels::row_norms(ex, v, view(p.norms));
        }},
       {"eigen_formed",
        [](problem& p, auto const& ex) {
          peers::eigen_formed_norms(ex.threads, p.W.data(), p.A.data(), p.B.data(), p.copy.data(), p.norms.data(),
                                    p.s.n, p.s.m, p.s.r, 0.5F);
        }},
       {"read_once",
        [](problem& p, auto const& ex) { peers::eigen_norms(ex.threads, p.W.data(), p.norms.data(), p.s.n, p.s.m); },
        false}});
}

suite const all("row_norms", [] {
  for (index_t const m : {512, 4096})
    for (index_t const r : {16, 64}) add_all(m, r);
});

}  // namespace
