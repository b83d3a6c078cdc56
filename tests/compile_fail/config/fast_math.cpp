// expect: graft promises equal bits, which -ffast-math breaks; define GRAFT_ALLOW_FAST_MATH to give the promises up
#if defined(GRAFT_KO)
#define __FAST_MATH__ 1  // as the compiler does
#endif
#include <graft/graft.hpp>
int main() {}
