// expect: graft::kernels::router_losses: logits must have rank 2
// expect: graft::kernels::router_losses: loss is written, so its elements must not be const
// expect: graft::kernels::expert_sums: the first argument must be an executor
// expect: graft::kernels::expert_sums: ids must be a view of std::int32_t or std::int64_t
// expect: graft::kernels::cv_squared: v must have rank 1
// expect: graft::kernels::noisy_logits: H is written, so its elements must not be const
// expect: graft::kernels::load_probabilities: raw must be a view
// expect: graft::kernels::jitter, jitter_add: x must be a view
// expect: graft::kernels::spread_columns: dense is written, so its elements must not be const
// expect: graft::backward of router: there is no bias to have a gradient
#include <cstdint>

#include "support/mistakes.hpp"

namespace kernels = graft::kernels;
using executor = either<graft::serial, no_executor>;
using ids_view = decltype(graft::view(static_cast<std::int32_t*>(nullptr), 2, 2));
graft::serial const ex;
matrix const m;
vector const v;
ids_view const ids;
using bias = either<graft::none_t, vector>;

void f1(either<matrix, vector> z) { graft::z_loss(ex, z, 1.0, v); }
void f2(either<vector, const_vector> l) { graft::z_loss(ex, m, 1.0, l); }
void f3(executor e) { kernels::expert_sums(e, ids, graft::none, graft::none, v); }
void f4(either<ids_view, matrix> i) { kernels::expert_sums(ex, i, graft::none, graft::none, v); }
void f5(either<vector, matrix> x) { kernels::cv_squared(ex, x, 1.0, v); }
void f6(either<matrix, const_matrix> h) { kernels::noisy_logits(ex, m, m, m, h); }
void f7(either<matrix, no_view> r) { kernels::load_probabilities(ex, m, r, m, 1, m); }
void f8(either<matrix, no_view> x) { kernels::jitter(ex, {}, x, m); }
void f9(either<matrix, const_matrix> d) { kernels::spread_columns(ex, ids, m, d); }
void f10(bias b) { graft::backward(ex, graft::router{m}, m, m, graft::router_gradients<matrix, bias>{m, b}, m); }
