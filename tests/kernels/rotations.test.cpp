#include <graft/kernels/cayley.hpp>
#include <graft/kernels/cayley_backward.hpp>
#include <graft/kernels/invert_blocks.hpp>
#include <graft/kernels/rotate_blocks.hpp>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include "kernels/parity.hpp"
#include "support/resources.hpp"
#include "support/rotations.hpp"
#include "support/tolerance.hpp"

using graft::bfloat16;
using graft::float16;
using graft::index_t;
using graft::view;
using graft::kernels::block_feature;
using graft::kernels::rotate_blocks;
using graft::kernels::rotate_blocks_back;
using graft::kernels::rotate_blocks_back_add;
using namespace tests;

namespace {

/// Blocks in lanes, by rows of sixteen, odd, single, above a vector; features that are and are not multiples of sixteen.
std::vector<rotation_shape> const shapes{{1, 1, 1},  {1, 7, 1},  {1, 3, 2},  {4, 8, 2},  {3, 4, 4},  {1, 4, 4},
                                         {5, 16, 4}, {2, 6, 4},  {2, 2, 8},  {3, 12, 8}, {1, 3, 8},  {2, 2, 16},
                                         {3, 4, 16}, {1, 1, 16}, {1, 2, 32}, {2, 4, 32}, {1, 1, 48}, {2, 2, 48},
                                         {1, 5, 3},  {1, 3, 25}, {2, 2, 6},  {1, 2, 64}, {1, 1, 80}};

/// y = x R and back, in every layout of x and y: empty, or what differs from reference.
template <class X, class R, class Y>
void compare(tally& t) {
  for (rotation_shape const& s : shapes) {
    std::vector<R> const r = random_numbers<R>(static_cast<index_t>(s.size()), 3);
    auto const rotation = factors_view(r.data(), s);
    for (index_t const T : {0, 1, 3, 9}) {
      int turn = static_cast<int>(T) + static_cast<int>(s.b);
      auto const all = [&](auto const& verb, char const* name) {
        matrix<X> x(T, s.n(), layout::contiguous, 1);
        matrix<Y> expected(T, s.n(), layout::contiguous, 2);
        verb.generic(graft::reference{}, x.view(), rotation, expected.view());
        for_each_executor([&](std::string const& executor, auto const& ex) {
          ++turn;
          layout const of_x = all_layouts[static_cast<std::size_t>(turn) % 8];
          layout const of_y = all_layouts[static_cast<std::size_t>(3 * turn + turn / 8) % 8];
          matrix<X> in(T, s.n(), of_x, 1);
          matrix<Y> out(T, s.n(), of_y, 2);
          verb(ex, in.view(), rotation, out.view());
          std::string const text = differences(out.view(), expected.view());
          t.add(text.empty() ? out.outside() : text, [&] {
            return std::string(name) + " on " + executor + ", T = " + std::to_string(T) +
                   ", N = " + std::to_string(s.N) + ", D = " + std::to_string(s.D) + ", b = " + std::to_string(s.b) +
                   ", x " + tests::name(of_x) + ", y " + tests::name(of_y);
          });
        });
      };
      all(rotate_blocks, "rotate_blocks");
      all(rotate_blocks_back, "rotate_blocks_back");
      all(rotate_blocks_back_add, "rotate_blocks_back_add");
    }
  }
}

/// Skew parameters, their rotations.
template <class S>
std::vector<S> rotations_of(std::vector<S> const& packed, index_t blocks, index_t b) {
  std::vector<S> r(static_cast<std::size_t>(blocks * b * b));
  graft::kernels::cayley(graft::serial{}, view(packed, blocks, b * (b - 1) / 2), blocks_view(r.data(), blocks, b));
  return r;
}

}  // namespace

TEST_CASE("the features of a butterfly factor are those that PEFT numbers", "[kernels][rotate_blocks]") {
  // block_butterfly_perm(16, D / 2^f, 2): where the elements of the blocks are taken from.
  std::array<std::array<index_t, 16>, 3> const perm{{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
                                                     {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15},
                                                     {0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15}}};
  for (index_t f = 0; f < 3; ++f)
    for (index_t e = 0; e < 16; ++e)
      CHECK(perm[static_cast<std::size_t>(f)][static_cast<std::size_t>(block_feature(f, 4, e / 4, e % 4))] == e);
}

