// Bounds of rounding errors, by name. Each is what a docstring promises, computed from the lengths of the sums; there are
// no other tolerances in the tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include <graft/view.hpp>

namespace tests {

/// Half the distance from 1 to the next number: the relative error of one rounding.
template <class T>
[[nodiscard]] constexpr double unit_roundoff() {
  if constexpr (std::is_same_v<T, graft::bfloat16>) return 0x1p-8;
  else if constexpr (std::is_same_v<T, graft::float16>) return 0x1p-11;
  else if constexpr (std::is_same_v<T, float>) return 0x1p-24;
  else return 0x1p-53;
}
/// Half the smallest subnormal: the error of one rounding near 0.
template <class T>
[[nodiscard]] constexpr double half_smallest() {
  if constexpr (std::is_same_v<T, graft::bfloat16>) return 0x1p-134;
  else if constexpr (std::is_same_v<T, graft::float16>) return 0x1p-25;
  else if constexpr (std::is_same_v<T, float>) return 0x1p-150;
  else return 0.0;
}

/// A sum over the long axis of `n` products with magnitude sum |x a| (kernels/shrink.hpp).
template <class Accumulate>
[[nodiscard]] double long_axis_bound(graft::index_t n, double magnitude) {
  return (static_cast<double>(n) / 16.0 + 20.0) * unit_roundoff<Accumulate>() * magnitude;
}
/// A chain of `r` products on top of a value, with magnitude |y| + sum |scale v b| (kernels/expand_add.hpp).
template <class Accumulate>
[[nodiscard]] double short_axis_bound(graft::index_t r, double magnitude) {
  auto const terms = static_cast<double>(r);
  return ((std::min)(terms, 512.0) + terms / 512.0 + 1.0) * unit_roundoff<Accumulate>() * magnitude;
}
/// Both, one after the other, with magnitude |y| + sum |scale x a b| (kernels/low_rank_add.hpp).
template <class Accumulate>
[[nodiscard]] double low_rank_bound(graft::index_t n, graft::index_t r, double magnitude) {
  return (static_cast<double>(n) / 16.0 + 20.0 + static_cast<double>(r) + 1.0) * unit_roundoff<Accumulate>() *
         magnitude;
}
/// `before` was the error; then the value is rounded once to T.
template <class T>
[[nodiscard]] double with_rounding(double value, double before) {
  return before + (std::max)(unit_roundoff<T>() * (std::abs(value) + before), half_smallest<T>());
}

}  // namespace tests
