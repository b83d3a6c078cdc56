// SPDX-License-Identifier: Apache-2.0
/// @file
/// `combine` and `combine_add`: rows of experts back to their tokens, weighted and summed in the order of choices, without
/// atomics. `dispatch_backward` and `combine_backward` are the gradients.
#pragma once

#include <cmath>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/dispatch.hpp>
#include <graft/kernels/elements.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/plan.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {

/// A chain over the choices of a token.
template <class Space, class Rows, class W, class Y, bool Add, class Accumulate>
struct combine_value {
  static constexpr std::string_view verb = Add ? "combine_add" : "combine";
  plan<Space> p;
  Rows rows;
  W w;
  Y y;
  GRAFT_FN Accumulate operator()(index_t t, index_t j) const {
    Accumulate sum = Add ? load_as<Accumulate>(y(t, j)) : Accumulate{0};
    index_t const last = p.pair_begin(t + 1);
    for (index_t pair = p.pair_begin(t); pair < last; ++pair) {
      index_t const row = p.inverse(pair);
      if (row < 0 || row >= rows.extent(0)) continue;  // beyond: a plan on a device whose rows nobody could count
      auto const value = load_as<Accumulate>(rows(row, j));
      if constexpr (std::is_same_v<W, pair_values<void>>) sum = sum + value;
      else sum = std::fma(load_as<Accumulate>(w(t, pair)), value, sum);
    }
    return sum;
  }
};

/// A tile of tokens; a pair a group.
template <class Space, class Rows, class DY, class DW, class Accumulate>
struct combine_backward_weights_body {
  static constexpr std::string_view verb = "combine_backward_weights";
  plan<Space> p;
  Rows rows;
  DY dy;
  DW dw;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    row_tile<Team::row_block> const tile(tm.league_rank(), dy.extent(0));
    for (int r = 0; r < tile.count; ++r) {
      index_t const t = tile.row[r];
      index_t const first = p.pair_begin(t);
      tm.groups(p.pair_begin(t + 1) - first, [&](index_t i) {
        index_t const row = p.inverse(first + i);
        Accumulate sum[1] = {Accumulate{0}};
        if (row >= 0 && row < rows.extent(0))
          sum_long_axis(
              tm, dy.extent(1), [&](index_t j) { return load_as<Accumulate>(dy(t, j)); },
              [&](int, index_t j) { return load_as<Accumulate>(rows(row, j)); }, sum);
        tm.once([&] { dw(t, first + i) = store_as<std::remove_reference_t<decltype(dw(t, first))>>(sum[0]); });
      });
    }
  }
};

template <class Space, class Rows, class Y>
void expects_combined(std::string_view verb, std::string_view name_y, plan<Space> const& p, Rows const& rows,
                      Y const& y) {
  if (y.extent(0) != p.tokens) [[unlikely]]
    raise(shape_error(text("graft::", verb, ": ", name_y, shape_text(y), " has ", y.extent(0),
                           " rows but the plan has ", p.tokens, " tokens")));
  expects_equal_extents(verb, "rows", rows, 1, name_y, y, 1);
  expects_plan_rows(verb, "rows", p, rows);
  expects_data(verb, "rows", rows);
}
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// combine: y[t] = sum over the choices s of t of w[t, s] rows[inverse(t, s)]. combine_add: y[t] += the same.
/// Choices that name no expert or were dropped add nothing: a token that has none gives +0.
///
/// Shapes       rows[R, H] in with offsets(E) <= R <= permutation.extent(0); w[T, k] (of a ragged plan w[pairs]) in, or `none` for
///              ones; y[T, H] out (in and out for combine_add). Any strides, any scalars; sums in fp32, or fp64 when one is `double`.
/// Order        an fma chain in the order of choices, from +0 or from y, whatever the order of experts. 16-bit y is rounded once.
/// Aliasing     y may not overlap rows or w.
/// Precision    |error| <= k eps (|y| + sum |w rows|) before the one rounding to y's type.
/// Determinism  no atomics: a token is summed by one thread. Bits of a token do not depend on the others.
/// Cost         2 T k H flops; T k H elements read, T H written.
/// Errors       shape_error, argument_error; nothing is written then.
/// Backward     `combine_backward`.
template <bool Add>
struct combine_fn {
  template <class E, class Space, class Rows, class W, class Y>
  static consteval bool mandates() {
    if constexpr (Add) {
      GRAFT_MANDATE_EXECUTOR("kernels::combine_add", E)
      GRAFT_MANDATE_PLAN("kernels::combine_add", E, Space)
      GRAFT_MANDATE_INPUT("kernels::combine_add", "rows", E, Rows, 2)
      GRAFT_MANDATE_PAIRS("kernels::combine_add", "w", E, W)
      GRAFT_MANDATE_OUTPUT("kernels::combine_add", "y", E, Y, 2)
    } else {
      GRAFT_MANDATE_EXECUTOR("kernels::combine", E)
      GRAFT_MANDATE_PLAN("kernels::combine", E, Space)
      GRAFT_MANDATE_INPUT("kernels::combine", "rows", E, Rows, 2)
      GRAFT_MANDATE_PAIRS("kernels::combine", "w", E, W)
      GRAFT_MANDATE_OUTPUT("kernels::combine", "y", E, Y, 2)
    }
    return graft::detail::accepted_input<E, Rows, 2> && graft::detail::accepted_pairs<E, W> &&
           graft::detail::accepted_output<E, Y, 2> && can_access<E, plan<Space>>;
  }
  /// Which body a call takes.
  template <class E, class Rows, class W, class Y>
  static constexpr body chosen = override_for<combine_fn, E, Rows, W, Y>::which;

