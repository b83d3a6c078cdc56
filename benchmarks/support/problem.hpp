// SPDX-License-Identifier: Apache-2.0
// The tensors of one low-rank problem, 64-byte aligned, filled with small normal-ish numbers so that sums stay finite.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include <graft/openmp.hpp>

namespace bench {

template <class T>
struct aligned {
  using value_type = T;
  aligned() = default;
  template <class U>
  aligned(aligned<U> const&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{64})); }
  void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t{64}); }
  bool operator==(aligned const&) const { return true; }
};
template <class T>
using buffer = std::vector<T, aligned<T>>;

template <class T>
buffer<T> random(graft::index_t count, std::uint64_t stream) {
  buffer<T> b(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < b.size(); ++i)
    b[i] = T((graft::detail::uniform(graft::detail::philox_word(1, stream, static_cast<graft::index_t>(i))) - 0.5F) *
             0.02F);
  return b;
}

struct shape {
  graft::index_t tokens, rank, threads;
  graft::index_t n = 4096, m = 4096;
  [[nodiscard]] std::string name(char const* dtype) const {
    return std::string(dtype) + "/T=" + std::to_string(tokens) + "/r=" + std::to_string(rank) +
           "/threads=" + std::to_string(threads);
  }
};

template <class T>
struct problem {
  explicit problem(shape const& of)
      : s(of),
        x(random<T>(s.tokens * s.n, 1)),
        A(random<T>(s.rank * s.n, 2)),
        B(random<T>(s.m * s.rank, 3)),
        y(random<T>(s.tokens * s.m, 4)) {}
  shape s;
  buffer<T> x;
  buffer<T> A;
  buffer<T> B;
  buffer<T> y;
};

/// flop/s, and bytes/s of what must move at least, from the documented cost.
inline void counters(benchmark::State& state, double flops, double bytes) {
  state.counters["flop/s"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["byte/s"] =
      benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1024);
}

/// Largest |a - b| relative to the largest |b|.
template <class A, class B>
double difference(A const& a, B const& b) {
  double worst = 0;
  double largest = 1e-30;
  for (std::size_t i = 0; i < a.size(); ++i) {
    worst = std::fmax(worst, std::fabs(static_cast<double>(static_cast<float>(a[i])) -
                                       static_cast<double>(static_cast<float>(b[i]))));
    largest = std::fmax(largest, std::fabs(static_cast<double>(static_cast<float>(b[i]))));
  }
  return worst / largest;
}

}  // namespace bench
