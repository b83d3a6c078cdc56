// SPDX-License-Identifier: Apache-2.0
/// @file
/// `rotate_blocks`: rows times a butterfly-orthogonal matrix, block by block; nothing is permuted or formed but by addressing.
/// What BOFT and OFT do to activations and to weights. `rotate_blocks_gradient`: the gradient of one factor's blocks.
#pragma once

#include <cstddef>
#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/elements.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/rotation.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {
/// Features that a team of `rotate_body` takes where they turn within themselves, and rows in blocks of the executor's.
inline constexpr index_t rotated_features = 256;
inline constexpr int rotated_tiles = 2;

/// Features of a team: factors `first` and on turn groups of them within themselves, of which it takes what fits.
template <class R>
[[nodiscard]] index_t rotated_span(R const& r, index_t first) {
  index_t const b = r.extent(2);
  index_t const n = r.extent(1) * b;
  index_t const group = b << (first + r.extent(0) - 1);
  index_t const span = group < rotated_features ? rotated_features / group * group : group;
  return span < n ? span : n;
}

/// A feature of all rows of a tile, side by side.
template <class Accumulate, int Rows>
struct alignas(16) feature_of_rows {
  Accumulate row[Rows];
};

/// Generic body: a tile of rows and a span of features a team, twice in scratch; a factor reads one copy and writes the
/// other.
template <class X, class R, class Y, class Accumulate, bool Transposed, bool Add>
struct rotate_body {
  static constexpr std::string_view verb = "rotate_blocks";
  static constexpr bool unbounded_scratch = true;
  X x;
  R r;
  Y y;
  index_t first;
  index_t span;

  template <int RowBlock>
  using feature = feature_of_rows<Accumulate, rotated_tiles * RowBlock>;
  [[nodiscard]] GRAFT_FN constexpr index_t lanes() const { return span; }

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    constexpr int rows = rotated_tiles * Team::row_block;
    grid_tile<rows> const tile(tm.league_rank(), x.extent(0), x.extent(1), span);
    index_t const factors = r.extent(0);
    index_t const b = r.extent(2);
    auto* from = tm.template scratch<feature<Team::row_block>>(2 * span);
    auto* to = from + span;
    tm.vector(tile.count, [&](index_t j) {
      Accumulate element[rows];
      for (int t = 0; t < rows; ++t) element[t] = load_as<Accumulate>(x(tile.rows.row[t], tile.first + j));
      for (int t = 0; t < rows; ++t) from[j].row[t] = element[t];
    });
    tm.barrier();
    for (index_t step = 0; step < factors; ++step) {
      index_t const f = Transposed ? step : factors - 1 - step;
      index_t const apart = first + f == 0 ? 0 : (b / 2 << (first + f)) - b / 2;  // between the halves of a block
      tm.vector(tile.count, [&](index_t e) {
        index_t const k = e / b;
        index_t const j = e % b;
        index_t const start = kernels::block_feature(first + f, b, k, 0);
        auto const place = [&](index_t i) { return start + i + (i < b / 2 ? 0 : apart); };
        index_t const block = tile.first / b + k;
        Accumulate sum[rows] = {};
        chain_short_axis(
            b, [&](int t, index_t i) { return from[place(i)].row[t]; },
            [&](index_t i) { return load_as<Accumulate>(Transposed ? r(f, block, j, i) : r(f, block, i, j)); }, sum);
        for (int t = 0; t < rows; ++t) to[place(j)].row[t] = sum[t];
      });
      tm.barrier();
      auto* const last = from;
      from = to;
      to = last;
    }
    pass_over_rows(
        tm, tile.rows, 0, tile.count,
        [&](index_t i, index_t j) {
          Accumulate const turned = from[j].row[i - tile.rows.row.first];
          return Add ? load_as<Accumulate>(y(i, tile.first + j)) + turned : turned;
        },
        [&](index_t i, index_t j, Accumulate element) { store_element(y, i, tile.first + j, element); });
  }
};

/// Generic body: `blocks` blocks a team, their b x b elements over the lanes, each a chain over the rows.
template <class X, class G, class D, class Accumulate>
struct rotate_gradient_body {
  static constexpr std::string_view verb = "rotate_blocks_gradient";
  X x;
  G g;
  D d;
  index_t factor;
  index_t shared;  // blocks that one block of d stands for
  index_t blocks;

