// smoke: fp32/T=64/E=64/k=2/threads=1/
// SPDX-License-Identifier: Apache-2.0
// The largest numbers of each row, in order. E + k log E comparisons a row count as flops.
#include "support/routed.hpp"

namespace {
using namespace bench;

void add_all(index_t T, index_t E, index_t k) {
  add<routed>(
      label<float>({{"T", T}, {"E", E}, {"k", k}}),
      {.flops = double(T) * (double(E) + double(k) * std::log2(double(E))),
       .read = 4.0 * double(T * E),
       .written = 8.0 * double(T * k)},
      [=] { return routed(T, E, k); },
      {check(&routed::ids, 0,
             [](routed const& r, index_t i) { return double(r.order(i / r.k)[static_cast<std::size_t>(i % r.k)]); }),
       check(&routed::w, 0,
             [](routed const& r, index_t i) {
               return r.logit(i / r.k, r.order(i / r.k)[static_cast<std::size_t>(i % r.k)]);
             })},
      {{"graft", [](routed& r, auto const& ex) { graft::kernels::top_k(ex, r.logits(), r.ids_view(), r.w_view()); }}});
}

suite const all("top_k", [] {
  for (index_t const T : {64, 4096}) {
    add_all(T, 64, 2);
    add_all(T, 256, 8);
  }
});

}  // namespace
