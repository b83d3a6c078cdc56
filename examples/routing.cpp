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

}  // namespace

int main() {
  gates();
  return wrong;
}
