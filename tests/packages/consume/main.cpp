// The smallest real use: y += 2 (x A^T) B^T, with every component that was found.
#include <cstdio>
#include <graft/graft.hpp>
#ifdef HAVE_OPENMP
#include <graft/openmp.hpp>
#endif
#ifdef HAVE_EIGEN
#include <graft/eigen.hpp>
#endif
#ifdef HAVE_KOKKOS
#include <graft/kokkos.hpp>
#endif
#ifdef HAVE_IO
#include <graft/io.hpp>
#endif

int main() {
#ifdef HAVE_OPENMP
  graft::openmp const ex{.threads = 2};
#else
  graft::reference const ex;  // compiled in a moment
#endif
  float const x[3] = {1, 2, 3}, A[3] = {1, 1, 1}, B[2] = {1, -1};
  float y[2] = {9, 9};
  graft::kernels::low_rank_add(ex, graft::view(x, 1, 3), graft::view(A, 1, 3), graft::view(B, 2, 1),
                               graft::view(y, 1, 2), 2.0f);
  bool right = y[0] == 21.0f && y[1] == -3.0f;  // 9 +- 2 * 6
#ifdef HAVE_EIGEN
  Eigen::Matrix<float, 2, 3, Eigen::RowMajor> m;
  right = graft::view(m).extent(1) == 3 && right;
#endif
#ifdef HAVE_KOKKOS
  Kokkos::ScopeGuard const kokkos;
  Kokkos::View<float[2]> z("z");
  graft::kernels::low_rank_add(graft::kokkos_executor{}, graft::view(x, 1, 3), graft::view(A, 1, 3),
                               graft::view(B, 2, 1), graft::view(z.data(), 1, 2), 2.0f);
  right = z(0) == 12.0f && z(1) == -12.0f && right;
#endif
  std::puts(right ? "right" : "wrong");
  return right ? 0 : 1;
}
