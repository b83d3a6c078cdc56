#include <graft/adapters/ia3.hpp>

#include <cmath>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "adapters/problem.hpp"
#include "adapters/rescaled_layer.hpp"
#include "support/scratch.hpp"

using graft::as_const;
using graft::ia3;
using graft::ia3_feedforward;
using graft::index_t;
using graft::none;
using graft::view;
using namespace tests;

TEST_CASE("(IA)3, checked by hand", "[adapters][ia3]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> const l{2, -1}, W{1, 2, 3, 4}, x{1, 1};
    std::vector<float> y{5, 7}, w = W, bias{10, 20}, D(4), turned(2);
    transform_output(ex, ia3{view(l)}, view(x, 1, 2), view(y, 1, 2));
    CHECK(y == std::vector<float>{10, -7});
    merge(ex, ia3{view(l)}, view(w, 2, 2), view(bias));
    CHECK(w == std::vector<float>{2, 4, -3, -4});
    CHECK(bias == std::vector<float>{20, -20});
    unmerge(ex, ia3{view(l)}, view(w, 2, 2), view(bias));
    CHECK(w == W);
    CHECK(bias == std::vector<float>{10, 20});
    delta_weight(ex, ia3{view(l)}, view(W, 2, 2), view(D, 2, 2));
    CHECK(D == std::vector<float>{1, 2, -6, -8});
    merge(ex, ia3_feedforward{view(l)}, view(w, 2, 2));
    CHECK(w == std::vector<float>{2, -2, 6, -4});
    delta_weight(ex, ia3_feedforward{view(l)}, view(W, 2, 2), view(D, 2, 2));
    CHECK(D == std::vector<float>{1, -4, 3, -8});
    transform_input(ex, ia3_feedforward{view(l)}, view(x, 1, 2), view(turned, 1, 2));
    CHECK(turned == std::vector<float>{2, -1});
  });
}

TEST_CASE("(IA)3: gradients are differences, also of the bias that it scales; merging gives the outputs",
          "[adapters][ia3]") {
  rescaled_layer p;
  std::vector<double> l = random_numbers<double>(m, 5), dl(m), in = random_numbers<double>(n, 6), din(n);
  for (double& e : l) e += 3;
  obeys_the_laws({&l, &in}, {&dl, &din}, p, [&](auto const& use) {
    use(graft::trained{ia3_feedforward{view(in)}, graft::ia3_gradients{view(din)}, {}},
        graft::trained{ia3{view(l)}, graft::ia3_gradients{view(dl)}, view(p.kept, T, m)});
  });
  CHECK(undone(p, ia3{view(l)}) <= 8 * 0x1p-53 * 4);
  l[3] = 0;  // what is switched off cannot come back
  merge(graft::serial{}, ia3{view(l)}, p.vW(), view(p.bias));
  unmerge(graft::serial{}, ia3{view(l)}, p.vW(), view(p.bias));
  CHECK(std::isnan(p.bias[3]));
  initialize(graft::serial{}, ia3{view(l)});
  CHECK(l == std::vector<double>(m, 1.0));
}

TEST_CASE("(IA)3: every executor has the bits of reference, also in 16 bits", "[adapters][ia3][parity]") {
  same_everywhere([]<class S>(auto const& ex, S) {
    constexpr index_t tokens = 530, features = 36;
    std::vector<S> const l = random_numbers<S>(features, 1), x = random_numbers<S>(tokens * features, 4);
    std::vector<S> y = random_numbers<S>(tokens * features, 5), kept(y.size()), dl(l.size()), dx(y.size());
    std::vector<S> W = random_numbers<S>(features * 7, 6), bias = random_numbers<S>(features, 7), D(W.size());
    auto const vx = view(x, tokens, features);
    auto const vy = view(y, tokens, features), vk = view(kept, tokens, features);
    auto const vW = view(W, features, 7);
    transform_output(ex, ia3{view(l)}, vx, vy, vk);
    auto const forward = y;
    backward(ex, ia3{view(l)}, vx, vk, vy, graft::ia3_gradients{view(dl)}, none);
    backward_input(ex, ia3_feedforward{view(l)}, vx, as_const(vy), graft::ia3_gradients{view(dl)},
                   view(dx, tokens, features));
    merge(ex, ia3{view(l)}, vW, view(bias));
    auto const merged = W;
    delta_weight(ex, ia3{view(l)}, as_const(vW), view(D, features, 7));
    unmerge(ex, ia3{view(l)}, vW, view(bias));
    return floats(forward, y, kept, dl, dx, merged, W, bias, D);
  });
}

TEST_CASE("(IA)3: what does not fit is refused before anything is written", "[adapters][ia3]") {
  std::vector<float> v(8, 1.0F), w(32, 2.0F), y(8, 3.0F);
  graft::serial const ex;
  auto const refused = [&](auto const& call, std::string const& sentence) {
    CHECK_THROWS_MATCHES(call(), graft::error, Catch::Matchers::Message(sentence));
    CHECK(w == std::vector<float>(32, 2.0F));
    CHECK(y == std::vector<float>(8, 3.0F));
  };
  refused([&] { transform_output(ex, ia3{view(v)}, view(y, 2, 4), view(y, 2, 4)); },
          "graft::transform_output: extent 1 of y[2, 4] is 4 but extent 0 of l[8] is 8; they must be equal");
  refused([&] { merge(ex, ia3{view(v)}, view(w, 4, 8)); },
          "graft::merge: extent 0 of W[4, 8] is 4 but extent 0 of l[8] is 8; they must be equal");
  refused([&] { merge(ex, ia3_feedforward{view(v)}, view(w, 8, 4)); },
          "graft::merge: extent 1 of W[8, 4] is 4 but extent 0 of l[8] is 8; they must be equal");
  refused([&] { delta_weight(ex, ia3{view(v)}, view(w, 8, 4), view(w, 8, 4)); },
          "graft::delta_weight: D[8, 4] is written but shares memory with W[8, 4]");
  refused([&] { static_cast<void>(output_rows(ia3{view(v)}, -1, 2)); }, "graft::output_rows: rows -1 + 2 of [8]");
}

TEST_CASE("(IA)3 takes the scratch that it announces", "[adapters][ia3]") {
  auto const check = []<class S>(S) {
    std::vector<S> const rows = random_numbers<S>(m, 1), columns = random_numbers<S>(n, 2);
    std::vector<S> W = random_numbers<S>(m * n, 3), D(W.size());
    auto const vW = view(W, m, n);
    auto const of = [&](auto const& a) {
      CHECK(scratch_beside_kernels([&](auto const& ex) { unmerge(ex, a, vW); }) == unmerge_scratch_bytes(a, vW));
      CHECK(unmerge_scratch_bytes(a, vW) > 0);
      CHECK(scratch_beside_kernels([&](auto const& ex) {
              merge(ex, a, vW);
              delta_weight(ex, a, as_const(vW), view(D, m, n));
            }) == 0);
    };
    of(ia3{view(rows)});
    of(ia3_feedforward{view(columns)});
  };
  check(float{});
  check(double{});
  check(graft::bfloat16{});
}
