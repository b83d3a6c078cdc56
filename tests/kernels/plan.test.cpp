#include <graft/kernels/plan.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/plans.hpp"
#include "support/bits.hpp"
#include "support/executors.hpp"
#include "support/lane_by_lane.hpp"
#include "support/random.hpp"
#include "support/resources.hpp"

using graft::index_t;
using graft::plan_options;
using graft::view;
using graft::kernels::drops;
using graft::kernels::make_plan;
using namespace tests;

namespace {

/// What a plan holds, as lists.
struct contents {
  list counts, offsets, permutation, row_tokens, inverse, dropped, tile_experts, tile_rows;
  explicit contents(graft::plan<> const& p)
      : counts(list_of(p.counts)),
        offsets(list_of(p.offsets)),
        permutation(list_of(p.permutation)),
        row_tokens(list_of(p.row_tokens)),
        inverse(list_of(p.inverse)),
        dropped(list_of(p.dropped)),
        tile_experts(list_of(p.tile_experts)),
        tile_rows(list_of(p.tile_rows)) {}
  contents() = default;
  bool operator==(contents const&) const = default;
};

/// The same by a stable sort, of pairs with their tokens.
contents sorted(list const& ids, list const& tokens, index_t experts, plan_options const& o, list const& dropped) {
  auto const at = [](auto& v, index_t i) -> auto& { return v[static_cast<std::size_t>(i)]; };
  list order(ids.size());
  std::iota(order.begin(), order.end(), index_t{0});
  auto const rank = [&](index_t i) { return at(dropped, i) != 0 || at(ids, i) < 0 ? experts : at(ids, i); };
  // What std::stable_sort by rank gives; clang warns inside libstdc++'s.
  std::sort(order.begin(), order.end(),
            [&](index_t a, index_t b) { return std::pair{rank(a), a} < std::pair{rank(b), b}; });
  auto const sizes = graft::sizes_of_plan(static_cast<index_t>(ids.size()), experts, o);
  contents c;
  c.dropped = dropped;
  c.inverse.assign(ids.size(), -1);
  auto next = order.begin();
  for (index_t e = 0; e < experts; ++e) {
    c.offsets.push_back(static_cast<index_t>(c.permutation.size()));
    for (index_t n = 0; next != order.end() && rank(*next) == e; ++next, ++n) {
      if (o.tile > 0 && n % o.tile == 0) {
        c.tile_experts.push_back(e);
        c.tile_rows.push_back(static_cast<index_t>(c.permutation.size()));
      }
      at(c.inverse, *next) = static_cast<index_t>(c.permutation.size());
      c.permutation.push_back(*next);
      c.row_tokens.push_back(at(tokens, *next));
    }
    c.counts.push_back(static_cast<index_t>(c.permutation.size()) - c.offsets.back());
    while (static_cast<index_t>(c.permutation.size()) % o.alignment != 0) {
      c.permutation.push_back(-1);
      c.row_tokens.push_back(-1);
    }
  }
  c.offsets.push_back(static_cast<index_t>(c.permutation.size()));
  REQUIRE(static_cast<index_t>(c.permutation.size()) <= sizes.rows);
  REQUIRE(static_cast<index_t>(c.tile_rows.size()) <= sizes.tiles);
  c.permutation.resize(static_cast<std::size_t>(sizes.rows), -1);
  c.row_tokens.resize(static_cast<std::size_t>(sizes.rows), -1);
  c.tile_experts.resize(static_cast<std::size_t>(sizes.tiles), -1);
  c.tile_rows.resize(static_cast<std::size_t>(sizes.tiles), -1);
  return c;
}

list tokens_of_pairs(index_t T, index_t k) {
  list tokens;
  for (index_t i = 0; i < T * k; ++i) tokens.push_back(i / k);
  return tokens;
}

}  // namespace

