// SPDX-License-Identifier: Apache-2.0
/// @file
/// LN tuning: layers of normalisation alone are trained (Zhao et al. 2023, arXiv 2312.11420), as PEFT's LN_TUNING does it. It
/// swaps whole layers, so this is LayerNorm and RMSNorm with their backward; merging means to keep the new weights.
///
///     layer_norm    y = (x - mean) / sqrt(variance + eps) * weight + bias        rms_norm    y = x / sqrt(mean of x^2 + eps) * weight
#pragma once

#include <tuple>

#include <graft/adapters/concepts.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/config.hpp>
#include <graft/kernels/fill.hpp>
#include <graft/kernels/normalize.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Where gradients are added; `graft::none` for what is not trained.
template <class Weight = none_t, class Bias = none_t>
struct norm_gradients {
  [[no_unique_address]] Weight weight{};
  [[no_unique_address]] Bias bias{};
};

/// A LayerNorm over n features: PEFT's ln_tuning_layers.weight and .bias (which may be `graft::none`), and eps.
template <class Weight, class Bias = none_t>
struct layer_norm {
  static_assert(vector_view<Weight> && optional_vector<Bias>,
                "graft::layer_norm: weight must be a vector view, bias one or graft::none");
  Weight weight;
  [[no_unique_address]] Bias bias{};
  double eps = 1e-5;
  using gradients = norm_gradients<>;
};
/// An RMSNorm over n features.
template <class Weight>
struct rms_norm {
  static_assert(vector_view<Weight>, "graft::rms_norm: weight must be a vector view");
  Weight weight;
  double eps = 1e-6;
  using gradients = norm_gradients<>;
};

inline namespace GRAFT_TARGET {

/// y = the normalized x. y may be x.
///
/// Shapes       x[T, n] in; y[T, n] out. Everything else: `kernels::layer_norm`, `kernels::rms_norm`.
template <class E, class W, class B, class X, class Y>
void normalize(E const& ex, layer_norm<W, B> const& a, X const& x, Y const& y) {
  kernels::layer_norm(ex, x, a.weight, a.bias, a.eps, y);
}
template <class E, class W, class X, class Y>
void normalize(E const& ex, rms_norm<W> const& a, X const& x, Y const& y) {
  kernels::rms_norm(ex, x, a.weight, none, a.eps, y);
}

/// Gradients of weight, bias and x, all added to what is there.
///
/// Shapes       x[T, n], dy[T, n] in; gradients and dx[T, n] in and out, `graft::none` for what is not wanted. Everything else:
///              `kernels::layer_norm_backward`, `kernels::rms_norm_backward`.
template <class E, class W, class B, class X, class DY, class GW, class GB, class DX>
void backward(E const& ex, layer_norm<W, B> const& a, X const& x, DY const& dy, norm_gradients<GW, GB> const& gradients,
              DX const& dx) {
  static_assert(!detail::is_there<GB> || detail::is_there<B>,
                "graft::backward: this layer_norm has no bias, so there is no gradient of one");
  kernels::layer_norm_backward(ex, x, a.weight, a.eps, dy, gradients.weight, gradients.bias, dx);
}
template <class E, class W, class X, class DY, class GW, class GB, class DX>
void backward(E const& ex, rms_norm<W> const& a, X const& x, DY const& dy, norm_gradients<GW, GB> const& gradients,
              DX const& dx) {
  static_assert(!detail::is_there<GB>, "graft::backward: an rms_norm has no bias, so there is no gradient of one");
  kernels::rms_norm_backward(ex, x, a.weight, a.eps, dy, gradients.weight, none, dx);
}

/// What is trained: weight and bias.
template <class W, class B>
[[nodiscard]] auto trainable(layer_norm<W, B> const& a) {
  if constexpr (detail::is_there<B>) return std::tuple{parameter<W>{"weight", a.weight}, parameter<B>{"bias", a.bias}};
  else return std::tuple{parameter<W>{"weight", a.weight}};
}
template <class W>
[[nodiscard]] auto trainable(rms_norm<W> const& a) {
  return std::tuple{parameter<W>{"weight", a.weight}};
}

/// A fresh layer, as frameworks make it: weight 1, bias 0. (PEFT begins with the base model's own values.)
template <class E, class W, class B>
void initialize(E const& ex, layer_norm<W, B> const& a) {
  kernels::fill(ex, 1.0, detail::as_row(a.weight));
  if constexpr (detail::is_there<B>) detail::fill_zero(ex, detail::as_row(a.bias));
}
template <class E, class W>
void initialize(E const& ex, rms_norm<W> const& a) {
  kernels::fill(ex, 1.0, detail::as_row(a.weight));
}

}  // namespace GRAFT_TARGET

static_assert(trainable_adapter<layer_norm<detail::archetype_vector, detail::archetype_vector>> &&
              trainable_adapter<rms_norm<detail::archetype_vector>>);

}  // namespace graft::inline GRAFT_CONTRACT
