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
#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
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

/// Where gradients are added; leave out (`graft::none`) what is not trained.
template <class MatrixA = none_t, class MatrixB = none_t, class Bias = none_t>
struct lora_gradients {
  [[no_unique_address]] MatrixA A{};
  [[no_unique_address]] MatrixB B{};
  [[no_unique_address]] Bias bias{};
};

/// Views of somebody's tensors and a factor. A[r, n] and B[m, r] as checkpoints store them; the bias is PEFT's
/// `lora_bias`. The scale must be given. Rank r > 0 is checked where the adapter is used.
template <class MatrixA, class MatrixB, class Bias = none_t>
struct lora {
  static_assert(matrix_view<MatrixA> && matrix_view<MatrixB>,
                "graft::lora: A and B must be matrix views; wrap the data: graft::view(pointer, rows, columns)");
  static_assert(optional_vector<Bias>, "graft::lora: bias must be a vector view or graft::none");

  MatrixA A;
  MatrixB B;
  scaling scale;
  [[no_unique_address]] Bias bias{};

  [[nodiscard]] GRAFT_FN index_t rank() const { return A.extent(0); }
  [[nodiscard]] GRAFT_FN index_t in_features() const { return A.extent(1); }
  [[nodiscard]] GRAFT_FN index_t out_features() const { return B.extent(0); }
  static constexpr bool has_bias = detail::is_there<Bias>;
  using gradients = lora_gradients<>;
};
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

/// y += s ((x A^T) B^T + bias). Several active adapters: one call each.
///
/// Shapes       x[T, n] in; y[T, m] in and out. Any strides, any scalars.
/// Aliasing     y may not overlap x or the adapter; disjoint column ranges of one buffer are legal.
/// Precision    that of `kernels::low_rank_add`, and one fma an element for the bias. 16-bit y is rounded once.
/// Determinism  as `kernels::low_rank_add`: a row depends on its own row of x and y only.
/// Cost         2 T r (n + m) flops, and 2 T m with a bias.
/// Scratch      that of `kernels::low_rank_add`; with a bias and 16-bit y also `add_delta_scratch_bytes(l, y)`.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class MA, class MB, class MBias, class X, class Y>
void add_delta(E const& ex, lora<MA, MB, MBias> const& l, X const& x, Y const& y) {
  if constexpr (detail::mandates_add_delta<E, lora<MA, MB, MBias>, X, Y>()) {
    detail::expects_add_delta(l, x, y);
    if constexpr (!detail::is_there<MBias>) kernels::low_rank_add(ex, x, l.A, l.B, y, l.scale);
    else if constexpr (!detail::is_narrow<Y>) {
      kernels::low_rank_add(ex, x, l.A, l.B, y, l.scale);
      kernels::add_bias(ex, l.bias, y, l.scale);
    } else
      detail::in_row_blocks<detail::sums_of<MA, MB, MBias, X>>(
          ex, "add_delta", y, [&](index_t first, index_t count, auto const& block) {
            kernels::low_rank_add(ex, rows(x, first, count), l.A, l.B, block, l.scale);
            kernels::add_bias(ex, l.bias, block, l.scale);
          });
  }
}
/// Scratch of `add_delta` beside that of its kernels. Name x when it may be of double: add_delta_scratch_bytes(l, y, x).
template <class MA, class MB, class MBias, class Y, class... Others>
[[nodiscard]] std::size_t add_delta_scratch_bytes(lora<MA, MB, MBias> const&, Y const& y, Others const&...) {
  if constexpr (detail::is_there<MBias> && detail::is_narrow<Y>)
    return detail::row_blocks_bytes<detail::sums_of<MA, MB, MBias, Others...>>(y, "add_delta");
  else return 0;
}

/// The same with dropout on x: x_dropped = mask x, y += s ((x_dropped A^T) B^T + bias). `x_dropped`[T, n] is the caller's;
/// keep it for `backward`. A 16-bit x_dropped rounds x / (1 - p) once. It may not overlap anything else.
template <class E, class MA, class MB, class MBias, class X, class Y, class D>
void add_delta(E const& ex, lora<MA, MB, MBias> const& l, dropout const& mask, X const& x, Y const& y,
               D const& x_dropped) {
  if constexpr (detail::mandates_add_delta<E, lora<MA, MB, MBias>, X, Y, D>()) {
    detail::expects_add_delta(l, x, y);
    detail::expects_shape("add_delta", "x_dropped", x_dropped, "x", x, 0, "x", x, 1);
    detail::expects_output_of("add_delta", l, "x_dropped", x_dropped);
    detail::expects_disjoint("add_delta", "x_dropped", x_dropped, "x", x);
    detail::expects_disjoint("add_delta", "x_dropped", x_dropped, "y", y);
    kernels::drop(ex, mask, x, x_dropped);
    add_delta(ex, l, x_dropped, y);
  }
}

