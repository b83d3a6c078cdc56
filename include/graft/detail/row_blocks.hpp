// SPDX-License-Identifier: Apache-2.0
/// @file
/// Small helpers that adapters share.
#pragma once

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/copy.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT::detail {
inline namespace GRAFT_TARGET {

/// All elements of `y` to +0, through a one-element input that every index reads.
template <class E, class Y>
void fill_zero(E const& ex, Y const& y) {
  static constexpr typename Y::value_type zero{};
  using everywhere = tensor_view<typename Y::value_type const, dynamic_extents<2>, typename Y::space_type, no_unit_dimension>;
  kernels::copy(ex, everywhere{&zero, dynamic_extents<2>{y.extent(0), y.extent(1)}, {0, 0}}, y);
}

/// A vector as a matrix of one row.
template <class V>
[[nodiscard]] auto as_row(V const& v) {
  constexpr int unit = V::unit_dimension == 0 ? 1 : no_unit_dimension;
  return tensor_view<typename V::element_type, dynamic_extents<2>, typename V::space_type, unit>{
      v.data_handle(), dynamic_extents<2>{1, v.extent(0)}, {0, v.stride(0)}};
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT::detail
