// SPDX-License-Identifier: Apache-2.0
/// @file
/// `top_k`: the largest numbers of each row, in order, ties to the lower index. What gates select with.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {

/// An integer that orders as the number does: NaN below -inf, the zeros equal. The least integer is left for what is out.
template <class Accumulate>
using order_key = std::conditional_t<std::is_same_v<Accumulate, double>, std::int64_t, std::int32_t>;
template <class Key>
inline constexpr Key no_key = (std::numeric_limits<Key>::min)();

inline namespace GRAFT_TARGET {

template <class Accumulate>
GRAFT_FN order_key<Accumulate> key_of(Accumulate value) {
  using key = order_key<Accumulate>;
  auto const bits = std::bit_cast<key>(value + Accumulate{0});  // -0 + 0 is +0
  key const ordered = bits < 0 ? bits ^ (std::numeric_limits<key>::max)() : bits;
  return value == value ? ordered : no_key<key> + 1;
}

/// Does index a come before b: the larger key first, then the lower index.
template <class Key>
GRAFT_FN bool comes_before(Key const* key, std::int32_t a, std::int32_t b) {
  return key[a] > key[b] || (key[a] == key[b] && a < b);
}

/// Moves heap[root] down until no index below it comes before it.
template <class Key>
GRAFT_FN void sift_down(Key const* key, std::int32_t* heap, index_t root, index_t size) {
  std::int32_t const moved = heap[root];
  while (2 * root + 1 < size) {
    index_t child = 2 * root + 1;
    if (child + 1 < size && comes_before(key, heap[child + 1], heap[child])) ++child;
    if (comes_before(key, moved, heap[child])) break;
    heap[root] = heap[child];
    root = child;
  }
  heap[root] = moved;
}

/// take(s, i) for the first k indices in order: a heap of n and k times its top, O(n + k log n), by one lane.
template <class Key, class Take>
GRAFT_FN void select_by_heap(Key const* key, std::int32_t* heap, index_t n, index_t k, Take const& take) {
  for (index_t i = 0; i < n; ++i) heap[i] = static_cast<std::int32_t>(i);
  for (index_t i = n / 2 - 1; i >= 0; --i) sift_down(key, heap, i, n);
  for (index_t s = 0; s < k; ++s) {
    take(s, static_cast<index_t>(heap[0]));
    heap[0] = heap[n - 1 - s];
    sift_down(key, heap, 0, n - 1 - s);
  }
}

/// Indices that are put in order by counting how many of them come before each.
inline constexpr index_t counted_run = 64;

/// All n indices in order, by all lanes: runs by counting, then run pairs are merged, in which the place of an index is its place
/// in its own run plus how many of the other one come before it. Returns `order` or `other`, which every lane may read.
template <class Team, class Key>
GRAFT_FN std::int32_t const* sort_by_lanes(Team const& tm, Key const* key, std::int32_t* order, std::int32_t* other,
                                           index_t n) {
  tm.vector(n, [&](index_t i) {
    index_t const first = i / counted_run * counted_run;
    index_t const last = first + tile_extent(n, first, counted_run);
    index_t place = first;
    for (index_t j = first; j < last; ++j)
      if (comes_before(key, static_cast<std::int32_t>(j), static_cast<std::int32_t>(i))) ++place;
    order[place] = static_cast<std::int32_t>(i);
  });
  tm.barrier();
  for (index_t run = counted_run; run < n; run *= 2) {
    tm.vector(n, [&](index_t at) {
      std::int32_t const i = order[at];
      index_t const own = at & ~(run - 1);  // where its run begins: runs are powers of two
      index_t const pair = at & ~(2 * run - 1);
      index_t const others = own == pair ? own + run : pair;
      index_t low = others < n ? others : n;
      index_t const begin = low;
      for (index_t high = low + tile_extent(n, low, run); low < high;) {
        index_t const middle = (low + high) / 2;
        if (comes_before(key, order[middle], i)) low = middle + 1;
        else high = middle;
      }
      other[pair + (at - own) + (low - begin)] = i;
    });
    tm.barrier();
    std::int32_t* const sorted = other;
    other = order;
    order = sorted;
  }
  return order;
}

/// Keys that take the room of the two lists of n indices of `select_in_order`.
template <class Key>
GRAFT_FN constexpr index_t order_room(index_t n) {
  return n * (2 * index_t{sizeof(std::int32_t)} / index_t{sizeof(Key)});
}

/// take(s, i) for the first k indices in order, of keys that all lanes see; `order` holds 2 n. The order is total, so that every way
/// of selecting gives the same: wide teams sort all, O(n log^2 n / lanes), others have one lane with a heap.
template <class Team, class Key, class Take>
GRAFT_FN void select_in_order(Team const& tm, Key const* key, std::int32_t* order, index_t n, index_t k,
                              Take const& take) {
  if constexpr (wide_team<Team>) {
    std::int32_t const* const sorted = sort_by_lanes(tm, key, order, order + n, n);
    tm.vector(k, [&](index_t s) { take(s, static_cast<index_t>(sorted[s])); });
  } else {
    tm.groups(1, [&](index_t) { tm.once([&] { select_by_heap(key, order, n, k, take); }); });
  }
}

/// 1 <= k <= E, and indices fit the heap.
inline void expects_choices(std::string_view verb, index_t k, index_t experts, std::string_view what) {
  if (k < 1 || k > experts) [[unlikely]]
    raise(argument_error(text("graft::", verb, ": k is ", k, " but must be from 1 to the ", experts, " ", what)));
  if (experts > (std::numeric_limits<std::int32_t>::max)()) [[unlikely]]
    raise(argument_error(text("graft::", verb, ": ", experts, " ", what, " are more than 31 bits can number")));
}

/// Generic body: a row a team.
template <class S, class Ids, class V, class Accumulate>
struct top_k_body {
  static constexpr std::string_view verb = "top_k";
  static constexpr bool unbounded_scratch = true;
  S scores;
  Ids ids;
  V values;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const t = tm.league_rank();
    index_t const n = scores.extent(1);
    auto* const key = tm.template scratch<order_key<Accumulate>>(n + order_room<order_key<Accumulate>>(n));
    tm.vector(n, [&](index_t e) { key[e] = key_of(load_as<Accumulate>(scores(t, e))); });
    tm.barrier();
    select_in_order(tm, key, reinterpret_cast<std::int32_t*>(key + n), n, ids.extent(1), [&](index_t s, index_t e) {
      ids(t, s) = static_cast<typename Ids::value_type>(e);
      if constexpr (!std::is_same_v<V, none_t>)
        values(t, s) = store_as<typename V::value_type>(load_as<Accumulate>(scores(t, e)));
    });
  }
  [[nodiscard]] index_t lanes() const { return scores.extent(1); }
  static std::size_t scratch(index_t n) {
    return (sizeof(order_key<Accumulate>) + 2 * sizeof(std::int32_t)) * static_cast<std::size_t>(n);
  }
};

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// ids[t, s] = the index of the s-th largest of row t, values[t, s] = that number.
///
/// Shapes       scores[T, E] in; ids[T, k] (std::int32_t or std::int64_t), values[T, k] or `none` out. Any strides, any scalars.
/// Order        descending; ties to the lower index; -0 and +0 are equal; NaN comes last, after -inf. Indices of a row are distinct.
/// Preconditions  1 <= k <= E < 2^31.
/// Aliasing     outputs may not overlap the scores or each other.
/// Determinism  a row depends on its own row; the order is total, so every executor gives the same.
/// Cost         E + k log E comparisons a row; wide teams sort the row, E (64 + log^2 E / 2). Scratch: 12 E bytes a team (16 E in fp64).
/// Errors       shape_error, argument_error; nothing is written then.
struct top_k_fn {
  template <class E, class S, class Ids, class V>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::top_k", E)
    GRAFT_MANDATE_INPUT("kernels::top_k", "scores", E, S, 2)
    GRAFT_MANDATE_ID_OUTPUT("kernels::top_k", "ids", E, Ids, 2)
    if constexpr (std::is_same_v<V, none_t>)
      return graft::detail::accepted_input<E, S, 2> && graft::detail::accepted_id_output<E, Ids, 2>;
    else {
      GRAFT_MANDATE_OUTPUT("kernels::top_k", "values", E, V, 2)
      return graft::detail::accepted_input<E, S, 2> && graft::detail::accepted_id_output<E, Ids, 2> &&
             graft::detail::accepted_output<E, V, 2>;
    }
  }
  template <class E, class S, class Ids, class V = none_t>
  void operator()(E const& ex, S const& scores, Ids const& ids, V const& values = {}) const {
    if constexpr (mandates<E, S, Ids, V>()) {
      constexpr std::string_view verb = "kernels::top_k";
      graft::detail::expects_choices(verb, ids.extent(1), scores.extent(1), "columns");
      graft::detail::expects_equal_extents(verb, "ids", ids, 0, "scores", scores, 0);
      graft::detail::expects_data(verb, "scores", scores);
      graft::detail::expects_output(verb, "ids", ids);
      graft::detail::expects_disjoint(verb, "ids", ids, "scores", scores);
      if constexpr (!std::is_same_v<V, none_t>) {
        graft::detail::expects_equal_extents(verb, "values", values, 0, "scores", scores, 0);
        graft::detail::expects_equal_extents(verb, "values", values, 1, "ids", ids, 1);
        graft::detail::expects_output(verb, "values", values);
        graft::detail::expects_disjoint(verb, "values", values, "scores", scores);
        graft::detail::expects_disjoint(verb, "values", values, "ids", ids);
      }
      using body = graft::detail::top_k_body<S, Ids, V, accumulate_t<typename S::value_type>>;
      ex.league(scores.extent(0), body::scratch(scores.extent(1)), body{scores, ids, values});
    }
  }
};
inline constexpr top_k_fn top_k{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
