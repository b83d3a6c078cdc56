#include <graft/routing/capacity.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/plans.hpp"
#include "support/bits.hpp"
#include "support/executors.hpp"
#include "support/random.hpp"
#include "support/resources.hpp"

using graft::capacity;
using graft::drop_order;
using graft::make_plan;
using graft::none;
using graft::view;
using namespace tests;

namespace {

template <class T>
T& at(std::vector<T>& v, index_t i) {
  return v[static_cast<std::size_t>(i)];
}
template <class T>
T const& at(std::vector<T> const& v, index_t i) {
  return v[static_cast<std::size_t>(i)];
}

/// Sorts the pairs of each expert in each group, and drops those behind the limit.
template <class S>
list dropped_by_sorting(list const& ids, list const& offsets, index_t E, capacity const& c, index_t limit,
                        std::vector<S> const& scores) {
  list dropped(ids.size());
  struct asked {
    index_t choice, pair, token;
    double score, best;
  };
  index_t const T = static_cast<index_t>(offsets.size()) - 1;
  for (index_t e = 0; e < E; ++e)
    for (index_t first = 0; first < T; first += c.group > 0 ? c.group : T) {
      std::vector<asked> all;
      for (index_t t = first; t < std::min(T, c.group > 0 ? first + c.group : T); ++t) {
        double best = -HUGE_VAL;
        for (index_t i = at(offsets, t); i < at(offsets, t + 1); ++i)
          best = std::max(best, graft::load_as<double>(at(scores, i)));
        for (index_t i = at(offsets, t); i < at(offsets, t + 1); ++i)
          if (at(ids, i) == e) all.push_back({i - at(offsets, t), i, t, graft::load_as<double>(at(scores, i)), best});
      }
      std::sort(all.begin(), all.end(), [&](asked const& a, asked const& b) {
        switch (c.order) {
          case drop_order::token: return a.pair < b.pair;
          case drop_order::choice: return std::pair(a.choice, a.pair) < std::pair(b.choice, b.pair);
          case drop_order::probability: return std::pair(-a.score, a.pair) < std::pair(-b.score, b.pair);
          case drop_order::batch_priority:
            return std::tuple(a.choice, -a.best, a.pair) < std::tuple(b.choice, -b.best, b.pair);
          default: break;
        }
        auto const drawn = [&](index_t i) { return graft::detail::philox_word(c.seed, c.stream, i); };
        return std::pair(drawn(a.pair), a.pair) < std::pair(drawn(b.pair), b.pair);
      });
      for (std::size_t i = static_cast<std::size_t>(limit); i < all.size(); ++i) at(dropped, all[i].pair) = 1;
    }
  return dropped;
}

constexpr drop_order orders[] = {drop_order::token, drop_order::choice, drop_order::probability,
                                 drop_order::batch_priority, drop_order::random};

}  // namespace

TEST_CASE("capacity: Switch takes a sequence's first tokens", "[routing][capacity]") {
  std::vector<std::int32_t> const ids{0, 1, 0, 0, 0, 1};  // two sequences of three
  auto const a = view(ids, 6, 1);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    owned_plan o(a, 2);
    std::vector<std::int32_t> positions(6);
    make_plan(ex, a, {.fixed = 1, .group = 3}, o.p, none, view(positions, 6, 1));
    CHECK(list_of(o.p.dropped) == list{0, 0, 1, 0, 1, 0});
    CHECK(positions == std::vector<std::int32_t>{0, 0, 1, 0, 1, 0});
    CHECK(list_of(o.p.counts) == list{2, 2});
    CHECK(list_of(o.p.permutation) == list{0, 3, 1, 5, -1, -1});
    CHECK(list_of(o.p.inverse) == list{0, 2, -1, 1, -1, 3});
    make_plan(ex, a, {.fixed = 3}, o.p);
    CHECK(list_of(o.p.dropped) == list{0, 0, 0, 0, 1, 0});
    make_plan(ex, a, {.fixed = 0}, o.p);
    CHECK(list_of(o.p.counts) == list{0, 0});
    make_plan(ex, a, graft::dropless, o.p);
    CHECK(list_of(o.p.dropped) == list(6, 0));
  });
}

