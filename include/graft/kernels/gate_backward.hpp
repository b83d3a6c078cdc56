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
    auto* const value = tm.template scratch<Accumulate>(2 * n + 4);
    Accumulate* const gradient = value + n;
    Accumulate* const shared = gradient + n;  // the largest logit; is there a gradient; what all gradients lose
    tm.vector(n, [&](index_t e) {
      value[e] = logit(t, e);
      gradient[e] = Accumulate{0};
    });
    tm.barrier();
    tm.groups(1, [&](index_t) {
      tm.once([&] {
        shared[0] = look_at_row<Accumulate>(n, [&](index_t e) { return value[e]; }).largest;
        shared[1] = looks_right(t, n) && shared[0] > -std::numeric_limits<Accumulate>::infinity() ? Accumulate{1}
                                                                                                  : Accumulate{0};
      });
    });
    tm.barrier();
    if (shared[1] == Accumulate{0}) return;
    bool const dense = rule.sums_over_all() && !(rule.renormalize && rule.epsilon == 0.0);
    if (dense) {
      tm.vector(n, [&](index_t e) { value[e] = gate_exponential(rule, value[e], shared[0]); });
      tm.barrier();
    }
    tm.groups(1, [&](index_t) {
      Accumulate all[1] = {Accumulate{1}};
      if (dense)
        sum_long_axis(tm, n, [](index_t) { return Accumulate{1}; }, [&](int, index_t e) { return value[e]; }, all);
      tm.once([&] {
        shared[2] = of_choices(t, n, value, gradient, shared[0], dense, all[0]);
        shared[3] = all[0];
      });
    });
    tm.barrier();
    auto const rate = static_cast<Accumulate>(1.0 / rule.temperature);
    if (dense) tm.vector(n, [&](index_t e) { add(t, e, value[e] / shared[3] * rate, gradient[e] - shared[2]); });
  }
  static std::size_t scratch(index_t n) { return sizeof(Accumulate) * static_cast<std::size_t>(2 * n + 4); }

 private:
  [[nodiscard]] GRAFT_FN Accumulate logit(index_t t, index_t e) const {
    return tamed(rule, load_as<Accumulate>(logits(t, e)));
  }
  GRAFT_FN void add(index_t t, index_t e, Accumulate factor, Accumulate term) const {
    dlogits(t, e) = store_as<typename DZ::value_type>(std::fma(factor, term, load_as<Accumulate>(dlogits(t, e))));
  }
  [[nodiscard]] GRAFT_FN bool looks_right(index_t t, index_t n) const {
    bool right = true;
    bool any = false;
    for (index_t s = 0; s < ids.extent(1); ++s) {
      auto const e = static_cast<index_t>(ids(t, s));
      right = right && e >= -1 && e < n;
      any = any || e >= 0;
    }
    codes.set(t, right ? gate_fault::right : gate_fault::bad_id);
    return right && any;
  }
  /// The expert of choice s, or -1. A second expert that a token did not use took part in the sum: it is found again.
  [[nodiscard]] GRAFT_FN index_t expert(index_t t, index_t s, index_t n) const {
    auto const e = static_cast<index_t>(ids(t, s));
    if (e >= 0 || rule.second == second_expert::always || s != 1) return e;
    index_t best = -1;
    for (index_t c = 0; c < n; ++c)
      if (c != static_cast<index_t>(ids(t, 0)) && (best < 0 || key_of(logit(t, c)) > key_of(logit(t, best)))) best = c;
    return best;
  }

  /// Gradients of the scores of chosen experts, into gradient[E]; returns their sum with the scores. Where that is all (a sum
  /// over the chosen, or sigmoids) dlogits is written.
  GRAFT_FN Accumulate of_choices(index_t t, index_t n, Accumulate const* value, Accumulate* gradient,
                                 Accumulate largest, bool dense, Accumulate all) const {
    index_t const k = ids.extent(1);
    auto const scale = static_cast<Accumulate>(rule.scale);
    bool const sigmoid = rule.score == gate_score::sigmoid;
    auto const p = [&](index_t s) {
      index_t const e = expert(t, s, n);
      if (e < 0) return Accumulate{0};
      return sigmoid ? portable_sigmoid(value[e]) : dense ? value[e] / all : gate_exponential(rule, value[e], largest);
    };
    auto const g = [&](index_t s) {
      return ids(t, s) < 0 ? Accumulate{0} : scale * load_as<Accumulate>(dweights(t, s));
    };
    Accumulate divisor{1};
    Accumulate mean{0};  // g.q
    if (rule.renormalize) {
      divisor = choices_divisor<Accumulate>(rule, k, Accumulate{1}, p);
      if (divisor == Accumulate{0}) return Accumulate{0};
      for (index_t s = 0; s < k; ++s) mean = std::fma(g(s), p(s) / divisor, mean);
    }
    Accumulate lost{0};
    for (index_t s = 0; s < k; ++s) {
      index_t const e = expert(t, s, n);
      if (e < 0) continue;
      Accumulate const score = p(s);
      Accumulate const term = g(s) - mean;
      if (dense) {
        Accumulate const d = term / divisor;
        gradient[e] = gradient[e] + d;
        lost = std::fma(d, score, lost);
      } else if (sigmoid) {
        add(t, e, score / divisor * portable_sigmoid(-value[e]), term);
      } else {
        add(t, e, score / divisor * static_cast<Accumulate>(1.0 / rule.temperature), term);
      }
    }
    return lost;
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
/// Scratch      8 E bytes a team (16 in fp64), and 4 T bytes where no status is given.
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
