// SPDX-License-Identifier: Apache-2.0
// PyTorch without Python: what a C++ program with libtorch reaches, for calls below 20 us. Prepared once, repeated.
// Tensors are others' memory (from_blob). Everything has C linkage: ctypes loads it into the process of the wheel.
#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>
#include <ATen/ops/_softmax.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/topk.h>
#include <c10/core/InferenceMode.h>

namespace {
using prepared = std::function<void()>;

at::Tensor tensor(void* data, at::IntArrayRef sizes, at::ScalarType type = at::kFloat) {
  return at::from_blob(data, sizes, at::TensorOptions().dtype(type));
}
}  // namespace

extern "C" {

/// v = x A^T, y += s v B^T, in place. With T = 1 and `vectors` by matrix-vector products.
void* torch_loops_lora(void* x, void* A, void* B, void* y, void* v, std::int64_t T, std::int64_t n, std::int64_t m,
                       std::int64_t r, int bf16, int vectors, float s) {
  c10::InferenceMode const mode;
  auto const type = bf16 != 0 ? at::kBFloat16 : at::kFloat;
  if (vectors != 0) {
    auto X = tensor(x, {n}, type);
    auto a = tensor(A, {r, n}, type);
    auto b = tensor(B, {m, r}, type);
    auto Y = tensor(y, {m}, type);
    auto V = tensor(v, {r}, type);
    return new prepared([=]() mutable {
      at::mv_out(V, a, X);
      Y.addmv_(b, V, 1, s);
    });
  }
  auto X = tensor(x, {T, n}, type);
  auto a = tensor(A, {r, n}, type).t();
  auto b = tensor(B, {m, r}, type).t();
  auto Y = tensor(y, {T, m}, type);
  auto V = tensor(v, {T, r}, type);
  return new prepared([=]() mutable {
    at::mm_out(V, X, a);
    Y.addmm_(V, b, 1, s);
  });
}

/// values, ids = topk(logits), weights = softmax(values).
void* torch_loops_gate(void* logits, void* values, void* ids, void* weights, std::int64_t T, std::int64_t E,
                       std::int64_t k) {
  c10::InferenceMode const mode;
  auto z = tensor(logits, {T, E});
  auto chosen = tensor(values, {T, k});
  auto indices = tensor(ids, {T, k}, at::kLong);
  auto w = tensor(weights, {T, k});
  return new prepared([=]() mutable {
    at::topk_out(chosen, indices, z, k);
    at::_softmax_out(w, chosen, 1, false);
  });
}

/// turned[T, D, b] = x[T, D, b] R[D, b, b] block by block.
void* torch_loops_rotate(void* x, void* R, void* turned, std::int64_t T, std::int64_t D, std::int64_t b) {
  c10::InferenceMode const mode;
  auto X = tensor(x, {T, D, b}).transpose(0, 1);
  auto r = tensor(R, {D, b, b});
  auto Y = tensor(turned, {T, D, b}).transpose(0, 1);
  return new prepared([=]() mutable { at::bmm_out(Y, X, r); });
}

void torch_loops_run(void* call, std::int64_t count) {
  c10::InferenceMode const mode;
  auto& f = *static_cast<prepared*>(call);
  for (std::int64_t i = 0; i < count; ++i) f();
}
void torch_loops_free(void* call) { delete static_cast<prepared*>(call); }
}
