#include <graft/kernels/bias.hpp>

#include <cmath>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/parity.hpp"
#include "support/tolerance.hpp"

using graft::as_const;
using graft::index_t;
using graft::view;
using graft::kernels::add_bias;
using graft::kernels::sum_rows;
using namespace tests;

TEST_CASE("add_bias adds s b to every row, sum_rows adds s times the sum of the rows", "[kernels][bias]") {
  std::vector<float> const b{1, 2, -4};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> y{1, 2, 3, 4, 5, 6};
    add_bias(ex, view(b), view(y, 2, 3), 0.5);
    CHECK(y == std::vector<float>{1.5F, 3, 1, 4.5F, 6, 4});
    add_bias(ex, view(b), view(y, 2, 3));
    CHECK(y == std::vector<float>{2.5F, 5, -3, 5.5F, 8, 0});
    std::vector<float> d{100, 200, 300};
    sum_rows(ex, view(y, 2, 3), view(d), 2.0);
    CHECK(d == std::vector<float>{116, 226, 294});
    sum_rows(ex, view(y, 2, 3), view(d));
    CHECK(d == std::vector<float>{124, 239, 291});
  });
}

TEST_CASE("add_bias is one fma and one rounding for all types, layouts and executors", "[kernels][bias]") {
  tally t;
  int i = 0;
  for (int kind = 0; kind < 9; ++kind)
    with_storage(kind % 3, [&]<class B>(std::type_identity<B>) {
      with_storage(kind / 3, [&]<class Y>(std::type_identity<Y>) {
        for (index_t const rows : {0, 1, 4, 9})
          for (index_t const columns : {0, 1, 16, 65}) {
            auto const b = random_numbers<B>(columns, 4);
            matrix<Y> const start(rows, columns, layout::contiguous, 5);
            matrix<Y> expected(rows, columns);
            for (index_t p = 0; p < rows; ++p)
              for (index_t q = 0; q < columns; ++q)
                expected.view()(p, q) =
                    graft::store_as<Y>(std::fma(0.7F, graft::load_as<float>(b[static_cast<std::size_t>(q)]),
                                                graft::load_as<float>(start.view()(p, q))));
            layout const how = all_layouts[static_cast<std::size_t>(i++ % 8)];
            for_each_executor([&](std::string const& name, auto const& ex) {
              t.add(compare_one<Y>(ex, start.view(), how, as_const(expected.view()),
                                   [&](auto const& e, auto const& y) { add_bias(e, view(b), y, 0.7F); }),
                    [&] { return name + ", " + type_name<B>() + " on " + type_name<Y>() + " " + tests::name(how); });
            });
          }
      });
    });
  CHECK(t.text() == "");
}

TEST_CASE("sum_rows sums in order per 512 rows, rounds once, and is equal on all executors", "[kernels][bias]") {
  tally t;
  int i = 0;
  for (index_t const rows : {0, 1, 2, 511, 512, 513, 1025})
    for (index_t const columns : {0, 1, 255, 256, 257, 600})
      for (int kind = 0; kind < 3; ++kind)
        with_storage(kind, [&]<class S>(std::type_identity<S>) {
          matrix<S> const y(rows, columns, all_layouts[static_cast<std::size_t>(i++ % 8)], 9);
          matrix<S> const start(1, columns, layout::contiguous, 10);
          matrix<S> expected(1, columns);
          double worst = 0.0;
          for (index_t q = 0; q < columns; ++q) {
            float total = graft::load_as<float>(start.view()(0, q));
            double exact = static_cast<double>(total);
            double magnitude = std::abs(exact);
            for (index_t first = 0; first < rows; first += 512) {
              float part = first == 0 ? total : 0.0F;
              for (index_t p = first; p < std::min(first + 512, rows); ++p) {
                float const value = graft::load_as<float>(y.view()(p, q));
                part = std::fma(value, -0.7F, part);
                exact -= static_cast<double>(0.7F) * static_cast<double>(value);
                magnitude += std::abs(static_cast<double>(0.7F) * static_cast<double>(value));
              }
              total = first == 0 ? part : total + part;
            }
            worst = std::max(worst, std::abs(static_cast<double>(total) - exact) /
                                        (short_axis_bound<float>(rows, magnitude) + 1e-300));
            expected.view()(0, q) = graft::store_as<S>(total);
          }
          t.add(worst <= 1.0 ? "" : "beyond its bound", [&] { return std::to_string(rows) + " rows"; });
          for_each_executor([&](std::string const& name, auto const& ex) {
            t.add(compare_one<S>(
                      ex, start.view(), layout::strided, as_const(expected.view()),
                      [&](auto const& e, auto const& d) {
                        sum_rows(e, y.view(),
                                 view(d.data_handle(), graft::extents<graft::dynamic>{columns}, {d.stride(1)}), -0.7);
                      }),
                  [&] {
                    return name + ", " + type_name<S>() + " " + tests::name(y.how()) + ", " + std::to_string(rows) +
                           " x " + std::to_string(columns);
                  });
          });
        });
  CHECK(t.text() == "");
}

TEST_CASE("sum_rows in double", "[kernels][bias]") {
  std::vector<double> const y{1, 0x1p-40, 0x1p-45};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<double> d{0};
    sum_rows(ex, view(y, 3, 1), view(d));
    CHECK(d[0] == 1 + 0x1p-40 + 0x1p-45);
  });
}
