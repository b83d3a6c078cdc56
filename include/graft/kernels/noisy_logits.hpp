// SPDX-License-Identifier: Apache-2.0
/// @file
/// `noisy_logits` and `load_probabilities`: logits with trainable noise, how likely each expert would be chosen again, and the way
/// back. Shazeer et al. 2017 (arXiv 1701.06538), equations 4, 8 and 9. The generic body is the body; everything is in fp64.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/detail/elementary.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/elements.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/random.hpp>
#include <graft/kernels/top_k.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {

/// Noise of element (t, e): of a view, or number t E + e of a stream.
template <class N>
GRAFT_FN double noise_at(N const& noise, index_t t, index_t e, index_t experts) {
  if constexpr (std::is_same_v<N, random_stream>) return standard_normal(noise, t * experts + e);
  else return load_as<double>(noise(t, e));
}
/// The standard deviation softplus(raw) + floor.
GRAFT_FN double deviation_of(double raw, double floor) { return portable_softplus(raw) + floor; }

/// H = clean + noise deviation.
template <class C, class R, class N>
struct noisy_logits_value {
  static constexpr std::string_view verb = "noisy_logits";
  C clean;
  R raw;
  N noise;
  double floor;
  GRAFT_FN double operator()(index_t t, index_t e) const {
    double const deviation = deviation_of(load_as<double>(raw(t, e)), floor);
    return std::fma(noise_at(noise, t, e, clean.extent(1)), deviation, load_as<double>(clean(t, e)));
  }
};
/// Its backward: dclean += dH, draw += dH noise sigmoid(raw).
template <class R, class N, class DH, class DC, class DR>
struct noisy_logits_backward_pass {
  static constexpr std::string_view verb = "noisy_logits_backward";
  R raw;
  N noise;
  DH dnoisy;
  DC dclean;
  DR draw;

  struct sums {
    double clean;
    double raw;
  };
  [[nodiscard]] GRAFT_FN sums read(index_t t, index_t e) const {
    double const dh = load_as<double>(dnoisy(t, e));
    double const of_deviation = dh * noise_at(noise, t, e, dnoisy.extent(1));
    return {load_as<double>(dclean(t, e)) + dh,
            std::fma(of_deviation, portable_sigmoid(load_as<double>(raw(t, e))), load_as<double>(draw(t, e)))};
  }
  GRAFT_FN void write(index_t t, index_t e, sums const& element) const {
    store_element(dclean, t, e, element.clean);
    store_element(draw, t, e, element.raw);
  }
};

/// A row a team. P(e) = Phi((clean - threshold) / deviation), the threshold being the k-th largest H without e.
template <class C, class R, class H, class P, class DC, class DR, class DH>
struct load_body {
  static constexpr std::string_view verb =
      std::is_same_v<DC, none_t> ? "load_probabilities" : "load_probabilities_backward";
  C clean;
  R raw;
  H noisy;
  index_t k;
  double floor;
  P p;  // backward: the gradients of the loads, rank 1
  DC dclean;
  DR draw;
  DH dnoisy;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const t = tm.league_rank();
    index_t const n = clean.extent(1);
    auto* const key = tm.template scratch<std::int64_t>(3 * n + 2);
    auto* const order = reinterpret_cast<std::int32_t*>(key + n);
    auto* const slope = reinterpret_cast<double*>(key + 2 * n);
    auto* const limit = reinterpret_cast<index_t*>(slope + n);
    tm.vector(n, [&](index_t e) { key[e] = key_of(load_as<double>(noisy(t, e))); });
    tm.barrier();
    if (k < n)
      select_in_order(tm, key, order, n, k + 1, [&](index_t s, index_t e) {
        if (s >= k - 1) limit[s - (k - 1)] = e;
      });
    tm.barrier();
    index_t const kth = k < n ? limit[0] : -1;   // for those outside the k largest
    index_t const next = k < n ? limit[1] : -1;  // for those inside
    auto const inside = [&](index_t e) { return k == n || key[e] > key[kth] || (key[e] == key[kth] && e <= kth); };
    tm.vector(n, [&](index_t e) {
      double const r = load_as<double>(raw(t, e));
      double const deviation = deviation_of(r, floor);
      double const distance =
          k == n ? 0.0 : load_as<double>(clean(t, e)) - load_as<double>(noisy(t, inside(e) ? next : kth));
      double const x = distance == 0.0 ? 0.0 : distance / deviation;
      if constexpr (std::is_same_v<DC, none_t>) {
        p(t, e) = store_as<typename P::value_type>(k == n ? 1.0 : portable_normal_cdf(x));
      } else {
        slope[e] = portable_normal_density(x) * load_as<double>(p(e)) / deviation;
        if (k == n || !(slope[e] != 0.0)) return;  // an infinite distance has none
        dclean(t, e) = store_as<typename DC::value_type>(load_as<double>(dclean(t, e)) + slope[e]);
        draw(t, e) = store_as<typename DR::value_type>(
            std::fma(-slope[e] * x, portable_sigmoid(r), load_as<double>(draw(t, e))));
      }
    });
    if constexpr (!std::is_same_v<DC, none_t>) {
      if (k == n) return;
      tm.barrier();
      tm.vector(2, [&](index_t side) {  // of those outside, of those inside
        index_t const to = side == 0 ? kth : next;
        for (index_t e = 0; e < n; ++e)
          if (inside(e) == (side == 1) && slope[e] != 0.0)
            dnoisy(t, to) = store_as<typename DH::value_type>(load_as<double>(dnoisy(t, to)) - slope[e]);
      });
    }
  }
  [[nodiscard]] index_t lanes() const { return clean.extent(1); }
  static std::size_t scratch(index_t n) { return sizeof(std::int64_t) * static_cast<std::size_t>(3 * n + 2); }
};

