// SPDX-License-Identifier: Apache-2.0
/// @file
/// `jitter`: numbers times random factors near 1, a function of (seed, stream, element), so that forward and backward share them.
/// The generic body is the body.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/random.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Factors uniform in (1 - amount, 1 + amount). Element e of x[T, n] is t n + k; give every layer and step its own stream.
struct jitter_noise {
  double amount = 0.01;
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
};

namespace detail {
inline namespace GRAFT_TARGET {
template <class Accumulate>
struct jitter_factor {
  static constexpr std::string_view verb = "jitter";
  static constexpr std::string_view verb_add = "jitter_add";
  jitter_noise noise;
  GRAFT_FN Accumulate operator()(index_t element) const {
    double const u = symmetric_uniform({noise.seed, noise.stream}, element);
    return static_cast<Accumulate>(std::fma(noise.amount, u, 1.0));
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// jitter: y = x u, u uniform in (1 - amount, 1 + amount). jitter_add: y += x u, its backward.
///
/// Shapes       x[p, q] in; y[p, q] out (jitter_add: in and out). Any strides, any scalars; one rounding an element.
/// Preconditions  0 <= amount < 1.
/// Aliasing     jitter: y may be x itself; else y may not overlap x.
/// Cost         10 rounds of Philox an element.
/// Errors       shape_error, argument_error; nothing is written then.
/// Source       Fedus et al. 2021 (arXiv 2101.03961), section 2.4 and appendix F: of the router's input, in training, amount 0.01.
template <bool Add>
struct jitter_fn {
  template <class E, class X, class Y>
  void operator()(E const& ex, jitter_noise const& noise, X const& x, Y const& y) const {
    GRAFT_MANDATE_EXECUTOR("kernels::jitter, jitter_add", E)
    GRAFT_MANDATE_INPUT("kernels::jitter, jitter_add", "x", E, X, 2)
    GRAFT_MANDATE_OUTPUT("kernels::jitter, jitter_add", "y", E, Y, 2)
    if constexpr (graft::detail::accepted_input<E, X, 2> && graft::detail::accepted_output<E, Y, 2>) {
      constexpr std::string_view verb = Add ? "kernels::jitter_add" : "kernels::jitter";
      if (!(noise.amount >= 0.0 && noise.amount < 1.0)) [[unlikely]]
        graft::detail::raise(argument_error(
            graft::detail::text("graft::", verb, ": the amount is ", noise.amount, " but must lie in [0, 1)")));
      using accumulate = accumulate_t<typename X::value_type, typename Y::value_type>;
      graft::detail::scale_elements<Add>(ex, verb, graft::detail::jitter_factor<accumulate>{noise}, x, y, !Add);
    }
  }
};
inline constexpr jitter_fn<false> jitter{};
inline constexpr jitter_fn<true> jitter_add{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
