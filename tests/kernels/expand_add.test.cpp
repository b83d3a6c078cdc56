#include <graft/kernels/expand_add.hpp>

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
using graft::transposed;
using graft::view;
using graft::kernels::expand_add;
using namespace tests;

namespace {

template <class V, class B, class Y>
matrix<Y> expected_of(any_view<V const> v, any_view<B const> b, any_view<Y const> y, double scale) {
  auto const vf = copy_of<float>(v);
  auto const bf = copy_of<float>(b);
  auto yf = copy_of<float>(y);
  expand_add(graft::reference{}, vf.view(), bf.view(), yf.view(), scale);
  return copy_of<Y>(yf.view());
}

struct layouts3 {
  layout v, b, y;
  [[nodiscard]] std::string text() const { return "v " + name(v) + ", B " + name(b) + ", y " + name(y); }
};
layouts3 draw_layouts(random_bits& bits) {
  auto const one = [&] { return all_layouts[static_cast<std::size_t>(bits.below(8))]; };
  return {one(), one(), one()};
}

template <class V, class B, class Y>
struct problem {
  matrix<V> v;
  matrix<B> b;
  matrix<Y> y;
  problem(shape const& s, layouts3 const& l, std::uint64_t seed)
      : v(s.T, s.r, l.v, seed + 1), b(s.m, s.r, l.b, seed + 2), y(s.T, s.m, l.y, seed + 3) {}

  void compare(tally& t, layout how, double scale, bool threads, std::string const& what) {
    auto const start = as_const(y.view());
    auto const expected = expected_of<V, B, Y>(as_const(v.view()), as_const(b.view()), start, scale);
    auto const run = [&](auto const& ex, auto const& out) { expand_add(ex, v.view(), b.view(), out, scale); };
    auto const describe = [&] {
      return std::string("v ") + type_name<V>() + ", B " + type_name<B>() + ", y " + type_name<Y>() + "; " + what;
    };
    compare_levels<Y>(t, start, how, expected.view(), run, describe);
    if (threads) compare_threads<Y>(t, start, how, expected.view(), run, describe);
  }
};

}  // namespace

TEST_CASE("expand_add adds (s v) B^T to what is there", "[kernels][expand_add]") {
  std::vector<float> const v{2, 4, 6, 8};
  std::vector<float> const b{1, 0, 0, 1, 2, -1};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> y{10, 20, 30, 40, 50, 60};
    expand_add(ex, view(v, 2, 2), view(b, 3, 2), view(y, 2, 3), 0.5);
    CHECK(y == std::vector<float>{11, 22, 30, 43, 54, 62});
    expand_add(ex, view(v, 2, 2), view(b, 3, 2), view(y, 2, 3));
    CHECK(y == std::vector<float>{13, 26, 30, 49, 62, 66});
  });
}

TEST_CASE("expand_add on transposed views is a gradient, dB += dy^T v", "[kernels][expand_add]") {
  std::vector<float> const dy{1, 2, 3, 4, 5, 6};  // [2, 3]
  std::vector<float> const v{10, 20, 30, 40};     // [2, 2]
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> d_b{1, 1, 1, 1, 1, 1};  // [3, 2]
    expand_add(ex, transposed(view(dy, 2, 3)), transposed(view(v, 2, 2)), view(d_b, 3, 2));
    CHECK(d_b == std::vector<float>{131, 181, 171, 241, 211, 301});
  });
}

TEST_CASE("expand_add keeps its error bound", "[kernels][expand_add]") {
  tally t;
  for (shape const& s : {shape{3, 0, 2, 7}, shape{5, 0, 513, 65}, shape{65, 0, 16, 31}, shape{2, 0, 1500, 70}})
    for (int kind = 0; kind < 3; ++kind)
      with_storage(kind, [&]<class Y>(std::type_identity<Y>) {
        problem<float, bfloat16, Y> p(s, {}, 3);
        auto const before = copy_of<Y>(p.y.view());
        expand_add(graft::serial{}, p.v.view(), p.b.view(), p.y.view(), -0.7);
        double worst = 0;
        for (index_t i = 0; i < s.T; ++i)
          for (index_t o = 0; o < s.m; ++o) {
            double sum = graft::load_as<double>(before.view()(i, o));
            double magnitude = std::abs(sum);
            for (index_t j = 0; j < s.r; ++j) {
              double const product = -static_cast<double>(0.7F) * static_cast<double>(p.v.view()(i, j)) *
                                     graft::load_as<double>(p.b.view()(o, j));
              sum += product;
              magnitude += std::abs(product);
            }
            double const error = std::abs(graft::load_as<double>(p.y.view()(i, o)) - sum);
            worst = std::max(worst, error / with_rounding<Y>(sum, short_axis_bound<float>(s.r, magnitude)));
          }
        t.add(worst <= 1.0 && worst > 0.0 ? "" : "error " + std::to_string(worst) + " times its bound",
              [&] { return std::string(type_name<Y>()) + ", " + s.text(); });
      });
  CHECK(t.text() == "");
}

