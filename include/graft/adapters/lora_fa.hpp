// SPDX-License-Identifier: Apache-2.0
/// @file
/// LoRA-FA: LoRA with A frozen at random values (Zhang et al. 2023, arXiv 2308.03303, eq. 3). Only v = s x A^T, r numbers a
/// token, is kept for the backward; x, n numbers a token, is not.
///
///     x[T, n]  A[r, n] frozen  B[m, r]  v[T, r]  y[T, m]  W[m, n]
///     v = s x A^T     y += v B^T     dB += dy^T v     dx += (s dy B) A
#pragma once

#include <cmath>
#include <cstddef>
#include <tuple>

#include <graft/adapters/concepts.hpp>
#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/lora.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/detail/small_dense.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/expand_add.hpp>
#include <graft/kernels/shrink.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Views and a factor as in `lora`; A is only ever read, and is not among the trained members.
template <class MatrixA, class MatrixB>
struct lora_fa {
  static_assert(matrix_view<MatrixA> && matrix_view<MatrixB>,
                "graft::lora_fa: A and B must be matrix views; wrap the data: graft::view(pointer, rows, columns)");

  MatrixA A;
  MatrixB B;
  scaling scale;

  [[nodiscard]] GRAFT_FN index_t rank() const { return A.extent(0); }
  [[nodiscard]] GRAFT_FN index_t in_features() const { return A.extent(1); }
  [[nodiscard]] GRAFT_FN index_t out_features() const { return B.extent(0); }
  using gradients = lora_gradients<>;
};

