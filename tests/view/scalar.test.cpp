#include <graft/view/scalar.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "support/bits.hpp"
#include "support/random.hpp"

namespace {

using graft::bfloat16;
using graft::float16;

/// A 16-bit format by its definition; shares nothing with the code under test.
struct format {
  int fraction_bits;
  int least_exponent;  // of normal numbers
  int most_exponent;

  /// The nearest number, ties to even, of a number that is not NaN.
  [[nodiscard]] double rounded(double value) const {
    if (value == 0.0 || std::isinf(value)) return value;
    int const exponent = std::ilogb(value) < least_exponent ? least_exponent : std::ilogb(value);
    double const nearest =
        std::ldexp(std::nearbyint(std::ldexp(value, fraction_bits - exponent)), exponent - fraction_bits);
    if (std::abs(nearest) >= std::ldexp(1.0, most_exponent + 1))
      return std::copysign(std::numeric_limits<double>::infinity(), value);
    return std::copysign(nearest, value);
  }
  /// The value of bits that are not NaN.
  [[nodiscard]] double value(std::uint16_t bits) const {
    int const fraction = bits & ((1 << fraction_bits) - 1);
    int const exponent = (bits & 0x7fff) >> fraction_bits;
    double magnitude = 0.0;
    if (exponent > most_exponent - least_exponent + 1) magnitude = std::numeric_limits<double>::infinity();
    else if (exponent == 0) magnitude = std::ldexp(fraction, least_exponent - fraction_bits);
    else magnitude = std::ldexp(fraction + (1 << fraction_bits), exponent - 1 + least_exponent - fraction_bits);
    return (bits & 0x8000) != 0 ? -magnitude : magnitude;
  }
  [[nodiscard]] bool is_nan(std::uint16_t bits) const {
    return (bits & 0x7fff) >> fraction_bits == most_exponent - least_exponent + 2 &&
           (bits & ((1 << fraction_bits) - 1)) != 0;
  }
};
template <class T>
constexpr format format_of = std::is_same_v<T, bfloat16> ? format{7, -126, 127} : format{10, -14, 15};

bool same(double a, double b) { return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b); }

/// f(bits) for floats of every exponent, every fraction that matters to T, ties and their neighbours, and random ones.
template <class T, class F>
void for_telling_floats(F const& f) {
  constexpr unsigned dropped = 23U - static_cast<unsigned>(format_of<T>.fraction_bits);
  constexpr std::uint32_t half = 1U << (dropped - 1U);
  for (std::uint32_t upper = 0; upper < (1U << (32U - dropped)); ++upper)
    for (std::uint32_t const lower : {0U, 1U, half - 1U, half, half + 1U, 2 * half - 1U}) f(upper << dropped | lower);
  tests::random_bits bits(7);
  for (int i = 0; i < 500000; ++i) f(static_cast<std::uint32_t>(bits()));
  for (std::uint32_t subnormal = 0; subnormal < 0x800000U; subnormal += 61U) f(subnormal);
}

/// f(value) for doubles at and around the ties between neighbours of T, and random ones.
template <class T, class F>
void for_telling_doubles(F const& f) {
  constexpr format t = format_of<T>;
  for (unsigned bits = 0; bits < 0x7fffU; ++bits) {
    if (t.is_nan(static_cast<std::uint16_t>(bits + 1))) break;
    double const low = t.value(static_cast<std::uint16_t>(bits));
    double const high = std::isinf(t.value(static_cast<std::uint16_t>(bits + 1)))
                            ? std::ldexp(1.0, t.most_exponent + 1)
                            : t.value(static_cast<std::uint16_t>(bits + 1));
    double const tie = (low + high) / 2;
    for (double const v : {low, tie, std::nextafter(tie, low), std::nextafter(tie, high), tie + (tie - low) * 0x1p-27,
                           tie - (tie - low) * 0x1p-27, tie + (tie - low) * 0x1p-40, tie - (tie - low) * 0x1p-40}) {
      f(v);
      f(-v);
    }
  }
  tests::random_bits bits(11);
  for (int i = 0; i < 300000; ++i) f(std::bit_cast<double>(bits()));
  for (double const v : {0.0,
                         -0.0,
                         0x1p-1074,
                         -0x1p-1074,
                         0x1p-150,
                         0x1p-149,
                         0x1.8p-149,
                         0x1p-135,
                         0x1p-134,
                         0x1.0000000000001p-134,
                         1e300,
                         -1e300,
                         static_cast<double>(std::numeric_limits<float>::max()),
                         0x1.ffffffp+127,
                         0x1.fffffefffffffp+127,
                         65519.99999999,
                         65520.0,
                         65520.00000001,
                         std::numeric_limits<double>::infinity(),
                         -std::numeric_limits<double>::infinity()})
    f(v);
}

