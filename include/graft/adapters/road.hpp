// SPDX-License-Identifier: Apache-2.0
/// @file
/// RoAd: 2D rotary adaptation (Liao and Monz 2024, arXiv 2409.00119), as PEFT stores and computes it.
///
///     z = x W^T + bias        y = R z        W' = R W, bias' = R bias
///     y_j = c_j z_j - s_j z_(j+h)        y_(j+h) = c_(j+h) z_(j+h) + s_(j+h) z_j        c = alpha cos(theta), s = alpha sin(theta)
///
/// Groups of features, h half a group. theta and alpha have m / 2 numbers (road_1: one a pair), m (road_2: one a feature) or 2 m
/// (road_4: in each group those of c, then those of s). The bias of the layer is rotated as well.
#pragma once

#include <cstddef>
#include <string_view>
#include <tuple>
#include <type_traits>

#include <graft/adapters/concepts.hpp>
#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/adapters/detail/scaling.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/columns.hpp>
#include <graft/kernels/copy.hpp>
#include <graft/kernels/fill.hpp>
#include <graft/kernels/pairs.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Where gradients are added; both or none.
template <class Theta = none_t, class Alpha = none_t>
struct road_gradients {
  [[no_unique_address]] Theta theta{};
  [[no_unique_address]] Alpha alpha{};
};

/// PEFT's road_theta and road_alpha, the size of a group, and memory for `factors`[2, m] (c, then s), which `update_factors`
/// writes after every change of the parameters. Without (`graft::none`) it is what a checkpoint holds: see `with_factors`.
template <class Theta, class Alpha, class Factors = none_t>
struct road {
  static_assert(vector_view<Theta> && vector_view<Alpha>,
                "graft::road: theta and alpha must be vector views; wrap the data: graft::view(pointer, size)");
  static_assert(std::is_same_v<Factors, none_t> || matrix_view<Factors>,
                "graft::road: factors must be a matrix view, [2, features]");
  Theta theta;
  Alpha alpha;
  index_t group = 64;
  [[no_unique_address]] Factors factors{};
  static constexpr bool scales_bias = true;
  using gradients = road_gradients<>;
};

namespace detail {
inline namespace GRAFT_TARGET {
template <class A>
[[nodiscard]] auto cosines(A const& a) {
  return pair_factor(a.factors, 0);
}
template <class A>
[[nodiscard]] auto sines(A const& a) {
  return pair_factor(a.factors, 1);
}
template <class A>
void expects_road(std::string_view verb, A const& a) {
  expects_pair_parameters(verb, a.theta, a.alpha, a.group, "the factors", a.factors);
  expects_data(verb, "c", cosines(a));
}
/// What merge, unmerge and, with D, delta_weight ask; `kernels::rotate_pairs` asks the rest of a W that is written.
template <class A, class W, class D = none_t>
void expects_merge_road(std::string_view verb, A const& a, W const& w, D const& d = {}) {
  expects_road(verb, a);
  expects_equal_extents(verb, "W", w, 0, "the factors", a.factors, 1);
  if constexpr (is_there<D>)
    expects_change(verb, w, d, [&](std::string_view name, auto const& out) { expects_output(verb, name, out); });
}
template <class E, class T, class A, class F>
consteval bool mandates_road() {
  GRAFT_MANDATE_EXECUTOR("road", E)
  static_assert(!std::is_same_v<F, none_t>,
                "graft: this road has no factors; give it memory for them: with_factors(adapter, view), then "
                "update_factors(ex, adapter)");
  return executor<E> && !std::is_same_v<F, none_t> && accepted<E, T, A, F>;
}
}  // namespace GRAFT_TARGET
}  // namespace detail