inline namespace GRAFT_TARGET {

/// The same views as a `lora`: outside training the two are one method.
template <class MA, class MB>
[[nodiscard]] lora<MA, MB> as_lora(lora_fa<MA, MB> const& l) {
  return {l.A, l.B, l.scale, {}};
}

/// y += s (x A^T) B^T, for inference: `add_delta` of `lora`.
template <class E, class MA, class MB, class X, class Y>
void add_delta(E const& ex, lora_fa<MA, MB> const& l, X const& x, Y const& y) {
  add_delta(ex, as_lora(l), x, y);
}

/// For training: the same, and v = s x A^T is kept for `backward`.
///
/// Shapes       x[T, n] in; y[T, m] in and out; v[T, r] out. Any strides, any scalars.
/// Aliasing     y and v may not overlap each other, x or the adapter.
/// Precision    with v of float (double where an argument is) the bits are those of the call without v; a v of 16 bits is
///              rounded once before it is used, in forward and backward alike.
/// Cost         2 T r (n + m) flops; T r elements more than `lora` are written and read.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class MA, class MB, class X, class Y, class V>
void add_delta(E const& ex, lora_fa<MA, MB> const& l, X const& x, Y const& y, V const& v) {
  if constexpr (detail::mandates_add_delta<E, lora_fa<MA, MB>, X, Y, V>()) {
    detail::expects_add_delta(l, x, y);
    detail::expects_shape("add_delta", "v", v, "x", x, 0, "A", l.A, 0);
    detail::expects_output_of("add_delta", l, "v", v);
    detail::expects_disjoint("add_delta", "v", v, "x", x);
    detail::expects_disjoint("add_delta", "v", v, "y", y);
    kernels::shrink(ex, x, l.A, v, l.scale);
    kernels::expand_add(ex, v, l.B, y);
  }
}

/// Gradients, added to what is there: dB += dy^T v and, with u = s dy B, dx += u A.
///
/// Shapes       v[T, r] as the forward kept it, dy[T, m] in; `gradients.B` and dx[T, n] in and out, `graft::none` for what
///              is not wanted; scratch[T, r] of float (double where an argument is) holds u.
/// Aliasing     nothing that is written may overlap anything else.
/// Precision, determinism: `backward` of `lora`, with the same bits when v is unrounded.
/// Cost         2 T r m flops for dB, 2 T r (n + m) for dx.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class MA, class MB, class V, class DY, class GA, class GB, class GBias, class DX, class S>
void backward(E const& ex, lora_fa<MA, MB> const& l, V const& v, DY const& dy,
              lora_gradients<GA, GB, GBias> const& gradients, DX const& dx, S const& scratch) {
  static_assert(!detail::is_there<GA>, "graft::backward: A of lora_fa is frozen, so there is no gradient of it");
  if constexpr (detail::mandates_backward<E, lora_fa<MA, MB>, V, DY, lora_gradients<GA, GB, GBias>, DX, S>() &&
                !detail::is_there<GA>) {
    detail::expects_equal_extents("backward", "v", v, 1, "A", l.A, 0);
    detail::expects_backward(l, "v", v, dy, gradients, dx, scratch);
    if constexpr (detail::is_there<GB>) kernels::expand_add(ex, transposed(dy), transposed(v), gradients.B);
    if constexpr (detail::is_there<DX>) {
      kernels::shrink(ex, dy, transposed(l.B), scratch, l.scale);
      kernels::expand_add(ex, scratch, transposed(l.A), dx);
    }
  }
}

/// The same with scratch from the executor's resource: `backward_scratch_bytes(l, dy)` when dx is wanted, else nothing.
template <class E, class MA, class MB, class V, class DY, class GA, class GB, class GBias, class DX>
void backward(E const& ex, lora_fa<MA, MB> const& l, V const& v, DY const& dy,
              lora_gradients<GA, GB, GBias> const& gradients, DX const& dx) {
  if constexpr (!detail::is_there<DX>) backward(ex, l, v, dy, gradients, none, none);
  else if constexpr (detail::mandates_backward<E, lora_fa<MA, MB>, V, DY, lora_gradients<GA, GB, GBias>, DX,
                                               none_t>()) {
    using value = detail::sums_of<MA, MB, V, DY, GB, DX>;
    detail::expects_equal_extents("backward", "v", v, 1, "A", l.A, 0);
    detail::expects_backward(l, "v", v, dy, gradients, dx, none);
    detail::call_scratch const memory(ex, detail::scratch_size(dy.extent(0), l.rank(), sizeof(value), "backward"));
    backward(ex, l, v, dy, gradients, dx, memory.template view<value>(dy.extent(0), l.rank()));
  }
}
/// Scratch of `backward` with dx and without caller scratch, beside that of its kernels. Name the other arguments' views
/// when one may be of double.
template <class MA, class MB, class DY, class... Others>
[[nodiscard]] std::size_t backward_scratch_bytes(lora_fa<MA, MB> const& l, DY const& dy, Others const&...) {
  return detail::scratch_size(dy.extent(0), l.rank(), sizeof(detail::sums_of<MA, MB, DY, Others...>), "backward");
}

/// merge, unmerge, delta_weight: those of `lora`.
template <class E, class MA, class MB, class W, class BaseBias = none_t>
void merge(E const& ex, lora_fa<MA, MB> const& l, W const& w, BaseBias const& base_bias = {}) {
  merge(ex, as_lora(l), w, base_bias);
}
template <class E, class MA, class MB, class W, class BaseBias = none_t>
void unmerge(E const& ex, lora_fa<MA, MB> const& l, W const& w, BaseBias const& base_bias = {}) {
  unmerge(ex, as_lora(l), w, base_bias);
}
template <class E, class MA, class MB, class D>
void delta_weight(E const& ex, lora_fa<MA, MB> const& l, D const& d) {
  delta_weight(ex, as_lora(l), d);
}

/// The adapter of output features [first, first + count). Checked.
template <class MA, class MB>
[[nodiscard]] auto output_rows(lora_fa<MA, MB> const& l, index_t first, index_t count) {
  auto const b = rows(l.B, first, count);
  return lora_fa<MA, std::remove_const_t<decltype(b)>>{l.A, b, l.scale};
}

/// What is trained: B alone, r m elements.
template <class MA, class MB>
[[nodiscard]] auto trainable(lora_fa<MA, MB> const& l) {
  return std::tuple{parameter<MB>{"B", l.B}};
}

/// The step direction of PEFT's LoRA-FA optimiser: P = 1 / s^2 gB (A A^T + 1e-8 I)^-1, the gradient of B that moves s B A
/// most like a step of full fine-tuning.
///
/// Shapes       gB[m, r] in; P[m, r] out.
/// Preconditions  s is finite and not 0; A holds finite numbers. r > n is legal, but then only the 1e-8 makes the inverse
///              exist, and P is as large as that says.
/// Aliasing     P may not overlap gB or the adapter.
/// Precision    A A^T, its Cholesky factor and inverse, and the product are in fp64, rounded once to P's type:
///              |error| <= c r eps64 cond(A A^T + 1e-8 I) |P|. PEFT multiplies in bf16 where autocast is on, and takes a
///              pseudo-inverse: 0.3 % apart there, and equal up to rounding elsewhere.
/// Determinism  equal bits for every number of threads.
/// Cost         2 r^2 (n + m) + 4/3 r^3 flops in fp64. Once a step, not once a token.
/// Scratch      `project_gradient_scratch_bytes(l)` from the executor's resource.
/// Errors       shape_error; argument_error also when A A^T + 1e-8 I is not positive definite in fp64 (A is not finite, or
///              its rows depend on each other, as with r > n, and are above 10^3 or so). P is not written then.
/// Source       huggingface/peft, src/peft/optimizers/lorafa.py.
template <class E, class MA, class MB, class G, class P>
void project_gradient(E const& ex, lora_fa<MA, MB> const& l, G const& gradient, P const& projected) {
  constexpr bool on_host = detail::works_on_host<E>;
  static_assert(on_host,
                "graft::project_gradient: it factorises a matrix on the host, and needs an executor of its memory");
  if constexpr (on_host && detail::mandates_project_gradient<E, MA, G, P>()) {
    constexpr std::string_view verb = "project_gradient";
    detail::expects_low_rank(verb, l);
    detail::expects_shape(verb, "the gradient of B", gradient, "B", l.B, 0, "B", l.B, 1);
    detail::expects_shape(verb, "the result", projected, "B", l.B, 0, "B", l.B, 1);
    detail::expects_data(verb, "the gradient of B", gradient);
    detail::expects_output_of(verb, l, "the result", projected);
    detail::expects_disjoint(verb, "the result", projected, "the gradient of B", gradient);
    double const s = l.scale.value();
    double const factor = 1.0 / (s * s);
    if (!std::isfinite(s) || !std::isfinite(factor)) [[unlikely]]
      detail::raise(argument_error(detail::text("graft::project_gradient: the scale is ", s,
                                                " but must be finite and not 0, since its square divides")));
    index_t const r = l.rank();
    std::size_t const each = detail::scratch_size(r, r, sizeof(double), verb);
    detail::call_scratch const memory(ex, 2 * each);
    auto* const gram = reinterpret_cast<double*>(memory.data());
    auto* const inverse = reinterpret_cast<double*>(memory.data() + each);
    kernels::shrink(ex, l.A, l.A, memory.template view<double>(r, r));
    ex.fence();
    if (!detail::invert_positive_definite(gram, inverse, r, 1e-8)) [[unlikely]]
      detail::raise(argument_error(detail::text(
          "graft::project_gradient: A A^T + 1e-8 I of A", detail::shape_text(l.A),
          " is not positive definite: A holds a NaN, an infinity, numbers too large to square, or dependent rows "
          "beside whose squares 1e-8 is nothing")));
    kernels::shrink(ex, gradient, as_const(memory.template view_at<double>(each, r, r)), projected, factor);
  }
}
/// Scratch of `project_gradient` beside that of its kernels.
template <class MA, class MB>
[[nodiscard]] std::size_t project_gradient_scratch_bytes(lora_fa<MA, MB> const& l) {
  return 2 * detail::scratch_size(l.rank(), l.rank(), sizeof(double), "project_gradient");
}

}  // namespace GRAFT_TARGET

static_assert(additive_adapter<lora_fa<detail::archetype_matrix, detail::archetype_matrix>> &&
              row_mergeable<lora_fa<detail::archetype_matrix, detail::archetype_matrix>> &&
              trainable_adapter<lora_fa<detail::archetype_matrix, detail::archetype_matrix>>);

}  // namespace graft::inline GRAFT_CONTRACT
