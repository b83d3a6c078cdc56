// smoke: .*/fp32/T=64/E=8/k=2/threads=1/
// SPDX-License-Identifier: Apache-2.0
// Logits with trainable noise, their backward, and how likely each expert would be chosen again, in fp64: about 100 and 300 operations
// an element, which count as flops.
#include "support/routed.hpp"

namespace {
using namespace bench;

struct problem : routed {
  problem(index_t tokens, index_t experts, index_t choices)
      : routed(tokens, experts, choices), raw(random(T * E, 7, 2.0F)), noise(random(T * E, 8, 2.0F)), H(filled(T * E)) {
    for (index_t i = 0; i < T * E; ++i) H[static_cast<std::size_t>(i)] = static_cast<float>(noisy(i));
  }
  buffer<float> raw, noise, H;
  [[nodiscard]] auto of(buffer<float>& b) { return view(b, T, E); }
  [[nodiscard]] double deviation(index_t i) const { return std::log1p(std::exp(value(raw, i))) + 0.01; }
  [[nodiscard]] double noisy(index_t i) const { return value(z, i) + value(noise, i) * deviation(i); }
  /// Of the k-th largest H of the row without this element.
  [[nodiscard]] double chosen_again(index_t i) const {
    std::vector<double> others;
    for (index_t e = 0; e < E; ++e)
      if (e != i % E) others.push_back(value(H, i / E * E + e));
    std::sort(others.begin(), others.end(), [](double a, double b) { return a > b; });
    double const x = (value(z, i) - others[static_cast<std::size_t>(k - 1)]) / deviation(i);
    return 0.5 * std::erfc(-x / std::sqrt(2.0));
  }
};

void add_all(index_t T, index_t E, index_t k) {
  double const count = double(T * E);
  auto const make = [=] { return problem(T, E, k); };
  auto const name = label<float>({{"T", T}, {"E", E}, {"k", k}});
  add<problem>("noisy_logits/" + name, {.flops = 100 * count, .read = 12 * count, .written = 4 * count}, make,
               {check(&problem::H, 1e-6, [](problem const& p, index_t i) { return p.noisy(i); })},
               {{"graft", [](problem& p, auto const& ex) {
                   graft::kernels::noisy_logits(ex, p.logits(), p.of(p.raw), p.of(p.noise), p.of(p.H), 0.01);
                 }}});
  add<problem>("backward/" + name, {.flops = 100 * count, .read = 12 * count, .updated = 8 * count}, make,
               {check(&problem::dz, 1e-6, [](problem const& p, index_t i) { return value(p.dz, i) + value(p.z, i); }),
                check(&problem::p, 1e-5,
                      [](problem const& p, index_t i) {
                        return value(p.p, i) + value(p.z, i) * value(p.noise, i) / (1 + std::exp(-value(p.raw, i)));
                      })},
               {{"graft", [](problem& p, auto const& ex) {
                   graft::kernels::noisy_logits_backward(ex, p.of(p.raw), p.of(p.noise), p.logits(), p.of(p.dz),
                                                         p.of(p.p));
                 }}});
  add<problem>("load/" + name, {.flops = 300 * count, .read = 12 * count, .written = 4 * count}, make,
               {check(&problem::p, 1e-5, [](problem const& p, index_t i) { return p.chosen_again(i); })},
               {{"graft", [](problem& p, auto const& ex) {
                   graft::kernels::load_probabilities(ex, p.logits(), p.of(p.raw), p.of(p.H), p.k, p.of(p.p), 0.01);
                 }}});
}

suite const all("noisy_logits", [] {
  add_all(64, 8, 2);
  add_all(4096, 64, 2);
});

}  // namespace
