// SPDX-License-Identifier: Apache-2.0
/// @file
/// Host body of `shrink`: rows over workers, or (ranks, chunks) over workers when there are few rows.
#pragma once

#include <cstddef>

#include <graft/config.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/host/levels.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/shrink.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {

/// Part `i` of `count` things that are cut in `parts`.
[[nodiscard]] constexpr index_t part_begin(index_t count, index_t i, index_t parts) { return count * i / parts; }

/// How the (rank group, chunk) items of few rows are cut: fine enough for all workers.
struct shrink_items {
  index_t group;
  index_t groups;
  index_t chunks;
  shrink_items(shrink_problem const& p, int workers)
      : group(p.ranks >= 16 * workers  ? 16
              : p.ranks >= 8 * workers ? 8
                                       : 4),
        groups((p.ranks + group - 1) / group),
        chunks((p.length + kernels::chunk - 1) / kernels::chunk) {}
};

/// Items of worker `index`: part[q * rows * ranks + t * ranks + j].
inline void shrink_items_of(shrink_bodies const& f, shrink_problem const& p, shrink_items const& items, index_t index,
                            index_t size, float* part, float* scratch) {
  index_t const total = items.groups * items.chunks;
  for (index_t i = part_begin(total, index, size); i < part_begin(total, index + 1, size); ++i) {
    index_t const j0 = i / items.chunks * items.group;
    index_t const q = i % items.chunks;
    index_t const j1 = j0 + items.group < p.ranks ? j0 + items.group : p.ranks;
    f.shrink_chunk(p, 0, p.rows, j0, j1, q, part + q * p.rows * p.ranks + j0, p.ranks, true, scratch);
  }
}

/// Below this many products a call is not worth a second thread (a fork and a join are about a microsecond).
inline constexpr index_t parallel_products = index_t{1} << 16;

[[nodiscard]] inline int useful_workers(int concurrency, index_t products) {
  return products < parallel_products ? 1 : concurrency;
}

/// Rows that are shrunk and written at a time.
inline constexpr index_t shrink_row_block = 48;

/// How a call is cut over workers, and the scratch that it takes.
struct shrink_plan {
  shrink_problem p;
  int workers;
  bool by_rows;  // else by (rank group, chunk) items
  shrink_items items;
  index_t block;       // rows at a time
  std::size_t each;    // bytes a worker: packed operands,
  std::size_t out;     // by rows: and v of a block
  std::size_t shared;  // by items: v of every chunk, and their sum

  shrink_plan(int concurrency, shrink_problem const& given)
      : p(given),
        workers(useful_workers(concurrency, p.rows * p.ranks * p.length)),
        by_rows(workers == 1 || p.rows >= 12 * workers),
        items(p, workers),
        block(p.rows < shrink_row_block ? p.rows : shrink_row_block),
        each(float_bytes(shrink_scratch(p.ranks))),
        out(by_rows ? float_bytes(block * p.ranks + 16) : 0),
        shared(by_rows ? 0 : float_bytes((items.chunks + 1) * p.rows * p.ranks + 16)) {}
  [[nodiscard]] std::size_t bytes() const { return shared + (each + out) * static_cast<std::size_t>(workers); }
};

template <class E>
void shrink_on_host(E const& ex, shrink_plan const& plan) {
  shrink_bodies const& f = host_bodies<shrink_bodies>();
  shrink_problem const& p = plan.p;
  scratch_block const memory(ex.resource(), plan.bytes());
  if (plan.by_rows) {
    ex.region(plan.workers,
              verb_region{"shrink", [&](auto const& w) {
                            std::byte* const mine =
                                memory.data() + (plan.each + plan.out) * static_cast<std::size_t>(w.index());
                            auto* const v = reinterpret_cast<float*>(mine);
                            auto* const scratch = reinterpret_cast<float*>(mine + plan.out);
                            index_t const end = part_begin(p.rows, w.index() + 1, w.size());
                            for (index_t t = part_begin(p.rows, w.index(), w.size()); t < end; t += plan.block) {
                              index_t const u = t + plan.block < end ? t + plan.block : end;
                              f.shrink_rows(p, t, u, v, scratch);
                              f.unpack(v, p.ranks, u - t, p.ranks, p.v.at(t, 0));
                            }
                          }});
    return;
  }
  index_t const count = p.rows * p.ranks;
  auto* const part = reinterpret_cast<float*>(memory.data());
  ex.region(plan.workers, verb_region{"shrink", [&](auto const& w) {
                                        shrink_items_of(
                                            f, p, plan.items, w.index(), w.size(), part,
                                            reinterpret_cast<float*>(memory.data() + plan.shared +
                                                                     plan.each * static_cast<std::size_t>(w.index())));
                                        w.barrier();
                                        if (w.index() != 0) return;
                                        float* const v = part + plan.items.chunks * count;
                                        f.combine_chunks(part, plan.items.chunks, 0, count, count, p.scale, v);
                                        f.unpack(v, p.ranks, p.rows, p.ranks, p.v);
                                      }});
}

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
/// Taken on hosts for float, bfloat16 and float16 at any mix and any strides.
template <host_executor E, host_storage X, host_storage A, host_storage V>
struct override_for<shrink_fn, E, X, A, V> {
  static constexpr body which = body::host;
  static void run(E const& ex, X const& x, A const& a, V const& v, scaling scale) {
    if (v.size() == 0) return;
    graft::detail::shrink_on_host(ex, plan(ex, x, a, v, scale));
  }
  static std::size_t scratch_bytes(E const& ex, X const& x, A const& a, V const& v, scaling scale) {
    return v.size() == 0 ? 0 : plan(ex, x, a, v, scale).bytes();
  }

 private:
  static graft::detail::shrink_plan plan(E const& ex, X const& x, A const& a, V const& v, scaling scale) {
    using graft::detail::erased;
    return {
        ex.concurrency(),
        {erased(x), erased(a), erased(v), x.extent(0), a.extent(0), x.extent(1), static_cast<float>(scale.value())}};
  }
};
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
