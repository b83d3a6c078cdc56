#include <graft/kernels/low_rank_add.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/parity.hpp"
#include "support/resources.hpp"
#include "support/tolerance.hpp"

using graft::as_const;
using graft::bfloat16;
using graft::float16;
using graft::index_t;
using graft::view;
using graft::kernels::low_rank_add;
using namespace tests;

namespace {

/// What `reference` makes of the same values in contiguous fp32, rounded once to Y.
template <class X, class A, class B, class Y>
matrix<Y> expected_of(any_view<X const> x, any_view<A const> a, any_view<B const> b, any_view<Y const> y,
                      double scale) {
  auto const xf = copy_of<float>(x);
  auto const af = copy_of<float>(a);
  auto const bf = copy_of<float>(b);
  auto yf = copy_of<float>(y);
  low_rank_add(graft::reference{}, xf.view(), af.view(), bf.view(), yf.view(), scale);
  return copy_of<Y>(yf.view());
}

struct layouts4 {
  layout x, a, b, y;
  [[nodiscard]] std::string text() const {
    return "x " + name(x) + ", A " + name(a) + ", B " + name(b) + ", y " + name(y);
  }
};
layouts4 draw_layouts(random_bits& bits) {
  auto const one = [&] { return all_layouts[static_cast<std::size_t>(bits.below(8))]; };
  return {one(), one(), one(), one()};
}

template <class X, class A, class B, class Y>
std::string mix_text() {
  return std::string("x ") + type_name<X>() + ", A " + type_name<A>() + ", B " + type_name<B>() + ", y " +
         type_name<Y>();
}

template <class X, class A, class B, class Y>
struct problem {
  matrix<X> x;
  matrix<A> a;
  matrix<B> b;
  matrix<Y> y;
  problem(shape const& s, layouts4 const& l, std::uint64_t seed)
      : x(s.T, s.n, l.x, seed + 1),
        a(s.r, s.n, l.a, seed + 2),
        b(s.m, s.r, l.b, seed + 3),
        y(s.T, s.m, l.y, seed + 4) {}
};

/// A double-precision loop and the magnitude that bounds are stated in.
template <class P>
void within_bound(tally& t, P const& before, P& after, shape const& s, double scale, std::string const& what) {
  using Y = typename decltype(after.y.view())::value_type;
  double worst = 0.0;
  std::string complaint;
  for (index_t i = 0; i < s.T; ++i)
    for (index_t o = 0; o < s.m; ++o) {
      double sum = graft::load_as<double>(before.y.view()(i, o));
      double magnitude = std::abs(sum);
      for (index_t j = 0; j < s.r; ++j) {
        double v = 0.0;
        double v_magnitude = 0.0;
        for (index_t k = 0; k < s.n; ++k) {
          double const product =
              graft::load_as<double>(before.x.view()(i, k)) * graft::load_as<double>(before.a.view()(j, k));
          v += product;
          v_magnitude += std::abs(product);
        }
        double const b = graft::load_as<double>(before.b.view()(o, j));
        sum += scale * v * b;
        magnitude += std::abs(scale * b) * v_magnitude;
      }
      double const error = std::abs(graft::load_as<double>(after.y.view()(i, o)) - sum);
      double const bound = with_rounding<Y>(sum, low_rank_bound<float>(s.n, s.r, magnitude));
      worst = std::max(worst, error / bound);
      if (!(error <= bound))
        complaint = "error " + std::to_string(error / bound) + " times its bound at " + std::to_string(i) + ", " +
                    std::to_string(o);
    }
  if (complaint.empty() && s.T * s.m > 100 && worst == 0.0)
    complaint = "not one rounding error: was anything computed?";
  t.add(complaint, [&] { return what + ", " + s.text(); });
}

}  // namespace

