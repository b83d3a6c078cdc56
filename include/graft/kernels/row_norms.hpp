// SPDX-License-Identifier: Apache-2.0
/// @file
/// `row_norms`: the lengths of the rows of a weight with a low-rank update, which is never formed. What DoRA divides by.
#pragma once

#include <cmath>
#include <cstddef>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/low_rank_add.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/shrink.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {

inline namespace GRAFT_TARGET {

/// Generic body: a tile of rows; one group a rank, and one for |w|^2. Rows that the expansion cannot do are summed in fp64.
template <class W, class B, class A, class Base, class N, class Accumulate>
struct row_norms_body {
  static constexpr std::string_view verb = "row_norms";
  static constexpr bool has_update = !std::is_same_v<B, none_t>;
  W w;
  B b;
  A a;
  Base base;
  N norms;
  Accumulate scale;
  Accumulate const* gram;  // [r, r]

  [[nodiscard]] GRAFT_FN index_t rank() const {
    if constexpr (has_update) return a.extent(0);
    else return 0;
  }
  /// (W + s B A)(o, k) in fp64.
  [[nodiscard]] GRAFT_FN double exact(index_t o, index_t k) const {
    auto v = load_as<double>(w(o, k));
    if constexpr (has_update)
      for (index_t j = 0; j < rank(); ++j)
        v = std::fma(static_cast<double>(scale) * load_as<double>(b(o, j)), load_as<double>(a(j, k)), v);
    return v;
  }

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    constexpr int R = Team::row_block;
    row_tile<R> const tile(tm.league_rank(), w.extent(0));
    index_t const r = rank();
    index_t const n = w.extent(1);
    auto* const u = tm.template scratch<Accumulate>(R * (2 * r + 1));
    auto* const p = u + R * r;
    auto* const ww = p + R * r;  // |w|^2, then the norm, or -1
    tm.groups(r + 1, [&](index_t j) {
      if (j == r) {
        for (int t = 0; t < tile.count; ++t) {
          index_t const o = tile.row[t];
          Accumulate sum[1];
          if constexpr (std::is_same_v<Base, none_t>)
            sum_long_axis(tm, n, terms_of<Accumulate>(w, o), terms_of<Accumulate>(w, o), sum);
          else sum[0] = load_as<Accumulate>(base(o)) * load_as<Accumulate>(base(o));
          tm.once([&] { ww[t] = sum[0]; });
        }
        return;
      }
      if constexpr (has_update) {
        Accumulate dots[R];
        Accumulate products[R];
        sum_long_axis(tm, n, terms_of<Accumulate>(a, j), terms_of<Accumulate>(w, tile), dots);
        sum_long_axis(
            tm, r, [&](index_t i) { return gram[j * r + i]; },
            [&](int t, index_t i) { return load_as<Accumulate>(b(tile.row[t], i)); }, products);
        tm.once([&] {
          for (int t = 0; t < R; ++t) {
            u[t * r + j] = dots[t];
            p[t * r + j] = products[t];
          }
        });
      }
    });
    tm.barrier();
    tm.vector(tile.count, [&](index_t t) {
      index_t const o = tile.row[t];
      auto const square = expanded_norm(
          ww[t], u + t * r, p + t * r,
          [&](index_t j) {
            if constexpr (has_update) return load_as<Accumulate>(b(o, j));
            else return Accumulate{0};
          },
          [&](index_t j) { return std::sqrt(gram[j * r + j]); }, r, scale);
      ww[t] = square.sound ? std::sqrt(square.value) : Accumulate{-1};
      if (square.sound) norms(o) = store_as<typename N::value_type>(ww[t]);
    });
    tm.barrier();
    tm.groups(tile.count, [&](index_t t) {
      if (!(ww[t] < Accumulate{0})) return;
      index_t const o = tile.row[t];
      double sum[1];
      sum_long_axis(tm, n, [&](index_t k) { return exact(o, k); }, [&](int, index_t k) { return exact(o, k); }, sum);
      tm.once([&] { norms(o) = store_as<typename N::value_type>(std::sqrt(sum[0])); });
    });
  }
};