  [[nodiscard]] GRAFT_FN constexpr index_t lanes() const { return blocks * d.extent(1) * d.extent(1); }

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const b = d.extent(1);
    index_t const first = tm.league_rank() * blocks;
    tm.vector(tile_extent(d.extent(0), first, blocks) * b * b, [&](index_t e) {
      index_t const i = e / b % b;
      index_t const j = e % b;
      index_t const block = first + e / b / b;
      Accumulate sum[1] = {load_as<Accumulate>(d(block, i, j))};
      for (index_t k = block * shared; k < (block + 1) * shared; ++k) {
        index_t const from = kernels::block_feature(factor, b, k, i);
        index_t const to = kernels::block_feature(factor, b, k, j);
        chain_short_axis(
            x.extent(0), [&](int, index_t t) { return load_as<Accumulate>(x(t, from)); },
            [&](index_t t) { return load_as<Accumulate>(g(t, to)); }, sum);
      }
      d(block, i, j) = store_as<typename D::value_type>(sum[0]);
    });
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// rotate_blocks: y = x B_{N-1} ... B_1 B_0. rotate_blocks_back: y = x (B_{N-1} ... B_0)^T. rotate_blocks_back_add: the same,
/// added to y. The blocks of R[N, D, b, b] are those of the factors (see rotation.hpp); they need not be orthogonal. Blocks that
/// are shared are a view whose second stride is 0. `first`: the number of the first factor of R, when it is a part of them.
///
/// Shapes       x[T, n], R[N, D, b, b] with D b = n in; y[T, n] out (in and out for _add). Any strides, any scalars. More than
///              one factor needs an even b and D a multiple of 2^(N - 1).
/// Order        short axis over the b elements of a block, from +0, factor after factor (see summation.hpp). A row of y depends
///              on its own row of x only.
/// Aliasing     y may be x itself, but for _add; else it may not overlap x or R.
/// Precision    between factors nothing is rounded to storage. |error| <= N b eps |x| |B_{N-1}| ... |B_0| before the one rounding.
/// Cost         2 T N n b flops; T n elements read and written, N n b read.
/// Scratch      `scratch_bytes(...)` of the same arguments, from the executor's resource.
/// Errors       shape_error, argument_error; nothing is written then.
template <bool Transposed, bool Add>
struct rotate_blocks_fn {
  template <class E, class X, class R, class Y>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::rotate_blocks", E)
    GRAFT_MANDATE_INPUT("kernels::rotate_blocks", "x", E, X, 2)
    GRAFT_MANDATE_INPUT("kernels::rotate_blocks", "R", E, R, 4)
    GRAFT_MANDATE_OUTPUT("kernels::rotate_blocks", "y", E, Y, 2)
    return graft::detail::accepted_input<E, X, 2> && graft::detail::accepted_input<E, R, 4> &&
           graft::detail::accepted_output<E, Y, 2>;
  }
  /// Which body a call takes.
  template <class E, class X, class R, class Y>
  static constexpr body chosen = override_for<rotate_blocks_fn, E, X, R, Y>::which;

  /// The readable body, on any executor.
  template <executor E, matrix_view X, class R, output_matrix Y>
  void generic(E const& ex, X const& x, R const& r, Y const& y, index_t first = 0) const {
    expects(x, r, y, first);
    if (x.size() == 0) return;
    index_t const span = graft::detail::rotated_span(r, first);
    ex.league(teams<E>(x, span), team_bytes<E, X, R, Y>(span), body_of<X, R, Y>{x, r, y, first, span});
  }
  template <class E, class X, class R, class Y>
  void operator()(E const& ex, X const& x, R const& r, Y const& y, index_t first = 0) const {
    if constexpr (mandates<E, X, R, Y>()) {
      using chosen_body = override_for<rotate_blocks_fn, E, X, R, Y>;
      if constexpr (chosen_body::which == body::generic) generic(ex, x, r, y, first);
      else {
        expects(x, r, y, first);
        chosen_body::run(ex, x, r, y, first);
      }
    }
  }
  /// Bytes that a call with these arguments takes from the executor's resource.
  template <executor E, matrix_view X, class R, output_matrix Y>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, X const& x, R const& r, Y const& y, index_t first = 0) const {
    expects(x, r, y, first);
    using chosen_body = override_for<rotate_blocks_fn, E, X, R, Y>;
    if constexpr (chosen_body::which == body::host) return chosen_body::scratch_bytes(ex, x, r, y, first);
    else {
      if (x.size() == 0) return 0;
      index_t const span = graft::detail::rotated_span(r, first);
      return graft::detail::league_bytes(ex, teams<E>(x, span), team_bytes<E, X, R, Y>(span));
    }
  }

 private:
  template <class X, class R, class Y>
  using body_of = graft::detail::rotate_body<
      X, R, Y, accumulate_t<typename X::value_type, typename R::value_type, typename Y::value_type>, Transposed, Add>;
  template <class E, class X>
  [[nodiscard]] static index_t teams(X const& x, index_t span) {
    return graft::detail::tiles(x.extent(0), graft::detail::rotated_tiles * E::row_block) *
           graft::detail::tiles(x.extent(1), span);
  }
  template <class E, class X, class R, class Y>
  [[nodiscard]] static std::size_t team_bytes(index_t span) {
    return 2 * sizeof(typename body_of<X, R, Y>::template feature<E::row_block>) * static_cast<std::size_t>(span);
  }
  template <class X, class R, class Y>
  static void expects(X const& x, R const& r, Y const& y, index_t first) {
    constexpr std::string_view verb = Add          ? "kernels::rotate_blocks_back_add"
                                      : Transposed ? "kernels::rotate_blocks_back"
                                                   : "kernels::rotate_blocks";
    graft::detail::expects_equal_extents(verb, "y", y, 0, "x", x, 0);
    graft::detail::expects_equal_extents(verb, "y", y, 1, "x", x, 1);
    graft::detail::expects_rotation(verb, r, "x", x, first);
    graft::detail::expects_data(verb, "x", x);
    graft::detail::expects_output(verb, "y", y);
    if (Add || !graft::detail::is_same_view(x, y)) graft::detail::expects_disjoint(verb, "y", y, "x", x);
    graft::detail::expects_disjoint(verb, "y", y, "R", r);
  }
};
inline constexpr rotate_blocks_fn<false, false> rotate_blocks{};
inline constexpr rotate_blocks_fn<true, false> rotate_blocks_back{};
inline constexpr rotate_blocks_fn<true, true> rotate_blocks_back_add{};

