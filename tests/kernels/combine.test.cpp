#include <graft/kernels/combine.hpp>

#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/parity.hpp"
#include "kernels/plans.hpp"
#include "support/resources.hpp"

using graft::as_const;
using graft::none;
using graft::view;
using graft::kernels::combine;
using graft::kernels::combine_add;
using graft::kernels::combine_backward;
using graft::kernels::combine_backward_weights;
using graft::kernels::dispatch;
using graft::kernels::dispatch_backward;
using namespace tests;

TEST_CASE("combine: weighted rows of experts, in the order of choices", "[kernels][combine]") {
  std::vector<std::int32_t> const ids{2, 1, 0, 2, -1, 2};
  std::vector<float> const rows{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, w{10, 20, 30, 40, 50, 60};
  auto const o = plan_of(view(ids, 3, 2), 4);  // rows: pairs 2, 1, 0, 3, 5
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> y(6, 7), dw(6, 7);
    combine(ex, o.p, view(rows, 5, 2), view(w, 3, 2), view(y, 3, 2));
    CHECK(y == std::vector<float>{110, 140, 310, 380, 540, 600});
    combine(ex, o.p, view(rows, 5, 2), none, view(y, 3, 2));
    CHECK(y == std::vector<float>{8, 10, 8, 10, 9, 10});
    combine_add(ex, o.p, view(rows, 5, 2), view(w, 3, 2), view(y, 3, 2));
    CHECK(y == std::vector<float>{118, 150, 318, 390, 549, 610});
    std::vector<float> const dy{1, 0, 0, 1, 1, 1};
    combine_backward_weights(ex, o.p, view(rows, 5, 2), view(dy, 3, 2), view(dw, 3, 2));
    CHECK(dw == std::vector<float>{5, 3, 2, 8, 0, 19});
    std::vector<float> drows(10, 7);
    combine_backward(ex, o.p, view(rows, 5, 2), view(w, 3, 2), view(dy, 3, 2), view(drows, 5, 2), none);
    CHECK(drows == std::vector<float>{0, 30, 20, 0, 10, 0, 0, 40, 60, 60});
  });
}

TEST_CASE("combine: one formula for all types, layouts, odd extents and executors", "[kernels][combine]") {
  tally t;
  int turn = 0;
  random_bits bits(1);
  auto const check = [&]<class R, class W, class Y>() {
    using sum = graft::accumulate_t<R, W, Y>;
    for (index_t const T : {0, 1, 5, 70})
      for (index_t const H : {0, 1, 15, 16, 33, 64, 511, 513, 1100}) {
        if (T > 5 && H > 64 && turn % 2 == 0) continue;
        index_t const k = turn % 5 == 4 ? 70 : 1 + turn % 7;  // more rows than are summed at once
        std::vector<std::int32_t> ids(static_cast<std::size_t>(T * k));
        for (auto& id : ids) id = static_cast<std::int32_t>(bits.below(6)) - 1;
        auto const o = plan_of(view(ids, T, k), 5, {.alignment = 1 + turn % 4});
        matrix<R> const rows(o.p.offsets(5), H, all_layouts[static_cast<std::size_t>(++turn % 8)], 2);
        matrix<W> const w(T, k, all_layouts[static_cast<std::size_t>((turn + 3) % 8)], 3);
        matrix<Y> const start(T, H, layout::contiguous, 4);
        matrix<Y> combined(T, H), added(T, H), ones(T, H);
        matrix<W> dw(T, k);
        for (index_t i = 0; i < T; ++i) {
          for (index_t j = 0; j < H; ++j) {
            sum c{0}, one{0}, a = graft::load_as<sum>(start.view()(i, j));
            for (index_t s = 0; s < k; ++s) {
              index_t const row = o.p.inverse(i * k + s);
              if (row < 0) continue;
              auto const factor = graft::load_as<sum>(w.view()(i, s));
              auto const value = graft::load_as<sum>(rows.view()(row, j));
              c = std::fma(factor, value, c);
              a = std::fma(factor, value, a);
              one = one + value;
            }
            combined.view()(i, j) = graft::store_as<Y>(c);
            added.view()(i, j) = graft::store_as<Y>(a);
            ones.view()(i, j) = graft::store_as<Y>(one);
          }
          for (index_t s = 0; s < k; ++s) {
            sum total{0};
            for (index_t j0 = 0; j0 < H && o.p.inverse(i * k + s) >= 0; j0 += 512) {
              sum lane[16] = {};
              for (index_t j = j0; j < std::min(j0 + 512, H); ++j)
                lane[j % 16] = std::fma(graft::load_as<sum>(start.view()(i, j)),
                                        graft::load_as<sum>(rows.view()(o.p.inverse(i * k + s), j)), lane[j % 16]);
              sum const part = graft::detail::tree(lane);
              total = j0 == 0 ? part : total + part;
            }
            dw.view()(i, s) = graft::store_as<W>(total);
          }
        }
        layout const how = all_layouts[static_cast<std::size_t>((turn + 5) % 8)];
        auto const dy = copy_of<Y>(start.view(), how);
        auto const compare = [&](std::string const& name, auto const& ex) {
          auto const describe = [&] {
            return name + ", " + type_name<R>() + ", " + type_name<W>() + ", " + type_name<Y>() + " " +
                   tests::name(how) + ", " + std::to_string(T) + " x " + std::to_string(H) + " of " + std::to_string(k);
          };
          t.add(compare_one<Y>(ex, start.view(), how, as_const(combined.view()),
                               [&](auto const& e, auto const& y) { combine(e, o.p, rows.view(), w.view(), y); }),
                describe);
          t.add(compare_one<Y>(ex, start.view(), how, as_const(ones.view()),
                               [&](auto const& e, auto const& y) { combine(e, o.p, rows.view(), none, y); }),
                describe);
          t.add(compare_one<Y>(ex, start.view(), how, as_const(added.view()),
                               [&](auto const& e, auto const& y) { combine_add(e, o.p, rows.view(), w.view(), y); }),
                describe);
          t.add(compare_one<W>(ex, w.view(), how, as_const(dw.view()),
                               [&](auto const& e, auto const& out) {
                                 combine_backward_weights(e, o.p, rows.view(), dy.view(), out);
                               }),
                describe);
        };
        for_each_executor(compare);
        for_each_isa([&](std::string const& level) { compare("serial at " + level, graft::serial{}); });
      }
  };
  check.operator()<float, float, float>();
  check.operator()<float, graft::bfloat16, graft::float16>();
  check.operator()<graft::bfloat16, float, graft::bfloat16>();
  check.operator()<graft::float16, float, double>();
  CHECK(t.text() == "");
  CHECK(t.count() > 4 * 24 * 4 * executor_count);
}

