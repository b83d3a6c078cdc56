// smoke: fp32/T=512/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// Rows of tokens in the order of 64 experts, H = 1024, beside a copy that moves as many bytes.
#include "support/peers.hpp"
#include "support/routed.hpp"

namespace {
using namespace bench;

constexpr index_t H = 1024;
struct problem : planned {
  problem(index_t tokens, index_t choices)
      : planned(tokens, 64, choices), x(random(T * H, 1)), rows(filled(T * k * H)), other(random(T * k * H, 2)) {}
  buffer<float> x, rows, other;
};

void add_all(index_t T, index_t k) {
  double const bytes = 4.0 * double(T * k * H);
  add<problem>(label<float>({{"T", T}, {"k", k}, {"H", H}}), {.read = bytes, .written = bytes},
               [=] { return problem(T, k); },
               {check(&problem::rows, 0,
                      [](problem const& p, index_t i) { return value(p.x, p.pair_of(i / H) / p.k * H + i % H); })},
               {{"graft",
                 [](problem& p, auto const& ex) {
                   graft::kernels::dispatch(ex, p.plan, view(p.x, p.T, H), view(p.rows, p.T * p.k, H));
                 }},
                {"copy",
                 [](problem& p, auto const& ex) {
                   peers::stream(ex.threads, p.other.data(), p.rows.data(), p.T * p.k * H, nullptr, 0, 1);
                 },
                 false}});
}

suite const all("dispatch", [] {
  add_all(4096, 8);
  add_all(512, 2);
});

}  // namespace