template <class V, class W>
void expects_same_shape(std::string_view verb, std::string_view name, V const& v, std::string_view of, W const& w) {
  expects_equal_extents(verb, name, v, 0, of, w, 0);
  expects_equal_extents(verb, name, v, 1, of, w, 1);
  expects_data(verb, name, v);
}

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// H = clean + noise (softplus(raw) + floor).
///
/// Shapes       clean[T, E], raw[T, E], noise[T, E] or a `random_stream` (element t E + e of it, standard normal) in; H[T, E] out.
///              Any strides, any scalars; computed in fp64 and rounded once.
/// Aliasing     H may not overlap anything else.
/// Cost         about 100 fp64 operations an element; a number of a stream as many more.
/// Errors       shape_error, argument_error; nothing is written then.
struct noisy_logits_fn {
  template <class E, class C, class R, class N, class H>
  void operator()(E const& ex, C const& clean, R const& raw, N const& noise, H const& noisy, double floor = 0.0) const {
    GRAFT_MANDATE_EXECUTOR("kernels::noisy_logits", E)
    GRAFT_MANDATE_INPUT("kernels::noisy_logits", "clean", E, C, 2)
    GRAFT_MANDATE_INPUT("kernels::noisy_logits", "raw", E, R, 2)
    GRAFT_MANDATE_OUTPUT("kernels::noisy_logits", "H", E, H, 2)
    if constexpr (graft::detail::accepted_input<E, C, 2> && graft::detail::accepted_input<E, R, 2> &&
                  graft::detail::accepted_output<E, H, 2>) {
      constexpr std::string_view verb = "kernels::noisy_logits";
      graft::detail::expects_same_shape(verb, "clean", clean, "H", noisy);
      graft::detail::expects_same_shape(verb, "raw", raw, "H", noisy);
      if constexpr (!std::is_same_v<N, random_stream>)
        graft::detail::expects_same_shape(verb, "noise", noise, "H", noisy);
      graft::detail::expects_output(verb, "H", noisy);
      graft::detail::expects_disjoint(verb, "H", noisy, "clean", clean);
      graft::detail::expects_disjoint(verb, "H", noisy, "raw", raw);
      graft::detail::write_elements(ex, noisy, graft::detail::noisy_logits_value<C, R, N>{clean, raw, noise, floor});
    }
  }
};
inline constexpr noisy_logits_fn noisy_logits{};

