// The one unit of a test program that has the host bodies: tests call them (GRAFT_HOST_BODIES_ELSEWHERE), since compiling
// them into every file costs minutes under sanitizers. Examples, benchmarks and the programs of build/ have them inside.
#define GRAFT_HOST_BODIES_HERE
#include <graft/graft.hpp>
