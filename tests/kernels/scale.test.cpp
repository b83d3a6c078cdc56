#include <graft/kernels/scale.hpp>

#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/parity.hpp"
#include "support/scratch.hpp"

using graft::as_const;
using graft::index_t;
using graft::view;
using graft::kernels::scale_columns;
using graft::kernels::scale_rows;
using namespace tests;

TEST_CASE("scale_rows multiplies each row, scale_columns each column", "[kernels][scale]") {
  std::vector<float> const two{2, -3};
  std::vector<float> const three{1, 10, 0.5F};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> y{1, 2, 3, 4, 5, 6};
    scale_rows(ex, view(two), view(y, 2, 3));
    CHECK(y == std::vector<float>{2, 4, 6, -12, -15, -18});
    scale_columns(ex, view(three), view(y, 2, 3));
    CHECK(y == std::vector<float>{2, 40, 3, -12, -150, -9});
  });
}

TEST_CASE("scaling is one rounded product for all types, layouts and executors", "[kernels][scale]") {
  tally t;
  int i = 0;
  for (int factor = 0; factor < 3; ++factor)
    for (int kind = 0; kind < 4; ++kind)
      with_storage(factor, [&]<class D>(std::type_identity<D>) {
        auto const check = [&]<class Y>(std::type_identity<Y>) {
          using sum = graft::accumulate_t<D, Y>;
          for (index_t const rows : {0, 1, 3, 4, 9})
            for (index_t const columns : {0, 1, 16, 33}) {
              auto const dr = random_numbers<D>(rows, 3, 4.0);
              auto const dc = random_numbers<D>(columns, 4, 4.0);
              matrix<Y> const start(rows, columns, layout::contiguous, 5);
              matrix<Y> by_rows(rows, columns);
              matrix<Y> by_columns(rows, columns);
              for (index_t p = 0; p < rows; ++p)
                for (index_t q = 0; q < columns; ++q) {
                  sum const y = graft::load_as<sum>(start.view()(p, q));
                  by_rows.view()(p, q) = graft::store_as<Y>(graft::load_as<sum>(dr[static_cast<std::size_t>(p)]) * y);
                  by_columns.view()(p, q) =
                      graft::store_as<Y>(graft::load_as<sum>(dc[static_cast<std::size_t>(q)]) * y);
                }
              layout const how = all_layouts[static_cast<std::size_t>(i++ % 8)];
              for_each_executor([&](std::string const& name, auto const& ex) {
                auto const describe = [&] {
                  return name + ", " + type_name<D>() + " on " + type_name<Y>() + " " + tests::name(how) + ", " +
                         std::to_string(rows) + " x " + std::to_string(columns);
                };
                t.add(compare_one<Y>(ex, start.view(), how, as_const(by_rows.view()),
                                     [&](auto const& e, auto const& y) { scale_rows(e, view(dr), y); }),
                      describe);
                t.add(compare_one<Y>(ex, start.view(), how, as_const(by_columns.view()),
                                     [&](auto const& e, auto const& y) { scale_columns(e, view(dc), y); }),
                      describe);
              });
            }
        };
        if (kind == 3) check(std::type_identity<double>{});
        else with_storage(kind, check);
      });
  CHECK(t.text() == "");
  CHECK(t.count() == 12 * 20 * 2 * executor_count);
}

TEST_CASE("factors may lie apart or backwards", "[kernels][scale]") {
  std::vector<float> const d{3, 0, 2, 0, 1};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> y{1, 1, 1};
    scale_columns(ex, view(d.data() + 4, graft::extents<graft::dynamic>{3}, {-2}), view(y, 1, 3));
    CHECK(y == std::vector<float>{1, 2, 3});
  });
}

TEST_CASE("limit_row_norms takes the scratch that it announces", "[kernels][scale]") {
  std::vector<float> y = random_numbers<float>(5 * 9, 1);
  takes_its_scratch(graft::kernels::limit_row_norms, view(y, 5, 9), 1.0);
}
