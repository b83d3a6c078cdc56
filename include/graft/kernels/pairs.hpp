// SPDX-License-Identifier: Apache-2.0
/// @file
/// `rotate_pairs`: two by two rotations of features, in place, and what goes with them: `dot_pairs`, and `pair_factors` of angles
/// and sizes with its gradients. What RoAd does to outputs.
///
/// Features lie in groups of `group`; in a group, feature j of the first half and j + group / 2 are a pair. With factors c[m], s[m]:
///
///     y_j = c_j z_j - s_j z_(j+h)        y_(j+h) = c_(j+h) z_(j+h) + s_(j+h) z_j        h = group / 2
#pragma once

#include <cmath>
#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/elements.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
/// How pairs are turned: forward, by the transpose, or by the inverse.
enum class pair_turn { forward, back, inverse };

/// The other feature of a pair, and whether this one is in the first half.
struct pair_of {
  index_t other;
  bool first;
  GRAFT_FN pair_of(index_t feature, index_t group)
      : other(feature % group < group / 2 ? feature + group / 2 : feature - group / 2),
        first(feature % group < group / 2) {}
};

inline namespace GRAFT_TARGET {
/// Row i of factors[2, m]: c, then s.
template <class F>
[[nodiscard]] auto pair_factor(F const& f, index_t i) {
  return tensor_view<typename F::element_type, dynamic_extents<1>, typename F::space_type, no_unit_dimension>{
      f.data_handle() + (f.size() == 0 ? 0 : i * f.stride(0)), dynamic_extents<1>{f.extent(1)}, {f.stride(1)}};
}

/// A pass over the pairs of rows.
template <class C, class S, class Y, class Accumulate, pair_turn Turn>
struct rotate_pairs_pass {
  static constexpr std::string_view verb = "rotate_pairs";
  C c;
  S s;
  index_t group;
  Y y;

  struct turned {
    index_t feature;  // the first of the pair
    Accumulate first;
    Accumulate second;
  };
  [[nodiscard]] GRAFT_FN turned read(index_t row, index_t e) const {
    index_t const half = group / 2;
    index_t const j = e / half * group + e % half;
    index_t const k = j + half;
    Accumulate c1 = load_as<Accumulate>(c(j)), c2 = load_as<Accumulate>(c(k));
    Accumulate s1 = load_as<Accumulate>(s(j)), s2 = load_as<Accumulate>(s(k));
    if constexpr (Turn == pair_turn::back) {  // the transpose exchanges the sines
      Accumulate const kept = s1;
      s1 = -s2;
      s2 = -kept;
    }
    if constexpr (Turn == pair_turn::inverse) {
      Accumulate const determinant = std::fma(c1, c2, s1 * s2);
      Accumulate const kept = c1;
      c1 = c2 / determinant;
      c2 = kept / determinant;
      s1 = -s1 / determinant;
      s2 = -s2 / determinant;
    }
    Accumulate const a = load_as<Accumulate>(y(row, j));
    Accumulate const b = load_as<Accumulate>(y(row, k));
    return {j, std::fma(c1, a, -(s1 * b)), std::fma(c2, b, s2 * a)};
  }
  GRAFT_FN void write(index_t row, index_t, turned const& pair) const {
    store_element(y, row, pair.feature, pair.first);
    store_element(y, row, pair.feature + group / 2, pair.second);
  }
};

/// d[j] += -+ sum over t of g[t, j] z[t, other of j]: the gradients of s.
template <class Z, class G, class D, class Accumulate>
struct dot_pairs_body {
  static constexpr std::string_view verb = "dot_pairs";
  Z z;
  G g;
  index_t group;
  D d;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const first = tm.league_rank() * column_tile;
    tm.vector(tile_extent(d.extent(0), first, column_tile), [&](index_t i) {
      index_t const j = first + i;
      pair_of const pair(j, group);
      Accumulate sum[1] = {load_as<Accumulate>(d(j))};
      chain_short_axis(
          z.extent(0),
          [&](int, index_t t) {
            Accumulate const v = load_as<Accumulate>(g(t, j));
            return pair.first ? -v : v;
          },
          [&](index_t t) { return load_as<Accumulate>(z(t, pair.other)); }, sum);
      d(j) = store_as<typename D::value_type>(sum[0]);
    });
  }
};

/// Where the parameter of c and of s of a feature lies: one a pair, one a feature, or one for each of the two.
GRAFT_FN constexpr index_t pair_parameter(index_t feature, index_t features, index_t parameters, index_t group,
                                          bool of_sine) {
  if (parameters * 2 == features) return feature / group * (group / 2) + feature % (group / 2);
  if (parameters == features) return feature;
  return feature / group * 2 * group + feature % group + (of_sine ? group : 0);
}

