#include <graft/kernels/reflections.hpp>

#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "support/random.hpp"
#include "support/scratch.hpp"

using graft::as_const;
using graft::index_t;
using graft::view;
using namespace tests;

TEST_CASE("reflections take the scratch that they announce", "[kernels][reflections]") {
  index_t const n = 9, r = 4;
  std::vector<float> const u = random_numbers<float>(n * r, 1);
  std::vector<float> vectors(u.size()), spread(u.size()), gx(u.size()), xg(u.size()), p(r * r), du(u.size());
  for (bool const orthonormal : {false, true}) {
    takes_its_scratch(graft::kernels::unit_vectors, view(u, n, r), orthonormal, view(vectors, r, n));
    takes_its_scratch(graft::kernels::spread_vectors, as_const(view(vectors, r, n)), orthonormal, view(spread, n, r));
    takes_its_scratch(graft::kernels::spread_vectors_back, as_const(view(vectors, r, n)), orthonormal,
                      view(spread, n, r));
    takes_its_scratch(graft::kernels::reflection_gradient, view(u, n, r), orthonormal, as_const(view(vectors, r, n)),
                      view(gx, r, n), view(xg, r, n), view(p, r, r), view(du, n, r));
  }
}
