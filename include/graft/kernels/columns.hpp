// SPDX-License-Identifier: Apache-2.0
/// @file
/// Vectors that scale columns, and their gradients: `add_scaled_columns`, `dot_columns`, `divide`. Rows: transposed views.
/// Memory-bound; the generic body is the body.
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
template <class D, class X, class Y, class Accumulate>
struct add_scaled_columns_value {
  static constexpr std::string_view verb = "add_scaled_columns";
  D d;
  X x;
  Y y;
  Accumulate shift;
  GRAFT_FN Accumulate operator()(index_t i, index_t j) const {
    return std::fma(factor<Accumulate>(d, j) + shift, load_as<Accumulate>(x(i, j)), load_as<Accumulate>(y(i, j)));
  }
};

/// One block of columns a team, all rows in order.
template <class X, class Y, class D, class Accumulate>
struct dot_columns_body {
  static constexpr std::string_view verb = "dot_columns";
  X x;
  Y y;
  D d;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const first = tm.league_rank() * column_tile;
    tm.vector(tile_extent(d.extent(0), first, column_tile), [&](index_t i) {
      Accumulate sum[1] = {load_as<Accumulate>(d(first + i))};
      chain_short_axis(
          x.extent(0), [&](int, index_t t) { return load_as<Accumulate>(x(t, first + i)); },
          [&](index_t t) { return load_as<Accumulate>(y(t, first + i)); }, sum);
      d(first + i) = store_as<typename D::value_type>(sum[0]);
    });
  }
};

template <class G, class N, class C, bool Add, class Accumulate>
struct divide_body {
  static constexpr std::string_view verb = Add ? "divide_add" : "divide";
  G g;
  N n;
  C c;
  Accumulate at_zero;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const first = tm.league_rank() * column_tile;
    tm.vector(tile_extent(c.extent(0), first, column_tile), [&](index_t i) {
      auto const divisor = load_as<Accumulate>(n(first + i));
      Accumulate value = divisor == Accumulate{0} ? at_zero : factor<Accumulate>(g, first + i) / divisor;
      if constexpr (Add) value = load_as<Accumulate>(c(first + i)) + value;
      c(first + i) = store_as<typename C::value_type>(value);
    });
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// y[t, j] += (d[j] + shift) x[t, j].
///
/// Shapes       d[m] (`none` is ones), x[T, m] in; y[T, m] in and out. Any strides, any scalars; one sum, one fma and one rounding an element,
///              in fp32 (fp64 when one is `double`).
/// Aliasing     y may not overlap d or x.
/// Cost         3 T m flops; 2 T m elements read, T m written.
/// Errors       shape_error, argument_error; nothing is written then.
struct add_scaled_columns_fn {
  template <class E, class D, class X, class Y>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::add_scaled_columns", E)
    if constexpr (!std::is_same_v<D, none_t>) { GRAFT_MANDATE_INPUT("kernels::add_scaled_columns", "d", E, D, 1) }
    GRAFT_MANDATE_INPUT("kernels::add_scaled_columns", "x", E, X, 2)
    GRAFT_MANDATE_OUTPUT("kernels::add_scaled_columns", "y", E, Y, 2)
    return graft::detail::accepted_factor<E, D> && graft::detail::accepted_input<E, X, 2> &&
           graft::detail::accepted_output<E, Y, 2>;
  }

  template <class E, class D, class X, class Y>
  void operator()(E const& ex, D const& d, X const& x, Y const& y, scaling shift = 0.0) const {
    if constexpr (mandates<E, D, X, Y>()) {
      using accumulate = accumulate_t<graft::detail::value_or_float<D>, typename X::value_type, typename Y::value_type>;
      constexpr std::string_view verb = "kernels::add_scaled_columns";
      graft::detail::expects_equal_extents(verb, "x", x, 0, "y", y, 0);
      graft::detail::expects_equal_extents(verb, "x", x, 1, "y", y, 1);
      graft::detail::expects_data(verb, "x", x);
      graft::detail::expects_output(verb, "y", y);
      if constexpr (!std::is_same_v<D, none_t>) {
        graft::detail::expects_equal_extents(verb, "d", d, 0, "y", y, 1);
        graft::detail::expects_data(verb, "d", d);
        graft::detail::expects_disjoint(verb, "y", y, "d", d);
      }
      graft::detail::expects_disjoint(verb, "y", y, "x", x);
      graft::detail::write_elements(ex, y,
                                    graft::detail::add_scaled_columns_value<D, X, Y, accumulate>{
                                        d, x, y, static_cast<accumulate>(shift.value())});
    }
  }
};
inline constexpr add_scaled_columns_fn add_scaled_columns{};

