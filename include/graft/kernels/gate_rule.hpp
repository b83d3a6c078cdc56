// SPDX-License-Identifier: Apache-2.0
/// @file
/// `gate_rule`: what a gate does with a row of logits, as numbers; and `gate_status`, where what is wrong with a row is written.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/detail/elementary.hpp>
#include <graft/detail/philox.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/top_k.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// What becomes of NaN, +inf, and rows of -inf only. `refuse`: data_error, or a code in a `gate_status`. `last`: NaN is chosen
/// after everything else and counts as -inf, +inf as the largest finite number; a row of -inf and NaN only takes its first
/// experts in that order, all with weight 0; a gradient is never NaN.
enum class non_finite_logits : std::uint8_t { refuse, last };

/// Scores: a softmax over logits, or a sigmoid of each.
enum class gate_score : std::uint8_t { softmax, sigmoid };

/// Which tokens use their second expert (GShard): all, those whose second weight exceeds `threshold`, or those where
/// weight / threshold exceeds a uniform number of (seed, stream, token, slot 1).
enum class second_expert : std::uint8_t { always, above_threshold, random };

/// With u = e^((z - max z) / temperature), or sigmoid(z), and c = z, or sigmoid(z) + bias: the k experts with the largest c, of the
/// `kept_groups` best groups only, have the weights
///
///     scale u / sum over all u                               (sigmoid: scale u)
///     renormalize:               scale u / sum over the chosen u
///     renormalize with epsilon:  scale p / (sum over the chosen p + epsilon), p = u / sum over all u   (sigmoid: p = u)
///
/// Of the best k only the first whose p add up to more than `top_p` are kept, where that is below 1.
struct gate_rule {
  gate_score score = gate_score::softmax;
  bool renormalize = false;
  double epsilon = 0.0;
  double scale = 1.0;
  double temperature = 1.0;
  double top_p = 1.0;
  index_t groups = 1;  ///< Experts in groups of equal size, side by side.
  index_t kept_groups = 1;
  second_expert second = second_expert::always;
  double threshold = 0.5;
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
  non_finite_logits non_finite = non_finite_logits::refuse;

  /// Does it need the sum over all experts?
  [[nodiscard]] GRAFT_FN constexpr bool sums_over_all() const {
    return score == gate_score::softmax && (!renormalize || epsilon != 0.0 || top_p < 1.0);
  }
};

/// What is wrong with a token, in a `gate_status`.
enum class gate_fault : std::int32_t { right = 0, nan = 1, infinite = 2, none_left = 3, bad_id = 4 };

/// Where gates write a gate_fault for each token in place of throwing: codes[T] of std::int32_t. For executors whose work is not
/// done when a call returns, and for callers who want to know every token. `check` reads it.
template <class V>
struct gate_status {
  V codes;
};
template <class V>
gate_status(V) -> gate_status<V>;

