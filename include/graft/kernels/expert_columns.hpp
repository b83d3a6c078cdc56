// SPDX-License-Identifier: Apache-2.0
/// @file
/// `spread_columns`: what experts hold for the tokens that they chose, as a matrix over tokens. The generic body is the body.
#pragma once

#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/override.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {

/// One expert a team.
template <class Ids, class V, class D>
struct spread_columns_body {
  static constexpr std::string_view verb = "spread_columns";
  Ids ids;
  V values;
  D dense;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    using accumulate = accumulate_t<typename V::value_type, typename D::value_type>;
    index_t const e = tm.league_rank();
    tm.vector(dense.extent(0), [&](index_t t) { dense(t, e) = store_as<typename D::value_type>(accumulate{0}); });
    tm.barrier();
    tm.vector(ids.extent(1), [&](index_t s) {
      auto const t = static_cast<index_t>(ids(e, s));
      if (t >= 0 && t < dense.extent(0))
        dense(t, e) = store_as<typename D::value_type>(load_as<accumulate>(values(e, s)));
    });
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// dense[ids[e, s], e] = values[e, s], and 0 elsewhere.
///
/// Shapes       ids[E, C], values[E, C] in; dense[T, E] out. Any strides, any scalars. Ids of an expert are distinct; those outside
///              [0, T) are passed over.
/// Aliasing     dense may not overlap anything else.
/// Cost         T E + E C elements written.
/// Errors       shape_error, argument_error; nothing is written then.
struct spread_columns_fn {
  template <class E, class Ids, class V, class D>
  void operator()(E const& ex, Ids const& ids, V const& values, D const& dense) const {
    GRAFT_MANDATE_EXECUTOR("kernels::spread_columns", E)
    GRAFT_MANDATE_ID_VIEW("kernels::spread_columns", "ids", E, Ids, 2)
    GRAFT_MANDATE_INPUT("kernels::spread_columns", "values", E, V, 2)
    GRAFT_MANDATE_OUTPUT("kernels::spread_columns", "dense", E, D, 2)
    if constexpr (graft::detail::accepted_id_view<E, Ids, 2> && graft::detail::accepted_input<E, V, 2> &&
                  graft::detail::accepted_output<E, D, 2>) {
      constexpr std::string_view verb = "kernels::spread_columns";
      graft::detail::expects_equal_extents(verb, "ids", ids, 0, "dense", dense, 1);
      graft::detail::expects_equal_extents(verb, "values", values, 0, "ids", ids, 0);
      graft::detail::expects_equal_extents(verb, "values", values, 1, "ids", ids, 1);
      graft::detail::expects_data(verb, "ids", ids);
      graft::detail::expects_data(verb, "values", values);
      graft::detail::expects_output(verb, "dense", dense);
      graft::detail::expects_disjoint(verb, "dense", dense, "ids", ids);
      graft::detail::expects_disjoint(verb, "dense", dense, "values", values);
      ex.league(dense.extent(1), 0, graft::detail::spread_columns_body<Ids, V, D>{ids, values, dense});
    }
  }
};
inline constexpr spread_columns_fn spread_columns{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
