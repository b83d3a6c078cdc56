#include <graft/detail/philox.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <set>

#include <catch2/catch_test_macros.hpp>

using graft::detail::philox;
using graft::detail::philox_word;
using words = std::array<std::uint32_t, 4>;

TEST_CASE("Philox4x32-10 gives the known answers of Random123", "[detail][philox]") {
  // kat_vectors: counter, key, result. Key is the seed; counter is (block, stream).
  CHECK(philox(0, 0, 0) == words{0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U});
  CHECK(philox(~0ULL, ~0ULL, ~0ULL) == words{0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU});
  CHECK(philox(0x299f31d0a4093822ULL, 0x0370734413198a2eULL, 0x85a308d3243f6a88ULL) ==
        words{0xd16cfe09U, 0x94fdccebU, 0x5001e420U, 0x24126ea1U});
}

TEST_CASE("Philox is a constant expression", "[detail][philox]") {
  static_assert(philox(0, 0, 0)[0] == 0x6627e8d5U);
  static_assert(philox_word(0, 0, 3) == 0x9b00dbd8U);
  static_assert(graft::detail::uniform(0x80000000U) == 0.5F);
  SUCCEED();
}

TEST_CASE("element e is word e mod 4 of block e / 4", "[detail][philox]") {
  for (std::int64_t const e :
       {std::int64_t{0}, std::int64_t{1}, std::int64_t{7}, std::int64_t{4} << 32, (std::int64_t{1} << 62) + 2}) {
    words const block = philox(5, 6, static_cast<std::uint64_t>(e) / 4);
    CHECK(philox_word(5, 6, e) == block[static_cast<std::size_t>(e % 4)]);
  }
}

TEST_CASE("every bit of seed, stream and block changes the numbers", "[detail][philox]") {
  std::set<words> seen{philox(11, 22, 33)};
  for (unsigned bit = 0; bit < 64; ++bit) {
    std::uint64_t const one = std::uint64_t{1} << bit;
    seen.insert(philox(11 ^ one, 22, 33));
    seen.insert(philox(11, 22 ^ one, 33));
    seen.insert(philox(11, 22, 33 ^ one));
  }
  CHECK(seen.size() == 1 + 3 * 64);
}

TEST_CASE("uniform lies between 0 and 1, without 1, in steps of 2^-24, with the moments of a uniform number",
          "[detail][philox]") {
  using graft::detail::uniform;
  CHECK(uniform(0) == 0.0F);
  CHECK(uniform(0xffU) == 0.0F);
  CHECK(uniform(0x100U) == 0x1p-24F);
  CHECK(uniform(0xffffffffU) == 1.0F - 0x1p-24F);
  constexpr int count = 100000;
  double sum = 0.0;
  double squares = 0.0;
  for (int e = 0; e < count; ++e) {
    double const u = static_cast<double>(uniform(philox_word(1, 2, e)));
    sum += u;
    squares += u * u;
  }
  // Six standard deviations: of u sqrt(1 / 12), of u^2 sqrt(1 / 5 - 1 / 9).
  CHECK(std::abs(sum / count - 0.5) < 6.0 * std::sqrt(1.0 / 12.0 / count));
  CHECK(std::abs(squares / count - 1.0 / 3.0) < 6.0 * std::sqrt((1.0 / 5.0 - 1.0 / 9.0) / count));
}
