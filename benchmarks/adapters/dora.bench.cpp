// smoke: (forward|backward|norms|merge)/fp32/(T=8|m=512)/r=16/threads=1/
// SPDX-License-Identifier: Apache-2.0
// DoRA, n = m = 4096: with its factors prepared, beside the LoRA that it is made of and with factors made on each call; the backward,
// norms and merge. Factors are signs, so that calls may follow each other.
#include <cmath>

#include "support/suite.hpp"

namespace {
using namespace bench;

struct problem : trained<float> {
  explicit problem(shape const& of)
      : trained<float>(of),
        c(random(of.m, 5)),
        norms(filled(of.m, 2.0F)),
        magnitude(norms),
        kept(random(of.T * of.m, 6)),
        dm(random(of.m, 7)) {
    for (std::size_t o = 0; o < c.size(); ++o) {
      c[o] = c[o] < 0 ? -1.0F : 1.0F;
      magnitude[o] = 2 * c[o];
    }
  }
  buffer<float> c, norms, magnitude, kept, dm;
  [[nodiscard]] auto dora() { return graft::dora{lora(), view(magnitude), view(norms)}; }
  [[nodiscard]] auto kept_view() { return view(kept, s.T, s.m); }
};

void forward(shape const& s) {
  add<problem>(
      "forward/" + label<float>({{"T", s.T}, {"r", s.r}}),
      {.flops = s.flops() + double(s.T * s.m),
       .read = 4.0 * double(s.r * (s.n + s.m) + s.T * s.n + s.m),
       .updated = 4.0 * double(s.T * s.m)},
      [=] { return problem(s); },
      {check(&problem::y, 2e-5,
             [](problem const& p, index_t i) {
               index_t const o = i % p.s.m;
               return value(p.c, o) * (value(p.y, i) + 0.5 * p.product(i / p.s.m, o));
             })},
      {{"prepared",
        [](problem& p, auto const& ex) {
          auto const factors = graft::as_const(view(p.c));
          transform_output(
              ex, graft::prepared_dora<decltype(p.lora()), std::remove_const_t<decltype(factors)>>{p.lora(), factors},
              p.x_view(), p.y_view());
        }},
       {"unprepared", [](problem& p, auto const& ex) { transform_output(ex, p.dora(), p.x_view(), p.y_view()); }},
       {"lora", [](problem& p, auto const& ex) { add_delta(ex, p.lora(), p.x_view(), p.y_view()); }, false}});
}

void train(shape const& s) {
  double const in = 4.0 * double(s.T * s.n), out = 4.0 * double(s.T * s.m), factors = 4.0 * double(s.r * (s.n + s.m));
  // dy comes back as c dy.
  auto const scaled = [](problem const& p) {
    auto q = p;
    for (std::size_t i = 0; i < q.y.size(); ++i) q.y[i] *= q.c[i % q.c.size()];
    return q;
  };
  add<problem>(
      "backward/" + label<float>({{"T", s.T}, {"r", s.r}}),
      {.flops = 2.0 * double(s.T * s.r) * double(3 * s.n + 2 * s.m) + 3.0 * double(s.T * s.m),
       .read = in + out + factors,
       .updated = in + out + factors},
      [=] { return problem(s); },
      {check(&problem::y, 1e-6, [](problem const& p, index_t i) { return value(p.c, i % p.s.m) * value(p.y, i); }),
       check(&problem::dm, 2e-5,
             [](problem const& p, index_t o) {
               return value(p.dm, o) + sum(p.s.T, [&](index_t t) {
                        return value(p.y, t * p.s.m + o) * value(p.kept, t * p.s.m + o) / 2;
                      });
             }),
       check(&problem::dA, 2e-5, [=](problem const& p, index_t i) { return scaled(p).want_dA(i, 0.5); }),
       check(&problem::dB, 2e-5, [=](problem const& p, index_t i) { return scaled(p).want_dB(i, 0.5); }),
       check(&problem::dx, 2e-5, [=](problem const& p, index_t i) { return scaled(p).want_dx(i, 0.5); })},
      {{"graft", [](problem& p, auto const& ex) {
          backward(ex, p.dora(), p.x_view(), p.kept_view(), p.y_view(),
                   graft::dora_gradients{.A = p.dA_view(), .B = p.dB_view(), .magnitude = view(p.dm)}, p.dx_view());
        }}});
}

struct merged : weighted {
  explicit merged(shape const& of) : weighted(of), norms(filled(of.m, 2.0F)), magnitude(random(of.m, 5)) {
    for (float& g : magnitude) g = g < 0 ? -2.0F : 2.0F;
  }
  buffer<float> norms, magnitude;
  [[nodiscard]] auto dora() { return graft::dora{lora(), view(magnitude), view(norms)}; }
  [[nodiscard]] double adapted(index_t i) const { return value(W, i) + 0.5 * outer(i); }
};
void of_weight(shape const& s) {
  auto const name = label<float>({{"m", s.m}, {"r", s.r}});
  auto const make = [=] { return merged(s); };
  double const weight = 4.0 * double(s.m * s.n), factors = 4.0 * double(s.r * (s.n + s.m));
  add<merged>(
      "norms/" + name,
      {.flops = 2.0 * double(s.m * s.n * (s.r + 1)) + double(s.r * s.r * (s.n + s.m)), .read = weight + factors}, make,
      {check(&merged::norms, 1e-5,
             [](merged const& p, index_t o) {
               return std::sqrt(sum(p.s.n, [&](index_t k) { return std::pow(p.adapted(o * p.s.n + k), 2); }));
             })},
      {{"graft", [](merged& p, auto const& ex) { update_norms(ex, p.dora(), p.W_view()); }}});
  add<merged>("merge/" + name,
              {.flops = double(s.m * s.n) * double(2 * s.r + 1), .read = factors, .updated = 2 * weight}, make,
              {check(&merged::W, 2e-5,
                     [](merged const& p, index_t i) { return value(p.magnitude, i / p.s.n) / 2 * p.adapted(i); })},
              {{"graft", [](merged& p, auto const& ex) { merge(ex, p.dora(), p.W_view()); }}});
}

suite const all("dora", [] {
  for (index_t const r : {16, 256})
    for (index_t const T : {1, 8, 512}) forward({T, r});
  for (index_t const T : {8, 64}) train({T, 16});
  of_weight({1, 16, 4096, 512});
  of_weight({1, 16, 4096, 4096});
});

}  // namespace
