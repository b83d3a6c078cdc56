// SPDX-License-Identifier: Apache-2.0
/// @file
/// Training a `dora`: PEFT's gradients, which hold the norms constant, the exact ones, and PEFT's dropout.
/// Formulas and symbols: dora.hpp.
#pragma once

#include <cstddef>
#include <string_view>
#include <type_traits>

#include <graft/adapters/detail/dora.hpp>
#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/adapters/dora.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/columns.hpp>
#include <graft/kernels/copy.hpp>
#include <graft/kernels/expand_add.hpp>
#include <graft/kernels/low_rank_add.hpp>
#include <graft/kernels/scale.hpp>
#include <graft/kernels/shrink.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

inline namespace GRAFT_TARGET {

/// Scratch of `backward`, `backward_exact` and `backward_dropped`, beside that of their kernels and of the low-rank part.
/// Name the other arguments' views when one may be of double.
template <class L, class M, class N, class... Others>
[[nodiscard]] std::size_t backward_scratch_bytes(dora<L, M, N> const& d, Others const&...) {
  using value = detail::dora_sums<dora<L, M, N>, Others...>;
  return 2 * detail::scratch_size(1, d.out_features(), sizeof(value), "backward");
}

/// Gradients with the norms held constant, as PEFT trains (the paper's sec. 4.3), all added to what is there:
///     dg += sum of dy * kept / norms     dy <- c * dy, then with it dA, dB, dx += as of the low-rank part
///
/// Shapes       x[T, n] (of an embedding ids[T]), kept[T, m] of the forward in; dy[T, m] comes in as the gradient of y without
///              its bias and goes out as c * dy, the gradient of base(x): the caller's base adds its own part of dx from it;
///              gradients and dx[T, n] in and out, `graft::none` for what is not wanted (an embedding has no dx).
/// Aliasing     nothing that is written may overlap anything else.
/// Precision    sums over tokens are chains of 512 in order; a dy of 16 bits is rounded once more when it is scaled.
/// Determinism  equal bits for every number of threads.
/// Cost         `backward` of the low-rank part and 3 T m flops.
/// Scratch      `backward_scratch_bytes(d)` and that of the low-rank part, from the executor's resource.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class L, class M, class N, class X, class Kept, class DY, class GA, class GB, class GM,
          class DX = none_t>
void backward(E const& ex, dora<L, M, N> const& d, X const& x, Kept const& kept, DY const& dy,
              dora_gradients<GA, GB, GM> const& gradients, DX const& dx = {}) {
  using D = dora<L, M, N>;
  if constexpr (detail::mandates_dora_backward<E, D, Kept, DY, dora_gradients<GA, GB, GM>>()) {
    using value = detail::dora_sums<D, Kept, DY, GA, GB, GM, DX>;
    detail::expects_dora_backward("backward", d, x, kept, dy, gradients, dx);
    detail::with_factors<value>(ex, "backward", d, [&](auto const& c) {
      if constexpr (detail::is_there<GM>) {
        detail::call_scratch const memory(ex, detail::scratch_size(1, d.out_features(), sizeof(value), "backward"));
        auto const sums = memory.template view<value>(d.out_features());
        detail::magnitude_gradient(ex, d, kept, dy, gradients.magnitude, sums);
      }
      kernels::scale_columns(ex, c, dy);
      detail::low_rank_backward(ex, d.low_rank, x, dy, gradients, dx);
    });
  }
}

/// Scratch of `backward_exact`, beside that of its kernels and of the low-rank part. Name the views of every argument that may be of double.
template <class L, class M, class N, class... Others>
[[nodiscard]] std::size_t backward_exact_scratch_bytes(dora<L, M, N> const& d, Others const&...) {
  using value = detail::dora_sums<dora<L, M, N>, Others...>;
  constexpr std::string_view verb = "backward_exact";
  return 3 * detail::scratch_size(1, d.out_features(), sizeof(value), verb) +
         detail::scratch_size(d.rank(), d.rank(), sizeof(value), verb) +
         detail::scratch_size(d.out_features(), d.rank(), sizeof(value), verb);
}

/// The gradients of the forward with the norms differentiated too, which are those of plain automatic differentiation: in
/// place of dV = c U with U = dy^T x
///     dV = c (U - V (V . U) / norms^2) row by row        so dB and dA lose the part that only changes lengths
///
/// W[m, n] (of an embedding E[V, d]) in; everything else as `backward`; dg and dx are the same.
///
/// Cost         that of `backward` and 4 m n r flops: W is read once for each of dA and dB.
/// Scratch      `backward_exact_scratch_bytes(d)`, beside that of its kernels and of the low-rank part.
template <class E, class L, class M, class N, class W, class X, class Kept, class DY, class GA, class GB, class GM,
          class DX = none_t>
void backward_exact(E const& ex, dora<L, M, N> const& d, W const& w, X const& x, Kept const& kept, DY const& dy,
                    dora_gradients<GA, GB, GM> const& gradients, DX const& dx = {}) {
  using D = dora<L, M, N>;
  GRAFT_MANDATE_INPUT("backward_exact", "W", E, W, 2)
  if constexpr (detail::mandates_dora_backward<E, D, Kept, DY, dora_gradients<GA, GB, GM>>() &&
                detail::accepted_input<E, W, 2>) {
    using value = detail::dora_sums<D, W, Kept, DY, GA, GB, GM, DX>;
    constexpr std::string_view verb = "backward_exact";
    detail::expects_dora_backward(verb, d, x, kept, dy, gradients, dx);
    auto const& l = d.low_rank;
    auto const v = detail::by_output(l, w);
    detail::expects_shape(verb, "W", v, "B", l.B, 0, "A", l.A, 1);
    detail::expects_data(verb, "W", v);
    auto const apart = [&](std::string_view name, auto const& out) {
      if constexpr (detail::is_there<std::remove_cvref_t<decltype(out)>>)
        detail::expects_disjoint(verb, name, out, "W", w);
    };
    apart("the gradient of A", gradients.A);
    apart("the gradient of B", gradients.B);
    apart("the gradient of the magnitude", gradients.magnitude);
    apart("dy", dy);
    apart("dx", dx);
    index_t const m = l.out_features();
    index_t const r = l.rank();
    std::size_t const vector = detail::scratch_size(1, m, sizeof(value), verb);
    std::size_t const square = detail::scratch_size(r, r, sizeof(value), verb);
    detail::call_scratch const memory(
        ex, backward_exact_scratch_bytes(d, w, kept, dy, gradients.A, gradients.B, gradients.magnitude, dx));
    auto const at = [&](std::size_t bytes, auto... shape) { return memory.template view_at<value>(bytes, shape...); };
    auto const c = at(0, m);           // factors
    auto const p = at(vector, m);      // V . U, row by row
    auto const h = at(2 * vector, m);  // c p / norms^2
    auto const g = at(3 * vector, r, r);
    auto const wide = at(3 * vector + square, m, r);
    kernels::divide(ex, d.magnitude, d.norms, c);
    detail::magnitude_gradient(ex, d, kept, dy, gradients.magnitude, p);
    kernels::scale_columns(ex, as_const(c), dy);
    detail::low_rank_backward(ex, l, x, dy, gradients, dx);
    kernels::divide(ex, p, d.norms, h);
    kernels::divide(ex, h, d.norms, p);
    detail::write_scaled(ex, as_const(c), detail::as_row(as_const(p)), detail::as_row(h));
    if constexpr (detail::is_there<GB>) {  // dB -= s h V A^T = h (s W A^T + s^2 B (A A^T))
      kernels::shrink(ex, v, l.A, wide, -l.scale.value());
      kernels::shrink(ex, l.A, l.A, g);
      kernels::expand_add(ex, l.B, as_const(g), wide, -l.scale.value() * l.scale.value());
      kernels::add_scaled_columns(ex, as_const(h), transposed(as_const(wide)), transposed(gradients.B));
    }
    if constexpr (detail::is_there<GA>) {  // dA -= s (h B)^T V = s (h B)^T W + s^2 ((h B)^T B) A
      kernels::copy(ex, l.B, wide);
      kernels::scale_rows(ex, as_const(h), wide);
      kernels::expand_add(ex, transposed(as_const(wide)), transposed(v), gradients.A, -l.scale.value());
      kernels::shrink(ex, transposed(as_const(wide)), transposed(l.B), g);
      kernels::expand_add(ex, as_const(g), transposed(l.A), gradients.A, -l.scale.value() * l.scale.value());
    }
  }
}
/// PEFT's forward while training with dropout: only base(x) sees all of x,
///     y = base(x) + (c - 1) * base(x_dropped) + c * s (x_dropped A^T) B^T
///
/// Shapes       x_dropped[T, n] in, kept for `backward_dropped`; base_dropped[T, m] comes in as base(x_dropped) without bias
///              and goes out as base(x_dropped) + s (x_dropped A^T) B^T, which `backward_dropped` takes; y[T, m] comes in as
///              base(x).
/// Aliasing     nothing that is written may overlap anything else.
/// Precision    two sums an element; a 16-bit y is rounded twice.
/// Cost         4 T r (n + m) + 3 T m flops.
/// Scratch, errors: `transform_output`.
template <class E, class L, class M, class N, class X, class Base, class Y>
void transform_output_dropped(E const& ex, dora<L, M, N> const& d, X const& x_dropped, Base const& base_dropped,
                              Y const& y) {
  using D = dora<L, M, N>;
  static_assert(!detail::is_embedding<L>, "graft::transform_output_dropped: embeddings have no dropout");
  GRAFT_MANDATE_INPUT("transform_output_dropped", "x_dropped", E, X, 2)
  GRAFT_MANDATE_OUTPUT("transform_output_dropped", "base_dropped", E, Base, 2)
  GRAFT_MANDATE_OUTPUT("transform_output_dropped", "y", E, Y, 2)
  if constexpr (detail::mandates_dora<E, D>() && detail::accepted_input<E, X, 2> &&
                detail::accepted_output<E, Base, 2> && detail::accepted_output<E, Y, 2>) {
    constexpr std::string_view verb = "transform_output_dropped";
    detail::expects_dora(verb, d);
    detail::expects_equal_extents(verb, "x_dropped", x_dropped, 1, "A", d.low_rank.A, 1);
    detail::expects_shape(verb, "y", y, "x_dropped", x_dropped, 0, "B", d.low_rank.B, 0);
    detail::expects_shape(verb, "base_dropped", base_dropped, "y", y, 0, "y", y, 1);
    detail::expects_output_of_dora(verb, d, "y", y);
    detail::expects_output_of_dora(verb, d, "base_dropped", base_dropped);
    detail::expects_disjoint(verb, "y", y, "x_dropped", x_dropped);
    detail::expects_disjoint(verb, "base_dropped", base_dropped, "x_dropped", x_dropped);
    detail::expects_disjoint(verb, "base_dropped", base_dropped, "y", y);
    auto const& l = d.low_rank;
    detail::with_factors<detail::dora_sums<D, X, Base, Y>>(ex, verb, d, [&]<class C>(C const& c) {
      kernels::add_scaled_columns(ex, c, base_dropped, y, -1.0);
      kernels::low_rank_add(ex, x_dropped, l.A, l.B, y, l.scale, low_rank_factors<none_t, C, none_t>{{}, c, {}});
      add_delta(ex, l, x_dropped, base_dropped);
    });
  }
}

/// The backward of `transform_output_dropped`, norms held constant.
///
/// Shapes       x_dropped[T, n] and kept[T, m] (what it made of base_dropped), dy[T, m] in, left as it is: the gradient of
///              base(x). d_base_dropped[T, m] out: (c - 1) * dy, the gradient of base(x_dropped), which the caller's base takes
///              to dx_dropped. dx_dropped[T, n] in and out; `kernels::drop_add` carries it to x.
/// Everything else as `backward`.
template <class E, class L, class M, class N, class X, class Kept, class DY, class GA, class GB, class GM, class DX,
          class DBase>
void backward_dropped(E const& ex, dora<L, M, N> const& d, X const& x_dropped, Kept const& kept, DY const& dy,
                      dora_gradients<GA, GB, GM> const& gradients, DX const& dx_dropped, DBase const& d_base_dropped) {
  using D = dora<L, M, N>;
  GRAFT_MANDATE_INPUT("backward_dropped", "dy", E, DY, 2)
  if constexpr (detail::mandates_dora_backward<E, D, Kept, DBase, dora_gradients<GA, GB, GM>>() &&
                detail::accepted_input<E, DY, 2>) {
    using value = detail::dora_sums<D, Kept, DY, GA, GB, GM, DX, DBase>;
    constexpr std::string_view verb = "backward_dropped";
    detail::expects_dora_backward(verb, d, x_dropped, kept, d_base_dropped, gradients, dx_dropped);
    detail::expects_shape(verb, "dy", dy, "x_dropped", x_dropped, 0, "B", d.low_rank.B, 0);
    detail::expects_data(verb, "dy", dy);
    detail::expects_disjoint(verb, "d_base_dropped", d_base_dropped, "dy", dy);
    auto const apart = [&](std::string_view name, auto const& out) {
      if constexpr (detail::is_there<std::remove_cvref_t<decltype(out)>>)
        detail::expects_disjoint(verb, name, out, "dy", dy);
    };
    apart("the gradient of A", gradients.A);
    apart("the gradient of B", gradients.B);
    apart("the gradient of the magnitude", gradients.magnitude);
    apart("dx_dropped", dx_dropped);
    detail::with_factors<value>(ex, verb, d, [&](auto const& c) {
      detail::call_scratch const memory(ex, detail::scratch_size(1, d.out_features(), sizeof(value), verb));
      detail::magnitude_gradient(ex, d, kept, dy, gradients.magnitude, memory.template view<value>(d.out_features()));
      detail::write_scaled(ex, c, dy, d_base_dropped);
      detail::low_rank_backward(ex, d.low_rank, x_dropped, d_base_dropped, gradients, dx_dropped);
      detail::write_scaled(ex, c, dy, d_base_dropped, -1.0);
    });
  }
}

}  // namespace GRAFT_TARGET

static_assert(differentiable<detail::archetype_dora>);

}  // namespace graft::inline GRAFT_CONTRACT
