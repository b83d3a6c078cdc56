// SPDX-License-Identifier: Apache-2.0
/// @file
/// `dispatch`: rows of tokens in the order of experts, as a plan has it.
#pragma once

#include <cstddef>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/elements.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/plan.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {

/// A number a pair: of w[T, k], of w[pairs] for a ragged plan, or ones.
template <class T>
struct pair_values {
  T* data;
  index_t token;  // strides
  index_t pair;
  [[nodiscard]] GRAFT_FN T& operator()(index_t t, index_t i) const { return data[t * token + i * pair]; }
};
template <>
struct pair_values<void> {};

/// Element (t, s) of w[T, k] lies at t row + s column = t (row - k column) + (t k + s) column.
template <class Space, class W>
[[nodiscard]] auto values_of_pairs(plan<Space> const& p, W const& w) {
  if constexpr (std::is_same_v<W, none_t>) return pair_values<void>{};
  else if constexpr (W::rank() == 2)
    return pair_values<typename W::element_type>{w.data_handle(), w.stride(0) - p.choices * w.stride(1), w.stride(1)};
  else return pair_values<typename W::element_type>{w.data_handle(), 0, w.stride(0)};
}

/// w[T, k], or w[pairs] of a ragged plan.
template <class Space, class W>
void expects_pairs(std::string_view verb, std::string_view name, plan<Space> const& p, W const& w) {
  if constexpr (!std::is_same_v<W, none_t>) {
    bool const ragged = p.first_pair.data_handle() != nullptr;
    bool const fits = W::rank() == 2 ? !ragged && w.extent(0) == p.tokens && w.extent(W::rank() - 1) == p.choices
                                     : ragged && w.extent(0) == p.pairs();
    if (!fits) [[unlikely]]
      raise(shape_error(text("graft::", verb, ": ", name, shape_text(w), " must be ",
                             ragged ? text("[", p.pairs(), "], a number an id of the ragged plan")
                                    : text("[", p.tokens, ", ", p.choices, "] as the plan's ids"))));
    expects_data(verb, name, w);
  }
}
/// rows[R, H]: as many as the plan has, and no more than it can have.
template <class Space, class Rows>
void expects_plan_rows(std::string_view verb, std::string_view name, plan<Space> const& p, Rows const& rows) {
  index_t least = 0;
  if constexpr (std::is_same_v<Space, host_space>) least = p.offsets(p.experts());
  if (rows.extent(0) < least || rows.extent(0) > p.permutation.extent(0)) [[unlikely]]
    raise(shape_error(text("graft::", verb, ": ", name, shape_text(rows), " has ", rows.extent(0),
                           " rows but the plan has ", least, ", and ", p.permutation.extent(0), " at most")));
}
/// Weights are rank 2, or rank 1 for a ragged plan, or none.
template <class E, class W>
concept accepted_pairs = std::is_same_v<W, none_t> || accepted_input<E, W, 1> || accepted_input<E, W, 2>;
template <class W>
struct value_of_pairs {
  using type = typename W::value_type;
};
template <>
struct value_of_pairs<none_t> {
  using type = float;
};

/// Rows without a token are +0.
template <class Space, class X, class W, class Accumulate>
struct dispatch_value {
  static constexpr std::string_view verb = "dispatch";
  plan<Space> p;
  X x;
  W w;
  GRAFT_FN Accumulate operator()(index_t i, index_t j) const {
    index_t const token = p.row_tokens(i);
    if (token < 0) return Accumulate{0};
    Accumulate const value = load_as<Accumulate>(x(token, j));
    if constexpr (std::is_same_v<W, pair_values<void>>) return value;
    else return load_as<Accumulate>(w(token, p.permutation(i))) * value;
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// rows[i] = x[token of row i], or w x; +0 in padding and behind the plan's rows.
///
/// Shapes       x[T, H] in; rows[R, H] out with offsets(E) <= R <= permutation.extent(0); w[T, k] (of a ragged plan w[pairs]) in,
///              or `none`. Any strides, any scalars; one product and one rounding an element.
/// Aliasing     rows may not overlap x or w.
/// Cost         R H elements read and written. Nothing else is made: no copy of x for each choice, no mask.
/// Errors       shape_error, argument_error; nothing is written then.
/// Backward     `dispatch_backward` (without weights); with weights what `combine_backward` does.
struct dispatch_fn {
  template <class E, class Space, class X, class Rows, class W>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::dispatch", E)
    GRAFT_MANDATE_PLAN("kernels::dispatch", E, Space)
    GRAFT_MANDATE_INPUT("kernels::dispatch", "x", E, X, 2)
    GRAFT_MANDATE_OUTPUT("kernels::dispatch", "rows", E, Rows, 2)
    GRAFT_MANDATE_PAIRS("kernels::dispatch", "w", E, W)
    return graft::detail::accepted_input<E, X, 2> && graft::detail::accepted_output<E, Rows, 2> &&
           graft::detail::accepted_pairs<E, W> && can_access<E, plan<Space>>;
  }
  /// Which body a call takes.
  template <class E, class X, class Rows, class W = none_t>
  static constexpr body chosen = override_for<dispatch_fn, E, X, Rows, W>::which;

  /// The readable body, on any executor.
  template <executor E, class Space, matrix_view X, output_matrix Rows, class W = none_t>
  void generic(E const& ex, plan<Space> const& p, X const& x, Rows const& rows, W const& w = {}) const {
    using accumulate = accumulate_t<typename X::value_type, typename Rows::value_type,
                                    typename graft::detail::value_of_pairs<W>::type>;
    expects(p, x, rows, w);
    auto values = graft::detail::values_of_pairs(p, w);
    graft::detail::write_elements(ex, rows,
                                  graft::detail::dispatch_value<Space, X, decltype(values), accumulate>{p, x, values});
  }

  template <class E, class Space, class X, class Rows, class W = none_t>
  void operator()(E const& ex, plan<Space> const& p, X const& x, Rows const& rows, W const& w = {}) const {
    if constexpr (mandates<E, Space, X, Rows, W>()) {
      using chosen_body = override_for<dispatch_fn, E, X, Rows, W>;
      if constexpr (chosen_body::which == body::generic) generic(ex, p, x, rows, w);
      else {
        expects(p, x, rows, w);
        chosen_body::run(ex, p, x, rows, w);
      }
    }
  }

  /// Throws what a call would, and writes nothing.
  template <class Space, class X, class Rows, class W>
  static void expects(plan<Space> const& p, X const& x, Rows const& rows, W const& w) {
    constexpr std::string_view verb = "kernels::dispatch";
    if (x.extent(0) != p.tokens) [[unlikely]]
      graft::detail::raise(
          shape_error(graft::detail::text("graft::", verb, ": x", graft::detail::shape_text(x), " has ", x.extent(0),
                                          " rows but the plan has ", p.tokens, " tokens")));
    graft::detail::expects_equal_extents(verb, "rows", rows, 1, "x", x, 1);
    graft::detail::expects_plan_rows(verb, "rows", p, rows);
    graft::detail::expects_pairs(verb, "w", p, w);
    graft::detail::expects_data(verb, "x", x);
    graft::detail::expects_output(verb, "rows", rows);
    graft::detail::expects_disjoint(verb, "rows", rows, "x", x);
    if constexpr (tensor<W>) graft::detail::expects_disjoint(verb, "rows", rows, "w", w);
  }
};
inline constexpr dispatch_fn dispatch{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT

// The host body belongs to the verb: whoever sees the verb sees it, whatever is included in which order.
#include <graft/kernels/host/dispatch.hpp>
