#include <graft/kernels/rotate_blocks.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
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
std::vector<rotation_shape> const shapes{{1, 1, 1},
                                         {1, 7, 1},
                                         {1, 3, 2},
                                         {4, 8, 2},
                                         {3, 4, 4},
                                         {1, 4, 4},
                                         {5, 16, 4},
                                         {2, 6, 4},
                                         {2, 2, 8},
                                         {3, 12, 8},
                                         {1, 3, 8},
                                         {2, 2, 16},
                                         {3, 4, 16},
                                         {1, 1, 16},
                                         {1, 2, 32},
                                         {2, 4, 32},
                                         {1, 1, 48},
                                         {2, 2, 48},
                                         {1, 5, 3},
                                         {1, 3, 25},
                                         {2, 2, 6},
                                         {1, 2, 64},
                                         {1, 1, 80},
                                         // More features than a team takes, and groups that are larger than that.
                                         {1, 86, 6},
                                         {2, 12, 32},
                                         {4, 64, 8},
                                         {2, 4, 128},
                                         {3, 4, 96}};

/// y = x R and back, in every layout of x and y: empty, or what differs from reference.
template <class X, class R, class Y>
void compare(tally& t) {
  for (rotation_shape const& s : shapes) {
    std::vector<R> const r = random_numbers<R>(static_cast<index_t>(s.size()), 3);
    auto const rotation = factors_view(r.data(), s);
    for (index_t const T : {0, 1, 3, 9, 33}) {  // 33: blocks are packed
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

}  // namespace

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
  CHECK(t.count() == 3 * 3 * 5 * static_cast<int>(shapes.size()) * executor_count);
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

TEST_CASE("rotate_blocks: rows do not know each other, factors may be split, scratch is what was announced",
          "[kernels][rotate_blocks]") {
  for (rotation_shape const& s : {rotation_shape{3, 8, 4}, {2, 4, 32}, {2, 2, 6}, {3, 100, 4}}) {
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

TEST_CASE("rotate_blocks: what does not fit is refused before anything is written", "[kernels][rotate_blocks]") {
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
  refused(
      [&] {
        graft::kernels::rotate_blocks_gradient(ex, view(x, 2, 12), view(x, 2, 12), 1, blocks_view(r.data(), 3, 4));
      },
      "graft::kernels::rotate_blocks_gradient: the blocks of dR[3, 4, 4] do not cover the 12 features of x[2, 12] in "
      "factor 1");
}
