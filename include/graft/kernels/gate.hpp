// SPDX-License-Identifier: Apache-2.0
/// @file
/// `gate`: logits of a router to the experts of each token and their weights, and the way back. Every gate that chooses experts
/// for a token is a `gate_rule`; graft/routing has them by their names.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/detail/elementary.hpp>
#include <graft/detail/philox.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/faults.hpp>
#include <graft/kernels/gate_rule.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/kernels/top_k.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {

/// A logit as a rule reads it.
template <class Accumulate>
GRAFT_FN Accumulate tamed(gate_rule const& rule, Accumulate z) {
  if (rule.non_finite == non_finite_logits::refuse) return z;
  constexpr Accumulate most = (std::numeric_limits<Accumulate>::max)();
  return z != z ? -std::numeric_limits<Accumulate>::infinity() : z > most ? most : z;
}

/// The largest of numbers seen, and whether NaN was among them: in any order the same.
template <class Accumulate>
struct row_look {
  Accumulate largest = -std::numeric_limits<Accumulate>::infinity();
  bool nan = false;

  GRAFT_FN void see(Accumulate value) {
    nan = nan || value != value;
    if (value > largest) largest = value;
  }
  GRAFT_FN void see(row_look const& other) {
    nan = nan || other.nan;
    if (other.largest > largest) largest = other.largest;
  }
  /// What is wrong with a row of logits.
  [[nodiscard]] GRAFT_FN gate_fault fault() const {
    constexpr Accumulate inf = std::numeric_limits<Accumulate>::infinity();
    return nan               ? gate_fault::nan
           : largest == inf  ? gate_fault::infinite
           : largest == -inf ? gate_fault::none_left
                             : gate_fault::right;
  }
};
/// Of z(first), z(first + step), ... below n.
template <class Accumulate, class Z>
GRAFT_FN row_look<Accumulate> look_at_row(index_t n, Z const& z, index_t first = 0, index_t step = 1) {
  row_look<Accumulate> look;
  for (index_t e = first; e < n; e += step) look.see(z(e));
  return look;
}

/// Lanes that share a row out between them.
inline constexpr index_t row_parts = 16;
/// What they saw together.
template <class Accumulate>
GRAFT_FN row_look<Accumulate> look_at_parts(row_look<Accumulate> const* part) {
  row_look<Accumulate> look;
  for (index_t l = 0; l < row_parts; ++l) look.see(part[l]);
  return look;
}

/// Of z(0), ..., z(n - 1), which all lanes see, for every lane. `part` holds row_parts looks. Lanes may still read when it returns.
template <class Accumulate, class Team, class Z>
GRAFT_FN row_look<Accumulate> look_at_row(Team const& tm, index_t n, Z const& z, row_look<Accumulate>* part) {
  if constexpr (wide_team<Team>)
    if (n > row_parts) {
      tm.vector(row_parts, [&](index_t l) { part[l] = look_at_row<Accumulate>(n, z, l, row_parts); });
      tm.barrier();
      return look_at_parts(part);
    }
  return look_at_row<Accumulate>(n, z);
}
/// Numbers that take the room of row_parts looks: one of them is two.
inline constexpr index_t looks_room = 2 * row_parts;
static_assert(sizeof(row_look<float>) == 2 * sizeof(float) && sizeof(row_look<double>) == 2 * sizeof(double));

