// SPDX-License-Identifier: Apache-2.0
/// @file
/// What the math asks of a view. Structural: any type with these members will do.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/view/scalar.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Memory spaces: part of a view's type, so that a device view handed to a host executor does not compile.
struct host_space {};
struct device_space {};
/// Memory that executors of either may touch: managed or pinned memory of a device.
struct shared_space {};

/// Value of `unit_dimension` of a view of which no stride is known to be 1.
inline constexpr int no_unit_dimension = -1;

/// Elements at `data_handle()[sum of index * stride]`; strides count elements.
template <class V>
concept tensor = std::copyable<V> && scalar<typename V::element_type> && requires(V const& v) {
  typename V::value_type;
  typename V::space_type;
  { V::rank() } -> std::convertible_to<std::size_t>;
  { V::unit_dimension } -> std::convertible_to<int>;
  { v.extent(0) } -> std::convertible_to<index_t>;
  { v.stride(0) } -> std::convertible_to<index_t>;
  { v.size() } -> std::convertible_to<index_t>;
  { v.data_handle() } -> std::convertible_to<typename V::element_type*>;
};

/// A tensor of two dimensions.
template <class V> concept matrix_view = tensor<V> && V::rank() == 2;

/// A tensor of one dimension.
template <class V> concept vector_view = tensor<V> && V::rank() == 1;

/// May be written to.
template <class V> concept output_view = tensor<V> && !std::is_const_v<typename V::element_type>;

/// A matrix that may be written to.
template <class V> concept output_matrix = matrix_view<V> && output_view<V>;

/// A vector that may be written to.
template <class V> concept output_vector = vector_view<V> && output_view<V>;

/// Dimension `D` is known to have stride 1.
template <class V, int D> concept unit_stride_in = tensor<V> && V::unit_dimension == D;

/// An output, a gradient or a bias that is not there.
struct none_t {
  GRAFT_FN constexpr bool operator==(none_t const&) const { return true; }
};
inline constexpr none_t none{};

/// Ids in the layout of a tensor, such as the experts ids[T, k] that tokens choose, -1 where there is none.
template <class V>
concept id_view = std::copyable<V> && integer_element<typename V::element_type> &&
                  !std::same_as<typename V::value_type, std::uint8_t> && requires(V const& v) {
                    typename V::space_type;
                    { V::rank() } -> std::convertible_to<std::size_t>;
                    { v.extent(0) } -> std::convertible_to<index_t>;
                    { v.stride(0) } -> std::convertible_to<index_t>;
                    { v.data_handle() } -> std::convertible_to<typename V::element_type*>;
                  };

/// A vector, or `none`.
template <class V> concept optional_vector = vector_view<V> || std::same_as<V, none_t>;

}  // namespace graft::inline GRAFT_CONTRACT
