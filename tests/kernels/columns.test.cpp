#include <graft/kernels/columns.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/parity.hpp"

using graft::as_const;
using graft::index_t;
using graft::view;
using graft::kernels::add_scaled_columns;
using graft::kernels::divide;
using graft::kernels::divide_add;
using graft::kernels::dot_columns;
using namespace tests;

TEST_CASE("columns: scaled and added, multiplied and summed, divided", "[kernels][columns]") {
  std::vector<float> const d{2, 0, -1}, x{1, 2, 3, 4, 5, 6}, n{2, 0, -4};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> y{1, 1, 1, 1, 1, 1};
    add_scaled_columns(ex, view(d), view(x, 2, 3), view(y, 2, 3));
    CHECK(y == std::vector<float>{3, 1, -2, 9, 1, -5});
    add_scaled_columns(ex, view(d), view(x, 2, 3), view(y, 2, 3), -1.0);
    CHECK(y == std::vector<float>{4, -1, -8, 13, -4, -17});
    std::vector<float> rows{0, 10, 100};  // rows are columns of transposed views
    add_scaled_columns(ex, view(d), transposed(view(x, 3, 2)), transposed(view(y, 3, 2)));
    CHECK(y == std::vector<float>{6, 3, -8, 13, -9, -23});
    dot_columns(ex, view(x, 2, 3), view(x, 2, 3), view(rows));
    CHECK(rows == std::vector<float>{17, 39, 145});
    std::vector<float> c(3);
    divide(ex, view(rows), view(n), view(c));
    CHECK(c == std::vector<float>{8.5F, 0, -36.25F});
    divide_add(ex, view(rows), view(n), view(c), -1.0);
    CHECK(c == std::vector<float>{17, -1, -72.5F});
    divide(ex, view(rows), view(n), view(c), std::numeric_limits<double>::quiet_NaN());
    CHECK(c[0] == 8.5F);
    CHECK(std::isnan(c[1]));
  });
}

