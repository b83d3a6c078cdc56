// SPDX-License-Identifier: Apache-2.0
// LoRA around your own linear layer: forward, backward, merge. README.md shows the part between the marks.
// test:
#include <cstddef>
#include <cstdio>
#include <vector>

// [readme]
#include <graft/openmp.hpp>
// [readme end]

int main() {
  constexpr int T = 3, n = 8, m = 4, r = 2;  // tokens, features in and out, rank
  constexpr double alpha = 16;
  std::vector<float> W(m * n, 0.5F), x(T * n, 1.0F), y(T * m), A(r * n, 0.25F), B(m * r, 0.125F);
  std::vector<float> dy(T * m, 1.0F), dA(r * n), dB(m * r), dx(T * n);

  auto const my_gemm = [](std::vector<float> const& weight, std::vector<float> const& in, std::vector<float>& out) {
    for (int t = 0; t < T; ++t)
      for (int i = 0; i < m; ++i) {
        float sum = 0;
        for (int k = 0; k < n; ++k)
          sum += in[static_cast<std::size_t>(t * n + k)] * weight[static_cast<std::size_t>(i * n + k)];
        out[static_cast<std::size_t>(t * m + i)] = sum;
      }
  };

  // [readme]
  graft::openmp ex{.threads = 8};
  graft::lora q{.A = graft::view(A, r, n), .B = graft::view(B, m, r), .scale = graft::lora_scale(alpha, r)};

  my_gemm(W, x, y);                                                     // yours: y[T, m] = x[T, n] W^T
  graft::add_delta(ex, q, graft::view(x, T, n), graft::view(y, T, m));  // y += s (x A^T) B^T

  graft::lora_gradients dq{.A = graft::view(dA, r, n), .B = graft::view(dB, m, r)};
  graft::backward(ex, q, graft::view(x, T, n), graft::view(dy, T, m), dq, graft::view(dx, T, n));

  graft::merge(ex, q, graft::view(W, m, n));  // W += s B A; from now on your GEMM alone is enough
  // [readme end]

  std::vector<float> merged(T * m);
  my_gemm(W, x, merged);
  // By hand: x A^T = 2, s = 8, so y = 4 + 8 (2 (2 / 8)) = 8 in every element, and dx = 8 (4 / 8) (2 / 4) = 2.
  std::printf("y %g, merged %g, dA %g, dB %g, dx %g\n", static_cast<double>(y[0]), static_cast<double>(merged[0]),
              static_cast<double>(dA[0]), static_cast<double>(dB[0]), static_cast<double>(dx[0]));
  return y[0] == 8 && merged[0] == 8 && dA[0] == 12 && dB[0] == 48 && dx[0] == 2 ? 0 : 1;
}
