// SPDX-License-Identifier: Apache-2.0
/// @file
/// `fill`: one number everywhere. The generic body is the body.
#pragma once

#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {
template <class Y>
struct fill_body {
  static constexpr std::string_view verb = "fill";
  Y y;
  typename Y::value_type number;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    row_tile<Team::row_block> const tile(tm.league_rank(), y.extent(0));
    for (int t = 0; t < tile.count; ++t) tm.vector(y.extent(1), [&](index_t j) { y(tile.row[t], j) = number; });
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// Y[i, j] = number, rounded once to Y's type.
///
/// Shapes       Y[p, q] out. Any strides, any scalar.
/// Cost         p q elements written.
/// Errors       argument_error; nothing is written then.
struct fill_fn {
  template <class E, class Y>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::fill", E)
    GRAFT_MANDATE_OUTPUT("kernels::fill", "Y", E, Y, 2)
    return graft::detail::accepted_output<E, Y, 2>;
  }

  template <class E, class Y>
  void operator()(E const& ex, double number, Y const& y) const {
    if constexpr (mandates<E, Y>()) {
      graft::detail::expects_output("kernels::fill", "Y", y);
      ex.league(graft::detail::tiles(y.extent(0), E::row_block), 0,
                graft::detail::fill_body<Y>{y, store_as<typename Y::value_type>(number)});
    }
  }
};
inline constexpr fill_fn fill{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
