// Internal linkage: our own template must not hide what the linker does to those of graft.
#pragma once
#include <cstdio>

namespace two_tu {

inline constexpr int T = 3, n = 77, r = 5, m = 41;

template <class Executor>
static void run(Executor const& ex, float* y) {
  float x[T * n], A[r * n], B[m * r];
  for (int i = 0; i < T * n; ++i) x[i] = static_cast<float>(i % 17) / 7.0f - 1.0f;
  for (int i = 0; i < r * n; ++i) A[i] = static_cast<float>(i % 13) / 9.0f - 0.7f;
  for (int i = 0; i < m * r; ++i) B[i] = static_cast<float>(i % 11) / 5.0f - 1.1f;
  for (int i = 0; i < T * m; ++i) y[i] = static_cast<float>(i % 5) / 3.0f;
  graft::kernels::low_rank_add(ex, graft::view(static_cast<float const*>(x), T, n),
                               graft::view(static_cast<float const*>(A), r, n),
                               graft::view(static_cast<float const*>(B), m, r), graft::view(y, T, m), 0.3f);
}

void first(float* y);
void second(float* y);

}  // namespace two_tu
