// smoke: .*/fp32/T=64/E=8/k=2/threads=1/
// SPDX-License-Identifier: Apache-2.0
// With what weight each expert was chosen, and the way back.
#include "support/routed.hpp"

namespace {
using namespace bench;

void add_all(index_t T, index_t E, index_t k) {
  double const pairs = double(T * k);
  auto const make = [=] { return routed(T, E, k); };
  auto const name = label<float>({{"T", T}, {"E", E}, {"k", k}});
  add<routed>("forward/" + name, {.flops = pairs, .read = 8 * pairs, .updated = 4.0 * double(E)}, make,
              {check(&routed::sums, 1e-5,
                     [](routed const& r, index_t e) {
                       return value(r.sums, e) +
                              sum(r.T * r.k, [&](index_t i) { return r.id(i) == e ? value(r.w, i) : 0.0; });
                     })},
              {{"graft", [](routed& r, auto const& ex) {
                  graft::kernels::expert_sums(ex, r.ids_view(), r.w_view(), graft::none, view(r.sums));
                }}});
  add<routed>(
      "backward/" + name, {.flops = pairs, .read = 4 * pairs + 4.0 * double(E), .updated = 4 * pairs}, make,
      {check(&routed::w, 1e-6, [](routed const& r, index_t i) { return value(r.w, i) + value(r.sums, r.id(i)); })},
      {{"graft", [](routed& r, auto const& ex) {
          graft::kernels::expert_sums_backward(ex, view(r.sums), r.ids_view(), r.w_view());
        }}});
}

suite const all("expert_sums", [] {
  add_all(64, 8, 2);
  add_all(4096, 256, 8);
});

}  // namespace
