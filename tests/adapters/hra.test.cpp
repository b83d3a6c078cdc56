#include <graft/adapters/hra.hpp>

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/adapters/composition.hpp>

#include "adapters/finite_differences.hpp"
#include "adapters/problem.hpp"
#include "adapters/turned_layers.hpp"
#include "support/rotations.hpp"
#include "support/scratch.hpp"

using graft::as_const;
using graft::index_t;
using graft::view;
using namespace tests;

namespace {

/// A layer of m outputs around reflections, and everything that an HRA of it reads and writes.
template <class S>
struct reflecting {
  index_t n, r, m, T;
  bool gram_schmidt;
  std::vector<S> u = numbers<S>(n * r, 1);
  std::vector<S> vectors = std::vector<S>(u.size()), spread = std::vector<S>(u.size());
  std::vector<S> x = numbers<S>(T * n, 3), dy = numbers<S>(T * m, 4), W = numbers<S>(m * n, 5);
  [[nodiscard]] auto adapter() {
    return graft::hra{view(u, n, r), gram_schmidt, view(vectors, r, n), view(spread, n, r)};
  }
  [[nodiscard]] auto vx() { return view(x, T, n); }
  [[nodiscard]] auto vW() { return view(W, m, n); }
};

}  // namespace

TEST_CASE("HRA, checked by hand", "[adapters][hra]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    // v = (3, 4) / 5, H = I - 2 v v^T = [[7, -24], [-24, -7]] / 25, its own transpose; 1 / 5 is rounded, so nearly.
    std::vector<double> const u{3, 4}, x{25, 0}, W{0, 25};
    std::vector<double> vectors(2), spread(2), turned(2), merged = W, D(2);
    graft::hra const a{view(u, 2, 1), false, view(vectors, 1, 2), view(spread, 2, 1)};
    CHECK(parameter_count(a) == 2);
    update_reflections(ex, a);
    auto const near = [](std::vector<double> const& got, std::vector<double> const& expected) {
      for (std::size_t i = 0; i < got.size(); ++i) CHECK(std::abs(got[i] - expected[i]) <= 16 * 0x1p-53 * 25);
    };
    near(vectors, {0.6, 0.8});
    near(spread, {1.2, 1.6});
    transform_input(ex, a, view(x, 1, 2), view(turned, 1, 2));
    near(turned, {7, -24});
    merge(ex, a, view(merged, 1, 2));
    near(merged, {-24, -7});
    unmerge(ex, a, view(merged, 1, 2));
    near(merged, W);
    delta_weight(ex, a, view(W, 1, 2), view(D, 1, 2));
    near(D, {-24, -32});
    // Two reflections in lines at 45 degrees turn by 90: columns (1, 0) and (1, 1).
    std::vector<double> const two{1, 1, 0, 1};
    std::vector<double> v2(4), s2(4);
    graft::hra const b{view(two, 2, 2), false, view(v2, 2, 2), view(s2, 2, 2)};
    update_reflections(ex, b);
    transform_input(ex, b, view(x, 1, 2), view(turned, 1, 2));
    near(turned, {0, -25});
    // Made orthonormal they are both axes: everything changes its sign.
    graft::hra const c{view(two, 2, 2), true, view(v2, 2, 2), view(s2, 2, 2)};
    update_reflections(ex, c);
    transform_input(ex, c, view(x, 1, 2), view(turned, 1, 2));
    near(turned, {-25, 0});
  });
}

