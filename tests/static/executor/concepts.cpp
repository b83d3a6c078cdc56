// Truth tables of executors and teams.
#include <graft/executor/concepts.hpp>

#include <cstddef>
#include <type_traits>

#include <graft/openmp.hpp>

using namespace graft;

namespace {

// executors
static_assert(executor<reference> && executor<serial> && executor<openmp>);
static_assert(host_executor<serial> && host_executor<openmp> && !host_executor<reference>);
static_assert(!executor<int> && !executor<host_space> && !executor<serial&> && !executor<none_t>);
static_assert(!executor<tensor_view<float, dynamic_extents<2>>>);

// cheap to copy, nothing to set up
static_assert(std::is_trivially_copyable_v<reference> && std::is_trivially_copyable_v<serial> &&
              std::is_trivially_copyable_v<openmp>);
static_assert(std::is_aggregate_v<serial> && std::is_aggregate_v<openmp> && sizeof(serial) == sizeof(void*));
static_assert(openmp{.threads = 3}.threads == 3 && openmp{}.threads == 0 && openmp{}.scratch == nullptr);

// spaces
using host_view = tensor_view<float, dynamic_extents<2>>;
using device_view = tensor_view<float, dynamic_extents<2>, device_space>;
static_assert(can_access<serial, host_view> && can_access<openmp, host_view> &&
              can_access<reference, panels_view<float>>);
static_assert(!can_access<serial, device_view> && !can_access<openmp, device_view> &&
              !can_access<reference, panels_view<float, device_space>>);
static_assert(!can_access<int, host_view>);

// teams
static_assert(team<host_team<1>> && team<host_team<4>> && team<host_team<7>> && !team<serial> && !team<int>);

/// A backend somebody else writes: only leagues.
struct device {
  using space_type = device_space;
  static constexpr int row_block = 8;
  template <class Body>
  void league(index_t, std::size_t, Body const&) const {}
  void fence() const {}
};
static_assert(executor<device> && !host_executor<device> && can_access<device, device_view> &&
              !can_access<device, host_view>);

/// A league without a fence is not an executor.
struct endless {
  using space_type = host_space;
  static constexpr int row_block = 8;
  template <class Body>
  void league(index_t, std::size_t, Body const&) const {}
};
static_assert(!executor<endless>);

/// Workers on a device are not a host executor.
struct device_with_region : device {
  int concurrency() const { return 1; }
  std::pmr::memory_resource* resource() const { return nullptr; }
  template <class F>
  void region(int, F const& f) const {
    f(only_worker{});
  }
};
static_assert(executor<device_with_region> && !host_executor<device_with_region>);

struct host_with_region : device_with_region {
  using space_type = host_space;
};
static_assert(host_executor<host_with_region> && can_access<host_with_region, host_view>);

}  // namespace
