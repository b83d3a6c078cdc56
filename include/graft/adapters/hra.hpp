// SPDX-License-Identifier: Apache-2.0
/// @file
/// HRA: Householder reflection adaptation (Yuan et al. 2024, arXiv 2405.17484), as PEFT stores and computes it.
///
///     x[T, n]  u[n, r]  W[m, n]  y[T, m]      v_i = u_i / |u_i|, or orthonormal by Gram and Schmidt
///     H = (I - 2 v_0 v_0^T) ... (I - 2 v_{r-1} v_{r-1}^T) = I - V S V^T
///     y = x (W H)^T = (x - (x V) (V S)^T) W^T                       W' = W H        bias added after, unscaled
///
/// As a product of low rank it costs what LoRA costs. H is orthogonal: unmerging multiplies by H^T.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <type_traits>

#include <graft/adapters/concepts.hpp>
#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/adapters/detail/scaling.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/columns.hpp>
#include <graft/kernels/copy.hpp>
#include <graft/kernels/expand_add.hpp>
#include <graft/kernels/low_rank_add.hpp>
#include <graft/kernels/random.hpp>
#include <graft/kernels/reflections.hpp>
#include <graft/kernels/shrink.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Where the gradient is added; `graft::none` when it is not trained.
template <class U = none_t>
struct hra_gradients {
  [[no_unique_address]] U u{};
};

/// PEFT's hra_u[n, r], whether its columns are made orthonormal (apply_GS), and memory that `update_reflections` fills after every
/// change of u: vectors[r, n] and spread[n, r] (V S). Without memory (`graft::none`) it is what a checkpoint holds: see
/// `with_reflections`.
template <class U, class Vectors = none_t, class Spread = none_t>
struct hra {
  static_assert(matrix_view<U>,
                "graft::hra: u must be a matrix view; wrap the data: graft::view(pointer, rows, columns)");
  static_assert((std::is_same_v<Vectors, none_t> && std::is_same_v<Spread, none_t>) ||
                    (matrix_view<Vectors> && matrix_view<Spread>),
                "graft::hra: vectors and spread must be matrix views, [r, n] and [n, r]");
  U u;
  bool gram_schmidt = false;
  [[no_unique_address]] Vectors vectors{};
  [[no_unique_address]] Spread spread{};

  [[nodiscard]] GRAFT_FN index_t rank() const { return u.extent(1); }
  [[nodiscard]] GRAFT_FN index_t in_features() const { return u.extent(0); }
  using gradients = hra_gradients<>;
};

