// SPDX-License-Identifier: Apache-2.0
/// @file
/// The projection in front of a gate: logits z = x W^T + bias.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/bias.hpp>
#include <graft/kernels/expand_add.hpp>
#include <graft/kernels/outer_add.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/random.hpp>
#include <graft/kernels/shrink.hpp>
#include <graft/routing/route.hpp>
#include <graft/view/concepts.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// W[E, n] as checkpoints store it, and bias[E] where there is one (gpt-oss). Keep both, and the logits, in fp32: choices that 16
/// bits round together go to the lower index.
template <matrix_view W, optional_vector B = none_t>
struct router {
  W weight;
  B bias{};
};
template <class W>
router(W) -> router<W, none_t>;
template <class W, class B>
router(W, B) -> router<W, B>;

/// Where gradients of a router are added; `none` for what is not wanted.
template <class W, class B = none_t>
struct router_gradients {
  W weight;
  B bias{};
};
template <class W>
router_gradients(W) -> router_gradients<W, none_t>;
template <class W, class B>
router_gradients(W, B) -> router_gradients<W, B>;

/// N(0, deviation^2). transformers takes 0.02; Switch sqrt(0.1 / n), a tenth of the usual variance (arXiv 2101.03961, section 2.4).
struct small_normal {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
  double deviation = 0.02;
};

inline namespace GRAFT_TARGET {

/// Scratch of `route` from x, beside the kernels'.
template <class RW, class RB, class X>
[[nodiscard]] std::size_t route_scratch_bytes(router<RW, RB> const& r, X const& x) {
  using value = accumulate_t<typename RW::value_type, typename X::value_type>;
  return detail::scratch_size(x.extent(0), r.weight.extent(0), sizeof(value), "route");
}

/// z[T, E] = x[T, n] W^T + bias. Order, precision, scratch and errors of `kernels::shrink`: a token's logits do not depend on the
/// tokens beside it, as a GEMM's may.
template <class E, class W, class B, class X, class Z>
void router_logits(E const& ex, router<W, B> const& r, X const& x, Z const& logits) {
  kernels::shrink(ex, x, r.weight, logits);
  if constexpr (!std::is_same_v<B, none_t>) kernels::add_bias(ex, r.bias, logits);
}

/// The projection and a gate in one: ids[T, k] and weights[T, k] of x[T, n]. The logits are never rounded to 16 bits, whatever x and W
/// are; for a backward keep them: `router_logits`, then `route`.
///
/// Scratch      T E numbers of fp32 (fp64), beside the kernels': `route_scratch_bytes`.
/// Everything else: `router_logits`, `kernels::gate`.
template <class E, token_choice_gate G, class RW, class RB, class X, class Ids, class W, class Report = none_t>
void route(E const& ex, G const& gate, router<RW, RB> const& r, X const& x, Ids const& ids, W const& weights,
           Report const& status = {}) {
  GRAFT_MANDATE_EXECUTOR("route", E)
  GRAFT_MANDATE_INPUT("route", "x", E, X, 2)
  if constexpr (detail::accepted_input<E, X, 2>) {
    using value = accumulate_t<typename RW::value_type, typename X::value_type>;
    detail::call_scratch const memory(ex, route_scratch_bytes(r, x));
    auto const logits = memory.template view<value>(x.extent(0), r.weight.extent(0));
    router_logits(ex, r, x, logits);
    route(ex, gate, as_const(logits), ids, weights, status);
  }
}

/// dW += dz^T x, dbias += sum over tokens of dz, dx += dz W; `none` for what is not wanted.
template <class E, class W, class B, class X, class DZ, class GW, class GB, class DX>
void backward(E const& ex, router<W, B> const& r, X const& x, DZ const& dlogits, router_gradients<GW, GB> const& g,
              DX const& dx) {
  if constexpr (!std::is_same_v<GW, none_t>) kernels::outer_add(ex, transposed(dlogits), x, g.weight);
  if constexpr (!std::is_same_v<GB, none_t>) {
    static_assert(!std::is_same_v<B, none_t>, "graft::backward of router: there is no bias to have a gradient");
    kernels::sum_rows(ex, dlogits, g.bias);
  }
  if constexpr (!std::is_same_v<DX, none_t>) kernels::expand_add(ex, dlogits, transposed(r.weight), dx);
}

/// Draws W; the bias is 0.
template <class E, class W, class B>
void initialize(E const& ex, router<W, B> const& r, small_normal const& how) {
  kernels::fill_normal(ex, {how.seed, how.stream}, r.weight, how.deviation);
  if constexpr (!std::is_same_v<B, none_t>) {
    using shape = dynamic_extents<2>;
    tensor_view<typename B::element_type, shape, typename B::space_type, no_unit_dimension> const row{
        r.bias.data_handle(), shape{1, r.bias.extent(0)}, {r.bias.extent(0), r.bias.stride(0)}};
    kernels::fill_uniform(ex, {}, row, 0.0);
  }
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
