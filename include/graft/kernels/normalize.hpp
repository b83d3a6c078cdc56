// SPDX-License-Identifier: Apache-2.0
/// @file
/// `normalize_rows`: rows to mean 0 and variance 1, or to mean square 1, times a weight; and the way back. LayerNorm (Ba et al.
/// 2016, arXiv 1607.06450) and RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467), as PyTorch and transformers compute them.
#pragma once

#include <cmath>
#include <cstddef>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/elements.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {
/// out(t, sum over k < n of w(t, k) v(t, k)) for t < rows, the long axis: a chunk of a row a group. part[rows, chunks] is room
/// for them. All of the team see what `out` wrote.
template <class Team, class Accumulate, class W, class V, class Out>
GRAFT_FN void sum_rows_by_chunks(Team const& tm, int rows, index_t n, W const& w, V const& v, Accumulate* part,
                                 Out const& out) {
  index_t const chunks = tiles(n, kernels::chunk);
  tm.groups(rows * chunks, [&](index_t e) {
    index_t const t = e / chunks;
    index_t const first = e % chunks * kernels::chunk;
    Accumulate sum[1];
    tm.dot(
        first, first + tile_extent(n, first, kernels::chunk), [&](index_t k) { return w(t, k); },
        [&](int, index_t k) { return v(t, k); }, sum);
    tm.once([&] { part[e] = sum[0]; });
  });
  tm.barrier();
  tm.vector(rows, [&](index_t t) {
    Accumulate sum = part[t * chunks];
    for (index_t c = 1; c < chunks; ++c) sum = sum + part[t * chunks + c];
    out(t, sum);
  });
  tm.barrier();
}

/// Of a row: its mean (0 where rows are not centred) and 1 / sqrt(variance + eps), then the means of g and g h in the backward.
template <class Accumulate>
struct row_moments {
  Accumulate mean;
  Accumulate deviation;
  Accumulate g;
  Accumulate gh;
};
/// Bytes of a team: the moments of its rows, and the sums of their chunks.
template <class Accumulate>
[[nodiscard]] std::size_t moments_bytes(int rows, index_t n) {
  return static_cast<std::size_t>(rows) *
         (sizeof(row_moments<Accumulate>) + sizeof(Accumulate) * static_cast<std::size_t>(tiles(n, kernels::chunk)));
}
/// The first two of them.
template <bool Centred, class Accumulate, class Team, class X, int R>
GRAFT_FN void find_moments(Team const& tm, X const& x, row_tile<R> const& tile, double eps, Accumulate* part,
                           row_moments<Accumulate>* of) {
  auto const n = static_cast<Accumulate>(x.extent(1));
  auto const element = [&](index_t t, index_t k) { return load_as<Accumulate>(x(tile.row[t], k)); };
  if constexpr (Centred)
    sum_rows_by_chunks(
        tm, tile.count, x.extent(1), [](index_t, index_t) { return Accumulate{1}; }, element, part,
        [&](index_t t, Accumulate sum) { of[t].mean = sum / n; });
  auto const centred = [&](index_t t, index_t k) { return element(t, k) - (Centred ? of[t].mean : Accumulate{0}); };
  sum_rows_by_chunks(tm, tile.count, x.extent(1), centred, centred, part, [&](index_t t, Accumulate sum) {
    if constexpr (!Centred) of[t].mean = Accumulate{0};
    of[t].deviation = Accumulate{1} / std::sqrt(sum / n + static_cast<Accumulate>(eps));
  });
}

/// Generic body: a tile of rows a team.
template <class X, class W, class B, class Y, class Accumulate, bool Centred>
struct normalize_body {
  static constexpr std::string_view verb = "normalize_rows";
  X x;
  W weight;
  B bias;
  double eps;
  Y y;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    row_tile<Team::row_block> const tile(tm.league_rank(), x.extent(0));
    auto* const of = tm.template scratch<row_moments<Accumulate>>(Team::row_block);
    find_moments<Centred>(tm, x, tile, eps, reinterpret_cast<Accumulate*>(of + Team::row_block), of);
    pass_over_rows(
        tm, tile, 0, x.extent(1),
        [&](index_t i, index_t k) {
          row_moments<Accumulate> const& row = of[i - tile.row.first];
          Accumulate const normal = (load_as<Accumulate>(x(i, k)) - row.mean) * row.deviation;
          Accumulate const w = load_as<Accumulate>(weight(k));
          if constexpr (std::is_same_v<B, none_t>) return normal * w;
          else return std::fma(normal, w, load_as<Accumulate>(bias(k)));
        },
        [&](index_t i, index_t k, Accumulate element) { store_element(y, i, k, element); });
  }
};

