#include <graft/kernels/copy.hpp>

#include <cmath>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/parity.hpp"

using graft::as_const;
using graft::index_t;
using graft::view;
using graft::kernels::copy;
using namespace tests;

namespace {
/// f(type) with every type that a matrix may have.
template <class F>
void with_any(int kind, F const& f) {
  if (kind == 3) f(std::type_identity<double>{});
  else with_storage(kind, f);
}
}  // namespace

TEST_CASE("copy converts with one rounding between all types", "[kernels][copy]") {
  tally t;
  for (int from = 0; from < 4; ++from)
    for (int to = 0; to < 4; ++to)
      with_any(from, [&]<class X>(std::type_identity<X>) {
        with_any(to, [&]<class Y>(std::type_identity<Y>) {
          int i = from * 5 + to * 3;
          for (index_t const rows : {0, 1, 3, 4, 5, 17})
            for (index_t const columns : {0, 1, 15, 16, 65}) {
              matrix<X> x(rows, columns, all_layouts[static_cast<std::size_t>(i++ % 8)], 7, 100.0);
              matrix<Y> const start(rows, columns, layout::contiguous, 8);
              matrix<Y> expected(rows, columns);
              for (index_t p = 0; p < rows; ++p)
                for (index_t q = 0; q < columns; ++q)
                  expected.view()(p, q) = graft::store_as<Y>(graft::load_as<double>(x.view()(p, q)));
              layout const how = all_layouts[static_cast<std::size_t>(i++ * 3 % 8)];
              for_each_executor([&](std::string const& name, auto const& ex) {
                t.add(compare_one<Y>(ex, start.view(), how, as_const(expected.view()),
                                     [&](auto const& e, auto const& y) { copy(e, x.view(), y); }),
                      [&] {
                        return name + ", " + type_name<X>() + " " + tests::name(x.how()) + " to " + type_name<Y>() +
                               " " + tests::name(how) + ", " + std::to_string(rows) + " x " + std::to_string(columns);
                      });
              });
            }
        });
      });
  CHECK(t.text() == "");
  CHECK(t.count() == 16 * 30 * executor_count);
}

TEST_CASE("copy to the same type keeps every bit of a number, and NaN", "[kernels][copy]") {
  std::vector<graft::float16> x(0x10000);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = graft::float16::from_bits(static_cast<std::uint16_t>(i));
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<graft::float16> y(x.size());
    copy(ex, view(x, 256, 256), view(y, 256, 256));
    CHECK(differences(view(y), view(std::as_const(x))).empty());
  });
}
