#include <graft/adapters/oft.hpp>

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
using graft::bfloat16;
using graft::index_t;
using graft::oft;
using graft::view;
using namespace tests;

TEST_CASE("OFT, checked by hand", "[adapters][oft]") {
  // Q = [[0, 1], [-1, 0]] turns by a quarter: R = [[0, -1], [1, 0]]; two blocks share it.
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> const v{1}, x4{1, 2, 3, 4};
    std::vector<float> r(4), turned4(4), W4{5, 6, 7, 8};
    oft const o{view(v, 1, 1), 4, 2, 0, blocks_view(r.data(), 1, 2)};
    CHECK(o.blocks() == 2);
    CHECK(parameter_count(o) == 1);
    update_rotations(ex, o);
    transform_input(ex, o, view(x4, 1, 4), view(turned4, 1, 4));
    CHECK(turned4 == std::vector<float>{2, -1, 4, -3});
    merge(ex, o, view(W4, 1, 4));
    CHECK(W4 == std::vector<float>{-6, 5, -8, 7});
    unmerge(ex, o, view(W4, 1, 4));
    CHECK(W4 == std::vector<float>{5, 6, 7, 8});
    // The series turns the other way: I + 2 Q with 2 terms, whose inverse is exact in double.
    oft const series{view(v, 1, 1), 4, 2, 2, blocks_view(r.data(), 1, 2)};
    update_rotations(ex, series);
    CHECK(r == std::vector<float>{1, 2, -2, 1});
    merge(ex, series, view(W4, 1, 4));
    CHECK(W4 == std::vector<float>{17, -4, 23, -6});
    unmerge(ex, series, view(W4, 1, 4));
    for (std::size_t i = 0; i < 4; ++i) CHECK(std::abs(W4[i] - static_cast<float>(5 + i)) <= 4 * 23 * 0x1p-24F);
  });
}

TEST_CASE("OFT: rotating activations is rotating the weight; unmerging takes it back; a fresh one changes nothing",
          "[adapters][oft]") {
  for (int const terms : {0, 1, 2, 5, 8})
    for (index_t const rows : {1, 4}) {
      orthogonal<double> p{4, 6, rows, 7, 5, terms};
      turns_its_weight(p, p.adapter(), p.n());
    }
}

TEST_CASE("OFT: gradients of parameters and x are differences of the loss", "[adapters][oft]") {
  for (int const terms : {0, 1, 2, 3, 5})
    for (index_t const rows : {1, 3}) {
      orthogonal<double> p{3, 4, rows, 5, 4, terms};
      graft::openmp const ex{.threads = 2};
      auto const layer = layer_of(p.W, p.m, p.n());
      std::vector<double> y(static_cast<std::size_t>(p.T * p.m)), d(p.parameters.size()), dx(p.x.size()), dy = p.dy;
      auto const gradients = graft::oft_gradients{view(d.data(), rows, p.b * (p.b - 1) / 2)};
      auto const run = [&] {
        update_rotations(ex, p.adapter());
        graft::adapted_linear(ex, layer, p.adapter(), p.vx(), view(y, p.T, p.m));
        return inner_product(y, p.dy);
      };
      run();
      graft::adapted_linear_backward(ex, layer, graft::trained{p.adapter(), gradients, {}}, p.vx(), view(dy, p.T, p.m),
                                     view(dx, p.T, p.n()));
      double const bound = 256 * (0x1p-34 + 0x1p-53 * 0x1p17);
      CHECK(gradient_error(p.parameters, d, run) <= bound);
      CHECK(gradient_error(p.x, dx, run) <= bound);
    }
}

TEST_CASE("COFT scales only blocks that turn too far", "[adapters][oft]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    // Rows of length 5 and 1/2; the limit is eps / sqrt(2 rows) = 2 / sqrt(4) = 1.
    std::vector<double> v{3, 0, 4, 0, 0.5, 0}, r(18);
    graft::project(ex, oft{view(v, 2, 3), 6, 3, 0, blocks_view(r.data(), 2, 3)}, 2.0);
    std::vector<double> const expected{0.6, 0, 0.8, 0, 0.5, 0};
    for (std::size_t i = 0; i < v.size(); ++i) CHECK(std::abs(v[i] - expected[i]) <= 4 * 0x1p-53);
  });
}

