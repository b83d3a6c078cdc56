// The one unit of a test or benchmark that has the host bodies: the others call them (GRAFT_HOST_BODIES_ELSEWHERE), since
// compiling them into every file costs minutes under sanitizers. Examples and the programs of build/ have them inside.
#define GRAFT_HOST_BODIES_HERE
#include <graft/graft.hpp>
