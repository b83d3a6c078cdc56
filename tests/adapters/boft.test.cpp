#include <graft/adapters/boft.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/adapters/composition.hpp>
#include <graft/adapters/lora.hpp>
#include <graft/adapters/oft.hpp>

#include "adapters/finite_differences.hpp"
#include "adapters/problem.hpp"
#include "adapters/turned_layers.hpp"
#include "support/rotations.hpp"
#include "support/scratch.hpp"

using graft::as_const;
using graft::bfloat16;
using graft::boft;
using graft::index_t;
using graft::none;
using graft::oft;
using graft::view;
using namespace tests;

TEST_CASE("BOFT, checked by hand", "[adapters][boft]") {
  // Q = [[0, 1], [-1, 0]] turns by a quarter: R = [[0, -1], [1, 0]].
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> const A{0, 2, 0, 0}, s{2, 3}, x{1, 2}, W{5, 6, 7, 8};
    std::vector<float> r(4), turned(2), y{10, 20}, kept(2), merged = W, delta(4);
    boft const a{factors_view(A.data(), {1, 1, 2}), view(s), factors_view(r.data(), {1, 1, 2})};
    CHECK(a.in_features() == 2);
    CHECK(a.out_features() == 2);
    CHECK(parameter_count(a) == 6);
    update_rotations(ex, a);
    CHECK(r == std::vector<float>{0, -1, 1, 0});
    transform_input(ex, a, view(x, 1, 2), view(turned, 1, 2));
    CHECK(turned == std::vector<float>{2, -1});
    transform_output(ex, a, view(x, 1, 2), view(y, 1, 2), view(kept, 1, 2));
    CHECK(y == std::vector<float>{20, 60});
    CHECK(kept == std::vector<float>{10, 20});
    // W R^T: rows (5, 6) -> (-6, 5), (7, 8) -> (-8, 7), times 2 and 3.
    merge(ex, a, view(merged, 2, 2));
    CHECK(merged == std::vector<float>{-12, 10, -24, 21});
    unmerge(ex, a, view(merged, 2, 2));
    CHECK(merged == W);
    delta_weight(ex, a, view(W, 2, 2), view(delta, 2, 2));
    CHECK(delta == std::vector<float>{-17, 4, -31, 13});
  });
}

TEST_CASE("BOFT: rotating activations is rotating the weight; unmerging takes it back; a fresh one changes nothing",
          "[adapters][boft]") {
  for (rotation_shape const& s : {rotation_shape{1, 3, 5}, {3, 8, 4}, {4, 8, 2}, {2, 2, 16}}) {
    butterfly<double> p{s, 7, 5};
    turns_its_weight(p, p.adapter(), s.n());
  }
}

TEST_CASE("BOFT: gradients of parameters, s and x are differences of the loss", "[adapters][boft]") {
  for (rotation_shape const& s : {rotation_shape{1, 3, 5}, {3, 8, 2}, {2, 4, 4}}) {
    butterfly<double> p{s, 6, 4};
    graft::openmp const ex{.threads = 2};
    auto const layer = layer_of(p.W, p.m, s.n());
    std::vector<double> kept(static_cast<std::size_t>(p.T * p.m)), y(kept.size()), dparameters(s.size()),
        ds(p.scale.size());
    std::vector<double> dx(p.x.size()), dy = p.dy;
    auto const run = [&] {
      update_rotations(ex, p.adapter());
      graft::adapted_linear(
          ex, layer,
          graft::trained{p.adapter(), graft::boft_gradients{factors_view(dparameters.data(), s), view(ds)},
                         view(kept, p.T, p.m)},
          p.vx(), view(y, p.T, p.m));
      return inner_product(y, p.dy);
    };
    run();
    graft::adapted_linear_backward(
        ex, layer,
        graft::trained{p.adapter(), graft::boft_gradients{factors_view(dparameters.data(), s), view(ds)},
                       view(kept, p.T, p.m)},
        p.vx(), view(dy, p.T, p.m), view(dx, p.T, s.n()));
    // The square of the step 2^-17, and rounding beside it.
    double const bound = 256 * (0x1p-34 + 0x1p-53 * 0x1p17);
    CHECK(gradient_error(p.parameters, dparameters, run) <= bound);
    CHECK(gradient_error(p.scale, ds, run) <= bound);
    CHECK(gradient_error(p.x, dx, run) <= bound);
  }
}

