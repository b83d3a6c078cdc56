// SPDX-License-Identifier: Apache-2.0
/// @file
/// Elementary functions of correctly rounded operations only (+, -, *, /, sqrt, fma, exact powers of two), so that every backend,
/// instruction set and level of optimisation gives the same bits; std:: ones differ between libraries. Subnormals are computed.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <graft/config.hpp>

namespace graft::inline GRAFT_CONTRACT::detail {
inline namespace GRAFT_TARGET {

/// log u for normal u > 0, within 2 ulp. log u = e log 2 + 2 artanh f with f = (m - 1) / (m + 1), |f| <= 0.172.
GRAFT_FN double portable_log(double u) {
  auto const bits = std::bit_cast<std::uint64_t>(u);
  auto exponent = static_cast<double>(static_cast<std::int64_t>(bits >> 52U) - 1023);
  auto m = std::bit_cast<double>((bits & 0xfffffffffffffU) | 0x3ff0000000000000U);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    exponent += 1.0;
  }
  double const f = (m - 1.0) / (m + 1.0);
  double const z = f * f;
  double sum = 1.0 / 25.0;
  for (int k = 11; k >= 0; --k) sum = std::fma(sum, z, 1.0 / (2 * k + 1));  // z^13 / 27 < 2^-69
  double const series = 2.0 * f * sum;
  return std::fma(exponent, 0.69314718055994531, series);
}

/// 2^n, exact, for normal results.
GRAFT_FN float power_of_two(std::int32_t n) { return std::bit_cast<float>(static_cast<std::uint32_t>(n + 127) << 23U); }
GRAFT_FN double power_of_two(std::int64_t n) {
  return std::bit_cast<double>(static_cast<std::uint64_t>(n + 1023) << 52U);
}

/// e^x within 1 ulp (normal results; half the smallest subnormal more below), +0 below the range, infinity above it, NaN stays.
/// x = n log 2 + r with |r| <= 0.347, Taylor's series of e^r. Without a branch, so that compilers vectorise loops over it.
GRAFT_FN float portable_exp(float x) {
  float const low = x < -104.0F ? -104.0F : x;  // e^-104 is below half of 2^-149
  float const in = low > 89.0F ? 89.0F : low;
  float const n = std::fma(in, 1.44269504F, 0x1.8p23F) - 0x1.8p23F;
  float const r = std::fma(n, -0x1.7f7d1cp-20F, std::fma(n, -0x1.62e4p-1F, in));  // the inner one is exact
  float q = std::fma(r, 1.0F / 5040, 1.0F / 720);                                 // r^8 / 8! < 2^-27
  q = std::fma(r, q, 1.0F / 120);
  q = std::fma(r, q, 1.0F / 24);
  q = std::fma(r, q, 1.0F / 6);
  q = std::fma(r, q, 0.5F);
  float const p = std::fma(r * r, q, r) + 1.0F;
  float const whole = n == n ? n : 0.0F;
  auto const half = static_cast<std::int32_t>(whole) >> 1;
  auto const rest = static_cast<std::int32_t>(whole) - half;
  return p * power_of_two(half) * power_of_two(rest);
}
GRAFT_FN double portable_exp(double x) {
  double const low = x < -746.0 ? -746.0 : x;
  double const in = low > 710.0 ? 710.0 : low;
  double const n = std::fma(in, 1.4426950408889634, 0x1.8p52) - 0x1.8p52;
  double const r = std::fma(n, -0x1.cf79abc9e3b3ap-40, std::fma(n, -0x1.62e42fefap-1, in));
  double q = 1.0 / 87178291200.0;  // r^15 / 15! < 2^-62
  q = std::fma(r, q, 1.0 / 6227020800.0);
  q = std::fma(r, q, 1.0 / 479001600.0);
  q = std::fma(r, q, 1.0 / 39916800.0);
  q = std::fma(r, q, 1.0 / 3628800.0);
  q = std::fma(r, q, 1.0 / 362880.0);
  q = std::fma(r, q, 1.0 / 40320.0);
  q = std::fma(r, q, 1.0 / 5040.0);
  q = std::fma(r, q, 1.0 / 720.0);
  q = std::fma(r, q, 1.0 / 120.0);
  q = std::fma(r, q, 1.0 / 24.0);
  q = std::fma(r, q, 1.0 / 6.0);
  q = std::fma(r, q, 0.5);
  double const p = std::fma(r * r, q, r) + 1.0;
  double const whole = n == n ? n : 0.0;
  auto const half = static_cast<std::int64_t>(whole) >> 1;
  auto const rest = static_cast<std::int64_t>(whole) - half;
  return p * power_of_two(half) * power_of_two(rest);
}

/// 1 / (1 + e^-x) within 3 ulp; no cancellation and no overflow on either side.
template <class T>
GRAFT_FN T portable_sigmoid(T x) {
  T const e = portable_exp(x < T{0} ? x : -x);
  return (x < T{0} ? e : T{1}) / (T{1} + e);
}

/// log(1 + y) for y in [0, 1], within 4 ulp (Kahan: the error of 1 + y cancels).
GRAFT_FN double portable_log1p(double y) {
  double const u = 1.0 + y;
  return u == 1.0 ? y : std::fma(portable_log(u), y / (u - 1.0), 0.0);  // no product that a caller adds to
}

/// log(1 + e^x), within 4 ulp.
GRAFT_FN double portable_softplus(double x) {
  double const tail = portable_log1p(portable_exp(-std::fabs(x)));
  return x > 0.0 ? x + tail : tail;
}

/// The standard normal distribution function, within 2^-46 of its value for x >= -37: Phi(x) = e^(-x^2 / 2) / sqrt(2 pi) times
/// the series 1/2 sqrt(2 pi) e^(x^2 / 2) + x + x^3 / 3 + x^5 / (3 5) + ... near 0, or a continued fraction beyond 2.
GRAFT_FN double portable_normal_cdf(double x) {
  double const a = std::fabs(x);
  if (a > 40.0) return x < 0.0 ? 0.0 : 1.0;
  double const square = a * a;
  // e^(-a^2 / 2) with the rounding of a^2 put back: its error would be magnified by a^2.
  double const lost = std::fma(a, a, -square);
  double const bell = portable_exp(-0.5 * square) * std::fma(-0.5, lost, 1.0);
  double const density = bell * 0.3989422804014327;
  if (a <= 2.0) {
    double sum = 1.0;  // a (1 + a^2/3 (1 + a^2/5 (...))): 4^30 / (3 5 ... 61) < 2^-60
    for (int k = 30; k >= 1; --k) sum = std::fma(square / (2 * k + 1), sum, 1.0);
    return std::fma(x < 0.0 ? -density : density, a * sum, 0.5);
  }
  double tail = a;  // 1 / (a + 1 / (a + 2 / (a + 3 / ...)))
  for (int k = 160; k >= 1; --k) tail = a + k / tail;
  double const upper = density / tail;
  return x < 0.0 ? upper : 1.0 - upper;
}

/// The standard normal density.
GRAFT_FN double portable_normal_density(double x) {
  double const square = x * x;
  return portable_exp(-0.5 * square) * 0.3989422804014327;
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT::detail
