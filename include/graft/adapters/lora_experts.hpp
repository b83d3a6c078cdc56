// SPDX-License-Identifier: Apache-2.0
/// @file
/// LoRA on a fused parameter of experts, one tensor for all of them (PEFT's `target_parameters`).
///
///     x[E, T, n]  A[E r, n]  B[m, r E]  y[E, T, m]  W[E, m, n]
///     A_e = rows e r ... e r + r - 1 of A        B_e = columns e, e + E, e + 2 E, ... of B        delta_e = s B_e A_e
///
/// A is expert-major but B has the expert fastest: the two are read by different rules, and mixing them up still has the right
/// shapes. Source: huggingface/peft, src/peft/tuners/lora/layer.py, ParamWrapper.
#pragma once

#include <cstddef>
#include <string_view>
#include <tuple>
#include <type_traits>

#include <graft/adapters/concepts.hpp>
#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/lora.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Views of somebody's tensors, a factor, and how many experts share them. `expert(l, e)` is a `lora`, with all that one can do.
template <class MatrixA, class MatrixB>
struct lora_experts {
  static_assert(
      matrix_view<MatrixA> && matrix_view<MatrixB>,
      "graft::lora_experts: A and B must be matrix views; wrap the data: graft::view(pointer, rows, columns)");

  MatrixA A;
  MatrixB B;
  scaling scale;
  index_t experts = 1;

  /// Of one expert.
  [[nodiscard]] GRAFT_FN index_t rank() const { return experts > 0 ? A.extent(0) / experts : 0; }
  [[nodiscard]] GRAFT_FN index_t in_features() const { return A.extent(1); }
  [[nodiscard]] GRAFT_FN index_t out_features() const { return B.extent(0); }
};

namespace detail {
/// All layers of three dimensions that a verb takes.
template <class E, class V> concept accepted_experts = accepted_input<E, V, 3>;

template <class E, class L>
consteval bool mandates_experts() {
  GRAFT_MANDATE_EXECUTOR("lora_experts", E)
  GRAFT_MANDATE_INPUT("lora_experts", "A", E, decltype(L::A), 2)
  GRAFT_MANDATE_INPUT("lora_experts", "B", E, decltype(L::B), 2)
  return accepted<E, decltype(L::A), decltype(L::B)>;
}

inline namespace GRAFT_TARGET {
template <class MA, class MB>
void expects_experts(std::string_view verb, lora_experts<MA, MB> const& l) {
  if (l.experts <= 0 || l.A.extent(0) % l.experts != 0) [[unlikely]]
    raise(shape_error(text("graft::", verb, ": A", shape_text(l.A), " does not hold the same rank for each of ",
                           l.experts, " experts")));
  expects_low_rank(verb, l);
}
/// One layer fits the experts: their number, and the extents of one.
template <class L, class V>
void expects_layer(std::string_view verb, std::string_view name, L const& l, V const& v, index_t rows,
                   index_t columns) {
  if (v.extent(0) != l.experts || v.extent(1) != rows || v.extent(2) != columns) [[unlikely]]
    raise(shape_error(text("graft::", verb, ": ", name, shape_text(v), " must be [", l.experts, ", ", rows, ", ",
                           columns, "] for A", shape_text(l.A), " and B", shape_text(l.B))));
  expects_data(verb, name, v);
}

/// The views of expert e. Unchecked.
template <class V>
[[nodiscard]] auto rows_of_expert(V const& a, index_t e, index_t r) {
  return tensor_view<typename V::element_type, dynamic_extents<2>, typename V::space_type, V::unit_dimension>{
      a.data_handle() + (a.size() == 0 ? 0 : e * r * a.stride(0)),
      dynamic_extents<2>{r, a.extent(1)},
      {a.stride(0), a.stride(1)}};
}
template <class V>
[[nodiscard]] auto columns_of_expert(V const& b, index_t e, index_t r, index_t experts) {
  constexpr int unit = V::unit_dimension == 0 ? 0 : no_unit_dimension;
  return tensor_view<typename V::element_type, dynamic_extents<2>, typename V::space_type, unit>{
      b.data_handle() + (b.size() == 0 ? 0 : e * b.stride(1)),
      dynamic_extents<2>{b.extent(0), r},
      {b.stride(0), experts * b.stride(1)}};
}
}  // namespace GRAFT_TARGET
}  // namespace detail

