#include <graft/adapters/initialize.hpp>

#include <cmath>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "adapters/problem.hpp"

using graft::argument_error;
using graft::bfloat16;
using graft::float16;
using graft::gaussian;
using graft::index_t;
using graft::initialize;
using graft::kaiming_uniform;
using graft::lora;
using graft::lora_fa;
using graft::none;
using graft::orthogonal;
using graft::view;
using namespace tests;

namespace {

/// A, B and bias, of which nothing is left as it was.
template <class T>
struct fresh {
  matrix<T> a, b, bias;
  fresh(index_t r, index_t n, index_t m, layout how = layout::contiguous)
      : a(r, n, how, 1), b(m, r, how, 2), bias(1, m, how, 3) {}
  template <class E, class How>
  fresh(E const& ex, How const& how, index_t r, index_t n, index_t m, layout of = layout::contiguous)
      : fresh(r, n, m, of) {
    initialize(ex, adapter(), how);
  }
  [[nodiscard]] any_biased_lora<T> adapter() { return {a.view(), b.view(), 2.0, as_vector(bias.view())}; }
  [[nodiscard]] std::string differences_from(fresh& other) {
    std::string text = differences(a.view(), other.a.view());
    if (text.empty()) text = differences(b.view(), other.b.view());
    if (text.empty()) text = differences(bias.view(), other.bias.view());
    if (text.empty()) text = a.outside() + b.outside() + bias.outside();
    return text;
  }
};

bool all_plus_zero(auto const& v) {
  for (index_t i = 0; i < v.extent(0); ++i)
    for (index_t j = 0; j < v.extent(1); ++j)
      if (bits_of(v(i, j)) != 0) return false;
  return true;
}

grid squared(grid a) {
  for (index_t i = 0; i < a.rows(); ++i)
    for (index_t j = 0; j < a.columns(); ++j) a(i, j) *= a(i, j);
  return a;
}

struct moments {
  double count = 0.0, mean = 0.0, variance = 0.0, fourth = 0.0, largest = 0.0;
};
template <class V>
moments moments_of(V const& v) {
  moments m;
  m.count = static_cast<double>(v.size());
  for (index_t i = 0; i < v.extent(0); ++i)
    for (index_t j = 0; j < v.extent(1); ++j) {
      auto const e = graft::load_as<double>(v(i, j));
      m.mean += e / m.count;
      m.variance += e * e / m.count;  // about 0
      m.fourth += e * e * e * e / m.count;
      m.largest = std::max(m.largest, std::abs(e));
    }
  return m;
}

}  // namespace

TEST_CASE("kaiming_uniform: A uniform in +-1 / sqrt(n), B and bias +0", "[adapters][initialize]") {
  for (index_t const n : {64, 100, 1000}) {
    index_t const r = 40000 / n;
    fresh<float> f(graft::serial{}, kaiming_uniform{.seed = 3, .stream = 4}, r, n, 5);
    moments const m = moments_of(f.a.view());
    double const bound = 1.0 / std::sqrt(static_cast<double>(n));
    INFO("n = " << n << ": mean " << m.mean << ", variance " << m.variance << ", largest " << m.largest);
    CHECK(m.largest <= bound * (1.0 + unit_roundoff<float>()));
    CHECK(m.largest > bound * (1.0 - 20.0 / m.count));  // all are smaller with probability exp(-20)
    // Six standard deviations; of u^2 with u uniform in +-1 it is sqrt(1 / 5 - 1 / 9).
    CHECK(std::abs(m.mean) < 6.0 * bound * std::sqrt(1.0 / 3.0 / m.count));
    CHECK(std::abs(m.variance / (bound * bound) - 1.0 / 3.0) < 6.0 * std::sqrt((1.0 / 5.0 - 1.0 / 9.0) / m.count));
    CHECK(all_plus_zero(f.b.view()));
    CHECK(all_plus_zero(f.bias.view()));
  }
}

TEST_CASE("gaussian: A normal with standard deviation 1 / r, B and bias +0", "[adapters][initialize]") {
  for (index_t const r : {1, 4, 16, 64}) {
    fresh<float> f(graft::serial{}, gaussian{.seed = 3, .stream = 4}, r, 40000 / r, 5);
    moments const m = moments_of(f.a.view());
    auto const rank = static_cast<double>(r);
    INFO("r = " << r << ": mean " << m.mean << ", variance " << m.variance);
    // Six standard deviations: of z^2 sqrt(2), of z^4 sqrt(96).
    CHECK(std::abs(m.mean * rank) < 6.0 / std::sqrt(m.count));
    CHECK(std::abs(m.variance * rank * rank - 1.0) < 6.0 * std::sqrt(2.0 / m.count));
    CHECK(std::abs(m.fourth * rank * rank * rank * rank - 3.0) < 6.0 * std::sqrt(96.0 / m.count));
    CHECK(all_plus_zero(f.b.view()));
    CHECK(all_plus_zero(f.bias.view()));
  }
}

