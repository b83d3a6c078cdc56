// smoke: .*/fp32/T=64/E=8/k=2/threads=1/
// SPDX-License-Identifier: Apache-2.0
// Sums over tokens of what logits say, a loss of them and its gradient: logits are read twice. Exponentials count as one flop.
#include "support/routed.hpp"

namespace {
using namespace bench;

constexpr double weight = 0.5;
/// Balance: weight E sum of f P, f(e) = choices of e / tokens. The z-loss: weight times the mean of (log sum)^2.
double loss_of(routed const& r, bool balance) {
  double const T = double(r.T);
  if (!balance) return weight / T * sum(r.T, [&](index_t t) { return r.log_sum(t) * r.log_sum(t); });
  std::vector<double> f(static_cast<std::size_t>(r.E));
  for (index_t i = 0; i < r.T * r.k; ++i) f[static_cast<std::size_t>(r.id(i))] += 1 / T;
  return weight * double(r.E) / T * sum(r.T, [&](index_t t) {
           double const s = r.log_sum(t);
           return sum(r.E, [&](index_t e) { return f[static_cast<std::size_t>(e)] * std::exp(r.logit(t, e) - s); });
         });
}
double gradient(routed const& r, index_t i, bool balance) {
  index_t const t = i / r.E;
  double const p = r.softmax(t, i % r.E), T = double(r.T);
  if (!balance) return value(r.dz, i) + weight * 2 / T * r.log_sum(t) * p;
  double const s = r.log_sum(t);
  double of_e = 0, inner = 0;
  for (index_t pair = 0; pair < r.T * r.k; ++pair) {
    of_e += r.id(pair) == i % r.E ? 1 / T : 0.0;
    inner += std::exp(r.logit(t, r.id(pair)) - s) / T;
  }
  return value(r.dz, i) + weight * double(r.E) / T * p * (of_e - inner);
}

void add_all(bool balance, index_t T, index_t E, index_t k) {
  double const count = double(T * E);
  add<routed>(std::string(balance ? "balance/" : "z/") + label<float>({{"T", T}, {"E", E}, {"k", k}}),
              {.flops = 10 * count, .read = 8 * count, .updated = 4 * count}, [=] { return routed(T, E, k); },
              {check(&routed::loss, 1e-5, [=](routed const& r, index_t) { return loss_of(r, balance); }),
               check(&routed::dz, 1e-5, [=](routed const& r, index_t i) { return gradient(r, i, balance); })},
              {{"graft", [=](routed& r, auto const& ex) {
                  graft::kernels::router_losses(
                      ex, balance ? graft::router_loss::choices_per_token : graft::router_loss::squared_log_sum,
                      r.logits(), r.ids_view(), graft::none, weight, view(r.loss), view(r.dz, r.T, r.E));
                }}});
}

suite const all("router_losses", [] {
  for (bool const balance : {true, false}) {
    add_all(balance, 64, 8, 2);
    add_all(balance, 4096, 64, 8);
  }
});

}  // namespace
