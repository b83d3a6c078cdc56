// Every verb of routing by lanes that run one after the other, in three orders: a missing barrier gives other bits.
#include <graft/routing.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/plans.hpp"
#include "support/bits.hpp"
#include "support/executors.hpp"
#include "support/lane_by_lane.hpp"
#include "support/random.hpp"
#include "support/routing_verbs.hpp"

using namespace tests;

namespace {

/// A body whose lanes read what others write, with a barrier or without.
struct neighbours {
  bool waits;
  int* out;
  template <class Team>
  void operator()(Team const& tm) const {
    int* const shared = tm.template scratch<int>(8);
    tm.vector(8, [&](graft::index_t i) { shared[i] = static_cast<int>(i); });
    if (waits) tm.barrier();
    tm.vector(8, [&](graft::index_t i) { out[i] = shared[(i + 3) % 8]; });
  }
};
/// A body where a lane misses a barrier.
struct deserter {
  template <class Team>
  void operator()(Team const& tm) const {
    tm.vector(7, [&](graft::index_t) { tm.barrier(); });
  }
};

template <class S>
void equal_in_every_order(std::string const& type, routing_shape const& shape, tally& all) {
  for_each_routing_verb<S>([&](char const* verb, auto const& call) {
    routed_tensors<S> expected(shape);
    call(graft::reference{}, expected);
    for_each_lane_order([&](std::string const& name, auto const& ex) {
      routed_tensors<S> t(shape);
      call(ex, t);
      all.add(t.differences(expected), [&] { return type + ", " + verb + ", " + name; });
    });
  });
}

}  // namespace

TEST_CASE("lane by lane: what is read without a barrier is seen in some order") {
  int wrong = 0;
  for_each_lane_order([&](std::string const&, auto const& ex) {
    for (bool const waits : {true, false}) {
      int out[8] = {};
      ex.league(1, 8 * sizeof(int), neighbours{waits, out});
      bool right = true;
      for (int i = 0; i < 8; ++i) right = right && out[i] == (i + 3) % 8;
      if (waits) CHECK(right);
      else wrong += right ? 0 : 1;
    }
  });
  CHECK(wrong > 0);
}

TEST_CASE("lane by lane: a lane that misses a barrier is seen", "[!shouldfail]") {
  lane_by_lane{}.league(1, 0, deserter{});
}

TEST_CASE("routing: the bits of the reference in every order of lanes") {
  tally all;
  equal_in_every_order<float>("float", {5, 8, 70, 3}, all);
  equal_in_every_order<float>("float, few experts", {21, 8, 6, 2}, all);
  equal_in_every_order<double>("double", {3, 8, 150, 4}, all);
  INFO(all.text());
  CHECK(all.text().empty());
}

TEST_CASE("routing: pairs are dropped as by the reference in every order of lanes") {
  using graft::drop_order;
  constexpr graft::index_t T = 310, k = 3, E = 4;
  random_bits bits(5);
  std::vector<std::int32_t> ids(T * k);
  for (auto& id : ids) id = static_cast<std::int32_t>(bits.below(E + 1)) - 1;
  std::vector<float> scores(ids.size());
  for (float& s : scores) s = bits.below(3) == 0 ? 0.5F : bits.number();  // ties
  auto const a = graft::view(ids, T, k);
  tally all;
  for (auto const order :
       {drop_order::token, drop_order::choice, drop_order::probability, drop_order::batch_priority, drop_order::random})
    for (graft::drop_rule const rule : {graft::drop_rule{.limit = 40}, {.limit = 0}, {.limit = 9, .group = 62}}) {
      auto const run = [&](auto const& ex, std::vector<std::int32_t>& positions) {
        owned_plan o = plan_of(a, E);
        graft::drop_rule ordered = rule;
        ordered.order = order;
        if (order == drop_order::token || order == drop_order::choice)
          graft::kernels::drop_pairs(ex, o.p, ordered, graft::none, graft::view(positions, T, k));
        else graft::kernels::drop_pairs(ex, o.p, ordered, graft::view(scores, T, k));
        return list_of(o.p.dropped);
      };
      std::vector<std::int32_t> expected_positions(ids.size(), -7);
      list const expected = run(graft::reference{}, expected_positions);
      for_each_lane_order([&](std::string const& name, auto const& ex) {
        std::vector<std::int32_t> positions(ids.size(), -7);
        all.add(run(ex, positions) == expected && positions == expected_positions ? "" : "others are dropped",
                [&] { return name + ", order " + std::to_string(static_cast<int>(order)); });
      });
    }
  INFO(all.text());
  CHECK(all.text().empty());
}