TEST_CASE("combine: gradients in fp64 agree with central differences", "[kernels][combine]") {
  constexpr index_t T = 6, k = 3, E = 4, H = 5;
  random_bits bits(9);
  std::vector<std::int32_t> ids(T * k);
  for (auto& id : ids) id = static_cast<std::int32_t>(bits.below(E + 1)) - 1;
  auto o = plan_of(view(ids, T, k), E, {.alignment = 2});
  o.p.dropped(4) = 1;
  graft::kernels::make_plan(graft::serial{}, view(ids, T, k), o.p, graft::kernels::drops::given);
  index_t const R = o.p.offsets(E);
  auto x = random_numbers<double>(T * H, 1), w = random_numbers<double>(T * k, 2);
  auto const dy = random_numbers<double>(T * H, 3);
  // loss = sum of dy * combine(w, rows * rows), rows = dispatch(x)
  auto const loss = [&] {
    std::vector<double> rows(static_cast<std::size_t>(R * H)), y(T * H);
    dispatch(graft::serial{}, o.p, view(x, T, H), view(rows, R, H));
    for (double& r : rows) r *= r;
    combine(graft::serial{}, o.p, view(rows, R, H), view(w, T, k), view(y, T, H));
    return std::inner_product(y.begin(), y.end(), dy.begin(), 0.0);
  };
  std::vector<double> rows(static_cast<std::size_t>(R * H)), squares(rows.size()), drows(rows.size()), dw(T * k),
      dx(T * H);
  dispatch(graft::serial{}, o.p, view(x, T, H), view(rows, R, H));
  for (std::size_t i = 0; i < rows.size(); ++i) squares[i] = rows[i] * rows[i];
  combine_backward(graft::serial{}, o.p, view(squares, R, H), view(w, T, k), view(dy, T, H), view(drows, R, H),
                   view(dw, T, k));
  for (std::size_t i = 0; i < rows.size(); ++i) drows[i] *= 2 * rows[i];
  dispatch_backward(graft::serial{}, o.p, view(drows, R, H), view(dx, T, H));
  auto const differences = [&](std::vector<double>& v, std::vector<double> const& gradient) {
    for (std::size_t i = 0; i < v.size(); ++i) {
      double const before = v[i], step = 0x1p-12;
      v[i] = before + step;
      double const above = loss();
      v[i] = before - step;
      double const below = loss();
      v[i] = before;
      // The loss is a square in each number: central differences are exact up to rounding.
      CHECK(std::abs((above - below) / (2 * step) - gradient[i]) < 1e-10);
    }
  };
  differences(x, dx);
  differences(w, dw);
}

