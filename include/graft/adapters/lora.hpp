// SPDX-License-Identifier: Apache-2.0
/// @file
/// LoRA: low-rank adaptation (Hu et al. 2021, arXiv 2106.09685, eq. 3), and its rsLoRA scale (Kalajdzievski 2023,
/// arXiv 2312.03732, eq. 10).
///
///     x[T, n]  A[r, n]  B[m, r]  bias[m]  y[T, m]  W[m, n]
///     y += s ((x A^T) B^T + bias)        s = alpha / r, or alpha / sqrt(r) for rsLoRA
///
/// (x A^T) B^T, never x (B A)^T: r (n + m) products a row in place of m n.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <tuple>

#include <graft/adapters/concepts.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/detail/row_blocks.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/bias.hpp>
#include <graft/kernels/dropout.hpp>
#include <graft/kernels/expand_add.hpp>
#include <graft/kernels/low_rank_add.hpp>
#include <graft/kernels/outer_add.hpp>
#include <graft/kernels/panels.hpp>
#include <graft/kernels/shrink.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Views of somebody's tensors and a factor. A[r, n] and B[m, r] as checkpoints store them; the bias is PEFT's
/// `lora_bias`. The scale must be given. Rank r > 0 is checked where the adapter is used.
template <class MatrixA, class MatrixB, class Bias = none_t>
struct lora {
  static_assert(matrix_view<MatrixA> && matrix_view<MatrixB>, "graft::lora: A and B must be matrix views; wrap the data: graft::view(pointer, rows, columns)");
  static_assert(optional_vector<Bias>, "graft::lora: bias must be a vector view or graft::none");

  MatrixA A;
  MatrixB B;
  scaling scale;
  [[no_unique_address]] Bias bias{};

  [[nodiscard]] GRAFT_FN index_t rank() const { return A.extent(0); }
  [[nodiscard]] GRAFT_FN index_t in_features() const { return A.extent(1); }
  [[nodiscard]] GRAFT_FN index_t out_features() const { return B.extent(0); }
  static constexpr bool has_bias = !std::is_same_v<Bias, none_t>;
};
/// Where gradients are added; leave out (`graft::none`) what is not trained.
template <class MatrixA = none_t, class MatrixB = none_t, class Bias = none_t>
struct lora_gradients {
  [[no_unique_address]] MatrixA A{};
  [[no_unique_address]] MatrixB B{};
  [[no_unique_address]] Bias bias{};
};

namespace detail {
template <class V>
inline constexpr bool is_there = !std::is_same_v<V, none_t>;

/// A and B fit each other, the rank is positive, the bias has m elements.
template <class L>
void expects_lora(std::string_view operation, L const& l) {
  if (l.rank() <= 0) [[unlikely]]
    raise(shape_error(text("graft::", operation, ": A", shape_text(l.A), " has rank ", l.rank(), "; the rank must be positive")));
  expects_equal_extents(operation, "A", l.A, 0, "B", l.B, 1);
  if constexpr (L::has_bias) expects_equal_extents(operation, "bias", l.bias, 0, "B", l.B, 0);
}
}  // namespace detail