TEST_CASE("low_rank_add adds s (x A^T) B^T to what is there", "[kernels][low_rank_add]") {
  // x A^T = [[1 - 2, 4], [3 - 4, 8]] = [[-1, 4], [-1, 8]];  s = 1/2
  std::vector<float> const x{1, 2, 3, 4};
  std::vector<float> const a{1, -1, 0, 2};
  std::vector<float> const b{1, 0, 0, 1, 2, 3};  // three outputs
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> y{10, 20, 30, 40, 50, 60};
    low_rank_add(ex, view(x, 2, 2), view(a, 2, 2), view(b, 3, 2), view(y, 2, 3), 0.5);
    CHECK(y == std::vector<float>{9.5F, 22, 35, 39.5F, 54, 71});
  });
}

TEST_CASE("low_rank_add without a scale has the scale 1", "[kernels][low_rank_add]") {
  std::vector<float> const x{3};
  std::vector<float> const a{5};
  std::vector<float> const b{7};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> y{1};
    low_rank_add(ex, view(x, 1, 1), view(a, 1, 1), view(b, 1, 1), view(y, 1, 1));
    CHECK(y[0] == 106.0F);
  });
}

TEST_CASE("low_rank_add keeps its error bound", "[kernels][low_rank_add]") {
  tally t;
  std::vector<shape> const shapes{{3, 5, 2, 7}, {5, 513, 9, 65}, {17, 1025, 16, 31}, {2, 67, 70, 130}, {3, 33, 513, 9}};
  for (shape const& s : shapes)
    for (auto const& mix : nine_mixes)
      with_storage(mix[0], [&]<class X>(std::type_identity<X>) {
        with_storage(mix[3], [&]<class Y>(std::type_identity<Y>) {
          problem<X, float, bfloat16, Y> const before(s, {}, 17);
          problem<X, float, bfloat16, Y> after(s, {}, 17);
          low_rank_add(graft::serial{}, after.x.view(), after.a.view(), after.b.view(), after.y.view(), 0.37);
          within_bound(t, before, after, s, 0.37, mix_text<X, float, bfloat16, Y>());
        });
      });
  CHECK(t.text() == "");
  CHECK(t.count() == 45);
}

TEST_CASE("low_rank_add has the bits of reference for every mix of storage types", "[kernels][low_rank_add][parity]") {
  // 81 mixes; the shapes and layouts change from mix to mix.
  auto const shapes = sampled_shapes(81 * 3, uses::all, 400000);
  random_bits bits(5);
  tally t;
  std::size_t next = 0;
  for (int mix = 0; mix < 81; ++mix)
    with_storage(mix % 3, [&]<class X>(std::type_identity<X>) {
      with_storage(mix / 3 % 3, [&]<class A>(std::type_identity<A>) {
        with_storage(mix / 9 % 3, [&]<class B>(std::type_identity<B>) {
          with_storage(mix / 27, [&]<class Y>(std::type_identity<Y>) {
            for (int again = 0; again < 3; ++again) {
              shape const& s = shapes[next++];
              layouts4 const l = draw_layouts(bits);
              problem<X, A, B, Y> p(s, l, next);
              auto const expected = expected_of<X, A, B, Y>(as_const(p.x.view()), as_const(p.a.view()),
                                                            as_const(p.b.view()), as_const(p.y.view()), 0.7F);
              compare_levels<Y>(
                  t, as_const(p.y.view()), l.y, expected.view(),
                  [&](auto const& ex, auto const& y) { low_rank_add(ex, p.x.view(), p.a.view(), p.b.view(), y, 0.7F); },
                  [&] { return mix_text<X, A, B, Y>() + "; " + l.text() + "; " + s.text(); });
            }
          });
        });
      });
    });
  CHECK(t.text() == "");
  CHECK(t.count() >= 243);
}

