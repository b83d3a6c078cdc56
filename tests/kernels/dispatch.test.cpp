#include <graft/kernels/dispatch.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/parity.hpp"
#include "kernels/plans.hpp"
#include "support/resources.hpp"

using graft::as_const;
using graft::none;
using graft::view;
using graft::kernels::dispatch;
using namespace tests;

TEST_CASE("dispatch: rows of tokens in the order of experts, zeros in padding", "[kernels][dispatch]") {
  std::vector<std::int32_t> const ids{2, 1, 0, 2, -1, 2};
  std::vector<float> const x{1, 2, 3, 4, 5, 6}, w{10, 20, 30, 40, 50, 60};
  auto const o = plan_of(view(ids, 3, 2), 4);
  auto const aligned = plan_of(view(ids, 3, 2), 4, {.alignment = 2});
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> rows(10, 7), wide(16, 7);
    dispatch(ex, o.p, view(x, 3, 2), view(rows, 5, 2));
    CHECK(rows == std::vector<float>{3, 4, 1, 2, 1, 2, 3, 4, 5, 6});
    dispatch(ex, o.p, view(x, 3, 2), view(rows, 5, 2), view(w, 3, 2));
    CHECK(rows == std::vector<float>{90, 120, 20, 40, 10, 20, 120, 160, 300, 360});
    dispatch(ex, aligned.p, view(x, 3, 2), view(wide, 8, 2));
    CHECK(wide == std::vector<float>{3, 4, 0, 0, 1, 2, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0});
  });
}

