// SPDX-License-Identifier: Apache-2.0
/// @file
/// Philox4x32-10 (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3): random numbers without state, equal
/// on every backend and for every number of threads.
#pragma once

#include <array>
#include <cstdint>

#include <graft/config.hpp>
#include <graft/contracts.hpp>

namespace graft::inline GRAFT_CONTRACT::detail {

/// The four words of block `counter` of stream `stream` under `seed`.
GRAFT_FN constexpr std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t stream,
                                                       std::uint64_t counter) {
  std::array<std::uint32_t, 4> c{static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32U),
                                 static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32U)};
  auto k0 = static_cast<std::uint32_t>(seed);
  auto k1 = static_cast<std::uint32_t>(seed >> 32U);
  for (int round = 0; round < 10; ++round) {
    std::uint64_t const p0 = std::uint64_t{0xD2511F53U} * c[0];
    std::uint64_t const p1 = std::uint64_t{0xCD9E8D57U} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32U) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32U) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)};
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return c;
}

/// Word `element % 4` of block `element / 4`.
GRAFT_FN constexpr std::uint32_t philox_word(std::uint64_t seed, std::uint64_t stream, index_t element) {
  auto const e = static_cast<std::uint64_t>(element);
  auto const word = philox(seed, stream, e / 4U);
  std::uint32_t const low = e % 2U == 0 ? word[0] : word[1];  // no indexing: words stay in registers
  std::uint32_t const high = e % 2U == 0 ? word[2] : word[3];
  return e % 4U < 2 ? low : high;
}

/// [0, 1) in steps of 2^-24: exact in fp32.
GRAFT_FN constexpr float uniform(std::uint32_t word) { return static_cast<float>(word >> 8U) * 0x1p-24F; }

}  // namespace graft::inline GRAFT_CONTRACT::detail
