#include <graft/detail/elementary.hpp>

#include <cmath>
#include <limits>

#include <catch2/catch_test_macros.hpp>

#include "support/random.hpp"

namespace detail = graft::detail;

namespace {

/// |got - exact| in units of the last place of T at `exact`.
template <class T>
double ulps(T got, double exact) {
  int e = 0;
  std::frexp(exact, &e);
  int const digits = std::numeric_limits<T>::digits;
  int const lowest = std::numeric_limits<T>::min_exponent - digits;
  double const ulp = std::ldexp(1.0, std::max(e - digits, lowest));
  return std::abs(static_cast<double>(got) - exact) / ulp;
}

}  // namespace

TEST_CASE("exp in fp32 is within one unit of the last place of std::exp in fp64, subnormals too") {
  tests::random_bits bits(1);
  double worst = 0, worst_subnormal = 0;
  for (int i = 0; i < 400000; ++i) {
    float const scale = i % 4 == 0 ? 1.0F : i % 4 == 1 ? 20.0F : 104.0F;
    float const x = bits.number() * scale;
    if (x > 88.7F) continue;
    double const exact = std::exp(static_cast<double>(x));
    double& w = exact < 0x1p-126 ? worst_subnormal : worst;
    w = std::max(w, ulps(detail::portable_exp(x), exact));
  }
  CHECK(worst <= 1.0);
  CHECK(worst_subnormal <= 1.0);
}

TEST_CASE("exp in fp64 is within one unit of the last place of std::exp, which is within another half") {
  tests::random_bits bits(2);
  double worst = 0;
  for (int i = 0; i < 200000; ++i) {
    double const x = static_cast<double>(bits.number()) * (i % 2 == 0 ? 1.0 : 700.0);
    worst = std::max(worst, ulps(detail::portable_exp(x), std::exp(x)));
  }
  CHECK(worst <= 1.5);
}

TEST_CASE("exp at the ends of its range and at what is no number") {
  float const inf = std::numeric_limits<float>::infinity();
  CHECK(detail::portable_exp(0.0F) == 1.0F);
  CHECK(detail::portable_exp(-0.0F) == 1.0F);
  CHECK(detail::portable_exp(-inf) == 0.0F);
  CHECK(detail::portable_exp(inf) == inf);
  CHECK(detail::portable_exp(88.72283F) < inf);
  CHECK(detail::portable_exp(88.7229F) == inf);
  CHECK(detail::portable_exp(-103.9F) == 0x1p-149F);
  CHECK(detail::portable_exp(-104.1F) == 0.0F);
  CHECK(std::isnan(detail::portable_exp(std::numeric_limits<float>::quiet_NaN())));
  CHECK(std::isnan(detail::portable_exp(std::numeric_limits<double>::quiet_NaN())));
  CHECK(detail::portable_exp(-HUGE_VAL) == 0.0);
  CHECK(detail::portable_exp(HUGE_VAL) == HUGE_VAL);
  CHECK(detail::portable_exp(0.0) == 1.0);
}

TEST_CASE("sigmoid, softplus and log1p keep their small results") {
  tests::random_bits bits(3);
  double sigmoid = 0, single = 0, softplus = 0, log1p = 0;
  for (int i = 0; i < 100000; ++i) {
    double const x = static_cast<double>(bits.number()) * 80.0;
    sigmoid = std::max(sigmoid, ulps(detail::portable_sigmoid(x), 1.0 / (1.0 + std::exp(-x))));
    float const f = static_cast<float>(x);
    single = std::max(single, ulps(detail::portable_sigmoid(f), 1.0 / (1.0 + std::exp(-static_cast<double>(f)))));
    double const exact = x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
    softplus = std::max(softplus, ulps(detail::portable_softplus(x), exact));
    double const y = std::exp(-std::abs(x));
    log1p = std::max(log1p, ulps(detail::portable_log1p(y), std::log1p(y)));
  }
  CHECK(sigmoid <= 4.0);
  CHECK(single <= 3.0);
  CHECK(softplus <= 4.0);
  CHECK(log1p <= 4.0);
  CHECK(detail::portable_sigmoid(-1000.0F) == 0.0F);
  CHECK(detail::portable_sigmoid(1000.0F) == 1.0F);
}

TEST_CASE("the normal distribution function keeps its lower tail") {
  // std::erfc takes x / sqrt 2, rounded: a relative error of 2^-53 there is one of x^2 2^-53 in the tail.
  double worst = 0;
  for (double x = -37; x < 9; x += 0.001953125) {
    double const exact = 0.5 * std::erfc(-x * 0.70710678118654752440);
    double const error = std::abs(detail::portable_normal_cdf(x) - exact) / exact;
    worst = std::max(worst, error - (x < 0 ? x * x * 0x1p-52 : 0.0));
  }
  CHECK(worst <= 0x1p-46);
  CHECK(detail::portable_normal_cdf(0.0) == 0.5);
  CHECK(detail::portable_normal_cdf(-HUGE_VAL) == 0.0);
  CHECK(detail::portable_normal_cdf(HUGE_VAL) == 1.0);
  double const step = 0x1p-20;
  for (double const x : {-3.0, -0.5, 0.0, 1.5}) {
    double const slope = (detail::portable_normal_cdf(x + step) - detail::portable_normal_cdf(x - step)) / (2 * step);
    CHECK(std::abs(slope - detail::portable_normal_density(x)) < 1e-9);
  }
}