/// Generic body: a tile of rows a team. kept[T, 2], mean and 1 / deviation, are for the parameters' gradients. With h the
/// normalized row and g = dy w: dx += (g - mean(g) - h mean(g h)) rstd, without mean(g) where rows are not centred.
template <class X, class W, class DY, class DX, class Accumulate, bool Centred>
struct normalize_backward_body {
  static constexpr std::string_view verb = "normalize_rows_backward";
  X x;
  W weight;
  double eps;
  DY dy;
  DX dx;
  Accumulate* kept;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    row_tile<Team::row_block> const tile(tm.league_rank(), x.extent(0));
    index_t const first = tile.row.first;
    auto const n = static_cast<Accumulate>(x.extent(1));
    auto* const of = tm.template scratch<row_moments<Accumulate>>(Team::row_block);
    auto* const part = reinterpret_cast<Accumulate*>(of + Team::row_block);
    find_moments<Centred>(tm, x, tile, eps, part, of);
    if constexpr (!std::is_same_v<DX, none_t>) {
      auto const normal = [&](index_t t, index_t k) {
        return (load_as<Accumulate>(x(first + t, k)) - of[t].mean) * of[t].deviation;
      };
      auto const g = [&](index_t t, index_t k) {
        return load_as<Accumulate>(dy(first + t, k)) * load_as<Accumulate>(weight(k));
      };
      sum_rows_by_chunks(tm, tile.count, x.extent(1), g, normal, part, [&](index_t t, Accumulate sum) {
        of[t].gh = sum / n;
        of[t].g = Accumulate{0};
      });
      if constexpr (Centred)
        sum_rows_by_chunks(
            tm, tile.count, x.extent(1), g, [](index_t, index_t) { return Accumulate{1}; }, part,
            [&](index_t t, Accumulate sum) { of[t].g = sum / n; });
      pass_over_rows(
          tm, tile, 0, x.extent(1),
          [&](index_t i, index_t k) {
            row_moments<Accumulate> const& row = of[i - first];
            Accumulate const centred = std::fma(load_as<Accumulate>(dy(i, k)), load_as<Accumulate>(weight(k)), -row.g);
            Accumulate const rest = std::fma(-normal(i - first, k), row.gh, centred);
            return std::fma(rest, row.deviation, load_as<Accumulate>(dx(i, k)));
          },
          [&](index_t i, index_t k, Accumulate element) { store_element(dx, i, k, element); });
    }
    tm.vector(tile.count, [&](index_t t) {
      kept[2 * (first + t)] = of[t].mean;
      kept[2 * (first + t) + 1] = of[t].deviation;
    });
  }
};

