// SPDX-License-Identifier: Apache-2.0
/// @file
/// Host body of `expand_add`: rows or panels of columns over workers; the wide and contiguous side goes into the lanes.
#pragma once

#include <algorithm>
#include <cstddef>

#include <graft/config.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/expand_add.hpp>
#include <graft/kernels/host/levels.hpp>
#include <graft/kernels/host/shrink.hpp>
#include <graft/kernels/override.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {

/// Exchanges the roles of v and w where the rows of y are the better side for the lanes: y stored column by column, or
/// columns too few to fill panels while rows are many. An fma does not mind the order of its factors.
[[nodiscard]] inline expand_problem oriented(expand_problem const& p) {
  bool const by_column = p.y.row == 1 && p.y.column != 1;
  bool const narrow = p.w.panel_rank == 0 && p.rows >= 4 * p.columns &&
                      (p.columns < panel_width || (p.columns <= 4 * panel_width && p.depth >= 32));
  if (p.w.panel_rank > 0 || (!by_column && !narrow) || (by_column && p.columns > p.rows && p.rows < panel_width)) return p;
  return {p.w, p.v, p.y.transposed(), p.columns, p.rows, p.depth, p.scale, !p.scale_on_w};
}

template <class E>
void expand_add_on_host(E const& ex, expand_problem const& given) {
  level_functions const& f = host_functions();
  expand_problem const p = oriented(given);
  int const workers = useful_workers(ex.concurrency(), p.rows * p.columns * p.depth);
  index_t const panels = (p.columns + panel_width - 1) / panel_width;
  bool const by_rows = p.rows >= 24 * workers || panels < workers;
  index_t const most_rows = by_rows ? (p.rows + workers - 1) / workers : p.rows;
  index_t const least_rows = by_rows ? p.rows / workers : p.rows;
  index_t const floats = (std::max)(expand_sizes_of(p, most_rows).floats(), expand_sizes_of(p, least_rows).floats());
  auto const each = scratch_block::rounded(sizeof(float) * static_cast<std::size_t>(floats));
  scratch_block const memory(ex.resource(), each * static_cast<std::size_t>(workers));
  ex.region(workers, [&](auto const& w) {
    auto* const scratch = reinterpret_cast<float*>(memory.data() + each * static_cast<std::size_t>(w.index()));
    if (by_rows) f.expand_rows(p, part_begin(p.rows, w.index(), w.size()), part_begin(p.rows, w.index() + 1, w.size()), 0, p.columns, scratch);
    else
      f.expand_rows(p, 0, p.rows, part_begin(panels, w.index(), w.size()) * panel_width,
                    (std::min)(part_begin(panels, w.index() + 1, w.size()) * panel_width, p.columns), scratch);
  });
}

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
/// Taken on hosts for float, bfloat16 and float16 at any mix and any strides.
template <host_executor E, host_storage V, host_storage B, host_storage Y>
struct override_for<expand_add_fn, E, V, B, Y> {
  static constexpr body which = body::host;
  static void run(E const& ex, V const& v, B const& b, Y const& y, scaling scale) {
    if (y.size() == 0 || v.extent(1) == 0) return;
    graft::detail::expand_add_on_host(ex, {graft::detail::erased(v), graft::detail::erased(b), graft::detail::erased(y), y.extent(0), y.extent(1),
                                           v.extent(1), static_cast<float>(scale.value()), false});
  }
};
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
