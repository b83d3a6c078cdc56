// SPDX-License-Identifier: Apache-2.0
/// @file
/// `shrink`: the wide-to-narrow half of a low-rank product. With transposed views also u = dy B of every backward.
#pragma once

#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {
/// Chunks of `count` ranks whose dots the groups of a wide team take side by side: enough for sixty-four groups.
[[nodiscard]] GRAFT_FN constexpr index_t chunks_at_once(index_t count, index_t n) {
  index_t const wanted = count < 64 ? 64 / (count < 1 ? 1 : count) : 1;
  index_t const chunks = tiles(n, kernels::chunk);
  return wanted < chunks ? wanted : chunks;
}
/// Numbers of scratch of `dots_by_chunks` for `rows` rows, or where teams are not wide of the sums alone.
[[nodiscard]] GRAFT_FN constexpr index_t numbers_of_dots(bool wide, index_t rows, index_t count, index_t n) {
  return rows * count * (wide ? 1 + chunks_at_once(count, n) : 1);
}
/// sums[i, t] = x(row t, :) . a(first + i, :) for i < count, as `sum_long_axis` gives them, by more groups than there are ranks. A
/// barrier must follow before another lane reads.
template <class Accumulate, class Team, class X, int R, class A>
GRAFT_FN void dots_by_chunks(Team const& tm, X const& x, row_tile<R> const& rows, A const& a, index_t first,
                             index_t count, Accumulate* sums) {
  index_t const n = x.extent(1);
  index_t const step = chunks_at_once(count, n);
  auto* const part = sums + R * count;  // [step, count, R]
  tm.vector(R * count, [&](index_t i) { sums[i] = Accumulate{0}; });
  for (index_t q0 = 0; q0 * kernels::chunk < n; q0 += step) {
    index_t const some = tile_extent(tiles(n, kernels::chunk), q0, step);
    tm.groups(count * some, [&](index_t i) {
      auto const [q, j] = place_in_scratch(i, count);
      index_t const k0 = (q0 + q) * kernels::chunk;
      Accumulate dot[R];
      tm.dot(k0, k0 + tile_extent(n, k0, kernels::chunk), terms_of<Accumulate>(a, first + j),
             terms_of<Accumulate>(x, rows), dot);
      tm.once([&] {
        for (int t = 0; t < R; ++t) part[(q * count + j) * R + t] = dot[t];
      });
    });
    tm.barrier();
    tm.vector(R * count, [&](index_t i) {
      Accumulate sum = sums[i];
      for (index_t q = 0; q < some; ++q) sum = q0 + q == 0 ? part[i] : sum + part[q * R * count + i];
      sums[i] = sum;
    });
    tm.barrier();
  }
}

/// Generic body: a tile of rows and ranks, one rank a group.
template <class X, class A, class V, class Accumulate>
struct shrink_body {
  static constexpr std::string_view verb = "shrink";
  X x;
  A a;
  V v;
  Accumulate scale;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    constexpr int R = Team::row_block;
    grid_tile<R> const tile(tm.league_rank(), x.extent(0), a.extent(0), rank_tile);
    if constexpr (wide_team<Team>) {
      auto* const sums = tm.template scratch<Accumulate>(numbers_of_dots(true, R, tile.count, x.extent(1)));
      dots_by_chunks(tm, x, tile.rows, a, tile.first, tile.count, sums);
      tm.vector(R * tile.count, [&](index_t i) {
        index_t const t = i % R;
        if (t < tile.rows.count)
          v(tile.rows.row[t], tile.first + i / R) = store_as<typename V::value_type>(scale * sums[i]);
      });
      return;
    }
    tm.groups(tile.count, [&](index_t i) {
      index_t const j = tile.first + i;
      Accumulate sum[R];
      sum_long_axis(tm, x.extent(1), terms_of<Accumulate>(a, j), terms_of<Accumulate>(x, tile.rows), sum);
      tm.once([&] {
        each_row<R>(tile.rows.count,
                    [&](int t) { v(tile.rows.row[t], j) = store_as<typename V::value_type>(scale * sum[t]); });
      });
    });
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// v = scale x A^T.
///
/// Shapes       x[T, n], A[r, n] in; v[T, r] out. Any strides, any scalars; sums in fp32, or fp64 when one is `double`.
/// Order        long axis (see summation.hpp). A row of v depends on its own row of x only.
/// Aliasing     v may not overlap x or A.
/// Precision    |error| <= (n / 16 + 20) eps sum |x A| before the one rounding to v's type. n = 0 gives zeros.
/// Cost         2 T n r flops; T n + n r elements read, T r written.
/// Scratch      `shrink.scratch_bytes(ex, x, A, v)` from the executor's resource; nothing else is allocated.
/// Errors       shape_error, argument_error; nothing is written then.
struct shrink_fn {
  template <class E, class X, class A, class V>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::shrink", E)
    GRAFT_MANDATE_INPUT("kernels::shrink", "x", E, X, 2)
    GRAFT_MANDATE_INPUT("kernels::shrink", "A", E, A, 2)
    GRAFT_MANDATE_OUTPUT("kernels::shrink", "v", E, V, 2)
    return graft::detail::accepted_input<E, X, 2> && graft::detail::accepted_input<E, A, 2> &&
           graft::detail::accepted_output<E, V, 2>;
  }
  /// Which body a call takes.
  template <class E, class X, class A, class V>
  static constexpr body chosen = override_for<shrink_fn, E, X, A, V>::which;

