// SPDX-License-Identifier: Apache-2.0
/// @file
/// `serial`: host bodies on the calling thread. Fast, and needs no package.
#pragma once

#include <cstddef>
#include <memory_resource>

#include <graft/config.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Runs everything on the thread that calls, with host bodies; generic bodies one team after the other.
struct serial {
  using space_type = host_space;
  static constexpr int row_block = 4;

  /// Scratch comes from here, once per call; null is `std::pmr::get_default_resource()`.
  std::pmr::memory_resource* scratch = nullptr;

  [[nodiscard]] std::pmr::memory_resource* resource() const {
    return scratch != nullptr ? scratch : std::pmr::get_default_resource();
  }
  [[nodiscard]] static constexpr int concurrency() { return 1; }
  /// Scratch of a league.
  [[nodiscard]] static constexpr std::size_t league_scratch(index_t, std::size_t bytes) { return bytes; }
  template <class Body>
  void league(index_t size, std::size_t bytes, Body const& body) const {
    detail::scratch_block const memory(resource(), bytes);
    detail::run_teams<row_block>(body, 0, size, memory.data());
  }
  template <class F>
  void region(int, F const& f) const {
    f(only_worker{});
  }
  void fence() const {}
};

static_assert(host_executor<serial>);

}  // namespace graft::inline GRAFT_CONTRACT
