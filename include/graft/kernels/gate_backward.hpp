// SPDX-License-Identifier: Apache-2.0
/// @file
/// `gate_backward`: gradients of a gate's weights to its logits. Which experts were chosen carries no gradient.
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
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/gate.hpp>
#include <graft/kernels/gate_rule.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {

/// Generic body: a row a team. With p the scores, q the weights before the scale and g = scale dw on chosen experts:
///
///     renormalized        dp = (g - g.q) / (sum + epsilon)          else dp = g
///     softmax             dz += p (dp - dp.p) / temperature         sigmoid: dz += dp p (1 - p)
///
/// (epsilon = 0: q is a softmax over the chosen, dz += q (g - g.q) / temperature there.)
template <class Z, class Ids, class DW, class DZ, class Accumulate>
struct gate_backward_body {
  static constexpr std::string_view verb = "gate_backward";
  gate_rule rule;
  Z logits;
  Ids ids;
  DW dweights;
  DZ dlogits;
  gate_codes codes;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const t = tm.league_rank();
    index_t const n = logits.extent(1);
    index_t const k = ids.extent(1);
    auto* const value = tm.template scratch<Accumulate>(numbers(n));
    Accumulate* const gradient = value + n;
    auto* const part = reinterpret_cast<row_look<Accumulate>*>(gradient + n);
    choices const of{gradient + n + looks_room, gradient + 2 * n + looks_room,
                     reinterpret_cast<index_t*>(gradient + 3 * n + looks_room)};
    auto* const sum = reinterpret_cast<Accumulate*>(of.expert + n);
    tm.vector(n, [&](index_t e) {
      value[e] = logit(t, e);
      gradient[e] = Accumulate{0};
    });
    tm.barrier();
    auto const value_of = [&](index_t e) { return value[e]; };
    Accumulate const largest = look_at_row(tm, n, value_of, part).largest;
    tm.vector(k, [&](index_t s) { of.expert[s] = expert(t, s, n, value); });
    tm.barrier();
    bool right = true;
    bool any = false;
    for (index_t s = 0; s < k; ++s) {
      right = right && of.expert[s] != no_such_expert;
      any = any || of.expert[s] >= 0;
    }
    tm.vector(1, [&](index_t) { codes.set(t, right ? gate_fault::right : gate_fault::bad_id); });
    if (!right || !any || largest == -std::numeric_limits<Accumulate>::infinity()) return;

