// SPDX-License-Identifier: Apache-2.0
/// @file
/// Sums over tokens of what a router's logits say, losses of these sums, and gradients. graft/routing/losses.hpp has the losses by
/// their names. No [T, E] temporaries: rows are read once more for the gradient.
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
#include <graft/kernels/expert_sums.hpp>
#include <graft/kernels/fill.hpp>
#include <graft/kernels/gate.hpp>
#include <graft/kernels/gate_rule.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Which loss: E sum of f P with f = choices / tokens (Switch, GShard, transformers) or choices / all choices (MoLA) and P the mean
/// softmax; or the mean of the squared log of the sum of exponentials.
enum class router_loss : std::uint8_t { choices_per_token, choices_per_choice, squared_log_sum };

namespace detail {
inline namespace GRAFT_TARGET {

template <class Accumulate>
GRAFT_FN Accumulate log_sum(Accumulate largest, Accumulate sum) {
  return static_cast<Accumulate>(static_cast<double>(largest) + portable_log(static_cast<double>(sum)));
}

/// Rows that a team has in its scratch at once.
inline constexpr index_t rows_at_once = 16;

/// Generic body: 512 tokens a team, in order: part[team, E + 2] = sum of softmax, tokens, sum of squared logs. Several rows at once
/// become exponentials below their largest; then a lane adds those of its expert, row after row.
template <class Z, class M, class Accumulate>
struct router_sums_body {
  static constexpr std::string_view verb = "router_sums";
  Z logits;
  M mask;
  bool logs;
  Accumulate* part;
  gate_codes codes;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const n = logits.extent(1);
    index_t const begin = tm.league_rank() * kernels::chunk;
    index_t const end = begin + tile_extent(logits.extent(0), begin, kernels::chunk);
    auto* const value = tm.template scratch<Accumulate>(numbers(n));
    Accumulate* const largest = value + rows_at_once * n;  // of each row
    Accumulate* const sum = largest + rows_at_once;        // of each row; its log where logs are added
    Accumulate* const counted = sum + rows_at_once;        // 1, or 0 for rows that are left out
    auto* const look = reinterpret_cast<row_look<Accumulate>*>(counted + rows_at_once);
    Accumulate* const mine = part + tm.league_rank() * (n + 2);
    for (index_t first = begin; first < end; first += rows_at_once) {
      index_t const rows = tile_extent(end, first, rows_at_once);
      for (index_t r = 0; r < rows; ++r)
        tm.vector(n, [&](index_t e) { value[r * n + e] = load_as<Accumulate>(logits(first + r, e)); });
      tm.barrier();
      look_at_rows(tm, rows, n, value, look, [&](index_t r, row_look<Accumulate> const& of_row) {
        bool const is_counted = counts_token(mask, first + r);
        bool const right = of_row.fault() == gate_fault::right;
        if (is_counted && !right) codes.set(first + r, of_row.fault());
        largest[r] = of_row.largest;
        counted[r] = is_counted && right ? Accumulate{1} : Accumulate{0};
      });
      tm.barrier();
      for (index_t r = 0; r < rows; ++r)
        if (counted[r] != Accumulate{0})
          tm.vector(n, [&](index_t e) { value[r * n + e] = portable_exp(value[r * n + e] - largest[r]); });
      tm.barrier();
      tm.groups(rows, [&](index_t r) {
        if (counted[r] == Accumulate{0}) return;
        Accumulate all[1];
        sum_long_axis(
            tm, n, [](index_t) { return Accumulate{1}; }, [&](int, index_t e) { return value[r * n + e]; }, all);
        tm.once([&] { sum[r] = logs ? log_sum(largest[r], all[0]) : all[0]; });
      });
      tm.barrier();
      tm.vector(n + 2, [&](index_t c) {
        Accumulate total = first == begin ? Accumulate{0} : mine[c];
        for (index_t r = 0; r < rows; ++r) {
          if (counted[r] == Accumulate{0}) continue;
          if (c == n) total = total + Accumulate{1};
          else if (c < n && !logs) total = total + value[r * n + c] / sum[r];
          else if (c > n && logs) total = std::fma(sum[r], sum[r], total);
        }
        mine[c] = total;
      });
      tm.barrier();
    }
  }
  [[nodiscard]] index_t lanes() const { return logits.extent(1) < 64 ? 64 : logits.extent(1); }
  static std::size_t scratch(index_t n) { return sizeof(Accumulate) * static_cast<std::size_t>(numbers(n)); }

 private:
  [[nodiscard]] GRAFT_FN static constexpr index_t numbers(index_t n) { return rows_at_once * (n + 3 + looks_room); }

  /// found(r, look) for the rows of value[rows, n], each by one lane. `part` holds row_parts looks a row.
  template <class Team, class F>
  GRAFT_FN static void look_at_rows(Team const& tm, index_t rows, index_t n, Accumulate const* value,
                                    row_look<Accumulate>* part, F const& found) {
    if constexpr (wide_team<Team>) {
      tm.vector(rows * row_parts, [&](index_t i) {
        Accumulate const* const row = value + i / row_parts * n;
        part[i] = look_at_row<Accumulate>(n, [&](index_t e) { return row[e]; }, i % row_parts, row_parts);
      });
      tm.barrier();
      tm.vector(rows, [&](index_t r) { found(r, look_at_parts(part + r * row_parts)); });
    } else
      tm.vector(rows,
                [&](index_t r) { found(r, look_at_row<Accumulate>(n, [&](index_t e) { return value[r * n + e]; })); });
  }
};

/// f(e): what multiplies P in the loss, without the factor E.
template <class Accumulate, class C>
GRAFT_FN Accumulate choice_share(router_loss kind, C const& counts, Accumulate tokens, index_t e) {
  if (kind == router_loss::choices_per_token) return load_as<Accumulate>(counts(e)) / tokens;
  Accumulate all{0};
  for (index_t i = 0; i < counts.extent(0); ++i) all = all + load_as<Accumulate>(counts(i));
  return all == Accumulate{0} ? Accumulate{0} : load_as<Accumulate>(counts(e)) / all;
}

/// One team: share[e] = f(e), loss[0] += weight E sum of f P.
template <class C, class S, class F, class L, class Accumulate>
struct router_loss_body {
  static constexpr std::string_view verb = "router_loss";
  router_loss kind;
  C counts;
  S sums;
  F share;
  L loss;
  Accumulate weight;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const n = sums.extent(0) - 2;
    auto const sum_at = [&](index_t i) { return load_as<Accumulate>(sums(i)); };
    Accumulate const tokens = sum_at(n);
    if (tokens == Accumulate{0}) return;
    if (kind == router_loss::squared_log_sum) {
      tm.groups(1, [&](index_t) { tm.once([&] { add(sum_at(n + 1) / tokens); }); });
      return;
    }
    tm.vector(n, [&](index_t e) { share[e] = choice_share<Accumulate>(kind, counts, tokens, e); });
    tm.barrier();
    tm.groups(1, [&](index_t) {
      Accumulate sum[1];
      sum_long_axis(
          tm, n, [&](index_t e) { return share[e]; }, [&](int, index_t e) { return sum_at(e) / tokens; }, sum);
      tm.once([&] { add(static_cast<Accumulate>(n) * sum[0]); });
    });
  }

