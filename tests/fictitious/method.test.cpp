// A new method is one new header: everything that takes adapters takes it, on every executor.
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/graft.hpp>

#include "fictitious/spotlight.hpp"
#include "support/bits.hpp"
#include "support/executors.hpp"
#include "support/layouts.hpp"
#include "support/random.hpp"

using graft::as_const;
using graft::index_t;
using tests::layout;
using tests::matrix;

namespace {

constexpr index_t T = 5, n = 37, r = 3, m = 66;
constexpr double strength = 0.75;

/// Inputs of one case, and what the formula gives for them in double.
struct problem {
  matrix<float> x{T, n, layout::padded, 1};
  matrix<float> dy{T, m, layout::contiguous, 2};
  matrix<float> down{r, n, layout::contiguous, 3};
  matrix<float> up{m, r, layout::strided, 4};
  matrix<float> y{T, m, layout::contiguous, 5};
  matrix<float> w{m, n, layout::transposed, 6};
  std::vector<float> light = tests::random_numbers<float>(r, 7);

  [[nodiscard]] auto adapter() {
    return fictitious::spotlight{down.view(), up.view(), graft::view(std::as_const(light)), strength};
  }
  [[nodiscard]] double delta(index_t o, index_t k) {
    double sum = 0;
    for (index_t j = 0; j < r; ++j)
      sum += static_cast<double>(up.view()(o, j)) * static_cast<double>(light[static_cast<std::size_t>(j)]) *
             static_cast<double>(down.view()(j, k));
    return strength * sum;
  }
};

template <class V, class F>
[[nodiscard]] double largest_error(V const& got, F const& want) {
  double worst = 0;
  for (index_t i = 0; i < got.extent(0); ++i)
    for (index_t j = 0; j < got.extent(1); ++j)
      worst = std::fmax(worst, std::fabs(graft::load_as<double>(got(i, j)) - want(i, j)));
  return worst;
}

/// All outputs of all verbs.
struct outputs {
  matrix<float> y{T, m};
  matrix<float> merged{m, n};
  matrix<float> unmerged{m, n};
  matrix<float> delta{m, n};
  matrix<float> ddown{r, n, layout::contiguous, 11};
  matrix<float> dup{m, r, layout::contiguous, 12};
  matrix<float> dx{T, n, layout::contiguous, 13};
  matrix<float> all{m, n};
  matrix<graft::bfloat16> all_narrow{m, n};
  matrix<float> switched{m, n};
};
template <class E>
outputs run(E const& ex, problem& p) {
  outputs o;
  auto const a = p.adapter();
  graft::lora const l{p.down.view(), p.up.view(), 0.5};
  o.y.assign(p.y.view());
  add_delta(ex, a, p.x.view(), o.y.view());
  o.merged.assign(p.w.view());
  merge(ex, a, o.merged.view());
  o.unmerged.assign(o.merged.view());
  unmerge(ex, a, o.unmerged.view());
  delta_weight(ex, a, o.delta.view());
  fictitious::spotlight_gradients const gradients{o.ddown.view(), o.dup.view()};
  backward(ex, a, p.x.view(), p.dy.view(), gradients, o.dx.view());
  o.all.assign(p.w.view());
  graft::merge_all(ex, o.all.view(), a, l, a);
  o.all_narrow.assign(p.w.view());
  graft::merge_all(ex, o.all_narrow.view(), a, l);
  o.switched.assign(p.w.view());
  graft::merge(ex, l, o.switched.view());
  graft::switch_adapter(ex, l, a, o.switched.view());
  return o;
}

}  // namespace

