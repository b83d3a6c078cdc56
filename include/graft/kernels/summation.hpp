// SPDX-License-Identifier: Apache-2.0
/// @file
/// The order of summation: the reason why bits do not depend on threads, vector width, batch or backend.
///
///     long axis   per chunk of 512: sixteen lanes, lane l sums k = l, l + 16, ... by fma from +0; one tree over the lanes
///                 (offsets 8, 4, 2, 1); chunk sums are added in order, from the first
///     short axis  an fma chain in order, starting from the output; above 512 terms every further chunk is a chain from
///                 +0 that is added to the sum so far
///     scale       one rounded product with the summed row, which then only ever is a factor
///
/// No product ever feeds a + or a -: such lines are fma by name, so that contraction can change nothing.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/device_team.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace kernels {
/// Terms per chunk of a sum.
inline constexpr index_t chunk = 512;
}  // namespace kernels

namespace detail {

GRAFT_FN constexpr index_t tiles(index_t extent, index_t block) { return (extent + block - 1) / block; }

/// a / b of numbers that are not negative. Where 32 bits hold them it is 32 bits wide: on devices 64 are ten times the work.
GRAFT_FN constexpr index_t quotient(index_t a, index_t b) {
#if defined(__CUDA_ARCH__)
  if (((a | b) >> 32U) == 0) return static_cast<index_t>(static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b));
#endif
  return a / b;
}

/// i / n and i % n where what is counted lies in a team's scratch, so that 32 bits hold both.
struct place_in_scratch {
  std::int32_t row;
  std::int32_t column;
  GRAFT_FN place_in_scratch(index_t i, index_t n)
      : row(static_cast<std::int32_t>(i) / static_cast<std::int32_t>(n)),
        column(static_cast<std::int32_t>(i) - row * static_cast<std::int32_t>(n)) {}
};

/// Elements of the tile that begins at `first`.
GRAFT_FN constexpr index_t tile_extent(index_t extent, index_t first, index_t block) {
  return extent - first < block ? extent - first : block;
}

/// The rows of tile `tile`. Rows past the end repeat the last one, so inner loops have no branch; their results are dropped.
template <int R>
struct row_tile {
  struct numbers {
    index_t first;
    int count;
    GRAFT_FN index_t operator[](index_t t) const { return first + (t < count ? t : count - 1); }
  };
  int count;
  numbers row;

  GRAFT_FN row_tile(index_t tile, index_t rows)
      : count(static_cast<int>(tile_extent(rows, tile * R, R))), row{tile * R, count} {}
};

/// f(t) for t < count <= R, by a loop that unrolls: what is indexed by t stays in registers.
template <int R, class F>
GRAFT_FN void each_row(int count, F const& f) {
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
  for (int t = 0; t < R; ++t)
    if (t < count) f(t);
}

/// Ranks and columns of a team where a league runs over them too: enough for sixteen groups, and for all lanes.
inline constexpr index_t rank_tile = 16;
inline constexpr index_t column_tile = 256;

/// Tile `tile` of a league over rows and, within them, over blocks of another extent: its rows, and [first, first + count).
template <int R>
struct grid_tile {
  row_tile<R> rows;
  index_t first;
  index_t count;

  GRAFT_FN grid_tile(index_t tile, index_t all_rows, index_t extent, index_t block)
      : grid_tile(quotient(tile, tiles(extent, block)), tile, all_rows, extent, block) {}

 private:
  GRAFT_FN grid_tile(index_t row, index_t tile, index_t all_rows, index_t extent, index_t block)
      : rows(row, all_rows),
        first((tile - row * tiles(extent, block)) * block),
        count(tile_extent(extent, first, block)) {}
};

/// Rows whose elements lie side by side can be read four at a time, where each four is aligned to its size. Not fp64.
template <class V>
GRAFT_FN bool is_packed(V const& v) {
  if constexpr (V::rank() != 2 || !unit_stride_in<V, 1> || sizeof(typename V::value_type) > 4) return false;
  else {
    constexpr index_t four = 4 * sizeof(typename V::value_type);
    return reinterpret_cast<std::uintptr_t>(v.data_handle()) % four == 0 && v.stride(0) % 4 == 0;
  }
}
/// v(i, k), ..., v(i, k + 3) of a packed view, k a multiple of four.
template <class Accumulate, class V>
GRAFT_FN void load_four(V const& v, index_t i, index_t k, Accumulate (&out)[4]) {
#if defined(__CUDA_ARCH__)
  using value = typename V::value_type;
  struct alignas(4 * sizeof(value)) four {
    value element[4];
  };
  four const all = *reinterpret_cast<four const*>(&v(i, k));
  for (int l = 0; l < 4; ++l) out[l] = load_as<Accumulate>(all.element[l]);
#else
  for (int l = 0; l < 4; ++l) out[l] = load_as<Accumulate>(v(i, k + l));
#endif
}

