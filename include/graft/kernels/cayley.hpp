// SPDX-License-Identifier: Apache-2.0
/// @file
/// `cayley` and `cayley_neumann`: blocks of skew parameters to rotations. What OFT and BOFT turn by. Their gradients:
/// kernels/cayley_backward.hpp.
///
/// Q is skew: packed parameters v[D, b (b - 1) / 2] are its strict upper triangle, row by row; square ones A[D, b, b] give
/// Q = (A - A^T) / 2.
///
///     cayley            R = (I - Q) (I + Q)^-1                                   exact, orthogonal
///     cayley_neumann    R = I + 2 Q + 2 Q^2 + ... + 2 Q^(t-2) + Q^(t-1)          nearly; rotates the other way: towards R^T
#pragma once

#include <cmath>
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
/// Q(i, j) of block k.
template <class Accumulate, class P>
[[nodiscard]] GRAFT_FN Accumulate skew(P const& p, index_t b, index_t k, index_t i, index_t j) {
  if constexpr (P::rank() == 2) {
    if (i == j) return Accumulate{0};
    index_t const row = i < j ? i : j;
    index_t const column = i < j ? j : i;
    Accumulate const v = load_as<Accumulate>(p(k, row * (b - 1) - row * (row - 1) / 2 + column - row - 1));
    return i < j ? v : -v;
  } else return Accumulate(0.5) * (load_as<Accumulate>(p(k, i, j)) - load_as<Accumulate>(p(k, j, i)));
}

/// Generic body: a block a team. I + Q is inverted in place by Gauss and Jordan, without pivots: since Q is skew, each is at
/// least 1.
template <class P, class R, class Accumulate>
struct cayley_body {
  static constexpr std::string_view verb = "cayley";
  static constexpr bool unbounded_scratch = true;
  P parameters;
  R rotations;

  [[nodiscard]] GRAFT_FN constexpr index_t lanes() const { return rotations.extent(1) * rotations.extent(1); }

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const k = tm.league_rank();
    index_t const b = rotations.extent(1);
    auto* const m = tm.template scratch<Accumulate>(b * b + 2 * b);
    auto* const row = m + b * b;
    auto* const column = row + b;
    tm.vector(b * b, [&](index_t e) {
      Accumulate const q = skew<Accumulate>(parameters, b, k, e / b, e % b);
      m[e] = e / b == e % b ? Accumulate{1} : q;
    });
    tm.barrier();
    for (index_t pivot = 0; pivot < b; ++pivot) {
      Accumulate const inverse = Accumulate{1} / m[pivot * b + pivot];
      tm.vector(b, [&](index_t i) {
        row[i] = i == pivot ? inverse : m[pivot * b + i] * inverse;
        column[i] = -m[i * b + pivot];
      });
      tm.barrier();
      tm.vector(b * b, [&](index_t e) {
        index_t const i = e / b;
        index_t const j = e % b;
        m[e] = i == pivot ? row[j] : std::fma(column[i], row[j], j == pivot ? Accumulate{0} : m[e]);
      });
      tm.barrier();
    }
    tm.vector(b * b, [&](index_t e) {
      rotations(k, e / b, e % b) = store_as<typename R::value_type>(
          std::fma(Accumulate{2}, m[e], e / b == e % b ? Accumulate{-1} : Accumulate{0}));
    });
  }
};

/// out(i, j) = start(i, j) + sum over l of a(i, l) c(l, j), a chain in order, over the lanes of the team.
template <class Accumulate, class Team, class Start, class A, class C>
GRAFT_FN void multiply_blocks(Team const& tm, index_t b, Start const& start, A const& a, C const& c, Accumulate* out) {
  tm.vector(b * b, [&](index_t e) {
    Accumulate sum[1] = {start(e / b, e % b)};
    chain_short_axis(b, [&](int, index_t l) { return a(e / b, l); }, [&](index_t l) { return c(l, e % b); }, sum);
    out[e] = sum[0];
  });
}

