// SPDX-License-Identifier: Apache-2.0
/// @file
/// `scratch_bytes`: how much scratch calls take, by making them without launching anything.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/scratch.hpp>
#include <graft/executor/scratch_arena.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {

/// `E` with an arena of addresses behind which there is no memory. Checks run, launches do not.
template <class E>
struct metering : E {
  explicit metering(E const& ex, scratch_arena& arena) : E(ex) { this->scratch = &arena; }
  template <class Body>
  void league(index_t size, std::size_t bytes, Body const& body) const {
    E const& ex = *this;
    call_scratch const memory(ex, league_bytes(ex, size, bytes, body));
  }
  void fence() const {}

 private:
  template <class Body>
  [[nodiscard]] static std::size_t league_bytes(E const& ex, index_t size, std::size_t bytes, Body const& body) {
    if constexpr (requires { ex.league_scratch(size, bytes, body); }) return ex.league_scratch(size, bytes, body);
    else if constexpr (requires { ex.league_scratch(size, bytes); }) return ex.league_scratch(size, bytes);
    else return 0;
  }
};

}  // namespace GRAFT_TARGET
}  // namespace detail

inline namespace GRAFT_TARGET {

/// Bytes of a `scratch_arena`, aligned to 64, that `call(ex)` takes at most at one time: for executors of devices. The
/// call is made with an executor that launches nothing, so every check is made and no memory is touched. (Calls of host
/// executors look at their results.)
///
///     graft::scratch_bytes(ex, [&](auto const& ex) { graft::backward(ex, q, x, dy, gradients, dx); })
///
/// Errors       those of the call.
template <class E, class Call>
  requires(detail::has_ordered_scratch<E> && !std::same_as<typename E::space_type, host_space>)
[[nodiscard]] std::size_t scratch_bytes(E const& ex, Call const& call) {
  constexpr std::size_t much = (std::numeric_limits<std::size_t>::max)() / 4;
  scratch_arena arena(reinterpret_cast<void*>(std::uintptr_t{64}), much);
  call(detail::metering<E>(ex, arena));
  return arena.most();
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
