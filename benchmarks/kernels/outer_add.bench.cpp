// smoke: fp32/m=512/r=16/threads=1/
// SPDX-License-Identifier: Apache-2.0
// W += s B A, n = 4096, beside Eigen's product. What merging does.
#include "support/peers.hpp"
#include "support/suite.hpp"

namespace {
using namespace bench;

template <class T>
struct problem : low_rank<T> {
  explicit problem(shape const& of) : low_rank<T>(of), W(random<T>(of.m * of.n, 5)) {}
  buffer<T> W;
};

template <class T>
void add_all(index_t m, index_t r) {
  using P = problem<T>;
  shape const s{1, r, 4096, m};
  std::vector<column<P>> columns{{"graft", [](P& p, auto const& ex) {
                                    graft::kernels::outer_add(ex, p.B_view(), p.A_view(), view(p.W, p.s.m, p.s.n), 0.5);
                                  }}};
  if constexpr (sizeof(T) == 4)
    columns.push_back({"eigen", [](P& p, auto const& ex) {
                         peers::eigen_merge(ex.threads, p.A.data(), p.B.data(), p.W.data(), p.s.n, p.s.m, p.s.r, 0.5F);
                       }});
  add<P>(
      label<T>({{"m", m}, {"r", r}}),
      {.flops = 2.0 * double(m * s.n * r),
       .read = double(sizeof(T)) * double(r * (m + s.n)),
       .updated = double(sizeof(T)) * double(m * s.n)},
      [=] { return P(s); },
      {check(&P::W, tolerance<T>,
             [=](P const& p, index_t i) {
               return value(p.W, i) + 0.5 * sum(r, [&](index_t j) {
                                        return value(p.B, i / s.n * r + j) * value(p.A, j * s.n + i % s.n);
                                      });
             })},
      columns);
}

suite const all("outer_add", [] {
  for (index_t const m : {512, 4096})
    for (index_t const r : {16, 64}) add_all<float>(m, r);
  add_all<graft::bfloat16>(4096, 16);
});

}  // namespace
