// SPDX-License-Identifier: Apache-2.0
/// @file
/// What adapters share around the verbs: slices, scratch, and rows of 16-bit outputs taken through fp32.
#pragma once

#include <cstddef>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/copy.hpp>
#include <graft/kernels/fill.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT::detail {

/// Something was passed, not `graft::none`.
template <class V>
inline constexpr bool is_there = !std::is_same_v<V, none_t>;

/// Elements of 16 bits: two additions to them round twice.
template <class V>
inline constexpr bool is_narrow = sizeof(typename V::value_type) < sizeof(float);

/// Bytes of scratch that `in_row_blocks` takes at most (one row, where a row is longer).
inline constexpr index_t row_block_bytes = index_t{4} << 20U;

inline namespace GRAFT_TARGET {

/// All elements of a matrix to +0.
template <class E, class Y>
void fill_zero(E const& ex, Y const& y) {
  kernels::fill(ex, 0.0, y);
}

/// A vector as a matrix of one row.
template <class V>
[[nodiscard]] auto as_row(V const& v) {
  constexpr int unit = V::unit_dimension == 0 ? 1 : no_unit_dimension;
  return tensor_view<typename V::element_type, dynamic_extents<2>, typename V::space_type, unit>{
      v.data_handle(), dynamic_extents<2>{1, v.extent(0)}, {0, v.stride(0)}};
}

/// Elements [first, first + count) of a vector; nothing of nothing. Unchecked.
template <class V>
[[nodiscard]] auto slice(V const& v, index_t first, index_t count) {
  if constexpr (!is_there<V>) return none;
  else
    return tensor_view<typename V::element_type, dynamic_extents<1>, typename V::space_type, V::unit_dimension>{
        v.data_handle() + (count == 0 ? 0 : first * v.stride(0)), dynamic_extents<1>{count}, {v.stride(0)}};
}

/// Elements [first, first + count) of a vector over output features, for `output_rows`. Checked.
template <class V>
[[nodiscard]] auto output_slice(V const& v, index_t first, index_t count) {
  if (first < 0 || count < 0 || count > v.extent(0) - first) [[unlikely]]
    raise(shape_error(text("graft::output_rows: rows ", first, " + ", count, " of ", shape_text(v))));
  return slice(v, first, count);
}

/// Rows of W[m, n] in one block of `in_row_blocks`.
template <class Value = float, class W>
[[nodiscard]] index_t rows_in_block(W const& w) {
  index_t const fit = row_block_bytes / static_cast<index_t>(sizeof(Value)) / (w.extent(1) < 1 ? 1 : w.extent(1));
  index_t const rows = w.extent(0) < fit ? w.extent(0) : fit;
  return rows < 1 ? 1 : rows;
}
/// Scratch of `in_row_blocks`.
template <class Value = float, class W>
[[nodiscard]] std::size_t row_blocks_bytes(W const& w, std::string_view verb) {
  return w.size() == 0 ? 0 : scratch_size(rows_in_block<Value>(w), w.extent(1), sizeof(Value), verb);
}

/// Several additions to 16-bit elements with one rounding: `body(first, count, block)` for blocks of rows, where `block`
/// is a copy of rows [first, first + count) in what sums are carried in, stored along the same dimension, that is rounded
/// back once afterwards.
template <class Value = float, class E, class W, class F>
void in_row_blocks(E const& ex, std::string_view verb, W const& w, F const& body) {
  static_assert(is_narrow<W>);
  call_scratch const memory(ex, row_blocks_bytes<Value>(w, verb));
  index_t const step = rows_in_block<Value>(w);
  for (index_t first = 0; first < w.extent(0); first += step) {
    index_t const count = w.extent(0) - first < step ? w.extent(0) - first : step;
    auto const part = rows(w, first, count);
    auto const run = [&](auto const& block) {
      kernels::copy(ex, part, block);
      body(first, count, block);
      kernels::copy(ex, block, part);
    };
    if constexpr (W::unit_dimension == 0) run(transposed(memory.template view<Value>(w.extent(1), count)));
    else run(memory.template view<Value>(count, w.extent(1)));
  }
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT::detail
