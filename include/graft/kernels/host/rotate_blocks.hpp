// SPDX-License-Identifier: Apache-2.0
/// @file
/// Host body of `rotate_blocks`: blocks are packed once where that pays, then rows over workers; for few rows blocks over workers, a barrier a
/// factor.
#pragma once

#include <algorithm>
#include <cstddef>

#include <graft/config.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/host/levels.hpp>
#include <graft/kernels/host/shrink.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/rotate_blocks.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {

/// Rows that go through all factors together: they stay in the second level of caches.
inline constexpr index_t rotated_rows = 16;

/// How a call is cut over workers, and the scratch that it takes.
struct rotation_plan {
  rotation_problem p;
  int workers;
  bool by_rows;         // else by items, with a barrier a factor
  bool direct;          // the factors read x and work in y
  index_t ld;           // of rows in scratch
  std::size_t packed;   // bytes shared: the blocks,
  std::size_t shared;   // and the rows when they are few
  std::size_t rows_of;  // bytes a worker: rows,
  std::size_t each;     // and all

  rotation_plan(int concurrency, rotation_problem const& given)
      : p(given),
        workers(useful_workers(concurrency, p.rows * p.features * p.size * p.factors)),
        by_rows(workers == 1 || p.rows >= 4 * workers),
        direct(!p.adds && plain(p.x) && plain(p.y)),
        ld(packed_features(p.features)),
        packed(p.reads_r(p.factors - 1) ? 0 : float_bytes(p.factors * p.features * p.size)),
        shared(by_rows || direct ? 0 : float_bytes(p.rows * ld)),
        rows_of(by_rows && !direct ? float_bytes((std::min)(p.rows, rotated_rows) * ld) : 0),
        each(rows_of + float_bytes((std::max)(8 * p.size, p.adds ? ld : index_t{0}))) {}
  [[nodiscard]] static bool plain(operand const& m) { return m.kind == storage::fp32 && m.column == 1; }
  [[nodiscard]] std::size_t bytes() const { return packed + shared + each * static_cast<std::size_t>(workers); }
};

/// Factors of `rows` rows from row t on, items [first, last), with `wait` after each.
template <class Wait>
void rotate_rows_on_host(rotation_bodies const& f, rotation_plan const& plan, float const* packed, index_t t,
                         index_t rows, index_t first, index_t last, float* own, float* scratch, Wait const& wait) {
  rotation_problem const& p = plan.p;
  bool const reads_x = plan.plain(p.x);
  operand const x = p.x.at(t, 0);
  float* const to = plan.direct ? p.y.at(t, 0).as<float>() : own;
  index_t const ldto = plan.direct ? p.y.row : plan.ld;
  float const* from = reads_x ? x.as<float const>() : to;
  index_t ldfrom = reads_x ? p.x.row : ldto;
  for (index_t step = 0; step < p.factors; ++step) {
    index_t const factor = p.transposed ? step : p.factors - 1 - step;
    float const* const r = p.reads_r(factor) ? nullptr : packed + factor * p.features * p.size;
    f.rotate(p, factor, r, from, ldfrom, to, ldto, rows, first, last, scratch);
    from = to;
    ldfrom = ldto;
    wait();
  }
}

template <class E>
void rotate_on_host(E const& ex, rotation_plan const& plan) {
  rotation_bodies const& f = host_bodies<rotation_bodies>();
  rotation_problem const& p = plan.p;
  scratch_block const memory(ex.resource(), plan.bytes());
  auto* const packed = reinterpret_cast<float*>(memory.data());
  auto* const few = reinterpret_cast<float*>(memory.data() + plan.packed);
  bool const reads_x = plan.plain(p.x);
  ex.region(plan.workers,
            verb_region{"rotate_blocks", [&](auto const& w) {
                          auto* const own = reinterpret_cast<float*>(memory.data() + plan.packed + plan.shared +
                                                                     plan.each * static_cast<std::size_t>(w.index()));
                          float* const scratch = own + plan.rows_of / sizeof(float);
                          index_t const first = part_begin(p.items(), w.index(), w.size());
                          index_t const last = part_begin(p.items(), w.index() + 1, w.size());
                          if (plan.packed != 0) {
                            for (index_t factor = p.reads_r(0) ? 1 : 0; factor < p.factors; ++factor)
                              f.pack_rotation(p, factor, first, last, packed + factor * p.features * p.size);
                            w.barrier();
                          }
                          if (plan.by_rows) {
                            index_t const end = part_begin(p.rows, w.index() + 1, w.size());
                            for (index_t t = part_begin(p.rows, w.index(), w.size()); t < end; t += rotated_rows) {
                              index_t const some = (std::min)(rotated_rows, end - t);
                              if (!reads_x) f.pack(p.x.at(t, 0), some, p.features, own, plan.ld);
                              rotate_rows_on_host(f, plan, packed, t, some, 0, p.items(), own, scratch, [] {});
                              if (!plan.direct) f.finish_rotation(p, t, t + some, own, plan.ld, scratch);
                            }
                            return;
                          }
                          if (!reads_x) {
                            for (index_t t = w.index(); t < p.rows; t += w.size())
                              f.pack(p.x.at(t, 0), 1, p.features, few + t * plan.ld, plan.ld);
                            w.barrier();
                          }
                          rotate_rows_on_host(f, plan, packed, 0, p.rows, first, last, few, scratch,
                                              [&] { w.barrier(); });
                          if (!plan.direct)
                            for (index_t t = w.index(); t < p.rows; t += w.size())
                              f.finish_rotation(p, t, t + 1, few + t * plan.ld, plan.ld, scratch);
                        }});
}

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
/// Taken on hosts for float, bfloat16 and float16 at any mix and any strides. Blocks above 512 run the readable body.
template <bool Transposed, bool Add, host_executor E, host_storage X, host_storage R, host_storage Y>
struct override_for<rotate_blocks_fn<Transposed, Add>, E, X, R, Y> {
  using verb = rotate_blocks_fn<Transposed, Add>;
  static constexpr body which = body::host;
  static void run(E const& ex, X const& x, R const& r, Y const& y, index_t first) {
    if (y.size() == 0) return;
    if (r.extent(2) > chunk) return verb{}.generic(ex, x, r, y, first);
    graft::detail::rotate_on_host(ex, plan(ex, x, r, y, first));
  }
  static std::size_t scratch_bytes(E const& ex, X const& x, R const& r, Y const& y, index_t first) {
    if (y.size() == 0) return 0;
    if (r.extent(2) > chunk)
      return ex.league_scratch(x.extent(0), 2 * sizeof(float) * static_cast<std::size_t>(x.extent(1)));
    return plan(ex, x, r, y, first).bytes();
  }

 private:
  static graft::detail::rotation_plan plan(E const& ex, X const& x, R const& r, Y const& y, index_t first) {
    return {ex.concurrency(),
            {graft::detail::erased(x), graft::detail::erased(y), r.data_handle(),
             graft::detail::storage_of<typename R::value_type>, r.stride(0), r.stride(1), r.stride(2), r.stride(3),
             x.extent(0), x.extent(1), r.extent(0), r.extent(2), first, Transposed, Add}};
  }
};
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
