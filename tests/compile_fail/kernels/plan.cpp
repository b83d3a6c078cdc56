// expect: graft::kernels::make_plan: the first argument must be an executor
// expect: graft::kernels::make_plan: an assignment is a view ids[T, k] of std::int32_t or std::int64_t
// expect: graft::kernels::make_plan: the plan lies in a memory space that this executor cannot touch
// expect: graft::kernels::dispatch: x must be a view; wrap the data: graft::view(pointer, rows, columns)
// expect: graft::kernels::dispatch: the plan lies in a memory space that this executor cannot touch
// expect: graft::kernels::dispatch: rows is written, so its elements must not be const
// expect: graft::kernels::dispatch: w must be a view of [T, k], of [pairs] for a ragged plan, or graft::none
// expect: graft::kernels::combine: the first argument must be an executor
// expect: graft::kernels::combine_add: y must have rank 2
// expect: graft::kernels::combine: w lies in a memory space that this executor cannot touch
// expect: graft::kernels::combine_backward_weights: dw is written; it must be a view of [T, k]
// expect: graft::kernels::drop_pairs: positions are a view of std::int32_t or std::int64_t, or graft::none
#include "support/mistakes.hpp"

namespace kernels = graft::kernels;
using executor = either<graft::serial, no_executor>;
graft::serial const ex;
matrix const m;
vector const v;
using ids = decltype(graft::view(static_cast<std::int32_t*>(nullptr), 2, 2));
using id_vector = decltype(graft::view(static_cast<std::int32_t*>(nullptr), 2));
ids const assigned;
using plan = graft::plan<>;
using device_plan = graft::plan<graft::device_space>;
plan const p;

void f1(executor e) { kernels::make_plan(e, assigned, p); }
void f2(either<ids, id_vector> a) { kernels::make_plan(ex, a, p); }
void f3(either<plan, device_plan> d) { kernels::make_plan(ex, assigned, d); }
void f4(either<matrix, no_view> x) { kernels::dispatch(ex, p, x, m); }
void f5(either<plan, device_plan> d) { kernels::dispatch(ex, d, m, m); }
void f6(either<matrix, const_matrix> rows) { kernels::dispatch(ex, p, m, rows); }
void f7(either<matrix, ids> w) { kernels::dispatch(ex, p, m, m, w); }
void f8(executor e) { kernels::combine(e, p, m, graft::none, m); }
void f9(either<matrix, vector> y) { kernels::combine_add(ex, p, m, graft::none, y); }
void f10(either<vector, device_vector> w) { kernels::combine(ex, p, m, w, m); }
void f11(either<matrix, const_matrix> dw) { kernels::combine_backward_weights(ex, p, m, m, dw); }
void f12(either<ids, matrix> places) { kernels::drop_pairs(ex, p, {}, graft::none, places); }