TEST_CASE("plan: pairs in the order of experts, and the way back", "[kernels][plan]") {
  std::vector<std::int32_t> const ids{2, 1, 0, 2, -1, 2};  // three tokens, two choices
  auto const a = view(ids, 3, 2);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    owned_plan o(a, 4);
    make_plan(ex, a, o.p);
    CHECK(list_of(o.p.counts) == list{1, 1, 3, 0});
    CHECK(list_of(o.p.offsets) == list{0, 1, 2, 5, 5});
    CHECK(list_of(o.p.permutation) == list{2, 1, 0, 3, 5, -1});
    CHECK(list_of(o.p.row_tokens) == list{1, 0, 0, 1, 2, -1});
    CHECK(list_of(o.p.inverse) == list{2, 1, 0, 3, -1, 4});
    CHECK(list_of(o.p.dropped) == list(6, 0));
    owned_plan aligned(a, 4, {.alignment = 4, .tile = 2});
    make_plan(ex, a, aligned.p);
    CHECK(list_of(aligned.p.offsets) == list{0, 4, 8, 12, 12});
    CHECK(list_of(aligned.p.inverse) == list{8, 4, 0, 9, -1, 10});
    CHECK(list_of(aligned.p.tile_experts) == list{0, 1, 2, 2, -1});
    CHECK(list_of(aligned.p.tile_rows) == list{0, 4, 8, 10, -1});
    aligned.p.dropped(0) = 1;
    make_plan(ex, a, aligned.p, drops::given);
    CHECK(list_of(aligned.p.inverse) == list{-1, 4, 0, 8, -1, 9});
    CHECK(list_of(aligned.p.dropped) == list{1, 0, 0, 0, 0, 0});
    make_plan(ex, a, aligned.p);  // forgets it
    CHECK(list_of(aligned.p.inverse) == list{8, 4, 0, 9, -1, 10});
  });
}

TEST_CASE("plan: any number of experts a token", "[kernels][plan]") {
  list const offsets{0, 2, 2, 3, 6};
  std::vector<std::int64_t> const ids{1, 0, 1, 2, 1, 0};
  graft::ragged_assignment const a{view(offsets), view(ids)};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    owned_plan o(a, 3);
    make_plan(ex, a, o.p);
    CHECK(list_of(o.p.permutation) == list{1, 5, 0, 2, 4, 3});
    CHECK(list_of(o.p.row_tokens) == list{0, 3, 0, 2, 3, 3});
    CHECK(o.p.pair_begin(3) == 3);
  });
}

TEST_CASE("plan: a stable sort gives the same", "[kernels][plan]") {
  random_bits bits(7);
  tally t;
  auto const compare = [&](auto const& a, contents const& expected, index_t E, plan_options const& o, auto const& fill,
                           std::string const& what) {
    for_each_executor([&](std::string const& name, auto const& ex) {
      owned_plan got(a, E, o);
      fill(got.p);
      make_plan(ex, a, got.p, drops::given);
      t.add(contents(got.p) == expected ? "" : "another plan", [&] { return name + ", " + what; });
    });
  };
  for (int turn = 0; turn < 60; ++turn) {
    // Up to 40000 pairs in as many chunks as there are threads, the last one shorter.
    index_t const T = turn < 8 ? turn / 2 : turn % 7 == 0 ? 9001 + 2 * bits.below(500) : bits.below(300);
    index_t const E = turn < 8 ? turn % 2 + 1 : 1 + bits.below(turn % 5 == 0 ? 2000 : 40);
    index_t const k = turn < 8 ? 1 : 1 + bits.below(4);
    int const kind = turn % 6;  // 4: all to one expert; 5: none
    plan_options const o{.alignment = turn % 3 == 0 ? 1 : 1 + bits.below(9), .tile = bits.below(6)};
    list ids(static_cast<std::size_t>(T * k)), dropped(ids.size());
    for (index_t& id : ids) id = kind == 5 ? -1 : kind == 4 ? E - 1 : bits.below(E + (turn % 2)) - turn % 2;
    for (index_t& d : dropped) d = turn % 2 == 0 ? 0 : bits.below(3) / 2;
    auto const fill = [&](graft::plan<> const& p) {
      for (index_t i = 0; i < p.pairs(); ++i)
        p.dropped(i) = static_cast<std::uint8_t>(dropped[static_cast<std::size_t>(i)]);
    };
    std::string const what = std::to_string(T) + " tokens, " + std::to_string(k) + " of " + std::to_string(E);
    compare(view(ids, T, k), sorted(ids, tokens_of_pairs(T, k), E, o, dropped), E, o, fill, what);
    // The same ids column by column in 32 bits, and cut at random.
    std::vector<std::int32_t> turned(ids.size());
    for (index_t i = 0; i < T; ++i)
      for (index_t s = 0; s < k; ++s)
        turned[static_cast<std::size_t>(s * T + i)] =
            static_cast<std::int32_t>(ids[static_cast<std::size_t>(i * k + s)]);
    compare(transposed(view(turned, k, T)), sorted(ids, tokens_of_pairs(T, k), E, o, dropped), E, o, fill,
            what + ", turned");
    list offsets{0}, tokens;
    while (offsets.back() < T * k) offsets.push_back(std::min(T * k, offsets.back() + bits.below(5)));
    for (std::size_t i = 1; i < offsets.size(); ++i)
      tokens.resize(static_cast<std::size_t>(offsets[i]), static_cast<index_t>(i) - 1);
    compare(graft::ragged_assignment{view(offsets), view(ids)}, sorted(ids, tokens, E, o, dropped), E, o, fill,
            what + ", ragged");
  }
  CHECK(t.text() == "");
  CHECK(t.count() == 60 * 3 * executor_count);
}