/// c = alpha cos(theta), s = alpha sin(theta), in fp64.
template <class T, class A, class C, class S>
struct pair_factors_body {
  static constexpr std::string_view verb = "pair_factors";
  T theta;
  A alpha;
  index_t group;
  C c;
  S s;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const first = tm.league_rank() * column_tile;
    tm.vector(tile_extent(c.extent(0), first, column_tile), [&](index_t i) {
      index_t const j = first + i;
      index_t const p = pair_parameter(j, c.extent(0), theta.extent(0), group, false);
      index_t const q = pair_parameter(j, c.extent(0), theta.extent(0), group, true);
      c(j) = store_as<typename C::value_type>(load_as<double>(alpha(p)) * std::cos(load_as<double>(theta(p))));
      s(j) = store_as<typename S::value_type>(load_as<double>(alpha(q)) * std::sin(load_as<double>(theta(q))));
    });
  }
};

/// dtheta += alpha (cos ds - sin dc), dalpha += cos dc + sin ds, over all features of a parameter, in fp64.
template <class T, class A, class C, class S, class GT, class GA>
struct pair_factors_backward_body {
  static constexpr std::string_view verb = "pair_factors_backward";
  T theta;
  A alpha;
  index_t group;
  C dc;
  S ds;
  GT dtheta;
  GA dalpha;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const features = dc.extent(0);
    index_t const parameters = theta.extent(0);
    index_t const first = tm.league_rank() * column_tile;
    tm.vector(tile_extent(parameters, first, column_tile), [&](index_t i) {
      index_t const p = first + i;
      // The features that this parameter can be of: both of a pair, or one.
      index_t feature = p;
      int count = 1;
      if (parameters * 2 == features) {
        feature = p / (group / 2) * group + p % (group / 2);
        count = 2;
      } else if (parameters != features) feature = p / (2 * group) * group + p % group;
      double const cosine = std::cos(load_as<double>(theta(p)));
      double const sine = std::sin(load_as<double>(theta(p)));
      double sum_c = 0.0;
      double sum_s = 0.0;
      for (int k = 0; k < count; ++k) {
        index_t const j = feature + k * (group / 2);
        if (pair_parameter(j, features, parameters, group, false) == p) sum_c = sum_c + load_as<double>(dc(j));
        if (pair_parameter(j, features, parameters, group, true) == p) sum_s = sum_s + load_as<double>(ds(j));
      }
      double const of_angle = std::fma(cosine, sum_s, -(sine * sum_c));
      dtheta(p) =
          store_as<typename GT::value_type>(std::fma(load_as<double>(alpha(p)), of_angle, load_as<double>(dtheta(p))));
      dalpha(p) =
          store_as<typename GA::value_type>(std::fma(cosine, sum_c, std::fma(sine, sum_s, load_as<double>(dalpha(p)))));
    });
  }
};

template <class V>
void expects_groups(std::string_view verb, index_t features, index_t group, std::string_view name, V const& v) {
  if (group <= 0 || group % 2 != 0 || features % group != 0) [[unlikely]]
    raise(argument_error(text("graft::", verb, ": groups of ", group, " must be even and divide the ", features,
                              " features of ", name, shape_text(v))));
}
template <class C, class S, class Y>
void expects_pairs(std::string_view verb, C const& c, S const& s, index_t group, std::string_view name, Y const& y) {
  expects_equal_extents(verb, name, y, 1, "c", c, 0);
  expects_equal_extents(verb, "s", s, 0, "c", c, 0);
  expects_groups(verb, c.extent(0), group, name, y);
  expects_data(verb, "c", c);
  expects_data(verb, "s", s);
}
/// theta and alpha are of one size, that of factors[2, m] or what a pair or its two factors take of it.
template <class T, class A, class F>
void expects_pair_parameters(std::string_view verb, T const& theta, A const& alpha, index_t group,
                             std::string_view name, F const& f) {
  index_t const m = f.extent(1), given = theta.extent(0);
  expects_equal_extents(verb, "alpha", alpha, 0, "theta", theta, 0);
  if (f.extent(0) != 2 || (given * 2 != m && given != m && given != 2 * m)) [[unlikely]]
    raise(shape_error(text("graft::", verb, ": theta", shape_text(theta), " and ", name, shape_text(f),
                           " do not fit: theta has half, once or twice as many numbers as there are features, and ",
                           name, " two rows of them")));
  expects_groups(verb, m, group, name, f);
  expects_data(verb, "theta", theta);
  expects_data(verb, "alpha", alpha);
}
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// rotate_pairs: y = R y for every row. rotate_pairs_back: y = R^T y. rotate_pairs_inverse: y = R^-1 y, pair by pair.
///
/// Shapes       c[m], s[m] in; y[T, m] in and out; group even, a divisor of m. Any strides, any scalars; one product, one fma and
///              one rounding an element.
/// Aliasing     y may not overlap c or s.
/// Cost         3 T m flops; T m elements read and written.
/// Errors       shape_error, argument_error; nothing is written then.
template <graft::detail::pair_turn Turn>
struct rotate_pairs_fn {
  template <class E, class C, class S, class Y>
  void operator()(E const& ex, C const& c, S const& s, index_t group, Y const& y) const {
    GRAFT_MANDATE_EXECUTOR("kernels::rotate_pairs", E)
    GRAFT_MANDATE_INPUT("kernels::rotate_pairs", "c", E, C, 1)
    GRAFT_MANDATE_INPUT("kernels::rotate_pairs", "s", E, S, 1)
    GRAFT_MANDATE_OUTPUT("kernels::rotate_pairs", "y", E, Y, 2)
    if constexpr (graft::detail::accepted_input<E, C, 1> && graft::detail::accepted_input<E, S, 1> &&
                  graft::detail::accepted_output<E, Y, 2>) {
      constexpr std::string_view verb = "kernels::rotate_pairs";
      using accumulate = accumulate_t<typename C::value_type, typename S::value_type, typename Y::value_type>;
      graft::detail::expects_pairs(verb, c, s, group, "y", y);
      graft::detail::expects_output(verb, "y", y);
      graft::detail::expects_disjoint(verb, "y", y, "c", c);
      graft::detail::expects_disjoint(verb, "y", y, "s", s);
      graft::detail::run_pass(ex, y.extent(0), y.extent(1) / 2,
                              graft::detail::rotate_pairs_pass<C, S, Y, accumulate, Turn>{c, s, group, y});
    }
  }
};
inline constexpr rotate_pairs_fn<graft::detail::pair_turn::forward> rotate_pairs{};
inline constexpr rotate_pairs_fn<graft::detail::pair_turn::back> rotate_pairs_back{};
inline constexpr rotate_pairs_fn<graft::detail::pair_turn::inverse> rotate_pairs_inverse{};

