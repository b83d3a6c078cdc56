// SPDX-License-Identifier: Apache-2.0
/// @file
/// `make_plan`: a stable counting sort of pairs by expert. Three leagues: counts of chunks of tokens, one scan over experts and
/// chunks, every pair to its row. Memory-bound; the generic body is the body.
#pragma once

#include <concepts>
#include <cstddef>
#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/count_pairs.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/plan.hpp>
#include <graft/kernels/summation.hpp>

namespace graft::inline GRAFT_CONTRACT {

namespace kernels {
/// Where a plan's drop mask comes from: nothing is dropped and `make_plan` writes it, or it was filled before and is kept.
enum class drops { none, given };
}  // namespace kernels

namespace detail {
inline namespace GRAFT_TARGET {

/// Counts to offsets: of experts, of chunks within them (in place of their counts), and of tiles. Of wide teams a lane has an
/// expert, and one lane adds up over experts what they take.
template <class Space>
struct scan_experts_body {
  static constexpr std::string_view verb = "scan_experts";
  plan<Space> p;
  index_t* counters;
  index_t const* bad;
  index_t chunks;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const experts = p.experts();
    if constexpr (wide_team<Team>) {
      auto* const first_bad = tm.template scratch<index_t>(numbers(experts));
      index_t* const row = first_bad + bad_parts;  // first the rows with padding of each expert, then where they begin
      index_t* const tile = row + experts + 1;     // the same for tiles
      tm.vector(bad_parts, [&](index_t l) {
        first_bad[l] = chunks;
        for (index_t c = l; c < chunks; c += bad_parts)
          if (bad[c * 3] >= 0 && c < first_bad[l]) first_bad[l] = c;
      });
      tm.vector(experts, [&](index_t e) {
        index_t count = 0;
        for (index_t c = 0; c < chunks; ++c) count += counters[c * experts + e];
        p.counts(e) = count;
        row[e] = tiles(count, p.options.alignment) * p.options.alignment;
        tile[e] = p.options.tile > 0 ? tiles(count, p.options.tile) : 0;
      });
      tm.barrier();
      tm.groups(1, [&](index_t) {
        tm.once([&] {
          index_t c = chunks;
          for (index_t l = 0; l < bad_parts; ++l) c = first_bad[l] < c ? first_bad[l] : c;
          tell(c);
          index_t rows = 0;
          index_t all_tiles = 0;
          for (index_t e = 0; e < experts; ++e) {
            index_t const of_rows = row[e];
            index_t const of_tiles = tile[e];
            row[e] = rows;
            tile[e] = all_tiles;
            rows += of_rows;
            all_tiles += of_tiles;
          }
          row[experts] = rows;
          tile[experts] = all_tiles;
        });
      });
      tm.barrier();
      tm.vector(experts + 1, [&](index_t e) { p.offsets(e) = row[e]; });
      tm.vector(experts, [&](index_t e) {
        index_t const end = begin_chunks(e, row[e]);
        write_tiles(e, row[e], end, tile[e]);
        for (index_t r = end; r < row[e + 1]; ++r) pad(r);
      });
      index_t const rows = row[experts];
      index_t const all_tiles = tile[experts];
      auto const left = [](index_t extent, index_t used) { return used < extent ? extent - used : 0; };
      tm.vector(left(p.permutation.extent(0), rows), [&](index_t i) { pad(rows + i); });
      tm.vector(left(p.tile_rows.extent(0), all_tiles), [&](index_t i) { no_tile(all_tiles + i); });
    } else {
      tm.groups(1, [&](index_t) {
        tm.once([&] {
          index_t first_bad = 0;
          while (first_bad < chunks && bad[first_bad * 3] < 0) ++first_bad;
          tell(first_bad);
          index_t row = 0;
          index_t tile = 0;
          for (index_t e = 0; e < experts; ++e) {
            p.offsets(e) = row;
            index_t const begin = row;
            row = begin_chunks(e, row);
            p.counts(e) = row - begin;
            tile = write_tiles(e, begin, row, tile);
            for (index_t const end = tiles(row, p.options.alignment) * p.options.alignment; row < end; ++row) pad(row);
          }
          p.offsets(experts) = row;
          for (; row < p.permutation.extent(0); ++row) pad(row);
          for (; tile < p.tile_rows.extent(0); ++tile) no_tile(tile);
        });
      });
    }
  }
  /// Bytes of a team, where teams are wide.
  static std::size_t scratch(index_t experts) { return sizeof(index_t) * static_cast<std::size_t>(numbers(experts)); }

 private:
  static constexpr index_t bad_parts = 32;
  [[nodiscard]] GRAFT_FN static constexpr index_t numbers(index_t experts) { return bad_parts + 2 * experts + 2; }

  /// What was wrong in chunk c, or nothing behind the last.
  GRAFT_FN void tell(index_t c) const {
    p.status(0) = -1;
    for (index_t i = 1; i < 4; ++i) p.status(i) = p.experts();
    for (index_t i = 0; i < 3 && c < chunks; ++i) p.status(i) = bad[c * 3 + i];
  }
  /// Counts of expert e to the rows where chunks begin, eight at a time, so that loads need not wait for stores. Returns the row
  /// behind the last.
  GRAFT_FN index_t begin_chunks(index_t e, index_t row) const {
    constexpr int eight = 8;
    index_t const experts = p.experts();
    for (index_t c = 0; c < chunks; c += eight) {
      index_t* const of = counters + c * experts + e;
      auto const there = static_cast<int>(tile_extent(chunks, c, eight));
      index_t count[eight]{};  // g++ 12 at -O3 believes that some are not set
      each_row<eight>(there, [&](int i) { count[i] = of[i * experts]; });
      each_row<eight>(there, [&](int i) {
        of[i * experts] = row;
        row += count[i];
      });
    }
    return row;
  }
  /// Tiles of the rows [begin, end) of expert e. Returns the tile behind the last.
  GRAFT_FN index_t write_tiles(index_t e, index_t begin, index_t end, index_t tile) const {
    if (p.options.tile > 0)
      for (index_t r = begin; r < end && tile < p.tile_rows.extent(0); r += p.options.tile, ++tile) {
        p.tile_experts(tile) = e;
        p.tile_rows(tile) = r;
      }
    return tile;
  }
  GRAFT_FN void no_tile(index_t tile) const { p.tile_experts(tile) = p.tile_rows(tile) = -1; }
  GRAFT_FN void pad(index_t row) const {
    if (row < p.permutation.extent(0)) p.permutation(row) = p.row_tokens(row) = -1;
  }
};

/// Every pair to its row. Of wide teams a lane places the pairs of its expert, in order.
template <class A, class Space>
struct place_pairs_body {
  static constexpr std::string_view verb = "place_pairs";
  pair_sweep<A> sweep;
  plan<Space> p;
  index_t* cursors;
  bool keeps_drops;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    // Copies, which no store can reach: what they hold stays in registers.
    pair_sweep<A> const of = sweep;
    index_t* const mine = cursors + tm.league_rank() * of.experts;
    index_t* const permutation = p.permutation.data_handle();
    index_t* const row_tokens = p.row_tokens.data_handle();
    index_t* const inverse = p.inverse.data_handle();
    index_t const rows = p.permutation.extent(0);
    std::uint8_t const* const dropped = keeps_drops ? p.dropped.data_handle() : nullptr;
    index_t const first = tm.league_rank() * of.chunk;
    index_t const last = first + tile_extent(of.tokens, first, of.chunk);
    if (p.has_wrong_offsets()) {  // no pair has a row
      if (tm.league_rank() == 0) tm.vector(p.pairs(), [&](index_t i) { inverse[i] = -1; });
      return;
    }
    auto const is_placed = [&](index_t pair, index_t id) {
      return id >= 0 && id < of.experts && (dropped == nullptr || dropped[pair] == 0);
    };
    auto const place = [&](index_t pair, index_t t, index_t row) {
      if (row >= rows) row = -1;  // of wrong offsets, which `status` tells
      inverse[pair] = row;
      if (row < 0) return;
      permutation[row] = pair;
      row_tokens[row] = t;
    };
    if constexpr (wide_team<Team>) {
      tm.vector(of.experts, [&](index_t e) {
        index_t row = mine[e];
        for (index_t t = first; t < last; ++t)
          of(t, [&](index_t pair, index_t, index_t id) {
            if (id == e && is_placed(pair, id)) place(pair, t, row++);
          });
      });
      tm.vector(last - first, [&](index_t i) {
        of(first + i, [&](index_t pair, index_t, index_t id) {
          if (!is_placed(pair, id)) inverse[pair] = -1;
        });
      });
    } else {
      tm.groups(1, [&](index_t) {
        tm.once([&] {
          for (index_t t = first; t < last; ++t)
            of(t, [&](index_t pair, index_t, index_t id) { place(pair, t, is_placed(pair, id) ? mine[id]++ : -1); });
        });
      });
    }
    if (keeps_drops || first >= last) return;
    // Pairs of a chunk follow each other.
    index_t const begin = p.pair_begin(first);
    tm.vector(p.pair_begin(last) - begin, [&](index_t i) { p.dropped(begin + i) = 0; });
  }
  [[nodiscard]] index_t lanes() const { return sweep.experts < 64 ? 64 : sweep.experts; }
};

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// Fills the plan p: pairs in the order of (expert, pair), counts, offsets, the way back, the drop mask, the tile table.
///
/// Shapes       assigned: ids[T, k] of std::int32_t or std::int64_t in any strides, or a ragged_assignment; p as `plan_in`
///              lays it out. -1 names no expert. Index arithmetic is 64 bits wide: T k may exceed 2^31.
/// Drops        `drops::given` leaves out the pairs that p.dropped names already (routing/capacity.hpp fills it).
/// Aliasing     p's views may not overlap each other or the assignment.
/// Determinism  stable, so a function of the assignment: equal for every executor and number of threads.
/// Cost         O(T k + E): the ids are read twice, 33 bytes a pair and 16 an expert written. Wide teams compare each pair with each
///              expert, twice, lanes side by side.
/// Scratch      `make_plan.scratch_bytes(ex, assigned, p)` from the executor's resource: 8 E bytes a chunk of tokens,
///              one for each thread (256 on devices) at most, and never more chunks than pairs / E. On devices also 16 E + 272 bytes a
///              team.
/// Errors       shape_error, argument_error: nothing is written then. data_error: an id outside [-1, E) or offsets that do not
///              rise from 0 to the number of ids; names the lowest such token. Executors of the host's memory look at once, and p
///              is unspecified then; others write p.status, for `check`, and count such a pair for none.
struct make_plan_fn {
  template <class E, class A, class Space>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::make_plan", E)
    static_assert(assignment<A>,
                  "graft::kernels::make_plan: an assignment is a view ids[T, k] of std::int32_t or std::int64_t, or "
                  "graft::ragged_assignment{offsets, ids} with offsets of std::int64_t");
    GRAFT_MANDATE_PLAN("kernels::make_plan", E, Space)
    if constexpr (assignment<A>)
      static_assert(
          !executor<E> || can_access<E, A>,
          "graft::kernels::make_plan: ids lie in a memory space that this executor cannot touch; use an executor of "
          "that space");
    if constexpr (executor<E> && assignment<A>) return can_access<E, plan<Space>> && can_access<E, A>;
    else return false;
  }