TEST_CASE("rotate_blocks, checked by hand", "[kernels][rotate_blocks]") {
  // Quarter turns of (0, 1), (2, 3), then of (0, 2), (1, 3): factor 1 acts first.
  std::vector<float> const quarter{0, 1, -1, 0}, r{0, 1, -1, 0, 0, 1, -1, 0, 0, 1, -1, 0, 0, 1, -1, 0}, x{1, 2, 3, 4};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> y(4), back(4), sum{1, 1, 1, 1};
    rotate_blocks(ex, view(x, 1, 4), factors_view(r.data(), {1, 2, 2}), view(y, 1, 4));
    CHECK(y == std::vector<float>{-2, 1, -4, 3});
    // Factor 1: (1, 3) -> (-3, 1), (2, 4) -> (-4, 2), so -3 -4 1 2; factor 0: (-3, -4) -> (4, -3), (1, 2) -> (-2, 1).
    rotate_blocks(ex, view(x, 1, 4), factors_view(r.data(), {2, 2, 2}), view(y, 1, 4));
    CHECK(y == std::vector<float>{4, -3, -2, 1});
    rotate_blocks_back(ex, view(y, 1, 4), factors_view(r.data(), {2, 2, 2}), view(back, 1, 4));
    CHECK(back == x);
    rotate_blocks_back_add(ex, view(y, 1, 4), factors_view(r.data(), {2, 2, 2}), view(sum, 1, 4));
    CHECK(sum == std::vector<float>{2, 3, 4, 5});
    rotate_blocks(ex, view(y, 1, 4), factors_view(r.data(), {2, 2, 2}), view(y, 1, 4));  // in place
    CHECK(y == x);  // two quarter turns of either kind
    // One block for all features: a stride of 0.
    auto const shared = view(quarter.data(), graft::dynamic_extents<4>(1, 2, 2, 2), {0, 0, 2, 1});
    rotate_blocks(ex, view(x, 1, 4), shared, view(y, 1, 4));
    CHECK(y == std::vector<float>{-2, 1, -4, 3});
  });
}

TEST_CASE("rotate_blocks: every executor, scalar and layout has the bits of reference",
          "[kernels][rotate_blocks][parity]") {
  tally t;
  compare<float, float, float>(t);
  compare<bfloat16, float, bfloat16>(t);
  compare<float, float16, double>(t);
  CHECK(t.text() == "");
  CHECK(t.count() == 3 * 3 * 4 * static_cast<int>(shapes.size()) * executor_count);
}

TEST_CASE("rotate_blocks: every instruction set has the bits of reference", "[kernels][rotate_blocks]") {
  for (rotation_shape const& s : shapes) {
    std::vector<float> const r = random_numbers<float>(static_cast<index_t>(s.size()), 3);
    std::vector<float> const x = random_numbers<float>(5 * s.n(), 1);
    std::vector<float> expected(x.size());
    rotate_blocks.generic(graft::reference{}, view(x, 5, s.n()), factors_view(r.data(), s), view(expected, 5, s.n()));
    for_each_isa([&](std::string const& level) {
      INFO(level << ", N = " << s.N << ", D = " << s.D << ", b = " << s.b);
      std::vector<float> y(x.size());
      rotate_blocks(graft::serial{}, view(x, 5, s.n()), factors_view(r.data(), s), view(y, 5, s.n()));
      CHECK(y == expected);
    });
  }
}