/// The type that this verb's sums are carried in.
template <class W, class B, class A, class Base, class N>
using norm_sums = accumulate_t<typename W::value_type, value_or_float<B>, value_or_float<A>, value_or_float<Base>,
                               typename N::value_type>;
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// norms[o] = || W[o, :] + scale (B A)[o, :] ||. Without B and A: the norms of W, which later calls may be given as `base_norms`.
///
/// Shapes       W[m, n], B[m, r], A[r, n] in; norms[m] out; base_norms[m] = || W[o, :] || in, optional. Any strides, any
///              scalars; sums in fp32, or fp64 when one is `double`.
/// Order        |w|^2 and u = A w by the long axis over n, G = A A^T too, p = G b by the long axis over r (see summation.hpp);
///              then over the ranks in order sum = fma(b_j, fma(s, p_j, u_j + u_j), sum), and |v|^2 = fma(s, sum, |w|^2). Where
///              |v|^2 is below a sixteenth of (|w| + |s| sum of |b_j| |a_j|)^2, below 2^-96 (2^-960) or not finite, the row is
///              summed again in fp64 by the long axis, each element an fma chain over the ranks from w. base_norms are squared
///              in place of the sum of |w|^2: their rounding shows.
/// Aliasing     norms may not overlap anything else.
/// Precision    relative error <= 8 (n / 16 + r / 16 + r + 45) eps of the type of the sums, and one rounding to the norms' type
///              (base_norms: 16 times their error more). Rows that are summed again: eps32, and in fp64 (n / 16 + r + 22) eps64
///              of || |w| + |s| |B| |A| ||, which shows where that is 10^6 times the norm. A row that is zero has the norm 0.
/// Determinism  equal bits on every executor, for every number of threads; a norm depends on its own rows of W and B only.
/// Cost         2 m n (r + 1) flops and r^2 (n + m) for the Gram matrix; W is read once. Rows that are summed again: 4 n r fp64
///              flops each.
/// Scratch      `row_norms.scratch_bytes(...)` of the same arguments, from the executor's resource.
/// Errors       shape_error, argument_error; nothing is written then.
struct row_norms_fn {
  template <class E, class W, class B, class A, class N, class Base>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::row_norms", E)
    GRAFT_MANDATE_INPUT("kernels::row_norms", "W", E, W, 2)
    if constexpr (!std::is_same_v<B, none_t>) {
      GRAFT_MANDATE_INPUT("kernels::row_norms", "B", E, B, 2)
      GRAFT_MANDATE_INPUT("kernels::row_norms", "A", E, A, 2)
    }
    if constexpr (!std::is_same_v<Base, none_t>) { GRAFT_MANDATE_INPUT("kernels::row_norms", "base_norms", E, Base, 1) }
    GRAFT_MANDATE_OUTPUT("kernels::row_norms", "norms", E, N, 1)
    return graft::detail::accepted_input<E, W, 2> &&
           (std::is_same_v<B, none_t> ||
            (graft::detail::accepted_input<E, B, 2> && graft::detail::accepted_input<E, A, 2>)) &&
           graft::detail::accepted_factor<E, Base> && graft::detail::accepted_output<E, N, 1>;
  }
  /// Which body a call takes.
  template <class E, class W, class B, class A, class N, class Base = none_t>
  static constexpr body chosen = override_for<row_norms_fn, E, W, B, A, Base, N>::which;

  /// The readable body, on any executor.
  template <executor E, class W, class B, class A, class N, class Base = none_t>
  void generic(E const& ex, W const& w, B const& b, A const& a, N const& norms, scaling scale = 1.0,
               Base const& base_norms = {}) const {
    using sums = graft::detail::norm_sums<W, B, A, Base, N>;
    expects(w, b, a, norms, base_norms);
    index_t const r = rank(a);
    graft::detail::call_scratch const memory(ex, gram_bytes<sums>(r));
    auto* const gram = reinterpret_cast<sums*>(memory.data());
    if constexpr (!std::is_same_v<A, none_t>)
      if (r > 0) shrink.generic(ex, a, a, view_in<typename W::space_type>(gram, r, r));
    ex.league(graft::detail::tiles(w.extent(0), E::row_block), team_bytes<E, sums>(r),
              graft::detail::row_norms_body<W, B, A, Base, N, sums>{w, b, a, base_norms, norms,
                                                                    static_cast<sums>(scale.value()), gram});
  }

  template <class E, class W, class B, class A, class N, class Base = none_t>
  void operator()(E const& ex, W const& w, B const& b, A const& a, N const& norms, scaling scale = 1.0,
                  Base const& base_norms = {}) const {
    if constexpr (mandates<E, W, B, A, N, Base>()) {
      using chosen_body = override_for<row_norms_fn, E, W, B, A, Base, N>;
      if constexpr (chosen_body::which == body::generic) generic(ex, w, b, a, norms, scale, base_norms);
      else {
        expects(w, b, a, norms, base_norms);
        chosen_body::run(ex, w, b, a, norms, scale, base_norms);
      }
    }
  }
  template <class E, class W, class N>
  void operator()(E const& ex, W const& w, N const& norms) const {
    (*this)(ex, w, none, none, norms);
  }

  /// Bytes that a call with these arguments takes from the executor's resource, at most at one time.
  template <executor E, class W, class B, class A, class N, class Base = none_t>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, W const& w, B const& b, A const& a, N const& norms,
                                          scaling scale = 1.0, Base const& base_norms = {}) const {
    expects(w, b, a, norms, base_norms);
    using chosen_body = override_for<row_norms_fn, E, W, B, A, Base, N>;
    if constexpr (chosen_body::which == body::host)
      return chosen_body::scratch_bytes(ex, w, b, a, norms, scale, base_norms);
    else {
      using sums = graft::detail::norm_sums<W, B, A, Base, N>;
      std::size_t bytes = team_bytes<E, sums>(rank(a));
      if constexpr (requires { ex.league_scratch(index_t{}, bytes); })
        bytes = ex.league_scratch(graft::detail::tiles(w.extent(0), E::row_block), bytes);
      return gram_bytes<sums>(rank(a)) + bytes;
    }
  }
  template <executor E, class W, class N>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, W const& w, N const& norms) const {
    return scratch_bytes(ex, w, none, none, norms);
  }

 private:
  template <class A>
  [[nodiscard]] static index_t rank(A const& a) {
    if constexpr (std::is_same_v<A, none_t>) return 0;
    else return a.extent(0);
  }
  template <class Sums>
  [[nodiscard]] static std::size_t gram_bytes(index_t r) {
    return graft::detail::scratch_block::rounded(sizeof(Sums) * static_cast<std::size_t>(r * r));
  }
  template <class E, class Sums>
  [[nodiscard]] static std::size_t team_bytes(index_t r) {
    return sizeof(Sums) * static_cast<std::size_t>(E::row_block * (2 * r + 1));
  }
  template <class W, class B, class A, class N, class Base>
  static void expects(W const& w, B const& b, A const& a, N const& norms, Base const& base_norms) {
    constexpr std::string_view verb = "kernels::row_norms";
    graft::detail::expects_equal_extents(verb, "norms", norms, 0, "W", w, 0);
    graft::detail::expects_data(verb, "W", w);
    graft::detail::expects_output(verb, "norms", norms);
    graft::detail::expects_disjoint(verb, "norms", norms, "W", w);
    if constexpr (!std::is_same_v<B, none_t>) {
      graft::detail::expects_equal_extents(verb, "B", b, 0, "W", w, 0);
      graft::detail::expects_equal_extents(verb, "A", a, 1, "W", w, 1);
      graft::detail::expects_equal_extents(verb, "A", a, 0, "B", b, 1);
      graft::detail::expects_data(verb, "B", b);
      graft::detail::expects_data(verb, "A", a);
      graft::detail::expects_disjoint(verb, "norms", norms, "B", b);
      graft::detail::expects_disjoint(verb, "norms", norms, "A", a);
    }
    if constexpr (!std::is_same_v<Base, none_t>) {
      graft::detail::expects_equal_extents(verb, "base_norms", base_norms, 0, "W", w, 0);
      graft::detail::expects_data(verb, "base_norms", base_norms);
      graft::detail::expects_disjoint(verb, "norms", norms, "base_norms", base_norms);
    }
  }
};
inline constexpr row_norms_fn row_norms{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT

// The host body belongs to the verb: whoever sees the verb sees it, whatever is included in which order.
#include <graft/kernels/host/row_norms.hpp>
