// expect: graft::lora: A and B must be matrix views; wrap the data: graft::view(pointer, rows, columns)
// expect: graft::lora: bias must be a vector view or graft::none
// expect: graft::lora_fa: A and B must be matrix views; wrap the data: graft::view(pointer, rows, columns)
// expect: graft: a scale must be a floating-point number, since alpha / r of two integers truncates; use graft::lora_scale(alpha, r)
// expect: graft::add_delta: the first argument must be an executor, for example graft::serial{} or graft::openmp{.threads = 8}
// expect: graft::add_delta: the first argument must be an executor
// expect: graft::add_delta: x must be a view
// expect: graft::add_delta: x must have rank 2
// expect: graft::add_delta: A lies in a memory space that this executor cannot touch; use an executor of that space
// expect: graft::add_delta: bias lies in a memory space that this executor cannot touch
// expect: graft::add_delta: y is written, so its elements must not be const
// expect: graft::add_delta: y lies in a memory space that this executor cannot touch
// expect: graft::add_delta: the intermediate is written, so its elements must not be const
// expect: graft::add_delta: the intermediate must have rank 2
// expect: graft::pack: the first argument must be an executor
// expect: graft::pack: this adapter is packed already
// expect: graft::pack: the memory must be a span of B's element type, not const
#include <span>

#include "support/mistakes.hpp"

graft::serial const ex;
matrix const m;
vector const v;
lora const l{m, m, 1.0, {}};
lora_fa const fa{m, m, 1.0};

auto f1(either<matrix, float*> a) { return graft::lora<either<matrix, float*>, matrix>{a, m, 1.0, {}}; }
auto f2(either<vector, matrix> bias) { return graft::lora<matrix, matrix, either<vector, matrix>>{m, m, 1.0, bias}; }
auto f3(either<matrix, float*> b) { return graft::lora_fa<matrix, either<matrix, float*>>{m, b, 1.0}; }
auto f4(either<double, int> alpha) { return graft::lora{.A = m, .B = m, .scale = alpha / 16}; }

// Forgotten; something else.
#if defined(GRAFT_KO)
void f5() { graft::add_delta(l, m, m); }
#endif
void f6(either<graft::serial, no_executor> e) { graft::add_delta(e, l, m, m); }
void f7(either<matrix, no_view> x) { graft::add_delta(ex, l, x, m); }
void f8(either<matrix, vector> x) { graft::add_delta(ex, fa, x, m); }
void f9(graft::lora<either<matrix, device_matrix>, matrix> a) { graft::add_delta(ex, a, m, m); }
void f10(graft::lora<matrix, matrix, either<vector, device_vector>> a) { graft::add_delta(ex, a, m, m); }
void f11(either<matrix, const_matrix> y) { graft::add_delta(ex, l, m, y); }
void f12(either<matrix, device_matrix> y) { graft::add_delta(ex, l, m, y); }
void f13(either<matrix, const_matrix> x_dropped) { graft::add_delta(ex, l, graft::dropout{}, m, m, x_dropped); }
void f14(either<matrix, vector> kept) { graft::add_delta(ex, fa, m, m, kept); }

void f15(either<graft::serial, no_executor> e) { static_cast<void>(graft::pack(e, l, std::span<float>())); }
void f16(either<lora, packed_lora> a) { static_cast<void>(graft::pack(ex, a, std::span<float>())); }
void f17(std::span<either<float, float const>> memory) { static_cast<void>(graft::pack(ex, l, memory)); }
