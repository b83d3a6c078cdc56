// SPDX-License-Identifier: Apache-2.0
/// @file
/// Host body of `row_norms`: the Gram matrix first, then one sweep over W, rows over workers.
#pragma once

#include <cmath>
#include <cstddef>

#include <graft/config.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/host/levels.hpp>
#include <graft/kernels/host/low_rank_add.hpp>
#include <graft/kernels/host/shrink.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/row_norms.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {

/// How a call is cut over workers, and the scratch that it takes.
struct norm_plan {
  norm_problem p;
  int workers;
  std::size_t gram;  // bytes shared
  std::size_t each;  // bytes a worker

  norm_plan(int concurrency, norm_problem const& given)
      : p(given),
        workers(useful_workers(concurrency, p.rows * (p.ranks + 1) * p.length)),
        gram(float_bytes(p.ranks * (p.ranks + 1))),
        each(float_bytes(norm_scratch(p.ranks))) {}
  [[nodiscard]] std::size_t bytes() const { return gram + each * static_cast<std::size_t>(workers); }
};

template <class E>
void row_norms_on_host(E const& ex, norm_plan const& plan) {
  shrink_bodies const& shrinks = host_bodies<shrink_bodies>();
  norm_bodies const& norms = host_bodies<norm_bodies>();
  norm_problem const& p = plan.p;
  scratch_block const memory(ex.resource(), plan.bytes());
  auto* const gram = reinterpret_cast<float*>(memory.data());
  ex.region(plan.workers,
            verb_region{"row_norms", [&](auto const& w) {
                          auto* const scratch = reinterpret_cast<float*>(
                              memory.data() + plan.gram + plan.each * static_cast<std::size_t>(w.index()));
                          index_t const first = part_begin(p.ranks, w.index(), w.size());
                          index_t const last = part_begin(p.ranks, w.index() + 1, w.size());
                          if (last > first)
                            shrinks.shrink_rows({p.a, p.a, {}, p.ranks, p.ranks, p.length, 1.0F}, first, last,
                                                gram + first * p.ranks, scratch);
                          for (index_t j = first; j < last; ++j)
                            gram[p.ranks * p.ranks + j] = std::sqrt(gram[j * p.ranks + j]);
                          w.barrier();
                          index_t const end = part_begin(p.rows, w.index() + 1, w.size());
                          for (index_t t = part_begin(p.rows, w.index(), w.size()); t < end; t += norm_row_block)
                            norms.norm_rows(p, t, t + norm_row_block < end ? t + norm_row_block : end, gram, scratch);
                        }});
}

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
/// Taken on hosts for float, bfloat16 and float16 at any mix and any strides.
template <host_executor E, host_storage W, graft::detail::host_factor B, graft::detail::host_factor A,
          graft::detail::host_factor Base, host_storage N>
struct override_for<row_norms_fn, E, W, B, A, Base, N> {
  static constexpr body which = body::host;
  static void run(E const& ex, W const& w, B const& b, A const& a, N const& norms, scaling scale, Base const& base) {
    if (norms.size() == 0) return;
    graft::detail::row_norms_on_host(ex, plan(ex, w, b, a, norms, scale, base));
  }
  static std::size_t scratch_bytes(E const& ex, W const& w, B const& b, A const& a, N const& norms, scaling scale,
                                   Base const& base) {
    return norms.size() == 0 ? 0 : plan(ex, w, b, a, norms, scale, base).bytes();
  }

 private:
  /// A vector as a column; nothing of none.
  template <class V>
  static graft::detail::operand column(V const& v) {
    if constexpr (tensor<V>)
      return {const_cast<typename V::value_type*>(v.data_handle()), graft::detail::storage_of<typename V::value_type>,
              v.stride(0), 0};
    else return {nullptr, graft::detail::storage::fp32, 0, 0};
  }
  template <class V>
  static graft::detail::operand erased_or_none(V const& v) {
    if constexpr (tensor<V>) return graft::detail::erased(v);
    else return {nullptr, graft::detail::storage::fp32, 0, 0};
  }
  static graft::detail::norm_plan plan(E const& ex, W const& w, B const& b, A const& a, N const& norms, scaling scale,
                                       Base const& base) {
    index_t ranks = 0;
    if constexpr (tensor<A>) ranks = a.extent(0);
    return {ex.concurrency(),
            {graft::detail::erased(w), erased_or_none(a), erased_or_none(b), column(base), column(norms), w.extent(0),
             ranks, w.extent(1), static_cast<float>(scale.value())}};
  }
};
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
