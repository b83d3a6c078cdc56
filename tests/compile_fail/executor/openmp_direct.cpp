// expect: include <graft/openmp.hpp>: an executor comes through its entry header
#if defined(GRAFT_KO)
#include <graft/executor/openmp.hpp>
#else
#include <graft/openmp.hpp>
#endif
int main() {}
