// SPDX-License-Identifier: Apache-2.0
// Small square matrices of double by plain loops: what rotations and their gradients are compared with.
#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include "support/buffers.hpp"

namespace bench {

class square {
 public:
  explicit square(index_t size, double diagonal = 0) : b(size), at_(static_cast<std::size_t>(size * size)) {
    for (index_t i = 0; i < b; ++i) (*this)(i, i) = diagonal;
  }
  /// Block number `k` of row-major data.
  square(buffer<float> const& data, index_t k, index_t size) : square(size) {
    for (index_t i = 0; i < b * b; ++i) at_[static_cast<std::size_t>(i)] = value(data, k * b * b + i);
  }
  /// The skew matrix whose strict upper triangle, row by row, is row `k` of packed parameters.
  static square skew(buffer<float> const& packed, index_t k, index_t size) {
    square q(size);
    index_t at = k * (size * (size - 1) / 2);
    for (index_t i = 0; i < size; ++i)
      for (index_t j = i + 1; j < size; ++j) {
        q(i, j) = value(packed, at++);
        q(j, i) = -q(i, j);
      }
    return q;
  }
  double& operator()(index_t i, index_t j) { return at_[static_cast<std::size_t>(i * b + j)]; }
  double operator()(index_t i, index_t j) const { return at_[static_cast<std::size_t>(i * b + j)]; }
  /// Row by row.
  double operator[](index_t i) const { return at_[static_cast<std::size_t>(i)]; }
  /// What a parameter of the packed form gets of the gradient of the skew matrix, which this is.
  [[nodiscard]] double of_pair(index_t at) const {
    for (index_t i = 0; i < b; at -= b - 1 - i, ++i)
      if (at < b - 1 - i) return (*this)(i, i + 1 + at) - (*this)(i + 1 + at, i);
    return 0;
  }
  [[nodiscard]] square transposed() const {
    square t(b);
    for (index_t i = 0; i < b; ++i)
      for (index_t j = 0; j < b; ++j) t(j, i) = (*this)(i, j);
    return t;
  }
  /// By Gauss and Jordan with pivots.
  [[nodiscard]] square inverse() const {
    square left = *this, right(b, 1.0);
    for (index_t k = 0; k < b; ++k) {
      index_t pivot = k;
      for (index_t i = k + 1; i < b; ++i)
        if (std::fabs(left(i, k)) > std::fabs(left(pivot, k))) pivot = i;
      for (index_t j = 0; j < b; ++j) {
        std::swap(left(k, j), left(pivot, j));
        std::swap(right(k, j), right(pivot, j));
      }
      double const by = 1 / left(k, k);
      for (index_t j = 0; j < b; ++j) left(k, j) *= by, right(k, j) *= by;
      for (index_t i = 0; i < b; ++i) {
        double const f = left(i, k);
        if (i == k || f == 0) continue;
        for (index_t j = 0; j < b; ++j) left(i, j) -= f * left(k, j), right(i, j) -= f * right(k, j);
      }
    }
    return right;
  }
  friend square operator*(square const& x, square const& y) {
    square z(x.b);
    for (index_t i = 0; i < x.b; ++i)
      for (index_t k = 0; k < x.b; ++k)
        for (index_t j = 0; j < x.b; ++j) z(i, j) += x(i, k) * y(k, j);
    return z;
  }
  friend square operator*(double f, square x) {
    for (double& e : x.at_) e *= f;
    return x;
  }
  friend square operator+(square x, square const& y) {
    for (std::size_t i = 0; i < x.at_.size(); ++i) x.at_[i] += y.at_[i];
    return x;
  }
  friend square operator-(square const& x, square const& y) { return x + -1.0 * y; }

 private:
  index_t b;
  std::vector<double> at_;
};

/// (I - Q) (I + Q)^-1 of block `k` of packed parameters, and five terms of its series (of the transpose).
inline square cayley_of(buffer<float> const& packed, index_t k, index_t b) {
  square const q = square::skew(packed, k, b), one(b, 1.0);
  return (one - q) * (one + q).inverse();
}
inline square cayley_series_of(buffer<float> const& packed, index_t k, index_t b) {
  square const q = square::skew(packed, k, b), q2 = q * q;
  return square(b, 1.0) + 2.0 * q + 2.0 * q2 + 2.0 * (q2 * q) + q2 * q2;
}

/// The gradient of Q of what `cayley_series_of` makes of it, where g is that of the rotation: of each power Q^p the sum over the
/// places that dQ may take.
inline square cayley_series_gradient(square const& q, square const& g, index_t b) {
  square const t = q.transposed();
  square all(b);
  for (int power = 1; power <= 4; ++power)
    for (int left = 0; left < power; ++left) {
      square term = g;
      for (int l = 0; l < left; ++l) term = t * term;
      for (int l = 0; l < power - 1 - left; ++l) term = term * t;
      all = all + (power == 4 ? 1.0 : 2.0) * term;
    }
  return all;
}
/// The same of the exact rotation r.
inline square cayley_gradient(square const& r, square const& g, index_t b) {
  square const t = (square(b, 1.0) + r).transposed();
  return -0.5 * (t * g * t);
}

}  // namespace bench
