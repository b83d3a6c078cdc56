// SPDX-License-Identifier: Apache-2.0
// What the machine in hand can do, measured: bandwidths by level of cache and kind of traffic, FMA peak, costs of OpenMP's
// threads. C functions, so that Python (ctypes) takes the same numbers: link limits.cpp, with -fopenmp, into the library.
//
// All of them: `threads` is OpenMP's count; each thread has its own share of the bytes, first touched by itself; `seconds` is
// about how long may be measured, and the best round counts, since others on the machine only ever make a round slower.
// Loops run at the instruction set that graft's host bodies run at (GRAFT_ISA lowers it). Memory comes in huge pages where
// the system gives them. No function throws; one that cannot get its memory returns 0.
#pragma once

#include <stddef.h>  // NOLINT: C reads it too

#ifdef __cplusplus
extern "C" {
#endif

/* Levels: first, second and last level of cache, memory. */
enum { graft_limits_levels = 4 };
/* Traffic; bytes count what is read and what is written. update: y = s y in place. copy: plain stores, so that memory also
   reads what is overwritten, which is not counted. stream_copy: stores that go around the caches. */
enum { graft_limits_read = 0, graft_limits_copy = 1, graft_limits_update = 2, graft_limits_stream_copy = 3 };

/* All limits at `threads`. */
struct graft_limits {
  double fma;             /* flop/s, fp32, a fused multiply-add counts 2 */
  double bandwidth[4][4]; /* byte/s: [traffic][level] */
  double fork_join;       /* seconds of an empty parallel region */
  double barrier;         /* seconds of a barrier inside one */
  double bytes[4];        /* working set of all threads that stood for a level */
  double capacity[4];     /* what a level holds for all threads; memory: 1e300 */
};

/* 0 baseline, 1 avx2, 2 avx512; and its name. */
int graft_limits_isa(void);
char const* graft_limits_isa_name(void);
/* Bytes of a level of cache of one core (0, 1) or of the machine's last level (2); 0 is unknown. */
size_t graft_limits_cache_bytes(int level);
/* byte/s of one kind of traffic over a working set of `bytes` in all. */
double graft_limits_bandwidth(int traffic, size_t bytes, int threads, double seconds);
/* flop/s. Below avx2 there is no fused multiply-add: a multiplication and an addition. */
double graft_limits_fma(int threads, double seconds);
/* flop/s of vdpbf16ps, which graft does not use (other rounding, no subnormals); 0 where there is none. */
double graft_limits_bf16_dots(int threads, double seconds);
/* seconds of an empty parallel region, and of a barrier inside one. */
double graft_limits_fork_join(int threads, double seconds);
double graft_limits_barrier(int threads, double seconds);
/* All of the above; takes about `seconds`, and what touching the memory takes. quick: only read and update, the other
   bandwidths are 0. */
void graft_limits_measure(int threads, double seconds, int quick, struct graft_limits* out);

#ifdef __cplusplus
}
#endif
