// An executor that counts what it is asked to launch: one type in one file, and every verb takes it.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/graft.hpp>

#include "support/layouts.hpp"
#include "support/low_rank_product.hpp"
#include "support/random.hpp"

using graft::index_t;
using graft::view;
using tests::layout;
using tests::matrix;
namespace kernels = graft::kernels;

namespace {

struct counts {
  std::vector<index_t> leagues;  // the size of each
  int regions = 0;
};

/// Generic bodies: counts leagues. `Slots` teams at once; scratch from a resource, an arena, or nowhere.
enum class scratch { none, resource, arena };
template <scratch Scratch, int Slots>
struct counting {
  using space_type = graft::host_space;
  static constexpr int row_block = 4;
  counts* seen;
  graft::scratch_arena* memory = nullptr;

  [[nodiscard]] static constexpr index_t teams_at_once() { return Slots; }
  [[nodiscard]] std::pmr::memory_resource* resource() const
    requires(Scratch == scratch::resource)
  {
    return std::pmr::get_default_resource();
  }
  [[nodiscard]] std::pmr::memory_resource* resource() const
    requires(Scratch == scratch::arena)
  {
    return memory;
  }
  [[nodiscard]] std::size_t scratch_left() const
    requires(Scratch == scratch::arena)
  {
    return memory->left();
  }
  template <class Body>
  void league(index_t size, std::size_t bytes, Body const& body) const {
    seen->leagues.push_back(size);
    graft::reference{}.league(size, bytes, body);
  }
  void fence() const {}
};
/// Host bodies: counts regions too.
struct counting_host : counting<scratch::resource, 1> {
  [[nodiscard]] static constexpr int concurrency() { return 1; }
  template <class F>
  void region(int, F const& f) const {
    ++seen->regions;
    f(graft::only_worker{});
  }
};
static_assert(graft::executor<counting<scratch::none, 1>> && graft::host_executor<counting_host>);
static_assert(!graft::host_executor<counting<scratch::resource, 100>>);

using problem = tests::low_rank_product<float>;
/// Bytes between two leagues: the dots of every chunk.
[[nodiscard]] std::size_t between(index_t T, index_t n, index_t r) {
  return sizeof(float) * static_cast<std::size_t>((n + 511) / 512 * T * r);
}
using sizes = std::vector<index_t>;

}  // namespace

TEST_CASE("a host body is one region and no league; every other verb one league", "[fictitious]") {
  matrix<float> x(9, 40, layout::contiguous, 1);
  matrix<float> a(5, 40, layout::contiguous, 2);
  matrix<float> b(70, 5, layout::contiguous, 3);
  matrix<float> y(9, 70, layout::contiguous, 4);
  matrix<float> v(9, 5, layout::contiguous, 5);
  matrix<float> z(9, 40);
  matrix<float> w(70, 40, layout::contiguous, 6);
  std::vector<float> panels(static_cast<std::size_t>(graft::panels_view<float>::storage(70, 5)));
  graft::panels_view<float> const packed(panels.data(), 70, 5);
  auto rows = tests::random_numbers<float>(9, 7);
  auto columns = tests::random_numbers<float>(70, 8);
  auto const check = [&](char const* what, int regions, std::size_t leagues, auto const& call) {
    INFO(what);
    counts seen;
    call(counting_host{{.seen = &seen}});
    CHECK(seen.regions == regions);
    CHECK(seen.leagues.size() == leagues);
    counts without;
    call(counting<scratch::resource, 1>{&without});
    CHECK(without.leagues.size() == 1);
  };
  graft::dropout const mask{0.4, 1, 2};
  check("low_rank_add", 1, 0,
        [&](auto const& ex) { kernels::low_rank_add(ex, x.view(), a.view(), b.view(), y.view()); });
  check("shrink", 1, 0, [&](auto const& ex) { kernels::shrink(ex, x.view(), a.view(), v.view()); });
  check("expand_add", 1, 0, [&](auto const& ex) { kernels::expand_add(ex, v.view(), b.view(), y.view()); });
  check("outer_add", 1, 0, [&](auto const& ex) { kernels::outer_add(ex, b.view(), a.view(), w.view()); });
  check("pack_panels", 0, 1, [&](auto const& ex) { kernels::pack_panels(ex, b.view(), packed); });
  check("low_rank_add of panels", 1, 0,
        [&](auto const& ex) { kernels::low_rank_add(ex, x.view(), a.view(), packed, y.view()); });
  check("scale_rows", 0, 1, [&](auto const& ex) { kernels::scale_rows(ex, view(rows), y.view()); });
  check("scale_columns", 0, 1, [&](auto const& ex) { kernels::scale_columns(ex, view(columns), y.view()); });
  check("add_bias", 0, 1, [&](auto const& ex) { kernels::add_bias(ex, view(columns), y.view()); });
  check("sum_rows", 0, 1, [&](auto const& ex) { kernels::sum_rows(ex, y.view(), view(columns)); });
  check("copy", 0, 1, [&](auto const& ex) { kernels::copy(ex, x.view(), z.view()); });
  check("drop", 0, 1, [&](auto const& ex) { kernels::drop(ex, mask, x.view(), z.view()); });
  check("drop_add", 0, 1, [&](auto const& ex) { kernels::drop_add(ex, mask, x.view(), z.view()); });
  check("fill_uniform", 0, 1, [&](auto const& ex) { kernels::fill_uniform(ex, {1, 2}, z.view()); });
  check("fill_normal", 0, 1, [&](auto const& ex) { kernels::fill_normal(ex, {1, 2}, z.view()); });
}

