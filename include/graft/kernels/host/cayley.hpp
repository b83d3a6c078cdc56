// SPDX-License-Identifier: Apache-2.0
/// @file
/// Host bodies of `cayley` and `cayley_neumann`: sixteen blocks at a time, over workers.
#pragma once

#include <cstddef>

#include <graft/config.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/cayley.hpp>
#include <graft/kernels/host/levels.hpp>
#include <graft/kernels/host/shrink.hpp>
#include <graft/kernels/override.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {

template <class P, class R>
[[nodiscard]] cayley_problem erased_cayley(P const& p, R const& r, int terms) {
  constexpr bool packed = P::rank() == 2;
  index_t inner = 0;
  if constexpr (!packed) inner = p.stride(2);
  return {{const_cast<typename P::value_type*>(p.data_handle()), storage_of<typename P::value_type>, p.stride(0),
           p.stride(1)},
          inner,
          {r.data_handle(), storage_of<typename R::value_type>, r.stride(0), r.stride(1)},
          r.stride(2),
          r.extent(0),
          r.extent(1),
          packed,
          terms};
}

/// Sixteen blocks are a group; workers take groups, each with scratch of its own.
struct cayley_plan {
  index_t groups;
  index_t workers;
  std::size_t each;

  cayley_plan(int concurrency, cayley_problem const& p)
      : groups((p.blocks + 15) / 16),
        workers(useful_workers(concurrency, p.blocks * p.size * p.size * p.size)),
        each(float_bytes(cayley_scratch(p.size, p.terms))) {
    if (workers > groups) workers = groups;
  }
  [[nodiscard]] std::size_t bytes() const { return each * static_cast<std::size_t>(workers); }
};

template <class E>
void cayley_on_host(E const& ex, cayley_problem const& p) {
  cayley_bodies const& f = host_bodies<cayley_bodies>();
  cayley_plan const plan(ex.concurrency(), p);
  index_t const groups = plan.groups;
  std::size_t const each = plan.each;
  scratch_block const memory(ex.resource(), plan.bytes());
  ex.region(static_cast<int>(plan.workers),
            verb_region{"cayley", [&](auto const& w) {
                          index_t const last = part_begin(groups, w.index() + 1, w.size()) * 16;
                          f.cayley(
                              p, part_begin(groups, w.index(), w.size()) * 16, last < p.blocks ? last : p.blocks,
                              reinterpret_cast<float*>(memory.data() + each * static_cast<std::size_t>(w.index())));
                        }});
}

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
/// Taken on hosts for float, bfloat16 and float16 at any mix and any strides. Blocks above 512 run the readable body.
template <host_executor E, host_storage P, host_storage R>
struct override_for<cayley_fn, E, P, R> {
  static constexpr body which = body::host;
  static void run(E const& ex, P const& p, R const& r) {
    if (r.size() == 0) return;
    if (r.extent(1) > chunk) return cayley_fn{}.generic(ex, p, r);
    graft::detail::cayley_on_host(ex, graft::detail::erased_cayley(p, r, 0));
  }
  static std::size_t scratch_bytes(E const& ex, P const& p, R const& r) {
    if (r.size() == 0) return 0;
    if (r.extent(1) > chunk) return cayley_fn::generic_scratch_bytes<P>(ex, r);
    return graft::detail::cayley_plan(ex.concurrency(), graft::detail::erased_cayley(p, r, 0)).bytes();
  }
};
template <host_executor E, host_storage P, host_storage R>
struct override_for<cayley_neumann_fn, E, P, R> {
  static constexpr body which = body::host;
  static void run(E const& ex, P const& p, int terms, R const& r) {
    if (r.size() == 0) return;
    if (r.extent(1) > chunk) return cayley_neumann_fn{}.generic(ex, p, terms, r);
    graft::detail::cayley_on_host(ex, graft::detail::erased_cayley(p, r, terms));
  }
  static std::size_t scratch_bytes(E const& ex, P const& p, int terms, R const& r) {
    if (r.size() == 0) return 0;
    if (r.extent(1) > chunk) return cayley_neumann_fn::generic_scratch_bytes<P>(ex, r);
    return graft::detail::cayley_plan(ex.concurrency(), graft::detail::erased_cayley(p, r, terms)).bytes();
  }
};
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
