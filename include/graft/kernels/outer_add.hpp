// SPDX-License-Identifier: Apache-2.0
/// @file
/// `outer_add`: adds a low-rank product to a weight. A name for `expand_add` on a transposed view, not a body of its own.
#pragma once

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/kernels/expand_add.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT::kernels {
inline namespace GRAFT_TARGET {

/// W += (scale B) A.
///
/// Shapes       B[m, r], A[r, n] in; W[m, n] in and out. Any strides, any scalars.
/// Order        for each element an fma chain over the rank, starting from W; 16-bit W is rounded once.
/// Aliasing     W may not overlap B or A.
/// Precision, cost, scratch, errors: `expand_add` with T = m rows.
struct outer_add_fn {
  template <class E, class B, class A, class W>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::outer_add", E)
    GRAFT_MANDATE_INPUT("kernels::outer_add", "B", E, B, 2)
    GRAFT_MANDATE_INPUT("kernels::outer_add", "A", E, A, 2)
    GRAFT_MANDATE_OUTPUT("kernels::outer_add", "W", E, W, 2)
    return graft::detail::accepted_input<E, B, 2> && graft::detail::accepted_input<E, A, 2> &&
           graft::detail::accepted_output<E, W, 2>;
  }
  template <class A>
  using transposed_t = decltype(transposed(std::declval<A const&>()));
  /// Which body a call takes.
  template <class E, class B, class A, class W>
  static constexpr body chosen = expand_add_fn::chosen<E, B, transposed_t<A>, W>;

  template <class E, class B, class A, class W>
  void operator()(E const& ex, B const& b, A const& a, W const& w, scaling scale = 1.0) const {
    if constexpr (mandates<E, B, A, W>()) {
      constexpr std::string_view verb = "kernels::outer_add";
      graft::detail::expects_equal_extents(verb, "B", b, 1, "A", a, 0);
      graft::detail::expects_equal_extents(verb, "W", w, 0, "B", b, 0);
      graft::detail::expects_equal_extents(verb, "W", w, 1, "A", a, 1);
      expand_add(ex, b, transposed(a), w, scale);
    }
  }

  /// Bytes that a call with these arguments takes from the executor's resource, once.
  template <executor E, matrix_view B, matrix_view A, output_matrix W>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, B const& b, A const& a, W const& w, scaling scale = 1.0) const {
    return expand_add.scratch_bytes(ex, b, transposed(a), w, scale);
  }
};
inline constexpr outer_add_fn outer_add{};

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT::kernels