TEST_CASE("double is one league on a host executor, and no region", "[fictitious]") {
  matrix<double> x(9, 40, layout::contiguous, 1);
  matrix<double> a(5, 40, layout::contiguous, 2);
  matrix<double> b(70, 5, layout::contiguous, 3);
  matrix<double> y(9, 70, layout::contiguous, 4);
  matrix<double> v(9, 5);
  matrix<double> w(70, 40);
  auto const check = [&](char const* what, auto const& call) {
    INFO(what);
    counts seen;
    call(counting_host{{.seen = &seen}});
    CHECK(seen.regions == 0);
    CHECK(seen.leagues.size() == 1);
  };
  check("low_rank_add", [&](auto const& ex) { kernels::low_rank_add(ex, x.view(), a.view(), b.view(), y.view()); });
  check("shrink", [&](auto const& ex) { kernels::shrink(ex, x.view(), a.view(), v.view()); });
  check("expand_add", [&](auto const& ex) { kernels::expand_add(ex, v.view(), b.view(), y.view()); });
  check("outer_add", [&](auto const& ex) { kernels::outer_add(ex, b.view(), a.view(), w.view()); });
}

TEST_CASE("generic bodies are cut over rows and columns", "[fictitious]") {
  counts seen;
  counting<scratch::none, 1> const ex{&seen};
  matrix<float> x(9, 40, layout::contiguous, 1);
  matrix<float> a(33, 40, layout::contiguous, 2);
  matrix<float> v(9, 33);
  matrix<float> b(257, 33, layout::contiguous, 3);
  matrix<float> y(9, 257);
  kernels::shrink(ex, x.view(), a.view(), v.view());
  kernels::expand_add(ex, v.view(), b.view(), y.view());
  CHECK(seen.leagues == sizes{3 * 3, 3 * 2});  // tiles of 4 rows by 16 ranks, by 256 columns
}

TEST_CASE("low_rank_add takes two leagues where rows alone leave teams idle", "[fictitious]") {
  for (index_t const T : {1, 3, 4, 5, 9})
    for (index_t const n : {1, 511, 512, 513, 1030})
      for (index_t const r : {1, 15, 16, 17})
        for (index_t const m : {257, 600}) {
          INFO("T = " << T << ", n = " << n << ", r = " << r << ", m = " << m);
          problem p(T, n, r, m);
          index_t const rows = (T + 3) / 4;
          sizes const one{rows};
          sizes const two{rows * ((r + 15) / 16) * ((n + 511) / 512), rows * ((m + 255) / 256)};
          counts seen;
          p.call(counting<scratch::resource, 100>{&seen});
          CHECK(p.wrong() == "");
          CHECK(seen.leagues == two);

          // Rows are enough, or there is no memory that outlives a league.
          seen = {};
          p.reset();
          p.call(counting<scratch::resource, 1>{&seen});
          CHECK(p.wrong() == "");
          CHECK(seen.leagues == one);
          seen = {};
          p.reset();
          p.call(counting<scratch::none, 100>{&seen});
          CHECK(p.wrong() == "");
          CHECK(seen.leagues == one);

          // Memory that the caller gave: used when it is enough, and not a byte behind it.
          std::vector<std::byte> memory(between(T, n, r) + 128, std::byte{0xa5});
          std::byte* const aligned = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
          graft::scratch_arena enough(aligned, between(T, n, r));
          seen = {};
          p.reset();
          p.call(counting<scratch::arena, 100>{&seen, &enough});
          CHECK(p.wrong() == "");
          CHECK(seen.leagues == two);
          CHECK(enough.most() == between(T, n, r));
          CHECK(enough.used() == 0);
          CHECK(std::all_of(aligned + between(T, n, r), memory.data() + memory.size(),
                            [](std::byte b) { return b == std::byte{0xa5}; }));
          graft::scratch_arena little(aligned, between(T, n, r) - 1);
          seen = {};
          p.reset();
          p.call(counting<scratch::arena, 100>{&seen, &little});
          CHECK(p.wrong() == "");
          CHECK(seen.leagues == one);
        }
}

TEST_CASE("one tile of columns, and no columns, ranks or terms, need no second league", "[fictitious]") {
  for (auto const& [n, r, m] :
       std::vector<std::array<index_t, 3>>{{40, 5, 256}, {40, 5, 0}, {40, 0, 600}, {0, 5, 600}}) {
    INFO("n = " << n << ", r = " << r << ", m = " << m);
    problem p(3, n, r, m);
    counts seen;
    p.call(counting<scratch::resource, 100>{&seen});
    CHECK(p.wrong() == "");
    CHECK(seen.leagues.size() == 1);
  }
}
