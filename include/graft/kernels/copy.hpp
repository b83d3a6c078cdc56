// SPDX-License-Identifier: Apache-2.0
/// @file
/// `copy`: elements from one view to another, converted with one rounding. The generic body is the body.
#pragma once

#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/elements.hpp>
#include <graft/kernels/override.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {
template <class X, class Y>
struct copy_value {
  static constexpr std::string_view verb = "copy";
  X x;
  GRAFT_FN auto operator()(index_t i, index_t j) const {
    return load_as<accumulate_t<typename X::value_type, typename Y::value_type>>(x(i, j));
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// Y[i, j] = X[i, j], rounded once to Y's type.
///
/// Shapes       X[p, q] in; Y[p, q] out. Any strides, any scalars.
/// Aliasing     Y may not overlap X.
/// Cost         p q elements read and written.
/// Errors       shape_error, argument_error; nothing is written then.
struct copy_fn {
  template <class E, class X, class Y>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::copy", E)
    GRAFT_MANDATE_INPUT("kernels::copy", "X", E, X, 2)
    GRAFT_MANDATE_OUTPUT("kernels::copy", "Y", E, Y, 2)
    return graft::detail::accepted_input<E, X, 2> && graft::detail::accepted_output<E, Y, 2>;
  }

  template <class E, class X, class Y>
  void operator()(E const& ex, X const& x, Y const& y) const {
    if constexpr (mandates<E, X, Y>()) {
      constexpr std::string_view verb = "kernels::copy";
      graft::detail::expects_equal_extents(verb, "Y", y, 0, "X", x, 0);
      graft::detail::expects_equal_extents(verb, "Y", y, 1, "X", x, 1);
      graft::detail::expects_data(verb, "X", x);
      graft::detail::expects_output(verb, "Y", y);
      graft::detail::expects_disjoint(verb, "Y", y, "X", x);
      graft::detail::write_elements(ex, y, graft::detail::copy_value<X, Y>{x});
    }
  }
};
inline constexpr copy_fn copy{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