/// dweight[k] += sum over t of dy h, dbias[k] += sum over t of dy.
template <class X, class DY, class GW, class GB, class Accumulate>
struct normalize_gradients_body {
  static constexpr std::string_view verb = "normalize_rows_backward";
  X x;
  DY dy;
  GW dweight;
  GB dbias;
  Accumulate const* kept;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const first = tm.league_rank() * column_tile;
    tm.vector(tile_extent(x.extent(1), first, column_tile), [&](index_t e) {
      index_t const k = first + e;
      auto const from_above = [&](int, index_t t) { return load_as<Accumulate>(dy(t, k)); };
      if constexpr (!std::is_same_v<GW, none_t>) {
        Accumulate sum[1] = {load_as<Accumulate>(dweight(k))};
        chain_short_axis(
            x.extent(0), from_above,
            [&](index_t t) { return (load_as<Accumulate>(x(t, k)) - kept[2 * t]) * kept[2 * t + 1]; }, sum);
        dweight(k) = store_as<typename GW::value_type>(sum[0]);
      }
      if constexpr (!std::is_same_v<GB, none_t>) {
        Accumulate sum[1] = {load_as<Accumulate>(dbias(k))};
        chain_short_axis(x.extent(0), from_above, [](index_t) { return Accumulate{1}; }, sum);
        dbias(k) = store_as<typename GB::value_type>(sum[0]);
      }
    });
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// layer_norm: y = (x - mean) / sqrt(variance + eps) * weight + bias, row by row, the variance by n. rms_norm: y = x / sqrt(mean of
/// x^2 + eps) * weight.
///
/// Shapes       x[T, n], weight[n], bias[n] (or `none`) in; y[T, n] out. Any strides, any scalars; fp32, or fp64 when one is
///              `double`. n = 0 gives nothing.
/// Order        sums by the long axis (see summation.hpp), the variance of what the mean leaves. A row of y depends on its own row.
/// Aliasing     y may be x itself; else it may not overlap x, weight or bias.
/// Precision    the sums' (n / 16 + 20) eps beside the magnitudes they have, and one rounding to y's type.
/// Cost         about 7 T n flops (rms_norm 4); x is read three times (twice), from caches.
/// Errors       shape_error, argument_error; nothing is written then.
template <bool Centred>
struct normalize_fn {
  template <class E, class X, class W, class B, class Y>
  void operator()(E const& ex, X const& x, W const& weight, B const& bias, double eps, Y const& y) const {
    GRAFT_MANDATE_EXECUTOR("kernels::layer_norm, rms_norm", E)
    GRAFT_MANDATE_INPUT("kernels::layer_norm, rms_norm", "x", E, X, 2)
    GRAFT_MANDATE_INPUT("kernels::layer_norm, rms_norm", "weight", E, W, 1)
    if constexpr (!std::is_same_v<B, none_t>) { GRAFT_MANDATE_INPUT("kernels::layer_norm, rms_norm", "bias", E, B, 1) }
    GRAFT_MANDATE_OUTPUT("kernels::layer_norm, rms_norm", "y", E, Y, 2)
    if constexpr (graft::detail::accepted_input<E, X, 2> && graft::detail::accepted_input<E, W, 1> &&
                  (std::is_same_v<B, none_t> || graft::detail::accepted_input<E, B, 1>) &&
                  graft::detail::accepted_output<E, Y, 2>) {
      constexpr std::string_view verb = Centred ? "kernels::layer_norm" : "kernels::rms_norm";
      graft::detail::expects_equal_extents(verb, "weight", weight, 0, "x", x, 1);
      graft::detail::expects_equal_extents(verb, "y", y, 0, "x", x, 0);
      graft::detail::expects_equal_extents(verb, "y", y, 1, "x", x, 1);
      graft::detail::expects_data(verb, "x", x);
      graft::detail::expects_data(verb, "weight", weight);
      graft::detail::expects_output(verb, "y", y);
      if (!graft::detail::is_same_view(x, y)) graft::detail::expects_disjoint(verb, "y", y, "x", x);
      graft::detail::expects_disjoint(verb, "y", y, "weight", weight);
      using base = accumulate_t<typename X::value_type, typename W::value_type, typename Y::value_type>;
      if constexpr (std::is_same_v<B, none_t>) run<base>(ex, x, weight, bias, eps, y);
      else {
        graft::detail::expects_equal_extents(verb, "bias", bias, 0, "x", x, 1);
        graft::detail::expects_data(verb, "bias", bias);
        graft::detail::expects_disjoint(verb, "y", y, "bias", bias);
        run<accumulate_t<base, typename B::value_type>>(ex, x, weight, bias, eps, y);
      }
    }
  }

