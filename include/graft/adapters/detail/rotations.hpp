// SPDX-License-Identifier: Apache-2.0
/// @file
/// What BOFT and OFT share: rotations[N, D, b, b] around a weight, and the way back through them.
#pragma once

#include <cstddef>
#include <string_view>
#include <type_traits>

#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/rotate_blocks.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT::detail {

/// Parameters, square or packed, of `Factors` dimensions more than two.
template <class V, std::size_t Rank> concept view_of_rank = tensor<V> && V::rank() == Rank;
template <class V, std::size_t Rank> concept optional_of_rank = view_of_rank<V, Rank> || std::is_same_v<V, none_t>;

inline namespace GRAFT_TARGET {

/// Factor `f` alone, as blocks, or as a rotation of one factor.
template <class V>
[[nodiscard]] auto blocks_of_factor(V const& v, index_t f) {
  return tensor_view<typename V::element_type, dynamic_extents<3>, typename V::space_type, no_unit_dimension>{
      v.data_handle() + (v.size() == 0 ? 0 : f * v.stride(0)),
      dynamic_extents<3>{v.extent(1), v.extent(2), v.extent(3)},
      {v.stride(1), v.stride(2), v.stride(3)}};
}
template <class V>
[[nodiscard]] auto one_factor(V const& v, index_t f) {
  return tensor_view<typename V::element_type, dynamic_extents<4>, typename V::space_type, V::unit_dimension>{
      v.data_handle() + (v.size() == 0 ? 0 : f * v.stride(0)),
      dynamic_extents<4>{1, v.extent(1), v.extent(2), v.extent(3)},
      {v.stride(0), v.stride(1), v.stride(2), v.stride(3)}};
}
/// Blocks[K, b, b] as a rotation of one factor of `count` blocks: one block may stand for all.
template <class V>
[[nodiscard]] auto as_rotation(V const& v, index_t count) {
  constexpr int unit = V::unit_dimension == no_unit_dimension ? no_unit_dimension : V::unit_dimension + 1;
  return tensor_view<typename V::element_type, dynamic_extents<4>, typename V::space_type, unit>{
      v.data_handle(),
      dynamic_extents<4>{1, count, v.extent(1), v.extent(2)},
      {0, v.extent(0) == 1 ? 0 : v.stride(0), v.stride(1), v.stride(2)}};
}

/// Tokens that go back through the factors together: a chunk of a short axis.
[[nodiscard]] inline index_t rotated_tokens(index_t tokens) {
  return tokens < kernels::chunk ? tokens : kernels::chunk;
}
/// Scratch of `backward_through`: gradients of the rotations, inputs of all factors but the first, and a gradient.
template <class Sums, class R, class X>
[[nodiscard]] std::size_t backward_through_bytes(std::string_view verb, R const& r, index_t different, X const& x) {
  index_t const tokens = rotated_tokens(x.extent(0));
  return scratch_size(checked_product(r.extent(0), different, verb), checked_product(r.extent(2), r.extent(3), verb),
                      sizeof(Sums), verb) +
         (r.extent(0) > 1 ? scratch_size(checked_product(r.extent(0), tokens, verb), x.extent(1), sizeof(Sums), verb)
                          : 0);
}
/// Of y = x B_{N-1} ... B_0 and g, the gradient of y: take(f, dR of factor f), of `different` blocks each.
template <class Sums, class E, class R, class X, class G, class F>
void backward_through(E const& ex, std::string_view verb, R const& r, index_t different, X const& x, G const& g,
                      F const& take) {
  index_t const factors = r.extent(0), b = r.extent(2), n = x.extent(1), tokens = x.extent(0);
  index_t const step = rotated_tokens(tokens);
  call_scratch const memory(ex, backward_through_bytes<Sums>(verb, r, different, x));
  auto* const gradients = reinterpret_cast<Sums*>(memory.data());
  index_t const of_factor = different * b * b;
  auto* const inputs =
      reinterpret_cast<Sums*>(memory.data() + scratch_size(factors * different, b * b, sizeof(Sums), verb));
  auto* const turned = inputs + (factors - 1) * step * n;
  auto const gradient = [&](index_t f) {
    return view_in<typename E::space_type>(gradients + f * of_factor, different, b, b);
  };
  fill_zero(ex, view_in<typename E::space_type>(gradients, factors, of_factor));
  for (index_t t = 0; t < tokens; t += step) {
    index_t const some = tokens - t < step ? tokens - t : step;
    auto const input = [&](index_t f) { return view_in<typename E::space_type>(inputs + f * step * n, some, n); };
    auto const back = view_in<typename E::space_type>(turned, factors > 1 ? some : 0, n);
    auto const first = rows(x, t, some);
    auto const last = rows(g, t, some);
    for (index_t f = factors - 1; f > 0; --f) {
      if (f == factors - 1) kernels::rotate_blocks(ex, first, one_factor(r, f), input(f - 1), f);
      else kernels::rotate_blocks(ex, input(f), one_factor(r, f), input(f - 1), f);
    }
    for (index_t f = 0; f < factors; ++f) {
      auto const add = [&](auto const& in) {
        if (f == 0) kernels::rotate_blocks_gradient(ex, in, last, f, gradient(f));
        else kernels::rotate_blocks_gradient(ex, in, back, f, gradient(f));
      };
      if (f == factors - 1) add(first);
      else add(input(f));
      if (f + 1 == factors) break;
      if (f == 0) kernels::rotate_blocks_back(ex, last, one_factor(r, f), back, f);
      else kernels::rotate_blocks_back(ex, back, one_factor(r, f), back, f);
    }
  }
  for (index_t f = 0; f < factors; ++f) take(f, gradient(f));
}

/// f(matrix of each view) until all blocks are done: at once where rows of blocks follow each other evenly, else block by block.
template <class F, class V, class... Others>
void for_each_block(F const& f, V const& v, Others const&... others) {
  auto const even = [](auto const& w) { return w.stride(0) == w.extent(1) * w.stride(1); };
  auto const rows_of = [](auto const& w) {
    using W = std::remove_cvref_t<decltype(w)>;
    return tensor_view<typename W::element_type, dynamic_extents<2>, typename W::space_type, no_unit_dimension>{
        w.data_handle(), dynamic_extents<2>{w.extent(0) * w.extent(1), w.extent(2)}, {w.stride(1), w.stride(2)}};
  };
  if (even(v) && (even(others) && ...)) return f(rows_of(v), rows_of(others)...);
  for (index_t k = 0; k < v.extent(0); ++k) f(layer(v, k), layer(others, k)...);
}
/// Types of a verb that takes parameters, rotations and other views.
template <class E, class P, class R>
consteval bool mandates_rotated() {
  GRAFT_MANDATE_EXECUTOR("boft, oft", E)
  static_assert(
      !std::is_same_v<R, none_t>,
      "graft: this boft or oft has no rotations; give it memory for them: with_rotations(adapter, view), then "
      "update_rotations(ex, adapter)");
  return executor<E> && !std::is_same_v<R, none_t> && accepted<E, P, R>;
}

/// An output that shares no memory with the adapter.
template <class A, class Out>
void expects_output_of_rotated(std::string_view verb, A const& a, std::string_view name, Out const& out) {
  if constexpr (is_there<Out>) {
    expects_output(verb, name, out);
    expects_disjoint(verb, name, out, "the parameters", a.parameters);
    if constexpr (is_there<decltype(a.rotations)>) expects_disjoint(verb, name, out, "the rotations", a.rotations);
  }
}

/// Types and, but for the adapter's own, extents and aliasing of backward_input.
template <class E, class A, class X, class G, class GP, class DX, std::size_t Rank>
consteval bool mandates_rotated_backward() {
  GRAFT_MANDATE_INPUT("backward_input", "x", E, X, 2)
  GRAFT_MANDATE_INPUT("backward_input", "the gradient of x'", E, G, 2)
  if constexpr (is_there<GP>) {
    static_assert(
        tensor<GP> && GP::rank() == Rank && output_view<GP>,
        "graft::backward_input: the gradient of the parameters must be a view like the parameters, not const");
  }
  if constexpr (is_there<DX>) { GRAFT_MANDATE_OUTPUT("backward_input", "dx", E, DX, 2) }
  return mandates_rotated<E, decltype(A::parameters), decltype(A::rotations)>() && accepted_input<E, X, 2> &&
         accepted_input<E, G, 2> && accepted_output_or_none<E, GP, Rank> && accepted_output_or_none<E, DX, 2>;
}
template <class A, class R, class X, class G, class GP, class DX>
void expects_rotated_backward(A const& a, R const& rotation, X const& x, G const& g, GP const& d, DX const& dx) {
  constexpr std::string_view verb = "backward_input";
  expects_rotation(verb, rotation, "x", x);
  expects_shape(verb, "the gradient of x'", g, "x", x, 0, "x", x, 1);
  expects_data(verb, "x", x);
  expects_data(verb, "the gradient of x'", g);
  auto const written = [&](std::string_view name, auto const& out) {
    expects_output_of_rotated(verb, a, name, out);
    expects_apart(verb, name, out, "x", x);
    expects_apart(verb, name, out, "the gradient of x'", g);
  };
  written("dx", dx);
  written("the gradient of the parameters", d);
  expects_apart(verb, "the gradient of the parameters", d, "dx", dx);
  if constexpr (is_there<DX>) expects_shape(verb, "dx", dx, "x", x, 0, "x", x, 1);
  if constexpr (is_there<GP>)
    for (std::size_t i = 0; i < GP::rank(); ++i)
      expects_equal_extents(verb, "the gradient of the parameters", d, i, "the parameters", a.parameters, i);
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT::detail
