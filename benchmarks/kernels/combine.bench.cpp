// smoke: (combine|weights)/fp32/T=512/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// Rows of 64 experts back to their tokens, weighted, H = 1024, and the gradient of the weights, beside copies that move as many bytes.
#include "support/peers.hpp"
#include "support/routed.hpp"

namespace {
using namespace bench;

constexpr index_t H = 1024;
struct problem : planned {
  problem(index_t tokens, index_t choices)
      : planned(tokens, 64, choices),
        rows(random(T * k * H, 1)),
        other(filled(T * k * H)),
        y(random(T * H, 2)),
        dw(filled(T * k)) {}
  buffer<float> rows, other, y, dw;
  [[nodiscard]] auto rows_view() { return view(rows, T * k, H); }
  [[nodiscard]] double row(index_t pair, index_t j) const { return value(rows, row_of(pair) * H + j); }
};
column<problem> copy_of(index_t floats) {
  return {"copy",
          [=](problem& p, auto const& ex) {
            peers::stream(ex.threads, p.rows.data(), p.other.data(), floats / 2, nullptr, 0, 1);
          },
          false};
}

void add_all(index_t T, index_t k) {
  double const all = 4.0 * double(T * k * H), one = 4.0 * double(T * H);
  double const flops = 2.0 * double(T * k * H);
  auto const name = label<float>({{"T", T}, {"k", k}, {"H", H}});
  auto const make = [=] { return problem(T, k); };
  add<problem>("combine/" + name, {.flops = flops, .read = all, .written = one}, make,
               {check(&problem::y, 1e-5,
                      [](problem const& p, index_t i) {
                        index_t const t = i / H;
                        return sum(p.k, [&](index_t s) { return value(p.w, t * p.k + s) * p.row(t * p.k + s, i % H); });
                      })},
               {{"graft",
                 [](problem& p, auto const& ex) {
                   graft::kernels::combine(ex, p.plan, p.rows_view(), p.w_view(), view(p.y, p.T, H));
                 }},
                copy_of((k + 1) * T * H)});
  add<problem>("weights/" + name, {.flops = flops, .read = all + one}, make,
               {check(&problem::dw, 1e-5,
                      [](problem const& p, index_t i) {
                        return sum(H, [&](index_t j) { return value(p.y, i / p.k * H + j) * p.row(i, j); });
                      })},
               {{"graft",
                 [](problem& p, auto const& ex) {
                   graft::kernels::combine_backward_weights(ex, p.plan, p.rows_view(), view(p.y, p.T, H),
                                                            view(p.dw, p.T, p.k));
                 }},
                copy_of((k + 1) * T * H)});
}

suite const all("combine", [] {
  add_all(4096, 8);
  add_all(512, 2);
});

}  // namespace
