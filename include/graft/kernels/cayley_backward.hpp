// SPDX-License-Identifier: Apache-2.0
/// @file
/// `cayley_backward` and `cayley_neumann_backward`: gradients of the skew parameters of rotations (kernels/cayley.hpp).
#pragma once

#include <cmath>
#include <cstddef>
#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/cayley.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/rotation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {
/// parameters += gradient of Q, which is s times the matrix g: what both elements of the pair (i, j) give.
template <class Accumulate, class Team, class D>
GRAFT_FN void add_skew_gradient(Team const& tm, D const& d, index_t b, index_t k, Accumulate s, Accumulate const* g) {
  tm.vector(b * b, [&](index_t e) {
    index_t const i = e / b;
    index_t const j = e % b;
    Accumulate const pair = g[i * b + j] - g[j * b + i];
    if constexpr (D::rank() == 2) {
      if (i >= j) return;
      index_t const at = i * (b - 1) - i * (i - 1) / 2 + j - i - 1;
      d(k, at) = store_as<typename D::value_type>(std::fma(s, pair, load_as<Accumulate>(d(k, at))));
    } else
      d(k, i, j) =
          store_as<typename D::value_type>(std::fma(Accumulate(0.5) * s, pair, load_as<Accumulate>(d(k, i, j))));
  });
}

/// Generic body: a block a team. With P = I + R: dQ = -1/2 P^T dR P^T, since (I + Q)^-1 = P / 2.
template <class R, class G, class D, class Accumulate>
struct cayley_backward_body {
  static constexpr std::string_view verb = "cayley_backward";
  static constexpr bool unbounded_scratch = true;
  R rotations;
  G gradient;
  D d;

  [[nodiscard]] GRAFT_FN constexpr index_t lanes() const { return rotations.extent(1) * rotations.extent(1); }

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const k = tm.league_rank();
    index_t const b = rotations.extent(1);
    auto* const p = tm.template scratch<Accumulate>(3 * b * b);
    auto* const u = p + b * b;
    auto* const v = u + b * b;
    auto const nothing = [](index_t, index_t) { return Accumulate{0}; };
    tm.vector(b * b, [&](index_t e) {
      Accumulate const r = load_as<Accumulate>(rotations(k, e / b, e % b));
      p[e] = e / b == e % b ? Accumulate{1} + r : r;
    });
    tm.barrier();
    multiply_blocks(
        tm, b, nothing, [&](index_t i, index_t l) { return load_as<Accumulate>(gradient(k, i, l)); },
        [&](index_t l, index_t j) { return p[j * b + l]; }, u);
    tm.barrier();
    multiply_blocks(
        tm, b, nothing, [&](index_t i, index_t l) { return p[l * b + i]; },
        [&](index_t l, index_t j) { return u[l * b + j]; }, v);
    tm.barrier();
    add_skew_gradient(tm, d, b, k, Accumulate(-0.5), v);
  }
};

/// Generic body: a block a team, Horner's rule backwards: gQ += gH H'^T and gH' = Q^T gH for every H = c I + Q H'.
template <class P, class G, class D, class Accumulate>
struct cayley_neumann_backward_body {
  static constexpr std::string_view verb = "cayley_neumann_backward";
  static constexpr bool unbounded_scratch = true;
  P parameters;
  G gradient;
  D d;
  int terms;

