// Every verb and every adapter, on every executor, for every scalar: the bits of `reference`, also in what they refuse.
#include <string>
#include <type_traits>

#include <catch2/catch_test_macros.hpp>

#include "support/bits.hpp"
#include "support/executors.hpp"
#include "support/sentence.hpp"
#include "support/verbs.hpp"

using namespace tests;

namespace {

/// Each extent is 0, 1, 3, and one less and one more than the tiles of its dimension (4 rows, chunks of 512 terms, 16
/// ranks, 64 and 256 columns), and those. Returns the number of comparisons.
template <class S>
int compare_all() {
  tally t;
  for (verb_shape const& s :
       {verb_shape{1, 511, 15, 3}, verb_shape{3, 512, 16, 1}, verb_shape{4, 513, 17, 3}, verb_shape{3, 513, 3, 257},
        verb_shape{5, 3, 3, 255}, verb_shape{1, 1, 16, 256}, verb_shape{3, 3, 17, 257}, verb_shape{4, 1, 1, 63},
        verb_shape{5, 3, 16, 64}, verb_shape{3, 1, 15, 65}, verb_shape{0, 1, 3, 3}, verb_shape{5, 0, 1, 1},
        verb_shape{3, 3, 0, 3}, verb_shape{4, 1, 3, 0}})
    for (layout const how : {layout::contiguous, layout::padded, layout::transposed}) {
      auto const compare = [&](char const* verb_name, auto const& verb) {
        tensors<S> expected(s, how);
        std::string const refused = sentence_of([&] { verb(graft::reference{}, expected); });
        for_each_executor([&](std::string const& name, auto const& ex) {
          tensors<S> got(s, how);
          std::string const said = sentence_of([&] { verb(ex, got); });
          t.add(said == refused ? got.differences(expected) : "says '" + said + "' and not '" + refused + "'", [&] {
            return std::string(verb_name) + " on " + name + ", " + tests::name(how) + ", T = " + std::to_string(s.T) +
                   ", n = " + std::to_string(s.n) + ", r = " + std::to_string(s.r) + ", m = " + std::to_string(s.m);
          });
        });
      };
      for_each_verb<S>(compare);
      for_each_scratch_verb<S>(compare);
    }
  CHECK(t.text() == "");
  return t.count();
}

}  // namespace

TEST_CASE("every verb has the bits of reference on every executor, float", "[adapters][parity]") {
  CHECK(compare_all<float>() == 44 * 14 * 3 * executor_count);
}
TEST_CASE("every verb has the bits of reference on every executor, double", "[adapters][parity]") {
  CHECK(compare_all<double>() == 44 * 14 * 3 * executor_count);
}
TEST_CASE("every verb has the bits of reference on every executor, bfloat16", "[adapters][parity]") {
  CHECK(compare_all<graft::bfloat16>() == 41 * 14 * 3 * executor_count);
}
TEST_CASE("every verb has the bits of reference on every executor, float16", "[adapters][parity]") {
  CHECK(compare_all<graft::float16>() == 41 * 14 * 3 * executor_count);
}
