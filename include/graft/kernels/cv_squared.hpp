// SPDX-License-Identifier: Apache-2.0
/// @file
/// `cv_squared`: the squared coefficient of variation of a vector and its gradient. The generic body is the body.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/override.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Divides squares by E, or by E - 1.
enum class variance : std::uint8_t { population, unbiased };

namespace detail {
inline namespace GRAFT_TARGET {

/// One team, in fp64: every lane adds all up, in order.
template <class V, class L, class DV>
struct cv_squared_body {
  static constexpr std::string_view verb = "cv_squared";
  V v;
  double divisor;
  double epsilon;
  double weight;
  L loss;
  DV dv;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    auto const n = static_cast<double>(v.extent(0));
    double sum = 0;
    for (index_t e = 0; e < v.extent(0); ++e) sum = sum + load_as<double>(v(e));
    double const mean = sum / n;
    double squares = 0;
    for (index_t e = 0; e < v.extent(0); ++e) {
      double const apart = load_as<double>(v(e)) - mean;
      squares = std::fma(apart, apart, squares);
    }
    double const var = squares / divisor;
    double const below = std::fma(mean, mean, epsilon);
    if (!(below > 0.0)) return;
    if constexpr (!std::is_same_v<L, none_t>)
      tm.vector(1, [&](index_t i) {
        loss(i) = store_as<typename L::value_type>(std::fma(weight, var / below, load_as<double>(loss(i))));
      });
    if constexpr (!std::is_same_v<DV, none_t>) {
      double const of_mean = var / below * (2.0 * mean / (n * below));
      tm.vector(v.extent(0), [&](index_t e) {
        double const d = std::fma(2.0 / (divisor * below), load_as<double>(v(e)) - mean, -of_mean);
        dv(e) = store_as<typename DV::value_type>(std::fma(weight, d, load_as<double>(dv(e))));
      });
    }
  }
  [[nodiscard]] index_t lanes() const { return v.extent(0); }
};

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// loss[0] += weight * var(v) / (mean(v)^2 + epsilon); dv += weight * its gradient. One number has no variance.
///
/// Shapes       v[E] in; loss[1], dv[E] in and out, or `none`. Any strides, any scalars; computed in fp64, in order.
/// Aliasing     loss and dv may not overlap anything else.
/// Cost         about 8 E flops.
/// Errors       shape_error, argument_error; nothing is written then.
/// Source       Shazeer et al. 2017 (arXiv 1701.06538), equation 7, with epsilon as in common implementations.
struct cv_squared_fn {
  template <class E, class V, class L, class DV = none_t>
  void operator()(E const& ex, V const& v, scaling weight, L const& loss, DV const& dv = {},
                  variance kind = variance::population, double epsilon = 1e-10) const {
    GRAFT_MANDATE_EXECUTOR("kernels::cv_squared", E)
    GRAFT_MANDATE_INPUT("kernels::cv_squared", "v", E, V, 1)
    if constexpr (!std::is_same_v<L, none_t>) { GRAFT_MANDATE_OUTPUT("kernels::cv_squared", "loss", E, L, 1) }
    if constexpr (!std::is_same_v<DV, none_t>) { GRAFT_MANDATE_OUTPUT("kernels::cv_squared", "dv", E, DV, 1) }
    if constexpr (graft::detail::accepted_input<E, V, 1> &&
                  (std::is_same_v<L, none_t> || graft::detail::accepted_output<E, L, 1>) &&
                  (std::is_same_v<DV, none_t> || graft::detail::accepted_output<E, DV, 1>)) {
      constexpr std::string_view verb = "kernels::cv_squared";
      using graft::detail::text;
      if (!std::isfinite(weight.value()) || !(epsilon >= 0.0)) [[unlikely]]
        graft::detail::raise(argument_error(text("graft::", verb, ": the weight is ", weight.value(), " and epsilon ",
                                                 epsilon, "; the one must be finite, the other not below 0")));
      graft::detail::expects_data(verb, "v", v);
      if constexpr (!std::is_same_v<L, none_t>) {
        if (loss.extent(0) != 1) [[unlikely]]
          graft::detail::raise(
              shape_error(text("graft::", verb, ": loss", graft::detail::shape_text(loss), " must have one element")));
        graft::detail::expects_output(verb, "loss", loss);
        graft::detail::expects_disjoint(verb, "loss", loss, "v", v);
      }
      if constexpr (!std::is_same_v<DV, none_t>) {
        graft::detail::expects_equal_extents(verb, "dv", dv, 0, "v", v, 0);
        graft::detail::expects_output(verb, "dv", dv);
        graft::detail::expects_disjoint(verb, "dv", dv, "v", v);
        if constexpr (!std::is_same_v<L, none_t>) graft::detail::expects_disjoint(verb, "dv", dv, "loss", loss);
      }
      auto const divisor = static_cast<double>(v.extent(0) - (kind == variance::unbiased ? 1 : 0));
      if (v.extent(0) < 2) return;
      ex.league(1, 0, graft::detail::cv_squared_body<V, L, DV>{v, divisor, epsilon, weight.value(), loss, dv});
    }
  }
};
inline constexpr cv_squared_fn cv_squared{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
