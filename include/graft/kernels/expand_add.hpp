// SPDX-License-Identifier: Apache-2.0
/// @file
/// `expand_add`: the narrow-to-wide half of a low-rank product. With transposed views also merge and the gradients.
#pragma once

#include <cmath>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {
/// Columns [first, first + count) of a tile of rows, one column a lane: y(t, o) += sum over j < r of v(t, j) b(o, j). With
/// factors y(t, o) = result(o) (y(t, o) + delta(o) sum), where delta makes the sum one from +0.
template <class Accumulate, class Team, class V, class B, class Y, class Delta = none_t, class Result = none_t>
GRAFT_FN void expand_tile(Team const& tm, row_tile<Team::row_block> const& rows, index_t first, index_t count,
                          V const& v, B const& b, Y const& y, Delta const& delta = {}, Result const& result = {}) {
  constexpr int R = Team::row_block;
  constexpr bool from_zero = !std::is_same_v<Delta, none_t>;
  tm.vector(count, [&](index_t i) {
    index_t const o = first + i;
    Accumulate sum[R];
    for (int t = 0; t < R; ++t) sum[t] = from_zero ? Accumulate{0} : load_as<Accumulate>(y(rows.row[t], o));
    chain_short_axis(b.extent(1), v, terms_of<Accumulate>(b, o), sum);
    each_row<R>(rows.count, [&](int t) {
      Accumulate value = sum[t];
      if constexpr (from_zero)
        value = std::fma(factor<Accumulate>(delta, o), value, load_as<Accumulate>(y(rows.row[t], o)));
      if constexpr (!std::is_same_v<Result, none_t>) value = factor<Accumulate>(result, o) * value;
      y(rows.row[t], o) = store_as<typename Y::value_type>(value);
    });
  });
}

/// v of a tile of rows, rank by rank: in a team's scratch it is read as one vector for each rank.
template <int R, class Accumulate>
struct tile_of_v {
  Accumulate const* data;
  GRAFT_FN Accumulate operator()(int t, index_t j) const { return data[j * R + t]; }
};

