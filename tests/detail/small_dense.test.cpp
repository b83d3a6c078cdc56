#include <graft/detail/small_dense.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "support/random.hpp"

using graft::index_t;
using graft::detail::invert_positive_definite;
using graft::detail::orthonormalize_rows;

namespace {

constexpr double eps = 0x1p-53;

/// G = X X^T of r x k random numbers.
std::vector<double> gram(index_t r, index_t k, std::uint64_t seed) {
  auto const x = tests::random_numbers<float>(r * k, seed);
  std::vector<double> g(static_cast<std::size_t>(r * r));
  for (index_t i = 0; i < r; ++i)
    for (index_t j = 0; j < r; ++j)
      for (index_t l = 0; l < k; ++l)
        g[static_cast<std::size_t>(i * r + j)] += static_cast<double>(x[static_cast<std::size_t>(i * k + l)]) *
                                                  static_cast<double>(x[static_cast<std::size_t>(j * k + l)]);
  return g;
}

}  // namespace

TEST_CASE("dot_in_order is a chain of fma with a step", "[detail][small_dense]") {
  std::vector<double> const a{1, 100, 2, 100, 3};
  std::vector<double> const b{4, 5, 6};
  CHECK(graft::detail::dot_in_order(a.data(), 2, b.data(), 3) == 4 + 10 + 18);
  CHECK(graft::detail::dot_in_order(a.data(), 2, b.data(), 0) == 0.0);
  // (1 + 2^-30)^2 - (1 + 2^-29) = 2^-60: lost unless the product is exact.
  double const big = 1.0 + 0x1p-30;
  std::vector<double> const c{1.0, big};
  std::vector<double> const d{-(1.0 + 0x1p-29), big};
  CHECK(graft::detail::dot_in_order(c.data(), 1, d.data(), 2) == 0x1p-60);
}

TEST_CASE("the inverse of small matrices by hand", "[detail][small_dense]") {
  std::vector<double> one{4.0};
  std::vector<double> inverse(1);
  REQUIRE(invert_positive_definite(one.data(), inverse.data(), 1, 0.0));
  CHECK(inverse[0] == 0.25);

  // [[1, 1], [1, 2]]: L = [[1, 0], [1, 1]], inverse [[2, -1], [-1, 1]]; all exact. The upper half is not read.
  std::vector<double> g{1.0, std::nan(""), 1.0, 2.0};
  inverse.assign(4, 0.0);
  REQUIRE(invert_positive_definite(g.data(), inverse.data(), 2, 0.0));
  CHECK(inverse == std::vector<double>{2, -1, -1, 1});

  // The damping is on the diagonal: [[0, 0], [0, 0]] + 1/4.
  g.assign(4, 0.0);
  REQUIRE(invert_positive_definite(g.data(), inverse.data(), 2, 0.25));
  CHECK(inverse == std::vector<double>{4, 0, 0, 4});
}

TEST_CASE("(G + damping I) times its inverse is I, as far as Cholesky's backward error allows",
          "[detail][small_dense]") {
  for (index_t const r : {1, 2, 3, 5, 16, 33, 64})
    for (double const damping : {0.0, 1e-8, 0.5}) {
      auto const g = gram(r, r + 5, static_cast<std::uint64_t>(r));
      auto work = g;
      std::vector<double> z(g.size());
      REQUIRE(invert_positive_definite(work.data(), z.data(), r, damping));
      double norm = 0.0;
      double inverse_norm = 0.0;
      for (double const e : g) norm += e * e;
      for (double const e : z) inverse_norm += e * e;
      norm = std::sqrt(norm) + damping * std::sqrt(static_cast<double>(r));
      inverse_norm = std::sqrt(inverse_norm);
      // (M + E) z = e_c with |E| <= r gamma_{3 r + 1} |M| (Higham, Accuracy and stability, theorem 10.4); and this sum.
      auto const size = static_cast<double>(r);
      double const bound = (size * (3.0 * size + 1.0) + size) * eps * norm * inverse_norm;
      double worst = 0.0;
      for (index_t i = 0; i < r; ++i)
        for (index_t j = 0; j < r; ++j) {
          double sum = i == j ? -1.0 : 0.0;
          for (index_t k = 0; k < r; ++k)
            sum += (g[static_cast<std::size_t>(i * r + k)] + (i == k ? damping : 0.0)) *
                   z[static_cast<std::size_t>(j * r + k)];
          worst = std::max(worst, std::abs(sum));
        }
      INFO("r = " << r << ", damping " << damping << ": " << worst << " of " << bound);
      CHECK(worst <= bound);
    }
}

