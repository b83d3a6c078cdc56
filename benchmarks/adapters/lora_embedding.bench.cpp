// smoke: .*/fp32/T=8/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// LoRA on an embedding of 32000 tokens, d = 4096, r = 16.
#include "support/suite.hpp"

namespace {
using namespace bench;

constexpr index_t V = 32000;
struct problem : trained<float> {  // A[r, V], B[d, r], y[T, d]; x is not used
  explicit problem(index_t T) : trained<float>({T, 16, V, 4096}), tokens(random_ids<index_t>(T, 6, V)) {}
  buffer<index_t> tokens;
  [[nodiscard]] auto embedding() { return graft::lora_embedding{A_view(), B_view(), 0.5}; }
  [[nodiscard]] auto ids() { return graft::ids(tokens.data(), s.T); }
  [[nodiscard]] double column(index_t t, index_t j) const {
    return value(A, j * V + tokens[static_cast<std::size_t>(t)]);
  }
};

void add_all(index_t T) {
  index_t const r = 16, d = 4096;
  auto const name = label<float>({{"T", T}, {"r", r}});
  auto const make = [=] { return problem(T); };
  double const columns = 4.0 * double(T * r), b = 4.0 * double(r * d), rows = 4.0 * double(T * d);
  add<problem>("forward/" + name, {.flops = 2.0 * double(T * r * d), .read = columns + b, .updated = rows}, make,
               {check(&problem::y, 2e-5,
                      [](problem const& p, index_t i) {
                        return value(p.y, i) + 0.5 * sum(16, [&](index_t j) {
                                                 return p.column(i / p.s.m, j) * value(p.B, i % p.s.m * 16 + j);
                                               });
                      })},
               {{"graft", [](problem& p, auto const& ex) { add_delta(ex, p.embedding(), p.ids(), p.y_view()); }}});
  add<problem>(
      "backward/" + name, {.flops = 4.0 * double(T * r * d), .read = columns + b + rows, .updated = columns + b}, make,
      {check(&problem::dB, 2e-5,
             [](problem const& p, index_t i) {
               return value(p.dB, i) +
                      0.5 * sum(p.s.T, [&](index_t t) { return value(p.y, t * p.s.m + i / 16) * p.column(t, i % 16); });
             }),
       check(&problem::dA, 2e-5,
             [](problem const& p, index_t i) {
               return value(p.dA, i) + 0.5 * sum(p.s.T, [&](index_t t) {
                                         return p.tokens[static_cast<std::size_t>(t)] == i % V ? p.narrowed(t, i / V)
                                                                                               : 0.0;
                                       });
             })},
      {{"graft", [](problem& p, auto const& ex) {
          backward(ex, p.embedding(), p.ids(), p.y_view(),
                   graft::lora_gradients{.A = p.dA_view(), .B = p.dB_view(), .bias = {}});
        }}});
}

suite const all("lora_embedding", [] {
  for (index_t const T : {8, 512}) add_all(T);
});

}  // namespace
