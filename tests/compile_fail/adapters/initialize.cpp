// expect: graft::initialize: the first argument must be an executor
// expect: graft::initialize: this adapter is packed for add_delta; use the original
// expect: graft::initialize: A is written, so its elements must not be const
// expect: graft::initialize: B lies in a memory space that this executor cannot touch
// expect: graft::initialize: bias is written, so its elements must not be const
#include "support/mistakes.hpp"

graft::serial const ex;
graft::kaiming_uniform const how;

void f1(either<graft::serial, no_executor> e, lora l) { graft::initialize(e, l, how); }
void f2(either<lora, graft::lora<matrix, graft::panels_view<float>>> l) {
  graft::initialize(ex, l, graft::orthogonal{});
}
void f3(graft::lora_fa<either<matrix, const_matrix>, matrix> l) { graft::initialize(ex, l, graft::gaussian{}); }
void f4(graft::lora<matrix, either<matrix, device_matrix>> l) { graft::initialize(ex, l, how); }
void f5(graft::lora<matrix, matrix, either<vector, const_vector>> l) { graft::initialize(ex, l, how); }
