// SPDX-License-Identifier: Apache-2.0
/// @file
/// OFT: orthogonal finetuning (Qiu et al. 2023, arXiv 2306.07280) in the form that rotates activations (Qiu et al. 2025,
/// arXiv 2506.19847), as PEFT stores and computes it.
///
///     x[T, n]  v[D, b (b - 1) / 2] or [1, b (b - 1) / 2]  W[m, n]  y[T, m]      D b = n; Q skew with the upper triangle v
///     R = (I - Q) (I + Q)^-1                                             exact: terms = 0
///     R = I + 2 Q + ... + 2 Q^(terms - 2) + Q^(terms - 1)                Cayley-Neumann, PEFT's default with terms = 5
///     y = (x diag(R_1, ..., R_D)) W^T                                    W' = W diag(R)^T      bias added after, unscaled
///
/// With the same parameters the two kinds rotate in opposite senses: the series goes towards the transpose. It is orthogonal
/// only nearly, which unmerging takes into account.
#pragma once

#include <cmath>
#include <cstddef>
#include <string_view>
#include <tuple>

#include <graft/adapters/concepts.hpp>
#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/detail/rotations.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/adapters/detail/scaling.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/kernels/cayley.hpp>
#include <graft/kernels/cayley_backward.hpp>
#include <graft/kernels/invert_blocks.hpp>
#include <graft/kernels/rotate_blocks.hpp>
#include <graft/kernels/scale.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Where gradients are added; `graft::none` for what is not trained.
template <class Parameters = none_t>
struct oft_gradients {
  [[no_unique_address]] Parameters parameters{};
};

/// PEFT's oft_R.weight as `parameters`[D, b (b - 1) / 2], one row where all blocks are shared; the features n, the block size b,
/// the terms of the series (0: exact), and memory for `rotations`[D or 1, b, b], which `update_rotations` writes after every
/// change of the parameters. Without rotations (`graft::none`) it is what a checkpoint holds: see `with_rotations`.
template <class Parameters, class Rotations = none_t>
struct oft {
  static_assert(matrix_view<Parameters>,
                "graft::oft: parameters must be a matrix view, [blocks, b (b - 1) / 2]; wrap the data: "
                "graft::view(pointer, rows, columns)");
  static_assert(detail::optional_of_rank<Rotations, 3>, "graft::oft: rotations must be a view of three dimensions");

  Parameters parameters;
  index_t features = 0;
  index_t block = 0;
  int terms = 5;
  [[no_unique_address]] Rotations rotations{};

  [[nodiscard]] GRAFT_FN index_t in_features() const { return features; }
  [[nodiscard]] GRAFT_FN index_t block_size() const { return block; }
  [[nodiscard]] GRAFT_FN index_t blocks() const { return block > 0 ? features / block : 0; }
  using gradients = oft_gradients<>;
};

