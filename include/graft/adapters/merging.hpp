// SPDX-License-Identifier: Apache-2.0
/// @file
/// Several adapters in one weight, and one adapter in place of another: merges of any methods, with one rounding.
#pragma once

#include <cstddef>
#include <string_view>
#include <type_traits>

#include <graft/adapters/concepts.hpp>
#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/copy.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

namespace detail {
/// One adapter to be added to a weight, or taken out of it.
template <bool Removes, class A>
struct merge_step {
  static constexpr bool removes = Removes;
  A const& adapter;
};

/// 16-bit weights are taken through fp32 by rows, to round once.
template <class W, class... A> concept merged_at_once = !tensor<W> || !is_narrow<W> || (row_mergeable<A> && ...);

/// Types of merge_all, unmerge_all and switch_adapter.
template <class E, class W, class BaseBias, class... A>
consteval bool mandates_merge_all() {
  GRAFT_MANDATE_EXECUTOR("merge_all, switch_adapter", E)
  GRAFT_MANDATE_OUTPUT("merge_all, switch_adapter", "W", E, W, 2)
  if constexpr (is_there<BaseBias>) { GRAFT_MANDATE_OUTPUT("merge_all, switch_adapter", "base_bias", E, BaseBias, 1) }
  static_assert((mergeable<A> && ...),
                "graft::merge_all, switch_adapter: every adapter must be mergeable: merge, unmerge and delta_weight");
  static_assert(merged_at_once<W, A...>,
                "graft::merge_all, switch_adapter: merging into 16-bit weights with one rounding needs "
                "output_rows(adapter, first, count) of every adapter");
  return accepted_output<E, W, 2> && accepted_output_or_none<E, BaseBias, 1> && (mergeable<A> && ...) &&
         merged_at_once<W, A...>;
}

inline namespace GRAFT_TARGET {

template <class A, class W, class BaseBias>
void expects_mergeable(std::string_view verb, A const& adapter, W const& w, BaseBias const& base_bias) {
  if constexpr (low_rank_adapter<A> && !is_embedding<A>) expects_merge(verb, "W", adapter, w, base_bias);
  else if constexpr (requires { adapter.in_features(); }) {
    std::size_t const out = is_embedding<A> ? 1 : 0;
    if (w.extent(out) != adapter.out_features() || w.extent(1 - out) != adapter.in_features()) [[unlikely]]
      raise(shape_error(text("graft::", verb, ": W", shape_text(w), " does not fit an adapter of ",
                             adapter.in_features(), " features in and ", adapter.out_features(), " out")));
  }
}

/// An adapter that knows no bias is merged without.
template <bool Removes, class E, class A, class W, class BaseBias>
void take_step(E const& ex, A const& a, W const& w, BaseBias const& bias) {
  if constexpr (Removes) {
    if constexpr (requires { unmerge(ex, a, w, bias); }) unmerge(ex, a, w, bias);
    else unmerge(ex, a, w);
  } else {
    if constexpr (requires { merge(ex, a, w, bias); }) merge(ex, a, w, bias);
    else merge(ex, a, w);
  }
}

/// All steps in order; 16-bit W by rows through fp32, and a 16-bit bias as a whole.
template <class E, class W, class BaseBias, class... Steps>
void take_steps(E const& ex, std::string_view verb, W const& w, BaseBias const& base_bias, Steps const&... steps) {
  (expects_mergeable(verb, steps.adapter, w, base_bias), ...);
  auto const run = [&](auto const& bias) {
    if constexpr (!is_narrow<W>) (take_step<Steps::removes>(ex, steps.adapter, w, bias), ...);
    else
      in_row_blocks(ex, verb, w, [&](index_t first, index_t count, auto const& block) {
        (take_step<Steps::removes>(ex, output_rows(steps.adapter, first, count), block, slice(bias, first, count)),
         ...);
      });
  };
  if constexpr (!is_there<BaseBias>) run(base_bias);
  else if constexpr (!is_narrow<BaseBias>) run(base_bias);
  else {
    call_scratch const memory(ex, scratch_size(1, base_bias.extent(0), sizeof(float), verb));
    auto const wide = memory.template view<float>(base_bias.extent(0));
    kernels::copy(ex, as_row(base_bias), as_row(wide));
    run(wide);
    kernels::copy(ex, as_row(wide), as_row(base_bias));
  }
}

}  // namespace GRAFT_TARGET
}  // namespace detail

inline namespace GRAFT_TARGET {

/// W += the sum of all deltas, in the order of the arguments, and base_bias += their biases.
///
/// Shapes       W[m, n], base_bias[m] in and out.
/// Aliasing     as `merge`.
/// Precision    as successive merges in fp32 (fp64). A 16-bit W is widened to fp32 (for adapters of double too), and
///              rounded once after the last: successive calls of `merge` would round once each.
/// Determinism  equal bits for every number of threads.
/// Cost         that of the merges; a 16-bit W is read and written once, by blocks of rows.
/// Scratch      `merge_all_scratch_bytes(W, base_bias)`: at most 4 MiB (one row, where a row is longer).
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class W, mergeable... A>
  requires(sizeof...(A) > 0)
void merge_all(E const& ex, W const& w, A const&... adapters) {
  if constexpr (detail::mandates_merge_all<E, W, none_t, A...>())
    detail::take_steps(ex, "merge_all", w, none, detail::merge_step<false, A>{adapters}...);
}
template <class E, class W, vector_view BaseBias, mergeable... A>
  requires(sizeof...(A) > 0)
void merge_all(E const& ex, W const& w, BaseBias const& base_bias, A const&... adapters) {
  if constexpr (detail::mandates_merge_all<E, W, BaseBias, A...>())
    detail::take_steps(ex, "merge_all", w, base_bias, detail::merge_step<false, A>{adapters}...);
}
/// Scratch of `merge_all` and `switch_adapter` beside that of the merges.
template <class W, class BaseBias = none_t>
[[nodiscard]] std::size_t merge_all_scratch_bytes(W const& w, BaseBias const& base_bias = {}) {
  std::size_t bytes = 0;
  if constexpr (detail::is_narrow<W>) bytes += detail::row_blocks_bytes(w, "merge_all");
  if constexpr (detail::is_there<BaseBias>)
    if constexpr (detail::is_narrow<BaseBias>)
      bytes += detail::scratch_size(1, base_bias.extent(0), sizeof(float), "merge_all");
  return bytes;
}

/// One merged adapter in place of another: W += delta of `to` - delta of `from`. The base weight is not needed, and comes
/// back up to rounding only: keep it, or switch back and forth a few times and restore it.
/// Everything else as `merge_all`.
template <class E, class From, class To, class W, class BaseBias = none_t>
void switch_adapter(E const& ex, From const& from, To const& to, W const& w, BaseBias const& base_bias = {}) {
  if constexpr (detail::mandates_merge_all<E, W, BaseBias, From, To>())
    detail::take_steps(ex, "switch_adapter", w, base_bias, detail::merge_step<true, From>{from},
                       detail::merge_step<false, To>{to});
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
