// SPDX-License-Identifier: Apache-2.0
/// @file
/// std::mdspan: the same vocabulary, so the bridge only carries the layout into the type. It is there where the standard
/// library has <mdspan> (from GCC 15 on). Kokkos' mdspan comes with <graft/kokkos.hpp>.
#pragma once

#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>
#include <version>

#if defined(__cpp_lib_mdspan)
#include <mdspan>
#endif

#include <graft/config.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
template <class E, std::size_t Dynamic, std::size_t... Dimension>
auto extents_of(std::index_sequence<Dimension...>)
    -> extents<(E::static_extent(Dimension) == Dynamic ? dynamic
                                                       : static_cast<index_t>(E::static_extent(Dimension)))...>;
/// What the extents of an mdspan are here; `Dynamic` is what they call one that is not static.
template <class E, std::size_t Dynamic = static_cast<std::size_t>(-1)>
using extents_like = decltype(detail::extents_of<E, Dynamic>(std::make_index_sequence<E::rank()>{}));

/// The dimension of stride 1 that a layout promises, by the names that a library has for row-major and column-major.
template <class Layout, class Right, class Left, std::size_t Rank>
inline constexpr int unit_dimension_of = std::is_same_v<Layout, Right>  ? static_cast<int>(Rank) - 1
                                         : std::is_same_v<Layout, Left> ? 0
                                                                        : no_unit_dimension;

inline namespace GRAFT_TARGET {
/// A view of anything that answers `extent(i)` and `stride(i)`.
template <class T, class Shape, class Space, int Unit, class M>
[[nodiscard]] constexpr auto view_like(T* data, M const& m) {
  std::array<index_t, Shape::rank()> all{};
  std::array<index_t, Shape::rank()> strides{};
  for (std::size_t i = 0; i < Shape::rank(); ++i) {
    all[i] = static_cast<index_t>(m.extent(i));
    strides[i] = static_cast<index_t>(m.stride(i));
  }
  static_cast<void>(detail::row_major_strides(all));
  return tensor_view<T, Shape, Space, Unit>{data, Shape{all}, strides};
}
}  // namespace GRAFT_TARGET
}  // namespace detail

#if defined(__cpp_lib_mdspan)
inline namespace GRAFT_TARGET {
/// layout_right and layout_left keep their unit stride in the type; for layout_stride see `with_unit_stride`.
template <class T, class E, class L>
[[nodiscard]] constexpr auto view(std::mdspan<T, E, L, std::default_accessor<T>> const& m) {
  constexpr int unit = detail::unit_dimension_of<L, std::layout_right, std::layout_left, E::rank()>;
  return detail::view_like<T, detail::extents_like<E>, host_space, unit>(m.data_handle(), m);
}
}  // namespace GRAFT_TARGET
#endif
}  // namespace graft::inline GRAFT_CONTRACT
