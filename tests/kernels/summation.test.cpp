// The order of summation, written down a second time as plainly as can be. All bits follow from it.
#include <graft/kernels/summation.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/parity.hpp"

using graft::index_t;
using namespace tests;

namespace {

/// Sixteen lanes per chunk of 512, fma from +0; the lanes are added in pairs 8, 4, 2, 1 apart; then the chunks in order.
template <class S>
S long_axis(std::vector<S> const& x, std::vector<S> const& a) {
  S sum = 0;
  for (std::size_t first = 0; first < x.size(); first += 512) {
    std::array<S, 16> lane{};
    for (std::size_t k = first; k < std::min(first + 512, x.size()); ++k)
      lane[(k - first) % 16] = std::fma(x[k], a[k], lane[(k - first) % 16]);
    for (std::size_t apart : {8U, 4U, 2U, 1U})
      for (std::size_t l = 0; l < apart; ++l) lane[l] = lane[l] + lane[l + apart];
    sum = first == 0 ? lane[0] : sum + lane[0];
  }
  return sum;
}

/// A chain of fma from y over 512 terms; every further chunk is a chain from +0 that is added.
template <class S>
S short_axis(S y, std::vector<S> const& v, std::vector<S> const& b) {
  for (std::size_t first = 0; first < v.size(); first += 512) {
    S part = first == 0 ? y : S{0};
    for (std::size_t j = first; j < std::min(first + 512, v.size()); ++j) part = std::fma(v[j], b[j], part);
    y = first == 0 ? part : y + part;
  }
  return y;
}

template <class S>
std::vector<S> scaled(std::vector<S> v, S scale) {
  for (S& e : v) e = scale * e;
  return v;
}

template <class S, class E>
void check(tally& t, std::string const& name, E const& ex, index_t n) {
  auto const x = random_numbers<S>(n, 1);
  auto const a = random_numbers<S>(n, 2);
  auto const scale = static_cast<S>(0.7);
  using graft::view;
  matrix<S> got(1, 1);
  matrix<S> expected(1, 1);
  graft::kernels::shrink(ex, view(x, 1, n), view(a, 1, n), got.view(), scale);
  expected.view()(0, 0) = scale * long_axis(x, a);
  t.add(differences(got.view(), expected.view()), [&] { return name + ", long axis of " + std::to_string(n); });

  got.view()(0, 0) = static_cast<S>(0.3);
  expected.view()(0, 0) = short_axis(static_cast<S>(0.3), scaled(x, scale), a);
  graft::kernels::expand_add(ex, view(x, 1, n), view(a, 1, n), got.view(), scale);
  t.add(differences(got.view(), expected.view()), [&] { return name + ", short axis of " + std::to_string(n); });

  got.view()(0, 0) = static_cast<S>(0.3);
  std::vector<S> const b{static_cast<S>(0.9)};
  graft::kernels::low_rank_add(ex, view(x, 1, n), view(a, 1, n), view(b, 1, 1), got.view(), scale);
  expected.view()(0, 0) = std::fma(scale * long_axis(x, a), b[0], static_cast<S>(0.3));
  t.add(differences(got.view(), expected.view()), [&] { return name + ", both axes of " + std::to_string(n); });
}

}  // namespace

TEST_CASE("sums have the order that is written down, around lanes and chunks", "[kernels][summation]") {
  tally t;
  for (index_t const n : {0,   1,   2,   15,  16,  17,  31,  32,   33,   100,  495,  496,
                          497, 511, 512, 513, 527, 528, 529, 1023, 1024, 1025, 1541, 3000})
    for_each_executor([&](std::string const& name, auto const& ex) {
      check<float>(t, name, ex, n);
      check<double>(t, name + " in double", ex, n);
    });
  CHECK(t.text() == "");
}

TEST_CASE("another order would show in the data of these tests", "[kernels][summation]") {
  auto const x = random_numbers<float>(1500, 1);
  auto const a = random_numbers<float>(1500, 2);
  float in_order = 0;
  for (std::size_t k = 0; k < x.size(); ++k) in_order = std::fma(x[k], a[k], in_order);
  CHECK(in_order != long_axis(x, a));
  CHECK(in_order != short_axis(0.0F, x, a));
  CHECK(long_axis(x, a) != short_axis(0.0F, x, a));
}

TEST_CASE("missing elements add nothing, not even to the sign of a zero", "[kernels][summation]") {
  // A lane that only saw -0 * +1 is fma(-0, 1, +0) = +0; there is no way to -0 but the scale.
  for (index_t const n : {1, 15, 16, 17}) {
    std::vector<float> const x(static_cast<std::size_t>(n), -0.0F);
    std::vector<float> const a(static_cast<std::size_t>(n), 1.0F);
    for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name << ", " << n);
      std::vector<float> v{7.0F};
      graft::kernels::shrink(ex, graft::view(x, 1, n), graft::view(a, 1, n), graft::view(v, 1, 1));
      CHECK(bits_of(v[0]) == 0);
      graft::kernels::shrink(ex, graft::view(x, 1, n), graft::view(a, 1, n), graft::view(v, 1, 1), -1.0);
      CHECK(bits_of(v[0]) == 0x80000000U);
    });
  }
}

TEST_CASE("rows past the end of a tile repeat the last one", "[kernels][summation]") {
  graft::detail::row_tile<4> const full(1, 9);
  CHECK(full.count == 4);
  CHECK(full.row[3] == 7);
  graft::detail::row_tile<4> const last(2, 9);
  CHECK(last.count == 1);
  CHECK(last.row[0] == 8);
  CHECK(last.row[3] == 8);
  CHECK(graft::detail::tiles(0, 4) == 0);
  CHECK(graft::detail::tiles(8, 4) == 2);
  CHECK(graft::detail::tiles(9, 4) == 3);
}

TEST_CASE("the tree adds lanes 8, 4, 2 and 1 apart", "[kernels][summation]") {
  int telling = 0;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    auto const lane = random_numbers<float>(16, seed);
    auto sum = lane;
    for (std::size_t apart : {8U, 4U, 2U, 1U})
      for (std::size_t l = 0; l < apart; ++l) sum[l] = sum[l] + sum[l + apart];
    CHECK(graft::detail::tree(lane.data()) == sum[0]);
    float in_order = 0;
    for (float const f : lane) in_order += f;
    telling += in_order != sum[0] ? 1 : 0;
  }
  CHECK(telling > 10);
}