TEST_CASE("OFT: every executor has the bits of reference, also in 16 bits", "[adapters][oft][parity]") {
  for (int const terms : {0, 5}) {
    auto const oft_of = [&]<class S>(S) {
      same_everywhere([&](auto const& ex) {
        orthogonal<S> p{6, 8, 1, 5, 4, terms};
        auto const a = p.adapter();
        graft::project(ex, a, 0.5);
        update_rotations(ex, a);
        std::vector<S> turned(p.x.size()), dx(p.x.size()), d(p.parameters.size()), D(p.W.size());
        transform_input(ex, a, p.vx(), view(turned, p.T, p.n()));
        backward_input(ex, a, p.vx(), as_const(view(turned, p.T, p.n())),
                       graft::oft_gradients{view(d.data(), 1, p.b * (p.b - 1) / 2)}, view(dx, p.T, p.n()));
        delta_weight(ex, a, as_const(p.vW()), view(D, p.m, p.n()));
        merge(ex, a, p.vW());
        auto const merged = p.W;
        unmerge(ex, a, p.vW());
        return std::vector{floats(p.parameters), floats(p.rotations), floats(turned), floats(dx), floats(d), floats(D),
                           floats(merged),       floats(p.W)};
      });
    };
    oft_of(float{});
    oft_of(bfloat16{});
  }
}

TEST_CASE("OFT: what does not fit is refused before anything is written", "[adapters][oft]") {
  std::vector<float> parameters(64, 0.1F), rotations(64, 2.0F);
  graft::serial const ex;
  auto const refused = [&](auto const& call, std::string const& sentence) {
    CHECK_THROWS_MATCHES(call(), graft::error, Catch::Matchers::Message(sentence));
    CHECK(rotations == std::vector<float>(64, 2.0F));
  };
  refused([&] { update_rotations(ex, oft{view(parameters, 1, 64), 16, 5, 0, blocks_view(rotations.data(), 1, 5)}); },
          "graft::update_rotations: blocks of 5 do not divide the 16 features");
  refused(
      [&] { update_rotations(ex, oft{view(parameters.data(), 3, 6), 16, 4, 0, blocks_view(rotations.data(), 3, 4)}); },
      "graft::update_rotations: the parameters[3, 6] are for 3 blocks but there are 4; one may stand for all");
  refused(
      [&] { update_rotations(ex, oft{view(parameters.data(), 4, 5), 16, 4, 0, blocks_view(rotations.data(), 4, 4)}); },
      "graft::update_rotations: the parameters[4, 5] has 5 numbers a block but the rotations[4, 4, 4] has blocks of 4 "
      "x 4, "
      "which take 6");
  refused(
      [&] { update_rotations(ex, oft{view(parameters.data(), 4, 6), 16, 4, 65, blocks_view(rotations.data(), 4, 4)}); },
      "graft::update_rotations: the number of terms is 65 but must be 0 (exact) to 64");
  refused(
      [&] {
        graft::project(ex, oft{view(parameters.data(), 4, 6), 16, 4, 0, blocks_view(rotations.data(), 4, 4)}, -1.0);
      },
      "graft::project: eps is -1 but must not be negative");
}

TEST_CASE("OFT takes the scratch that it announces", "[adapters][oft]") {
  auto const check = []<class S>(S, index_t rows, int terms) {
    orthogonal<S> p{3, 4, rows, 5, 4, terms};
    auto const a = p.adapter();
    update_rotations(graft::serial{}, a);
    std::vector<S> d(p.parameters.size()), D(p.W.size());
    auto const vd = view(d.data(), rows, 6);
    auto const vD = view(D, p.m, p.n());
    CHECK(scratch_beside_kernels([&](auto const& ex) {
            backward_input(ex, a, p.vx(), as_const(p.vx()), graft::oft_gradients{vd}, graft::none);
          }) == backward_input_scratch_bytes(a, p.vx(), as_const(p.vx()), vd));
    CHECK(backward_input_scratch_bytes(a, p.vx()) > 0);
    CHECK(scratch_beside_kernels([&](auto const& ex) { merge(ex, a, p.vW()); }) == 0);
    CHECK(scratch_beside_kernels([&](auto const& ex) { unmerge(ex, a, p.vW()); }) == unmerge_scratch_bytes(a, p.vW()));
    CHECK((unmerge_scratch_bytes(a, p.vW()) > 0) == (terms != 0));
    CHECK(scratch_beside_kernels([&](auto const& ex) { delta_weight(ex, a, as_const(p.vW()), vD); }) ==
          delta_weight_scratch_bytes(a, vD));
    CHECK((delta_weight_scratch_bytes(a, vD) > 0) == (sizeof(S) == 2));
  };
  for (int const terms : {0, 5})
    for (index_t const rows : {1, 3}) {
      check(float{}, rows, terms);
      check(double{}, rows, terms);
      check(bfloat16{}, rows, terms);
    }
}
