// SPDX-License-Identifier: Apache-2.0
/// @file
/// What the verbs of `dora` share: checks before data is touched, factors in scratch, and the two kinds of low-rank part.
#pragma once

#include <cstddef>
#include <limits>
#include <string_view>
#include <type_traits>

#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/adapters/lora.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/columns.hpp>
#include <graft/kernels/low_rank_add.hpp>
#include <graft/kernels/outer_add.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/scale.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT::detail {

/// A dora with norms, or none: what holds the factors, and its name.
template <class D>
inline constexpr bool has_norms = requires(D const& d) { requires vector_view<decltype(d.norms)>; };
template <class D>
using low_rank_of_t = decltype(D::low_rank);

template <class E, class V> concept accepted_vector = accepted_input<E, V, 1>;

/// Types of what every verb of dora reads.
template <class E, class D>
consteval bool mandates_dora() {
  GRAFT_MANDATE_EXECUTOR("dora", E)
  static_assert(has_norms<D>,
                "graft: this dora has no norms yet; give it some: with_norms(dora, view), update_norms(ex, dora, W)");
  GRAFT_MANDATE_INPUT("dora", "magnitude", E, decltype(D::magnitude), 1)
  if constexpr (has_norms<D>) { GRAFT_MANDATE_INPUT("dora", "norms", E, decltype(D::norms), 1) }
  if constexpr (has_norms<D>)
    return accepted_vector<E, decltype(D::magnitude)> && accepted_vector<E, decltype(D::norms)>;
  else return false;
}

/// Types of x (ids of an embedding) and y.
template <class E, class L, class X, class Y>
consteval bool mandates_dora_input() {
  GRAFT_MANDATE_EXECUTOR("transform_output", E)
  GRAFT_MANDATE_OUTPUT("transform_output", "y", E, Y, 2)
  if constexpr (is_embedding<L>) {
    GRAFT_MANDATE_IDS("transform_output", E, X)
    return accepted_ids<E, X> && accepted_output<E, Y, 2>;
  } else {
    GRAFT_MANDATE_INPUT("transform_output", "x", E, X, 2)
    return accepted_input<E, X, 2> && accepted_output<E, Y, 2>;
  }
}

/// What sums of this dora and these views are carried in.
template <class D, class... V>
using dora_sums =
    sums_of<decltype(D::low_rank.A), decltype(D::low_rank.B), decltype(D::magnitude), decltype(D::norms), V...>;

/// Types of the backwards.
template <class E, class D, class Kept, class DY, class G>
consteval bool mandates_dora_backward() {
  using GM = decltype(G::magnitude);
  GRAFT_MANDATE_INPUT("backward", "kept", E, Kept, 2)
  GRAFT_MANDATE_OUTPUT("backward", "dy", E, DY, 2)
  if constexpr (is_there<GM>) { GRAFT_MANDATE_OUTPUT("backward", "the gradient of the magnitude", E, GM, 1) }
  return mandates_dora<E, D>() && accepted_input<E, Kept, 2> && accepted_output<E, DY, 2> &&
         accepted_output_or_none<E, GM, 1>;
}
/// Types of merge, unmerge and delta_weight.
template <class E, class D, class W>
consteval bool mandates_dora_merge() {
  return mandates_dora<E, D>() && mandates_merge<E, low_rank_of_t<D>, W, none_t>();
}

