// SPDX-License-Identifier: Apache-2.0
/// @file
/// `low_rank_add`: the forward of every LoRA-like adapter, in one sweep.
#pragma once

#include <cstddef>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/expand_add.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/panels.hpp>
#include <graft/kernels/shrink.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Vectors that scale a low-rank product; `graft::none` is one of ones.
///
///     y = result (y + delta ((rank scale (x A^T)) B^T))       rank[r]  delta[m]  result[m], each along its columns
template <class Rank = none_t, class Delta = none_t, class Result = none_t>
struct low_rank_factors {
  [[no_unique_address]] Rank rank{};
  [[no_unique_address]] Delta delta{};
  [[no_unique_address]] Result result{};
};

namespace detail {
inline namespace GRAFT_TARGET {
template <class Accumulate, class F>
GRAFT_FN Accumulate scaled_rank(F const& f, index_t j, Accumulate v) {
  if constexpr (std::is_same_v<F, none_t>) return v;
  else return factor<Accumulate>(f, j) * v;
}

/// Generic body: one tile of rows, shrink into scratch, then expand.
template <class X, class A, class B, class Y, class F, class Accumulate>
struct low_rank_add_body {
  static constexpr std::string_view verb = "low_rank_add";
  X x;
  A a;
  B b;
  Y y;
  F factors;
  Accumulate scale;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    constexpr int R = Team::row_block;
    row_tile<R> const tile(tm.league_rank(), x.extent(0));
    index_t const r = a.extent(0);
    auto* const v = tm.template scratch<Accumulate>(numbers_of_dots(wide_team<Team>, R, r, x.extent(1)));
    if constexpr (wide_team<Team>) {
      dots_by_chunks(tm, x, tile, a, 0, r, v);
      tm.vector(R * r, [&](index_t i) { v[i] = scaled_rank(factors.rank, i / R, scale * v[i]); });
    } else
      tm.groups(r, [&](index_t j) {
        Accumulate sum[R];
        sum_long_axis(tm, x.extent(1), terms_of<Accumulate>(a, j), terms_of<Accumulate>(x, tile), sum);
        tm.once([&] {
          for (int t = 0; t < R; ++t) v[j * R + t] = scaled_rank(factors.rank, j, scale * sum[t]);
        });
      });
    tm.barrier();
    expand_tile<Accumulate>(tm, tile, 0, y.extent(1), tile_of_v<R, Accumulate>{v}, b, y, factors.delta, factors.result);
  }
};

/// The same for few rows, first league: a tile of rows and ranks and one chunk of the long axis a team, into
/// part[chunk][T][r].
template <class X, class A, class Accumulate>
struct low_rank_chunks_body {
  static constexpr std::string_view verb = "low_rank_add";
  static constexpr int most_lanes = group_threads * rank_tile;
  X x;
  A a;
  Accumulate* part;

  /// Groups of four threads, where a group is four.
  [[nodiscard]] constexpr index_t lanes() const {
    return group_threads * (a.extent(0) < rank_tile ? a.extent(0) : rank_tile);
  }
  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    constexpr int R = Team::row_block;
    index_t const r = a.extent(0);
    index_t const chunks = tiles(x.extent(1), kernels::chunk);
    index_t const place = quotient(tm.league_rank(), chunks);
    index_t const q = tm.league_rank() - place * chunks;
    grid_tile<R> const tile(place, x.extent(0), r, rank_tile);
    index_t const k0 = q * kernels::chunk;
    tm.groups(tile.count, [&](index_t i) {
      index_t const j = tile.first + i;
      Accumulate sum[R];
      tm.dot(k0, k0 + tile_extent(x.extent(1), k0, kernels::chunk), terms_of<Accumulate>(a, j),
             terms_of<Accumulate>(x, tile.rows), sum);
      tm.once([&] {
        each_row<R>(tile.rows.count, [&](int t) { part[(q * x.extent(0) + tile.rows.row[t]) * r + j] = sum[t]; });
      });
    });
  }
};

