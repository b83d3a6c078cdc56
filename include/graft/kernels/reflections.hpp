// SPDX-License-Identifier: Apache-2.0
/// @file
/// Products of Householder reflections in compact form: H = H_0 H_1 ... H_{r-1} = I - V S V^T with H_i = I - 2 v_i v_i^T and S
/// upper triangular (Schreiber and Van Loan 1989). What HRA turns by. One team: r is small and this happens once a step.
///
/// The columns v_i of V are those of u[n, r], normalized (then S^-1 = I / 2 + the strict upper triangle of V^T V), or made
/// orthonormal one after another by Gram and Schmidt (then S = 2 I). V is stored by rows: vectors[r, n].
#pragma once

#include <cmath>
#include <cstddef>
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
/// m(i, j) = a_i . b_j for all pairs, by groups.
template <class Team, class A, class B>
GRAFT_FN void dots_of_rows(Team const& tm, index_t r, index_t n, A const& a, B const& b, double* m) {
  tm.groups(r * r, [&](index_t e) {
    double sum[1];
    sum_long_axis(tm, n, [&](index_t k) { return a(e / r, k); }, [&](int, index_t k) { return b(e % r, k); }, sum);
    tm.once([&] { m[e] = sum[0]; });
  });
  tm.barrier();
}
/// S of unit vectors whose products are m, by columns: S(:, k) = -2 S m(:, k) above the diagonal, which is 2. Or 2 I.
template <class Team>
GRAFT_FN void compact_form(Team const& tm, index_t r, bool orthonormal, double const* m, double* s) {
  tm.vector(r * r, [&](index_t e) { s[e] = e / r == e % r ? 2.0 : 0.0; });
  tm.barrier();
  if (orthonormal) return;
  for (index_t k = 1; k < r; ++k) {
    tm.vector(k, [&](index_t i) {
      double sum = 0.0;
      for (index_t j = i; j < k; ++j) sum = std::fma(s[i * r + j], m[j * r + k], sum);
      s[i * r + k] = -2.0 * sum;
    });
    tm.barrier();
  }
}

template <class U, class V>
struct unit_vectors_body {
  static constexpr std::string_view verb = "unit_vectors";
  U u;
  V v;
  bool orthonormal;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    using value = typename V::value_type;
    index_t const n = u.extent(0);
    auto* const number = tm.template scratch<double>(1);
    auto const element = [&](index_t i) { return [this, i](index_t k) { return load_as<double>(v(i, k)); }; };
    for (index_t i = 0; i < u.extent(1); ++i) {
      tm.vector(n, [&](index_t k) { v(i, k) = store_as<value>(load_as<double>(u(k, i))); });
      tm.barrier();
      for (index_t j = 0; orthonormal && j < i; ++j) {
        dot_by_group(tm, n, element(j), element(i), number);
        double const along = -*number;
        tm.vector(n, [&](index_t k) {
          v(i, k) = store_as<value>(std::fma(along, load_as<double>(v(j, k)), load_as<double>(v(i, k))));
        });
        tm.barrier();
      }
      dot_by_group(tm, n, element(i), element(i), number);
      double const length = std::sqrt(*number);
      tm.vector(n, [&](index_t k) { v(i, k) = store_as<value>(load_as<double>(v(i, k)) / length); });
      tm.barrier();
    }
  }
};

/// out[n, r] = V S, or V S^T.
template <class V, class O, bool Transposed>
struct spread_vectors_body {
  static constexpr std::string_view verb = "spread_vectors";
  static constexpr bool unbounded_scratch = true;
  V v;
  O out;
  bool orthonormal;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const r = v.extent(0);
    index_t const n = v.extent(1);
    auto* const m = tm.template scratch<double>(2 * r * r);
    auto* const s = m + r * r;
    auto const element = [&](index_t i, index_t k) { return load_as<double>(v(i, k)); };
    if (!orthonormal) dots_of_rows(tm, r, n, element, element, m);
    compact_form(tm, r, orthonormal, m, s);
    tm.vector(n * r, [&](index_t e) {
      index_t const k = e / r;
      index_t const j = e % r;
      double sum = 0.0;
      for (index_t i = 0; i < r; ++i) sum = std::fma(element(i, k), Transposed ? s[j * r + i] : s[i * r + j], sum);
      out(k, j) = store_as<typename O::value_type>(sum);
    });
  }
};

