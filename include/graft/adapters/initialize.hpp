// SPDX-License-Identifier: Apache-2.0
/// @file
/// Fresh adapters, as PEFT's `init_lora_weights` describes them: a new adapter changes nothing, since B A = 0.
/// The distributions are PEFT's, the numbers are not: ours are a function of (seed, stream, element), theirs of a generator.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/detail/small_dense.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/expand_add.hpp>
#include <graft/kernels/random.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// PEFT's default: A uniform in +-1 / sqrt(n) (He et al. 2015 with a = sqrt(5)), B = 0. Give every layer its own stream.
struct kaiming_uniform {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
};
/// A normal with standard deviation 1 / r (not 1 / sqrt(r)), B = 0.
struct gaussian {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
};
/// Both factors non-zero, yet B A = 0: with Q orthogonal [r, r] and X, Y standard normal,
///     A = (X Q[0::2])^T / 10     B = (Y Q[1::2]) / 10     X[n, r / 2]  Y[m, r / 2]
struct orthogonal {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
};

namespace detail {
/// Types of initialize.
template <class E, class L>
consteval bool mandates_initialize() {
  using A = decltype(L::A);
  using B = decltype(L::B);
  using Bias = bias_of_t<L>;
  GRAFT_MANDATE_EXECUTOR("initialize", E)
  static_assert(!is_panels<A> && !is_panels<B>,
                "graft::initialize: this adapter is packed for add_delta; use the original");
  GRAFT_MANDATE_OUTPUT("initialize", "A", E, A, 2)
  GRAFT_MANDATE_OUTPUT("initialize", "B", E, B, 2)
  if constexpr (is_there<Bias>) { GRAFT_MANDATE_OUTPUT("initialize", "bias", E, Bias, 1) }
  return accepted_output<E, A, 2> && accepted_output<E, B, 2> && accepted_output_or_none<E, Bias, 1> && !is_panels<A> &&
         !is_panels<B>;
}

inline namespace GRAFT_TARGET {

template <class L>
void expects_initialize(L const& l) {
  constexpr std::string_view verb = "initialize";
  expects_low_rank(verb, l);
  expects_output(verb, "A", l.A);
  expects_output(verb, "B", l.B);
  expects_disjoint(verb, "B", l.B, "A", l.A);
  if constexpr (is_there<bias_of_t<L>>) {
    expects_output(verb, "bias", l.bias);
    expects_disjoint(verb, "bias", l.bias, "A", l.A);
    expects_disjoint(verb, "bias", l.bias, "B", l.B);
  }
}

/// B = 0 and no bias: such an adapter adds 0 to every output.
template <class E, class L>
void zero_b(E const& ex, L const& l) {
  fill_zero(ex, l.B);
  if constexpr (is_there<bias_of_t<L>>) fill_zero(ex, as_row(l.bias));
}

/// Rows 0, 2, ... (odd = 0) or 1, 3, ... of Q[r, r], as a matrix [r, r / 2]: their transpose.
[[nodiscard]] inline auto every_other_row_transposed(double const* q, index_t r, index_t odd) {
  return view(q + odd * r, extents<dynamic, dynamic>{r, r / 2}, {1, 2 * r});
}
}  // namespace GRAFT_TARGET
}  // namespace detail

