// expect: graft::backward: the first argument must be an executor
// expect: graft::backward: the first argument must be an executor
// expect: graft::backward: x (or what the forward kept) must be a view
// expect: graft::backward: dy must have rank 2
// expect: graft::backward: the gradient of A is written, so its elements must not be const
// expect: graft::backward: the gradient of B must have rank 2
// expect: graft::backward: the gradient of the bias must have rank 1
// expect: graft::backward: dx lies in a memory space that this executor cannot touch
// expect: graft::backward: scratch must be of float or double; 16 bits would round in between
// expect: graft::backward: this adapter is packed for add_delta; use the original
// expect: graft::backward: this adapter has no bias, so there is no gradient of one
// expect: graft::backward: dx and dx_dropped are both views or both graft::none
// expect: graft::backward: A of lora_fa is frozen, so there is no gradient of it
// expect: graft: this executor has no resource() to take scratch from; call the form of the verb that is given scratch
// expect: graft::project_gradient: the first argument must be an executor
// expect: graft::project_gradient: the gradient of B must be a view
// expect: graft::project_gradient: the result is written, so its elements must not be const
#include "support/mistakes.hpp"

graft::serial const ex;
matrix const m;
vector const v;
lora const l{m, m, 1.0, {}};
lora_with_bias const with_bias{m, m, 1.0, v};
lora_fa const fa{m, m, 1.0};
graft::lora_gradients const g{m, m};
graft::lora_gradients<graft::none_t, matrix> const only_b{{}, m, {}};

#if defined(GRAFT_KO)
void forgotten() { graft::backward(l, m, m, g, m); }
#endif
void f2(either<graft::serial, no_executor> e) { graft::backward(e, l, m, m, g, m); }
void f3(either<matrix, no_view> x) { graft::backward(ex, l, x, m, g, m); }
void f4(either<matrix, vector> dy) { graft::backward(ex, fa, m, dy, only_b, m); }
void f5(either<matrix, const_matrix> a) { graft::backward(ex, l, m, m, graft::lora_gradients{a, m}, m); }
void f6(either<matrix, vector> b) { graft::backward(ex, l, m, m, graft::lora_gradients{m, b}, m); }
void f7(either<vector, matrix> bias) { graft::backward(ex, with_bias, m, m, graft::lora_gradients{m, m, bias}, m); }
void f8(either<matrix, device_matrix> dx) { graft::backward(ex, l, m, m, g, dx); }
void f9(either<matrix, narrow_matrix> scratch) { graft::backward(ex, l, m, m, g, m, scratch); }
void f10(either<lora, packed_lora> a) { graft::backward(ex, a, m, m, g, m); }
void f11(either<lora_with_bias, lora> a) { graft::backward(ex, a, m, m, graft::lora_gradients{m, m, v}, m); }
void f12(either<matrix, graft::none_t> dx) { graft::backward(ex, l, graft::dropout{}, m, m, g, dx, m); }
void f13(either<graft::none_t, matrix> a) {
  graft::backward(ex, fa, m, m, graft::lora_gradients<either<graft::none_t, matrix>, matrix>{a, m, {}}, m);
}
void f14(either<graft::reference, only_leagues> e) { graft::backward(e, l, m, m, g, m); }
void f15(only_leagues e) { graft::backward(e, l, m, m, g, m, m); }  // given scratch, every executor will do
void f16(either<graft::serial, no_executor> e) { graft::project_gradient(e, fa, m, m); }
void f17(either<matrix, no_view> gradient) { graft::project_gradient(ex, fa, gradient, m); }
void f18(either<matrix, const_matrix> result) { graft::project_gradient(ex, fa, m, result); }