/// d[j] += -+ sum over t of g[t, j] z[t, other of j], minus for the first of a pair: the gradient of s.
///
/// Shapes       z[T, m], g[T, m] in; d[m] in and out. Any strides, any scalars.
/// Order        short axis over the rows (see summation.hpp), starting from d.
/// Aliasing     d may not overlap z or g.
/// Cost         2 T m flops.
/// Errors       shape_error, argument_error; nothing is written then.
struct dot_pairs_fn {
  template <class E, class Z, class G, class D>
  void operator()(E const& ex, Z const& z, G const& g, index_t group, D const& d) const {
    GRAFT_MANDATE_EXECUTOR("kernels::dot_pairs", E)
    GRAFT_MANDATE_INPUT("kernels::dot_pairs", "z", E, Z, 2)
    GRAFT_MANDATE_INPUT("kernels::dot_pairs", "g", E, G, 2)
    GRAFT_MANDATE_OUTPUT("kernels::dot_pairs", "d", E, D, 1)
    if constexpr (graft::detail::accepted_input<E, Z, 2> && graft::detail::accepted_input<E, G, 2> &&
                  graft::detail::accepted_output<E, D, 1>) {
      constexpr std::string_view verb = "kernels::dot_pairs";
      using accumulate = accumulate_t<typename Z::value_type, typename G::value_type, typename D::value_type>;
      graft::detail::expects_equal_extents(verb, "g", g, 0, "z", z, 0);
      graft::detail::expects_equal_extents(verb, "g", g, 1, "z", z, 1);
      graft::detail::expects_pairs(verb, d, d, group, "z", z);
      graft::detail::expects_data(verb, "z", z);
      graft::detail::expects_data(verb, "g", g);
      graft::detail::expects_output(verb, "d", d);
      graft::detail::expects_disjoint(verb, "d", d, "z", z);
      graft::detail::expects_disjoint(verb, "d", d, "g", g);
      ex.league(graft::detail::tiles(d.extent(0), graft::detail::column_tile), 0,
                graft::detail::dot_pairs_body<Z, G, D, accumulate>{z, g, group, d});
    }
  }
};
inline constexpr dot_pairs_fn dot_pairs{};

