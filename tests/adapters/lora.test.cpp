// The formula, the laws and the promises of LoRA. adapters/detail/low_rank.hpp and row_blocks.hpp are tested through it
// and through merging.test.cpp.
#include <graft/adapters/lora.hpp>

#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "adapters/problem.hpp"

using graft::add_delta;
using graft::argument_error;
using graft::as_const;
using graft::backward;
using graft::bfloat16;
using graft::delta_weight;
using graft::dropout;
using graft::float16;
using graft::index_t;
using graft::lora;
using graft::lora_gradients;
using graft::merge;
using graft::none;
using graft::output_rows;
using graft::shape_error;
using graft::transposed;
using graft::unmerge;
using graft::view;
using namespace tests;

namespace {

constexpr double third = 0x1.555556p-2;  // a scale that is exact in fp32

template <class T>
std::vector<T> numbers_of(std::vector<double> const& values) {
  std::vector<T> v;
  for (double const e : values) v.push_back(graft::store_as<T>(e));
  return v;
}
template <class T>
std::vector<double> doubles_of(std::vector<T> const& values) {
  std::vector<double> v;
  for (T const& e : values) v.push_back(graft::load_as<double>(e));
  return v;
}

template <class T>
any_view<T> any(std::vector<T>& v, index_t rows, index_t columns) {
  return view(v.data(), graft::dynamic_extents<2>{rows, columns}, {columns, 1});
}
template <class T>
any_vector<T> any(std::vector<T>& v) {
  return view(v.data(), graft::dynamic_extents<1>{static_cast<index_t>(v.size())}, {1});
}

/// All numbers are small multiples of a power of two.
template <class T>
struct by_hand {
  std::vector<T> x = numbers_of<T>({1, 2, 3, 0, -1, 1});
  std::vector<T> a = numbers_of<T>({1, 0, 2, 0, 1, -1});
  std::vector<T> b = numbers_of<T>({1, 2, 3, -1});
  std::vector<T> bias = numbers_of<T>({10, -20});
  std::vector<T> dy = numbers_of<T>({1, 0, 2, -1});

  [[nodiscard]] any_lora<T> adapter() { return {any(a, 2, 3), any(b, 2, 2), 0.5, {}}; }
  [[nodiscard]] any_biased_lora<T> biased() { return {any(a, 2, 3), any(b, 2, 2), 0.5, any(bias)}; }
};

}  // namespace

TEST_CASE("LoRA, checked by hand", "[adapters][lora]") {
  // x A^T = [[7, -1], [2, -2]], halved [[3.5, -0.5], [1, -1]] = v; v B^T = [[2.5, 11], [-1, 4]]; half the bias (5, -10).
  // B A = [[1, 2, 0], [3, -1, 7]].  dy^T v = [[5.5, -2.5], [-1, 1]].
  // dy B / 2 = [[0.5, 1], [-0.5, 2.5]] = u;  u^T x = [[0.5, 1.5, 1], [1, -0.5, 5.5]];  u A = [[0.5, 1, 0], [-0.5, 2.5, -3.5]]
  auto const check = [](std::string const& name, auto const& ex, auto p) {
    using T = typename std::remove_cvref_t<decltype(p.x)>::value_type;
    INFO(name << ", " << type_name<T>());
    auto const numbers = [](std::vector<double> const& values) { return numbers_of<T>(values); };

    auto y = numbers({1, 1, 1, 1});
    add_delta(ex, p.adapter(), any(p.x, 2, 3), any(y, 2, 2));
    CHECK(doubles_of(y) == std::vector<double>{3.5, 12, 0, 5});
    y = numbers({1, 1, 1, 1});
    add_delta(ex, p.biased(), any(p.x, 2, 3), any(y, 2, 2));
    CHECK(doubles_of(y) == std::vector<double>{8.5, 2, 5, -5});

    auto d = numbers({9, 9, 9, 9, 9, 9});
    delta_weight(ex, p.biased(), any(d, 2, 3));
    CHECK(doubles_of(d) == std::vector<double>{0.5, 1, 0, 1.5, -0.5, 3.5});
    auto w = numbers({1, 2, 3, 4, 5, 6});
    auto base_bias = numbers({1, 2});
    merge(ex, p.biased(), any(w, 2, 3), any(base_bias));
    CHECK(doubles_of(w) == std::vector<double>{1.5, 3, 3, 5.5, 4.5, 9.5});
    CHECK(doubles_of(base_bias) == std::vector<double>{6, -8});
    unmerge(ex, p.biased(), any(w, 2, 3), any(base_bias));
    CHECK(doubles_of(w) == std::vector<double>{1, 2, 3, 4, 5, 6});
    CHECK(doubles_of(base_bias) == std::vector<double>{1, 2});

    auto ga = numbers({8, 8, 8, 8, 8, 8});
    auto gb = numbers({4, 4, 4, 4});
    auto gbias = numbers({1, 1});
    auto dx = numbers({0, 0, 0, 2, 2, 2});
    backward(ex, p.biased(), any(p.x, 2, 3), any(p.dy, 2, 2), lora_gradients{any(ga, 2, 3), any(gb, 2, 2), any(gbias)},
             any(dx, 2, 3));
    CHECK(doubles_of(ga) == std::vector<double>{8.5, 9.5, 9, 9, 7.5, 13.5});
    CHECK(doubles_of(gb) == std::vector<double>{9.5, 1.5, 3, 5});
    CHECK(doubles_of(gbias) == std::vector<double>{2.5, 0.5});
    CHECK(doubles_of(dx) == std::vector<double>{0.5, 1, 0, 1.5, 4.5, -1.5});
  };
  for_each_executor([&](std::string const& name, auto const& ex) { check(name, ex, by_hand<float>{}); });
  check("reference", graft::reference{}, by_hand<double>{});
}

TEST_CASE("the scales of LoRA and rsLoRA", "[adapters][lora]") {
  CHECK(graft::lora_scale(16, 8) == 2.0);
  CHECK(graft::lora_scale(1, 3) == 1.0 / 3.0);
  CHECK(graft::rslora_scale(16, 4) == 8.0);
  CHECK(graft::rslora_scale(16, 8) == 16.0 / std::sqrt(8.0));
  CHECK_THROWS_MATCHES(graft::lora_scale(16, 0), argument_error,
                       Catch::Matchers::Message("graft::lora_scale: the rank is 0 but must be positive"));
  CHECK_THROWS_MATCHES(graft::rslora_scale(16, -1), argument_error,
                       Catch::Matchers::Message("graft::rslora_scale: the rank is -1 but must be positive"));
}

TEST_CASE("an adapter knows its extents", "[adapters][lora]") {
  by_hand<float> p;
  auto const l = p.biased();
  CHECK(l.rank() == 2);
  CHECK(l.in_features() == 3);
  CHECK(l.out_features() == 2);
  static_assert(decltype(l)::has_bias && !decltype(p.adapter())::has_bias);
}

TEST_CASE("add_delta keeps its bound, and has the bits of reference everywhere", "[adapters][lora][parity]") {
  tally t;
  std::uint64_t seed = 0;
  for (shape const& s : odd_shapes())
    for_each_mix([&]<class X, class P, class Y>() {
      problem<X, P, Y> p(s, third, ++seed);
      auto const with_bias = seed % 2 == 0;
      auto const run = [&](auto const& ex, auto& q) {
        if (with_bias) add_delta(ex, q.biased(), q.x.view(), q.y.view());
        else add_delta(ex, q.lora(), q.x.view(), q.y.view());
      };
      auto expected = grid(p.y.view()) + p.delta();
      auto magnitudes = magnitude(grid(p.y.view())) + p.delta_magnitude();
      if (with_bias) {
        expected = expected + third * grid(p.bias.view());
        magnitudes = magnitudes + third * magnitude(grid(p.bias.view()));
      }
      run(graft::reference{}, p);
      using sums = typename problem<X, P, Y>::sums;
      t.add(beyond(p.y.view(), expected, magnitudes,
                   [&](double all) { return low_rank_bound<sums>(s.n, s.r, all) + unit_roundoff<sums>() * all; }),
            [&] { return "bound, " + p.text(); });
      same_everywhere(t, p, seed, run);
    });
  CHECK(t.text() == "");
}