TEST_CASE("what is not positive definite is refused, and the inverse not touched", "[detail][small_dense]") {
  double const inf = std::numeric_limits<double>::infinity();
  double const nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<std::vector<double>> const refused{{0, 0, 0, 0},   {1, 0, 1, 1},   {1, 0, 2, 1},   {-1, 0, 0, 1},
                                                 {1, 0, 0, -1},  {nan, 0, 0, 1}, {1, 0, nan, 1}, {1, 0, 0, nan},
                                                 {inf, 0, 0, 1}, {1, 0, inf, 1}, {1, 0, 0, inf}};
  for (std::size_t i = 0; i < refused.size(); ++i) {
    INFO("case " << i);
    auto g = refused[i];
    std::vector<double> inverse{7, 8, 9, 10};
    CHECK_FALSE(invert_positive_definite(g.data(), inverse.data(), 2, 0.0));
    CHECK(inverse == std::vector<double>{7, 8, 9, 10});
  }
}

TEST_CASE("rows become orthonormal and keep what they span", "[detail][small_dense]") {
  // By hand: (3, 4) and (0, 5) give (3, 4) / 5 and (-4, 3) / 5.
  std::vector<double> q{3, 4, 0, 5};
  REQUIRE(orthonormalize_rows(q.data(), 2));
  std::vector<double> const expected{0.6, 0.8, -0.8, 0.6};
  for (std::size_t i = 0; i < 4; ++i) CHECK(std::abs(q[i] - expected[i]) <= 8 * eps);

  for (index_t const r : {1, 2, 3, 8, 17, 64}) {
    auto numbers = tests::random_numbers<double>(r * r, static_cast<std::uint64_t>(r) + 1);
    // The second row almost depends on the first: one projection alone would leave an error of 1e8 eps.
    if (r > 1)
      for (index_t k = 0; k < r; ++k) {
        auto const at = static_cast<std::size_t>(k);
        numbers[static_cast<std::size_t>(r) + at] = numbers[at] + 1e-8 * numbers[static_cast<std::size_t>(r) + at];
      }
    auto const before = numbers;
    REQUIRE(orthonormalize_rows(numbers.data(), r));
    double worst = 0.0;
    double below = 0.0;  // row i of the input has no part along row j > i of the result
    for (index_t i = 0; i < r; ++i)
      for (index_t j = 0; j < r; ++j) {
        double dot = i == j ? -1.0 : 0.0;
        double along = 0.0;
        for (index_t k = 0; k < r; ++k) {
          auto const row = [&](std::vector<double> const& v, index_t l) {
            return v[static_cast<std::size_t>(l * r + k)];
          };
          dot += row(numbers, i) * row(numbers, j);
          along += row(before, i) * row(numbers, j);
        }
        worst = std::max(worst, std::abs(dot));
        if (j > i) below = std::max(below, std::abs(along) / std::sqrt(static_cast<double>(r)));
      }
    INFO("r = " << r << ": " << worst << ", " << below);
    // Twice is enough (Kahan, Parlett): each of r projections adds a few roundings of a dot product of r terms.
    auto const size = static_cast<double>(r);
    CHECK(worst <= 4.0 * size * (size + 4.0) * eps);
    CHECK(below <= 4.0 * size * (size + 4.0) * eps);
  }
}

TEST_CASE("dependent, zero and non-finite rows are refused", "[detail][small_dense]") {
  double const nan = std::numeric_limits<double>::quiet_NaN();
  double const inf = std::numeric_limits<double>::infinity();
  for (auto q : std::vector<std::vector<double>>{
           {0, 0, 0, 1}, {1, 2, 2, 4}, {1, 2, 0, 0}, {nan, 1, 0, 1}, {1, 0, nan, 1}, {inf, 1, 0, 1}, {1, 0, 0, inf}})
    CHECK_FALSE(orthonormalize_rows(q.data(), 2));
}
