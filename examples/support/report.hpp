// SPDX-License-Identifier: Apache-2.0
/// @file
/// Drawn numbers, medians of times, and a table of at most 110 columns.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include <Eigen/Core>
#include <graft/graft.hpp>
#include <graft/io.hpp>

#include "float64.hpp"

namespace demo {

/// Uniform numbers in [-limit, limit): SplitMix64 of a counter, the same everywhere.
class drawn {
 public:
  explicit drawn(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15U) {}
  template <class M = matrix>
  [[nodiscard]] M values(Eigen::Index rows, Eigen::Index columns, float limit) {
    M out(rows, columns);
    for (Eigen::Index i = 0; i < out.size(); ++i)
      out.data()[i] = limit * (static_cast<float>(next() >> 40U) * 0x1p-23F - 1);
    return out;
  }

 private:
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31U);
  }
  std::uint64_t state_;
};

/// Median in microseconds of 3 to 25 calls, about 5 ms in all, after one that warms up.
template <class F>
[[nodiscard]] double median_us(F const& f) {
  using clock = std::chrono::steady_clock;
  f();
  std::vector<double> times;
  for (auto const start = clock::now();
       times.size() < 3 || (times.size() < 25 && clock::now() - start < std::chrono::milliseconds(5));) {
    auto const begin = clock::now();
    f();
    times.push_back(std::chrono::duration<double, std::micro>(clock::now() - begin).count());
  }
  auto const middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

struct timing {
  double base = 0;     // y = x W^T
  double adapter = 0;  // graft::add_delta, transform_input, transform_output
  double eigen = 0;    // the same by Eigen
  timing& operator+=(timing const& t) {
    base += t.base;
    adapter += t.adapter;
    eigen += t.eigen;
    return *this;
  }
};

/// A name from a file: printable, and shortened in the middle.
[[nodiscard]] inline std::string shortened(std::string_view name, std::size_t width) {
  std::string s = graft::io::escaped(name);
  s = s.substr(1, s.size() - 2);
  if (s.size() <= width) return s;
  std::size_t const head = (width - 2) / 2;
  return s.substr(0, head) + ".." + s.substr(s.size() - (width - 2 - head));
}

template <class... Values>
[[nodiscard]] std::string format(char const* pattern, Values... values) {
  std::array<char, 256> text{};
  static_cast<void>(std::snprintf(text.data(), text.size(), pattern, values...));
  return text.data();
}

/// 1234567 -> 1,234,567
[[nodiscard]] inline std::string with_commas(std::int64_t value) {
  std::string const digits = std::to_string(value);
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i != 0 && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

inline constexpr std::size_t name_width = 31;

inline void print_header(char const* compared_with) {
  int const name = static_cast<int>(name_width);
  std::printf("\n%-*s %-18s  y: %-18s error / bound  adapter  of\n", name, "", "", compared_with);
  std::printf("%-*s method size  params   error ulps   bound    W undo grad      us  base  Eigen\n", name, "module");
}

/// One line of 108 columns; what a module does not have is a dash. "!" stands behind what exceeds its bound.
inline void print_row(std::string_view module, std::string const& method, graft::index_t size,
                      graft::index_t parameters, worst const& y, checks const* c, timing const* t) {
  std::string line =
      format("%-*s %-6s", static_cast<int>(name_width), shortened(module, name_width).c_str(), method.c_str());
  line += size > 0 ? format(" %4lld", static_cast<long long>(size)) : format(" %4s", "-");
  line += parameters > 0 ? format(" %7lld", static_cast<long long>(parameters)) : format(" %7s", "-");
  line +=
      format(y.ulps() < 1000 ? " %7.1e %4.1f %7.1e" : " %7.1e %4.0e %7.1e", y.relative(), y.ulps(), y.relative_bound());
  line += c != nullptr ? format(" %4.2f %4.2f %4.2f", c->W.ratio, c->undo.ratio, c->grad.ratio)
                       : format(" %4s %4s %4s", "-", "-", "-");
  line += t != nullptr ? format(" %7.1f %4.*f%% %5.1fx", t->adapter, t->adapter < 0.1 * t->base ? 1 : 0,
                                100 * t->adapter / t->base, t->eigen / t->adapter)
                       : format(" %7s %5s %6s", "-", "-", "-");
  if (!(y.ratio <= 1) || (c != nullptr && !(c->ratio() <= 1))) line += " !";
  std::puts(line.c_str());
  std::fflush(stdout);
}

inline void print_legend() {
  std::puts(
      "\n"
      "y: largest error over largest |y|; in last places of the largest |y|; what is allowed, likewise relative.\n"
      "size: the rank; of BOFT and OFT the block.\n"
      "W, undo, grad: error over bound of the merged weight, of the weight after unmerge, of the gradients.\n"
      "adapter: what it adds to x W^T, by graft; of base: beside Eigen's y = x W^T; Eigen: its time for that over "
      "graft's.");
}

/// "1 tensor", "2 tensors"
[[nodiscard]] inline std::string counted(std::size_t count, std::string const& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

}  // namespace demo
