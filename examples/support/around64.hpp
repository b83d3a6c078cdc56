// SPDX-License-Identifier: Apache-2.0
/// @file
/// Adapters that act around a layer, as their papers write them, by Eigen in any scalar: BOFT, OFT, HRA, (IA)3; and how far
/// graft's fp32 results may be from float64.
///
/// The bound is eps x length x magnitude again, in norms: a rotation keeps them. `roundings` counts what graft does to a row of
/// x, x' being off by at most roundings u gain |x|, u = 2^-24 (kernels/cayley.hpp and kernels/rotate_blocks.hpp state theirs);
/// the framework's own products are off by their length. Gradients of parameters are compared along one direction, with the
/// quotient of differences of the float64 layer: a tensor of them in one number.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>
#include <vector>

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <Eigen/LU>

#include "float64.hpp"

namespace demo {

template <class S>
using matrix_of = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// x' = forth(x); gradients of x' come back(g); W' = diag(scales) back(W).
template <class S>
struct around {
  std::function<matrix_of<S>(matrix_of<S>)> forth, back;
  double gain = 1;       // of forth and back, in the 2-norm
  double roundings = 1;  // of graft, beside the framework's
  double spread = 1;     // the sum of all |gradients| of the parameters over |x| |g|, at most
};

/// In the 2-norm.
[[nodiscard]] inline double norm(matrix64 const& m) {
  return std::sqrt(std::max(
      0.0,
      Eigen::SelfAdjointEigenSolver<matrix64>(m.transpose() * m, Eigen::EigenvaluesOnly).eigenvalues().maxCoeff()));
}

/// B_{N-1} ... B_0 of blocks[N][D], each b x b: B_f takes the features of a group of b 2^f in halves of blocks, the even ones before
/// the odd ones.
template <class S>
class butterfly {
 public:
  butterfly(std::vector<std::vector<matrix_of<S>>> blocks) : blocks_(std::move(blocks)) {
    Eigen::Index const b = blocks_[0][0].rows(), n = b * static_cast<Eigen::Index>(blocks_[0].size());
    for (std::size_t f = 0; f < blocks_.size(); ++f) {
      std::vector<Eigen::Index> listed;
      Eigen::Index const group = b << f, half = std::max<Eigen::Index>(b / 2, 1);
      for (Eigen::Index g = 0; g < n; g += group)
        if (f == 0)
          for (Eigen::Index i = 0; i < group; ++i) listed.push_back(g + i);
        else
          for (Eigen::Index odd = 0; odd < 2; ++odd)
            for (Eigen::Index h = odd * half; h < group; h += 2 * half)
              for (Eigen::Index i = 0; i < half; ++i) listed.push_back(g + h + i);
      listed_.push_back(std::move(listed));
    }
  }
  [[nodiscard]] matrix_of<S> forth(matrix_of<S> x) const {
    for (std::size_t f = blocks_.size(); f-- > 0;) turn(x, f, false);
    return x;
  }
  [[nodiscard]] matrix_of<S> back(matrix_of<S> g) const {
    for (std::size_t f = 0; f < blocks_.size(); ++f) turn(g, f, true);
    return g;
  }
  /// The product over the factors of their largest block.
  [[nodiscard]] double gain() const {
    double all = 1;
    for (auto const& factor : blocks_) {
      double largest = 0;
      for (auto const& R : factor) largest = std::max(largest, norm(R.template cast<double>()));
      all *= largest;
    }
    return all;
  }

