#include <graft/kernels/invert_blocks.hpp>

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "support/executors.hpp"
#include "support/random.hpp"
#include "support/rotations.hpp"
#include "support/scratch.hpp"

using graft::index_t;
using namespace tests;

TEST_CASE("invert_blocks gives inverses, with pivots where they are needed", "[kernels][invert_blocks]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> const r{0, 2, 4, 0, 1, 2, 3, 4};
    std::vector<float> m(8);
    graft::kernels::invert_blocks(ex, blocks_view(r.data(), 2, 2), blocks_view(m.data(), 2, 2));
    CHECK(m == std::vector<float>{0, 0.25F, 0.5F, 0, -2, 1, 1.5F, -0.5F});
  });
  index_t const b = 24;
  std::vector<double> const r = random_numbers<double>(2 * b * b, 1);
  std::vector<double> m(r.size());
  graft::kernels::invert_blocks(graft::serial{}, blocks_view(r.data(), 2, b), blocks_view(m.data(), 2, b));
  for (index_t k = 0; k < 2; ++k)
    for (index_t i = 0; i < b; ++i)
      for (index_t j = 0; j < b; ++j) {
        double sum = i == j ? -1 : 0, size = 1;
        for (index_t l = 0; l < b; ++l) {
          double const term =
              r[static_cast<std::size_t>((k * b + i) * b + l)] * m[static_cast<std::size_t>((k * b + l) * b + j)];
          sum += term;
          size += std::abs(term);
        }
        CHECK(std::abs(sum) <= 8 * static_cast<double>(b * b) * 0x1p-53 * size);
      }
}

TEST_CASE("invert_blocks takes the scratch that it announces", "[kernels][invert_blocks]") {
  std::vector<float> const r = random_numbers<float>(5 * 9, 1);
  std::vector<float> m(r.size());
  takes_its_scratch(graft::kernels::invert_blocks, blocks_view(r.data(), 5, 3), blocks_view(m.data(), 5, 3));
}
