// SPDX-License-Identifier: Apache-2.0
/// @file
/// Kokkos::View of any rank, layout, constness and memory space, without a copy; and Kokkos' mdspan, taken for host memory.
/// The result does not keep a managed View alive. Kokkos' 16-bit floats are read as ours (same bits).
#pragma once

#include <type_traits>

#include <Kokkos_Core.hpp>

#include <graft/config.hpp>
#include <graft/view/mdspan.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {

/// A host-only build of Kokkos stores fp32 under the names of its 16-bit floats.
template <class S, class Half = Kokkos::Experimental::half_t, class BHalf = Kokkos::Experimental::bhalf_t>
using kokkos_scalar_t = std::conditional_t<std::is_same_v<S, Half> && sizeof(S) == 2, float16,
                                           std::conditional_t<std::is_same_v<S, BHalf> && sizeof(S) == 2, bfloat16, S>>;

/// Memory that hosts reach, and a device whose own memory is another one.
template <bool Host, bool Device>
using space_reached_by = std::conditional_t<!Host, device_space, std::conditional_t<Device, shared_space, host_space>>;
template <class Memory, class Device = Kokkos::DefaultExecutionSpace>
using kokkos_space_t = space_reached_by<Kokkos::SpaceAccessibility<Kokkos::HostSpace, Memory>::accessible,
                                        Kokkos::SpaceAccessibility<Device, Memory>::accessible &&
                                            !Kokkos::SpaceAccessibility<Device, Kokkos::HostSpace>::accessible>;
}  // namespace detail

inline namespace GRAFT_TARGET {
/// A view of a Kokkos::View's elements, of any layout and rank, in its memory space. Kokkos' 16-bit types are graft's.
template <class T, class... Properties>
[[nodiscard]] auto view(Kokkos::View<T, Properties...> const& v) {
  using from = Kokkos::View<T, Properties...>;
  using layout = typename from::array_layout;
  using stored = detail::kokkos_scalar_t<typename from::non_const_value_type>;
  using element = std::conditional_t<std::is_const_v<typename from::value_type>, stored const, stored>;
  static_assert(std::is_same_v<layout, Kokkos::LayoutRight> || std::is_same_v<layout, Kokkos::LayoutLeft> ||
                    std::is_same_v<layout, Kokkos::LayoutStride>,
                "graft::view: a Kokkos::View must have LayoutRight, LayoutLeft or LayoutStride");
  static_assert(from::rank() > 0, "graft::view: a Kokkos::View of rank 0 is a scalar; pass its value");
  constexpr int unit = detail::unit_dimension_of<layout, Kokkos::LayoutRight, Kokkos::LayoutLeft, from::rank()>;
  using shape = detail::extents_like<from, 0>;
  return detail::view_like<element, shape, detail::kokkos_space_t<typename from::memory_space>, unit>(
      reinterpret_cast<element*>(v.data()), v);
}

/// A view of the elements of Kokkos' own mdspan, in host memory.
template <class T, class E, class L>
[[nodiscard]] constexpr auto view(Kokkos::mdspan<T, E, L, Kokkos::default_accessor<T>> const& m) {
  constexpr int unit = detail::unit_dimension_of<L, Kokkos::layout_right, Kokkos::layout_left, E::rank()>;
  return detail::view_like<T, detail::extents_like<E>, host_space, unit>(m.data_handle(), m);
}
}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
