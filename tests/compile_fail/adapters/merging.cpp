// expect: graft::merge: the first argument must be an executor
// expect: graft::unmerge: the first argument must be an executor
// expect: graft::delta_weight: the first argument must be an executor
// expect: graft::merge, unmerge, delta_weight: the first argument must be an executor
// expect: graft::merge, unmerge, delta_weight: this adapter is packed for add_delta; use the original
// expect: graft::merge, unmerge, delta_weight: W is written, so its elements must not be const
// expect: graft::merge, unmerge, delta_weight: W must have rank 2
// expect: graft::merge, unmerge, delta_weight: A lies in a memory space that this executor cannot touch
// expect: graft::merge: this adapter has a bias, which goes into that of the base layer; pass it: merge(ex, adapter, W, base_bias)
// expect: graft::merge, unmerge, delta_weight: base_bias must have rank 1
// expect: graft::merge_all, switch_adapter: the first argument must be an executor
// expect: graft::merge_all, switch_adapter: W must be a view
// expect: graft::merge_all, switch_adapter: base_bias is written, so its elements must not be const
// expect: graft::merge_all, switch_adapter: W lies in a memory space that this executor cannot touch
// expect: graft::merge_all, switch_adapter: every adapter must be mergeable: merge, unmerge and delta_weight
// expect: graft::merge_all, switch_adapter: merging into 16-bit weights with one rounding needs output_rows(adapter, first, count) of every adapter
#include "support/mistakes.hpp"

graft::serial const ex;
matrix const m;
vector const v;
lora const l{m, m, 1.0, {}};
lora_with_bias const with_bias{m, m, 1.0, v};

// Adapters of somebody's: one that cannot be cut into rows, and one that cannot be merged.
namespace theirs {
struct whole {};
template <class E, class W>
void merge(E const&, whole const&, W const&) {}
template <class E, class W>
void unmerge(E const&, whole const&, W const&) {}
template <class E, class W>
void delta_weight(E const&, whole const&, W const&) {}
struct only_forward {};
}  // namespace theirs

#if defined(GRAFT_KO)
void f1() { graft::merge(l, m); }
void f2() { graft::unmerge(l, m); }
void f3() { graft::delta_weight(l, m); }
#endif
void f4(either<graft::serial, no_executor> e) { graft::merge(e, l, m); }
void f5(either<lora, packed_lora> a) { graft::unmerge(ex, a, m); }
void f6(either<matrix, const_matrix> w) { graft::unmerge(ex, l, w); }
void f7(either<matrix, vector> d) { graft::delta_weight(ex, l, d); }
void f8(graft::lora_fa<either<matrix, device_matrix>, matrix> a) { graft::merge(ex, a, m); }
void f9(either<lora, lora_with_bias> a) { graft::merge(ex, a, m); }
void f10(either<vector, matrix> base_bias) { graft::merge(ex, with_bias, m, base_bias); }
void f11(either<graft::serial, no_executor> e) { graft::merge_all(e, m, l, l); }
void f12(either<matrix, no_view> w) { graft::merge_all(ex, w, l); }
void f13(either<vector, const_vector> base_bias) { graft::merge_all(ex, m, base_bias, with_bias); }
void f14(either<matrix, device_matrix> w) { graft::switch_adapter(ex, l, l, w); }
void f15(either<theirs::whole, theirs::only_forward> a) { graft::switch_adapter(ex, l, a, m); }
void f16(either<matrix, narrow_matrix> w) { graft::merge_all(ex, w, theirs::whole{}); }
