// SPDX-License-Identifier: Apache-2.0
/// @file
/// (IA)3: infused adapter by inhibiting and amplifying inner activations (Liu et al. 2022, arXiv 2205.05638, sec. 3.3), as PEFT
/// stores and computes it.
///
///     ia3               l[m]: y = l * (x W^T + bias)        W' = diag(l) W, bias' = l * bias      keys, values and all others
///     ia3_feedforward   l[n]: y = (x * l) W^T + bias        W' = W diag(l)                        feed-forward layers
///
/// The first scales the bias of the layer as well.
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
#include <graft/kernels/columns.hpp>
#include <graft/kernels/copy.hpp>
#include <graft/kernels/fill.hpp>
#include <graft/kernels/scale.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Where the gradient is added; `graft::none` when it is not trained.
template <class L = none_t>
struct ia3_gradients {
  [[no_unique_address]] L l{};
};

/// PEFT's ia3_l of everything but feed-forward layers: one number an output feature.
template <class L>
struct ia3 {
  static_assert(vector_view<L>, "graft::ia3: l must be a vector view; wrap the data: graft::view(pointer, size)");
  L l;
  [[nodiscard]] GRAFT_FN index_t out_features() const { return l.extent(0); }
  static constexpr bool scales_bias = true;
  using gradients = ia3_gradients<>;
};
/// PEFT's ia3_l of feed-forward layers: one number an input feature.
template <class L>
struct ia3_feedforward {
  static_assert(vector_view<L>,
                "graft::ia3_feedforward: l must be a vector view; wrap the data: graft::view(pointer, size)");
  L l;
  [[nodiscard]] GRAFT_FN index_t in_features() const { return l.extent(0); }
  using gradients = ia3_gradients<>;
};

namespace detail {
inline namespace GRAFT_TARGET {
/// What merge, unmerge and, with D, delta_weight of both kinds ask; l runs along `dimension` of W. What is written is called W.
template <class L, class W, class D = none_t>
void expects_merge_ia3(std::string_view verb, L const& l, W const& w, std::size_t dimension, D const& d = {}) {
  expects_equal_extents(verb, "W", w, dimension, "l", l, 0);
  expects_data(verb, "l", l);
  expects_change(verb, w, d, [&](std::string_view name, auto const& out) {
    expects_output(verb, name, out);
    expects_disjoint(verb, name, out, "l", l);
  });
}
template <class E, class L, class W, class Bias>
consteval bool mandates_merge_ia3() {
  GRAFT_MANDATE_INPUT("merge, unmerge, delta_weight", "l", E, L, 1)
  GRAFT_MANDATE_OUTPUT("merge, unmerge, delta_weight", "W", E, W, 2)
  if constexpr (is_there<Bias>) { GRAFT_MANDATE_OUTPUT("merge, unmerge", "base_bias", E, Bias, 1) }
  return accepted_input<E, L, 1> && accepted_output<E, W, 2> && accepted_output_or_none<E, Bias, 1>;
}
template <class L, class Bias>
void expects_bias_of_ia3(std::string_view verb, L const& l, Bias const& base_bias) {
  if constexpr (is_there<Bias>) {
    expects_equal_extents(verb, "base_bias", base_bias, 0, "l", l, 0);
    expects_output(verb, "base_bias", base_bias);
    expects_disjoint(verb, "base_bias", base_bias, "l", l);
  }
}
/// D = (l - 1) * W, l along the columns.
template <class E, class L, class W, class D>
void scaled_difference(E const& ex, L const& l, W const& w, D const& d) {
  fill_zero(ex, d);
  kernels::add_scaled_columns(ex, l, w, d, -1.0);
}
}  // namespace GRAFT_TARGET
}  // namespace detail

