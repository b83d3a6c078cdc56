// SPDX-License-Identifier: Apache-2.0
/// @file
/// `copy`: elements from one view to another, converted with one rounding. The generic body is the body.
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
template <class X, class Y>
struct copy_body {
  static constexpr std::string_view verb = "copy";
  X x;
  Y y;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    using accumulate = accumulate_t<typename X::value_type, typename Y::value_type>;
    row_tile<Team::row_block> const tile(tm.league_rank(), y.extent(0));
    for (int t = 0; t < tile.count; ++t) {
      index_t const i = tile.row[t];
      tm.vector(y.extent(1),
                [&](index_t j) { y(i, j) = store_as<typename Y::value_type>(load_as<accumulate>(x(i, j))); });
    }
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// Y[i, j] = X[i, j], rounded once to Y's type.
///
/// Shapes       X[p, q] in; Y[p, q] out. Any strides, any scalars.
/// Aliasing     Y may not overlap X.
/// Cost         p q elements read and written.
/// Errors       shape_error, argument_error; nothing is written then.
struct copy_fn {
  template <class E, class X, class Y>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::copy", E)
    GRAFT_MANDATE_INPUT("kernels::copy", "X", E, X, 2)
    GRAFT_MANDATE_OUTPUT("kernels::copy", "Y", E, Y, 2)
    return graft::detail::accepted_input<E, X, 2> && graft::detail::accepted_output<E, Y, 2>;
  }

  template <class E, class X, class Y>
  void operator()(E const& ex, X const& x, Y const& y) const {
    if constexpr (mandates<E, X, Y>()) {
      constexpr std::string_view verb = "kernels::copy";
      graft::detail::expects_equal_extents(verb, "Y", y, 0, "X", x, 0);
      graft::detail::expects_equal_extents(verb, "Y", y, 1, "X", x, 1);
      graft::detail::expects_data(verb, "X", x);
      graft::detail::expects_output(verb, "Y", y);
      graft::detail::expects_disjoint(verb, "Y", y, "X", x);
      ex.league(graft::detail::tiles(y.extent(0), E::row_block), 0, graft::detail::copy_body<X, Y>{x, y});
    }
  }
};
inline constexpr copy_fn copy{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
