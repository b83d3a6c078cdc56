// SPDX-License-Identifier: Apache-2.0
/// @file
/// `fill`: one number everywhere. The generic body is the body.
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
template <class Number>
struct fill_value {
  static constexpr std::string_view verb = "fill";
  Number number;
  GRAFT_FN Number operator()(index_t, index_t) const { return number; }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// Y[i, j] = number, rounded once to Y's type.
///
/// Shapes       Y[p, q] out. Any strides, any scalar.
/// Cost         p q elements written.
/// Errors       argument_error; nothing is written then.
struct fill_fn {
  template <class E, class Y>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::fill", E)
    GRAFT_MANDATE_OUTPUT("kernels::fill", "Y", E, Y, 2)
    return graft::detail::accepted_output<E, Y, 2>;
  }

  template <class E, class Y>
  void operator()(E const& ex, double number, Y const& y) const {
    if constexpr (mandates<E, Y>()) {
      graft::detail::expects_output("kernels::fill", "Y", y);
      using number_type = typename Y::value_type;
      graft::detail::write_elements(ex, y, graft::detail::fill_value<number_type>{store_as<number_type>(number)});
    }
  }
};
inline constexpr fill_fn fill{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
