// SPDX-License-Identifier: Apache-2.0
#include "support/peers.hpp"

#include <bit>
#include <cstring>

#include <Eigen/Core>
#include <Eigen/LU>

namespace peers {
namespace {
using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using in = Eigen::Map<matrix const>;
using out = Eigen::Map<matrix>;
using matrix_bf16 = Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

in widened(std::uint16_t const* p, index rows, index columns, float*& scratch) {
  float* const to = scratch;
  scratch += rows * columns;
  out(to, rows, columns) =
      Eigen::Map<matrix_bf16 const>(reinterpret_cast<Eigen::bfloat16 const*>(p), rows, columns).cast<float>();
  return {to, rows, columns};
}
}  // namespace

void eigen_low_rank_add(int threads, float const* x, float const* A, float const* B, float* y, float* v, index T,
                        index n, index m, index r, float s) {
  Eigen::setNbThreads(threads);
  out V(v, T, r);
  V.noalias() = in(x, T, n) * in(A, r, n).transpose();
  V *= s;
  out(y, T, m).noalias() += V * in(B, m, r).transpose();
}

void eigen_backward(int threads, float const* x, float const* A, float const* B, float const* dy, float* dA, float* dB,
                    float* dx, float* uv, index T, index n, index m, index r, float s) {
  Eigen::setNbThreads(threads);
  out u(uv, T, r);
  out v(uv + T * r, T, r);
  v.noalias() = in(x, T, n) * in(A, r, n).transpose();
  v *= s;
  u.noalias() = in(dy, T, m) * in(B, m, r);
  u *= s;
  out(dB, m, r).noalias() += in(dy, T, m).transpose() * v;
  out(dA, r, n).noalias() += u.transpose() * in(x, T, n);
  out(dx, T, n).noalias() += u * in(A, r, n);
}

void eigen_merge(int threads, float const* A, float const* B, float* W, index n, index m, index r, float s) {
  Eigen::setNbThreads(threads);
  out(W, m, n).noalias() += s * in(B, m, r) * in(A, r, n);
}

void eigen_formed_norms(int threads, float const* W, float const* A, float const* B, float* V, float* norms, index n,
                        index m, index r, float s) {
  Eigen::setNbThreads(threads);
  out(V, m, n) = in(W, m, n);
  out(V, m, n).noalias() += s * in(B, m, r) * in(A, r, n);
  eigen_norms(threads, V, norms, n, m);
}
void eigen_norms(int threads, float const* W, float* norms, index n, index m) {
#pragma omp parallel for num_threads(threads)
  for (index o = 0; o < m; ++o) norms[o] = Eigen::Map<Eigen::VectorXf const>(W + o * n, n).norm();
}

void eigen_vera(int threads, float const* x, float const* A, float const* B, float const* d, float const* b, float* y,
                float* v, float* delta, index T, index n, index m, index r) {
  using row = Eigen::Map<Eigen::Array<float, 1, Eigen::Dynamic> const>;
  Eigen::setNbThreads(threads);
  out V(v, T, r);
  out D(delta, T, m);
  V.noalias() = in(x, T, n) * in(A, r, n).transpose();
  V.array().rowwise() *= row(d, r);
  D.noalias() = V * in(B, m, r).transpose();
  out(y, T, m).array() += D.array().rowwise() * row(b, m);
}

void eigen_rotate_blocks([[maybe_unused]] int threads, float const* x, float const* R, float* y, index T, index n,
                         index b) {
  Eigen::setNbThreads(1);
  in const X(x, T, n);
  out Y(y, T, n);
#pragma omp parallel for num_threads(threads)
  for (index k = 0; k < n / b; ++k) Y.middleCols(k * b, b).noalias() = X.middleCols(k * b, b) * in(R + k * b * b, b, b);
}

void eigen_cayley(float const* packed, float* R, index D, index b) {
  Eigen::setNbThreads(1);
  matrix Q(b, b);
  matrix const one = matrix::Identity(b, b);
  for (index k = 0; k < D; ++k) {
    float const* v = packed + k * (b * (b - 1) / 2);
    Q.setZero();
    for (index i = 0; i < b; ++i)
      for (index j = i + 1; j < b; ++j) {
        Q(i, j) = *v++;
        Q(j, i) = -Q(i, j);
      }
    // R (I + Q) = I - Q
    Eigen::PartialPivLU<matrix> const lu((one + Q).transpose());
    out(R + k * b * b, b, b) = lu.solve((one - Q).transpose()).transpose();
  }
}

void eigen_dense_merge(int threads, float const* W, float const* R, float* to, index m, index n) {
  Eigen::setNbThreads(threads);
  out(to, m, n).noalias() = in(W, m, n) * in(R, n, n).transpose();
}

std::uint32_t stream([[maybe_unused]] int threads, float const* x, float* y, index count, float const* read,
                     index read_count, index times) {
  std::uint32_t bits = 0;
  for (index i = 0; i < times; ++i) {
    float const* const from = read + i * read_count;
#pragma omp parallel for num_threads(threads) reduction(| : bits)
    for (int part = 0; part < threads; ++part) {
      index const first = count * part / threads;
      std::memcpy(y + first, x + first, sizeof(float) * static_cast<std::size_t>(count * (part + 1) / threads - first));
      std::uint32_t of_part = 0;
      for (index k = read_count * part / threads; k < read_count * (part + 1) / threads; ++k)
        of_part |= std::bit_cast<std::uint32_t>(from[k]);
      bits |= of_part;
    }
  }
  return bits;
}

void eigen_low_rank_add_bf16(int threads, std::uint16_t const* x, std::uint16_t const* A, std::uint16_t const* B,
                             std::uint16_t* y, float* scratch, index T, index n, index m, index r, float s) {
  Eigen::setNbThreads(threads);
  in const X = widened(x, T, n, scratch);
  in const a = widened(A, r, n, scratch);
  in const b = widened(B, m, r, scratch);
  out V(scratch, T, r);
  V.noalias() = X * a.transpose();
  V *= s;
  out sum(scratch + T * r, T, m);
  Eigen::Map<matrix_bf16> Y(reinterpret_cast<Eigen::bfloat16*>(y), T, m);
  sum = Y.cast<float>();
  sum.noalias() += V * b.transpose();
  Y = sum.cast<Eigen::bfloat16>();
}

void dot_low_rank_add([[maybe_unused]] int threads, float const* x, float const* A, float const* B, float* y, float* v,
                      index T, index n, index m, index r, float s) {
#pragma omp parallel for num_threads(threads) collapse(2)
  for (index t = 0; t < T; ++t)
    for (index j = 0; j < r; ++j)
      v[t * r + j] =
          s * Eigen::Map<Eigen::VectorXf const>(x + t * n, n).dot(Eigen::Map<Eigen::VectorXf const>(A + j * n, n));
#pragma omp parallel for num_threads(threads) collapse(2)
  for (index t = 0; t < T; ++t)
    for (index o = 0; o < m; ++o)
      y[t * m + o] +=
          Eigen::Map<Eigen::VectorXf const>(v + t * r, r).dot(Eigen::Map<Eigen::VectorXf const>(B + o * r, r));
}

}  // namespace peers