/// Second league: a tile of rows and columns a team. Every team adds the chunk sums that it needs itself.
template <class B, class Y, class F, class Accumulate>
struct low_rank_columns_body {
  static constexpr std::string_view verb = "low_rank_add";
  Accumulate const* part;
  index_t chunks;
  B b;
  Y y;
  F factors;
  Accumulate scale;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    constexpr int R = Team::row_block;
    index_t const r = b.extent(1);
    grid_tile<R> const tile(tm.league_rank(), y.extent(0), y.extent(1), column_tile);
    auto* const v = tm.template scratch<Accumulate>(R * r);
    tm.vector(R * r, [&](index_t i) {
      auto const [t, j] = place_in_scratch(i, r);
      Accumulate sum{0};
      for (index_t q = 0; q < chunks; ++q) {
        Accumulate const next = part[(q * y.extent(0) + tile.rows.row[t]) * r + j];
        sum = q == 0 ? next : sum + next;
      }
      v[j * R + t] = scaled_rank(factors.rank, j, scale * sum);
    });
    tm.barrier();
    expand_tile<Accumulate>(tm, tile.rows, tile.first, tile.count, tile_of_v<R, Accumulate>{v}, b, y, factors.delta,
                            factors.result);
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// y += scale (x A^T) B^T. With factors y = result (y + delta ((rank scale (x A^T)) B^T)).
///
/// Shapes       x[T, n], A[r, n], B[m, r] in; y[T, m] in and out; factors rank[r], delta[m], result[m] in, each optional.
///              Any strides, any scalars; B may be a `panels_view` (1.5 times faster for one row). Sums in fp32, or fp64 when
///              one argument is `double`.
/// Order        v = scale (x A^T) by the long axis, then times rank, kept unrounded in scratch; y by the short axis, starting
///              from y (see summation.hpp). With delta the sum starts from +0 and y = fma(delta, sum, y). 16-bit y is rounded
///              once, at the end. A row of y depends on its own rows of x and y only.
/// Aliasing     y may not overlap x, A, B or a factor; disjoint column ranges of one buffer are legal.
/// Precision    |error| <= eps ((n / 16 + 20) + r + 4) |result| (|y| + |delta| sum |scale x A rank B|) before the one rounding
///              to y's type.
/// Cost         2 T r (n + m) flops; r (n + m) + T n + T m elements read, T m written. Factors cost T (r + 2 m) flops and no
///              further pass over y.
/// Scratch      `low_rank_add.scratch_bytes(ex, x, A, B, y, scale, factors)` from the executor's resource; nothing else is
///              allocated.
/// Errors       shape_error, argument_error; nothing is written then.
/// Source       Hu et al. 2021, LoRA, eq. 3; factors: Kopiczko et al. 2023, VeRA, eq. 2; Liu et al. 2024, DoRA, eq. 5.
struct low_rank_add_fn {
  template <class E, class X, class A, class B, class Y, class F = low_rank_factors<>>
  static consteval bool mandates() {
    using Rank = decltype(F::rank);
    using Delta = decltype(F::delta);
    using Result = decltype(F::result);
    GRAFT_MANDATE_EXECUTOR("kernels::low_rank_add", E)
    GRAFT_MANDATE_INPUT("kernels::low_rank_add", "x", E, X, 2)
    GRAFT_MANDATE_INPUT("kernels::low_rank_add", "A", E, A, 2)
    GRAFT_MANDATE_INPUT("kernels::low_rank_add", "B", E, B, 2)
    GRAFT_MANDATE_OUTPUT("kernels::low_rank_add", "y", E, Y, 2)
    if constexpr (!std::is_same_v<Rank, none_t>) { GRAFT_MANDATE_INPUT("kernels::low_rank_add", "rank", E, Rank, 1) }
    if constexpr (!std::is_same_v<Delta, none_t>) { GRAFT_MANDATE_INPUT("kernels::low_rank_add", "delta", E, Delta, 1) }
    if constexpr (!std::is_same_v<Result, none_t>) {
      GRAFT_MANDATE_INPUT("kernels::low_rank_add", "result", E, Result, 1)
    }
    return graft::detail::accepted_input<E, X, 2> && graft::detail::accepted_input<E, A, 2> &&
           graft::detail::accepted_input<E, B, 2> && graft::detail::accepted_output<E, Y, 2> &&
           graft::detail::accepted_factor<E, Rank> && graft::detail::accepted_factor<E, Delta> &&
           graft::detail::accepted_factor<E, Result>;
  }
  /// Which body a call takes.
  template <class E, class X, class A, class B, class Y, class F = low_rank_factors<>>
  static constexpr body chosen = override_for<low_rank_add_fn, E, X, A, B, Y, F>::which;

  /// The readable body, on any executor.
  template <executor E, matrix_view X, matrix_view A, matrix_view B, output_matrix Y, class F = low_rank_factors<>>
  void generic(E const& ex, X const& x, A const& a, B const& b, Y const& y, scaling scale = 1.0,
               F const& factors = {}) const {
    using accumulate = sums<X, A, B, Y, F>;
    expects(x, a, b, y, factors);
    auto const s = static_cast<accumulate>(scale.value());
    leagues<accumulate> const cut(ex, x, a, y);
    if constexpr (graft::detail::says_teams_at_once<E> && graft::detail::has_resource<E>)  // others never cut columns
      if (cut.two) {
        graft::detail::call_scratch const memory(ex, cut.parts);
        auto* const part = reinterpret_cast<accumulate*>(memory.data());
        ex.league(cut.first, 0, graft::detail::low_rank_chunks_body<X, A, accumulate>{x, a, part});
        ex.league(cut.second, cut.team,
                  graft::detail::low_rank_columns_body<B, Y, F, accumulate>{part, cut.chunks, b, y, factors, s});
        return;
      }
    ex.league(cut.rows, cut.team, graft::detail::low_rank_add_body<X, A, B, Y, F, accumulate>{x, a, b, y, factors, s});
  }

