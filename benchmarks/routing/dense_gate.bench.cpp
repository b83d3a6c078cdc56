// smoke: .*/fp32/T=64/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// Every expert for every token: a softmax with a temperature, forward and backward. Exponentials count as one flop.
#include "support/routed.hpp"

namespace {
using namespace bench;

double weight(routed const& r, index_t i) {
  index_t const t = i / r.E;
  return std::exp(r.logit(t, i % r.E) / 2) / sum(r.E, [&](index_t e) { return std::exp(r.logit(t, e) / 2); });
}

void add_all(index_t T, index_t E) {
  double const count = double(T * E);
  auto const name = label<float>({{"T", T}, {"E", E}});
  auto const make = [=] { return routed(T, E, 1); };
  add<routed>("route/" + name, {.flops = 4 * count, .read = 4 * count, .written = 4 * count}, make,
              {check(&routed::p, 1e-5, weight)},
              {{"graft", [](routed& r, auto const& ex) {
                  route(ex, graft::dense_gate{.temperature = 2}, r.logits(), view(r.p, r.T, r.E));
                }}});
  add<routed>("route_backward/" + name, {.flops = 4 * count, .read = 8 * count, .updated = 4 * count}, make,
              {check(&routed::dz, 1e-5,
                     [](routed const& r, index_t i) {
                       index_t const t = i / r.E;
                       double const inner =
                           sum(r.E, [&](index_t e) { return value(r.p, t * r.E + e) * r.logit(t, e); });
                       return value(r.dz, i) + value(r.p, i) * (value(r.z, i) - inner) / 2;
                     })},
              {{"graft", [](routed& r, auto const& ex) {
                  route_backward(ex, graft::dense_gate{.temperature = 2}, view(r.p, r.T, r.E), r.logits(),
                                 view(r.dz, r.T, r.E));
                }}});
}

suite const all("dense_gate", [] {
  add_all(64, 8);
  add_all(4096, 8);
});

}  // namespace
