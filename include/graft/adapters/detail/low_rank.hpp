// SPDX-License-Identifier: Apache-2.0
/// @file
/// What the low-rank adapters (members A[r, n], B[m, r], scale, perhaps bias[m]) check before they touch data: types at
/// compile time, then extents, null pointers and aliasing, in O(1).
#pragma once

#include <span>
#include <string_view>
#include <type_traits>

#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/bias.hpp>
#include <graft/kernels/outer_add.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/panels.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT::detail {

/// `lora`, `lora_fa` and whatever else is made of two factors.
template <class L>
concept low_rank_adapter = requires(L const& l) {
  requires matrix_view<decltype(l.A)>;
  requires matrix_view<decltype(l.B)>;
  { l.scale } -> std::convertible_to<scaling>;
};

/// An embedding stores a feature a column: its weight is E[V, d].
template <class L>
inline constexpr bool is_embedding = requires { requires L::is_embedding; };

template <class L>
struct bias_of {
  using type = none_t;
};
template <class L>
  requires requires(L const& l) { l.bias; }
struct bias_of<L> {
  using type = std::remove_cvref_t<decltype(L::bias)>;
};
template <class L>
using bias_of_t = typename bias_of<L>::type;

/// No gradients of the factors are wanted.
struct no_gradients {
  none_t A, B, bias;
};

/// What sums over all these views are carried in; `graft::none` does not count.
template <class V>
struct value_of {
  using type = float;
};
template <tensor V>
struct value_of<V> {
  using type = typename V::value_type;
};
template <class... V>
using sums_of = accumulate_t<typename value_of<V>::type...>;

template <class E, class V, std::size_t Rank>
concept accepted_output_or_none = std::same_as<V, none_t> || accepted_output<E, V, Rank>;

/// Types of add_delta(ex, l, x, y) and, where the caller keeps an intermediate, of `Kept`.
template <class E, class L, class X, class Y, class Kept = none_t>
consteval bool mandates_add_delta() {
  using A = decltype(L::A);
  using B = decltype(L::B);
  using Bias = bias_of_t<L>;
  GRAFT_MANDATE_EXECUTOR("add_delta", E)
  GRAFT_MANDATE_INPUT("add_delta", "x", E, X, 2)
  GRAFT_MANDATE_INPUT("add_delta", "A", E, A, 2)
  GRAFT_MANDATE_INPUT("add_delta", "B", E, B, 2)
  GRAFT_MANDATE_OUTPUT("add_delta", "y", E, Y, 2)
  if constexpr (is_there<Bias>) { GRAFT_MANDATE_INPUT("add_delta", "bias", E, Bias, 1) }
  if constexpr (is_there<Kept>) { GRAFT_MANDATE_OUTPUT("add_delta", "the intermediate", E, Kept, 2) }
  return accepted_input<E, X, 2> && accepted<E, A, B> && accepted_output<E, Y, 2> &&
         (std::same_as<Bias, none_t> || accepted<E, Bias>) && accepted_output_or_none<E, Kept, 2>;
}

/// Types of backward; `In` is x (or what was kept in its place), `S` the scratch.
template <class E, class L, class In, class DY, class G, class DX, class S>
consteval bool mandates_backward() {
  using A = decltype(L::A);
  using B = decltype(L::B);
  using GA = decltype(G::A);
  using GB = decltype(G::B);
  using GBias = decltype(G::bias);
  GRAFT_MANDATE_EXECUTOR("backward", E)
  static_assert(!is_panels<A> && !is_panels<B>,
                "graft::backward: this adapter is packed for add_delta; use the original");
  static_assert(!is_there<GBias> || is_there<bias_of_t<L>>,
                "graft::backward: this adapter has no bias, so there is no gradient of one");
  GRAFT_MANDATE_INPUT("backward", "x (or what the forward kept)", E, In, 2)
  GRAFT_MANDATE_INPUT("backward", "dy", E, DY, 2)
  GRAFT_MANDATE_INPUT("backward", "A", E, A, 2)
  if constexpr (is_there<GA>) { GRAFT_MANDATE_OUTPUT("backward", "the gradient of A", E, GA, 2) }
  if constexpr (is_there<GB>) { GRAFT_MANDATE_OUTPUT("backward", "the gradient of B", E, GB, 2) }
  if constexpr (is_there<GBias>) { GRAFT_MANDATE_OUTPUT("backward", "the gradient of the bias", E, GBias, 1) }
  if constexpr (is_there<DX>) { GRAFT_MANDATE_OUTPUT("backward", "dx", E, DX, 2) }
  if constexpr (is_there<S>) {
    GRAFT_MANDATE_OUTPUT("backward", "scratch", E, S, 2)
    if constexpr (tensor<S>)
      static_assert(!is_narrow<S>,
                    "graft::backward: scratch must be of float or double; 16 bits would round in between");
  }
  return executor<E> && !is_panels<A> && !is_panels<B> && accepted_input<E, In, 2> && accepted_input<E, DY, 2> &&
         accepted<E, A, B> && accepted_output_or_none<E, GA, 2> && accepted_output_or_none<E, GB, 2> &&
         accepted_output_or_none<E, GBias, 1> && accepted_output_or_none<E, DX, 2> &&
         accepted_output_or_none<E, S, 2> && (!is_there<GBias> || is_there<bias_of_t<L>>);
}

