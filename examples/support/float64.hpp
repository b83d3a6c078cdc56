// SPDX-License-Identifier: Apache-2.0
/// @file
/// An adapted layer evaluated in float64, and how far graft's fp32 results may be from it. The framework's own parts,
/// x W^T + bias and dy W, are taken as the framework rounded them: they are not graft's.
///
/// The bound: eps x length x magnitude. A sum in which each term passes through k roundings is off by at most gamma(k) times
/// the sum of the absolute terms, gamma(k) = k u / (1 - k u), u = 2^-24 (Higham, Accuracy and Stability of Numerical
/// Algorithms, 3.1). The lengths k follow from graft's order of summation: along features in sixteen lanes and chunks of 512,
/// along ranks and tokens in chains of 512. The magnitude is the same formula with absolute values. Errors of random signs
/// use a tenth of the bound or less; a wrong term exceeds it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include <Eigen/Core>

namespace demo {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using matrix64 = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using row_vector = Eigen::Matrix<float, 1, Eigen::Dynamic>;

/// What an adapted layer is given; 16-bit factors are widened, which is exact. A bias without elements is none.
struct layer {
  matrix W;  // [m, n]
  row_vector bias;
  matrix x;   // [T, n]
  matrix dy;  // [T, m]
  matrix A;   // [r, n]
  matrix B;   // [m, r]
  row_vector adapter_bias;
  row_vector d;  // VeRA's vectors
  row_vector b;
  row_vector magnitude;  // DoRA's
  double scale = 0;
  matrix y;   // x W^T + bias as the framework computed it; for DoRA without the bias
  matrix dx;  // dy W, likewise; for DoRA 0, since its dy is scaled first
};

/// What graft made of it.
struct outcome {
  matrix y;
  matrix merged;
  matrix unmerged;
  row_vector merged_bias;
  matrix dA;
  matrix dB;
  matrix dx;
  row_vector dbias;
  row_vector dd;
  row_vector db;
  row_vector dmagnitude;
};

/// The element that used most of its bound, and the largest error and value of all.
struct worst {
  double ratio = 0;  // error / bound
  double error = 0;
  double bound = 0;  // where the ratio is largest
  double magnitude = 0;

