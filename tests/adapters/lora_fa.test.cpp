#include <graft/adapters/lora_fa.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "adapters/problem.hpp"

using graft::add_delta;
using graft::argument_error;
using graft::as_lora;
using graft::backward;
using graft::bfloat16;
using graft::index_t;
using graft::lora_fa;
using graft::lora_gradients;
using graft::none;
using graft::project_gradient;
using graft::shape_error;
using graft::view;
using namespace tests;

namespace {

constexpr double third = 0x1.555556p-2;

template <class Problem>
auto frozen(Problem& p) {
  return lora_fa{p.a.view(), p.b.view(), p.scale};
}

}  // namespace

TEST_CASE("LoRA-FA, checked by hand", "[adapters][lora_fa]") {
  // x A^T = [[7, -1], [2, -2]], v half of it; dB += dy^T v = [[5.5, -2.5], [-1, 1]]; dx += (dy B / 2) A.
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> x{1, 2, 3, 0, -1, 1}, y{1, 1, 1, 1}, v(4, NAN), dy{1, 0, 2, -1};
    std::vector<float> const a{1, 0, 2, 0, 1, -1}, b{1, 2, 3, -1};
    auto const l = lora_fa{view(a, 2, 3), view(b, 2, 2), 0.5};
    CHECK(l.rank() == 2);
    CHECK(l.in_features() == 3);
    CHECK(l.out_features() == 2);
    add_delta(ex, l, view(x, 2, 3), view(y, 2, 2), view(v, 2, 2));
    CHECK(y == std::vector<float>{3.5F, 12, 0, 5});
    CHECK(v == std::vector<float>{3.5F, -0.5F, 1, -1});
    x.assign(6, NAN);  // v is all that is kept
    std::vector<float> gb{4, 4, 4, 4}, dx{0, 0, 0, 2, 2, 2};
    backward(ex, l, view(v, 2, 2), view(dy, 2, 2), lora_gradients{.B = view(gb, 2, 2)}, view(dx, 2, 3));
    CHECK(gb == std::vector<float>{9.5F, 1.5F, 3, 5});
    CHECK(dx == std::vector<float>{0.5F, 1, 0, 1.5F, 4.5F, -1.5F});
  });
}

TEST_CASE("lora_fa has the bits of lora: forward, gradients, merges", "[adapters][lora_fa][parity]") {
  tally t;
  std::uint64_t seed = 300;
  auto const check = [&]<class X, class P, class Y>() {
    for (shape const& s : odd_shapes()) {
      ++seed;
      using sums = typename problem<X, P, Y>::sums;
      problem<X, P, Y> expected(s, third, seed);
      add_delta(graft::reference{}, expected.lora(), expected.x.view(), expected.y.view());
      backward(graft::reference{}, expected.lora(), expected.x.view(), expected.dy.view(),
               lora_gradients{.B = expected.gb.view()}, expected.dx.view());
      merge(graft::reference{}, expected.lora(), expected.w.view());
      same_everywhere(t, expected, seed, [](auto const& ex, auto& p) {
        matrix<sums> v(p.s.T, p.s.r, layout::padded);
        add_delta(ex, frozen(p), p.x.view(), p.y.view(), v.view());
        backward(ex, frozen(p), v.view(), p.dy.view(), lora_gradients{.B = p.gb.view()}, p.dx.view());
        merge(ex, frozen(p), p.w.view());
        if (!v.outside().empty()) FAIL_CHECK(v.outside());
      });
      // Without v, with scratch of the caller, and one gradient at a time.
      problem<X, P, Y> p(s, third, seed);
      matrix<sums> v(s.T, s.r), scratch(s.T, s.r);
      add_delta(graft::serial{}, frozen(p), p.x.view(), p.y.view());
      graft::kernels::shrink(graft::serial{}, p.x.view(), p.a.view(), v.view(), third);
      backward(graft::serial{}, frozen(p), v.view(), p.dy.view(), lora_gradients{.B = p.gb.view()}, none);
      backward(graft::serial{}, frozen(p), v.view(), p.dy.view(), lora_gradients{}, p.dx.view(), scratch.view());
      merge(graft::serial{}, frozen(p), p.w.view());
      t.add(differences_of(p, expected), [&] { return "in parts, " + p.text(); });
      // unmerge and delta_weight.
      unmerge(graft::serial{}, frozen(p), p.w.view());
      unmerge(graft::serial{}, expected.lora(), expected.w.view());
      t.add(differences_of(p, expected), [&] { return "unmerge, " + p.text(); });
      delta_weight(graft::serial{}, frozen(p), p.w.view());
      delta_weight(graft::serial{}, expected.lora(), expected.w.view());
      t.add(differences_of(p, expected), [&] { return "delta_weight, " + p.text(); });
    }
  };
  check.operator()<float, float, float>();
  check.operator()<float, double, bfloat16>();
  CHECK(t.text() == "");
}