TEST_CASE("expand_add has the bits of reference for every mix of storage types", "[kernels][expand_add][parity]") {
  auto const shapes = sampled_shapes(27 * 8, uses::no_n, 800000);
  random_bits bits(25);
  tally t;
  std::size_t next = 0;
  for (int mix = 0; mix < 27; ++mix)
    with_storage(mix % 3, [&]<class V>(std::type_identity<V>) {
      with_storage(mix / 3 % 3, [&]<class B>(std::type_identity<B>) {
        with_storage(mix / 9, [&]<class Y>(std::type_identity<Y>) {
          for (int again = 0; again < 8; ++again) {
            shape const& s = shapes[next++];
            layouts3 const l = draw_layouts(bits);
            problem<V, B, Y> p(s, l, next);
            p.compare(t, l.y, again % 2 == 0 ? 1.0 : 0.7, false, l.text() + "; " + s.text());
          }
        });
      });
    });
  CHECK(t.text() == "");
  CHECK(t.count() >= 216);
}

TEST_CASE("expand_add has the bits of reference for every number of threads, layout and extent",
          "[kernels][expand_add][parity]") {
  auto const shapes = sampled_shapes(240, uses::no_n);
  random_bits bits(26);
  tally t;
  for (std::size_t i = 0; i < shapes.size(); ++i)
    with_storage(static_cast<int>(i % 3), [&]<class Y>(std::type_identity<Y>) {
      shape const& s = shapes[i];
      layouts3 const l = draw_layouts(bits);
      problem<float, Y, Y> p(s, l, i);
      p.compare(t, l.y, i % 2 == 0 ? 1.0 : -1.3, true, l.text() + "; " + s.text());
      auto const expected =
          expected_of<float, Y, Y>(as_const(p.v.view()), as_const(p.b.view()), as_const(p.y.view()), 2.0);
      t.add(compare_one<Y>(graft::reference{}, as_const(p.y.view()), l.y, expected.view(),
                           [&](auto const& ex, auto const& y) { expand_add(ex, p.v.view(), p.b.view(), y, 2.0); }),
            [&] { return "reference, " + l.text() + "; " + s.text(); });
    });
  CHECK(t.text() == "");
}

TEST_CASE("expand_add has the bits of reference for all tiny extents, 0 included", "[kernels][expand_add][parity]") {
  tally t;
  std::size_t i = 0;
  for (shape const& s : tiny_shapes()) {
    auto const next = [&] { return all_layouts[i++ * 5 % 8]; };
    layouts3 const l{next(), next(), next()};
    problem<float16, float, float> p(s, l, 3);
    p.compare(t, l.y, -3.0, true, l.text() + "; " + s.text());
  }
  CHECK(t.text() == "");
}

TEST_CASE("a 16-bit sum over more than one chunk is rounded once", "[kernels][expand_add][parity]") {
  tally t;
  for (shape const& s : {shape{1, 0, 513, 1}, shape{4, 0, 1030, 67}, shape{70, 0, 600, 40}, shape{3, 0, 2049, 130}})
    for (layout const l : all_layouts) {
      problem<float, bfloat16, bfloat16> p(s, {layout::contiguous, layout::transposed, l}, 3);
      p.compare(t, l, 1.0, true, name(l) + "; " + s.text());
      problem<bfloat16, float16, float16> q(s, {layout::transposed, layout::contiguous, l}, 3);
      q.compare(t, l, 1.0, true, name(l) + "; " + s.text());
    }
  CHECK(t.text() == "");
}

TEST_CASE("few outputs of many rows, many outputs of few rows, and narrow ones have the same bits",
          "[kernels][expand_add][parity]") {
  // Shapes of gradients and merges: all ways in which the roles of the operands are exchanged.
  tally t;
  for (shape const& s : {shape{600, 0, 40, 8}, shape{700, 0, 35, 60}, shape{900, 0, 33, 200}, shape{8, 0, 700, 300},
                         shape{16, 0, 64, 1030}, shape{200, 0, 8, 1030}, shape{1030, 0, 4, 5}, shape{4, 0, 16, 4100},
                         shape{2, 0, 16, 4100}, shape{300, 0, 130, 130}})
    for (layout const b : {layout::contiguous, layout::transposed, layout::transposed_padded, layout::padded})
      for (layout const y : {layout::contiguous, layout::transposed_padded}) {
        problem<float, float, float> p(s, {layout::transposed, b, y}, 3);
        p.compare(t, y, 0.7, true, name(b) + ", " + name(y) + "; " + s.text());
        problem<float, bfloat16, bfloat16> q(s, {layout::contiguous, b, y}, 3);
        q.compare(t, y, 1.0, true, name(b) + ", " + name(y) + "; " + s.text());
      }
  CHECK(t.text() == "");
}