/// Gradients, all added to what is there: with v = s x A^T and u = s dy B
///     dB += dy^T v     dA += u^T x     dbias += s sum of dy over tokens     dx += u A
///
/// Shapes       x[T, n], dy[T, m] in; `gradients` and dx[T, n] in and out, `graft::none` for what is not wanted;
///              scratch[T, r] of float (double where an argument is) holds v, then u.
/// Aliasing     nothing that is written may overlap anything else.
/// Precision    v and u as `kernels::shrink`, unrounded in scratch; then `kernels::expand_add`, whose sums over tokens are
///              chains of 512 in order. Each gradient element is rounded once.
/// Determinism  equal bits for every number of threads.
/// Cost         2 T r (n + m) flops for v and dB; 2 T r m for u, then 2 T r n each for dA and dx.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class MA, class MB, class MBias, class X, class DY, class GA, class GB, class GBias, class DX,
          class S>
void backward(E const& ex, lora<MA, MB, MBias> const& l, X const& x, DY const& dy,
              lora_gradients<GA, GB, GBias> const& gradients, DX const& dx, S const& scratch) {
  using L = lora<MA, MB, MBias>;
  if constexpr (detail::mandates_backward<E, L, X, DY, lora_gradients<GA, GB, GBias>, DX, S>()) {
    detail::expects_equal_extents("backward", "x", x, 1, "A", l.A, 1);
    detail::expects_backward(l, "x", x, dy, gradients, dx, scratch);
    if constexpr (detail::is_there<GB>) {
      kernels::shrink(ex, x, l.A, scratch, l.scale);
      kernels::expand_add(ex, transposed(dy), transposed(scratch), gradients.B);
    }
    if constexpr (detail::is_there<GA> || detail::is_there<DX>)
      kernels::shrink(ex, dy, transposed(l.B), scratch, l.scale);
    if constexpr (detail::is_there<GA>) kernels::expand_add(ex, transposed(scratch), transposed(x), gradients.A);
    if constexpr (detail::is_there<DX>) kernels::expand_add(ex, scratch, transposed(l.A), dx);
    if constexpr (detail::is_there<GBias>) kernels::sum_rows(ex, dy, gradients.bias, l.scale);
  }
}

/// The same with scratch from the executor's resource: `backward_scratch_bytes(l, x)`, double where any argument is.
template <class E, class MA, class MB, class MBias, class X, class DY, class GA, class GB, class GBias, class DX>
void backward(E const& ex, lora<MA, MB, MBias> const& l, X const& x, DY const& dy,
              lora_gradients<GA, GB, GBias> const& gradients, DX const& dx) {
  using G = lora_gradients<GA, GB, GBias>;
  if constexpr (detail::mandates_backward<E, lora<MA, MB, MBias>, X, DY, G, DX, none_t>()) {
    using value = detail::sums_of<MA, MB, X, DY, GA, GB, DX>;
    detail::expects_equal_extents("backward", "x", x, 1, "A", l.A, 1);
    detail::expects_backward(l, "x", x, dy, gradients, dx, none);
    detail::call_scratch const memory(ex, detail::scratch_size(x.extent(0), l.rank(), sizeof(value), "backward"));
    backward(ex, l, x, dy, gradients, dx, memory.template view<value>(x.extent(0), l.rank()));
  }
}
/// Scratch of `backward` without caller scratch, beside that of its kernels. Name the other arguments' views when one may
/// be of double: backward_scratch_bytes(l, x, dy, dx).
template <class MA, class MB, class MBias, class X, class... Others>
[[nodiscard]] std::size_t backward_scratch_bytes(lora<MA, MB, MBias> const& l, X const& x, Others const&...) {
  return detail::scratch_size(x.extent(0), l.rank(), sizeof(detail::sums_of<MA, MB, X, Others...>), "backward");
}

/// After a forward with dropout: gradients from the kept `x_dropped`; dx += mask (u A), by way of the caller's
/// `dx_dropped`[T, n], which is overwritten (of float, so that dx is rounded once; `graft::none` when dx is).
template <class E, class MA, class MB, class MBias, class X, class DY, class GA, class GB, class GBias, class DX,
          class D>
void backward(E const& ex, lora<MA, MB, MBias> const& l, dropout const& mask, X const& x_dropped, DY const& dy,
              lora_gradients<GA, GB, GBias> const& gradients, DX const& dx, D const& dx_dropped) {
  using G = lora_gradients<GA, GB, GBias>;
  static_assert(detail::is_there<DX> == detail::is_there<D>,
                "graft::backward: dx and dx_dropped are both views or both graft::none");
  if constexpr (detail::mandates_backward<E, lora<MA, MB, MBias>, X, DY, G, DX, none_t>() &&
                detail::is_there<DX> == detail::is_there<D>) {
    if constexpr (!detail::is_there<DX>) backward(ex, l, x_dropped, dy, gradients, none);
    else {
      if (!(mask.probability >= 0.0 && mask.probability < 1.0)) [[unlikely]]
        detail::raise(argument_error(detail::text("graft::backward: the probability of the dropout is ",
                                                  mask.probability, " but must lie in [0, 1)")));
      detail::expects_equal_extents("backward", "x_dropped", x_dropped, 1, "A", l.A, 1);
      detail::expects_backward(l, "x_dropped", x_dropped, dy, gradients, dx, none);
      detail::expects_shape("backward", "dx_dropped", dx_dropped, "dy", dy, 0, "A", l.A, 1);
      detail::expects_disjoint("backward", "dx_dropped", dx_dropped, "dx", dx);
      detail::expects_backward(l, "x_dropped", x_dropped, dy, gradients, dx_dropped, none);
      detail::fill_zero(ex, dx_dropped);
      backward(ex, l, x_dropped, dy, gradients, dx_dropped);
      kernels::drop_add(ex, mask, dx_dropped, dx);
    }
  }
}