inline namespace GRAFT_TARGET {

/// The LoRA of expert e: strided views of A and B, nothing is copied. `pack` it for fast forwards. Checked.
template <class MA, class MB>
[[nodiscard]] auto expert(lora_experts<MA, MB> const& l, index_t e) {
  detail::expects_experts("expert", l);
  if (e < 0 || e >= l.experts) [[unlikely]]
    detail::raise(argument_error(detail::text("graft::expert: there is no expert ", e, " of ", l.experts)));
  auto const a = detail::rows_of_expert(l.A, e, l.rank());
  auto const b = detail::columns_of_expert(l.B, e, l.rank(), l.experts);
  return lora<std::remove_const_t<decltype(a)>, std::remove_const_t<decltype(b)>>{a, b, l.scale, {}};
}
/// Where expert e's gradients are added: the same parts of gradients of A[E r, n] and B[m, r E].
template <class MA, class MB, class GA, class GB>
[[nodiscard]] auto expert_gradients(lora_experts<MA, MB> const& l, index_t e, lora_gradients<GA, GB> const& g) {
  auto const a = [&] {
    if constexpr (detail::is_there<GA>) return detail::rows_of_expert(g.A, e, l.rank());
    else return none;
  }();
  auto const b = [&] {
    if constexpr (detail::is_there<GB>) return detail::columns_of_expert(g.B, e, l.rank(), l.experts);
    else return none;
  }();
  return lora_gradients<std::remove_const_t<decltype(a)>, std::remove_const_t<decltype(b)>>{a, b, {}};
}

/// y_e += s (x_e A_e^T) B_e^T for every expert.
///
/// Shapes       x[E, T, n] in; y[E, T, m] in and out. Tokens that are routed are for `expert(l, e)`, each expert its own.
/// Everything else: `add_delta` of `lora`, once an expert.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class MA, class MB, class X, class Y>
void add_delta(E const& ex, lora_experts<MA, MB> const& l, X const& x, Y const& y) {
  GRAFT_MANDATE_INPUT("add_delta of lora_experts", "x", E, X, 3)
  GRAFT_MANDATE_OUTPUT("add_delta of lora_experts", "y", E, Y, 3)
  if constexpr (detail::mandates_experts<E, lora_experts<MA, MB>>() && detail::accepted_experts<E, X> &&
                detail::accepted_output<E, Y, 3>) {
    detail::expects_experts("add_delta", l);
    detail::expects_layer("add_delta", "x", l, x, x.extent(1), l.in_features());
    detail::expects_layer("add_delta", "y", l, y, x.extent(1), l.out_features());
    detail::expects_output_of("add_delta", l, "y", y);
    detail::expects_disjoint("add_delta", "y", y, "x", x);
    for (index_t e = 0; e < l.experts; ++e) add_delta(ex, expert(l, e), layer(x, e), layer(y, e));
  }
}

/// Gradients of every expert, added to gradients of A[E r, n] and B[m, r E]; dx_e += u_e A_e.
///
/// Shapes       x[E, T, n], dy[E, T, m] in; gradients as A and B; dx[E, T, n] in and out; `graft::none` for what is not wanted.
/// Everything else: `backward` of `lora`, once an expert.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class MA, class MB, class X, class DY, class GA, class GB, class DX>
void backward(E const& ex, lora_experts<MA, MB> const& l, X const& x, DY const& dy,
              lora_gradients<GA, GB> const& gradients, DX const& dx) {
  GRAFT_MANDATE_INPUT("backward of lora_experts", "x", E, X, 3)
  GRAFT_MANDATE_INPUT("backward of lora_experts", "dy", E, DY, 3)
  if constexpr (detail::is_there<GA>) {
    GRAFT_MANDATE_OUTPUT("backward of lora_experts", "the gradient of A", E, GA, 2)
  }
  if constexpr (detail::is_there<GB>) {
    GRAFT_MANDATE_OUTPUT("backward of lora_experts", "the gradient of B", E, GB, 2)
  }
  if constexpr (detail::is_there<DX>) { GRAFT_MANDATE_OUTPUT("backward of lora_experts", "dx", E, DX, 3) }
  if constexpr (detail::mandates_experts<E, lora_experts<MA, MB>>() && detail::accepted_experts<E, X> &&
                detail::accepted_experts<E, DY> && detail::accepted_output_or_none<E, GA, 2> &&
                detail::accepted_output_or_none<E, GB, 2> && detail::accepted_output_or_none<E, DX, 3>) {
    constexpr std::string_view verb = "backward";
    detail::expects_experts(verb, l);
    detail::expects_layer(verb, "x", l, x, x.extent(1), l.in_features());
    detail::expects_layer(verb, "dy", l, dy, x.extent(1), l.out_features());
    auto const written = [&](std::string_view name, auto const& out) {
      if constexpr (detail::is_there<std::remove_cvref_t<decltype(out)>>) {
        detail::expects_output_of(verb, l, name, out);
        detail::expects_disjoint(verb, name, out, "x", x);
        detail::expects_disjoint(verb, name, out, "dy", dy);
      }
    };
    written("the gradient of A", gradients.A);
    written("the gradient of B", gradients.B);
    written("dx", dx);
    if constexpr (detail::is_there<GA>)
      detail::expects_shape(verb, "the gradient of A", gradients.A, "A", l.A, 0, "A", l.A, 1);
    if constexpr (detail::is_there<GB>)
      detail::expects_shape(verb, "the gradient of B", gradients.B, "B", l.B, 0, "B", l.B, 1);
    if constexpr (detail::is_there<DX>) detail::expects_layer(verb, "dx", l, dx, x.extent(1), l.in_features());
    detail::expects_apart(verb, "the gradient of B", gradients.B, "the gradient of A", gradients.A);
    detail::expects_apart(verb, "dx", dx, "the gradient of A", gradients.A);
    detail::expects_apart(verb, "dx", dx, "the gradient of B", gradients.B);
    for (index_t e = 0; e < l.experts; ++e) {
      if constexpr (detail::is_there<DX>)
        backward(ex, expert(l, e), layer(x, e), layer(dy, e), expert_gradients(l, e, gradients), layer(dx, e));
      else backward(ex, expert(l, e), layer(x, e), layer(dy, e), expert_gradients(l, e, gradients), none);
    }
  }
}

}  // namespace GRAFT_TARGET

