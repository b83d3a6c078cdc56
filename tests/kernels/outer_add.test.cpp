#include <graft/kernels/outer_add.hpp>

#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/parity.hpp"

using graft::as_const;
using graft::bfloat16;
using graft::float16;
using graft::view;
using graft::kernels::outer_add;
using namespace tests;

TEST_CASE("outer_add adds s B A to a weight", "[kernels][outer_add]") {
  std::vector<float> const b{1, 2, 3, 4, 5, 6};         // [3, 2]
  std::vector<float> const a{1, 0, -1, 2, 1, 0, 4, 2};  // [2, 4]
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> w(12, 1.0F);
    outer_add(ex, view(b, 3, 2), view(a, 2, 4), view(w, 3, 4), 0.5);
    CHECK(w == std::vector<float>{2.5F, 1, 4.5F, 4, 4.5F, 1, 7.5F, 8, 6.5F, 1, 10.5F, 12});
  });
}

TEST_CASE("outer_add into a weight stored input by input is outer_add into its transposed view",
          "[kernels][outer_add]") {
  matrix<float> const b(70, 9, layout::padded, 1);
  matrix<float> const a(9, 130, layout::contiguous, 2);
  matrix<float> const start(70, 130, layout::contiguous, 3);
  auto expected = copy_of<float>(start.view());
  outer_add(graft::reference{}, b.view(), a.view(), expected.view(), 0.7);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    auto turned = copy_of<float>(graft::transposed(start.view()));
    outer_add(ex, b.view(), a.view(), graft::transposed(turned.view()), 0.7);
    CHECK(differences(as_const(graft::transposed(turned.view())), as_const(expected.view())) == "");
  });
}

TEST_CASE("outer_add has the bits of reference for 16-bit weights, layouts and threads",
          "[kernels][outer_add][parity]") {
  auto const shapes = sampled_shapes(90, uses::no_n, 600000);
  random_bits bits(31);
  tally t;
  for (std::size_t i = 0; i < shapes.size(); ++i)
    with_storage(static_cast<int>(i % 3), [&]<class W>(std::type_identity<W>) {
      with_storage(static_cast<int>(i / 3 % 3), [&]<class F>(std::type_identity<F>) {
        shape const& s = shapes[i];  // W is [T, m]
        auto const how = [&] { return all_layouts[static_cast<std::size_t>(bits.below(8))]; };
        matrix<F> const b(s.T, s.r, how(), i + 1);
        matrix<F> const a(s.r, s.m, how(), i + 2);
        layout const l = how();
        matrix<W> start(s.T, s.m, layout::contiguous, i + 3);
        auto const bf = copy_of<float>(b.view());
        auto const af = copy_of<float>(a.view());
        auto wf = copy_of<float>(start.view());
        outer_add(graft::reference{}, bf.view(), af.view(), wf.view(), -0.3);
        auto const expected = copy_of<W>(wf.view());
        auto const run = [&](auto const& ex, auto const& w) { outer_add(ex, b.view(), a.view(), w, -0.3); };
        auto const describe = [&] {
          return std::string("W ") + type_name<W>() + " " + name(l) + ", factors " + type_name<F>() + " " +
                 name(b.how()) + ", " + name(a.how()) + "; " + s.text();
        };
        compare_levels<W>(t, as_const(start.view()), l, expected.view(), run, describe);
        compare_threads<W>(t, as_const(start.view()), l, expected.view(), run, describe);
      });
    });
  CHECK(t.text() == "");
  CHECK(t.count() >= 90 * 5);
}