/// Generic body: a block a team, by Horner's rule H <- c I + Q H.
template <class P, class R, class Accumulate>
struct cayley_neumann_body {
  static constexpr std::string_view verb = "cayley_neumann";
  static constexpr bool unbounded_scratch = true;
  P parameters;
  R rotations;
  int terms;

  [[nodiscard]] GRAFT_FN constexpr index_t lanes() const { return rotations.extent(1) * rotations.extent(1); }

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const k = tm.league_rank();
    index_t const b = rotations.extent(1);
    auto* const q = tm.template scratch<Accumulate>(3 * b * b);
    auto* h = q + b * b;
    auto* next = h + b * b;
    int const degree = neumann_degree(terms);
    tm.vector(b * b, [&](index_t e) {
      q[e] = skew<Accumulate>(parameters, b, k, e / b, e % b);
      h[e] = e / b == e % b ? static_cast<Accumulate>(neumann_coefficient(terms, degree)) : Accumulate{0};
    });
    tm.barrier();
    for (int power = degree - 1; power >= 0; --power) {
      auto const c = static_cast<Accumulate>(neumann_coefficient(terms, power));
      multiply_blocks(
          tm, b, [&](index_t i, index_t j) { return i == j ? c : Accumulate{0}; },
          [&](index_t i, index_t l) { return q[i * b + l]; }, [&](index_t l, index_t j) { return h[l * b + j]; }, next);
      tm.barrier();
      auto* const last = h;
      h = next;
      next = last;
    }
    tm.vector(b * b, [&](index_t e) { rotations(k, e / b, e % b) = store_as<typename R::value_type>(h[e]); });
  }
};

