// SPDX-License-Identifier: Apache-2.0
/// @file
/// BOFT: parameter-efficient orthogonal finetuning by butterfly factorisation (Liu et al. 2023, arXiv 2311.06243), as PEFT
/// stores and computes it.
///
///     x[T, n]  A[N, D, b, b]  s[m]  W[m, n]  y[T, m]      D b = n; every block of A: Q = (A - A^T) / 2
///     R = (I - Q) (I + Q)^-1, block by block              B_f the blocks of factor f where they act (kernels/rotation.hpp)
///     y = s * ((x B_{N-1} ... B_1 B_0) W^T)               W' = diag(s) W (B_{N-1} ... B_0)^T        bias added after, unscaled
///
/// The activations are rotated, N n b products a token, not the weight, N n b a row of it. With log2(D) + 1 factors every input
/// reaches every output.
#pragma once

#include <cstddef>
#include <string_view>
#include <tuple>
#include <type_traits>

#include <graft/adapters/concepts.hpp>
#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/detail/rotations.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/adapters/detail/scaling.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/kernels/block_mask.hpp>
#include <graft/kernels/cayley.hpp>
#include <graft/kernels/cayley_backward.hpp>
#include <graft/kernels/copy.hpp>
#include <graft/kernels/fill.hpp>
#include <graft/kernels/rotate_blocks.hpp>
#include <graft/kernels/scale.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Where gradients are added; `graft::none` for what is not trained.
template <class Parameters = none_t, class S = none_t>
struct boft_gradients {
  [[no_unique_address]] Parameters parameters{};
  [[no_unique_address]] S s{};
};

/// PEFT's boft_R as `parameters`[N, D, b, b], boft_s as `s`[m], and memory for the `rotations`, of the parameters' shape, which
/// `update_rotations` writes after every change of the parameters. Without rotations (`graft::none`) it is what a checkpoint
/// holds: see `with_rotations`.
template <class Parameters, class S, class Rotations = none_t>
struct boft {
  static_assert(detail::view_of_rank<Parameters, 4> && detail::optional_of_rank<Rotations, 4>,
                "graft::boft: parameters and rotations must be views of four dimensions, [factors, blocks, b, b]");
  static_assert(vector_view<S>, "graft::boft: s must be a vector view; wrap the data: graft::view(pointer, size)");

  Parameters parameters;
  S s;
  [[no_unique_address]] Rotations rotations{};

  [[nodiscard]] GRAFT_FN index_t factors() const { return parameters.extent(0); }
  [[nodiscard]] GRAFT_FN index_t blocks() const { return parameters.extent(1); }
  [[nodiscard]] GRAFT_FN index_t block_size() const { return parameters.extent(2); }
  [[nodiscard]] GRAFT_FN index_t in_features() const { return parameters.extent(1) * parameters.extent(2); }
  [[nodiscard]] GRAFT_FN index_t out_features() const { return s.extent(0); }
  using gradients = boft_gradients<>;
};

inline namespace GRAFT_TARGET {

/// The same adapter with memory for its rotations, which `update_rotations` fills.
template <class P, class S, class R, class Rotations>
[[nodiscard]] auto with_rotations(boft<P, S, R> const& a, Rotations const& rotations) {
  return boft<P, S, Rotations>{a.parameters, a.s, rotations};
}

}  // namespace GRAFT_TARGET

