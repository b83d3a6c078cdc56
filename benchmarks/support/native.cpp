// SPDX-License-Identifier: Apache-2.0
#include <graft/openmp.hpp>

#include "support/peers.hpp"

namespace peers {
namespace {
template <class T>
void low_rank_add(int threads, T const* x, T const* A, T const* B, T* y, index tokens, index n, index m, index r,
                  float s) {
  using graft::view;
  graft::kernels::low_rank_add(graft::openmp{.threads = threads}, view(x, tokens, n), view(A, r, n), view(B, m, r),
                               view(y, tokens, m), s);
}
}  // namespace

void native_low_rank_add(int threads, float const* x, float const* A, float const* B, float* y, index T, index n,
                         index m, index r, float s) {
  low_rank_add(threads, x, A, B, y, T, n, m, r, s);
}
void native_low_rank_add_bf16(int threads, std::uint16_t const* x, std::uint16_t const* A, std::uint16_t const* B,
                              std::uint16_t* y, index T, index n, index m, index r, float s) {
  using bf16 = graft::bfloat16;
  low_rank_add(threads, reinterpret_cast<bf16 const*>(x), reinterpret_cast<bf16 const*>(A),
               reinterpret_cast<bf16 const*>(B), reinterpret_cast<bf16*>(y), T, n, m, r, s);
}

}  // namespace peers
