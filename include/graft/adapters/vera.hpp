// SPDX-License-Identifier: Apache-2.0
/// @file
/// VeRA: vector-based random matrix adaptation (Kopiczko et al. 2023, arXiv 2310.11454, eq. 2).
///
///     x[T, n]  A[r, n]  B[m, r] frozen, random, shared by all layers    d[r]  b[m] trained    y[T, m]  W[m, n]
///     y += b * ((d * (x A^T)) B^T)        delta = diag(b) B diag(d) A, no alpha
///
/// One A[r, n_max] and one B[m_max, r] serve a whole model; a layer uses the first n columns and the first m rows.
#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>

#include <graft/adapters/concepts.hpp>
#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/columns.hpp>
#include <graft/kernels/copy.hpp>
#include <graft/kernels/dropout.hpp>
#include <graft/kernels/expand_add.hpp>
#include <graft/kernels/fill.hpp>
#include <graft/kernels/low_rank_add.hpp>
#include <graft/kernels/outer_add.hpp>
#include <graft/kernels/panels.hpp>
#include <graft/kernels/scale.hpp>
#include <graft/kernels/shrink.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Where gradients are added; `graft::none` for what is not wanted.
template <class VectorD = none_t, class VectorB = none_t>
struct vera_gradients {
  [[no_unique_address]] VectorD d{};
  [[no_unique_address]] VectorB b{};
};

/// Views of one layer: A[r, n], B[m, r], d[r], b[m] (PEFT's vera_lambda_d and vera_lambda_b). `sliced` makes it of shared
/// projections.
template <class MatrixA, class MatrixB, class VectorD, class VectorB>
struct vera {
  static_assert(matrix_view<MatrixA> && matrix_view<MatrixB>,
                "graft::vera: A and B must be matrix views; wrap the data: graft::view(pointer, rows, columns)");
  static_assert(vector_view<VectorD> && vector_view<VectorB>,
                "graft::vera: d and b must be vector views; wrap the data: graft::view(pointer, size)");

  MatrixA A;
  MatrixB B;
  VectorD d;
  VectorB b;

  [[nodiscard]] GRAFT_FN index_t rank() const { return A.extent(0); }
  [[nodiscard]] GRAFT_FN index_t in_features() const { return A.extent(1); }
  [[nodiscard]] GRAFT_FN index_t out_features() const { return B.extent(0); }
  using gradients = vera_gradients<>;
};
/// The projections of a whole model: A[r, n_max], B[m_max, r].
template <class MatrixA, class MatrixB>
struct vera_projections {
  MatrixA A;
  MatrixB B;
};
namespace detail {
/// The two factors of a `vera` as what the low-rank checks take.
template <class V>
struct vera_factors {
  decltype(V::A) A;
  decltype(V::B) B;
};

/// Types of every verb of vera.
template <class E, class V>
consteval bool mandates_vera() {
  GRAFT_MANDATE_INPUT("vera", "A", E, decltype(V::A), 2)
  GRAFT_MANDATE_INPUT("vera", "B", E, decltype(V::B), 2)
  GRAFT_MANDATE_INPUT("vera", "d", E, decltype(V::d), 1)
  GRAFT_MANDATE_INPUT("vera", "b", E, decltype(V::b), 1)
  return accepted<E, decltype(V::A), decltype(V::B), decltype(V::d), decltype(V::b)>;
}
template <class E, class V, class X, class DY, class G, class DX>
consteval bool mandates_vera_backward() {
  using GD = decltype(G::d);
  using GB = decltype(G::b);
  constexpr bool packed = is_panels<decltype(V::A)> || is_panels<decltype(V::B)>;
  GRAFT_MANDATE_EXECUTOR("backward", E)
  static_assert(!packed, "graft::backward: this adapter is packed for add_delta; use the original");
  GRAFT_MANDATE_INPUT("backward", "x", E, X, 2)
  GRAFT_MANDATE_INPUT("backward", "dy", E, DY, 2)
  if constexpr (is_there<GD>) { GRAFT_MANDATE_OUTPUT("backward", "the gradient of d", E, GD, 1) }
  if constexpr (is_there<GB>) { GRAFT_MANDATE_OUTPUT("backward", "the gradient of b", E, GB, 1) }
  if constexpr (is_there<DX>) { GRAFT_MANDATE_OUTPUT("backward", "dx", E, DX, 2) }
  return !packed && mandates_vera<E, V>() && accepted_input<E, X, 2> && accepted_input<E, DY, 2> &&
         accepted_output_or_none<E, GD, 1> && accepted_output_or_none<E, GB, 1> && accepted_output_or_none<E, DX, 2>;
}

inline namespace GRAFT_TARGET {
template <class V>
void expects_vera(std::string_view verb, V const& v) {
  expects_low_rank(verb, v);
  expects_equal_extents(verb, "d", v.d, 0, "A", v.A, 0);
  expects_equal_extents(verb, "b", v.b, 0, "B", v.B, 0);
  expects_data(verb, "d", v.d);
  expects_data(verb, "b", v.b);
}
/// An output that shares no memory with the adapter.
template <class V, class Out>
void expects_output_of_vera(std::string_view verb, V const& v, std::string_view name, Out const& out) {
  if constexpr (is_there<Out>) {
    expects_output_of(verb, v, name, out);
    expects_disjoint(verb, name, out, "d", v.d);
    expects_disjoint(verb, name, out, "b", v.b);
  }
}

/// W += sign diag(b) B diag(d) A, by way of diag(b) B diag(d) in scratch.
template <class E, class V, class W>
void add_vera_weight(E const& ex, std::string_view verb, std::string_view name, V const& v, W const& w, double sign) {
  using value = sums_of<decltype(V::A), decltype(V::B), decltype(V::d), decltype(V::b), W>;
  expects_vera(verb, v);
  expects_shape(verb, name, w, "B", v.B, 0, "A", v.A, 1);
  expects_output_of_vera(verb, v, name, w);
  call_scratch const memory(ex, scratch_size(v.out_features(), v.rank(), sizeof(value), verb));
  auto const scaled = memory.template view<value>(v.out_features(), v.rank());
  kernels::copy(ex, v.B, scaled);
  kernels::scale_columns(ex, v.d, scaled);
  kernels::scale_rows(ex, v.b, scaled);
  kernels::outer_add(ex, as_const(scaled), v.A, w, sign);
}
}  // namespace GRAFT_TARGET
}  // namespace detail