TEST_CASE("add_delta is x times the transposed delta_weight", "[adapters][lora]") {
  tally t;
  for (shape const& s : odd_shapes())
    for_each_mix([&]<class X, class P, class Y>() {
      problem<X, P, Y> p(s, -third, 40);
      using sums = typename problem<X, P, Y>::sums;
      auto const before = grid(p.y.view());
      delta_weight(graft::serial{}, p.lora(), p.w.view());
      t.add(beyond(p.w.view(), p.weight(), p.weight_magnitude(),
                   [&](double all) { return short_axis_bound<sums>(s.r, all); }),
            [&] { return "delta_weight, " + p.text(); });
      add_delta(graft::serial{}, p.lora(), p.x.view(), p.y.view());
      // Beside the bound of add_delta there is what delta_weight's sums and its elements' type lose.
      double const lost = unit_roundoff<Y>() * 2.0 + half_smallest<Y>();
      t.add(beyond(p.y.view(), before + grid(p.x.view()) * flipped(grid(p.w.view())),
                   magnitude(before) + p.delta_magnitude(),
                   [&](double all) {
                     return low_rank_bound<sums>(s.n, s.r, all) + short_axis_bound<sums>(s.r, all) + lost * all +
                            half_smallest<Y>() * static_cast<double>(s.n);
                   }),
            [&] { return p.text(); });
    });
  CHECK(t.text() == "");
}

TEST_CASE("a fresh adapter changes nothing, bit by bit", "[adapters][lora][initialize]") {
  auto const check = [](auto const& how) {
    problem<float, float, float> start({7, 33, 6, 21}, third, 4);
    initialize(graft::serial{}, start.biased(), how);
    for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name);
      problem<float, float, float> p({7, 33, 6, 21}, third, 4);
      p.a.assign(start.a.view());
      p.b.assign(start.b.view());
      p.bias.assign(start.bias.view());
      add_delta(ex, p.biased(), p.x.view(), p.y.view());
      merge(ex, p.biased(), p.w.view(), as_vector(p.base_bias.view()));
      CHECK(differences_of(p, start) == "");
    });
  };
  check(graft::kaiming_uniform{});
  check(graft::gaussian{});
}

TEST_CASE("the delta is linear in the scale: twice, negated and nothing, bit by bit", "[adapters][lora]") {
  problem<float, float, float> p({9, 70, 5, 33}, third, 3);
  auto const delta = [&](double scale) {
    std::vector<float> y(9 * 33, 0.0F);
    auto l = p.lora();
    l.scale = scale;
    add_delta(graft::serial{}, l, p.x.view(), view(y, 9, 33));
    return y;
  };
  auto const once = delta(third);
  auto const twice = delta(2.0 * third);
  auto const negated = delta(-third);
  for (std::size_t i = 0; i < once.size(); ++i)
    if (twice[i] != 2.0F * once[i] || negated[i] != -once[i] || once[i] == 0.0F) FAIL_CHECK("element " << i);
  CHECK(delta(0.0) == std::vector<float>(once.size(), 0.0F));
}

TEST_CASE("several active adapters add up, as one adapter of all their ranks does", "[adapters][lora]") {
  // Stacked factors and one scale: the chain over the ranks goes on where the first adapter's ended, so the bits agree.
  constexpr index_t T = 6, n = 50, m = 70, r = 3 + 4 + 1;
  matrix<float> x(T, n, layout::contiguous, 1);
  matrix<float> a(r, n, layout::contiguous, 2);
  matrix<float> b(m, r, layout::contiguous, 3);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    matrix<float> one(T, m, layout::contiguous, 4);
    matrix<float> three(T, m, layout::contiguous, 4);
    auto const before = grid(one.view());
    add_delta(ex, lora{a.view(), b.view(), third, none}, x.view(), one.view());
    for (auto const& [first, count] : {std::pair<index_t, index_t>{0, 3}, {3, 4}, {7, 1}})
      add_delta(ex, lora{rows(a.view(), first, count), columns(b.view(), first, count), third, none}, x.view(),
                three.view());
    CHECK(differences(three.view(), one.view()) == "");
  });
  // Different scales and ranks: the sum of the deltas.
  problem<float, float, float> first({T, n, 3, m}, third, 5);
  problem<float, float, float> second({T, n, 8, m}, -1.25, 6);
  second.x.assign(first.x.view());
  auto const expected = grid(first.y.view()) + first.delta() + second.delta();
  auto const magnitudes = magnitude(grid(first.y.view())) + first.delta_magnitude() + second.delta_magnitude();
  add_delta(graft::serial{}, first.lora(), first.x.view(), first.y.view());
  add_delta(graft::serial{}, second.lora(), first.x.view(), first.y.view());
  CHECK(beyond(first.y.view(), expected, magnitudes,
               [](double all) { return low_rank_bound<float>(n, 3, all) + low_rank_bound<float>(n, 8, all); }) == "");
}

TEST_CASE("output_rows cuts an adapter: the bits of those columns and of those rows of W", "[adapters][lora]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    problem<float, float, float> whole({5, 40, 6, 130}, third, 7);
    problem<float, float, float> cut({5, 40, 6, 130}, third, 7);
    add_delta(ex, whole.biased(), whole.x.view(), whole.y.view());
    merge(ex, whole.biased(), whole.w.view(), as_vector(whole.base_bias.view()));
    for (auto const& [first, count] : {std::pair<index_t, index_t>{0, 1}, {1, 63}, {64, 0}, {64, 66}}) {
      auto const part = output_rows(cut.biased(), first, count);
      CHECK(part.out_features() == count);
      add_delta(ex, part, cut.x.view(), columns(cut.y.view(), first, count));
      merge(ex, part, rows(cut.w.view(), first, count),
            graft::detail::slice(as_vector(cut.base_bias.view()), first, count));
    }
    CHECK(differences_of(cut, whole) == "");
  });
  problem<float, float, float> p({1, 2, 2, 7}, 1.0, 1);
  CHECK_THROWS_MATCHES(output_rows(p.lora(), 5, 3), shape_error,
                       Catch::Matchers::Message("graft::rows: rows 5 + 3 of [7, 2]"));
  CHECK_THROWS_AS(output_rows(p.lora(), -1, 3), shape_error);
}

TEST_CASE("fused q, k, v: three adapters on columns of one output", "[adapters][lora]") {
  // 64 query columns, 16 of keys, 16 of values, as with grouped queries.
  constexpr index_t T = 7, n = 48;
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    matrix<float> x(T, n, layout::contiguous, 1);
    matrix<float> const fused_before(T, 96, layout::contiguous, 2);
    matrix<float> fused(T, 96, layout::contiguous, 2);
    index_t first = 0;
    for (auto const& [r, m] : {std::pair<index_t, index_t>{8, 64}, {4, 16}, {4, 16}}) {
      matrix<float> a(r, n, layout::contiguous, 3);
      matrix<float> b(m, r, layout::contiguous, static_cast<std::uint64_t>(first));
      auto const l = lora{a.view(), b.view(), third, none};
      matrix<float> alone(T, m);
      alone.assign(columns(fused_before.view(), first, m));
      add_delta(ex, l, x.view(), alone.view());
      add_delta(ex, l, x.view(), columns(fused.view(), first, m));
      CHECK(differences(columns(fused.view(), first, m), alone.view()) == "");
      if (first + m < 96)  // what lies behind is as it was
        CHECK(differences(as_const(columns(fused.view(), first + m, 96 - first - m)),
                          columns(fused_before.view(), first + m, 96 - first - m)) == "");
      first += m;
    }
  });
}

TEST_CASE("a token's output and input gradient do not depend on its batch", "[adapters][lora][parity]") {
  constexpr index_t T = 513;
  auto const check = [&]<class X, class P, class Y>() {
    problem<X, P, Y> whole({T, 40, 5, 70}, third, 8);
    add_delta(graft::openmp{3}, whole.biased(), whole.x.view(), whole.y.view());
    backward(graft::openmp{3}, whole.biased(), whole.x.view(), whole.dy.view(), lora_gradients{}, whole.dx.view());
    for (index_t const batch : {1, 2, 7, 64, 512}) {
      problem<X, P, Y> parts({T, 40, 5, 70}, third, 8);
      for_each_executor([&](std::string const& name, auto const& ex) {
        if (name == "reference" && batch < 7) return;  // slow, and the same body
        INFO(name << ", batches of " << batch << ", " << parts.text());
        parts.y.fill(8 + 6);
        parts.dx.fill(8 + 7);
        for (index_t first = 0; first < T; first += batch) {
          index_t const count = std::min(batch, T - first);
          add_delta(ex, parts.biased(), rows(parts.x.view(), first, count), rows(parts.y.view(), first, count));
          backward(ex, parts.biased(), rows(parts.x.view(), first, count), rows(parts.dy.view(), first, count),
                   lora_gradients{}, rows(parts.dx.view(), first, count));
        }
        CHECK(differences_of(parts, whole) == "");
      });
    }
  };
  check.operator()<float, float, float>();
}

