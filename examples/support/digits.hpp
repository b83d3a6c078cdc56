// SPDX-License-Identifier: Apache-2.0
/// @file
/// scikit-learn's handwritten digits, split the same way always.
#pragma once

#include <cstddef>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <Eigen/Core>

namespace moe {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Pixels from 0 to 1, and what each image shows.
struct images {
  matrix pixels;
  std::vector<int> labels;
};
struct digits {
  static constexpr int classes = 10;
  images train, test;
};

/// Lines of 64 pixels from 0 to 16 and a label. Every fifth is for the test.
[[nodiscard]] inline digits read_digits(std::string const& path) {
  constexpr int columns = 64;
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path + ": --data says where digits.csv lies");
  std::vector<float> pixels[2];
  digits d;
  std::vector<int>* const labels[2] = {&d.train.labels, &d.test.labels};
  std::string line;
  for (int count = 0; std::getline(file, line); ++count) {
    int const part = count % 5 == 4 ? 1 : 0;
    char const* at = line.c_str();
    for (int i = 0; i <= columns; ++i) {
      char* end = nullptr;
      long const value = std::strtol(at, &end, 10);
      if (end == at || value < 0 || value > (i < columns ? 16 : digits::classes - 1) ||
          *end != (i < columns ? ',' : '\0'))
        throw std::runtime_error(path + " has something else than 64 pixels and a digit in line " +
                                 std::to_string(count + 1));
      at = end + 1;
      if (i < columns) pixels[part].push_back(static_cast<float>(value) / 16.0F);
      else labels[part]->push_back(static_cast<int>(value));
    }
  }
  if (d.test.labels.empty()) throw std::runtime_error(path + " has fewer than five lines");
  images* const to[2] = {&d.train, &d.test};
  for (int part = 0; part < 2; ++part)
    to[part]->pixels =
        Eigen::Map<matrix const>(pixels[part].data(), static_cast<Eigen::Index>(labels[part]->size()), columns);
  return d;
}

}  // namespace moe
