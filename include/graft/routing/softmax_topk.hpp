// SPDX-License-Identifier: Apache-2.0
/// @file
/// Softmax, then top-k: Shazeer et al. 2017 (arXiv 1701.06538) without noise, as in Mixtral (Jiang et al. 2024, arXiv 2401.04088,
/// section 2.1), Qwen-MoE, OLMoE and DeepSeek-V2.
#pragma once

#include <graft/config.hpp>
#include <graft/kernels/gate_rule.hpp>
#include <graft/routing/route.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// p = softmax(z / temperature); the k largest p, divided by their sum if `renormalize`; times `scale`.
///
///     Mixtral          {}
///     Qwen-MoE, OLMoE  {.renormalize = norm_topk_prob}
///     DeepSeek-V2      {.renormalize = false, .scale = routed_scaling_factor, .groups = n_group, .kept_groups = topk_group}
///
/// With groups only experts of the groups with the largest p are chosen. Renormalized weights of a token add up to `scale`.
struct softmax_topk {
  bool renormalize = true;
  double scale = 1.0;
  double temperature = 1.0;
  index_t groups = 1;
  index_t kept_groups = 1;
  non_finite_logits non_finite = non_finite_logits::refuse;

  [[nodiscard]] GRAFT_FN constexpr gate_rule rule() const {
    gate_rule r;
    r.renormalize = renormalize;
    r.scale = scale;
    r.temperature = temperature;
    r.groups = groups;
    r.kept_groups = kept_groups;
    r.non_finite = non_finite;
    return r;
  }
};
static_assert(token_choice_gate<softmax_topk>);

}  // namespace graft::inline GRAFT_CONTRACT