TEST_CASE("capacity: GShard serves first choices first", "[routing][capacity]") {
  std::vector<std::int64_t> const ids{1, 0, 0, 1, 0, 1, 0, -1};  // four tokens, two choices
  auto const a = view(ids, 4, 2);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    owned_plan o(a, 2);
    std::vector<std::int64_t> positions(8);
    make_plan(ex, a, {.fixed = 2, .order = drop_order::choice}, o.p, none, view(positions, 4, 2));
    // Expert 0: tokens 1, 2, 3 first, then the second choice of 0. Expert 1: token 0, then the second choices of 1 and 2.
    CHECK(positions == list{0, 3, 0, 1, 1, 2, 2, -1});
    CHECK(list_of(o.p.dropped) == list{0, 1, 0, 0, 0, 1, 1, 0});
    CHECK(list_of(o.p.permutation) == list{2, 4, 0, 3, -1, -1, -1, -1});
    std::vector<float> const scores{0.5F, 0.25F, 0.75F, 0.5F, 0.25F, 0.25F, 0.5F, 0.125F};
    make_plan(ex, a, {.fixed = 1, .order = drop_order::probability}, o.p, view(scores, 4, 2));
    CHECK(list_of(o.p.dropped) == list{0, 1, 0, 1, 1, 1, 1, 0});  // a tie: the lower token
    make_plan(ex, a, {.fixed = 2, .order = drop_order::batch_priority}, o.p, view(scores, 4, 2));
    CHECK(list_of(o.p.dropped) == list{0, 1, 0, 0, 1, 1, 0, 0});  // tokens in the order 1, 0, 3, 2
  });
}

TEST_CASE("capacity: sorting gives the same, in every order", "[routing][capacity]") {
  tally t;
  random_bits bits(11);
  for (int turn = 0; turn < 120; ++turn) {
    index_t const T = turn < 3 ? turn : bits.below(turn % 20 == 0 ? 4000 : 90);
    index_t const E = 1 + bits.below(turn % 2 == 0 ? 3 : 12), k = 1 + bits.below(4);
    drop_order const order = orders[turn % 5];
    list ids(static_cast<std::size_t>(T * k)), offsets{0};
    for (index_t& id : ids) id = bits.below(E + 1) - (turn % 3 == 0 ? 1 : 0);
    for (index_t& id : ids) id = id == E ? -1 : id;
    bool const ragged = turn % 4 == 3;
    while (static_cast<index_t>(offsets.size()) <= T || (ragged && offsets.back() < T * k))
      offsets.push_back(ragged ? std::min(T * k, offsets.back() + bits.below(2 * k)) : offsets.back() + k);
    // Few values, so that there are ties; zeros of both signs are one value.
    std::vector<float> scores(ids.size());
    for (float& s : scores)
      s = turn % 7 == 0 ? bits.number() : static_cast<float>(bits.below(5) - 2) * (bits.below(2) == 0 ? 0.0F : 0.25F);
    std::vector<double> fine(scores.begin(), scores.end());
    for (double& s : fine) s += static_cast<double>(bits.below(3)) * 0x1p-40;  // equal in fp32
    index_t const limit = bits.below(turn % 6 == 0 ? 3 : 20);
    capacity const c{.fixed = limit,
                     .order = order,
                     .group = turn % 3 == 1 ? 1 + bits.below(30) : 0,
                     .seed = 5,
                     .stream = static_cast<std::uint64_t>(turn)};
    auto const run = [&](auto const& a, auto const& s, list const& expected) {
      for_each_executor([&](std::string const& name, auto const& ex) {
        owned_plan o(a, E, {.alignment = 1 + turn % 3});
        make_plan(ex, a, c, o.p, s);
        bool right = list_of(o.p.dropped) == expected;
        for (index_t i = 0; i < o.p.pairs(); ++i)
          right = right && (o.p.inverse(i) < 0) == (at(expected, i) != 0 || at(ids, i) < 0);
        t.add(right ? "" : "another choice", [&] { return name + ", turn " + std::to_string(turn); });
      });
    };
    auto const expected = dropped_by_sorting(ids, offsets, E, c, limit, scores);
    auto const in_fp64 = dropped_by_sorting(ids, offsets, E, c, limit, fine);
    if (ragged) {
      graft::ragged_assignment const a{view(offsets), view(ids)};
      run(a, view(scores), expected);
      run(a, view(fine), in_fp64);
    } else {
      run(view(ids, T, k), view(scores, T, k), expected);
      run(view(ids, T, k), view(fine, T, k), in_fp64);
    }
  }
  CHECK(t.text() == "");
  CHECK(t.count() == 240 * executor_count);
}

TEST_CASE("capacity: counting all first choices or only those kept drops the same second ones", "[routing][capacity]") {
  // GShard offsets second choices by all first choices of the expert, Mesh TensorFlow by those that found room.
  random_bits bits(2);
  for (int turn = 0; turn < 20; ++turn) {
    constexpr index_t T = 50, E = 5;
    list ids(2 * T);
    for (index_t t = 0; t < T; ++t) {
      at(ids, 2 * t) = bits.below(E);
      at(ids, 2 * t + 1) = (at(ids, 2 * t) + 1 + bits.below(E - 1)) % E;
    }
    index_t const C = bits.below(25);
    list taken(E), kept(2 * T);
    for (index_t s = 0; s < 2; ++s)
      for (index_t t = 0; t < T; ++t)
        if (index_t& n = at(taken, at(ids, 2 * t + s)); n < C) ++n, at(kept, 2 * t + s) = 1;
    owned_plan o(view(ids, T, 2), E);
    make_plan(graft::serial{}, view(ids, T, 2), {.fixed = C, .order = drop_order::choice}, o.p);
    for (index_t i = 0; i < 2 * T; ++i) CHECK(o.p.dropped(i) == 1 - at(kept, i));
  }
}

