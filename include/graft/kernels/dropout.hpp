// SPDX-License-Identifier: Apache-2.0
/// @file
/// `dropout`: an explicit mask that is a function of (seed, stream, element), so forward and backward share it without
/// storing it, and it is equal on every backend. `drop` applies it, `drop_add` is its backward.
#pragma once

#include <cstdint>
#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/detail/philox.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/random.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Inverted dropout: an element is 0 with the given probability, else divided by 1 - probability.
/// Element e of x[T, n] is t n + k; give every layer and step its own stream.
struct dropout {
  double probability = 0.0;
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;

  /// True if the element stays.
  [[nodiscard]] GRAFT_FN constexpr bool keeps(index_t element) const {
    return detail::uniform(detail::philox_word(seed, stream, element)) >= static_cast<float>(probability);
  }
};

namespace detail {
inline namespace GRAFT_TARGET {
template <class Accumulate>
struct drop_factor {
  static constexpr std::string_view verb = "drop";
  static constexpr std::string_view verb_add = "drop_add";
  dropout mask;
  Accumulate kept;
  GRAFT_FN Accumulate operator()(index_t element) const { return mask.keeps(element) ? kept : Accumulate{0}; }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// drop: y = mask x. drop_add: y += mask x, the backward.   mask = (keeps ? 1 / (1 - p) : 0)
///
/// Shapes       x[T, n] in; y[T, n] out (in and out for drop_add). Any strides, any scalars; one rounding an element.
/// Preconditions  0 <= probability < 1.
/// Aliasing     y may not overlap x.
/// Cost         T n elements read and written; 10 rounds of Philox for each element.
/// Errors       shape_error, argument_error; nothing is written then.
template <bool Add>
struct drop_fn {
  template <class E, class X, class Y>
  static consteval bool mandates() {
    if constexpr (Add) {
      GRAFT_MANDATE_EXECUTOR("kernels::drop_add", E)
      GRAFT_MANDATE_INPUT("kernels::drop_add", "x", E, X, 2)
      GRAFT_MANDATE_OUTPUT("kernels::drop_add", "y", E, Y, 2)
    } else {
      GRAFT_MANDATE_EXECUTOR("kernels::drop", E)
      GRAFT_MANDATE_INPUT("kernels::drop", "x", E, X, 2)
      GRAFT_MANDATE_OUTPUT("kernels::drop", "y", E, Y, 2)
    }
    return graft::detail::accepted_input<E, X, 2> && graft::detail::accepted_output<E, Y, 2>;
  }

  template <class E, class X, class Y>
  void operator()(E const& ex, dropout const& mask, X const& x, Y const& y) const {
    if constexpr (mandates<E, X, Y>()) {
      constexpr std::string_view verb = Add ? "kernels::drop_add" : "kernels::drop";
      if (!(mask.probability >= 0.0 && mask.probability < 1.0)) [[unlikely]]
        graft::detail::raise(argument_error(graft::detail::text("graft::", verb, ": the probability is ",
                                                                mask.probability, " but must lie in [0, 1)")));
      using accumulate = accumulate_t<typename X::value_type, typename Y::value_type>;
      graft::detail::scale_elements<Add>(
          ex, verb,
          graft::detail::drop_factor<accumulate>{mask, static_cast<accumulate>(1.0 / (1.0 - mask.probability))}, x, y,
          false);
    }
  }
};
inline constexpr drop_fn<false> drop{};
inline constexpr drop_fn<true> drop_add{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
