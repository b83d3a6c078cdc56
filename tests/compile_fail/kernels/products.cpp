// expect: graft::kernels::low_rank_add: the first argument must be an executor, for example graft::serial{} or graft::openmp{.threads = 8}
// expect: graft::kernels::low_rank_add: x must be a view; wrap the data: graft::view(pointer, rows, columns)
// expect: graft::kernels::low_rank_add: A must have rank 2
// expect: graft::kernels::low_rank_add: B lies in a memory space that this executor cannot touch; use an executor of that space
// expect: graft::kernels::low_rank_add: y is written, so its elements must not be const
// expect: graft::kernels::shrink: the first argument must be an executor
// expect: graft::kernels::shrink: x must have rank 2
// expect: graft::kernels::shrink: A lies in a memory space that this executor cannot touch
// expect: graft::kernels::shrink: v is written, so its elements must not be const
// expect: graft::kernels::expand_add: the first argument must be an executor
// expect: graft::kernels::expand_add: v must be a view
// expect: graft::kernels::expand_add: B must have rank 2
// expect: graft::kernels::expand_add: y lies in a memory space that this executor cannot touch
// expect: graft::kernels::outer_add: the first argument must be an executor
// expect: graft::kernels::outer_add: B must be a view
// expect: graft::kernels::outer_add: A must have rank 2
// expect: graft::kernels::outer_add: W is written, so its elements must not be const
// expect: graft: a scale must be a floating-point number, since alpha / r of two integers truncates
#include "support/mistakes.hpp"

namespace kernels = graft::kernels;
using executor = either<graft::serial, no_executor>;
graft::serial const ex;
matrix const m;

void f1(executor e) { kernels::low_rank_add(e, m, m, m, m); }
void f2(either<matrix, no_view> x) { kernels::low_rank_add(ex, x, m, m, m); }
void f3(either<matrix, vector> a) { kernels::low_rank_add(ex, m, a, m, m); }
void f4(either<matrix, device_matrix> b) { kernels::low_rank_add(graft::openmp{}, m, m, b, m); }
void f5(either<matrix, const_matrix> y) { kernels::low_rank_add(ex, m, m, m, y); }

void f6(executor e) { kernels::shrink(e, m, m, m); }
void f7(either<matrix, vector> x) { kernels::shrink(ex, x, m, m); }
void f8(either<matrix, device_matrix> a) { kernels::shrink(graft::reference{}, m, a, m); }
void f9(either<matrix, const_matrix> v) { kernels::shrink(ex, m, m, v); }

void f10(executor e) { kernels::expand_add(e, m, m, m); }
void f11(either<matrix, no_view> v) { kernels::expand_add(ex, v, m, m); }
void f12(either<matrix, vector> b) { kernels::expand_add(ex, m, b, m); }
void f13(either<matrix, device_matrix> y) { kernels::expand_add(ex, m, m, y); }

void f14(executor e) { kernels::outer_add(e, m, m, m); }
void f15(either<matrix, no_view> b) { kernels::outer_add(ex, b, m, m); }
void f16(either<matrix, vector> a) { kernels::outer_add(ex, m, a, m); }
void f17(either<matrix, const_matrix> w) { kernels::outer_add(ex, m, m, w); }

void f18(either<double, int> scale) { kernels::shrink(ex, m, m, m, scale); }
