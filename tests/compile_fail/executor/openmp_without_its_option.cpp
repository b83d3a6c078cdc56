// expect: graft/openmp.hpp needs -fopenmp (link graft::openmp): without it every parallel region would silently run on one thread
#if defined(GRAFT_KO)
#undef _OPENMP  // as without -fopenmp
#endif
#include <graft/openmp.hpp>
int main() {}