/// d[j] += sum over t of x[t, j] y[t, j].
///
/// Shapes       x[T, m], y[T, m] in; d[m] in and out. Any strides, any scalars.
/// Order        short axis over the rows (see summation.hpp), starting from d.
/// Aliasing     d may not overlap x or y; x may be y.
/// Precision    |error| <= (min(T, 512) + T / 512 + 1) eps (|d| + sum |x y|) before the one rounding to d's type.
/// Cost         2 T m flops; 2 T m elements read, m written.
/// Errors       shape_error, argument_error; nothing is written then.
struct dot_columns_fn {
  template <class E, class X, class Y, class D>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::dot_columns", E)
    GRAFT_MANDATE_INPUT("kernels::dot_columns", "x", E, X, 2)
    GRAFT_MANDATE_INPUT("kernels::dot_columns", "y", E, Y, 2)
    GRAFT_MANDATE_OUTPUT("kernels::dot_columns", "d", E, D, 1)
    return graft::detail::accepted_input<E, X, 2> && graft::detail::accepted_input<E, Y, 2> &&
           graft::detail::accepted_output<E, D, 1>;
  }

  template <class E, class X, class Y, class D>
  void operator()(E const& ex, X const& x, Y const& y, D const& d) const {
    if constexpr (mandates<E, X, Y, D>()) {
      using accumulate = accumulate_t<typename X::value_type, typename Y::value_type, typename D::value_type>;
      constexpr std::string_view verb = "kernels::dot_columns";
      graft::detail::expects_equal_extents(verb, "y", y, 0, "x", x, 0);
      graft::detail::expects_equal_extents(verb, "y", y, 1, "x", x, 1);
      graft::detail::expects_equal_extents(verb, "d", d, 0, "x", x, 1);
      graft::detail::expects_data(verb, "x", x);
      graft::detail::expects_data(verb, "y", y);
      graft::detail::expects_output(verb, "d", d);
      graft::detail::expects_disjoint(verb, "d", d, "x", x);
      graft::detail::expects_disjoint(verb, "d", d, "y", y);
      ex.league(graft::detail::tiles(d.extent(0), graft::detail::column_tile), 0,
                graft::detail::dot_columns_body<X, Y, D, accumulate>{x, y, d});
    }
  }
};
inline constexpr dot_columns_fn dot_columns{};

/// divide: c[j] = g[j] / n[j]. divide_add: c[j] += g[j] / n[j]. Where n[j] is 0 the quotient counts as `at_zero`.
///
/// Shapes       g[m] (`none` is ones), n[m] in; c[m] out (in and out for divide_add). Any strides, any scalars; fp32 (fp64 when one is
///              `double`), one rounding for the quotient and one for the sum.
/// Aliasing     c may not overlap g or n.
/// Cost         m divisions.
/// Errors       shape_error, argument_error; nothing is written then.
template <bool Add>
struct divide_fn {
  template <class E, class G, class N, class C>
  static consteval bool mandates() {
    if constexpr (Add) {
      GRAFT_MANDATE_EXECUTOR("kernels::divide_add", E)
      if constexpr (!std::is_same_v<G, none_t>) { GRAFT_MANDATE_INPUT("kernels::divide_add", "g", E, G, 1) }
      GRAFT_MANDATE_INPUT("kernels::divide_add", "n", E, N, 1)
      GRAFT_MANDATE_OUTPUT("kernels::divide_add", "c", E, C, 1)
    } else {
      GRAFT_MANDATE_EXECUTOR("kernels::divide", E)
      if constexpr (!std::is_same_v<G, none_t>) { GRAFT_MANDATE_INPUT("kernels::divide", "g", E, G, 1) }
      GRAFT_MANDATE_INPUT("kernels::divide", "n", E, N, 1)
      GRAFT_MANDATE_OUTPUT("kernels::divide", "c", E, C, 1)
    }
    return graft::detail::accepted_factor<E, G> && graft::detail::accepted_input<E, N, 1> &&
           graft::detail::accepted_output<E, C, 1>;
  }

  template <class E, class G, class N, class C>
  void operator()(E const& ex, G const& g, N const& n, C const& c, scaling at_zero = 0.0) const {
    if constexpr (mandates<E, G, N, C>()) {
      using accumulate = accumulate_t<graft::detail::value_or_float<G>, typename N::value_type, typename C::value_type>;
      constexpr std::string_view verb = Add ? "kernels::divide_add" : "kernels::divide";
      graft::detail::expects_equal_extents(verb, "n", n, 0, "c", c, 0);
      graft::detail::expects_data(verb, "n", n);
      graft::detail::expects_output(verb, "c", c);
      if constexpr (!std::is_same_v<G, none_t>) {
        graft::detail::expects_equal_extents(verb, "g", g, 0, "c", c, 0);
        graft::detail::expects_data(verb, "g", g);
        graft::detail::expects_disjoint(verb, "c", c, "g", g);
      }
      graft::detail::expects_disjoint(verb, "c", c, "n", n);
      ex.league(
          graft::detail::tiles(c.extent(0), graft::detail::column_tile), 0,
          graft::detail::divide_body<G, N, C, Add, accumulate>{g, n, c, static_cast<accumulate>(at_zero.value())});
    }
  }
};
inline constexpr divide_fn<false> divide{};
inline constexpr divide_fn<true> divide_add{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
