#include <graft/adapters/ia3.hpp>

#include <cmath>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/adapters/bitfit.hpp>
#include <graft/adapters/ln_tuning.hpp>
#include <graft/adapters/road.hpp>

#include "adapters/problem.hpp"
#include "adapters/rescaled_layer.hpp"

using graft::bitfit;
using graft::ia3;
using graft::ia3_feedforward;
using graft::index_t;
using graft::road;
using graft::view;
using namespace tests;

TEST_CASE("(IA)3, RoAd and BitFit, checked by hand", "[adapters][ia3][road][bitfit]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> const l{2, -1}, W{1, 2, 3, 4}, theta{0}, alpha{2}, x{1, 1};
    std::vector<float> y{5, 7}, w = W, bias{10, 20}, D(4), turned(2), factors(4);
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

    // No turn, twice as long.
    road const r{view(theta), view(alpha), 2, view(factors, 2, 2)};
    update_factors(ex, r);
    CHECK(factors == std::vector<float>{2, 2, 0, 0});
    // By hand: c = (3, 5), s = (4, 6): (1, 2) -> (3 - 8, 10 + 6).
    factors = {3, 5, 4, 6};
    y = {1, 2};
    transform_output(ex, r, view(x, 1, 2), view(y, 1, 2));
    CHECK(y == std::vector<float>{-5, 16});
    w = W;
    merge(ex, r, view(w, 2, 2));
    CHECK(w == std::vector<float>{-9, -10, 21, 32});

    std::vector<float> const b{1, -1};
    y = {1, 2};
    bias = {10, 20};
    w = W;
    add_delta(ex, bitfit{view(b)}, view(x, 1, 2), view(y, 1, 2));
    CHECK(y == std::vector<float>{2, 1});
    merge(ex, bitfit{view(b)}, view(w, 2, 2), view(bias));
    CHECK(bias == std::vector<float>{11, 19});
    CHECK(w == W);
    unmerge(ex, bitfit{view(b)}, view(w, 2, 2), view(bias));
    CHECK(bias == std::vector<float>{10, 20});
    CHECK(parameter_count(bitfit{view(b)}) == 2);
    CHECK(parameter_count(r) == 2);
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

TEST_CASE("rescaling: what does not fit is refused before anything is written", "[adapters][ia3][road][ln_tuning]") {
  std::vector<float> v(8, 1.0F), w(32, 2.0F), y(8, 3.0F), factors(16, 4.0F);
  graft::serial const ex;
  auto const refused = [&](auto const& call, std::string const& sentence) {
    CHECK_THROWS_MATCHES(call(), graft::error, Catch::Matchers::Message(sentence));
    CHECK(w == std::vector<float>(32, 2.0F));
    CHECK(y == std::vector<float>(8, 3.0F));
    CHECK(factors == std::vector<float>(16, 4.0F));
  };
  refused([&] { transform_output(ex, ia3{view(v)}, view(y, 2, 4), view(y, 2, 4)); },
          "graft::transform_output: extent 1 of y[2, 4] is 4 but extent 0 of l[8] is 8; they must be equal");
  refused([&] { merge(ex, ia3{view(v)}, view(w, 4, 8)); },
          "graft::merge: extent 0 of W[4, 8] is 4 but extent 0 of l[8] is 8; they must be equal");
  refused([&] { merge(ex, ia3_feedforward{view(v)}, view(w, 8, 4)); },
          "graft::merge: extent 1 of W[8, 4] is 4 but extent 0 of l[8] is 8; they must be equal");
  refused([&] { static_cast<void>(output_rows(ia3{view(v)}, -1, 2)); }, "graft::output_rows: rows -1 + 2 of [8]");
  refused([&] { merge(ex, bitfit{view(v)}, view(w, 4, 8), view(y)); },
          "graft::merge: extent 0 of W[4, 8] is 4 but extent 0 of the bias[8] is 8; they must be equal");
  refused([&] { update_factors(ex, road{view(v.data(), 3), view(v.data(), 3), 2, view(factors, 2, 8)}); },
          "graft::update_factors: theta[3] and the factors[2, 8] do not fit: theta has half, once or twice as many "
          "numbers as there "
          "are features, and the factors two rows of them");
  refused([&] { update_factors(ex, road{view(v), view(v), 3, view(factors, 2, 8)}); },
          "graft::update_factors: groups of 3 must be even and divide the 8 features of the factors[2, 8]");
  refused([&] { normalize(ex, graft::rms_norm{view(v)}, view(y, 2, 4), view(y, 2, 4)); },
          "graft::kernels::rms_norm: extent 0 of weight[8] is 8 but extent 1 of x[2, 4] is 4; they must be equal");
}