  /// The readable body, on any executor.
  template <executor E, matrix_view X, matrix_view A, output_matrix V>
  void generic(E const& ex, X const& x, A const& a, V const& v, scaling scale = 1.0) const {
    using accumulate = accumulate_t<typename X::value_type, typename A::value_type, typename V::value_type>;
    expects(x, a, v);
    ex.league(teams<E>(x, a), team_bytes<E, accumulate>(x, a),
              graft::detail::shrink_body<X, A, V, accumulate>{x, a, v, static_cast<accumulate>(scale.value())});
  }

  template <class E, class X, class A, class V>
  void operator()(E const& ex, X const& x, A const& a, V const& v, scaling scale = 1.0) const {
    if constexpr (mandates<E, X, A, V>()) {
      using chosen_body = override_for<shrink_fn, E, X, A, V>;
      if constexpr (chosen_body::which == body::generic) generic(ex, x, a, v, scale);
      else {
        expects(x, a, v);
        chosen_body::run(ex, x, a, v, scale);
      }
    }
  }

  /// Bytes that a call with these arguments takes from the executor's resource, once.
  template <executor E, matrix_view X, matrix_view A, output_matrix V>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, X const& x, A const& a, V const& v, scaling scale = 1.0) const {
    expects(x, a, v);
    using chosen_body = override_for<shrink_fn, E, X, A, V>;
    if constexpr (chosen_body::which == body::generic) {
      using accumulate = accumulate_t<typename X::value_type, typename A::value_type, typename V::value_type>;
      return graft::detail::league_bytes(ex, teams<E>(x, a), team_bytes<E, accumulate>(x, a));
    } else return chosen_body::scratch_bytes(ex, x, a, v, scale);
  }

 private:
  template <class E, class X, class A>
  [[nodiscard]] static index_t teams(X const& x, A const& a) {
    return graft::detail::tiles(x.extent(0), E::row_block) *
           graft::detail::tiles(a.extent(0), graft::detail::rank_tile);
  }
  template <class E, class Accumulate, class X, class A>
  [[nodiscard]] static std::size_t team_bytes(X const& x, A const& a) {
    if constexpr (!graft::detail::has_wide_teams<E>) return 0;
    using graft::detail::rank_tile;
    index_t const count = a.extent(0) < rank_tile ? a.extent(0) : rank_tile;
    return sizeof(Accumulate) *
           static_cast<std::size_t>(graft::detail::numbers_of_dots(true, E::row_block, count, x.extent(1)));
  }
  template <class X, class A, class V>
  static void expects(X const& x, A const& a, V const& v) {
    constexpr std::string_view verb = "kernels::shrink";
    graft::detail::expects_equal_extents(verb, "x", x, 1, "A", a, 1);
    graft::detail::expects_equal_extents(verb, "v", v, 0, "x", x, 0);
    graft::detail::expects_equal_extents(verb, "v", v, 1, "A", a, 0);
    graft::detail::expects_data(verb, "x", x);
    graft::detail::expects_data(verb, "A", a);
    graft::detail::expects_output(verb, "v", v);
    graft::detail::expects_disjoint(verb, "v", v, "x", x);
    graft::detail::expects_disjoint(verb, "v", v, "A", a);
  }
};
inline constexpr shrink_fn shrink{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT

// The host body belongs to the verb: whoever sees the verb sees it, whatever is included in which order.
#include <graft/kernels/host/shrink.hpp>