inline namespace GRAFT_TARGET {

/// The adapter of a layer of n features in and m out: the first n columns of A, the first m rows of B. Throws shape_error
/// when the projections are smaller than the layer.
template <class MA, class MB, class D, class B>
[[nodiscard]] auto sliced(vera_projections<MA, MB> const& shared, index_t n, index_t m, D const& d, B const& b) {
  auto const a = columns(shared.A, 0, n);
  auto const rows_of_b = rows(shared.B, 0, m);
  return vera<std::remove_const_t<decltype(a)>, std::remove_const_t<decltype(rows_of_b)>, D, B>{a, rows_of_b, d, b};
}

/// y += b * ((d * (x A^T)) B^T).
///
/// Shapes       x[T, n] in; y[T, m] in and out. Any strides, any scalars.
/// Aliasing     y may not overlap x or the adapter; disjoint column ranges of one buffer are legal.
/// Precision, determinism, scratch: `kernels::low_rank_add` with factors; one rounding of 16-bit y.
/// Cost         2 T r (n + m) + T (r + 2 m) flops in one sweep.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class MA, class MB, class D, class B, class X, class Y>
void add_delta(E const& ex, vera<MA, MB, D, B> const& v, X const& x, Y const& y) {
  using V = vera<MA, MB, D, B>;
  if constexpr (detail::mandates_add_delta<E, V, X, Y>() && detail::mandates_vera<E, V>()) {
    detail::expects_vera("add_delta", v);
    detail::expects_add_delta(v, x, y);
    detail::expects_output_of_vera("add_delta", v, "y", y);
    kernels::low_rank_add(ex, x, v.A, v.B, y, 1.0, low_rank_factors<D, B>{v.d, v.b, {}});
  }
}
/// The same with dropout on x: x_dropped = mask x takes the place of x. `x_dropped`[T, n] is the caller's; keep it for
/// `backward`, whose dx is then the gradient of x_dropped (`kernels::drop_add` carries it to x).
template <class E, class MA, class MB, class D, class B, class X, class Y, class Dropped>
void add_delta(E const& ex, vera<MA, MB, D, B> const& v, dropout const& mask, X const& x, Y const& y,
               Dropped const& x_dropped) {
  using V = vera<MA, MB, D, B>;
  if constexpr (detail::mandates_add_delta<E, V, X, Y, Dropped>() && detail::mandates_vera<E, V>()) {
    detail::expects_vera("add_delta", v);
    detail::expects_add_delta(v, x, y);
    detail::expects_shape("add_delta", "x_dropped", x_dropped, "x", x, 0, "x", x, 1);
    detail::expects_output_of_vera("add_delta", v, "y", y);
    detail::expects_output_of_vera("add_delta", v, "x_dropped", x_dropped);
    detail::expects_disjoint("add_delta", "x_dropped", x_dropped, "x", x);
    detail::expects_disjoint("add_delta", "x_dropped", x_dropped, "y", y);
    kernels::drop(ex, mask, x, x_dropped);
    add_delta(ex, v, x_dropped, y);
  }
}

/// Scratch of `backward`, beside that of its kernels. Name the other arguments' views when one may be of double.
template <class MA, class MB, class D, class B, class X, class... Others>
[[nodiscard]] std::size_t backward_scratch_bytes(vera<MA, MB, D, B> const& v, X const& x, Others const&...) {
  using value = detail::sums_of<MA, MB, D, B, X, Others...>;
  return 2 * detail::scratch_size(x.extent(0), v.rank(), sizeof(value), "backward") +
         detail::scratch_size(v.out_features(), v.rank(), sizeof(value), "backward");
}

/// Gradients, all added to what is there: with w = x A^T and u = dy diag(b) B
///     db += rows of B * (dy^T (d * w))     dd += columns of w * u     dx += (d * u) A
///
/// Shapes       x[T, n], dy[T, m] in; gradients d[r], b[m] and dx[T, n] in and out, `graft::none` for what is not wanted.
/// Aliasing     nothing that is written may overlap anything else.
/// Precision    sums over tokens are chains of 512 in order; every intermediate is of float (double where an argument is).
/// Determinism  equal bits for every number of threads.
/// Cost         2 T r n for w, 2 T r m for db, 2 T r m for u, 2 T r n for dx, and 2 m r for each use of B.
/// Scratch      `backward_scratch_bytes(v, x)` from the executor's resource: w, u and an [m, r].
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class MA, class MB, class D, class B, class X, class DY, class GD, class GB, class DX>
void backward(E const& ex, vera<MA, MB, D, B> const& v, X const& x, DY const& dy,
              vera_gradients<GD, GB> const& gradients, DX const& dx) {
  using V = vera<MA, MB, D, B>;
  if constexpr (detail::mandates_vera_backward<E, V, X, DY, vera_gradients<GD, GB>, DX>()) {
    using value = detail::sums_of<MA, MB, D, B, X, DY, GD, GB, DX>;
    constexpr std::string_view verb = "backward";
    detail::expects_vera(verb, v);
    detail::expects_equal_extents(verb, "x", x, 1, "A", v.A, 1);
    detail::expects_backward(detail::vera_factors<V>{v.A, v.B}, "x", x, dy, detail::no_gradients{}, dx, none);
    detail::expects_output_of_vera(verb, v, "dx", dx);
    auto const vector = [&](std::string_view name, auto const& g, std::string_view of, auto const& like) {
      if constexpr (detail::is_there<std::remove_cvref_t<decltype(g)>>) {
        detail::expects_equal_extents(verb, name, g, 0, of, like, 0);
        detail::expects_output_of_vera(verb, v, name, g);
        detail::expects_disjoint(verb, name, g, "x", x);
        detail::expects_disjoint(verb, name, g, "dy", dy);
        detail::expects_apart(verb, name, g, "dx", dx);
      }
    };
    vector("the gradient of d", gradients.d, "d", v.d);
    vector("the gradient of b", gradients.b, "b", v.b);
    detail::expects_apart(verb, "the gradient of b", gradients.b, "the gradient of d", gradients.d);

    index_t const T = x.extent(0);
    std::size_t const narrow = detail::scratch_size(T, v.rank(), sizeof(value), verb);
    detail::call_scratch const memory(
        ex, 2 * narrow + detail::scratch_size(v.out_features(), v.rank(), sizeof(value), verb));
    auto const w = memory.template view<value>(T, v.rank());
    auto const u = memory.template view_at<value>(narrow, T, v.rank());
    auto const wide = memory.template view_at<value>(2 * narrow, v.out_features(), v.rank());
    if constexpr (detail::is_there<GD> || detail::is_there<GB>) kernels::shrink(ex, x, v.A, w);
    if constexpr (detail::is_there<GB>) {
      kernels::copy(ex, w, u);
      kernels::scale_columns(ex, v.d, u);
      detail::fill_zero(ex, wide);
      kernels::expand_add(ex, transposed(dy), transposed(u), wide);
      kernels::dot_columns(ex, transposed(v.B), transposed(wide), gradients.b);
    }
    if constexpr (detail::is_there<GD> || detail::is_there<DX>) {
      kernels::copy(ex, v.B, wide);
      kernels::scale_rows(ex, v.b, wide);
      kernels::shrink(ex, dy, transposed(wide), u);
    }
    if constexpr (detail::is_there<GD>) kernels::dot_columns(ex, w, u, gradients.d);
    if constexpr (detail::is_there<DX>) {
      kernels::scale_columns(ex, v.d, u);
      kernels::expand_add(ex, u, transposed(v.A), dx);
    }
  }
}

/// merge: W += diag(b) B diag(d) A. unmerge: the same subtracted, equal to the weight before up to rounding, not in bits.
///
/// Shapes       W[m, n] in and out. A weight stored [n, m] (fan_in_fan_out) is `transposed(W)`.
/// Aliasing     W may not overlap the adapter.
/// Precision    16-bit weights are computed in fp32 and rounded once; |error| <= (min(r, 512) + r / 512 + 4) eps32
///              (|W| + sum |b B d A|) before that. Dropout takes no part.
/// Cost         2 m n r flops; W read and written.
/// Scratch      `merge_scratch_bytes(v)` from the executor's resource, beside that of `kernels::outer_add`.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class MA, class MB, class D, class B, class W>
void merge(E const& ex, vera<MA, MB, D, B> const& v, W const& w) {
  using V = vera<MA, MB, D, B>;
  if constexpr (detail::mandates_merge<E, V, W, none_t>() && detail::mandates_vera<E, V>())
    detail::add_vera_weight(ex, "merge", "W", v, w, 1.0);
}
template <class E, class MA, class MB, class D, class B, class W>
void unmerge(E const& ex, vera<MA, MB, D, B> const& v, W const& w) {
  using V = vera<MA, MB, D, B>;
  if constexpr (detail::mandates_merge<E, V, W, none_t>() && detail::mandates_vera<E, V>())
    detail::add_vera_weight(ex, "unmerge", "W", v, w, -1.0);
}
/// D = diag(b) B diag(d) A, the matrix that `merge` adds. Overwritten; it may not overlap the adapter.
template <class E, class MA, class MB, class D, class B, class Out>
void delta_weight(E const& ex, vera<MA, MB, D, B> const& v, Out const& out) {
  using V = vera<MA, MB, D, B>;
  if constexpr (detail::mandates_merge<E, V, Out, none_t>() && detail::mandates_vera<E, V>()) {
    detail::expects_vera("delta_weight", v);
    detail::expects_shape("delta_weight", "D", out, "B", v.B, 0, "A", v.A, 1);
    detail::expects_output_of_vera("delta_weight", v, "D", out);
    detail::fill_zero(ex, out);
    detail::add_vera_weight(ex, "delta_weight", "D", v, out, 1.0);
  }
}
/// Scratch of `merge`, `unmerge` and `delta_weight`. Name W when it may be of double.
template <class MA, class MB, class D, class B, class... Others>
[[nodiscard]] std::size_t merge_scratch_bytes(vera<MA, MB, D, B> const& v, Others const&...) {
  return detail::scratch_size(v.out_features(), v.rank(), sizeof(detail::sums_of<MA, MB, D, B, Others...>), "merge");
}

/// The adapter of output features [first, first + count). Checked.
template <class MA, class MB, class D, class B>
[[nodiscard]] auto output_rows(vera<MA, MB, D, B> const& v, index_t first, index_t count) {
  auto const b_rows = rows(v.B, first, count);
  auto const b = detail::slice(v.b, first, count);
  return vera<MA, std::remove_const_t<decltype(b_rows)>, D, std::remove_const_t<decltype(b)>>{v.A, b_rows, v.d, b};
}

/// Elements that `pack` needs.
template <class MA, class MB, class D, class B>
[[nodiscard]] index_t packed_size(vera<MA, MB, D, B> const& v) {
  return detail::packed_elements(v);
}
/// The load-time form: B copied into panels in `memory` (64-byte aligned is fastest), all else as it is. Layers that share a B
/// of m rows share its panels. With 8 tokens and r = 256 about 1.4 times faster. For `add_delta`; keep the original for the rest.
template <class E, class MA, class MB, class D, class B, class T>
[[nodiscard]] auto pack(E const& ex, vera<MA, MB, D, B> const& v, std::span<T> memory) {
  if constexpr (detail::mandates_pack<E, MB, T>()) {
    detail::expects_vera("pack", v);
    auto const panels = detail::packed_b(ex, v, memory);
    return vera<MA, std::remove_const_t<decltype(panels)>, D, B>{v.A, panels, v.d, v.b};
  }
}

/// What is trained: d and b, r + m elements.
template <class MA, class MB, class D, class B>
[[nodiscard]] auto trainable(vera<MA, MB, D, B> const& v) {
  return std::tuple{parameter<D>{"d", v.d}, parameter<B>{"b", v.b}};
}

/// A fresh adapter: d = `d_initial` (PEFT: 0.1), b = 0, so that the delta is 0. A and B are left alone (`replay_projections`).
template <class E, class MA, class MB, class D, class B>
void initialize(E const& ex, vera<MA, MB, D, B> const& v, scaling d_initial = 0.1) {
  using V = vera<MA, MB, D, B>;
  GRAFT_MANDATE_EXECUTOR("initialize", E)
  GRAFT_MANDATE_OUTPUT("initialize", "d", E, D, 1)
  GRAFT_MANDATE_OUTPUT("initialize", "b", E, B, 1)
  if constexpr (detail::mandates_vera<E, V>() && output_view<D> && output_view<B>) {
    detail::expects_vera("initialize", v);
    detail::expects_output("initialize", "d", v.d);
    detail::expects_output("initialize", "b", v.b);
    detail::expects_disjoint("initialize", "b", v.b, "d", v.d);
    kernels::fill(ex, d_initial.value(), detail::as_row(v.d));
    detail::fill_zero(ex, detail::as_row(v.b));
  }
}

/// PEFT's random projections, bit by bit, for checkpoints that do not hold them (save_projection = false): the stream of
/// torch's CPU generator seeded with `projection_prng_key`, first all of A, then all of B, row by row,
///     u = (draw mod 2^24) / 2^24     value = fma(u, 2 h, -h) in fp32     h = sqrt(3) sqrt(2) / sqrt(columns)
///
/// Shapes       A[r, n_max], B[m_max, r] out, of float, in host memory; the maxima run over all targeted layers.
/// Preconditions  the extents are those of the whole model: other maxima give other numbers.
/// Determinism  a function of the key and the extents.
/// Cost         r (n_max + m_max) draws of a Mersenne twister, on the calling thread. Once per model.
/// Errors       shape_error when the ranks differ, argument_error; nothing is written then.
/// Source       huggingface/peft, src/peft/tuners/vera/model.py, _kaiming_init; pytorch, aten/src/ATen/core/MT19937RNGEngine.h.
template <output_matrix MA, output_matrix MB>
void replay_projections(std::uint64_t projection_prng_key, MA const& A, MB const& B) {
  static_assert(std::same_as<typename MA::space_type, host_space> && std::same_as<typename MB::space_type, host_space>,
                "graft::replay_projections: A and B must lie in host memory; the stream is sequential");
  static_assert(std::same_as<typename MA::value_type, float> && std::same_as<typename MB::value_type, float>,
                "graft::replay_projections: A and B must be of float, as PEFT draws them");
  constexpr std::string_view verb = "replay_projections";
  detail::expects_equal_extents(verb, "A", A, 0, "B", B, 1);
  detail::expects_output(verb, "A", A);
  detail::expects_output(verb, "B", B);
  detail::expects_disjoint(verb, "B", B, "A", A);
  std::mt19937 engine(static_cast<std::uint32_t>(projection_prng_key));
  auto const fill = [&](auto const& m) {
    auto const high =
        static_cast<float>(std::sqrt(3.0) * (std::sqrt(2.0) / std::sqrt(static_cast<double>(m.extent(1)))));
    for (index_t i = 0; i < m.extent(0); ++i)
      for (index_t j = 0; j < m.extent(1); ++j)
        m(i, j) = std::fma(static_cast<float>(engine() & 0xFFFFFFU) * 0x1p-24F, high - -high, -high);
  };
  fill(A);
  fill(B);
}

}  // namespace GRAFT_TARGET

static_assert(
    additive_adapter<
        vera<detail::archetype_matrix, detail::archetype_matrix, detail::archetype_vector, detail::archetype_vector>> &&
    row_mergeable<
        vera<detail::archetype_matrix, detail::archetype_matrix, detail::archetype_vector, detail::archetype_vector>> &&
    trainable_adapter<
        vera<detail::archetype_matrix, detail::archetype_matrix, detail::archetype_vector, detail::archetype_vector>>);

}  // namespace graft::inline GRAFT_CONTRACT