namespace detail {
inline namespace GRAFT_TARGET {
/// The rotations have the parameters' shape, which is that of a rotation of its own features; s is there.
template <class A>
void expects_boft(std::string_view verb, A const& a) {
  expects_rotation(verb, a.parameters, "the parameters",
                   view_in<host_space>(static_cast<float const*>(nullptr), a.in_features()));
  for (std::size_t i = 0; i < 4; ++i)
    expects_equal_extents(verb, "the rotations", a.rotations, i, "the parameters", a.parameters, i);
  expects_data(verb, "the rotations", a.rotations);
  expects_data(verb, "s", a.s);
}
/// What merge, unmerge and, with D, delta_weight ask.
template <class A, class W, class D = none_t>
void expects_merge_boft(std::string_view verb, A const& a, W const& w, D const& d = {}) {
  expects_boft(verb, a);
  expects_equal_extents(verb, "W", w, 0, "s", a.s, 0);
  expects_rotation(verb, a.rotations, "W", w);
  expects_change(verb, w, d, [&](std::string_view name, auto const& out) {
    expects_output_of_rotated(verb, a, name, out);
    expects_disjoint(verb, name, out, "s", a.s);
  });
}
/// Rows of a weight in 16 bits are copied to this, some at a time.
template <class S, class W>
using boft_row = accumulate_t<typename S::value_type, typename W::value_type>;
/// W <- diag(s) W R^T, or back.
template <bool Removes, class E, class A, class W>
void merge_boft(E const& ex, std::string_view verb, A const& a, W const& given) {
  using value = boft_row<decltype(a.s), W>;
  expects_merge_boft(verb, a, given);
  auto const run = [&](auto const& block, auto const& s) {
    if constexpr (Removes) {
      with_inverse<value>(ex, verb, s, [&](auto const& inverse) { kernels::scale_rows(ex, inverse, block); });
      kernels::rotate_blocks(ex, block, a.rotations, block);
    } else {
      kernels::rotate_blocks_back(ex, block, a.rotations, block);
      kernels::scale_rows(ex, s, block);
    }
  };
  if constexpr (is_narrow<W>)
    in_row_blocks<value>(ex, verb, given, [&](index_t first, index_t count, auto const& block) {
      run(block, slice(a.s, first, count));
    });
  else run(given, a.s);
}
template <class E, class A, class W>
consteval bool mandates_merge_boft() {
  GRAFT_MANDATE_OUTPUT("merge, unmerge, delta_weight", "W", E, W, 2)
  GRAFT_MANDATE_INPUT("merge, unmerge, delta_weight", "s", E, decltype(A::s), 1)
  return mandates_rotated<E, decltype(A::parameters), decltype(A::rotations)>() && accepted_output<E, W, 2> &&
         accepted<E, decltype(A::s)>;
}
}  // namespace GRAFT_TARGET
}  // namespace detail

