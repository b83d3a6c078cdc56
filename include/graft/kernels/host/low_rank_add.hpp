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

template <class E>
void low_rank_add_on_host(E const& ex, shrink_problem const& s, operand const& b, operand const& y, index_t columns) {
  level_functions const& f = host_functions();
  int const workers = useful_workers(ex.concurrency(), s.rows * s.ranks * (s.length + columns));
  auto const expand_of = [&](float* v, index_t rows, index_t first_row) {
    return expand_problem{{v, storage::fp32, s.ranks, 1, 0}, b, y.at(first_row, 0), rows, columns, s.ranks, 1.0F, false};
  };
  index_t const for_shrink = shrink_scratch(s.ranks);
  auto const floats_of = [&](index_t rows) { return (std::max)(for_shrink, expand_sizes_of(expand_of(nullptr, rows, 0), rows).floats()); };

  if (workers == 1 || (s.rows >= 32 && s.rows >= 12 * workers)) {  // rows over workers; nothing shared, no barrier
    index_t const most = (s.rows + workers - 1) / workers;
    index_t const block = (std::min)(most, low_rank_row_block);
    index_t floats = 0;
    for (index_t rows : {block, most % block, s.rows / workers % block, (std::min)(s.rows / workers, block)}) floats = (std::max)(floats, floats_of(rows));
    auto const kept = scratch_block::rounded(sizeof(float) * static_cast<std::size_t>(block * s.ranks + 16));
    auto const each = kept + scratch_block::rounded(sizeof(float) * static_cast<std::size_t>(floats));
    scratch_block const memory(ex.resource(), each * static_cast<std::size_t>(workers));
    ex.region(workers, [&](auto const& w) {
      std::byte* const mine = memory.data() + each * static_cast<std::size_t>(w.index());
      auto* const v = reinterpret_cast<float*>(mine);
      auto* const scratch = reinterpret_cast<float*>(mine + kept);
      index_t const end = part_begin(s.rows, w.index() + 1, w.size());
      for (index_t t = part_begin(s.rows, w.index(), w.size()); t < end; t += block) {
        index_t const u = (std::min)(t + block, end);
        f.shrink_rows(s, t, u, v, scratch);
        f.expand_rows(expand_of(v, u - t, t), 0, u - t, 0, columns, scratch);
      }
    });
    return;
  }
  // Few rows: (rank group, chunk) items over workers, a barrier, then every worker combines v for its panels.
  shrink_items const items(s, workers);
  index_t const count = s.rows * s.ranks;
  index_t const panels = (columns + panel_width - 1) / panel_width;
  auto const parts = scratch_block::rounded(sizeof(float) * static_cast<std::size_t>(items.chunks * count + 16));
  auto const kept = scratch_block::rounded(sizeof(float) * static_cast<std::size_t>(count + 16));
  auto const each = kept + scratch_block::rounded(sizeof(float) * static_cast<std::size_t>(floats_of(s.rows)));
  scratch_block const memory(ex.resource(), parts + each * static_cast<std::size_t>(workers));
  auto* const part = reinterpret_cast<float*>(memory.data());
  ex.region(workers, [&](auto const& w) {
    std::byte* const mine = memory.data() + parts + each * static_cast<std::size_t>(w.index());
    auto* const v = reinterpret_cast<float*>(mine);
    auto* const scratch = reinterpret_cast<float*>(mine + kept);
    shrink_items_of(f, s, items, w.index(), w.size(), part, scratch);
    w.barrier();
    f.combine_chunks(part, items.chunks, 0, count, count, s.scale, v);
    f.expand_rows(expand_of(v, s.rows, 0), 0, s.rows, part_begin(panels, w.index(), w.size()) * panel_width,
                  (std::min)(part_begin(panels, w.index() + 1, w.size()) * panel_width, columns), scratch);
  });
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
    using graft::detail::erased;
    graft::detail::low_rank_add_on_host(
        ex, {erased(x), erased(a), {}, x.extent(0), a.extent(0), x.extent(1), static_cast<float>(scale.value())}, erased(b), erased(y), y.extent(1));
  }
};
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
