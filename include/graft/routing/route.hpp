// SPDX-License-Identifier: Apache-2.0
/// @file
/// `route` and `route_backward`: from a router's logits to the experts of each token and their weights, by any gate in which tokens
/// choose; and the way back.
#pragma once

#include <concepts>

#include <graft/config.hpp>
#include <graft/kernels/gate.hpp>
#include <graft/kernels/gate_backward.hpp>
#include <graft/kernels/gate_rule.hpp>
#include <graft/view/concepts.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// A gate in which each token chooses its experts: `rule()` says how. It may have a `bias` of its choice scores.
template <class G>
concept token_choice_gate = std::copyable<G> && requires(G const& g) {
  { g.rule() } -> std::same_as<gate_rule>;
};

inline namespace GRAFT_TARGET {

/// ids[T, k] and weights[T, k] of logits[T, E]: see `kernels::gate`. With a `gate_status` bad logits are written there; without one
/// data_error names the lowest token that has them.
template <class E, token_choice_gate G, class Z, class Ids, class W, class Report = none_t>
void route(E const& ex, G const& gate, Z const& logits, Ids const& ids, W const& weights, Report const& status = {}) {
  if constexpr (requires { gate.bias; }) kernels::gate(ex, gate.rule(), logits, gate.bias, ids, weights, status);
  else kernels::gate(ex, gate.rule(), logits, none, ids, weights, status);
}

/// dlogits[T, E] += the gradient of the sum of weights * dweights, with the ids of the forward: see `kernels::gate_backward`. A
/// bias of choice scores has none.
template <class E, token_choice_gate G, class Z, class Ids, class DW, class DZ, class Report = none_t>
void route_backward(E const& ex, G const& gate, Z const& logits, Ids const& ids, DW const& dweights, DZ const& dlogits,
                    Report const& status = {}) {
  kernels::gate_backward(ex, gate.rule(), logits, ids, dweights, dlogits, status);
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