/// Takes the groups out that are not among the rule's best: their score is the sum of their two largest choice scores (their
/// largest, where scores are a softmax); ties to the lower group. A lane has a group; all lanes see the keys that are left.
template <class Team, class Accumulate>
GRAFT_FN void limit_to_groups(Team const& tm, gate_rule const& rule, index_t n, Accumulate const* choice,
                              Accumulate* group, order_key<Accumulate>* key) {
  constexpr Accumulate low = -std::numeric_limits<Accumulate>::infinity();
  using key_type = order_key<Accumulate>;
  index_t const size = n / rule.groups;
  tm.vector(rule.groups, [&](index_t g) {
    Accumulate first = low;
    Accumulate second = low;
    for (index_t e = g * size; e < (g + 1) * size; ++e) {
      Accumulate const c = choice[e];
      if (c > first) {
        second = first;
        first = c;
      } else if (c > second) second = c;
    }
    group[g] = size == 1 || rule.score == gate_score::softmax ? first : first + second;
  });
  tm.barrier();
  // A group stays when fewer than kept_groups come before it.
  tm.vector(rule.groups, [&](index_t g) {
    index_t ahead = 0;
    for (index_t h = 0; h < rule.groups; ++h)
      if (key_of(group[h]) > key_of(group[g]) || (key_of(group[h]) == key_of(group[g]) && h < g)) ++ahead;
    if (ahead >= rule.kept_groups)
      for (index_t e = g * size; e < (g + 1) * size; ++e) key[e] = no_key<key_type>;
  });
  tm.barrier();
}

/// Generic body: a row a team.
template <class Z, class B, class Ids, class W, class Accumulate>
struct gate_body {
  static constexpr std::string_view verb = "gate";
  gate_rule rule;
  Z logits;
  B bias;
  Ids ids;
  W weights;
  gate_codes codes;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const t = tm.league_rank();
    index_t const n = logits.extent(1);
    index_t const k = ids.extent(1);
    auto* const value = tm.template scratch<Accumulate>(numbers(n));
    Accumulate* const score = value + n;  // of groups, then of choices
    auto* const key = reinterpret_cast<order_key<Accumulate>*>(score + n);
    auto* const order = reinterpret_cast<std::int32_t*>(key + n);
    Accumulate* const sum = score + 2 * n + order_room<Accumulate>(n);
    auto* const part = reinterpret_cast<row_look<Accumulate>*>(sum + 2);
    auto const value_of = [&](index_t e) { return value[e]; };

