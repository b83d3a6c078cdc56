// smoke: fp32/m=4096/r=16/threads=1/
// SPDX-License-Identifier: Apache-2.0
// B copied into panels, once, when an adapter is loaded.
#include "support/suite.hpp"

namespace {
using namespace bench;

template <class T>
struct problem {
  problem(index_t rows, index_t rank)
      : m(rows), r(rank), B(random<T>(m * r, 1)), packed(filled<T>(graft::panels_view<T>::storage(m, r))) {}
  index_t m, r;
  buffer<T> B, packed;
};

template <class T>
void add_all(index_t m, index_t r) {
  using P = problem<T>;
  double const bytes = double(sizeof(T)) * double(m * r);
  add<P>(label<T>({{"m", m}, {"r", r}}), {.read = bytes, .written = bytes}, [=] { return P(m, r); },
         {check(&P::packed, 0,
                [](P const& p, index_t i) {
                  index_t const o = i / (64 * p.r) * 64 + i % 64;
                  return o < p.m ? value(p.B, o * p.r + i / 64 % p.r) : 0.0;
                })},
         {{"graft", [](P& p, auto const& ex) {
             graft::kernels::pack_panels(ex, view(p.B, p.m, p.r), graft::panels_view<T>{p.packed.data(), p.m, p.r});
           }}});
}

suite const all("panels", [] {
  for (index_t const r : {16, 256}) add_all<float>(4096, r);
  add_all<graft::bfloat16>(4096, 16);
});

}  // namespace