  template <class Got, class Want, class Bound>
  void take(Got const& got, Want const& want, Bound const& allowed) {
    for (Eigen::Index i = 0; i < want.rows(); ++i)
      for (Eigen::Index j = 0; j < want.cols(); ++j) {
        double const e = std::abs(static_cast<double>(got(i, j)) - want(i, j));
        double const part = e == 0 ? 0 : e / allowed(i, j);
        magnitude = std::max(magnitude, std::abs(want(i, j)));
        if (!(e <= error)) error = e;  // NaN, too
        if (part <= ratio && bound > 0) continue;
        ratio = std::isnan(part) ? std::numeric_limits<double>::infinity() : part;
        bound = allowed(i, j);
      }
  }
  /// In units of the largest value, and of its last place in fp32.
  [[nodiscard]] double relative() const { return magnitude > 0 ? error / magnitude : error; }
  [[nodiscard]] double relative_bound() const { return magnitude > 0 ? bound / magnitude : bound; }
  [[nodiscard]] double ulps() const {
    auto const top = static_cast<float>(magnitude);
    return error / static_cast<double>(std::nextafter(top, std::numeric_limits<float>::infinity()) - top);
  }
};

struct checks {
  worst y;
  worst W;     // merged weight and bias
  worst undo;  // weight after unmerge against the weight before
  worst grad;  // of everything that is trained, and dx
  [[nodiscard]] double ratio() const { return std::max({y.ratio, W.ratio, undo.ratio, grad.ratio}); }
};

/// Roundings along an axis of n features, and along one of n ranks or tokens.
[[nodiscard]] constexpr Eigen::Index long_axis(Eigen::Index n) {
  return std::min<Eigen::Index>((n + 15) / 16, 32) + 4 + (n + 511) / 512;
}
[[nodiscard]] constexpr Eigen::Index short_axis(Eigen::Index n) {
  return std::min<Eigen::Index>(n, 512) + (n + 511) / 512;
}

/// gamma(length) magnitude; the second term covers subnormal numbers.
[[nodiscard]] inline auto allow(matrix64 const& magnitude, Eigen::Index length) {
  double const k = static_cast<double>(length) * 0x1p-24;
  double const tiny = static_cast<double>(length) * static_cast<double>(std::numeric_limits<float>::denorm_min());
  return matrix64((magnitude * (k / (1 - k))).array() + tiny);
}

/// Roundings of DoRA's factor: of kernels::row_norms as it states them, and of one quotient.
[[nodiscard]] constexpr Eigen::Index norm_length(Eigen::Index n, Eigen::Index r) {
  return 8 * (n / 16 + r / 16 + r + 45) + 2;
}

/// DoRA's factors and norms in float64, ones for everything else. By blocks of output features, as below.
struct factors64 {
  matrix64 c, norms;
  explicit factors64(layer const& l) : c(matrix64::Ones(1, l.W.rows())), norms(c) {
    if (l.magnitude.size() == 0) return;
    matrix64 const A = l.A.cast<double>();
    for (Eigen::Index i = 0; i < l.W.rows(); i += 256) {
      Eigen::Index const rows = std::min<Eigen::Index>(256, l.W.rows() - i);
      matrix64 const v =
          l.W.middleRows(i, rows).cast<double>() + l.scale * (l.B.middleRows(i, rows).cast<double>() * A);
      norms.middleCols(i, rows) = v.rowwise().norm().transpose();
      c.middleCols(i, rows) =
          (l.magnitude.middleCols(i, rows).cast<double>().array() / norms.middleCols(i, rows).array()).matrix();
    }
  }
};
[[nodiscard]] inline matrix64 scaled_columns(matrix64 const& m, matrix64 const& row) {
  return (m.array().rowwise() * row.row(0).array()).matrix();
}
[[nodiscard]] inline matrix64 scaled_rows(matrix64 const& m, matrix64 const& row) {
  return (m.array().colwise() * row.row(0).transpose().array()).matrix();
}

/// All results of one layer. By blocks of output features, so that no float64 copy of W is ever made.
[[nodiscard]] inline checks compare_with_float64(layer const& l, outcome const& got) {
  Eigen::Index const T = l.x.rows(), n = l.W.cols(), m = l.W.rows(), r = l.A.rows();
  bool const vera = l.d.size() != 0, dora = l.magnitude.size() != 0;
  Eigen::Index const more = (vera ? 3 : 0) + (dora ? norm_length(n, r) : 0);
  Eigen::Index const v_length = long_axis(n) + 2 + more, u_length = long_axis(m) + 2 + more,
                     r_length = short_axis(r) + 2 + more, T_length = short_axis(T) + 2;
  factors64 const f(l);
  matrix64 const x = l.x.cast<double>(), A = l.A.cast<double>();
  matrix64 const dy = scaled_columns(l.dy.cast<double>(), f.c);
  matrix64 B = l.B.cast<double>();
  if (vera) B = scaled_columns(scaled_rows(B, l.b.cast<double>()), l.d.cast<double>());
  matrix64 const v = l.scale * (x * A.transpose()), u = l.scale * (dy * B);
  double const s = std::abs(l.scale);
  matrix64 const abs_x = x.cwiseAbs(), abs_dy = dy.cwiseAbs(), abs_A = A.cwiseAbs(), abs_B = B.cwiseAbs();
  matrix64 const abs_v = s * (abs_x * abs_A.transpose()), abs_u = s * (abs_dy * abs_B);
  matrix64 const none = matrix64::Zero(1, m);
  matrix64 const bias = l.bias.size() != 0 ? matrix64(l.bias.cast<double>()) : none;
  matrix64 const extra = l.adapter_bias.size() != 0 ? matrix64(l.scale * l.adapter_bias.cast<double>())
                         : dora                     ? bias
                                                    : none;
  matrix64 dx = l.dx.cast<double>(), abs_dx = matrix64::Zero(T, n);
  checks all;
  for (Eigen::Index i = 0; i < m; i += 256) {
    Eigen::Index const rows = std::min<Eigen::Index>(256, m - i);
    matrix64 const Bi = B.middleRows(i, rows), abs_Bi = abs_B.middleRows(i, rows);
    matrix64 const b = extra.middleCols(i, rows), abs_b = b.cwiseAbs();
    matrix64 const c = f.c.middleCols(i, rows), abs_c = c.cwiseAbs();

    matrix64 const base = l.y.middleCols(i, rows).cast<double>();
    matrix64 const z = base + v * Bi.transpose(), abs_z = abs_v * abs_Bi.transpose();
    matrix64 const y = scaled_columns(z, c).rowwise() + b.row(0);
    matrix64 const direct = scaled_columns(base.cwiseAbs(), abs_c).rowwise() + abs_b.row(0);
    all.y.take(got.y.middleCols(i, rows), y,
               allow(scaled_columns(abs_z, abs_c), v_length + r_length) + allow(direct, r_length));

    matrix64 const W = l.W.middleRows(i, rows).cast<double>(), abs_delta = s * (abs_Bi * abs_A);
    all.W.take(got.merged.middleRows(i, rows), scaled_rows(W + l.scale * (Bi * A), c),
               allow(scaled_rows(W.cwiseAbs() + abs_delta, abs_c), r_length));
    all.undo.take(got.unmerged.middleRows(i, rows), W,
                  allow(W.cwiseAbs() + 2 * abs_delta, 2 * r_length));  // there and back
    if (got.merged_bias.size() != 0) {
      matrix64 const own = bias.middleCols(i, rows), added = dora ? matrix64(0 * b) : b;
      all.W.take(got.merged_bias.middleCols(i, rows), matrix64(own + added),
                 allow(own.cwiseAbs() + added.cwiseAbs(), 2));
    }
    matrix64 const dyi = dy.middleCols(i, rows), abs_dyi = abs_dy.middleCols(i, rows);
    if (got.dB.size() != 0)
      all.grad.take(got.dB.middleRows(i, rows), matrix64(dyi.transpose() * v),
                    allow(abs_dyi.transpose() * abs_v, v_length + T_length));
    matrix64 const given = l.dy.middleCols(i, rows).cast<double>();
    if (vera) {  // db = sum of dy * (d * (x A^T)) B^T
      matrix64 const own = scaled_columns(l.B.middleRows(i, rows).cast<double>(), l.d.cast<double>());
      all.grad.take(
          got.db.middleCols(i, rows), matrix64((given.array() * (v * own.transpose()).array()).colwise().sum()),
          allow(matrix64((given.cwiseAbs().array() * (abs_v * own.cwiseAbs().transpose()).array()).colwise().sum()),
                v_length + T_length + r_length));
    }
    if (dora) {
      matrix64 const norms = f.norms.middleCols(i, rows);
      all.grad.take(
          got.dmagnitude.middleCols(i, rows), matrix64((given.array() * z.array()).colwise().sum() / norms.array()),
          allow(
              matrix64((given.cwiseAbs().array() * (abs_z + base.cwiseAbs()).array()).colwise().sum() / norms.array()),
              v_length + r_length + T_length));
      dx += dyi * W;  // the framework's own product, in fp32 too
      abs_dx += abs_dyi * W.cwiseAbs();
    }
  }
  if (got.dA.size() != 0)
    all.grad.take(got.dA, matrix64(u.transpose() * x), allow(abs_u.transpose() * abs_x, u_length + T_length));
  if (vera) {  // dd = sum of (x A^T) * (dy diag(b) B)
    matrix64 const own = scaled_rows(l.B.cast<double>(), l.b.cast<double>());
    all.grad.take(got.dd, matrix64((v.array() * (dy * own).array()).colwise().sum()),
                  allow(matrix64((abs_v.array() * (abs_dy * own.cwiseAbs()).array()).colwise().sum()),
                        v_length + u_length + T_length));
  }
  all.grad.take(got.dx, matrix64(dx + u * A),
                allow(abs_u * abs_A, u_length + r_length) + allow(l.dx.cast<double>().cwiseAbs(), r_length) +
                    allow(abs_dx, m + r_length));
  if (got.dbias.size() != 0)
    all.grad.take(got.dbias, matrix64(l.scale * dy.colwise().sum()), allow(s * abs_dy.colwise().sum(), T_length));
  return all;
}

}  // namespace demo
