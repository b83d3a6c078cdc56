// SPDX-License-Identifier: Apache-2.0
// The calls that the pages of docs/routing show, each checked by a law.
// test:
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include <graft/openmp.hpp>

namespace {

constexpr int T = 6, E = 8, k = 2;
graft::openmp const ex{.threads = 2};

int wrong = 0;
void expect(char const* what, bool right) {
  if (!right) ++wrong;
  std::printf("%-34s %s\n", what, right ? "right" : "WRONG");
}

void gates() {
  std::vector<float> z(T * E), w(T * k), dw(T * k, 1.0F), dz(T * E);
  std::vector<std::int32_t> chosen(T * k), faults(T);
  graft::kernels::fill_normal(ex, {.seed = 1}, graft::view(z, T, E));
  auto const logits = graft::view(z, T, E), dlogits = graft::view(dz, T, E);
  auto const weights = graft::view(w, T, k), dweights = graft::view(dw, T, k);
  auto const ids = graft::view(chosen, T, k);
  auto const codes = graft::view(faults);
  // [gates]
  graft::softmax_topk const mixtral{};                                 // any gate of the table below
  graft::route(ex, mixtral, logits, ids, weights);                     // logits[T, E] -> ids[T, k], weights[T, k]
  graft::route_backward(ex, mixtral, logits, ids, dweights, dlogits);  // dlogits += ...
  graft::route(ex, mixtral, logits, ids, weights, graft::gate_status{codes});  // never throws for data; codes[T]
  // [gates end]
  bool adds_up = true, still = true;
  for (int t = 0; t < T; ++t) adds_up = adds_up && std::fabs(weights(t, 0) + weights(t, 1) - 1.0F) <= 4 * 0x1p-24F;
  for (float const d : dz) still = still && std::fabs(d) <= 4 * 0x1p-24F;  // the sum of the weights does not change
  expect("weights add up to 1", adds_up);
  expect("their sum has no gradient", still);
}

void projection() {
  constexpr int n = 16;
  std::vector<float> xs(T * n), W(E * n), z(T * E), jittered(T * n), dxs(T * n), dW(E * n);
  graft::kernels::fill_normal(ex, {.seed = 2}, graft::view(xs, T, n));
  auto const x = graft::view(xs, T, n), router_input = graft::view(jittered, T, n), dx = graft::view(dxs, T, n);
  auto const logits = graft::view(z, T, E), dlogits = graft::view(z, T, E), weight_gradient = graft::view(dW, E, n);
  // [router]
  graft::router const router{graft::view(W, E, n)};
  graft::initialize(ex, router, graft::small_normal{.seed = 1});
  graft::kernels::jitter(ex, graft::jitter_noise{.amount = 0.01, .seed = 3}, x,
                         router_input);  // in training, if wanted
  graft::router_logits(ex, router, router_input, logits);
  graft::backward(ex, router, router_input, dlogits, graft::router_gradients{weight_gradient}, dx);
  // [router end]
  double forward = 0, backward = 0;  // dlogits are the logits: W.dW = their squares
  for (std::size_t i = 0; i < W.size(); ++i) backward += static_cast<double>(W[i]) * static_cast<double>(dW[i]);
  for (float const v : z) forward += static_cast<double>(v) * static_cast<double>(v);
  expect("a linear layer's gradient", std::fabs(forward - backward) <= 1e-5 * forward);
}

void losses() {
  std::vector<float> z(T * E), w(T * k), dz(T * E), value(1);
  std::vector<std::int32_t> chosen(T * k);
  graft::kernels::fill_normal(ex, {.seed = 4}, graft::view(z, T, E));
  auto const logits = graft::view(z, T, E), dlogits = graft::view(dz, T, E);
  auto const ids = graft::view(chosen, T, k);
  auto const loss = graft::view(value);
  graft::route(ex, graft::softmax_topk{}, logits, ids, graft::view(w, T, k));
  // [losses]
  graft::pooled_balance_loss(ex, logits, ids, graft::none, 0.001, loss, dlogits);  // loss += 0.001 E sum of f P
  graft::z_loss(ex, logits, 0.001, loss, dlogits);                                 // and dlogits += its gradient
  // [losses end]
  std::vector<float> one(1), two(1);
  graft::pooled_balance_loss(ex, logits, ids, graft::none, 1.0, graft::view(one));
  graft::mola_loss(ex, logits, ids, 1.0, graft::view(two));
  expect("transformers' loss is k MoLA's", std::fabs(one[0] - k * two[0]) <= 1e-5F);
}

void by_experts() {
  constexpr int C = 2;
  std::vector<float> z(T * E), s(T * E), w(E * C), dw(E * C, 1.0F), ds(T * E), dz(T * E);
  std::vector<std::int32_t> chosen(E * C);
  graft::kernels::fill_normal(ex, {.seed = 5}, graft::view(z, T, E));
  auto const logits = graft::view(z, T, E), scores = graft::view(s, T, E), dscores = graft::view(ds, T, E),
             dlogits = graft::view(dz, T, E);
  auto const weights = graft::view(w, E, C), dweights = graft::view(dw, E, C);
  auto const token_ids = graft::view(chosen, E, C);
  // [expert choice]
  graft::expert_choice const by_experts{};
  graft::route(ex, by_experts, logits, scores, token_ids, weights);  // token_ids[E, C], weights[E, C]
  graft::route_backward(ex, by_experts, scores, token_ids, dweights, dscores, dlogits);
  // [expert choice end]
  float least = 1;
  for (int e = 0; e < E; ++e) least = std::fmin(least, weights(e, 0) - weights(e, C - 1));
  expect("descending", least >= 0);
}

void noisy() {
  std::vector<float> c(T * E), r(T * E), h(T * E), w(T * k), dw(T * k, 1.0F), dh(T * E), dc(T * E), dr(T * E),
      ps(T * E), l(E), dl(E), value(1);
  std::vector<std::int32_t> chosen(T * k);
  graft::kernels::fill_normal(ex, {.seed = 6}, graft::view(c, T, E));
  auto const clean = graft::view(c, T, E), raw = graft::view(r, T, E), noisy_logits = graft::view(h, T, E),
             dnoisy = graft::view(dh, T, E), dclean = graft::view(dc, T, E), draw = graft::view(dr, T, E),
             p = graft::view(ps, T, E);
  auto const weights = graft::view(w, T, k), dweights = graft::view(dw, T, k);
  auto const load = graft::view(l), dload = graft::view(dl), loss = graft::view(value);
  auto const ids = graft::view(chosen, T, k);
  // [noisy]
  graft::noisy_topk const gate{};
  graft::random_stream const noise{.seed = 7};
  graft::route(ex, gate, clean, raw, noise, noisy_logits, ids, weights);  // clean = x Wg^T, raw = x Wnoise^T
  graft::expert_load(ex, gate, clean, raw, noisy_logits, k, p, load);
  graft::cv_squared_loss(ex, load, 0.1, loss, dload);
  graft::expert_load_backward(ex, gate, clean, raw, noisy_logits, k, dload, dclean, draw, dnoisy);
  graft::route_backward(ex, gate, raw, noise, noisy_logits, ids, dweights, dnoisy, dclean, draw);
  // [noisy end]
  bool inside = true;
  for (float const v : ps) inside = inside && v >= 0.0F && v <= 1.0F;
  expect("probabilities", inside);
}

}  // namespace

int main() {
  gates();
  projection();
  losses();
  by_experts();
  noisy();
  return wrong;
}
