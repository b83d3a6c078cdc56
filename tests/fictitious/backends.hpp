// Two backends that nobody has, as CONTRIBUTING.md asks for them. They fit without a change to any file of graft.
#pragma once

#include <barrier>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <memory_resource>
#include <thread>
#include <vector>

#include <graft/executor/concepts.hpp>

namespace fictitious {

using graft::index_t;

/// The team of `carousel`: seven rows a tile, everything in another order than graft's own host team, and sixteen lanes
/// that exchange their sums pairwise, as half a GPU warp does.
struct carousel_team {
  static constexpr int row_block = 7;
  index_t tile;
  std::byte* memory;

  [[nodiscard]] index_t league_rank() const { return tile; }
  void barrier() const {}
  template <class T>
  [[nodiscard]] T* scratch(index_t) const {
    return reinterpret_cast<T*>(memory);
  }
  template <class F>
  void groups(index_t count, F const& f) const {
    for (index_t i = count; i-- > 0;) f(i);
  }
  template <class F>
  void vector(index_t count, F const& f) const {
    for (index_t i = 0; i < count; i += 2) f(i);
    for (index_t i = 1; i < count; i += 2) f(i);
  }
  template <class F>
  void once(F const& f) const {
    f();
  }
  template <class Accumulate, int R, class W, class X>
  void dot(index_t k0, index_t k1, W const& w, X const& x, Accumulate (&out)[R]) const {
    for (int t = R; t-- > 0;) {
      Accumulate lane[16];
      for (index_t l = 0; l < 16; ++l) {
        Accumulate sum{0};
        for (index_t k = k0; k < k1; k += 16)
          sum = std::fma(k + l < k1 ? x(t, k + l) : Accumulate{0}, k + l < k1 ? w(k + l) : Accumulate{0}, sum);
        lane[l] = sum;
      }
      for (int offset = 8; offset > 0; offset /= 2) {
        Accumulate other[16];
        for (int l = 0; l < 16; ++l) other[l] = lane[l ^ offset];
        for (int l = 0; l < 16; ++l) lane[l] = lane[l] + other[l];
      }
      out[t] = lane[0];
    }
  }
};
static_assert(graft::team<carousel_team>);

/// No more than `executor` asks for, so verbs run their generic bodies: leagues, the last team first, whose scratch is full
/// of NaN.
struct carousel {
  using space_type = graft::host_space;
  static constexpr int row_block = carousel_team::row_block;

  template <class Body>
  void league(index_t size, std::size_t bytes, Body const& body) const {
    std::vector<double> memory(bytes / sizeof(double) + 1);
    for (index_t i = size; i-- > 0;) {
      std::memset(memory.data(), 0xff, memory.size() * sizeof(double));
      body(carousel_team{i, reinterpret_cast<std::byte*>(memory.data())});
    }
  }
  void fence() const {}
};
static_assert(graft::executor<carousel> && !graft::host_executor<carousel>);

/// A `host_executor`, so verbs run their host bodies: a fresh thread for every worker of a region. Leagues are those of
/// `carousel`.
struct crowd : carousel {
  struct worker {
    int number;
    int count;
    std::barrier<>* meeting;
    [[nodiscard]] int index() const { return number; }
    [[nodiscard]] int size() const { return count; }
    void barrier() const { meeting->arrive_and_wait(); }
  };

  [[nodiscard]] static constexpr int concurrency() { return 3; }
  [[nodiscard]] std::pmr::memory_resource* resource() const { return std::pmr::get_default_resource(); }
  template <class F>
  void region(int workers, F const& f) const {
    int const count = workers < concurrency() ? workers : concurrency();
    std::barrier<> meeting(count);
    std::vector<std::jthread> others;
    for (int i = 1; i < count; ++i) others.emplace_back([&, i] { f(worker{i, count, &meeting}); });
    f(worker{0, count, &meeting});
  }
};
static_assert(graft::host_executor<crowd>);

}  // namespace fictitious