inline namespace GRAFT_TARGET {

/// y = l * y, where y comes in as what the layer gives **with** its bias; `kept`[T, m] gets that for `backward`.
///
/// Shapes       x[T, n], of which only the types matter; y[T, m] in and out; kept[T, m] out, or `graft::none`.
/// Aliasing     y and kept may not overlap each other or l.
/// Cost         T m flops; y is read and written, kept written.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class L, class X, class Y, class Kept = none_t>
void transform_output(E const& ex, ia3<L> const& a, X const&, Y const& y, Kept const& kept = {}) {
  detail::scale_output(ex, "l", a.l, y, kept);
}

/// dl += sum over tokens of dy * kept, and dy becomes l * dy, the gradient of what the layer gave with its bias.
///
/// Shapes       kept[T, m] as the forward wrote it, in; dy[T, m] in and out; gradients.l[m] in and out, or `graft::none`.
/// Determinism  `kernels::dot_columns`: equal bits for every number of threads.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class L, class X, class Kept, class DY, class GL, class DX>
void backward(E const& ex, ia3<L> const& a, X const&, Kept const& kept, DY const& dy,
              ia3_gradients<GL> const& gradients, DX const&) {
  detail::scale_output_backward(ex, "l", a.l, kept, dy, gradients.l);
}

/// merge: W <- diag(l) W and base_bias <- l * base_bias. unmerge: back, by 1 / l; where l is 0 nothing can come back (NaN).
///
/// Shapes       W[m, n] in and out; base_bias[m] in and out, or `graft::none` when the layer has none.
/// Cost         m n flops. One rounding an element.
/// Scratch      unmerging takes `unmerge_scratch_bytes(a, W)` from the executor's resource: 1 / l.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class L, class W, class Bias = none_t>
void merge(E const& ex, ia3<L> const& a, W const& w, Bias const& base_bias = {}) {
  if constexpr (detail::mandates_merge_ia3<E, L, W, Bias>()) {
    detail::expects_merge_ia3("merge", a.l, w, 0);
    detail::expects_bias_of_ia3("merge", a.l, base_bias);
    kernels::scale_rows(ex, a.l, w);
    if constexpr (detail::is_there<Bias>) kernels::scale_columns(ex, a.l, detail::as_row(base_bias));
  }
}
template <class E, class L, class W, class Bias = none_t>
void unmerge(E const& ex, ia3<L> const& a, W const& w, Bias const& base_bias = {}) {
  if constexpr (detail::mandates_merge_ia3<E, L, W, Bias>()) {
    detail::expects_merge_ia3("unmerge", a.l, w, 0);
    detail::expects_bias_of_ia3("unmerge", a.l, base_bias);
    detail::with_inverse<detail::sums_of<L, W>>(ex, "unmerge", a.l, [&](auto const& inverse) {
      kernels::scale_rows(ex, inverse, w);
      if constexpr (detail::is_there<Bias>) kernels::scale_columns(ex, inverse, detail::as_row(base_bias));
    });
  }
}

/// Scratch of `unmerge`. Name W when it may be of double.
template <class L, class... Others>
[[nodiscard]] std::size_t unmerge_scratch_bytes(ia3<L> const& a, Others const&...) {
  return detail::inverse_bytes<detail::sums_of<L, Others...>>(a.l.extent(0), "unmerge");
}

/// D = (diag(l) - I) W, what `merge` changes of the weight; one rounding.
template <class E, class L, class W, class D>
void delta_weight(E const& ex, ia3<L> const& a, W const& w, D const& d) {
  GRAFT_MANDATE_INPUT("delta_weight", "W", E, W, 2)
  if constexpr (detail::mandates_merge_ia3<E, L, D, none_t>() && detail::accepted_input<E, W, 2>) {
    detail::expects_merge_ia3("delta_weight", a.l, w, 0, d);
    detail::scaled_difference(ex, a.l, transposed(w), transposed(d));
  }
}

/// The adapter of output features [first, first + count). Checked.
template <class L>
[[nodiscard]] auto output_rows(ia3<L> const& a, index_t first, index_t count) {
  auto const l = detail::output_slice(a.l, first, count);
  return ia3<std::remove_const_t<decltype(l)>>{l};
}

/// x' = x * l, which goes into the base layer. x' may be x.
///
/// Shapes       x[T, n] in; x'[T, n] out. Any strides, any scalars; one product and one rounding an element.
/// Aliasing     x' may be x itself; else it may not overlap x or l.
/// Cost         T n flops.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class L, class X, class Y>
void transform_input(E const& ex, ia3_feedforward<L> const& a, X const& x, Y const& turned) {
  GRAFT_MANDATE_INPUT("transform_input", "x", E, X, 2)
  GRAFT_MANDATE_OUTPUT("transform_input", "x'", E, Y, 2)
  GRAFT_MANDATE_INPUT("transform_input", "l", E, L, 1)
  if constexpr (detail::accepted_input<E, X, 2> && detail::accepted_output<E, Y, 2> &&
                detail::accepted_input<E, L, 1>) {
    constexpr std::string_view verb = "transform_input";
    detail::expects_equal_extents(verb, "x", x, 1, "l", a.l, 0);
    detail::expects_shape(verb, "x'", turned, "x", x, 0, "x", x, 1);
    detail::expects_data(verb, "x", x);
    detail::expects_output(verb, "x'", turned);
    detail::expects_disjoint(verb, "x'", turned, "l", a.l);
    if (detail::is_same_view(x, turned)) return kernels::scale_columns(ex, a.l, turned);
    detail::expects_disjoint(verb, "x'", turned, "x", x);
    if constexpr (std::is_same_v<std::remove_const_t<typename X::value_type>, typename Y::value_type>) {
      kernels::copy(ex, x, turned);  // exact: one rounding remains
      kernels::scale_columns(ex, a.l, turned);
    } else {
      detail::fill_zero(ex, turned);
      kernels::add_scaled_columns(ex, a.l, x, turned);
    }
  }
}

/// With g, the gradient of x': dl += sum over tokens of x * g, dx += l * g.
///
/// Shapes       x[T, n], g[T, n] in; gradients.l[n], dx[T, n] in and out, or `graft::none`.
/// Aliasing     nothing that is written may overlap anything else.
/// Determinism  `kernels::dot_columns`: equal bits for every number of threads.
/// Cost         4 T n flops.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class L, class X, class G, class GL, class DX>
void backward_input(E const& ex, ia3_feedforward<L> const& a, X const& x, G const& g,
                    ia3_gradients<GL> const& gradients, DX const& dx) {
  GRAFT_MANDATE_INPUT("backward_input", "x", E, X, 2)
  GRAFT_MANDATE_INPUT("backward_input", "the gradient of x'", E, G, 2)
  if constexpr (detail::is_there<GL>) { GRAFT_MANDATE_OUTPUT("backward_input", "the gradient of l", E, GL, 1) }
  if constexpr (detail::is_there<DX>) { GRAFT_MANDATE_OUTPUT("backward_input", "dx", E, DX, 2) }
  if constexpr (detail::accepted_input<E, X, 2> && detail::accepted_input<E, G, 2> &&
                detail::accepted_output_or_none<E, GL, 1> && detail::accepted_output_or_none<E, DX, 2>) {
    constexpr std::string_view verb = "backward_input";
    detail::expects_equal_extents(verb, "x", x, 1, "l", a.l, 0);
    detail::expects_shape(verb, "the gradient of x'", g, "x", x, 0, "x", x, 1);
    detail::expects_data(verb, "x", x);
    detail::expects_data(verb, "the gradient of x'", g);
    if constexpr (detail::is_there<DX>) {
      detail::expects_shape(verb, "dx", dx, "x", x, 0, "x", x, 1);
      detail::expects_output(verb, "dx", dx);
      detail::expects_disjoint(verb, "dx", dx, "x", x);
      detail::expects_disjoint(verb, "dx", dx, "the gradient of x'", g);
      detail::expects_disjoint(verb, "dx", dx, "l", a.l);
    }
    if constexpr (detail::is_there<GL>) {
      detail::expects_equal_extents(verb, "the gradient of l", gradients.l, 0, "l", a.l, 0);
      detail::expects_disjoint(verb, "the gradient of l", gradients.l, "l", a.l);
      detail::expects_apart(verb, "the gradient of l", gradients.l, "dx", dx);
      kernels::dot_columns(ex, x, g, gradients.l);
    }
    if constexpr (detail::is_there<DX>) kernels::add_scaled_columns(ex, a.l, g, dx);
  }
}

/// merge: W <- W diag(l). unmerge: back, by 1 / l; where l is 0 nothing can come back (NaN). A bias stays.
///
/// Shapes       W[m, n] in and out.
/// Cost         m n flops. One rounding an element.
/// Scratch      unmerging takes `unmerge_scratch_bytes(a, W)` from the executor's resource: 1 / l.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class L, class W>
void merge(E const& ex, ia3_feedforward<L> const& a, W const& w) {
  if constexpr (detail::mandates_merge_ia3<E, L, W, none_t>()) {
    detail::expects_merge_ia3("merge", a.l, w, 1);
    kernels::scale_columns(ex, a.l, w);
  }
}
template <class E, class L, class W>
void unmerge(E const& ex, ia3_feedforward<L> const& a, W const& w) {
  if constexpr (detail::mandates_merge_ia3<E, L, W, none_t>()) {
    detail::expects_merge_ia3("unmerge", a.l, w, 1);
    detail::with_inverse<detail::sums_of<L, W>>(ex, "unmerge", a.l,
                                                [&](auto const& inverse) { kernels::scale_columns(ex, inverse, w); });
  }
}

/// Scratch of `unmerge`. Name W when it may be of double.
template <class L, class... Others>
[[nodiscard]] std::size_t unmerge_scratch_bytes(ia3_feedforward<L> const& a, Others const&...) {
  return detail::inverse_bytes<detail::sums_of<L, Others...>>(a.l.extent(0), "unmerge");
}

/// D = W (diag(l) - I), what `merge` changes; one rounding.
template <class E, class L, class W, class D>
void delta_weight(E const& ex, ia3_feedforward<L> const& a, W const& w, D const& d) {
  GRAFT_MANDATE_INPUT("delta_weight", "W", E, W, 2)
  if constexpr (detail::mandates_merge_ia3<E, L, D, none_t>() && detail::accepted_input<E, W, 2>) {
    detail::expects_merge_ia3("delta_weight", a.l, w, 1, d);
    detail::scaled_difference(ex, a.l, w, d);
  }
}

/// The adapter of output features [first, first + count): itself, since it scales inputs.
template <class L>
[[nodiscard]] auto output_rows(ia3_feedforward<L> const& a, index_t, index_t) {
  return a;
}

/// What is trained: l.
template <class L>
[[nodiscard]] auto trainable(ia3<L> const& a) {
  return std::tuple{parameter<L>{"l", a.l}};
}
template <class L>
[[nodiscard]] auto trainable(ia3_feedforward<L> const& a) {
  return std::tuple{parameter<L>{"l", a.l}};
}

/// A fresh adapter: l = 1, so that nothing changes.
template <class E, class L>
void initialize(E const& ex, ia3<L> const& a) {
  GRAFT_MANDATE_OUTPUT("initialize", "l", E, L, 1)
  if constexpr (detail::accepted_output<E, L, 1>) {
    detail::expects_output("initialize", "l", a.l);
    kernels::fill(ex, 1.0, detail::as_row(a.l));
  }
}
template <class E, class L>
void initialize(E const& ex, ia3_feedforward<L> const& a) {
  initialize(ex, ia3<L>{a.l});
}

}  // namespace GRAFT_TARGET

static_assert(output_transform<ia3<detail::archetype_vector>> && row_mergeable<ia3<detail::archetype_vector>> &&
              differentiable<ia3<detail::archetype_vector>>);
static_assert(input_transform<ia3_feedforward<detail::archetype_vector>> &&
              row_mergeable<ia3_feedforward<detail::archetype_vector>> &&
              differentiable<ia3_feedforward<detail::archetype_vector>>);

}  // namespace graft::inline GRAFT_CONTRACT
