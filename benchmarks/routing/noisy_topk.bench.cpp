// smoke: .*/fp32/T=64/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// Noisy top-k: noise of a stream, logits with it, and the choice. About 200 fp64 operations an element count as flops.
#include <numbers>

#include "support/routed.hpp"

namespace {
using namespace bench;

struct problem : routed {
  problem(index_t tokens, index_t experts, index_t choices)
      : routed(tokens, experts, choices), raw(random(T * E, 7, 2.0F)), H(filled(T * E)) {}
  buffer<float> raw, H;
  [[nodiscard]] double noisy(index_t i) const {
    auto const word = graft::detail::philox(1, 2, static_cast<std::uint64_t>(i));
    double const u = (2 * (std::ldexp(word[0], 20) + (word[1] >> 12U)) + 1) * 0x1p-53;
    double const v = (std::ldexp(word[2], 21) + (word[3] >> 11U)) * 0x1p-53;
    double const normal = std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
    return value(z, i) + normal * std::log1p(std::exp(value(raw, i)));
  }
};

void add_all(index_t T, index_t E, index_t k) {
  double const count = double(T * E);
  add<problem>("route/" + label<float>({{"T", T}, {"E", E}, {"k", k}}),
               {.flops = 200 * count, .read = 8 * count, .written = 4 * count + 8.0 * double(T * k)},
               [=] { return problem(T, E, k); },
               {check(&problem::H, 1e-6, [](problem const& p, index_t i) { return p.noisy(i); }),
                check(&problem::w, 1e-5,
                      [](problem const& p, index_t i) {
                        std::vector<double> h;
                        for (index_t e = 0; e < p.E; ++e) h.push_back(p.noisy(i / p.k * p.E + e));
                        std::sort(h.begin(), h.end(), [](double a, double b) { return a > b; });
                        auto const of = [&](index_t s) { return std::exp(h[static_cast<std::size_t>(s)] - h[0]); };
                        return of(i % p.k) / sum(p.k, of);
                      })},
               {{"graft", [](problem& p, auto const& ex) {
                   route(ex, graft::noisy_topk{}, p.logits(), view(p.raw, p.T, p.E), graft::random_stream{1, 2},
                         view(p.H, p.T, p.E), p.ids_view(), p.w_view());
                 }}});
}

suite const all("noisy_topk", [] {
  add_all(64, 8, 2);
  add_all(4096, 64, 2);
});

}  // namespace
