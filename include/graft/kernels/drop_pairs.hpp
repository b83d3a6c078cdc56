// SPDX-License-Identifier: Apache-2.0
/// @file
/// `drop_pairs`: which pairs of a plan have no room in their expert, in any of the orders that routers use. The generic body is
/// the body.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/detail/philox.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/dispatch.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/plan.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// In which order the pairs of an expert take its places; those that come too late are dropped. Ties: the lower pair first.
enum class drop_order {
  token,        ///< Token by token, and choice by choice of one (Switch).
  choice,       ///< All first choices token by token, then all second choices, ... (GShard).
  probability,  ///< The highest score first; NaN last.
  batch_priority,  ///< First choices before second ones as `choice`, among them tokens of the highest largest score (V-MoE).
  random           ///< By Philox numbers of (seed, stream, pair).
};

/// At most `limit` pairs an expert in each group of `group` tokens (0: all are one group).
struct drop_rule {
  index_t limit = 0;
  index_t group = 0;
  drop_order order = drop_order::token;
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
};

namespace detail {
inline namespace GRAFT_TARGET {

/// Unsigned numbers in the order of falling scores: NaN last, -0 as +0.
GRAFT_FN std::uint64_t falling(float score) {
  if (score != score) return 0xffffffffU;
  auto const u = std::bit_cast<std::uint32_t>(score + 0.0F);
  return (u & 0x80000000U) != 0 ? u : ~(u | 0x80000000U);
}
GRAFT_FN std::uint64_t falling(double score) {
  if (score != score) return ~std::uint64_t{0};
  auto const u = std::bit_cast<std::uint64_t>(score + 0.0);
  constexpr std::uint64_t sign = std::uint64_t{1} << 63U;
  return (u & sign) != 0 ? u : ~(u | sign);
}

/// Every so-many-th expert a team. What stays is found by counting: choices first, then the bytes of a key from the highest down. Of
/// wide teams lanes count segments of rows, and the bits of a key are found one by one.
template <class Space, class Scores, class Positions, class Accumulate>
struct drop_pairs_body {
  static constexpr std::string_view verb = "drop_pairs";
  static constexpr bool scored = !std::is_same_v<Scores, pair_values<void>>;
  static constexpr bool placed = !std::is_same_v<Positions, pair_values<void>>;
  plan<Space> p;
  drop_rule rule;
  Scores scores;
  Positions positions;
  index_t teams;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t* const counters = tm.template scratch<index_t>(256);
    for (index_t e = tm.league_rank(); e < p.experts(); e += teams) run(tm, e, counters);
    if constexpr (placed) no_positions(tm);
  }
  [[nodiscard]] static constexpr index_t lanes() { return segments; }

 private:
  /// Of rows, as many as there are lanes at most.
  static constexpr index_t segments = 64;

  template <class Team>
  GRAFT_FN void run(Team const& tm, index_t expert, index_t* counters) const {
    index_t const end = p.offsets(expert) + p.counts(expert);
    for (index_t first = p.offsets(expert), last = first; first < end; first = last) {
      last = rule.group == 0 ? end : end_of_group(first, end);
      if constexpr (wide_team<Team>) {
        place_by_lanes(tm, first, last, counters);
        if (last - first > rule.limit) drop_by_lanes(tm, first, last, counters);
      } else {
        tm.groups(1, [&](index_t) {
          tm.once([&] {
            place(first, last);
            if (last - first > rule.limit) drop(first, last, counters);
          });
        });
      }
    }
  }
  /// The first row behind those of the group of row `first`: tokens of an expert rise.
  [[nodiscard]] GRAFT_FN index_t end_of_group(index_t first, index_t end) const {
    index_t const next_group = (p.row_tokens(first) / rule.group + 1) * rule.group;
    while (first < end) {
      index_t const middle = first + (end - first) / 2;
      if (p.row_tokens(middle) < next_group) first = middle + 1;
      else end = middle;
    }
    return first;
  }
  GRAFT_FN index_t choice(index_t row) const { return p.permutation(row) - p.pair_begin(p.row_tokens(row)); }
  GRAFT_FN bool by_choice() const {
    return rule.order == drop_order::choice || rule.order == drop_order::batch_priority;
  }

  /// Bits of a key.
  [[nodiscard]] GRAFT_FN int key_bits() const {
    return rule.order == drop_order::token || rule.order == drop_order::choice ? 0
           : rule.order == drop_order::random || sizeof(Accumulate) == 4       ? 32
                                                                               : 64;
  }

  /// Of rows [first, last), more than the limit.
  GRAFT_FN void drop(index_t first, index_t last, index_t* counters) const {
    index_t left = rule.limit;
    index_t split = 0;  // earlier choices stay, later ones do not
    if (by_choice())
      for (;; ++split) {
        index_t of_choice = 0;
        for (index_t r = first; r < last; ++r) of_choice += choice(r) == split ? 1 : 0;
        if (of_choice > left) break;
        left -= of_choice;
      }
    auto const contends = [&](index_t r) { return !by_choice() || choice(r) == split; };
    int const bits = key_bits();
    std::uint64_t key = 0;  // the first key that does not stay whole; `left` of its rows do
    for (int d = bits - 8; d >= 0; d -= 8) {
      for (int i = 0; i < 256; ++i) counters[i] = 0;
      for (index_t r = first; r < last; ++r)
        if (contends(r)) {
          std::uint64_t const k = key_of(r);
          if (d + 8 == bits || k >> static_cast<unsigned>(d + 8) == key >> static_cast<unsigned>(d + 8))
            ++counters[k >> static_cast<unsigned>(d) & 255U];
        }
      std::uint64_t byte = 0;
      for (; counters[byte] <= left; ++byte) left -= counters[byte];
      key |= byte << static_cast<unsigned>(d);
    }
    for (index_t r = first; r < last; ++r) {
      bool stays = by_choice() && choice(r) < split;
      if (contends(r)) {
        std::uint64_t const k = bits == 0 ? 0 : key_of(r);
        stays = k < key || (k == key && left-- > 0);
      }
      if (!stays) p.dropped(p.permutation(r)) = 1;
    }
  }

  /// f(i, begin, end) for segments [begin, end) of the rows [first, last), each by one lane.
  template <class Team, class F>
  GRAFT_FN static void each_segment(Team const& tm, index_t first, index_t last, F const& f) {
    index_t const size = tiles(last - first, segments);
    tm.vector(segments, [&](index_t i) {
      index_t const begin = first + i * size;
      f(i, begin < last ? begin : last, begin + size < last ? begin + size : last);
    });
  }
  /// part[i] = the rows r of segment i with is(r), which all lanes see.
  template <class Team, class Is>
  GRAFT_FN static void count_segments(Team const& tm, index_t first, index_t last, index_t* part, Is const& is) {
    each_segment(tm, first, last, [&](index_t i, index_t begin, index_t end) {
      index_t count = 0;
      for (index_t r = begin; r < end; ++r) count += is(r) ? 1 : 0;
      part[i] = count;
    });
    tm.barrier();
  }
  /// The rows in the segments before i.
  [[nodiscard]] GRAFT_FN static index_t before(index_t const* part, index_t i) {
    index_t sum = 0;
#if defined(__CUDA_ARCH__)
#pragma unroll 4
#endif
    for (index_t s = 0; s < i; ++s) sum += part[s];
    return sum;
  }
  template <class Team, class Is>
  [[nodiscard]] GRAFT_FN static index_t count_rows(Team const& tm, index_t first, index_t last, index_t* part,
                                                   Is const& is) {
    count_segments(tm, first, last, part, is);
    index_t const all = before(part, segments);
    tm.barrier();
    return all;
  }

  /// `drop`, by all lanes: each of them knows `left`, `split` and `key`.
  template <class Team>
  GRAFT_FN void drop_by_lanes(Team const& tm, index_t first, index_t last, index_t* part) const {
    index_t left = rule.limit;
    index_t split = 0;
    if (by_choice())
      for (;; ++split) {
        index_t const of_choice = count_rows(tm, first, last, part, [&](index_t r) { return choice(r) == split; });
        if (of_choice > left) break;
        left -= of_choice;
      }
    auto const contends = [&](index_t r) { return !by_choice() || choice(r) == split; };
    int const bits = key_bits();
    std::uint64_t key = 0;
    for (int d = bits - 1; d >= 0; --d) {
      auto const shift = static_cast<unsigned>(d);
      // Those that have the bits found so far, and then a 0.
      index_t const zeros =
          count_rows(tm, first, last, part, [&](index_t r) { return contends(r) && (key_of(r) ^ key) >> shift == 0; });
      if (zeros > left) continue;
      left -= zeros;
      key |= std::uint64_t{1} << shift;
    }
    auto const key_at = [&](index_t r) { return bits == 0 ? 0 : key_of(r); };
    count_segments(tm, first, last, part, [&](index_t r) { return contends(r) && key_at(r) == key; });
    each_segment(tm, first, last, [&](index_t i, index_t begin, index_t end) {
      index_t ties = before(part, i);
      for (index_t r = begin; r < end; ++r) {
        bool stays = by_choice() && choice(r) < split;
        if (contends(r)) {
          std::uint64_t const k = key_at(r);
          stays = k < key || (k == key && ties++ < left);
        }
        if (!stays) p.dropped(p.permutation(r)) = 1;
      }
    });
    tm.barrier();
  }

  /// The smaller the earlier.
  GRAFT_FN std::uint64_t key_of(index_t row) const {
    index_t const pair = p.permutation(row);
    if (rule.order == drop_order::random) return philox_word(rule.seed, rule.stream, pair);
    if constexpr (scored) {
      index_t const t = p.row_tokens(row);
      if (rule.order == drop_order::probability) return falling(load_as<Accumulate>(scores(t, pair)));
      std::uint64_t best = ~std::uint64_t{0};
      for (index_t i = p.pair_begin(t); i < p.pair_begin(t + 1); ++i) {
        std::uint64_t const k = falling(load_as<Accumulate>(scores(t, i)));
        best = k < best ? k : best;
      }
      return best;
    }
    return 0;
  }

  GRAFT_FN void place(index_t first, index_t last) const {
    if constexpr (placed) {
      using value = std::remove_reference_t<decltype(positions(first, first))>;
      index_t next = 0;
      for (index_t s = 0; next < last - first; ++s)
        for (index_t r = first; r < last; ++r)
          if (!by_choice() || choice(r) == s) positions(p.row_tokens(r), p.permutation(r)) = static_cast<value>(next++);
    }
  }
  /// `place`, by all lanes.
  template <class Team>
  GRAFT_FN void place_by_lanes(Team const& tm, index_t first, index_t last, index_t* part) const {
    if constexpr (placed) {
      using value = std::remove_reference_t<decltype(positions(first, first))>;
      auto const put = [&](index_t r, index_t position) {
        positions(p.row_tokens(r), p.permutation(r)) = static_cast<value>(position);
      };
      if (!by_choice()) {
        tm.vector(last - first, [&](index_t i) { put(first + i, i); });
        return;
      }
      index_t next = 0;
      for (index_t s = 0; next < last - first; ++s) {
        count_segments(tm, first, last, part, [&](index_t r) { return choice(r) == s; });
        each_segment(tm, first, last, [&](index_t i, index_t begin, index_t end) {
          index_t position = next + before(part, i);
          for (index_t r = begin; r < end; ++r)
            if (choice(r) == s) put(r, position++);
        });
        next += before(part, segments);
        tm.barrier();
      }
    }
  }
  /// Tokens are shared out over teams.
  template <class Team>
  GRAFT_FN void no_positions(Team const& tm) const {
    index_t const size = tiles(p.tokens, teams);
    index_t const first = tm.league_rank() * size;
    tm.vector(first < p.tokens ? tile_extent(p.tokens, first, size) : 0, [&](index_t at) {
      index_t const t = first + at;
      for (index_t i = p.pair_begin(t); i < p.pair_begin(t + 1); ++i)
        if (p.inverse(i) < 0) positions(t, i) = -1;
    });
  }
};
/// What `drop_pairs` looks at before it writes.
template <class Space, class Scores, class Positions>
void expects_drops(std::string_view verb, plan<Space> const& p, drop_rule const& rule, Scores const& scores,
                   Positions const& positions) {
  bool const by_score = rule.order == drop_order::probability || rule.order == drop_order::batch_priority;
  if (rule.limit < 0 || rule.group < 0) [[unlikely]]
    raise(argument_error(text("graft::", verb, ": the limit is ", rule.limit, " and the group ", rule.group,
                              " tokens; neither may be negative")));
  if (by_score && std::is_same_v<Scores, none_t>) [[unlikely]]
    raise(argument_error(text("graft::", verb, ": dropping by probability or batch priority takes scores")));
  expects_pairs(verb, "scores", p, scores);
  expects_pairs(verb, "positions", p, positions);
  if constexpr (!std::is_same_v<Positions, none_t>) {
    if (by_score || rule.order == drop_order::random) [[unlikely]]
      raise(argument_error(text("graft::", verb, ": positions are those of the orders token and choice")));
    expects_output(verb, "positions", positions);
  }
}
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// p.dropped[pair] = 1 where the pair's expert has rule.limit pairs of its group before it; `make_plan(..., drops::given)` then
/// leaves these out. p holds all pairs: it comes from `make_plan` without drops.
///
/// Shapes       scores[T, k] (of a ragged plan scores[pairs]) in, for probability and batch_priority, else `none`. positions of the same
///              shape out, or `none`: the place of each pair in its expert's order in its group, from 0, also of those dropped; -1 where
///              no expert is named. std::int32_t or std::int64_t; for the orders token and choice only.
/// Determinism  a function of the assignment, the scores and (seed, stream): equal for every executor and number of threads.
/// Cost         experts with room: one pass over their tokens. Others: token 1, choice k, probability and random 4 passes over their
///              pairs (8 for fp64 scores), batch_priority k + 4 with k scores read a pair. Nothing is sorted.
///              Wide teams make 32 passes (64) in place of 4 (8), lanes side by side.
/// Scratch      2 KiB a thread.
/// Errors       shape_error, argument_error (no scores, a negative limit or group); nothing is written then.
/// Source       Fedus et al. 2021; Lepikhin et al. 2020; Riquelme et al. 2021.
struct drop_pairs_fn {
  template <class E, class Space, class Scores, class Positions>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::drop_pairs", E)
    GRAFT_MANDATE_PLAN("kernels::drop_pairs", E, Space)
    GRAFT_MANDATE_PAIRS("kernels::drop_pairs", "scores", E, Scores)
    constexpr bool integers = graft::detail::id_view_of<Positions, 1> || graft::detail::id_view_of<Positions, 2>;
    static_assert(std::is_same_v<Positions, none_t> || integers,
                  "graft::kernels::drop_pairs: positions are a view of std::int32_t or std::int64_t, or graft::none");
    return graft::detail::accepted_pairs<E, Scores> && (std::is_same_v<Positions, none_t> || integers) &&
           can_access<E, plan<Space>>;
  }

  template <class E, class Space, class Scores = none_t, class Positions = none_t>
  void operator()(E const& ex, plan<Space> const& p, drop_rule const& rule, Scores const& scores = {},
                  Positions const& positions = {}) const {
    if constexpr (mandates<E, Space, Scores, Positions>()) {
      using namespace graft::detail;
      expects_drops("kernels::drop_pairs", p, rule, scores, positions);
      using accumulate = accumulate_t<typename value_of_pairs<Scores>::type>;
      auto of_scores = values_of_pairs(p, scores);
      auto of_positions = values_of_pairs(p, positions);
      // Few pairs are not worth a second thread of a host.
      index_t const most = host_executor<E> ? p.pairs() / 4096 : p.experts();
      index_t const teams = (std::max)(index_t{1}, (std::min)(p.experts(), most));
      ex.league(teams, 256 * sizeof(index_t),
                drop_pairs_body<Space, decltype(of_scores), decltype(of_positions), accumulate>{p, rule, of_scores,
                                                                                                of_positions, teams});
    }
  }
};
inline constexpr drop_pairs_fn drop_pairs{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
