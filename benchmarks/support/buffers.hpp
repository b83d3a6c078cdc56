// SPDX-License-Identifier: Apache-2.0
// Tensors of suites: 64-byte aligned, large ones in huge pages where the system gives them (as the limits are measured), filled
// with small numbers so that what is added up over many calls stays finite.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <vector>

#include <sys/mman.h>

#include <graft/openmp.hpp>

namespace bench {

using graft::index_t;
using graft::view;

template <class T>
struct aligned {
  using value_type = T;
  aligned() = default;
  template <class U>
  aligned(aligned<U> const&) {}
  static std::align_val_t alignment(std::size_t n) {
    return std::align_val_t{n * sizeof(T) >= (std::size_t{1} << 22) ? std::size_t{1} << 21 : 64};
  }
  T* allocate(std::size_t n) {
    void* const p = ::operator new(n * sizeof(T), alignment(n));
#if defined(MADV_HUGEPAGE)
    if (alignment(n) > std::align_val_t{64}) madvise(p, n * sizeof(T), MADV_HUGEPAGE);
#endif
    return static_cast<T*>(p);
  }
  void deallocate(T* p, std::size_t n) { ::operator delete(p, alignment(n)); }
  bool operator==(aligned const&) const { return true; }
};
template <class T>
using buffer = std::vector<T, aligned<T>>;

/// `count` numbers in (-scale / 2, scale / 2), a function of `stream`.
template <class T = float>
buffer<T> random(index_t count, std::uint64_t stream, float scale = 0.02F) {
  buffer<T> b(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < b.size(); ++i)
    b[i] = T((graft::detail::uniform(graft::detail::philox_word(1, stream, static_cast<index_t>(i))) - 0.5F) * scale);
  return b;
}
template <class T = float>
buffer<T> filled(index_t count, float with = 0.0F) {
  return buffer<T>(static_cast<std::size_t>(count), T(with));
}
/// `count` numbers below `limit`.
template <class T = std::int32_t>
buffer<T> random_ids(index_t count, std::uint64_t stream, index_t limit) {
  buffer<T> b(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < b.size(); ++i)
    b[i] = static_cast<T>(graft::detail::philox_word(1, stream, static_cast<index_t>(i)) %
                          static_cast<std::uint32_t>(limit));
  return b;
}

/// Element `i`, for the formulas that results are compared with.
template <class B>
double value(B const& b, index_t i) {
  using T = typename B::value_type;
  if constexpr (sizeof(T) == 2) return static_cast<double>(static_cast<float>(b[static_cast<std::size_t>(i)]));
  else return static_cast<double>(b[static_cast<std::size_t>(i)]);
}
/// Sum of f(i) over i < n.
template <class F>
double sum(index_t n, F const& f) {
  double s = 0;
  for (index_t i = 0; i < n; ++i) s += f(i);
  return s;
}
/// Blocks[D, b, b], and factors[N, D, b, b].
template <class B>
auto blocks(B& data, index_t D, index_t b) {
  return view(data.data(), graft::dynamic_extents<3>(D, b, b), {b * b, b, 1});
}
template <class B>
auto factors(B& data, index_t N, index_t D, index_t b) {
  return view(data.data(), graft::dynamic_extents<4>(N, D, b, b), {D * b * b, b * b, b, 1});
}

/// Of a low-rank product: y[T, m], x[T, n], A[r, n], B[m, r].
struct shape {
  index_t T, r;
  index_t n = 4096, m = 4096;
  [[nodiscard]] double flops() const { return 2.0 * double(T * r) * double(n + m); }
};
template <class T>
struct low_rank {
  explicit low_rank(shape const& of)
      : s(of),
        x(random<T>(s.T * s.n, 1)),
        A(random<T>(s.r * s.n, 2)),
        B(random<T>(s.m * s.r, 3)),
        y(random<T>(s.T * s.m, 4)) {}
  shape s;
  buffer<T> x, A, B, y;
  [[nodiscard]] auto x_view() { return view(x, s.T, s.n); }
  [[nodiscard]] auto y_view() { return view(y, s.T, s.m); }
  [[nodiscard]] auto A_view() { return view(A, s.r, s.n); }
  [[nodiscard]] auto B_view() { return view(B, s.m, s.r); }
  [[nodiscard]] auto lora(double scale = 0.5) { return graft::lora{A_view(), B_view(), scale, {}}; }
  /// In double: (x A^T)[t, j], and (x A^T B^T)[t, o].
  [[nodiscard]] double shrunk(index_t t, index_t j) const {
    return sum(s.n, [&](index_t k) { return value(x, t * s.n + k) * value(A, j * s.n + k); });
  }
  [[nodiscard]] double product(index_t t, index_t o) const {
    return sum(s.r, [&](index_t j) { return shrunk(t, j) * value(B, o * s.r + j); });
  }
};

}  // namespace bench