 private:
  void turn(matrix_of<S>& x, std::size_t f, bool transposed) const {
    auto const& listed = listed_[f];
    matrix_of<S> z(x.rows(), x.cols());
    for (Eigen::Index p = 0; p < x.cols(); ++p) z.col(listed[static_cast<std::size_t>(p)]) = x.col(p);
    Eigen::Index const b = blocks_[f][0].rows();
    for (std::size_t k = 0; k < blocks_[f].size(); ++k) {
      auto block = z.middleCols(static_cast<Eigen::Index>(k) * b, b);
      if (transposed) block = (block * blocks_[f][k].transpose()).eval();
      else block = (block * blocks_[f][k]).eval();
    }
    for (Eigen::Index p = 0; p < x.cols(); ++p) x.col(p) = z.col(listed[static_cast<std::size_t>(p)]);
  }
  std::vector<std::vector<matrix_of<S>>> blocks_;
  std::vector<std::vector<Eigen::Index>> listed_;
};

/// (I - Q) (I + Q)^-1, or a series of `terms` of (I + Q) (I - Q)^-1.
template <class S>
[[nodiscard]] matrix_of<S> cayley(matrix64 const& Q, int terms) {
  matrix64 const I = matrix64::Identity(Q.rows(), Q.rows());
  if (terms == 0) return ((I - Q) * (I + Q).inverse()).template cast<S>();
  int const last = terms <= 2 ? terms - 1 : std::max(terms - 1, 3);
  matrix64 R = I, power = I;
  for (int k = 1; k <= last; ++k) {
    power = (power * Q).eval();
    R += (terms > 2 && k == last ? 1.0 : 2.0) * power;
  }
  return R.template cast<S>();
}
template <class S>
[[nodiscard]] around<S> around_of(butterfly<S> const& all, std::size_t factors, Eigen::Index b, double of_block) {
  double const gain = all.gain();
  return {[all](matrix_of<S> x) { return all.forth(std::move(x)); },
          [all](matrix_of<S> g) { return all.back(std::move(g)); }, gain,
          static_cast<double>(factors) * (of_block + static_cast<double>(b) + 2),
          4 * static_cast<double>(factors) * static_cast<double>(b)};
}
/// Parameters[N D b b]: of every block A, Q = (A - A^T) / 2.
template <class S>
[[nodiscard]] around<S> boft_around(matrix64 const& parameters, Eigen::Index factors, Eigen::Index blocks,
                                    Eigen::Index b) {
  std::vector<std::vector<matrix_of<S>>> all(static_cast<std::size_t>(factors));
  double q = 0;
  for (Eigen::Index i = 0; i < factors * blocks; ++i) {
    matrix64 const A = Eigen::Map<matrix64 const>(parameters.data() + i * b * b, b, b), Q = (A - A.transpose()) / 2;
    q = std::max(q, norm(Q));
    all[static_cast<std::size_t>(i / blocks)].push_back(cayley<S>(Q, 0));
  }
  return around_of(butterfly<S>(std::move(all)), static_cast<std::size_t>(factors), b,
                   8 * static_cast<double>(b) * (1 + q) * (1 + q));
}
/// Parameters[rows, b (b - 1) / 2], one row perhaps for all `blocks`: the upper triangles of Q.
template <class S>
[[nodiscard]] around<S> oft_around(matrix64 const& parameters, Eigen::Index blocks, Eigen::Index b, int terms) {
  std::vector<matrix_of<S>> all;
  double q = 0;
  Eigen::Index const numbers = b * (b - 1) / 2, rows = numbers == 0 ? 1 : parameters.size() / numbers;
  for (Eigen::Index k = 0; k < blocks; ++k) {
    matrix64 Q = matrix64::Zero(b, b);
    double const* v = parameters.data() + (rows == 1 ? 0 : k * numbers);
    for (Eigen::Index i = 0; i < b; ++i)
      for (Eigen::Index j = i + 1; j < b; ++j) {
        Q(i, j) = *v;
        Q(j, i) = -*v++;
      }
    q = std::max(q, norm(Q));
    all.push_back(cayley<S>(Q, terms));
  }
  double series = 0;
  for (int k = 0; k < terms; ++k) series += 2 * std::pow(q, k);
  return around_of(butterfly<S>({std::move(all)}), 1, b,
                   static_cast<double>(b) * (terms == 0 ? 8 * (1 + q) * (1 + q) : terms * series));
}
/// u[n, r]: x' = x H^T, H = (I - 2 v_0 v_0^T) ... (I - 2 v_{r-1} v_{r-1}^T).
template <class S>
[[nodiscard]] around<S> hra_around(matrix64 const& u, bool gram_schmidt) {
  matrix64 v = u;
  for (Eigen::Index i = 0; i < v.cols(); ++i) {
    if (gram_schmidt)
      for (Eigen::Index j = 0; j < i; ++j) v.col(i) -= v.col(j) * v.col(j).dot(v.col(i));
    v.col(i).normalize();
  }
  matrix_of<S> const unit = v.template cast<S>();
  auto const reflect = [unit](matrix_of<S> x, bool from_last) {
    for (Eigen::Index k = 0; k < unit.cols(); ++k) {
      auto const w = unit.col(from_last ? unit.cols() - 1 - k : k);
      x -= 2 * (x * w).eval() * w.transpose();
    }
    return x;
  };
  auto const r = static_cast<double>(u.cols());
  return {[reflect](matrix_of<S> x) { return reflect(std::move(x), true); },
          [reflect](matrix_of<S> g) { return reflect(std::move(g), false); }, 1.0,
          4 * r * (static_cast<double>(long_axis(u.rows())) + 2 * r + 4),
          4 * r * std::sqrt(static_cast<double>(u.rows())) / u.colwise().norm().minCoeff()};
}
/// x' = l * x; without an l, x' = x.
template <class S>
[[nodiscard]] around<S> scaled_around(matrix64 const& l) {
  if (l.size() == 0) return {[](matrix_of<S> x) { return x; }, [](matrix_of<S> g) { return g; }, 1.0, 1.0};
  matrix_of<S> const row = l.template cast<S>();
  auto const scale = [row](matrix_of<S> x) { return matrix_of<S>(x.array().rowwise() * row.row(0).array()); };
  return {scale, scale, l.cwiseAbs().maxCoeff(), 1.0};
}

/// What graft made of a layer.
struct around_outcome {
  matrix y, merged, unmerged, dx;
  row_vector merged_bias;
  std::vector<float> dparameters;  // of what acts on inputs, as stored
  row_vector dscales;              // of what acts on outputs
};
/// The layer as it was given: W, bias, x, dy of `layer`; parameters of what acts on its inputs, scales of its outputs.
struct around_layer {
  layer const& of;
  std::function<around<double>(matrix64 const&)> make;  // of parameters
  matrix64 parameters;
  matrix64 scales;  // [1, m], or empty
  bool scales_bias = false;
};

[[nodiscard]] inline checks compare_with_float64(around_layer const& a, around_outcome const& got) {
  layer const& l = a.of;
  double const u = 0x1p-24, T = static_cast<double>(l.x.rows()), n = static_cast<double>(l.W.cols()),
               m = static_cast<double>(l.W.rows());
  around<double> const f = a.make(a.parameters);
  matrix64 const x = l.x.cast<double>(), W = l.W.cast<double>(), given = l.dy.cast<double>();
  matrix64 const s = a.scales.size() != 0 ? a.scales : matrix64(matrix64::Ones(1, l.W.rows()));
  matrix64 const bias = l.bias.size() != 0 ? matrix64(l.bias.cast<double>()) : matrix64(matrix64::Zero(1, l.W.rows()));
  matrix64 const dy = scaled_columns(given, s), abs_s = s.cwiseAbs(), abs_bias = bias.cwiseAbs();
  matrix64 const of_x = x.rowwise().norm(), of_W = W.rowwise().norm().transpose();
  double const length = f.roundings + n + 4;
  checks all;

  matrix64 const z = (f.forth(x) * W.transpose()).rowwise() + (a.scales_bias ? 1 : 0) * bias.row(0);
  matrix64 const y = scaled_columns(z, s).rowwise() + (a.scales_bias ? 0 : 1) * bias.row(0);
  matrix64 const size_z = (f.gain * of_x * of_W).rowwise() + abs_bias.row(0);
  all.y.take(got.y, y, matrix64((length * u) * (scaled_columns(size_z, abs_s).rowwise() + abs_bias.row(0))));

  matrix64 const one = matrix64::Ones(1, l.W.cols());
  all.W.take(got.merged, scaled_rows(f.back(W), s),
             matrix64(((f.roundings + 2) * u * f.gain) * (of_W.array() * abs_s.array()).matrix().transpose() * one));
  all.undo.take(got.unmerged, W, matrix64((4 * (f.roundings + 2) * u * f.gain * f.gain) * of_W.transpose() * one));
  if (got.merged_bias.size() != 0)
    all.W.take(got.merged_bias, a.scales_bias ? scaled_columns(bias, s) : bias,
               matrix64((2 * u) * scaled_columns(abs_bias, abs_s)));

  // g = dy W, the gradient of x'
  matrix64 const g = dy * W, of_g = dy.cwiseAbs() * of_W.transpose();
  all.grad.take(got.dx, f.back(g), matrix64(((f.roundings + m + 4) * u * f.gain) * of_g * one));
  if (got.dscales.size() != 0)
    all.grad.take(got.dscales, matrix64((given.array() * z.array()).colwise().sum()),
                  matrix64(((length + T) * u) * (given.cwiseAbs().array() * size_z.array()).colwise().sum()));
  if (!got.dparameters.empty()) {
    matrix64 direction(a.parameters.rows(), a.parameters.cols());
    for (Eigen::Index i = 0; i < direction.size(); ++i)  // signs without a pattern
      direction.data()[i] = (static_cast<std::uint64_t>(i + 1) * 0x9E3779B97F4A7C15U >> 63U) != 0 ? 1.0 : -1.0;
    double const h = 1e-5 * std::max(1.0, a.parameters.cwiseAbs().maxCoeff());
    matrix64 const moved =
        (a.make(a.parameters + h * direction).forth(x) - a.make(a.parameters - h * direction).forth(x)) / (2 * h);
    matrix64 const got64 = Eigen::Map<Eigen::Matrix<float, 1, Eigen::Dynamic> const>(
                               got.dparameters.data(), static_cast<Eigen::Index>(got.dparameters.size()))
                               .cast<double>();
    Eigen::Map<matrix64 const> const along(direction.data(), 1, direction.size());
    matrix64 const total = matrix64::Constant(1, 1, (got64.array() * along.array()).sum());
    // |x'| moves by at most `rate` |x| in a step of one along the direction.
    double rate = 0;
    for (Eigen::Index t = 0; t < x.rows(); ++t)
      if (of_x(t, 0) > 0) rate = std::max(rate, moved.row(t).norm() / of_x(t, 0));
    double const lengths = (n + m) * rate + (T + f.roundings) * f.spread;
    all.grad.take(
        total, matrix64::Constant(1, 1, (moved.array() * g.array()).sum()),
        matrix64::Constant(1, 1, (lengths * u + rate * h * h) * f.gain * (of_x.array() * of_g.array()).sum()));
  }
  return all;
}

}  // namespace demo
