// Names that other people's headers define as macros (windows.h, complex.h, termios.h, sysmacros.h, Arduino): graft's
// headers may use none of them. macros.cmake puts the standard headers before these lines, they are not under test.
#include "standard_headers.hpp"
// <windows.h>, <rpcndr.h>
#define min(a, b) graft_must_not_use_min
#define max(a, b) graft_must_not_use_max
#define small graft_must_not_use_small
#define near graft_must_not_use_near
#define far graft_must_not_use_far
#define interface graft_must_not_use_interface
#define ERROR graft_must_not_use_ERROR
#define IN graft_must_not_use_IN
#define OUT graft_must_not_use_OUT
#define CONST graft_must_not_use_CONST
#define STRICT graft_must_not_use_STRICT
// <complex.h>
#define I graft_must_not_use_I
#define complex graft_must_not_use_complex
#define imaginary graft_must_not_use_imaginary
// <termios.h>
#define B0 graft_must_not_use_B0
#define B50 graft_must_not_use_B50
// <sys/sysmacros.h>, <strings.h>
#define major(x) graft_must_not_use_major
#define minor(x) graft_must_not_use_minor
#define index(s, c) graft_must_not_use_index
#define rindex(s, c) graft_must_not_use_rindex
// <linux>, <ctype.h>, Arduino, X11, common test frameworks
#define linux 1
#define unix 1
#define _U graft_must_not_use_U
#define _L graft_must_not_use_L
#define _N graft_must_not_use_N
#define F graft_must_not_use_F
#define PI graft_must_not_use_PI
#define EPS graft_must_not_use_EPS
#define Bool graft_must_not_use_Bool
#define Status graft_must_not_use_Status
#define None graft_must_not_use_None
#define Success graft_must_not_use_Success
#define check graft_must_not_use_check
#define CHECK graft_must_not_use_CHECK
#define verify graft_must_not_use_verify
#define likely(x) graft_must_not_use_likely
#define unlikely(x) graft_must_not_use_unlikely
#define swap(a, b) graft_must_not_use_swap
#include <graft/graft.hpp>
int main() {}
