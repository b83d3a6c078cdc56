// expect: graft::vera: A and B must be matrix views
// expect: graft::vera: d and b must be vector views
// expect: graft::initialize: the first argument must be an executor
// expect: graft::backward: the gradient of d is written, so its elements must not be const
// expect: graft::replay_projections: A and B must be of float, as PEFT draws them
// expect: graft::backward: this adapter is packed for add_delta; use the original
// expect: graft::merge, unmerge, delta_weight: this adapter is packed for add_delta; use the original
// expect: graft::dora: low_rank must be a graft::lora or graft::lora_embedding
// expect: graft::dora: its low_rank part has no bias
// expect: graft::dora: magnitude and norms must be vector views
// expect: graft: this dora has no norms yet; give it some
// expect: graft::transform_output: the first argument must be an executor
// expect: graft::transform_output: y is written, so its elements must not be const
// expect: graft::backward: the gradient of the magnitude is written, so its elements must not be const
// expect: graft::backward: dy is written, so its elements must not be const
#include "support/mistakes.hpp"

graft::serial const ex;
matrix const m;
vector const v;
lora const l{m, m, 1.0, {}};
lora_with_bias const biased{m, m, 1.0, v};
using vera = graft::vera<matrix, matrix, vector, vector>;
vera const ve{m, m, v, v};
using dora = graft::dora<lora, vector, vector>;
using bare_dora = graft::dora<lora, vector>;
dora const d{l, v, v};
using three = decltype(graft::view(static_cast<float*>(nullptr), 2, 2, 2));
three const t;
using ids = graft::id_list<int>;
struct forward {
  template <class X, class Y>
  void operator()(X const&, Y const&) const {}
};
using base = graft::base_layer<forward, forward>;
using double_matrix = decltype(graft::view(static_cast<double*>(nullptr), 2, 2));

auto f1(either<matrix, float*> a) { return graft::vera<either<matrix, float*>, matrix, vector, vector>{a, m, v, v}; }
auto f2(either<vector, matrix> x) { return graft::vera<matrix, matrix, either<vector, matrix>, vector>{m, m, x, v}; }
void f3(either<graft::serial, no_executor> e) { graft::initialize(e, ve); }
void f4(either<vector, const_vector> g) { graft::backward(ex, ve, m, m, graft::vera_gradients{g, v}, m); }
void f5(either<matrix, double_matrix> a) { graft::replay_projections(0, a, m); }
using packed_vera = graft::vera<matrix, graft::panels_view<float const>, vector, vector>;
void f14(either<vera, packed_vera> a) { graft::backward(ex, a, m, m, graft::vera_gradients{v, v}, m); }
void f15(either<vera, packed_vera> a) { graft::merge(ex, a, m); }
auto f6(either<lora, matrix> x) { return graft::dora<either<lora, matrix>, vector>{x, v, {}}; }
auto f7(either<lora, lora_with_bias> x) { return graft::dora<either<lora, lora_with_bias>, vector>{x, v, {}}; }
auto f8(either<vector, matrix> x) { return graft::dora<lora, either<vector, matrix>>{l, x, {}}; }
void f9(either<dora, bare_dora> x) { graft::merge(ex, x, m); }
#if defined(GRAFT_KO)
void f10() { graft::transform_output(d, m, m); }
#endif
void f11(either<matrix, const_matrix> y) { graft::transform_output(ex, d, m, y, m); }
void f12(either<vector, const_vector> g) { graft::backward(ex, d, m, m, m, graft::dora_gradients{m, m, g}, m); }
void f13(either<matrix, const_matrix> dy) { graft::backward(ex, d, m, m, dy, graft::dora_gradients{m, m, v}, m); }