    tm.vector(n, [&](index_t e) { value[e] = load_as<Accumulate>(logits(t, e)); });
    tm.barrier();
    auto const look = look_at_row(tm, n, value_of, part);
    Accumulate const largest = tamed(rule, look.largest);
    gate_fault fault = look.fault();
    tm.barrier();
    bool const refuses = rule.non_finite == non_finite_logits::refuse;
    tm.vector(n, [&](index_t e) {
      Accumulate const raw = value[e];
      Accumulate choice = tamed(rule, raw);
      if (rule.score == gate_score::sigmoid) choice = portable_sigmoid(choice);
      if constexpr (!std::is_same_v<B, none_t>) choice = choice + load_as<Accumulate>(bias(e));
      value[e] = choice;
      key[e] = key_of(!refuses && raw != raw ? raw : choice);
    });
    tm.barrier();
    if constexpr (!std::is_same_v<B, none_t>)
      if (fault == gate_fault::right) fault = look_at_row(tm, n, value_of, part).fault();
    tm.vector(1, [&](index_t) { codes.set(t, fault); });
    if (refuses && fault != gate_fault::right) {
      tm.vector(k, [&](index_t s) {
        ids(t, s) = -1;
        set(t, s, Accumulate{0});
      });
      return;
    }
    if (rule.groups > 1) limit_to_groups(tm, rule, n, value, score, key);
    select_in_order(tm, key, order, n, k, [&](index_t s, index_t e) {
      ids(t, s) = static_cast<typename Ids::value_type>(e);
      score[s] = rule.score == gate_score::sigmoid ? portable_sigmoid(logit(t, e)) : exponential(t, e, largest);
    });
    tm.barrier();
    Accumulate all{1};
    if (rule.sums_over_all()) {
      tm.vector(n, [&](index_t e) { value[e] = exponential(t, e, largest); });
      tm.barrier();
      dot_by_group(tm, n, [](index_t) { return Accumulate{1}; }, value_of, sum);
      all = *sum;
    }
    weigh(tm, t, largest, all, score);
  }
  [[nodiscard]] index_t lanes() const { return logits.extent(1); }
  static std::size_t scratch(index_t n) { return sizeof(Accumulate) * static_cast<std::size_t>(numbers(n)); }

 private:
  [[nodiscard]] GRAFT_FN static constexpr index_t numbers(index_t n) {
    return 3 * n + order_room<Accumulate>(n) + 2 + looks_room;
  }
  [[nodiscard]] GRAFT_FN Accumulate logit(index_t t, index_t e) const {
    return tamed(rule, load_as<Accumulate>(logits(t, e)));
  }
  [[nodiscard]] GRAFT_FN Accumulate exponential(index_t t, index_t e, Accumulate largest) const {
    return gate_exponential(rule, logit(t, e), largest);
  }
  GRAFT_FN void set(index_t t, index_t s, Accumulate w) const {
    weights(t, s) = store_as<typename W::value_type>(static_cast<Accumulate>(rule.scale) * w);
  }

  /// Weights of the choices from their unnormalized scores u[k] (e^z below the largest, or sigmoids); `all` is the sum over all
  /// experts, or 1. Every lane adds all choices up, in their order.
  template <class Team>
  GRAFT_FN void weigh(Team const& tm, index_t t, Accumulate largest, Accumulate all, Accumulate const* u) const {
    index_t const k = ids.extent(1);
    if (largest == -std::numeric_limits<Accumulate>::infinity()) {
      tm.vector(k, [&](index_t s) { set(t, s, Accumulate{0}); });
      return;
    }
    index_t kept = k;
    if (rule.top_p < 1.0) {  // as many as are needed to pass top_p
      Accumulate sum{0};
      for (kept = 0; kept < k && sum <= static_cast<Accumulate>(rule.top_p); ++kept) sum = sum + u[kept] / all;
    }
    Accumulate divisor = all;
    if (rule.renormalize) divisor = choices_divisor<Accumulate>(rule, kept, all, [&](index_t s) { return u[s]; });
    tm.vector(k, [&](index_t s) {
      Accumulate const p = rule.renormalize && rule.epsilon != 0.0 ? u[s] / all : u[s];
      Accumulate w = divisor == Accumulate{0} ? Accumulate{0} : p / divisor;
      if (s >= kept || (s == 1 && !keeps_second(rule, t, w))) {
        ids(t, s) = -1;
        w = Accumulate{0};
      }
      set(t, s, w);
    });
  }
};

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// For each token the k experts with the largest choice scores (logits, or sigmoids plus a bias) and their weights.
///
/// Shapes       logits[T, E], bias[E] or `none` in; ids[T, k] (std::int32_t or std::int64_t), weights[T, k] out; a `gate_status` of T
///              codes, or `none`. Any strides, any scalars; fp32, or fp64 when one is `double`.
/// Formula      see `gate_rule`. Choices are made on logits before any rounding by exp, in descending order, ties to the lower
///              index (-0 and +0 are equal). Ids of a row are distinct and in range, or -1, with weight 0, where the rule drops one.
///              A logit of -inf masks an expert: it is chosen only when fewer than k others are left, with weight 0.
/// Order        sums over all experts by the long axis (summation.hpp), over choices in their order. A row depends on its own.
/// Preconditions  1 <= k <= E; with groups k <= kept_groups E / groups.
/// Aliasing     outputs may not overlap anything else.
/// Precision    a weight is within (E / 16 + 24) eps of the formula, and is rounded once.
/// Cost         E + k log E comparisons (wide teams as `top_k`); k exponentials, and E where the rule sums over all experts.
/// Scratch      20 E + 136 bytes a team (32 E + 272 in fp64), and 4 T bytes where no status is given.
/// Errors       shape_error, argument_error; nothing is written then. data_error names the lowest token with a NaN, +inf or only
///              -inf among its logits (or choice scores), after the sweep, equal for every executor and number of threads: ids of
///              such rows are -1, their weights 0. With a `gate_status` nothing is thrown for data.
struct gate_fn {
  template <class E, class Z, class B, class Ids, class W>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::gate", E)
    GRAFT_MANDATE_INPUT("kernels::gate", "logits", E, Z, 2)
    GRAFT_MANDATE_ID_OUTPUT("kernels::gate", "ids", E, Ids, 2)
    GRAFT_MANDATE_OUTPUT("kernels::gate", "weights", E, W, 2)
    constexpr bool rest = graft::detail::accepted_input<E, Z, 2> && graft::detail::accepted_id_output<E, Ids, 2> &&
                          graft::detail::accepted_output<E, W, 2>;
    if constexpr (std::is_same_v<B, none_t>) return rest;
    else {
      GRAFT_MANDATE_INPUT("kernels::gate", "bias", E, B, 1)
      return rest && graft::detail::accepted_input<E, B, 1>;
    }
  }
  /// Which body a call takes.
  template <class E, class Z, class B, class Ids, class W>
  static constexpr body chosen = override_for<gate_fn, E, Z, B, Ids, W>::which;

  /// The readable body, on any executor.
  template <executor E, class Z, class B, class Ids, class W, class Report = none_t>
  void generic(E const& ex, gate_rule const& rule, Z const& logits, B const& bias, Ids const& ids, W const& weights,
               Report const& status = {}) const {
    expects(rule, logits, bias, ids, weights);
    using sums = accumulate_t<typename Z::value_type, graft::detail::value_or_float<B>, typename W::value_type>;
    using team_body = graft::detail::gate_body<Z, B, Ids, W, sums>;
    graft::detail::with_codes(ex, verb, status, logits.extent(0), rule.non_finite == non_finite_logits::refuse,
                              [&](graft::detail::gate_codes const& codes) {
                                ex.league(logits.extent(0), team_body::scratch(logits.extent(1)),
                                          team_body{rule, logits, bias, ids, weights, codes});
                              });
  }

  template <class E, class Z, class B, class Ids, class W, class Report = none_t>
  void operator()(E const& ex, gate_rule const& rule, Z const& logits, B const& bias, Ids const& ids, W const& weights,
                  Report const& status = {}) const {
    if constexpr (mandates<E, Z, B, Ids, W>()) {
      using chosen_body = override_for<gate_fn, E, Z, B, Ids, W>;
      if constexpr (chosen_body::which == body::generic) generic(ex, rule, logits, bias, ids, weights, status);
      else if (!chosen_body::takes(rule, ids)) generic(ex, rule, logits, bias, ids, weights, status);
      else {
        expects(rule, logits, bias, ids, weights);
        chosen_body::run(ex, rule, logits, ids, weights, status);
      }
    }
  }

  static constexpr std::string_view verb = "kernels::gate";

 private:
  template <class Z, class B, class Ids, class W>
  static void expects(gate_rule const& rule, Z const& logits, B const& bias, Ids const& ids, W const& weights) {
    using graft::detail::expects_disjoint;
    graft::detail::expects_rule(verb, rule, ids.extent(1), logits.extent(1));
    graft::detail::expects_equal_extents(verb, "ids", ids, 0, "logits", logits, 0);
    graft::detail::expects_equal_extents(verb, "weights", weights, 0, "logits", logits, 0);
    graft::detail::expects_equal_extents(verb, "weights", weights, 1, "ids", ids, 1);
    graft::detail::expects_data(verb, "logits", logits);
    graft::detail::expects_output(verb, "ids", ids);
    graft::detail::expects_output(verb, "weights", weights);
    expects_disjoint(verb, "ids", ids, "logits", logits);
    expects_disjoint(verb, "weights", weights, "logits", logits);
    expects_disjoint(verb, "weights", weights, "ids", ids);
    if constexpr (!std::is_same_v<B, none_t>) {
      graft::detail::expects_equal_extents(verb, "bias", bias, 0, "logits", logits, 1);
      graft::detail::expects_data(verb, "bias", bias);
      expects_disjoint(verb, "ids", ids, "bias", bias);
      expects_disjoint(verb, "weights", weights, "bias", bias);
    }
  }
};
inline constexpr gate_fn gate{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT

// The host body belongs to the verb: whoever sees the verb sees it, whatever is included in which order.
#include <graft/kernels/host/gate.hpp>
