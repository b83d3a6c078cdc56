// Names that other people's headers define as macros (windows.h, complex.h, termios.h, sysmacros.h, Arduino): graft's
// headers may use none of them. macros.cmake puts the standard headers before these lines, they are not under test.
// Most definitions here are such that any use is a syntax error; a mere renaming would go unseen.
#include "standard_headers.hpp"
// <windows.h>, <rpcndr.h>
#define min(a, b) 0 graft_must_not_use_min 0
#define max(a, b) 0 graft_must_not_use_max 0
#define small 0 graft_must_not_use_small 0
#define near 0 graft_must_not_use_near 0
#define far 0 graft_must_not_use_far 0
#define interface 0 graft_must_not_use_interface 0
#define ERROR 0 graft_must_not_use_ERROR 0
#define IN 0 graft_must_not_use_IN 0
#define OUT 0 graft_must_not_use_OUT 0
#define CONST 0 graft_must_not_use_CONST 0
#define STRICT 0 graft_must_not_use_STRICT 0
// <complex.h>
#define I 0 graft_must_not_use_I 0
#define complex 0 graft_must_not_use_complex 0
#define imaginary 0 graft_must_not_use_imaginary 0
// <termios.h>
#define B0 0 graft_must_not_use_B0 0
#define B50 0 graft_must_not_use_B50 0
// <sys/sysmacros.h>, <strings.h>
#define major(x) 0 graft_must_not_use_major 0
#define minor(x) 0 graft_must_not_use_minor 0
#define index strchr
#define rindex strrchr
// gnu++20, <ctype.h>, Arduino, X11, the Linux kernel
#define linux 1
#define unix 1
#define _U 0 graft_must_not_use_U 0
#define _L 0 graft_must_not_use_L 0
#define _N 0 graft_must_not_use_N 0
#define PI 0 graft_must_not_use_PI 0
#define EPS 0 graft_must_not_use_EPS 0
#define Bool 0 graft_must_not_use_Bool 0
#define Status 0 graft_must_not_use_Status 0
#define None 0 graft_must_not_use_None 0
#define Success 0 graft_must_not_use_Success 0
#define likely(x) 0 graft_must_not_use_likely 0
#define unlikely(x) 0 graft_must_not_use_unlikely 0
#include <graft/graft.hpp>
int main() {}