 private:
  GRAFT_FN void add(Accumulate value) const {
    if constexpr (!std::is_same_v<L, none_t>)
      loss(0) = store_as<typename L::value_type>(std::fma(weight, value, load_as<Accumulate>(loss(0))));
  }
};

/// Generic body: a row a team. dz += weight E / tokens p (f - p.f), or weight 2 / tokens log_sum p.
template <class Z, class M, class S, class DZ, class Accumulate>
struct router_loss_backward_body {
  static constexpr std::string_view verb = "router_loss_backward";
  router_loss kind;
  Z logits;
  M mask;
  S sums;
  Accumulate const* share;
  DZ dlogits;
  Accumulate weight;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const t = tm.league_rank();
    index_t const n = logits.extent(1);
    auto* const value = tm.template scratch<Accumulate>(numbers(n));
    auto* const part = reinterpret_cast<row_look<Accumulate>*>(value + n);
    auto* const shared = reinterpret_cast<Accumulate*>(part + row_parts);  // the sum of exponentials; of their shares
    Accumulate const tokens = load_as<Accumulate>(sums(n));
    if (tokens == Accumulate{0} || !counts_token(mask, t)) return;
    tm.vector(n, [&](index_t e) { value[e] = load_as<Accumulate>(logits(t, e)); });
    tm.barrier();
    auto const look = look_at_row(tm, n, [&](index_t e) { return value[e]; }, part);
    if (look.fault() != gate_fault::right) return;
    tm.barrier();
    tm.vector(n, [&](index_t e) { value[e] = portable_exp(value[e] - look.largest); });
    tm.barrier();
    bool const logs = kind == router_loss::squared_log_sum;
    tm.groups(1, [&](index_t) {
      Accumulate all[1];
      sum_long_axis(tm, n, [](index_t) { return Accumulate{1}; }, [&](int, index_t e) { return value[e]; }, all);
      Accumulate of_shares[1] = {Accumulate{0}};
      if (!logs)
        sum_long_axis(
            tm, n, [&](index_t e) { return share[e]; }, [&](int, index_t e) { return value[e] / all[0]; }, of_shares);
      tm.once([&] {
        shared[0] = all[0];
        shared[1] = logs ? log_sum(look.largest, all[0]) : of_shares[0];
      });
    });
    tm.barrier();
    Accumulate const factor = (logs ? Accumulate{2} : static_cast<Accumulate>(n)) * weight / tokens;
    tm.vector(n, [&](index_t e) {
      Accumulate const term = logs ? shared[1] : share[e] - shared[1];
      dlogits(t, e) = store_as<typename DZ::value_type>(
          std::fma(value[e] / shared[0] * factor, term, load_as<Accumulate>(dlogits(t, e))));
    });
  }
  [[nodiscard]] index_t lanes() const { return logits.extent(1); }
  static std::size_t scratch(index_t n) { return sizeof(Accumulate) * static_cast<std::size_t>(numbers(n)); }

 private:
  [[nodiscard]] GRAFT_FN static constexpr index_t numbers(index_t n) { return n + looks_room + 2; }
};

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// loss[0] += weight * the loss, dlogits += weight * its gradient, over tokens whose mask is not 0. The choices carry none.
///
/// Shapes       logits[T, E], ids[T, k] (not read for squared_log_sum; may be `none` then), mask[T] or `none` in; loss[1],
///              dlogits[T, E] in and out, or `none`. Any strides, any scalars; fp32, or fp64 when one is `double`.
/// Order        experts by the long axis; tokens in order per 512, then these sums in order. No token counted: nothing is added.
/// Aliasing     loss and dlogits may not overlap anything else.
/// Cost         T E exponentials, and as many for the gradient. Scratch: 2 E + 2 numbers for 512 tokens, 3 E + 2, and 4 T bytes;
///              16 (E + 35) numbers a team.
/// Errors       shape_error, argument_error; nothing is written then. data_error names the lowest token with a NaN, +inf or only
///              -inf among its logits, or an id outside [-1, E): after the sums, before loss and dlogits are written. Devices write their fault_record,
///              and add what is left of such tokens.
struct router_losses_fn {
  template <class E, class Z, class Ids, class M, class L, class DZ>
  void operator()(E const& ex, router_loss kind, Z const& logits, Ids const& ids, M const& mask, scaling weight,
                  L const& loss, DZ const& dlogits) const {
    GRAFT_MANDATE_EXECUTOR("kernels::router_losses", E)
    GRAFT_MANDATE_INPUT("kernels::router_losses", "logits", E, Z, 2)
    if constexpr (!std::is_same_v<Ids, none_t>) { GRAFT_MANDATE_ID_VIEW("kernels::router_losses", "ids", E, Ids, 2) }
    if constexpr (!std::is_same_v<L, none_t>) { GRAFT_MANDATE_OUTPUT("kernels::router_losses", "loss", E, L, 1) }
    if constexpr (!std::is_same_v<DZ, none_t>) { GRAFT_MANDATE_OUTPUT("kernels::router_losses", "dlogits", E, DZ, 2) }
    if constexpr (graft::detail::accepted_input<E, Z, 2> &&
                  (std::is_same_v<Ids, none_t> || graft::detail::accepted_id_view<E, Ids, 2>) &&
                  (std::is_same_v<L, none_t> || graft::detail::accepted_output<E, L, 1>) &&
                  (std::is_same_v<DZ, none_t> || graft::detail::accepted_output<E, DZ, 2>)) {
      expects(kind, logits, ids, mask, weight, loss, dlogits);
      using sums =
          accumulate_t<typename Z::value_type, graft::detail::value_or_float<L>, graft::detail::value_or_float<DZ>>;
      run<sums>(ex, kind, logits, ids, mask, static_cast<sums>(weight.value()), loss, dlogits);
    }
  }