template <class T>
void every_pattern_round_trips() {
  constexpr format t = format_of<T>;
  int wrong = 0;
  for (unsigned u = 0; u < 0x10000U; ++u) {
    auto const bits = static_cast<std::uint16_t>(u);
    auto const f = static_cast<float>(T::from_bits(bits));
    if (t.is_nan(bits)) {
      // A NaN stays one; it becomes quiet, its sign and the rest of its payload stay.
      auto const quiet = static_cast<std::uint16_t>(bits | (1U << static_cast<unsigned>(t.fraction_bits - 1)));
      wrong += std::isnan(f) && T(f).bits == quiet ? 0 : 1;
    } else wrong += same(static_cast<double>(f), t.value(bits)) && T(f).bits == bits ? 0 : 1;
  }
  CHECK(wrong == 0);
}

template <class T>
void floats_round_to_nearest_even() {
  constexpr format t = format_of<T>;
  long wrong = 0;
  long count = 0;
  std::uint32_t first = 0;
  for_telling_floats<T>([&](std::uint32_t u) {
    auto const f = std::bit_cast<float>(u);
    T const got(f);
    ++count;
    bool right = false;
    if (std::isnan(f)) {
      constexpr unsigned dropped = 23U - static_cast<unsigned>(t.fraction_bits);
      std::uint32_t const payload = (u & 0x7fffffU) >> dropped | 1U << static_cast<unsigned>(t.fraction_bits - 1);
      std::uint32_t const exponent = 0x7fffU >> static_cast<unsigned>(t.fraction_bits)
                                                    << static_cast<unsigned>(t.fraction_bits);
      right = got.bits == (u >> 31U << 15U | exponent | payload);
    } else right = !t.is_nan(got.bits) && same(t.value(got.bits), t.rounded(static_cast<double>(f)));
    if (!right && wrong++ == 0) first = u;
  });
  INFO("first wrong: " << std::hex << first);
  CHECK(wrong == 0);
  CHECK(count > 500000);
}

template <class T>
void doubles_round_once() {
  constexpr format t = format_of<T>;
  long wrong = 0;
  long twice = 0;
  double first = 0;
  for_telling_doubles<T>([&](double v) {
    auto const got = graft::store_as<T>(v);
    bool const right =
        std::isnan(v) ? t.is_nan(got.bits) : !t.is_nan(got.bits) && same(t.value(got.bits), t.rounded(v));
    if (!right && wrong++ == 0) first = v;
    if (T(static_cast<float>(v)).bits != got.bits) ++twice;
  });
  INFO("first wrong: " << first);
  CHECK(wrong == 0);
  CHECK(twice > 1000);  // the data tells one rounding from two
}

