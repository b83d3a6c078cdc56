// SPDX-License-Identifier: Apache-2.0
// What docs/routing/plan.md shows: a layer of experts by way of a plan, its gradients and a capacity, checked against a loop over
// tokens.
// test:
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <vector>

#include <graft/openmp.hpp>

namespace {

constexpr int T = 6, k = 2, E = 4, H = 5;
graft::openmp const ex{.threads = 2};

std::vector<float> numbers(int count, unsigned seed) {
  std::vector<float> v(static_cast<std::size_t>(count));
  graft::kernels::fill_uniform(ex, {.seed = seed}, graft::view(v, 1, count));
  return v;
}
// Expert e: out = W_e in.
std::vector<float> const W = numbers(E * H * H, 1);
void my_expert(graft::index_t e, auto const& in, auto const& out) {
  auto const w = graft::layer(graft::view(W.data(), graft::extents<E, H, H>{}), e);
  for (graft::index_t i = 0; i < in.extent(0); ++i)
    for (graft::index_t o = 0; o < H; ++o) {
      out(i, o) = 0;
      for (graft::index_t j = 0; j < H; ++j) out(i, o) = std::fma(w(o, j), in(i, j), out(i, o));
    }
}
void my_expert_backward(graft::index_t e, auto const& dout, auto const& din) {
  auto const w = graft::layer(graft::view(W.data(), graft::extents<E, H, H>{}), e);
  for (graft::index_t i = 0; i < din.extent(0); ++i)
    for (graft::index_t j = 0; j < H; ++j) {
      din(i, j) = 0;
      for (graft::index_t o = 0; o < H; ++o) din(i, j) = std::fma(w(o, j), dout(i, o), din(i, j));
    }
}

int wrong = 0;
void expect(char const* what, bool right) {
  if (!right) ++wrong;
  std::printf("%-46s %s\n", what, right ? "right" : "WRONG");
}

}  // namespace

int main() {
  std::vector<std::int32_t> const chosen{0, 2, 2, 1, 2, 0, 3, 2, 0, -1, 2, 3};
  auto const inputs = numbers(T * H, 2), gates = numbers(T * k, 3), gradients = numbers(T * H, 4);
  std::vector<float> outputs(T * H), dinputs(T * H), dgates(T * k);
  auto const x = graft::view(inputs, T, H), dy = graft::view(gradients, T, H);
  auto const w = graft::view(gates, T, k);
  auto const y = graft::view(outputs, T, H), dx = graft::view(dinputs, T, H);
  auto const dw = graft::view(dgates, T, k);

  // [layer]
  auto const ids = graft::view(chosen, T, k);  // of any gate; -1 is none
  std::vector<std::byte> memory(graft::plan_bytes(T * k, E, {.alignment = 4}));
  auto const p = graft::plan_in(memory, ids, E, {.alignment = 4});
  graft::kernels::make_plan(ex, ids, p);

  graft::index_t const R = p.offsets(E);  // rows of all experts, with padding
  std::vector<float> in(static_cast<std::size_t>(R * H)), out(in.size());
  graft::kernels::dispatch(ex, p, x, graft::view(in, R, H));
  graft::for_each_expert(p, graft::view(in, R, H), [&](graft::index_t e, auto const& rows) {
    my_expert(e, rows, graft::expert_rows(p, graft::view(out, R, H), e));  // yours: any callable
  });
  graft::kernels::combine(ex, p, graft::view(out, R, H), w, y);
  // [layer end]
  std::vector<float> expected(T * H);
  for (int t = 0; t < T; ++t)
    for (int s = 0; s < k; ++s) {
      if (ids(t, s) < 0) continue;
      std::vector<float> one(H);
      my_expert(ids(t, s), graft::rows(x, t, 1), graft::view(one, 1, H));
      for (int j = 0; j < H; ++j) {
        float& sum = expected[static_cast<std::size_t>(t * H + j)];
        sum = std::fma(w(t, s), one[static_cast<std::size_t>(j)], sum);
      }
    }
  expect("the layer is the loop over tokens, in bits", outputs == expected);

  // [backward]
  std::vector<float> dout(out.size()), din(out.size());
  graft::kernels::combine_backward(ex, p, graft::view(out, R, H), w, dy, graft::view(dout, R, H), dw);
  graft::for_each_expert(p, graft::view(dout, R, H), [&](graft::index_t e, auto const& rows) {
    my_expert_backward(e, rows, graft::expert_rows(p, graft::view(din, R, H), e));
  });
  graft::kernels::dispatch_backward(ex, p, graft::view(din, R, H), dx);  // dx +=
  // [backward end]
  // The layer is linear in x and in w: the gradients give back its value.
  double value = 0, by_x = 0, by_w = 0;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    value += static_cast<double>(outputs[i]) * static_cast<double>(gradients[i]);
    by_x += static_cast<double>(inputs[i]) * static_cast<double>(dinputs[i]);
  }
  for (std::size_t i = 0; i < gates.size(); ++i) by_w += static_cast<double>(gates[i]) * static_cast<double>(dgates[i]);
  expect("dx and dw agree with the value", std::abs(by_x - value) < 1e-5 && std::abs(by_w - value) < 1e-5);

  // [capacity]
  graft::capacity const two_at_most{.fixed = 2, .order = graft::drop_order::choice};
  graft::make_plan(ex, ids, two_at_most, p);
  bool const lost = p.dropped(1) != 0;  // the pair of token 0 and its second choice
  // [capacity end]
  // Expert 2: tokens 1, 2 and 5 ask first, tokens 0 and 3 second.
  expect("first choices are served first", lost && p.counts(2) == 2 && p.dropped(10) == 1 && p.dropped(7) == 1);
  return wrong;
}