TEST_CASE("gradients keep their bounds, add to what is there, and have the bits of reference everywhere",
          "[adapters][lora][parity]") {
  tally t;
  std::uint64_t seed = 100;
  auto shapes = odd_shapes();
  shapes.push_back({600, 9, 3, 17});  // more tokens than a chunk
  for (shape const& s : shapes)
    for_each_mix([&]<class X, class P, class Y>() {
      problem<X, P, Y> p(s, -third, ++seed);
      auto const run = [](auto const& ex, auto& q) {
        backward(ex, q.biased(), q.x.view(), q.dy.view(), q.gradients(), q.dx.view());
      };
      grid const x(p.x.view()), dy(p.dy.view()), a(p.a.view()), b(p.b.view());
      grid const v = -third * (x * flipped(a)), u = -third * (dy * b);
      grid const v_all = third * (magnitude(x) * flipped(magnitude(a)));
      grid const u_all = third * (magnitude(dy) * magnitude(b));
      grid const before_a(p.ga.view()), before_b(p.gb.view()), before_bias(p.gbias.view()), before_x(p.dx.view());
      run(graft::reference{}, p);
      using sums = typename problem<X, P, Y>::sums;
      auto const bound = [](index_t length, index_t tokens) {  // shrink along one axis, then a chain along the other
        return [=](double all) {
          return long_axis_bound<sums>(length, all) + short_axis_bound<sums>(tokens, all) +
                 2 * unit_roundoff<sums>() * all;
        };
      };
      t.add(beyond(p.gb.view(), before_b + flipped(dy) * v, magnitude(before_b) + flipped(magnitude(dy)) * v_all,
                   bound(s.n, s.T)),
            [&] { return "gradient of B, " + p.text(); });
      t.add(beyond(p.ga.view(), before_a + flipped(u) * x, magnitude(before_a) + flipped(u_all) * magnitude(x),
                   bound(s.m, s.T)),
            [&] { return "gradient of A, " + p.text(); });
      t.add(beyond(p.dx.view(), before_x + u * a, magnitude(before_x) + u_all * magnitude(a), bound(s.m, s.r)),
            [&] { return "dx, " + p.text(); });
      t.add(beyond(p.gbias.view(), before_bias + -third * row_sums(dy),
                   magnitude(before_bias) + third * row_sums(magnitude(dy)), bound(0, s.T)),
            [&] { return "gradient of the bias, " + p.text(); });
      same_everywhere(t, p, seed, run);
    });
  CHECK(t.text() == "");
}

TEST_CASE("graft::none is skipped, and the others have the same bits", "[adapters][lora]") {
  shape const s{9, 33, 5, 17};
  auto const all = [&] {
    problem<float, float, float> p(s, third, 9);
    backward(graft::serial{}, p.biased(), p.x.view(), p.dy.view(), p.gradients(), p.dx.view());
    return p;
  };
  auto const complete = all();
  auto const check = [&](bool a, bool b, bool bias, bool dx, auto const& run) {
    INFO(a << b << bias << dx);
    problem<float, float, float> p(s, third, 9);
    problem<float, float, float> expected(s, third, 9);
    if (a) expected.ga.assign(complete.ga.view());
    if (b) expected.gb.assign(complete.gb.view());
    if (bias) expected.gbias.assign(complete.gbias.view());
    if (dx) expected.dx.assign(complete.dx.view());
    run(p);
    CHECK(differences_of(p, expected) == "");
  };
  using problem_t = problem<float, float, float>;
  auto const go = [](problem_t& p, auto const& gradients, auto const& dx) {
    backward(graft::serial{}, p.biased(), p.x.view(), p.dy.view(), gradients, dx);
  };
  check(true, false, false, false, [&](problem_t& p) { go(p, lora_gradients{.A = p.ga.view()}, none); });
  check(false, true, false, false, [&](problem_t& p) { go(p, lora_gradients{.B = p.gb.view()}, none); });
  check(false, false, true, false,
        [&](problem_t& p) { go(p, lora_gradients{.bias = as_vector(p.gbias.view())}, none); });
  check(false, false, false, true, [&](problem_t& p) { go(p, lora_gradients{}, p.dx.view()); });
  check(true, true, false, false,
        [&](problem_t& p) { go(p, lora_gradients{.A = p.ga.view(), .B = p.gb.view()}, none); });
  check(true, false, false, true, [&](problem_t& p) { go(p, lora_gradients{.A = p.ga.view()}, p.dx.view()); });
  check(false, false, false, false, [&](problem_t& p) { go(p, lora_gradients{}, none); });
}

TEST_CASE("gradients of parameters sum in token order: two batches after one another are one", "[adapters][lora]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    problem<float, float, float> whole({65, 20, 4, 33}, third, 10);
    backward(ex, whole.biased(), whole.x.view(), whole.dy.view(), whole.gradients(), whole.dx.view());
    for (index_t const first : {1, 2, 7, 64}) {
      INFO(name << ", " << first << " tokens first");
      problem<float, float, float> parts({65, 20, 4, 33}, third, 10);
      for (auto const& [from, count] : {std::pair<index_t, index_t>{0, first}, {first, 65 - first}})
        backward(ex, parts.biased(), rows(parts.x.view(), from, count), rows(parts.dy.view(), from, count),
                 parts.gradients(), rows(parts.dx.view(), from, count));
      CHECK(differences_of(parts, whole) == "");
    }
  });
}

TEST_CASE("scratch of the caller gives the bits of scratch from the resource", "[adapters][lora]") {
  problem<bfloat16, float16, bfloat16> one({9, 33, 5, 17}, third, 11);
  problem<bfloat16, float16, bfloat16> other({9, 33, 5, 17}, third, 11);
  matrix<float> scratch(9, 5, layout::strided);
  backward(graft::serial{}, one.biased(), one.x.view(), one.dy.view(), one.gradients(), one.dx.view());
  backward(graft::serial{}, other.biased(), other.x.view(), other.dy.view(), other.gradients(), other.dx.view(),
           scratch.view());
  CHECK(differences_of(other, one) == "");
  CHECK(scratch.outside() == "");
}

namespace {

/// Half the sum of squares of y + delta(x): quadratic in every single number, so that a central difference is exact but
/// for rounding.
struct loss {
  problem<double, double, double>& p;
  dropout mask;

  [[nodiscard]] std::vector<double> output() const {
    auto const& s = p.s;
    std::vector<double> y;
    for (index_t i = 0; i < s.T; ++i)
      for (index_t j = 0; j < s.m; ++j) y.push_back(p.y.view()(i, j));
    std::vector<double> dropped(static_cast<std::size_t>(s.T * s.n));
    add_delta(graft::reference{}, p.biased(), mask, p.x.view(), view(y, s.T, s.m), view(dropped, s.T, s.n));
    return y;
  }
  [[nodiscard]] double value() const {
    double sum = 0.0;
    for (double const e : output()) sum += 0.5 * e * e;
    return sum;
  }
  [[nodiscard]] double difference(double& number) const {
    double const before = number;
    number = before + step;
    double const above = value();
    number = before - step;
    double const below = value();
    number = before;
    return (above - below) / (2.0 * step);
  }
  static constexpr double step = 0.125;
};

}  // namespace

