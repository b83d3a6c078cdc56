// Routing on a device.
#include "cuda/parity.hpp"
#include "support/routing_verbs.hpp"

namespace {

template <class S>
struct routing_verbs {
  template <class Memory, class F>
  void operator()(Memory, F const& f) const {
    tests::for_each_routing_verb<S, Memory>(f);
  }
};
template <class S>
void compare() {
  tests::tally all;
  tests::stream on;
  for (tests::routing_shape const& s :
       {tests::routing_shape{13, 8, 6, 2}, tests::routing_shape{520, 12, 10, 3}, tests::routing_shape{1, 4, 4, 2},
        tests::routing_shape{300, 260, 64, 8}, tests::routing_shape{7, 4, 300, 2}}) {
    std::string const described = "T = " + std::to_string(s.T) + ", H = " + std::to_string(s.H) +
                                  ", E = " + std::to_string(s.E) + ", k = " + std::to_string(s.k);
    routing_verbs<S> const list;
    tests::compare_on_device<tests::managed_memory, tests::routed_tensors, S>(all, on, s, described, list);
    tests::compare_on_device<tests::managed_rows, tests::routed_tensors, S>(all, on, s, described + ", rows", list);
  }
  CHECK(all.text() == "");
  CHECK(all.count() == 2 * 2 * 5 * 24);
}

}  // namespace

TEST_CASE("every verb of routing has the bits of reference on a device, float", "[cuda][parity]") {
  GRAFT_TESTS_NEED_DEVICE();
  compare<float>();
}
TEST_CASE("every verb of routing has the bits of reference on a device, bfloat16", "[cuda][parity]") {
  GRAFT_TESTS_NEED_DEVICE();
  compare<graft::bfloat16>();
}
TEST_CASE("every verb of routing has the bits of reference on a device, float16", "[cuda][parity]") {
  GRAFT_TESTS_NEED_DEVICE();
  compare<graft::float16>();
}