/// With gx = (g V)^T x, xg = (x V)^T g, p = (g V)^T (x V): dV = -(S^T-combinations of gx and xg), and what S brings of V; then
/// through the normalization or Gram and Schmidt to du. gx becomes dV.
template <class U, class V, class G, class D>
struct reflection_gradient_body {
  static constexpr std::string_view verb = "reflection_gradient";
  static constexpr bool unbounded_scratch = true;
  U u;
  V v;
  G gx;
  G xg;
  G p;
  D du;
  bool orthonormal;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    using value = typename G::value_type;
    index_t const r = v.extent(0);
    index_t const n = v.extent(1);
    auto* const m = tm.template scratch<double>(5 * r * r);
    auto* const s = m + r * r;
    auto* const c = s + r * r;
    auto* const w = c + r * r;
    auto* const l = w + r * r;
    auto const unit = [&](index_t i, index_t k) { return load_as<double>(v(i, k)); };
    auto const grown = [&](index_t i, index_t k) { return load_as<double>(gx(i, k)); };
    auto const given = [&](index_t i, index_t k) { return load_as<double>(u(k, i)); };
    dots_of_rows(tm, r, n, unit, unit, m);
    compact_form(tm, r, orthonormal, m, s);
    // c: what the products of the vectors get, both triangles of S^T p S^T's upper one.
    tm.vector(r * r, [&](index_t e) {
      double sum = 0.0;
      for (index_t j = 0; j < r; ++j) sum = std::fma(s[j * r + e / r], load_as<double>(p(j, e % r)), sum);
      w[e] = sum;
    });
    tm.barrier();
    tm.vector(r * r, [&](index_t e) {
      index_t const i = e / r < e % r ? e / r : e % r;
      index_t const j = e / r < e % r ? e % r : e / r;
      double sum = 0.0;
      for (index_t k = 0; k < r; ++k) sum = std::fma(w[i * r + k], s[j * r + k], sum);
      c[e] = orthonormal || i == j ? 0.0 : sum;
    });
    tm.barrier();
    // dV(:, i) = - sum over j of gx_j S(j, i) + xg_j S(i, j), + c(i, j) v_j, feature by feature.
    tm.vector(n, [&](index_t k) {
      for (index_t i = r - 1; i >= 0; --i) {  // S(j, i) is 0 for j > i: rows below i are done with gx_i
        double sum = 0.0;
        for (index_t j = 0; j <= i; ++j) sum = std::fma(-load_as<double>(gx(j, k)), s[j * r + i], sum);
        for (index_t j = i; j < r; ++j) sum = std::fma(-load_as<double>(xg(j, k)), s[i * r + j], sum);
        for (index_t j = 0; j < r; ++j) sum = std::fma(c[i * r + j], unit(j, k), sum);
        gx(i, k) = store_as<value>(sum);
      }
    });
    tm.barrier();
    dots_of_rows(tm, r, n, grown, unit, m);  // dV_i . v_j
    dots_of_rows(tm, r, n, unit, given, l);  // v_i . u_j: lengths on the diagonal
    if (!orthonormal) {
      tm.vector(n * r, [&](index_t e) {
        index_t const i = e % r;
        index_t const k = e / r;
        double const across = std::fma(-m[i * r + i], unit(i, k), grown(i, k));
        du(k, i) = store_as<typename D::value_type>(load_as<double>(du(k, i)) + across / l[i * r + i]);
      });
      return;
    }
    // Of A = Q R: (dQ + Q C) R^-T with C symmetric, from the lower triangle of -dQ^T Q.
    tm.vector(n, [&](index_t k) {
      for (index_t i = r - 1; i >= 0; --i) {
        double sum = grown(i, k);
        for (index_t j = 0; j < r; ++j) {
          index_t const low = i > j ? i : j;
          index_t const high = i > j ? j : i;
          sum = std::fma(-m[low * r + high], unit(j, k), sum);
        }
        for (index_t j = i + 1; j < r; ++j) sum = std::fma(-l[i * r + j], load_as<double>(xg(j, k)), sum);
        xg(i, k) = store_as<value>(sum / l[i * r + i]);  // not needed any more
        du(k, i) = store_as<typename D::value_type>(load_as<double>(du(k, i)) + load_as<double>(xg(i, k)));
      }
    });
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// vectors[r, n] = the columns of u[n, r], normalized, or orthonormal by Gram and Schmidt (modified, in order).
///
/// Shapes       u[n, r] in; vectors[r, n] out. Any strides, any scalars; sums in fp64, each step rounded to the vectors' type.
/// Aliasing     vectors may not overlap u.
/// Cost         2 n r flops, by Gram and Schmidt 2 n r^2; one team.
/// Scratch      `scratch_bytes(...)` of the same arguments, from the executor's resource: a double.
/// Errors       shape_error, argument_error; nothing is written then. A column that is 0, or depends on those before, gives NaN.
struct unit_vectors_fn {
  template <class E, class U, class V>
  void operator()(E const& ex, U const& u, bool orthonormal, V const& vectors) const {
    GRAFT_MANDATE_EXECUTOR("kernels::unit_vectors", E)
    GRAFT_MANDATE_INPUT("kernels::unit_vectors", "u", E, U, 2)
    GRAFT_MANDATE_OUTPUT("kernels::unit_vectors", "the vectors", E, V, 2)
    if constexpr (graft::detail::accepted_input<E, U, 2> && graft::detail::accepted_output<E, V, 2>) {
      expects(u, vectors);
      if (u.size() == 0) return;
      ex.league(1, team_bytes(), graft::detail::unit_vectors_body<U, V>{u, vectors, orthonormal});
    }
  }
  /// Bytes that a call with these arguments takes from the executor's resource.
  template <executor E, class U, class V>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, U const& u, bool /* orthonormal */, V const& vectors) const {
    expects(u, vectors);
    if (u.size() == 0) return 0;
    return graft::detail::league_bytes(ex, 1, team_bytes());
  }