TEST_CASE("a v of 16 bits is rounded once, before it is used in forward and backward", "[adapters][lora_fa]") {
  shape const s{9, 40, 5, 33};
  problem<float, float, float> expected(s, third, 1);
  matrix<float> v(s.T, s.r);
  graft::kernels::shrink(graft::reference{}, expected.x.view(), expected.a.view(), v.view(), third);
  auto const rounded = copy_of<bfloat16>(v.view());
  auto wide = copy_of<float>(rounded.view());
  CHECK(differences(wide.view(), v.view()) != "");
  graft::kernels::expand_add(graft::reference{}, wide.view(), expected.b.view(), expected.y.view());
  graft::kernels::expand_add(graft::reference{}, transposed(expected.dy.view()), transposed(wide.view()),
                             expected.gb.view());
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    problem<float, float, float> p(s, third, 1, 3);
    matrix<bfloat16> kept(s.T, s.r, layout::transposed);
    add_delta(ex, frozen(p), p.x.view(), p.y.view(), kept.view());
    backward(ex, frozen(p), kept.view(), p.dy.view(), lora_gradients{.B = p.gb.view()}, none);
    CHECK(differences(graft::as_const(kept.view()), rounded.view()) == "");
    CHECK(differences_of(p, expected) == "");
  });
}

TEST_CASE("tokens do not depend on their batch, and gradients sum in token order", "[adapters][lora_fa][parity]") {
  constexpr index_t T = 513;
  problem<float, float, float> whole({T, 20, 3, 33}, third, 2);
  matrix<float> v_whole(T, 3);
  add_delta(graft::openmp{2}, frozen(whole), whole.x.view(), whole.y.view(), v_whole.view());
  backward(graft::openmp{2}, frozen(whole), rows(v_whole.view(), 0, 512), rows(whole.dy.view(), 0, 512),
           lora_gradients{.B = whole.gb.view()}, rows(whole.dx.view(), 0, 512));
  for (index_t const batch : {1, 2, 7, 64, 513}) {
    INFO("batches of " << batch);
    problem<float, float, float> p({T, 20, 3, 33}, third, 2);
    matrix<float> v(T, 3);
    for (index_t first = 0; first < T; first += batch) {
      index_t const count = std::min(batch, T - first);
      add_delta(graft::serial{}, frozen(p), rows(p.x.view(), first, count), rows(p.y.view(), first, count),
                rows(v.view(), first, count));
    }
    CHECK(differences(v.view(), v_whole.view()) == "");
    for (index_t first = 0; first < 512; first += batch) {
      index_t const count = std::min(batch, 512 - first);
      backward(graft::serial{}, frozen(p), rows(v.view(), first, count), rows(p.dy.view(), first, count),
               lora_gradients{.B = p.gb.view()}, rows(p.dx.view(), first, count));
    }
    CHECK(differences_of(p, whole) == "");
  }
}

TEST_CASE("output_rows cuts B and shares A", "[adapters][lora_fa]") {
  problem<float, float, float> whole({5, 40, 6, 70}, third, 3);
  problem<float, float, float> cut({5, 40, 6, 70}, third, 3);
  add_delta(graft::serial{}, frozen(whole), whole.x.view(), whole.y.view());
  for (auto const& [first, count] : {std::pair<index_t, index_t>{0, 1}, {1, 64}, {65, 5}}) {
    auto const part = output_rows(frozen(cut), first, count);
    CHECK(part.A.data_handle() == cut.a.view().data_handle());
    add_delta(graft::serial{}, part, cut.x.view(), columns(cut.y.view(), first, count));
  }
  CHECK(differences_of(cut, whole) == "");
}

