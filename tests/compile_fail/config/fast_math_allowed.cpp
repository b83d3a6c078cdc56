// expect: graft promises equal bits, which -ffast-math breaks
#define __ASSOCIATIVE_MATH__ 1
#if !defined(GRAFT_KO)
#define GRAFT_ALLOW_FAST_MATH 1
#endif
#include <graft/graft.hpp>
int main() {}
