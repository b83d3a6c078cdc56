// smoke: fp32/T=8/r=16/threads=1/
// SPDX-License-Identifier: Apache-2.0
// A base layer with two LoRAs around it, n = m = 1024: what adapted_linear adds to the calls it makes. The base is graft's shrink.
#include "support/suite.hpp"

namespace {
using namespace bench;

void add_all(index_t T, index_t r) {
  shape const s{T, r, 1024, 1024};
  auto const base = [](weighted& p, auto const& ex) {
    return [&p, ex](auto const& x, auto const& y) { graft::kernels::shrink(ex, x, p.W_view(), y); };
  };
  double const rows = 4.0 * double(T * 1024), factors = 8.0 * double(r * 1024), weight = 4.0 * 1024 * 1024;
  add<weighted>(
      label<float>({{"T", T}, {"r", r}}),
      {.flops = 2.0 * double(T) * 1024 * 1024 + 2 * s.flops(), .read = weight + rows + factors, .written = rows},
      [=] { return weighted(s); },
      {check(&weighted::y, 2e-5,
             [](weighted const& p, index_t i) {
               index_t const t = i / p.s.m, o = i % p.s.m;
               return sum(p.s.n, [&](index_t k) { return value(p.x, t * p.s.n + k) * value(p.W, o * p.s.n + k); }) +
                      0.75 * p.product(t, o);
             })},
      {{"graft",
        [=](weighted& p, auto const& ex) {
          graft::adapted_linear(ex, base(p, ex), p.lora(0.5), p.lora(0.25), p.x_view(), p.y_view());
        }},
       {"calls", [=](weighted& p, auto const& ex) {
          base(p, ex)(p.x_view(), p.y_view());
          add_delta(ex, p.lora(0.5), p.x_view(), p.y_view());
          add_delta(ex, p.lora(0.25), p.x_view(), p.y_view());
        }}});
}

suite const all("composition", [] {
  add_all(8, 16);
  add_all(64, 16);
});

}  // namespace
