// SPDX-License-Identifier: Apache-2.0
/// @file
/// `fill_uniform` and `fill_normal`: random numbers that are a function of (seed, stream, element), equal on every backend,
/// for every stride and number of threads. The generic body is the body.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/detail/elementary.hpp>
#include <graft/detail/philox.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/elements.hpp>
#include <graft/kernels/override.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Where random numbers come from. Element (i, j) of a view of q columns takes number first + i q + j of the stream.
/// A number serves one purpose: give every tensor its own stream, or its own range of one.
struct random_stream {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
  index_t first = 0;
};

namespace detail {
inline namespace GRAFT_TARGET {

/// (-1, 1) in odd multiples of 2^-32: exact in fp64, symmetric, never 0.
GRAFT_FN double symmetric_uniform(random_stream const& s, index_t element) {
  auto const word = std::int64_t{philox_word(s.seed, s.stream, s.first + element)};
  return static_cast<double>(2 * word + 1 - (std::int64_t{1} << 32)) * 0x1p-32;
}

/// cos 2 pi v for v in [0, 1), within 2 ulp of 1. Reduced to an eighth of a turn, where Taylor's series is short.
GRAFT_FN double portable_cos_turn(double v) {
  int const quarter = static_cast<int>(std::fma(v, 4.0, 0.5));
  double const x = 6.283185307179586 * std::fma(-0.25, quarter, v);  // the fma is exact
  double const z = -x * x;
  bool const sine = quarter % 2 != 0;
  double sum = 1.0;
  for (int k = 9; k >= 1; --k) {  // 1 + z / (2 k (2 k -+ 1)) (1 + ...); z^10 / 20! < 2^-65
    double const factor = z / (2 * k * (sine ? 2 * k + 1 : 2 * k - 1));
    sum = std::fma(factor, sum, 1.0);
  }
  double const value = sine ? x * sum : sum;
  return quarter == 1 || quarter == 2 ? -value : value;
}

/// Standard normal by Box and Muller: sqrt(-2 log u) cos 2 pi v from one block of four words. |value| < 8.6.
GRAFT_FN double standard_normal(random_stream const& s, index_t element) {
  auto const w = philox(s.seed, s.stream, static_cast<std::uint64_t>(s.first + element));
  std::uint64_t const a = (std::uint64_t{w[0]} << 20U) | (w[1] >> 12U);  // 52 bits
  std::uint64_t const b = (std::uint64_t{w[2]} << 21U) | (w[3] >> 11U);  // 53 bits
  double const u = static_cast<double>(2 * a + 1) * 0x1p-53;             // (0, 1), exact
  double const v = static_cast<double>(b) * 0x1p-53;                     // [0, 1), exact
  return std::sqrt(-2.0 * portable_log(u)) * portable_cos_turn(v);
}

/// Number i q + j of the stream.
template <bool Normal>
struct fill_random_value {
  static constexpr std::string_view verb = Normal ? "fill_normal" : "fill_uniform";
  random_stream source;
  index_t columns;
  double scale;
  GRAFT_FN double operator()(index_t i, index_t j) const {
    index_t const element = i * columns + j;
    return scale * (Normal ? standard_normal(source, element) : symmetric_uniform(source, element));
  }
};

/// factor(e) x, or y + factor(e) x; element (i, j) of q columns is e = i q + j.
template <class Factor, class X, class Y, bool Add>
struct scale_elements_value {
  static constexpr std::string_view verb = Add ? Factor::verb_add : Factor::verb;
  Factor factor;
  X x;
  Y y;
  GRAFT_FN auto operator()(index_t i, index_t j) const {
    using accumulate = accumulate_t<typename X::value_type, typename Y::value_type>;
    accumulate const f = factor(i * y.extent(1) + j);
    accumulate const value = load_as<accumulate>(x(i, j));
    if constexpr (Add) return std::fma(f, value, load_as<accumulate>(y(i, j)));
    else return f * value;
  }
};
/// The pass that writes them to y, checked. y may be x itself where it is `in_place`.
template <bool Add, class E, class Factor, class X, class Y>
void scale_elements(E const& ex, std::string_view verb, Factor const& factor, X const& x, Y const& y, bool in_place) {
  expects_equal_extents(verb, "y", y, 0, "x", x, 0);
  expects_equal_extents(verb, "y", y, 1, "x", x, 1);
  expects_data(verb, "x", x);
  expects_output(verb, "y", y);
  if (!in_place || !is_same_view(x, y)) expects_disjoint(verb, "y", y, "x", x);
  write_elements(ex, y, scale_elements_value<Factor, X, Y, Add>{factor, x, y});
}
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// fill_uniform: Y[i, j] = scale u, u uniform in (-1, 1). fill_normal: Y[i, j] = scale z, z standard normal.
///
/// Shapes       Y[p, q] out. Any strides, any scalars; computed in fp64 and rounded once.
/// Preconditions  scale is finite; the numbers first ... first + p q - 1 exist in 64 bits.
/// Precision    z is within 4 eps64 sqrt(-2 log u) of Box and Muller's formula. Philox4x32-10, 32 bits for u, 105 for z.
/// Determinism  a function of (seed, stream, element): every executor gives the same bits, also without libm's.
/// Cost         10 rounds of Philox an element; a normal number also about 80 fp64 operations.
/// Errors       argument_error; nothing is written then.
/// Source       Salmon et al. 2011; Box and Muller 1958.
template <bool Normal>
struct fill_random_fn {
  template <class E, class Y>
  static consteval bool mandates() {
    if constexpr (Normal) {
      GRAFT_MANDATE_EXECUTOR("kernels::fill_normal", E)
      GRAFT_MANDATE_OUTPUT("kernels::fill_normal", "Y", E, Y, 2)
    } else {
      GRAFT_MANDATE_EXECUTOR("kernels::fill_uniform", E)
      GRAFT_MANDATE_OUTPUT("kernels::fill_uniform", "Y", E, Y, 2)
    }
    return graft::detail::accepted_output<E, Y, 2>;
  }

  template <class E, class Y>
  void operator()(E const& ex, random_stream const& source, Y const& y, scaling scale = 1.0) const {
    if constexpr (mandates<E, Y>()) {
      constexpr std::string_view verb = Normal ? "kernels::fill_normal" : "kernels::fill_uniform";
      graft::detail::expects_output(verb, "Y", y);
      static_cast<void>(graft::detail::checked_sum(source.first, y.size(), verb));
      if (source.first < 0 || !std::isfinite(scale.value())) [[unlikely]]
        graft::detail::raise(
            argument_error(graft::detail::text("graft::", verb, ": first is ", source.first, " and scale ",
                                               scale.value(), "; the one must not be negative, the other finite")));
      graft::detail::write_elements(ex, y,
                                    graft::detail::fill_random_value<Normal>{source, y.extent(1), scale.value()});
    }
  }
};
inline constexpr fill_random_fn<false> fill_uniform{};
inline constexpr fill_random_fn<true> fill_normal{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