/// Generic body: a tile of rows and columns. Wide teams take v from scratch, when it is one chunk.
template <class V, class B, class Y, class Accumulate>
struct expand_add_body {
  static constexpr std::string_view verb = "expand_add";
  V v;
  B b;
  Y y;
  Accumulate scale;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    constexpr int R = Team::row_block;
    grid_tile<R> const tile(tm.league_rank(), v.extent(0), y.extent(1), column_tile);
    auto const scaled = [&](index_t t, index_t j) { return scale * load_as<Accumulate>(v(tile.rows.row[t], j)); };
    if constexpr (wide_team<Team>)
      if (index_t const r = v.extent(1); r <= kernels::chunk) {
        auto* const staged = tm.template scratch<Accumulate>(R * r);
        tm.vector(R * r, [&](index_t i) {
          auto const [t, j] = place_in_scratch(i, r);
          staged[j * R + t] = scaled(t, j);
        });
        tm.barrier();
        expand_tile<Accumulate>(tm, tile.rows, tile.first, tile.count, tile_of_v<R, Accumulate>{staged}, b, y);
        return;
      }
    expand_tile<Accumulate>(tm, tile.rows, tile.first, tile.count, scaled, b, y);
  }
  /// Bytes of scratch of a team.
  template <class E>
  [[nodiscard]] static constexpr std::size_t scratch(index_t r) {
    if (!has_wide_teams<E> || r > kernels::chunk) return 0;
    return sizeof(Accumulate) * static_cast<std::size_t>(E::row_block * r);
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// y += (scale v) B^T.
///
/// Shapes       v[T, r], B[m, r] in; y[T, m] in and out. Any strides, any scalars; sums in fp32, or fp64 when one is
///              `double`.
/// Order        short axis (see summation.hpp), starting from y; scale v is rounded once. 16-bit y is rounded once.
/// Aliasing     y may not overlap v or B.
/// Precision    |error| <= (min(r, 512) + r / 512 + 1) eps (|y| + sum |scale v B|) before the one rounding to y's type.
/// Cost         2 T r m flops; T r + m r + T m elements read, T m written.
/// Scratch      `expand_add.scratch_bytes(ex, v, B, y)` from the executor's resource; nothing else is allocated.
/// Errors       shape_error, argument_error; nothing is written then.
struct expand_add_fn {
  template <class E, class V, class B, class Y>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::expand_add", E)
    GRAFT_MANDATE_INPUT("kernels::expand_add", "v", E, V, 2)
    GRAFT_MANDATE_INPUT("kernels::expand_add", "B", E, B, 2)
    GRAFT_MANDATE_OUTPUT("kernels::expand_add", "y", E, Y, 2)
    return graft::detail::accepted_input<E, V, 2> && graft::detail::accepted_input<E, B, 2> &&
           graft::detail::accepted_output<E, Y, 2>;
  }
  /// Which body a call takes.
  template <class E, class V, class B, class Y>
  static constexpr body chosen = override_for<expand_add_fn, E, V, B, Y>::which;

  /// The readable body, on any executor.
  template <executor E, matrix_view V, matrix_view B, output_matrix Y>
  void generic(E const& ex, V const& v, B const& b, Y const& y, scaling scale = 1.0) const {
    using accumulate = accumulate_t<typename V::value_type, typename B::value_type, typename Y::value_type>;
    expects(v, b, y);
    using body = graft::detail::expand_add_body<V, B, Y, accumulate>;
    ex.league(teams<E>(v, y), body::template scratch<E>(v.extent(1)),
              body{v, b, y, static_cast<accumulate>(scale.value())});
  }

  template <class E, class V, class B, class Y>
  void operator()(E const& ex, V const& v, B const& b, Y const& y, scaling scale = 1.0) const {
    if constexpr (mandates<E, V, B, Y>()) {
      using chosen_body = override_for<expand_add_fn, E, V, B, Y>;
      if constexpr (chosen_body::which == body::generic) generic(ex, v, b, y, scale);
      else {
        expects(v, b, y);
        chosen_body::run(ex, v, b, y, scale);
      }
    }
  }

  /// Bytes that a call with these arguments takes from the executor's resource, once.
  template <executor E, matrix_view V, matrix_view B, output_matrix Y>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, V const& v, B const& b, Y const& y, scaling scale = 1.0) const {
    expects(v, b, y);
    using chosen_body = override_for<expand_add_fn, E, V, B, Y>;
    if constexpr (chosen_body::which == body::generic) {
      using accumulate = accumulate_t<typename V::value_type, typename B::value_type, typename Y::value_type>;
      using team_body = graft::detail::expand_add_body<V, B, Y, accumulate>;
      return graft::detail::league_bytes(ex, teams<E>(v, y), team_body::template scratch<E>(v.extent(1)));
    } else return chosen_body::scratch_bytes(ex, v, b, y, scale);
  }

 private:
  template <class E, class V, class Y>
  [[nodiscard]] static index_t teams(V const& v, Y const& y) {
    return graft::detail::tiles(v.extent(0), E::row_block) *
           graft::detail::tiles(y.extent(1), graft::detail::column_tile);
  }
  template <class V, class B, class Y>
  static void expects(V const& v, B const& b, Y const& y) {
    constexpr std::string_view verb = "kernels::expand_add";
    graft::detail::expects_equal_extents(verb, "v", v, 1, "B", b, 1);
    graft::detail::expects_equal_extents(verb, "y", y, 0, "v", v, 0);
    graft::detail::expects_equal_extents(verb, "y", y, 1, "B", b, 0);
    graft::detail::expects_data(verb, "v", v);
    graft::detail::expects_data(verb, "B", b);
    graft::detail::expects_output(verb, "y", y);
    graft::detail::expects_disjoint(verb, "y", y, "v", v);
    graft::detail::expects_disjoint(verb, "y", y, "B", b);
  }
};
inline constexpr expand_add_fn expand_add{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT

// The host body belongs to the verb: whoever sees the verb sees it, whatever is included in which order.
#include <graft/kernels/host/expand_add.hpp>