TEST_CASE("fewer threads than the executor promised change no bits", "[kernels][expand_add][promises]") {
  // Scratch is taken before the region starts, for as many workers as were promised.
  tally t;
  for (shape const& s :
       {shape{13, 0, 600, 300}, shape{100, 0, 100, 300}, shape{100, 0, 600, 40}, shape{400, 0, 17, 300}})
    for (layout const y : {layout::contiguous, layout::transposed, layout::strided}) {
      problem<bfloat16, bfloat16, bfloat16> p(s, {layout::contiguous, layout::contiguous, y}, 3);
      p.compare(t, y, 0.5, true, name(y) + "; " + s.text());
    }
  CHECK(t.text() == "");
}

TEST_CASE("packed panels change no bits of expand_add", "[kernels][expand_add][panels][parity]") {
  auto const shapes = sampled_shapes(60, uses::no_n, 400000);
  tally t;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    shape const& s = shapes[i];
    with_storage(static_cast<int>(i % 3), [&]<class B>(std::type_identity<B>) {
      layout const how = all_layouts[i % 8];
      problem<float, B, float> p(s, {layout::contiguous, layout::contiguous, how}, i);
      std::vector<B> memory(static_cast<std::size_t>(graft::panels_view<B>::storage(s.m, s.r)));
      graft::panels_view<B> const panels(memory.data(), s.m, s.r);
      graft::kernels::pack_panels(graft::serial{}, p.b.view(), panels);
      auto const expected =
          expected_of<float, B, float>(as_const(p.v.view()), as_const(p.b.view()), as_const(p.y.view()), 0.7);
      auto const run = [&](auto const& ex, auto const& y) { expand_add(ex, p.v.view(), panels, y, 0.7); };
      auto const describe = [&] { return name(how) + "; " + s.text(); };
      t.add(compare_one<float>(graft::reference{}, as_const(p.y.view()), how, expected.view(), run), describe);
      compare_levels<float>(t, as_const(p.y.view()), how, expected.view(), run, describe);
      compare_threads<float>(t, as_const(p.y.view()), how, expected.view(), run, describe);
    });
  }
  CHECK(t.text() == "");
}

TEST_CASE("expand_add in double has the same bits everywhere", "[kernels][expand_add]") {
  problem<double, float, double> p({9, 0, 515, 70}, {layout::padded, layout::transposed, layout::strided}, 21);
  auto expected = copy_of<double>(p.y.view());
  expand_add(graft::reference{}, p.v.view(), p.b.view(), expected.view(), 0.3);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    CHECK(compare_one<double>(ex, as_const(p.y.view()), layout::reversed_rows, as_const(expected.view()),
                              [&](auto const& e, auto const& y) { expand_add(e, p.v.view(), p.b.view(), y, 0.3); }) ==
          "");
  });
}

TEST_CASE("a row of expand_add has the same bits alone and in batches of 1, 2, 7, 64 and 513",
          "[kernels][expand_add][promises]") {
  shape const all{513, 0, 17, 131};
  tally t;
  for (int kind = 0; kind < 3; ++kind)
    with_storage(kind, [&]<class S>(std::type_identity<S>) {
      problem<float, S, S> p(all, {}, 33);
      auto const expected =
          expected_of<float, S, S>(as_const(p.v.view()), as_const(p.b.view()), as_const(p.y.view()), 0.7);
      for_each_host_executor([&](std::string const& name, auto const& ex) {
        for (index_t const batch : {1, 2, 7, 64, 513}) {
          auto y = copy_of<S>(p.y.view());
          index_t const last = batch == 1 ? 60 : all.T;
          for (index_t first = 0; first < last; first += batch) {
            index_t const count = std::min(batch, last - first);
            expand_add(ex, graft::rows(p.v.view(), first, count), p.b.view(), graft::rows(y.view(), first, count), 0.7);
          }
          t.add(differences(graft::rows(as_const(y.view()), 0, last), graft::rows(as_const(expected.view()), 0, last)),
                [&] { return name + ", batches of " + std::to_string(batch) + " " + type_name<S>(); });
        }
      });
    });
  CHECK(t.text() == "");
}

TEST_CASE("NaN, infinities, zeros of both signs and subnormals expand as in reference",
          "[kernels][expand_add][special]") {
  tally t;
  std::uint64_t seed = 0;
  for (shape const& s :
       {shape{1, 0, 3, 3}, shape{3, 0, 5, 67}, shape{5, 0, 7, 130}, shape{70, 0, 2, 20}, shape{2, 0, 520, 64}})
    for (int one_in : {6, 60, 600})
      for (int kind = 0; kind < 3; ++kind)
        for (double const scale : {1.0, -0.5, 0.0})
          with_storage(kind, [&]<class S>(std::type_identity<S>) {
            problem<S, S, S> p(s, {}, ++seed);
            fill_special(p.v, ++seed, one_in);
            fill_special(p.b, ++seed, one_in);
            fill_special(p.y, ++seed, one_in);
            p.compare(t, seed % 2 == 0 ? layout::padded : layout::transposed, scale, true,
                      "scale " + std::to_string(scale) + ", " + s.text());
          });
  CHECK(t.text() == "");
}