TEST_CASE("low_rank_add has the bits of reference for every number of threads, layout and extent",
          "[kernels][low_rank_add][parity]") {
  auto const shapes = sampled_shapes(288, uses::all);
  random_bits bits(6);
  tally t;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    auto const& mix = nine_mixes[i % 9];
    with_storage(mix[0], [&]<class X>(std::type_identity<X>) {
      with_storage(mix[3], [&]<class Y>(std::type_identity<Y>) {
        shape const& s = shapes[i];
        layouts4 const l = draw_layouts(bits);
        problem<X, X, Y, Y> p(s, l, i);
        double const scale = i % 3 == 0 ? 1.0 : -1.3;  // 1 is skipped by bodies
        auto const expected = expected_of<X, X, Y, Y>(as_const(p.x.view()), as_const(p.a.view()), as_const(p.b.view()),
                                                      as_const(p.y.view()), scale);
        auto const run = [&](auto const& ex, auto const& y) {
          low_rank_add(ex, p.x.view(), p.a.view(), p.b.view(), y, scale);
        };
        auto const describe = [&] { return mix_text<X, X, Y, Y>() + "; " + l.text() + "; " + s.text(); };
        t.add(compare_one<Y>(graft::reference{}, as_const(p.y.view()), l.y, expected.view(), run),
              [&] { return "reference, " + describe(); });
        compare_levels<Y>(t, as_const(p.y.view()), l.y, expected.view(), run, describe);
        compare_threads<Y>(t, as_const(p.y.view()), l.y, expected.view(), run, describe);
      });
    });
  }
  CHECK(t.text() == "");
}

TEST_CASE("low_rank_add has the bits of reference for all tiny extents, 0 included",
          "[kernels][low_rank_add][parity]") {
  tally t;
  std::size_t i = 0;
  for (shape const& s : tiny_shapes()) {
    auto const next = [&] { return all_layouts[i++ * 5 % 8]; };
    layouts4 const l{next(), next(), next(), next()};
    ++i;
    problem<float, bfloat16, float, float> p(s, l, 3);
    auto const expected = expected_of<float, bfloat16, float, float>(as_const(p.x.view()), as_const(p.a.view()),
                                                                     as_const(p.b.view()), as_const(p.y.view()), 3.0);
    auto const run = [&](auto const& ex, auto const& y) {
      low_rank_add(ex, p.x.view(), p.a.view(), p.b.view(), y, 3.0);
    };
    auto const describe = [&] { return l.text() + "; " + s.text(); };
    compare_levels<float>(t, as_const(p.y.view()), l.y, expected.view(), run, describe);
    compare_threads<float>(t, as_const(p.y.view()), l.y, expected.view(), run, describe);
  }
  CHECK(t.text() == "");
}

TEST_CASE("views whose type knows the unit stride give the bits of views that do not",
          "[kernels][low_rank_add][parity]") {
  shape const s{21, 530, 19, 131};
  problem<float, float, float, float> p(s, {}, 9);
  auto const expected = expected_of<float, float, float, float>(as_const(p.x.view()), as_const(p.a.view()),
                                                                as_const(p.b.view()), as_const(p.y.view()), 0.7);
  // The same values, turned in memory.
  auto xt = copy_of<float>(p.x.view(), layout::transposed);
  auto at = copy_of<float>(p.a.view(), layout::transposed);
  auto bt = copy_of<float>(p.b.view(), layout::transposed);
  auto const turned = [](auto& m, index_t rows, index_t columns) {
    return graft::transposed(view(m.view().data_handle(), columns, rows));
  };
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    {
      auto y = copy_of<float>(p.y.view());
      low_rank_add(ex, p.x.rows_view(), p.a.rows_view(), p.b.rows_view(), y.rows_view(), 0.7);
      CHECK(differences(as_const(y.view()), expected.view()) == "");
    }
    auto y = copy_of<float>(p.y.view(), layout::transposed);
    low_rank_add(ex, turned(xt, s.T, s.n), turned(at, s.r, s.n), turned(bt, s.m, s.r), turned(y, s.T, s.m), 0.7);
    CHECK(differences(as_const(y.view()), expected.view()) == "");
    CHECK(y.outside() == "");
  });
}

TEST_CASE("static extents change no bits of low_rank_add", "[kernels][low_rank_add][parity]") {
  problem<float, float, float, float> p({5, 48, 16, 80}, {}, 9);
  auto const expected = expected_of<float, float, float, float>(as_const(p.x.view()), as_const(p.a.view()),
                                                                as_const(p.b.view()), as_const(p.y.view()), 1.0);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    auto y = copy_of<float>(p.y.view());
    using graft::dynamic;
    using graft::extents;
    low_rank_add(ex, view(p.x.view().data_handle(), extents<dynamic, 48>{5, 48}),
                 view(p.a.view().data_handle(), extents<16, 48>{}),
                 view(p.b.view().data_handle(), extents<dynamic, 16>{80, 16}), y.view());
    CHECK(differences(as_const(y.view()), expected.view()) == "");
  });
}

