// Adapters on a device, float16.
#include "cuda/adapters.hpp"

TEST_CASE("every verb has the bits of reference on a device, float16", "[cuda][parity]") {
  GRAFT_TESTS_NEED_DEVICE();
  tests::compare_any_shapes<graft::float16>();
}
TEST_CASE("every other verb of adapters has the bits of reference on a device, float16", "[cuda][parity]") {
  GRAFT_TESTS_NEED_DEVICE();
  tests::compare_remaining<graft::float16>();
}
