// SPDX-License-Identifier: Apache-2.0
/// @file
/// DoRA: weight-decomposed low-rank adaptation (Liu et al. 2024, arXiv 2402.09353, eq. 5), as PEFT stores and computes it.
///
///     x[T, n]  A[r, n]  B[m, r]  g[m] magnitude    y[T, m]  W[m, n]    V = W + s B A    norms[o] = ||V[o, :]||
///     c = g / norms        y = c * (x V^T) = c * (base(x) + s (x A^T) B^T)        a bias is added afterwards, unscaled
///
/// One number an output feature; the paper's columns are the rows of a weight stored [out, in]. Norms are taken without
/// forming B A (`kernels::row_norms`). A row of V that is zero has no direction: its factor is 0, and so is its output,
/// where PEFT gets NaN.
#pragma once

#include <cstddef>
#include <string_view>
#include <tuple>
#include <type_traits>

#include <graft/adapters/concepts.hpp>
#include <graft/adapters/detail/dora.hpp>
#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/adapters/lora.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/columns.hpp>
#include <graft/kernels/copy.hpp>
#include <graft/kernels/low_rank_add.hpp>
#include <graft/kernels/outer_add.hpp>
#include <graft/kernels/row_norms.hpp>
#include <graft/kernels/scale.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Where gradients are added; `graft::none` for what is not trained.
template <class MatrixA = none_t, class MatrixB = none_t, class Magnitude = none_t>
struct dora_gradients {
  [[no_unique_address]] MatrixA A{};
  [[no_unique_address]] MatrixB B{};
  [[no_unique_address]] Magnitude magnitude{};
};

/// A `lora` or `lora_embedding`, its magnitude[m], and the norms[m] of the rows of W + s B A, which `update_norms` writes
/// after every change of W, A or B. Without norms (`graft::none`) it is what a checkpoint holds: see `with_norms`.
template <class LowRank, class Magnitude, class Norms = none_t>
struct dora {
  static_assert(detail::low_rank_adapter<LowRank>,
                "graft::dora: low_rank must be a graft::lora or graft::lora_embedding");
  static_assert(!detail::is_there<detail::bias_of_t<LowRank>>, "graft::dora: its low_rank part has no bias");
  static_assert(vector_view<Magnitude> && optional_vector<Norms>,
                "graft::dora: magnitude and norms must be vector views; wrap the data: graft::view(pointer, size)");

  LowRank low_rank;
  Magnitude magnitude;
  [[no_unique_address]] Norms norms{};

  [[nodiscard]] GRAFT_FN index_t rank() const { return low_rank.rank(); }
  [[nodiscard]] GRAFT_FN index_t in_features() const { return low_rank.in_features(); }
  [[nodiscard]] GRAFT_FN index_t out_features() const { return low_rank.out_features(); }
  static constexpr bool is_embedding = detail::is_embedding<LowRank>;
  using gradients = dora_gradients<>;
};
/// For inference: factors[m] = magnitude / norms, once. `prepare` makes it.
template <class LowRank, class Factors>
struct prepared_dora {
  LowRank low_rank;
  Factors factors;