TEST_CASE("packed panels of B change no bits of low_rank_add", "[kernels][low_rank_add][panels][parity]") {
  auto const shapes = sampled_shapes(72, uses::all, 400000);
  random_bits bits(8);
  tally t;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    shape const& s = shapes[i];
    layouts4 const l = draw_layouts(bits);
    with_storage(static_cast<int>(i % 3), [&]<class B>(std::type_identity<B>) {
      with_storage(static_cast<int>(i / 3 % 3), [&]<class Y>(std::type_identity<Y>) {
        problem<float, float, B, Y> p(s, l, i);
        std::vector<B> memory(static_cast<std::size_t>(graft::panels_view<B>::storage(s.m, s.r)));
        graft::panels_view<B> const panels(memory.data(), s.m, s.r);
        graft::kernels::pack_panels(graft::serial{}, p.b.view(), panels);
        auto const expected = expected_of<float, float, B, Y>(as_const(p.x.view()), as_const(p.a.view()),
                                                              as_const(p.b.view()), as_const(p.y.view()), 0.7);
        auto const run = [&](auto const& ex, auto const& y) {
          low_rank_add(ex, p.x.view(), p.a.view(), graft::panels_view<B const>(panels), y, 0.7);
        };
        auto const describe = [&] {
          return mix_text<float, float, B, Y>() + "; panels; " + l.text() + "; " + s.text();
        };
        t.add(compare_one<Y>(graft::reference{}, as_const(p.y.view()), l.y, expected.view(), run),
              [&] { return "reference, " + describe(); });
        compare_levels<Y>(t, as_const(p.y.view()), l.y, expected.view(), run, describe);
        compare_threads<Y>(t, as_const(p.y.view()), l.y, expected.view(), run, describe);
      });
    });
  }
  CHECK(t.text() == "");
}

TEST_CASE("double takes the generic body, with sums in double", "[kernels][low_rank_add]") {
  shape const s{9, 530, 5, 37};
  problem<double, double, double, double> p(
      s, {layout::padded, layout::transposed, layout::strided, layout::reversed_rows}, 21);
  matrix<double> expected(s.T, s.m);
  expected.assign(p.y.view());
  low_rank_add(graft::reference{}, p.x.view(), p.a.view(), p.b.view(), expected.view(), 0.3);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    CHECK(compare_one<double>(ex, as_const(p.y.view()), layout::reversed_rows, as_const(expected.view()),
                              [&](auto const& e, auto const& y) {
                                low_rank_add(e, p.x.view(), p.a.view(), p.b.view(), y, 0.3);
                              }) == "");
  });
  double worst = 0;
  for (index_t i = 0; i < s.T; ++i)
    for (index_t o = 0; o < s.m; ++o) {
      long double sum = p.y.view()(i, o);
      long double magnitude = std::abs(sum);
      for (index_t j = 0; j < s.r; ++j) {
        long double v = 0;
        long double v_magnitude = 0;
        for (index_t k = 0; k < s.n; ++k) {
          long double const product = static_cast<long double>(p.x.view()(i, k)) * p.a.view()(j, k);
          v += product;
          v_magnitude += std::abs(product);
        }
        sum += static_cast<long double>(0.3) * v * p.b.view()(o, j);
        magnitude += std::abs(static_cast<long double>(0.3) * p.b.view()(o, j)) * v_magnitude;
      }
      auto const error = static_cast<double>(std::abs(expected.view()(i, o) - sum));
      worst = std::max(worst, error / low_rank_bound<double>(s.n, s.r, static_cast<double>(magnitude)));
    }
  CHECK(worst <= 1.0);
  CHECK(worst > 0.0);
}

