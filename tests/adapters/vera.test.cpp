#include <graft/adapters/vera.hpp>

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/adapters/lora.hpp>
#include <graft/adapters/merging.hpp>

#include "adapters/finite_differences.hpp"
#include "adapters/problem.hpp"

using graft::as_const;
using graft::index_t;
using graft::none;
using graft::vera;
using graft::vera_gradients;
using graft::vera_projections;
using graft::view;
using namespace tests;

namespace {

/// A layer of n features in and m out that slices larger projections.
template <class T>
struct layer {
  shape s;
  std::vector<T> A, B, d, b, x, dy, y, w;

  layer(shape const& of, std::uint64_t seed)
      : s(of),
        A(random_numbers<T>(of.r * (of.n + 3), seed + 1)),
        B(random_numbers<T>((of.m + 2) * of.r, seed + 2)),
        d(random_numbers<T>(of.r, seed + 3)),
        b(random_numbers<T>(of.m, seed + 4)),
        x(random_numbers<T>(of.T * of.n, seed + 5)),
        dy(random_numbers<T>(of.T * of.m, seed + 6)),
        y(random_numbers<T>(of.T * of.m, seed + 7)),
        w(random_numbers<T>(of.m * of.n, seed + 8)) {}
  [[nodiscard]] auto projections() { return vera_projections{view(A, s.r, s.n + 3), view(B, s.m + 2, s.r)}; }
  [[nodiscard]] auto adapter() { return sliced(projections(), s.n, s.m, view(d), view(b)); }
  [[nodiscard]] auto vx() { return view(x, s.T, s.n); }
  [[nodiscard]] auto vdy() { return view(dy, s.T, s.m); }
  [[nodiscard]] auto vy() { return view(y, s.T, s.m); }
  [[nodiscard]] auto vw() { return view(w, s.m, s.n); }
  /// diag(b) B diag(d) A
  [[nodiscard]] double delta(index_t o, index_t k) {
    double sum = 0;
    for (index_t j = 0; j < s.r; ++j)
      sum += graft::load_as<double>(adapter().B(o, j)) * graft::load_as<double>(d[static_cast<std::size_t>(j)]) *
             graft::load_as<double>(adapter().A(j, k));
    return graft::load_as<double>(b[static_cast<std::size_t>(o)]) * sum;
  }
};

}  // namespace

TEST_CASE("VeRA, checked by hand", "[adapters][vera]") {
  // The layer has 2 features in and 2 out of projections of 3 and 3. x A^T = [5, 1], times d = [10, -1], B makes [9, -21].
  std::vector<float> const A{1, 2, 99, -1, 1, 99}, B{1, 1, -2, 1, 99, 99}, d{2, -1}, b{1, 3}, x{1, 2};
  auto const v = sliced(vera_projections{view(A, 2, 3), view(B, 3, 2)}, 2, 2, view(d), view(b));
  CHECK(v.rank() == 2);
  CHECK(v.in_features() == 2);
  CHECK(v.out_features() == 2);
  CHECK(parameter_count(v) == 4);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> y{1, 1};
    add_delta(ex, v, view(x, 1, 2), view(y, 1, 2));
    CHECK(y == std::vector<float>{10, -62});
    // w = [5, 1], dy = [1, 2]; db = dy (d w) B^T = [9, 2 -21]; u = dy diag(b) B = [1 - 12, 1 + 6]; dd = w u; dx = (d u) A.
    std::vector<float> const dy{1, 2};
    std::vector<float> dd{1, 1}, db{1, 1}, dx{1, 1};
    backward(ex, v, view(x, 1, 2), view(dy, 1, 2), vera_gradients{view(dd), view(db)}, view(dx, 1, 2));
    CHECK(dd == std::vector<float>{-54, 8});
    CHECK(db == std::vector<float>{10, -41});
    CHECK(dx == std::vector<float>{1 - 22 + 7, 1 - 44 - 7});
    std::vector<float> w{0, 0, 1, 1};
    merge(ex, v, view(w, 2, 2));
    CHECK(w == std::vector<float>{3, 3, 1 - 9, 1 - 27});
    unmerge(ex, v, view(w, 2, 2));
    CHECK(w == std::vector<float>{0, 0, 1, 1});
    delta_weight(ex, v, view(w, 2, 2));
    CHECK(w == std::vector<float>{3, 3, -9, -27});
  });
}