TEST_CASE("BOFT's dropout leaves whole blocks of one factor alone; what was dropped gets no gradient",
          "[adapters][boft]") {
  rotation_shape const s{3, 8, 2};
  butterfly<double> p{s, 6, 4};
  update_rotations(graft::serial{}, p.adapter());
  std::vector<std::vector<double>> seen;
  for (std::uint64_t stream = 0; stream < 12; ++stream) {
    graft::block_dropout const mask{.probability = 0.4, .seed = 5, .stream = stream};
    std::vector<double> expected;
    for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name << ", stream " << stream);
      std::vector<double> memory(s.size());
      auto const dropped = drop(ex, p.adapter(), mask, factors_view(memory.data(), s));
      if (expected.empty()) expected = memory;
      CHECK(memory == expected);
      CHECK(dropped.rotations.data_handle() == memory.data());
    });
    index_t identities = 0;
    for (index_t f = 0; f < s.N; ++f)
      for (index_t k = 0; k < s.D; ++k) {
        auto const at = static_cast<std::size_t>((f * s.D + k) * 4);
        bool const same = std::equal(expected.begin() + static_cast<std::ptrdiff_t>(at),
                                     expected.begin() + static_cast<std::ptrdiff_t>(at + 4),
                                     p.rotations.begin() + static_cast<std::ptrdiff_t>(at));
        if (same) continue;
        ++identities;
        CHECK(f == mask.factor(3));
        CHECK(std::vector<double>(expected.begin() + static_cast<std::ptrdiff_t>(at),
                                  expected.begin() + static_cast<std::ptrdiff_t>(at + 4)) ==
              std::vector<double>{1, 0, 0, 1});
      }
    CHECK(identities == 3);  // int(0.4 * 8)
    seen.push_back(expected);
  }
  CHECK(std::adjacent_find(seen.begin(), seen.end()) == seen.end());  // every stream has its own

  // The gradient of a forward with the mask, the dropped blocks held at I.
  graft::block_dropout const mask{.probability = 0.4, .seed = 5, .stream = 3};
  graft::openmp const ex{.threads = 2};
  std::vector<double> memory(s.size()), d(s.size()), dx(p.x.size()), turned(p.x.size());
  std::vector<double> const g = numbers<double>(p.T * s.n(), 9);
  auto const run = [&] {
    update_rotations(ex, p.adapter());
    transform_input(ex, drop(ex, p.adapter(), mask, factors_view(memory.data(), s)), p.vx(), view(turned, p.T, s.n()));
    return inner_product(turned, g);
  };
  run();
  backward_input(ex, drop(ex, p.adapter(), mask, factors_view(memory.data(), s)), p.vx(), view(g, p.T, s.n()),
                 graft::boft_gradients{factors_view(d.data(), s), none}, view(dx, p.T, s.n()), mask);
  double const bound = 256 * (0x1p-34 + 0x1p-53 * 0x1p17);
  CHECK(gradient_error(p.parameters, d, run) <= bound);
  CHECK(gradient_error(p.x, dx, run) <= bound);
  CHECK_THROWS_MATCHES(
      static_cast<void>(drop(ex, p.adapter(), {.probability = 1.0}, factors_view(memory.data(), s))),
      graft::argument_error,
      Catch::Matchers::Message("graft::drop: the probability of the dropout is 1 but must lie in [0, 1)"));
}

TEST_CASE("several rotations and a LoRA: merging in the order of the forward gives its outputs",
          "[adapters][boft][oft]") {
  butterfly<double> p{{2, 4, 4}, 6, 3};
  orthogonal<double> q{4, 4, 4, 6, 3, 5};
  index_t const n = p.s.n(), r = 2;
  std::vector<double> A = numbers<double>(r * n, 7), B = numbers<double>(p.m * r, 8),
                      y(static_cast<std::size_t>(p.T * p.m)), through(y.size());
  graft::lora const l{view(A, r, n), view(B, p.m, r), 0.5, {}};
  graft::serial const ex;
  update_rotations(ex, p.adapter());
  update_rotations(ex, q.adapter());
  auto const layer = layer_of(p.W, p.m, n);
  graft::adapted_linear(ex, layer, p.adapter(), q.adapter(), l, p.vx(), view(y, p.T, p.m));
  merge(ex, p.adapter(), p.vW());
  merge(ex, q.adapter(), p.vW());
  merge(ex, l, p.vW());
  auto const merged = p.W;
  layer_of(merged, p.m, n).forward(p.vx(), view(through, p.T, p.m));
  CHECK(distance(y, through) <= 128 * static_cast<double>(n) * 0x1p-53);
}