/// dclean += dH, draw += dH noise sigmoid(raw).
///
/// Shapes       raw[T, E], noise as in the forward, dH[T, E] in; dclean[T, E], draw[T, E] in and out. Otherwise as `noisy_logits`.
struct noisy_logits_backward_fn {
  template <class E, class R, class N, class DH, class DC, class DR>
  void operator()(E const& ex, R const& raw, N const& noise, DH const& dnoisy, DC const& dclean, DR const& draw) const {
    GRAFT_MANDATE_EXECUTOR("kernels::noisy_logits_backward", E)
    GRAFT_MANDATE_INPUT("kernels::noisy_logits_backward", "raw", E, R, 2)
    GRAFT_MANDATE_INPUT("kernels::noisy_logits_backward", "dH", E, DH, 2)
    GRAFT_MANDATE_OUTPUT("kernels::noisy_logits_backward", "dclean", E, DC, 2)
    GRAFT_MANDATE_OUTPUT("kernels::noisy_logits_backward", "draw", E, DR, 2)
    if constexpr (graft::detail::accepted_input<E, R, 2> && graft::detail::accepted_input<E, DH, 2> &&
                  graft::detail::accepted_output<E, DC, 2> && graft::detail::accepted_output<E, DR, 2>) {
      constexpr std::string_view verb = "kernels::noisy_logits_backward";
      graft::detail::expects_same_shape(verb, "raw", raw, "dH", dnoisy);
      if constexpr (!std::is_same_v<N, random_stream>)
        graft::detail::expects_same_shape(verb, "noise", noise, "dH", dnoisy);
      graft::detail::expects_same_shape(verb, "dclean", dclean, "dH", dnoisy);
      graft::detail::expects_same_shape(verb, "draw", draw, "dH", dnoisy);
      graft::detail::expects_output(verb, "dclean", dclean);
      graft::detail::expects_output(verb, "draw", draw);
      graft::detail::expects_disjoint(verb, "dclean", dclean, "dH", dnoisy);
      graft::detail::expects_disjoint(verb, "draw", draw, "dH", dnoisy);
      graft::detail::expects_disjoint(verb, "draw", draw, "dclean", dclean);
      graft::detail::expects_disjoint(verb, "draw", draw, "raw", raw);
      graft::detail::run_pass(
          ex, dnoisy.extent(0), dnoisy.extent(1),
          graft::detail::noisy_logits_backward_pass<R, N, DH, DC, DR>{raw, noise, dnoisy, dclean, draw});
    }
  }
};
inline constexpr noisy_logits_backward_fn noisy_logits_backward{};

/// P[t, e] = Phi((clean - the k-th largest H of the row without e) / (softplus(raw) + floor)): the probability that e is among the k
/// with noise drawn again. For k = E it is 1.
///
/// Shapes       clean[T, E], raw[T, E], H[T, E] in; P[T, E] out. Any strides, any scalars; computed in fp64 and rounded once.
/// Order        a row depends on its own. Equal H: the lower index is the larger.
/// Preconditions  1 <= k <= E; logits are finite. A deviation of 0 gives 0, 1/2 or 1.
/// Aliasing     P may not overlap anything else.
/// Cost         about 300 fp64 operations an element. Scratch: 24 E + 16 bytes a team.
/// Errors       shape_error, argument_error; nothing is written then.
struct load_probabilities_fn {
  template <class E, class C, class R, class H, class P>
  void operator()(E const& ex, C const& clean, R const& raw, H const& noisy, index_t k, P const& p,
                  double floor = 0.0) const {
    GRAFT_MANDATE_EXECUTOR("kernels::load_probabilities", E)
    GRAFT_MANDATE_INPUT("kernels::load_probabilities", "clean", E, C, 2)
    GRAFT_MANDATE_INPUT("kernels::load_probabilities", "raw", E, R, 2)
    GRAFT_MANDATE_INPUT("kernels::load_probabilities", "H", E, H, 2)
    GRAFT_MANDATE_OUTPUT("kernels::load_probabilities", "P", E, P, 2)
    if constexpr (graft::detail::accepted_input<E, C, 2> && graft::detail::accepted_input<E, R, 2> &&
                  graft::detail::accepted_input<E, H, 2> && graft::detail::accepted_output<E, P, 2>) {
      constexpr std::string_view verb = "kernels::load_probabilities";
      graft::detail::expects_choices(verb, k, noisy.extent(1), "experts");
      graft::detail::expects_same_shape(verb, "clean", clean, "H", noisy);
      graft::detail::expects_same_shape(verb, "raw", raw, "H", noisy);
      graft::detail::expects_same_shape(verb, "P", p, "H", noisy);
      graft::detail::expects_output(verb, "P", p);
      graft::detail::expects_disjoint(verb, "P", p, "clean", clean);
      graft::detail::expects_disjoint(verb, "P", p, "raw", raw);
      graft::detail::expects_disjoint(verb, "P", p, "H", noisy);
      using body = graft::detail::load_body<C, R, H, P, none_t, none_t, none_t>;
      ex.league(noisy.extent(0), body::scratch(noisy.extent(1)), body{clean, raw, noisy, k, floor, p, {}, {}, {}});
    }
  }
};
inline constexpr load_probabilities_fn load_probabilities{};