  /// The readable body, on any executor.
  template <executor E, class Space, matrix_view Rows, class W, output_matrix Y>
  void generic(E const& ex, plan<Space> const& p, Rows const& rows, W const& w, Y const& y) const {
    using accumulate = accumulate_t<typename Rows::value_type, typename graft::detail::value_of_pairs<W>::type,
                                    typename Y::value_type>;
    expects(p, rows, w, y);
    auto values = graft::detail::values_of_pairs(p, w);
    graft::detail::write_elements(
        ex, y, graft::detail::combine_value<Space, Rows, decltype(values), Y, Add, accumulate>{p, rows, values, y});
  }

  template <class E, class Space, class Rows, class W, class Y>
  void operator()(E const& ex, plan<Space> const& p, Rows const& rows, W const& w, Y const& y) const {
    if constexpr (mandates<E, Space, Rows, W, Y>()) {
      using chosen_body = override_for<combine_fn, E, Rows, W, Y>;
      if constexpr (chosen_body::which == body::generic) generic(ex, p, rows, w, y);
      else {
        expects(p, rows, w, y);
        chosen_body::run(ex, p, rows, w, y);
      }
    }
  }

 private:
  template <class Space, class Rows, class W, class Y>
  static void expects(plan<Space> const& p, Rows const& rows, W const& w, Y const& y) {
    constexpr std::string_view verb = Add ? "kernels::combine_add" : "kernels::combine";
    graft::detail::expects_combined(verb, "y", p, rows, y);
    graft::detail::expects_pairs(verb, "w", p, w);
    graft::detail::expects_output(verb, "y", y);
    graft::detail::expects_disjoint(verb, "y", y, "rows", rows);
    if constexpr (tensor<W>) graft::detail::expects_disjoint(verb, "y", y, "w", w);
  }
};
inline constexpr combine_fn<false> combine{};
inline constexpr combine_fn<true> combine_add{};

