#include <graft/kernels/cayley_backward.hpp>

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
using graft::view;
using namespace tests;

TEST_CASE("cayley, its series and their gradients: every executor has the bits of reference; gradients are differences",
          "[kernels][cayley]") {
  for (index_t const b : {1, 2, 5, 17}) {
    index_t const D = 3, p = b * (b - 1) / 2;
    std::vector<double> packed = random_numbers<double>(D * p, 1), square = random_numbers<double>(D * b * b, 2);
    for (double& e : packed) e *= 0.2;
    for (double& e : square) e *= 0.2;
    std::vector<double> const g = random_numbers<double>(D * b * b, 3);
    auto const gradient = blocks_view(g.data(), D, b);
    auto const loss = [&](auto const& parameters, int terms) {
      std::vector<double> r(g.size());
      if (terms == 0) graft::kernels::cayley(graft::reference{}, parameters, blocks_view(r.data(), D, b));
      else graft::kernels::cayley_neumann(graft::reference{}, parameters, terms, blocks_view(r.data(), D, b));
      double sum = 0;
      for (std::size_t i = 0; i < g.size(); ++i) sum += g[i] * r[i];
      return sum;
    };
    for (int const terms : {0, 1, 2, 3, 5, 9}) {
      auto const check = [&](std::vector<double>& values, auto const& as_view) {
        std::vector<double> first;
        for_each_executor([&](std::string const& name, auto const& ex) {
          INFO(name << ", b = " << b << ", terms = " << terms);
          std::vector<double> d(values.size()), r(g.size());
          if (terms == 0) {
            graft::kernels::cayley(ex, as_view(values.data()), blocks_view(r.data(), D, b));
            graft::kernels::cayley_backward(ex, graft::as_const(blocks_view(r.data(), D, b)), gradient,
                                            as_view(d.data()));
          } else
            graft::kernels::cayley_neumann_backward(ex, as_view(values.data()), terms, gradient, as_view(d.data()));
          if (first.empty()) first = d;
          CHECK(d == first);
        });
        // The step is 2^-17; third derivatives of order 1 leave its square.
        for (std::size_t i = 0; i < values.size(); i += values.size() > 200 ? 7 : 1) {
          double const before = values[i];
          values[i] = before + 0x1p-17;
          double const up = loss(as_view(values.data()), terms);
          values[i] = before - 0x1p-17;
          double const down = loss(as_view(values.data()), terms);
          values[i] = before;
          double const size = static_cast<double>(b) * static_cast<double>(b);
          CHECK(std::abs((up - down) * 0x1p16 - first[i]) <= 64 * size * (0x1p-34 + 0x1p-53 * 0x1p17));
        }
      };
      check(packed, [&](double* data) { return view(data, D, p); });
      check(square, [&](double* data) { return blocks_view(data, D, b); });
    }
  }
}

TEST_CASE("gradients of cayley and its series take the scratch that they announce", "[kernels][cayley]") {
  auto const check = []<class S>(S, int terms) {
    index_t const D = 5, b = 7, p = b * (b - 1) / 2;
    std::vector<S> const v = random_numbers<S>(D * p, 1), g = random_numbers<S>(D * b * b, 2);
    std::vector<S> d(v.size());
    takes_its_scratch(graft::kernels::cayley_backward, blocks_view(g.data(), D, b), blocks_view(g.data(), D, b),
                      view(d, D, p));
    takes_its_scratch(graft::kernels::cayley_neumann_backward, view(v, D, p), terms, blocks_view(g.data(), D, b),
                      view(d, D, p));
  };
  check(float{}, 5);
  check(double{}, 2);
}
