// SPDX-License-Identifier: Apache-2.0
/// @file
/// What host bodies compute on: views with their types erased, so that one body per instruction set serves every mix of
/// storage types, strides and executors (and compiles once).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/kernels/gate_rule.hpp>
#include <graft/kernels/panels.hpp>
#include <graft/view/scalar.hpp>

namespace graft::inline GRAFT_CONTRACT::detail {

enum class storage : std::uint8_t { fp32, bf16, fp16 };

template <class T>
inline constexpr storage storage_of = std::is_same_v<T, bfloat16>  ? storage::bf16
                                      : std::is_same_v<T, float16> ? storage::fp16
                                                                   : storage::fp32;

/// A matrix of float, bfloat16 or float16 with any strides. Packed panels: `panel_rank` > 0.
struct operand {
  void* data;
  storage kind;
  index_t row;  // strides, in elements
  index_t column;
  index_t panel_rank = 0;

  [[nodiscard]] GRAFT_FN operand transposed() const { return {data, kind, column, row, 0}; }
  [[nodiscard]] GRAFT_FN operand at(index_t i, index_t j) const {
    operand o = *this;
    auto const width = static_cast<index_t>(kind == storage::fp32 ? sizeof(float) : sizeof(std::uint16_t));
    o.data = static_cast<std::byte*>(data) + (i * row + j * column) * width;
    return o;
  }
  template <class T>
  [[nodiscard]] GRAFT_FN T* as() const {
    return static_cast<T*>(data);
  }
};

template <class View>
[[nodiscard]] operand erased(View const& v) {
  using value = typename View::value_type;
  auto* const data = const_cast<value*>(v.data_handle());  // inputs are only read
  if constexpr (is_panels<View>) return {data, storage_of<value>, 1, panel_width, v.extent(1)};
  else return {data, storage_of<value>, v.stride(0), v.stride(1), 0};
}

/// v = scale x A^T, or the first half of a low-rank product.
struct shrink_problem {
  operand x;
  operand a;
  operand v;
  index_t rows;
  index_t ranks;
  index_t length;
  float scale;
};

/// y += (scale v) w^T with `depth` terms an element; the scale may sit on w (after exchanging the two).
/// With factors of the columns: y <- result (y + delta (...)).
struct expand_problem {
  operand v;
  operand w;
  operand y;
  index_t rows;
  index_t columns;
  index_t depth;
  float scale;
  bool scale_on_w;
  float const* delta = nullptr;
  float const* result = nullptr;
};

/// norms(o) = | w(o) + scale sum over j of b(o, j) a(j) |; base and norms are columns. Null: base, and b and a of no ranks.
struct norm_problem {
  operand w;
  operand a;
  operand b;
  operand base;
  operand norms;
  index_t rows;
  index_t ranks;
  index_t length;
  float scale;
};

/// y = x times the factors of r, or times their transposes in reverse; added to y or not.
struct rotation_problem {
  operand x;
  operand y;
  void const* r;
  storage kind;
  index_t factor;  // strides of r, in elements
  index_t block;
  index_t row;
  index_t column;
  index_t rows;
  index_t features;
  index_t factors;
  index_t size;   // of a block
  index_t first;  // the number of r's first factor
  bool transposed;
  bool adds;

  /// Do sixteen features hold whole blocks, so that one permutation of them serves each term?
  [[nodiscard]] GRAFT_FN bool in_lanes() const {
    return (size == 2 || size == 4 || size == 8 || size == 16) && features % 16 == 0;
  }
  /// Are the rows of factor f's blocks read as they lie in memory? Above factor 0 that costs a permutation of every output, so for
  /// many rows blocks are packed. Where the last factor's are read, all are.
  [[nodiscard]] GRAFT_FN bool reads_r(index_t f) const {
    if (transposed || kind != storage::fp32 || column != 1) return false;
    return !in_lanes() || size == 16 || (size > 2 && (first + f == 0 || rows <= rows_unpacked));
  }
  static constexpr index_t rows_unpacked = 32;
  /// Pieces that workers take: vectors of sixteen features, or blocks.
  [[nodiscard]] GRAFT_FN index_t items() const { return in_lanes() ? features / 16 : features / size; }
};

/// Rotations of blocks from their skew parameters, square or packed; terms = 0 is the exact transform.
struct cayley_problem {
  operand parameters;  // `row` steps over blocks; packed: `column` over numbers
  index_t inner;       // square: the stride of the last dimension, `column` that of the one before; packed: 0
  operand rotations;   // `row` steps over blocks, `column` over rows
  index_t last;        // over columns
  index_t blocks;
  index_t size;
  bool packed;
  int terms;
};

/// rows(i) = w x(row_tokens[i]), +0 where that is -1. Of w `row` steps over tokens, `column` over pairs; null: ones.
struct dispatch_problem {
  operand x;
  operand rows;
  operand w;
  index_t const* row_tokens;
  index_t const* permutation;
  index_t columns;
  bool streams;  // rows are more than caches hold
};

/// y(t) = or += sum over the pairs of t of w rows(inverse[pair]), of those that are not -1; and d w = y(t) . rows(...).
struct combine_problem {
  operand rows;
  operand y;
  operand w;
  index_t const* inverse;
  index_t const* first_pair;  // null: `choices` a token
  index_t choices;
  index_t columns;
  bool adds;

  [[nodiscard]] GRAFT_FN index_t pair_begin(index_t t) const {
    return first_pair == nullptr ? t * choices : first_pair[t];
  }
};

/// Softmax gates; see gate_rule. ids point to std::int64_t if `wide_ids`, else to std::int32_t.
struct gate_problem {
  operand logits;
  operand weights;
  void* ids;
  bool wide_ids;
  index_t id_row;
  index_t id_column;
  index_t rows;
  index_t experts;
  index_t k;
  bool sums_over_all;
  bool renormalize;
  float epsilon;
  float scale;
  float rate;  // 1 / temperature
  gate_codes codes;
};

/// What becomes of a chain: with neither flag nor factors it starts from y and is the new y.
struct expand_ending {
  bool more;  // chunks after the first: from +0, then added to y
  float const* delta;
  float const* result;
  [[nodiscard]] GRAFT_FN bool from_zero() const { return more || delta != nullptr; }
  [[nodiscard]] GRAFT_FN bool is_none() const { return !from_zero() && result == nullptr; }
  [[nodiscard]] GRAFT_FN expand_ending at(index_t column) const {
    return {more, delta == nullptr ? nullptr : delta + column, result == nullptr ? nullptr : result + column};
  }
};

}  // namespace graft::inline GRAFT_CONTRACT::detail