TEST_CASE("capacity: at random every pair has the same chance, by another stream another one", "[routing][capacity]") {
  constexpr index_t T = 100;
  std::vector<std::int32_t> const ids(T);
  owned_plan o(view(ids, T, 1), 1);
  list kept(T);
  for (std::uint64_t stream = 0; stream < 400; ++stream) {
    make_plan(graft::serial{}, view(ids, T, 1), {.fixed = 25, .order = drop_order::random, .seed = 9, .stream = stream},
              o.p);
    REQUIRE(o.p.counts(0) == 25);
    for (index_t t = 0; t < T; ++t) at(kept, t) += 1 - o.p.dropped(t);
  }
  // 400 draws, p = 1/4: six standard deviations are 52.
  for (index_t const n : kept) CHECK(std::abs(n - 100) < 52);
}

TEST_CASE("capacity: NaN scores are dropped first", "[routing][capacity]") {
  std::vector<std::int32_t> const ids(3);
  std::vector<float> const scores{NAN, -HUGE_VALF, 0.5F};
  owned_plan o(view(ids, 3, 1), 1);
  make_plan(graft::serial{}, view(ids, 3, 1), {.fixed = 2, .order = drop_order::probability}, o.p, view(scores, 3, 1));
  CHECK(list_of(o.p.dropped) == list{1, 0, 0});
}

TEST_CASE("capacity: what an expert takes", "[routing][capacity]") {
  CHECK(capacity{}.of(100, 200, 8) == 25);
  CHECK(capacity{.factor = 1.25}.of(100, 200, 8) == 32);  // 31.25
  CHECK(capacity{.factor = 1.25, .per_choice = false, .rounds_up = false}.of(100, 200, 8) == 15);
  CHECK(capacity{.factor = 1.25, .minimum = 4, .per_choice = false, .rounds_up = false}.of(16, 16, 8) == 4);
  CHECK(capacity{.factor = 2, .group = 10}.of(100, 300, 4) == 15);
  CHECK(capacity{.factor = 2, .minimum = 9, .fixed = 3}.of(100, 300, 4) == 3);
  CHECK(capacity{}.of(0, 0, 4) == 0);
  CHECK(capacity{}.of(0, 0, 0) == 0);
  constexpr index_t many = index_t{1} << 40;  // T k above 2^31
  CHECK(capacity{.factor = 1.5}.of(many, 8 * many, 256) == 12 * many / 256);
  CHECK(capacity{.factor = 1e300}.of(many, many, 1) == std::numeric_limits<index_t>::max());
  CHECK_THROWS_AS(capacity{.factor = -1}.of(1, 1, 1), graft::argument_error);
  CHECK_THROWS_AS(capacity{.factor = NAN}.of(1, 1, 1), graft::argument_error);
  CHECK_THROWS_AS((capacity{.fixed = 1, .group = -1}.of(1, 1, 1)), graft::argument_error);
}

TEST_CASE("capacity: what does not fit is refused", "[routing][capacity]") {
  std::vector<std::int32_t> const ids{0, 1, 0, 0};
  std::vector<std::int32_t> positions(4, 7);
  std::vector<float> const scores(4);
  owned_plan o(view(ids, 2, 2), 2);
  graft::serial const ex;
  auto const untouched = o.p.counts(0) = 77;
  capacity const by_score{.fixed = 1, .order = drop_order::probability};
  CHECK_THROWS_AS(make_plan(ex, view(ids, 2, 2), by_score, o.p), graft::argument_error);
  CHECK_THROWS_AS(make_plan(ex, view(ids, 2, 2), by_score, o.p, view(scores, 4, 1)), graft::shape_error);
  CHECK_THROWS_AS(make_plan(ex, view(ids, 2, 2), by_score, o.p, view(scores)), graft::shape_error);
  CHECK_THROWS_AS(make_plan(ex, view(ids, 2, 2), by_score, o.p, view(scores, 2, 2), view(positions, 2, 2)),
                  graft::argument_error);
  CHECK_THROWS_AS(make_plan(ex, view(ids, 2, 2), {.fixed = 1}, o.p, none, view(positions, 4, 1)), graft::shape_error);
  CHECK(positions == std::vector<std::int32_t>(4, 7));
  CHECK(o.p.counts(0) == untouched);
  CHECK_THROWS_AS(graft::kernels::drop_pairs(ex, o.p, {.limit = -1}), graft::argument_error);
  watched_resource memory;
  make_plan(graft::serial{&memory}, view(ids, 2, 2), {.fixed = 1}, o.p);
  CHECK(memory.bytes == 2 * graft::kernels::make_plan.scratch_bytes(ex, view(ids, 2, 2), o.p) + 2048);
}
