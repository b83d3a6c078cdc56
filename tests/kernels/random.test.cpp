#include <graft/kernels/random.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "kernels/parity.hpp"
#include "support/tolerance.hpp"

using graft::index_t;
using graft::random_stream;
using graft::view;
using graft::kernels::fill_normal;
using graft::kernels::fill_uniform;
using namespace tests;
namespace detail = graft::detail;

TEST_CASE("the logarithm without libm is within 2 ulp", "[kernels][random]") {
  double const ulp = std::numeric_limits<double>::epsilon();
  for (int i = 0; i < 20000; ++i) {
    auto const w = detail::philox(5, 1, static_cast<std::uint64_t>(i));
    // Numbers of all sizes down to 2^-64, and close to 1 from below.
    double const u = i % 2 == 0 ? std::ldexp(0.5 + 0.5 * (w[0] + 0.5) * 0x1p-32, -static_cast<int>(w[1] % 64))
                                : 1.0 - std::ldexp((w[0] + 1.0) * 0x1p-32, -static_cast<int>(w[1] % 20));
    double const expected = std::log(u);
    INFO("u = " << u);
    REQUIRE(std::abs(detail::portable_log(u) - expected) <= 2 * ulp * std::abs(expected));
  }
  CHECK(detail::portable_log(1.0) == 0.0);
  CHECK(detail::portable_log(0.5) == -0.69314718055994531);
}

TEST_CASE("the cosine without libm is within 2 ulp of 1, and exact at quarters of a turn", "[kernels][random]") {
  double const turn = 6.283185307179586;
  for (int i = 0; i < 20000; ++i) {
    double const v = detail::philox(5, 2, static_cast<std::uint64_t>(i))[0] * 0x1p-32;
    INFO("v = " << v);
    // The argument 2 pi v is rounded before libm sees it: half an ulp of at most 2 pi, which is 4 ulp of 1.
    REQUIRE(std::abs(detail::portable_cos_turn(v) - std::cos(turn * v)) <= (2 + 4) * 0x1p-52);
  }
  CHECK(detail::portable_cos_turn(0.0) == 1.0);
  CHECK(detail::portable_cos_turn(0.25) == 0.0);
  CHECK(detail::portable_cos_turn(0.5) == -1.0);
  CHECK(detail::portable_cos_turn(0.75) == 0.0);
}

TEST_CASE("uniform numbers are odd multiples of 2^-32, symmetric, with the moments of a uniform number",
          "[kernels][random]") {
  constexpr index_t count = 100000;
  std::vector<double> y(count);
  fill_uniform(graft::serial{}, {.seed = 9, .stream = 3}, view(y, index_t{1}, count));
  double sum = 0, squares = 0;
  for (double const u : y) {
    REQUIRE(std::abs(u) < 1.0);
    REQUIRE(std::fmod(std::abs(u) * 0x1p32, 2.0) == 1.0);
    sum += u;
    squares += u * u;
  }
  // Five standard deviations: variances of u and u^2 are 1/3 and 4/45.
  CHECK(std::abs(sum / count) < 5 * std::sqrt(1.0 / 3.0 / count));
  CHECK(std::abs(squares / count - 1.0 / 3.0) < 5 * std::sqrt(4.0 / 45.0 / count));
}

TEST_CASE("normal numbers have the moments, the tails and the independence of normal numbers", "[kernels][random]") {
  constexpr index_t count = 200000;
  std::vector<double> y(count);
  fill_normal(graft::serial{}, {.seed = 9, .stream = 3}, view(y, index_t{1}, count));
  double moment[4] = {}, products = 0;
  int beyond_two = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    double power = 1;
    for (double& m : moment) m += power *= y[i];
    if (i > 0) products += y[i] * y[i - 1];
    beyond_two += std::abs(y[i]) > 2.0 ? 1 : 0;
  }
  // Five standard deviations: variances of z, z^2, z^3, z^4 and of z z' are 1, 2, 15, 96 and 1.
  double const variance[4] = {1, 2, 15, 96}, mean[4] = {0, 1, 0, 3};
  for (int k = 0; k < 4; ++k) {
    INFO("moment " << k + 1);
    CHECK(std::abs(moment[k] / count - mean[k]) < 5 * std::sqrt(variance[k] / count));
  }
  CHECK(std::abs(products / count) < 5 * std::sqrt(1.0 / count));
  double const p = std::erfc(2.0 / std::sqrt(2.0));
  CHECK(std::abs(beyond_two / static_cast<double>(count) - p) < 5 * std::sqrt(p * (1 - p) / count));
}