    bool const sigmoid = rule.score == gate_score::sigmoid;
    bool const dense = rule.sums_over_all() && !(rule.renormalize && rule.epsilon == 0.0);
    Accumulate all{1};
    if (dense) {
      tm.vector(n, [&](index_t e) { value[e] = gate_exponential(rule, value[e], largest); });
      tm.barrier();
      dot_by_group(tm, n, [](index_t) { return Accumulate{1}; }, value_of, sum);
      all = *sum;
    }
    tm.vector(k, [&](index_t s) {
      index_t const e = of.expert[s];
      of.score[s] = e < 0     ? Accumulate{0}
                    : sigmoid ? portable_sigmoid(value[e])
                    : dense   ? value[e] / all
                              : gate_exponential(rule, value[e], largest);
      of.gradient[s] =
          ids(t, s) < 0 ? Accumulate{0} : static_cast<Accumulate>(rule.scale) * load_as<Accumulate>(dweights(t, s));
    });
    tm.barrier();
    // Every lane adds all choices up, in their order.
    Accumulate divisor{1};
    Accumulate mean{0};  // g.q
    if (rule.renormalize) {
      divisor = choices_divisor<Accumulate>(rule, k, Accumulate{1}, [&](index_t s) { return of.score[s]; });
      for (index_t s = 0; s < k && divisor != Accumulate{0}; ++s)
        mean = std::fma(of.gradient[s], of.score[s] / divisor, mean);
    }
    auto const rate = static_cast<Accumulate>(1.0 / rule.temperature);
    Accumulate lost{0};  // what all gradients lose
    if (divisor != Accumulate{0}) {
      for (index_t s = 0; s < k && dense; ++s)
        if (of.expert[s] >= 0) lost = std::fma((of.gradient[s] - mean) / divisor, of.score[s], lost);
      each_choice(tm, k, of, [&](index_t s, index_t e) {
        Accumulate const term = of.gradient[s] - mean;
        if (dense) gradient[e] = gradient[e] + term / divisor;
        else if (sigmoid) add(t, e, of.score[s] / divisor * portable_sigmoid(-value[e]), term);
        else add(t, e, of.score[s] / divisor * rate, term);
      });
    }
    if (!dense) return;
    tm.barrier();
    tm.vector(n, [&](index_t e) { add(t, e, value[e] / all * rate, gradient[e] - lost); });
  }
  [[nodiscard]] index_t lanes() const { return logits.extent(1); }
  static std::size_t scratch(index_t n) { return sizeof(Accumulate) * static_cast<std::size_t>(numbers(n)); }

 private:
  static constexpr index_t no_such_expert = -2;
  /// Of the choices of a row: scores, gradients of the weights times the scale, experts.
  struct choices {
    Accumulate* score;
    Accumulate* gradient;
    index_t* expert;
  };
  [[nodiscard]] GRAFT_FN static constexpr index_t numbers(index_t n) {
    return 4 * n + looks_room + n * (index_t{sizeof(index_t)} / index_t{sizeof(Accumulate)}) + 1;
  }
  [[nodiscard]] GRAFT_FN Accumulate logit(index_t t, index_t e) const {
    return tamed(rule, load_as<Accumulate>(logits(t, e)));
  }
  GRAFT_FN void add(index_t t, index_t e, Accumulate factor, Accumulate term) const {
    dlogits(t, e) = store_as<typename DZ::value_type>(std::fma(factor, term, load_as<Accumulate>(dlogits(t, e))));
  }
  /// The expert of choice s, -1, or no_such_expert. A second expert that a token did not use took part in the sum: it is found
  /// again.
  [[nodiscard]] GRAFT_FN index_t expert(index_t t, index_t s, index_t n, Accumulate const* value) const {
    auto const e = static_cast<index_t>(ids(t, s));
    if (e < -1 || e >= n) return no_such_expert;
    if (e >= 0 || rule.second == second_expert::always || s != 1 || ids(t, 0) < 0) return e;
    index_t best = -1;
    for (index_t c = 0; c < n; ++c)
      if (c != static_cast<index_t>(ids(t, 0)) && (best < 0 || key_of(value[c]) > key_of(value[best]))) best = c;
    return best;
  }
  /// f(s, expert) for all choices that have one, those of one expert by one lane and in their order.
  template <class Team, class F>
  GRAFT_FN void each_choice(Team const& tm, index_t k, choices const& of, F const& f) const {
    tm.vector(k, [&](index_t first) {
      index_t const e = of.expert[first];
      bool is_first = e >= 0;
      for (index_t s = 0; s < first; ++s) is_first = is_first && of.expert[s] != e;
      for (index_t s = first; s < k && is_first; ++s)
        if (of.expert[s] == e) f(s, e);
    });
  }
};

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// dlogits += the gradient of sum over weights * dweights, with the experts that were chosen held fixed.
///
/// Shapes       logits[T, E], ids[T, k], dweights[T, k] in; dlogits[T, E] in and out; a `gate_status` or `none`. Any strides, any
///              scalars; fp32, or fp64 when one is `double`.
/// Formula      of the `gate_rule` that the forward had. An id of -1 has no gradient. Scores are computed again.
/// Order        choices in their order, experts by the long axis. A row depends on its own.
/// Aliasing     dlogits may not overlap anything else.
/// Cost         E exponentials where the rule sums over all experts, else k.
/// Scratch      24 E + 132 bytes a team (40 E + 264 in fp64), and 4 T bytes where no status is given.
/// Errors       shape_error, argument_error; nothing is written then. data_error names the lowest token with an id outside
///              [-1, E); nothing is added to rows of such tokens, nor where a status says so.
struct gate_backward_fn {
  template <class E, class Z, class Ids, class DW, class DZ, class Report = none_t>
  void operator()(E const& ex, gate_rule const& rule, Z const& logits, Ids const& ids, DW const& dweights,
                  DZ const& dlogits, Report const& status = {}) const {
    GRAFT_MANDATE_EXECUTOR("kernels::gate_backward", E)
    GRAFT_MANDATE_INPUT("kernels::gate_backward", "logits", E, Z, 2)
    GRAFT_MANDATE_ID_VIEW("kernels::gate_backward", "ids", E, Ids, 2)
    GRAFT_MANDATE_INPUT("kernels::gate_backward", "dweights", E, DW, 2)
    GRAFT_MANDATE_OUTPUT("kernels::gate_backward", "dlogits", E, DZ, 2)
    if constexpr (graft::detail::accepted_input<E, Z, 2> && graft::detail::accepted_id_view<E, Ids, 2> &&
                  graft::detail::accepted_input<E, DW, 2> && graft::detail::accepted_output<E, DZ, 2>) {
      constexpr std::string_view verb = "kernels::gate_backward";
      using graft::detail::expects_disjoint;
      using graft::detail::expects_equal_extents;
      graft::detail::expects_rule(verb, rule, ids.extent(1), logits.extent(1));
      expects_equal_extents(verb, "ids", ids, 0, "logits", logits, 0);
      expects_equal_extents(verb, "dweights", dweights, 0, "logits", logits, 0);
      expects_equal_extents(verb, "dweights", dweights, 1, "ids", ids, 1);
      expects_equal_extents(verb, "dlogits", dlogits, 0, "logits", logits, 0);
      expects_equal_extents(verb, "dlogits", dlogits, 1, "logits", logits, 1);
      graft::detail::expects_data(verb, "logits", logits);
      graft::detail::expects_data(verb, "ids", ids);
      graft::detail::expects_data(verb, "dweights", dweights);
      graft::detail::expects_output(verb, "dlogits", dlogits);
      expects_disjoint(verb, "dlogits", dlogits, "logits", logits);
      expects_disjoint(verb, "dlogits", dlogits, "ids", ids);
      expects_disjoint(verb, "dlogits", dlogits, "dweights", dweights);
      using sums = accumulate_t<typename Z::value_type, typename DW::value_type, typename DZ::value_type>;
      using body = graft::detail::gate_backward_body<Z, Ids, DW, DZ, sums>;
      graft::detail::with_codes(ex, verb, status, logits.extent(0), true, [&](graft::detail::gate_codes const& codes) {
        ex.league(logits.extent(0), body::scratch(logits.extent(1)), body{rule, logits, ids, dweights, dlogits, codes});
      });
    }
  }
};
inline constexpr gate_backward_fn gate_backward{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
