// The header alone, as C++20, twice.
#include <graft/c/graft.h>

graft_view nothing_in_cpp();
graft_view nothing_in_cpp() { return graft_none(); }
