// SPDX-License-Identifier: Apache-2.0
/// @file
/// Storage scalars. 16-bit floats are storage only: they are widened to fp32 when read and every sum is carried in fp32
/// (or fp64 as soon as one operand is `double`); a result is rounded once, when it is stored.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include <graft/config.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// bfloat16: the upper half of an fp32. Narrowing rounds to nearest, ties to even, keeps subnormals, and keeps NaN (made
/// quiet). Integer arithmetic only, so that every instruction set and the -O levels agree (VCVTNEPS2BF16 flushes
/// subnormals and is not used). `may_alias`: other libraries' bfloat16 arrays may be read as this one.
struct __attribute__((may_alias)) bfloat16 {
  std::uint16_t bits;

  bfloat16() = default;
  GRAFT_FN explicit constexpr bfloat16(float f) : bits(narrow(f)) {}
  GRAFT_FN explicit constexpr operator float() const { return std::bit_cast<float>(std::uint32_t{bits} << 16U); }
  GRAFT_FN static constexpr bfloat16 from_bits(std::uint16_t b) {
    bfloat16 r{};
    r.bits = b;
    return r;
  }

 private:
  GRAFT_FN static constexpr std::uint16_t narrow(float f) {
    auto const u = std::bit_cast<std::uint32_t>(f);
    if ((u & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((u >> 16U) | 0x40U);
    return static_cast<std::uint16_t>((u + 0x7fffU + ((u >> 16U) & 1U)) >> 16U);
  }
};

/// IEEE binary16. Same rounding rules; the bits are those of VCVTPS2PH and VCVTPH2PS. A GPU's own conversions give the same bits,
/// but for the sign and payload of a NaN.
struct __attribute__((may_alias)) float16 {
  std::uint16_t bits;

  float16() = default;
  GRAFT_FN explicit constexpr float16(float f) : bits(narrow(f)) {}
  GRAFT_FN explicit constexpr operator float() const { return widen(bits); }
  GRAFT_FN static constexpr float16 from_bits(std::uint16_t b) {
    float16 r{};
    r.bits = b;
    return r;
  }

 private:
  GRAFT_FN static constexpr std::uint16_t narrow(float f) {
#if defined(__CUDA_ARCH__)
    if (!std::is_constant_evaluated()) {
      std::uint16_t h;
      asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
      return h;
    }
#endif
    auto const u = std::bit_cast<std::uint32_t>(f);
    auto const sign = static_cast<std::uint16_t>((u >> 16U) & 0x8000U);
    std::uint32_t const a = u & 0x7fffffffU;
    if (a > 0x7f800000U) return static_cast<std::uint16_t>(sign | 0x7e00U | ((a >> 13U) & 0x3ffU));
    if (a >= 0x477ff000U) return static_cast<std::uint16_t>(sign | 0x7c00U);  // 65520 and above round to infinity
    if (a < 0x38800000U) {                                                    // subnormal in half
      if (a < 0x33000000U) return sign;                                       // below half of the smallest one
      std::uint32_t const shift = 126U - (a >> 23U);
      std::uint32_t const m = (a & 0x7fffffU) | 0x800000U;
      std::uint32_t const q = m >> shift;
      std::uint32_t const rest = m & ((1U << shift) - 1U);
      std::uint32_t const half = 1U << (shift - 1U);
      return static_cast<std::uint16_t>(
          sign | (q + static_cast<std::uint32_t>(rest > half || (rest == half && (q & 1U) != 0))));
    }
    return static_cast<std::uint16_t>(sign | ((a - 0x38000000U + 0xfffU + ((a >> 13U) & 1U)) >> 13U));
  }
  GRAFT_FN static constexpr float widen(std::uint16_t h) {
#if defined(__CUDA_ARCH__)
    if (!std::is_constant_evaluated()) {
      float f;
      asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
      return f;
    }
#endif
    std::uint32_t const sign = (std::uint32_t{h} & 0x8000U) << 16U;
    std::uint32_t const e = (std::uint32_t{h} >> 10U) & 0x1fU;
    std::uint32_t const m = std::uint32_t{h} & 0x3ffU;
    if (e == 0x1fU) return std::bit_cast<float>(sign | 0x7f800000U | (m << 13U) | (m != 0 ? 0x400000U : 0U));
    if (e != 0) return std::bit_cast<float>(sign | ((e + 112U) << 23U) | (m << 13U));
    float const f = static_cast<float>(m) * 0x1p-24F;  // exact
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(f) | sign);
  }
};

/// True for the storage types that graft computes with. Specialise it for another 16-bit float that converts to and from
/// `float` explicitly with round-to-nearest-even; generic bodies take such a type as it is.
template <class T>
inline constexpr bool is_scalar = std::is_same_v<T, float> || std::is_same_v<T, double>;
template <>
inline constexpr bool is_scalar<bfloat16> = true;
template <>
inline constexpr bool is_scalar<float16> = true;

/// An element of views: one of those, const or not.
template <class T> concept scalar = is_scalar<std::remove_const_t<T>>;

/// An element that is looked up or counted with, never computed with: ids, offsets (32 or 64 bits) and masks (bytes).
template <class T>
concept integer_element =
    std::same_as<std::remove_const_t<T>, std::int32_t> || std::same_as<std::remove_const_t<T>, std::int64_t> ||
    std::same_as<std::remove_const_t<T>, std::uint8_t>;

/// What sums over elements of these types are carried in: `double` as soon as one of them is, else `float`.
template <class... T>
using accumulate_t = std::conditional_t<(std::is_same_v<std::remove_const_t<T>, double> || ...), double, float>;

/// The value of a stored element in the type that sums are carried in. Exact.
template <class Accumulate, class T>
[[nodiscard]] GRAFT_FN constexpr Accumulate load_as(T const& element) {
  if constexpr (std::is_same_v<T, double> || std::is_same_v<T, float>) return static_cast<Accumulate>(element);
  else return static_cast<Accumulate>(static_cast<float>(element));
}

/// A sum as a stored element: one rounding to nearest even, also from fp64 to 16 bits.
template <class T, class Accumulate>
[[nodiscard]] GRAFT_FN constexpr T store_as(Accumulate const& sum) {
  if constexpr (std::is_same_v<T, double> || std::is_same_v<T, float>) return static_cast<T>(sum);
  else if constexpr (std::is_same_v<Accumulate, float>) return T(sum);
  else {
    // Through an fp32 rounded to odd: its last bit remembers that something was cut off, so the second rounding is right.
    float f = static_cast<float>(sum);
    auto bits = std::bit_cast<std::uint32_t>(f);
    double const back = static_cast<double>(f);
    if (back != sum && back == back && (bits & 1U) == 0) {
      bool const away = (back > sum) == (sum > 0);  // rounded away from zero: the odd neighbour is the one below
      bits = (bits & 0x7fffffffU) == 0 ? bits | 1U : away ? bits - 1U : bits + 1U;
      f = std::bit_cast<float>(bits);
    }
    return T(f);
  }
}

/// A factor. Floating-point by type: 16 / 32 of two integers is 0, and would silently switch an adapter off.
class scaling {
 public:
  template <class T>
  constexpr scaling(T value) : value_(static_cast<double>(value)) {  // NOLINT: implicit, as a number would be
    static_assert(std::floating_point<T>,
                  "graft: a scale must be a floating-point number, since alpha / r of two integers truncates; use "
                  "graft::lora_scale(alpha, r) or graft::rslora_scale(alpha, r)");
  }
  [[nodiscard]] GRAFT_FN constexpr double value() const { return value_; }

 private:
  double value_;
};

}  // namespace graft::inline GRAFT_CONTRACT