TEST_CASE("rotate_blocks is the dense product within its bound, and its own transpose goes back",
          "[kernels][rotate_blocks]") {
  for (rotation_shape const& s : {rotation_shape{1, 3, 5}, {3, 8, 4}, {4, 8, 2}, {2, 4, 32}, {1, 1, 600}}) {
    std::vector<float> const r = random_numbers<float>(static_cast<index_t>(s.size()), 3);
    index_t const n = s.n(), T = 3;
    std::vector<float> const x = random_numbers<float>(T * n, 1);
    std::vector<float> y(x.size()), magnitudes_of_r = r, back(x.size());
    for (float& e : magnitudes_of_r) e = std::abs(e);
    auto const dense = dense_rotation(factors_view(r.data(), s));
    auto const sizes = dense_rotation(factors_view(magnitudes_of_r.data(), s));
    rotate_blocks(graft::serial{}, view(x, T, n), factors_view(r.data(), s), view(y, T, n));
    rotate_blocks_back(graft::serial{}, view(x, T, n), factors_view(r.data(), s), view(back, T, n));
    double worst = 0;
    for (index_t t = 0; t < T; ++t)
      for (index_t j = 0; j < n; ++j) {
        double sum = 0, size = 0, sum_back = 0, size_back = 0;
        for (index_t i = 0; i < n; ++i) {
          auto const v = static_cast<double>(x[static_cast<std::size_t>(t * n + i)]);
          sum += v * dense[static_cast<std::size_t>(i * n + j)];
          size += std::abs(v) * sizes[static_cast<std::size_t>(i * n + j)];
          sum_back += v * dense[static_cast<std::size_t>(j * n + i)];
          size_back += std::abs(v) * sizes[static_cast<std::size_t>(j * n + i)];
        }
        double const terms = static_cast<double>(s.N) * short_axis_bound<float>(s.b, 1.0);
        CHECK(std::abs(static_cast<double>(y[static_cast<std::size_t>(t * n + j)]) - sum) <= terms * size);
        CHECK(std::abs(static_cast<double>(back[static_cast<std::size_t>(t * n + j)]) - sum_back) <= terms * size_back);
        worst = std::max(worst,
                         std::abs(static_cast<double>(y[static_cast<std::size_t>(t * n + j)]) - sum) / (terms * size));
      }
    CHECK(worst > 1e-3);  // the bound is of this world
  }
}

TEST_CASE("a butterfly reaches every output from every input with log2(D) + 1 factors, and not with fewer",
          "[kernels][rotate_blocks]") {
  for (index_t const N : {1, 2, 3, 4}) {
    rotation_shape const s{N, 8, 4};
    std::vector<float> const r(s.size(), 1.0F);
    auto const dense = dense_rotation(factors_view(r.data(), s));
    std::size_t reached = 0;
    for (double const e : dense) reached += e != 0 ? 1 : 0;
    CHECK(reached == static_cast<std::size_t>(32 * 4 * (index_t{1} << (N - 1))));
  }
}

TEST_CASE("rotate_blocks: rows do not know each other, factors may be split, scratch is what was announced",
          "[kernels][rotate_blocks]") {
  for (rotation_shape const& s : {rotation_shape{3, 8, 4}, {2, 4, 32}, {2, 2, 6}}) {
    index_t const n = s.n(), T = 7;
    std::vector<float> const r = random_numbers<float>(static_cast<index_t>(s.size()), 3),
                             x = random_numbers<float>(T * n, 1);
    auto const rotation = factors_view(r.data(), s);
    for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name);
      std::vector<float> together(x.size()), alone(x.size()), split(x.size());
      rotate_blocks(ex, view(x, T, n), rotation, view(together, T, n));
      for (index_t t = 0; t < T; ++t)
        rotate_blocks(ex, view(x.data() + t * n, 1, n), rotation, view(alone.data() + t * n, 1, n));
      CHECK(alone == together);
      index_t const last = s.N - 1;
      rotate_blocks(ex, view(x, T, n), factors_view(r.data() + last * s.D * s.b * s.b, {1, s.D, s.b}),
                    view(split, T, n), last);
      rotate_blocks(ex, view(split, T, n), factors_view(r.data(), {last, s.D, s.b}), view(split, T, n));
      CHECK(split == together);
    });
    for (int const threads : {1, 3}) {
      watched_resource watched;
      graft::openmp const ex{threads, &watched};
      std::vector<bfloat16> y(x.size());
      rotate_blocks(ex, view(x, T, n), rotation, view(y, T, n));
      CHECK(watched.allocations == 1);
      CHECK(watched.bytes == rotate_blocks.scratch_bytes(ex, view(x, T, n), rotation, view(y, T, n)));
      CHECK_FALSE(watched.overrun);
    }
  }
}