TEST_CASE("VeRA: forward, merge and gradients are the formula's, in double", "[adapters][vera]") {
  for (shape const& s : {shape{5, 33, 7, 20}, shape{1, 600, 3, 70}, shape{3, 2, 17, 1}}) {
    INFO(s.text());
    layer<double> l(s, 1);
    auto const v = l.adapter();
    auto y = l.y;
    add_delta(graft::serial{}, v, l.vx(), view(y, s.T, s.m));
    auto w = l.w;
    merge(graft::serial{}, v, view(w, s.m, s.n));
    double worst = 0;
    for (index_t t = 0; t < s.T; ++t)
      for (index_t o = 0; o < s.m; ++o) {
        double sum = l.vy()(t, o);
        for (index_t k = 0; k < s.n; ++k) sum += l.vx()(t, k) * l.delta(o, k);
        worst = std::max(worst, std::abs(sum - view(y, s.T, s.m)(t, o)));
      }
    for (index_t o = 0; o < s.m; ++o)
      for (index_t k = 0; k < s.n; ++k)
        worst = std::max(worst, std::abs(l.vw()(o, k) + l.delta(o, k) - view(w, s.m, s.n)(o, k)));
    CHECK(worst <= 1e-12 * static_cast<double>(s.n * s.r));
    std::vector<double> dd(l.d.size()), db(l.b.size()), dx(l.x.size());
    backward(graft::serial{}, v, l.vx(), l.vdy(), vera_gradients{view(dd), view(db)}, view(dx, s.T, s.n));
    auto const loss = [&] {
      std::vector<double> out(l.y.size());
      add_delta(graft::serial{}, v, l.vx(), view(out, s.T, s.m));
      return inner_product(out, l.dy);
    };
    CHECK(gradient_error(l.d, dd, loss) < 1e-6);
    CHECK(gradient_error(l.b, db, loss) < 1e-6);
    CHECK(gradient_error(l.x, dx, loss) < 1e-6);
  }
}

TEST_CASE("VeRA: a packed adapter has the bits of the original", "[adapters][vera][pack]") {
  for (shape const& s : {shape{1, 3, 1, 1}, shape{3, 17, 2, 64}, shape{9, 70, 5, 65}, shape{33, 20, 16, 130}})
    for_each_executor([&](std::string const& name, auto const& ex) {
      layer<float> p(s, 4);
      layer<float> expected(s, 4);
      INFO(name << ", T " << s.T << ", n " << s.n << ", r " << s.r << ", m " << s.m);
      REQUIRE(packed_size(p.adapter()) == (s.m + 63) / 64 * 64 * s.r);
      std::vector<float> memory(static_cast<std::size_t>(packed_size(p.adapter())) + 1, 77.0F);
      auto const packed = pack(ex, p.adapter(), std::span(memory));
      CHECK((packed.rank() == s.r && packed.out_features() == s.m && packed.in_features() == s.n));
      add_delta(ex, packed, p.vx(), p.vy());
      add_delta(ex, expected.adapter(), expected.vx(), expected.vy());
      CHECK(p.y == expected.y);
      CHECK(memory.back() == 77.0F);
      CHECK_THROWS_AS(pack(ex, p.adapter(), std::span(memory).first(memory.size() - 2)), graft::argument_error);
    });
}

