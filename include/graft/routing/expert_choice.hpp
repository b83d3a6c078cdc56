// SPDX-License-Identifier: Apache-2.0
/// @file
/// Experts choose tokens: Zhou et al. 2022 (arXiv 2202.09368, section 3.2).
#pragma once

#include <algorithm>
#include <cmath>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/kernels/expert_columns.hpp>
#include <graft/kernels/softmax.hpp>
#include <graft/kernels/top_k.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// S = softmax over experts of z; each expert takes the C tokens with the largest S, ties to the lower token, with S as weights: not
/// renormalized, no loss is needed for balance. A token may have no expert, or many. Later tokens take part in the choice: not
/// causal.
struct expert_choice {
  double temperature = 1.0;
};

inline namespace GRAFT_TARGET {

/// C = T * factor / E rounded down, from 1 to T: `factor` experts a token on average.
[[nodiscard]] inline index_t expert_capacity(index_t tokens, index_t experts, double factor) {
  if (tokens < 1 || experts < 1 || !(factor > 0.0)) [[unlikely]]
    detail::raise(argument_error(detail::text("graft::expert_capacity: ", tokens, " tokens, ", experts,
                                              " experts, factor ", factor, "; all must be above 0")));
  double const c = std::floor(static_cast<double>(tokens) * factor / static_cast<double>(experts));
  return static_cast<index_t>((std::min)((std::max)(c, 1.0), static_cast<double>(tokens)));
}

/// scores[T, E] = S; token_ids[E, C] and weights[E, C] of each expert, in descending order. The scores are what backward needs.
/// Errors and precision: `kernels::softmax`, `kernels::top_k`; C from 1 to T.
template <class E, class Z, class S, class Ids, class W, class Report = none_t>
void route(E const& ex, expert_choice const& gate, Z const& logits, S const& scores, Ids const& token_ids,
           W const& weights, Report const& status = {}) {
  detail::expects_choices("route of expert_choice", token_ids.extent(1), logits.extent(0), "tokens");
  detail::expects_equal_extents("route of expert_choice", "token_ids", token_ids, 0, "logits", logits, 1);
  kernels::softmax(ex, logits, scores, gate.temperature, status);
  kernels::top_k(ex, transposed(as_const(scores)), token_ids, weights);
}

/// dlogits[T, E] += the gradient of the sum of weights * dweights[E, C], by way of dscores[T, E], which is overwritten.
template <class E, class S, class Ids, class DW, class DS, class DZ>
void route_backward(E const& ex, expert_choice const& gate, S const& scores, Ids const& token_ids, DW const& dweights,
                    DS const& dscores, DZ const& dlogits) {
  kernels::spread_columns(ex, token_ids, dweights, dscores);
  kernels::softmax_backward(ex, scores, dscores, dlogits, gate.temperature);
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