/// merge: W += s B A, and base_bias += s bias. unmerge: the same subtracted, equal to the weight before up to rounding,
/// not in bits.
///
/// Shapes       W[m, n], base_bias[m] in and out. A weight stored [n, m] (fan_in_fan_out) is `transposed(W)`. base_bias
///              must be passed when the adapter has a bias, and is left alone when it has none.
/// Aliasing     W and base_bias may not overlap each other or the adapter.
/// Precision    16-bit weights are computed in fp32 and rounded once: |error| <= half an ulp of the result
///              + (min(r, 512) + r / 512 + 2) eps32 (|W| + sum |s B A|). Dropout takes no part.
/// Cost         2 m n r flops; W read and written.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class MA, class MB, class MBias, class W, class BaseBias = none_t>
void merge(E const& ex, lora<MA, MB, MBias> const& l, W const& w, BaseBias const& base_bias = {}) {
  detail::add_weight(ex, "merge", l, w, base_bias, l.scale.value());
}
template <class E, class MA, class MB, class MBias, class W, class BaseBias = none_t>
void unmerge(E const& ex, lora<MA, MB, MBias> const& l, W const& w, BaseBias const& base_bias = {}) {
  detail::add_weight(ex, "unmerge", l, w, base_bias, -l.scale.value());
}

/// D = s B A, the matrix that `merge` adds. D[m, n] is overwritten; it may not overlap A or B.
template <class E, class MA, class MB, class MBias, class D>
void delta_weight(E const& ex, lora<MA, MB, MBias> const& l, D const& d) {
  if constexpr (detail::mandates_merge<E, lora<MA, MB>, D, none_t>()) {
    detail::expects_merge("delta_weight", "D", l, d, none);
    detail::fill_zero(ex, d);
    kernels::outer_add(ex, l.B, l.A, d, l.scale);
  }
}

/// The adapter of output features [first, first + count): the same A, these rows of B and of the bias. Checked.
template <class MA, class MB, class MBias>
[[nodiscard]] auto output_rows(lora<MA, MB, MBias> const& l, index_t first, index_t count) {
  auto const b = rows(l.B, first, count);
  auto const bias = detail::slice(l.bias, first, count);
  return lora<MA, std::remove_const_t<decltype(b)>, std::remove_const_t<decltype(bias)>>{l.A, b, l.scale, bias};
}

/// What is trained: A, B and the bias. r (n + m) elements, and m more with a bias.
template <class MA, class MB, class MBias>
[[nodiscard]] auto trainable(lora<MA, MB, MBias> const& l) {
  if constexpr (detail::is_there<MBias>)
    return std::tuple{parameter<MA>{"A", l.A}, parameter<MB>{"B", l.B}, parameter<MBias>{"bias", l.bias}};
  else return std::tuple{parameter<MA>{"A", l.A}, parameter<MB>{"B", l.B}};
}

/// Elements that `pack` needs.
template <class MA, class MB, class MBias>
[[nodiscard]] index_t packed_size(lora<MA, MB, MBias> const& l) {
  return detail::packed_elements(l);
}
/// The load-time form: B copied into panels in `memory` (64-byte aligned is fastest), A as it is. One-row forwards are
/// about 1.5 times faster. The packed adapter is for `add_delta`; keep the original for merge and backward.
template <class E, class MA, class MB, class MBias, class T>
[[nodiscard]] auto pack(E const& ex, lora<MA, MB, MBias> const& l, std::span<T> memory) {
  if constexpr (detail::mandates_pack<E, MB, T>()) {
    detail::expects_low_rank("pack", l);
    auto const panels = detail::packed_b(ex, l, memory);
    return lora<MA, std::remove_const_t<decltype(panels)>, MBias>{l.A, panels, l.scale, l.bias};
  }
}

}  // namespace GRAFT_TARGET

static_assert(additive_adapter<lora<detail::archetype_matrix, detail::archetype_matrix>> &&
              row_mergeable<lora<detail::archetype_matrix, detail::archetype_matrix>> &&
              trainable_adapter<lora<detail::archetype_matrix, detail::archetype_matrix, detail::archetype_vector>>);

}  // namespace graft::inline GRAFT_CONTRACT
