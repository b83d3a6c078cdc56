// Equal bits. Two NaN count as equal whatever their payload: which operand's payload survives is up to the processor.
#pragma once

#include <bit>
#include <cstdint>
#include <cstdio>
#include <string>
#include <type_traits>

#include <graft/view.hpp>

namespace tests {

template <class T>
[[nodiscard]] std::uint64_t bits_of(T const& value) {
  if constexpr (sizeof(T) == 2) return value.bits;
  else if constexpr (sizeof(T) == 4) return std::bit_cast<std::uint32_t>(value);
  else return std::bit_cast<std::uint64_t>(value);
}
template <class T>
[[nodiscard]] bool is_nan(T const& value) {
  auto const f = graft::load_as<double>(value);
  return f != f;
}
template <class T>
[[nodiscard]] bool same_bits(T const& a, T const& b) {
  return tests::bits_of(a) == tests::bits_of(b) || (tests::is_nan(a) && tests::is_nan(b));
}
template <class T>
[[nodiscard]] std::string text_of(T const& value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.9g (bits %0*llx)", graft::load_as<double>(value), static_cast<int>(2 * sizeof(T)),
                static_cast<unsigned long long>(tests::bits_of(value)));
  return text;
}

/// Empty when the elements of two matrices (or vectors) are equal in bits, else a sentence about the first that is not.
template <class V, class W>
[[nodiscard]] std::string differences(V const& got, W const& expected) {
  static_assert(std::is_same_v<typename V::value_type, typename W::value_type> && V::rank() == W::rank());
  std::string first;
  graft::index_t count = 0;
  if (got.shape() != expected.shape()) return "the shapes differ";
  auto const compare = [&](std::string const& at, auto const& a, auto const& b) {
    if (tests::same_bits(a, b)) return;
    if (count++ == 0) first = at + " is " + tests::text_of(a) + " instead of " + tests::text_of(b);
  };
  for (graft::index_t i = 0; i < got.extent(0); ++i) {
    if constexpr (V::rank() == 1) {
      if (!tests::same_bits(got(i), expected(i))) compare("[" + std::to_string(i) + "]", got(i), expected(i));
    } else {
      for (graft::index_t j = 0; j < got.extent(1); ++j)
        if (!tests::same_bits(got(i, j), expected(i, j)))
          compare("[" + std::to_string(i) + ", " + std::to_string(j) + "]", got(i, j), expected(i, j));
    }
  }
  if (count == 0) return {};
  return std::to_string(count) + " of " + std::to_string(got.size()) + " differ; " + first;
}

/// Collects the complaints of many comparisons: one CHECK at the end in place of thousands.
class tally {
 public:
  /// `describe()` says what was compared; only called when there is something to complain about.
  template <class Describe>
  void add(std::string const& complaint, Describe const& describe) {
    ++count_;
    if (complaint.empty()) return;
    if (++failed_ <= 5) text_ += "\n" + describe() + ": " + complaint;
  }
  [[nodiscard]] int count() const { return count_; }
  /// Empty, or the number of complaints and the first five.
  [[nodiscard]] std::string text() const {
    return failed_ == 0 ? std::string()
                        : std::to_string(failed_) + " of " + std::to_string(count_) + " comparisons failed:" + text_;
  }

 private:
  int count_ = 0;
  int failed_ = 0;
  std::string text_;
};

}  // namespace tests