namespace detail {
inline namespace GRAFT_TARGET {
/// The blocks cover the features; parameters and rotations have a row for each, or one for all.
template <class A>
void expects_oft(std::string_view verb, A const& a) {
  if (a.block <= 0 || a.features < 0 || a.features % a.block != 0) [[unlikely]]
    raise(
        argument_error(text("graft::", verb, ": blocks of ", a.block, " do not divide the ", a.features, " features")));
  if (a.parameters.extent(0) != a.blocks() && a.parameters.extent(0) != 1) [[unlikely]]
    raise(shape_error(text("graft::", verb, ": the parameters", shape_text(a.parameters), " are for ",
                           a.parameters.extent(0), " blocks but there are ", a.blocks(), "; one may stand for all")));
  if (a.terms < 0 || a.terms > 64) [[unlikely]]
    raise(argument_error(text("graft::", verb, ": the number of terms is ", a.terms, " but must be 0 (exact) to 64")));
  expects_skew(verb, "the parameters", a.parameters, "the rotations", a.rotations);
  if (a.rotations.extent(1) != a.block) [[unlikely]]
    raise(shape_error(
        text("graft::", verb, ": the rotations", shape_text(a.rotations), " are not of blocks of ", a.block)));
  expects_data(verb, "the rotations", a.rotations);
}
template <class E, class A, class W>
consteval bool mandates_merge_oft() {
  GRAFT_MANDATE_OUTPUT("merge, unmerge, delta_weight", "W", E, W, 2)
  return mandates_rotated<E, decltype(A::parameters), decltype(A::rotations)>() && accepted_output<E, W, 2>;
}
/// What merge, unmerge and, with D, delta_weight ask.
template <class A, class W, class D = none_t>
void expects_merge_oft(std::string_view verb, A const& a, W const& w, D const& d = {}) {
  expects_oft(verb, a);
  expects_rotation(verb, as_rotation(a.rotations, a.blocks()), "W", w);
  expects_change(verb, w, d,
                 [&](std::string_view name, auto const& out) { expects_output_of_rotated(verb, a, name, out); });
}
}  // namespace GRAFT_TARGET
}  // namespace detail