TEST_CASE("the gradient of B is that of central differences", "[adapters][lora_fa]") {
  shape const s{3, 5, 2, 4};
  problem<double, double, double> p(s, third, 4);
  auto const output = [&] {
    auto y = copy_of<double>(p.y.view());
    add_delta(graft::reference{}, p.lora(), p.x.view(), y.view());
    return grid(y.view());
  };
  auto const loss = [&] { return 0.5 * output().sum_of_squares(); };  // quadratic in each number: only rounding errs
  matrix<double> dy(s.T, s.m), v(s.T, s.r), gb(s.m, s.r), dx(s.T, s.n);
  auto const at = output();
  for (index_t i = 0; i < s.T; ++i)
    for (index_t j = 0; j < s.m; ++j) dy.view()(i, j) = at(i, j);
  gb.fill(0, 0.0);
  dx.fill(0, 0.0);
  auto ignored = copy_of<double>(p.y.view());
  add_delta(graft::reference{}, frozen(p), p.x.view(), ignored.view(), v.view());
  backward(graft::reference{}, frozen(p), v.view(), dy.view(), lora_gradients{.B = gb.view()}, dx.view());
  constexpr double step = 0.125;
  double const most = 1.0 + third * 5.0 * 2.0 * (1.0 + step) * (1.0 + step);  // of |y|
  double const bound =
      2.0 * (20.0 + 5.0 / 16.0 + 2.0 + 4.0 + 12.0) * unit_roundoff<double>() * 0.5 * most * most * 12.0 / step;
  auto const compare = [&](auto const& numbers, auto const& gradient) {
    for (index_t i = 0; i < numbers.extent(0); ++i)
      for (index_t j = 0; j < numbers.extent(1); ++j) {
        double const before = numbers(i, j);
        numbers(i, j) = before + step;
        double const above = loss();
        numbers(i, j) = before - step;
        double const below = loss();
        numbers(i, j) = before;
        CHECK(std::abs((above - below) / (2.0 * step) - gradient(i, j)) <= bound);
      }
  };
  compare(p.b.view(), gb.view());
  compare(p.x.view(), dx.view());
}

TEST_CASE("the projected gradient of a 2 x 2 case by hand", "[adapters][lora_fa][project]") {
  // A A^T = [[1, 1], [1, 2]]; with d = 1e-8 its inverse is [[2 + d, -1], [-1, 1 + d]] / (1 + 3 d + d^2).  1 / s^2 = 4.
  std::vector<double> const a{1, 0, 1, 1}, b(6), g{1, 0, 0, 1, 3, -2};
  constexpr double d = 1e-8;
  constexpr double determinant = 1.0 + 3.0 * d + d * d;
  std::vector<double> const expected{4 * (2 + d) / determinant,
                                     -4 / determinant,
                                     -4 / determinant,
                                     4 * (1 + d) / determinant,
                                     4 * (3 * (2 + d) + 2) / determinant,
                                     4 * (-3 - 2 * (1 + d)) / determinant};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<double> p(6, NAN);
    project_gradient(ex, lora_fa{view(a, 2, 2), view(b, 3, 2), 0.5}, view(g, 3, 2), view(p, 3, 2));
    // |error| <= c r eps64 cond |P|; the condition is ((3 + sqrt 5) / 2)^2 < 6.9, and c = 8 counts every rounding.
    for (std::size_t i = 0; i < 6; ++i)
      CHECK(std::abs(p[i] - expected[i]) <= 8 * 2 * unit_roundoff<double>() * 6.9 * 36.0);
    std::vector<float> single(6, NAN);
    project_gradient(ex, lora_fa{view(a, 2, 2), view(b, 3, 2), 0.5}, view(g, 3, 2), view(single, 3, 2));
    for (std::size_t i = 0; i < 6; ++i) CHECK(single[i] == static_cast<float>(p[i]));
  });
}

