// SPDX-License-Identifier: Apache-2.0
/// @file
/// `softmax`: each row's softmax, with a temperature, and the way back. The generic body is the body.
#pragma once

#include <cmath>
#include <cstddef>
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

/// Generic body: a row a team.
template <class Z, class P, class Accumulate>
struct softmax_body {
  static constexpr std::string_view verb = "softmax";
  Z logits;
  P p;
  gate_rule rule;
  gate_codes codes;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const t = tm.league_rank();
    index_t const n = logits.extent(1);
    auto* const value = tm.template scratch<Accumulate>(numbers(n));
    auto* const part = reinterpret_cast<row_look<Accumulate>*>(value + n);
    auto* const sum = reinterpret_cast<Accumulate*>(part + row_parts);
    tm.vector(n, [&](index_t e) { value[e] = load_as<Accumulate>(logits(t, e)); });
    tm.barrier();
    auto const value_of = [&](index_t e) { return value[e]; };
    auto const look = look_at_row(tm, n, value_of, part);
    Accumulate const largest =
        look.fault() == gate_fault::right ? look.largest : std::numeric_limits<Accumulate>::quiet_NaN();
    tm.vector(1, [&](index_t) { codes.set(t, look.fault()); });
    tm.barrier();
    tm.vector(n, [&](index_t e) { value[e] = gate_exponential(rule, value[e], largest); });
    tm.barrier();
    dot_by_group(tm, n, [](index_t) { return Accumulate{1}; }, value_of, sum);
    tm.vector(n, [&](index_t e) { p(t, e) = store_as<typename P::value_type>(value[e] / *sum); });
  }
  [[nodiscard]] index_t lanes() const { return logits.extent(1); }
  static std::size_t scratch(index_t n) { return sizeof(Accumulate) * static_cast<std::size_t>(numbers(n)); }

 private:
  [[nodiscard]] GRAFT_FN static constexpr index_t numbers(index_t n) { return n + looks_room + 1; }
};

/// Generic body: a row a team.
template <class P, class DP, class DZ, class Accumulate>
struct softmax_backward_body {
  static constexpr std::string_view verb = "softmax_backward";
  P p;
  DP dp;
  DZ dlogits;
  Accumulate rate;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const t = tm.league_rank();
    index_t const n = p.extent(1);
    auto* const mean = tm.template scratch<Accumulate>(1);
    dot_by_group(
        tm, n, [&](index_t e) { return load_as<Accumulate>(p(t, e)); },
        [&](index_t e) { return load_as<Accumulate>(dp(t, e)); }, mean);
    tm.vector(n, [&](index_t e) {
      Accumulate const term = load_as<Accumulate>(dp(t, e)) - *mean;
      dlogits(t, e) = store_as<typename DZ::value_type>(
          std::fma(load_as<Accumulate>(p(t, e)) * rate, term, load_as<Accumulate>(dlogits(t, e))));
    });
  }
  [[nodiscard]] index_t lanes() const { return p.extent(1); }
};

