// A template that both units instantiate with the same arguments: one symbol, if graft lets the linker merge them.
#pragma once
#include <cstdio>

inline constexpr int rows = 3, inputs = 77, rank = 5, outputs = 41;

template <class Executor>
float run(Executor const& ex, float* y) {
  float x[rows * inputs], A[rank * inputs], B[outputs * rank];
  for (int i = 0; i < rows * inputs; ++i) x[i] = static_cast<float>(i % 17) / 7.0f - 1.0f;
  for (int i = 0; i < rank * inputs; ++i) A[i] = static_cast<float>(i % 13) / 9.0f - 0.7f;
  for (int i = 0; i < outputs * rank; ++i) B[i] = static_cast<float>(i % 11) / 5.0f - 1.1f;
  for (int i = 0; i < rows * outputs; ++i) y[i] = static_cast<float>(i % 5) / 3.0f;
  graft::kernels::low_rank_add(ex, graft::view(static_cast<float const*>(x), rows, inputs),
                               graft::view(static_cast<float const*>(A), rank, inputs),
                               graft::view(static_cast<float const*>(B), outputs, rank), 0.3f,
                               graft::view(y, rows, outputs));
  return y[0];
}

float first_serial(float* y);
float first_openmp(float* y);
float second_serial(float* y);
float second_openmp(float* y);