TEST_CASE("one double operand is enough for sums in double", "[kernels][low_rank_add]") {
  // 1 + 2^-30 is lost in fp32.
  std::vector<float> const x{1, 0x1p-30F};
  std::vector<float> const a{1, 1};
  std::vector<bfloat16> const b{bfloat16(1.0F)};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<double> y{0};
    low_rank_add(ex, view(x, 1, 2), view(a, 1, 2), view(b, 1, 1), view(y, 1, 1));
    CHECK(y[0] == 1.0 + 0x1p-30);
    std::vector<float> z{0};
    low_rank_add(ex, view(x, 1, 2), view(a, 1, 2), view(b, 1, 1), view(z, 1, 1));
    CHECK(z[0] == 1.0F);
  });
}

TEST_CASE("a row has the same bits alone and in batches of 1, 2, 7, 64 and 513", "[kernels][low_rank_add][promises]") {
  shape const all{513, 530, 9, 67};
  tally t;
  for (int kind = 0; kind < 3; ++kind)
    with_storage(kind, [&]<class S>(std::type_identity<S>) {
      problem<S, S, S, S> p(all, {}, 33);
      auto const expected = expected_of<S, S, S, S>(as_const(p.x.view()), as_const(p.a.view()), as_const(p.b.view()),
                                                    as_const(p.y.view()), 0.7);
      for_each_host_executor([&](std::string const& name, auto const& ex) {
        for (index_t const batch : {1, 2, 7, 64, 513}) {
          auto y = copy_of<S>(p.y.view());
          index_t const last = batch == 1 ? 60 : all.T;  // rows alone: the first of them will do
          for (index_t first = 0; first < last; first += batch) {
            index_t const count = std::min(batch, last - first);
            low_rank_add(ex, graft::rows(p.x.view(), first, count), p.a.view(), p.b.view(),
                         graft::rows(y.view(), first, count), 0.7);
          }
          t.add(differences(graft::rows(as_const(y.view()), 0, last), graft::rows(as_const(expected.view()), 0, last)),
                [&] { return name + ", batches of " + std::to_string(batch) + " " + type_name<S>(); });
        }
      });
    });
  CHECK(t.text() == "");
  CHECK(t.count() == 15 * host_executor_count);
}

TEST_CASE("two runs give the same bits, whatever lay in the scratch before", "[kernels][low_rank_add][promises]") {
  for (shape const& s : {shape{2, 1030, 20, 200}, shape{70, 300, 12, 190}}) {
    problem<bfloat16, float, float16, float> p(s, {}, 12);
    auto const expected = expected_of<bfloat16, float, float16, float>(as_const(p.x.view()), as_const(p.a.view()),
                                                                       as_const(p.b.view()), as_const(p.y.view()), 0.7);
    for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name << ", " << s.text());
      for (int run = 0; run < 10; ++run) {
        auto y = copy_of<float>(p.y.view());
        low_rank_add(ex, p.x.view(), p.a.view(), p.b.view(), y.view(), 0.7);
        if (differences(as_const(y.view()), expected.view()) != "")
          FAIL_CHECK("run " << run << ": " << differences(as_const(y.view()), expected.view()));
      }
    });
  }
}

TEST_CASE("NaN, infinities, zeros of both signs and subnormals come out as in reference",
          "[kernels][low_rank_add][special]") {
  tally t;
  int nan = 0;
  std::uint64_t seed = 0;
  for (shape const& s :
       {shape{1, 3, 1, 3}, shape{3, 17, 5, 67}, shape{5, 40, 7, 130}, shape{13, 65, 4, 33}, shape{2, 515, 3, 64}})
    for (int one_in : {6, 60, 600})
      for (int kind = 0; kind < 3; ++kind)
        for (double const scale : {1.0, -0.5, 0.0, static_cast<double>(std::numeric_limits<float>::infinity())})
          with_storage(kind, [&]<class S>(std::type_identity<S>) {
            problem<S, S, S, S> p(s, {}, ++seed);
            fill_special(p.x, ++seed, one_in);
            fill_special(p.a, ++seed, one_in);
            fill_special(p.b, ++seed, one_in);
            fill_special(p.y, ++seed, one_in);
            auto const expected = expected_of<S, S, S, S>(as_const(p.x.view()), as_const(p.a.view()),
                                                          as_const(p.b.view()), as_const(p.y.view()), scale);
            for (index_t i = 0; i < s.T; ++i)
              for (index_t o = 0; o < s.m; ++o) nan += is_nan(expected.view()(i, o)) ? 1 : 0;
            auto const run = [&](auto const& ex, auto const& y) {
              low_rank_add(ex, p.x.view(), p.a.view(), p.b.view(), y, scale);
            };
            auto const describe = [&] {
              return std::string(type_name<S>()) + ", scale " + std::to_string(scale) + ", " + s.text();
            };
            t.add(compare_one<S>(graft::reference{}, as_const(p.y.view()), layout::padded, expected.view(), run),
                  describe);
            compare_levels<S>(t, as_const(p.y.view()), layout::padded, expected.view(), run, describe);
            compare_threads<S>(t, as_const(p.y.view()), layout::transposed, expected.view(), run, describe);
          });
  CHECK(t.text() == "");
  CHECK(nan > 1000);
}

