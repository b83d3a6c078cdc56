// SPDX-License-Identifier: Apache-2.0
/// @file
/// Extents of a view: static where they are known, in the vocabulary of std::extents.
#pragma once

#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <graft/config.hpp>
#include <graft/contracts.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// An extent that is only known at run time.
inline constexpr index_t dynamic = -1;

/// `extents<dynamic, 16>`: a run-time number of rows of 16 elements. Only run-time extents are stored.
template <index_t... Extents>
class extents {
  static_assert(((Extents == dynamic || Extents >= 0) && ...),
                "graft::extents: an extent is graft::dynamic or not negative");

 public:
  using index_type = index_t;

  static constexpr std::size_t rank() { return sizeof...(Extents); }
  static constexpr std::size_t rank_dynamic() { return (std::size_t{0} + ... + std::size_t{Extents == dynamic}); }
  GRAFT_FN static constexpr index_t static_extent(std::size_t i) {
    constexpr index_t all[] = {Extents..., 0};
    return all[i];
  }

  constexpr extents() = default;
  /// All extents; those that are static are taken from the type (`tensor_view`'s constructor has compared them).
  GRAFT_FN explicit constexpr extents(std::array<index_t, sizeof...(Extents)> const& all) {
    std::size_t d = 0;
    for (std::size_t i = 0; i < rank(); ++i)
      if (static_extent(i) == dynamic) values_[d++] = all[i];
  }
  template <class... Index>
    requires(sizeof...(Index) == sizeof...(Extents) && sizeof...(Index) > 0 && (std::is_integral_v<Index> && ...))
  GRAFT_FN explicit constexpr extents(Index... all)
      : extents(std::array<index_t, sizeof...(Extents)>{static_cast<index_t>(all)...}) {}

  [[nodiscard]] GRAFT_FN constexpr index_t extent(std::size_t i) const {
    if (static_extent(i) != dynamic) return static_extent(i);
    std::size_t d = 0;
    for (std::size_t k = 0; k < i; ++k) d += static_extent(k) == dynamic ? 1 : 0;
    return values_[d];
  }

 private:
  std::array<index_t, rank_dynamic() == 0 ? 1 : rank_dynamic()> values_{};
};

namespace detail {
template <std::size_t... Dimension>
auto all_dynamic(std::index_sequence<Dimension...>) -> extents<(static_cast<void>(Dimension), dynamic)...>;
}  // namespace detail

/// `Rank` run-time extents.
template <std::size_t Rank>
using dynamic_extents = decltype(detail::all_dynamic(std::make_index_sequence<Rank>{}));

}  // namespace graft::inline GRAFT_CONTRACT
