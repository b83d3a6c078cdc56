// SPDX-License-Identifier: Apache-2.0
/// @file
/// One expert a token: Switch Transformer (Fedus et al. 2021, arXiv 2101.03961, section 2.1).
#pragma once

#include <graft/config.hpp>
#include <graft/kernels/gate_rule.hpp>
#include <graft/kernels/jitter.hpp>
#include <graft/routing/route.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// The largest p = softmax(z), with p as its weight: not renormalized, or the router would have no gradient. ids[T, 1].
///
/// In training Switch multiplies what goes into the router, and only that, by random factors: `kernels::jitter(ex, jitter_noise{0.01,
/// seed, stream}, x, router_input)` before the router, `kernels::jitter_add` with the same noise on the way back. Into a buffer of its
/// own: experts see x as it is.
struct switch_top1 {
  non_finite_logits non_finite = non_finite_logits::refuse;

  [[nodiscard]] GRAFT_FN constexpr gate_rule rule() const {
    gate_rule r;
    r.non_finite = non_finite;
    return r;
  }
};
static_assert(token_choice_gate<switch_top1>);

}  // namespace graft::inline GRAFT_CONTRACT
