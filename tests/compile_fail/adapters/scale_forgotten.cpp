// expect: scal
#include "support/mistakes.hpp"

#if defined(GRAFT_KO)
auto f(matrix a, matrix b) { return graft::lora{.A = a, .B = b}; }
#else
auto f(matrix a, matrix b) { return graft::lora{.A = a, .B = b, .scale = 1.0}; }
#endif
