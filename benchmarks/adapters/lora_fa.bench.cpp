// smoke: .*/fp32/T=8/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// LoRA-FA: a forward that keeps v = s x A^T, and a backward from it, n = m = 4096, r = 16.
#include "support/suite.hpp"

namespace {
using namespace bench;

struct problem : trained<float> {
  explicit problem(shape const& of) : trained<float>(of), v(filled(of.T * of.r)) {
    graft::kernels::shrink(graft::serial{}, x_view(), A_view(), view(v, of.T, of.r), 0.5);
  }
  buffer<float> v;
  [[nodiscard]] auto fa() { return graft::lora_fa{A_view(), B_view(), 0.5}; }
  [[nodiscard]] auto v_view() { return view(v, s.T, s.r); }
};

void add_all(shape const& s) {
  double const in = 4.0 * double(s.T * s.n), out = 4.0 * double(s.T * s.m), factors = 4.0 * double(s.r * (s.n + s.m));
  auto const name = label<float>({{"T", s.T}, {"r", s.r}});
  auto const make = [=] { return problem(s); };
  add<problem>(
      "forward/" + name, {.flops = s.flops(), .read = in + factors, .updated = out, .written = 4.0 * double(s.T * s.r)},
      make,
      {check(&problem::y, 2e-5,
             [](problem const& p, index_t i) { return value(p.y, i) + 0.5 * p.product(i / p.s.m, i % p.s.m); }),
       check(&problem::v, 2e-5, [](problem const& p, index_t i) { return 0.5 * p.shrunk(i / p.s.r, i % p.s.r); })},
      {{"graft", [](problem& p, auto const& ex) { add_delta(ex, p.fa(), p.x_view(), p.y_view(), p.v_view()); }}});
  add<problem>("backward/" + name,
               {.flops = 2.0 * double(s.T * s.r) * double(s.n + 2 * s.m),
                .read = out + factors,
                .updated = in + 4.0 * double(s.m * s.r)},
               make,
               {check(&problem::dB, 2e-5, [](problem const& p, index_t i) { return p.want_dB(i, 0.5); }),
                check(&problem::dx, 2e-5, [](problem const& p, index_t i) { return p.want_dx(i, 0.5); })},
               {{"graft", [](problem& p, auto const& ex) {
                   graft::lora_gradients<graft::none_t, decltype(p.dB_view())> const g{{}, p.dB_view(), {}};
                   backward(ex, p.fa(), p.v_view(), p.y_view(), g, p.dx_view());
                 }}});
}

suite const all("lora_fa", [] {
  for (index_t const T : {8, 512}) add_all({T, 16});
});

}  // namespace