inline void expects_temperature(std::string_view verb, double temperature) {
  if (!is_temperature(temperature)) [[unlikely]]
    raise(argument_error(
        text("graft::", verb, ": the temperature is ", temperature, "; it must be from 2^-126 to 2^126")));
}

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// p[t, e] = e^(z[t, e] / temperature) / sum over e of the same.
///
/// Shapes       logits[T, E] in; p[T, E] out; a `gate_status` or `none`. Any strides, any scalars; fp32, or fp64 when one is double.
/// Order        the sum by the long axis, of exponentials of what the largest logit leaves. A row depends on its own.
/// Aliasing     p may not overlap the logits.
/// Precision    (E / 16 + 24) eps of each p, and one rounding.
/// Cost         T E exponentials. Scratch: 4 E + 132 bytes a team (8 E + 264 in fp64), and 4 T bytes where no status is given.
/// Errors       shape_error, argument_error; nothing is written then. data_error names the lowest token with a NaN, +inf or only
///              -inf among its logits, after the sweep; rows of such tokens are NaN. -inf has p = 0.
struct softmax_fn {
  template <class E, class Z, class P, class Report = none_t>
  void operator()(E const& ex, Z const& logits, P const& p, double temperature = 1.0, Report const& status = {}) const {
    GRAFT_MANDATE_EXECUTOR("kernels::softmax", E)
    GRAFT_MANDATE_INPUT("kernels::softmax", "logits", E, Z, 2)
    GRAFT_MANDATE_OUTPUT("kernels::softmax", "p", E, P, 2)
    if constexpr (graft::detail::accepted_input<E, Z, 2> && graft::detail::accepted_output<E, P, 2>) {
      constexpr std::string_view verb = "kernels::softmax";
      graft::detail::expects_temperature(verb, temperature);
      graft::detail::expects_equal_extents(verb, "p", p, 0, "logits", logits, 0);
      graft::detail::expects_equal_extents(verb, "p", p, 1, "logits", logits, 1);
      graft::detail::expects_data(verb, "logits", logits);
      graft::detail::expects_output(verb, "p", p);
      graft::detail::expects_disjoint(verb, "p", p, "logits", logits);
      if (logits.size() == 0) return;
      using sums = accumulate_t<typename Z::value_type, typename P::value_type>;
      gate_rule rule{};
      rule.temperature = temperature;
      graft::detail::with_codes(ex, verb, status, logits.extent(0), true, [&](graft::detail::gate_codes const& codes) {
        using body = graft::detail::softmax_body<Z, P, sums>;
        ex.league(logits.extent(0), body::scratch(logits.extent(1)), body{logits, p, rule, codes});
      });
    }
  }
};
inline constexpr softmax_fn softmax{};

/// dlogits += p (dp - sum over e of p dp) / temperature.
///
/// Shapes       p[T, E], dp[T, E] in; dlogits[T, E] in and out. Any strides, any scalars; fp32, or fp64 when one is `double`.
/// Order        the sum by the long axis. A row depends on its own.
/// Aliasing     dlogits may not overlap p or dp.
/// Cost         4 T E flops.
/// Errors       shape_error, argument_error; nothing is written then.
struct softmax_backward_fn {
  template <class E, class P, class DP, class DZ>
  void operator()(E const& ex, P const& p, DP const& dp, DZ const& dlogits, double temperature = 1.0) const {
    GRAFT_MANDATE_EXECUTOR("kernels::softmax_backward", E)
    GRAFT_MANDATE_INPUT("kernels::softmax_backward", "p", E, P, 2)
    GRAFT_MANDATE_INPUT("kernels::softmax_backward", "dp", E, DP, 2)
    GRAFT_MANDATE_OUTPUT("kernels::softmax_backward", "dlogits", E, DZ, 2)
    if constexpr (graft::detail::accepted_input<E, P, 2> && graft::detail::accepted_input<E, DP, 2> &&
                  graft::detail::accepted_output<E, DZ, 2>) {
      constexpr std::string_view verb = "kernels::softmax_backward";
      graft::detail::expects_temperature(verb, temperature);
      for (std::size_t const i : {std::size_t{0}, std::size_t{1}}) {
        graft::detail::expects_equal_extents(verb, "dp", dp, i, "p", p, i);
        graft::detail::expects_equal_extents(verb, "dlogits", dlogits, i, "p", p, i);
      }
      graft::detail::expects_data(verb, "p", p);
      graft::detail::expects_data(verb, "dp", dp);
      graft::detail::expects_output(verb, "dlogits", dlogits);
      graft::detail::expects_disjoint(verb, "dlogits", dlogits, "p", p);
      graft::detail::expects_disjoint(verb, "dlogits", dlogits, "dp", dp);
      if (p.size() == 0) return;
      using sums = accumulate_t<typename P::value_type, typename DP::value_type, typename DZ::value_type>;
      ex.league(
          p.extent(0), sizeof(sums),
          graft::detail::softmax_backward_body<P, DP, DZ, sums>{p, dp, dlogits, static_cast<sums>(1.0 / temperature)});
    }
  }
};
inline constexpr softmax_backward_fn softmax_backward{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
