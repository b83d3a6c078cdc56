// smoke: fp32/T=8/r=16/threads=1/
// SPDX-License-Identifier: Apache-2.0
// v = s x A^T, the narrow half of a low-rank product, n = 4096.
#include "support/suite.hpp"

namespace {
using namespace bench;

template <class T>
struct problem : low_rank<T> {
  explicit problem(shape const& of) : low_rank<T>(of), v(filled(of.T * of.r)) {}
  buffer<float> v;
};

template <class T>
void add_all(shape s) {
  using P = problem<T>;
  s.m = 1;
  add<P>(label<T>({{"T", s.T}, {"r", s.r}}),
         {.flops = 2.0 * double(s.T * s.n * s.r),
          .read = double(sizeof(T)) * double(s.n * (s.T + s.r)),
          .written = 4.0 * double(s.T * s.r)},
         [=] { return P(s); },
         {check(&P::v, tolerance<float>, [=](P const& p, index_t i) { return 0.5 * p.shrunk(i / s.r, i % s.r); })},
         {{"graft", [](P& p, auto const& ex) {
             graft::kernels::shrink(ex, p.x_view(), p.A_view(), view(p.v, p.s.T, p.s.r), 0.5);
           }}});
}

suite const all("shrink", [] {
  for (index_t const T : {1, 8, 64, 512}) {
    add_all<float>({T, 16});
    add_all<graft::bfloat16>({T, 16});
  }
  for (index_t const r : {64, 256}) add_all<float>({8, r});
});

}  // namespace
