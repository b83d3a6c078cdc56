// Adapters on a device, float.
#include "cuda/adapters.hpp"

TEST_CASE("every verb has the bits of reference on a device, float", "[cuda][parity]") {
  GRAFT_TESTS_NEED_DEVICE();
  tests::compare_any_shapes<float>();
}
TEST_CASE("every other verb of adapters has the bits of reference on a device, float", "[cuda][parity]") {
  GRAFT_TESTS_NEED_DEVICE();
  tests::compare_remaining<float>();
}
