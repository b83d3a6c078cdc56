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
#include <graft/kernels/override.hpp>
#include <graft/kernels/rotation.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {
/// Generic body: a row a team, its features twice in scratch; every factor reads one copy and writes the other.
template <class X, class R, class Y, class Accumulate, bool Transposed, bool Add>
struct rotate_body {
  static constexpr std::string_view verb = "rotate_blocks";
  X x;
  R r;
  Y y;
  index_t first;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const t = tm.league_rank();
    index_t const n = x.extent(1);
    index_t const factors = r.extent(0);
    index_t const b = r.extent(2);
    auto* from = tm.template scratch<Accumulate>(2 * n);
    auto* to = from + n;
    tm.vector(n, [&](index_t j) { from[j] = load_as<Accumulate>(x(t, j)); });
    tm.barrier();
    for (index_t step = 0; step < factors; ++step) {
      index_t const f = Transposed ? step : factors - 1 - step;
      tm.vector(n, [&](index_t e) {
        index_t const k = e / b;
        index_t const j = e % b;
        Accumulate sum[1] = {Accumulate{0}};
        chain_short_axis(
            b, [&](int, index_t i) { return from[kernels::block_feature(first + f, b, k, i)]; },
            [&](index_t i) { return load_as<Accumulate>(Transposed ? r(f, k, j, i) : r(f, k, i, j)); }, sum);
        to[kernels::block_feature(first + f, b, k, j)] = sum[0];
      });
      tm.barrier();
      auto* const last = from;
      from = to;
      to = last;
    }
    tm.vector(n, [&](index_t j) {
      y(t, j) = store_as<typename Y::value_type>(Add ? load_as<Accumulate>(y(t, j)) + from[j] : from[j]);
    });
  }
};

/// Generic body: a block a team, its b x b elements over the lanes, each a chain over the rows.
template <class X, class G, class D, class Accumulate>
struct rotate_gradient_body {
  static constexpr std::string_view verb = "rotate_blocks_gradient";
  X x;
  G g;
  D d;
  index_t factor;
  index_t shared;  // blocks that one block of d stands for

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const b = d.extent(1);
    index_t const k0 = tm.league_rank() * shared;
    tm.vector(b * b, [&](index_t e) {
      index_t const i = e / b;
      index_t const j = e % b;
      Accumulate sum[1] = {load_as<Accumulate>(d(tm.league_rank(), i, j))};
      for (index_t k = k0; k < k0 + shared; ++k) {
        index_t const from = kernels::block_feature(factor, b, k, i);
        index_t const to = kernels::block_feature(factor, b, k, j);
        chain_short_axis(
            x.extent(0), [&](int, index_t t) { return load_as<Accumulate>(x(t, from)); },
            [&](index_t t) { return load_as<Accumulate>(g(t, to)); }, sum);
      }
      d(tm.league_rank(), i, j) = store_as<typename D::value_type>(sum[0]);
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
    using sums = sums_of<X, R, Y>;
    ex.league(x.extent(0), team_bytes<sums>(x),
              graft::detail::rotate_body<X, R, Y, sums, Transposed, Add>{x, r, y, first});
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
    else if constexpr (requires { ex.league_scratch(index_t{}, std::size_t{}); })
      return ex.league_scratch(x.extent(0), team_bytes<sums_of<X, R, Y>>(x));
    else return 0;
  }

 private:
  template <class X, class R, class Y>
  using sums_of = accumulate_t<typename X::value_type, typename R::value_type, typename Y::value_type>;
  template <class Sums, class X>
  [[nodiscard]] static std::size_t team_bytes(X const& x) {
    return 2 * sizeof(Sums) * static_cast<std::size_t>(x.extent(1));
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
      ex.league(dr.extent(0), 0,
                graft::detail::rotate_gradient_body<X, G, D, sums>{x, g, dr, factor, blocks / dr.extent(0)});
    }
  }
};
inline constexpr rotate_blocks_gradient_fn rotate_blocks_gradient{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT

// The host body belongs to the verb: whoever sees the verb sees it, whatever is included in which order.
#include <graft/kernels/host/rotate_blocks.hpp>