inline namespace GRAFT_TARGET {

template <class D>
void expects_dora(std::string_view verb, D const& d) {
  expects_low_rank(verb, d.low_rank);
  expects_equal_extents(verb, "magnitude", d.magnitude, 0, "B", d.low_rank.B, 0);
  expects_data(verb, "magnitude", d.magnitude);
  if constexpr (has_norms<D>) {
    expects_equal_extents(verb, "norms", d.norms, 0, "B", d.low_rank.B, 0);
    expects_data(verb, "norms", d.norms);
  }
}
/// An output that shares no memory with the adapter.
template <class D, class Out>
void expects_output_of_dora(std::string_view verb, D const& d, std::string_view name, Out const& out) {
  if constexpr (is_there<Out>) {
    expects_output_of(verb, d.low_rank, name, out);
    expects_disjoint(verb, name, out, "magnitude", d.magnitude);
    if constexpr (has_norms<D>) expects_disjoint(verb, name, out, "norms", d.norms);
  }
}

/// The weight with a row for each output feature.
template <class L, class W>
[[nodiscard]] auto by_output(L const&, W const& w) {
  if constexpr (is_embedding<L>) return transposed(w);
  else return w;
}
/// y = c * (y + s (x A^T) B^T).
template <class E, class L, class C, class X, class Y>
void scale_with_delta(E const& ex, L const& l, C const& c, X const& x, Y const& y) {
  if constexpr (!is_embedding<L>)
    kernels::low_rank_add(ex, x, l.A, l.B, y, l.scale, low_rank_factors<none_t, none_t, C>{{}, {}, c});
  else if constexpr (!is_narrow<Y>) {
    add_delta(ex, l, x, y);
    kernels::scale_columns(ex, c, y);
  } else
    in_row_blocks<sums_of<decltype(L::A), decltype(L::B), C>>(ex, "transform_output", y,
                                                              [&](index_t first, index_t count, auto const& block) {
                                                                add_delta(ex, l, slice(x, first, count), block);
                                                                kernels::scale_columns(ex, c, block);
                                                              });
}

/// Factors in scratch, for one call: `f(factors)`.
template <class Value, class E, class D, class F>
void with_factors(E const& ex, std::string_view verb, D const& d, F const& f) {
  call_scratch const memory(ex, scratch_size(1, d.out_features(), sizeof(Value), verb));
  auto const factors = memory.template view<Value>(d.out_features());
  kernels::divide(ex, d.magnitude, d.norms, factors);
  f(as_const(factors));
}

/// y = (c + shift) * x, rounded once.
template <class E, class C, class X, class Y>
void write_scaled(E const& ex, C const& c, X const& x, Y const& y, scaling shift = 0.0) {
  fill_zero(ex, y);
  kernels::add_scaled_columns(ex, c, x, y, shift);
}
/// Everything but what the low-rank part checks itself.
template <class D, class X, class Kept, class DY, class G, class DX>
void expects_dora_backward(std::string_view verb, D const& d, X const& x, Kept const& kept, DY const& dy,
                           G const& gradients, DX const& dx) {
  expects_dora(verb, d);
  expects_shape(verb, "dy", dy, "x", x, 0, "B", d.low_rank.B, 0);
  expects_shape(verb, "kept", kept, "x", x, 0, "B", d.low_rank.B, 0);
  expects_data(verb, "x", x);
  expects_data(verb, "kept", kept);
  expects_output_of_dora(verb, d, "dy", dy);
  expects_disjoint(verb, "dy", dy, "x", x);
  expects_disjoint(verb, "dy", dy, "kept", kept);
  if constexpr (is_there<decltype(gradients.magnitude)>) {
    auto const& g = gradients.magnitude;
    expects_equal_extents(verb, "the gradient of the magnitude", g, 0, "B", d.low_rank.B, 0);
    expects_output_of_dora(verb, d, "the gradient of the magnitude", g);
    expects_disjoint(verb, "the gradient of the magnitude", g, "x", x);
    expects_disjoint(verb, "the gradient of the magnitude", g, "kept", kept);
    expects_disjoint(verb, "the gradient of the magnitude", g, "dy", dy);
    expects_apart(verb, "the gradient of the magnitude", g, "the gradient of A", gradients.A);
    expects_apart(verb, "the gradient of the magnitude", g, "the gradient of B", gradients.B);
    expects_apart(verb, "the gradient of the magnitude", g, "dx", dx);
  }
  auto const written = [&](std::string_view name, auto const& out) {
    if constexpr (is_there<std::remove_cvref_t<decltype(out)>>) {
      expects_output_of_dora(verb, d, name, out);
      expects_disjoint(verb, name, out, "kept", kept);
      expects_disjoint(verb, name, out, "dy", dy);
      expects_disjoint(verb, name, out, "x", x);
    }
  };
  written("the gradient of A", gradients.A);
  written("the gradient of B", gradients.B);
  written("dx", dx);
  expects_apart(verb, "the gradient of A", gradients.A, "the gradient of B", gradients.B);
  expects_apart(verb, "dx", dx, "the gradient of A", gradients.A);
  expects_apart(verb, "dx", dx, "the gradient of B", gradients.B);
  auto const fits = [&](std::string_view name, auto const& out, std::string_view of, auto const& like) {
    if constexpr (is_there<std::remove_cvref_t<decltype(out)>>)
      expects_shape(verb, name, out, of, like, 0, of, like, 1);
  };
  fits("the gradient of A", gradients.A, "A", d.low_rank.A);
  fits("the gradient of B", gradients.B, "B", d.low_rank.B);
  if constexpr (!is_embedding<decltype(d.low_rank)>) expects_equal_extents(verb, "x", x, 1, "A", d.low_rank.A, 1);
  if constexpr (is_there<DX>) expects_shape(verb, "dx", dx, "dy", dy, 0, "A", d.low_rank.A, 1);
}

/// dmagnitude += sum of dy * kept over tokens / norms; the sums stay in `sums`.
template <class E, class D, class Kept, class DY, class GM, class S>
void magnitude_gradient(E const& ex, D const& d, Kept const& kept, DY const& dy, GM const& gradient, S const& sums) {
  fill_zero(ex, as_row(sums));
  kernels::dot_columns(ex, dy, kept, sums);
  if constexpr (is_there<GM>) kernels::divide_add(ex, sums, d.norms, gradient);
}
/// The low-rank part's own backward, for a dy that is already scaled.
template <class E, class L, class X, class DY, class G, class DX>
void low_rank_backward(E const& ex, L const& l, X const& x, DY const& dy, G const& g, DX const& dx) {
  if constexpr (is_embedding<L>) backward(ex, l, x, dy, lora_gradients<decltype(g.A), decltype(g.B)>{g.A, g.B, {}});
  else backward(ex, l, x, dy, lora_gradients<decltype(g.A), decltype(g.B)>{g.A, g.B, {}}, dx);
}
/// W <- c (W + s B A), or back.
template <bool Removes, class E, class D, class W>
void merge_dora(E const& ex, std::string_view verb, D const& d, W const& given) {
  using value = dora_sums<D, W>;
  auto const w = by_output(d.low_rank, given);
  expects_dora(verb, d);
  expects_shape(verb, "W", w, "B", d.low_rank.B, 0, "A", d.low_rank.A, 1);
  expects_output_of_dora(verb, d, "W", w);
  double const scale = d.low_rank.scale.value();
  call_scratch const memory(ex, scratch_size(1, d.out_features(), sizeof(value), verb));
  auto const c = memory.template view<value>(d.out_features());
  if constexpr (Removes) kernels::divide(ex, d.norms, d.magnitude, c, std::numeric_limits<double>::quiet_NaN());
  else kernels::divide(ex, d.magnitude, d.norms, c);
  auto const run = [&](auto const& block, auto const& b, auto const& factors) {
    if constexpr (Removes) kernels::scale_rows(ex, factors, block);
    kernels::outer_add(ex, b, d.low_rank.A, block, Removes ? -scale : scale);
    if constexpr (!Removes) kernels::scale_rows(ex, factors, block);
  };
  if constexpr (!is_narrow<W>) run(w, d.low_rank.B, as_const(c));
  else
    in_row_blocks<value>(ex, verb, w, [&](index_t first, index_t count, auto const& block) {
      run(block, rows(d.low_rank.B, first, count), slice(as_const(c), first, count));
    });
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT::detail