TEST_CASE("routing: rows with NaN, infinities and ties in every order of lanes") {
  constexpr graft::index_t T = 6;
  constexpr float inf = std::numeric_limits<float>::infinity();
  tally all;
  for (graft::index_t const E : {1, 16, 17, 64, 65, 130, 300})
    for (graft::index_t const k : {graft::index_t{1}, E / 2 + 1, E}) {
      random_bits bits(static_cast<std::uint64_t>(E + k));
      std::vector<float> z(static_cast<std::size_t>(T * E));
      for (graft::index_t t = 0; t < T; ++t)
        for (graft::index_t e = 0; e < E; ++e) {
          bool const odd = bits.below(4) == 0;
          z[static_cast<std::size_t>(t * E + e)] = t % 6 == 0   ? static_cast<float>(bits.below(3))
                                                   : t % 6 == 1 ? (odd ? std::nanf("") : bits.number())
                                                   : t % 6 == 2 ? (odd ? inf : bits.number())
                                                   : t % 6 == 3 ? -inf
                                                   : t % 6 == 4 ? (odd ? -inf : 20.0F * bits.number())
                                                                : bits.number();
        }
      for (auto const mode : {graft::non_finite_logits::refuse, graft::non_finite_logits::last}) {
        struct result {
          std::vector<std::int32_t> ids, codes, sorted;
          std::vector<float> weights, dlogits;
        };
        auto const run = [&, E, k](auto const& ex) {
          auto const pairs = static_cast<std::size_t>(T * k);
          result r{std::vector<std::int32_t>(pairs), std::vector<std::int32_t>(T), std::vector<std::int32_t>(pairs),
                   std::vector<float>(pairs), std::vector<float>(z.size())};
          graft::gate_status const status{graft::view(r.codes)};
          graft::softmax_topk gate{.renormalize = false};
          gate.non_finite = mode;
          auto const logits = graft::view(std::as_const(z), T, E);
          route(ex, gate, logits, graft::view(r.ids, T, k), graft::view(r.weights, T, k), status);
          std::vector<std::int32_t> codes(T);
          if (mode == graft::non_finite_logits::last)
            route_backward(ex, gate, logits, graft::view(std::as_const(r.ids), T, k),
                           graft::view(std::as_const(r.weights), T, k), graft::view(r.dlogits, T, E),
                           graft::gate_status{graft::view(codes)});
          graft::kernels::top_k(ex, logits, graft::view(r.sorted, T, k));
          return r;
        };
        result const expected = run(graft::reference{});
        for_each_lane_order([&](std::string const& name, auto const& ex) {
          result const r = run(ex);
          bool const equal = r.ids == expected.ids && r.codes == expected.codes && r.sorted == expected.sorted &&
                             tests::differences(graft::view(r.weights), graft::view(expected.weights)).empty() &&
                             tests::differences(graft::view(r.dlogits), graft::view(expected.dlogits)).empty();
          all.add(equal ? "" : "other rows",
                  [&] { return name + ", E = " + std::to_string(E) + ", k = " + std::to_string(k); });
        });
      }
    }
  INFO(all.text());
  CHECK(all.text().empty());
}
