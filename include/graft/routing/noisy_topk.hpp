// SPDX-License-Identifier: Apache-2.0
/// @file
/// Noisy top-k gating: Shazeer et al. 2017 (arXiv 1701.06538, section 2.1, equations 3 to 5, and appendix A).
#pragma once

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/kernels/bias.hpp>
#include <graft/kernels/gate_rule.hpp>
#include <graft/kernels/noisy_logits.hpp>
#include <graft/routing/route.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// H = x W_g + N(0, 1) (softplus(x W_noise) + floor); the k largest H, with softmax over those k: G = softmax(KeepTopK(H, k)).
///
/// clean[T, E] = x W_g and raw[T, E] = x W_noise are two routers' logits; both W begin at 0. The noise is a `random_stream`
/// (element t E + e, the same in forward and backward) or a view. Without noise, as after training, route clean by topk_softmax.
/// The paper has floor 0; common implementations 0.01.
struct noisy_topk {
  double floor = 0.0;
  non_finite_logits non_finite = non_finite_logits::refuse;

  [[nodiscard]] GRAFT_FN constexpr gate_rule rule() const {
    gate_rule r;
    r.renormalize = true;
    r.non_finite = non_finite;
    return r;
  }
};
static_assert(token_choice_gate<noisy_topk>);

inline namespace GRAFT_TARGET {

/// noisy[T, E] = H; ids[T, k] and weights[T, k] of it. H is what backward and load need.
template <class E, class C, class R, class N, class H, class Ids, class W, class Report = none_t>
void route(E const& ex, noisy_topk const& gate, C const& clean, R const& raw, N const& noise, H const& noisy,
           Ids const& ids, W const& weights, Report const& status = {}) {
  detail::expects_rule("route of noisy_topk", gate.rule(), ids.extent(1), noisy.extent(1));
  kernels::noisy_logits(ex, clean, raw, noise, noisy, gate.floor);
  route(ex, gate, noisy, ids, weights, status);
}

/// dH[T, E] += the gradient of the sum of weights * dweights, then dclean += dH, draw += dH noise sigmoid(raw). dH begins at 0, or at
/// what `expert_load_backward` left in it.
template <class E, class R, class N, class H, class Ids, class DW, class DH, class DC, class DR>
void route_backward(E const& ex, noisy_topk const& gate, R const& raw, N const& noise, H const& noisy, Ids const& ids,
                    DW const& dweights, DH const& dnoisy, DC const& dclean, DR const& draw) {
  route_backward(ex, gate, noisy, ids, dweights, dnoisy);
  kernels::noisy_logits_backward(ex, raw, noise, dnoisy, dclean, draw);
}

/// load[e] += the sum over tokens of P[t, e] (equations 8 to 10), the smooth number of tokens that choose e; P is overwritten.
template <class E, class C, class R, class H, class P, class L>
void expert_load(E const& ex, noisy_topk const& gate, C const& clean, R const& raw, H const& noisy, index_t k,
                 P const& probabilities, L const& load) {
  kernels::load_probabilities(ex, clean, raw, noisy, k, probabilities, gate.floor);
  kernels::sum_rows(ex, probabilities, load);
}

/// Adds the gradient of the loads to dclean, draw and dH; call it before `route_backward`, which takes dH on.
template <class E, class C, class R, class H, class DL, class DC, class DR, class DH>
void expert_load_backward(E const& ex, noisy_topk const& gate, C const& clean, R const& raw, H const& noisy, index_t k,
                          DL const& dload, DC const& dclean, DR const& draw, DH const& dnoisy) {
  kernels::load_probabilities_backward(ex, clean, raw, noisy, k, dload, dclean, draw, dnoisy, gate.floor);
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
