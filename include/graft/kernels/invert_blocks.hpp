// SPDX-License-Identifier: Apache-2.0
/// @file
/// `invert_blocks`: the inverses of many small matrices in fp64. What takes back a rotation that is only nearly orthogonal.
#pragma once

#include <cmath>
#include <cstddef>
#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/override.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {
/// A block a team: Gauss and Jordan on [R | I] with the largest pivot of each column, the lowest row of equal ones.
template <class R, class M>
struct invert_body {
  static constexpr std::string_view verb = "invert_blocks";
  static constexpr bool unbounded_scratch = true;
  R r;
  M inverse;

  [[nodiscard]] GRAFT_FN constexpr index_t lanes() const { return 2 * r.extent(1) * r.extent(1); }

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const k = tm.league_rank();
    index_t const b = r.extent(1);
    index_t const wide = 2 * b;
    auto* const m = tm.template scratch<double>(b * wide + wide + b);
    auto* const row = m + b * wide;
    auto* const column = row + wide;
    tm.vector(b * wide, [&](index_t e) {
      index_t const i = e / wide;
      index_t const j = e % wide;
      m[e] = j < b ? load_as<double>(r(k, i, j)) : j - b == i ? 1.0 : 0.0;
    });
    tm.barrier();
    for (index_t pivot = 0; pivot < b; ++pivot) {
      index_t best = pivot;
      for (index_t i = pivot + 1; i < b; ++i)
        if (std::fabs(m[i * wide + pivot]) > std::fabs(m[best * wide + pivot])) best = i;
      double const by = m[best * wide + pivot];
      tm.barrier();
      tm.vector(wide, [&](index_t j) {
        double const taken = m[best * wide + j];
        m[best * wide + j] = m[pivot * wide + j];
        row[j] = taken / by;
      });
      tm.barrier();
      tm.vector(b, [&](index_t i) { column[i] = -m[i * wide + pivot]; });
      tm.barrier();
      tm.vector(b * wide, [&](index_t e) {
        index_t const i = e / wide;
        index_t const j = e % wide;
        m[e] = i == pivot ? row[j] : std::fma(column[i], row[j], m[e]);
      });
      tm.barrier();
    }
    tm.vector(b * b, [&](index_t e) {
      inverse(k, e / b, e % b) = store_as<typename M::value_type>(m[e / b * wide + b + e % b]);
    });
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// M = R^-1, block by block, whatever the scalars in fp64. A block without an inverse gives infinities or NaN.
///
/// Shapes       R[D, b, b] in; M[D, b, b] out. Any strides, any scalars.
/// Order        Gauss and Jordan with partial pivoting, column by column.
/// Aliasing     M may not overlap R.
/// Determinism  equal bits on every executor; a block depends on itself only.
/// Cost         4 D b^3 flops in fp64. Once a merge, not once a token.
/// Scratch      `scratch_bytes(...)` of the same arguments, from the executor's resource: 2 b^2 + 3 b doubles a team.
/// Errors       shape_error, argument_error; nothing is written then.
struct invert_blocks_fn {
  template <class E, class R, class M>
  static consteval bool mandates() {
    GRAFT_MANDATE_EXECUTOR("kernels::invert_blocks", E)
    GRAFT_MANDATE_INPUT("kernels::invert_blocks", "R", E, R, 3)
    GRAFT_MANDATE_OUTPUT("kernels::invert_blocks", "M", E, M, 3)
    return graft::detail::accepted_input<E, R, 3> && graft::detail::accepted_output<E, M, 3>;
  }
  template <class E, class R, class M>
  void operator()(E const& ex, R const& r, M const& inverse) const {
    if constexpr (mandates<E, R, M>()) {
      expects(r, inverse);
      if (r.size() == 0) return;
      ex.league(r.extent(0), team_bytes(r), graft::detail::invert_body<R, M>{r, inverse});
    }
  }
  /// Bytes that a call with these arguments takes from the executor's resource.
  template <executor E, class R, class M>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, R const& r, M const& inverse) const {
    expects(r, inverse);
    if (r.size() == 0) return 0;
    return graft::detail::league_bytes(ex, r.extent(0), team_bytes(r));
  }

 private:
  template <class R>
  [[nodiscard]] static std::size_t team_bytes(R const& r) {
    index_t const b = r.extent(1);
    return sizeof(double) * static_cast<std::size_t>(2 * b * b + 3 * b);
  }
  template <class R, class M>
  static void expects(R const& r, M const& inverse) {
    constexpr std::string_view verb = "kernels::invert_blocks";
    graft::detail::expects_equal_extents(verb, "R", r, 1, "R", r, 2);
    for (std::size_t i = 0; i < 3; ++i) graft::detail::expects_equal_extents(verb, "M", inverse, i, "R", r, i);
    graft::detail::expects_data(verb, "R", r);
    graft::detail::expects_output(verb, "M", inverse);
    graft::detail::expects_disjoint(verb, "M", inverse, "R", r);
  }
};
inline constexpr invert_blocks_fn invert_blocks{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
