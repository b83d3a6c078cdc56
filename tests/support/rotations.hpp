// Rotations for tests: parameters, rotations and gradients in plain memory, and the same as one matrix in double.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <graft/graft.hpp>

#include "support/random.hpp"

namespace tests {

/// [N, D, b, b] over n = D b features.
struct rotation_shape {
  graft::index_t N, D, b;
  [[nodiscard]] graft::index_t n() const { return D * b; }
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(N * D * b * b); }
};

template <class T>
[[nodiscard]] auto factors_view(T* data, rotation_shape const& s) {
  return graft::view(data, graft::dynamic_extents<4>(s.N, s.D, s.b, s.b), {s.D * s.b * s.b, s.b * s.b, s.b, 1});
}
template <class T>
[[nodiscard]] auto blocks_view(T* data, graft::index_t blocks, graft::index_t b) {
  return graft::view(data, graft::dynamic_extents<3>(blocks, b, b), {b * b, b, 1});
}

/// B_{N-1} ... B_0 by plain loops: row i is what becomes of feature i.
template <class V>
[[nodiscard]] std::vector<double> dense_rotation(V const& r) {
  graft::index_t const D = r.extent(1), b = r.extent(2), n = D * b;
  std::vector<double> m(static_cast<std::size_t>(n * n));
  for (graft::index_t i = 0; i < n; ++i) m[static_cast<std::size_t>(i * n + i)] = 1;
  for (graft::index_t f = r.extent(0) - 1; f >= 0; --f) {
    std::vector<double> next(m.size());
    for (graft::index_t row = 0; row < n; ++row)
      for (graft::index_t k = 0; k < D; ++k)
        for (graft::index_t i = 0; i < b; ++i)
          for (graft::index_t j = 0; j < b; ++j)
            next[static_cast<std::size_t>(row * n + graft::kernels::block_feature(f, b, k, j))] +=
                m[static_cast<std::size_t>(row * n + graft::kernels::block_feature(f, b, k, i))] *
                graft::load_as<double>(r(f, k, i, j));
    m = next;
  }
  return m;
}

}  // namespace tests
