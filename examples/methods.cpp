// SPDX-License-Identifier: Apache-2.0
// Every call that the pages of docs/methods show, each checked by a law: merged weights give the adapted outputs.
// test:
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include <graft/openmp.hpp>

namespace {

constexpr int T = 3, n = 6, m = 4, r = 2;
graft::openmp const ex{.threads = 2};

std::vector<float> numbers(int count, unsigned seed) {
  std::vector<float> v(static_cast<std::size_t>(count));
  graft::kernels::fill_uniform(ex, {.seed = seed}, graft::view(v, 1, count));
  return v;
}

/// y = x W^T.
void my_gemm(std::vector<float> const& W, auto const& x, auto const& y) {
  for (int t = 0; t < T; ++t)
    for (int o = 0; o < m; ++o) {
      y(t, o) = 0;
      for (int k = 0; k < n; ++k) y(t, o) += x(t, k) * graft::view(W, m, n)(o, k);
    }
}
/// dx += dy W.
void my_gemm_backward(std::vector<float> const& W, auto const& dy, auto const& dx) {
  for (int t = 0; t < T; ++t)
    for (int o = 0; o < m; ++o)
      for (int k = 0; k < n; ++k) dx(t, k) += dy(t, o) * graft::view(W, m, n)(o, k);
}

int wrong = 0;
/// Both are sums of at most 64 products below 64, in fp32.
void expect_near(char const* what, std::vector<float> const& a, std::vector<float> const& b) {
  float most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = (std::max)(most, std::fabs(a[i] - b[i]));
  bool const near = a.size() == b.size() && most <= 64 * 64 * 0x1p-24F;
  if (!near) ++wrong;
  std::printf("%-34s %s\n", what, near ? "right" : "WRONG");
}

std::vector<float> const inputs = numbers(T * n, 1), weights = numbers(m * n, 2);
auto const x = graft::view(inputs, T, n);

void vera() {
  constexpr int n_max = n + 3, m_max = m + 1;
  auto A = numbers(r * n_max, 3), B = numbers(m_max * r, 4), d = numbers(r, 5), b = numbers(m, 6);
  std::vector<float> outputs(T * m), kept(T * m, 1.0F), dd(r), db(m), dinputs(T * n), merged = weights, after(T * m);
  auto const y = graft::view(outputs, T, m);
  auto const dy = graft::view(kept, T, m);
  auto const dx = graft::view(dinputs, T, n);
  my_gemm(weights, x, y);
  // [vera]
  graft::vera_projections const shared{graft::view(A, r, n_max), graft::view(B, m_max, r)};
  auto const v = graft::sliced(shared, n, m, graft::view(d), graft::view(b));  // throws when the layer is larger
  graft::add_delta(ex, v, x, y);
  graft::backward(ex, v, x, dy, graft::vera_gradients{graft::view(dd), graft::view(db)}, dx);
  // [vera end]
  graft::merge(ex, v, graft::view(merged, m, n));
  my_gemm(merged, x, graft::view(after, T, m));
  expect_near("vera", outputs, after);
}

void dora() {
  auto A_ = numbers(r * n, 7), B_ = numbers(m * r, 8);
  std::vector<float> W_ = weights, magnitudes(m), lengths(m), ratios(m), outputs(T * m), base(T * m), ones(T * m, 1.0F);
  std::vector<float> dA_(r * n), dB_(m * r), dmagnitudes(m), dinputs(T * n), fast_outputs(T * m), merged(T * m);
  auto const A = graft::view(A_, r, n);
  auto const B = graft::view(B_, m, r);
  auto const magnitude = graft::view(magnitudes), norms = graft::view(lengths), factors = graft::view(ratios);
  auto const dmagnitude = graft::view(dmagnitudes);
  auto const dA = graft::view(dA_, r, n), dx = graft::view(dinputs, T, n);
  auto const dB = graft::view(dB_, m, r);
  auto const W = graft::view(W_, m, n);
  auto const y = graft::view(outputs, T, m), kept = graft::view(base, T, m), dy = graft::view(ones, T, m);
  double const s = 0.5;
  std::fill(magnitudes.begin(), magnitudes.end(), 1.5F);
  {
    auto const my_gemm = [](auto const&, auto const& in, auto const& out) { ::my_gemm(weights, in, out); };
    auto const my_gemm_backward = [](auto const&, auto const& dout, auto const& din) {
      ::my_gemm_backward(weights, dout, din);
    };
    // [dora]
    graft::dora d{graft::lora{A, B, s, {}}, magnitude, norms};  // views; norms[m] is yours, too
    graft::update_norms(ex, d, W);                              // after every change of W, A or B
    my_gemm(W, x, y);                                           // y = x W^T, without the bias
    graft::transform_output(ex, d, x, y, kept);                 // training: kept[T, m] for backward
    graft::backward(ex, d, x, kept, dy, graft::dora_gradients{dA, dB, dmagnitude}, dx);
    my_gemm_backward(W, dy, dx);  // dy is now c * dy: the base's part of dx

    auto const fast = graft::prepare(ex, d, factors);  // inference: c once
    my_gemm(W, x, graft::view(fast_outputs, T, m));
    graft::transform_output(ex, fast, x, graft::view(fast_outputs, T, m));  // costs what LoRA costs
    // [dora end]
    graft::merge(ex, d, W);
  }
  my_gemm(W_, x, graft::view(merged, T, m));
  expect_near("dora", outputs, merged);
  expect_near("dora, prepared", outputs, fast_outputs);
}

void composition() {
  auto A = numbers(r * n, 9), B = numbers(m * r, 10), A2 = numbers(r * n, 11), B2 = numbers(m * r, 12);
  auto const bias_ = numbers(m, 13);
  std::vector<float> W = weights, magnitude(m, 2.0F), norms(m), outputs(T * m), base(T * m), ones(T * m, 1.0F);
  std::vector<float> dinputs(T * n), dA(r * n), dB(m * r), dA2(r * n), dB2(m * r), dm(m), dbias_(m), merged(T * m);
  graft::dora const first{graft::lora{graft::view(A, r, n), graft::view(B, m, r), 0.5, {}}, graft::view(magnitude),
                          graft::view(norms)};
  graft::lora const second{.A = graft::view(A2, r, n), .B = graft::view(B2, m, r), .scale = 0.5};
  graft::update_norms(ex, first, graft::view(W, m, n));
  auto const forward = [](auto const& in, auto const& out) { my_gemm(weights, in, out); };
  auto const backward = [](auto const& dout, auto const& din) { my_gemm_backward(weights, dout, din); };
  auto const bias = graft::view(bias_);
  auto const bias_gradient = graft::view(dbias_);
  graft::dora_gradients const dora_gradients{graft::view(dA, r, n), graft::view(dB, m, r), graft::view(dm)};
  graft::lora_gradients const lora_gradients{.A = graft::view(dA2, r, n), .B = graft::view(dB2, m, r)};
  auto const y = graft::view(outputs, T, m), kept = graft::view(base, T, m), dy = graft::view(ones, T, m);
  auto const dx = graft::view(dinputs, T, n);
  // [composition]
  // forward(x, y): y = x W^T; backward(dy, dx): dx += dy W
  graft::base_layer const layer{forward, backward, bias, bias_gradient};
  graft::adapted_linear(ex, layer, first, second, x, y);

  graft::trained const a{first, dora_gradients, kept};
  graft::trained const b{second, lora_gradients, {}};
  graft::adapted_linear(ex, layer, a, b, x, y);                // keeps what backward needs
  graft::adapted_linear_backward(ex, layer, a, b, x, dy, dx);  // every gradient, added to what is there
  // [composition end]
  graft::merge(ex, first, graft::view(W, m, n));
  graft::merge(ex, second, graft::view(W, m, n));
  my_gemm(W, x, graft::view(merged, T, m));
  graft::kernels::add_bias(ex, bias, graft::view(merged, T, m));
  expect_near("composition", outputs, merged);
}

void dropout() {
  auto A = numbers(r * n, 14), B = numbers(m * r, 15);
  std::vector<float> A_kept(r * n), B_kept(m * r), dA(r * n), dB(m * r), dA_kept(r * n), dB_kept(m * r),
      ones(T * m, 1.0F);
  std::vector<float> outputs(T * m), mean(T * m), dinputs(T * n), by_hand(T * m);
  graft::lora const l{.A = graft::view(A, r, n), .B = graft::view(B, m, r), .scale = 0.5};
  auto const A_memory = graft::view(A_kept, r, n), dA_memory = graft::view(dA_kept, r, n),
             dx = graft::view(dinputs, T, n);
  auto const B_memory = graft::view(B_kept, m, r), dB_memory = graft::view(dB_kept, m, r);
  graft::lora_gradients const gradients{.A = graft::view(dA, r, n), .B = graft::view(dB, m, r)};
  auto const dy = graft::view(ones, T, m);
  int const step = 3, layers = 2, layer = 1;
  {
    auto const y = graft::view(outputs, T, m);
    // [lora_dropout]
    graft::lora_dropout const mask{.probability = 0.3, .seed = 7, .stream = step * layers + layer};
    auto const dropped = graft::drop(ex, l, mask, A_memory, B_memory);  // a graft::lora
    graft::add_delta(ex, dropped, x, y);
    graft::backward_dropped(ex, dropped, mask, x, dy, gradients, dx, dA_memory, dB_memory);
    // [lora_dropout end]
    graft::add_delta(ex, l, x, graft::view(by_hand, T, m));
  }
  std::printf("%-34s %s\n", "lora_dropout changes something", outputs != by_hand ? "right" : "WRONG");
  if (outputs == by_hand) ++wrong;
  graft::lora_dropout const mask{.probability = 0.3, .seed = 7, .stream = 0};
  {
    auto const y = graft::view(mean, T, m);
    // [lora_dropout]
    graft::add_delta_ensemble(ex, l, mask, 8, x, y, A_memory, B_memory);  // inference: the mean over 8 masks
    // [lora_dropout end]
  }
  std::fill(by_hand.begin(), by_hand.end(), 0.0F);
  for (unsigned i = 0; i < 8; ++i) {
    graft::lora const one{l.A, l.B, l.scale.value() / 8, {}};
    graft::add_delta(ex, graft::drop(ex, one, {.probability = 0.3, .seed = 7, .stream = i}, A_memory, B_memory), x,
                     graft::view(by_hand, T, m));
  }
  expect_near("lora_dropout, mean of eight masks", mean, by_hand);
}

/// [count, b, b] and [1, count, b, b] over one piece of memory.
auto blocks(std::vector<float>& v, int count, int b) {
  return graft::view(v.data(), graft::dynamic_extents<3>(count, b, b), {b * b, b, 1});
}
auto factors(std::vector<float>& v, int factors, int count, int b) {
  return graft::view(v.data(), graft::dynamic_extents<4>(factors, count, b, b), {count * b * b, b * b, b, 1});
}

void boft() {
  constexpr int N = 1, D = 3, b = 2;
  auto A_ = numbers(N * D * b * b, 16);
  std::vector<float> s_(m, 1.5F), R_(A_.size()), dA_(A_.size()), ds_(m), W_ = weights, outputs(T * m), merged(T * m);
  std::vector<float> base(T * m), ones(T * m, 1.0F), turned(T * n), dturned(T * n), dinputs(T * n);
  auto const A = factors(A_, N, D, b), rotations = factors(R_, N, D, b), dA = factors(dA_, N, D, b);
  auto const s = graft::view(s_), ds = graft::view(ds_);
  auto const x_turned = graft::view(turned, T, n), dx_turned = graft::view(dturned, T, n);
  auto const dx = graft::view(dinputs, T, n), W = graft::view(W_, m, n);
  auto const y = graft::view(outputs, T, m), kept = graft::view(base, T, m), dy = graft::view(ones, T, m);
  {
    auto const my_gemm = [](auto const&, auto const& in, auto const& out) { ::my_gemm(weights, in, out); };
    auto const my_gemm_backward = [](auto const&, auto const& dout, auto const& din) {
      ::my_gemm_backward(weights, dout, din);
    };
    // [boft]
    graft::boft const a{A, s, rotations};        // views; rotations[N, D, b, b] is yours, too
    graft::update_rotations(ex, a);              // after every change of A
    graft::transform_input(ex, a, x, x_turned);  // x B_{N-1} ... B_0
    my_gemm(W, x_turned, y);                     // without the bias
    graft::transform_output(ex, a, x, y, kept);  // y = s * y; kept[T, m] for backward
    graft::boft_gradients const gradients{dA, ds};
    graft::backward(ex, a, x, kept, dy, gradients, dx);  // ds; dy becomes s * dy
    my_gemm_backward(W, dy, dx_turned);
    graft::backward_input(ex, a, x, dx_turned, gradients, dx);  // dA, dx
    // [boft end]
    graft::merge(ex, a, W);
  }
  my_gemm(W_, x, graft::view(merged, T, m));
  expect_near("boft", outputs, merged);
}

void oft() {
  constexpr int D = 2, b = 3;
  auto v_ = numbers(D * b * (b - 1) / 2, 17);
  std::vector<float> R_(D * b * b), dv_(v_.size()), outputs(T * m), merged(T * m), ones(T * m, 1.0F), dinputs(T * n);
  std::vector<float> W_ = weights;
  auto const v = graft::view(v_, D, b * (b - 1) / 2), dv = graft::view(dv_, D, b * (b - 1) / 2);
  auto const rotations = blocks(R_, D, b);
  auto const y = graft::view(outputs, T, m), dy = graft::view(ones, T, m), dx = graft::view(dinputs, T, n);
  auto const W = graft::view(W_, m, n);
  auto const forward = [](auto const& in, auto const& out) { my_gemm(weights, in, out); };
  auto const backward = [](auto const& dout, auto const& din) { my_gemm_backward(weights, dout, din); };
  graft::base_layer const layer{forward, backward, graft::none, graft::none};
  double const eps = 0.5;
  // [oft]
  graft::oft const a{v, n, b, 5, rotations};  // 5 terms of the series; 0 is the exact transform
  graft::project(ex, a, eps);                 // COFT only, before
  graft::update_rotations(ex, a);             // after every change of v
  graft::trained const t{a, graft::oft_gradients{dv}, graft::none};
  graft::adapted_linear(ex, layer, t, x, y);
  graft::adapted_linear_backward(ex, layer, t, x, dy, dx);
  graft::merge(ex, a, W);  // and unmerge, exact though the series is orthogonal only nearly
  // [oft end]
  my_gemm(W_, x, graft::view(merged, T, m));
  expect_near("oft", outputs, merged);
}

}  // namespace

int main() {
  boft();
  oft();
  vera();
  dora();
  composition();
  dropout();
  return wrong;
}