/// Types of project_gradient.
template <class E, class A, class G, class P>
consteval bool mandates_project_gradient() {
  GRAFT_MANDATE_EXECUTOR("project_gradient", E)
  GRAFT_MANDATE_INPUT("project_gradient", "A", E, A, 2)
  GRAFT_MANDATE_INPUT("project_gradient", "the gradient of B", E, G, 2)
  GRAFT_MANDATE_OUTPUT("project_gradient", "the result", E, P, 2)
  return accepted_input<E, A, 2> && accepted_input<E, G, 2> && accepted_output<E, P, 2>;
}

/// Types of pack.
template <class E, class B, class T>
consteval bool mandates_pack() {
  GRAFT_MANDATE_EXECUTOR("pack", E)
  GRAFT_MANDATE_INPUT("pack", "B", E, B, 2)
  static_assert(!is_panels<B>, "graft::pack: this adapter is packed already");
  static_assert(std::same_as<T, typename B::value_type>,
                "graft::pack: the memory must be a span of B's element type, not const");
  return accepted_input<E, B, 2> && !is_panels<B> && std::same_as<T, typename B::value_type>;
}

/// Types of merge, unmerge and delta_weight, all of which write a W[m, n].
template <class E, class L, class W, class BaseBias>
consteval bool mandates_merge() {
  using A = decltype(L::A);
  using B = decltype(L::B);
  using Bias = bias_of_t<L>;
  GRAFT_MANDATE_EXECUTOR("merge, unmerge, delta_weight", E)
  static_assert(!is_panels<A> && !is_panels<B>,
                "graft::merge, unmerge, delta_weight: this adapter is packed for add_delta; use the original");
  GRAFT_MANDATE_OUTPUT("merge, unmerge, delta_weight", "W", E, W, 2)
  GRAFT_MANDATE_INPUT("merge, unmerge, delta_weight", "A", E, A, 2)
  static_assert(!is_there<Bias> || is_there<BaseBias>,
                "graft::merge: this adapter has a bias, which goes into that of the base layer; pass it: "
                "merge(ex, adapter, W, base_bias)");
  if constexpr (is_there<BaseBias>) {
    GRAFT_MANDATE_OUTPUT("merge, unmerge, delta_weight", "base_bias", E, BaseBias, 1)
  }
  return executor<E> && !is_panels<A> && !is_panels<B> && accepted<E, A, B> && accepted_output<E, W, 2> &&
         (!is_there<Bias> || is_there<BaseBias>) && accepted_output_or_none<E, BaseBias, 1>;
}