  [[nodiscard]] GRAFT_FN constexpr index_t lanes() const { return gradient.extent(1) * gradient.extent(1); }

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const k = tm.league_rank();
    index_t const b = gradient.extent(1);
    int const degree = neumann_degree(terms);
    auto* const q = tm.template scratch<Accumulate>((5 + degree) * b * b);
    auto* gq = q + b * b;
    auto* gq_next = gq + b * b;
    auto* gh = gq_next + b * b;
    auto* gh_next = gh + b * b;
    auto* const h = gh_next + b * b;  // H of powers 1 to degree
    tm.vector(b * b, [&](index_t e) {
      bool const diagonal = e / b == e % b;
      q[e] = skew<Accumulate>(parameters, b, k, e / b, e % b);
      gq[e] = Accumulate{0};
      gh[e] = load_as<Accumulate>(gradient(k, e / b, e % b));
      if (degree > 0)
        h[(degree - 1) * b * b + e] =
            diagonal ? static_cast<Accumulate>(neumann_coefficient(terms, degree)) : Accumulate{0};
    });
    tm.barrier();
    for (int power = degree - 1; power >= 1; --power) {
      auto const c = static_cast<Accumulate>(neumann_coefficient(terms, power));
      auto const* const above = h + power * b * b;
      multiply_blocks(
          tm, b, [&](index_t i, index_t j) { return i == j ? c : Accumulate{0}; },
          [&](index_t i, index_t l) { return q[i * b + l]; }, [&](index_t l, index_t j) { return above[l * b + j]; },
          h + (power - 1) * b * b);
      tm.barrier();
    }
    for (int power = 0; power < degree; ++power) {
      auto const* const above = h + power * b * b;
      multiply_blocks(
          tm, b, [&](index_t i, index_t j) { return gq[i * b + j]; },
          [&](index_t i, index_t l) { return gh[i * b + l]; }, [&](index_t l, index_t j) { return above[j * b + l]; },
          gq_next);
      multiply_blocks(
          tm, b, [](index_t, index_t) { return Accumulate{0}; }, [&](index_t i, index_t l) { return q[l * b + i]; },
          [&](index_t l, index_t j) { return gh[l * b + j]; }, gh_next);
      tm.barrier();
      auto* swapped = gq;
      gq = gq_next;
      gq_next = swapped;
      swapped = gh;
      gh = gh_next;
      gh_next = swapped;
    }
    add_skew_gradient(tm, d, b, k, Accumulate{1}, gq);
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// Gradients of the parameters of `cayley`, added to what is there, from R and its gradient: with P = I + R,
/// dQ = -1/2 P^T dR P^T; dv(i, j) += dQ(i, j) - dQ(j, i), or dA += (dQ - dQ^T) / 2.
///
/// Shapes       R[D, b, b], dR[D, b, b] in; d[D, b (b - 1) / 2] or [D, b, b] in and out. Any strides, any scalars.
/// Aliasing     d may not overlap R or dR.
/// Precision    |error| <= 4 b eps |P|^T |dR| |P|^T before the one rounding.
/// Cost         4 D b^3 flops.
/// Scratch      `scratch_bytes(...)` of the same arguments, from the executor's resource: 3 b^2 numbers a team.
/// Errors       shape_error, argument_error; nothing is written then.
struct cayley_backward_fn {
  template <class E, class R, class G, class D>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::cayley_backward", E)
    GRAFT_MANDATE_INPUT("kernels::cayley_backward", "R", E, R, 3)
    GRAFT_MANDATE_INPUT("kernels::cayley_backward", "dR", E, G, 3)
    if constexpr (tensor<D>) {
      GRAFT_MANDATE_OUTPUT("kernels::cayley_backward", "the gradient", E, D, D::rank())
    } else {
      GRAFT_MANDATE_OUTPUT("kernels::cayley_backward", "the gradient", E, D, 2)
    }
    return graft::detail::accepted_input<E, R, 3> && graft::detail::accepted_input<E, G, 3> &&
           (graft::detail::accepted_output<E, D, 2> || graft::detail::accepted_output<E, D, 3>);
  }
  template <class E, class R, class G, class D>
  void operator()(E const& ex, R const& rotations, G const& gradient, D const& d) const {
    if constexpr (mandates<E, R, G, D>()) {
      using sums = sums_of<R, G, D>;
      expects(rotations, gradient, d);
      if (rotations.size() == 0) return;
      ex.league(rotations.extent(0), team_bytes<R, G, D>(rotations),
                graft::detail::cayley_backward_body<R, G, D, sums>{rotations, gradient, d});
    }
  }
  /// Bytes that a call with these arguments takes from the executor's resource.
  template <executor E, class R, class G, class D>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, R const& rotations, G const& gradient, D const& d) const {
    expects(rotations, gradient, d);
    if (rotations.size() == 0) return 0;
    return graft::detail::league_bytes(ex, rotations.extent(0), team_bytes<R, G, D>(rotations));
  }

 private:
  template <class R, class G, class D>
  using sums_of = accumulate_t<typename R::value_type, typename G::value_type, typename D::value_type>;
  template <class R, class G, class D>
  [[nodiscard]] static std::size_t team_bytes(R const& rotations) {
    index_t const b = rotations.extent(1);
    return sizeof(sums_of<R, G, D>) * static_cast<std::size_t>(3 * b * b);
  }
  template <class R, class G, class D>
  static void expects(R const& rotations, G const& gradient, D const& d) {
    constexpr std::string_view verb = "kernels::cayley_backward";
    for (std::size_t i = 0; i < 3; ++i)
      graft::detail::expects_equal_extents(verb, "dR", gradient, i, "R", rotations, i);
    graft::detail::expects_skew(verb, "the gradient", d, "R", rotations);
    graft::detail::expects_data(verb, "R", rotations);
    graft::detail::expects_data(verb, "dR", gradient);
    graft::detail::expects_output(verb, "the gradient", d);
    graft::detail::expects_disjoint(verb, "the gradient", d, "R", rotations);
    graft::detail::expects_disjoint(verb, "the gradient", d, "dR", gradient);
  }
};
inline constexpr cayley_backward_fn cayley_backward{};

