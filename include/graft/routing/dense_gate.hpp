// SPDX-License-Identifier: Apache-2.0
/// @file
/// Every expert for every token: LoRAMoE (Dou et al. 2023, arXiv 2312.09979), MoV and MoLoRA (Zadouri et al. 2023, arXiv 2309.05444),
/// X-LoRA (Buehler and Buehler 2024, arXiv 2402.07148).
#pragma once

#include <graft/config.hpp>
#include <graft/kernels/softmax.hpp>
#include <graft/view/concepts.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// weights = softmax(z / temperature) over all experts; no ids.
struct dense_gate {
  double temperature = 1.0;
};

inline namespace GRAFT_TARGET {

/// weights[T, E] of logits[T, E]: see `kernels::softmax`.
template <class E, class Z, class W, class Report = none_t>
void route(E const& ex, dense_gate const& gate, Z const& logits, W const& weights, Report const& status = {}) {
  kernels::softmax(ex, logits, weights, gate.temperature, status);
}

/// dlogits += the gradient of the sum of weights * dweights; weights as `route` gave them.
template <class E, class W, class DW, class DZ>
void route_backward(E const& ex, dense_gate const& gate, W const& weights, DW const& dweights, DZ const& dlogits) {
  kernels::softmax_backward(ex, weights, dweights, dlogits, gate.temperature);
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