TEST_CASE("gradients of A, B, bias and x are those of central differences, with and without dropout",
          "[adapters][lora]") {
  for (double const probability : {0.0, 0.4}) {
    shape const s{3, 5, 2, 4};
    problem<double, double, double> p(s, third, 12);
    loss const f{p, dropout{.probability = probability, .seed = 1, .stream = 2}};
    auto dy = f.output();
    std::vector<double> dropped(static_cast<std::size_t>(s.T * s.n));
    std::vector<double> ga(static_cast<std::size_t>(s.r * s.n)), gb(static_cast<std::size_t>(s.m * s.r));
    std::vector<double> gbias(static_cast<std::size_t>(s.m)), dx(dropped.size()), dx_dropped(dropped.size(), NAN);
    auto ignored = dy;
    add_delta(graft::reference{}, p.biased(), f.mask, p.x.view(), view(ignored, s.T, s.m), view(dropped, s.T, s.n));
    lora_gradients const gradients{view(ga, s.r, s.n), view(gb, s.m, s.r), view(gbias)};
    if (probability == 0.0)
      backward(graft::reference{}, p.biased(), p.x.view(), view(dy, s.T, s.m), gradients, view(dx, s.T, s.n));
    else
      backward(graft::reference{}, p.biased(), f.mask, view(dropped, s.T, s.n), view(dy, s.T, s.m), gradients,
               view(dx, s.T, s.n), view(dx_dropped, s.T, s.n));
    // A loss is computed to within the roundings of its y, its squares and its sum; two of them, divided by two steps.
    auto const moved = magnitude(grid(p.x.view())).largest() + loss::step;
    double const kept = 1.0 / (1.0 - probability);
    double const most =
        grid(p.y.view()).largest() + std::abs(p.scale) * (kept * moved * static_cast<double>(s.n) * (1.0 + loss::step) *
                                                              static_cast<double>(s.r) * (1.0 + loss::step) +
                                                          1.0 + loss::step);
    double const terms =
        static_cast<double>(s.n) / 16.0 + 20.0 + static_cast<double>(s.r) + 4.0 + static_cast<double>(s.T * s.m);
    double const bound =
        2.0 * terms * unit_roundoff<double>() * 0.5 * most * most * static_cast<double>(s.T * s.m) / loss::step;
    CHECK(bound < 1e-9);  // of gradients around 1: an error in a formula is far beyond
    auto const compare = [&](char const* what, auto const& numbers, std::vector<double> const& gradient) {
      double worst = 0.0;
      double largest = 0.0;
      for (index_t i = 0; i < numbers.extent(0); ++i)
        for (index_t j = 0; j < numbers.extent(1); ++j) {
          double const g = gradient[static_cast<std::size_t>(i * numbers.extent(1) + j)];
          worst = std::max(worst, std::abs(f.difference(numbers(i, j)) - g));
          largest = std::max(largest, std::abs(g));
        }
      INFO(what << ", p = " << probability << ": " << worst << " of " << bound << ", largest " << largest);
      CHECK(worst <= bound);
      CHECK(largest > 0.01);
    };
    compare("A", p.a.view(), ga);
    compare("B", p.b.view(), gb);
    compare("bias", p.bias.view(), gbias);
    compare("x", p.x.view(), dx);
  }
}

TEST_CASE("forward and backward share the mask of the dropout", "[adapters][lora][dropout]") {
  dropout const mask{.probability = 0.5, .seed = 5, .stream = 6};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    shape const s{6, 21, 3, 10};
    problem<float, float, float> p(s, third, 13);
    problem<float, float, float> plain(s, third, 13);
    matrix<float> dropped(s.T, s.n, layout::transposed_padded);
    matrix<float> expected(s.T, s.n);
    graft::kernels::drop(graft::reference{}, mask, p.x.view(), expected.view());
    add_delta(ex, p.biased(), mask, p.x.view(), p.y.view(), dropped.view());
    CHECK(differences(dropped.view(), expected.view()) == "");
    CHECK(dropped.outside() == "");
    add_delta(ex, plain.biased(), expected.view(), plain.y.view());
    CHECK(differences(p.y.view(), plain.y.view()) == "");

    matrix<float> dx_dropped(s.T, s.n, layout::padded);
    matrix<float> dx_plain(s.T, s.n);
    dx_plain.fill(0, 0.0);
    auto const dx_before = grid(p.dx.view());
    backward(ex, p.biased(), mask, dropped.view(), p.dy.view(), p.gradients(), p.dx.view(), dx_dropped.view());
    backward(ex, plain.biased(), expected.view(), plain.dy.view(), plain.gradients(), dx_plain.view());
    CHECK(differences(p.ga.view(), plain.ga.view()) == "");
    CHECK(differences(p.gb.view(), plain.gb.view()) == "");
    CHECK(differences(p.gbias.view(), plain.gbias.view()) == "");
    CHECK(differences(dx_dropped.view(), dx_plain.view()) == "");
    CHECK(dx_dropped.outside() == "");
    int kept = 0;
    for (index_t i = 0; i < s.T; ++i)
      for (index_t j = 0; j < s.n; ++j) {
        auto const before = static_cast<float>(dx_before(i, j));
        bool const stays = mask.keeps(i * s.n + j);
        kept += stays ? 1 : 0;
        float const due = stays ? std::fma(2.0F, dx_plain.view()(i, j), before) : before;
        if (p.dx.view()(i, j) != due) FAIL_CHECK("dx at " << i << ", " << j);
        if ((dropped.view()(i, j) == 0.0F) == stays) FAIL_CHECK("x_dropped at " << i << ", " << j);
      }
    CHECK(kept > 30);
    CHECK(kept < 96);

    // Without dx there is no need for dx_dropped.
    problem<float, float, float> half(s, third, 13);
    backward(ex, half.biased(), mask, dropped.view(), half.dy.view(), half.gradients(), none, none);
    CHECK(differences(half.ga.view(), p.ga.view()) == "");
    CHECK(differences(half.gb.view(), p.gb.view()) == "");
  });
}

TEST_CASE("dropout with probability 0 changes no bit", "[adapters][lora][dropout]") {
  shape const s{6, 21, 3, 10};
  problem<float, float, float> p(s, third, 14);
  problem<float, float, float> plain(s, third, 14);
  p.dx.fill(0, 0.0);  // the sum starts there; from another start it would be rounded elsewhere
  plain.dx.fill(0, 0.0);
  matrix<float> dropped(s.T, s.n);
  matrix<float> dx_dropped(s.T, s.n);
  add_delta(graft::serial{}, p.biased(), dropout{}, p.x.view(), p.y.view(), dropped.view());
  backward(graft::serial{}, p.biased(), dropout{}, dropped.view(), p.dy.view(), p.gradients(), p.dx.view(),
           dx_dropped.view());
  add_delta(graft::serial{}, plain.biased(), plain.x.view(), plain.y.view());
  backward(graft::serial{}, plain.biased(), plain.x.view(), plain.dy.view(), plain.gradients(), plain.dx.view());
  CHECK(differences_of(p, plain) == "");
}

TEST_CASE("the expectation of the delta with dropout is the delta without", "[adapters][lora][dropout]") {
  shape const s{2, 40, 3, 5};
  constexpr double probability = 0.25;
  constexpr int draws = 2000;
  problem<double, double, double> p(s, third, 15);
  p.bias.fill(0, 0.0);
  grid mean(s.T, s.m);
  for (int i = 0; i < draws; ++i) {
    std::vector<double> y(static_cast<std::size_t>(s.T * s.m)), dropped(static_cast<std::size_t>(s.T * s.n));
    add_delta(graft::reference{}, p.biased(),
              dropout{.probability = probability, .seed = 9, .stream = static_cast<std::uint64_t>(i)}, p.x.view(),
              view(y, s.T, s.m), view(dropped, s.T, s.n));
    mean = mean + 1.0 / draws * grid(view(y, s.T, s.m));
  }
  auto const exact = p.delta();
  auto const w = p.weight();
  for (index_t i = 0; i < s.T; ++i)
    for (index_t o = 0; o < s.m; ++o) {
      double variance = 0.0;  // of one draw: each kept product is 1 / (1 - p) times itself
      for (index_t k = 0; k < s.n; ++k) {
        double const term = p.x.view()(i, k) * w(o, k);
        variance += probability / (1.0 - probability) * term * term;
      }
      CHECK(std::abs(mean(i, o) - exact(i, o)) < 6.0 * std::sqrt(variance / draws));
    }
}

TEST_CASE("the bias goes into a 16-bit y with one rounding", "[adapters][lora][bias]") {
  auto const check = [&]<class X, class P, class Y>() {
    shape const s{65, 30, 4, 40};
    problem<X, P, Y> p(s, third, 16);
    problem<X, P, Y> wide(s, third, 16);
    auto y = copy_of<float>(p.y.view());
    add_delta(graft::reference{}, wide.biased(), wide.x.view(), y.view());
    auto const expected = copy_of<Y>(y.view());
    // Twice rounded: what the test is about.
    add_delta(graft::serial{}, wide.lora(), wide.x.view(), wide.y.view());
    graft::kernels::add_bias(graft::serial{}, as_vector(wide.bias.view()), wide.y.view(), third);
    CHECK(differences(wide.y.view(), expected.view()) != "");
    for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name << ", " << type_name<Y>());
      for (layout const how : {layout::contiguous, layout::transposed, layout::reversed_rows}) {
        matrix<Y> out(s.T, s.m, how, 16 + 6);
        add_delta(ex, p.biased(), p.x.view(), out.view());
        CHECK(differences(out.view(), expected.view()) == "");
        CHECK(out.outside() == "");
      }
    });
    matrix<Y> by_columns(s.T, s.m, layout::transposed, 16 + 6);  // a type that knows that columns are contiguous
    add_delta(graft::serial{}, p.biased(), p.x.view(), transposed(view(&by_columns.view()(0, 0), s.m, s.T)));
    CHECK(differences(by_columns.view(), expected.view()) == "");
  };
  check.template operator()<bfloat16, float16, bfloat16>();
}