TEST_CASE("a rank of 0 and no outputs leave y alone; no inputs leave it too", "[kernels][low_rank_add]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    for (shape const& s : {shape{3, 5, 0, 7}, shape{3, 0, 2, 7}, shape{0, 5, 2, 7}, shape{3, 5, 2, 0}}) {
      problem<float, float, float, float> p(s, {layout::padded, layout::padded, layout::padded, layout::padded}, 4);
      matrix<float> const before(s.T, s.m, layout::contiguous, 8);
      p.y.assign(before.view());
      low_rank_add(ex, p.x.view(), p.a.view(), p.b.view(), p.y.view(), 2.0);
      CHECK(differences(as_const(p.y.view()), before.view()) == "");
      CHECK(p.y.outside() == "");
    }
  });
}

TEST_CASE("an input may be broadcast with strides of 0", "[kernels][low_rank_add]") {
  shape const s{19, 37, 5, 70};
  problem<float, float, float, float> p(s, {}, 2);
  using graft::dynamic;
  using graft::extents;
  auto const one_row = view(p.x.view().data_handle(), extents<dynamic, dynamic>{s.T, s.n}, {0, 1});
  auto const one_value = view(p.b.view().data_handle(), extents<dynamic, dynamic>{s.m, s.r}, {0, 0});
  auto const expected = expected_of<float, float, float, float>(as_const(one_row), as_const(p.a.view()),
                                                                as_const(one_value), as_const(p.y.view()), 0.7);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    CHECK(compare_one<float>(
              ex, as_const(p.y.view()), layout::contiguous, expected.view(),
              [&](auto const& e, auto const& y) { low_rank_add(e, one_row, p.a.view(), one_value, y, 0.7); }) == "");
  });
}

namespace {

/// f(factors) of the kinds that methods take: VeRA's, DoRA's, all, and the one that LoRA's dropout takes.
template <class V, class F>
void with_factors(int kind, V const& rank, V const& delta, V const& result, F const& f) {
  using none = graft::none_t;
  if (kind == 0) f(graft::low_rank_factors<V, V, none>{rank, delta, {}});
  else if (kind == 1) f(graft::low_rank_factors<none, none, V>{{}, {}, result});
  else if (kind == 2) f(graft::low_rank_factors<V, V, V>{rank, delta, result});
  else f(graft::low_rank_factors<none, V, none>{{}, delta, {}});
}

/// The formula in double of the values, and of their magnitudes.
template <class P, class V>
double scaled_element(P& p, V const& rank, V const& delta, V const& result, double scale, int kind, index_t t,
                      index_t o, bool absolute) {
  auto const value = [&](double v) { return absolute ? std::abs(v) : v; };
  double sum = 0;
  for (index_t j = 0; j < p.b.view().extent(1); ++j) {
    double v = 0;
    for (index_t k = 0; k < p.x.view().extent(1); ++k)
      v += value(graft::load_as<double>(p.x.view()(t, k)) * graft::load_as<double>(p.a.view()(j, k)));
    v *= value(scale) * (kind == 0 || kind == 2 ? value(graft::load_as<double>(rank(j))) : 1.0);
    sum += v * value(graft::load_as<double>(p.b.view()(o, j)));
  }
  if (kind != 1) sum *= value(graft::load_as<double>(delta(o)));
  sum += value(graft::load_as<double>(p.y.view()(t, o)));
  return kind == 1 || kind == 2 ? sum * value(graft::load_as<double>(result(o))) : sum;
}

}  // namespace