TEST_CASE("rotate_blocks_gradient sums inputs times gradients, also of shared blocks, on every executor",
          "[kernels][rotate_blocks]") {
  rotation_shape const s{3, 8, 4};
  index_t const n = s.n(), T = 600, b = s.b;
  std::vector<float> const x = random_numbers<float>(T * n, 1), g = random_numbers<float>(T * n, 2);
  for (index_t const f : {0, 1, 2}) {
    std::vector<float> const start = random_numbers<float>(s.D * b * b, 4);
    std::vector<float> first;
    for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name << ", factor " << f);
      std::vector<float> d = start, shared(start.begin(), start.begin() + b * b);
      graft::kernels::rotate_blocks_gradient(ex, view(x, T, n), view(g, T, n), f, blocks_view(d.data(), s.D, b));
      graft::kernels::rotate_blocks_gradient(ex, view(x, T, n), view(g, T, n), f, blocks_view(shared.data(), 1, b));
      if (first.empty()) {
        first = d;
        for (index_t i = 0; i < b; ++i)
          for (index_t j = 0; j < b; ++j) {
            double all = static_cast<double>(start[static_cast<std::size_t>(i * b + j)]), size_of_all = std::abs(all);
            for (index_t k = 0; k < s.D; ++k) {
              auto const at = static_cast<std::size_t>((k * b + i) * b + j);
              double sum = static_cast<double>(start[at]), size = std::abs(sum);
              for (index_t t = 0; t < T; ++t) {
                double const term =
                    static_cast<double>(x[static_cast<std::size_t>(t * n + block_feature(f, b, k, i))]) *
                    static_cast<double>(g[static_cast<std::size_t>(t * n + block_feature(f, b, k, j))]);
                sum += term;
                size += std::abs(term);
                all += term;
                size_of_all += std::abs(term);
              }
              CHECK(std::abs(static_cast<double>(d[at]) - sum) <= short_axis_bound<float>(T, size));
            }
            CHECK(std::abs(static_cast<double>(shared[static_cast<std::size_t>(i * b + j)]) - all) <=
                  static_cast<double>(s.D) * short_axis_bound<float>(T, size_of_all));
          }
      }
      CHECK(d == first);
    });
  }
}

TEST_CASE("cayley, checked by hand: two features turn by twice the arc tangent", "[kernels][cayley]") {
  // (I - Q)(I + Q)^-1 with Q = [[0, 1/2], [-1/2, 0]]: [[3, -4], [4, 3]] / 5.
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<double> const v{0.5}, A{7, 2, 1, 9};  // (A - A^T) / 2 = Q
    std::vector<double> r(4), again(4), series(4);
    graft::kernels::cayley(ex, view(v, 1, 1), blocks_view(r.data(), 1, 2));
    CHECK(std::abs(r[0] - 0.6) < 0x1p-50);
    CHECK(std::abs(r[1] + 0.8) < 0x1p-50);
    CHECK(std::abs(r[2] - 0.8) < 0x1p-50);
    CHECK(std::abs(r[3] - 0.6) < 0x1p-50);
    graft::kernels::cayley(ex, blocks_view(A.data(), 1, 2), blocks_view(again.data(), 1, 2));
    CHECK(again == r);
    // Q^2 = -1/4 I: I; I + 2 Q; I + 2 Q + 2 Q^2 + Q^3 twice; I + 2 Q + 2 Q^2 + 2 Q^3 + Q^4. Exact in double.
    std::vector<std::vector<double>> const expected{{1, 0, 0, 1},
                                                    {1, 1, -1, 1},
                                                    {0.5, 0.875, -0.875, 0.5},
                                                    {0.5, 0.875, -0.875, 0.5},
                                                    {0.5625, 0.75, -0.75, 0.5625}};
    for (int terms = 1; terms <= 5; ++terms) {
      graft::kernels::cayley_neumann(ex, view(v, 1, 1), terms, blocks_view(series.data(), 1, 2));
      CHECK(series == expected[static_cast<std::size_t>(terms - 1)]);
    }
  });
}