/// Gradients of the parameters of `cayley_neumann`, added to what is there: Horner's rule backwards.
///
/// Shapes       parameters and d as v[D, b (b - 1) / 2] or A[D, b, b], dR[D, b, b] in; d in and out. Any strides, any scalars.
/// Aliasing     d may not overlap the parameters or dR.
/// Cost         about 6 (terms - 1) D b^3 flops.
/// Scratch      `scratch_bytes(...)` of the same arguments, from the executor's resource: at most (5 + terms) b^2 numbers a team.
/// Errors       shape_error, argument_error; nothing is written then.
struct cayley_neumann_backward_fn {
  template <class E, class P, class G, class D>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::cayley_neumann_backward", E)
    if constexpr (tensor<P>) {
      GRAFT_MANDATE_INPUT("kernels::cayley_neumann_backward", "parameters", E, P, P::rank())
    } else {
      GRAFT_MANDATE_INPUT("kernels::cayley_neumann_backward", "parameters", E, P, 2)
    }
    GRAFT_MANDATE_INPUT("kernels::cayley_neumann_backward", "dR", E, G, 3)
    if constexpr (tensor<D>) {
      GRAFT_MANDATE_OUTPUT("kernels::cayley_neumann_backward", "the gradient", E, D, D::rank())
    } else {
      GRAFT_MANDATE_OUTPUT("kernels::cayley_neumann_backward", "the gradient", E, D, 2)
    }
    return (graft::detail::accepted_input<E, P, 2> || graft::detail::accepted_input<E, P, 3>) &&
           graft::detail::accepted_input<E, G, 3> &&
           (graft::detail::accepted_output<E, D, 2> || graft::detail::accepted_output<E, D, 3>);
  }
  template <class E, class P, class G, class D>
  void operator()(E const& ex, P const& parameters, int terms, G const& gradient, D const& d) const {
    if constexpr (mandates<E, P, G, D>()) {
      using sums = sums_of<P, G, D>;
      expects(parameters, terms, gradient, d);
      if (gradient.size() == 0) return;
      ex.league(gradient.extent(0), team_bytes<P, G, D>(terms, gradient),
                graft::detail::cayley_neumann_backward_body<P, G, D, sums>{parameters, gradient, d, terms});
    }
  }
  /// Bytes that a call with these arguments takes from the executor's resource.
  template <executor E, class P, class G, class D>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, P const& parameters, int terms, G const& gradient,
                                          D const& d) const {
    expects(parameters, terms, gradient, d);
    if (gradient.size() == 0) return 0;
    return graft::detail::league_bytes(ex, gradient.extent(0), team_bytes<P, G, D>(terms, gradient));
  }

 private:
  template <class P, class G, class D>
  using sums_of = accumulate_t<typename P::value_type, typename G::value_type, typename D::value_type>;
  template <class P, class G, class D>
  [[nodiscard]] static std::size_t team_bytes(int terms, G const& gradient) {
    index_t const b = gradient.extent(1);
    return sizeof(sums_of<P, G, D>) * static_cast<std::size_t>((5 + graft::detail::neumann_degree(terms)) * b * b);
  }
  template <class P, class G, class D>
  static void expects(P const& parameters, int terms, G const& gradient, D const& d) {
    constexpr std::string_view verb = "kernels::cayley_neumann_backward";
    graft::detail::expects_skew(verb, "parameters", parameters, "dR", gradient);
    graft::detail::expects_skew(verb, "the gradient", d, "dR", gradient);
    graft::detail::expects_terms(verb, terms);
    graft::detail::expects_data(verb, "dR", gradient);
    graft::detail::expects_output(verb, "the gradient", d);
    graft::detail::expects_disjoint(verb, "the gradient", d, "parameters", parameters);
    graft::detail::expects_disjoint(verb, "the gradient", d, "dR", gradient);
  }
};
inline constexpr cayley_neumann_backward_fn cayley_neumann_backward{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
