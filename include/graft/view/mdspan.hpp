// SPDX-License-Identifier: Apache-2.0
/// @file
/// std::mdspan: the same vocabulary, so the bridge only carries the layout into the type. Inert where the standard
/// library has no <mdspan> (before GCC 15). Kokkos' mdspan is taken through its own bridge.
#pragma once

#include <version>

#if defined(__cpp_lib_mdspan)

#include <array>
#include <cstddef>
#include <mdspan>
#include <type_traits>
#include <utility>

#include <graft/config.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
template <class E, std::size_t... Dimension>
auto extents_like(std::index_sequence<Dimension...>)
    -> extents<(E::static_extent(Dimension) == std::dynamic_extent
                    ? dynamic
                    : static_cast<index_t>(E::static_extent(Dimension)))...>;
}  // namespace detail

inline namespace GRAFT_TARGET {
/// layout_right and layout_left keep their unit stride in the type; for layout_stride see `with_unit_stride`.
template <class T, class E, class L>
[[nodiscard]] constexpr auto view(std::mdspan<T, E, L, std::default_accessor<T>> const& m) {
  using shape = decltype(detail::extents_like<E>(std::make_index_sequence<E::rank()>{}));
  constexpr int unit = std::is_same_v<L, std::layout_right>  ? static_cast<int>(E::rank()) - 1
                       : std::is_same_v<L, std::layout_left> ? 0
                                                             : no_unit_dimension;
  std::array<index_t, E::rank()> all{};
  std::array<index_t, E::rank()> strides{};
  for (std::size_t i = 0; i < E::rank(); ++i) {
    all[i] = static_cast<index_t>(m.extent(i));
    strides[i] = static_cast<index_t>(m.stride(i));
  }
  static_cast<void>(detail::row_major_strides(all));
  return tensor_view<T, shape, host_space, unit>{m.data_handle(), shape{all}, strides};
}
}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT

#endif
