// SPDX-License-Identifier: Apache-2.0
/// @file
/// LoRA on an embedding (Hu et al. 2021, arXiv 2106.09685, as in its reference implementation and in PEFT).
///
///     ids[T]  A[r, V]  B[d, r]  y[T, d]  E[V, d], the embedding      delta of E = s (B A)^T
///     y[t] += s A[:, ids[t]]^T B^T
///
/// A column of A for each token, so x A^T is a gather. The zero factor of a fresh adapter is A, not B.
#pragma once

#include <cstddef>
#include <string_view>
#include <tuple>

#include <graft/adapters/concepts.hpp>
#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/adapters/lora.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/expand_add.hpp>
#include <graft/kernels/gather.hpp>
#include <graft/kernels/outer_add.hpp>
#include <graft/kernels/random.hpp>
#include <graft/kernels/shrink.hpp>
#include <graft/view/ids.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Views of somebody's tensors and a factor: PEFT's lora_embedding_A[r, V] and lora_embedding_B[d, r]. May be the low-rank part
/// of a `dora`.
template <class MatrixA, class MatrixB>
struct lora_embedding {
  static_assert(
      matrix_view<MatrixA> && matrix_view<MatrixB>,
      "graft::lora_embedding: A and B must be matrix views; wrap the data: graft::view(pointer, rows, columns)");

  MatrixA A;
  MatrixB B;
  scaling scale;

  [[nodiscard]] GRAFT_FN index_t rank() const { return A.extent(0); }
  /// Tokens that there are, V.
  [[nodiscard]] GRAFT_FN index_t in_features() const { return A.extent(1); }
  /// d
  [[nodiscard]] GRAFT_FN index_t out_features() const { return B.extent(0); }
  static constexpr bool is_embedding = true;
  using gradients = lora_gradients<>;
};

namespace detail {
/// Types of add_delta and, with a DY, of backward.
template <class E, class L, class Ids, class Y>
consteval bool mandates_embedding() {
  GRAFT_MANDATE_EXECUTOR("add_delta, backward of lora_embedding", E)
  GRAFT_MANDATE_IDS("add_delta, backward of lora_embedding", E, Ids)
  GRAFT_MANDATE_INPUT("add_delta, backward of lora_embedding", "A", E, decltype(L::A), 2)
  GRAFT_MANDATE_INPUT("add_delta, backward of lora_embedding", "B", E, decltype(L::B), 2)
  GRAFT_MANDATE_INPUT("add_delta, backward of lora_embedding", "y or dy", E, Y, 2)
  return accepted_ids<E, Ids> && accepted<E, decltype(L::A), decltype(L::B)> && accepted_input<E, Y, 2>;
}

inline namespace GRAFT_TARGET {
template <class E, class L, class Ids, class Y>
void expects_embedding(E const& ex, std::string_view verb, L const& l, Ids const& ids, std::string_view name,
                       Y const& y) {
  expects_low_rank(verb, l);
  expects_shape(verb, name, y, "ids", ids, 0, "B", l.B, 0);
  expects_data(verb, name, y);
  kernels::check_ids(ex, verb, ids, l.A.extent(1));
}
}  // namespace GRAFT_TARGET
}  // namespace detail

