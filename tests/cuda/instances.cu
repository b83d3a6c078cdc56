// Every verb on a device for one scalar (GRAFT_TEST_SCALAR) and one part of the lists (GRAFT_TEST_PART): compiled, never run.
// Through a CUDA stream, or through Kokkos' CUDA where GRAFT_TEST_KOKKOS is set.
#include <vector>

#if defined(GRAFT_TEST_KOKKOS)
#include <graft/kokkos.hpp>
#else
#include <graft/cuda.hpp>
#endif

#include "support/routing_verbs.hpp"
#include "support/verbs.hpp"

namespace instances {

#if defined(GRAFT_TEST_KOKKOS)
using executor = graft::kokkos_executor<Kokkos::Cuda>;
#else
using executor = graft::cuda_stream_executor;
#endif
static_assert(graft::executor<executor> && !graft::host_executor<executor>);

/// As frameworks have it: row-major, and known to be.
struct device_memory {
  using space = graft::device_space;
  static constexpr int unit_dimension = 1;
  using host_access = tests::host_memory::host_access;
  template <class T>
  using vector = std::vector<T>;
};

/// Not called anywhere. Nothing here is in a namespace without a name, so it is there.
void graft_instances(executor const& ex, tests::tensors<GRAFT_TEST_SCALAR, device_memory>& of_adapters,
                     tests::routed_tensors<GRAFT_TEST_SCALAR, device_memory>& of_routing) {
  [[maybe_unused]] auto const adapters = [&](char const*, auto const& verb) { verb(ex, of_adapters); };
  [[maybe_unused]] auto const routing = [&](char const*, auto const& verb) { verb(ex, of_routing); };
#if GRAFT_TEST_PART == 0
  tests::for_each_verb<GRAFT_TEST_SCALAR, device_memory>(adapters);
#elif GRAFT_TEST_PART == 1
  tests::for_each_scratch_verb<GRAFT_TEST_SCALAR, device_memory>(adapters);
  tests::for_each_remaining_verb<GRAFT_TEST_SCALAR, device_memory>(adapters);
#else
  tests::for_each_routing_verb<GRAFT_TEST_SCALAR, device_memory>(routing);
#endif
}
}  // namespace instances