TEST_CASE("the projected gradient solves (A A^T + 1e-8 I) P^T s^2 = gB^T, for ranks above n too",
          "[adapters][lora_fa][project]") {
  double const s = -0.75;
  for (auto const& [r, n, m] : {std::array<index_t, 3>{1, 1, 1},
                                {1, 9, 4},
                                {3, 40, 5},
                                {16, 33, 65},
                                {64, 200, 3},
                                {5, 2, 7},
                                {17, 16, 4},
                                {4, 0, 3},
                                {4, 9, 0}}) {
    matrix<float> a(r, n, layout::contiguous, 1), b(m, r, layout::contiguous, 2), g(m, r, layout::contiguous, 3);
    matrix<double> p(m, r);
    project_gradient(graft::serial{}, lora_fa{a.view(), b.view(), s}, g.view(), p.view());
    grid const wide_a(a.view());
    grid gram = wide_a * flipped(wide_a);
    grid const gram_all = magnitude(wide_a) * flipped(magnitude(wide_a));
    for (index_t i = 0; i < r; ++i) gram(i, i) += 1e-8;
    grid const wide_p(p.view());
    grid const product = s * s * (gram * flipped(wide_p));
    // Column c of the inverse Z solves a system that is off by r gamma_{3 r + 1} |M| (Cholesky's backward error), and M is
    // off by the sums over n, here and there. |Z| is at most sqrt(r) over M's smallest eigenvalue: take Z itself.
    std::vector<double> work(static_cast<std::size_t>(r * r)), z(work.size());
    for (index_t i = 0; i < r; ++i)
      for (index_t j = 0; j < r; ++j) work[static_cast<std::size_t>(i * r + j)] = gram(i, j);
    REQUIRE(graft::detail::invert_positive_definite(work.data(), z.data(), r, 0.0));
    double const z_norm = std::sqrt(grid(view(z, r, r)).sum_of_squares());
    double const m_norm = std::sqrt(gram_all.sum_of_squares()) + 1e-8;
    auto const rank = static_cast<double>(r);
    double const each = (rank * (3.0 * rank + 1.0) +
                         2.0 * (static_cast<double>(n) / 16.0 + 20.0 + static_cast<double>(n)) + 2.0 * rank + 40.0) *
                        unit_roundoff<double>();
    double worst = 0.0;
    double bound = 0.0;
    for (index_t o = 0; o < m; ++o) {
      double gradient = 0.0;
      for (index_t c = 0; c < r; ++c) gradient += std::abs(static_cast<double>(g.view()(o, c)));
      bound = std::max(bound, each * m_norm * z_norm * gradient);
      for (index_t c = 0; c < r; ++c)
        worst = std::max(worst, std::abs(product(c, o) - static_cast<double>(g.view()(o, c))));
    }
    INFO("r = " << r << ", n = " << n << ", m = " << m << ": " << worst << " of " << bound);
    CHECK(worst <= bound);
    if (r <= n && m > 0) CHECK(bound < 1e-6);  // the gradient is around 1
    // Every executor, and any memory, has these bits; a 16-bit result is rounded once.
    for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name);
      matrix<float> a2(r, n, layout::transposed_padded, 1), g2(m, r, layout::reversed_rows, 3);
      matrix<double> p2(m, r, layout::column_range);
      project_gradient(ex, lora_fa{a2.view(), b.view(), s}, g2.view(), p2.view());
      CHECK(differences(p2.view(), p.view()) == "");
      CHECK(p2.outside() == "");
    });
    matrix<bfloat16> rounded(m, r);
    project_gradient(graft::serial{}, lora_fa{a.view(), b.view(), s}, g.view(), rounded.view());
    CHECK(differences(rounded.view(), copy_of<bfloat16>(p.view()).view()) == "");
  }
}

TEST_CASE("project_gradient refuses an A that is not finite, or dependent rows that drown 1e-8, and writes nothing",
          "[adapters][lora_fa][project][contracts]") {
  auto const check = [](std::string const& what, auto const& spoil) {
    for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name << ", " << what);
      arguments q;
      spoil(q.a);
      arguments const before = q;
      bool const finite = std::isfinite(q.a[0] + q.a[5] + q.a[6] + q.a[11]);
      CHECK_THROWS_MATCHES(project_gradient(ex, lora_fa{q.A(), q.B(), 1.0}, view(q.more.data(), 4, 2), q.GB()),
                           argument_error,
                           Catch::Matchers::Message(
                               "graft::project_gradient: A A^T + 1e-8 I of A[2, 6] is not positive definite: A holds a "
                               "NaN, an infinity, "
                               "numbers too large to square, or dependent rows beside whose squares 1e-8 is nothing"));
      CHECK(q.gb == before.gb);
      if (finite) CHECK(q == before);
    });
  };
  for (float const value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()})
    for (std::size_t const at : {0U, 5U, 6U, 11U})
      check(std::to_string(value) + " at " + std::to_string(at), [&](std::vector<float>& a) { a[at] = value; });
  check("equal rows of 2^15", [](std::vector<float>& a) { a.assign(12, 0x1p15F); });
  arguments q;  // where 1e-8 counts, equal rows are legal
  q.a.assign(12, 1.0F);
  project_gradient(graft::serial{}, lora_fa{q.A(), q.B(), 1.0}, view(q.more.data(), 4, 2), q.GB());
  CHECK(std::isfinite(q.gb[0]));
}

