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
#include <graft/kernels/summation.hpp>
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
template <class X, class Y, bool Add>
struct jitter_body {
  static constexpr std::string_view verb = Add ? "jitter_add" : "jitter";
  jitter_noise noise;
  X x;
  Y y;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    using accumulate = accumulate_t<typename X::value_type, typename Y::value_type>;
    row_tile<Team::row_block> const tile(tm.league_rank(), y.extent(0));
    random_stream const source{noise.seed, noise.stream};
    for (int t = 0; t < tile.count; ++t) {
      index_t const i = tile.row[t];
      tm.vector(y.extent(1), [&](index_t j) {
        double const u = symmetric_uniform(source, i * y.extent(1) + j);
        auto const factor = static_cast<accumulate>(std::fma(noise.amount, u, 1.0));
        auto const value = load_as<accumulate>(x(i, j));
        if constexpr (Add)
          y(i, j) = store_as<typename Y::value_type>(std::fma(factor, value, load_as<accumulate>(y(i, j))));
        else y(i, j) = store_as<typename Y::value_type>(factor * value);
      });
    }
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
      graft::detail::expects_equal_extents(verb, "y", y, 0, "x", x, 0);
      graft::detail::expects_equal_extents(verb, "y", y, 1, "x", x, 1);
      graft::detail::expects_data(verb, "x", x);
      graft::detail::expects_output(verb, "y", y);
      if (Add || !graft::detail::is_same_view(x, y)) graft::detail::expects_disjoint(verb, "y", y, "x", x);
      ex.league(graft::detail::tiles(y.extent(0), E::row_block), 0, graft::detail::jitter_body<X, Y, Add>{noise, x, y});
    }
  }
};
inline constexpr jitter_fn<false> jitter{};
inline constexpr jitter_fn<true> jitter_add{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