TEST_CASE("sums in fp64 and a bias go into a 16-bit y with one rounding, too", "[adapters][lora][bias]") {
  // 1 + 2^-11 is in the middle between two numbers of 16 bits; what decides lies beyond fp32.
  std::vector<float> x{1.0F};
  std::vector<double> a{1.0}, b{0x1p-11 + 0x1p-40}, bias{0.0};
  std::vector<float16> y{float16(1.0F)};
  any_biased_lora<double> const l{any(a, 1, 1), any(b, 1, 1), 1.0, any(bias)};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    y[0] = float16(1.0F);
    add_delta(ex, l, any(x, 1, 1), any(y, 1, 1));
    CHECK(static_cast<float>(y[0]) == 1.0F + 0x1p-10F);
  });
  std::vector<float16> wide(100);
  any_biased_lora<float> const single{any(x, 1, 1), any(x, 1, 1), 1.0, any(x)};
  CHECK(graft::add_delta_scratch_bytes(l, any(wide, 100, 1)) == 832);
  CHECK(graft::add_delta_scratch_bytes(single, any(wide, 100, 1), any(x, 1, 1)) == 448);
  CHECK(graft::add_delta_scratch_bytes(single, any(wide, 100, 1), any(a, 1, 1)) == 832);
}

TEST_CASE("a 16-bit y above 4 MiB of fp32 is taken in blocks of rows", "[adapters][lora][bias]") {
  constexpr index_t T = 5, m = 400000;  // two rows a block, and one left
  matrix<float> x(T, 3, layout::contiguous, 1);
  matrix<float> a(1, 3, layout::contiguous, 2);
  matrix<bfloat16> b(m, 1, layout::contiguous, 3);
  matrix<float> bias(1, m, layout::contiguous, 4);
  matrix<bfloat16> y(T, m, layout::contiguous, 5);
  auto wide = copy_of<float>(y.view());
  auto const l = lora{a.view(), b.view(), third, as_vector(bias.view())};
  CHECK(graft::detail::rows_in_block(y.view()) == 2);
  CHECK(graft::add_delta_scratch_bytes(l, y.view()) == 2 * m * sizeof(float));
  add_delta(graft::serial{}, l, x.view(), wide.view());
  add_delta(graft::openmp{2}, l, x.view(), y.view());
  CHECK(differences(y.view(), copy_of<bfloat16>(wide.view()).view()) == "");
}

TEST_CASE("merge keeps its bound, and has the bits of reference everywhere", "[adapters][lora][merge][parity]") {
  tally t;
  std::uint64_t seed = 200;
  for (shape const& s : odd_shapes())
    for_each_mix([&]<class X, class P, class Y>() {
      problem<X, P, Y> p(s, third, ++seed);
      using sums = graft::accumulate_t<P, Y>;
      auto const expected = grid(p.w.view()) + p.weight();
      auto const expected_bias = grid(p.base_bias.view()) + third * grid(p.bias.view());
      auto const magnitudes = magnitude(grid(p.w.view())) + p.weight_magnitude();
      auto const bound = [&](double all) {
        return ((std::min)(static_cast<double>(s.r), 512.0) + static_cast<double>(s.r) / 512.0 + 2.0) *
               unit_roundoff<sums>() * all;
      };
      auto const run = [](auto const& ex, auto& q) {
        merge(ex, q.biased(), q.w.view(), as_vector(q.base_bias.view()));
      };
      run(graft::reference{}, p);
      t.add(beyond(p.w.view(), expected, magnitudes, bound), [&] { return p.text(); });
      t.add(beyond(p.base_bias.view(), expected_bias, magnitude(expected_bias) + magnitude(grid(p.bias.view())), bound),
            [&] { return "bias, " + p.text(); });
      same_everywhere(t, p, seed, run);
      auto const twice = [&](auto const& ex, auto& q) {
        run(ex, q);
        delta_weight(ex, q.biased(), q.w.view());
        unmerge(ex, q.biased(), q.w.view(), as_vector(q.base_bias.view()));
      };
      problem<X, P, Y> q(s, third, seed);
      twice(graft::reference{}, q);
      same_everywhere(t, q, seed, twice);
    });
  CHECK(t.text() == "");
}

TEST_CASE("merging into 16 bits is computing in fp32 and rounding once", "[adapters][lora][merge]") {
  auto const check = [&]<class P, class W>() {
    shape const s{1, 120, 9, 77};
    problem<float, P, W> p(s, third, 17);
    auto const exact = grid(p.w.view()) + p.weight();
    auto const magnitudes = magnitude(grid(p.w.view())) + p.weight_magnitude();
    auto wide = copy_of<float>(p.w.view());
    merge(graft::serial{}, p.lora(), wide.view());
    merge(graft::serial{}, p.lora(), p.w.view());
    CHECK(differences(p.w.view(), copy_of<W>(wide.view()).view()) == "");
    // Where fp32's error cannot cross the middle between two numbers of W, the exact value rounded once is the result.
    index_t decided = 0;
    for (index_t i = 0; i < s.m; ++i)
      for (index_t j = 0; j < s.n; ++j) {
        double const bound = (static_cast<double>(s.r) + 2.0) * unit_roundoff<float>() * magnitudes(i, j);
        W const low = graft::store_as<W>(exact(i, j) - bound);
        W const high = graft::store_as<W>(exact(i, j) + bound);
        if (!same_bits(low, high)) continue;
        ++decided;
        if (!same_bits(p.w.view()(i, j), low)) FAIL_CHECK(type_name<W>() << " at " << i << ", " << j);
      }
    CHECK(decided > s.m * s.n * 9 / 10);
  };
  check.template operator()<float16, bfloat16>();
  check.template operator()<float, float16>();
}

TEST_CASE("unmerge after merge is the weight before, up to rounding", "[adapters][lora][merge]") {
  tally t;
  for (shape const& s : odd_shapes())
    for_each_mix([&]<class X, class P, class Y>() {
      problem<X, P, Y> p(s, -third, 18);
      using sums = graft::accumulate_t<P, Y>;
      auto const before = grid(p.w.view());
      auto const bias_before = grid(p.base_bias.view());
      merge(graft::serial{}, p.biased(), p.w.view(), as_vector(p.base_bias.view()));
      auto const merged = magnitude(grid(p.w.view()));
      unmerge(graft::serial{}, p.biased(), p.w.view(), as_vector(p.base_bias.view()));
      // Each way errs by its bound for |W| + sum |s B A|, and rounds |W + s B A| or W to W's type.
      auto const bound = [&](double all) {
        return 2.0 * short_axis_bound<sums>(s.r, all) + unit_roundoff<Y>() * all * (1.0 + unit_roundoff<Y>()) +
               half_smallest<Y>();
      };
      t.add(beyond(p.w.view(), before, magnitude(before) + p.weight_magnitude() + merged, bound),
            [&] { return p.text(); });
      t.add(beyond(p.base_bias.view(), bias_before, magnitude(bias_before) + magnitude(grid(p.bias.view())), bound),
            [&] { return "bias, " + p.text(); });
    });
  CHECK(t.text() == "");
}

TEST_CASE("unmerge after merge is exact where nothing is rounded", "[adapters][lora][merge]") {
  // Integers: all sums lie below 2^24, so fp32 gives the weight back in bits.
  matrix<float> a(4, 50, layout::contiguous), b(60, 4, layout::contiguous), w(60, 50, layout::contiguous),
      before(60, 50);
  random_bits bits(1);
  for (auto* const m : {&a, &b, &w})
    for (index_t i = 0; i < m->view().extent(0); ++i)
      for (index_t j = 0; j < m->view().extent(1); ++j) m->view()(i, j) = static_cast<float>(bits.below(2001) - 1000);
  before.assign(w.view());
  auto const l = lora{a.view(), b.view(), 2.0, none};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    merge(ex, l, w.view());
    CHECK(differences(w.view(), before.view()) != "");
    unmerge(ex, l, w.view());
    CHECK(differences(w.view(), before.view()) == "");
  });
}