TEST_CASE("VeRA: gradients one at a time, none of what is not asked for, scratch as queried", "[adapters][vera]") {
  layer<float> l({9, 40, 5, 33}, 2);
  auto const v = l.adapter();
  std::vector<float> dd(5), db(33), dx(9 * 40);
  backward(graft::reference{}, v, l.vx(), l.vdy(), vera_gradients{view(dd), view(db)}, view(dx, 9, 40));
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> d1(5), b1(33), x1(9 * 40);
    backward(ex, v, l.vx(), l.vdy(), vera_gradients<decltype(view(d1)), graft::none_t>{view(d1), {}}, none);
    backward(ex, v, l.vx(), l.vdy(), vera_gradients<graft::none_t, decltype(view(b1))>{{}, view(b1)}, none);
    backward(ex, v, l.vx(), l.vdy(), vera_gradients{}, view(x1, 9, 40));
    CHECK(d1 == dd);
    CHECK(b1 == db);
    CHECK(x1 == dx);
  });
  watched_resource memory;
  graft::reference const ex{&memory};
  std::vector<float> none_left(33);
  backward(ex, v, l.vx(), l.vdy(), vera_gradients<graft::none_t, decltype(view(none_left))>{{}, view(none_left)}, none);
  CHECK(memory.bytes == backward_scratch_bytes(v, l.vx()));
  CHECK_FALSE(memory.overrun);
  watched_resource other;
  merge(graft::reference{&other}, v, l.vw());
  CHECK(other.bytes == merge_scratch_bytes(v));
}

TEST_CASE("VeRA: dropout is LoRA's, and a fresh adapter changes nothing", "[adapters][vera]") {
  layer<float> l({6, 20, 4, 18}, 3);
  std::vector<float> dropped(6 * 20), expected = l.y, y = l.y;
  graft::dropout const mask{0.5, 7, 8};
  graft::kernels::drop(graft::reference{}, mask, l.vx(), view(dropped, 6, 20));
  add_delta(graft::reference{}, l.adapter(), as_const(view(dropped, 6, 20)), view(expected, 6, 18));
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> got = l.y, kept(6 * 20);
    add_delta(ex, l.adapter(), mask, l.vx(), view(got, 6, 18), view(kept, 6, 20));
    CHECK(got == expected);
    CHECK(kept == dropped);
    layer<float> fresh({6, 20, 4, 18}, 3);
    initialize(ex, fresh.adapter());
    CHECK(fresh.d == std::vector<float>(4, 0.1F));
    CHECK(fresh.b == std::vector<float>(18));
    add_delta(ex, fresh.adapter(), fresh.vx(), fresh.vy());
    CHECK(fresh.y == l.y);
  });
}

TEST_CASE("VeRA: 16-bit weights are rounded once, also beside other adapters", "[adapters][vera]") {
  layer<float> l({1, 70, 5, 33}, 4);
  auto narrow = std::vector<graft::bfloat16>(l.w.size());
  for (std::size_t i = 0; i < narrow.size(); ++i) narrow[i] = graft::store_as<graft::bfloat16>(l.w[i]);
  std::vector<float> wide(l.w.size());
  for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = graft::load_as<float>(narrow[i]);
  auto const a = random_numbers<float>(2 * 70, 5), b = random_numbers<float>(33 * 2, 6);
  graft::lora const beside{view(a, 2, 70), view(b, 33, 2), 0.5};
  merge(graft::reference{}, l.adapter(), view(wide, 33, 70));
  merge(graft::reference{}, beside, view(wide, 33, 70));
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    auto w = narrow;
    merge_all(ex, view(w, 33, 70), l.adapter(), beside);
    bool same = true;
    for (std::size_t i = 0; i < w.size(); ++i)
      same = same && same_bits(w[i], graft::store_as<graft::bfloat16>(wide[i]));
    CHECK(same);
  });
}

