// Every verb of routing by lanes that run one after the other, in three orders: a missing barrier gives other bits.
#include <graft/routing.hpp>

#include <string>

#include <catch2/catch_test_macros.hpp>

#include "support/executors.hpp"
#include "support/lane_by_lane.hpp"
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
  equal_in_every_order<float>("float", {19, 8, 70, 3}, all);
  equal_in_every_order<float>("float, few experts", {19, 8, 6, 2}, all);
  equal_in_every_order<double>("double", {5, 8, 150, 4}, all);
  INFO(all.text());
  CHECK(all.text().empty());
}
