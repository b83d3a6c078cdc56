#include <graft/adapters/road.hpp>

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/adapters/ia3.hpp>
#include <graft/adapters/ln_tuning.hpp>

#include "adapters/problem.hpp"
#include "adapters/rescaled_layer.hpp"

using graft::as_const;
using graft::bfloat16;
using graft::ia3;
using graft::ia3_feedforward;
using graft::index_t;
using graft::none;
using graft::road;
using graft::view;
using namespace tests;

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

TEST_CASE("rescaling: every executor has the bits of reference, also in 16 bits",
          "[adapters][ia3][road][ln_tuning][parity]") {
  auto const floats = []<class S>(std::vector<S> const& v) {
    std::vector<float> out;
    for (S const e : v) out.push_back(graft::load_as<float>(e));
    return out;
  };
  auto const compare = [&]<class S>(S) {
    std::vector<std::vector<float>> expected;
    for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name);
      constexpr index_t tokens = 530, features = 36;
      std::vector<S> const l = random_numbers<S>(features, 1), theta = random_numbers<S>(features, 2);
      std::vector<S> const alpha = random_numbers<S>(features, 3), x = random_numbers<S>(tokens * features, 4);
      std::vector<S> y = random_numbers<S>(tokens * features, 5), kept(y.size()), dl(l.size()), dtheta(l.size()),
                     dalpha(l.size());
      std::vector<S> W = random_numbers<S>(features * 7, 6), bias = random_numbers<S>(features, 7), dx(y.size()),
                     dw(l.size());
      std::vector<S> D(W.size()), db(l.size()), normal(y.size());
      std::vector<float> factors(2 * features);
      std::vector<std::vector<float>> got;
      auto const vx = view(x, tokens, features);
      auto const vy = view(y, tokens, features), vk = view(kept, tokens, features);
      auto const vW = view(W, features, 7);
      road const r{view(theta), view(alpha), 12, view(factors, 2, features)};
      update_factors(ex, r);
      transform_output(ex, ia3{view(l)}, vx, vy, vk);
      got.push_back(floats(y));
      transform_output(ex, r, vx, vy);
      got.push_back(floats(y));
      backward(ex, r, vx, vk, vy, graft::road_gradients{view(dtheta), view(dalpha)}, none);
      backward(ex, ia3{view(l)}, vx, vk, vy, graft::ia3_gradients{view(dl)}, none);
      backward_input(ex, ia3_feedforward{view(l)}, vx, as_const(vy), graft::ia3_gradients{view(dl)},
                     view(dx, tokens, features));
      for (auto const* v : {&y, &kept, &dl, &dtheta, &dalpha, &dx}) got.push_back(floats(*v));
      merge(ex, r, vW, view(bias));
      merge(ex, ia3{view(l)}, vW, view(bias));
      delta_weight(ex, r, as_const(vW), view(D, features, 7));
      got.push_back(floats(W));
      unmerge(ex, ia3{view(l)}, vW, view(bias));
      unmerge(ex, r, vW, view(bias));
      for (auto const* v : {&W, &bias, &D}) got.push_back(floats(*v));
      graft::layer_norm const norm{view(l), view(alpha), 1e-5};
      graft::rms_norm const rms{view(l), 1e-6};
      normalize(ex, norm, vx, view(normal, tokens, features));
      got.push_back(floats(normal));
      backward(ex, norm, vx, as_const(vy), graft::norm_gradients{view(dw), view(db)}, view(dx, tokens, features));
      normalize(ex, rms, vx, view(normal, tokens, features));
      backward(ex, rms, vx, as_const(vy), graft::norm_gradients<decltype(view(dw))>{view(dw), {}},
               view(dx, tokens, features));
      for (auto const* v : {&normal, &dw, &db, &dx}) got.push_back(floats(*v));
      if (expected.empty()) expected = got;
      CHECK(got == expected);
    });
  };
  compare(float{});
  compare(bfloat16{});
  compare(double{});
}