TEST_CASE("numbers depend on seed, stream and element, not on executor, layout or extents", "[kernels][random]") {
  auto const filled = [](auto const& fill, auto const& ex, random_stream const& s, layout how) {
    matrix<float> y(37, 21, how);
    fill(ex, s, y.view(), 0.3);
    CHECK(y.outside() == "");
    return y;
  };
  auto const both = [&](auto const& fill) {
    random_stream const s{.seed = 4, .stream = 5, .first = 1000};
    auto const expected = filled(fill, graft::reference{}, s, layout::contiguous);
    for_each_executor([&](std::string const& name, auto const& ex) {
      for (layout const how : all_layouts) {
        INFO(name << ", " << tests::name(how));
        CHECK(differences(graft::as_const(filled(fill, ex, s, how).view()), graft::as_const(expected.view())) == "");
      }
    });
    // A later start is a later part of the same stream; other seeds and streams are other numbers.
    matrix<float> later(36, 21, layout::contiguous);
    fill(graft::serial{}, random_stream{4, 5, 1021}, later.view(), 0.3);
    CHECK(differences(graft::as_const(later.view()), graft::rows(graft::as_const(expected.view()), 1, 36)) == "");
    for (random_stream const& other : {random_stream{5, 5, 1000}, random_stream{4, 6, 1000}, random_stream{4, 5, 0}})
      CHECK(differences(graft::as_const(filled(fill, graft::serial{}, other, layout::contiguous).view()),
                        graft::as_const(expected.view())) != "");
  };
  both(fill_uniform);
  both(fill_normal);
}

TEST_CASE("a scale is a factor, and every storage type is rounded once", "[kernels][random]") {
  std::vector<double> exact(50), scaled(50);
  fill_normal(graft::serial{}, {1, 2}, view(exact, index_t{5}, index_t{10}));
  fill_normal(graft::serial{}, {1, 2}, view(scaled, index_t{5}, index_t{10}), 0.7);
  for (int kind = 0; kind < 3; ++kind)
    with_storage(kind, [&]<class T>(std::type_identity<T>) {
      std::vector<T> y(50);
      fill_normal(graft::serial{}, {1, 2}, view(y, index_t{5}, index_t{10}), 0.7);
      for (std::size_t i = 0; i < y.size(); ++i) {
        CHECK(scaled[i] == 0.7 * exact[i]);
        CHECK(graft::load_as<double>(y[i]) == graft::load_as<double>(graft::store_as<T>(scaled[i])));
      }
    });
}

TEST_CASE("random fills of nothing are legal; what makes no sense is refused and nothing written",
          "[kernels][random]") {
  std::vector<float> y(6, 7.0F);
  fill_uniform(graft::serial{}, {}, view(y.data(), index_t{0}, index_t{3}));
  auto const refused = [&](random_stream const& s, double scale, std::string const& what) {
    CHECK_THROWS_MATCHES(fill_normal(graft::serial{}, s, view(y, index_t{2}, index_t{3}), scale), graft::error,
                         Catch::Matchers::MessageMatches(Catch::Matchers::ContainsSubstring(what)));
  };
  refused({.first = -1}, 1.0, "graft::kernels::fill_normal: first is -1");
  refused({}, std::numeric_limits<double>::infinity(), "scale inf");
  refused({.first = std::numeric_limits<index_t>::max()}, 1.0, "overflows 64 bits");
  CHECK(y == std::vector<float>(6, 7.0F));
}