TEST_CASE("a made-up method computes its formula", "[fictitious]") {
  problem p;
  outputs o = run(graft::serial{}, p);
  double const close = 3e-5;  // of numbers below 40: what matters is that nothing is forgotten
  CHECK(largest_error(o.y.view(), [&](index_t t, index_t i) {
          double sum = static_cast<double>(p.y.view()(t, i));
          for (index_t k = 0; k < n; ++k) sum += static_cast<double>(p.x.view()(t, k)) * p.delta(i, k);
          return sum;
        }) < close);
  CHECK(largest_error(o.delta.view(), [&](index_t i, index_t k) { return p.delta(i, k); }) < close);
  auto const weight = [&](index_t i, index_t k) { return static_cast<double>(p.w.view()(i, k)); };
  auto const merged = [&](index_t i, index_t k) { return weight(i, k) + p.delta(i, k); };
  CHECK(largest_error(o.merged.view(), merged) < close);
  CHECK(largest_error(o.unmerged.view(), weight) < close);
  CHECK(largest_error(o.switched.view(), merged) < close);
  matrix<float> const before_dx(T, n, layout::contiguous, 13);
  CHECK(largest_error(o.dx.view(), [&](index_t t, index_t k) {
          double sum = static_cast<double>(before_dx.view()(t, k));
          for (index_t i = 0; i < m; ++i) sum += static_cast<double>(p.dy.view()(t, i)) * p.delta(i, k);
          return sum;
        }) < close);
  // dL/ddown and dL/dup by the sum over tokens of dy x, contracted with the other factor.
  auto const outer = [&](index_t i, index_t k) {
    double sum = 0;
    for (index_t t = 0; t < T; ++t)
      sum += static_cast<double>(p.dy.view()(t, i)) * static_cast<double>(p.x.view()(t, k));
    return sum;
  };
  auto const lit = [&](index_t j) { return strength * static_cast<double>(p.light[static_cast<std::size_t>(j)]); };
  matrix<float> const before_down(r, n, layout::contiguous, 11);
  CHECK(largest_error(o.ddown.view(), [&](index_t j, index_t k) {
          double sum = 0;
          for (index_t i = 0; i < m; ++i) sum += static_cast<double>(p.up.view()(i, j)) * outer(i, k);
          return static_cast<double>(before_down.view()(j, k)) + lit(j) * sum;
        }) < close);
  matrix<float> const before_up(m, r, layout::contiguous, 12);
  CHECK(largest_error(o.dup.view(), [&](index_t i, index_t j) {
          double sum = 0;
          for (index_t k = 0; k < n; ++k) sum += static_cast<double>(p.down.view()(j, k)) * outer(i, k);
          return static_cast<double>(before_up.view()(i, j)) + lit(j) * sum;
        }) < close);
}

TEST_CASE("a made-up method has equal bits on every executor and instruction set", "[fictitious]") {
  problem p;
  outputs const expected = run(graft::reference{}, p);
  auto const compare = [&](auto const& ex) {
    outputs const got = run(ex, p);
    CHECK(tests::differences(got.y.view(), expected.y.view()) == "");
    CHECK(tests::differences(got.merged.view(), expected.merged.view()) == "");
    CHECK(tests::differences(got.unmerged.view(), expected.unmerged.view()) == "");
    CHECK(tests::differences(got.delta.view(), expected.delta.view()) == "");
    CHECK(tests::differences(got.ddown.view(), expected.ddown.view()) == "");
    CHECK(tests::differences(got.dup.view(), expected.dup.view()) == "");
    CHECK(tests::differences(got.dx.view(), expected.dx.view()) == "");
    CHECK(tests::differences(got.all.view(), expected.all.view()) == "");
    CHECK(tests::differences(got.all_narrow.view(), expected.all_narrow.view()) == "");
    CHECK(tests::differences(got.switched.view(), expected.switched.view()) == "");
  };
  tests::for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    compare(ex);
  });
  tests::for_each_isa([&](std::string const& level) {
    INFO(level);
    compare(graft::serial{});
  });
}

TEST_CASE("a made-up method is merged with others into 16 bits with one rounding", "[fictitious]") {
  problem p;
  outputs o = run(graft::serial{}, p);
  // In fp32 first, then rounded: what merge_all promises.
  matrix<graft::bfloat16> narrow(m, n);
  narrow.assign(p.w.view());
  matrix<float> wide(m, n);
  wide.assign(narrow.view());
  merge(graft::serial{}, p.adapter(), wide.view());
  graft::merge(graft::serial{}, graft::lora{p.down.view(), p.up.view(), 0.5}, wide.view());
  narrow.assign(wide.view());
  CHECK(tests::differences(as_const(o.all_narrow.view()), as_const(narrow.view())) == "");
}

TEST_CASE("a made-up method counts its parameters and refuses a weight that does not fit", "[fictitious]") {
  problem p;
  CHECK(graft::parameter_count(p.adapter()) == r * (n + m));
  CHECK(std::get<0>(trainable(p.adapter())).name == "down");
  matrix<float> w(m, n + 1);
  CHECK_THROWS_AS(graft::merge_all(graft::serial{}, w.view(), p.adapter()), graft::shape_error);
}
