// SPDX-License-Identifier: Apache-2.0
/// @file
/// Host body of `low_rank_add`: per block of rows shrink then expand; two phases with one barrier for few rows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

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
/// A vector of factors that the host body takes, or none.
template <class F> concept host_factor = std::is_same_v<F, none_t> || kernels::host_storage<F>;

inline namespace GRAFT_TARGET {

/// Rows whose v is kept at a time: enough to pay for packing w.
inline constexpr index_t low_rank_row_block = 576;

/// Factors as host bodies take them: fp32, side by side, or null.
struct fp32_factors {
  float const* rank = nullptr;
  float const* delta = nullptr;
  float const* result = nullptr;
};
/// Is a factor read as it lies in memory?
template <class F>
inline constexpr bool is_plain_factor = [] {
  if constexpr (tensor<F>) return std::is_same_v<typename F::value_type, float> && F::unit_dimension == 0;
  else return true;
}();
/// Bytes of the copy of a factor that is not.
template <class F>
[[nodiscard]] std::size_t factor_bytes(F const& f) {
  if constexpr (is_plain_factor<F>) return 0;
  else return float_bytes(f.extent(0));
}
template <class F>
[[nodiscard]] float const* plain_factor(F const& f, std::byte*& memory) {
  if constexpr (std::is_same_v<F, none_t>) return nullptr;
  else if constexpr (is_plain_factor<F>) return f.data_handle();
  else {
    auto* const out = reinterpret_cast<float*>(memory);
    for (index_t i = 0; i < f.extent(0); ++i) out[i] = load_as<float>(f(i));
    memory += float_bytes(f.extent(0));
    return out;
  }
}

/// How a call is cut over workers, and the scratch that it takes.
struct low_rank_plan {
  shrink_problem s;
  operand b;
  operand y;
  index_t columns;
  std::size_t factor_copies;  // bytes
  int workers;
  bool by_rows;  // nothing shared and no barrier; else (rank group, chunk) items, a barrier, then panels of columns
  shrink_items items;
  index_t block;      // rows at a time
  std::size_t parts;  // bytes shared: v of every chunk
  std::size_t kept;   // bytes a worker: v,
  std::size_t each;   // and packed operands with it

  low_rank_plan(int concurrency, shrink_problem const& shrinks, operand const& given_b, operand const& given_y,
                index_t outputs, std::size_t bytes_of_factors, bool scales_delta)
      : s(shrinks),
        b(given_b),
        y(given_y),
        columns(outputs),
        factor_copies(bytes_of_factors),
        workers(useful_workers(concurrency, s.rows * s.ranks * (s.length + columns))),
        by_rows(workers == 1 || (s.rows >= 32 && s.rows >= 12 * workers)),
        items(s, workers),
        block(by_rows ? (std::min)((s.rows + workers - 1) / workers, low_rank_row_block) : s.rows),
        parts(by_rows ? 0 : float_bytes(items.chunks * s.rows * s.ranks + 16)),
        kept(float_bytes(block * s.ranks + 16)),
        each(kept +
             float_bytes((std::max)(shrink_scratch(s.ranks), expand_scratch(scratch_problem(scales_delta), block)))) {}
  [[nodiscard]] std::size_t bytes() const { return factor_copies + parts + each * static_cast<std::size_t>(workers); }
  /// The second half for `rows` rows from `first` on, whose v lies row by row.
  [[nodiscard]] expand_problem expand_of(float* v, index_t first, index_t rows, fp32_factors const& f) const {
    return {
        {v, storage::fp32, s.ranks, 1, 0}, b, y.at(first, 0), rows, columns, s.ranks, 1.0F, false, f.delta, f.result};
  }

 private:
  /// A problem that takes the scratch of a real one, when there are no pointers yet.
  [[nodiscard]] expand_problem scratch_problem(bool scales_delta) const {
    static constexpr float there = 1;
    return expand_of(nullptr, 0, block, {.delta = scales_delta ? &there : nullptr});
  }
};

/// v(t, j) *= rank(j).
inline void scale_ranks(float const* rank, index_t rows, index_t ranks, float* v) {
  if (rank == nullptr) return;
  for (index_t t = 0; t < rows; ++t)
    for (index_t j = 0; j < ranks; ++j) v[t * ranks + j] = rank[j] * v[t * ranks + j];
}

template <class E>
void low_rank_add_on_host(E const& ex, shrink_bodies const& shrinks, expand_bodies const& expands,
                          low_rank_plan const& plan, shrink_problem const& s, fp32_factors const& factors,
                          std::byte* const memory) {
  auto* const part = reinterpret_cast<float*>(memory);
  ex.region(
      plan.workers,
      verb_region{"low_rank_add", [&](auto const& w) {
                    std::byte* const mine = memory + plan.parts + plan.each * static_cast<std::size_t>(w.index());
                    auto* const v = reinterpret_cast<float*>(mine);
                    auto* const scratch = reinterpret_cast<float*>(mine + plan.kept);
                    if (plan.by_rows) {
                      index_t const end = part_begin(s.rows, w.index() + 1, w.size());
                      for (index_t t = part_begin(s.rows, w.index(), w.size()); t < end; t += plan.block) {
                        index_t const u = (std::min)(t + plan.block, end);
                        shrinks.shrink_rows(s, t, u, v, scratch);
                        scale_ranks(factors.rank, u - t, s.ranks, v);
                        expands.expand_rows(plan.expand_of(v, t, u - t, factors), 0, u - t, 0, plan.columns, scratch);
                      }
                      return;
                    }
                    index_t const count = s.rows * s.ranks;
                    index_t const panels = (plan.columns + panel_width - 1) / panel_width;
                    shrink_items_of(shrinks, s, plan.items, w.index(), w.size(), part, scratch);
                    w.barrier();
                    shrinks.combine_chunks(part, plan.items.chunks, 0, count, count, s.scale, v);
                    scale_ranks(factors.rank, s.rows, s.ranks, v);
                    expands.expand_rows(
                        plan.expand_of(v, 0, s.rows, factors), 0, s.rows,
                        part_begin(panels, w.index(), w.size()) * panel_width,
                        (std::min)(part_begin(panels, w.index() + 1, w.size()) * panel_width, plan.columns), scratch);
                  }});
}
template <class E, class F>
void low_rank_add_on_host(E const& ex, low_rank_plan const& plan, F const& given) {
  shrink_bodies const& shrinks = host_bodies<shrink_bodies>();
  expand_bodies const& expands = host_bodies<expand_bodies>();
  shrink_problem const& s = plan.s;
  scratch_block const memory(ex.resource(), plan.bytes());
  std::byte* rest = memory.data();
  fp32_factors factors;
  factors.rank = plain_factor(given.rank, rest);
  factors.delta = plain_factor(given.delta, rest);
  factors.result = plain_factor(given.result, rest);
  low_rank_add_on_host(ex, shrinks, expands, plan, s, factors, rest);
}

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
/// Taken on hosts for float, bfloat16 and float16 at any mix and any strides, factors too; B may be packed.
template <host_executor E, host_storage X, host_storage A, host_storage B, host_storage Y, graft::detail::host_factor D,
          graft::detail::host_factor Delta, graft::detail::host_factor Result>
struct override_for<low_rank_add_fn, E, X, A, B, Y, low_rank_factors<D, Delta, Result>> {
  using factors_t = low_rank_factors<D, Delta, Result>;
  static constexpr body which = body::host;
  static void run(E const& ex, X const& x, A const& a, B const& b, Y const& y, scaling scale, factors_t const& f) {
    if (y.size() == 0) return;
    if (a.extent(0) == 0) {
      if constexpr (tensor<Result>) low_rank_add_fn{}.generic(ex, x, a, b, y, scale, f);  // y = result y
      return;
    }
    graft::detail::low_rank_add_on_host(ex, plan(ex, x, a, b, y, scale, f), f);
  }
  static std::size_t scratch_bytes(E const& ex, X const& x, A const& a, B const& b, Y const& y, scaling scale,
                                   factors_t const& f) {
    return y.size() == 0 || a.extent(0) == 0 ? 0 : plan(ex, x, a, b, y, scale, f).bytes();
  }

 private:
  static graft::detail::low_rank_plan plan(E const& ex, X const& x, A const& a, B const& b, Y const& y, scaling scale,
                                           factors_t const& f) {
    using graft::detail::erased;
    using graft::detail::factor_bytes;
    return {ex.concurrency(),
            {erased(x), erased(a), {}, x.extent(0), a.extent(0), x.extent(1), static_cast<float>(scale.value())},
            erased(b),
            erased(y),
            y.extent(1),
            factor_bytes(f.rank) + factor_bytes(f.delta) + factor_bytes(f.result),
            tensor<Delta>};
  }
};
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