namespace detail {
inline namespace GRAFT_TARGET {

[[nodiscard]] constexpr std::string_view sentence_of(gate_fault fault) {
  switch (fault) {
    case gate_fault::nan: return "has a NaN among its logits";
    case gate_fault::infinite: return "has a logit of +inf";
    case gate_fault::none_left: return "has only logits of -inf: there is no expert to choose";
    case gate_fault::bad_id: return "names an expert that does not exist";
    case gate_fault::right: break;
  }
  return "is right";
}

/// Where bodies write faults; nowhere, if null.
struct gate_codes {
  std::int32_t* code = nullptr;
  index_t step = 0;
  GRAFT_FN void set(index_t t, gate_fault fault) const {
    if (code != nullptr) code[t * step] = static_cast<std::int32_t>(fault);
  }
  void set_right(index_t t, index_t count) const {
    if (code == nullptr) return;
    if (step == 1) std::memset(code + t, 0, sizeof(std::int32_t) * static_cast<std::size_t>(count));
    else
      for (index_t i = t; i < t + count; ++i) set(i, gate_fault::right);
  }
};

template <class Report>
void expects_status(std::string_view verb, Report const& status, index_t tokens) {
  static_assert(
      id_view<decltype(Report::codes)> && std::is_same_v<typename decltype(Report::codes)::element_type, std::int32_t>,
      "graft: the codes of a gate_status are a view of std::int32_t");
  if (status.codes.extent(0) != tokens) [[unlikely]]
    raise(shape_error(text("graft::", verb, ": status", shape_text(status.codes), " must have a code for each of ",
                           tokens, " tokens")));
  expects_output(verb, "status", status.codes);
}

/// e^((z - largest) / temperature)
template <class Accumulate>
GRAFT_FN Accumulate gate_exponential(gate_rule const& rule, Accumulate z, Accumulate largest) {
  return portable_exp((z - largest) * static_cast<Accumulate>(1.0 / rule.temperature));
}

/// What renormalized weights are divided by.
template <class Accumulate, class U>
GRAFT_FN Accumulate choices_divisor(gate_rule const& rule, index_t k, Accumulate all, U const& u) {
  Accumulate sum{0};
  for (index_t s = 0; s < k; ++s) sum = sum + (rule.epsilon == 0.0 ? u(s) : u(s) / all);
  return sum + static_cast<Accumulate>(rule.epsilon);
}

/// Does token t use its second expert, of this weight?
template <class Accumulate>
GRAFT_FN bool keeps_second(gate_rule const& rule, index_t t, Accumulate weight) {
  auto const w = static_cast<double>(weight);
  if (rule.second == second_expert::above_threshold) return w > rule.threshold;
  if (rule.second == second_expert::random)
    return w > rule.threshold * static_cast<double>(uniform(philox_word(rule.seed, rule.stream, 2 * t + 1)));
  return true;
}

/// Its inverse, which logits are multiplied by, is a normal number of fp32: not 0, which makes NaN of masked logits (-inf), and
/// not +inf, which makes NaN of the largest.
[[nodiscard]] constexpr bool is_temperature(double t) { return t >= 0x1p-126 && t <= 0x1p126; }

inline void expects_rule(std::string_view verb, gate_rule const& rule, index_t k, index_t experts) {
  expects_choices(verb, k, experts, "experts");
  auto const finite = [](double v) { return std::isfinite(v); };
  if (!finite(rule.scale) || !is_temperature(rule.temperature) || !(rule.epsilon >= 0.0) || !finite(rule.epsilon) ||
      !(rule.top_p >= 0.0)) [[unlikely]]
    raise(argument_error(
        text("graft::", verb, ": scale ", rule.scale, ", temperature ", rule.temperature, ", epsilon ", rule.epsilon,
             ", top_p ", rule.top_p,
             "; all must be finite, the temperature from 2^-126 to 2^126, epsilon and top_p not below 0")));
  if (rule.groups < 1 || experts % rule.groups != 0 || rule.kept_groups < 1 || rule.kept_groups > rule.groups)
      [[unlikely]]
    raise(argument_error(text("graft::", verb, ": ", experts, " experts in ", rule.groups, " groups, of which ",
                              rule.kept_groups,
                              " are kept; groups must have equal sizes, and from 1 to all of them are kept")));
  if (k > experts / rule.groups * rule.kept_groups) [[unlikely]]
    raise(argument_error(text("graft::", verb, ": k is ", k, " but ", rule.kept_groups, " of ", rule.groups,
                              " groups have ", experts / rule.groups * rule.kept_groups, " experts")));
  if (rule.second != second_expert::always && (k != 2 || !(rule.threshold > 0.0) || !finite(rule.threshold)))
      [[unlikely]]
    raise(argument_error(text("graft::", verb, ": k is ", k, " and the threshold ", rule.threshold,
                              "; a rule for second experts needs k = 2 and a threshold above 0")));
}

}  // namespace GRAFT_TARGET
}  // namespace detail

inline namespace GRAFT_TARGET {

/// Throws data_error for the lowest token with a fault in `status`, which lies in memory of the host and is complete
/// (after `fence`).
template <class V>
void check(gate_status<V> const& status) {
  for (index_t t = 0; t < status.codes.extent(0); ++t)
    if (auto const fault = static_cast<gate_fault>(status.codes(t)); fault != gate_fault::right) [[unlikely]]
      detail::raise(data_error(detail::text("graft::kernels::gate: token ", t, " ", detail::sentence_of(fault))));
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
