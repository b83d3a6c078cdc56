// smoke: .*/fp32/T=64/E=8/k=2/threads=1/
// SPDX-License-Identifier: Apache-2.0
// Gradients of a softmax gate's weights to its logits, renormalized (of the chosen experts only) and plain (of all of them).
#include "support/routed.hpp"

namespace {
using namespace bench;

/// dz = q (g - sum of q g) with q the softmax over the chosen, or p (g - sum of p g) over all, g = 0 where not chosen.
double gradient(routed const& r, index_t i, bool renormalize) {
  index_t const t = i / r.E, e = i % r.E;
  double of_chosen = 0, inner = 0, g = 0;
  for (index_t s = 0; s < r.k; ++s) {
    double const p = r.softmax(t, r.id(t * r.k + s)), dw = value(r.w, t * r.k + s);
    of_chosen += p;
    inner += p * dw;
    if (r.id(t * r.k + s) == e) g = dw;
  }
  double const p = r.softmax(t, e);
  if (!renormalize) return value(r.dz, i) + p * (g - inner);
  bool const chosen = std::any_of(&r.ids[static_cast<std::size_t>(t * r.k)],
                                  &r.ids[static_cast<std::size_t>(t * r.k)] + r.k, [&](auto id) { return id == e; });
  return value(r.dz, i) + (chosen ? p / of_chosen * (g - inner / of_chosen) : 0.0);
}

void add_all(bool renormalize, index_t T, index_t E, index_t k) {
  add<routed>(std::string(renormalize ? "renormalized/" : "plain/") + label<float>({{"T", T}, {"E", E}, {"k", k}}),
              {.flops = renormalize ? double(6 * T * k) : double(4 * T * E),
               .read = 4.0 * double(T * E) + 8.0 * double(T * k),
               .updated = 4.0 * double(renormalize ? T * k : T * E)},
              [=] { return routed(T, E, k); },
              {check(&routed::dz, 1e-5, [=](routed const& r, index_t i) { return gradient(r, i, renormalize); })},
              {{"graft", [=](routed& r, auto const& ex) {
                  graft::kernels::gate_backward(ex, graft::softmax_topk{.renormalize = renormalize}.rule(), r.logits(),
                                                r.ids_view(), r.w_view(), view(r.dz, r.T, r.E));
                }}});
}

suite const all("gate_backward", [] {
  for (bool const renormalize : {true, false}) {
    add_all(renormalize, 64, 8, 2);
    add_all(renormalize, 4096, 64, 8);
  }
});

}  // namespace