 private:
  template <class Sums, class E, class X, class W, class B, class Y>
  static void run(E const& ex, X const& x, W const& weight, B const& bias, double eps, Y const& y) {
    if (x.size() == 0) return;
    ex.league(graft::detail::tiles(x.extent(0), E::row_block),
              graft::detail::moments_bytes<Sums>(E::row_block, x.extent(1)),
              graft::detail::normalize_body<X, W, B, Y, Sums, Centred>{x, weight, bias, eps, y});
  }
};
inline constexpr normalize_fn<true> layer_norm{};
inline constexpr normalize_fn<false> rms_norm{};

/// Gradients of `layer_norm` and `rms_norm`, all added to what is there: with h the normalized row and g = dy * weight
///
///     dx += (g - mean(g) - h mean(g h)) / sqrt(variance + eps)        (rms_norm: without mean(g))
///     dweight += sum over tokens of dy * h        dbias += sum over tokens of dy
///
/// Shapes       x[T, n], weight[n], dy[T, n] in; dx[T, n], dweight[n], dbias[n] in and out, `none` for what is not wanted.
/// Order        rows by the long axis, tokens by the short axis (see summation.hpp).
/// Aliasing     nothing that is written may overlap anything else.
/// Cost         about 14 T n flops for dx, 4 T n for the parameters.
/// Scratch      2 T numbers of the sums' type.
/// Errors       shape_error, argument_error; nothing is written then.
template <bool Centred>
struct normalize_backward_fn {
  template <class E, class X, class W, class DY, class GW, class GB, class DX>
  void operator()(E const& ex, X const& x, W const& weight, double eps, DY const& dy, GW const& dweight,
                  GB const& dbias, DX const& dx) const {
    GRAFT_MANDATE_EXECUTOR("kernels::layer_norm_backward, rms_norm_backward", E)
    GRAFT_MANDATE_INPUT("kernels::layer_norm_backward, rms_norm_backward", "x", E, X, 2)
    GRAFT_MANDATE_INPUT("kernels::layer_norm_backward, rms_norm_backward", "weight", E, W, 1)
    GRAFT_MANDATE_INPUT("kernels::layer_norm_backward, rms_norm_backward", "dy", E, DY, 2)
    if constexpr (graft::detail::accepted_input<E, X, 2> && graft::detail::accepted_input<E, W, 1> &&
                  graft::detail::accepted_input<E, DY, 2>) {
      constexpr std::string_view verb = Centred ? "kernels::layer_norm_backward" : "kernels::rms_norm_backward";
      using sums = accumulate_t<accumulate_t<typename X::value_type, typename W::value_type, typename DY::value_type>,
                                value_of<GW>, value_of<GB>, value_of<DX>>;
      graft::detail::expects_equal_extents(verb, "weight", weight, 0, "x", x, 1);
      graft::detail::expects_equal_extents(verb, "dy", dy, 0, "x", x, 0);
      graft::detail::expects_equal_extents(verb, "dy", dy, 1, "x", x, 1);
      graft::detail::expects_data(verb, "x", x);
      graft::detail::expects_data(verb, "weight", weight);
      graft::detail::expects_data(verb, "dy", dy);
      auto const apart = [&](std::string_view name, auto const& out) {
        graft::detail::expects_output(verb, name, out);
        graft::detail::expects_disjoint(verb, name, out, "x", x);
        graft::detail::expects_disjoint(verb, name, out, "weight", weight);
        graft::detail::expects_disjoint(verb, name, out, "dy", dy);
      };
      if constexpr (!std::is_same_v<DX, none_t>) {
        graft::detail::expects_equal_extents(verb, "dx", dx, 0, "x", x, 0);
        graft::detail::expects_equal_extents(verb, "dx", dx, 1, "x", x, 1);
        apart("dx", dx);
      }
      if constexpr (!std::is_same_v<GW, none_t>) {
        graft::detail::expects_equal_extents(verb, "the gradient of weight", dweight, 0, "x", x, 1);
        apart("the gradient of weight", dweight);
        if constexpr (!std::is_same_v<DX, none_t>)
          graft::detail::expects_disjoint(verb, "the gradient of weight", dweight, "dx", dx);
      }
      if constexpr (!std::is_same_v<GB, none_t>) {
        graft::detail::expects_equal_extents(verb, "the gradient of bias", dbias, 0, "x", x, 1);
        apart("the gradient of bias", dbias);
        if constexpr (!std::is_same_v<DX, none_t>)
          graft::detail::expects_disjoint(verb, "the gradient of bias", dbias, "dx", dx);
        if constexpr (!std::is_same_v<GW, none_t>)
          graft::detail::expects_disjoint(verb, "the gradient of bias", dbias, "the gradient of weight", dweight);
      }
      if (x.size() == 0) return;
      graft::detail::call_scratch const memory(ex, scratch_bytes<sums>(x));
      auto* const kept = reinterpret_cast<sums*>(memory.data());
      ex.league(graft::detail::tiles(x.extent(0), E::row_block),
                graft::detail::moments_bytes<sums>(E::row_block, x.extent(1)),
                graft::detail::normalize_backward_body<X, W, DY, DX, sums, Centred>{x, weight, eps, dy, dx, kept});
      if constexpr (!std::is_same_v<GW, none_t> || !std::is_same_v<GB, none_t>)
        ex.league(graft::detail::tiles(x.extent(1), graft::detail::column_tile), 0,
                  graft::detail::normalize_gradients_body<X, DY, GW, GB, sums>{x, dy, dweight, dbias, kept});
    }
  }

  /// Bytes that a call takes from the executor's resource, beside its leagues'.
  template <class Sums, class X>
  [[nodiscard]] static std::size_t scratch_bytes(X const& x) {
    return graft::detail::scratch_block::rounded(2 * sizeof(Sums) * static_cast<std::size_t>(x.extent(0)));
  }

 private:
  template <class V>
  struct value {
    using type = float;
  };
  template <tensor V>
  struct value<V> {
    using type = typename V::value_type;
  };
  template <class V>
  using value_of = typename value<V>::type;
};
inline constexpr normalize_backward_fn<true> layer_norm_backward{};
inline constexpr normalize_backward_fn<false> rms_norm_backward{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
