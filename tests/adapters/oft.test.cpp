#include <graft/adapters/oft.hpp>

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/adapters/composition.hpp>

#include "adapters/finite_differences.hpp"
#include "adapters/problem.hpp"
#include "adapters/turned_layers.hpp"
#include "support/rotations.hpp"

using graft::index_t;
using graft::oft;
using graft::view;
using namespace tests;

TEST_CASE("OFT: gradients of parameters and x are differences of the loss", "[adapters][oft]") {
  for (int const terms : {0, 1, 2, 3, 5})
    for (index_t const rows : {1, 3}) {
      orthogonal<double> p{3, 4, rows, 5, 4, terms};
      graft::openmp const ex{.threads = 2};
      auto const layer = layer_of(p.W, p.m, p.n());
      std::vector<double> y(static_cast<std::size_t>(p.T * p.m)), d(p.parameters.size()), dx(p.x.size()), dy = p.dy;
      auto const gradients = graft::oft_gradients{view(d.data(), rows, p.b * (p.b - 1) / 2)};
      auto const run = [&] {
        update_rotations(ex, p.adapter());
        graft::adapted_linear(ex, layer, p.adapter(), p.vx(), view(y, p.T, p.m));
        return inner_product(y, p.dy);
      };
      run();
      graft::adapted_linear_backward(ex, layer, graft::trained{p.adapter(), gradients, {}}, p.vx(), view(dy, p.T, p.m),
                                     view(dx, p.T, p.n()));
      double const bound = 256 * (0x1p-34 + 0x1p-53 * 0x1p17);
      CHECK(gradient_error(p.parameters, d, run) <= bound);
      CHECK(gradient_error(p.x, dx, run) <= bound);
    }
}

TEST_CASE("COFT scales only blocks that turn too far", "[adapters][oft]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    // Rows of length 5 and 1/2; the limit is eps / sqrt(2 rows) = 2 / sqrt(4) = 1.
    std::vector<double> v{3, 0, 4, 0, 0.5, 0}, r(18);
    graft::project(ex, oft{view(v, 2, 3), 6, 3, 0, blocks_view(r.data(), 2, 3)}, 2.0);
    std::vector<double> const expected{0.6, 0, 0.8, 0, 0.5, 0};
    for (std::size_t i = 0; i < v.size(); ++i) CHECK(std::abs(v[i] - expected[i]) <= 4 * 0x1p-53);
  });
}
