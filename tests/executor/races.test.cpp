// What devices run has no races: every verb by teams whose lanes are threads, under TSan. (It is much to compile;
// without TSan the orders of lanes show what they can: routing/lanes.test.cpp, and for every verb cuda/emulation.)
#include "support/sanitizers.hpp"

#if TESTS_WITH_TSAN
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/graft.hpp>

#include "support/bits.hpp"
#include "support/lane_by_lane.hpp"
#include "support/routing_verbs.hpp"
#include "support/verbs.hpp"

using namespace tests;

namespace {

/// The verbs of `list(f)` on tensors of such a shape; returns how many there were.
template <class Tensors, class Shape, class List>
int compare(Shape const& shape, List const& list) {
  tally all;
  list([&](char const* name, auto const& verb) {
    Tensors expected(shape), got(shape);
    verb(graft::reference{}, expected);
    verb(lanes_at_once{}, got);
    all.add(got.differences(expected), [&] { return std::string(name); });
  });
  CHECK(all.text() == "");
  return all.count();
}

}  // namespace

TEST_CASE("lanes of a team do not race: verbs of kernels and adapters", "[executor][races]") {
  for (verb_shape const& s : {verb_shape{5, 30, 4, 20}, verb_shape{9, 1100, 2, 260}})
    CHECK(compare<tensors<float>>(s, [](auto const& f) {
            for_each_verb<float>(f);
            for_each_scratch_verb<float>(f);
            for_each_remaining_verb<float>(f);
          }) > 90);
}
TEST_CASE("lanes of a team do not race: verbs of routing", "[executor][races]") {
  for (routing_shape const& s : {routing_shape{13, 8, 6, 2}, routing_shape{70, 12, 68, 3}})
    CHECK(compare<routed_tensors<float>>(s, [](auto const& f) { for_each_routing_verb<float>(f); }) == 24);
}
#endif
