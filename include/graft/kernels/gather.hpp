// SPDX-License-Identifier: Apache-2.0
/// @file
/// `check_ids`, `gather_columns`, `scatter_add_columns`: columns of a matrix by token ids, and the way back. What embeddings
/// are made of. Memory-bound; the generic body is the body.
#pragma once

#include <cstddef>
#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/elements.hpp>
#include <graft/kernels/faults.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/ids.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

namespace detail {
inline namespace GRAFT_TARGET {

inline constexpr index_t id_tile = 256;

/// lowest[tile] = the first token of the tile whose id is not in [0, limit), or -1.
template <class Ids>
struct check_ids_body {
  static constexpr std::string_view verb = "check_ids";
  Ids ids;
  index_t limit;
  index_t* lowest;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const first = tm.league_rank() * id_tile;
    index_t& found = lowest[tm.league_rank()];
    auto const is_bad = [&](index_t i) { return ids(i) < 0 || ids(i) >= limit; };
    tm.groups(1, [&](index_t) { tm.once([&] { found = -1; }); });
    tm.barrier();
    tm.vector(tile_extent(ids.count, first, id_tile), [&](index_t i) {
      if (is_bad(first + i)) found = first;  // there is one: every lane writes the same
    });
    tm.barrier();
    tm.groups(1, [&](index_t) {
      tm.once([&] {
        while (found >= 0 && !is_bad(found)) ++found;
      });
    });
  }
};

/// A tile of which check_ids_body found a token.
template <class Ids>
struct wrong_id {
  index_t const* lowest;
  Ids ids;
  index_t limit;
  GRAFT_FN bool operator()(index_t tile) const { return lowest[tile] >= 0; }
  GRAFT_FN fault_record fault(index_t tile) const {
    return {fault_record::id_out_of_range, lowest[tile], ids(lowest[tile]), limit};
  }
};

/// scale times row t's column of A, 0 where its id has none.
template <class A, class Ids, class Accumulate>
struct gather_columns_value {
  static constexpr std::string_view verb = "gather_columns";
  A a;
  Ids ids;
  Accumulate scale;
  GRAFT_FN Accumulate operator()(index_t t, index_t j) const {
    index_t const id = ids(t);
    return id >= 0 && id < a.extent(1) ? scale * load_as<Accumulate>(a(j, id)) : Accumulate{0};
  }
};

/// One row of A a lane, all tokens in order: no two lanes ever meet.
template <class U, class Ids, class A, class Accumulate>
struct scatter_add_columns_body {
  static constexpr std::string_view verb = "scatter_add_columns";
  U u;
  Ids ids;
  A a;
  index_t padding;

  [[nodiscard]] GRAFT_FN constexpr index_t lanes() const { return rank_tile; }

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const first = tm.league_rank() * rank_tile;
    tm.vector(tile_extent(a.extent(0), first, rank_tile), [&](index_t i) {
      index_t const j = first + i;
      for (index_t t = 0; t < u.extent(0); ++t) {
        index_t const id = ids(t);
        if (id == padding || id < 0 || id >= a.extent(1)) continue;
        a(j, id) = store_as<typename A::value_type>(load_as<Accumulate>(a(j, id)) + load_as<Accumulate>(u(t, j)));
      }
    });
  }
};

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// Throws data_error unless every id is in [0, limit). `verb` and `name` go into its sentence, with the lowest bad token, its
/// id and the limit: the same for every executor and number of threads. Waits for the executor; one of a device does not wait,
/// and writes its `fault_record`.
///
/// Cost         T ids read. Scratch: 8 bytes for 256 ids from the executor's resource.
template <class E, class Ids>
void check_ids(E const& ex, std::string_view verb, Ids const& ids, index_t limit) {
  GRAFT_MANDATE_EXECUTOR("kernels::check_ids", E)
  GRAFT_MANDATE_IDS("kernels::check_ids", E, Ids)
  if constexpr (graft::detail::accepted_ids<E, Ids>) {
    using graft::detail::text;
    if (ids.data == nullptr && ids.count != 0) [[unlikely]]
      graft::detail::raise(argument_error(text("graft::", verb, ": ids[", ids.count, "] is null")));
    if constexpr (!graft::detail::works_on_host<E>) graft::detail::expects_fault_record(ex, verb);
    index_t const tiles = graft::detail::tiles(ids.count, graft::detail::id_tile);
    graft::detail::call_scratch const memory(ex, sizeof(index_t) * static_cast<std::size_t>(tiles));
    auto* const lowest = reinterpret_cast<index_t*>(memory.data());
    ex.league(tiles, 0, graft::detail::check_ids_body<Ids>{ids, limit, lowest});
    if constexpr (!graft::detail::works_on_host<E>)
      graft::detail::record_fault(ex, graft::detail::wrong_id<Ids>{lowest, ids, limit}, tiles);
    else {
      ex.fence();
      for (index_t i = 0; i < tiles; ++i)
        if (lowest[i] >= 0) [[unlikely]]
          graft::detail::raise(data_error(text("graft::", verb, ": token ", lowest[i], " has the id ", ids(lowest[i]),
                                               " but there are ", limit, " rows")));
    }
  }
}

