// smoke: fp32/T=8/r=16/threads=1/
// SPDX-License-Identifier: Apache-2.0
// y += s v B^T, the wide half of a low-rank product, m = 4096.
#include "support/suite.hpp"

namespace {
using namespace bench;

template <class T>
struct problem : low_rank<T> {
  explicit problem(shape const& of) : low_rank<T>(of), v(random(of.T * of.r, 5)) {}
  buffer<float> v;
};

template <class T>
void add_all(shape s) {
  using P = problem<T>;
  s.n = 1;
  add<P>(label<T>({{"T", s.T}, {"r", s.r}}),
         {.flops = 2.0 * double(s.T * s.r * s.m),
          .read = double(sizeof(T)) * double(s.m * s.r) + 4.0 * double(s.T * s.r),
          .updated = double(sizeof(T)) * double(s.T * s.m)},
         [=] { return P(s); },
         {check(&P::y, tolerance<T>,
                [=](P const& p, index_t i) {
                  return value(p.y, i) + 0.5 * sum(s.r, [&](index_t j) {
                                           return value(p.v, i / s.m * s.r + j) * value(p.B, i % s.m * s.r + j);
                                         });
                })},
         {{"graft", [](P& p, auto const& ex) {
             graft::kernels::expand_add(ex, view(p.v, p.s.T, p.s.r), p.B_view(), p.y_view(), 0.5);
           }}});
}

suite const all("expand_add", [] {
  for (index_t const T : {1, 8, 64, 512}) {
    add_all<float>({T, 16});
    add_all<graft::bfloat16>({T, 16});
  }
  for (index_t const r : {64, 256}) add_all<float>({8, r});
});

}  // namespace
