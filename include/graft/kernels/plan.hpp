// SPDX-License-Identifier: Apache-2.0
/// @file
/// `plan`: which row of which expert a pair of a token and a choice becomes, and the way back. Made once of an assignment by
/// `make_plan`, a stable counting sort in O(pairs + experts); dispatch, combine, their backwards and grouped products share it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/assignment.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/ids.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// How the segments of a plan are laid out.
struct plan_options {
  index_t alignment = 1;  ///< Each expert's rows begin at a multiple of it; rows in between are padding.
  index_t tile = 0;       ///< Rows of a tile of the tile table; 0 makes none.
};

/// Extents of a plan's views; `rows` and `tiles` are what any assignment can need.
struct plan_sizes {
  index_t pairs = 0;
  index_t experts = 0;
  index_t rows = 0;   ///< pairs + min(pairs, experts) (alignment - 1)
  index_t tiles = 0;  ///< (pairs + min(pairs, experts) (tile - 1)) / tile, or 0
};

/// A plan: an aggregate of views of the caller's memory. Pairs are numbered token by token: t k + s, or the place in `ids`.
///
/// Shapes       counts[E], offsets[E + 1], permutation[R], row_tokens[R], inverse[P], dropped[P], tile_experts[N], tile_rows[N],
///              status[4] with the R and N of `plan_sizes`.
/// Order        expert e has rows offsets(e), ..., offsets(e) + counts(e) - 1: its pairs in rising order, so token by token and
///              choice by choice. Then padding up to offsets(e + 1). offsets(E) is the number of rows with padding.
template <class Space = host_space>
struct plan {
  using space_type = Space;
  using indices = tensor_view<index_t, dynamic_extents<1>, Space>;

  indices counts;       ///< Pairs of each expert, without those dropped.
  indices offsets;      ///< The first row of each expert, and the number of rows.
  indices permutation;  ///< Row -> pair; -1 in padding.
  indices row_tokens;   ///< Row -> token; -1 in padding.
  indices inverse;      ///< Pair -> row; -1 when it names no expert or was dropped.
  tensor_view<std::uint8_t, dynamic_extents<1>, Space> dropped;  ///< 1 for pairs whose expert had no room.
  indices tile_experts;  ///< Tile -> expert; -1 behind the last. A tile never holds rows of two experts.
  indices tile_rows;     ///< Tile -> its first row; it ends after options.tile rows or with the expert's last.
  indices status;        ///< What `check` reads: {-1, ...}, or {token, choice, id, experts} of the lowest bad token.
  index_t tokens = 0;
  index_t choices = 0;  ///< k; of a ragged assignment 0.
  tensor_view<index_t const, dynamic_extents<1>, Space>
      first_pair{};  ///< The offsets of a ragged assignment, else null.
  plan_options options{};

  [[nodiscard]] GRAFT_FN constexpr index_t experts() const { return counts.extent(0); }
  [[nodiscard]] GRAFT_FN constexpr index_t pairs() const { return inverse.extent(0); }
  /// The offsets of a ragged assignment do not rise from 0 to the number of pairs: the plan names no pair then.
  [[nodiscard]] GRAFT_FN constexpr bool has_wrong_offsets() const { return status(0) >= 0 && status(1) < 0; }
  /// The first pair of token t; the one behind its last is that of t + 1. Of offsets that are wrong, as `status` tells, one that
  /// there is.
  [[nodiscard]] GRAFT_FN constexpr index_t pair_begin(index_t t) const {
    if (first_pair.data_handle() == nullptr) return t * choices;
    index_t const first = first_pair(t);
    return first < 0 ? 0 : first < pairs() ? first : pairs();
  }
};

inline namespace GRAFT_TARGET {

/// Extents for `pairs` = T k (or the number of ids) over `experts`. Throws where they are negative or exceed 64 bits.
[[nodiscard]] constexpr plan_sizes sizes_of_plan(index_t pairs, index_t experts, plan_options const& options = {}) {
  if (pairs < 0 || experts < 0 || options.alignment < 1 || options.tile < 0) [[unlikely]]
    detail::raise(argument_error(detail::text("graft::sizes_of_plan: ", pairs, " pairs, ", experts,
                                              " experts, alignment ", options.alignment, ", tile ", options.tile,
                                              "; only the alignment must be positive, none may be negative")));
  index_t const used = pairs < experts ? pairs : experts;
  auto const filled = [&](index_t block) {
    return detail::checked_sum(pairs, detail::checked_product(used, block - 1, "sizes_of_plan"), "sizes_of_plan");
  };
  return {pairs, experts, filled(options.alignment), options.tile == 0 ? 0 : filled(options.tile) / options.tile};
}

}  // namespace GRAFT_TARGET

