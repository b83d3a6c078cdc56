// smoke: .*/fp32/T=64/E=64/threads=1/
// SPDX-License-Identifier: Apache-2.0
// Softmax over rows, and the way back. Exponentials count as one flop.
#include "support/routed.hpp"

namespace {
using namespace bench;

void add_all(index_t T, index_t E) {
  double const count = double(T * E);
  auto const make = [=] { return routed(T, E, 1); };
  auto const name = label<float>({{"T", T}, {"E", E}});
  add<routed>(
      "forward/" + name, {.flops = 4 * count, .read = 4 * count, .written = 4 * count}, make,
      {check(&routed::p, 1e-5, [](routed const& r, index_t i) { return r.softmax(i / r.E, i % r.E); })},
      {{"graft", [](routed& r, auto const& ex) { graft::kernels::softmax(ex, r.logits(), view(r.p, r.T, r.E)); }}});
  add<routed>("backward/" + name, {.flops = 4 * count, .read = 8 * count, .updated = 4 * count}, make,
              {check(&routed::dz, 1e-5,
                     [](routed const& r, index_t i) {
                       index_t const t = i / r.E;
                       double const inner =
                           sum(r.E, [&](index_t e) { return value(r.p, t * r.E + e) * r.logit(t, e); });
                       return value(r.dz, i) + value(r.p, i) * (value(r.z, i) - inner);
                     })},
              {{"graft", [](routed& r, auto const& ex) {
                  graft::kernels::softmax_backward(ex, view(r.p, r.T, r.E), r.logits(), view(r.dz, r.T, r.E));
                }}});
}

suite const all("softmax", [] {
  for (index_t const E : {8, 64, 256}) {
    add_all(64, E);
    add_all(4096, E);
  }
});

}  // namespace