/// factors = (c, s) = (alpha cos(theta), alpha sin(theta)) of every feature.
///
/// Shapes       theta[k], alpha[k] in; factors[2, m] out: c, then s. k is m / 2 (one a pair), m (one a feature) or 2 m (in each
///              group those of c, then those of s); group even, a divisor of m. Any strides, any scalars.
/// Aliasing     factors may not overlap theta or alpha.
/// Precision    cosines and sines of the standard library in fp64, one product and one rounding.
/// Determinism  a function of theta and alpha on one machine; another's library may differ in the last place.
/// Cost         2 m cosines and sines. Once a step, not once a token.
/// Errors       shape_error, argument_error; nothing is written then.
struct pair_factors_fn {
  template <class E, class T, class A, class F>
  void operator()(E const& ex, T const& theta, A const& alpha, index_t group, F const& factors) const {
    GRAFT_MANDATE_EXECUTOR("kernels::pair_factors", E)
    GRAFT_MANDATE_INPUT("kernels::pair_factors", "theta", E, T, 1)
    GRAFT_MANDATE_INPUT("kernels::pair_factors", "alpha", E, A, 1)
    GRAFT_MANDATE_OUTPUT("kernels::pair_factors", "factors", E, F, 2)
    if constexpr (graft::detail::accepted_input<E, T, 1> && graft::detail::accepted_input<E, A, 1> &&
                  graft::detail::accepted_output<E, F, 2>) {
      constexpr std::string_view verb = "kernels::pair_factors";
      graft::detail::expects_pair_parameters(verb, theta, alpha, group, "factors", factors);
      graft::detail::expects_output(verb, "factors", factors);
      graft::detail::expects_disjoint(verb, "factors", factors, "theta", theta);
      graft::detail::expects_disjoint(verb, "factors", factors, "alpha", alpha);
      using row = decltype(graft::detail::pair_factor(factors, 0));
      ex.league(
          graft::detail::tiles(factors.extent(1), graft::detail::column_tile), 0,
          graft::detail::pair_factors_body<T, A, row, row>{theta, alpha, group, graft::detail::pair_factor(factors, 0),
                                                           graft::detail::pair_factor(factors, 1)});
    }
  }
};
inline constexpr pair_factors_fn pair_factors{};

/// Gradients of theta and alpha from d = (dc, ds), those of the factors, added to what is there; over all features of a parameter
///
///     dtheta += alpha (cos(theta) ds - sin(theta) dc)        dalpha += cos(theta) dc + sin(theta) ds
///
/// Shapes       theta[k], alpha[k], d[2, m] in; dtheta[k], dalpha[k] in and out; k and group as `pair_factors`. Any strides, any
///              scalars.
/// Aliasing     dtheta and dalpha may not overlap each other, theta, alpha or d.
/// Precision    in fp64, one rounding each.
/// Determinism  as `pair_factors`.
/// Cost         2 k cosines and sines.
/// Errors       shape_error, argument_error; nothing is written then.
struct pair_factors_backward_fn {
  template <class E, class T, class A, class D, class GT, class GA>
  void operator()(E const& ex, T const& theta, A const& alpha, index_t group, D const& d, GT const& dtheta,
                  GA const& dalpha) const {
    GRAFT_MANDATE_EXECUTOR("kernels::pair_factors_backward", E)
    GRAFT_MANDATE_INPUT("kernels::pair_factors_backward", "theta", E, T, 1)
    GRAFT_MANDATE_INPUT("kernels::pair_factors_backward", "alpha", E, A, 1)
    GRAFT_MANDATE_INPUT("kernels::pair_factors_backward", "d", E, D, 2)
    GRAFT_MANDATE_OUTPUT("kernels::pair_factors_backward", "dtheta", E, GT, 1)
    GRAFT_MANDATE_OUTPUT("kernels::pair_factors_backward", "dalpha", E, GA, 1)
    if constexpr (graft::detail::accepted_input<E, T, 1> && graft::detail::accepted_input<E, A, 1> &&
                  graft::detail::accepted_input<E, D, 2> && graft::detail::accepted_output<E, GT, 1> &&
                  graft::detail::accepted_output<E, GA, 1>) {
      constexpr std::string_view verb = "kernels::pair_factors_backward";
      graft::detail::expects_pair_parameters(verb, theta, alpha, group, "d", d);
      graft::detail::expects_data(verb, "d", d);
      auto const written = [&](std::string_view name, auto const& out) {
        graft::detail::expects_equal_extents(verb, name, out, 0, "theta", theta, 0);
        graft::detail::expects_output(verb, name, out);
        graft::detail::expects_disjoint(verb, name, out, "theta", theta);
        graft::detail::expects_disjoint(verb, name, out, "alpha", alpha);
        graft::detail::expects_disjoint(verb, name, out, "d", d);
      };
      written("dtheta", dtheta);
      written("dalpha", dalpha);
      graft::detail::expects_disjoint(verb, "dalpha", dalpha, "dtheta", dtheta);
      using row = decltype(graft::detail::pair_factor(d, 0));
      ex.league(
          graft::detail::tiles(theta.extent(0), graft::detail::column_tile), 0,
          graft::detail::pair_factors_backward_body<T, A, row, row, GT, GA>{
              theta, alpha, group, graft::detail::pair_factor(d, 0), graft::detail::pair_factor(d, 1), dtheta, dalpha});
    }
  }
};
inline constexpr pair_factors_backward_fn pair_factors_backward{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
