// Matrices in memory of every layout, between guards that show what was written outside of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <graft/view.hpp>

#include "support/memory.hpp"
#include "support/random.hpp"

namespace tests {

enum class layout {
  contiguous,
  padded,        // rows with padding behind them
  column_range,  // the middle columns of a wider buffer
  transposed,    // column by column
  transposed_padded,
  reversed_rows,  // negative strides
  reversed_columns,
  strided  // no dimension has unit stride
};
inline constexpr std::array<layout, 8> all_layouts{
    layout::contiguous,        layout::padded,        layout::column_range,     layout::transposed,
    layout::transposed_padded, layout::reversed_rows, layout::reversed_columns, layout::strided};

[[nodiscard]] inline std::string name(layout l) {
  constexpr std::array<char const*, 8> names{"contiguous",        "padded",        "column_range",     "transposed",
                                             "transposed_padded", "reversed_rows", "reversed_columns", "strided"};
  return names[static_cast<std::size_t>(l)];
}

/// A view of which nothing is known at compile time. Host bodies look at strides at run time, so that this one type
/// stands for all layouts.
template <class T, class Memory = host_memory>
using any_view = graft::tensor_view<T, graft::dynamic_extents<2>, typename Memory::space, Memory::unit_dimension>;

/// Owns a matrix. All that is around and between its elements are NaN of known bits: what reads them poisons its result,
/// what writes them is found.
template <class T, class Memory = host_memory>
class matrix {
 public:
  matrix(graft::index_t rows, graft::index_t columns, layout how = layout::contiguous)
      : rows_(rows), columns_(columns), how_(how) {
    graft::index_t row = columns;
    graft::index_t column = 1;
    graft::index_t first = 0;
    switch (how) {
      case layout::contiguous: break;
      case layout::padded: row = columns + 5; break;
      case layout::column_range: row = 2 * columns + 19, first = columns + 8; break;
      case layout::transposed: row = 1, column = rows; break;
      case layout::transposed_padded: row = 1, column = rows + 3; break;
      case layout::reversed_rows: row = -(columns + 2), first = (rows - 1) * (columns + 2); break;
      case layout::reversed_columns: row = columns, column = -1, first = columns - 1; break;
      case layout::strided: row = 3 * columns + 4, column = 3; break;
    }
    if (rows == 0 || columns == 0) first = 0;
    graft::index_t const reach =
        rows == 0 || columns == 0 ? 0 : reach_of(row, rows) + reach_of(column, columns) + first + 1;
    typename Memory::host_access const access;
    memory_.resize(static_cast<std::size_t>(reach + 2 * margin));
    for (std::size_t i = 0; i < memory_.size(); ++i) memory_[i] = guard(i);
    data_ = memory_.data() + margin + first;
    strides_ = {row, column};
  }
  matrix(graft::index_t rows, graft::index_t columns, layout how, std::uint64_t seed, double scale = 1.0)
      : matrix(rows, columns, how) {
    fill(seed, scale);
  }
  matrix(matrix&&) = default;  // a moved vector keeps its memory
  matrix& operator=(matrix&&) = delete;

  /// Element (i, j) does not depend on the layout.
  void fill(std::uint64_t seed, double scale = 1.0) {
    typename Memory::host_access const access;
    random_bits bits(seed);
    auto const v = view();
    for (graft::index_t i = 0; i < rows_; ++i)
      for (graft::index_t j = 0; j < columns_; ++j)
        v(i, j) = graft::store_as<T>(scale * static_cast<double>(bits.number()));
  }
  template <class V>
  void assign(V const& from) {
    typename Memory::host_access const access;
    auto const v = view();
    for (graft::index_t i = 0; i < rows_; ++i)
      for (graft::index_t j = 0; j < columns_; ++j) v(i, j) = graft::store_as<T>(graft::load_as<double>(from(i, j)));
  }

  [[nodiscard]] any_view<T, Memory> view() { return {data_, graft::dynamic_extents<2>{rows_, columns_}, strides_}; }
  [[nodiscard]] any_view<T const, Memory> view() const {
    return {data_, graft::dynamic_extents<2>{rows_, columns_}, strides_};
  }
  /// Only for contiguous, padded and column_range: the type knows the unit stride.
  [[nodiscard]] graft::tensor_view<T, graft::dynamic_extents<2>, typename Memory::space> rows_view() {
    return {data_, graft::dynamic_extents<2>{rows_, columns_}, strides_};
  }
  [[nodiscard]] layout how() const { return how_; }

  /// Empty, or a sentence about the first element around the matrix that was written.
  [[nodiscard]] std::string outside() {
    typename Memory::host_access const access;
    std::vector<char> inside(memory_.size());
    auto const v = view();
    for (graft::index_t i = 0; i < rows_; ++i)
      for (graft::index_t j = 0; j < columns_; ++j) inside[static_cast<std::size_t>(&v(i, j) - memory_.data())] = 1;
    for (std::size_t i = 0; i < memory_.size(); ++i)
      if (inside[i] == 0 && bits(memory_[i]) != bits(guard(i)))
        return "memory " + std::to_string(static_cast<std::ptrdiff_t>(i) - (data_ - memory_.data())) +
               " elements from the first was written";
    return {};
  }

 private:
  static constexpr graft::index_t margin = 37;  // odd: rows start unaligned

  static graft::index_t reach_of(graft::index_t stride, graft::index_t extent) {
    return stride < 0 ? 0 : stride * (extent - 1);
  }
  static std::uint64_t bits(T const& value) {
    std::uint64_t u = 0;
    __builtin_memcpy(&u, &value, sizeof(T));
    return u;
  }
  static T guard(std::size_t i) {
    std::uint64_t const low = i * 37U % 63U + 1U;
    std::uint64_t const u = sizeof(T) == 2   ? 0x7fc0U + low
                            : sizeof(T) == 4 ? 0x7fc00000U + low
                                             : 0x7ff8000000000000U + low;
    T value{};
    __builtin_memcpy(static_cast<void*>(&value), &u, sizeof(T));
    return value;
  }

  graft::index_t rows_;
  graft::index_t columns_;
  layout how_;
  typename Memory::template vector<T> memory_;
  T* data_ = nullptr;
  std::array<graft::index_t, 2> strides_{};
};

}  // namespace tests