  [[nodiscard]] GRAFT_FN index_t rank() const { return low_rank.rank(); }
  [[nodiscard]] GRAFT_FN index_t in_features() const { return low_rank.in_features(); }
  [[nodiscard]] GRAFT_FN index_t out_features() const { return low_rank.out_features(); }
};
inline namespace GRAFT_TARGET {

/// The same adapter with norms, which `update_norms` fills.
template <class L, class M, class N, class Norms>
[[nodiscard]] auto with_norms(dora<L, M, N> const& d, Norms const& norms) {
  return dora<L, M, Norms>{d.low_rank, d.magnitude, norms};
}

/// norms = || W + s B A ||, row by row; `base_norms` may hold || W ||, which then is not summed again.
///
/// Shapes       W[m, n] (of an embedding E[V, d]) in; d.norms[m] out; base_norms[m] in, or `graft::none`.
/// Aliasing     the norms may not overlap W or the adapter.
/// Precision, determinism, cost, scratch: `kernels::row_norms`, in fp64 for rows where terms cancel.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class L, class M, class N, class W, class BaseNorms = none_t>
void update_norms(E const& ex, dora<L, M, N> const& d, W const& w, BaseNorms const& base_norms = {}) {
  using D = dora<L, M, N>;
  if constexpr (detail::mandates_dora<E, D>()) {
    detail::expects_dora("update_norms", d);
    auto const v = detail::by_output(d.low_rank, w);
    detail::expects_shape("update_norms", "W", v, "B", d.low_rank.B, 0, "A", d.low_rank.A, 1);
    detail::expects_disjoint("update_norms", "norms", d.norms, "magnitude", d.magnitude);
    if constexpr (detail::is_there<BaseNorms>)
      kernels::row_norms(ex, v, d.low_rank.B, d.low_rank.A, d.norms, d.low_rank.scale, base_norms);
    else kernels::row_norms(ex, v, d.low_rank.B, d.low_rank.A, d.norms, d.low_rank.scale);
  }
}

/// The form for inference: factors[m] = magnitude / norms into the caller's memory, 0 where a norm is 0. One rounding.
template <class E, class L, class M, class N, class Factors>
[[nodiscard]] auto prepare(E const& ex, dora<L, M, N> const& d, Factors const& factors) {
  using D = dora<L, M, N>;
  if constexpr (detail::mandates_dora<E, D>()) {
    detail::expects_dora("prepare", d);
    detail::expects_equal_extents("prepare", "factors", factors, 0, "B", d.low_rank.B, 0);
    detail::expects_output_of_dora("prepare", d, "factors", factors);
    kernels::divide(ex, d.magnitude, d.norms, factors);
    auto const read = as_const(factors);
    return prepared_dora<L, std::remove_const_t<decltype(read)>>{d.low_rank, read};
  }
}

/// y = c * (y + s (x A^T) B^T), where y comes in as base(x) without its bias.
///
/// Shapes       x[T, n] in (of an embedding: ids[T]); y[T, m] in and out. Any strides, any scalars.
/// Aliasing     y may not overlap x or the adapter; disjoint column ranges of one buffer are legal.
/// Precision    that of `kernels::low_rank_add` with factors: one product more; 16-bit y is rounded once.
/// Determinism  as `kernels::low_rank_add`: a row depends on its own rows only.
/// Cost         2 T r (n + m) + T m flops in one sweep: a prepared DoRA costs what LoRA costs; this one m divisions more.
/// Scratch      a `dora` takes factors[m] from the executor's resource, a `prepared_dora` nothing, beside the kernels'.
/// Errors       shape_error, argument_error; data_error for ids out of range; nothing is written then.
template <class E, class L, class C, class X, class Y>
void transform_output(E const& ex, prepared_dora<L, C> const& d, X const& x, Y const& y) {
  if constexpr (detail::mandates_dora_input<E, L, X, Y>()) {
    constexpr std::string_view verb = "transform_output";
    detail::expects_low_rank(verb, d.low_rank);
    detail::expects_equal_extents(verb, "factors", d.factors, 0, "B", d.low_rank.B, 0);
    if constexpr (!detail::is_embedding<L>) detail::expects_equal_extents(verb, "x", x, 1, "A", d.low_rank.A, 1);
    detail::expects_shape(verb, "y", y, "x", x, 0, "B", d.low_rank.B, 0);
    detail::expects_output_of(verb, d.low_rank, "y", y);
    detail::expects_disjoint(verb, "y", y, "factors", d.factors);
    detail::expects_disjoint(verb, "y", y, "x", x);
    detail::scale_with_delta(ex, d.low_rank, d.factors, x, y);
  }
}
template <class E, class L, class M, class N, class X, class Y>
void transform_output(E const& ex, dora<L, M, N> const& d, X const& x, Y const& y) {
  using D = dora<L, M, N>;
  if constexpr (detail::mandates_dora<E, D>()) {
    detail::expects_dora("transform_output", d);
    detail::expects_output_of_dora("transform_output", d, "y", y);
    detail::with_factors<detail::dora_sums<D, Y>>(ex, "transform_output", d, [&](auto const& c) {
      transform_output(ex, prepared_dora<L, std::remove_cvref_t<decltype(c)>>{d.low_rank, c}, x, y);
    });
  }
}
/// For training: the same, and kept[T, m] = y + s (x A^T) B^T stays for `backward` (dora_training.hpp). With a kept of float (double where an
/// argument is) y has the values of the call without it; one of 16 bits is rounded before it is scaled.
template <class E, class L, class M, class N, class X, class Y, class Kept>
void transform_output(E const& ex, dora<L, M, N> const& d, X const& x, Y const& y, Kept const& kept) {
  using D = dora<L, M, N>;
  GRAFT_MANDATE_OUTPUT("transform_output", "y", E, Y, 2)
  GRAFT_MANDATE_OUTPUT("transform_output", "kept", E, Kept, 2)
  if constexpr (detail::mandates_dora<E, D>() && detail::accepted_output<E, Y, 2> &&
                detail::accepted_output<E, Kept, 2>) {
    constexpr std::string_view verb = "transform_output";
    detail::expects_dora(verb, d);
    detail::expects_shape(verb, "y", y, "x", x, 0, "B", d.low_rank.B, 0);
    detail::expects_shape(verb, "kept", kept, "y", y, 0, "y", y, 1);
    detail::expects_output_of_dora(verb, d, "y", y);
    detail::expects_output_of_dora(verb, d, "kept", kept);
    detail::expects_disjoint(verb, "y", y, "x", x);
    detail::expects_disjoint(verb, "kept", kept, "x", x);
    detail::expects_disjoint(verb, "kept", kept, "y", y);
    detail::with_factors<detail::dora_sums<D, Y, Kept>>(ex, verb, d, [&](auto const& c) {
      if constexpr (!detail::is_embedding<L>)  // refuse before anything is written
        detail::expects_equal_extents(verb, "x", x, 1, "A", d.low_rank.A, 1);
      kernels::copy(ex, y, kept);
      add_delta(ex, d.low_rank, x, kept);
      detail::write_scaled(ex, c, kept, y);
    });
  }
}
/// Scratch of `transform_output` of a dora, beside that of its kernels. Name y (and kept) when it may be of double.
template <class L, class M, class N, class... Others>
[[nodiscard]] std::size_t transform_output_scratch_bytes(dora<L, M, N> const& d, Others const&...) {
  using value = detail::dora_sums<dora<L, M, N>, Others...>;
  return detail::scratch_size(1, d.out_features(), sizeof(value), "transform_output");
}

/// merge: W <- c * (W + s B A). unmerge: W <- W / c - s B A with the stored norms, so W must be the merged weight; equal to the
/// weight before up to rounding, not in bits. A bias stays as it is. Several DoRAs: merge in order, each with the norms of its
/// own update on the original weight (PEFT's chain), and unmerge in reverse.
///
/// Shapes       W[m, n] (of an embedding E[V, d]) in and out. A weight stored [n, m] (fan_in_fan_out) is `transposed(W)`.
/// Aliasing     W may not overlap the adapter.
/// Precision    a 16-bit W is taken through fp32 by blocks of rows and rounded once. unmerge: the error of merging, divided by
///              c. A row whose norm is 0 is merged to 0 and comes back as -s B A = W up to rounding; a row whose magnitude is
///              0 is merged to 0 and cannot come back: unmerge makes it NaN.
/// Cost         2 m n r + m n flops; W read and written twice.
/// Scratch      `merge_scratch_bytes(d, W)` from the executor's resource, beside that of `kernels::outer_add`.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class L, class M, class N, class W>
void merge(E const& ex, dora<L, M, N> const& d, W const& w) {
  if constexpr (detail::mandates_dora_merge<E, dora<L, M, N>, W>()) detail::merge_dora<false>(ex, "merge", d, w);
}
template <class E, class L, class M, class N, class W>
void unmerge(E const& ex, dora<L, M, N> const& d, W const& w) {
  if constexpr (detail::mandates_dora_merge<E, dora<L, M, N>, W>()) detail::merge_dora<true>(ex, "unmerge", d, w);
}
template <class L, class M, class N, class W>
[[nodiscard]] std::size_t merge_scratch_bytes(dora<L, M, N> const& d, W const& w) {
  using value = detail::dora_sums<dora<L, M, N>, W>;
  std::size_t const factors = detail::scratch_size(1, d.out_features(), sizeof(value), "merge");
  if constexpr (detail::is_narrow<W>)
    return factors + detail::row_blocks_bytes<value>(detail::by_output(d.low_rank, w), "merge");
  else return factors;
}
/// D = c * (W + s B A) - W, what `merge` adds, of the unmerged W. D[m, n] (of an embedding [V, d]) is overwritten; it may not
/// overlap W or the adapter.
template <class E, class L, class M, class N, class W, class Out>
void delta_weight(E const& ex, dora<L, M, N> const& d, W const& w, Out const& out) {
  GRAFT_MANDATE_INPUT("delta_weight", "W", E, W, 2)
  if constexpr (detail::mandates_dora_merge<E, dora<L, M, N>, Out>() && detail::accepted_input<E, W, 2>) {
    using value = detail::dora_sums<dora<L, M, N>, W, Out>;
    constexpr std::string_view verb = "delta_weight";
    auto const& l = d.low_rank;
    auto const v = detail::by_output(l, w);
    auto const delta = detail::by_output(l, out);
    detail::expects_dora(verb, d);
    detail::expects_shape(verb, "W", v, "B", l.B, 0, "A", l.A, 1);
    detail::expects_shape(verb, "D", delta, "B", l.B, 0, "A", l.A, 1);
    detail::expects_data(verb, "W", v);
    detail::expects_output_of_dora(verb, d, "D", out);
    detail::expects_disjoint(verb, "D", out, "W", w);
    detail::with_factors<value>(ex, verb, d, [&](auto const& c) {
      detail::call_scratch const memory(ex, detail::scratch_size(l.out_features(), l.rank(), sizeof(value), verb));
      auto const scaled = memory.template view<value>(l.out_features(), l.rank());
      kernels::copy(ex, l.B, scaled);
      kernels::scale_rows(ex, c, scaled);
      detail::write_scaled(ex, c, transposed(v), transposed(delta), -1.0);
      kernels::outer_add(ex, as_const(scaled), l.A, delta, l.scale);
    });
  }
}

/// The adapter of output features [first, first + count). Checked.
template <class L, class M, class N>
  requires(!detail::is_embedding<L>)
[[nodiscard]] auto output_rows(dora<L, M, N> const& d, index_t first, index_t count) {
  auto const part = output_rows(d.low_rank, first, count);
  auto const magnitude = detail::slice(d.magnitude, first, count);
  auto const norms = detail::slice(d.norms, first, count);
  return dora<std::remove_const_t<decltype(part)>, std::remove_const_t<decltype(magnitude)>,
              std::remove_const_t<decltype(norms)>>{part, magnitude, norms};
}

/// What is trained: A, B and the magnitude, r (n + m) + m elements.
template <class L, class M, class N>
[[nodiscard]] auto trainable(dora<L, M, N> const& d) {
  return std::tuple_cat(trainable(d.low_rank), std::tuple{parameter<M>{"magnitude", d.magnitude}});
}

/// A fresh adapter: the low-rank part as `how` says, then norms and magnitude = || W + s B A ||, so that nothing changes.
///
/// W[m, n] (of an embedding E[V, d]) in. Everything else as `initialize` of the low-rank part and `update_norms`.
template <class E, class L, class M, class N, class W, class How>
void initialize(E const& ex, dora<L, M, N> const& d, W const& w, How const& how) {
  using D = dora<L, M, N>;
  GRAFT_MANDATE_OUTPUT("initialize", "magnitude", E, M, 1)
  if constexpr (detail::mandates_dora<E, D>() && detail::accepted_output<E, M, 1>) {
    detail::expects_dora("initialize", d);
    detail::expects_output("initialize", "magnitude", d.magnitude);
    detail::expects_disjoint("initialize", "magnitude", d.magnitude, "norms", d.norms);
    auto const v = detail::by_output(d.low_rank, w);
    detail::expects_shape("initialize", "W", v, "B", d.low_rank.B, 0, "A", d.low_rank.A, 1);
    initialize(ex, d.low_rank, how);
    update_norms(ex, d, w);
    kernels::copy(ex, detail::as_row(d.norms), detail::as_row(d.magnitude));
  }
}

}  // namespace GRAFT_TARGET

namespace detail {
using archetype_dora = dora<lora<archetype_matrix, archetype_matrix>, archetype_vector, archetype_vector>;
}
static_assert(output_transform<detail::archetype_dora> && row_mergeable<detail::archetype_dora> &&
              trainable_adapter<detail::archetype_dora>);

}  // namespace graft::inline GRAFT_CONTRACT
