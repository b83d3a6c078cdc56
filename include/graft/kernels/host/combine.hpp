// SPDX-License-Identifier: Apache-2.0
/// @file
/// Host bodies of `combine`, `combine_add` and `combine_backward_weights`: tokens over workers.
#pragma once

#include <graft/config.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/combine.hpp>
#include <graft/kernels/host/dispatch.hpp>
#include <graft/kernels/host/levels.hpp>
#include <graft/kernels/override.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {
/// y is what tokens have, w what pairs have.
template <class Space, class Rows, class Y, class W>
[[nodiscard]] combine_problem combined(plan<Space> const& p, Rows const& rows, Y const& y, W const& w, bool adds) {
  return {erased(rows), erased(y), erased_pairs(p, w), p.inverse.data_handle(), p.first_pair.data_handle(), p.choices,
          y.extent(1),  adds};
}

template <class E>
void over_tokens(E const& ex, std::string_view verb, combine_problem const& p, index_t tokens, index_t pairs,
                 void (*f)(combine_problem const&, index_t, index_t)) {
  ex.region(useful_workers(ex.concurrency(), (tokens + pairs) * p.columns),
            verb_region{verb, [&](auto const& w) {
                          f(p, part_begin(tokens, w.index(), w.size()), part_begin(tokens, w.index() + 1, w.size()));
                        }});
}
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
/// Taken on hosts for float, bfloat16 and float16 at any mix and any strides.
template <bool Add, host_executor E, host_storage Rows, graft::detail::host_pairs W, host_storage Y>
struct override_for<combine_fn<Add>, E, Rows, W, Y> {
  static constexpr body which = body::host;
  template <class Space>
  static void run(E const& ex, plan<Space> const& p, Rows const& rows, W const& w, Y const& y) {
    if (y.size() == 0) return;
    graft::detail::over_tokens(ex, Add ? "combine_add" : "combine", graft::detail::combined(p, rows, y, w, Add),
                               p.tokens, p.pairs(),
                               graft::detail::host_bodies<graft::detail::combine_bodies>().combine_rows);
  }
};

/// Taken on hosts for float, bfloat16 and float16 at any mix and any strides.
template <host_executor E, host_storage Rows, host_storage DY, host_storage DW>
struct override_for<combine_backward_weights_fn, E, Rows, DY, DW> {
  static constexpr body which = body::host;
  template <class Space>
  static void run(E const& ex, plan<Space> const& p, Rows const& rows, DY const& dy, DW const& dw) {
    if (dw.size() == 0) return;
    graft::detail::over_tokens(ex, "combine_backward_weights", graft::detail::combined(p, rows, dy, dw, false),
                               p.tokens, p.pairs(),
                               graft::detail::host_bodies<graft::detail::pair_dot_bodies>().dot_pair_rows);
  }
};
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
