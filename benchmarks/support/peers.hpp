// SPDX-License-Identifier: Apache-2.0
// What graft is compared with in the same binary: Eigen's products and a dot per output, compiled -march=native.
#pragma once

#include <cstdint>

namespace peers {

using index = std::int64_t;

// Row-major float. v is scratch of T r (u and v: 2 T r).
void eigen_low_rank_add(int threads, float const* x, float const* A, float const* B, float* y, float* v, index T,
                        index n, index m, index r, float s);
void eigen_backward(int threads, float const* x, float const* A, float const* B, float const* dy, float* dA, float* dB,
                    float* dx, float* uv, index T, index n, index m, index r, float s);
void eigen_merge(int threads, float const* A, float const* B, float* W, index n, index m, index r, float s);
// Norms of rows of W, which is as fast as W can be read, and of W + s B A by way of V[m, n].
void eigen_norms(int threads, float const* W, float* norms, index n, index m);
void eigen_formed_norms(int threads, float const* W, float const* A, float const* B, float* V, float* norms, index n,
                        index m, index r, float s);
// y += b * ((d * (x A^T)) B^T); v is scratch of T r, delta of T m.
void eigen_vera(int threads, float const* x, float const* A, float const* B, float const* d, float const* b, float* y,
                float* v, float* delta, index T, index n, index m, index r);
// y = x B_0 of D blocks b x b, a product a block; Y is not x.
void eigen_rotate_blocks(int threads, float const* x, float const* R, float* y, index T, index n, index b);
// R = (I - Q) (I + Q)^-1 of D blocks with packed Q, by LU with pivots, one after another.
void eigen_cayley(float const* packed, float* R, index D, index b);
// out = W R^T, R[n, n] dense.
void eigen_dense_merge(int threads, float const* W, float const* R, float* out, index m, index n);
// y = x, `times` times.
std::uint32_t stream(int threads, float const* x, float* y, index count, float const* read, index read_count,
                     index times);
// bfloat16 bits; Eigen widens to float and back (its own bfloat16 product is many times slower).
void eigen_low_rank_add_bf16(int threads, std::uint16_t const* x, std::uint16_t const* A, std::uint16_t const* B,
                             std::uint16_t* y, float* scratch, index T, index n, index m, index r, float s);

// One dot product per output element, as IPEX's Punica kernels do it.
void dot_low_rank_add(int threads, float const* x, float const* A, float const* B, float* y, float* v, index T, index n,
                      index m, index r, float s);

}  // namespace peers
