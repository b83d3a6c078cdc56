// SPDX-License-Identifier: Apache-2.0
/// @file
/// Sigmoid scores, a bias that only chooses, groups: DeepSeek-V3 (2024, arXiv 2412.19437, section 2.1.2, equations 12 to 16), Kimi,
/// GLM-4.5; with k = 1 and no bias Llama 4.
#pragma once

#include <type_traits>

#include <graft/config.hpp>
#include <graft/kernels/gate_rule.hpp>
#include <graft/routing/route.hpp>
#include <graft/view/concepts.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// s = sigmoid(z); the k largest s + bias of the groups whose two largest s + bias have the largest sums; the weights are their
/// s, without the bias, divided by their sum + epsilon if `renormalize`; times `scale` (routed_scaling_factor).
///
/// Groups that are not kept are never chosen, also where s + bias is negative. `bias` is a buffer that no gradient
/// trains. Llama 4 is sigmoid_topk{.renormalize = false} with k = 1, and multiplies the expert's input.
template <optional_vector B = none_t>
struct sigmoid_topk {
  B bias{};
  bool renormalize = true;
  double scale = 1.0;
  double epsilon = 1e-20;
  index_t groups = 1;
  index_t kept_groups = 1;
  non_finite_logits non_finite = non_finite_logits::refuse;

  [[nodiscard]] GRAFT_FN constexpr gate_rule rule() const {
    gate_rule r;
    r.score = gate_score::sigmoid;
    r.renormalize = renormalize;
    r.scale = scale;
    r.epsilon = epsilon;
    r.groups = groups;
    r.kept_groups = kept_groups;
    r.non_finite = non_finite;
    return r;
  }
};
template <class B, class... Rest>
sigmoid_topk(B, Rest...) -> sigmoid_topk<B>;
static_assert(token_choice_gate<sigmoid_topk<>>);

}  // namespace graft::inline GRAFT_CONTRACT