/// Parameters of D blocks of b x b, packed or square.
template <class P, class R>
void expects_skew(std::string_view verb, std::string_view name, P const& p, std::string_view of, R const& r) {
  expects_equal_extents(verb, name, p, 0, of, r, 0);
  expects_equal_extents(verb, of, r, 1, of, r, 2);
  index_t const b = r.extent(1);
  if constexpr (P::rank() == 2) {
    if (p.extent(1) != b * (b - 1) / 2) [[unlikely]]
      raise(shape_error(text("graft::", verb, ": ", name, shape_text(p), " has ", p.extent(1), " numbers a block but ",
                             of, shape_text(r), " has blocks of ", b, " x ", b, ", which take ", b * (b - 1) / 2)));
  } else {
    expects_equal_extents(verb, name, p, 1, of, r, 1);
    expects_equal_extents(verb, name, p, 2, of, r, 2);
  }
  expects_data(verb, name, p);
}
inline void expects_terms(std::string_view verb, int terms) {
  if (terms < 1 || terms > 64) [[unlikely]]
    raise(argument_error(text("graft::", verb, ": the number of terms is ", terms, " but must be 1 to 64")));
}
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// R = (I - Q) (I + Q)^-1 of every block.
///
/// Shapes       parameters v[D, b (b - 1) / 2] or A[D, b, b] in; R[D, b, b] out. Any strides, any scalars; fp32, or fp64 when one
///              is `double`.
/// Order        I + Q is inverted in place by Gauss and Jordan without pivoting, column by column; then 2 M - I.
/// Aliasing     R may not overlap the parameters.
/// Precision    |R^T R - I| <= 8 b eps (1 + |Q|)^2 in norm, which tests compute with; large |Q| turn by nearly pi.
/// Determinism  equal bits on every executor; a block depends on its own parameters only.
/// Cost         2 D b^3 flops; on hosts sixteen blocks at a time.
/// Scratch      `scratch_bytes(...)` of the same arguments, from the executor's resource: 64 (b^2 + 2 b) bytes a thread on hosts.
/// Errors       shape_error, argument_error; nothing is written then. Parameters that are not finite give blocks of NaN.
struct cayley_fn {
  template <class E, class P, class R>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::cayley", E)
    static_assert(!tensor<P> || P::rank() == 2 || P::rank() == 3,
                  "graft::kernels::cayley: parameters must have rank 2 (packed) or 3 (square)");
    if constexpr (tensor<P>) {
      GRAFT_MANDATE_INPUT("kernels::cayley", "parameters", E, P, P::rank())
    } else {
      GRAFT_MANDATE_INPUT("kernels::cayley", "parameters", E, P, 2)
    }
    GRAFT_MANDATE_OUTPUT("kernels::cayley", "R", E, R, 3)
    return (graft::detail::accepted_input<E, P, 2> || graft::detail::accepted_input<E, P, 3>) &&
           graft::detail::accepted_output<E, R, 3>;
  }
  /// Which body a call takes.
  template <class E, class P, class R>
  static constexpr body chosen = override_for<cayley_fn, E, P, R>::which;

  /// The readable body, on any executor.
  template <executor E, class P, class R>
  void generic(E const& ex, P const& parameters, R const& rotations) const {
    using sums = sums_of<P, R>;
    expects(parameters, rotations);
    if (rotations.size() == 0) return;
    ex.league(rotations.extent(0), team_bytes<P>(rotations),
              graft::detail::cayley_body<P, R, sums>{parameters, rotations});
  }
  template <class E, class P, class R>
  void operator()(E const& ex, P const& parameters, R const& rotations) const {
    if constexpr (mandates<E, P, R>()) {
      using chosen_body = override_for<cayley_fn, E, P, R>;
      if constexpr (chosen_body::which == body::generic) generic(ex, parameters, rotations);
      else {
        expects(parameters, rotations);
        chosen_body::run(ex, parameters, rotations);
      }
    }
  }

  /// Bytes that a call with these arguments takes from the executor's resource.
  template <executor E, class P, class R>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, P const& parameters, R const& rotations) const {
    expects(parameters, rotations);
    using chosen_body = override_for<cayley_fn, E, P, R>;
    if constexpr (chosen_body::which == body::host) return chosen_body::scratch_bytes(ex, parameters, rotations);
    else return generic_scratch_bytes<P>(ex, rotations);
  }
  /// The same of the readable body.
  template <class P, class E, class R>
  [[nodiscard]] static std::size_t generic_scratch_bytes(E const& ex, R const& rotations) {
    if (rotations.size() == 0) return 0;
    return graft::detail::league_bytes(ex, rotations.extent(0), team_bytes<P>(rotations));
  }

 private:
  template <class P, class R>
  using sums_of = accumulate_t<typename P::value_type, typename R::value_type>;
  template <class P, class R>
  [[nodiscard]] static std::size_t team_bytes(R const& rotations) {
    index_t const b = rotations.extent(1);
    return sizeof(sums_of<P, R>) * static_cast<std::size_t>(b * b + 2 * b);
  }
  template <class P, class R>
  static void expects(P const& parameters, R const& rotations) {
    constexpr std::string_view verb = "kernels::cayley";
    graft::detail::expects_skew(verb, "parameters", parameters, "R", rotations);
    graft::detail::expects_output(verb, "R", rotations);
    graft::detail::expects_disjoint(verb, "R", rotations, "parameters", parameters);
  }
};
inline constexpr cayley_fn cayley{};

