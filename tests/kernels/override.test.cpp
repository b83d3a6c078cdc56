// Which body ran, seen from outside: generic bodies run leagues, host bodies run regions.
#include <graft/kernels/override.hpp>

#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/parity.hpp"

using graft::as_const;
using graft::view;
namespace kernels = graft::kernels;
using namespace tests;

namespace {

/// serial, with a count of what is asked of it.
struct counting : graft::serial {
  int* leagues;
  int* regions;
  template <class Body>
  void league(graft::index_t size, std::size_t bytes, Body const& body) const {
    ++*leagues;
    serial::league(size, bytes, body);
  }
  template <class F>
  void region(int workers, F const& f) const {
    ++*regions;
    serial::region(workers, f);
  }
};
static_assert(graft::host_executor<counting>);

/// Somebody's executor: only leagues, the last team first.
template <int Rows>
struct league_of {
  using space_type = graft::host_space;
  static constexpr int row_block = Rows;
  template <class Body>
  void league(graft::index_t size, std::size_t bytes, Body const& body) const {
    std::vector<float> memory(bytes / sizeof(float) + 1);
    for (graft::index_t i = size; i-- > 0;)
      body(graft::host_team<Rows>{i, reinterpret_cast<std::byte*>(memory.data())});
  }
  void fence() const {}
};
static_assert(graft::executor<league_of<3>> && !graft::host_executor<league_of<3>>);

template <class S, class Call>
std::pair<int, int> count(Call const& call) {
  int leagues = 0;
  int regions = 0;
  counting const ex{{}, &leagues, &regions};
  matrix<S> x(3, 20, layout::contiguous, 1);
  matrix<S> a(4, 20, layout::contiguous, 2);
  matrix<S> b(7, 4, layout::contiguous, 3);
  matrix<S> y(3, 7, layout::contiguous, 4);
  matrix<S> v(3, 4, layout::contiguous, 5);
  call(ex, x.view(), a.view(), b.view(), y.view(), v.view());
  return {leagues, regions};
}

auto const low_rank = [](auto const& ex, auto x, auto a, auto b, auto y, auto) {
  kernels::low_rank_add(ex, x, a, b, y);
};
auto const shrink = [](auto const& ex, auto x, auto a, auto, auto, auto v) { kernels::shrink(ex, x, a, v); };
auto const expand = [](auto const& ex, auto, auto, auto b, auto y, auto v) { kernels::expand_add(ex, v, b, y); };

}  // namespace

TEST_CASE("host executors run host bodies for 16 and 32 bits, generic bodies for double", "[kernels][override]") {
  CHECK(count<float>(low_rank) == std::pair(0, 1));
  CHECK(count<graft::bfloat16>(low_rank) == std::pair(0, 1));
  CHECK(count<graft::float16>(low_rank) == std::pair(0, 1));
  CHECK(count<double>(low_rank) == std::pair(1, 0));
  CHECK(count<float>(shrink) == std::pair(0, 1));
  CHECK(count<double>(shrink) == std::pair(1, 0));
  CHECK(count<graft::float16>(expand) == std::pair(0, 1));
  CHECK(count<double>(expand) == std::pair(1, 0));
}

TEST_CASE("the generic body can be asked for by name, and has the same bits", "[kernels][override]") {
  matrix<float> const x(9, 530, layout::padded, 1);
  matrix<float> const a(5, 530, layout::contiguous, 2);
  matrix<float> const b(70, 5, layout::contiguous, 3);
  matrix<float> const start(9, 70, layout::contiguous, 4);
  matrix<float> const before(9, 5, layout::contiguous, 4);
  auto y0 = copy_of<float>(start.view());
  kernels::low_rank_add(graft::reference{}, x.view(), a.view(), b.view(), y0.view(), 0.7);
  matrix<float> v0(9, 5);
  kernels::shrink(graft::reference{}, x.view(), a.view(), v0.view(), 0.7);
  auto e0 = copy_of<float>(start.view());
  kernels::expand_add(graft::reference{}, v0.view(), b.view(), e0.view(), 0.7);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    CHECK(compare_one<float>(ex, start.view(), layout::padded, as_const(y0.view()), [&](auto const& e, auto const& y) {
            kernels::low_rank_add.generic(e, x.view(), a.view(), b.view(), y, 0.7);
          }) == "");
    CHECK(compare_one<float>(ex, before.view(), layout::padded, as_const(v0.view()), [&](auto const& e, auto const& v) {
            kernels::shrink.generic(e, x.view(), a.view(), v, 0.7);
          }) == "");
    CHECK(compare_one<float>(ex, start.view(), layout::padded, as_const(e0.view()), [&](auto const& e, auto const& y) {
            kernels::expand_add.generic(e, v0.view(), b.view(), y, 0.7);
          }) == "");
  });
  int leagues = 0;
  int regions = 0;
  auto y = copy_of<float>(start.view());
  kernels::low_rank_add.generic(counting{{}, &leagues, &regions}, x.view(), a.view(), b.view(), y.view(), 0.7);
  CHECK(leagues == 1);
  CHECK(regions == 0);
}

TEST_CASE("the generic body checks its arguments as well", "[kernels][override]") {
  std::vector<float> data(100);
  auto* const p = data.data();
  CHECK_THROWS_AS(kernels::low_rank_add.generic(graft::serial{}, view(p, 2, 3), view(p + 6, 1, 4), view(p + 20, 2, 1),
                                                view(p + 30, 2, 2)),
                  graft::shape_error);
  CHECK_THROWS_AS(kernels::shrink.generic(graft::serial{}, view(p, 2, 3), view(p + 6, 1, 3), view(p, 2, 1)),
                  graft::argument_error);
  CHECK_THROWS_AS(kernels::expand_add.generic(graft::serial{}, view(p, 2, 3), view(p + 6, 1, 3), view(p, 2, 1)),
                  graft::argument_error);
}

TEST_CASE("each instruction set has bodies of its own", "[kernels][override][isa]") {
  std::set<void const*> tables;
  int levels = 0;
  for_each_isa([&](std::string const&) {
    ++levels;
    tables.insert(&graft::detail::host_bodies<graft::detail::expand_bodies>());
  });
  CHECK(levels >= 1);
  CHECK(static_cast<int>(tables.size()) == levels);
}

TEST_CASE("bits do not depend on how many rows a team takes", "[kernels][override]") {
  matrix<float> const x(11, 70, layout::padded, 1);
  matrix<float> const a(5, 70, layout::contiguous, 2);
  matrix<float> const b(9, 5, layout::contiguous, 3);
  matrix<float> const start(11, 9, layout::contiguous, 4);
  auto expected = copy_of<float>(start.view());
  kernels::low_rank_add(graft::reference{}, x.view(), a.view(), b.view(), expected.view(), 0.7);
  auto const check = [&](auto const& ex) {
    CHECK(compare_one<float>(ex, start.view(), layout::padded, as_const(expected.view()),
                             [&](auto const& e, auto const& y) {
                               kernels::low_rank_add(e, x.view(), a.view(), b.view(), y, 0.7);
                             }) == "");
  };
  check(league_of<1>{});
  check(league_of<3>{});
  check(league_of<16>{});
}