namespace detail {
inline namespace GRAFT_TARGET {
template <class E, class A>
consteval bool mandates_hra() {
  GRAFT_MANDATE_EXECUTOR("hra", E)
  static_assert(
      !std::is_same_v<decltype(A::vectors), none_t>,
      "graft: this hra has no vectors; give it memory for them: with_reflections(adapter, vectors, spread), then "
      "update_reflections(ex, adapter)");
  return executor<E> && !std::is_same_v<decltype(A::vectors), none_t> &&
         accepted<E, decltype(A::u), decltype(A::vectors), decltype(A::spread)>;
}
template <class A>
void expects_hra(std::string_view verb, A const& a) {
  expects_equal_extents(verb, "the vectors", a.vectors, 0, "u", a.u, 1);
  expects_equal_extents(verb, "the vectors", a.vectors, 1, "u", a.u, 0);
  expects_equal_extents(verb, "the spread", a.spread, 0, "u", a.u, 0);
  expects_equal_extents(verb, "the spread", a.spread, 1, "u", a.u, 1);
  if (a.u.extent(1) <= 0) [[unlikely]]
    raise(argument_error(
        text("graft::", verb, ": u", shape_text(a.u), " has rank ", a.u.extent(1), "; the rank must be positive")));
  expects_data(verb, "u", a.u);
  expects_data(verb, "the vectors", a.vectors);
  expects_data(verb, "the spread", a.spread);
}
template <class A, class Out>
void expects_output_of_hra(std::string_view verb, A const& a, std::string_view name, Out const& out) {
  if constexpr (is_there<Out>) {
    expects_output(verb, name, out);
    expects_disjoint(verb, name, out, "u", a.u);
    expects_disjoint(verb, name, out, "the vectors", a.vectors);
    expects_disjoint(verb, name, out, "the spread", a.spread);
  }
}
/// What merge, unmerge and, with D, delta_weight ask.
template <class A, class W, class D = none_t>
void expects_merge_hra(std::string_view verb, A const& a, W const& w, D const& d = {}) {
  expects_hra(verb, a);
  expects_equal_extents(verb, "W", w, 1, "u", a.u, 0);
  expects_change(verb, w, d,
                 [&](std::string_view name, auto const& out) { expects_output_of_hra(verb, a, name, out); });
}
template <class A>
using spread_back_value = accumulate_t<typename decltype(A::vectors)::value_type>;
/// Scratch of `with_spread_back`.
template <class A>
[[nodiscard]] std::size_t spread_back_bytes(A const& a, std::string_view verb) {
  return scratch_size(a.in_features(), a.rank(), sizeof(spread_back_value<A>), verb);
}
/// f(V S^T) in scratch.
template <class E, class A, class F>
void with_spread_back(E const& ex, std::string_view verb, A const& a, F const& f) {
  using value = spread_back_value<A>;
  call_scratch const memory(ex, spread_back_bytes(a, verb));
  auto const back = memory.template view<value>(a.in_features(), a.rank());
  kernels::spread_vectors_back(ex, a.vectors, a.gram_schmidt, back);
  f(as_const(back));
}
/// Scratch of `reflect_weight`.
template <class A, class W>
[[nodiscard]] std::size_t reflect_weight_bytes(A const& a, W const& w, std::string_view verb) {
  return row_blocks_bytes<sums_of<decltype(a.vectors), W>>(w, verb);
}
/// W <- W H with V S^T, W H^T with V S. A row of W V is taken before its row of W is written: from a copy of some rows.
template <class E, class A, class W, class B>
void reflect_weight(E const& ex, std::string_view verb, A const& a, W const& w, B const& spread) {
  using value = sums_of<decltype(a.vectors), W>;
  index_t const step = rows_in_block<value>(w);
  call_scratch const memory(ex, reflect_weight_bytes(a, w, verb));
  for (index_t t = 0; t < w.extent(0); t += step) {
    index_t const count = w.extent(0) - t < step ? w.extent(0) - t : step;
    auto const part = rows(w, t, count);
    auto const copy = memory.template view<value>(count, w.extent(1));
    kernels::copy(ex, part, copy);
    kernels::low_rank_add(ex, as_const(copy), a.vectors, spread, part, -1.0);
  }
}
}  // namespace GRAFT_TARGET
}  // namespace detail

