#include <graft/kernels/rotation.hpp>

#include <array>
#include <cstddef>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "support/rotations.hpp"

using graft::index_t;
using graft::kernels::block_feature;
using namespace tests;

TEST_CASE("the features of a butterfly factor are those that PEFT numbers", "[kernels][rotate_blocks]") {
  // block_butterfly_perm(16, D / 2^f, 2): where the elements of the blocks are taken from.
  std::array<std::array<index_t, 16>, 3> const perm{{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
                                                     {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15},
                                                     {0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15}}};
  for (index_t f = 0; f < 3; ++f)
    for (index_t e = 0; e < 16; ++e)
      CHECK(perm[static_cast<std::size_t>(f)][static_cast<std::size_t>(block_feature(f, 4, e / 4, e % 4))] == e);
}

TEST_CASE("a butterfly reaches every output from every input with log2(D) + 1 factors, and not with fewer",
          "[kernels][rotate_blocks]") {
  for (index_t const N : {1, 2, 3, 4}) {
    rotation_shape const s{N, 8, 4};
    std::vector<float> const r(s.size(), 1.0F);
    auto const dense = dense_rotation(factors_view(r.data(), s));
    std::size_t reached = 0;
    for (double const e : dense) reached += e != 0 ? 1 : 0;
    CHECK(reached == static_cast<std::size_t>(32 * 4 * (index_t{1} << (N - 1))));
  }
}
