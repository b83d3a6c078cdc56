// SPDX-License-Identifier: Apache-2.0
/// @file
/// Passes over elements: what is written at a place depends on what lies at that place only, so executors may take them in any
/// order, and the bits are the same.
#pragma once

#include <cmath>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/scratch.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/scalar.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {

/// Columns of a team where the executor wants many teams: two elements of each row for each of 256 lanes.
inline constexpr index_t pass_columns = 512;

inline namespace GRAFT_TARGET {

/// write(i, j, read(i, j)) for the rows i of a tile and `count` columns j from `first` on. A lane of a wide team reads its
/// column in all rows before it writes any, so that it waits for memory once.
template <class Team, int R, class Read, class Write>
GRAFT_FN void pass_over_rows(Team const& tm, row_tile<R> const& rows, index_t first, index_t count, Read const& read,
                             Write const& write) {
  if constexpr (wide_team<Team>) {
    if (rows.count * count <= tm.lanes()) {  // few columns: an element a lane
      tm.vector(rows.count * count, [&](index_t e) {
        index_t const i = rows.row[e / count];
        index_t const j = first + e % count;
        write(i, j, read(i, j));
      });
    } else
      tm.vector(count, [&](index_t e) {
        index_t const j = first + e;
        decltype(read(j, j)) element[R] = {};
        each_row<R>(rows.count, [&](int t) { element[t] = read(rows.row.first + t, j); });
        each_row<R>(rows.count, [&](int t) { write(rows.row.first + t, j, element[t]); });
      });
  } else {
    for (int t = 0; t < rows.count; ++t) {
      index_t const i = rows.row.first + t;
      tm.vector(count, [&](index_t e) { write(i, first + e, read(i, first + e)); });
    }
  }
}

/// write(k, read(k)) for k < n. A lane of a wide team reads four elements before it writes any.
template <class Team, class Read, class Write>
GRAFT_FN void pass_over(Team const& tm, index_t n, Read const& read, Write const& write) {
  if constexpr (wide_team<Team>) {
    constexpr int at_once = 4;
    index_t const part = tiles(n, at_once);
    tm.vector(part, [&](index_t e) {
      int const count = static_cast<int>(tiles(n - e, part));
      decltype(read(e)) element[at_once] = {};
      each_row<at_once>(count, [&](int u) { element[u] = read(u * part + e); });
      each_row<at_once>(count, [&](int u) { write(u * part + e, element[u]); });
    });
  } else tm.vector(n, [&](index_t k) { write(k, read(k)); });
}

/// The same by one lane.
template <class Team, class Read, class Write>
GRAFT_FN void pass_in_order(index_t n, Read const& read, Write const& write) {
  constexpr int at_once = wide_team<Team> ? 4 : 1;
#if defined(__CUDA_ARCH__)
#pragma unroll 1
#endif
  for (index_t k = 0; k < n; k += at_once) {
    int const count = n - k < at_once ? static_cast<int>(n - k) : at_once;
    decltype(read(k)) element[at_once] = {};
    each_row<at_once>(count, [&](int u) { element[u] = read(k + u); });
    each_row<at_once>(count, [&](int u) { write(k + u, element[u]); });
  }
}

/// A tile of rows and `block` of the columns a team: pass.write(i, j, pass.read(i, j)).
template <class Pass>
struct pass_body {
  static constexpr std::string_view verb = Pass::verb;
  Pass pass;
  index_t rows;
  index_t columns;
  index_t block;

  /// A column a lane; where there are few, an element of four rows.
  [[nodiscard]] GRAFT_FN constexpr index_t lanes() const { return columns < 32 ? 4 * columns : columns; }

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const cuts = block < columns ? tiles(columns, block) : 1;
    index_t const rank = tm.league_rank();
    row_tile<Team::row_block> const tile(cuts == 1 ? rank : rank / cuts, rows);
    index_t const first = cuts == 1 ? 0 : rank % cuts * block;
    Pass const p = pass;  // what is written cannot change it
    pass_over_rows(
        tm, tile, first, tile_extent(columns, first, block), [&](index_t i, index_t j) { return p.read(i, j); },
        [&](index_t i, index_t j, auto const& element) { p.write(i, j, element); });
  }
};

/// The pass over all of [rows, columns].
template <class E, class Pass>
void run_pass(E const& ex, index_t rows, index_t columns, Pass const& pass) {
  index_t const block = says_teams_at_once<E> && columns > pass_columns ? pass_columns : columns;
  if (columns != 0)
    ex.league(tiles(rows, E::row_block) * tiles(columns, block), 0, pass_body<Pass>{pass, rows, columns, block});
}

/// y(i, j) = element, rounded once.
template <class Y, class Element>
GRAFT_FN void store_element(Y const& y, index_t i, index_t j, Element const& element) {
  if constexpr (std::is_same_v<Element, typename Y::value_type>) y(i, j) = element;
  else y(i, j) = store_as<typename Y::value_type>(element);
}

/// y(i, j) = value(i, j), rounded once. Of y it may read that element only.
template <class Y, class Value>
struct value_pass {
  static constexpr std::string_view verb = Value::verb;
  Y y;
  Value value;
  [[nodiscard]] GRAFT_FN auto read(index_t i, index_t j) const { return value(i, j); }
  template <class Element>
  GRAFT_FN void write(index_t i, index_t j, Element const& element) const {
    store_element(y, i, j, element);
  }
};
template <class E, class Y, class Value>
void write_elements(E const& ex, Y const& y, Value const& value) {
  run_pass(ex, y.extent(0), y.extent(1), value_pass<Y, Value>{y, value});
}

}  // namespace GRAFT_TARGET
}  // namespace detail
}  // namespace graft::inline GRAFT_CONTRACT