TEST_CASE("cayley: orthogonal within its bound, determinant 1, the series goes to the transpose", "[kernels][cayley]") {
  for (index_t const b : {1, 2, 3, 8, 32, 33})
    for (float const size : {0.01F, 1.0F, 30.0F}) {
      index_t const D = 5, p = b * (b - 1) / 2;
      std::vector<float> v = random_numbers<float>(D * p, static_cast<std::uint64_t>(b));
      for (float& e : v) e *= size / std::sqrt(static_cast<float>(b));
      std::vector<float> const r = rotations_of(v, D, b);
      for (index_t k = 0; k < D; ++k) {
        double square = 0;
        for (index_t i = 0; i < p; ++i)
          square += 2 * std::pow(static_cast<double>(v[static_cast<std::size_t>(k * p + i)]), 2);
        double const norm = 1 + std::sqrt(square);
        double const bound = 8 * static_cast<double>(b) * 0x1p-24 * norm * norm;
        std::vector<double> m(static_cast<std::size_t>(b * b));
        for (std::size_t i = 0; i < m.size(); ++i)
          m[i] = static_cast<double>(r[static_cast<std::size_t>(k * b * b) + i]);
        for (index_t i = 0; i < b; ++i)
          for (index_t j = 0; j < b; ++j) {
            double sum = i == j ? -1 : 0;
            for (index_t l = 0; l < b; ++l)
              sum += m[static_cast<std::size_t>(l * b + i)] * m[static_cast<std::size_t>(l * b + j)];
            CHECK(std::abs(sum) <= bound);
          }
        double determinant = 1;
        for (index_t i = 0; i < b; ++i) {  // elimination with pivots
          index_t best = i;
          for (index_t l = i; l < b; ++l)
            if (std::abs(m[static_cast<std::size_t>(l * b + i)]) > std::abs(m[static_cast<std::size_t>(best * b + i)]))
              best = l;
          if (best != i) determinant = -determinant;
          for (index_t j = 0; j < b; ++j)
            std::swap(m[static_cast<std::size_t>(i * b + j)], m[static_cast<std::size_t>(best * b + j)]);
          determinant *= m[static_cast<std::size_t>(i * b + i)];
          for (index_t l = i + 1; l < b; ++l) {
            double const factor = m[static_cast<std::size_t>(l * b + i)] / m[static_cast<std::size_t>(i * b + i)];
            for (index_t j = i; j < b; ++j)
              m[static_cast<std::size_t>(l * b + j)] -= factor * m[static_cast<std::size_t>(i * b + j)];
          }
        }
        CHECK(std::abs(determinant - 1) <= static_cast<double>(b) * bound);
      }
      if (size > 0.1F) continue;
      std::vector<float> series(r.size());
      graft::kernels::cayley_neumann(graft::serial{}, view(v, D, p), 12, blocks_view(series.data(), D, b));
      for (index_t k = 0; k < D; ++k)
        for (index_t i = 0; i < b; ++i)
          for (index_t j = 0; j < b; ++j)
            CHECK(std::abs(series[static_cast<std::size_t>((k * b + i) * b + j)] -
                           r[static_cast<std::size_t>((k * b + j) * b + i)]) <= 32 * static_cast<float>(b) * 0x1p-24F);
    }
}

TEST_CASE("cayley, its series and their gradients: every executor has the bits of reference; gradients are differences",
          "[kernels][cayley]") {
  for (index_t const b : {1, 2, 5, 17}) {
    index_t const D = 3, p = b * (b - 1) / 2;
    std::vector<double> packed = random_numbers<double>(D * p, 1), square = random_numbers<double>(D * b * b, 2);
    for (double& e : packed) e *= 0.2;
    for (double& e : square) e *= 0.2;
    std::vector<double> const g = random_numbers<double>(D * b * b, 3);
    auto const gradient = blocks_view(g.data(), D, b);
    auto const loss = [&](auto const& parameters, int terms) {
      std::vector<double> r(g.size());
      if (terms == 0) graft::kernels::cayley(graft::reference{}, parameters, blocks_view(r.data(), D, b));
      else graft::kernels::cayley_neumann(graft::reference{}, parameters, terms, blocks_view(r.data(), D, b));
      double sum = 0;
      for (std::size_t i = 0; i < g.size(); ++i) sum += g[i] * r[i];
      return sum;
    };
    for (int const terms : {0, 1, 2, 3, 5, 9}) {
      auto const check = [&](std::vector<double>& values, auto const& as_view) {
        std::vector<double> first;
        for_each_executor([&](std::string const& name, auto const& ex) {
          INFO(name << ", b = " << b << ", terms = " << terms);
          std::vector<double> d(values.size()), r(g.size());
          if (terms == 0) {
            graft::kernels::cayley(ex, as_view(values.data()), blocks_view(r.data(), D, b));
            graft::kernels::cayley_backward(ex, graft::as_const(blocks_view(r.data(), D, b)), gradient,
                                            as_view(d.data()));
          } else
            graft::kernels::cayley_neumann_backward(ex, as_view(values.data()), terms, gradient, as_view(d.data()));
          if (first.empty()) first = d;
          CHECK(d == first);
        });
        // The step is 2^-17; third derivatives of order 1 leave its square.
        for (std::size_t i = 0; i < values.size(); i += values.size() > 200 ? 7 : 1) {
          double const before = values[i];
          values[i] = before + 0x1p-17;
          double const up = loss(as_view(values.data()), terms);
          values[i] = before - 0x1p-17;
          double const down = loss(as_view(values.data()), terms);
          values[i] = before;
          double const size = static_cast<double>(b) * static_cast<double>(b);
          CHECK(std::abs((up - down) * 0x1p16 - first[i]) <= 64 * size * (0x1p-34 + 0x1p-53 * 0x1p17));
        }
      };
      check(packed, [&](double* data) { return view(data, D, p); });
      check(square, [&](double* data) { return blocks_view(data, D, b); });
    }
  }
}