TEST_CASE("project_gradient refuses what does not fit", "[adapters][lora_fa][project][contracts]") {
  using q_t = arguments;
  using ex_t = graft::serial;
  refuses<shape_error>(
      "graft::project_gradient: extent 0 of the gradient of B[3, 2] is 3 but extent 0 of B[4, 2] is 4; they must be "
      "equal",
      [](q_t& q, ex_t const& ex) {
        project_gradient(ex, lora_fa{q.A(), q.B(), 1.0}, view(q.more.data(), 3, 2), q.GB());
      });
  refuses<shape_error>(
      "graft::project_gradient: extent 1 of the result[4, 1] is 1 but extent 1 of B[4, 2] is 2; they must be equal",
      [](q_t& q, ex_t const& ex) {
        project_gradient(ex, lora_fa{q.A(), q.B(), 1.0}, view(q.more.data(), 4, 2), view(q.gb.data(), 4, 1));
      });
  refuses<argument_error>(
      "graft::project_gradient: A[0, 6] has rank 0; the rank must be positive", [](q_t& q, ex_t const& ex) {
        project_gradient(ex, lora_fa{view(q.a.data(), 0, 6), q.B(), 1.0}, view(q.more.data(), 4, 2), q.GB());
      });
  refuses<argument_error>("graft::project_gradient: the gradient of B[4, 2] has elements but its pointer is null",
                          [](q_t& q, ex_t const& ex) {
                            project_gradient(ex, lora_fa{q.A(), q.B(), 1.0}, view(static_cast<float*>(nullptr), 4, 2),
                                             q.GB());
                          });
  refuses<argument_error>(
      "graft::project_gradient: the result[4, 2] is written but shares memory with the gradient of B[4, 2]",
      [](q_t& q, ex_t const& ex) { project_gradient(ex, lora_fa{q.A(), q.B(), 1.0}, q.GB(), q.GB()); });
  refuses<argument_error>("graft::project_gradient: the result[4, 2] is written but shares memory with A[2, 6]",
                          [](q_t& q, ex_t const& ex) {
                            project_gradient(ex, lora_fa{q.A(), q.B(), 1.0}, q.GB(), view(q.a.data() + 4, 4, 2));
                          });
  refuses<argument_error>(
      "graft::project_gradient: the result[4, 2] is written but shares memory with B[4, 2]",
      [](q_t& q, ex_t const& ex) { project_gradient(ex, lora_fa{q.A(), q.B(), 1.0}, q.GB(), q.B()); });
  static double scale = 0.0;
  for (auto const& [value, said] : {std::pair<double, char const*>{0.0, "0"},
                                    {-0.0, "-0"},
                                    {1e-200, "1e-200"},
                                    {HUGE_VAL, "inf"},
                                    {std::nan(""), "nan"}}) {
    scale = value;
    refuses<argument_error>(std::string("graft::project_gradient: the scale is ") + said +
                                " but must be finite and not 0, since its square divides",
                            [](q_t& q, ex_t const& ex) {
                              project_gradient(ex, lora_fa{q.A(), q.B(), scale}, view(q.more.data(), 4, 2), q.GB());
                            });
  }
}