inline namespace GRAFT_TARGET {

/// y[t] += s A[:, ids[t]]^T B^T.
///
/// Shapes       ids[T] in, whatever their leading dimensions; y[T, d] in and out. Any strides, any scalars.
/// Aliasing     y may not overlap the ids or the adapter.
/// Precision    s A is rounded once to float (double where an argument is), then `kernels::expand_add`.
/// Determinism  a row depends on its own token and row of y only.
/// Cost         2 T r d flops; T r + r d + T d elements read, T d written.
/// Scratch      `add_delta_scratch_bytes(e, ids)` from the executor's resource, beside that of the kernels.
/// Errors       shape_error, argument_error; data_error names the lowest token whose id is not in [0, V). Nothing is written
///              then.
template <class E, class MA, class MB, class Ids, class Y>
void add_delta(E const& ex, lora_embedding<MA, MB> const& l, Ids const& ids, Y const& y) {
  using L = lora_embedding<MA, MB>;
  GRAFT_MANDATE_OUTPUT("add_delta of lora_embedding", "y", E, Y, 2)
  if constexpr (detail::mandates_embedding<E, L, Ids, Y>() && detail::accepted_output<E, Y, 2>) {
    using value = detail::sums_of<MA, MB, Y>;
    detail::expects_output_of("add_delta", l, "y", y);
    detail::expects_embedding(ex, "add_delta", l, ids, "y", y);
    detail::expects_disjoint("add_delta", "y", y, "ids", ids);
    detail::call_scratch const memory(ex, detail::scratch_size(ids.count, l.rank(), sizeof(value), "add_delta"));
    auto const v = memory.template view<value>(ids.count, l.rank());
    kernels::gather_columns(ex, l.A, ids, v, l.scale);
    kernels::expand_add(ex, as_const(v), l.B, y);
  }
}
/// Scratch of `add_delta` and `backward`, beside that of their kernels and of the check of ids. Name the other arguments' views
/// when one may be of double.
template <class MA, class MB, class Ids, class... Others>
[[nodiscard]] std::size_t add_delta_scratch_bytes(lora_embedding<MA, MB> const& l, Ids const& ids, Others const&...) {
  return detail::scratch_size(ids.count, l.rank(), sizeof(detail::sums_of<MA, MB, Others...>), "add_delta");
}

/// Gradients, all added to what is there: with v = s A[:, ids]^T and u = s dy B
///     dB += dy^T v     dA[:, ids[t]] += u[t]^T, unless ids[t] is `padding`
///
/// Shapes       ids[T], dy[T, d] in; gradients A[r, V], B[d, r] in and out, `graft::none` for what is not wanted.
/// Aliasing     nothing that is written may overlap anything else.
/// Precision    dB as `backward` of `lora`; an element of dA is a plain sum over its tokens in order.
/// Determinism  equal bits for every number of threads.
/// Cost         2 T r d flops for each of dA and dB. The gradient of A is dense; only columns of ids that occur change.
/// Scratch      `add_delta_scratch_bytes(e, ids)` from the executor's resource, beside that of the kernels.
/// Errors       those of `add_delta`.
template <class E, class MA, class MB, class Ids, class DY, class GA, class GB>
void backward(E const& ex, lora_embedding<MA, MB> const& l, Ids const& ids, DY const& dy,
              lora_gradients<GA, GB> const& gradients, index_t padding = no_padding) {
  using L = lora_embedding<MA, MB>;
  if constexpr (detail::is_there<GA>) { GRAFT_MANDATE_OUTPUT("backward", "the gradient of A", E, GA, 2) }
  if constexpr (detail::is_there<GB>) { GRAFT_MANDATE_OUTPUT("backward", "the gradient of B", E, GB, 2) }
  if constexpr (detail::mandates_embedding<E, L, Ids, DY>() && detail::accepted_output_or_none<E, GA, 2> &&
                detail::accepted_output_or_none<E, GB, 2>) {
    using value = detail::sums_of<MA, MB, DY, GA, GB>;
    constexpr std::string_view verb = "backward";
    auto const written = [&](std::string_view name, auto const& g, std::string_view of, auto const& like) {
      if constexpr (detail::is_there<std::remove_cvref_t<decltype(g)>>) {
        detail::expects_shape(verb, name, g, of, like, 0, of, like, 1);
        detail::expects_output_of(verb, l, name, g);
        detail::expects_disjoint(verb, name, g, "dy", dy);
        detail::expects_disjoint(verb, name, g, "ids", ids);
      }
    };
    written("the gradient of A", gradients.A, "A", l.A);
    written("the gradient of B", gradients.B, "B", l.B);
    detail::expects_apart(verb, "the gradient of B", gradients.B, "the gradient of A", gradients.A);
    detail::expects_embedding(ex, verb, l, ids, "dy", dy);
    detail::call_scratch const memory(ex, detail::scratch_size(ids.count, l.rank(), sizeof(value), verb));
    auto const v = memory.template view<value>(ids.count, l.rank());
    if constexpr (detail::is_there<GB>) {
      kernels::gather_columns(ex, l.A, ids, v, l.scale);
      kernels::expand_add(ex, transposed(dy), transposed(as_const(v)), gradients.B);
    }
    if constexpr (detail::is_there<GA>) {
      kernels::shrink(ex, dy, transposed(l.B), v, l.scale);
      kernels::scatter_add_columns(ex, as_const(v), ids, gradients.A, padding);
    }
  }
}

/// merge: E += s (B A)^T. unmerge: the same subtracted. delta_weight: D = s (B A)^T. All of an embedding [V, d]; everything else
/// as `merge` of `lora`.
template <class E, class MA, class MB, class W>
void merge(E const& ex, lora_embedding<MA, MB> const& l, W const& embedding) {
  if constexpr (detail::mandates_merge<E, lora_embedding<MA, MB>, W, none_t>())
    merge(ex, lora<MA, MB>{l.A, l.B, l.scale, {}}, transposed(embedding));
}
template <class E, class MA, class MB, class W>
void unmerge(E const& ex, lora_embedding<MA, MB> const& l, W const& embedding) {
  if constexpr (detail::mandates_merge<E, lora_embedding<MA, MB>, W, none_t>())
    unmerge(ex, lora<MA, MB>{l.A, l.B, l.scale, {}}, transposed(embedding));
}
template <class E, class MA, class MB, class D>
void delta_weight(E const& ex, lora_embedding<MA, MB> const& l, D const& d) {
  if constexpr (detail::mandates_merge<E, lora_embedding<MA, MB>, D, none_t>())
    delta_weight(ex, lora<MA, MB>{l.A, l.B, l.scale, {}}, transposed(d));
}

/// The adapter of tokens [first, first + count), the rows of E. Checked.
template <class MA, class MB>
[[nodiscard]] auto output_rows(lora_embedding<MA, MB> const& l, index_t first, index_t count) {
  auto const a = columns(l.A, first, count);
  return lora_embedding<std::remove_const_t<decltype(a)>, MB>{a, l.B, l.scale};
}

/// What is trained: A and B, r (V + d) elements.
template <class MA, class MB>
[[nodiscard]] auto trainable(lora_embedding<MA, MB> const& l) {
  return std::tuple{parameter<MA>{"A", l.A}, parameter<MB>{"B", l.B}};
}

/// PEFT's fresh embedding adapter: A = 0, B standard normal. Give every embedding its own stream.
struct standard_normal_b {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
};
/// Precision and determinism as `initialize` of `lora`.
template <class E, class MA, class MB>
void initialize(E const& ex, lora_embedding<MA, MB> const& l, standard_normal_b const& how) {
  GRAFT_MANDATE_EXECUTOR("initialize", E)
  GRAFT_MANDATE_OUTPUT("initialize", "A", E, MA, 2)
  GRAFT_MANDATE_OUTPUT("initialize", "B", E, MB, 2)
  if constexpr (detail::accepted_output<E, MA, 2> && detail::accepted_output<E, MB, 2>) {
    detail::expects_low_rank("initialize", l);
    detail::expects_output("initialize", "A", l.A);
    detail::expects_output("initialize", "B", l.B);
    detail::expects_disjoint("initialize", "B", l.B, "A", l.A);
    detail::fill_zero(ex, l.A);
    kernels::fill_normal(ex, {how.seed, how.stream}, l.B, 1.0);
  }
}

}  // namespace GRAFT_TARGET

static_assert(row_mergeable<lora_embedding<detail::archetype_matrix, detail::archetype_matrix>> &&
              trainable_adapter<lora_embedding<detail::archetype_matrix, detail::archetype_matrix>>);

}  // namespace graft::inline GRAFT_CONTRACT