TEST_CASE("plan: chunks by lanes give the plan of the reference, in every order of lanes", "[kernels][plan]") {
  random_bits bits(9);
  tally t;
  for (auto const& [T, E, k] : {std::array<index_t, 3>{1700, 5, 2}, {700, 1, 1}, {900, 300, 3}, {40, 7, 60}}) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(T * k));
    for (auto& id : ids) id = static_cast<std::int32_t>(bits.below(E + 1)) - 1;
    list offsets{0};
    while (offsets.back() < T * k) offsets.push_back(std::min(T * k, offsets.back() + bits.below(2 * k + 1)));
    auto const compare = [&, experts = E](auto const& a, std::string const& what) {
      owned_plan expected(a, experts, {.alignment = 8, .tile = 16});
      auto const fill = [](graft::plan<> const& p) {
        for (index_t i = 0; i < p.pairs(); ++i) p.dropped(i) = i % 11 == 3;
      };
      for (auto const given : {drops::none, drops::given}) {
        fill(expected.p);
        make_plan(graft::reference{}, a, expected.p, given);
        for_each_lane_order([&](std::string const& name, auto const& ex) {
          owned_plan got(a, experts, {.alignment = 8, .tile = 16});
          fill(got.p);
          make_plan(ex, a, got.p, given);
          t.add(contents(got.p) == contents(expected.p) ? "" : "another plan", [&] { return name + ", " + what; });
        });
      }
    };
    compare(view(ids, T, k), std::to_string(T) + " tokens");
    CHECK(graft::detail::plan_chunks(lane_by_lane{}, T, T * k, E) == std::max(index_t{1}, T * k / 512));
    compare(graft::ragged_assignment{view(offsets), view(ids)}, std::to_string(T * k) + " pairs, ragged");
    // The lowest bad token is that of the reference.
    for (index_t const bad : {T * k - 1, T * k / 2 + 1, T * k / 2}) {
      ids[static_cast<std::size_t>(bad)] = static_cast<std::int32_t>(E + bad % 3);
      for_each_lane_order([&, experts = E, token = bad / k](std::string const& name, auto const& ex) {
        owned_plan got(view(ids, T, k), experts);
        CHECK_THROWS_AS(make_plan(ex, view(ids, T, k), got.p), graft::data_error);
        t.add(got.p.status(0) == token ? "" : "another bad token", [&] { return name; });
      });
    }
  }
  INFO(t.text());
  CHECK(t.text().empty());
}

