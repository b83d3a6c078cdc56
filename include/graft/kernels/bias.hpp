// SPDX-License-Identifier: Apache-2.0
/// @file
/// `add_bias` and `sum_rows`: a bias added to every row, and its gradient. Memory-bound; the generic body is the body.
#pragma once

#include <cmath>
#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/elements.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {
template <class B, class Y, class Accumulate>
struct add_bias_value {
  static constexpr std::string_view verb = "add_bias";
  B b;
  Y y;
  Accumulate scale;
  GRAFT_FN Accumulate operator()(index_t i, index_t j) const {
    return std::fma(scale, load_as<Accumulate>(b(j)), load_as<Accumulate>(y(i, j)));
  }
};

/// One block of columns a team, all rows in order.
template <class Y, class D, class Accumulate>
struct sum_rows_body {
  static constexpr std::string_view verb = "sum_rows";
  Y y;
  D d;
  Accumulate scale;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const first = tm.league_rank() * column_tile;
    tm.vector(tile_extent(d.extent(0), first, column_tile), [&](index_t i) {
      Accumulate sum[1] = {load_as<Accumulate>(d(first + i))};
      chain_short_axis(
          y.extent(0), [&](int, index_t t) { return load_as<Accumulate>(y(t, first + i)); },
          [&](index_t) { return scale; }, sum);
      d(first + i) = store_as<typename D::value_type>(sum[0]);
    });
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// y[t, j] += scale b[j].
///
/// Shapes       b[m] in; y[T, m] in and out. Any strides, any scalars; one fma and one rounding an element.
/// Aliasing     y may not overlap b.
/// Cost         2 T m flops; T m elements read and written.
/// Errors       shape_error, argument_error; nothing is written then.
struct add_bias_fn {
  template <class E, class B, class Y>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::add_bias", E)
    GRAFT_MANDATE_INPUT("kernels::add_bias", "b", E, B, 1)
    GRAFT_MANDATE_OUTPUT("kernels::add_bias", "y", E, Y, 2)
    return graft::detail::accepted_input<E, B, 1> && graft::detail::accepted_output<E, Y, 2>;
  }

  template <class E, class B, class Y>
  void operator()(E const& ex, B const& b, Y const& y, scaling scale = 1.0) const {
    if constexpr (mandates<E, B, Y>()) {
      using accumulate = accumulate_t<typename B::value_type, typename Y::value_type>;
      constexpr std::string_view verb = "kernels::add_bias";
      graft::detail::expects_equal_extents(verb, "b", b, 0, "y", y, 1);
      graft::detail::expects_data(verb, "b", b);
      graft::detail::expects_output(verb, "y", y);
      graft::detail::expects_disjoint(verb, "y", y, "b", b);
      graft::detail::write_elements(
          ex, y, graft::detail::add_bias_value<B, Y, accumulate>{b, y, static_cast<accumulate>(scale.value())});
    }
  }
};
inline constexpr add_bias_fn add_bias{};

/// d[j] += scale sum over t of y[t, j].
///
/// Shapes       y[T, m] in; d[m] in and out. Any strides, any scalars.
/// Order        short axis over the rows (see summation.hpp), starting from d: fma(y, scale, sum).
/// Aliasing     d may not overlap y.
/// Precision    |error| <= (min(T, 512) + T / 512 + 1) eps (|d| + sum |scale y|) before the one rounding to d's type.
/// Cost         2 T m flops; T m elements read, m written.
/// Errors       shape_error, argument_error; nothing is written then.
struct sum_rows_fn {
  template <class E, class Y, class D>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::sum_rows", E)
    GRAFT_MANDATE_INPUT("kernels::sum_rows", "y", E, Y, 2)
    GRAFT_MANDATE_OUTPUT("kernels::sum_rows", "d", E, D, 1)
    return graft::detail::accepted_input<E, Y, 2> && graft::detail::accepted_output<E, D, 1>;
  }

  template <class E, class Y, class D>
  void operator()(E const& ex, Y const& y, D const& d, scaling scale = 1.0) const {
    if constexpr (mandates<E, Y, D>()) {
      using accumulate = accumulate_t<typename Y::value_type, typename D::value_type>;
      constexpr std::string_view verb = "kernels::sum_rows";
      graft::detail::expects_equal_extents(verb, "d", d, 0, "y", y, 1);
      graft::detail::expects_data(verb, "y", y);
      graft::detail::expects_output(verb, "d", d);
      graft::detail::expects_disjoint(verb, "d", d, "y", y);
      ex.league(graft::detail::tiles(d.extent(0), graft::detail::column_tile), 0,
                graft::detail::sum_rows_body<Y, D, accumulate>{y, d, static_cast<accumulate>(scale.value())});
    }
  }
};
inline constexpr sum_rows_fn sum_rows{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