inline namespace GRAFT_TARGET {

/// The same adapter with memory for its rotations[D or 1, b, b], which `update_rotations` fills.
template <class P, class R, class Rotations>
[[nodiscard]] auto with_rotations(oft<P, R> const& a, Rotations const& rotations) {
  return oft<P, Rotations>{a.parameters, a.features, a.block, a.terms, rotations};
}

/// rotations = R of every block; after every change of the parameters.
///
/// Precision, determinism: `kernels::cayley` or `kernels::cayley_neumann`.
/// Cost         2 D b^3 flops, of a series terms - 1 times that.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class P, class R>
void update_rotations(E const& ex, oft<P, R> const& a) {
  if constexpr (detail::mandates_rotated<E, P, R>()) {
    detail::expects_oft("update_rotations", a);
    if (a.terms == 0) kernels::cayley(ex, a.parameters, a.rotations);
    else kernels::cayley_neumann(ex, a.parameters, a.terms, a.rotations);
  }
}

/// COFT, an explicit step before `update_rotations`: every block whose |Q| (Frobenius, sqrt(2) |v|) is above eps / sqrt(rows of
/// the parameters) is scaled down to that, in place.
///
/// Precision    the norm in fp64; one product and one rounding an element.
/// Cost         D b^2 / 2 numbers read, and written where they change.
/// Errors       shape_error; argument_error unless eps >= 0; nothing is written then.
template <class E, class P, class R>
void project(E const& ex, oft<P, R> const& a, double eps) {
  GRAFT_MANDATE_OUTPUT("project", "the parameters", E, P, 2)
  if constexpr (detail::accepted_output<E, P, 2>) {
    if (!(eps >= 0.0)) [[unlikely]]
      detail::raise(argument_error(detail::text("graft::project: eps is ", eps, " but must not be negative")));
    detail::expects_output("project", "the parameters", a.parameters);
    kernels::limit_row_norms(
        ex, a.parameters,
        eps / std::sqrt(2.0 * static_cast<double>(a.parameters.extent(0) < 1 ? 1 : a.parameters.extent(0))));
  }
}

/// x' = x diag(R), which goes into the base layer.
///
/// Shapes       x[T, n] in; x'[T, n] out. Any strides, any scalars. x' may be x.
/// Everything else: `kernels::rotate_blocks`.
template <class E, class P, class R, class X, class Y>
void transform_input(E const& ex, oft<P, R> const& a, X const& x, Y const& turned) {
  GRAFT_MANDATE_INPUT("transform_input", "x", E, X, 2)
  GRAFT_MANDATE_OUTPUT("transform_input", "x'", E, Y, 2)
  if constexpr (detail::mandates_rotated<E, P, R>() && detail::accepted_input<E, X, 2> &&
                detail::accepted_output<E, Y, 2>) {
    detail::expects_oft("transform_input", a);
    auto const r = detail::as_rotation(a.rotations, a.blocks());
    detail::expects_rotation("transform_input", r, "x", x);
    kernels::rotate_blocks(ex, x, r, turned);
  }
}

/// All added to what is there: with g = the gradient of x', dR = the sums over tokens of x and g, the parameters' by way of
/// `kernels::cayley_backward` or `cayley_neumann_backward`, and dx += g diag(R)^T. A shared block gets the sum of all.
///
/// Shapes       x[T, n], g[T, n] in; gradients.parameters as the parameters and dx[T, n] in and out, or `graft::none`.
/// Aliasing     nothing that is written may overlap anything else.
/// Determinism  equal bits for every number of threads; 512 tokens at a time, in order.
/// Cost         2 T n b flops for the parameters, 2 T n b for dx.
/// Scratch      `backward_input_scratch_bytes(a, x)` from the executor's resource, beside the kernels': D b^2 numbers.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class P, class R, class X, class G, class GP, class DX>
void backward_input(E const& ex, oft<P, R> const& a, X const& x, G const& g, oft_gradients<GP> const& gradients,
                    DX const& dx) {
  if constexpr (detail::mandates_rotated_backward<E, oft<P, R>, X, G, GP, DX, 2>()) {
    detail::expects_oft("backward_input", a);
    auto const r = detail::as_rotation(a.rotations, a.blocks());
    detail::expects_rotated_backward(a, r, x, g, gradients.parameters, dx);
    if constexpr (detail::is_there<GP>) {
      auto const& d = gradients.parameters;
      using sums = detail::sums_of<R, X, G, GP>;
      detail::backward_through<sums>(ex, "backward_input", r, a.rotations.extent(0), x, g,
                                     [&](index_t, auto const& dr) {
                                       if (a.terms == 0) kernels::cayley_backward(ex, a.rotations, as_const(dr), d);
                                       else
                                         kernels::cayley_neumann_backward(ex, a.parameters, a.terms, as_const(dr), d);
                                     });
    }
    if constexpr (detail::is_there<DX>) kernels::rotate_blocks_back_add(ex, g, r, dx);
  }
}

/// Scratch of `backward_input` beside that of its kernels; none where the parameters have no gradient. Name the other arguments'
/// views when one may be of double: backward_input_scratch_bytes(a, x, g, gradients.parameters).
template <class P, class R, class X, class... Others>
[[nodiscard]] std::size_t backward_input_scratch_bytes(oft<P, R> const& a, X const& x, Others const&...) {
  return detail::backward_through_bytes<detail::sums_of<R, X, Others...>>(
      "backward_input", detail::as_rotation(a.rotations, a.blocks()), a.rotations.extent(0), x);
}

/// merge: W <- W diag(R)^T. unmerge: W <- W diag(R)^-T, of the series by the blocks' inverses in fp64, so that it is exact though R
/// is orthogonal only nearly.
///
/// Shapes       W[m, n] in and out. Any strides, any scalar; in 16 bits rounded once.
/// Aliasing     W may not overlap the adapter.
/// Cost         2 m n b flops; unmerging a series also 4 D b^3.
/// Scratch      of the kernels; unmerging also `unmerge_scratch_bytes(a, W)` from the executor's resource, b^2 numbers a block.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class P, class R, class W>
void merge(E const& ex, oft<P, R> const& a, W const& w) {
  if constexpr (detail::mandates_merge_oft<E, oft<P, R>, W>()) {
    detail::expects_merge_oft("merge", a, w);
    kernels::rotate_blocks_back(ex, w, detail::as_rotation(a.rotations, a.blocks()), w);
  }
}
/// Scratch of `unmerge` beside that of its kernels: inverses, of a series. Name W when it may be of double.
template <class P, class R, class... Others>
[[nodiscard]] std::size_t unmerge_scratch_bytes(oft<P, R> const& a, Others const&...) {
  if (a.terms == 0) return 0;
  using value = detail::sums_of<R, Others...>;
  return detail::scratch_size(detail::checked_product(a.rotations.extent(0), a.block, "unmerge"), a.block,
                              sizeof(value), "unmerge");
}
template <class E, class P, class R, class W>
void unmerge(E const& ex, oft<P, R> const& a, W const& w) {
  if constexpr (detail::mandates_merge_oft<E, oft<P, R>, W>()) {
    constexpr std::string_view verb = "unmerge";
    detail::expects_merge_oft(verb, a, w);
    if (a.terms == 0) return kernels::rotate_blocks(ex, w, detail::as_rotation(a.rotations, a.blocks()), w);
    using value = detail::sums_of<R, W>;
    index_t const count = a.rotations.extent(0), b = a.block;
    detail::call_scratch const memory(ex, unmerge_scratch_bytes(a, w));
    auto const inverse = memory.template view<value>(count, b, b);
    kernels::invert_blocks(ex, a.rotations, inverse);
    kernels::rotate_blocks_back(ex, w, detail::as_rotation(as_const(inverse), a.blocks()), w);
  }
}

/// D = W diag(R)^T - W, what `merge` changes; in 16 bits rounded once, by way of scratch: `delta_weight_scratch_bytes(a, D)`
/// beside that of the kernels.
template <class E, class P, class R, class W, class D>
void delta_weight(E const& ex, oft<P, R> const& a, W const& w, D const& d) {
  GRAFT_MANDATE_INPUT("delta_weight", "W", E, W, 2)
  if constexpr (detail::mandates_merge_oft<E, oft<P, R>, D>() && detail::accepted_input<E, W, 2>) {
    constexpr std::string_view verb = "delta_weight";
    detail::expects_merge_oft(verb, a, w, d);
    auto const r = detail::as_rotation(a.rotations, a.blocks());
    detail::difference_of(
        ex, verb, w, d, [&](auto const& block, index_t, index_t) { kernels::rotate_blocks_back(ex, block, r, block); });
  }
}

/// Scratch of `delta_weight` beside that of its kernels: rows of a D in 16 bits.
template <class P, class R, class D>
[[nodiscard]] std::size_t delta_weight_scratch_bytes(oft<P, R> const&, D const& d) {
  return detail::difference_bytes(d, "delta_weight");
}

/// The adapter of output features [first, first + count): itself, since it turns inputs.
template <class P, class R>
[[nodiscard]] auto output_rows(oft<P, R> const& a, index_t, index_t) {
  return a;
}

/// What is trained: the parameters, D b (b - 1) / 2, or b (b - 1) / 2 where blocks are shared.
template <class P, class R>
[[nodiscard]] auto trainable(oft<P, R> const& a) {
  return std::tuple{parameter<P>{"parameters", a.parameters}};
}

/// A fresh adapter: parameters 0 and rotations I, so that nothing changes.
template <class E, class P, class R>
void initialize(E const& ex, oft<P, R> const& a) {
  GRAFT_MANDATE_OUTPUT("initialize", "the parameters", E, P, 2)
  if constexpr (detail::mandates_rotated<E, P, R>() && detail::accepted_output<E, P, 2>) {
    detail::expects_oft("initialize", a);
    detail::expects_output("initialize", "the parameters", a.parameters);
    detail::fill_zero(ex, a.parameters);
    update_rotations(ex, a);
  }
}

}  // namespace GRAFT_TARGET

namespace detail {
using archetype_blocks = tensor_view<float, dynamic_extents<3>>;
using archetype_oft = oft<archetype_matrix, archetype_blocks>;
}  // namespace detail
static_assert(input_transform<detail::archetype_oft> && row_mergeable<detail::archetype_oft> &&
              differentiable<detail::archetype_oft>);

}  // namespace graft::inline GRAFT_CONTRACT