TEST_CASE("cayley and its series: every executor, instruction set and scalar has the bits of reference",
          "[kernels][cayley][parity]") {
  auto const compare = []<class P, class R>(P, R) {
    for (index_t const b : {0, 1, 2, 3, 8, 17, 32})
      for (index_t const D : {0, 1, 5, 16, 33}) {
        index_t const p = b * (b - 1) / 2;
        std::vector<P> const packed = random_numbers<P>(2 * D * p, 1), square = random_numbers<P>(D * b * b, 2);
        for (int const terms : {0, 1, 2, 5}) {
          // Packed numbers apart, blocks of R transposed in memory.
          auto const strided = view(packed.data(), graft::dynamic_extents<2>(D, p), {2 * p, 2});
          std::vector<R> expected(static_cast<std::size_t>(2 * D * b * b)), got(expected.size());
          auto const run = [&](auto const& ex, std::vector<R>& out, auto const& call) {
            auto const first = view(out.data(), graft::dynamic_extents<3>(D, b, b), {b * b, 1, b});
            auto const second = view(out.data() + D * b * b, graft::dynamic_extents<3>(D, b, b), {b * b, b, 1});
            call(ex, strided, first);
            call(ex, blocks_view(square.data(), D, b), second);
          };
          run(graft::reference{}, expected, [&](auto const& ex, auto const& v, auto const& r) {
            if (terms == 0) graft::kernels::cayley.generic(ex, v, r);
            else graft::kernels::cayley_neumann.generic(ex, v, terms, r);
          });
          auto const call = [&](auto const& ex, auto const& v, auto const& r) {
            if (terms == 0) graft::kernels::cayley(ex, v, r);
            else graft::kernels::cayley_neumann(ex, v, terms, r);
          };
          auto const same = [&] {
            for (std::size_t i = 0; i < got.size(); ++i)
              if (std::memcmp(&got[i], &expected[i], sizeof(R)) != 0) return false;
            return true;
          };
          for_each_executor([&](std::string const& name, auto const& ex) {
            INFO(name << ", b = " << b << ", D = " << D << ", terms = " << terms);
            run(ex, got, call);
            CHECK(same());
          });
          for_each_isa([&](std::string const& level) {
            INFO(level << ", b = " << b << ", D = " << D << ", terms = " << terms);
            run(graft::serial{}, got, call);
            CHECK(same());
          });
        }
      }
  };
  compare(float{}, float{});
  compare(bfloat16{}, float16{});
}