inline namespace GRAFT_TARGET {

/// The same adapter with memory: vectors[r, n] and spread[n, r], which `update_reflections` fills.
template <class U, class V, class S, class Vectors, class Spread>
[[nodiscard]] auto with_reflections(hra<U, V, S> const& a, Vectors const& vectors, Spread const& spread) {
  return hra<U, Vectors, Spread>{a.u, a.gram_schmidt, vectors, spread};
}

/// vectors and spread of u; after every change of it.
///
/// Precision, errors: `kernels::unit_vectors`, `kernels::spread_vectors`.
/// Cost         about 6 n r^2 flops.
template <class E, class U, class V, class S>
void update_reflections(E const& ex, hra<U, V, S> const& a) {
  GRAFT_MANDATE_OUTPUT("update_reflections", "the vectors", E, V, 2)
  GRAFT_MANDATE_OUTPUT("update_reflections", "the spread", E, S, 2)
  if constexpr (detail::mandates_hra<E, hra<U, V, S>>() && detail::accepted_output<E, V, 2> &&
                detail::accepted_output<E, S, 2>) {
    detail::expects_hra("update_reflections", a);
    detail::expects_disjoint("update_reflections", "the spread", a.spread, "u", a.u);
    kernels::unit_vectors(ex, a.u, a.gram_schmidt, a.vectors);
    kernels::spread_vectors(ex, a.vectors, a.gram_schmidt, a.spread);
  }
}

/// x' = x H^T = x - (x V) (V S)^T, which goes into the base layer.
///
/// Shapes       x[T, n] in; x'[T, n] out. Any strides, any scalars.
/// Aliasing     x' may not overlap x or the adapter.
/// Precision    that of `kernels::low_rank_add`, one rounding.
/// Determinism  a row depends on its own row of x only.
/// Cost         4 T n r flops.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class U, class V, class S, class X, class Y>
void transform_input(E const& ex, hra<U, V, S> const& a, X const& x, Y const& turned) {
  GRAFT_MANDATE_INPUT("transform_input", "x", E, X, 2)
  GRAFT_MANDATE_OUTPUT("transform_input", "x'", E, Y, 2)
  if constexpr (detail::mandates_hra<E, hra<U, V, S>>() && detail::accepted_input<E, X, 2> &&
                detail::accepted_output<E, Y, 2>) {
    constexpr std::string_view verb = "transform_input";
    detail::expects_hra(verb, a);
    detail::expects_equal_extents(verb, "x", x, 1, "u", a.u, 0);
    detail::expects_shape(verb, "x'", turned, "x", x, 0, "x", x, 1);
    detail::expects_data(verb, "x", x);
    detail::expects_output_of_hra(verb, a, "x'", turned);
    detail::expects_disjoint(verb, "x'", turned, "x", x);
    kernels::copy(ex, x, turned);
    kernels::low_rank_add(ex, x, a.vectors, a.spread, turned, -1.0);
  }
}

/// Scratch of `backward_input` beside that of its kernels; n r numbers alone where u has no gradient. Name g when it may be of
/// double.
template <class U, class V, class S, class X, class... Others>
[[nodiscard]] std::size_t backward_input_scratch_bytes(hra<U, V, S> const& a, X const& x, Others const&...) {
  constexpr std::string_view verb = "backward_input";
  constexpr std::size_t width = sizeof(detail::sums_of<V, X, Others...>);
  return 2 * (detail::scratch_size(x.extent(0), a.rank(), width, verb) +
              detail::scratch_size(a.rank(), a.in_features(), width, verb)) +
         detail::scratch_size(a.rank(), a.rank(), width, verb);
}

/// All added to what is there: du by way of S and of the normalization or Gram and Schmidt, and dx += g H.
///
/// Shapes       x[T, n], g[T, n], the gradient of x', in; gradients.u[n, r] and dx[T, n] in and out, or `graft::none`.
/// Aliasing     nothing that is written may overlap anything else.
/// Precision    sums over tokens as `backward` of `lora`, the rest in fp64. 16-bit dx is rounded twice.
/// Determinism  equal bits for every number of threads.
/// Cost         8 T n r flops for du, 4 T n r for dx.
/// Scratch      `backward_input_scratch_bytes(a, x)` from the executor's resource, beside the kernels': 2 (T r + n r) + r^2
///              numbers.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class U, class V, class S, class X, class G, class GU, class DX>
void backward_input(E const& ex, hra<U, V, S> const& a, X const& x, G const& g, hra_gradients<GU> const& gradients,
                    DX const& dx) {
  GRAFT_MANDATE_INPUT("backward_input", "x", E, X, 2)
  GRAFT_MANDATE_INPUT("backward_input", "the gradient of x'", E, G, 2)
  if constexpr (detail::is_there<GU>) { GRAFT_MANDATE_OUTPUT("backward_input", "the gradient of u", E, GU, 2) }
  if constexpr (detail::is_there<DX>) { GRAFT_MANDATE_OUTPUT("backward_input", "dx", E, DX, 2) }
  if constexpr (detail::mandates_hra<E, hra<U, V, S>>() && detail::accepted_input<E, X, 2> &&
                detail::accepted_input<E, G, 2> && detail::accepted_output_or_none<E, GU, 2> &&
                detail::accepted_output_or_none<E, DX, 2>) {
    constexpr std::string_view verb = "backward_input";
    detail::expects_hra(verb, a);
    detail::expects_equal_extents(verb, "x", x, 1, "u", a.u, 0);
    detail::expects_shape(verb, "the gradient of x'", g, "x", x, 0, "x", x, 1);
    detail::expects_data(verb, "x", x);
    detail::expects_data(verb, "the gradient of x'", g);
    auto const written = [&](std::string_view name, auto const& out) {
      detail::expects_output_of_hra(verb, a, name, out);
      detail::expects_apart(verb, name, out, "x", x);
      detail::expects_apart(verb, name, out, "the gradient of x'", g);
    };
    written("dx", dx);
    written("the gradient of u", gradients.u);
    detail::expects_apart(verb, "the gradient of u", gradients.u, "dx", dx);
    if constexpr (detail::is_there<DX>) detail::expects_shape(verb, "dx", dx, "x", x, 0, "x", x, 1);
    if constexpr (detail::is_there<GU>) {
      detail::expects_shape(verb, "the gradient of u", gradients.u, "u", a.u, 0, "u", a.u, 1);
      using sums = detail::sums_of<V, X, G>;
      index_t const T = x.extent(0), n = x.extent(1), r = a.rank();
      std::size_t const of_tokens = detail::scratch_size(T, r, sizeof(sums), verb);
      std::size_t const of_features = detail::scratch_size(r, n, sizeof(sums), verb);
      detail::call_scratch const memory(ex, backward_input_scratch_bytes(a, x, g));
      auto const at = [&](std::size_t bytes, index_t p, index_t q) {
        return memory.template view_at<sums>(bytes, p, q);
      };
      auto const xv = at(0, T, r), gv = at(of_tokens, T, r);
      auto const gx = at(2 * of_tokens, r, n), xg = at(2 * of_tokens + of_features, r, n);
      auto const p = at(2 * (of_tokens + of_features), r, r);
      kernels::shrink(ex, x, a.vectors, xv);
      kernels::shrink(ex, g, a.vectors, gv);
      for (auto const& out : {gx, xg}) detail::fill_zero(ex, out);
      detail::fill_zero(ex, p);
      kernels::expand_add(ex, transposed(as_const(gv)), transposed(x), gx);
      kernels::expand_add(ex, transposed(as_const(xv)), transposed(g), xg);
      kernels::expand_add(ex, transposed(as_const(gv)), transposed(as_const(xv)), p);
      kernels::reflection_gradient(ex, a.u, a.gram_schmidt, a.vectors, gx, xg, p, gradients.u);
    }
    if constexpr (detail::is_there<DX>)
      detail::with_spread_back(ex, verb, a, [&](auto const& back) {
        kernels::add_scaled_columns(ex, none, g, dx);
        kernels::low_rank_add(ex, g, a.vectors, back, dx, -1.0);
      });
  }
}

/// merge: W <- W H. unmerge: W <- W H^T.
///
/// Shapes       W[m, n] in and out. Any strides, any scalar; one rounding.
/// Aliasing     W may not overlap the adapter.
/// Cost         4 m n r flops.
/// Scratch      `merge_scratch_bytes(a, W)`, `unmerge_scratch_bytes(a, W)` from the executor's resource, beside the kernels'.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class U, class V, class S, class W>
void merge(E const& ex, hra<U, V, S> const& a, W const& w) {
  GRAFT_MANDATE_OUTPUT("merge, unmerge, delta_weight", "W", E, W, 2)
  if constexpr (detail::mandates_hra<E, hra<U, V, S>>() && detail::accepted_output<E, W, 2>) {
    detail::expects_merge_hra("merge", a, w);
    detail::with_spread_back(ex, "merge", a,
                             [&](auto const& back) { detail::reflect_weight(ex, "merge", a, w, back); });
  }
}
template <class E, class U, class V, class S, class W>
void unmerge(E const& ex, hra<U, V, S> const& a, W const& w) {
  GRAFT_MANDATE_OUTPUT("merge, unmerge, delta_weight", "W", E, W, 2)
  if constexpr (detail::mandates_hra<E, hra<U, V, S>>() && detail::accepted_output<E, W, 2>) {
    detail::expects_merge_hra("unmerge", a, w);
    detail::reflect_weight(ex, "unmerge", a, w, a.spread);
  }
}

/// Scratch of `merge` beside that of its kernels: V S^T and a copy of some rows of W.
template <class U, class V, class S, class W>
[[nodiscard]] std::size_t merge_scratch_bytes(hra<U, V, S> const& a, W const& w) {
  return detail::spread_back_bytes(a, "merge") + detail::reflect_weight_bytes(a, w, "merge");
}
/// Scratch of `unmerge` beside that of its kernels: a copy of some rows of W.
template <class U, class V, class S, class W>
[[nodiscard]] std::size_t unmerge_scratch_bytes(hra<U, V, S> const& a, W const& w) {
  return detail::reflect_weight_bytes(a, w, "unmerge");
}

/// D = W H - W = -(W V) (V S^T)^T, what `merge` changes. Takes `delta_weight_scratch_bytes(a)` beside the scratch of the kernels.
template <class E, class U, class V, class S, class W, class D>
void delta_weight(E const& ex, hra<U, V, S> const& a, W const& w, D const& d) {
  GRAFT_MANDATE_INPUT("delta_weight", "W", E, W, 2)
  GRAFT_MANDATE_OUTPUT("delta_weight", "D", E, D, 2)
  if constexpr (detail::mandates_hra<E, hra<U, V, S>>() && detail::accepted_input<E, W, 2> &&
                detail::accepted_output<E, D, 2>) {
    constexpr std::string_view verb = "delta_weight";
    detail::expects_merge_hra(verb, a, w, d);
    detail::fill_zero(ex, d);
    detail::with_spread_back(ex, verb, a,
                             [&](auto const& back) { kernels::low_rank_add(ex, w, a.vectors, back, d, -1.0); });
  }
}

/// Scratch of `delta_weight` beside that of its kernels: V S^T.
template <class U, class V, class S>
[[nodiscard]] std::size_t delta_weight_scratch_bytes(hra<U, V, S> const& a) {
  return detail::spread_back_bytes(a, "delta_weight");
}

/// The adapter of output features [first, first + count): itself, since it turns inputs.
template <class U, class V, class S>
[[nodiscard]] auto output_rows(hra<U, V, S> const& a, index_t, index_t) {
  return a;
}

/// What is trained: u, n r.
template <class U, class V, class S>
[[nodiscard]] auto trainable(hra<U, V, S> const& a) {
  return std::tuple{parameter<U>{"u", a.u}};
}

/// How a fresh HRA begins.
struct repeated_reflections {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
};
/// A fresh adapter, as PEFT makes it: pairs of equal columns, uniform in +-1 / sqrt(r / 2), so that two reflections after each other
/// change nothing. Needs an even rank, and no Gram-Schmidt (which cannot take equal columns).
///
/// Errors       argument_error for an odd rank or with Gram-Schmidt; shape_error. Nothing is written then.
template <class E, class U, class V, class S>
void initialize(E const& ex, hra<U, V, S> const& a, repeated_reflections const& how) {
  GRAFT_MANDATE_OUTPUT("initialize", "u", E, U, 2)
  if constexpr (detail::mandates_hra<E, hra<U, V, S>>() && detail::accepted_output<E, U, 2>) {
    detail::expects_hra("initialize", a);
    if (a.rank() % 2 != 0 || a.gram_schmidt) [[unlikely]]
      detail::raise(argument_error(detail::text("graft::initialize: u", detail::shape_text(a.u),
                                                a.gram_schmidt ? " is to be made orthonormal" : " has an odd rank",
                                                "; pairs of equal columns need an even rank and no Gram-Schmidt")));
    detail::expects_output("initialize", "u", a.u);
    auto const every_other = [&](index_t first) {
      return tensor_view<typename U::element_type, dynamic_extents<2>, typename U::space_type, no_unit_dimension>{
          a.u.data_handle() + (a.u.size() == 0 ? 0 : first * a.u.stride(1)),
          dynamic_extents<2>{a.u.extent(0), a.u.extent(1) / 2},
          {a.u.stride(0), 2 * a.u.stride(1)}};
    };
    double const bound = 1.0 / std::sqrt(static_cast<double>(a.rank() / 2));
    for (index_t const first : {0, 1})  // the same numbers: they depend on the place in the view
      kernels::fill_uniform(ex, {.seed = how.seed, .stream = how.stream}, every_other(first), bound);
    update_reflections(ex, a);
  }
}

}  // namespace GRAFT_TARGET

namespace detail {
using archetype_hra = hra<archetype_matrix, archetype_matrix, archetype_matrix>;
}
static_assert(input_transform<detail::archetype_hra> && row_mergeable<detail::archetype_hra> &&
              differentiable<detail::archetype_hra>);

}  // namespace graft::inline GRAFT_CONTRACT
