// expect: include <graft/kokkos.hpp>: an executor comes through its entry header
#if defined(GRAFT_KO)
#include <graft/executor/kokkos.hpp>
#else
#include <graft/kokkos.hpp>
#endif
int main() {}