namespace detail {
inline namespace GRAFT_TARGET {
/// Where a plan's views lie in one block of memory, in the order of its fields.
struct plan_layout {
  std::size_t at[10]{};  // the last is the number of bytes

  constexpr explicit plan_layout(plan_sizes const& s) {
    index_t const elements[9] = {
        s.experts, checked_sum(s.experts, 1, "plan_bytes"), s.rows, s.rows, s.pairs, s.pairs, s.tiles, s.tiles, 4};
    index_t all = 0;
    for (int i = 0; i < 9; ++i) {
      at[i] = static_cast<std::size_t>(all);
      index_t const bytes = checked_product(elements[i], i == 5 ? 1 : index_t{sizeof(index_t)}, "plan_bytes");
      all = checked_sum(all, checked_sum(bytes, 63, "plan_bytes") / 64 * 64, "plan_bytes");
    }
    at[9] = static_cast<std::size_t>(all);
  }
};

/// T k, or the number of ids.
template <class A>
[[nodiscard]] constexpr index_t pairs_of(A const& a) {
  if constexpr (is_ragged<A>) return a.ids.extent(0);
  else return checked_product(a.extent(0), a.extent(1), "plan");
}
template <class A>
[[nodiscard]] constexpr index_t tokens_of(A const& a) {
  if constexpr (is_ragged<A>) return a.offsets.extent(0) == 0 ? 0 : a.offsets.extent(0) - 1;
  else return a.extent(0);
}
}  // namespace GRAFT_TARGET
}  // namespace detail

inline namespace GRAFT_TARGET {

/// Bytes of memory that `plan_in` lays a plan of these extents over: about 25 a pair and 16 an expert.
[[nodiscard]] constexpr std::size_t plan_bytes(index_t pairs, index_t experts, plan_options const& options = {}) {
  return detail::plan_layout(graft::sizes_of_plan(pairs, experts, options)).at[9];
}

/// The views of a plan for such an assignment, over memory in its space of `plan_bytes(pairs, experts, options)` bytes. Nothing
/// is read or written; `kernels::make_plan` fills it.
///
/// Errors       shape_error, argument_error (too few bytes; not aligned to 8).
template <assignment A>
[[nodiscard]] plan<typename A::space_type> plan_in(std::span<std::byte> memory, A const& a, index_t experts,
                                                   plan_options const& options = {}) {
  plan_sizes const s = graft::sizes_of_plan(detail::pairs_of(a), experts, options);
  detail::plan_layout const layout(s);
  if (memory.size() < layout.at[9] || reinterpret_cast<std::uintptr_t>(memory.data()) % alignof(index_t) != 0)
      [[unlikely]]
    detail::raise(argument_error(
        detail::text("graft::plan_in: a plan of ", s.pairs, " pairs and ", experts, " experts takes ", layout.at[9],
                     " bytes aligned to 8, but ", memory.size(), " are given at an address that is ",
                     reinterpret_cast<std::uintptr_t>(memory.data()) % alignof(index_t), " mod 8")));
  using result = plan<typename A::space_type>;
  auto const view_of = [&]<class T>(T*, int i, index_t extent) {
    return tensor_view<T, dynamic_extents<1>, typename A::space_type>{
        reinterpret_cast<T*>(memory.data() + layout.at[i]), dynamic_extents<1>{extent}, {1}};
  };
  constexpr index_t* index = nullptr;
  result p{view_of(index, 0, s.experts), view_of(index, 1, s.experts + 1),
           view_of(index, 2, s.rows),    view_of(index, 3, s.rows),
           view_of(index, 4, s.pairs),   view_of(static_cast<std::uint8_t*>(nullptr), 5, s.pairs),
           view_of(index, 6, s.tiles),   view_of(index, 7, s.tiles),
           view_of(index, 8, 4)};
  p.tokens = detail::tokens_of(a);
  p.options = options;
  if constexpr (detail::is_ragged<A>) {
    if (a.offsets.stride(0) != 1 && a.offsets.extent(0) > 1) [[unlikely]]
      detail::raise(argument_error(detail::text("graft::plan_in: offsets", detail::shape_text(a.offsets),
                                                " have stride ", a.offsets.stride(0), "; they must lie side by side")));
    p.first_pair = {a.offsets.data_handle(), dynamic_extents<1>{a.offsets.extent(0)}, {1}};
  } else p.choices = a.extent(1);
  return p;
}

/// Throws data_error when a plan's `status`, in memory of the host, names a bad token. Executors of the host's memory have
/// looked already; of another one's copy status[4] to the host after `fence()`.
template <class Report>
void check(Report const& status) {
  if (status(0) < 0) return;
  if (status(1) < 0) [[unlikely]]
    detail::raise(data_error(detail::text("graft::kernels::make_plan: the offsets of token ", status(0),
                                          " do not rise from 0 to ", status(2), ", the number of ids")));
  detail::raise(data_error(detail::text("graft::kernels::make_plan: token ", status(0), " names the expert ", status(2),
                                        " in choice ", status(1), " but there are ", status(3), " experts")));
}

/// Rows of one expert in a view that has a plan's rows. The plan lies in memory of the host.
template <class V>
[[nodiscard]] auto expert_rows(plan<> const& p, V const& v, index_t expert) {
  if (expert < 0 || expert >= p.experts()) [[unlikely]]
    detail::raise(shape_error(detail::text("graft::expert_rows: there is no expert ", expert, " of ", p.experts())));
  return graft::rows(v, p.offsets(expert), p.counts(expert));
}

/// f(expert, its rows) for every expert that has rows, in order: where any callable per expert takes its matrix. Padding is
/// left out; `expert_rows` has the same rows of other views.
template <class V, class F>
void for_each_expert(plan<> const& p, V const& rows, F&& f) {
  for (index_t e = 0; e < p.experts(); ++e)
    if (p.counts(e) > 0) f(e, graft::expert_rows(p, rows, e));
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT

// What makes one belongs to it.
#include <graft/kernels/make_plan.hpp>