TEST_CASE("a weight stored [in, out] is merged through its transposed view", "[adapters][lora][merge]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    problem<bfloat16, float16, bfloat16> p({1, 40, 5, 66}, third, 19);
    std::vector<bfloat16> stored(40 * 66);
    auto const fan_in_fan_out = view(stored, 40, 66);
    graft::kernels::copy(ex, p.w.view(), transposed(fan_in_fan_out));
    merge(ex, p.lora(), p.w.view());
    merge(ex, p.lora(), transposed(fan_in_fan_out));
    for (index_t k = 0; k < 40; ++k)
      for (index_t o = 0; o < 66; ++o)
        if (!same_bits(fan_in_fan_out(k, o), p.w.view()(o, k))) FAIL_CHECK(k << ", " << o);
  });
}

TEST_CASE("an adapter without bias leaves the base layer's alone", "[adapters][lora][merge][bias]") {
  problem<float, float, float> p({1, 9, 2, 5}, third, 20);
  problem<float, float, float> expected({1, 9, 2, 5}, third, 20);
  merge(graft::serial{}, p.lora(), p.w.view(), as_vector(p.base_bias.view()));
  merge(graft::serial{}, expected.lora(), expected.w.view());
  CHECK(differences_of(p, expected) == "");
}

TEST_CASE("a packed adapter has the bits of the original", "[adapters][lora][pack]") {
  auto const check = [&]<class X, class P, class Y>() {
    for (shape const& s : odd_shapes())
      for_each_executor([&](std::string const& name, auto const& ex) {
        problem<X, P, Y> p(s, third, 21, 3);
        problem<X, P, Y> expected(s, third, 21, 3);
        INFO(name << ", " << p.text());
        CHECK(packed_size(p.lora()) == (s.m + 63) / 64 * 64 * s.r);
        std::vector<P> memory(static_cast<std::size_t>(packed_size(p.lora())) + 3, graft::store_as<P>(77.0F));
        auto const packed = pack(ex, p.biased(), std::span(memory));
        CHECK(packed.rank() == s.r);
        CHECK(packed.out_features() == s.m);
        add_delta(ex, packed, p.x.view(), p.y.view());
        add_delta(ex, expected.biased(), expected.x.view(), expected.y.view());
        CHECK(differences_of(p, expected) == "");
        for (std::size_t i = memory.size() - 3; i < memory.size(); ++i)
          CHECK(graft::load_as<float>(memory[i]) == 77.0F);
      });
  };
  check.template operator()<float, float, float>();
}

TEST_CASE("pack refuses memory that is too small", "[adapters][lora][pack]") {
  refuses<argument_error>("graft::pack: B[4, 2] needs 128 elements but the memory has 127",
                          [](arguments& q, graft::serial const& ex) {
                            static std::vector<float> memory(127, 5.0F);
                            try {
                              static_cast<void>(pack(ex, lora{q.A(), q.B(), 1.0, none}, std::span(memory)));
                            } catch (...) {
                              if (memory != std::vector<float>(127, 5.0F)) FAIL_CHECK("memory was written");
                              throw;
                            }
                          });
  refuses<argument_error>(
      "graft::pack: A[0, 6] has rank 0; the rank must be positive", [](arguments& q, graft::serial const& ex) {
        static_cast<void>(pack(ex, lora{view(q.a.data(), 0, 6), q.B(), 1.0, none}, std::span(q.more)));
      });
}

TEST_CASE("scratch queries are what is taken, and nothing else is", "[adapters][lora][scratch]") {
  // Each verb takes what it says beside its kernels; what those take is watched in the same calls without the verb.
  watched_resource watched;
  auto const bytes_of_call = [&](auto const& call) { return tests::taken_by(watched, call); };
  for (shape const& s : odd_shapes())
    for_each_executor(
        [&](std::string const& name, auto const& ex) {
          problem<bfloat16, float16, bfloat16> p(s, third, 22);
          problem<float, float, float> f(s, third, 22);
          problem<float, double, float16> q(s, third, 22);
          INFO(name << ", " << p.text());
          // A bias and a 16-bit y: one block of fp32 rows.
          matrix<float> y(s.T, s.m, layout::contiguous, 1);
          std::size_t const inner = bytes_of_call([&] {
            if (y.view().size() != 0)
              graft::kernels::low_rank_add(ex, p.x.view(), p.a.view(), p.b.view(), y.view(), third);
          });
          std::size_t const outer = bytes_of_call([&] { add_delta(ex, p.biased(), p.x.view(), p.y.view()); });
          std::size_t const asked = graft::add_delta_scratch_bytes(p.biased(), p.y.view());
          CHECK(asked == graft::detail::scratch_block::rounded(static_cast<std::size_t>(s.T * s.m) * sizeof(float)));
          if (y.view().size() != 0) CHECK(outer == asked + inner);
          else CHECK(asked == 0);
          // No bias, or an fp32 y: nothing.
          CHECK(graft::add_delta_scratch_bytes(p.lora(), p.y.view()) == 0);
          CHECK(graft::add_delta_scratch_bytes(f.biased(), f.y.view()) == 0);
          // backward: u and v.
          auto const check_backward = [&](auto& any, std::size_t query, auto scratch) {
            using S = decltype(scratch);
            matrix<S> memory(s.T, s.r);
            std::size_t const kernels = bytes_of_call([&] {
              backward(ex, any.biased(), any.x.view(), any.dy.view(), any.gradients(), any.dx.view(),
                       view(&memory.view()(0, 0), s.T, s.r));
            });
            std::size_t const all = bytes_of_call(
                [&] { backward(ex, any.biased(), any.x.view(), any.dy.view(), any.gradients(), any.dx.view()); });
            CHECK(query == graft::detail::scratch_block::rounded(static_cast<std::size_t>(s.T * s.r) * sizeof(S)));
            CHECK(all == query + kernels);
          };
          check_backward(p, graft::backward_scratch_bytes(p.biased(), p.x.view()), 0.0F);
          check_backward(q, graft::backward_scratch_bytes(q.biased(), q.x.view()), 0.0);
          // merge: none but the kernel's.
          std::size_t const chain =
              bytes_of_call([&] { graft::kernels::outer_add(ex, p.b.view(), p.a.view(), p.w.view(), third); });
          CHECK(bytes_of_call([&] { merge(ex, p.biased(), p.w.view(), as_vector(p.base_bias.view())); }) == chain);
          CHECK(bytes_of_call([&] { unmerge(ex, p.biased(), p.w.view(), as_vector(p.base_bias.view())); }) == chain);
          CHECK(bytes_of_call([&] { delta_weight(ex, p.biased(), p.w.view()); }) == chain);
        },
        &watched);
  // The types of other arguments count when they are named.
  problem<float, float, double> d({3, 4, 2, 5}, third, 1);
  CHECK(graft::backward_scratch_bytes(d.lora(), d.x.view()) == 64);
  CHECK(graft::backward_scratch_bytes(d.lora(), d.x.view(), d.dx.view(), none) == 64);
  problem<float, float, double> large({30, 4, 2, 5}, third, 1);
  CHECK(graft::backward_scratch_bytes(large.lora(), large.x.view()) == 256);
  CHECK(graft::backward_scratch_bytes(large.lora(), large.x.view(), large.dx.view(), none) == 512);
}

namespace {
constexpr index_t T = arguments::T, n = arguments::n, r = arguments::r, m = arguments::m;
float* const nothing = nullptr;
}  // namespace

