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
    using graft::detail::tiles;
    ex.league(tiles(x.extent(0), E::row_block) * tiles(a.extent(0), graft::detail::rank_tile), 0,
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
    if constexpr (chosen_body::which == body::generic) return 0;
    else return chosen_body::scratch_bytes(ex, x, a, v, scale);
  }

 private:
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
