// The header alone, as C99, twice.
#include <graft/c/graft.h>

graft_view nothing_in_c(void);
graft_view nothing_in_c(void) { return graft_none(); }