TEST_CASE("dispatch: one formula for all types, layouts, odd extents and executors", "[kernels][dispatch]") {
  tally t;
  int turn = 0;
  random_bits bits(1);
  auto const check = [&]<class X, class W, class Y>() {
    using product = graft::accumulate_t<X, W, Y>;
    for (index_t const T : {0, 1, 5, 70})
      for (index_t const H : {0, 1, 15, 16, 33, 511, 513, 1100}) {
        if (T > 5 && H > 511 && turn % 2 == 0) continue;
        index_t const k = 1 + turn % 3;
        std::vector<std::int64_t> ids(static_cast<std::size_t>(T * k));
        for (auto& id : ids) id = bits.below(6) - 1;
        auto const o = plan_of(view(ids, T, k), 5, {.alignment = 1 + turn % 4});
        index_t const rows = turn % 2 == 0 ? o.p.offsets(5) : o.p.permutation.extent(0);
        matrix<X> const x(T, H, all_layouts[static_cast<std::size_t>(++turn % 8)], 2);
        matrix<W> const w(T, k, all_layouts[static_cast<std::size_t>((turn + 3) % 8)], 3);
        matrix<Y> const start(rows, H, layout::contiguous, 4);
        matrix<Y> plain(rows, H), weighted(rows, H);
        for (index_t i = 0; i < rows; ++i)
          for (index_t j = 0; j < H; ++j) {
            index_t const pair = o.p.permutation(i);
            plain.view()(i, j) = weighted.view()(i, j) = Y{};
            if (pair < 0) continue;
            auto const value = graft::load_as<product>(x.view()(pair / k, j));
            plain.view()(i, j) = graft::store_as<Y>(value);
            weighted.view()(i, j) = graft::store_as<Y>(graft::load_as<product>(w.view()(pair / k, pair % k)) * value);
          }
        layout const how = all_layouts[static_cast<std::size_t>((turn + 5) % 8)];
        auto const compare = [&](std::string const& name, auto const& ex) {
          auto const describe = [&] {
            return name + ", " + type_name<X>() + ", " + type_name<W>() + ", " + type_name<Y>() + " " +
                   tests::name(how) + ", " + std::to_string(T) + " x " + std::to_string(H);
          };
          t.add(compare_one<Y>(ex, start.view(), how, as_const(plain.view()),
                               [&](auto const& e, auto const& out) { dispatch(e, o.p, x.view(), out); }),
                describe);
          t.add(compare_one<Y>(ex, start.view(), how, as_const(weighted.view()),
                               [&](auto const& e, auto const& out) { dispatch(e, o.p, x.view(), out, w.view()); }),
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
  CHECK(t.count() > 4 * 24 * 2 * executor_count);
}

TEST_CASE("dispatch: rows that caches do not hold, where they begin anywhere", "[kernels][dispatch]") {
  auto const check = [&]<class X>() {
    index_t const T = 1050, k = 4, H = 4096 / static_cast<index_t>(sizeof(X));  // 16 MiB and some
    std::vector<std::int32_t> ids(static_cast<std::size_t>(T * k));
    random_bits bits(7);
    for (auto& id : ids) id = static_cast<std::int32_t>(bits.below(9)) - 1;
    auto const o = plan_of(view(ids, T, k), 8, {.alignment = 8});
    index_t const rows = o.p.permutation.extent(0);
    matrix<X> const x(T, H, layout::contiguous, 2);
    std::vector<X> memory(static_cast<std::size_t>(rows * H + 33));
    auto const misplaced = reinterpret_cast<std::uintptr_t>(memory.data()) % 64 / sizeof(X);
    for (std::size_t const shift : {std::size_t{0}, std::size_t{1}})
      for_each_isa([&](std::string const& level) {
        INFO(level << ", shift " << shift);
        std::fill(memory.begin(), memory.end(), graft::store_as<X>(7.0F));
        auto* const to = memory.data() + (64 / sizeof(X) - misplaced) % (64 / sizeof(X)) + shift;
        dispatch(graft::openmp{.threads = 2}, o.p, x.view(), view(to, rows, H));
        index_t wrong = 0;
        for (index_t i = 0; i < rows; ++i)
          for (index_t j = 0; j < H; ++j) {
            index_t const pair = o.p.permutation(i);
            auto const expected = pair < 0 ? 0.0F : graft::load_as<float>(x.view()(pair / k, j));
            wrong += graft::load_as<float>(to[i * H + j]) == expected ? 0 : 1;
          }
        CHECK(wrong == 0);
        CHECK(graft::load_as<float>(to[rows * H]) == 7.0F);
      });
  };
  check.operator()<float>();
  check.operator()<graft::bfloat16>();
}

TEST_CASE("dispatch: a ragged plan takes a weight an id", "[kernels][dispatch]") {
  std::vector<index_t> const offsets{0, 2, 2, 3};
  std::vector<std::int32_t> const ids{1, 0, 1};
  std::vector<float> const x{1, 2, 3}, w{10, 20, 30};
  auto const o = plan_of(graft::ragged_assignment{view(offsets), view(ids)}, 2);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> rows(3);
    dispatch(ex, o.p, view(x, 3, 1), view(rows, 3, 1), view(w));
    CHECK(rows == std::vector<float>{20, 10, 90});
  });
}

TEST_CASE("dispatch: what does not fit is refused before anything is written, and nothing is allocated",
          "[kernels][dispatch]") {
  std::vector<std::int32_t> const ids{1, 0, 1, 1};
  std::vector<float> x(6), w(4), rows(12, 7);
  auto const o = plan_of(view(ids, 2, 2), 2);
  watched_resource memory;
  graft::openmp const ex{2, &memory};
  CHECK_THROWS_AS(dispatch(ex, o.p, view(x, 3, 2), view(rows.data(), 4, 2)), graft::shape_error);
  CHECK_THROWS_AS(dispatch(ex, o.p, view(x, 2, 3), view(rows.data(), 4, 2)), graft::shape_error);
  CHECK_THROWS_AS(dispatch(ex, o.p, view(x, 2, 3), view(rows.data(), 3, 3)), graft::shape_error);
  CHECK_THROWS_AS(dispatch(ex, o.p, view(x.data(), 2, 2), view(rows.data(), 5, 2)), graft::shape_error);
  CHECK_THROWS_AS(dispatch(ex, o.p, view(x, 2, 3), view(rows, 4, 3), view(w, 1, 4)), graft::shape_error);
  CHECK_THROWS_AS(dispatch(ex, o.p, view(x, 2, 3), view(rows, 4, 3), view(w)), graft::shape_error);
  CHECK_THROWS_AS(dispatch(ex, o.p, view(rows.data(), 2, 3), view(rows, 4, 3)), graft::argument_error);
  CHECK_THROWS_AS(dispatch(ex, o.p, view(x, 2, 3), view(rows, 4, 3), view(rows.data(), 2, 2)), graft::argument_error);
  CHECK_THROWS_AS(dispatch(ex, o.p, view(static_cast<float*>(nullptr), 2, 3), view(rows, 4, 3)), graft::argument_error);
  CHECK(rows == std::vector<float>(12, 7));
  dispatch(ex, o.p, view(x, 2, 3), view(rows, 4, 3), view(w, 2, 2));
  CHECK(memory.allocations == 0);
}
