// SPDX-License-Identifier: Apache-2.0
/// @file
/// BitFit: biases alone are trained (Ben Zaken et al. 2021, arXiv 2106.10199). What PEFT does with `bias="all"`.
///
///     y = x W^T + bias + b        b[m] is what is learnt on top of the layer's own bias
#pragma once

#include <tuple>
#include <type_traits>

#include <graft/adapters/concepts.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/kernels/bias.hpp>
#include <graft/kernels/override.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Where the gradient is added; `graft::none` when it is not trained.
template <class Bias = none_t>
struct bitfit_gradients {
  [[no_unique_address]] Bias bias{};
};

/// What is added to the bias of a layer, one number an output feature.
template <class Bias>
struct bitfit {
  static_assert(vector_view<Bias>,
                "graft::bitfit: bias must be a vector view; wrap the data: graft::view(pointer, size)");
  Bias bias;
  static constexpr bool has_bias = true;
  [[nodiscard]] GRAFT_FN index_t out_features() const { return bias.extent(0); }
  using gradients = bitfit_gradients<>;
};

inline namespace GRAFT_TARGET {

/// y += bias.
///
/// Shapes       x[T, n], of which only the types matter; y[T, m] in and out.
/// Everything else: `kernels::add_bias`.
template <class E, class B, class X, class Y>
void add_delta(E const& ex, bitfit<B> const& a, X const&, Y const& y) {
  kernels::add_bias(ex, a.bias, y);
}

/// dbias += sum over tokens of dy. x and dx are not touched.
///
/// Shapes       dy[T, m] in; gradients.bias[m] in and out, or `graft::none`.
/// Everything else: `kernels::sum_rows`.
template <class E, class B, class X, class DY, class GB, class DX>
void backward(E const& ex, bitfit<B> const& a, X const&, DY const& dy, bitfit_gradients<GB> const& gradients,
              DX const&) {
  if constexpr (detail::is_there<GB>) {
    detail::expects_equal_extents("backward", "dy", dy, 1, "the bias", a.bias, 0);
    kernels::sum_rows(ex, dy, gradients.bias);
  }
}

/// merge: base_bias += bias. unmerge: the same subtracted. The weight stays as it is: W is only looked at.
///
/// Shapes       W[m, n]; base_bias[m] in and out.
/// Cost         m flops, one rounding an element.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class B, class W, class Bias>
void merge(E const& ex, bitfit<B> const& a, W const& w, Bias const& base_bias) {
  detail::expects_equal_extents("merge", "W", w, 0, "the bias", a.bias, 0);
  kernels::add_bias(ex, a.bias, detail::as_row(base_bias));
}
template <class E, class B, class W, class Bias>
void unmerge(E const& ex, bitfit<B> const& a, W const& w, Bias const& base_bias) {
  detail::expects_equal_extents("unmerge", "W", w, 0, "the bias", a.bias, 0);
  kernels::add_bias(ex, a.bias, detail::as_row(base_bias), -1.0);
}

/// The adapter of output features [first, first + count). Checked.
template <class B>
[[nodiscard]] auto output_rows(bitfit<B> const& a, index_t first, index_t count) {
  auto const bias = detail::output_slice(a.bias, first, count);
  return bitfit<std::remove_const_t<decltype(bias)>>{bias};
}

/// What is trained: the bias, m.
template <class B>
[[nodiscard]] auto trainable(bitfit<B> const& a) {
  return std::tuple{parameter<B>{"bias", a.bias}};
}

/// A fresh adapter: 0, so that nothing changes.
template <class E, class B>
void initialize(E const& ex, bitfit<B> const& a) {
  GRAFT_MANDATE_OUTPUT("initialize", "bias", E, B, 1)
  if constexpr (detail::accepted_output<E, B, 1>) {
    detail::expects_output("initialize", "bias", a.bias);
    detail::fill_zero(ex, detail::as_row(a.bias));
  }
}

}  // namespace GRAFT_TARGET

static_assert(differentiable<bitfit<detail::archetype_vector>>);

}  // namespace graft::inline GRAFT_CONTRACT