TEST_CASE("BOFT: every executor has the bits of reference, also in 16 bits and over many tokens",
          "[adapters][boft][parity]") {
  auto const boft_of = [&]<class S>(S, index_t T) {
    same_everywhere([&](auto const& ex) {
      butterfly<S> p{{3, 8, 4}, 5, T};
      auto const a = p.adapter();
      update_rotations(ex, a);
      std::vector<S> turned(p.x.size()), dx(p.x.size()), d(p.parameters.size()), D(p.W.size());
      transform_input(ex, a, p.vx(), view(turned, T, p.s.n()));
      backward_input(ex, a, p.vx(), as_const(view(turned, T, p.s.n())),
                     graft::boft_gradients{factors_view(d.data(), p.s), none}, view(dx, T, p.s.n()));
      delta_weight(ex, a, as_const(p.vW()), view(D, p.m, p.s.n()));
      merge(ex, a, p.vW());
      auto const merged = p.W;
      unmerge(ex, a, p.vW());
      return std::vector{floats(p.rotations), floats(turned), floats(dx), floats(d),
                         floats(D),           floats(merged), floats(p.W)};
    });
  };
  boft_of(float{}, 3);
  boft_of(float{}, 530);  // more tokens than go back together
  boft_of(bfloat16{}, 6);
  boft_of(double{}, 2);
}

TEST_CASE("BOFT: what does not fit is refused before anything is written", "[adapters][boft]") {
  std::vector<float> parameters(64, 0.1F), rotations(64, 2.0F), s(3, 1.0F), x(16, 1.0F), w(48, 3.0F);
  graft::serial const ex;
  auto const refused = [&](auto const& call, std::string const& sentence) {
    CHECK_THROWS_MATCHES(call(), graft::error, Catch::Matchers::Message(sentence));
    CHECK(rotations == std::vector<float>(64, 2.0F));
    CHECK(w == std::vector<float>(48, 3.0F));
  };
  auto const of = [&](rotation_shape const& a, rotation_shape const& b) {
    return boft{factors_view(parameters.data(), a), view(s), factors_view(rotations.data(), b)};
  };
  refused([&] { update_rotations(ex, of({1, 4, 4}, {1, 2, 4})); },
          "graft::update_rotations: extent 1 of the rotations[1, 2, 4, 4] is 2 but extent 1 of the parameters[1, 4, 4, "
          "4] is 4; "
          "they must be equal");
  refused([&] { merge(ex, of({1, 4, 4}, {1, 4, 4}), view(w, 4, 12)); },
          "graft::merge: extent 0 of W[4, 12] is 4 but extent 0 of s[3] is 3; they must be equal");
  refused([&] { merge(ex, of({1, 2, 4}, {1, 2, 4}), view(w, 3, 16)); },
          "graft::merge: the 2 blocks of R[1, 2, 4, 4] do not cover the 16 features of W[3, 16]");
  refused([&] { static_cast<void>(output_rows(of({1, 2, 4}, {1, 2, 4}), 1, 3)); },
          "graft::output_rows: rows 1 + 3 of [3]");
}

TEST_CASE("BOFT takes the scratch that it announces", "[adapters][boft]") {
  auto const check = []<class S>(S, rotation_shape const& s, index_t m, index_t T) {
    butterfly<S> p{s, m, T};
    auto const a = p.adapter();
    std::vector<S> d(s.size()), D(p.W.size());
    auto const g = as_const(p.vx());
    auto const vd = factors_view(d.data(), s);
    auto const vD = view(D, m, s.n());
    auto const nothing = graft::boft_gradients{};
    std::vector<S> dx(p.x.size());
    CHECK(scratch_beside_kernels([&](auto const& ex) {
            backward_input(ex, a, p.vx(), g, graft::boft_gradients{vd, none}, none);
          }) == backward_input_scratch_bytes(a, p.vx(), g, vd));
    CHECK(backward_input_scratch_bytes(a, p.vx()) > 0);
    CHECK(scratch_beside_kernels(
              [&](auto const& ex) { backward_input(ex, a, p.vx(), g, nothing, view(dx, T, s.n())); }) == 0);
    CHECK(scratch_beside_kernels([&](auto const& ex) { merge(ex, a, p.vW()); }) == merge_scratch_bytes(a, p.vW()));
    CHECK(scratch_beside_kernels([&](auto const& ex) { unmerge(ex, a, p.vW()); }) == unmerge_scratch_bytes(a, p.vW()));
    CHECK((merge_scratch_bytes(a, p.vW()) > 0) == (sizeof(S) == 2));
    CHECK(unmerge_scratch_bytes(a, p.vW()) > merge_scratch_bytes(a, p.vW()));
    CHECK(scratch_beside_kernels([&](auto const& ex) { delta_weight(ex, a, as_const(p.vW()), vD); }) ==
          delta_weight_scratch_bytes(a, vD));
    CHECK(delta_weight_scratch_bytes(a, vD) == merge_scratch_bytes(a, p.vW()));
  };
  check(float{}, {1, 3, 5}, 7, 5);
  check(float{}, {3, 8, 2}, 7, 530);
  check(double{}, {2, 4, 2}, 7, 5);
  check(bfloat16{}, {2, 4, 2}, 7, 5);
  check(bfloat16{}, {1, 256, 2}, 2050, 1);  // more rows than are copied at a time
}