inline namespace GRAFT_TARGET {

/// Writes a fresh adapter: A by the rule that the third argument names, B (and its bias) such that the delta is 0.
///
/// Shapes       A[r, n], B[m, r], bias[m] out, all of `lora` or `lora_fa`. Any strides, any scalars.
/// Preconditions  elements are not const; orthogonal: r is even.
/// Aliasing     A, B and bias may not overlap.
/// Precision    numbers in fp64, each element rounded once. B = 0 leaves y as it was, bit by bit (a -0 may become +0, and
///              an infinity or NaN in x still makes NaN); orthogonal leaves |B A| <= 2 (r + 2) u sum |B| |A| for the unit
///              roundoff u of the adapter's type, and in double, whose sums round too, <= (r + 4)^2 u |b| |a| for the
///              Euclidean norms of a row b of B and a column a of A.
/// Determinism  a function of (seed, stream, element): equal bits on every executor, for every stride.
/// Cost         `kernels::fill_uniform`, `fill_normal`; orthogonal: r^3 + (n + m) r^2 flops more, in fp64.
/// Scratch      orthogonal: `initialize_scratch_bytes(l, how)` from the executor's resource.
/// Errors       shape_error, argument_error; nothing is written then.
/// Source       huggingface/peft, src/peft/tuners/lora/layer.py, reset_lora_parameters, orthogonal_init.
template <class E, detail::low_rank_adapter L>
void initialize(E const& ex, L const& l, kaiming_uniform const& how) {
  if constexpr (detail::mandates_initialize<E, L>()) {
    detail::expects_initialize(l);
    index_t const n = l.in_features();
    kernels::fill_uniform(ex, {how.seed, how.stream}, l.A, n == 0 ? 0.0 : 1.0 / std::sqrt(static_cast<double>(n)));
    detail::zero_b(ex, l);
  }
}
template <class E, detail::low_rank_adapter L>
void initialize(E const& ex, L const& l, gaussian const& how) {
  if constexpr (detail::mandates_initialize<E, L>()) {
    detail::expects_initialize(l);
    kernels::fill_normal(ex, {how.seed, how.stream}, l.A, 1.0 / static_cast<double>(l.rank()));
    detail::zero_b(ex, l);
  }
}

/// Scratch of `initialize` beside that of its kernels.
template <detail::low_rank_adapter L>
[[nodiscard]] std::size_t initialize_scratch_bytes(L const& l, orthogonal const&) {
  using value = detail::sums_of<decltype(L::A), decltype(L::B)>;
  index_t const longest = l.in_features() > l.out_features() ? l.in_features() : l.out_features();
  return detail::scratch_size(l.rank(), l.rank(), sizeof(double), "initialize") +
         detail::scratch_size(longest, l.rank() / 2, sizeof(value), "initialize");
}

/// A and B from one orthogonal matrix; see `orthogonal`.
template <class E, detail::low_rank_adapter L>
void initialize(E const& ex, L const& l, orthogonal const& how) {
  constexpr bool on_host = detail::works_on_host<E>;
  static_assert(on_host,
                "graft::initialize: orthogonal factorises a matrix on the host, and needs an executor of its memory");
  if constexpr (on_host && detail::mandates_initialize<E, L>()) {
    using value = detail::sums_of<decltype(L::A), decltype(L::B)>;
    detail::expects_initialize(l);
    index_t const r = l.rank();
    index_t const n = l.in_features();
    index_t const m = l.out_features();
    if (r % 2 != 0) [[unlikely]]
      detail::raise(argument_error(
          detail::text("graft::initialize: the rank is ", r, " but the orthogonal initialisation needs an even one")));
    detail::call_scratch const memory(ex, initialize_scratch_bytes(l, how));
    auto* const q = reinterpret_cast<double*>(memory.data());
    auto* const draws =
        reinterpret_cast<value*>(memory.data() + detail::scratch_size(r, r, sizeof(double), "initialize"));
    kernels::fill_normal(ex, {how.seed, how.stream}, view(q, r, r));
    ex.fence();
    if (!detail::orthonormalize_rows(q, r)) [[unlikely]]
      detail::raise(argument_error("graft::initialize: this seed draws a singular matrix; take another"));
    kernels::fill_normal(ex, {how.seed, how.stream, r * r}, view(draws, n, r / 2));
    detail::fill_zero(ex, l.A);
    kernels::expand_add(ex, detail::every_other_row_transposed(q, r, 0), as_const(view(draws, n, r / 2)), l.A, 0.1);
    kernels::fill_normal(ex, {how.seed, how.stream, r * r + n * (r / 2)}, view(draws, m, r / 2));
    detail::fill_zero(ex, l.B);
    kernels::expand_add(ex, as_const(view(draws, m, r / 2)), detail::every_other_row_transposed(q, r, 1), l.B, 0.1);
    if constexpr (detail::is_there<detail::bias_of_t<L>>) detail::fill_zero(ex, detail::as_row(l.bias));
  }
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
