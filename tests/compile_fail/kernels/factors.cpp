// expect: graft::kernels::row_norms: base_norms lies in a memory space that this executor cannot touch
// expect: graft::kernels::low_rank_add: rank must have rank 1
// expect: graft::kernels::low_rank_add: delta lies in a memory space that this executor cannot touch
// expect: graft::kernels::low_rank_add: result must be a view
// expect: graft::kernels::gather_columns: ids must be a list of them; wrap the data: graft::ids(pointer, count)
// expect: graft::kernels::gather_columns: v is written, so its elements must not be const
// expect: graft::kernels::scatter_add_columns: ids lie in a memory space that this executor cannot touch
#include "support/mistakes.hpp"

namespace kernels = graft::kernels;
using executor = either<graft::serial, no_executor>;
graft::serial const ex;
matrix const m;
vector const v;
using ids = graft::id_list<int>;
using device_ids = graft::id_list<int, graft::device_space>;
ids const list;

void f14(either<vector, device_vector> b) { kernels::row_norms(ex, m, m, m, v, 1.0, b); }
void f15(either<vector, matrix> r) { kernels::low_rank_add(ex, m, m, m, m, 1.0, graft::low_rank_factors{r, v, v}); }
void f16(either<vector, device_vector> d) {
  kernels::low_rank_add(ex, m, m, m, m, 1.0, graft::low_rank_factors{v, d, v});
}
void f17(either<vector, no_view> r) { kernels::low_rank_add(ex, m, m, m, m, 1.0, graft::low_rank_factors{v, v, r}); }
void f18(either<ids, vector> i) { kernels::gather_columns(ex, m, i, m); }
void f19(either<matrix, const_matrix> w) { kernels::gather_columns(ex, m, list, w); }
void f20(either<ids, device_ids> i) { kernels::scatter_add_columns(ex, m, i, m); }