/// v[t, j] = scale A[j, ids[t]].
///
/// Shapes       A[r, V], ids[T] in; v[T, r] out. Any strides, any scalars; one product and one rounding an element.
/// Preconditions  every id is in [0, V): `check_ids`. Where one is not, v is 0.
/// Aliasing     v may not overlap A.
/// Cost         T r elements read, a line of memory each where A is stored row by row, and written.
/// Errors       shape_error, argument_error; nothing is written then.
struct gather_columns_fn {
  template <class E, class A, class Ids, class V>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::gather_columns", E)
    GRAFT_MANDATE_INPUT("kernels::gather_columns", "A", E, A, 2)
    GRAFT_MANDATE_IDS("kernels::gather_columns", E, Ids)
    GRAFT_MANDATE_OUTPUT("kernels::gather_columns", "v", E, V, 2)
    return graft::detail::accepted_input<E, A, 2> && graft::detail::accepted_ids<E, Ids> &&
           graft::detail::accepted_output<E, V, 2>;
  }
  template <class E, class A, class Ids, class V>
  void operator()(E const& ex, A const& a, Ids const& ids, V const& v, scaling scale = 1.0) const {
    if constexpr (mandates<E, A, Ids, V>()) {
      using accumulate = accumulate_t<typename A::value_type, typename V::value_type>;
      constexpr std::string_view verb = "kernels::gather_columns";
      graft::detail::expects_equal_extents(verb, "v", v, 0, "ids", ids, 0);
      graft::detail::expects_equal_extents(verb, "v", v, 1, "A", a, 0);
      graft::detail::expects_data(verb, "A", a);
      graft::detail::expects_output(verb, "v", v);
      graft::detail::expects_disjoint(verb, "v", v, "A", a);
      graft::detail::write_elements(
          ex, v,
          graft::detail::gather_columns_value<A, Ids, accumulate>{a, ids, static_cast<accumulate>(scale.value())});
    }
  }
};
inline constexpr gather_columns_fn gather_columns{};

/// A[j, ids[t]] += u[t, j], tokens in order; a token whose id is `padding` adds nothing.
///
/// Shapes       u[T, r], ids[T] in; A[r, V] in and out. Any strides, any scalars; a 16-bit A is rounded once a token.
/// Preconditions  every id is in [0, V): `check_ids`. Where one is not, nothing is added.
/// Order        for each element the tokens that have its id, in order: a plain sum from A.
/// Aliasing     A may not overlap u.
/// Precision    |error| <= c eps (|A| + sum |u|) for an id that occurs c times, and its roundings to A's type.
/// Cost         T r elements read, added to and written; rows of A run in parallel.
/// Errors       shape_error, argument_error; nothing is written then.
struct scatter_add_columns_fn {
  template <class E, class U, class Ids, class A>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::scatter_add_columns", E)
    GRAFT_MANDATE_INPUT("kernels::scatter_add_columns", "u", E, U, 2)
    GRAFT_MANDATE_IDS("kernels::scatter_add_columns", E, Ids)
    GRAFT_MANDATE_OUTPUT("kernels::scatter_add_columns", "A", E, A, 2)
    return graft::detail::accepted_input<E, U, 2> && graft::detail::accepted_ids<E, Ids> &&
           graft::detail::accepted_output<E, A, 2>;
  }
  template <class E, class U, class Ids, class A>
  void operator()(E const& ex, U const& u, Ids const& ids, A const& a, index_t padding = no_padding) const {
    if constexpr (mandates<E, U, Ids, A>()) {
      using accumulate = accumulate_t<typename U::value_type, typename A::value_type>;
      constexpr std::string_view verb = "kernels::scatter_add_columns";
      graft::detail::expects_equal_extents(verb, "u", u, 0, "ids", ids, 0);
      graft::detail::expects_equal_extents(verb, "u", u, 1, "A", a, 0);
      graft::detail::expects_data(verb, "u", u);
      graft::detail::expects_output(verb, "A", a);
      graft::detail::expects_disjoint(verb, "A", a, "u", u);
      ex.league(graft::detail::tiles(a.extent(0), graft::detail::rank_tile), 0,
                graft::detail::scatter_add_columns_body<U, Ids, A, accumulate>{u, ids, a, padding});
    }
  }
};
inline constexpr scatter_add_columns_fn scatter_add_columns{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
