// SPDX-License-Identifier: Apache-2.0
/// @file
/// Host body of `low_rank_add`: per block of rows shrink then expand; two phases with one barrier for few rows.
#pragma once

#include <algorithm>
#include <cstddef>

#include <graft/config.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/host/expand_add.hpp>
#include <graft/kernels/host/levels.hpp>
#include <graft/kernels/host/shrink.hpp>
#include <graft/kernels/low_rank_add.hpp>
#include <graft/kernels/override.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {

/// Rows whose v is kept at a time: enough to pay for packing w.
inline constexpr index_t low_rank_row_block = 192;

/// How a call is cut over workers, and the scratch that it takes.
struct low_rank_plan {
  shrink_problem s;
  operand b;
  operand y;
  index_t columns;
  int workers;
  bool by_rows;  // nothing shared and no barrier; else (rank group, chunk) items, a barrier, then panels of columns
  shrink_items items;
  index_t block;      // rows at a time
  std::size_t parts;  // bytes shared: v of every chunk
  std::size_t kept;   // bytes a worker: v,
  std::size_t each;   // and packed operands with it

  low_rank_plan(int concurrency, shrink_problem const& shrinks, operand const& given_b, operand const& given_y,
                index_t outputs)
      : s(shrinks),
        b(given_b),
        y(given_y),
        columns(outputs),
        workers(useful_workers(concurrency, s.rows * s.ranks * (s.length + columns))),
        by_rows(workers == 1 || (s.rows >= 32 && s.rows >= 12 * workers)),
        items(s, workers),
        block(by_rows ? (std::min)((s.rows + workers - 1) / workers, low_rank_row_block) : s.rows),
        parts(by_rows ? 0 : float_bytes(items.chunks * s.rows * s.ranks + 16)),
        kept(float_bytes(block * s.ranks + 16)),
        each(kept +
             float_bytes((std::max)(shrink_scratch(s.ranks), expand_scratch(expand_of(nullptr, 0, block), block)))) {}
  [[nodiscard]] std::size_t bytes() const { return parts + each * static_cast<std::size_t>(workers); }
  /// The second half for `rows` rows from `first` on, whose v lies row by row.
  [[nodiscard]] expand_problem expand_of(float* v, index_t first, index_t rows) const {
    return {{v, storage::fp32, s.ranks, 1, 0}, b, y.at(first, 0), rows, columns, s.ranks, 1.0F, false};
  }
};

template <class E>
void low_rank_add_on_host(E const& ex, low_rank_plan const& plan) {
  level_functions const& f = host_functions();
  shrink_problem const& s = plan.s;
  scratch_block const memory(ex.resource(), plan.bytes());
  auto* const part = reinterpret_cast<float*>(memory.data());
  ex.region(plan.workers,
            verb_region{
                "low_rank_add", [&](auto const& w) {
                  std::byte* const mine = memory.data() + plan.parts + plan.each * static_cast<std::size_t>(w.index());
                  auto* const v = reinterpret_cast<float*>(mine);
                  auto* const scratch = reinterpret_cast<float*>(mine + plan.kept);
                  if (plan.by_rows) {
                    index_t const end = part_begin(s.rows, w.index() + 1, w.size());
                    for (index_t t = part_begin(s.rows, w.index(), w.size()); t < end; t += plan.block) {
                      index_t const u = (std::min)(t + plan.block, end);
                      f.shrink_rows(s, t, u, v, scratch);
                      f.expand_rows(plan.expand_of(v, t, u - t), 0, u - t, 0, plan.columns, scratch);
                    }
                    return;
                  }
                  index_t const count = s.rows * s.ranks;
                  index_t const panels = (plan.columns + panel_width - 1) / panel_width;
                  shrink_items_of(f, s, plan.items, w.index(), w.size(), part, scratch);
                  w.barrier();
                  f.combine_chunks(part, plan.items.chunks, 0, count, count, s.scale, v);
                  f.expand_rows(
                      plan.expand_of(v, 0, s.rows), 0, s.rows, part_begin(panels, w.index(), w.size()) * panel_width,
                      (std::min)(part_begin(panels, w.index() + 1, w.size()) * panel_width, plan.columns), scratch);
                }});
}

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
/// Taken on hosts for float, bfloat16 and float16 at any mix and any strides; B may be packed.
template <host_executor E, host_storage X, host_storage A, host_storage B, host_storage Y>
struct override_for<low_rank_add_fn, E, X, A, B, Y> {
  static constexpr body which = body::host;
  static void run(E const& ex, X const& x, A const& a, B const& b, Y const& y, scaling scale) {
    if (y.size() == 0 || a.extent(0) == 0) return;
    graft::detail::low_rank_add_on_host(ex, plan(ex, x, a, b, y, scale));
  }
  static std::size_t scratch_bytes(E const& ex, X const& x, A const& a, B const& b, Y const& y, scaling scale) {
    return y.size() == 0 || a.extent(0) == 0 ? 0 : plan(ex, x, a, b, y, scale).bytes();
  }

 private:
  static graft::detail::low_rank_plan plan(E const& ex, X const& x, A const& a, B const& b, Y const& y, scaling scale) {
    using graft::detail::erased;
    return {ex.concurrency(),
            {erased(x), erased(a), {}, x.extent(0), a.extent(0), x.extent(1), static_cast<float>(scale.value())},
            erased(b),
            erased(y),
            y.extent(1)};
  }
};
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
