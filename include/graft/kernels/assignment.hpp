// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a plan is made of: the experts that each token names.
#pragma once

#include <cstddef>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/view/concepts.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// An assignment of any number of experts a token: token t has ids(offsets(t)), ..., ids(offsets(t + 1) - 1). `offsets` are
/// std::int64_t, begin with 0 and end with the number of ids; a plan refers to them. (Of k experts a token: a view ids[T, k].)
template <class Offsets, class Ids>
struct ragged_assignment {
  using space_type = typename Ids::space_type;
  Offsets offsets;
  Ids ids;
};

namespace detail {
template <class V, std::size_t Rank> concept id_view_of = id_view<V> && V::rank() == Rank;
template <class A>
inline constexpr bool is_ragged = false;
template <class O, class Ids>
inline constexpr bool is_ragged<ragged_assignment<O, Ids>> =
    id_view_of<O, 1> && std::is_same_v<typename O::value_type, index_t> && id_view_of<Ids, 1>;
}  // namespace detail

/// ids[T, k], or a ragged_assignment.
template <class A> concept assignment = detail::id_view_of<A, 2> || detail::is_ragged<A>;

}  // namespace graft::inline GRAFT_CONTRACT