 private:
  [[nodiscard]] static constexpr std::size_t team_bytes() { return sizeof(double); }
  template <class U, class V>
  static void expects(U const& u, V const& vectors) {
    constexpr std::string_view verb = "kernels::unit_vectors";
    graft::detail::expects_equal_extents(verb, "the vectors", vectors, 0, "u", u, 1);
    graft::detail::expects_equal_extents(verb, "the vectors", vectors, 1, "u", u, 0);
    graft::detail::expects_data(verb, "u", u);
    graft::detail::expects_output(verb, "the vectors", vectors);
    graft::detail::expects_disjoint(verb, "the vectors", vectors, "u", u);
  }
};
inline constexpr unit_vectors_fn unit_vectors{};

/// spread_vectors: out[n, r] = V S. spread_vectors_back: out = V S^T. With them H = I - V S V^T is a product of low rank:
/// x H^T = x - (x V) (V S)^T and x H = x - (x V) (V S^T)^T.
///
/// Shapes       vectors[r, n] in; out[n, r] out. Any strides, any scalars; in fp64, rounded once.
/// Aliasing     out may not overlap the vectors.
/// Cost         2 n r^2 flops for the products, as many for the rest; one team.
/// Scratch      `scratch_bytes(...)` of the same arguments, from the executor's resource: 2 r^2 doubles.
/// Errors       shape_error, argument_error; nothing is written then.
template <bool Transposed>
struct spread_vectors_fn {
  template <class E, class V, class O>
  void operator()(E const& ex, V const& vectors, bool orthonormal, O const& out) const {
    GRAFT_MANDATE_EXECUTOR("kernels::spread_vectors", E)
    GRAFT_MANDATE_INPUT("kernels::spread_vectors", "the vectors", E, V, 2)
    GRAFT_MANDATE_OUTPUT("kernels::spread_vectors", "out", E, O, 2)
    if constexpr (graft::detail::accepted_input<E, V, 2> && graft::detail::accepted_output<E, O, 2>) {
      expects(vectors, out);
      if (vectors.size() == 0) return;
      ex.league(1, team_bytes(vectors),
                graft::detail::spread_vectors_body<V, O, Transposed>{vectors, out, orthonormal});
    }
  }
  /// Bytes that a call with these arguments takes from the executor's resource.
  template <executor E, class V, class O>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, V const& vectors, bool /* orthonormal */, O const& out) const {
    expects(vectors, out);
    if (vectors.size() == 0) return 0;
    return graft::detail::league_bytes(ex, 1, team_bytes(vectors));
  }

 private:
  template <class V>
  [[nodiscard]] static std::size_t team_bytes(V const& vectors) {
    index_t const r = vectors.extent(0);
    return sizeof(double) * static_cast<std::size_t>(2 * r * r);
  }
  template <class V, class O>
  static void expects(V const& vectors, O const& out) {
    constexpr std::string_view verb = "kernels::spread_vectors";
    graft::detail::expects_equal_extents(verb, "out", out, 0, "the vectors", vectors, 1);
    graft::detail::expects_equal_extents(verb, "out", out, 1, "the vectors", vectors, 0);
    graft::detail::expects_data(verb, "the vectors", vectors);
    graft::detail::expects_output(verb, "out", out);
    graft::detail::expects_disjoint(verb, "out", out, "the vectors", vectors);
  }
};
inline constexpr spread_vectors_fn<false> spread_vectors{};
inline constexpr spread_vectors_fn<true> spread_vectors_back{};

