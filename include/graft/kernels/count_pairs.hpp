// SPDX-License-Identifier: Apache-2.0
/// @file
/// The first league of `make_plan`: pairs of a chunk of tokens, counted by expert.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/scratch.hpp>
#include <graft/kernels/assignment.hpp>
#include <graft/kernels/summation.hpp>

namespace graft::inline GRAFT_CONTRACT::detail {
inline namespace GRAFT_TARGET {

/// Pairs of an assignment, and how its tokens are cut in chunks.
template <class A>
struct pair_sweep {
  A assigned;
  index_t tokens;
  index_t pairs;
  index_t experts;
  index_t chunk;  // tokens of one

  /// f(pair, choice, id) for the pairs of token t. False when their offsets are wrong; such a token has none.
  template <class F>
  GRAFT_FN bool operator()(index_t t, F const& f) const {
    if constexpr (is_ragged<A>) {
      index_t const first = assigned.offsets(t);
      index_t const last = assigned.offsets(t + 1);
      if (first < 0 || last < first || last > pairs || (t == 0 && first != 0) || (t + 1 == tokens && last != pairs))
        return false;
      for (index_t i = first; i < last; ++i) f(i, i - first, static_cast<index_t>(assigned.ids(i)));
    } else {
      index_t const k = assigned.extent(1);
      for (index_t s = 0; s < k; ++s) f(t * k + s, s, static_cast<index_t>(assigned(t, s)));
    }
    return true;
  }
};

/// counters[chunk, expert], and bad[chunk] = the first token of the chunk that is refused, its choice and its id. Of wide teams a
/// lane counts the pairs of its expert, all lanes walk side by side.
template <class A>
struct count_pairs_body {
  static constexpr std::string_view verb = "count_pairs";
  pair_sweep<A> sweep;
  index_t* counters;
  index_t* bad;
  std::uint8_t const* dropped;  // null: none

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    pair_sweep<A> const of = sweep;  // a copy, which no store can reach
    index_t* const mine = counters + tm.league_rank() * of.experts;
    index_t const first = tm.league_rank() * of.chunk;
    index_t const last = first + tile_extent(of.tokens, first, of.chunk);
    if constexpr (wide_team<Team>) {
      tm.vector(of.experts < 1 ? 1 : of.experts, [&](index_t e) {
        index_t count = 0;
        bool right = true;
        for (index_t t = first; t < last; ++t) {
          bool const sound = of(t, [&](index_t pair, index_t, index_t id) {
            right = right && id >= -1 && id < of.experts;
            if (id == e && (dropped == nullptr || dropped[pair] == 0)) ++count;
          });
          right = right && sound;
        }
        if (of.experts > 0) mine[e] = count;
        if (e == 0) find_bad(of, tm.league_rank(), right ? last : first, last);
      });
    } else {
      tm.groups(1, [&](index_t) {
        tm.once([&] {
          bool right = true;
          for (index_t e = 0; e < of.experts; ++e) mine[e] = 0;
          for (index_t t = first; t < last; ++t) {
            bool const sound = of(t, [&](index_t pair, index_t, index_t id) {
              if (id >= 0 && id < of.experts) {
                if (dropped == nullptr || dropped[pair] == 0) ++mine[id];
              } else if (id != -1) right = false;
            });
            right = right && sound;
          }
          find_bad(of, tm.league_rank(), right ? last : first, last);
        });
      });
    }
  }
  [[nodiscard]] index_t lanes() const { return sweep.experts; }

 private:
  /// The first of tokens [first, last) that is refused, or -1, to bad[chunk].
  GRAFT_FN void find_bad(pair_sweep<A> const& of, index_t chunk, index_t first, index_t last) const {
    index_t* const found = bad + chunk * 3;
    found[0] = -1;
    for (index_t t = first; t < last && found[0] < 0; ++t) {
      bool const sound = of(t, [&](index_t, index_t choice, index_t id) {
        if ((id >= -1 && id < of.experts) || found[0] >= 0) return;
        found[0] = t;
        found[1] = choice;
        found[2] = id;
      });
      if (sound) continue;
      found[0] = t;
      found[1] = -1;
      found[2] = of.pairs;
    }
  }
};

/// Chunks of tokens that are counted apart: as many as run at once, but so large that their counters cost less than pairs. On
/// devices, where each lane walks all pairs of its chunk, they are smaller.
template <class E>
[[nodiscard]] index_t plan_chunks(E const& ex, index_t tokens, index_t pairs, index_t experts) {
  index_t at_once = teams_at_once(ex);
  index_t least = 512;
  if constexpr (host_executor<E>) {
    at_once = ex.concurrency();
    least = 4096;
  } else at_once = (std::min)(at_once, index_t{256});  // one lane adds up over chunks
  return (std::max)(index_t{1}, (std::min)({at_once, pairs / (std::max)(least, experts), tokens}));
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT::detail
