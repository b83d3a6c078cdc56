// expect: graft::kernels::gate: the first argument must be an executor
// expect: graft::kernels::gate: logits must have rank 2
// expect: graft::kernels::gate: ids must be a view of std::int32_t or std::int64_t
// expect: graft::kernels::gate: ids is written, so its elements must not be const
// expect: graft::kernels::gate: weights lies in a memory space that this executor cannot touch
// expect: graft::kernels::gate: bias must have rank 1
// expect: graft: this executor cannot report bad logits by an exception; pass a gate_status
// expect: graft::kernels::gate_backward: ids must be a view of std::int32_t or std::int64_t
// expect: graft::kernels::gate_backward: dlogits is written, so its elements must not be const
// expect: graft::kernels::top_k: ids must have rank 2
// expect: graft::kernels::softmax: p is written, so its elements must not be const
// expect: graft::kernels::softmax_backward: dp must be a view
#include <cstdint>

#include "support/mistakes.hpp"

namespace kernels = graft::kernels;
using executor = either<graft::serial, no_executor>;
using ids_view = decltype(graft::view(static_cast<std::int32_t*>(nullptr), 2, 2));
using const_ids = decltype(graft::view(static_cast<std::int32_t const*>(nullptr), 2, 2));
using id_row = decltype(graft::view(static_cast<std::int32_t*>(nullptr), 2));
graft::serial const ex;
matrix const m;
vector const v;
ids_view const ids;
graft::softmax_topk const gate;

void f1(executor e) { graft::route(e, gate, m, ids, m); }
void f2(either<matrix, vector> z) { graft::route(ex, gate, z, ids, m); }
void f3(either<ids_view, matrix> i) { graft::route(ex, gate, m, i, m); }
void f4(either<ids_view, const_ids> i) { graft::route(ex, gate, m, i, m); }
void f5(either<matrix, device_matrix> w) { graft::route(ex, gate, m, ids, w); }
void f6(either<vector, matrix> b) { kernels::gate(ex, {}, m, b, ids, m); }
void f7(either<graft::serial, only_leagues> e) { graft::route(e, gate, m, ids, m); }
void f8(either<ids_view, matrix> i) { graft::route_backward(ex, gate, m, i, m, m); }
void f9(either<matrix, const_matrix> dz) { graft::route_backward(ex, gate, m, ids, m, dz); }
void f10(either<ids_view, id_row> i) { kernels::top_k(ex, m, i); }
void f11(either<matrix, const_matrix> p) { kernels::softmax(ex, m, p); }
void f12(either<matrix, no_view> dp) { kernels::softmax_backward(ex, m, dp, m); }
