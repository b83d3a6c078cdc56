// smoke: (fp32|bf16)/T=8/r=8/threads=1/
// SPDX-License-Identifier: Apache-2.0
// y += s (x A^T) B^T, n = m = 4096: checkpoint B and packed B, beside Eigen's two products and a dot per output.
#include "support/peers.hpp"
#include "support/suite.hpp"

namespace {
using namespace bench;

template <class T>
struct problem : low_rank<T> {
  explicit problem(shape const& of)
      : low_rank<T>(of),
        panels(filled<T>(graft::panels_view<T>::storage(of.m, of.r))),
        scratch(filled<float>((of.T + 2 * of.r) * (of.n + of.m + of.r))) {
    graft::kernels::pack_panels(graft::serial{}, this->B_view(), graft::panels_view<T>{panels.data(), of.m, of.r});
  }
  buffer<T> panels;
  buffer<float> scratch;
};
template <class T>
auto* bits(buffer<T>& b) {
  return reinterpret_cast<std::uint16_t*>(b.data());
}

template <class T>
void add_all(shape const& s) {
  using P = problem<T>;
  std::vector<column<P>> columns{
      {"graft",
       [](P& p, auto const& ex) {
         graft::kernels::low_rank_add(ex, p.x_view(), p.A_view(), p.B_view(), p.y_view(), 0.5);
       }},
      {"packed", [](P& p, auto const& ex) {
         graft::kernels::low_rank_add(ex, p.x_view(), p.A_view(),
                                      graft::panels_view<T const>{p.panels.data(), p.s.m, p.s.r}, p.y_view(), 0.5);
       }}};
  if constexpr (sizeof(T) == 4) {
    columns.push_back({"eigen", [](P& p, auto const& ex) {
                         peers::eigen_low_rank_add(ex.threads, p.x.data(), p.A.data(), p.B.data(), p.y.data(),
                                                   p.scratch.data(), p.s.T, p.s.n, p.s.m, p.s.r, 0.5F);
                       }});
    if (s.T <= 64)
      columns.push_back({"dots", [](P& p, auto const& ex) {
                           peers::dot_low_rank_add(ex.threads, p.x.data(), p.A.data(), p.B.data(), p.y.data(),
                                                   p.scratch.data(), p.s.T, p.s.n, p.s.m, p.s.r, 0.5F);
                         }});
  } else {
    columns.push_back({"eigen", [](P& p, auto const& ex) {
                         peers::eigen_low_rank_add_bf16(ex.threads, bits(p.x), bits(p.A), bits(p.B), bits(p.y),
                                                        p.scratch.data(), p.s.T, p.s.n, p.s.m, p.s.r, 0.5F);
                       }});
  }
  double const size = sizeof(T);
  add<P>(
      label<T>({{"T", s.T}, {"r", s.r}}),
      {.flops = s.flops(), .read = size * double(s.r * (s.n + s.m) + s.T * s.n), .updated = size * double(s.T * s.m)},
      [=] { return P(s); },
      {check(&P::y, tolerance<T>,
             [=](P const& p, index_t i) { return value(p.y, i) + 0.5 * p.product(i / s.m, i % s.m); })},
      columns);
}

suite const all("low_rank_add", [] {
  for (index_t const r : {8, 16, 64})
    for (index_t const T : {1, 8, 64, 512}) {
      add_all<float>({T, r});
      add_all<graft::bfloat16>({T, r});
    }
});

}  // namespace
