// expect: graft::kernels::copy: the first argument must be an executor
// expect: graft::kernels::copy: X must be a view
// expect: graft::kernels::copy: Y is written, so its elements must not be const
// expect: graft::kernels::scale_rows: d must have rank 1
// expect: graft::kernels::scale_rows: the first argument must be an executor
// expect: graft::kernels::scale_columns: Y lies in a memory space that this executor cannot touch
// expect: graft::kernels::add_bias: b must have rank 1
// expect: graft::kernels::add_bias: the first argument must be an executor
// expect: graft::kernels::add_bias: y is written, so its elements must not be const
// expect: graft::kernels::sum_rows: y lies in a memory space that this executor cannot touch
// expect: graft::kernels::sum_rows: d is written, so its elements must not be const
// expect: graft::kernels::drop: the first argument must be an executor
// expect: graft::kernels::drop: x must be a view; wrap the data: graft::view(pointer, rows, columns)
// expect: graft::kernels::drop_add: y is written, so its elements must not be const
// expect: graft::kernels::fill_uniform: the first argument must be an executor
// expect: graft::kernels::fill_uniform: Y must have rank 2
// expect: graft::kernels::fill_normal: Y is written, so its elements must not be const
#include "support/mistakes.hpp"

namespace kernels = graft::kernels;
using executor = either<graft::serial, no_executor>;
graft::serial const ex;
matrix const m;
vector const v;

void f1(executor e) { kernels::copy(e, m, m); }
void f2(either<matrix, no_view> x) { kernels::copy(ex, x, m); }
void f3(either<matrix, const_matrix> y) { kernels::copy(ex, m, y); }

void f4(either<vector, matrix> d) { kernels::scale_rows(ex, d, m); }
void f5(executor e) { kernels::scale_rows(e, v, m); }
void f6(either<matrix, device_matrix> y) { kernels::scale_columns(ex, v, y); }

void f7(either<vector, matrix> b) { kernels::add_bias(ex, b, m); }
void f8(executor e) { kernels::add_bias(e, v, m); }
void f9(either<matrix, const_matrix> y) { kernels::add_bias(ex, v, y); }

void f10(either<matrix, device_matrix> y) { kernels::sum_rows(ex, y, v); }
void f11(either<vector, const_vector> d) { kernels::sum_rows(ex, m, d); }

void f12(executor e) { kernels::drop(e, graft::dropout{}, m, m); }
void f13(either<matrix, no_view> x) { kernels::drop(ex, graft::dropout{}, x, m); }
void f14(either<matrix, const_matrix> y) { kernels::drop_add(ex, graft::dropout{}, m, y); }

void f15(executor e) { kernels::fill_uniform(e, {}, m); }
void f16(either<matrix, vector> y) { kernels::fill_uniform(ex, {}, y); }
void f17(either<matrix, const_matrix> y) { kernels::fill_normal(ex, {}, y); }