TEST_CASE("add_delta refuses what does not fit", "[adapters][lora][contracts]") {
  using q_t = arguments;
  using ex_t = graft::serial;
  refuses<argument_error>(
      "graft::add_delta: A[0, 6] has rank 0; the rank must be positive", [](q_t& q, ex_t const& ex) {
        add_delta(ex, lora{view(q.a.data(), 0, n), view(q.b.data(), m, 0), 1.0, none}, q.X(), q.Y());
      });
  refuses<shape_error>(
      "graft::add_delta: extent 0 of A[2, 6] is 2 but extent 1 of B[2, 3] is 3; they must be equal",
      [](q_t& q, ex_t const& ex) { add_delta(ex, lora{q.A(), view(q.b.data(), 2, 3), 1.0, none}, q.X(), q.Y()); });
  refuses<shape_error>(
      "graft::add_delta: extent 0 of bias[3] is 3 but extent 0 of B[4, 2] is 4; they must be equal",
      [](q_t& q, ex_t const& ex) { add_delta(ex, lora{q.A(), q.B(), 1.0, view(q.bias.data(), 3)}, q.X(), q.Y()); });
  refuses<shape_error>(
      "graft::add_delta: extent 1 of x[3, 5] is 5 but extent 1 of A[2, 6] is 6; they must be equal",
      [](q_t& q, ex_t const& ex) { add_delta(ex, lora{q.A(), q.B(), 1.0, none}, view(q.x.data(), T, 5), q.Y()); });
  refuses<shape_error>(
      "graft::add_delta: extent 0 of y[2, 4] is 2 but extent 0 of x[3, 6] is 3; they must be equal",
      [](q_t& q, ex_t const& ex) { add_delta(ex, lora{q.A(), q.B(), 1.0, none}, q.X(), view(q.y.data(), 2, m)); });
  refuses<shape_error>("graft::add_delta: extent 1 of y[3, 3] is 3 but extent 0 of B[4, 2] is 4; they must be equal",
                       [](q_t& q, ex_t const& ex) {
                         add_delta(ex, lora{q.A(), q.B(), 1.0, view(q.bias)}, q.X(), view(q.y.data(), T, 3));
                       });
  refuses<argument_error>("graft::add_delta: A[2, 6] has elements but its pointer is null", [](q_t& q, ex_t const& ex) {
    add_delta(ex, lora{view(nothing, r, n), q.B(), 1.0, none}, q.X(), q.Y());
  });
  refuses<argument_error>("graft::add_delta: B[4, 2] has elements but its pointer is null", [](q_t& q, ex_t const& ex) {
    add_delta(ex, lora{q.A(), view(nothing, m, r), 1.0, none}, q.X(), q.Y());
  });
  refuses<argument_error>("graft::add_delta: bias[4] has elements but its pointer is null", [](q_t& q, ex_t const& ex) {
    add_delta(ex, lora{q.A(), q.B(), 1.0, view(nothing, m)}, q.X(), q.Y());
  });
  refuses<argument_error>("graft::add_delta: x[3, 6] has elements but its pointer is null", [](q_t& q, ex_t const& ex) {
    add_delta(ex, lora{q.A(), q.B(), 1.0, none}, view(nothing, T, n), q.Y());
  });
  refuses<argument_error>("graft::add_delta: y[3, 4] has elements but its pointer is null", [](q_t& q, ex_t const& ex) {
    add_delta(ex, lora{q.A(), q.B(), 1.0, none}, q.X(), view(nothing, T, m));
  });
  refuses<argument_error>(
      "graft::add_delta: y[3, 4] is written but shares memory with x[3, 6]",
      [](q_t& q, ex_t const& ex) { add_delta(ex, lora{q.A(), q.B(), 1.0, none}, q.X(), view(q.x.data() + 1, T, m)); });
  refuses<argument_error>(
      "graft::add_delta: y[3, 4] is written but shares memory with A[2, 6]",
      [](q_t& q, ex_t const& ex) { add_delta(ex, lora{q.A(), q.B(), 1.0, none}, q.X(), view(q.a.data(), T, m)); });
  refuses<argument_error>(
      "graft::add_delta: y[3, 4] is written but shares memory with B[4, 2]",
      [](q_t& q, ex_t const& ex) { add_delta(ex, lora{q.A(), view(q.y.data() + 4, m, r), 1.0, none}, q.X(), q.Y()); });
  refuses<argument_error>(
      "graft::add_delta: y[3, 4] is written but shares memory with bias[4]",
      [](q_t& q, ex_t const& ex) { add_delta(ex, lora{q.A(), q.B(), 1.0, view(q.y.data() + 8, m)}, q.X(), q.Y()); });
  refuses<argument_error>("graft::add_delta: y[3, 4] is written but stride 0 of extent 0 makes elements share memory",
                          [](q_t& q, ex_t const& ex) {
                            add_delta(ex, lora{q.A(), q.B(), 1.0, none}, q.X(),
                                      view(q.y.data(), graft::dynamic_extents<2>{T, m}, {0, 1}));
                          });
}

TEST_CASE("add_delta with dropout refuses what does not fit", "[adapters][lora][contracts][dropout]") {
  using q_t = arguments;
  using ex_t = graft::serial;
  refuses<shape_error>(
      "graft::add_delta: extent 0 of x_dropped[2, 6] is 2 but extent 0 of x[3, 6] is 3; they must be equal",
      [](q_t& q, ex_t const& ex) {
        add_delta(ex, lora{q.A(), q.B(), 1.0, none}, dropout{}, q.X(), q.Y(), view(q.more.data(), 2, n));
      });
  refuses<shape_error>(
      "graft::add_delta: extent 1 of x_dropped[3, 5] is 5 but extent 1 of x[3, 6] is 6; they must be equal",
      [](q_t& q, ex_t const& ex) {
        add_delta(ex, lora{q.A(), q.B(), 1.0, none}, dropout{}, q.X(), q.Y(), view(q.more.data(), T, 5));
      });
  refuses<argument_error>(
      "graft::add_delta: x_dropped[3, 6] is written but shares memory with x[3, 6]",
      [](q_t& q, ex_t const& ex) { add_delta(ex, lora{q.A(), q.B(), 1.0, none}, dropout{}, q.X(), q.Y(), q.X()); });
  refuses<argument_error>(
      "graft::add_delta: x_dropped[3, 6] is written but shares memory with A[2, 6]", [](q_t& q, ex_t const& ex) {
        add_delta(ex, lora{view(q.more.data(), r, n), q.B(), 1.0, none}, dropout{}, q.X(), q.Y(), q.More());
      });
  refuses<argument_error>(
      "graft::add_delta: x_dropped[3, 6] is written but shares memory with y[3, 4]", [](q_t& q, ex_t const& ex) {
        add_delta(ex, lora{q.A(), q.B(), 1.0, none}, dropout{}, q.X(), view(q.more.data() + 6, T, m), q.More());
      });
  refuses<argument_error>(
      "graft::kernels::drop: the probability is 1 but must lie in [0, 1)", [](q_t& q, ex_t const& ex) {
        add_delta(ex, lora{q.A(), q.B(), 1.0, none}, dropout{.probability = 1.0}, q.X(), q.Y(), q.More());
      });
}