  template <class E, class A, class Space>
  void operator()(E const& ex, A const& assigned, plan<Space> const& p, drops given = drops::none) const {
    if constexpr (mandates<E, A, Space>()) {
      using namespace graft::detail;
      expects(assigned, p);
      index_t const chunks = plan_chunks(ex, p.tokens, p.pairs(), p.experts());
      pair_sweep<A> const sweep{assigned, p.tokens, p.pairs(), p.experts(), tiles(p.tokens, chunks)};
      call_scratch const memory(ex, counters_bytes(ex, p));
      auto* const bad = reinterpret_cast<index_t*>(memory.data());
      index_t* const counters = bad + 3 * chunks;
      bool const keeps = given == drops::given;
      ex.league(chunks, 0, count_pairs_body<A>{sweep, counters, bad, keeps ? p.dropped.data_handle() : nullptr});
      using scan_body = scan_experts_body<Space>;
      ex.league(1, scan_bytes<E>(p), scan_body{p, counters, bad, chunks});
      if constexpr (std::same_as<typename E::space_type, host_space>) {
        ex.fence();
        graft::check(p.status);
      }
      ex.league(chunks, 0, place_pairs_body<A, Space>{sweep, p, counters, keeps});
      if constexpr (std::same_as<typename E::space_type, host_space>) ex.fence();
    }
  }

