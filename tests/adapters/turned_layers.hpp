// Layers whose inputs an adapter turns: everything that a BOFT or an OFT of one reads and writes, the layer itself in double, and
// what their tests share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/adapters/boft.hpp>
#include <graft/adapters/composition.hpp>
#include <graft/adapters/oft.hpp>

#include "support/executors.hpp"
#include "support/random.hpp"
#include "support/rotations.hpp"

namespace tests {

template <class S>
[[nodiscard]] std::vector<S> numbers(graft::index_t count, std::uint64_t seed, double size = 1) {
  std::vector<S> v = random_numbers<S>(count, seed);
  for (S& e : v) e = graft::store_as<S>(size * graft::load_as<double>(e));
  return v;
}

/// A layer of m outputs around a rotation, and everything that a BOFT of it reads and writes.
template <class S>
struct butterfly {
  rotation_shape s;
  graft::index_t m, T;
  std::vector<S> parameters = numbers<S>(static_cast<graft::index_t>(s.size()), 1, 0.4);
  std::vector<S> scale = numbers<S>(m, 2);
  std::vector<S> rotations = std::vector<S>(s.size());
  std::vector<S> x = numbers<S>(T * s.n(), 3), dy = numbers<S>(T * m, 4), W = numbers<S>(m * s.n(), 5);
  [[nodiscard]] auto adapter() {
    return graft::boft{factors_view(parameters.data(), s), graft::view(scale), factors_view(rotations.data(), s)};
  }
  [[nodiscard]] auto vx() { return graft::view(x, T, s.n()); }
  [[nodiscard]] auto vW() { return graft::view(W, m, s.n()); }
};
/// The same of an OFT.
template <class S>
struct orthogonal {
  graft::index_t blocks, b, rows, m, T;
  int terms;
  std::vector<S> parameters = numbers<S>(rows * b * (b - 1) / 2, 1, 0.3);
  std::vector<S> rotations = std::vector<S>(static_cast<std::size_t>(rows * b * b));
  std::vector<S> x = numbers<S>(T * blocks * b, 3), dy = numbers<S>(T * m, 4), W = numbers<S>(m * blocks * b, 5);
  [[nodiscard]] graft::index_t n() const { return blocks * b; }
  [[nodiscard]] auto adapter() {
    return graft::oft{graft::view(parameters.data(), rows, b * (b - 1) / 2), n(), b, terms,
                      blocks_view(rotations.data(), rows, b)};
  }
  [[nodiscard]] auto vx() { return graft::view(x, T, n()); }
  [[nodiscard]] auto vW() { return graft::view(W, m, n()); }
};

/// y = x W^T and dx += dy W in the type of their sums.
template <class S>
[[nodiscard]] auto layer_of(std::vector<S> const& W, graft::index_t m, graft::index_t n) {
  auto const forward = [&W, m, n](auto const& x, auto const& y) {
    for (graft::index_t t = 0; t < y.extent(0); ++t)
      for (graft::index_t o = 0; o < m; ++o) {
        double sum = 0;
        for (graft::index_t k = 0; k < n; ++k)
          sum += graft::load_as<double>(x(t, k)) * graft::load_as<double>(graft::view(W, m, n)(o, k));
        y(t, o) = graft::store_as<S>(sum);
      }
  };
  auto const backward = [&W, m, n](auto const& dy, auto const& dx) {
    for (graft::index_t t = 0; t < dy.extent(0); ++t)
      for (graft::index_t k = 0; k < n; ++k) {
        double sum = graft::load_as<double>(dx(t, k));
        for (graft::index_t o = 0; o < m; ++o)
          sum += graft::load_as<double>(dy(t, o)) * graft::load_as<double>(graft::view(W, m, n)(o, k));
        dx(t, k) = graft::store_as<S>(sum);
      }
  };
  return graft::base_layer{forward, backward, graft::none, graft::none};
}

/// How far two vectors are apart, beside the largest element of the first.
[[nodiscard]] inline double distance(std::vector<double> const& a, std::vector<double> const& b) {
  double most = 1, far = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(a[i]));
    far = std::max(far, std::abs(a[i] - b[i]));
  }
  return far / most;
}

/// Rotating the activations of a layer is rotating its weight; unmerging takes it back; a fresh adapter changes nothing.
template <class P, class A>
void turns_its_weight(P& p, A const& a, graft::index_t n) {
  graft::serial const ex;
  update_rotations(ex, a);
  std::vector<double> y(static_cast<std::size_t>(p.T * p.m)), through(y.size()), D(p.W.size());
  auto const layer = layer_of(p.W, p.m, n);
  graft::adapted_linear(ex, layer, a, p.vx(), graft::view(y, p.T, p.m));
  std::vector<double> const W = p.W;
  graft::delta_weight(ex, a, graft::view(W, p.m, n), graft::view(D, p.m, n));
  merge(ex, a, p.vW());
  auto const merged = p.W;
  layer_of(merged, p.m, n).forward(p.vx(), graft::view(through, p.T, p.m));
  // Chains of n products twice, in double.
  double const bound = 64 * static_cast<double>(n) * 0x1p-53;
  CHECK(distance(y, through) <= bound);
  for (std::size_t i = 0; i < D.size(); ++i) D[i] += W[i];
  CHECK(distance(merged, D) <= bound);
  unmerge(ex, a, p.vW());
  CHECK(distance(W, p.W) <= 64 * bound);
  initialize(ex, a);
  merge(ex, a, p.vW());
  CHECK(distance(W, p.W) <= 64 * bound);
}

/// run(ex) gives the same on every executor.
template <class Run>
void same_everywhere(Run const& run) {
  std::vector<std::vector<float>> expected;
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<std::vector<float>> const got = run(ex);
    if (expected.empty()) expected = got;
    CHECK(got == expected);
  });
}
template <class S>
[[nodiscard]] std::vector<float> floats(std::vector<S> const& v) {
  std::vector<float> out;
  for (S const e : v) out.push_back(graft::load_as<float>(e));
  return out;
}

}  // namespace tests