TEST_CASE("orthogonal: both factors at work, and B A is 0 up to rounding", "[adapters][initialize]") {
  auto const check = [&]<class T>(std::type_identity<T>) {
    for (index_t const r : {2, 4, 8, 30, 64}) {
      index_t const n = 130;
      index_t const m = 70;
      fresh<T> f(graft::serial{}, orthogonal{.seed = 3, .stream = 4}, r, n, m);
      INFO(type_name<T>() << ", r = " << r);
      grid const a(f.a.view()), b(f.b.view());
      grid const all = magnitude(b) * magnitude(a);
      grid const product = b * a;
      auto const rank = static_cast<double>(r);
      grid const squares_a = row_sums(squared(a));
      grid const squares_b = row_sums(squared(flipped(b)));
      double worst = 0.0;  // of its bound
      for (index_t i = 0; i < m; ++i)
        for (index_t j = 0; j < n; ++j) {
          double const bound = std::is_same_v<T, double>
                                   ? (rank + 4.0) * (rank + 4.0) * std::sqrt(squares_b(0, i) * squares_a(0, j))
                                   : 2.0 * (rank + 2.0) * all(i, j);
          worst = std::max(worst, std::abs(product(i, j)) / (bound * unit_roundoff<T>()));
        }
      CHECK(worst <= 1.0);
      CHECK(worst > 0.0);  // one rounding at least
      CHECK(all_plus_zero(f.bias.view()));
      // 100 |A|^2 is chi-squared with n r / 2 degrees of freedom, since Q's rows are orthonormal; likewise B.
      auto const degrees_a = static_cast<double>(n * r / 2);
      auto const degrees_b = static_cast<double>(m * r / 2);
      CHECK(std::abs(100.0 * a.sum_of_squares() - degrees_a) <
            6.0 * std::sqrt(2.0 * degrees_a) + 4.0 * unit_roundoff<T>() * degrees_a);
      CHECK(std::abs(100.0 * b.sum_of_squares() - degrees_b) <
            6.0 * std::sqrt(2.0 * degrees_b) + 4.0 * unit_roundoff<T>() * degrees_b);
    }
  };
  check(std::type_identity<float>{});
  check(std::type_identity<double>{});
  check(std::type_identity<bfloat16>{});
}

TEST_CASE("orthogonal refuses an odd rank", "[adapters][initialize][contracts]") {
  refuses<argument_error>("graft::initialize: the rank is 1 but the orthogonal initialisation needs an even one",
                          [](arguments& q, graft::serial const& ex) {
                            initialize(ex, lora{view(q.a.data(), 1, 6), view(q.b.data(), 4, 1), 1.0, view(q.bias)},
                                       orthogonal{});
                          });
}

TEST_CASE("initial numbers are the same on every executor, in every layout and number of threads",
          "[adapters][initialize][parity]") {
  tally t;
  auto const check = [&]<class T>(std::type_identity<T>, auto const& how, char const* what) {
    for (auto const& [r, n, m] : {std::array<index_t, 3>{2, 5, 3}, {6, 70, 65}, {8, 0, 3}, {4, 3, 0}, {18, 130, 17}}) {
      fresh<T> expected(graft::reference{}, how, r, n, m);
      int turn = 0;
      for_each_executor([&](std::string const& name, auto const& ex) {
        layout const of = all_layouts[static_cast<std::size_t>(turn++) % 8];
        fresh<T> f(ex, how, r, n, m, of);
        t.add(f.differences_from(expected),
              [&] { return std::string(what) + ", " + type_name<T>() + ", " + name + ", " + tests::name(of); });
      });
    }
  };
  check(std::type_identity<float>{}, kaiming_uniform{.seed = 7, .stream = 1}, "kaiming_uniform");
  check(std::type_identity<bfloat16>{}, gaussian{.seed = 7, .stream = 1}, "gaussian");
  check(std::type_identity<float>{}, orthogonal{.seed = 7, .stream = 1}, "orthogonal");
  check(std::type_identity<bfloat16>{}, orthogonal{.seed = 7, .stream = 1}, "orthogonal");
  CHECK(t.text() == "");
}

TEST_CASE("each element is a number of fp64 rounded once", "[adapters][initialize]") {
  auto const check = [](auto const& how) {
    fresh<double> exact(graft::serial{}, how, 6, 50, 4);
    fresh<float> f(graft::serial{}, how, 6, 50, 4);
    fresh<float16> h(graft::serial{}, how, 6, 50, 4);
    CHECK(differences(f.a.view(), copy_of<float>(exact.a.view()).view()) == "");
    CHECK(differences(h.a.view(), copy_of<float16>(exact.a.view()).view()) == "");
  };
  check(kaiming_uniform{.seed = 2});
  check(gaussian{.seed = 2});
}