TEST_CASE("plan: tokens in another order are the same plan in another order", "[kernels][plan]") {
  constexpr index_t T = 500, k = 3, E = 7;
  random_bits bits(5);
  list ids(T * k), order(T), moved(T * k);
  for (index_t& id : ids) id = bits.below(E);
  std::iota(order.begin(), order.end(), index_t{0});
  for (std::size_t i = T - 1; i > 0; --i)
    std::swap(order[i], order[static_cast<std::size_t>(bits.below(static_cast<index_t>(i) + 1))]);
  for (std::size_t t = 0; t < T; ++t)
    for (std::size_t s = 0; s < k; ++s) moved[t * k + s] = ids[static_cast<std::size_t>(order[t]) * k + s];
  owned_plan a(view(ids, T, k), E), b(view(moved, T, k), E);
  make_plan(graft::serial{}, view(ids, T, k), a.p);
  make_plan(graft::openmp{4}, view(moved, T, k), b.p);
  CHECK(list_of(a.p.counts) == list_of(b.p.counts));
  // Each expert has the same pairs; permutation and inverse undo each other.
  for (index_t e = 0; e < E; ++e) {
    list of_a, of_b;
    for (index_t row = a.p.offsets(e); row < a.p.offsets(e + 1); ++row) {
      of_a.push_back(a.p.permutation(row));
      of_b.push_back(order[static_cast<std::size_t>(b.p.row_tokens(row))] * k + b.p.permutation(row) % k);
    }
    std::sort(of_b.begin(), of_b.end());
    CHECK(of_a == of_b);
  }
  for (index_t pair = 0; pair < T * k; ++pair) CHECK(b.p.permutation(b.p.inverse(pair)) == pair);
}

TEST_CASE("plan: the lowest bad token is named, by any number of threads", "[kernels][plan]") {
  constexpr index_t T = 10000, k = 4, E = 8;
  random_bits bits(3);
  std::vector<std::int32_t> ids(T * k);
  for (auto& id : ids) id = static_cast<std::int32_t>(bits.below(E));
  auto const sentence = [&](auto const& ex, auto const& a) {
    owned_plan o(a, E);
    try {
      make_plan(ex, a, o.p);
    } catch (graft::data_error const& e) {
      CHECK(o.p.status(0) >= 0);
      return std::string(e.what());
    }
    return std::string("nothing");
  };
  for (index_t const bad : {index_t{0}, index_t{1}, index_t{7}, T * k / 2 + 3, T * k - 1}) {
    auto wrong = ids;
    for (index_t i = bad; i < T * k; i += 777) wrong[static_cast<std::size_t>(i)] = bad % 2 == 0 ? E : -2;
    for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name);
      CHECK(sentence(ex, view(ids, T, k)) == "nothing");
      CHECK(sentence(ex, view(wrong, T, k)) == "graft::kernels::make_plan: token " + std::to_string(bad / k) +
                                                   " names the expert " + std::to_string(bad % 2 == 0 ? E : -2) +
                                                   " in choice " + std::to_string(bad % k) +
                                                   " but there are 8 experts");
    });
  }
  list offsets(T + 1);
  for (std::size_t i = 0; i < offsets.size(); ++i) offsets[i] = static_cast<index_t>(i) * k;
  list const sound = offsets;
  std::vector<std::pair<std::size_t, index_t>> const faults{{0, 1},     {5, 13},        {5, 1 << 30},
                                                            {8000, -1}, {T, T * k - 1}, {T, T * k + 1}};
  for (auto const& [at, value] : faults) {
    offsets = sound;
    offsets[at] = value;
    for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name);
      CHECK(sentence(ex, graft::ragged_assignment{view(offsets), view(ids)}) ==
            "graft::kernels::make_plan: the offsets of token " +
                std::to_string(at == 0                  ? 0
                               : at == 5 && value == 13 ? 4
                                                        : at - 1) +
                " do not rise from 0 to 40000, the number of ids");
    });
  }
}