  template <class E, class X, class A, class B, class Y, class F = low_rank_factors<>>
  void operator()(E const& ex, X const& x, A const& a, B const& b, Y const& y, scaling scale = 1.0,
                  F const& factors = {}) const {
    if constexpr (mandates<E, X, A, B, Y, F>()) {
      using chosen_body = override_for<low_rank_add_fn, E, X, A, B, Y, F>;
      if constexpr (chosen_body::which == body::generic) generic(ex, x, a, b, y, scale, factors);
      else {
        expects(x, a, b, y, factors);
        chosen_body::run(ex, x, a, b, y, scale, factors);
      }
    }
  }

  /// Bytes that a call with these arguments takes from the executor's resource, once. For the generic body: what a league
  /// takes (`league_scratch`; without it the bytes of one team), and between two leagues the dots of every chunk.
  template <executor E, matrix_view X, matrix_view A, matrix_view B, output_matrix Y, class F = low_rank_factors<>>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, X const& x, A const& a, B const& b, Y const& y,
                                          scaling scale = 1.0, F const& factors = {}) const {
    expects(x, a, b, y, factors);
    using chosen_body = override_for<low_rank_add_fn, E, X, A, B, Y, F>;
    if constexpr (chosen_body::which != body::generic)
      return chosen_body::scratch_bytes(ex, x, a, b, y, scale, factors);
    else {
      leagues<sums<X, A, B, Y, F>> const cut(ex, x, a, y);
      std::size_t bytes = cut.team;
      if constexpr (requires { ex.league_scratch(index_t{}, bytes); })
        bytes = ex.league_scratch(cut.two ? cut.second : cut.rows, bytes);
      return cut.two ? cut.parts + bytes : bytes;
    }
  }

 private:
  template <class X, class A, class B, class Y, class F>
  using sums =
      accumulate_t<typename X::value_type, typename A::value_type, typename B::value_type, typename Y::value_type,
                   graft::detail::value_or_float<decltype(F::rank)>, graft::detail::value_or_float<decltype(F::delta)>,
                   graft::detail::value_or_float<decltype(F::result)>>;

  /// How the generic body is cut. Two leagues where rows alone would leave teams idle; bits do not depend on it.
  template <class Accumulate>
  struct leagues {
    bool two = false;
    index_t rows = 0;       // one league: teams
    index_t chunks = 0;     // two:
    index_t first = 0;      // teams,
    index_t second = 0;     // and again
    std::size_t team = 0;   // bytes of a team
    std::size_t parts = 0;  // bytes: the dots of every chunk

    template <class E, class X, class A, class Y>
    leagues(E const& ex, X const& x, A const& a, Y const& y) {
      using graft::detail::tiles;
      index_t const r = a.extent(0);
      rows = tiles(x.extent(0), E::row_block);
      chunks = tiles(x.extent(1), chunk);
      first = rows * tiles(r, graft::detail::rank_tile) * chunks;
      second = rows * tiles(y.extent(1), graft::detail::column_tile);
      parts = sizeof(Accumulate) * static_cast<std::size_t>(chunks * x.extent(0) * r);
      two = rows < graft::detail::teams_at_once(ex) && rows < second && first > 0 &&
            graft::detail::has_call_scratch(ex, parts);
      team = sizeof(Accumulate) *
             static_cast<std::size_t>(
                 two ? E::row_block * r
                     : graft::detail::numbers_of_dots(graft::detail::has_wide_teams<E>, E::row_block, r, x.extent(1)));
    }
  };
  template <class X, class A, class B, class Y, class F>
  static void expects(X const& x, A const& a, B const& b, Y const& y, F const& factors) {
    constexpr std::string_view verb = "kernels::low_rank_add";
    graft::detail::expects_equal_extents(verb, "x", x, 1, "A", a, 1);
    graft::detail::expects_equal_extents(verb, "A", a, 0, "B", b, 1);
    graft::detail::expects_equal_extents(verb, "y", y, 0, "x", x, 0);
    graft::detail::expects_equal_extents(verb, "y", y, 1, "B", b, 0);
    graft::detail::expects_data(verb, "x", x);
    graft::detail::expects_data(verb, "A", a);
    graft::detail::expects_data(verb, "B", b);
    graft::detail::expects_output(verb, "y", y);
    graft::detail::expects_disjoint(verb, "y", y, "x", x);
    graft::detail::expects_disjoint(verb, "y", y, "A", a);
    graft::detail::expects_disjoint(verb, "y", y, "B", b);
    auto const factor = [&](std::string_view name, auto const& f, std::size_t i) {
      if constexpr (tensor<std::remove_cvref_t<decltype(f)>>) {
        graft::detail::expects_equal_extents(verb, name, f, 0, "B", b, i);
        graft::detail::expects_data(verb, name, f);
        graft::detail::expects_disjoint(verb, "y", y, name, f);
      }
    };
    factor("rank", factors.rank, 1);
    factor("delta", factors.delta, 0);
    factor("result", factors.result, 0);
  }
};
inline constexpr low_rank_add_fn low_rank_add{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT

// The host body belongs to the verb: whoever sees the verb sees it, whatever is included in which order.
#include <graft/kernels/host/low_rank_add.hpp>
