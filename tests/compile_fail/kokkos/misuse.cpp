// expect: graft::kernels::copy: X lies in a memory space that this executor cannot touch; use an executor of that space
// expect: graft::kernels::copy: the first argument must be an executor, for example graft::serial{}
// expect: graft::view: a Kokkos::View of rank 0 is a scalar; pass its value
// expect: graft::kernels::copy: Y is written, so its elements must not be const
// expect: graft::kokkos_executor: its parameter is an execution space of Kokkos, for example Kokkos::OpenMP
#include <graft/kokkos.hpp>

#include "support/mistakes.hpp"

using matrix_of = Kokkos::View<float**>;
using kokkos = graft::kokkos_executor<>;

void f1(kokkos const& ex, either<matrix, device_matrix> x, matrix_of const& y) {
  graft::kernels::copy(ex, x, graft::view(y));
}
void f2(either<kokkos, Kokkos::DefaultExecutionSpace> const& ex, matrix x, matrix_of const& y) {
  graft::kernels::copy(ex, x, graft::view(y));
}
auto f3(Kokkos::View<either<float*, float>> const& v) { return graft::view(v); }
void f4(kokkos const& ex, matrix x, Kokkos::View<either<float, float const>**> const& y) {
  graft::kernels::copy(ex, x, graft::view(y));
}
constexpr auto f5 = sizeof(graft::kokkos_executor<either<Kokkos::DefaultExecutionSpace, int>>);