 private:
  static constexpr std::string_view verb = "kernels::router_losses";

  template <class Z, class Ids, class M, class L, class DZ>
  static void expects(router_loss kind, Z const& logits, Ids const& ids, M const& mask, scaling weight, L const& loss,
                      DZ const& dlogits) {
    using graft::detail::expects_disjoint;
    using graft::detail::text;
    if (!std::isfinite(weight.value())) [[unlikely]]
      graft::detail::raise(
          argument_error(text("graft::", verb, ": the weight is ", weight.value(), "; it must be finite")));
    graft::detail::expects_data(verb, "logits", logits);
    graft::detail::expects_mask(verb, mask, logits.extent(0));
    if constexpr (!std::is_same_v<Ids, none_t>) {
      graft::detail::expects_equal_extents(verb, "ids", ids, 0, "logits", logits, 0);
      graft::detail::expects_data(verb, "ids", ids);
    } else if (kind != router_loss::squared_log_sum) [[unlikely]]
      graft::detail::raise(argument_error(text("graft::", verb, ": this loss counts choices and needs ids[T, k]")));
    if constexpr (!std::is_same_v<L, none_t>) {
      if (loss.extent(0) != 1) [[unlikely]]
        graft::detail::raise(
            shape_error(text("graft::", verb, ": loss", graft::detail::shape_text(loss), " must have one element")));
      graft::detail::expects_output(verb, "loss", loss);
      expects_disjoint(verb, "loss", loss, "logits", logits);
    }
    if constexpr (!std::is_same_v<DZ, none_t>) {
      graft::detail::expects_equal_extents(verb, "dlogits", dlogits, 0, "logits", logits, 0);
      graft::detail::expects_equal_extents(verb, "dlogits", dlogits, 1, "logits", logits, 1);
      graft::detail::expects_output(verb, "dlogits", dlogits);
      expects_disjoint(verb, "dlogits", dlogits, "logits", logits);
      if constexpr (!std::is_same_v<Ids, none_t>) expects_disjoint(verb, "dlogits", dlogits, "ids", ids);
      if constexpr (!std::is_same_v<L, none_t>) expects_disjoint(verb, "dlogits", dlogits, "loss", loss);
    }
  }