/// dw[t, s] = dy[t] . rows[inverse(t, s)], the gradient of combine's weights; +0 where a choice has no row.
///
/// Shapes       rows[R, H], dy[T, H] in; dw[T, k] (of a ragged plan dw[pairs]) out. Any strides, any scalars.
/// Order        long axis over H (see summation.hpp).
/// Aliasing     dw may not overlap rows or dy.
/// Precision    |error| <= (H / 16 + 20) eps sum |dy rows| before the one rounding to dw's type.
/// Cost         2 T k H flops; T k H elements read.
/// Errors       shape_error, argument_error; nothing is written then.
struct combine_backward_weights_fn {
  template <class E, class Space, class Rows, class DY, class DW>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::combine_backward_weights", E)
    GRAFT_MANDATE_PLAN("kernels::combine_backward_weights", E, Space)
    GRAFT_MANDATE_INPUT("kernels::combine_backward_weights", "rows", E, Rows, 2)
    GRAFT_MANDATE_INPUT("kernels::combine_backward_weights", "dy", E, DY, 2)
    static_assert(output_view<DW> && (DW::rank() == 1 || DW::rank() == 2),
                  "graft::kernels::combine_backward_weights: dw is written; it must be a view of [T, k], or of [pairs] "
                  "for a ragged plan");
    return graft::detail::accepted_input<E, Rows, 2> && graft::detail::accepted_input<E, DY, 2> &&
           graft::detail::accepted_pairs<E, DW> && output_view<DW> && can_access<E, plan<Space>>;
  }
  /// Which body a call takes.
  template <class E, class Rows, class DY, class DW>
  static constexpr body chosen = override_for<combine_backward_weights_fn, E, Rows, DY, DW>::which;

  /// The readable body, on any executor.
  template <executor E, class Space, matrix_view Rows, matrix_view DY, output_view DW>
  void generic(E const& ex, plan<Space> const& p, Rows const& rows, DY const& dy, DW const& dw) const {
    using accumulate = accumulate_t<typename Rows::value_type, typename DY::value_type, typename DW::value_type>;
    expects(p, rows, dy, dw);
    auto values = graft::detail::values_of_pairs(p, dw);
    ex.league(graft::detail::tiles(dy.extent(0), E::row_block), 0,
              graft::detail::combine_backward_weights_body<Space, Rows, DY, decltype(values), accumulate>{p, rows, dy,
                                                                                                          values});
  }

  template <class E, class Space, class Rows, class DY, class DW>
  void operator()(E const& ex, plan<Space> const& p, Rows const& rows, DY const& dy, DW const& dw) const {
    if constexpr (mandates<E, Space, Rows, DY, DW>()) {
      using chosen_body = override_for<combine_backward_weights_fn, E, Rows, DY, DW>;
      if constexpr (chosen_body::which == body::generic) generic(ex, p, rows, dy, dw);
      else {
        expects(p, rows, dy, dw);
        chosen_body::run(ex, p, rows, dy, dw);
      }
    }
  }

  /// Throws what a call would, and writes nothing.
  template <class Space, class Rows, class DY, class DW>
  static void expects(plan<Space> const& p, Rows const& rows, DY const& dy, DW const& dw) {
    constexpr std::string_view verb = "kernels::combine_backward_weights";
    graft::detail::expects_combined(verb, "dy", p, rows, dy);
    graft::detail::expects_data(verb, "dy", dy);
    graft::detail::expects_pairs(verb, "dw", p, dw);
    graft::detail::expects_output(verb, "dw", dw);
    graft::detail::expects_disjoint(verb, "dw", dw, "rows", rows);
    graft::detail::expects_disjoint(verb, "dw", dw, "dy", dy);
  }
};
inline constexpr combine_backward_weights_fn combine_backward_weights{};

/// dx[t] += sum over the choices of t of drows[inverse(t, s)]: the backward of `dispatch` without weights is a combine_add of
/// ones. Shapes, cost and errors are combine_add's.
template <class E, class Space, class DRows, class DX>
void dispatch_backward(E const& ex, plan<Space> const& p, DRows const& drows, DX const& dx) {
  combine_add(ex, p, drows, none, dx);
}

/// drows[i] = w dy[token of row i], +0 in padding, and dw[t, s] = dy[t] . rows[inverse(t, s)]: the backward of `combine` is a
/// weighted dispatch and `combine_backward_weights`. Both are written, not added to; w = `none` is ones, dw = `none` is not
/// computed. dw may not overlap w or drows; else as both. Nothing is written where either throws.
template <class E, class Space, class Rows, class W, class DY, class DRows, class DW>
void combine_backward(E const& ex, plan<Space> const& p, Rows const& rows, W const& w, DY const& dy, DRows const& drows,
                      DW const& dw) {
  if constexpr (!std::is_same_v<DW, none_t>) {
    if constexpr (dispatch_fn::mandates<E, Space, DY, DRows, W>() &&
                  combine_backward_weights_fn::mandates<E, Space, Rows, DY, DW>()) {
      dispatch_fn::expects(p, dy, drows, w);
      combine_backward_weights_fn::expects(p, rows, dy, dw);
      graft::detail::expects_disjoint("kernels::combine_backward", "dw", dw, "drows", drows);
      if constexpr (tensor<W>) graft::detail::expects_disjoint("kernels::combine_backward", "dw", dw, "w", w);
      combine_backward_weights(ex, p, rows, dy, dw);
    }
  }
  dispatch(ex, p, dy, drows, w);
}

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT

// The host bodies belong to the verbs: whoever sees the verbs sees them, whatever is included in which order.
#include <graft/kernels/host/combine.hpp>
