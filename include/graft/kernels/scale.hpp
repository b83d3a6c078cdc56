// SPDX-License-Identifier: Apache-2.0
/// @file
/// `scale_rows` and `scale_columns`: diag(d) Y and Y diag(d), in place. `limit_row_norms`: rows that are too long are scaled
/// down. Memory-bound; the generic body is the body.
#pragma once

#include <cmath>
#include <cstddef>
#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/elements.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {
/// `Dimension` is the one that d runs along.
template <class D, class Y, int Dimension>
struct scale_value {
  static constexpr std::string_view verb = Dimension == 0 ? "scale_rows" : "scale_columns";
  D d;
  Y y;
  GRAFT_FN auto operator()(index_t i, index_t j) const {
    using accumulate = accumulate_t<typename D::value_type, typename Y::value_type>;
    return load_as<accumulate>(d(Dimension == 0 ? i : j)) * load_as<accumulate>(y(i, j));
  }
};

/// One row after another: a group sums its squares in fp64.
template <class Y>
struct limit_body {
  static constexpr std::string_view verb = "limit_row_norms";
  Y y;
  double limit;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    using accumulate = accumulate_t<typename Y::value_type>;
    index_t const i = tm.league_rank();
    auto* const factor = tm.template scratch<double>(1);
    tm.groups(1, [&](index_t) {
      double sum[1];
      auto const element = [&](index_t k) { return load_as<double>(y(i, k)); };
      sum_long_axis(tm, y.extent(1), element, [&](int, index_t k) { return element(k); }, sum);
      tm.once([&] {
        double const norm = std::sqrt(sum[0]);
        *factor = norm > limit ? limit / norm : 1.0;
      });
    });
    tm.barrier();
    auto const s = static_cast<accumulate>(*factor);
    if (s == accumulate{1}) return;
    pass_over(
        tm, y.extent(1), [&](index_t j) { return s * load_as<accumulate>(y(i, j)); },
        [&](index_t j, accumulate element) { store_element(y, i, j, element); });
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// Y[i, j] *= d[i] (scale_rows) or d[j] (scale_columns).
///
/// Shapes       Y[p, q] in and out; d[p] or d[q] in. Any strides, any scalars; one product in fp32 (fp64 when one is
///              `double`) and one rounding an element.
/// Aliasing     Y may not overlap d.
/// Cost         p q flops; p q elements read and written.
/// Errors       shape_error, argument_error; nothing is written then.
template <int Dimension>
struct scale_fn {
  static_assert(Dimension == 0 || Dimension == 1);

  template <class E, class D, class Y>
  static consteval bool mandates() {
    if constexpr (Dimension == 0) {
      GRAFT_MANDATE_EXECUTOR("kernels::scale_rows", E)
      GRAFT_MANDATE_INPUT("kernels::scale_rows", "d", E, D, 1)
      GRAFT_MANDATE_OUTPUT("kernels::scale_rows", "Y", E, Y, 2)
    } else {
      GRAFT_MANDATE_EXECUTOR("kernels::scale_columns", E)
      GRAFT_MANDATE_INPUT("kernels::scale_columns", "d", E, D, 1)
      GRAFT_MANDATE_OUTPUT("kernels::scale_columns", "Y", E, Y, 2)
    }
    return graft::detail::accepted_input<E, D, 1> && graft::detail::accepted_output<E, Y, 2>;
  }

  template <class E, class D, class Y>
  void operator()(E const& ex, D const& d, Y const& y) const {
    if constexpr (mandates<E, D, Y>()) {
      constexpr std::string_view verb = Dimension == 0 ? "kernels::scale_rows" : "kernels::scale_columns";
      graft::detail::expects_equal_extents(verb, "d", d, 0, "Y", y, Dimension);
      graft::detail::expects_data(verb, "d", d);
      graft::detail::expects_output(verb, "Y", y);
      graft::detail::expects_disjoint(verb, "Y", y, "d", d);
      graft::detail::write_elements(ex, y, graft::detail::scale_value<D, Y, Dimension>{d, y});
    }
  }
};
inline constexpr scale_fn<0> scale_rows{};
inline constexpr scale_fn<1> scale_columns{};

/// Rows of Y whose length is above `limit` are scaled to it.
///
/// Shapes       Y[p, q] in and out. Any strides, any scalar.
/// Order        squares in fp64 by the long axis (see summation.hpp); then one product and one rounding an element.
/// Cost         3 p q flops; p q elements read, and written where they change.
/// Scratch      `scratch_bytes(...)` of the same arguments, from the executor's resource: a double a team.
/// Errors       argument_error; nothing is written then.
struct limit_row_norms_fn {
  template <class E, class Y>
  void operator()(E const& ex, Y const& y, double limit) const {
    GRAFT_MANDATE_EXECUTOR("kernels::limit_row_norms", E)
    GRAFT_MANDATE_OUTPUT("kernels::limit_row_norms", "Y", E, Y, 2)
    if constexpr (graft::detail::accepted_output<E, Y, 2>) {
      graft::detail::expects_output("kernels::limit_row_norms", "Y", y);
      ex.league(y.extent(0), team_bytes, graft::detail::limit_body<Y>{y, limit});
    }
  }
  /// Bytes that a call with these arguments takes from the executor's resource.
  template <executor E, class Y>
  [[nodiscard]] std::size_t scratch_bytes(E const& ex, Y const& y, double /* limit */) const {
    graft::detail::expects_output("kernels::limit_row_norms", "Y", y);
    return graft::detail::league_bytes(ex, y.extent(0), team_bytes);
  }

 private:
  static constexpr std::size_t team_bytes = sizeof(double);
};
inline constexpr limit_row_norms_fn limit_row_norms{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
