// SPDX-License-Identifier: Apache-2.0
/// @file
/// Dense algebra on r x r matrices of double, row by row in memory, on the calling thread: what the core needs of a linear
/// algebra package, since it depends on none. For ranks, not for weights: r^3 flops, not blocked.
#pragma once

#include <cmath>

#include <graft/config.hpp>
#include <graft/contracts.hpp>

namespace graft::inline GRAFT_CONTRACT::detail {
inline namespace GRAFT_TARGET {

/// sum of a[k a_step] b[k] for k < n, in order by fma.
[[nodiscard]] inline double dot_in_order(double const* a, index_t a_step, double const* b, index_t n) {
  double sum = 0.0;
  for (index_t k = 0; k < n; ++k) sum = std::fma(a[k * a_step], b[k], sum);
  return sum;
}

/// inverse = (g + damping I)^-1 by Cholesky (g = L L^T, L over the lower half of g). False, with `inverse` untouched, unless
/// every pivot is positive and finite.
[[nodiscard]] inline bool invert_positive_definite(double* g, double* inverse, index_t r, double damping) {
  for (index_t j = 0; j < r; ++j) {
    double const pivot = g[j * r + j] + damping - dot_in_order(g + j * r, 1, g + j * r, j);
    if (!(pivot > 0.0) || !std::isfinite(pivot)) return false;
    double const root = std::sqrt(pivot);
    g[j * r + j] = root;
    for (index_t i = j + 1; i < r; ++i) g[i * r + j] = (g[i * r + j] - dot_in_order(g + i * r, 1, g + j * r, j)) / root;
  }
  for (index_t c = 0; c < r; ++c) {
    double* const z = inverse + c * r;  // row c of the inverse, which is its column c
    for (index_t i = 0; i < r; ++i) {
      double const e = i == c ? 1.0 : 0.0;
      z[i] = i < c ? 0.0 : (e - dot_in_order(g + i * r + c, 1, z + c, i - c)) / g[i * r + i];  // L z = e_c
    }
    z[r - 1] /= g[r * r - 1];  // L^T z = z
    for (index_t i = r - 1; i-- > 0;)
      z[i] = (z[i] - dot_in_order(g + (i + 1) * r + i, r, z + i + 1, r - 1 - i)) / g[i * r + i];
  }
  return true;
}

/// Rows of q made orthonormal in place by Gram-Schmidt, each projected twice (once leaves an error of cond eps). False when
/// a row depends on the ones above it up to rounding.
[[nodiscard]] inline bool orthonormalize_rows(double* q, index_t r) {
  for (index_t i = 0; i < r; ++i) {
    double* const row = q + i * r;
    double const before = std::sqrt(dot_in_order(row, 1, row, r));
    for (int pass = 0; pass < 2; ++pass)
      for (index_t p = 0; p < i; ++p) {
        double const* const other = q + p * r;
        double const along = dot_in_order(row, 1, other, r);
        for (index_t k = 0; k < r; ++k) row[k] = std::fma(-along, other[k], row[k]);
      }
    double const length = std::sqrt(dot_in_order(row, 1, row, r));
    if (!(length > 1e-12 * before) || !std::isfinite(length)) return false;
    for (index_t k = 0; k < r; ++k) row[k] /= length;
  }
  return true;
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT::detail