namespace {
/// Memory that the host cannot look at, or so it says: nothing may be read before `check` is asked.
struct elsewhere {
  using space_type = graft::device_space;
  static constexpr int row_block = 4;
  static constexpr bool ordered_scratch = true;
  graft::scratch_arena* scratch = nullptr;
  [[nodiscard]] graft::scratch_arena* resource() const { return scratch; }
  template <class Body>
  void league(index_t size, std::size_t bytes, Body const& body) const {
    graft::serial{}.league(size, bytes, body);
  }
  void fence() const { FAIL_CHECK("a wait that nobody asked for"); }
};
static_assert(graft::executor<elsewhere>);
}  // namespace

TEST_CASE("plan: another memory space keeps what was wrong in the status", "[kernels][plan]") {
  std::vector<std::int32_t> const ids{1, 0, 3, 1};
  alignas(64) std::array<std::byte, 128> buffer{};
  graft::scratch_arena scratch(buffer);
  auto const a = graft::view_in<graft::device_space>(ids.data(), 2, 2);
  std::vector<std::byte> memory(graft::plan_bytes(4, 3));
  auto const p = graft::plan_in(memory, a, 3);
  static_assert(std::is_same_v<decltype(p), graft::plan<graft::device_space> const>);
  CHECK(make_plan.scratch_bytes(elsewhere{&scratch}, a, p) == 8 * 6);
  CHECK(graft::scratch_bytes(elsewhere{}, [&](auto const& ex) { make_plan(ex, a, p); }) == 8 * 6);
  make_plan(elsewhere{&scratch}, a, p);
  CHECK(list_of(p.status) == list{1, 0, 3, 3});
  CHECK(list_of(p.inverse) == list{1, 0, -1, 2});  // no expert, no row
  CHECK_THROWS_AS(graft::check(p.status), graft::data_error);
  make_plan(elsewhere{&scratch}, graft::view_in<graft::device_space>(ids.data() + 2, 1, 2),
            graft::plan_in(memory, graft::view_in<graft::device_space>(ids.data(), 1, 2), 4));
  auto const sound = graft::plan_in(memory, graft::view_in<graft::device_space>(ids.data(), 1, 2), 4);
  CHECK_NOTHROW(graft::check(sound.status));
  graft::scratch_arena little(buffer.data(), 40);
  CHECK_THROWS_AS(make_plan(elsewhere{&little}, a, p), graft::argument_error);
  CHECK_THROWS_AS(make_plan(elsewhere{}, a, p), graft::argument_error);
}

TEST_CASE("plan: sizes are 64 bits wide, and what does not fit them is refused", "[kernels][plan]") {
  constexpr index_t many = index_t{3} << 32;  // T k
  constexpr auto sizes = graft::sizes_of_plan(many, 256, {.alignment = 128, .tile = 16});
  static_assert(sizes.rows == many + 256 * 127 && sizes.tiles == (many + 256 * 15) / 16);
  static_assert(graft::plan_bytes(many, 256) >= static_cast<std::size_t>(many) * 25);
  // Views of that many ids are never read here: pairs, rows and bytes are known from extents.
  std::int32_t const* const nowhere = nullptr;
  CHECK(graft::detail::pairs_of(view(nowhere, index_t{3} << 30, 4)) == many);
  CHECK_THROWS_AS(graft::plan_in({}, view(nowhere, index_t{3} << 30, 4), 256), graft::argument_error);
  constexpr index_t largest = std::numeric_limits<index_t>::max();
  CHECK_THROWS_AS(graft::sizes_of_plan(largest, 2, {.alignment = 3}), graft::shape_error);
  CHECK_THROWS_AS(graft::plan_bytes(largest / 8 + 1, 1), graft::shape_error);
  CHECK_THROWS_AS(graft::plan_bytes(1, largest), graft::shape_error);
  CHECK_THROWS_AS(graft::sizes_of_plan(-1, 1), graft::argument_error);
  CHECK_THROWS_AS(graft::sizes_of_plan(1, 1, {.alignment = 0}), graft::argument_error);
  CHECK_THROWS_AS(graft::sizes_of_plan(1, 1, {.tile = -1}), graft::argument_error);
  graft::plan<> p;
  p.choices = 3;
  CHECK(p.pair_begin(index_t{1} << 40) == index_t{3} << 40);
}