TEST_CASE("backward refuses what does not fit", "[adapters][lora][contracts]") {
  using q_t = arguments;
  using ex_t = graft::serial;
  auto const shape_case = [](std::string const& sentence, void (*call)(q_t&, ex_t const&)) {
    refuses<shape_error>("graft::backward: " + sentence, call);
  };
  auto const argument_case = [](std::string const& sentence, void (*call)(q_t&, ex_t const&)) {
    refuses<argument_error>("graft::backward: " + sentence, call);
  };
  // All gradients are wanted; one argument after the other is wrong.
  static auto const adapter = [](q_t& q) { return lora{q.A(), q.B(), 1.0, view(q.bias)}; };
  static auto const wanted = [](q_t& q) { return lora_gradients{q.GA(), q.GB(), view(q.gbias)}; };
  shape_case("extent 1 of x[3, 5] is 5 but extent 1 of A[2, 6] is 6; they must be equal", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), view(q.x.data(), T, 5), q.DY(), wanted(q), q.DX());
  });
  shape_case("extent 0 of dy[2, 4] is 2 but extent 0 of x[3, 6] is 3; they must be equal", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), q.X(), view(q.dy.data(), 2, m), wanted(q), q.DX());
  });
  shape_case("extent 1 of dy[3, 3] is 3 but extent 0 of B[4, 2] is 4; they must be equal", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), q.X(), view(q.dy.data(), T, 3), wanted(q), q.DX());
  });
  shape_case("extent 0 of the gradient of A[1, 6] is 1 but extent 0 of A[2, 6] is 2; they must be equal",
             [](q_t& q, ex_t const& ex) {
               backward(ex, adapter(q), q.X(), q.DY(), lora_gradients{view(q.ga.data(), 1, n), q.GB(), view(q.gbias)},
                        q.DX());
             });
  shape_case("extent 1 of the gradient of B[4, 1] is 1 but extent 1 of B[4, 2] is 2; they must be equal",
             [](q_t& q, ex_t const& ex) {
               backward(ex, adapter(q), q.X(), q.DY(), lora_gradients{q.GA(), view(q.gb.data(), m, 1), view(q.gbias)},
                        q.DX());
             });
  shape_case("extent 0 of the gradient of the bias[3] is 3 but extent 0 of B[4, 2] is 4; they must be equal",
             [](q_t& q, ex_t const& ex) {
               backward(ex, adapter(q), q.X(), q.DY(), lora_gradients{q.GA(), q.GB(), view(q.gbias.data(), 3)}, q.DX());
             });
  shape_case("extent 0 of dx[2, 6] is 2 but extent 0 of dy[3, 4] is 3; they must be equal", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), q.X(), q.DY(), wanted(q), view(q.dx.data(), 2, n));
  });
  shape_case("extent 1 of dx[3, 5] is 5 but extent 1 of A[2, 6] is 6; they must be equal", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), q.X(), q.DY(), wanted(q), view(q.dx.data(), T, 5));
  });
  shape_case("extent 1 of scratch[3, 3] is 3 but extent 0 of A[2, 6] is 2; they must be equal",
             [](q_t& q, ex_t const& ex) {
               backward(ex, adapter(q), q.X(), q.DY(), wanted(q), q.DX(), view(q.more.data(), T, 3));
             });
  argument_case("A[0, 6] has rank 0; the rank must be positive", [](q_t& q, ex_t const& ex) {
    backward(ex, lora{view(q.a.data(), 0, n), view(q.b.data(), m, 0), 1.0, view(q.bias)}, q.X(), q.DY(), wanted(q),
             q.DX());
  });
  argument_case("x[3, 6] has elements but its pointer is null", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), view(nothing, T, n), q.DY(), wanted(q), q.DX());
  });
  argument_case("dy[3, 4] has elements but its pointer is null", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), q.X(), view(nothing, T, m), wanted(q), q.DX());
  });
  argument_case("the gradient of A[2, 6] has elements but its pointer is null", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), q.X(), q.DY(), lora_gradients{view(nothing, r, n), q.GB(), view(q.gbias)}, q.DX());
  });
  argument_case("the gradient of A[2, 6] is written but shares memory with A[2, 6]", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), q.X(), q.DY(), lora_gradients{q.A(), q.GB(), view(q.gbias)}, q.DX());
  });
  argument_case("the gradient of B[4, 2] is written but shares memory with dy[3, 4]", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), q.X(), q.DY(), lora_gradients{q.GA(), view(q.dy.data() + 2, m, r), view(q.gbias)}, q.DX());
  });
  argument_case(
      "the gradient of B[4, 2] is written but shares memory with another output[2, 6]", [](q_t& q, ex_t const& ex) {
        backward(ex, adapter(q), q.X(), q.DY(), lora_gradients{q.GA(), view(q.ga.data(), m, r), view(q.gbias)}, q.DX());
      });
  argument_case("the gradient of the bias[4] is written but shares memory with bias[4]", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), q.X(), q.DY(), lora_gradients{q.GA(), q.GB(), view(q.bias)}, q.DX());
  });
  argument_case(
      "the gradient of the bias[4] is written but shares memory with another output[4, 2]", [](q_t& q, ex_t const& ex) {
        backward(ex, adapter(q), q.X(), q.DY(), lora_gradients{q.GA(), q.GB(), view(q.gb.data() + 4, m)}, q.DX());
      });
  argument_case("dx[3, 6] is written but shares memory with x[3, 6]",
                [](q_t& q, ex_t const& ex) { backward(ex, adapter(q), q.X(), q.DY(), wanted(q), q.X()); });
  argument_case("dx[3, 6] is written but shares memory with another output[2, 6]", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), q.X(), q.DY(), lora_gradients{view(q.dx.data(), r, n), q.GB(), view(q.gbias)}, q.DX());
  });
  argument_case("scratch[3, 2] is written but shares memory with dy[3, 4]", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), q.X(), q.DY(), wanted(q), q.DX(), view(q.dy.data() + 6, T, r));
  });
  argument_case("scratch[3, 2] is written but shares memory with another output[3, 6]", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), q.X(), q.DY(), wanted(q), q.DX(), view(q.dx.data(), T, r));
  });
  argument_case("the probability of the dropout is 1 but must lie in [0, 1)", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), dropout{.probability = 1.0}, q.X(), q.DY(), wanted(q), q.DX(), q.More());
  });
  argument_case("the probability of the dropout is nan but must lie in [0, 1)", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), dropout{.probability = std::numeric_limits<double>::quiet_NaN()}, q.X(), q.DY(), wanted(q),
             q.DX(), q.More());
  });
  shape_case("extent 1 of dx_dropped[3, 5] is 5 but extent 1 of A[2, 6] is 6; they must be equal",
             [](q_t& q, ex_t const& ex) {
               backward(ex, adapter(q), dropout{}, q.X(), q.DY(), wanted(q), q.DX(), view(q.more.data(), T, 5));
             });
  shape_case("extent 1 of x_dropped[3, 5] is 5 but extent 1 of A[2, 6] is 6; they must be equal",
             [](q_t& q, ex_t const& ex) {
               backward(ex, adapter(q), dropout{}, view(q.x.data(), T, 5), q.DY(), wanted(q), q.DX(), q.More());
             });
  argument_case("dx_dropped[3, 6] is written but shares memory with dx[3, 6]", [](q_t& q, ex_t const& ex) {
    backward(ex, adapter(q), dropout{}, q.X(), q.DY(), wanted(q), q.DX(), q.DX());
  });
}

TEST_CASE("merge, unmerge and delta_weight refuse what does not fit", "[adapters][lora][contracts][merge]") {
  using q_t = arguments;
  using ex_t = graft::serial;
  refuses<shape_error>(
      "graft::merge: extent 0 of W[3, 6] is 3 but extent 0 of B[4, 2] is 4; they must be equal",
      [](q_t& q, ex_t const& ex) { merge(ex, lora{q.A(), q.B(), 1.0, none}, view(q.w.data(), 3, n)); });
  refuses<shape_error>(
      "graft::unmerge: extent 1 of W[4, 5] is 5 but extent 1 of A[2, 6] is 6; they must be equal",
      [](q_t& q, ex_t const& ex) { unmerge(ex, lora{q.A(), q.B(), 1.0, none}, view(q.w.data(), m, 5)); });
  refuses<shape_error>(
      "graft::delta_weight: extent 0 of D[6, 4] is 6 but extent 0 of B[4, 2] is 4; they must be equal",
      [](q_t& q, ex_t const& ex) { delta_weight(ex, lora{q.A(), q.B(), 1.0, none}, view(q.w.data(), n, m)); });
  refuses<shape_error>("graft::merge: extent 0 of base_bias[3] is 3 but extent 0 of B[4, 2] is 4; they must be equal",
                       [](q_t& q, ex_t const& ex) {
                         merge(ex, lora{q.A(), q.B(), 1.0, view(q.bias)}, q.W(), view(q.base_bias.data(), 3));
                       });
  refuses<argument_error>("graft::unmerge: A[0, 6] has rank 0; the rank must be positive", [](q_t& q, ex_t const& ex) {
    unmerge(ex, lora{view(q.a.data(), 0, n), q.B(), 1.0, none}, q.W());
  });
  refuses<argument_error>("graft::merge: W[4, 6] has elements but its pointer is null", [](q_t& q, ex_t const& ex) {
    merge(ex, lora{q.A(), q.B(), 1.0, none}, view(nothing, m, n));
  });
  refuses<argument_error>(
      "graft::merge: W[4, 6] is written but shares memory with A[2, 6]",
      [](q_t& q, ex_t const& ex) { merge(ex, lora{view(q.w.data(), r, n), q.B(), 1.0, none}, q.W()); });
  refuses<argument_error>(
      "graft::delta_weight: D[4, 6] is written but shares memory with B[4, 2]",
      [](q_t& q, ex_t const& ex) { delta_weight(ex, lora{q.A(), view(q.w.data() + 16, m, r), 1.0, none}, q.W()); });
  refuses<argument_error>("graft::merge: W[4, 6] is written but shares memory with bias[4]",
                          [](q_t& q, ex_t const& ex) {
                            merge(ex, lora{q.A(), q.B(), 1.0, view(q.w.data() + 3, m)}, q.W(), view(q.base_bias));
                          });
  refuses<argument_error>(
      "graft::merge: base_bias[4] is written but shares memory with bias[4]",
      [](q_t& q, ex_t const& ex) { merge(ex, lora{q.A(), q.B(), 1.0, view(q.bias)}, q.W(), view(q.bias)); });
  refuses<argument_error>("graft::merge: base_bias[4] is written but shares memory with W[4, 6]",
                          [](q_t& q, ex_t const& ex) {
                            merge(ex, lora{q.A(), q.B(), 1.0, view(q.bias)}, q.W(), view(q.w.data() + 20, m));
                          });
}
