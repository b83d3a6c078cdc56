// SPDX-License-Identifier: Apache-2.0
/// @file
/// Top-k, then softmax: gpt-oss, JetMoE, GraniteMoE.
#pragma once

#include <graft/config.hpp>
#include <graft/kernels/gate_rule.hpp>
#include <graft/routing/route.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// The k largest logits; the weights are softmax(z / temperature) over those k, times `scale`. Mathematically `softmax_topk` with
/// renormalization, and here the same bits.
struct topk_softmax {
  double scale = 1.0;
  double temperature = 1.0;
  non_finite_logits non_finite = non_finite_logits::refuse;

  [[nodiscard]] GRAFT_FN constexpr gate_rule rule() const {
    gate_rule r;
    r.renormalize = true;
    r.scale = scale;
    r.temperature = temperature;
    r.non_finite = non_finite;
    return r;
  }
};
static_assert(token_choice_gate<topk_softmax>);

}  // namespace graft::inline GRAFT_CONTRACT