  template <class Sums, class E, class Z, class Ids, class M, class L, class DZ>
  static void run(E const& ex, router_loss kind, Z const& logits, Ids const& ids, M const& mask, Sums weight,
                  L const& loss, DZ const& dlogits) {
    using graft::detail::gate_codes;
    if constexpr (!graft::detail::works_on_host<E>) graft::detail::expects_fault_record(ex, verb);
    index_t const T = logits.extent(0);
    index_t const n = logits.extent(1);
    index_t const parts = graft::detail::tiles(T, chunk);
    bool const logs = kind == router_loss::squared_log_sum;
    // counts[E], sums[E + 2], share[E], parts
    index_t const each = graft::detail::checked_sum(3 * n, 2, verb);
    graft::detail::call_scratch const memory(
        ex, sizeof(Sums) * static_cast<std::size_t>(
                               each + graft::detail::checked_product(parts, 2 * n + 2, "kernels::router_losses")));
    auto* const all = reinterpret_cast<Sums*>(memory.data());
    using space = typename E::space_type;
    fill(ex, 0.0, view_in<space>(all, 1, each));
    auto const counts = view_in<space>(all, n);
    auto const sums = view_in<space>(all + n, n + 2);
    Sums* const share = all + 2 * n + 2;
    Sums* const part = all + each;
    graft::detail::with_own_codes(ex, verb, T, true, [&](gate_codes const& codes) {
      using sums_body = graft::detail::router_sums_body<Z, M, Sums>;
      ex.league(parts, sums_body::scratch(n), sums_body{logits, mask, logs, part, codes});
      add_parts<Sums>(ex, part, parts, sums);
      if constexpr (!std::is_same_v<Ids, none_t>)
        if (!logs) {
          Sums* const chosen = part + parts * (n + 2);
          using counts_body = graft::detail::expert_sums_body<Ids, none_t, M, Sums>;
          ex.league(parts, counts_body::scratch(ids.extent(1)), counts_body{ids, none, mask, n, chosen, codes});
          add_parts<Sums>(ex, chosen, parts, counts);
        }
    });
    ex.league(
        1, 0,
        graft::detail::router_loss_body<std::remove_const_t<decltype(counts)>, std::remove_const_t<decltype(sums)>,
                                        Sums*, L, Sums>{kind, counts, sums, share, loss, weight});
    if constexpr (!std::is_same_v<DZ, none_t>) {
      using body = graft::detail::router_loss_backward_body<Z, M, std::remove_const_t<decltype(sums)>, DZ, Sums>;
      ex.league(T, body::scratch(n), body{kind, logits, mask, sums, share, dlogits, weight});
    }
  }
  template <class Sums, class E, class V>
  static void add_parts(E const& ex, Sums const* part, index_t parts, V const& total) {
    ex.league(graft::detail::tiles(total.extent(0), graft::detail::column_tile), 0,
              graft::detail::add_parts_body<V, Sums>{part, parts, total});
  }
};
inline constexpr router_losses_fn router_losses{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
