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
  if (p.w.panel_rank > 0 || (!by_column && !narrow) || (by_column && p.columns > p.rows && p.rows < panel_width))
    return p;
  return {p.w, p.v, p.y.transposed(), p.columns, p.rows, p.depth, p.scale, !p.scale_on_w};
}

/// How a call is cut over workers, and the scratch that it takes.
struct expand_plan {
  expand_problem p;
  int workers;
  index_t panels;
  bool by_rows;      // else by panels of columns
  index_t block;     // rows at a time: what scratch is sized for, however many workers a region starts
  std::size_t each;  // bytes a worker

  expand_plan(int concurrency, expand_problem const& given)
      : p(oriented(given)),
        workers(useful_workers(concurrency, p.rows * p.columns * p.depth)),
        panels((p.columns + panel_width - 1) / panel_width),
        by_rows(p.rows >= 24 * workers || panels < workers),
        block(by_rows ? (p.rows + workers - 1) / workers : p.rows),
        each(float_bytes(expand_scratch(p, block))) {}
  [[nodiscard]] std::size_t bytes() const { return each * static_cast<std::size_t>(workers); }
};

template <class E>
void expand_add_on_host(E const& ex, expand_plan const& plan) {
  expand_bodies const& f = host_bodies<expand_bodies>();
  expand_problem const& p = plan.p;
  scratch_block const memory(ex.resource(), plan.bytes());
  ex.region(plan.workers,
            verb_region{"expand_add", [&](auto const& w) {
                          auto* const scratch =
                              reinterpret_cast<float*>(memory.data() + plan.each * static_cast<std::size_t>(w.index()));
                          if (!plan.by_rows) {
                            f.expand_rows(
                                p, 0, p.rows, part_begin(plan.panels, w.index(), w.size()) * panel_width,
                                (std::min)(part_begin(plan.panels, w.index() + 1, w.size()) * panel_width, p.columns),
                                scratch);
                            return;
                          }
                          index_t const end = part_begin(p.rows, w.index() + 1, w.size());
                          for (index_t t = part_begin(p.rows, w.index(), w.size()); t < end; t += plan.block)
                            f.expand_rows(p, t, (std::min)(t + plan.block, end), 0, p.columns, scratch);
                        }});
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
    graft::detail::expand_add_on_host(ex, plan(ex, v, b, y, scale));
  }
  static std::size_t scratch_bytes(E const& ex, V const& v, B const& b, Y const& y, scaling scale) {
    return y.size() == 0 || v.extent(1) == 0 ? 0 : plan(ex, v, b, y, scale).bytes();
  }

 private:
  static graft::detail::expand_plan plan(E const& ex, V const& v, B const& b, Y const& y, scaling scale) {
    using graft::detail::erased;
    return {ex.concurrency(),
            {erased(v), erased(b), erased(y), y.extent(0), y.extent(1), v.extent(1), static_cast<float>(scale.value()),
             false}};
  }
};
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
