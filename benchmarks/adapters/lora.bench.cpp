// smoke: (forward|backward)/fp32/T=8/r=8/threads=1/|merge/fp32/m=512/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// LoRA as training and loading use it: forward, backward (A, B and x) and merge, beside Eigen's products, n = m = 4096.
#include "support/peers.hpp"
#include "support/suite.hpp"

namespace {
using namespace bench;

template <class T>
void forward(shape const& s) {
  using P = low_rank<T>;
  double const size = sizeof(T);
  add<P>(
      "forward/" + label<T>({{"T", s.T}, {"r", s.r}}),
      {.flops = s.flops(), .read = size * double(s.r * (s.n + s.m) + s.T * s.n), .updated = size * double(s.T * s.m)},
      [=] { return P(s); },
      {check(&P::y, tolerance<T>,
             [=](P const& p, index_t i) { return value(p.y, i) + 0.5 * p.product(i / s.m, i % s.m); })},
      {{"graft", [](P& p, auto const& ex) { add_delta(ex, p.lora(), p.x_view(), p.y_view()); }}});
}

struct training : trained<float> {
  explicit training(shape const& of) : trained<float>(of), uv(filled(2 * of.T * of.r)) {}
  buffer<float> uv;
};
void train(shape const& s) {
  double const in = 4.0 * double(s.T * s.n), out = 4.0 * double(s.T * s.m), factors = 4.0 * double(s.r * (s.n + s.m));
  add<training>("backward/" + label<float>({{"T", s.T}, {"r", s.r}}),
                {.flops = 2.0 * double(s.T * s.r) * double(3 * s.n + 2 * s.m),
                 .read = in + out + factors,
                 .updated = in + factors},
                [=] { return training(s); },
                {check(&training::dA, 2e-5, [](training const& p, index_t i) { return p.want_dA(i, 0.5); }),
                 check(&training::dB, 2e-5, [](training const& p, index_t i) { return p.want_dB(i, 0.5); }),
                 check(&training::dx, 2e-5, [](training const& p, index_t i) { return p.want_dx(i, 0.5); })},
                {{"graft",
                  [](training& p, auto const& ex) {
                    backward(ex, p.lora(), p.x_view(), p.y_view(),
                             graft::lora_gradients{.A = p.dA_view(), .B = p.dB_view()}, p.dx_view());
                  }},
                 {"eigen", [](training& p, auto const& ex) {
                    peers::eigen_backward(ex.threads, p.x.data(), p.A.data(), p.B.data(), p.y.data(), p.dA.data(),
                                          p.dB.data(), p.dx.data(), p.uv.data(), p.s.T, p.s.n, p.s.m, p.s.r, 0.5F);
                  }}});
}

void merging(index_t m, index_t r) {
  shape const s{1, r, 4096, m};
  add<weighted>(
      "merge/" + label<float>({{"m", m}, {"r", r}}),
      {.flops = 2.0 * double(m * s.n * r), .read = 4.0 * double(r * (m + s.n)), .updated = 4.0 * double(m * s.n)},
      [=] { return weighted(s); },
      {check(&weighted::W, 2e-5, [](weighted const& p, index_t i) { return value(p.W, i) + 0.5 * p.outer(i); })},
      {{"graft", [](weighted& p, auto const& ex) { merge(ex, p.lora(), p.W_view()); }},
       {"eigen", [](weighted& p, auto const& ex) {
          peers::eigen_merge(ex.threads, p.A.data(), p.B.data(), p.W.data(), p.s.n, p.s.m, p.s.r, 0.5F);
        }}});
}

suite const all("lora", [] {
  for (index_t const r : {8, 16, 64}) {
    for (index_t const T : {1, 8, 64, 512}) {
      forward<float>({T, r});
      forward<graft::bfloat16>({T, r});
      if (T > 1) train({T, r});
    }
    merging(4096, r);
  }
  merging(512, 16);
});

}  // namespace