TEST_CASE("seed and stream matter, and nothing else does", "[adapters][initialize]") {
  auto const check = [](auto how) {
    auto const numbers = [&] { return fresh<float>(graft::serial{}, how, 4, 20, 10); };
    auto first = numbers();
    auto again = numbers();
    CHECK(first.differences_from(again) == "");
    how.seed = 1;
    auto seeded = numbers();
    how.seed = 0;
    how.stream = 1;
    auto streamed = numbers();
    CHECK(first.differences_from(seeded) != "");
    CHECK(first.differences_from(streamed) != "");
    CHECK(seeded.differences_from(streamed) != "");
  };
  check(kaiming_uniform{});
  check(gaussian{});
  check(orthogonal{});
}

TEST_CASE("lora_fa is initialised as lora: A too, though it is not trained afterwards", "[adapters][initialize]") {
  fresh<float> f(4, 9, 5);
  fresh<float> expected(graft::serial{}, kaiming_uniform{.seed = 5}, 4, 9, 5);
  initialize(graft::serial{}, lora_fa{f.a.view(), f.b.view(), 1.0}, kaiming_uniform{.seed = 5});
  CHECK(differences(f.a.view(), expected.a.view()) == "");
  CHECK(differences(f.b.view(), expected.b.view()) == "");
}

TEST_CASE("orthogonal takes the scratch that it says", "[adapters][initialize][scratch]") {
  watched_resource watched;
  for (auto const& [r, n, m] : {std::array<index_t, 3>{2, 5, 3}, {6, 70, 65}, {64, 130, 300}, {8, 0, 0}})
    for_each_executor(
        [&](std::string const& name, auto const& ex) {
          fresh<float> f(r, n, m);
          INFO(name << ", r = " << r << ", n = " << n << ", m = " << m);
          std::size_t const asked = initialize_scratch_bytes(f.adapter(), orthogonal{});
          auto const part = [](index_t count, std::size_t width) {
            return graft::detail::scratch_block::rounded(static_cast<std::size_t>(count) * width);
          };
          CHECK(asked == part(r * r, sizeof(double)) + part(std::max(n, m) * (r / 2), sizeof(float)));
          int const before = watched.allocations;
          std::size_t const bytes = watched.bytes;
          initialize(ex, f.adapter(), orthogonal{});
          CHECK(watched.allocations == before + 1);  // with Q of double, expand_add takes its generic body: no scratch
          CHECK(watched.bytes - bytes == asked);
          CHECK_FALSE(watched.overrun);
          initialize(ex, f.adapter(), kaiming_uniform{});
          initialize(ex, f.adapter(), gaussian{});
          CHECK(watched.allocations == before + 1);
          CHECK(watched.deallocations == watched.allocations);
        },
        &watched);
}

TEST_CASE("initialize refuses what does not fit", "[adapters][initialize][contracts]") {
  using q_t = arguments;
  using ex_t = graft::serial;
  refuses<argument_error>("graft::initialize: A[0, 6] has rank 0; the rank must be positive",
                          [](q_t& q, ex_t const& ex) {
                            initialize(ex, lora{view(q.a.data(), 0, 6), q.B(), 1.0, none}, kaiming_uniform{});
                          });
  refuses<graft::shape_error>(
      "graft::initialize: extent 0 of A[2, 6] is 2 but extent 1 of B[2, 3] is 3; they must be equal",
      [](q_t& q, ex_t const& ex) { initialize(ex, lora{q.A(), view(q.b.data(), 2, 3), 1.0, none}, gaussian{}); });
  refuses<graft::shape_error>(
      "graft::initialize: extent 0 of bias[3] is 3 but extent 0 of B[4, 2] is 4; they must be equal",
      [](q_t& q, ex_t const& ex) { initialize(ex, lora{q.A(), q.B(), 1.0, view(q.bias.data(), 3)}, orthogonal{}); });
  refuses<argument_error>(
      "graft::initialize: B[4, 2] has elements but its pointer is null", [](q_t& q, ex_t const& ex) {
        initialize(ex, lora{q.A(), view(static_cast<float*>(nullptr), 4, 2), 1.0, none}, kaiming_uniform{});
      });
  refuses<argument_error>(
      "graft::initialize: B[4, 2] is written but shares memory with A[2, 6]",
      [](q_t& q, ex_t const& ex) { initialize(ex, lora{q.A(), view(q.a.data() + 4, 4, 2), 1.0, none}, orthogonal{}); });
  refuses<argument_error>(
      "graft::initialize: bias[4] is written but shares memory with A[2, 6]",
      [](q_t& q, ex_t const& ex) { initialize(ex, lora{q.A(), q.B(), 1.0, view(q.a.data(), 4)}, gaussian{}); });
  refuses<argument_error>(
      "graft::initialize: bias[4] is written but shares memory with B[4, 2]",
      [](q_t& q, ex_t const& ex) { initialize(ex, lora{q.A(), q.B(), 1.0, view(q.b.data(), 4)}, gaussian{}); });
  refuses<argument_error>("graft::initialize: A[2, 6] is written but stride 0 of extent 0 makes elements share memory",
                          [](q_t& q, ex_t const& ex) {
                            initialize(
                                ex, lora{view(q.a.data(), graft::dynamic_extents<2>{2, 6}, {0, 1}), q.B(), 1.0, none},
                                kaiming_uniform{});
                          });
}