inline namespace GRAFT_TARGET {

/// `v` has the extents [rows, columns] of two other views.
template <class V, class R, class C>
void expects_shape(std::string_view verb, std::string_view name, V const& v, std::string_view name_rows, R const& r,
                   std::size_t i, std::string_view name_columns, C const& c, std::size_t j) {
  expects_equal_extents(verb, name, v, 0, name_rows, r, i);
  expects_equal_extents(verb, name, v, 1, name_columns, c, j);
}

/// A and B fit each other and are there, the rank is positive, the bias has m elements.
template <class L>
void expects_low_rank(std::string_view verb, L const& l) {
  if (l.A.extent(0) <= 0) [[unlikely]]
    raise(argument_error(
        text("graft::", verb, ": A", shape_text(l.A), " has rank ", l.A.extent(0), "; the rank must be positive")));
  expects_equal_extents(verb, "A", l.A, 0, "B", l.B, 1);
  expects_data(verb, "A", l.A);
  expects_data(verb, "B", l.B);
  if constexpr (is_there<bias_of_t<L>>) {
    expects_equal_extents(verb, "bias", l.bias, 0, "B", l.B, 0);
    expects_data(verb, "bias", l.bias);
  }
}

/// Elements that B takes in panels.
template <class L>
[[nodiscard]] index_t packed_elements(L const& l) {
  index_t const outputs = checked_sum(l.B.extent(0), panel_width - 1, "pack") / panel_width * panel_width;
  return checked_product(outputs, l.B.extent(1), "pack");
}
/// B of an adapter that was looked at, copied into panels in `memory`.
template <class E, class L, class T>
[[nodiscard]] auto packed_b(E const& ex, L const& l, std::span<T> memory) {
  using space = typename decltype(L::B)::space_type;
  if (static_cast<index_t>(memory.size()) < packed_elements(l)) [[unlikely]]
    raise(argument_error(text("graft::pack: B", shape_text(l.B), " needs ", packed_elements(l),
                              " elements but the memory has ", static_cast<index_t>(memory.size()))));
  panels_view<T, space> const panels{memory.data(), l.B.extent(0), l.B.extent(1)};
  expects_disjoint("pack", "memory", panels, "A", l.A);
  if constexpr (is_there<bias_of_t<L>>) expects_disjoint("pack", "memory", panels, "bias", l.bias);
  if constexpr (requires { l.d; }) expects_disjoint("pack", "memory", panels, "d", l.d);
  if constexpr (requires { l.b; }) expects_disjoint("pack", "memory", panels, "b", l.b);
  kernels::pack_panels(ex, l.B, panels);
  return panels_view<T const, space>(panels);
}

/// An output that shares no memory with the adapter.
template <class L, class Out>
void expects_output_of(std::string_view verb, L const& l, std::string_view name, Out const& out) {
  if constexpr (is_there<Out>) {
    expects_output(verb, name, out);
    expects_disjoint(verb, name, out, "A", l.A);
    expects_disjoint(verb, name, out, "B", l.B);
    if constexpr (is_there<bias_of_t<L>>) expects_disjoint(verb, name, out, "bias", l.bias);
  }
}
/// The same where either may be `graft::none`.
template <class Out, class Other>
void expects_apart(std::string_view verb, std::string_view name, Out const& out, std::string_view name_other,
                   Other const& other) {
  if constexpr (is_there<Out> && is_there<Other>) expects_disjoint(verb, name, out, name_other, other);
}

template <class L, class X, class Y>
void expects_add_delta(L const& l, X const& x, Y const& y) {
  constexpr std::string_view verb = "add_delta";
  expects_low_rank(verb, l);
  expects_equal_extents(verb, "x", x, 1, "A", l.A, 1);
  expects_shape(verb, "y", y, "x", x, 0, "B", l.B, 0);
  expects_data(verb, "x", x);
  expects_output_of(verb, l, "y", y);
  expects_disjoint(verb, "y", y, "x", x);
}

/// Everything of a backward but its first input: dy, gradients, dx, scratch[T, r], and that nothing written overlaps
/// anything else.
template <class L, class In, class DY, class G, class DX, class S>
void expects_backward(L const& l, std::string_view name_in, In const& in, DY const& dy, G const& gradients,
                      DX const& dx, S const& scratch) {
  constexpr std::string_view verb = "backward";
  expects_low_rank(verb, l);
  expects_shape(verb, "dy", dy, name_in, in, 0, "B", l.B, 0);
  expects_data(verb, name_in, in);
  expects_data(verb, "dy", dy);
  if constexpr (is_there<decltype(gradients.A)>)
    expects_shape(verb, "the gradient of A", gradients.A, "A", l.A, 0, "A", l.A, 1);
  if constexpr (is_there<decltype(gradients.B)>)
    expects_shape(verb, "the gradient of B", gradients.B, "B", l.B, 0, "B", l.B, 1);
  if constexpr (is_there<decltype(gradients.bias)>)
    expects_equal_extents(verb, "the gradient of the bias", gradients.bias, 0, "B", l.B, 0);
  if constexpr (is_there<DX>) expects_shape(verb, "dx", dx, "dy", dy, 0, "A", l.A, 1);
  if constexpr (is_there<S>) expects_shape(verb, "scratch", scratch, "dy", dy, 0, "A", l.A, 0);
  auto const written = [&](std::string_view name, auto const& out, auto const&... earlier) {
    if constexpr (is_there<std::remove_cvref_t<decltype(out)>>) {
      expects_output_of(verb, l, name, out);
      expects_disjoint(verb, name, out, name_in, in);
      expects_disjoint(verb, name, out, "dy", dy);
      (expects_apart(verb, name, out, "another output", earlier), ...);
    }
  };
  written("the gradient of A", gradients.A);
  written("the gradient of B", gradients.B, gradients.A);
  written("the gradient of the bias", gradients.bias, gradients.A, gradients.B);
  written("dx", dx, gradients.A, gradients.B, gradients.bias);
  written("scratch", scratch, gradients.A, gradients.B, gradients.bias, dx);
}

template <class L, class W, class BaseBias>
void expects_merge(std::string_view verb, std::string_view name, L const& l, W const& w, BaseBias const& base_bias) {
  expects_low_rank(verb, l);
  expects_shape(verb, name, w, "B", l.B, 0, "A", l.A, 1);
  expects_output_of(verb, l, name, w);
  if constexpr (is_there<BaseBias>) {
    expects_equal_extents(verb, "base_bias", base_bias, 0, "B", l.B, 0);
    expects_output_of(verb, l, "base_bias", base_bias);
    expects_disjoint(verb, "base_bias", base_bias, name, w);
  }
}

/// W += factor B A and base_bias += factor bias: merge, and with -scale unmerge.
template <class E, class L, class W, class BaseBias>
void add_weight(E const& ex, std::string_view verb, L const& l, W const& w, BaseBias const& base_bias, double factor) {
  if constexpr (mandates_merge<E, L, W, BaseBias>()) {
    expects_merge(verb, "W", l, w, base_bias);
    kernels::outer_add(ex, l.B, l.A, w, factor);
    if constexpr (is_there<bias_of_t<L>>) kernels::add_bias(ex, l.bias, as_row(base_bias), factor);
  }
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT::detail