namespace detail {
inline namespace GRAFT_TARGET {
/// f(the LoRA of e, W_e) for every expert.
template <class E, class MA, class MB, class W, class F>
void for_each_expert(E const&, std::string_view verb, lora_experts<MA, MB> const& l, W const& w, F const& f) {
  GRAFT_MANDATE_OUTPUT("merge, unmerge, delta_weight of lora_experts", "W", E, W, 3)
  if constexpr (mandates_experts<E, lora_experts<MA, MB>>() && accepted_output<E, W, 3>) {
    expects_experts(verb, l);
    expects_layer(verb, "W", l, w, l.out_features(), l.in_features());
    expects_output_of(verb, l, "W", w);
    for (index_t e = 0; e < l.experts; ++e) f(expert(l, e), layer(w, e));
  }
}
}  // namespace GRAFT_TARGET
}  // namespace detail

inline namespace GRAFT_TARGET {

/// merge: W_e += s B_e A_e. unmerge: the same subtracted. delta_weight: D_e = s B_e A_e.
///
/// Shapes       W[E, m, n] in and out. One stored [E, n, m] is `transposed(W)`, which exchanges the last two dimensions.
/// Everything else: `merge` of `lora`, once an expert.
template <class E, class MA, class MB, class W>
void merge(E const& ex, lora_experts<MA, MB> const& l, W const& w) {
  detail::for_each_expert(ex, "merge", l, w, [&](auto const& one, auto const& part) { merge(ex, one, part); });
}
template <class E, class MA, class MB, class W>
void unmerge(E const& ex, lora_experts<MA, MB> const& l, W const& w) {
  detail::for_each_expert(ex, "unmerge", l, w, [&](auto const& one, auto const& part) { unmerge(ex, one, part); });
}
template <class E, class MA, class MB, class D>
void delta_weight(E const& ex, lora_experts<MA, MB> const& l, D const& d) {
  detail::for_each_expert(ex, "delta_weight", l, d,
                          [&](auto const& one, auto const& part) { delta_weight(ex, one, part); });
}

/// What is trained: A and B, E r (n + m) elements.
template <class MA, class MB>
[[nodiscard]] auto trainable(lora_experts<MA, MB> const& l) {
  return std::tuple{parameter<MA>{"A", l.A}, parameter<MB>{"B", l.B}};
}

}  // namespace GRAFT_TARGET

static_assert(trainable_adapter<lora_experts<detail::archetype_matrix, detail::archetype_matrix>>);

}  // namespace graft::inline GRAFT_CONTRACT