/// dR_k[i, j] += sum over t of x[t, i-th feature of block k] g[t, j-th feature]: the gradient of the blocks of factor `factor`,
/// where x went into that factor and g is the gradient of what came out. Where dR has one block for all, their sum.
///
/// Shapes       x[T, n], g[T, n] in; dR[D, b, b] or [1, b, b] in and out, D b = n. Any strides, any scalars.
/// Order        short axis over the tokens, from dR; of a shared block one block after another.
/// Aliasing     dR may not overlap x or g.
/// Precision    |error| <= (T + 1) eps (|dR| + |x|^T |g|) (shared: D T) before the one rounding.
/// Cost         2 T n b flops; T n elements of each read.
/// Errors       shape_error, argument_error; nothing is written then.
struct rotate_blocks_gradient_fn {
  template <class E, class X, class G, class D>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::rotate_blocks_gradient", E)
    GRAFT_MANDATE_INPUT("kernels::rotate_blocks_gradient", "x", E, X, 2)
    GRAFT_MANDATE_INPUT("kernels::rotate_blocks_gradient", "g", E, G, 2)
    GRAFT_MANDATE_OUTPUT("kernels::rotate_blocks_gradient", "dR", E, D, 3)
    return graft::detail::accepted_input<E, X, 2> && graft::detail::accepted_input<E, G, 2> &&
           graft::detail::accepted_output<E, D, 3>;
  }
  template <class E, class X, class G, class D>
  void operator()(E const& ex, X const& x, G const& g, index_t factor, D const& dr) const {
    if constexpr (mandates<E, X, G, D>()) {
      constexpr std::string_view verb = "kernels::rotate_blocks_gradient";
      using sums = accumulate_t<typename X::value_type, typename G::value_type, typename D::value_type>;
      graft::detail::expects_equal_extents(verb, "g", g, 0, "x", x, 0);
      graft::detail::expects_equal_extents(verb, "g", g, 1, "x", x, 1);
      graft::detail::expects_equal_extents(verb, "dR", dr, 1, "dR", dr, 2);
      index_t const b = dr.extent(1);
      index_t const blocks = b == 0 ? 0 : x.extent(1) / b;
      bool const fits =
          b == 0
              ? x.extent(1) == 0
              : blocks * b == x.extent(1) && (dr.extent(0) == blocks || dr.extent(0) == 1) &&
                    (factor == 0 || (factor > 0 && factor < 48 && b % 2 == 0 && blocks % (index_t{1} << factor) == 0));
      if (!fits) [[unlikely]]
        graft::detail::raise(shape_error(graft::detail::text(
            "graft::", verb, ": the blocks of dR", graft::detail::shape_text(dr), " do not cover the ", x.extent(1),
            " features of x", graft::detail::shape_text(x), " in factor ", factor)));
      graft::detail::expects_data(verb, "x", x);
      graft::detail::expects_data(verb, "g", g);
      graft::detail::expects_output(verb, "dR", dr);
      graft::detail::expects_disjoint(verb, "dR", dr, "x", x);
      graft::detail::expects_disjoint(verb, "dR", dr, "g", g);
      if (dr.size() == 0) return;
      index_t const of_team = b * b < graft::detail::column_tile ? graft::detail::column_tile / (b * b) : 1;
      ex.league(graft::detail::tiles(dr.extent(0), of_team), 0,
                graft::detail::rotate_gradient_body<X, G, D, sums>{x, g, dr, factor, blocks / dr.extent(0), of_team});
    }
  }
};
inline constexpr rotate_blocks_gradient_fn rotate_blocks_gradient{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT

// The host body belongs to the verb: whoever sees the verb sees it, whatever is included in which order.
#include <graft/kernels/host/rotate_blocks.hpp>
