// SPDX-License-Identifier: Apache-2.0
/// @file
/// What adapters that scale outputs by a vector share: BOFT's s, (IA)3.
#pragma once

#include <cstddef>
#include <limits>
#include <string_view>
#include <type_traits>

#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/columns.hpp>
#include <graft/kernels/copy.hpp>
#include <graft/kernels/scale.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET {

/// What a verb that changes W, or writes the change into D, asks of the two; `written(name, view)` looks at what is written.
template <class W, class D, class F>
void expects_change(std::string_view verb, W const& w, D const& d, F const& written) {
  if constexpr (is_there<D>) {
    expects_shape(verb, "D", d, "W", w, 0, "W", w, 1);
    expects_data(verb, "W", w);
    written("D", d);
    expects_disjoint(verb, "D", d, "W", w);
  } else written("W", w);
}

/// D = change(W) - W, where `change` works in place; in 16 bits rounded once.
template <class E, class W, class D, class F>
void difference_of(E const& ex, std::string_view verb, W const& w, D const& d, F const& change) {
  kernels::copy(ex, w, d);
  if constexpr (is_narrow<D>)
    in_row_blocks(ex, verb, d, [&](index_t first, index_t count, auto const& block) {
      change(block, first, count);
      kernels::add_scaled_columns(ex, none, rows(w, first, count), block, -2.0);
    });
  else {
    change(d, 0, d.extent(0));
    kernels::add_scaled_columns(ex, none, w, d, -2.0);
  }
}

/// Scratch of `difference_of`.
template <class D>
[[nodiscard]] std::size_t difference_bytes(D const& d, std::string_view verb) {
  if constexpr (is_narrow<D>) return row_blocks_bytes(d, verb);
  else return 0;
}

/// Scratch of `with_inverse` of `count` elements.
template <class Sums>
[[nodiscard]] std::size_t inverse_bytes(index_t count, std::string_view verb) {
  return scratch_size(1, count, sizeof(Sums), verb);
}
/// f(1 / v) in scratch; NaN where v is 0, since that cannot be taken back.
template <class Sums, class E, class V, class F>
void with_inverse(E const& ex, std::string_view verb, V const& v, F const& f) {
  call_scratch const memory(ex, inverse_bytes<Sums>(v.extent(0), verb));
  auto const inverse = memory.template view<Sums>(v.extent(0));
  kernels::divide(ex, none, v, inverse, std::numeric_limits<double>::quiet_NaN());
  f(as_const(inverse));
}

template <class E, class S, class Y, class Kept>
consteval bool mandates_scale_output() {
  GRAFT_MANDATE_INPUT("transform_output", "the scales", E, S, 1)
  GRAFT_MANDATE_OUTPUT("transform_output", "y", E, Y, 2)
  if constexpr (is_there<Kept>) { GRAFT_MANDATE_OUTPUT("transform_output", "kept", E, Kept, 2) }
  return accepted_input<E, S, 1> && accepted_output<E, Y, 2> && accepted_output_or_none<E, Kept, 2>;
}
/// kept = y, y = s * y.
template <class E, class S, class Y, class Kept>
void scale_output(E const& ex, std::string_view name, S const& s, Y const& y, Kept const& kept) {
  if constexpr (mandates_scale_output<E, S, Y, Kept>()) {
    constexpr std::string_view verb = "transform_output";
    expects_equal_extents(verb, "y", y, 1, name, s, 0);
    expects_data(verb, name, s);
    expects_output(verb, "y", y);
    expects_disjoint(verb, "y", y, name, s);
    if constexpr (is_there<Kept>) {
      expects_shape(verb, "kept", kept, "y", y, 0, "y", y, 1);
      expects_disjoint(verb, "kept", kept, name, s);
      kernels::copy(ex, y, kept);
    }
    kernels::scale_columns(ex, s, y);
  }
}
template <class E, class S, class Kept, class DY, class DS>
consteval bool mandates_scale_output_backward() {
  GRAFT_MANDATE_INPUT("backward", "the scales", E, S, 1)
  GRAFT_MANDATE_INPUT("backward", "kept", E, Kept, 2)
  GRAFT_MANDATE_OUTPUT("backward", "dy", E, DY, 2)
  if constexpr (is_there<DS>) { GRAFT_MANDATE_OUTPUT("backward", "the gradient of the scales", E, DS, 1) }
  return accepted_input<E, S, 1> && accepted_input<E, Kept, 2> && accepted_output<E, DY, 2> &&
         accepted_output_or_none<E, DS, 1>;
}
/// ds += sum over tokens of dy * kept, dy = s * dy.
template <class E, class S, class Kept, class DY, class DS>
void scale_output_backward(E const& ex, std::string_view name, S const& s, Kept const& kept, DY const& dy,
                           DS const& ds) {
  if constexpr (mandates_scale_output_backward<E, S, Kept, DY, DS>()) {
    constexpr std::string_view verb = "backward";
    expects_equal_extents(verb, "dy", dy, 1, name, s, 0);
    expects_shape(verb, "kept", kept, "dy", dy, 0, "dy", dy, 1);
    expects_data(verb, name, s);
    expects_data(verb, "kept", kept);
    expects_output(verb, "dy", dy);
    expects_disjoint(verb, "dy", dy, name, s);
    expects_disjoint(verb, "dy", dy, "kept", kept);
    if constexpr (is_there<DS>) {
      expects_equal_extents(verb, "the gradient of the scales", ds, 0, name, s, 0);
      expects_output(verb, "the gradient of the scales", ds);
      expects_disjoint(verb, "the gradient of the scales", ds, name, s);
      expects_disjoint(verb, "the gradient of the scales", ds, "dy", dy);
      kernels::dot_columns(ex, dy, kept, ds);
    }
    kernels::scale_columns(ex, s, dy);
  }
}

}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET
