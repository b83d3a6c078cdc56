// SPDX-License-Identifier: Apache-2.0
/// @file
/// `capacity`: how many tokens an expert takes, which are dropped when more ask for it, and plans made by it. Switch (Fedus et al.
/// 2021, arXiv 2101.03961), GShard (Lepikhin et al. 2020, arXiv 2006.16668), V-MoE (Riquelme et al. 2021, arXiv 2106.05974).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/kernels/drop_pairs.hpp>
#include <graft/kernels/plan.hpp>
#include <graft/view/concepts.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// An expert takes C pairs of each group of G tokens (group; 0: the whole batch):
///
///     C = fixed                                        if fixed >= 0
///     C = max(minimum, floor or ceil of G k factor / E)   with `per_choice`, else G factor / E
///
/// Defaults are Megatron's and Tutel's ceil(k T factor / E). Switch and Mesh TensorFlow: per_choice = false, rounds_up = false,
/// minimum = 4, order token (Switch) or choice (GShard). Computed in fp64 from left to right, as Python does.
struct capacity {
  double factor = 1.0;
  index_t minimum = 0;
  index_t fixed = -1;
  bool per_choice = true;
  bool rounds_up = true;
  drop_order order = drop_order::token;
  index_t group = 0;
  std::uint64_t seed = 0;  ///< For drop_order::random; give every layer and step its own stream.
  std::uint64_t stream = 0;

  /// C for T tokens that make `pairs` = T k choices. Throws argument_error.
  [[nodiscard]] GRAFT_INLINE index_t of(index_t tokens, index_t pairs, index_t experts) const {
    if (group < 0 || (fixed < 0 && !(factor >= 0.0 && std::isfinite(factor)))) [[unlikely]]
      detail::raise(argument_error(detail::text("graft::capacity: the factor is ", factor, " and the group ", group,
                                                " tokens; the one must be finite, none negative")));
    if (fixed >= 0) return fixed;
    auto share = static_cast<double>(group > 0 ? group : tokens);
    if (per_choice) share = tokens == 0 ? 0.0 : share * static_cast<double>(pairs) / static_cast<double>(tokens);
    double const even = experts == 0 ? 0.0 : share * factor / static_cast<double>(experts);
    double const c = rounds_up ? std::ceil(even) : std::floor(even);
    constexpr index_t most = (std::numeric_limits<index_t>::max)();
    return (std::max)(minimum, c >= 0x1p63 ? most : static_cast<index_t>(c));
  }
};

/// Every expert takes what it is given.
inline constexpr capacity dropless{.fixed = (std::numeric_limits<index_t>::max)()};

inline namespace GRAFT_TARGET {

/// Fills the plan p under a capacity: as `kernels::make_plan`, and p.dropped names the pairs that found no room. Weights stay as
/// they are; where they are to sum to one after dropping, divide by the sum of those kept.
///
/// Shapes       assigned and p as for `kernels::make_plan`; scores[T, k] (ragged: [pairs]) for drop_order::probability and
///              batch_priority: the probabilities before they are renormalized; positions[T, k] as for `kernels::drop_pairs`.
/// Determinism  a function of assignment, scores and capacity: equal for every executor and number of threads.
/// Cost         two plans and `kernels::drop_pairs`; one plan where it is dropless.
/// Errors       shape_error and argument_error before anything is written; data_error of `kernels::make_plan`: p is
///              unspecified then.
template <class E, class A, class Space, class Scores = none_t, class Positions = none_t>
void make_plan(E const& ex, A const& assigned, capacity const& c, plan<Space> const& p, Scores const& scores = {},
               Positions const& positions = {}) {
  drop_rule const rule{c.of(p.tokens, p.pairs(), p.experts()), c.group, c.order, c.seed, c.stream};
  bool const drops = !std::is_same_v<Positions, none_t> || rule.limit < p.pairs();
  if (drops) detail::expects_drops("make_plan", p, rule, scores, positions);
  kernels::make_plan(ex, assigned, p);
  if (!drops) return;
  kernels::drop_pairs(ex, p, rule, scores, positions);
  kernels::make_plan(ex, assigned, p, kernels::drops::given);
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