inline namespace GRAFT_TARGET {

/// rotations = (I - Q) (I + Q)^-1 of every block; after every change of the parameters.
///
/// Precision, determinism: `kernels::cayley`, a league a factor.
/// Cost         2 N D b^3 flops.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class P, class S, class R>
void update_rotations(E const& ex, boft<P, S, R> const& a) {
  if constexpr (detail::mandates_rotated<E, P, R>()) {
    detail::expects_boft("update_rotations", a);
    detail::expects_output("update_rotations", "the rotations", a.rotations);
    detail::expects_disjoint("update_rotations", "the rotations", a.rotations, "the parameters", a.parameters);
    for (index_t f = 0; f < a.factors(); ++f)
      kernels::cayley(ex, detail::blocks_of_factor(a.parameters, f), detail::blocks_of_factor(a.rotations, f));
  }
}

/// x' = x B_{N-1} ... B_0, which goes into the base layer.
///
/// Shapes       x[T, n] in; x'[T, n] out. Any strides, any scalars. x' may be x.
/// Everything else: `kernels::rotate_blocks`.
template <class E, class P, class S, class R, class X, class Y>
void transform_input(E const& ex, boft<P, S, R> const& a, X const& x, Y const& turned) {
  GRAFT_MANDATE_INPUT("transform_input", "x", E, X, 2)
  GRAFT_MANDATE_OUTPUT("transform_input", "x'", E, Y, 2)
  if constexpr (detail::mandates_rotated<E, P, R>() && detail::accepted_input<E, X, 2> &&
                detail::accepted_output<E, Y, 2>) {
    detail::expects_boft("transform_input", a);
    detail::expects_rotation("transform_input", a.rotations, "x", x);
    kernels::rotate_blocks(ex, x, a.rotations, turned);
  }
}

/// y = s * y, where y comes in as what the base layer gives without its bias; `kept`[T, m] gets that for `backward`.
///
/// Shapes       x[T, n], of which only the types matter; y[T, m] in and out; kept[T, m] out, or `graft::none`.
/// Aliasing     y and kept may not overlap each other or the adapter.
/// Cost         T m flops; y is read and written, kept written.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class P, class S, class R, class X, class Y, class Kept = none_t>
void transform_output(E const& ex, boft<P, S, R> const& a, X const&, Y const& y, Kept const& kept = {}) {
  detail::scale_output(ex, "s", a.s, y, kept);
}

/// Of the output's side: ds += sum over tokens of dy * kept, and dy becomes s * dy, the gradient of what the base layer gave. The
/// parameters' and x's are the input's side: `backward_input`.
///
/// Shapes       kept[T, m] as the forward wrote it, in; dy[T, m] in and out; gradients.s[m] in and out, or `graft::none`.
/// Determinism  `kernels::dot_columns`: equal bits for every number of threads.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class P, class S, class R, class X, class Kept, class DY, class GP, class GS, class DX>
void backward(E const& ex, boft<P, S, R> const& a, X const&, Kept const& kept, DY const& dy,
              boft_gradients<GP, GS> const& gradients, DX const&) {
  detail::scale_output_backward(ex, "s", a.s, kept, dy, gradients.s);
}

/// Of the input's side, all added to what is there: with g = the gradient of x', dR_f = the sums over tokens of every factor's
/// inputs and gradients, the parameters' by way of `kernels::cayley_backward`, and dx += g (B_{N-1} ... B_0)^T. Blocks
/// that a mask dropped (`drop`) get no gradient.
///
/// Shapes       x[T, n], g[T, n] in; gradients.parameters[N, D, b, b] and dx[T, n] in and out, or `graft::none`.
/// Aliasing     nothing that is written may overlap anything else.
/// Precision    inputs of the factors are taken again, unrounded; 512 tokens at a time, in order.
/// Determinism  equal bits for every number of threads.
/// Cost         about 6 T N n b flops for the parameters, 2 T N n b for dx.
/// Scratch      `backward_input_scratch_bytes(a, x)` from the executor's resource, beside the kernels': N D b^2 + N min(T, 512) n
///              numbers.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class P, class S, class R, class X, class G, class GP, class GS, class DX>
void backward_input(E const& ex, boft<P, S, R> const& a, X const& x, G const& g,
                    boft_gradients<GP, GS> const& gradients, DX const& dx, block_dropout const& mask = {}) {
  if constexpr (detail::mandates_rotated_backward<E, boft<P, S, R>, X, G, GP, DX, 4>()) {
    detail::expects_boft("backward_input", a);
    detail::expects_rotated_backward(a, a.rotations, x, g, gradients.parameters, dx);
    if constexpr (detail::is_there<GP>) {
      auto const& d = gradients.parameters;
      using sums = detail::sums_of<R, X, G, GP>;
      detail::backward_through<sums>(ex, "backward_input", a.rotations, a.blocks(), x, g,
                                     [&](index_t f, auto const& dr) {
                                       if (mask.count(a.blocks()) > 0 && f == mask.factor(a.factors()))
                                         kernels::zero_blocks(ex, mask, dr);
                                       kernels::cayley_backward(ex, detail::blocks_of_factor(a.rotations, f),
                                                                as_const(dr), detail::blocks_of_factor(d, f));
                                     });
    }
    if constexpr (detail::is_there<DX>) kernels::rotate_blocks_back_add(ex, g, a.rotations, dx);
  }
}

/// Scratch of `backward_input` beside that of its kernels; none where the parameters have no gradient. Name the other arguments'
/// views when one may be of double: backward_input_scratch_bytes(a, x, g, gradients.parameters).
template <class P, class S, class R, class X, class... Others>
[[nodiscard]] std::size_t backward_input_scratch_bytes(boft<P, S, R> const& a, X const& x, Others const&...) {
  return detail::backward_through_bytes<detail::sums_of<R, X, Others...>>("backward_input", a.rotations, a.blocks(), x);
}

/// For training with PEFT's multiplicative dropout: the same adapter whose rotations are a copy in the caller's memory, in which the
/// blocks that the mask drops (of one factor) are I. Everything of the forward takes it; for gradients see the `backward_input`
/// that is given the mask. At inference nothing is dropped.
///
/// Shapes       memory[N, D, b, b] out.
/// Aliasing     the memory may not overlap the adapter.
/// Determinism  a function of (seed, stream): equal on every executor.
/// Errors       shape_error; argument_error unless 0 <= probability < 1. Nothing is written then.
template <class E, class P, class S, class R, class Memory>
[[nodiscard]] auto drop(E const& ex, boft<P, S, R> const& a, block_dropout const& mask, Memory const& memory) {
  GRAFT_MANDATE_OUTPUT("drop of boft", "the memory", E, Memory, 4)
  if constexpr (detail::mandates_rotated<E, P, R>() && detail::accepted_output<E, Memory, 4>) {
    constexpr std::string_view verb = "drop";
    detail::expects_boft(verb, a);
    for (std::size_t i = 0; i < 4; ++i)
      detail::expects_equal_extents(verb, "the memory", memory, i, "the rotations", a.rotations, i);
    if (!(mask.probability >= 0.0 && mask.probability < 1.0)) [[unlikely]]
      detail::raise(argument_error(detail::text("graft::drop: the probability of the dropout is ", mask.probability,
                                                " but must lie in [0, 1)")));
    detail::expects_output_of_rotated(verb, a, "the memory", memory);
    for (index_t f = 0; f < a.factors(); ++f)
      detail::for_each_block([&](auto const& from, auto const& to) { kernels::copy(ex, from, to); },
                             detail::blocks_of_factor(a.rotations, f), detail::blocks_of_factor(memory, f));
    kernels::drop_blocks(ex, mask, detail::blocks_of_factor(memory, mask.factor(a.factors())));
    return with_rotations(a, memory);
  }
}

/// merge: W <- diag(s) W (B_{N-1} ... B_0)^T. unmerge: back, by the transposes and 1 / s; an s of 0 cannot come back (NaN).
///
/// Shapes       W[m, n] in and out. Any strides, any scalar; in 16 bits rounded once.
/// Aliasing     W may not overlap the adapter.
/// Cost         2 m N n b flops: the factors act one after another, nothing dense is formed.
/// Scratch      `merge_scratch_bytes(a, W)`, `unmerge_scratch_bytes(a, W)` from the executor's resource, beside the kernels'.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class P, class S, class R, class W>
void merge(E const& ex, boft<P, S, R> const& a, W const& w) {
  if constexpr (detail::mandates_merge_boft<E, boft<P, S, R>, W>()) detail::merge_boft<false>(ex, "merge", a, w);
}
template <class E, class P, class S, class R, class W>
void unmerge(E const& ex, boft<P, S, R> const& a, W const& w) {
  if constexpr (detail::mandates_merge_boft<E, boft<P, S, R>, W>()) detail::merge_boft<true>(ex, "unmerge", a, w);
}

/// Scratch of `merge` beside that of its kernels: rows of a W in 16 bits.
template <class P, class S, class R, class W>
[[nodiscard]] std::size_t merge_scratch_bytes(boft<P, S, R> const&, W const& w) {
  if constexpr (detail::is_narrow<W>) return detail::row_blocks_bytes<detail::boft_row<S, W>>(w, "merge");
  else return 0;
}
/// Scratch of `unmerge` beside that of its kernels: that of `merge`, and 1 / s of these rows.
template <class P, class S, class R, class W>
[[nodiscard]] std::size_t unmerge_scratch_bytes(boft<P, S, R> const& a, W const& w) {
  using value = detail::boft_row<S, W>;
  index_t count = w.extent(0);
  if constexpr (detail::is_narrow<W>) count = count == 0 ? 0 : detail::rows_in_block<value>(w);
  return merge_scratch_bytes(a, w) + detail::inverse_bytes<value>(count, "unmerge");
}

/// D = diag(s) W (B_{N-1} ... B_0)^T - W, what `merge` changes; in 16 bits rounded once, by way of scratch:
/// `delta_weight_scratch_bytes(a, D)` beside that of the kernels.
template <class E, class P, class S, class R, class W, class D>
void delta_weight(E const& ex, boft<P, S, R> const& a, W const& w, D const& d) {
  GRAFT_MANDATE_INPUT("delta_weight", "W", E, W, 2)
  if constexpr (detail::mandates_merge_boft<E, boft<P, S, R>, D>() && detail::accepted_input<E, W, 2>) {
    constexpr std::string_view verb = "delta_weight";
    detail::expects_merge_boft(verb, a, w, d);
    detail::difference_of(ex, verb, w, d, [&](auto const& block, index_t first, index_t count) {
      kernels::rotate_blocks_back(ex, block, a.rotations, block);
      kernels::scale_rows(ex, detail::slice(a.s, first, count), block);
    });
  }
}

/// Scratch of `delta_weight` beside that of its kernels: rows of a D in 16 bits.
template <class P, class S, class R, class D>
[[nodiscard]] std::size_t delta_weight_scratch_bytes(boft<P, S, R> const&, D const& d) {
  return detail::difference_bytes(d, "delta_weight");
}

/// The adapter of output features [first, first + count): the same rotation, part of s. Checked.
template <class P, class S, class R>
[[nodiscard]] auto output_rows(boft<P, S, R> const& a, index_t first, index_t count) {
  auto const s = detail::output_slice(a.s, first, count);
  return boft<P, std::remove_const_t<decltype(s)>, R>{a.parameters, s, a.rotations};
}

/// What is trained: the parameters, N D b^2 as stored (N D b (b - 1) / 2 of them count), and s, m.
template <class P, class S, class R>
[[nodiscard]] auto trainable(boft<P, S, R> const& a) {
  return std::tuple{parameter<P>{"parameters", a.parameters}, parameter<S>{"s", a.s}};
}

/// A fresh adapter: parameters 0, s 1, rotations I, so that nothing changes.
template <class E, class P, class S, class R>
void initialize(E const& ex, boft<P, S, R> const& a) {
  GRAFT_MANDATE_OUTPUT("initialize", "the parameters", E, P, 4)
  GRAFT_MANDATE_OUTPUT("initialize", "s", E, S, 1)
  if constexpr (detail::mandates_rotated<E, P, R>() && detail::accepted_output<E, P, 4> &&
                detail::accepted_output<E, S, 1>) {
    detail::expects_boft("initialize", a);
    detail::expects_output("initialize", "the parameters", a.parameters);
    detail::expects_output("initialize", "s", a.s);
    for (index_t f = 0; f < a.factors(); ++f)
      detail::for_each_block([&](auto const& block) { detail::fill_zero(ex, block); },
                             detail::blocks_of_factor(a.parameters, f));
    kernels::fill(ex, 1.0, detail::as_row(a.s));
    update_rotations(ex, a);
  }
}

}  // namespace GRAFT_TARGET

namespace detail {
using archetype_factors = tensor_view<float, dynamic_extents<4>>;
using archetype_boft = boft<archetype_factors, archetype_vector, archetype_factors>;
}  // namespace detail
static_assert(input_transform<detail::archetype_boft> && output_transform<detail::archetype_boft> &&
              row_mergeable<detail::archetype_boft> && differentiable<detail::archetype_boft>);

}  // namespace graft::inline GRAFT_CONTRACT
