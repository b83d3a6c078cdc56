// One way to compare bodies: `reference` on contiguous fp32 copies says what the bits are, rounded once to the output's
// type; every executor at every instruction set must give them, for every mix of scalars and every layout.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <type_traits>
#include <vector>

#include <graft/graft.hpp>
#include <graft/openmp.hpp>

#include "support/bits.hpp"
#include "support/executors.hpp"
#include "support/layouts.hpp"
#include "support/random.hpp"

namespace tests {

/// The extents of all verbs on low-rank products.
struct shape {
  graft::index_t T, n, r, m;
  [[nodiscard]] std::string text() const {
    return "T = " + std::to_string(T) + ", n = " + std::to_string(n) + ", r = " + std::to_string(r) +
           ", m = " + std::to_string(m);
  }
};

/// Which products count is up to the verb: shrink has no m, expand_add no n.
enum class uses { all, no_m, no_n };
[[nodiscard]] inline graft::index_t products(shape const& s, uses u) {
  return s.T * s.r * ((u == uses::no_n ? 0 : s.n) + (u == uses::no_m ? 0 : s.m));
}

/// `count` shapes with odd extents around all blocks of all bodies; each extent gets its turn in each place, the others are
/// drawn so that a call has at most `most` products.
[[nodiscard]] inline std::vector<shape> sampled_shapes(int count, uses u, graft::index_t most = 1500000) {
  static std::vector<graft::index_t> const extents{1,   2,   3,   4,   5,   6,   7,   8,   9,   11,  12,  13,
                                                   15,  16,  17,  24,  31,  33,  47,  49,  63,  64,  65,  97,
                                                   127, 129, 192, 193, 255, 256, 257, 511, 512, 513, 1025};
  random_bits bits(2024);
  std::vector<shape> shapes;
  for (int i = 0; i < count; ++i) {
    graft::index_t const forced = extents[static_cast<std::size_t>(i / 4) * 7 % extents.size()];
    int const place = i % 4;
    shape s{};
    graft::index_t limit = 1025;
    do {
      auto const draw = [&] { return (std::min)(bits.one_of(extents), limit); };
      s = {draw(), draw(), draw(), draw()};
      (place == 0 ? s.T : place == 1 ? s.n : place == 2 ? s.r : s.m) = forced;
      limit = (std::max)(graft::index_t{17}, limit - 8);
    } while (products(s, u) > most);
    shapes.push_back(s);
  }
  return shapes;
}
/// All shapes with extents 0, 1, 2 and 5.
[[nodiscard]] inline std::vector<shape> tiny_shapes() {
  std::vector<shape> shapes;
  for (graft::index_t const T : {0, 1, 2, 5})
    for (graft::index_t const n : {0, 1, 2, 5})
      for (graft::index_t const r : {0, 1, 2, 5})
        for (graft::index_t const m : {0, 1, 2, 5}) shapes.push_back({T, n, r, m});
  return shapes;
}

/// f(type) with the storage type number `kind` of 0, 1, 2.
template <class F>
void with_storage(int kind, F const& f) {
  if (kind == 0) f(std::type_identity<float>{});
  else if (kind == 1) f(std::type_identity<graft::bfloat16>{});
  else f(std::type_identity<graft::float16>{});
}
template <class T>
[[nodiscard]] constexpr char const* type_name() {
  return std::is_same_v<T, float>             ? "float"
         : std::is_same_v<T, double>          ? "double"
         : std::is_same_v<T, graft::bfloat16> ? "bfloat16"
                                              : "float16";
}

/// Nine mixes of storage types for four operands in which every two operands meet in every combination.
inline constexpr std::array<std::array<int, 4>, 9> nine_mixes{{{0, 0, 0, 0},
                                                               {0, 1, 1, 1},
                                                               {0, 2, 2, 2},
                                                               {1, 0, 1, 2},
                                                               {1, 1, 2, 0},
                                                               {1, 2, 0, 1},
                                                               {2, 0, 2, 1},
                                                               {2, 1, 0, 2},
                                                               {2, 2, 1, 0}}};

/// Asks for scratch for seven workers and then gets three at most, as OMP_THREAD_LIMIT or OMP_DYNAMIC may have it.
struct short_handed : graft::openmp {
  [[nodiscard]] static constexpr int concurrency() { return 7; }
  template <class F>
  void region(int workers, F const& f) const {
    graft::openmp{3}.region(workers, f);
  }
};
static_assert(graft::host_executor<short_handed>);

/// A matrix of `T` with the values of another one.
template <class T, class V>
[[nodiscard]] matrix<T> copy_of(V const& from, layout how = layout::contiguous) {
  matrix<T> m(from.extent(0), from.extent(1), how);
  m.assign(from);
  return m;
}

/// `run(ex, y)` once on a fresh copy of `start` in memory of this layout.
template <class Y, class E, class Run>
[[nodiscard]] std::string compare_one(E const& ex, any_view<Y const> start, layout how, any_view<Y const> expected,
                                      Run const& run) {
  matrix<Y> y(start.extent(0), start.extent(1), how);
  y.assign(start);
  run(ex, y.view());
  std::string const different = differences(graft::as_const(y.view()), expected);
  return different.empty() ? y.outside() : different;
}

/// serial at every instruction set.
template <class Y, class Run, class Describe>
void compare_levels(tally& t, any_view<Y const> start, layout how, any_view<Y const> expected, Run const& run,
                    Describe const& describe) {
  for_each_isa([&](std::string const& level) {
    t.add(compare_one<Y>(graft::serial{}, start, how, expected, run),
          [&] { return "serial at " + level + ", " + describe(); });
  });
}
/// openmp with two to four threads, and with fewer threads than it was promised; kokkos.
template <class Y, class Run, class Describe>
void compare_threads(tally& t, any_view<Y const> start, layout how, any_view<Y const> expected, Run const& run,
                     Describe const& describe) {
  for (int const threads : {2, 3, 4})
    t.add(compare_one<Y>(graft::openmp{threads}, start, how, expected, run),
          [&] { return "openmp{" + std::to_string(threads) + "}, " + describe(); });
  t.add(compare_one<Y>(short_handed{}, start, how, expected, run),
        [&] { return "fewer threads than promised, " + describe(); });
  for_each_kokkos_executor([&](std::string const& name, auto const& ex) {
    t.add(compare_one<Y>(ex, start, how, expected, run), [&] { return name + ", " + describe(); });
  });
}

/// Numbers among which arithmetic has its corners: zeros of both signs, infinities, NaN, subnormals, the largest.
template <class T>
void fill_special(matrix<T>& m, std::uint64_t seed, int one_in = 8) {
  static constexpr std::array<double, 12> corners{0.0,     -0.0,     1e30,    -1e30,    0x1p-140, -0x1p-149,
                                                  0x1p-24, -0x1p-14, 65504.0, -65504.0, 0x1p-126, 0x1.8p-133};
  random_bits bits(seed);
  auto const v = m.view();
  for (graft::index_t i = 0; i < v.extent(0); ++i)
    for (graft::index_t j = 0; j < v.extent(1); ++j) {
      double value = static_cast<double>(bits.number());
      if (bits.below(one_in) == 0) {
        auto const which = static_cast<std::size_t>(bits.below(16));
        value = which < 12    ? corners[which]
                : which == 12 ? HUGE_VAL
                : which == 13 ? -HUGE_VAL
                : which == 14 ? static_cast<double>(NAN)
                              : 0.0;
      }
      v(i, j) = graft::store_as<T>(value);
    }
}

}  // namespace tests