/// Terms of a sum: elements of row `row`, or of the rows of a tile.
template <class Accumulate, class V>
struct row_terms {
  V v;
  index_t row;
  GRAFT_FN Accumulate operator()(index_t k) const { return load_as<Accumulate>(v(row, k)); }
  [[nodiscard]] GRAFT_FN bool packed() const { return is_packed(v); }
  GRAFT_FN void four(index_t k, Accumulate (&out)[4]) const { load_four(v, row, k, out); }
  /// Of a tile of one row.
  GRAFT_FN Accumulate operator()(int, index_t k) const { return (*this)(k); }
  GRAFT_FN void four(int, index_t k, Accumulate (&out)[4]) const { four(k, out); }
};
template <class Accumulate, class V, int R>
struct tile_terms {
  V v;
  row_tile<R> tile;
  GRAFT_FN Accumulate operator()(int t, index_t k) const { return load_as<Accumulate>(v(tile.row[t], k)); }
  [[nodiscard]] GRAFT_FN bool packed() const { return is_packed(v); }
  GRAFT_FN void four(int t, index_t k, Accumulate (&out)[4]) const { load_four(v, tile.row[t], k, out); }
};
template <class Accumulate, class V>
[[nodiscard]] GRAFT_FN row_terms<Accumulate, V> terms_of(V const& v, index_t row) {
  return {v, row};
}
template <class Accumulate, class V, int R>
[[nodiscard]] GRAFT_FN tile_terms<Accumulate, V, R> terms_of(V const& v, row_tile<R> const& tile) {
  return {v, tile};
}

/// A square of a norm by the Gram expansion, and whether it may be used: not where its terms cancel, and not near the ends of
/// the range.
template <class Accumulate>
struct squared_norm {
  Accumulate value;
  bool sound;
};

inline namespace GRAFT_TARGET {

/// sum[t] = sum over k < n of w(k) x(t, k), by one group of lanes.
template <class Team, class Accumulate, int R, class W, class X>
GRAFT_FN void sum_long_axis(Team const& tm, index_t n, W const& w, X const& x, Accumulate (&sum)[R]) {
  for (int t = 0; t < R; ++t) sum[t] = Accumulate{0};
  for (index_t k0 = 0; k0 < n; k0 += kernels::chunk) {
    Accumulate part[R];
    tm.dot(k0, k0 + kernels::chunk < n ? k0 + kernels::chunk : n, w, x, part);
    for (int t = 0; t < R; ++t) sum[t] = k0 == 0 ? part[t] : sum[t] + part[t];
  }
}

/// *sum = sum over k < n of w(k) x(k), the long axis by one group of lanes. All of the team see it.
template <class Team, class Accumulate, class W, class X>
GRAFT_FN void dot_by_group(Team const& tm, index_t n, W const& w, X const& x, Accumulate* sum) {
  tm.groups(1, [&](index_t) {
    Accumulate of_terms[1];
    sum_long_axis(tm, n, w, [&](int, index_t k) { return x(k); }, of_terms);
    tm.once([&] { *sum = of_terms[0]; });
  });
  tm.barrier();
}

/// sum[t] <- sum[t] + sum over j < r of v(t, j) w(j), by one lane.
template <class Accumulate, int R, class V, class W>
GRAFT_FN void chain_short_axis(index_t r, V const& v, W const& w, Accumulate (&sum)[R]) {
  for (index_t j0 = 0; j0 < r; j0 += kernels::chunk) {
    index_t const j1 = j0 + kernels::chunk < r ? j0 + kernels::chunk : r;
    Accumulate part[R];
    for (int t = 0; t < R; ++t) part[t] = j0 == 0 ? sum[t] : Accumulate{0};
    index_t j = j0;
    if constexpr (comes_in_fours<W>)
      if (w.packed())
        for (; j + 4 <= j1; j += 4) {
          Accumulate f[4];
          w.four(j, f);
          for (int l = 0; l < 4; ++l)
            for (int t = 0; t < R; ++t) part[t] = std::fma(v(t, j + l), f[l], part[t]);
        }
    for (; j < j1; ++j) {
      Accumulate const f = w(j);
      for (int t = 0; t < R; ++t) part[t] = std::fma(v(t, j), f, part[t]);
    }
    for (int t = 0; t < R; ++t) sum[t] = j0 == 0 ? part[t] : sum[t] + part[t];
  }
}

/// Numbers side by side.
struct plain_vector {
  float const* data;
  GRAFT_FN float operator()(index_t j) const { return data[j]; }
};

/// |w|^2 + 2 s b.u + s^2 b.p with u = A w, p = (A A^T) b and lengths(j) = |a_j|. Its error is that of its dots, at most
/// (|w| + |s| sum of |b_j| |a_j|)^2 eps each: sound where it is at least a sixteenth of that square.
template <class Accumulate, class B, class L>
GRAFT_FN squared_norm<Accumulate> expanded_norm(Accumulate ww, Accumulate const* u, Accumulate const* p, B const& b,
                                                L const& lengths, index_t r, Accumulate s) {
  constexpr Accumulate tiny = std::is_same_v<Accumulate, float> ? Accumulate(0x1p-96) : Accumulate(0x1p-960);
  Accumulate sum{0};
  Accumulate size{0};
  for (index_t j = 0; j < r; ++j) {
    Accumulate const bj = b(j);
    sum = std::fma(bj, std::fma(s, p[j], u[j] + u[j]), sum);
    size = std::fma(std::fabs(bj), lengths(j), size);
  }
  Accumulate const value = std::fma(s, sum, ww);
  Accumulate const all = std::fma(std::fabs(s), size, std::sqrt(ww));
  return {value, value >= Accumulate(0.0625) * (all * all) && value > tiny &&
                     value <= (std::numeric_limits<Accumulate>::max)()};
}

}  // namespace GRAFT_TARGET
}  // namespace detail
}  // namespace graft::inline GRAFT_CONTRACT
