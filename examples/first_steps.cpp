// SPDX-License-Identifier: Apache-2.0
// Every call that docs/start.md shows.
// test:
#include <array>
#include <cstddef>
#include <cstdio>
#include <memory_resource>
#include <span>
#include <vector>

#include <graft/eigen.hpp>
#include <graft/openmp.hpp>

namespace {
auto from_eigen(Eigen::MatrixXf const& m) { return graft::view(m); }
}  // namespace

int main() {
  constexpr int T = 3, n = 4, m = 6, r = 2, ld = 8, s0 = 1, s1 = T;
  std::vector<float> v(T * n, 1.0F), W(n * m, 0.25F), fused(T * 3 * m), A(r * n, 1.0F), B(m * r, 0.5F);
  std::vector<float> data(T * ld, 1.0F);
  float* const p = data.data();

  // The same ones in five layouts.
  auto const plain = graft::view(p, T, n);
  auto const padded = graft::view(p, T, n, graft::row_stride{ld});
  auto const strided = graft::view(p, graft::dynamic_extents<2>(T, n), {s0, s1});
  auto const checked = graft::view(v, T, n);
  Eigen::MatrixXf const ones = Eigen::MatrixXf::Ones(T, n);

  graft::lora const adapter{.A = graft::view(A, r, n), .B = graft::view(B, m, r), .scale = graft::lora_scale(16.0, r)};
  std::vector<float> outputs;
  auto const run = [&](auto const& ex, auto const& x) {
    std::vector<float> y(T * m);
    graft::add_delta(ex, adapter, x, graft::view(y, T, m));
    outputs.push_back(y[0]);
  };
  run(graft::serial{}, plain);
  run(graft::openmp{.threads = 8}, padded);
  std::array<std::byte, 65536> memory_of_arena{};
  std::pmr::monotonic_buffer_resource arena(memory_of_arena.data(), memory_of_arena.size());
  run(graft::openmp{.threads = 8, .scratch = &arena}, strided);
  run(graft::serial{}, checked);
  run(graft::serial{}, from_eigen(ones));

  // Packed for one row at a time.
  graft::serial const ex;
  std::vector<float> panels(static_cast<std::size_t>(graft::packed_size(adapter)));
  std::span const memory(panels);
  auto fast = graft::pack(ex, adapter, memory);
  std::vector<float> y1(m);
  graft::add_delta(ex, fast, graft::view(v.data(), 1, n), graft::view(y1, 1, m));
  outputs.push_back(y1[0]);

  // q, k, v in one buffer: the adapter of k, then that of v; a weight stored [in, out].
  auto const y = graft::view(fused, T, 3 * m);
  auto const q_part = graft::columns(y, 0, m);
  graft::add_delta(ex, adapter, checked, graft::columns(y, m, m));
  graft::add_delta(ex, adapter, checked, graft::columns(y, 2 * m, m));
  outputs.push_back(y(0, m));
  graft::merge(ex, adapter, graft::transposed(graft::view(W, n, m)));
  // By hand: x A^T = 4, s = 8, so every element of y is 8 (2 (4 / 2)) = 32; s B A = 8, and W was 1 / 4.
  bool right = q_part(0, 0) == 0 && W[0] == 8.25F && W.back() == 8.25F;
  for (float const value : outputs) right = right && value == 32;
  std::puts(right ? "right" : "wrong");
  return right ? 0 : 1;
}