inline namespace GRAFT_TARGET {

/// alpha / r. Throws argument_error unless r > 0.
[[nodiscard]] inline double lora_scale(double alpha, index_t r) {
  if (r <= 0) [[unlikely]]
    detail::raise(argument_error(detail::text("graft::lora_scale: the rank is ", r, " but must be positive")));
  return alpha / static_cast<double>(r);
}
/// alpha / sqrt(r). Throws argument_error unless r > 0.
[[nodiscard]] inline double rslora_scale(double alpha, index_t r) {
  if (r <= 0) [[unlikely]]
    detail::raise(argument_error(detail::text("graft::rslora_scale: the rank is ", r, " but must be positive")));
  return alpha / std::sqrt(static_cast<double>(r));
}

/// y += s ((x A^T) B^T + bias). Several active adapters: one call each. Bits, aliasing, precision and cost are those of
/// `kernels::low_rank_add`; the bias is one fma an element after it.
/// Errors: shape_error, argument_error; nothing is written then.
template <executor E, class MA, class MB, class MBias, class X, class Y>
void add_delta(E const& ex, lora<MA, MB, MBias> const& l, X const& x, Y const& y) {
  if constexpr (kernels::low_rank_add_fn::mandates<E, X, MA, MB, Y>()) {
    detail::expects_lora("add_delta", l);
    kernels::low_rank_add(ex, x, l.A, l.B, y, l.scale);
    if constexpr (detail::is_there<MBias>) kernels::add_bias(ex, l.bias, y, l.scale);
  }
}

/// The same with dropout on x: x_dropped = mask x, y += s ((x_dropped A^T) B^T + bias). `x_dropped`[T, n] is the caller's;
/// keep it for `backward`.
template <executor E, class MA, class MB, class MBias, class X, class Y, class S>
void add_delta(E const& ex, lora<MA, MB, MBias> const& l, dropout const& mask, X const& x, Y const& y, S const& x_dropped) {
  detail::expects_lora("add_delta", l);
  detail::expects_equal_extents("add_delta", "x", x, 1, "A", l.A, 1);
  detail::expects_equal_extents("add_delta", "y", y, 0, "x", x, 0);
  detail::expects_equal_extents("add_delta", "y", y, 1, "B", l.B, 0);
  kernels::drop(ex, mask, x, x_dropped);
  add_delta(ex, l, x_dropped, y);
}

/// Gradients, all added to what is there: with v = s x A^T and u = s dy B
///     dB += dy^T v     dA += u^T x     dbias += s sum of dy over tokens     dx += u A
/// x[T, n] and dy[T, m] in; `gradients` and dx[T, n] in and out (`graft::none` for what is not wanted).
/// v and u [T, r] are the caller's scratch, of float (or double). Sums over tokens are chains of 512 in order: they do not
/// depend on the number of threads. Cost: 2 T r (n + m) flops for each of the pairs (v, dB) and (u; dA, dx).
/// Errors: shape_error, argument_error; nothing is written then.
template <executor E, class MA, class MB, class MBias, class X, class DY, class GA, class GB, class GBias, class DX, class S>
void backward(E const& ex, lora<MA, MB, MBias> const& l, X const& x, DY const& dy, lora_gradients<GA, GB, GBias> const& gradients,
              DX const& dx, S const& v, S const& u) {
  constexpr bool wants_u = detail::is_there<GA> || detail::is_there<DX>;
  static_assert(!detail::is_there<GBias> || detail::is_there<MBias>, "graft::backward: this adapter has no bias, so there is no gradient of one");
  constexpr std::string_view verb = "backward";
  detail::expects_lora(verb, l);
  detail::expects_equal_extents(verb, "x", x, 1, "A", l.A, 1);
  detail::expects_equal_extents(verb, "dy", dy, 0, "x", x, 0);
  detail::expects_equal_extents(verb, "dy", dy, 1, "B", l.B, 0);
  if constexpr (detail::is_there<GA>) {
    detail::expects_equal_extents(verb, "gradient of A", gradients.A, 0, "A", l.A, 0);
    detail::expects_equal_extents(verb, "gradient of A", gradients.A, 1, "A", l.A, 1);
  }
  if constexpr (detail::is_there<GB>) {
    detail::expects_equal_extents(verb, "gradient of B", gradients.B, 0, "B", l.B, 0);
    detail::expects_equal_extents(verb, "gradient of B", gradients.B, 1, "B", l.B, 1);
  }
  if constexpr (detail::is_there<GBias>) detail::expects_equal_extents(verb, "gradient of bias", gradients.bias, 0, "bias", l.bias, 0);
  if constexpr (detail::is_there<DX>) {
    detail::expects_equal_extents(verb, "dx", dx, 0, "x", x, 0);
    detail::expects_equal_extents(verb, "dx", dx, 1, "x", x, 1);
  }
  if constexpr (detail::is_there<GB>) {
    kernels::shrink(ex, x, l.A, v, l.scale);
    kernels::expand_add(ex, transposed(dy), transposed(v), gradients.B);
  }
  if constexpr (wants_u) kernels::shrink(ex, dy, transposed(l.B), u, l.scale);
  if constexpr (detail::is_there<GA>) kernels::expand_add(ex, transposed(u), transposed(x), gradients.A);
  if constexpr (detail::is_there<DX>) kernels::expand_add(ex, u, transposed(l.A), dx);
  if constexpr (detail::is_there<GBias>) kernels::sum_rows(ex, dy, gradients.bias, l.scale);
}

/// The same with scratch from the executor's resource: 2 T r elements.
template <executor E, class MA, class MB, class MBias, class X, class DY, class GA, class GB, class GBias, class DX>
  requires requires(E const& ex) { ex.resource(); }
void backward(E const& ex, lora<MA, MB, MBias> const& l, X const& x, DY const& dy, lora_gradients<GA, GB, GBias> const& gradients,
              DX const& dx) {
  using accumulate = accumulate_t<typename X::value_type, typename DY::value_type, typename MA::value_type, typename MB::value_type>;
  index_t const elements = detail::checked_product(x.extent(0), l.rank(), "backward");
  auto const each = detail::scratch_block::rounded(sizeof(accumulate) * static_cast<std::size_t>(elements));
  detail::scratch_block const memory(ex.resource(), 2 * each);
  auto const part = [&](std::size_t i) { return view(reinterpret_cast<accumulate*>(memory.data() + i * each), x.extent(0), l.rank()); };
  backward(ex, l, x, dy, gradients, dx, part(0), part(1));
}

/// After a forward with dropout: gradients from the kept `x_dropped`; dx += mask (u A), by way of the caller's
/// `dx_dropped`[T, n], which is overwritten.
template <executor E, class MA, class MB, class MBias, class X, class DY, class GA, class GB, class GBias, class DX, class S>
  requires requires(E const& ex) { ex.resource(); }
void backward(E const& ex, lora<MA, MB, MBias> const& l, dropout const& mask, X const& x_dropped, DY const& dy,
              lora_gradients<GA, GB, GBias> const& gradients, DX const& dx, S const& dx_dropped) {
  detail::expects_equal_extents("backward", "dx_dropped", dx_dropped, 0, "x_dropped", x_dropped, 0);
  detail::expects_equal_extents("backward", "dx_dropped", dx_dropped, 1, "x_dropped", x_dropped, 1);
  detail::fill_zero(ex, dx_dropped);
  backward(ex, l, x_dropped, dy, gradients, dx_dropped);
  kernels::drop_add(ex, mask, dx_dropped, dx);
}

/// W += s B A, and base_bias += s bias. W[m, n]; for a weight stored [n, m] (fan_in_fan_out) pass `transposed(W)`.
/// 16-bit weights are computed in fp32 and rounded once: |error| <= half an ulp of W plus (r + 1) eps32 (|W| + sum |s B A|).
/// Dropout takes no part. Errors: shape_error, argument_error; nothing is written then.
template <executor E, class MA, class MB, class W>
void merge(E const& ex, lora<MA, MB> const& l, W const& w) {
  detail::expects_lora("merge", l);
  kernels::outer_add(ex, l.B, l.A, w, l.scale);
}
template <executor E, class MA, class MB, class MBias, class W, class BaseBias>
void merge(E const& ex, lora<MA, MB, MBias> const& l, W const& w, BaseBias const& base_bias) {
  detail::expects_lora("merge", l);
  detail::expects_equal_extents("merge", "base_bias", base_bias, 0, "B", l.B, 0);
  kernels::outer_add(ex, l.B, l.A, w, l.scale);
  kernels::add_bias(ex, l.bias, detail::as_row(base_bias), l.scale);
}

/// W -= s B A, and base_bias -= s bias: equal to the weight before `merge` up to rounding, not in bits.
template <executor E, class MA, class MB, class W>
void unmerge(E const& ex, lora<MA, MB> const& l, W const& w) {
  detail::expects_lora("unmerge", l);
  kernels::outer_add(ex, l.B, l.A, w, -l.scale.value());
}
template <executor E, class MA, class MB, class MBias, class W, class BaseBias>
void unmerge(E const& ex, lora<MA, MB, MBias> const& l, W const& w, BaseBias const& base_bias) {
  detail::expects_lora("unmerge", l);
  detail::expects_equal_extents("unmerge", "base_bias", base_bias, 0, "B", l.B, 0);
  kernels::outer_add(ex, l.B, l.A, w, -l.scale.value());
  kernels::add_bias(ex, l.bias, detail::as_row(base_bias), -l.scale.value());
}

/// D = s B A, the matrix that `merge` adds. D[m, n] is overwritten.
template <executor E, class MA, class MB, class MBias, class D>
void delta_weight(E const& ex, lora<MA, MB, MBias> const& l, D const& d) {
  detail::expects_lora("delta_weight", l);
  detail::expects_equal_extents("delta_weight", "D", d, 0, "B", l.B, 0);
  detail::expects_equal_extents("delta_weight", "D", d, 1, "A", l.A, 1);
  detail::fill_zero(ex, d);
  kernels::outer_add(ex, l.B, l.A, d, l.scale);
}

/// What is trained: A, B and the bias. r (n + m) elements, and m more with a bias.
template <class MA, class MB, class MBias>
[[nodiscard]] auto trainable(lora<MA, MB, MBias> const& l) {
  if constexpr (detail::is_there<MBias>) return std::tuple{parameter<MA>{"A", l.A}, parameter<MB>{"B", l.B}, parameter<MBias>{"bias", l.bias}};
  else return std::tuple{parameter<MA>{"A", l.A}, parameter<MB>{"B", l.B}};
}

/// Elements that `pack` needs.
template <class MA, class MB, class MBias>
[[nodiscard]] index_t packed_size(lora<MA, MB, MBias> const& l) {
  return panels_view<typename MB::value_type>::storage(l.out_features(), l.rank());
}
/// The load-time form: B copied into panels in `memory` (64-byte aligned is fastest), A as it is. One-row forwards are
/// about 1.5 times faster. The packed adapter is for `add_delta`; keep the original for merge and backward.
template <executor E, class MA, class MB, class MBias, class T>
[[nodiscard]] auto pack(E const& ex, lora<MA, MB, MBias> const& l, std::span<T> memory) {
  detail::expects_lora("pack", l);
  if (static_cast<index_t>(memory.size()) < packed_size(l)) [[unlikely]]
    detail::raise(argument_error(detail::text("graft::pack: B", detail::shape_text(l.B), " needs ", packed_size(l), " elements but the memory has ",
                                              static_cast<index_t>(memory.size()))));
  panels_view<T, typename MB::space_type> const panels{memory.data(), l.out_features(), l.rank()};
  kernels::pack_panels(ex, l.B, panels);
  using packed = panels_view<T const, typename MB::space_type>;
  return lora<MA, packed, MBias>{l.A, packed(panels), l.scale, l.bias};
}

}  // namespace GRAFT_TARGET

static_assert(additive_adapter<lora<detail::archetype_matrix, detail::archetype_matrix>> &&
              mergeable<lora<detail::archetype_matrix, detail::archetype_matrix>> &&
              trainable_adapter<lora<detail::archetype_matrix, detail::archetype_matrix, detail::archetype_vector>>);

}  // namespace graft::inline GRAFT_CONTRACT