TEST_CASE("factors, checked by hand", "[kernels][low_rank_add]") {
  // x A^T = [7, -1]; rank makes [14, 1]; B gives [16, 41].
  std::vector<float> const x{1, 2, 3}, a{1, 0, 2, 0, 1, -1}, b{1, 2, 3, -1};
  std::vector<float> const rank{2, -1}, delta{3, -1}, result{10, 0.5F};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> y{1, 1};
    low_rank_add(ex, view(x, 1, 3), view(a, 2, 3), view(b, 2, 2), view(y, 1, 2), 1.0,
                 graft::low_rank_factors<decltype(view(rank)), decltype(view(rank)), decltype(view(rank))>{
                     view(rank), view(delta), view(result)});
    CHECK(y == std::vector<float>{490, -20});
    y = {1, 1};  // y + 2 [5, 22]
    low_rank_add(ex, view(x, 1, 3), view(a, 2, 3), view(b, 2, 2), view(y, 1, 2), 2.0,
                 graft::low_rank_factors<graft::none_t, graft::none_t, decltype(view(rank))>{{}, {}, view(result)});
    CHECK(y == std::vector<float>{110, 22.5F});
    y = {1, 1};  // no ranks: the result is still scaled
    low_rank_add(ex, view(x, 1, 3), view(a.data(), 0, 3), view(b.data(), 2, 0), view(y, 1, 2), 2.0,
                 graft::low_rank_factors<graft::none_t, graft::none_t, decltype(view(rank))>{{}, {}, view(result)});
    CHECK(y == std::vector<float>{10, 0.5F});
  });
}

TEST_CASE("factors: every executor and instruction set has the bits of reference, within the bound",
          "[kernels][low_rank_add][parity]") {
  tally t;
  random_bits bits(77);
  int turn = 0;
  auto const check = [&]<class X, class P, class F, class Y>(std::vector<shape> const& shapes) {
    using sums = graft::accumulate_t<X, P, F, Y>;
    for (shape const& s : shapes) {
      int const kind = ++turn % 4;
      auto const l = draw_layouts(bits);
      problem<X, P, P, Y> p(s, l, static_cast<std::uint64_t>(turn));
      auto const rank = random_numbers<F>(2 * s.r, 11);
      auto const delta = random_numbers<F>(2 * s.m, 12);
      auto const result = random_numbers<F>(2 * s.m, 13);
      auto const vector = [&](std::vector<F> const& v, index_t count) {  // side by side, or every other
        return graft::tensor_view<F const, graft::dynamic_extents<1>, graft::host_space, graft::no_unit_dimension>{
            v.data(), graft::dynamic_extents<1>{count}, {turn % 3 == 0 ? 2 : 1}};
      };
      auto const run_with = [&](auto const& ex, auto const& y) {
        with_factors(kind, vector(rank, s.r), vector(delta, s.m), vector(result, s.m), [&](auto const& factors) {
          low_rank_add(ex, p.x.view(), p.a.view(), p.b.view(), y, 0.75, factors);
        });
      };
      matrix<Y> expected(s.T, s.m);
      expected.assign(p.y.view());
      run_with(graft::reference{}, expected.view());
      auto const describe = [&] {
        return "factors " + std::to_string(kind) + ", " + s.text() + ", " + l.text() + ", " + type_name<X>() + ", " +
               type_name<P>() + ", " + type_name<F>() + ", " + type_name<Y>();
      };
      if (products(s, uses::all) < 40000) {
        std::string complaint;
        for (index_t i = 0; i < s.T; ++i)
          for (index_t o = 0; o < s.m; ++o) {
            auto const at = [&](bool absolute) {
              return scaled_element(p, vector(rank, s.r), vector(delta, s.m), vector(result, s.m), 0.75, kind, i, o,
                                    absolute);
            };
            double const most =
                with_rounding<Y>(at(false), (static_cast<double>(s.n) / 16 + 20 + static_cast<double>(s.r) + 4) *
                                                unit_roundoff<sums>() * at(true));
            double const error = std::abs(graft::load_as<double>(expected.view()(i, o)) - at(false));
            if (!(error <= most)) complaint = "reference is " + std::to_string(error / most) + " times its bound away";
          }
        t.add(complaint, describe);
      }
      compare_levels<Y>(t, as_const(p.y.view()), l.y, as_const(expected.view()), run_with, describe);
      compare_threads<Y>(t, as_const(p.y.view()), l.y, as_const(expected.view()), run_with, describe);
    }
  };
  check.operator()<float, float, float, float>(sampled_shapes(48, uses::all, 300000));
  check.operator()<float, float, float, float>(tiny_shapes());
  check.operator()<bfloat16, float, bfloat16, bfloat16>(sampled_shapes(24, uses::all, 300000));
  check.operator()<float, float16, float, float16>(sampled_shapes(24, uses::all, 300000));
  check.operator()<float, double, float, float>(sampled_shapes(12, uses::all, 100000));
  CHECK(t.text() == "");
}