TEST_CASE("VeRA: the stream of projections is torch's", "[adapters][vera]") {
  // The first numbers that PEFT 0.21.2 draws for vera_A[2, 3], vera_B[4, 2] from keys 0 and 7 are those of std::mt19937 by the
  // formula; the golden data hold whole projections of PEFT. Here: order, range, and what depends on what.
  std::vector<float> A(6), B(8), A2(6), B2(8), A3(9), B3(8);
  replay_projections(7, view(A, 2, 3), view(B, 4, 2));
  replay_projections(7, view(A2, 2, 3), transposed(view(B2, 2, 4)));
  CHECK(A == A2);
  for (index_t o = 0; o < 4; ++o)
    for (index_t j = 0; j < 2; ++j) CHECK(view(B, 4, 2)(o, j) == view(B2, 2, 4)(j, o));
  for (float const a : A) CHECK(std::abs(a) <= std::sqrt(2.0F));
  for (float const b : B) CHECK(std::abs(b) <= std::sqrt(3.0F));
  replay_projections(8, view(A2, 2, 3), view(B2, 4, 2));
  CHECK(A != A2);
  replay_projections(7, view(A3, 3, 3), view(B3.data(), 2, 3));  // other maxima, another bound and other numbers
  CHECK(A3[0] == A[0]);
  CHECK(B3[0] != B[0]);
  std::mt19937 engine(7);
  float const high = static_cast<float>(std::sqrt(3.0) * (std::sqrt(2.0) / std::sqrt(3.0)));
  for (float const a : A) {
    float const u = static_cast<float>(engine() & 0xFFFFFFU) * 0x1p-24F;
    CHECK(a == std::fma(u, 2 * high, -high));
  }
}

TEST_CASE("VeRA: what does not fit is refused before anything is written", "[adapters][vera]") {
  layer<float> l({3, 5, 2, 4}, 1);
  graft::serial const ex;
  auto const v = l.adapter();
  CHECK_THROWS_AS(sliced(l.projections(), 9, 4, view(l.d), view(l.b)), graft::shape_error);
  CHECK_THROWS_AS(sliced(l.projections(), 5, 7, view(l.d), view(l.b)), graft::shape_error);
  auto const before = l.y;
  std::vector<float> short_one(1);
  CHECK_THROWS_AS(add_delta(ex, sliced(l.projections(), 5, 4, view(short_one), view(l.b)), l.vx(), l.vy()),
                  graft::shape_error);
  CHECK_THROWS_AS(add_delta(ex, sliced(l.projections(), 5, 4, view(l.d), view(short_one)), l.vx(), l.vy()),
                  graft::shape_error);
  CHECK_THROWS_AS(add_delta(ex, v, view(l.x, 5, 3), l.vy()), graft::shape_error);
  CHECK_THROWS_AS(add_delta(ex, v, l.vx(), view(l.y, 4, 3)), graft::shape_error);
  CHECK_THROWS_AS(add_delta(ex, sliced(l.projections(), 5, 4, view(l.d), view(l.y.data(), 4)), l.vx(), l.vy()),
                  graft::argument_error);
  CHECK(l.y == before);
  std::vector<float> dd(2, 3), db(4, 3), dx(15, 3);
  CHECK_THROWS_AS(backward(ex, v, l.vx(), l.vdy(), vera_gradients{view(db), view(db)}, none), graft::shape_error);
  CHECK_THROWS_AS(backward(ex, v, l.vx(), l.vdy(), vera_gradients{view(dd), view(l.b)}, none), graft::argument_error);
  CHECK_THROWS_AS(backward(ex, v, l.vx(), l.vdy(), vera_gradients{view(dd), view(dx.data(), 4)}, view(dx, 3, 5)),
                  graft::argument_error);
  CHECK_THROWS_AS(backward(ex, v, l.vx(), view(l.dy, 4, 3), vera_gradients{view(dd), view(db)}, none),
                  graft::shape_error);
  CHECK(dd == std::vector<float>(2, 3));
  CHECK(db == std::vector<float>(4, 3));
  auto const w = l.w;
  CHECK_THROWS_AS(merge(ex, v, view(l.w, 5, 4)), graft::shape_error);
  CHECK_THROWS_AS(merge(ex, v, view(l.A.data(), 4, 4)), graft::shape_error);
  CHECK_THROWS_AS(delta_weight(ex, v, view(l.A.data(), 4, 5)), graft::argument_error);
  CHECK(l.w == w);
  CHECK_THROWS_AS(replay_projections(0, view(l.A.data(), 2, 3), view(l.B.data(), 2, 3)), graft::shape_error);
}
