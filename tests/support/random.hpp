// Data for tests: a function of a seed, the same on every platform.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <graft/view.hpp>

namespace tests {

/// splitmix64.
class random_bits {
 public:
  explicit random_bits(std::uint64_t seed) : state_(seed) {}

  std::uint64_t operator()() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31U);
  }
  /// 0, ..., count - 1
  std::int64_t below(std::int64_t count) {
    return static_cast<std::int64_t>((*this)() % static_cast<std::uint64_t>(count));
  }
  /// [-1, 1) in steps of 2^-23: never so simple that an error would not show.
  float number() { return static_cast<float>(static_cast<std::int32_t>((*this)() >> 40U) - (1 << 23)) * 0x1p-23F; }
  template <class T>
  T const& one_of(std::vector<T> const& all) {
    return all[static_cast<std::size_t>(below(static_cast<std::int64_t>(all.size())))];
  }

 private:
  std::uint64_t state_;
};

/// What an element of type T holds after `value` was stored in it.
template <class T>
[[nodiscard]] double stored(double value) {
  return graft::load_as<double>(graft::store_as<T>(value));
}

/// `count` numbers in [-scale, scale) that are exact in T.
template <class T>
[[nodiscard]] std::vector<T> random_numbers(graft::index_t count, std::uint64_t seed, double scale = 1.0) {
  random_bits bits(seed);
  std::vector<T> v(static_cast<std::size_t>(count));
  for (T& e : v) e = graft::store_as<T>(scale * static_cast<double>(bits.number()));
  return v;
}

}  // namespace tests
