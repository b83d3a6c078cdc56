// SPDX-License-Identifier: Apache-2.0
/// @file
/// As many experts as it takes to pass a probability: the dynamic router of MixLoRA (Li et al. 2024, arXiv 2404.15159) and of
/// Huang et al. 2024 (arXiv 2403.07652, equation 4).
#pragma once

#include <graft/config.hpp>
#include <graft/kernels/gate_rule.hpp>
#include <graft/routing/route.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// q = softmax(z / temperature), sorted descending; experts are kept until the sum of their q exceeds `p`, the one that passes it
/// included. At most k of ids[T, k] (k may be E); the places behind the last have the id -1 and the weight 0. Weights are q, divided
/// by the sum of those kept if `renormalize`, times `scale`.
struct top_p {
  double p = 0.8;
  bool renormalize = false;
  double scale = 1.0;
  double temperature = 1.0;
  non_finite_logits non_finite = non_finite_logits::refuse;

  [[nodiscard]] GRAFT_FN constexpr gate_rule rule() const {
    gate_rule r;
    r.top_p = p;
    r.renormalize = renormalize;
    r.scale = scale;
    r.temperature = temperature;
    r.non_finite = non_finite;
    return r;
  }
};
static_assert(token_choice_gate<top_p>);

}  // namespace graft::inline GRAFT_CONTRACT
