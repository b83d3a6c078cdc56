// smoke: .*/fp32/T=64/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// A router's losses by their names, with gradients: logits are read twice. Exponentials count as one flop. (kernels/router_losses compares
// the gradients.)
#include "support/routed.hpp"

namespace {
using namespace bench;

using call = void (*)(routed&, graft::openmp const&);
/// E sum of f P, with f(e) = choices of e among the first `choices` of each token / divisor.
std::function<double(routed const&, index_t)> balance(index_t choices, double divisor) {
  return [=](routed const& r, index_t) {
    std::vector<double> f(static_cast<std::size_t>(r.E));
    for (index_t i = 0; i < r.T * r.k; ++i)
      if (i % r.k < choices) f[static_cast<std::size_t>(r.id(i))] += 1 / (divisor * double(r.T));
    return 0.5 * double(r.E) / double(r.T) * sum(r.T, [&](index_t t) {
             double const s = r.log_sum(t);
             return sum(r.E, [&](index_t e) { return f[static_cast<std::size_t>(e)] * std::exp(r.logit(t, e) - s); });
           });
  };
}

void add_all(char const* name, std::function<double(routed const&, index_t)> const& want, call one, index_t T,
             index_t E, index_t k) {
  double const count = double(T * E);
  add<routed>(std::string(name) + "/" + label<float>({{"T", T}, {"E", E}, {"k", k}}),
              {.flops = 10 * count, .read = 8 * count, .updated = 4 * count}, [=] { return routed(T, E, k); },
              {check(&routed::loss, 1e-5, want)}, {{"graft", one}});
}

suite const all("losses", [] {
  for (index_t const T : {64, 4096}) {
    index_t const E = T == 64 ? 8 : 64;
    add_all(
        "switch_loss", balance(1, 1),
        [](routed& r, graft::openmp const& ex) {
          switch_loss(ex, r.logits(), r.ids_view(), 0.5, view(r.loss), view(r.dz, r.T, r.E));
        },
        T, E, 2);
    add_all(
        "pooled_balance_loss", balance(2, 1),
        [](routed& r, graft::openmp const& ex) {
          pooled_balance_loss(ex, r.logits(), r.ids_view(), graft::none, 0.5, view(r.loss), view(r.dz, r.T, r.E));
        },
        T, E, 2);
    add_all(
        "mola_loss", balance(2, 2),
        [](routed& r, graft::openmp const& ex) {
          mola_loss(ex, r.logits(), r.ids_view(), 0.5, view(r.loss), view(r.dz, r.T, r.E));
        },
        T, E, 2);
    add_all(
        "z_loss",
        [](routed const& r, index_t) {
          return 0.5 / double(r.T) * sum(r.T, [&](index_t t) { return r.log_sum(t) * r.log_sum(t); });
        },
        [](routed& r, graft::openmp const& ex) { z_loss(ex, r.logits(), 0.5, view(r.loss), view(r.dz, r.T, r.E)); }, T,
        E, 2);
  }
});

}  // namespace