inline namespace GRAFT_TARGET {

/// The same adapter with memory for its factors[2, m], which `update_factors` fills.
template <class T, class A, class F, class Factors>
[[nodiscard]] auto with_factors(road<T, A, F> const& a, Factors const& factors) {
  return road<T, A, Factors>{a.theta, a.alpha, a.group, factors};
}

/// factors = (alpha cos(theta), alpha sin(theta)) of every feature; after every change of the parameters.
///
/// Precision    cosines and sines of the standard library in fp64, rounded once.
/// Determinism  a function of the parameters on one machine; another's library may differ in the last place.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class T, class A, class F>
void update_factors(E const& ex, road<T, A, F> const& a) {
  if constexpr (detail::mandates_road<E, T, A, F>()) {
    constexpr std::string_view verb = "update_factors";
    detail::expects_road(verb, a);
    detail::expects_output(verb, "the factors", a.factors);
    detail::expects_disjoint(verb, "the factors", a.factors, "theta", a.theta);
    detail::expects_disjoint(verb, "the factors", a.factors, "alpha", a.alpha);
    kernels::pair_factors(ex, a.theta, a.alpha, a.group, a.factors);
  }
}

/// y = R y, where y comes in as what the layer gives **with** its bias; `kept`[T, m] gets that for `backward`.
///
/// Shapes       x[T, n], of which only the types matter; y[T, m] in and out; kept[T, m] out, or `graft::none`.
/// Aliasing     y and kept may not overlap each other or the adapter.
/// Cost         3 T m flops; y is read and written, kept written.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class T, class A, class F, class X, class Y, class Kept = none_t>
void transform_output(E const& ex, road<T, A, F> const& a, X const&, Y const& y, Kept const& kept = {}) {
  GRAFT_MANDATE_OUTPUT("transform_output", "y", E, Y, 2)
  if constexpr (detail::is_there<Kept>) { GRAFT_MANDATE_OUTPUT("transform_output", "kept", E, Kept, 2) }
  if constexpr (detail::mandates_road<E, T, A, F>() && detail::accepted_output<E, Y, 2> &&
                detail::accepted_output_or_none<E, Kept, 2>) {
    constexpr std::string_view verb = "transform_output";
    detail::expects_road(verb, a);
    detail::expects_equal_extents(verb, "y", y, 1, "the factors", a.factors, 1);
    detail::expects_output(verb, "y", y);
    detail::expects_disjoint(verb, "y", y, "the factors", a.factors);
    if constexpr (detail::is_there<Kept>) {
      detail::expects_shape(verb, "kept", kept, "y", y, 0, "y", y, 1);
      kernels::copy(ex, y, kept);
    }
    kernels::rotate_pairs(ex, detail::cosines(a), detail::sines(a), a.group, y);
  }
}

/// Scratch of `backward` with gradients. Name kept and dy when one may be of double: backward_scratch_bytes(a, kept, dy).
template <class T, class A, class F, class... Others>
[[nodiscard]] std::size_t backward_scratch_bytes(road<T, A, F> const& a, Others const&...) {
  return detail::scratch_size(2, a.factors.extent(1), sizeof(detail::sums_of<F, Others...>), "backward");
}

/// Gradients of theta and alpha, added to what is there, and dy becomes R^T dy, the gradient of what the layer gave with its bias.
///
/// Shapes       kept[T, m] as the forward wrote it, in; dy[T, m] in and out; gradients as theta and alpha, in and out, or none.
/// Precision    sums over tokens as `kernels::dot_columns`, unrounded; the rest in fp64, one rounding.
/// Determinism  equal bits for every number of threads.
/// Scratch      `backward_scratch_bytes(a)` from the executor's resource: 2 m numbers. None without gradients.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class T, class A, class F, class X, class Kept, class DY, class GT, class GA, class DX>
void backward(E const& ex, road<T, A, F> const& a, X const&, Kept const& kept, DY const& dy,
              road_gradients<GT, GA> const& gradients, DX const&) {
  static_assert(detail::is_there<GT> == detail::is_there<GA>,
                "graft::backward: gradients of theta and alpha go together");
  GRAFT_MANDATE_INPUT("backward", "kept", E, Kept, 2)
  GRAFT_MANDATE_OUTPUT("backward", "dy", E, DY, 2)
  if constexpr (detail::mandates_road<E, T, A, F>() && detail::accepted_input<E, Kept, 2> &&
                detail::accepted_output<E, DY, 2>) {
    constexpr std::string_view verb = "backward";
    detail::expects_road(verb, a);
    index_t const m = a.factors.extent(1);
    detail::expects_equal_extents(verb, "dy", dy, 1, "the factors", a.factors, 1);
    detail::expects_shape(verb, "kept", kept, "dy", dy, 0, "dy", dy, 1);
    detail::expects_data(verb, "kept", kept);
    detail::expects_output(verb, "dy", dy);
    detail::expects_disjoint(verb, "dy", dy, "kept", kept);
    detail::expects_disjoint(verb, "dy", dy, "the factors", a.factors);
    if constexpr (detail::is_there<GT> && detail::is_there<GA>) {
      using sums = detail::sums_of<F, Kept, DY>;
      detail::expects_equal_extents(verb, "the gradient of theta", gradients.theta, 0, "theta", a.theta, 0);
      detail::expects_equal_extents(verb, "the gradient of alpha", gradients.alpha, 0, "alpha", a.alpha, 0);
      detail::expects_output(verb, "the gradient of theta", gradients.theta);
      detail::expects_output(verb, "the gradient of alpha", gradients.alpha);
      detail::expects_disjoint(verb, "the gradient of theta", gradients.theta, "the gradient of alpha",
                               gradients.alpha);
      detail::expects_disjoint(verb, "the gradient of theta", gradients.theta, "dy", dy);
      detail::expects_disjoint(verb, "the gradient of alpha", gradients.alpha, "dy", dy);
      detail::call_scratch const memory(ex, backward_scratch_bytes(a, kept, dy));
      auto const d = memory.template view<sums>(2, m);
      detail::fill_zero(ex, d);
      kernels::dot_columns(ex, dy, kept, detail::pair_factor(d, 0));
      kernels::dot_pairs(ex, kept, dy, a.group, detail::pair_factor(d, 1));
      kernels::pair_factors_backward(ex, a.theta, a.alpha, a.group, as_const(d), gradients.theta, gradients.alpha);
    }
    kernels::rotate_pairs_back(ex, detail::cosines(a), detail::sines(a), a.group, dy);
  }
}

/// merge: W <- R W and base_bias <- R base_bias. unmerge: back, by the inverse of every pair.
///
/// Shapes       W[m, n] in and out; base_bias[m] in and out, or `graft::none` when the layer has none.
/// Cost         3 m n flops. One rounding an element.
/// Errors       shape_error, argument_error; nothing is written then. A pair without an inverse comes back as infinities or NaN.
template <class E, class T, class A, class F, class W, class Bias = none_t>
void merge(E const& ex, road<T, A, F> const& a, W const& w, Bias const& base_bias = {}) {
  GRAFT_MANDATE_OUTPUT("merge, unmerge, delta_weight", "W", E, W, 2)
  if constexpr (detail::mandates_road<E, T, A, F>() && detail::accepted_output<E, W, 2>) {
    detail::expects_merge_road("merge", a, w);
    kernels::rotate_pairs(ex, detail::cosines(a), detail::sines(a), a.group, transposed(w));
    if constexpr (detail::is_there<Bias>)
      kernels::rotate_pairs(ex, detail::cosines(a), detail::sines(a), a.group, detail::as_row(base_bias));
  }
}
template <class E, class T, class A, class F, class W, class Bias = none_t>
void unmerge(E const& ex, road<T, A, F> const& a, W const& w, Bias const& base_bias = {}) {
  GRAFT_MANDATE_OUTPUT("merge, unmerge, delta_weight", "W", E, W, 2)
  if constexpr (detail::mandates_road<E, T, A, F>() && detail::accepted_output<E, W, 2>) {
    detail::expects_merge_road("unmerge", a, w);
    kernels::rotate_pairs_inverse(ex, detail::cosines(a), detail::sines(a), a.group, transposed(w));
    if constexpr (detail::is_there<Bias>)
      kernels::rotate_pairs_inverse(ex, detail::cosines(a), detail::sines(a), a.group, detail::as_row(base_bias));
  }
}

/// D = R W - W, what `merge` changes of the weight; in 16 bits rounded once, by way of scratch:
/// `delta_weight_scratch_bytes(a, D)`.
template <class E, class T, class A, class F, class W, class D>
void delta_weight(E const& ex, road<T, A, F> const& a, W const& w, D const& d) {
  GRAFT_MANDATE_INPUT("delta_weight", "W", E, W, 2)
  GRAFT_MANDATE_OUTPUT("delta_weight", "D", E, D, 2)
  if constexpr (detail::mandates_road<E, T, A, F>() && detail::accepted_input<E, W, 2> &&
                detail::accepted_output<E, D, 2>) {
    constexpr std::string_view verb = "delta_weight";
    detail::expects_merge_road(verb, a, w, d);
    // Columns of a weight are rows of its transpose: pairs stay together in a block.
    detail::difference_of(ex, verb, transposed(w), transposed(d), [&](auto const& block, index_t, index_t) {
      kernels::rotate_pairs(ex, detail::cosines(a), detail::sines(a), a.group, block);
    });
  }
}

/// Scratch of `delta_weight`: columns of a D in 16 bits.
template <class T, class A, class F, class D>
[[nodiscard]] std::size_t delta_weight_scratch_bytes(road<T, A, F> const&, D const& d) {
  return detail::difference_bytes(transposed(d), "delta_weight");
}

/// What is trained: theta and alpha.
template <class T, class A, class F>
[[nodiscard]] auto trainable(road<T, A, F> const& a) {
  return std::tuple{parameter<T>{"theta", a.theta}, parameter<A>{"alpha", a.alpha}};
}

/// A fresh adapter: theta 0, alpha 1, so that nothing changes.
template <class E, class T, class A, class F>
void initialize(E const& ex, road<T, A, F> const& a) {
  GRAFT_MANDATE_OUTPUT("initialize", "theta", E, T, 1)
  GRAFT_MANDATE_OUTPUT("initialize", "alpha", E, A, 1)
  if constexpr (detail::mandates_road<E, T, A, F>() && detail::accepted_output<E, T, 1> &&
                detail::accepted_output<E, A, 1>) {
    detail::expects_road("initialize", a);
    detail::expects_output("initialize", "theta", a.theta);
    detail::expects_output("initialize", "alpha", a.alpha);
    detail::fill_zero(ex, detail::as_row(a.theta));
    kernels::fill(ex, 1.0, detail::as_row(a.alpha));
    update_factors(ex, a);
  }
}

}  // namespace GRAFT_TARGET

namespace detail {
using archetype_road = road<archetype_vector, archetype_vector, archetype_matrix>;
}
static_assert(output_transform<detail::archetype_road> && mergeable<detail::archetype_road> &&
              differentiable<detail::archetype_road>);

}  // namespace graft::inline GRAFT_CONTRACT
