// SPDX-License-Identifier: Apache-2.0
/// @file
/// Host body of `dispatch`: rows over workers; a row is copied where nothing is converted.
#pragma once

#include <graft/config.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/dispatch.hpp>
#include <graft/kernels/host/levels.hpp>
#include <graft/kernels/host/shrink.hpp>
#include <graft/kernels/override.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {
/// A number a pair, `row` over tokens and `column` over pairs; of none no data.
template <class Space, class W>
[[nodiscard]] operand erased_pairs(plan<Space> const& p, W const& w) {
  if constexpr (tensor<W>) {
    auto const values = values_of_pairs(p, w);
    return {const_cast<typename W::value_type*>(values.data), storage_of<typename W::value_type>, values.token,
            values.pair};
  } else return {nullptr, storage::fp32, 0, 0};
}

template <class E>
void dispatch_on_host(E const& ex, dispatch_problem const& p, index_t rows) {
  dispatch_bodies const& f = host_bodies<dispatch_bodies>();
  ex.region(useful_workers(ex.concurrency(), rows * p.columns),
            verb_region{"dispatch", [&](auto const& w) {
                          f.dispatch_rows(p, part_begin(rows, w.index(), w.size()),
                                          part_begin(rows, w.index() + 1, w.size()));
                        }});
}
}  // namespace GRAFT_TARGET

/// Weights that host bodies take.
template <class W> concept host_pairs = std::is_same_v<W, none_t> || kernels::host_storage<W>;
}  // namespace detail

namespace kernels {
/// Taken on hosts for float, bfloat16 and float16 at any mix and any strides.
template <host_executor E, host_storage X, host_storage Rows, graft::detail::host_pairs W>
struct override_for<dispatch_fn, E, X, Rows, W> {
  static constexpr body which = body::host;
  template <class Space>
  static void run(E const& ex, plan<Space> const& p, X const& x, Rows const& rows, W const& w) {
    if (rows.size() == 0) return;
    graft::detail::dispatch_on_host(
        ex,
        {graft::detail::erased(x), graft::detail::erased(rows), graft::detail::erased_pairs(p, w),
         p.row_tokens.data_handle(), p.permutation.data_handle(), x.extent(1),
         rows.size() * static_cast<index_t>(sizeof(typename Rows::value_type)) >= graft::detail::streamed_bytes},
        rows.extent(0));
  }
};
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
