#include <graft/adapters/road.hpp>

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "adapters/problem.hpp"
#include "adapters/rescaled_layer.hpp"
#include "support/scratch.hpp"

using graft::as_const;
using graft::index_t;
using graft::none;
using graft::road;
using graft::view;
using namespace tests;

TEST_CASE("RoAd, checked by hand", "[adapters][road]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> const theta{0}, alpha{2}, W{1, 2, 3, 4}, x{1, 1};
    std::vector<float> y{1, 2}, w = W, factors(4);
    // No turn, twice as long.
    road const r{view(theta), view(alpha), 2, view(factors, 2, 2)};
    update_factors(ex, r);
    CHECK(factors == std::vector<float>{2, 2, 0, 0});
    // By hand: c = (3, 5), s = (4, 6): (1, 2) -> (3 - 8, 10 + 6).
    factors = {3, 5, 4, 6};
    transform_output(ex, r, view(x, 1, 2), view(y, 1, 2));
    CHECK(y == std::vector<float>{-5, 16});
    merge(ex, r, view(w, 2, 2));
    CHECK(w == std::vector<float>{-9, -10, 21, 32});
    CHECK(parameter_count(r) == 2);
  });
}

TEST_CASE("RoAd: gradients are differences for all three sizes; merging gives the outputs, unmerging takes it back",
          "[adapters][road]") {
  for (index_t const count : {m / 2, m, 2 * m}) {
    rescaled_layer p;
    std::vector<double> theta = random_numbers<double>(count, 5), alpha = random_numbers<double>(count, 6),
                        factors(2 * m);
    std::vector<double> dtheta(theta.size()), dalpha(alpha.size());
    for (double& e : alpha) e += 3;
    for (double& e : theta) e *= 0.5;
    road const a{view(theta), view(alpha), 4, view(factors, 2, m)};
    obeys_the_laws({&theta, &alpha}, {&dtheta, &dalpha}, p, [&](auto const& use) {
      update_factors(graft::serial{}, a);
      use(graft::trained{a, graft::road_gradients{view(dtheta), view(dalpha)}, view(p.kept, T, m)});
    });
    update_factors(graft::serial{}, a);
    CHECK(undone(p, a) <= 64 * 0x1p-53 * 16);
    std::vector<double> D(p.W.size()), merged;
    delta_weight(graft::serial{}, a, as_const(p.vW()), view(D, m, n));
    std::vector<double> const W = p.W;
    merge(graft::serial{}, a, p.vW());
    for (std::size_t i = 0; i < D.size(); ++i) CHECK(std::abs(W[i] + D[i] - p.W[i]) <= 8 * 0x1p-53 * 16);
    initialize(graft::serial{}, a);
    merge(graft::serial{}, a, p.vW());
    CHECK(factors[0] == 1);
    CHECK(factors[static_cast<std::size_t>(m)] == 0);
  }
}

TEST_CASE("RoAd: every executor has the bits of reference, also in 16 bits", "[adapters][road][parity]") {
  same_everywhere([]<class S>(auto const& ex, S) {
    constexpr index_t tokens = 530, features = 36;
    std::vector<S> const theta = random_numbers<S>(features, 2), alpha = random_numbers<S>(features, 3),
                         x = random_numbers<S>(tokens * features, 4);
    std::vector<S> y = random_numbers<S>(tokens * features, 5), kept(y.size()), dtheta(theta.size()),
                   dalpha(theta.size());
    std::vector<S> W = random_numbers<S>(features * 7, 6), bias = random_numbers<S>(features, 7), D(W.size());
    std::vector<float> factors(2 * features);
    auto const vx = view(x, tokens, features);
    auto const vy = view(y, tokens, features), vk = view(kept, tokens, features);
    auto const vW = view(W, features, 7);
    road const r{view(theta), view(alpha), 12, view(factors, 2, features)};
    update_factors(ex, r);
    transform_output(ex, r, vx, vy, vk);
    auto const forward = y;
    backward(ex, r, vx, vk, vy, graft::road_gradients{view(dtheta), view(dalpha)}, none);
    merge(ex, r, vW, view(bias));
    auto const merged = W;
    delta_weight(ex, r, as_const(vW), view(D, features, 7));
    unmerge(ex, r, vW, view(bias));
    return floats(factors, forward, y, kept, dtheta, dalpha, merged, W, bias, D);
  });
}

TEST_CASE("RoAd: what does not fit is refused before anything is written", "[adapters][road]") {
  std::vector<float> v(8, 1.0F), factors(16, 4.0F);
  graft::serial const ex;
  auto const refused = [&](auto const& call, std::string const& sentence) {
    CHECK_THROWS_MATCHES(call(), graft::error, Catch::Matchers::Message(sentence));
    CHECK(factors == std::vector<float>(16, 4.0F));
  };
  refused([&] { update_factors(ex, road{view(v.data(), 3), view(v.data(), 3), 2, view(factors, 2, 8)}); },
          "graft::update_factors: theta[3] and the factors[2, 8] do not fit: theta has half, once or twice as many "
          "numbers as there "
          "are features, and the factors two rows of them");
  refused([&] { update_factors(ex, road{view(v), view(v), 3, view(factors, 2, 8)}); },
          "graft::update_factors: groups of 3 must be even and divide the 8 features of the factors[2, 8]");
}

TEST_CASE("RoAd takes the scratch that it announces", "[adapters][road]") {
  auto const check = []<class S>(S) {
    std::vector<S> const theta = random_numbers<S>(m, 1), alpha = random_numbers<S>(m, 2);
    std::vector<S> factors(2 * m), kept = random_numbers<S>(T * m, 3), dy = random_numbers<S>(T * m, 4), dtheta(m),
                                   dalpha(m);
    std::vector<S> const W = random_numbers<S>(m * n, 5);
    std::vector<S> D(W.size());
    road const a{view(theta), view(alpha), 4, view(factors, 2, m)};
    update_factors(graft::serial{}, a);
    auto const vk = as_const(view(kept, T, m));
    auto const vdy = view(dy, T, m);
    CHECK(scratch_beside_kernels([&](auto const& ex) {
            backward(ex, a, vk, vk, vdy, graft::road_gradients{view(dtheta), view(dalpha)}, none);
          }) == backward_scratch_bytes(a, vk, vdy));
    CHECK(backward_scratch_bytes(a) > 0);
    CHECK(scratch_beside_kernels(
              [&](auto const& ex) { backward(ex, a, vk, vk, vdy, graft::road_gradients{}, none); }) == 0);
    CHECK(scratch_beside_kernels([&](auto const& ex) { delta_weight(ex, a, view(W, m, n), view(D, m, n)); }) ==
          delta_weight_scratch_bytes(a, view(D, m, n)));
    CHECK((delta_weight_scratch_bytes(a, view(D, m, n)) > 0) == (sizeof(S) == 2));
    CHECK(scratch_beside_kernels([&](auto const& ex) { unmerge(ex, a, view(D, m, n)); }) == 0);
  };
  check(float{});
  check(double{});
  check(graft::bfloat16{});
}