TEST_CASE("invert_blocks gives inverses, with pivots where they are needed", "[kernels][invert_blocks]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> const r{0, 2, 4, 0, 1, 2, 3, 4};
    std::vector<float> m(8);
    graft::kernels::invert_blocks(ex, blocks_view(r.data(), 2, 2), blocks_view(m.data(), 2, 2));
    CHECK(m == std::vector<float>{0, 0.25F, 0.5F, 0, -2, 1, 1.5F, -0.5F});
  });
  index_t const b = 24;
  std::vector<double> const r = random_numbers<double>(2 * b * b, 1);
  std::vector<double> m(r.size());
  graft::kernels::invert_blocks(graft::serial{}, blocks_view(r.data(), 2, b), blocks_view(m.data(), 2, b));
  for (index_t k = 0; k < 2; ++k)
    for (index_t i = 0; i < b; ++i)
      for (index_t j = 0; j < b; ++j) {
        double sum = i == j ? -1 : 0, size = 1;
        for (index_t l = 0; l < b; ++l) {
          double const term =
              r[static_cast<std::size_t>((k * b + i) * b + l)] * m[static_cast<std::size_t>((k * b + l) * b + j)];
          sum += term;
          size += std::abs(term);
        }
        CHECK(std::abs(sum) <= 8 * static_cast<double>(b * b) * 0x1p-53 * size);
      }
}

TEST_CASE("rotations: what does not fit is refused before anything is written", "[kernels][rotate_blocks][cayley]") {
  std::vector<float> x(24, 1.0F), y(24, 2.0F), r(200, 3.0F);
  graft::serial const ex;
  auto const refused = [&](auto const& call, std::string const& sentence) {
    CHECK_THROWS_MATCHES(call(), graft::error, Catch::Matchers::Message(sentence));
    CHECK(y == std::vector<float>(24, 2.0F));
    CHECK(r == std::vector<float>(200, 3.0F));
  };
  refused([&] { rotate_blocks(ex, view(x, 2, 12), factors_view(r.data(), {1, 4, 4}), view(y, 2, 12)); },
          "graft::kernels::rotate_blocks: the 4 blocks of R[1, 4, 4, 4] do not cover the 12 features of x[2, 12]");
  refused([&] { rotate_blocks(ex, view(x, 2, 12), factors_view(r.data(), {2, 3, 4}), view(y, 2, 12)); },
          "graft::kernels::rotate_blocks: 2 factors of R[2, 3, 4, 4] need blocks of even size, and a number of blocks "
          "that is a "
          "multiple of 2");
  refused([&] { rotate_blocks(ex, view(x, 2, 12), factors_view(r.data(), {2, 4, 3}), view(y, 2, 12)); },
          "graft::kernels::rotate_blocks: 2 factors of R[2, 4, 3, 3] need blocks of even size, and a number of blocks "
          "that is a "
          "multiple of 2");
  refused([&] { rotate_blocks(ex, view(x, 2, 12), factors_view(r.data(), {0, 3, 4}), view(y, 2, 12)); },
          "graft::kernels::rotate_blocks: R[0, 3, 4, 4] has 0 factors from 0 on; there are 1 to 48");
  refused([&] { rotate_blocks(ex, view(x, 2, 12), factors_view(r.data(), {1, 3, 4}), view(y, 3, 8)); },
          "graft::kernels::rotate_blocks: extent 0 of y[3, 8] is 3 but extent 0 of x[2, 12] is 2; they must be equal");
  refused(
      [&] { rotate_blocks(ex, view(y.data() + 1, 1, 12), factors_view(r.data(), {1, 3, 4}), view(y.data(), 1, 12)); },
      "graft::kernels::rotate_blocks: y[1, 12] is written but shares memory with x[1, 12]");
  refused([&] { rotate_blocks_back_add(ex, view(y, 2, 12), factors_view(r.data(), {1, 3, 4}), view(y, 2, 12)); },
          "graft::kernels::rotate_blocks_back_add: y[2, 12] is written but shares memory with x[2, 12]");
  refused([&] { graft::kernels::cayley(ex, view(x, 3, 8), blocks_view(r.data(), 3, 4)); },
          "graft::kernels::cayley: parameters[3, 8] has 8 numbers a block but R[3, 4, 4] has blocks of 4 x 4, which "
          "take 6");
  refused([&] { graft::kernels::cayley_neumann(ex, view(x, 4, 6), 0, blocks_view(r.data(), 4, 4)); },
          "graft::kernels::cayley_neumann: the number of terms is 0 but must be 1 to 64");
  refused(
      [&] {
        graft::kernels::rotate_blocks_gradient(ex, view(x, 2, 12), view(x, 2, 12), 1, blocks_view(r.data(), 3, 4));
      },
      "graft::kernels::rotate_blocks_gradient: the blocks of dR[3, 4, 4] do not cover the 12 features of x[2, 12] in "
      "factor 1");
}
