// SPDX-License-Identifier: Apache-2.0
/// @file
/// `reference`: generic bodies on the calling thread. It is the specification: every other executor is compared with it.
#pragma once

#include <cstddef>
#include <memory_resource>

#include <graft/config.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Runs the readable body of every verb. Not fast: 8 to 16 times slower than `serial`.
struct reference {
  using space_type = host_space;
  static constexpr int row_block = 4;

  /// Scratch comes from here, once per call; null is `std::pmr::get_default_resource()`.
  std::pmr::memory_resource* scratch = nullptr;

  [[nodiscard]] std::pmr::memory_resource* resource() const {
    return scratch != nullptr ? scratch : std::pmr::get_default_resource();
  }
  /// Scratch of a league.
  [[nodiscard]] static constexpr std::size_t league_scratch(index_t, std::size_t bytes) { return bytes; }
  template <class Body>
  void league(index_t size, std::size_t bytes, Body const& body) const {
    detail::scratch_block const memory(resource(), bytes);
    detail::run_teams<row_block>(body, 0, size, memory.data());
  }
  void fence() const {}
};

static_assert(executor<reference> && !host_executor<reference>);

}  // namespace graft::inline GRAFT_CONTRACT
