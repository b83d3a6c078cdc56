// SPDX-License-Identifier: Apache-2.0
// LoRA around your own linear layer, from raw pointers: forward, backward, merge.
// test:
#include <cmath>
#include <cstdio>
#include <vector>

#include <graft/openmp.hpp>

int main() {
  constexpr int T = 3, n = 8, m = 4, r = 2;  // tokens, features in and out, rank
  std::vector<float> W(m * n, 0.5F), x(T * n, 1.0F), y(T * m), A(r * n, 0.25F), B(m * r, 0.125F);
  std::vector<float> dy(T * m, 1.0F), dA(r * n), dB(m * r), dx(T * n);

  auto const my_gemm = [&](std::vector<float> const& weight, std::vector<float>& out) {  // out = x weight^T
    for (int t = 0; t < T; ++t)
      for (int i = 0; i < m; ++i) {
        float sum = 0;
        for (int k = 0; k < n; ++k)
          sum += x[static_cast<std::size_t>(t * n + k)] * weight[static_cast<std::size_t>(i * n + k)];
        out[static_cast<std::size_t>(t * m + i)] = sum;
      }
  };

  // [forward]
  graft::openmp const ex;  // graft::serial needs no OpenMP
  graft::lora const adapter{
      .A = graft::view(A.data(), r, n), .B = graft::view(B.data(), m, r), .scale = graft::lora_scale(16.0, r)};
  my_gemm(W, y);                                                                            // yours: y = x W^T
  graft::add_delta(ex, adapter, graft::view(x.data(), T, n), graft::view(y.data(), T, m));  // y += s (x A^T) B^T
  // [forward end]

  // [backward]
  graft::lora_gradients const gradients{.A = graft::view(dA.data(), r, n), .B = graft::view(dB.data(), m, r)};
  graft::backward(ex, adapter, graft::view(x.data(), T, n), graft::view(dy.data(), T, m), gradients,
                  graft::view(dx.data(), T, n));
  // [backward end]

  // [merge]
  graft::merge(ex, adapter, graft::view(W.data(), m, n));  // W += s B A; from now on your GEMM alone is enough
  // [merge end]

  std::vector<float> merged(T * m);
  my_gemm(W, merged);
  // By hand: x A^T = 2, s = 8, so y = 4 + 8 (2 (2 / 8)) = 8 in every element, and dx = 3 tokens of 8 (4 / 8) (2 / 4) = 2.
  std::printf("y %g, merged %g, dA %g, dB %g, dx %g\n", static_cast<double>(y[0]), static_cast<double>(merged[0]),
              static_cast<double>(dA[0]), static_cast<double>(dB[0]), static_cast<double>(dx[0]));
  return y[0] == 8 && merged[0] == 8 && dx[0] == 2 ? 0 : 1;
}