TEST_CASE("plan: of another assignment, or in memory that is too small, it is refused", "[kernels][plan]") {
  std::vector<std::int32_t> ids(6);
  list offsets{0, 6};
  owned_plan o(view(ids, 3, 2), 2);
  graft::ragged_assignment const ragged{view(offsets), view(ids)};
  CHECK_THROWS_AS(make_plan(graft::serial{}, view(ids, 2, 3), o.p), graft::shape_error);
  CHECK_THROWS_AS(make_plan(graft::serial{}, view(ids.data(), 2, 2), o.p), graft::shape_error);
  CHECK_THROWS_AS(make_plan(graft::serial{}, ragged, o.p), graft::shape_error);
  auto p = o.p;
  p.tile_rows = p.counts;
  CHECK_THROWS_AS(make_plan(graft::serial{}, view(ids, 3, 2), p), graft::shape_error);
  p = o.p;
  p.options.alignment = 2;
  CHECK_THROWS_AS(make_plan(graft::serial{}, view(ids, 3, 2), p), graft::shape_error);
  CHECK_THROWS_AS(make_plan(graft::serial{}, view(static_cast<std::int32_t*>(nullptr), 3, 2), o.p),
                  graft::argument_error);
  list shared(6);
  p = o.p;
  p.inverse = view(shared);
  CHECK_THROWS_AS(make_plan(graft::serial{}, view(shared, 3, 2), p), graft::argument_error);
  list const wide{0, 5, 6, 5};
  graft::ragged_assignment const strided{view(wide.data(), graft::extents<2>{}, {2}), view(ids)};
  CHECK_THROWS_AS(graft::plan_in(o.memory, strided, 2), graft::argument_error);
  std::span<std::byte> const memory(o.memory);
  CHECK_THROWS_AS(graft::plan_in(memory.first(memory.size() - 1), view(ids, 3, 2), 2), graft::argument_error);
  CHECK_THROWS_AS(graft::plan_in(memory.subspan(4), view(ids.data(), 2, 1), 2), graft::argument_error);
}

TEST_CASE("plan: scratch is what the query says, once", "[kernels][plan]") {
  std::vector<std::int32_t> ids(20000);
  auto const a = view(ids, 5000, 4);
  watched_resource memory;
  int calls = 0;
  std::size_t bytes = 0;
  for_each_host_executor(
      [&](std::string const&, auto const& ex) {
        owned_plan o(a, 9);
        ++calls;
        bytes += make_plan.scratch_bytes(ex, a, o.p);
        make_plan(ex, a, o.p);
      },
      &memory);
  CHECK(memory.allocations == calls);
  CHECK(memory.deallocations == calls);
  CHECK(memory.bytes == bytes);
  CHECK_FALSE(memory.overrun);
}

TEST_CASE("plan: for_each_expert visits those that have rows", "[kernels][plan]") {
  std::vector<std::int32_t> const ids{2, 0, 2};
  owned_plan o(view(ids, 3, 1), 4, {.alignment = 2});
  make_plan(graft::serial{}, view(ids, 3, 1), o.p);
  std::vector<float> rows(static_cast<std::size_t>(o.p.offsets(4)) * 2);
  std::iota(rows.begin(), rows.end(), 0.0F);
  list seen;
  graft::for_each_expert(o.p, view(rows, 4, 2), [&](index_t e, auto const& mine) {
    seen.insert(seen.end(), {e, mine.extent(0), static_cast<index_t>(mine(0, 0))});
  });
  CHECK(seen == list{0, 1, 0, 2, 2, 4});
  CHECK_THROWS_AS(graft::expert_rows(o.p, view(rows, 4, 2), 4), graft::shape_error);
}
