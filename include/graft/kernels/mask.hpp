// SPDX-License-Identifier: Apache-2.0
/// @file
/// `keep_columns` and `keep_columns_add`: whole columns dropped by an explicit mask without rescaling. Rows: transposed views.
/// Memory-bound; the generic body is the body.
#pragma once

#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/dropout.hpp>
#include <graft/kernels/elements.hpp>
#include <graft/kernels/override.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace kernels {
/// Which features stay: feature j draws element first + j of a mask, whose factor 1 / (1 - p) is not applied.
struct feature_mask {
  dropout mask{};
  index_t first = 0;

  [[nodiscard]] GRAFT_FN constexpr bool keeps(index_t feature) const { return mask.keeps(first + feature); }
};
}  // namespace kernels

namespace detail {
inline namespace GRAFT_TARGET {
inline constexpr index_t mask_rows = 64;

/// A block of columns and of rows a team, so that a column's number is drawn once for them.
template <class X, class Y, bool Add>
struct keep_columns_body {
  static constexpr std::string_view verb = Add ? "keep_columns_add" : "keep_columns";
  kernels::feature_mask mask;
  X x;
  Y y;

  [[nodiscard]] GRAFT_FN constexpr index_t lanes() const { return y.extent(1); }

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    using accumulate = accumulate_t<typename X::value_type, typename Y::value_type>;
    index_t const blocks = tiles(y.extent(1), column_tile);
    index_t const first = tm.league_rank() % blocks * column_tile;
    index_t const first_row = tm.league_rank() / blocks * mask_rows;
    tm.vector(tile_extent(y.extent(1), first, column_tile), [&](index_t l) {
      index_t const j = first + l;
      bool const keeps = mask.keeps(j);
      if (Add && !keeps) return;
      pass_in_order<Team>(
          tile_extent(y.extent(0), first_row, mask_rows),
          [&](index_t i) {
            auto const value = keeps ? load_as<accumulate>(x(first_row + i, j)) : accumulate{0};
            return Add ? load_as<accumulate>(y(first_row + i, j)) + value : value;
          },
          [&](index_t i, accumulate element) { store_element(y, first_row + i, j, element); });
    });
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// keep_columns: y[i, j] = x[i, j] where the mask keeps j, else +0. keep_columns_add: y[i, j] += x[i, j] where it keeps j.
///
/// Shapes       x[p, q] in; y[p, q] out (in and out for keep_columns_add). Any strides, any scalars; one rounding an element.
/// Preconditions  0 <= probability < 1.
/// Aliasing     y may not overlap x.
/// Cost         p q elements read and written; q rounds of Philox.
/// Errors       shape_error, argument_error; nothing is written then.
template <bool Add>
struct keep_columns_fn {
  template <class E, class X, class Y>
  static consteval bool mandates() {
    if constexpr (Add) {
      GRAFT_MANDATE_EXECUTOR("kernels::keep_columns_add", E)
      GRAFT_MANDATE_INPUT("kernels::keep_columns_add", "x", E, X, 2)
      GRAFT_MANDATE_OUTPUT("kernels::keep_columns_add", "y", E, Y, 2)
    } else {
      GRAFT_MANDATE_EXECUTOR("kernels::keep_columns", E)
      GRAFT_MANDATE_INPUT("kernels::keep_columns", "x", E, X, 2)
      GRAFT_MANDATE_OUTPUT("kernels::keep_columns", "y", E, Y, 2)
    }
    return graft::detail::accepted_input<E, X, 2> && graft::detail::accepted_output<E, Y, 2>;
  }

  template <class E, class X, class Y>
  void operator()(E const& ex, feature_mask const& mask, X const& x, Y const& y) const {
    if constexpr (mandates<E, X, Y>()) {
      constexpr std::string_view verb = Add ? "kernels::keep_columns_add" : "kernels::keep_columns";
      if (!(mask.mask.probability >= 0.0 && mask.mask.probability < 1.0)) [[unlikely]]
        graft::detail::raise(argument_error(graft::detail::text("graft::", verb, ": the probability is ",
                                                                mask.mask.probability, " but must lie in [0, 1)")));
      graft::detail::expects_equal_extents(verb, "y", y, 0, "x", x, 0);
      graft::detail::expects_equal_extents(verb, "y", y, 1, "x", x, 1);
      graft::detail::expects_data(verb, "x", x);
      graft::detail::expects_output(verb, "y", y);
      graft::detail::expects_disjoint(verb, "y", y, "x", x);
      ex.league(graft::detail::tiles(y.extent(1), graft::detail::column_tile) *
                    graft::detail::tiles(y.extent(0), graft::detail::mask_rows),
                0, graft::detail::keep_columns_body<X, Y, Add>{mask, x, y});
    }
  }
};
inline constexpr keep_columns_fn<false> keep_columns{};
inline constexpr keep_columns_fn<true> keep_columns_add{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