TEST_CASE("factors: memory of float is read as it lies there, and scratch is what was asked for",
          "[kernels][low_rank_add]") {
  for (shape const& s : {shape{1, 700, 16, 300}, shape{8, 65, 17, 129}, shape{70, 33, 600, 70}, shape{3, 9, 2, 15}}) {
    INFO(s.text());
    problem<float, float, float, float> p(
        s, {layout::contiguous, layout::contiguous, layout::contiguous, layout::contiguous}, 5);
    auto const d = random_numbers<float>(s.r, 1);
    auto const c = random_numbers<float>(s.m, 2);
    auto const narrow = random_numbers<bfloat16>(s.m, 3);
    auto const check = [&](auto const& factors) {
      for_each_host_executor([&](std::string const& name, auto ex) {
        INFO(name);
        watched_resource memory;
        ex.scratch = &memory;
        auto const bytes = low_rank_add.scratch_bytes(ex, p.x.view(), p.a.view(), p.b.view(), p.y.view(), 1.0, factors);
        low_rank_add(ex, p.x.view(), p.a.view(), p.b.view(), p.y.view(), 1.0, factors);
        CHECK(memory.bytes == bytes);
        CHECK(memory.allocations <= 1);
        CHECK_FALSE(memory.overrun);
      });
    };
    check(graft::low_rank_factors<decltype(view(d)), decltype(view(c)), graft::none_t>{view(d), view(c), {}});
    check(graft::low_rank_factors<decltype(view(d)), graft::none_t, decltype(view(narrow))>{view(d), {}, view(narrow)});
  }
}

TEST_CASE("factors that do not fit are refused before anything is written", "[kernels][low_rank_add]") {
  graft::serial const ex;
  std::vector<float> x(6), a(6), b(8), y(8, 7), d(2), c(4), long_one(5);
  auto const call = [&](auto const& factors) {
    low_rank_add(ex, view(x, 2, 3), view(a, 2, 3), view(b, 4, 2), view(y, 2, 4), 1.0, factors);
  };
  using vector = decltype(view(d));
  using none = graft::none_t;
  CHECK_THROWS_AS(call(graft::low_rank_factors<vector, none, none>{view(c), {}, {}}), graft::shape_error);
  CHECK_THROWS_AS(call(graft::low_rank_factors<none, vector, none>{{}, view(d), {}}), graft::shape_error);
  CHECK_THROWS_AS(call(graft::low_rank_factors<none, none, vector>{{}, {}, view(long_one)}), graft::shape_error);
  CHECK_THROWS_AS(call(graft::low_rank_factors<none, vector, none>{{}, view(y.data(), 4), {}}), graft::argument_error);
  CHECK_THROWS_AS(call(graft::low_rank_factors<none, none, vector>{{}, {}, view(static_cast<float*>(nullptr), 4)}),
                  graft::argument_error);
  CHECK(y == std::vector<float>(8, 7));
}