/// R = I + 2 Q + 2 Q^2 + ... + Q^(terms - 1) of every block: 1 term gives I, 2 give I + 2 Q, 3 and 4 the same polynomial
/// I + 2 Q + 2 Q^2 + Q^3. It approximates (I + Q) (I - Q)^-1, the transpose of `cayley`, for |Q| < 1.
///
/// Shapes       as `cayley`; 1 <= terms <= 64.
/// Order        Horner's rule, each product a short axis from c I.
/// Aliasing     R may not overlap the parameters.
/// Precision    |error| <= terms b eps sum of 2 |Q|^k before the one rounding.
/// Determinism  equal bits on every executor; a block depends on its own parameters only.
/// Cost         2 (terms - 1) D b^3 flops; on hosts sixteen blocks at a time.
/// Scratch      `scratch_bytes(...)` of the same arguments, from the executor's resource: 192 b^2 bytes a thread on hosts.
/// Errors       shape_error, argument_error; nothing is written then.
struct cayley_neumann_fn {
  template <class E, class P, class R>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::cayley_neumann", E)
    static_assert(!tensor<P> || P::rank() == 2 || P::rank() == 3,
                  "graft::kernels::cayley_neumann: parameters must have rank 2 (packed) or 3 (square)");
    if constexpr (tensor<P>) {
      GRAFT_MANDATE_INPUT("kernels::cayley_neumann", "parameters", E, P, P::rank())
    } else {
      GRAFT_MANDATE_INPUT("kernels::cayley_neumann", "parameters", E, P, 2)
    }
    GRAFT_MANDATE_OUTPUT("kernels::cayley_neumann", "R", E, R, 3)
    return (graft::detail::accepted_input<E, P, 2> || graft::detail::accepted_input<E, P, 3>) &&
           graft::detail::accepted_output<E, R, 3>;
  }
  /// Which body a call takes.
  template <class E, class P, class R>
  static constexpr body chosen = override_for<cayley_neumann_fn, E, P, R>::which;

  /// The readable body, on any executor.
  template <executor E, class P, class R>
  void generic(E const& ex, P const& parameters, int terms, R const& rotations) const {
    using sums = sums_of<P, R>;
    expects(parameters, terms, rotations);
    if (rotations.size() == 0) return;
    ex.league(rotations.extent(0), team_bytes<P>(rotations),
              graft::detail::cayley_neumann_body<P, R, sums>{parameters, rotations, terms});
  }
  template <class E, class P, class R>
  void operator()(E const& ex, P const& parameters, int terms, R const& rotations) const {
    if constexpr (mandates<E, P, R>()) {
      using chosen_body = override_for<cayley_neumann_fn, E, P, R>;
      if constexpr (chosen_body::which == body::generic) generic(ex, parameters, terms, rotations);
      else {
        expects(parameters, terms, rotations);
        chosen_body::run(ex, parameters, terms, rotations);
      }
    }
  }

  /// Bytes that a call with these arguments takes from the executor's resource.
  template <executor E, class P, class R>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, P const& parameters, int terms, R const& rotations) const {
    expects(parameters, terms, rotations);
    using chosen_body = override_for<cayley_neumann_fn, E, P, R>;
    if constexpr (chosen_body::which == body::host) return chosen_body::scratch_bytes(ex, parameters, terms, rotations);
    else return generic_scratch_bytes<P>(ex, rotations);
  }
  /// The same of the readable body.
  template <class P, class E, class R>
  [[nodiscard]] static std::size_t generic_scratch_bytes(E const& ex, R const& rotations) {
    if (rotations.size() == 0) return 0;
    return graft::detail::league_bytes(ex, rotations.extent(0), team_bytes<P>(rotations));
  }

 private:
  template <class P, class R>
  using sums_of = accumulate_t<typename P::value_type, typename R::value_type>;
  template <class P, class R>
  [[nodiscard]] static std::size_t team_bytes(R const& rotations) {
    index_t const b = rotations.extent(1);
    return sizeof(sums_of<P, R>) * static_cast<std::size_t>(3 * b * b);
  }
  template <class P, class R>
  static void expects(P const& parameters, int terms, R const& rotations) {
    constexpr std::string_view verb = "kernels::cayley_neumann";
    graft::detail::expects_skew(verb, "parameters", parameters, "R", rotations);
    graft::detail::expects_terms(verb, terms);
    graft::detail::expects_output(verb, "R", rotations);
    graft::detail::expects_disjoint(verb, "R", rotations, "parameters", parameters);
  }
};
inline constexpr cayley_neumann_fn cayley_neumann{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT

// The host body belongs to the verb: whoever sees the verb sees it, whatever is included in which order.
#include <graft/kernels/host/cayley.hpp>
