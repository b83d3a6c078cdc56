// A layer with a bias in double, and the laws that adapters of its outputs obey: gradients are differences, merging gives the outputs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/adapters/composition.hpp>
#include <graft/kernels/bias.hpp>

#include "adapters/finite_differences.hpp"
#include "support/executors.hpp"
#include "support/random.hpp"

namespace tests {

inline constexpr graft::index_t T = 5, n = 12, m = 8;
/// The square of the step 2^-17 of the differences, and rounding beside it.
inline constexpr double difference_bound = 256 * (0x1p-34 + 0x1p-53 * 0x1p17);

/// A layer with a bias in double, and what goes through it.
struct rescaled_layer {
  std::vector<double> x = random_numbers<double>(T * n, 1), dy = random_numbers<double>(T * m, 2);
  std::vector<double> W = random_numbers<double>(m * n, 3), bias = random_numbers<double>(m, 4);
  std::vector<double> dbias = std::vector<double>(m), y = std::vector<double>(T * m), kept = std::vector<double>(T * m);
  std::vector<double> dx = std::vector<double>(T * n);

  [[nodiscard]] auto base() {
    auto const forward = [this](auto const& in, auto const& out) {
      for (graft::index_t t = 0; t < T; ++t)
        for (graft::index_t o = 0; o < m; ++o) {
          double sum = 0;
          for (graft::index_t k = 0; k < n; ++k) sum += in(t, k) * graft::view(W, m, n)(o, k);
          out(t, o) = sum;
        }
    };
    auto const backward = [this](auto const& dout, auto const& din) {
      for (graft::index_t t = 0; t < T; ++t)
        for (graft::index_t k = 0; k < n; ++k)
          for (graft::index_t o = 0; o < m; ++o) din(t, k) += dout(t, o) * graft::view(W, m, n)(o, k);
    };
    return graft::base_layer{forward, backward, graft::view(bias), graft::view(dbias)};
  }
  [[nodiscard]] auto vx() { return graft::view(x, T, n); }
  [[nodiscard]] auto vy() { return graft::view(y, T, m); }
  [[nodiscard]] auto vW() { return graft::view(W, m, n); }
};

/// Forward, backward, and differences of the loss in `parameters`, the bias and x; then merged weights give the same outputs.
template <class Make>
void obeys_the_laws(std::vector<std::vector<double>*> const& parameters,
                    std::vector<std::vector<double>*> const& gradients, rescaled_layer& p, Make const& make) {
  graft::openmp const ex{.threads = 2};
  auto const base = p.base();
  auto const run = [&] {
    make([&](auto const&... trained) { graft::adapted_linear(ex, base, trained..., p.vx(), p.vy()); });
    return inner_product(p.y, p.dy);
  };
  run();
  std::vector<double> const outputs = p.y;
  std::vector<double> dy = p.dy;
  make([&](auto const&... trained) {
    graft::adapted_linear_backward(ex, base, trained..., p.vx(), graft::view(dy, T, m), graft::view(p.dx, T, n));
  });
  for (std::size_t i = 0; i < parameters.size(); ++i)
    CHECK(gradient_error(*parameters[i], *gradients[i], run) <= difference_bound);
  CHECK(gradient_error(p.bias, p.dbias, run) <= difference_bound);
  CHECK(gradient_error(p.x, p.dx, run) <= difference_bound);

  std::vector<double> const W = p.W, bias = p.bias;
  auto const merge_all = [&](auto const& t) {
    if constexpr (requires { graft::merge(ex, t.adapter, p.vW(), graft::view(p.bias)); })
      graft::merge(ex, t.adapter, p.vW(), graft::view(p.bias));
    else graft::merge(ex, t.adapter, p.vW());
  };
  make([&](auto const&... trained) { (merge_all(trained), ...); });
  p.base().forward(p.vx(), p.vy());
  graft::kernels::add_bias(ex, graft::view(p.bias), p.vy());
  double most = 1, far = 0;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    most = std::max(most, std::abs(outputs[i]));
    far = std::max(far, std::abs(outputs[i] - p.y[i]));
  }
  CHECK(far <= 64 * static_cast<double>(n) * 0x1p-53 * most);
  p.W = W;
  p.bias = bias;
}

/// How far merging and unmerging leave the weight and the bias from what they were.
template <class A>
[[nodiscard]] double undone(rescaled_layer& p, A const& a) {
  graft::serial const ex;
  std::vector<double> const W = p.W, bias = p.bias;
  if constexpr (requires { graft::merge(ex, a, p.vW(), graft::view(p.bias)); }) {
    graft::merge(ex, a, p.vW(), graft::view(p.bias));
    graft::unmerge(ex, a, p.vW(), graft::view(p.bias));
  } else {
    graft::merge(ex, a, p.vW());
    graft::unmerge(ex, a, p.vW());
  }
  double far = 0;
  for (std::size_t i = 0; i < W.size(); ++i) far = std::max(far, std::abs(W[i] - p.W[i]));
  for (std::size_t i = 0; i < bias.size(); ++i) far = std::max(far, std::abs(bias[i] - p.bias[i]));
  return far;
}

/// run(ex, S{}) gives the same on every executor, in fp32, in bfloat16 and in double.
template <class Run>
void same_everywhere(Run const& run) {
  auto const compare = [&]<class S>(S type) {
    std::vector<std::vector<float>> expected;
    for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name);
      std::vector<std::vector<float>> const got = run(ex, type);
      if (expected.empty()) expected = got;
      CHECK(got == expected);
    });
  };
  compare(float{});
  compare(graft::bfloat16{});
  compare(double{});
}
template <class... S>
[[nodiscard]] std::vector<std::vector<float>> floats(std::vector<S> const&... v) {
  auto const widened = [](auto const& one) {
    std::vector<float> out;
    for (auto const e : one) out.push_back(graft::load_as<float>(e));
    return out;
  };
  return {widened(v)...};
}

}  // namespace tests
