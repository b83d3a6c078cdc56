// SPDX-License-Identifier: Apache-2.0
/// @file
/// Losses of routers, each by its own name: they differ in what the fraction f of an expert is divided by, and in what is pooled.
///
///     loss                          f(e)                                 P(e)               at perfect balance
///     switch_loss                   tokens that chose e first / tokens   mean softmax       1
///     gshard_loss                   the same                             the same           1
///     pooled_balance_loss           choices of e / tokens                the same           k
///     mola_loss                     choices of e / all choices           the same           1
///
/// All of these are E * sum over e of f(e) P(e); f carries no gradient. With dlogits they add weight * the gradient.
#pragma once

#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/kernels/cv_squared.hpp>
#include <graft/kernels/expert_sums.hpp>
#include <graft/kernels/router_losses.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
inline namespace GRAFT_TARGET {

/// Switch Transformer (Fedus et al. 2021, arXiv 2101.03961, equations 4 to 6, without alpha): loss[0] += weight * E sum of f P.
/// f counts the first choices, ids[:, 0], before any are dropped. The T tokens are `sequences` groups of equal size; the loss is
/// the mean of theirs. See `kernels::router_losses` for shapes and errors.
template <class E, class Z, class Ids, class L, class DZ = none_t>
void switch_loss(E const& ex, Z const& logits, Ids const& ids, scaling weight, L const& loss, DZ const& dlogits = {},
                 index_t sequences = 1) {
  index_t const T = logits.extent(0);
  if (sequences < 1 || T % sequences != 0) [[unlikely]]
    detail::raise(shape_error(detail::text("graft::switch_loss: logits", detail::shape_text(logits), " has ", T,
                                           " tokens, which are not ", sequences, " sequences of equal length")));
  detail::expects_equal_extents("switch_loss", "ids", ids, 0, "logits", logits, 0);
  auto const first = columns(ids, 0, 1);
  index_t const size = T / sequences;
  scaling const each = weight.value() / static_cast<double>(sequences);
  for (index_t s = 0; s < sequences; ++s) {
    auto const part = [&](auto const& v) { return rows(v, s * size, size); };
    if constexpr (std::is_same_v<DZ, none_t>)
      kernels::router_losses(ex, router_loss::choices_per_token, part(logits), part(first), none, each, loss, none);
    else
      kernels::router_losses(ex, router_loss::choices_per_token, part(logits), part(first), none, each, loss,
                             part(dlogits));
  }
}

/// GShard (Lepikhin et al. 2020, arXiv 2006.16668, algorithm 1) in Mesh TensorFlow's normalization, 1 at balance (the paper's is
/// that divided by E^2): loss[0] += weight * E sum of f P, f of first choices before any are dropped.
template <class E, class Z, class Ids, class L, class DZ = none_t>
void gshard_loss(E const& ex, Z const& logits, Ids const& ids, scaling weight, L const& loss, DZ const& dlogits = {}) {
  kernels::router_losses(ex, router_loss::choices_per_token, logits, columns(ids, 0, 1), none, weight, loss, dlogits);
}

/// transformers' load_balancing_loss_func (Mixtral, Qwen-MoE, ...): f counts all k choices and is divided by tokens, so that it adds
/// up to k. Layers are pooled before averaging: logits[layers * T, E], layer by layer. mask[T] (0 leaves a token out), or `none`,
/// repeats over the layers. It is not the mean of the layers' losses.
template <class E, class Z, class Ids, class M, class L, class DZ = none_t>
void pooled_balance_loss(E const& ex, Z const& logits, Ids const& ids, M const& mask, scaling weight, L const& loss,
                         DZ const& dlogits = {}) {
  kernels::router_losses(ex, router_loss::choices_per_token, logits, ids, mask, weight, loss, dlogits);
}

/// MoLA (Gao et al. 2024, arXiv 2402.08562): f is divided by all choices, so that it adds up to 1. One call for every router; their
/// losses add up.
template <class E, class Z, class Ids, class L, class DZ = none_t>
void mola_loss(E const& ex, Z const& logits, Ids const& ids, scaling weight, L const& loss, DZ const& dlogits = {}) {
  kernels::router_losses(ex, router_loss::choices_per_choice, logits, ids, none, weight, loss, dlogits);
}

/// ST-MoE's z-loss (Zoph et al. 2022, arXiv 2202.08906, equation 5): loss[0] += weight * mean over tokens of (log sum of e^z)^2.
template <class E, class Z, class L, class DZ = none_t, class M = none_t>
void z_loss(E const& ex, Z const& logits, scaling weight, L const& loss, DZ const& dlogits = {}, M const& mask = {}) {
  kernels::router_losses(ex, router_loss::squared_log_sum, logits, none, mask, weight, loss, dlogits);
}

/// CV^2 of importance or load (Shazeer et al. 2017, arXiv 1701.06538, equations 7 and 11): loss[0] += weight * var(v) / (mean(v)^2
/// + 1e-10), dv[E] += weight * its gradient. Importance is `kernels::expert_sums` of the gate's weights, and its gradient goes back by
/// `kernels::expert_sums_backward`; the load of a noisy gate is `expert_load` of noisy_topk.hpp.
template <class E, class V, class L, class DV = none_t>
void cv_squared_loss(E const& ex, V const& v, scaling weight, L const& loss, DV const& dv = {}) {
  kernels::cv_squared(ex, v, weight, loss, dv);
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
