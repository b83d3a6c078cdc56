// expect: graft::adapted_linear: every argument between base and x must be an adapter
// expect: graft::adapted_linear: an adapter with a bias of its own stands before one that scales the output
// expect: graft::adapted_linear_backward: every adapter must be a graft::trained{.adapter, .gradients, .kept}
// expect: graft::adapted_linear_backward: base must be a graft::base_layer{.forward, .backward}
// expect: graft::lora_embedding: A and B must be matrix views
// expect: graft::add_delta, backward of lora_embedding: ids must be a list of them
// expect: graft::lora_experts: A and B must be matrix views
// expect: graft::add_delta of lora_experts: x must have rank 3
// expect: graft::drop of lora: A_dropped is written, so its elements must not be const
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

void f14(either<dora, vector> x) { graft::adapted_linear(ex, forward{}, x, m, m); }
void f15(either<lora, lora_with_bias> x) { graft::adapted_linear(ex, forward{}, x, d, m, m); }
void f16(either<graft::trained<lora, graft::lora_gradients<>>, lora> x) {
  graft::adapted_linear_backward(ex, base{}, x, m, m, m);
}
void f17(either<base, forward> b) { graft::adapted_linear_backward(ex, b, m, m, m); }
auto f18(either<matrix, float*> a) { return graft::lora_embedding<either<matrix, float*>, matrix>{a, m, 1.0}; }
void f19(either<ids, matrix> i) { graft::add_delta(ex, graft::lora_embedding<matrix, matrix>{m, m, 1.0}, i, m); }
auto f20(either<matrix, float*> a) { return graft::lora_experts<either<matrix, float*>, matrix>{a, m, 1.0, 1}; }
void f21(either<three, matrix> x) { graft::add_delta(ex, graft::lora_experts<matrix, matrix>{m, m, 1.0, 1}, x, t); }
void f22(either<matrix, const_matrix> a) { static_cast<void>(graft::drop(ex, l, graft::lora_dropout{}, a, m)); }
