// Compiled with -fno-exceptions -fno-rtti: everything that needs no package must work; a failed check aborts instead.
#include <cstdio>
#include <graft/graft.hpp>

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "this program must be compiled with -fno-exceptions -fno-rtti"
#endif

int main() {
  float const x[3] = {1, 2, 3}, A[3] = {1, 1, 1}, B[2] = {1, -1};
  float y[2] = {9, 9};
  graft::kernels::low_rank_add(graft::serial{}, graft::view(x, 1, 3), graft::view(A, 1, 3), graft::view(B, 2, 1),
                               graft::view(y, 1, 2), 2.0f);
  bool const right = y[0] == 21.0f && y[1] == -3.0f;  // 9 +- 2 * 6
  std::puts(right ? "right" : "wrong");
  return right ? 0 : 1;
}
