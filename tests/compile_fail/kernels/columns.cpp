// expect: graft::kernels::add_scaled_columns: the first argument must be an executor
// expect: graft::kernels::add_scaled_columns: d must have rank 1
// expect: graft::kernels::add_scaled_columns: x must be a view
// expect: graft::kernels::add_scaled_columns: y is written, so its elements must not be const
// expect: graft::kernels::dot_columns: x lies in a memory space that this executor cannot touch
// expect: graft::kernels::dot_columns: d is written, so its elements must not be const
// expect: graft::kernels::divide: n must have rank 1
// expect: graft::kernels::divide_add: c is written, so its elements must not be const
// expect: graft::kernels::keep_columns: the first argument must be an executor
// expect: graft::kernels::keep_columns_add: y is written, so its elements must not be const
// expect: graft::kernels::row_norms: the first argument must be an executor
// expect: graft::kernels::row_norms: W must have rank 2
// expect: graft::kernels::row_norms: norms is written, so its elements must not be const
#include "support/mistakes.hpp"

namespace kernels = graft::kernels;
using executor = either<graft::serial, no_executor>;
graft::serial const ex;
matrix const m;
vector const v;
using ids = graft::id_list<int>;
using device_ids = graft::id_list<int, graft::device_space>;
ids const list;

void f1(executor e) { kernels::add_scaled_columns(e, v, m, m); }
void f2(either<vector, matrix> d) { kernels::add_scaled_columns(ex, d, m, m); }
void f3(either<matrix, no_view> x) { kernels::add_scaled_columns(ex, v, x, m); }
void f4(either<matrix, const_matrix> y) { kernels::add_scaled_columns(ex, v, m, y); }
void f5(either<matrix, device_matrix> x) { kernels::dot_columns(ex, x, m, v); }
void f6(either<vector, const_vector> d) { kernels::dot_columns(ex, m, m, d); }
void f7(either<vector, matrix> n) { kernels::divide(ex, v, n, v); }
void f8(either<vector, const_vector> c) { kernels::divide_add(ex, v, v, c); }
void f9(executor e) { kernels::keep_columns(e, {}, m, m); }
void f10(either<matrix, const_matrix> y) { kernels::keep_columns_add(ex, {}, m, y); }
void f11(executor e) { kernels::row_norms(e, m, m, m, v); }
void f12(either<matrix, vector> w) { kernels::row_norms(ex, w, v); }
void f13(either<vector, const_vector> n) { kernels::row_norms(ex, m, m, m, n); }
