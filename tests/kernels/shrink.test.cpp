#include <graft/kernels/shrink.hpp>

#include <cmath>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/parity.hpp"
#include "support/tolerance.hpp"

using graft::as_const;
using graft::bfloat16;
using graft::float16;
using graft::index_t;
using graft::view;
using graft::kernels::shrink;
using namespace tests;

namespace {

template <class X, class A, class V>
matrix<V> expected_of(any_view<X const> x, any_view<A const> a, any_view<V const> v, double scale) {
  auto const xf = copy_of<float>(x);
  auto const af = copy_of<float>(a);
  matrix<float> vf(v.extent(0), v.extent(1));
  shrink(graft::reference{}, xf.view(), af.view(), vf.view(), scale);
  return copy_of<V>(vf.view());
}

struct layouts3 {
  layout x, a, v;
  [[nodiscard]] std::string text() const { return "x " + name(x) + ", A " + name(a) + ", v " + name(v); }
};
layouts3 draw_layouts(random_bits& bits) {
  auto const one = [&] { return all_layouts[static_cast<std::size_t>(bits.below(8))]; };
  return {one(), one(), one()};
}

template <class X, class A, class V>
struct problem {
  matrix<X> x;
  matrix<A> a;
  matrix<V> v;  // overwritten
  problem(shape const& s, layouts3 const& l, std::uint64_t seed)
      : x(s.T, s.n, l.x, seed + 1), a(s.r, s.n, l.a, seed + 2), v(s.T, s.r, l.v, seed + 3) {}

  /// Compares every executor with reference.
  void compare(tally& t, layout how, double scale, bool threads, std::string const& what) {
    auto const start = as_const(v.view());
    auto const expected = expected_of<X, A, V>(as_const(x.view()), as_const(a.view()), start, scale);
    auto const run = [&](auto const& ex, auto const& out) { shrink(ex, x.view(), a.view(), out, scale); };
    auto const describe = [&] {
      return std::string("x ") + type_name<X>() + ", A " + type_name<A>() + ", v " + type_name<V>() + "; " + what;
    };
    compare_levels<V>(t, start, how, expected.view(), run, describe);
    if (threads) compare_threads<V>(t, start, how, expected.view(), run, describe);
  }
};

}  // namespace

TEST_CASE("shrink writes s x A^T over what was there", "[kernels][shrink]") {
  std::vector<float> const x{1, 2, 3, 4, 5, 6};
  std::vector<float> const a{1, -1, 2, 0, 3, 1};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> v{NAN, -7, 8, 9};
    shrink(ex, view(x, 2, 3), view(a, 2, 3), view(v, 2, 2), 0.5F);
    CHECK(v == std::vector<float>{2.5F, 4.5F, 5.5F, 10.5F});
    shrink(ex, view(x, 2, 3), view(a, 2, 3), view(v, 2, 2));
    CHECK(v == std::vector<float>{5, 9, 11, 21});
  });
}

TEST_CASE("shrink on transposed views is dy B", "[kernels][shrink]") {
  std::vector<float> const dy{1, 2, 3};
  std::vector<float> const b{1, 10, 2, 20, 3, 30};  // [3, 2]
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> u(2);
    shrink(ex, view(dy, 1, 3), graft::transposed(view(b, 3, 2)), view(u, 1, 2));
    CHECK(u == std::vector<float>{14, 140});
  });
}

TEST_CASE("shrink over nothing gives zeros", "[kernels][shrink]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    matrix<float> v(3, 5, layout::padded, 1);
    matrix<float> const x(3, 0);
    matrix<float> const a(5, 0);
    shrink(ex, x.view(), a.view(), v.view(), 2.0);
    for (index_t i = 0; i < 3; ++i)
      for (index_t j = 0; j < 5; ++j) CHECK(bits_of(v.view()(i, j)) == 0);
    CHECK(v.outside() == "");
  });
}

TEST_CASE("shrink keeps its error bound", "[kernels][shrink]") {
  for (shape const& s : {shape{3, 5, 2, 0}, shape{5, 513, 9, 0}, shape{2, 4097, 33, 0}, shape{33, 1025, 16, 0}}) {
    INFO(s.text());
    problem<float, bfloat16, float> p(s, {}, 3);
    shrink(graft::serial{}, p.x.view(), p.a.view(), p.v.view(), -0.7);
    double worst = 0;
    for (index_t i = 0; i < s.T; ++i)
      for (index_t j = 0; j < s.r; ++j) {
        double sum = 0;
        double magnitude = 0;
        for (index_t k = 0; k < s.n; ++k) {
          double const product = -static_cast<double>(0.7F) * graft::load_as<double>(p.x.view()(i, k)) *
                                 graft::load_as<double>(p.a.view()(j, k));
          sum += product;
          magnitude += std::abs(product);
        }
        worst = std::max(
            worst, std::abs(static_cast<double>(p.v.view()(i, j)) - sum) / long_axis_bound<float>(s.n, magnitude));
      }
    CHECK(worst <= 1.0);
    CHECK(worst > 0.0);
  }
}