#if defined(__x86_64__)
__attribute__((target("f16c"))) std::uint16_t hardware_narrow(float f) {
  return static_cast<std::uint16_t>(_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
__attribute__((target("f16c"))) float hardware_widen(std::uint16_t bits) { return _cvtsh_ss(bits); }
#endif

}  // namespace

TEST_CASE("every bfloat16 survives the way to float and back", "[view][scalar]") {
  every_pattern_round_trips<bfloat16>();
}
TEST_CASE("every float16 survives the way to float and back", "[view][scalar]") {
  every_pattern_round_trips<float16>();
}

TEST_CASE("a float becomes the nearest bfloat16, ties to even", "[view][scalar]") {
  floats_round_to_nearest_even<bfloat16>();
}
TEST_CASE("a float becomes the nearest float16, ties to even", "[view][scalar]") {
  floats_round_to_nearest_even<float16>();
}

TEST_CASE("a double sum is rounded to bfloat16 once", "[view][scalar]") { doubles_round_once<bfloat16>(); }
TEST_CASE("a double sum is rounded to float16 once", "[view][scalar]") { doubles_round_once<float16>(); }

TEST_CASE("16-bit conversions have the values one knows", "[view][scalar]") {
  CHECK(bfloat16(1.0F).bits == 0x3f80);
  CHECK(bfloat16(-2.5F).bits == 0xc020);
  CHECK(bfloat16(0x1.01p0F).bits == 0x3f80);      // a tie, to the even one below
  CHECK(bfloat16(0x1.03p0F).bits == 0x3f82);      // a tie, to the even one above
  CHECK(bfloat16(0x1.010002p0F).bits == 0x3f81);  // just above the tie
  CHECK(bfloat16(-0.0F).bits == 0x8000);
  CHECK(bfloat16(std::numeric_limits<float>::max()).bits == 0x7f80);
  CHECK(bfloat16(0x1p-133F).bits == 0x0001);  // a subnormal is kept
  CHECK(float16(1.0F).bits == 0x3c00);
  CHECK(float16(65504.0F).bits == 0x7bff);
  CHECK(float16(65519.0F).bits == 0x7bff);
  CHECK(float16(65520.0F).bits == 0x7c00);
  CHECK(float16(-65520.0F).bits == 0xfc00);
  CHECK(float16(0x1p-24F).bits == 0x0001);
  CHECK(float16(0x1p-25F).bits == 0x0000);  // a tie, to even
  CHECK(float16(0x1.000002p-25F).bits == 0x0001);
  CHECK(float16(0x1.8p-24F).bits == 0x0002);
  CHECK(float16(-0x1p-30F).bits == 0x8000);
  CHECK(float16(0x1.ff8p-15F).bits == 0x03ff);  // the largest subnormal
  CHECK(float16(0x1.ffcp-15F).bits == 0x0400);  // a tie, to the smallest normal number
  CHECK(static_cast<float>(float16::from_bits(0x3555)) == 0x1.554p-2F);
}

TEST_CASE("a signalling NaN becomes quiet and stays a NaN, also when its payload is in the bits that are dropped",
          "[view][scalar]") {
  auto const nan = [](std::uint32_t u) { return std::bit_cast<float>(u); };
  CHECK(bfloat16(nan(0x7f800001U)).bits == 0x7fc0);
  CHECK(bfloat16(nan(0xff800001U)).bits == 0xffc0);
  CHECK(bfloat16(nan(0x7fffffffU)).bits == 0x7fff);
  CHECK(float16(nan(0x7f800001U)).bits == 0x7e00);
  CHECK(float16(nan(0xff812345U)).bits == 0xfe09);
  CHECK(float16(nan(0xffffffffU)).bits == 0xffff);
}

#if defined(__x86_64__)
TEST_CASE("float16 has the bits of VCVTPS2PH and VCVTPH2PS", "[view][scalar]") {
  if (!__builtin_cpu_supports("f16c")) SKIP("this processor has no F16C");
  long wrong = 0;
  for_telling_floats<float16>([&](std::uint32_t u) {
    auto const f = std::bit_cast<float>(u);
    if (float16(f).bits != hardware_narrow(f)) ++wrong;
  });
  CHECK(wrong == 0);
  for (unsigned u = 0; u < 0x10000U; ++u) {
    auto const bits = static_cast<std::uint16_t>(u);
    if (std::bit_cast<std::uint32_t>(static_cast<float>(float16::from_bits(bits))) !=
        std::bit_cast<std::uint32_t>(hardware_widen(bits)))
      ++wrong;
  }
  CHECK(wrong == 0);
}
#endif

#if defined(__FLT16_MAX__)
TEST_CASE("float16 rounds as the compiler's own type does", "[view][scalar]") {
  long wrong = 0;
  for_telling_floats<float16>([&](std::uint32_t u) {
    auto const f = std::bit_cast<float>(u);
    if (std::isnan(f)) return;
    __extension__ auto const half = static_cast<_Float16>(f);
    if (float16(f).bits != std::bit_cast<std::uint16_t>(half)) ++wrong;
  });
  CHECK(wrong == 0);
}
#endif

TEST_CASE("16-bit conversions can be computed at compile time", "[view][scalar]") {
  static_assert(bfloat16(1.5F).bits == 0x3fc0 && static_cast<float>(bfloat16::from_bits(0x3fc0)) == 1.5F);
  static_assert(float16(-0.5F).bits == 0xb800 && static_cast<float>(float16::from_bits(0xb800)) == -0.5F);
  static_assert(graft::store_as<bfloat16>(1.0).bits == 0x3f80 && graft::load_as<double>(float16(2.0F)) == 2.0);
  SUCCEED();
}

TEST_CASE("float and double sums are stored as they are", "[view][scalar]") {
  CHECK(graft::store_as<float>(0.1F) == 0.1F);
  CHECK(graft::store_as<double>(0.1) == 0.1);
  CHECK(graft::store_as<double>(0.1F) == static_cast<double>(0.1F));
  CHECK(graft::store_as<float>(0.1) == 0.1F);
  CHECK(graft::load_as<double>(0.1F) == static_cast<double>(0.1F));
}

TEST_CASE("sums are carried in fp32, and in fp64 as soon as one operand is double", "[view][scalar]") {
  static_assert(std::is_same_v<graft::accumulate_t<float>, float> &&
                std::is_same_v<graft::accumulate_t<bfloat16 const, float16>, float>);
  static_assert(std::is_same_v<graft::accumulate_t<bfloat16, double>, double> &&
                std::is_same_v<graft::accumulate_t<double const>, double>);
  SUCCEED();
}

TEST_CASE("a scale keeps the value of any floating-point number", "[view][scalar]") {
  CHECK(graft::scaling(0.1).value() == 0.1);
  CHECK(graft::scaling(0.1F).value() == static_cast<double>(0.1F));
  CHECK(std::isnan(graft::scaling(std::numeric_limits<double>::quiet_NaN()).value()));
}
