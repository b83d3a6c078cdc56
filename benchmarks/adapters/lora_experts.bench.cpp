// smoke: fp32/E=4/T=8/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// LoRA on a fused parameter of experts: T tokens each, n = m = 1024, r = 16.
#include "support/suite.hpp"

namespace {
using namespace bench;

struct problem : low_rank<float> {  // x[E T, n], A[E r, n], B[m, r E]
  problem(index_t experts, index_t tokens)
      : low_rank<float>({experts * tokens, experts * 16, 1024, 1024}), E(experts), T(tokens) {}
  index_t E, T;
  [[nodiscard]] auto layer(buffer<float>& b) {
    return view(b.data(), graft::dynamic_extents<3>(E, T, 1024), {T * 1024, 1024, 1});
  }
};

void add_all(index_t E, index_t T) {
  double const rows = 4.0 * double(E * T * 1024);
  add<problem>(label<float>({{"E", E}, {"T", T}, {"r", 16}}),
               {.flops = 2.0 * double(E * T * 16) * 2048, .read = rows + 8.0 * double(E * 16 * 1024), .updated = rows},
               [=] { return problem(E, T); },
               {check(&problem::y, 2e-5,
                      [](problem const& p, index_t i) {
                        index_t const row = i / 1024, e = row / p.T;
                        return value(p.y, i) +
                               0.5 * sum(16, [&](index_t j) {
                                 return p.shrunk(row, e * 16 + j) * value(p.B, i % 1024 * 16 * p.E + e + j * p.E);
                               });
                      })},
               {{"graft", [](problem& p, auto const& ex) {
                   add_delta(ex, graft::lora_experts{p.A_view(), p.B_view(), 0.5, p.E}, p.layer(p.x), p.layer(p.y));
                 }}});
}

suite const all("lora_experts", [] {
  add_all(4, 8);
  add_all(64, 64);
});

}  // namespace