TEST_CASE("columns: one formula for all types, layouts, odd extents and executors", "[kernels][columns]") {
  tally t;
  int turn = 0;
  auto const check = [&]<class D, class X, class Y>() {
    using sum = graft::accumulate_t<D, X, Y>;
    for (index_t const rows : {0, 1, 4, 5, 513, 1100})
      for (index_t const columns : {0, 1, 16, 33, 255, 257}) {
        if (rows > 5 && columns > 33) continue;
        auto const d = random_numbers<D>(columns, 1);
        matrix<X> const x(rows, columns, all_layouts[static_cast<std::size_t>(++turn % 8)], 2);
        matrix<Y> const y(rows, columns, layout::contiguous, 3);
        // Sums: plain chains of fma of at most 512 terms.
        matrix<Y> added(rows, columns);
        matrix<Y> dots(1, columns), dots_start(1, columns, layout::contiguous, 4);
        matrix<Y> quotients(1, columns), sums(1, columns);
        auto const g = random_numbers<X>(columns, 5);
        for (index_t j = 0; j < columns; ++j) {
          auto const dj = graft::load_as<sum>(d[static_cast<std::size_t>(j)]);
          using long_sum = graft::accumulate_t<X, Y>;
          auto total = graft::load_as<long_sum>(dots_start.view()(0, j));
          for (index_t i0 = 0; i0 < rows; i0 += 512) {
            long_sum part = i0 == 0 ? total : long_sum{0};
            for (index_t i = i0; i < std::min(i0 + 512, rows); ++i)
              part = std::fma(graft::load_as<long_sum>(x.view()(i, j)), graft::load_as<long_sum>(y.view()(i, j)), part);
            total = i0 == 0 ? part : total + part;
          }
          dots.view()(0, j) = graft::store_as<Y>(total);
          for (index_t i = 0; i < rows; ++i)
            added.view()(i, j) = graft::store_as<Y>(
                std::fma(dj + sum{-1}, graft::load_as<sum>(x.view()(i, j)), graft::load_as<sum>(y.view()(i, j))));
          sum const quotient = dj == sum{0} ? sum{0} : graft::load_as<sum>(g[static_cast<std::size_t>(j)]) / dj;
          quotients.view()(0, j) = graft::store_as<Y>(quotient);
          sums.view()(0, j) = graft::store_as<Y>(graft::load_as<sum>(dots_start.view()(0, j)) + quotient);
        }
        layout const how = all_layouts[static_cast<std::size_t>(turn % 8)];
        auto const only_row = [](auto const& m) {
          using T = typename std::remove_cvref_t<decltype(m)>::element_type;
          return graft::tensor_view<T, graft::dynamic_extents<1>, graft::host_space, graft::no_unit_dimension>{
              m.data_handle(), graft::dynamic_extents<1>{m.extent(1)}, {m.stride(1)}};
        };
        for_each_executor([&](std::string const& name, auto const& ex) {
          auto const describe = [&] {
            return name + ", " + type_name<D>() + ", " + type_name<X>() + ", " + type_name<Y>() + " " +
                   tests::name(how) + ", " + std::to_string(rows) + " x " + std::to_string(columns);
          };
          t.add(compare_one<Y>(
                    ex, y.view(), how, as_const(added.view()),
                    [&](auto const& e, auto const& out) { add_scaled_columns(e, view(d), x.view(), out, -1.0); }),
                describe);
          t.add(compare_one<Y>(
                    ex, as_const(dots_start.view()), how, as_const(dots.view()),
                    [&](auto const& e, auto const& out) { dot_columns(e, x.view(), y.view(), only_row(out)); }),
                describe);
          t.add(compare_one<Y>(ex, as_const(dots_start.view()), how, as_const(quotients.view()),
                               [&](auto const& e, auto const& out) { divide(e, view(g), view(d), only_row(out)); }),
                describe);
          t.add(compare_one<Y>(ex, as_const(dots_start.view()), how, as_const(sums.view()),
                               [&](auto const& e, auto const& out) { divide_add(e, view(g), view(d), only_row(out)); }),
                describe);
        });
      }
  };
  check.operator()<float, float, float>();
  check.operator()<float, graft::bfloat16, graft::float16>();
  check.operator()<graft::bfloat16, float, graft::bfloat16>();
  check.operator()<graft::float16, double, float>();
  check.operator()<double, double, double>();
  CHECK(t.text() == "");
  CHECK(t.count() == 5 * 32 * 4 * executor_count);
}

TEST_CASE("columns: what does not fit is refused before anything is written", "[kernels][columns]") {
  graft::serial const ex;
  std::vector<float> d(3), y(6, 7), x(6), c(3, 7);
  CHECK_THROWS_AS(add_scaled_columns(ex, view(d.data(), 2), view(x, 2, 3), view(y, 2, 3)), graft::shape_error);
  CHECK_THROWS_AS(add_scaled_columns(ex, view(d), view(x, 3, 2), view(y, 2, 3)), graft::shape_error);
  CHECK_THROWS_AS(add_scaled_columns(ex, view(d), view(y, 2, 3), view(y, 2, 3)), graft::argument_error);
  CHECK_THROWS_AS(add_scaled_columns(ex, view(y.data(), 3), view(x, 2, 3), view(y, 2, 3)), graft::argument_error);
  CHECK_THROWS_AS(dot_columns(ex, view(x, 2, 3), view(x, 3, 2), view(c)), graft::shape_error);
  CHECK_THROWS_AS(dot_columns(ex, view(x, 2, 3), view(x, 2, 3), view(c.data(), 2)), graft::shape_error);
  CHECK_THROWS_AS(dot_columns(ex, view(x, 2, 3), view(x, 2, 3), view(x.data(), 3)), graft::argument_error);
  CHECK_THROWS_AS(divide(ex, view(d), view(d.data(), 2), view(c)), graft::shape_error);
  CHECK_THROWS_AS(divide(ex, view(c), view(d), view(c)), graft::argument_error);
  CHECK_THROWS_AS(divide_add(ex, view(static_cast<float*>(nullptr), 3), view(d), view(c)), graft::argument_error);
  CHECK(y == std::vector<float>(6, 7));
  CHECK(c == std::vector<float>(3, 7));
}