  /// Bytes that a call takes from the executor's resource, at most at one time.
  template <executor E, assignment A, class Space>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, A const&, plan<Space> const& p) const {
    std::size_t const counters = counters_bytes(ex, p);
    std::size_t const of_team = graft::detail::league_bytes(ex, 1, scan_bytes<E>(p));
    return of_team == 0 ? counters : graft::detail::scratch_block::rounded(counters) + of_team;
  }

 private:
  template <class E, class Space>
  [[nodiscard]] static std::size_t counters_bytes(E const& ex, plan<Space> const& p) {
    using graft::detail::checked_product;
    index_t const chunks = graft::detail::plan_chunks(ex, p.tokens, p.pairs(), p.experts());
    return sizeof(index_t) * static_cast<std::size_t>(checked_product(chunks, p.experts() + 3, "kernels::make_plan"));
  }
  template <class E, class Space>
  [[nodiscard]] static std::size_t scan_bytes(plan<Space> const& p) {
    return graft::detail::has_wide_teams<E> ? graft::detail::scan_experts_body<Space>::scratch(p.experts()) : 0;
  }
  template <class A, class Space>
  static void expects(A const& assigned, plan<Space> const& p) {
    using graft::detail::raise;
    using graft::detail::text;
    constexpr std::string_view verb = "kernels::make_plan";
    plan_sizes const s = graft::sizes_of_plan(graft::detail::pairs_of(assigned), p.experts(), p.options);
    index_t const tokens = graft::detail::tokens_of(assigned);
    bool fits = p.tokens == tokens && p.pairs() == s.pairs;
    if constexpr (graft::detail::is_ragged<A>)
      fits = fits && p.first_pair.data_handle() == assigned.offsets.data_handle() && assigned.offsets.extent(0) > 0;
    else fits = fits && p.first_pair.data_handle() == nullptr && p.choices == assigned.extent(1);
    if (!fits) [[unlikely]]
      raise(shape_error(text("graft::", verb, ": the plan was laid out for ", p.tokens, " tokens and ", p.pairs(),
                             " pairs of another assignment than that of ", tokens, " tokens and ", s.pairs, " pairs")));
    auto const extent = [&](std::string_view name, auto const& v, index_t expected) {
      if (v.extent(0) != expected || (v.data_handle() == nullptr && expected != 0)) [[unlikely]]
        raise(shape_error(text("graft::", verb, ": ", name, graft::detail::shape_text(v), " of a plan of ", s.pairs,
                               " pairs and ", s.experts, " experts must hold ", expected, " elements")));
    };
    auto const each = [&](auto const& f) {
      f("counts", p.counts, s.experts);
      f("offsets", p.offsets, s.experts + 1);
      f("permutation", p.permutation, s.rows);
      f("row_tokens", p.row_tokens, s.rows);
      f("inverse", p.inverse, s.pairs);
      f("dropped", p.dropped, s.pairs);
      f("tile_experts", p.tile_experts, s.tiles);
      f("tile_rows", p.tile_rows, s.tiles);
      f("status", p.status, 4);
    };
    each(extent);
    each([&](std::string_view name, auto const& v, index_t) {
      auto const apart = [&](auto const& ids) {
        graft::detail::expects_data(verb, "ids", ids);
        graft::detail::expects_disjoint(verb, name, v, "ids", ids);
      };
      if constexpr (graft::detail::is_ragged<A>) apart(assigned.ids);
      else apart(assigned);
    });
  }
};
inline constexpr make_plan_fn make_plan{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
