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

/// With gradients; y stands for dy.
template <class T>
struct trained : low_rank<T> {
  explicit trained(shape const& of)
      : low_rank<T>(of),
        dA(random<T>(of.r * of.n, 11)),
        dB(random<T>(of.m * of.r, 12)),
        dx(random<T>(of.T * of.n, 13)) {}
  buffer<T> dA, dB, dx;
  [[nodiscard]] auto dA_view() { return view(dA, this->s.r, this->s.n); }
  [[nodiscard]] auto dB_view() { return view(dB, this->s.m, this->s.r); }
  [[nodiscard]] auto dx_view() { return view(dx, this->s.T, this->s.n); }
  /// (dy B)[t, j].
  [[nodiscard]] double narrowed(index_t t, index_t j) const {
    return sum(this->s.m,
               [&](index_t o) { return value(this->y, t * this->s.m + o) * value(this->B, o * this->s.r + j); });
  }
  /// s (dy B)^T x, s dy^T (x A^T) and s (dy B) A, added to what is there.
  [[nodiscard]] double want_dA(index_t i, double scale) const {
    index_t const j = i / this->s.n, k = i % this->s.n;
    return value(dA, i) +
           scale * sum(this->s.T, [&](index_t t) { return narrowed(t, j) * value(this->x, t * this->s.n + k); });
  }
  [[nodiscard]] double want_dB(index_t i, double scale) const {
    index_t const o = i / this->s.r, j = i % this->s.r;
    return value(dB, i) +
           scale * sum(this->s.T, [&](index_t t) { return value(this->y, t * this->s.m + o) * this->shrunk(t, j); });
  }
  [[nodiscard]] double want_dx(index_t i, double scale) const {
    index_t const t = i / this->s.n, k = i % this->s.n;
    return value(dx, i) +
           scale * sum(this->s.r, [&](index_t j) { return narrowed(t, j) * value(this->A, j * this->s.n + k); });
  }
};

/// A low-rank update and the weight W[m, n] that takes it.
struct weighted : low_rank<float> {
  explicit weighted(shape const& of) : low_rank<float>(of), W(random(of.m * of.n, 14)) {}
  buffer<float> W;
  [[nodiscard]] auto W_view() { return view(W, s.m, s.n); }
  /// (B A)[o, k].
  [[nodiscard]] double outer(index_t i) const {
    return sum(s.r, [&](index_t j) { return value(B, i / s.n * s.r + j) * value(A, j * s.n + i % s.n); });
  }
};

}  // namespace bench