TEST_CASE("add_delta and backward of lora_fa refuse what does not fit", "[adapters][lora_fa][contracts]") {
  using q_t = arguments;
  using ex_t = graft::serial;
  refuses<shape_error>(
      "graft::add_delta: extent 0 of v[2, 2] is 2 but extent 0 of x[3, 6] is 3; they must be equal",
      [](q_t& q, ex_t const& ex) { add_delta(ex, lora_fa{q.A(), q.B(), 1.0}, q.X(), q.Y(), view(q.v.data(), 2, 2)); });
  refuses<shape_error>(
      "graft::add_delta: extent 1 of v[3, 1] is 1 but extent 0 of A[2, 6] is 2; they must be equal",
      [](q_t& q, ex_t const& ex) { add_delta(ex, lora_fa{q.A(), q.B(), 1.0}, q.X(), q.Y(), view(q.v.data(), 3, 1)); });
  refuses<argument_error>(
      "graft::add_delta: v[3, 2] is written but shares memory with x[3, 6]",
      [](q_t& q, ex_t const& ex) { add_delta(ex, lora_fa{q.A(), q.B(), 1.0}, q.X(), q.Y(), view(q.x.data(), 3, 2)); });
  refuses<argument_error>(
      "graft::add_delta: v[3, 2] is written but shares memory with y[3, 4]",
      [](q_t& q, ex_t const& ex) { add_delta(ex, lora_fa{q.A(), q.B(), 1.0}, q.X(), q.Y(), view(q.y.data(), 3, 2)); });
  refuses<argument_error>(
      "graft::add_delta: v[3, 2] is written but shares memory with B[4, 2]",
      [](q_t& q, ex_t const& ex) { add_delta(ex, lora_fa{q.A(), q.B(), 1.0}, q.X(), q.Y(), view(q.b.data(), 3, 2)); });
  refuses<shape_error>("graft::backward: extent 1 of v[3, 1] is 1 but extent 0 of A[2, 6] is 2; they must be equal",
                       [](q_t& q, ex_t const& ex) {
                         backward(ex, lora_fa{q.A(), q.B(), 1.0}, view(q.v.data(), 3, 1), q.DY(),
                                  lora_gradients{.B = q.GB()}, q.DX());
                       });
  refuses<shape_error>("graft::backward: extent 0 of dy[2, 4] is 2 but extent 0 of v[3, 2] is 3; they must be equal",
                       [](q_t& q, ex_t const& ex) {
                         backward(ex, lora_fa{q.A(), q.B(), 1.0}, q.V(), view(q.dy.data(), 2, 4),
                                  lora_gradients{.B = q.GB()}, none);
                       });
  refuses<argument_error>("graft::backward: the gradient of B[4, 2] is written but shares memory with B[4, 2]",
                          [](q_t& q, ex_t const& ex) {
                            backward(ex, lora_fa{q.A(), q.B(), 1.0}, q.V(), q.DY(), lora_gradients{.B = q.B()}, q.DX());
                          });
  refuses<argument_error>(
      "graft::backward: scratch[3, 2] is written but shares memory with v[3, 2]", [](q_t& q, ex_t const& ex) {
        backward(ex, lora_fa{q.A(), q.B(), 1.0}, q.V(), q.DY(), lora_gradients{.B = q.GB()}, q.DX(), q.V());
      });
}

TEST_CASE("scratch queries of lora_fa are what is taken", "[adapters][lora_fa][scratch]") {
  watched_resource watched;
  auto const bytes_of_call = [&](auto const& call) { return tests::taken_by(watched, call); };
  for (shape const& s : odd_shapes())
    for_each_executor(
        [&](std::string const& name, auto const& ex) {
          problem<float, float, float> p(s, third, 5);
          matrix<float> v(s.T, s.r, layout::contiguous, 1), scratch(s.T, s.r);
          INFO(name << ", " << p.text());
          auto const gradients = lora_gradients{.B = p.gb.view()};
          std::size_t const kernels = bytes_of_call(
              [&] { backward(ex, frozen(p), v.view(), p.dy.view(), gradients, p.dx.view(), scratch.view()); });
          std::size_t const all =
              bytes_of_call([&] { backward(ex, frozen(p), v.view(), p.dy.view(), gradients, p.dx.view()); });
          CHECK(all - kernels == graft::backward_scratch_bytes(frozen(p), p.dy.view()));
          CHECK(all - kernels ==
                graft::detail::scratch_block::rounded(static_cast<std::size_t>(s.T * s.r) * sizeof(float)));
          // Without dx nothing but the kernel's.
          std::size_t const chain = bytes_of_call(
              [&] { graft::kernels::expand_add(ex, transposed(p.dy.view()), transposed(v.view()), p.gb.view()); });
          CHECK(bytes_of_call([&] { backward(ex, frozen(p), v.view(), p.dy.view(), gradients, none); }) == chain);
          // All in fp64, so that no kernel takes any.
          int const before = watched.allocations;
          CHECK(bytes_of_call([&] {
                  project_gradient(ex, frozen(p), graft::as_const(p.gb.view()),
                                   p.b.view().size() == 0 ? p.gb.view() : matrix<float>(s.m, s.r).view());
                }) == graft::project_gradient_scratch_bytes(frozen(p)));
          CHECK(watched.allocations == before + 1);
        },
        &watched);
}