TEST_CASE("shrink has the bits of reference for every mix of storage types", "[kernels][shrink][parity]") {
  auto const shapes = sampled_shapes(27 * 6, uses::no_m, 800000);
  random_bits bits(15);
  tally t;
  std::size_t next = 0;
  for (int mix = 0; mix < 27; ++mix)
    with_storage(mix % 3, [&]<class X>(std::type_identity<X>) {
      with_storage(mix / 3 % 3, [&]<class A>(std::type_identity<A>) {
        with_storage(mix / 9, [&]<class V>(std::type_identity<V>) {
          for (int again = 0; again < 6; ++again) {
            shape const& s = shapes[next++];
            layouts3 const l = draw_layouts(bits);
            problem<X, A, V> p(s, l, next);
            p.compare(t, l.v, 0.7, false, l.text() + "; " + s.text());
          }
        });
      });
    });
  CHECK(t.text() == "");
  CHECK(t.count() >= 162);
}

TEST_CASE("shrink has the bits of reference for every number of threads, layout and extent",
          "[kernels][shrink][parity]") {
  auto const shapes = sampled_shapes(240, uses::no_m);
  random_bits bits(16);
  tally t;
  for (std::size_t i = 0; i < shapes.size(); ++i)
    with_storage(static_cast<int>(i % 3), [&]<class X>(std::type_identity<X>) {
      shape const& s = shapes[i];
      layouts3 const l = draw_layouts(bits);
      problem<X, X, X> p(s, l, i);
      p.compare(t, l.v, i % 2 == 0 ? 1.0 : -1.3, true, l.text() + "; " + s.text());
      auto const expected = expected_of<X, X, X>(as_const(p.x.view()), as_const(p.a.view()), as_const(p.v.view()), 2.0);
      t.add(compare_one<X>(graft::reference{}, as_const(p.v.view()), l.v, expected.view(),
                           [&](auto const& ex, auto const& v) { shrink(ex, p.x.view(), p.a.view(), v, 2.0); }),
            [&] { return "reference, " + l.text() + "; " + s.text(); });
    });
  CHECK(t.text() == "");
}

TEST_CASE("shrink has the bits of reference for all tiny extents, 0 included", "[kernels][shrink][parity]") {
  tally t;
  std::size_t i = 0;
  for (shape const& s : tiny_shapes()) {
    auto const next = [&] { return all_layouts[i++ * 5 % 8]; };
    layouts3 const l{next(), next(), next()};
    problem<float16, float, float> p(s, l, 3);
    p.compare(t, l.v, -3.0, true, l.text() + "; " + s.text());
  }
  CHECK(t.text() == "");
}

TEST_CASE("shrink of one or few long rows is cut over ranks and chunks with the same bits",
          "[kernels][shrink][parity]") {
  tally t;
  for (index_t const T : {1, 2, 3, 5, 11, 23})
    for (index_t const n : {511, 512, 513, 1024, 1537, 5000})
      for (index_t const r : {1, 4, 17, 70}) {
        shape const s{T, n, r, 0};
        problem<float, bfloat16, float> p(s, {layout::padded, layout::contiguous, layout::padded}, 7);
        p.compare(t, layout::padded, 0.7, true, s.text());
      }
  CHECK(t.text() == "");
}

TEST_CASE("shrink in double has the same bits everywhere", "[kernels][shrink]") {
  problem<double, float, double> p({9, 1030, 7, 0}, {layout::padded, layout::transposed, layout::strided}, 21);
  matrix<double> expected(9, 7);
  shrink(graft::reference{}, p.x.view(), p.a.view(), expected.view(), 0.3);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    CHECK(compare_one<double>(ex, as_const(p.v.view()), layout::reversed_rows, as_const(expected.view()),
                              [&](auto const& e, auto const& v) { shrink(e, p.x.view(), p.a.view(), v, 0.3); }) == "");
  });
}

TEST_CASE("a row of shrink has the same bits alone and in batches of 1, 2, 7, 64 and 513",
          "[kernels][shrink][promises]") {
  shape const all{513, 1030, 9, 0};
  problem<float, float, float> p(all, {}, 33);
  auto const expected =
      expected_of<float, float, float>(as_const(p.x.view()), as_const(p.a.view()), as_const(p.v.view()), 0.7);
  tally t;
  for_each_host_executor([&](std::string const& name, auto const& ex) {
    for (index_t const batch : {1, 2, 7, 64, 513}) {
      matrix<float> v(all.T, all.r);
      index_t const last = batch == 1 ? 60 : all.T;
      for (index_t first = 0; first < last; first += batch) {
        index_t const count = std::min(batch, last - first);
        shrink(ex, graft::rows(p.x.view(), first, count), p.a.view(), graft::rows(v.view(), first, count), 0.7);
      }
      t.add(differences(graft::rows(as_const(v.view()), 0, last), graft::rows(as_const(expected.view()), 0, last)),
            [&] { return name + ", batches of " + std::to_string(batch); });
    }
  });
  CHECK(t.text() == "");
}

TEST_CASE("NaN, infinities, zeros of both signs and subnormals shrink as in reference", "[kernels][shrink][special]") {
  tally t;
  std::uint64_t seed = 0;
  for (shape const& s :
       {shape{1, 3, 1, 0}, shape{3, 17, 5, 0}, shape{13, 65, 9, 0}, shape{2, 530, 30, 0}, shape{50, 40, 12, 0}})
    for (int one_in : {6, 60, 600})
      for (int kind = 0; kind < 3; ++kind)
        for (double const scale : {1.0, -0.5, 0.0})
          with_storage(kind, [&]<class S>(std::type_identity<S>) {
            problem<S, S, S> p(s, {}, ++seed);
            fill_special(p.x, ++seed, one_in);
            fill_special(p.a, ++seed, one_in);
            p.compare(t, layout::padded, scale, true, "scale " + std::to_string(scale) + ", " + s.text());
          });
  CHECK(t.text() == "");
}