/// du += the gradient of u, where y = x H^T, g is the gradient of y, gx[r, n] = (g V)^T x, xg[r, n] = (x V)^T g and
/// p[r, r] = (g V)^T (x V). gx and xg are overwritten.
///
/// Shapes       u[n, r], vectors[r, n], p[r, r] in; gx, xg[r, n] in, spoilt; du[n, r] in and out. Any strides, any scalars; fp64.
/// Aliasing     nothing that is written may overlap anything else.
/// Cost         about 8 n r^2 flops; one team.
/// Scratch      `scratch_bytes(...)` of the same arguments, from the executor's resource: 5 r^2 doubles.
/// Errors       shape_error, argument_error; nothing is written then.
struct reflection_gradient_fn {
  template <class E, class U, class V, class G, class D>
  void operator()(E const& ex, U const& u, bool orthonormal, V const& vectors, G const& gx, G const& xg, G const& p,
                  D const& du) const {
    GRAFT_MANDATE_EXECUTOR("kernels::reflection_gradient", E)
    GRAFT_MANDATE_INPUT("kernels::reflection_gradient", "u", E, U, 2)
    GRAFT_MANDATE_INPUT("kernels::reflection_gradient", "the vectors", E, V, 2)
    GRAFT_MANDATE_OUTPUT("kernels::reflection_gradient", "gx, xg, p", E, G, 2)
    GRAFT_MANDATE_OUTPUT("kernels::reflection_gradient", "du", E, D, 2)
    if constexpr (graft::detail::accepted_input<E, U, 2> && graft::detail::accepted_input<E, V, 2> &&
                  graft::detail::accepted_output<E, G, 2> && graft::detail::accepted_output<E, D, 2>) {
      expects(u, vectors, gx, xg, p, du);
      if (u.size() == 0) return;
      ex.league(1, team_bytes(vectors),
                graft::detail::reflection_gradient_body<U, V, G, D>{u, vectors, gx, xg, p, du, orthonormal});
    }
  }
  /// Bytes that a call with these arguments takes from the executor's resource.
  template <executor E, class U, class V, class G, class D>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, U const& u, bool /* orthonormal */, V const& vectors,
                                          G const& gx, G const& xg, G const& p, D const& du) const {
    expects(u, vectors, gx, xg, p, du);
    if (u.size() == 0) return 0;
    return graft::detail::league_bytes(ex, 1, team_bytes(vectors));
  }

 private:
  template <class V>
  [[nodiscard]] static std::size_t team_bytes(V const& vectors) {
    index_t const r = vectors.extent(0);
    return sizeof(double) * static_cast<std::size_t>(5 * r * r);
  }
  template <class U, class V, class G, class D>
  static void expects(U const& u, V const& vectors, G const& gx, G const& xg, G const& p, D const& du) {
    constexpr std::string_view verb = "kernels::reflection_gradient";
    for (std::size_t i = 0; i < 2; ++i) {
      graft::detail::expects_equal_extents(verb, "du", du, i, "u", u, i);
      graft::detail::expects_equal_extents(verb, "the vectors", vectors, 1 - i, "u", u, i);
      graft::detail::expects_equal_extents(verb, "gx", gx, i, "the vectors", vectors, i);
      graft::detail::expects_equal_extents(verb, "xg", xg, i, "the vectors", vectors, i);
      graft::detail::expects_equal_extents(verb, "p", p, i, "u", u, 1);
    }
    graft::detail::expects_output(verb, "du", du);
    graft::detail::expects_disjoint(verb, "du", du, "u", u);
    graft::detail::expects_disjoint(verb, "du", du, "the vectors", vectors);
    graft::detail::expects_disjoint(verb, "gx", gx, "xg", xg);
  }
};
inline constexpr reflection_gradient_fn reflection_gradient{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