/// The gradient of load[e] = sum over tokens of P[t, e]: adds to dclean, draw and dH. Thresholds carry gradients into dH, and those
/// of dH go back by `noisy_logits_backward`.
///
/// Shapes       clean[T, E], raw[T, E], H[T, E], dload[E] in; dclean, draw, dH [T, E] in and out. Otherwise as `load_probabilities`.
struct load_probabilities_backward_fn {
  template <class E, class C, class R, class H, class DL, class DC, class DR, class DH>
  void operator()(E const& ex, C const& clean, R const& raw, H const& noisy, index_t k, DL const& dload,
                  DC const& dclean, DR const& draw, DH const& dnoisy, double floor = 0.0) const {
    GRAFT_MANDATE_EXECUTOR("kernels::load_probabilities_backward", E)
    GRAFT_MANDATE_INPUT("kernels::load_probabilities_backward", "H", E, H, 2)
    GRAFT_MANDATE_INPUT("kernels::load_probabilities_backward", "dload", E, DL, 1)
    GRAFT_MANDATE_OUTPUT("kernels::load_probabilities_backward", "dclean", E, DC, 2)
    GRAFT_MANDATE_OUTPUT("kernels::load_probabilities_backward", "draw", E, DR, 2)
    GRAFT_MANDATE_OUTPUT("kernels::load_probabilities_backward", "dH", E, DH, 2)
    if constexpr (graft::detail::accepted_input<E, C, 2> && graft::detail::accepted_input<E, R, 2> &&
                  graft::detail::accepted_input<E, H, 2> && graft::detail::accepted_input<E, DL, 1> &&
                  graft::detail::accepted_output<E, DC, 2> && graft::detail::accepted_output<E, DR, 2> &&
                  graft::detail::accepted_output<E, DH, 2>) {
      constexpr std::string_view verb = "kernels::load_probabilities_backward";
      graft::detail::expects_choices(verb, k, noisy.extent(1), "experts");
      graft::detail::expects_same_shape(verb, "clean", clean, "H", noisy);
      graft::detail::expects_same_shape(verb, "raw", raw, "H", noisy);
      graft::detail::expects_equal_extents(verb, "dload", dload, 0, "H", noisy, 1);
      auto const apart = [&](std::string_view name, auto const& out) {
        graft::detail::expects_same_shape(verb, name, out, "H", noisy);
        graft::detail::expects_output(verb, name, out);
        graft::detail::expects_disjoint(verb, name, out, "clean", clean);
        graft::detail::expects_disjoint(verb, name, out, "raw", raw);
        graft::detail::expects_disjoint(verb, name, out, "H", noisy);
      };
      apart("dclean", dclean);
      apart("draw", draw);
      apart("dH", dnoisy);
      graft::detail::expects_disjoint(verb, "draw", draw, "dclean", dclean);
      graft::detail::expects_disjoint(verb, "dH", dnoisy, "dclean", dclean);
      graft::detail::expects_disjoint(verb, "dH", dnoisy, "draw", draw);
      using body = graft::detail::load_body<C, R, H, DL, DC, DR, DH>;
      ex.league(noisy.extent(0), body::scratch(noisy.extent(1)),
                body{clean, raw, noisy, k, floor, dload, dclean, draw, dnoisy});
    }
  }
};
inline constexpr load_probabilities_backward_fn load_probabilities_backward{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
