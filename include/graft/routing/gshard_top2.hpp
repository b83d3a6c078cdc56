// SPDX-License-Identifier: Apache-2.0
/// @file
/// Two experts a token, the second perhaps: GShard (Lepikhin et al. 2020, arXiv 2006.16668, algorithm 1), Mesh TensorFlow, NLLB.
#pragma once

#include <cstdint>

#include <graft/config.hpp>
#include <graft/kernels/gate_rule.hpp>
#include <graft/routing/route.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// p = softmax(z); the two largest, with the weights w_i = p_i / (p_1 + p_2 + epsilon), normalized before anything is dropped
/// (`renormalize` false: p_i, to be normalized after). Some tokens do not use their second expert; then its id is -1, its weight
/// 0, and the first weight stays:
///
///     second_expert::always           all do
///     second_expert::above_threshold  those with w_2 > threshold
///     second_expert::random           those with w_2 > threshold U, U uniform in [0, 1): a function of (seed, stream, token, slot 1)
///
/// GShard and NLLB draw with the threshold 0.5 (2 w_2 > U), Mesh TensorFlow with 0.2. ids[T, 2]; capacity is a plan's.
struct gshard_top2 {
  second_expert second = second_expert::always;
  double threshold = 0.5;
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
  double epsilon = 1e-9;
  bool renormalize = true;
  non_finite_logits non_finite = non_finite_logits::refuse;

  [[nodiscard]] GRAFT_FN constexpr gate_rule rule() const {
    gate_rule r;
    r.renormalize = renormalize;
    r.epsilon = epsilon;
    r.second = second;
    r.threshold = threshold;
    r.seed = seed;
    r.stream = stream;
    r.non_finite = non_finite;
    return r;
  }
};
static_assert(token_choice_gate<gshard_top2>);

}  // namespace graft::inline GRAFT_CONTRACT