TEST_CASE("HRA: reflecting activations is reflecting the weight; gradients are differences; every executor agrees",
          "[adapters][hra]") {
  for (bool const gram_schmidt : {false, true})
    for (index_t const r : {1, 2, 5}) {
      index_t const n = 9;
      reflecting<double> p{n, r, 6, 4, gram_schmidt};
      graft::openmp const ex{.threads = 2};
      auto const a = p.adapter();
      auto const layer = layer_of(p.W, p.m, n);
      std::vector<double> y(static_cast<std::size_t>(p.T * p.m)), du(p.u.size()), dx(p.x.size()), dy = p.dy,
                                                                                                  through(y.size());
      auto const run = [&] {
        update_reflections(ex, a);
        graft::adapted_linear(ex, layer, a, p.vx(), view(y, p.T, p.m));
        return inner_product(y, p.dy);
      };
      run();
      graft::adapted_linear_backward(ex, layer, graft::trained{a, graft::hra_gradients{view(du, n, r)}, {}}, p.vx(),
                                     view(dy, p.T, p.m), view(dx, p.T, n));
      double const bound = 256 * (0x1p-34 + 0x1p-53 * 0x1p17);
      CHECK(gradient_error(p.u, du, run) <= 16 * bound);  // second derivatives grow with 1 / |u|^2, here below 16
      CHECK(gradient_error(p.x, dx, run) <= bound);
      run();
      std::vector<double> const outputs = y, W = p.W;
      std::vector<double> D(W.size());
      graft::delta_weight(ex, a, view(W, p.m, n), view(D, p.m, n));
      merge(ex, a, p.vW());
      auto const merged = p.W;
      layer_of(merged, p.m, n).forward(p.vx(), view(through, p.T, p.m));
      CHECK(distance(outputs, through) <= 256 * static_cast<double>(n) * 0x1p-53);
      for (std::size_t i = 0; i < D.size(); ++i) D[i] += W[i];
      CHECK(distance(merged, D) <= 64 * static_cast<double>(n) * 0x1p-53);
      unmerge(ex, a, p.vW());
      CHECK(distance(W, p.W) <= 256 * static_cast<double>(n) * 0x1p-53);

      std::vector<std::vector<double>> expected;
      for_each_executor([&](std::string const& name, auto const& e) {
        INFO(name << ", r = " << r);
        reflecting<float> q{n, r, 6, 530, gram_schmidt};
        auto const b = q.adapter();
        update_reflections(e, b);
        std::vector<float> turned(q.x.size()), dxq(q.x.size()), duq(q.u.size());
        transform_input(e, b, q.vx(), view(turned, q.T, n));
        backward_input(e, b, q.vx(), as_const(view(turned, q.T, n)), graft::hra_gradients{view(duq, n, r)},
                       view(dxq, q.T, n));
        merge(e, b, q.vW());
        std::vector<std::vector<double>> got;
        for (auto const* v : {&q.vectors, &q.spread, &turned, &dxq, &duq, &q.W}) got.emplace_back(v->begin(), v->end());
        if (expected.empty()) expected = got;
        CHECK(got == expected);
      });
    }
  // A fresh one changes nothing.
  reflecting<float> fresh{8, 4, 3, 2, false};
  initialize(graft::serial{}, fresh.adapter(), graft::repeated_reflections{1, 2});
  CHECK(fresh.u[0] == fresh.u[1]);
  CHECK(fresh.u[0] != fresh.u[2]);
  std::vector<float> turned(fresh.x.size());
  transform_input(graft::serial{}, fresh.adapter(), fresh.vx(), view(turned, 2, 8));
  for (std::size_t i = 0; i < turned.size(); ++i) CHECK(std::abs(turned[i] - fresh.x[i]) <= 64 * 0x1p-24F * 4);
  reflecting<float> odd{8, 3, 3, 2, false};
  CHECK_THROWS_MATCHES(
      initialize(graft::serial{}, odd.adapter(), graft::repeated_reflections{}), graft::argument_error,
      Catch::Matchers::Message("graft::initialize: u[8, 3] has an odd rank; pairs of equal columns need an even "
                               "rank and no Gram-Schmidt"));
}

TEST_CASE("HRA takes the scratch that it announces", "[adapters][hra]") {
  auto const check = []<class S>(S) {
    index_t const n = 9, r = 3, m = 6, T = 40;
    reflecting<S> p{n, r, m, T, false};
    auto const a = p.adapter();
    update_reflections(graft::serial{}, a);
    std::vector<S> du(p.u.size()), dx(p.x.size()), D(p.W.size());
    auto const g = as_const(p.vx());
    CHECK(scratch_beside_kernels([&](auto const& ex) {
            backward_input(ex, a, p.vx(), g, graft::hra_gradients{view(du, n, r)}, view(dx, T, n));
          }) == backward_input_scratch_bytes(a, p.vx(), g));
    CHECK(backward_input_scratch_bytes(a, p.vx()) > 0);
    CHECK(scratch_beside_kernels([&](auto const& ex) {
            backward_input(ex, a, p.vx(), g, graft::hra_gradients{}, view(dx, T, n));
          }) == delta_weight_scratch_bytes(a));
    CHECK(scratch_beside_kernels([&](auto const& ex) { merge(ex, a, p.vW()); }) == merge_scratch_bytes(a, p.vW()));
    CHECK(scratch_beside_kernels([&](auto const& ex) { unmerge(ex, a, p.vW()); }) == unmerge_scratch_bytes(a, p.vW()));
    CHECK(unmerge_scratch_bytes(a, p.vW()) > 0);
    CHECK(scratch_beside_kernels([&](auto const& ex) { delta_weight(ex, a, as_const(p.vW()), view(D, m, n)); }) ==
          delta_weight_scratch_bytes(a));
    CHECK(merge_scratch_bytes(a, p.vW()) == unmerge_scratch_bytes(a, p.vW()) + delta_weight_scratch_bytes(a));
  };
  check(float{});
  check(double{});
  check(graft::bfloat16{});
}