TEST_CASE("combine: a token's bits do not depend on its batch mates or on where its experts lie",
          "[kernels][combine]") {
  constexpr index_t T = 40, k = 4, E = 9, H = 37;
  random_bits bits(4);
  std::vector<std::int32_t> ids(T * k), renamed(T * k);
  std::vector<std::int32_t> const other{3, 1, 8, 0, 7, 2, 6, 5, 4};  // experts under other numbers
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<std::int32_t>(bits.below(E));
    renamed[i] = other[static_cast<std::size_t>(ids[i])];
  }
  auto const x = random_numbers<float>(T * H, 1), w = random_numbers<float>(T * k, 2),
             scale = random_numbers<float>(E, 3);
  auto const layer = [&](std::vector<std::int32_t> const& of, std::vector<std::int32_t> const* names, index_t first,
                         index_t count) {
    auto const a = view(of.data() + first * k, count, k);
    auto const o = plan_of(a, E);
    std::vector<float> rows(static_cast<std::size_t>(count * k * H)), y(static_cast<std::size_t>(count * H));
    dispatch(graft::serial{}, o.p, view(x.data() + first * H, count, H), view(rows, count * k, H));
    graft::for_each_expert(o.p, view(rows, count * k, H), [&](index_t e, auto const& mine) {
      std::size_t i = 0;
      while (names != nullptr && (*names)[i] != e) ++i;
      float const f = scale[names != nullptr ? i : static_cast<std::size_t>(e)];
      for (index_t r = 0; r < mine.extent(0); ++r)
        for (index_t j = 0; j < H; ++j) mine(r, j) *= f;
    });
    combine(graft::serial{}, o.p, view(rows, count * k, H), view(w.data() + first * k, count, k), view(y, count, H));
    return y;
  };
  auto const all = layer(ids, nullptr, 0, T);
  CHECK(layer(renamed, &other, 0, T) == all);
  for (index_t t = 0; t < T; ++t)
    CHECK(layer(ids, nullptr, t, 1) == std::vector<float>(all.begin() + t * H, all.begin() + (t + 1) * H));
}

TEST_CASE("combine: ragged plans, and tokens without experts", "[kernels][combine]") {
  std::vector<index_t> const offsets{0, 2, 2, 3};
  std::vector<std::int32_t> const ids{1, 0, 1};
  std::vector<float> const rows{1, 2, 3}, w{10, 20, 30}, dy{1, 2, 3};
  auto const o = plan_of(graft::ragged_assignment{view(offsets), view(ids)}, 2);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> y(3, 7), dw(3);
    combine(ex, o.p, view(rows, 3, 1), view(w), view(y, 3, 1));
    CHECK(y == std::vector<float>{40, 0, 90});
    combine_backward_weights(ex, o.p, view(rows, 3, 1), view(dy, 3, 1), view(dw));
    CHECK(dw == std::vector<float>{2, 1, 9});
  });
}

TEST_CASE("combine: what does not fit is refused before anything is written, and nothing is allocated",
          "[kernels][combine]") {
  std::vector<std::int32_t> const ids{1, 0, 1, 1};
  std::vector<float> y(6, 7), w(4), dw(4, 7), rows(12);
  auto const o = plan_of(view(ids, 2, 2), 2);
  watched_resource memory;
  graft::openmp const ex{2, &memory};
  auto const of = [&](index_t r, index_t c) { return view(rows.data(), r, c); };
  CHECK_THROWS_AS(combine(ex, o.p, of(4, 3), none, view(y, 3, 2)), graft::shape_error);
  CHECK_THROWS_AS(combine(ex, o.p, of(4, 2), none, view(y, 2, 3)), graft::shape_error);
  CHECK_THROWS_AS(combine(ex, o.p, of(3, 3), none, view(y, 2, 3)), graft::shape_error);
  CHECK_THROWS_AS(combine_add(ex, o.p, of(4, 3), view(w, 4, 1), view(y, 2, 3)), graft::shape_error);
  CHECK_THROWS_AS(combine_add(ex, o.p, of(4, 3), view(w), view(y, 2, 3)), graft::shape_error);
  CHECK_THROWS_AS(combine(ex, o.p, of(4, 3), none, of(2, 3)), graft::argument_error);
  CHECK_THROWS_AS(combine(ex, o.p, of(4, 3), view(y.data(), 2, 2), view(y, 2, 3)), graft::argument_error);
  CHECK_THROWS_AS(combine_backward_weights(ex, o.p, of(4, 3), view(y, 2, 3), view(dw, 1, 4)), graft::shape_error);
  CHECK_THROWS_AS(combine_backward_weights(ex, o.p, of(4, 3), view(y, 2, 3), view(y.data(), 2, 2)),
                  graft::argument_error);
  std::vector<float> drows(12, 7);
  auto const into = view(drows, 4, 3);
  auto const back = [&](auto const& weights, auto const& to, auto const& dweights) {
    combine_backward(ex, o.p, of(4, 3), weights, view(y, 2, 3), to, dweights);
  };
  CHECK_THROWS_AS(back(view(w, 4, 1), into, view(dw, 2, 2)), graft::shape_error);
  CHECK_THROWS_AS(back(view(w, 2, 2), view(drows, 3, 4), view(dw, 2, 2)), graft::shape_error);
  CHECK_THROWS_AS(back(view(w, 2, 2), view(drows, 4, 3), view(drows.data(), 2, 2)), graft::argument_error);
  CHECK_THROWS_AS(back(view(dw, 2, 2), into, view(dw, 2, 2)), graft::argument_error);
  CHECK(y == std::vector<float>(6, 7));
  CHECK(dw == std::vector<float>(4, 7));
  CHECK(drows == std::vector<float>(12, 7));
  combine(ex, o.p, of(4, 3), view(w, 2, 2), view(y, 2, 3));
  combine_backward_weights(ex, o.p, of(4, 3), view(y, 2, 3), view(dw, 2, 2));
  CHECK(memory.allocations == 0);
}
