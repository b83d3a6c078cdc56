#include <graft/kernels/pairs.hpp>

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include "support/executors.hpp"

using graft::view;
using graft::kernels::pair_factors;
using graft::kernels::pair_factors_backward;
using namespace tests;

TEST_CASE("pair_factors and their gradients, checked by hand", "[kernels][pairs]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    // Groups of 2: features (0, 1), (2, 3). One parameter a pair, one a feature, and c's and s's in turn.
    std::vector<double> const zero(8, 0.0), alpha{2, 3, 4, 5, 6, 7, 8, 9};
    std::vector<double> factors(8), dtheta(8), dalpha(8);
    pair_factors(ex, view(zero.data(), 2), view(alpha.data(), 2), 2, view(factors, 2, 4));
    CHECK(factors == std::vector<double>{2, 2, 3, 3, 0, 0, 0, 0});
    pair_factors(ex, view(zero.data(), 4), view(alpha.data(), 4), 2, view(factors, 2, 4));
    CHECK(factors == std::vector<double>{2, 3, 4, 5, 0, 0, 0, 0});
    pair_factors(ex, view(zero), view(alpha), 2, view(factors, 2, 4));
    CHECK(factors == std::vector<double>{2, 3, 6, 7, 0, 0, 0, 0});
    // At an angle of 0: dalpha sums dc, dtheta alpha ds, each over its own features, added to what is there.
    std::vector<double> const d{1, 10, 100, 1000, 2, 20, 200, 2000};
    dtheta[0] = dalpha[0] = 5;
    pair_factors_backward(ex, view(zero.data(), 2), view(alpha.data(), 2), 2, view(d, 2, 4), view(dtheta.data(), 2),
                          view(dalpha.data(), 2));
    CHECK(dtheta == std::vector<double>{49, 6600, 0, 0, 0, 0, 0, 0});
    CHECK(dalpha == std::vector<double>{16, 1100, 0, 0, 0, 0, 0, 0});
    dtheta.assign(8, 0);
    dalpha.assign(8, 0);
    pair_factors_backward(ex, view(zero), view(alpha), 2, view(d, 2, 4), view(dtheta), view(dalpha));
    CHECK(dtheta == std::vector<double>{0, 0, 8, 100, 0, 0, 1600, 18000});
    CHECK(dalpha == std::vector<double>{1, 10, 0, 0, 100, 1000, 0, 0});
    // A right angle turns them round.
    double const right = std::acos(-1.0) / 2;
    pair_factors(ex, view(&right, 1), view(alpha.data(), 1), 2, view(factors.data(), 2, 2));
    for (std::size_t const i : {0U, 1U}) CHECK(std::abs(factors[i]) <= 2 * 0x1p-53);
    for (std::size_t const i : {2U, 3U}) CHECK(factors[i] == 2);
  });
}

TEST_CASE("pair_factors: what does not fit is refused before anything is written", "[kernels][pairs]") {
  std::vector<float> theta(4, 1.0F), factors(16, 4.0F), d(8, 2.0F);
  graft::serial const ex;
  auto const refused = [&](auto const& call, std::string const& sentence) {
    CHECK_THROWS_MATCHES(call(), graft::error, Catch::Matchers::Message(sentence));
    CHECK(factors == std::vector<float>(16, 4.0F));
    CHECK(d == std::vector<float>(8, 2.0F));
  };
  auto const t = view(theta);
  refused([&] { pair_factors(ex, t, view(theta.data(), 3), 2, view(factors, 2, 8)); },
          "graft::kernels::pair_factors: extent 0 of alpha[3] is 3 but extent 0 of theta[4] is 4; they must be equal");
  refused([&] { pair_factors(ex, t, t, 2, view(factors.data(), 2, 6)); },
          "graft::kernels::pair_factors: theta[4] and factors[2, 6] do not fit: theta has half, once or twice as many "
          "numbers as there are features, and factors two rows of them");
  refused([&] { pair_factors(ex, t, t, 3, view(factors, 2, 8)); },
          "graft::kernels::pair_factors: groups of 3 must be even and divide the 8 features of factors[2, 8]");
  refused([&] { pair_factors(ex, view(factors.data(), 4), t, 2, view(factors, 2, 8)); },
          "graft::kernels::pair_factors: factors[2, 8] is written but shares memory with theta[4]");
  refused([&] { pair_factors_backward(ex, t, t, 2, view(factors, 2, 8), view(d.data(), 4), view(d.data() + 2, 4)); },
          "graft::kernels::pair_factors_backward: dalpha[4] is written but shares memory with dtheta[4]");
  refused(
      [&] { pair_factors_backward(ex, t, t, 2, view(factors, 2, 8), view(d.data(), 3), view(d.data() + 4, 4)); },
      "graft::kernels::pair_factors_backward: extent 0 of dtheta[3] is 3 but extent 0 of theta[4] is 4; they must be "
      "equal");
  refused([&] { pair_factors_backward(ex, t, t, 2, view(factors, 2, 8), view(d.data(), 4), t); },
          "graft::kernels::pair_factors_backward: dalpha[4] is written but shares memory with theta[4]");
}
