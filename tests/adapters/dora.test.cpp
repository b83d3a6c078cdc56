#include <graft/adapters/dora.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/adapters/dora_training.hpp>
#include <graft/adapters/initialize.hpp>
#include <graft/adapters/lora.hpp>
#include <graft/adapters/merging.hpp>

#include "adapters/finite_differences.hpp"
#include "adapters/problem.hpp"

using graft::as_const;
using graft::dora;
using graft::dora_gradients;
using graft::index_t;
using graft::none;
using graft::view;
using namespace tests;

namespace {

/// A layer with a DoRA whose norms are those of its weight.
template <class T>
struct layer {
  shape s;
  double scale;
  std::vector<T> W, A, B, g, x, dy, norms;

  layer(shape const& of, double factor, std::uint64_t seed)
      : s(of),
        scale(factor),
        W(random_numbers<T>(of.m * of.n, seed + 1)),
        A(random_numbers<T>(of.r * of.n, seed + 2)),
        B(random_numbers<T>(of.m * of.r, seed + 3)),
        g(random_numbers<T>(of.m, seed + 4)),
        x(random_numbers<T>(of.T * of.n, seed + 5)),
        dy(random_numbers<T>(of.T * of.m, seed + 6)),
        norms(static_cast<std::size_t>(of.m)) {
    update_norms(graft::reference{}, adapter(), vW());
  }
  [[nodiscard]] auto low() { return graft::lora{view(A, s.r, s.n), view(B, s.m, s.r), scale, {}}; }
  [[nodiscard]] auto adapter() { return dora{low(), view(g), view(norms)}; }
  [[nodiscard]] auto vW() { return view(W, s.m, s.n); }
  [[nodiscard]] auto vx() { return view(x, s.T, s.n); }
  [[nodiscard]] auto vdy() { return view(dy, s.T, s.m); }
  /// x W^T, the base layer.
  [[nodiscard]] std::vector<T> base(std::vector<T> const& in) {
    std::vector<T> y(static_cast<std::size_t>(s.T * s.m));
    for (index_t t = 0; t < s.T; ++t)
      for (index_t o = 0; o < s.m; ++o) {
        double sum = 0;
        for (index_t k = 0; k < s.n; ++k)
          sum += static_cast<double>(view(in, s.T, s.n)(t, k)) * static_cast<double>(vW()(o, k));
        view(y, s.T, s.m)(t, o) = static_cast<T>(sum);
      }
    return y;
  }
  /// W + s B A
  [[nodiscard]] double v(index_t o, index_t k) {
    double sum = static_cast<double>(vW()(o, k));
    for (index_t j = 0; j < s.r; ++j)
      sum += scale * static_cast<double>(low().B(o, j)) * static_cast<double>(low().A(j, k));
    return sum;
  }
  [[nodiscard]] double factor(index_t o) {
    double sum = 0;
    for (index_t k = 0; k < s.n; ++k) sum += v(o, k) * v(o, k);
    return static_cast<double>(g[static_cast<std::size_t>(o)]) / std::sqrt(sum);
  }
};

/// dx += dz W, the base layer's part.
void add_base_gradient(layer<double>& l, std::vector<double> const& dz, std::vector<double>& dx) {
  for (index_t t = 0; t < l.s.T; ++t)
    for (index_t o = 0; o < l.s.m; ++o)
      for (index_t k = 0; k < l.s.n; ++k)
        dx[static_cast<std::size_t>(t * l.s.n + k)] += dz[static_cast<std::size_t>(t * l.s.m + o)] * l.vW()(o, k);
}

struct gradients {
  std::vector<double> A, B, g, x;
  explicit gradients(layer<double> const& l)
      : A(l.A.size()), B(l.B.size()), g(l.g.size()), x(l.x.size()), rank_(l.s.r), n_(l.s.n), m_(l.s.m), T_(l.s.T) {}
  [[nodiscard]] auto views() { return dora_gradients{view(A, rank_, n_), view(B, m_, rank_), view(g)}; }
  [[nodiscard]] auto dx() { return view(x, T_, n_); }

 private:
  index_t rank_, n_, m_, T_;
};

}  // namespace

TEST_CASE("DoRA, checked by hand", "[adapters][dora]") {
  // V = W + B A = [[3, 4], [0, 0], [0, 2]]: norms 5, 0 and 2; c = [2, 0, -0.5].
  std::vector<float> const W{2, 4, -1, 0, 0, 2}, A{1, 0}, B{1, 1, 0}, g{10, 6, -1}, x{1, 2};
  std::vector<float> norms(3), factors(3);
  dora const bare{graft::lora{view(A, 1, 2), view(B, 3, 1), 1.0, {}}, view(g)};
  dora const d = with_norms(bare, view(norms));
  CHECK(d.rank() == 1);
  CHECK(d.in_features() == 2);
  CHECK(d.out_features() == 3);
  CHECK(parameter_count(d) == 2 + 3 + 3);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    norms.assign(3, NAN);
    update_norms(ex, d, view(W, 3, 2));
    CHECK(norms == std::vector<float>{5, 0, 2});
    std::vector<float> y{10, -1, 4};  // x W^T
    transform_output(ex, d, view(x, 1, 2), view(y, 1, 3));
    CHECK(y == std::vector<float>{22, 0, -2});
    auto const fast = prepare(ex, d, view(factors));
    CHECK(factors == std::vector<float>{2, 0, -0.5F});
    y = {10, -1, 4};
    transform_output(ex, fast, view(x, 1, 2), view(y, 1, 3));
    CHECK(y == std::vector<float>{22, 0, -2});
    y = {10, -1, 4};
    std::vector<float> kept(3);
    transform_output(ex, d, view(x, 1, 2), view(y, 1, 3), view(kept, 1, 3));
    CHECK(y == std::vector<float>{22, 0, -2});
    CHECK(kept == std::vector<float>{11, 0, 4});
    // dg = dy kept / norms; dz = c dy = [2, 0, -1]; dB = dz^T (x A^T); dA = (dz B) x; dx = (dz B) A.
    std::vector<float> dy{1, 5, 2}, dA(2), dB(3), dg(3), dx(2);
    backward(ex, d, view(x, 1, 2), view(std::as_const(kept), 1, 3), view(dy, 1, 3),
             dora_gradients{view(dA, 1, 2), view(dB, 3, 1), view(dg)}, view(dx, 1, 2));
    CHECK(dy == std::vector<float>{2, 0, -1});
    CHECK(dg == std::vector<float>{2.2F, 0, 4});
    CHECK(dB == std::vector<float>{2, 0, -1});
    CHECK(dA == std::vector<float>{2, 4});
    CHECK(dx == std::vector<float>{2, 0});
    auto w = W;
    merge(ex, d, view(w, 3, 2));
    CHECK(w == std::vector<float>{6, 8, 0, 0, 0, -1});
    unmerge(ex, d, view(w, 3, 2));
    CHECK(w == W);  // the zero row comes back too
    std::vector<float> delta(6);
    delta_weight(ex, d, view(W, 3, 2), view(delta, 3, 2));
    CHECK(delta == std::vector<float>{4, 4, 1, 0, 0, -3});
  });
}

TEST_CASE("DoRA: a magnitude of 0 cannot be unmerged, and says so", "[adapters][dora]") {
  std::vector<float> const W{3, 4, 1, 1}, A{1, 0}, B{0, 0}, g{0, 2};
  std::vector<float> norms(2), w = W;
  dora const d{graft::lora{view(A, 1, 2), view(B, 2, 1), 1.0, {}}, view(g), view(norms)};
  graft::serial const ex;
  update_norms(ex, d, view(W, 2, 2));
  merge(ex, d, view(w, 2, 2));
  CHECK(w[0] == 0);
  unmerge(ex, d, view(w, 2, 2));
  CHECK(std::isnan(w[0]));
  CHECK(std::abs(w[2] - 1) < 1e-6F);
}

TEST_CASE("DoRA: forward and merge are the formula's, in double", "[adapters][dora]") {
  for (shape const& s : {shape{5, 33, 7, 20}, shape{1, 600, 3, 70}, shape{3, 2, 5, 1}, shape{0, 4, 1, 3}}) {
    INFO(s.text());
    layer<double> l(s, 0.7, 1);
    auto y = l.base(l.x);
    transform_output(graft::serial{}, l.adapter(), l.vx(), view(y, s.T, s.m));
    auto w = l.W;
    merge(graft::serial{}, l.adapter(), view(w, s.m, s.n));
    std::vector<double> delta(w.size());
    delta_weight(graft::serial{}, l.adapter(), l.vW(), view(delta, s.m, s.n));
    double worst = 0;
    for (index_t o = 0; o < s.m; ++o) {
      double const c = l.factor(o);
      for (index_t k = 0; k < s.n; ++k) {
        worst = std::max(worst, std::abs(c * l.v(o, k) - view(w, s.m, s.n)(o, k)));
        worst = std::max(worst, std::abs(c * l.v(o, k) - l.vW()(o, k) - view(delta, s.m, s.n)(o, k)));
      }
      for (index_t t = 0; t < s.T; ++t) {
        double sum = 0;
        for (index_t k = 0; k < s.n; ++k) sum += l.vx()(t, k) * l.v(o, k);
        worst = std::max(worst, std::abs(c * sum - view(y, s.T, s.m)(t, o)));
      }
    }
    CHECK(worst < 1e-11);
    unmerge(graft::serial{}, l.adapter(), view(w, s.m, s.n));
    double back = 0;
    for (std::size_t i = 0; i < w.size(); ++i) back = std::max(back, std::abs(w[i] - l.W[i]));
    CHECK(back < 1e-12);
    // A weight stored [in, out].
    std::vector<double> turned(l.W.size());
    for (index_t o = 0; o < s.m; ++o)
      for (index_t k = 0; k < s.n; ++k) view(turned, s.n, s.m)(k, o) = l.vW()(o, k);
    std::vector<double> norms(l.norms.size());
    auto const d = with_norms(l.adapter(), view(norms));
    update_norms(graft::serial{}, d, transposed(view(turned, s.n, s.m)));
    CHECK(norms == l.norms);
    merge(graft::serial{}, d, transposed(view(turned, s.n, s.m)));
    for (index_t o = 0; o < s.m; ++o)
      for (index_t k = 0; k < s.n; ++k) CHECK(std::abs(view(turned, s.n, s.m)(k, o) - l.factor(o) * l.v(o, k)) < 1e-11);
  }
}

TEST_CASE("DoRA: gradients with the norms held constant, and exact ones", "[adapters][dora]") {
  for (shape const& s : {shape{5, 33, 4, 20}, shape{1, 7, 3, 70}, shape{2, 3, 5, 1}}) {
    INFO(s.text());
    layer<double> l(s, 0.7, 2);
    auto const run = [&](bool exact, gradients& into) {
      auto y = l.base(l.x);
      std::vector<double> kept(y.size());
      transform_output(graft::serial{}, l.adapter(), l.vx(), view(y, s.T, s.m), view(kept, s.T, s.m));
      auto dz = l.dy;
      auto const k = as_const(view(kept, s.T, s.m));
      if (exact)
        backward_exact(graft::serial{}, l.adapter(), l.vW(), l.vx(), k, view(dz, s.T, s.m), into.views(), into.dx());
      else backward(graft::serial{}, l.adapter(), l.vx(), k, view(dz, s.T, s.m), into.views(), into.dx());
      add_base_gradient(l, dz, into.x);
    };
    auto const loss = [&](bool exact) {
      return [&l, &s, exact] {
        if (exact) update_norms(graft::serial{}, l.adapter(), l.vW());
        auto y = l.base(l.x);
        transform_output(graft::serial{}, l.adapter(), l.vx(), view(y, s.T, s.m));
        return inner_product(y, l.dy);
      };
    };
    gradients constant(l);
    run(false, constant);
    auto const norms = l.norms;
    CHECK(gradient_error(l.A, constant.A, loss(false)) < 1e-6);
    CHECK(gradient_error(l.B, constant.B, loss(false)) < 1e-6);
    CHECK(gradient_error(l.g, constant.g, loss(false)) < 1e-6);
    CHECK(gradient_error(l.x, constant.x, loss(false)) < 1e-6);
    gradients exact(l);
    run(true, exact);
    CHECK(gradient_error(l.A, exact.A, loss(true)) < 1e-6);
    CHECK(gradient_error(l.B, exact.B, loss(true)) < 1e-6);
    CHECK(gradient_error(l.g, exact.g, loss(true)) < 1e-6);
    CHECK(gradient_error(l.x, exact.x, loss(true)) < 1e-6);
    CHECK(exact.g == constant.g);
    if (s.m > 1) CHECK(exact.A != constant.A);
    CHECK(exact.B != constant.B);
  }
}

TEST_CASE("DoRA: training with dropout on x, forward and gradients", "[adapters][dora]") {
  shape const s{6, 12, 3, 9};
  layer<double> l(s, 0.7, 3);
  graft::dropout const mask{0.4, 5, 6};
  auto const forward = [&](std::vector<double>& kept) {
    auto y = l.base(l.x);
    std::vector<double> dropped(l.x.size());
    graft::kernels::drop(graft::serial{}, mask, l.vx(), view(dropped, s.T, s.n));
    kept = l.base(dropped);
    transform_output_dropped(graft::serial{}, l.adapter(), as_const(view(dropped, s.T, s.n)), view(kept, s.T, s.m),
                             view(y, s.T, s.m));
    return y;
  };
  std::vector<double> kept;
  auto const y = forward(kept);
  std::vector<double> dropped(l.x.size());
  graft::kernels::drop(graft::serial{}, mask, l.vx(), view(dropped, s.T, s.n));
  auto const full = l.base(l.x);
  double worst = 0;
  for (index_t t = 0; t < s.T; ++t)
    for (index_t o = 0; o < s.m; ++o) {
      double base = 0, all = 0;
      for (index_t k = 0; k < s.n; ++k) {
        base += view(dropped, s.T, s.n)(t, k) * l.vW()(o, k);
        all += view(dropped, s.T, s.n)(t, k) * l.v(o, k);
      }
      worst =
          std::max(worst, std::abs(view(full, s.T, s.m)(t, o) - base + l.factor(o) * all - view(y, s.T, s.m)(t, o)));
      worst = std::max(worst, std::abs(all - view(kept, s.T, s.m)(t, o)));
    }
  CHECK(worst < 1e-13);
  gradients got(l);
  std::vector<double> dx_dropped(l.x.size()), dbase(l.dy.size());
  backward_dropped(graft::serial{}, l.adapter(), as_const(view(dropped, s.T, s.n)), as_const(view(kept, s.T, s.m)),
                   as_const(l.vdy()), got.views(), view(dx_dropped, s.T, s.n), view(dbase, s.T, s.m));
  add_base_gradient(l, dbase, dx_dropped);
  add_base_gradient(l, l.dy, got.x);
  graft::kernels::drop_add(graft::serial{}, mask, view(dx_dropped, s.T, s.n), got.dx());
  auto const loss = [&] {
    std::vector<double> unused;
    return inner_product(forward(unused), l.dy);
  };
  CHECK(gradient_error(l.A, got.A, loss) < 1e-6);
  CHECK(gradient_error(l.B, got.B, loss) < 1e-6);
  CHECK(gradient_error(l.g, got.g, loss) < 1e-6);
  CHECK(gradient_error(l.x, got.x, loss) < 1e-6);
}

TEST_CASE("DoRA: a fresh adapter changes nothing, whatever its low-rank part is", "[adapters][dora]") {
  layer<float> l({4, 30, 4, 21}, 2.0, 4);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    auto const before = l.base(l.x);
    initialize(ex, l.adapter(), l.vW(), graft::kaiming_uniform{1, 2});
    CHECK(l.g == l.norms);
    auto y = before;
    transform_output(ex, l.adapter(), l.vx(), view(y, 4, 21));
    CHECK(y == before);
    initialize(ex, l.adapter(), l.vW(), graft::orthogonal{1, 2});
    CHECK(l.g == l.norms);
  });
}

TEST_CASE("DoRA: several merge to a chain, 16-bit weights are rounded once", "[adapters][dora]") {
  layer<float> first({2, 40, 3, 33}, 0.5, 5);
  layer<float> second({2, 40, 2, 33}, 1.5, 6);
  second.W = first.W;
  update_norms(graft::reference{}, second.adapter(), second.vW());
  auto chain = first.W;
  merge(graft::reference{}, first.adapter(), view(chain, 33, 40));
  merge(graft::reference{}, second.adapter(), view(chain, 33, 40));
  double worst = 0;
  for (index_t o = 0; o < 33; ++o)
    for (index_t k = 0; k < 40; ++k)
      worst = std::max(worst, std::abs(static_cast<double>(view(chain, 33, 40)(o, k)) -
                                       second.factor(o) * (first.factor(o) * first.v(o, k) + second.v(o, k) -
                                                           static_cast<double>(first.vW()(o, k)))));
  CHECK(worst < 2e-6);
  auto narrow = std::vector<graft::bfloat16>(chain.size());
  for (std::size_t i = 0; i < narrow.size(); ++i) narrow[i] = graft::store_as<graft::bfloat16>(first.W[i]);
  std::vector<float> wide(chain.size());
  for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = graft::load_as<float>(narrow[i]);
  auto alone = wide;
  merge(graft::reference{}, first.adapter(), view(wide, 33, 40));
  merge(graft::reference{}, second.adapter(), view(wide, 33, 40));
  merge(graft::reference{}, first.adapter(), view(alone, 33, 40));
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    auto w = first.W;
    merge_all(ex, view(w, 33, 40), first.adapter(), second.adapter());
    CHECK(w == chain);
    auto rounded = narrow, one = narrow;
    merge_all(ex, view(rounded, 33, 40), first.adapter(), second.adapter());
    merge(ex, first.adapter(), view(one, 33, 40));
    bool same = true;
    for (std::size_t i = 0; i < wide.size(); ++i)
      same = same && same_bits(rounded[i], graft::store_as<graft::bfloat16>(wide[i])) &&
             same_bits(one[i], graft::store_as<graft::bfloat16>(alone[i]));
    CHECK(same);
    unmerge(ex, second.adapter(), view(w, 33, 40));
    unmerge(ex, first.adapter(), view(w, 33, 40));
    double back = 0;
    for (std::size_t i = 0; i < w.size(); ++i) back = std::max(back, static_cast<double>(std::abs(w[i] - first.W[i])));
    CHECK(back < 1e-4);  // a small factor of a row enlarges the rounding of its merge
  });
}

TEST_CASE("DoRA: what does not fit is refused before anything is written", "[adapters][dora]") {
  layer<float> l({3, 5, 2, 4}, 1.0, 1);
  graft::serial const ex;
  auto const d = l.adapter();
  auto const before = l.base(l.x);
  auto y = before;
  std::vector<float> short_one(3), kept(12, 7), dz(12, 7), dg(4, 7), dA(10, 7), dB(8, 7);
  CHECK_THROWS_AS(update_norms(ex, d, view(l.W, 5, 4)), graft::shape_error);
  CHECK_THROWS_AS(update_norms(ex, with_norms(d, view(short_one)), l.vW()), graft::shape_error);
  CHECK_THROWS_AS(update_norms(ex, with_norms(d, view(l.W.data(), 4)), l.vW()), graft::argument_error);
  CHECK_THROWS_AS(update_norms(ex, with_norms(d, view(l.g)), l.vW()), graft::argument_error);
  CHECK_THROWS_AS(transform_output(ex, d, view(l.x, 5, 3), view(y, 3, 4)), graft::shape_error);
  CHECK_THROWS_AS(transform_output(ex, d, l.vx(), view(y, 4, 3)), graft::shape_error);
  CHECK_THROWS_AS(transform_output(ex, d, view(y.data(), 3, 4), view(y, 3, 4)), graft::shape_error);
  CHECK_THROWS_AS(transform_output(ex, dora{l.low(), view(short_one), view(l.norms)}, l.vx(), view(y, 3, 4)),
                  graft::shape_error);
  CHECK_THROWS_AS(transform_output(ex, dora{l.low(), view(y.data(), 4), view(l.norms)}, l.vx(), view(y, 3, 4)),
                  graft::argument_error);
  CHECK_THROWS_AS(transform_output(ex, d, l.vx(), view(y, 3, 4), view(kept, 4, 3)), graft::shape_error);
  CHECK_THROWS_AS(transform_output(ex, d, l.vx(), view(y, 3, 4), view(y, 3, 4)), graft::argument_error);
  CHECK_THROWS_AS(prepare(ex, d, view(short_one)), graft::shape_error);
  CHECK_THROWS_AS(prepare(ex, d, view(l.g)), graft::argument_error);
  CHECK(y == before);
  CHECK(kept == std::vector<float>(12, 7));
  auto const g = dora_gradients{view(dA, 2, 5), view(dB, 4, 2), view(dg)};
  auto const call = [&](auto const& x, auto const& k, auto const& dy, auto const& into) {
    backward(ex, d, x, k, dy, into);
  };
  CHECK_THROWS_AS(call(l.vx(), view(kept, 4, 3), view(dz, 3, 4), g), graft::shape_error);
  CHECK_THROWS_AS(call(l.vx(), view(kept, 3, 4), view(dz, 4, 3), g), graft::shape_error);
  CHECK_THROWS_AS(call(view(l.x, 5, 3), view(kept, 3, 4), view(dz, 3, 4), g), graft::shape_error);
  CHECK_THROWS_AS(call(l.vx(), view(dz, 3, 4), view(dz, 3, 4), g), graft::argument_error);
  CHECK_THROWS_AS(call(view(static_cast<float const*>(nullptr), 3, 5), view(kept, 3, 4), view(dz, 3, 4), g),
                  graft::argument_error);
  CHECK_THROWS_AS(
      call(l.vx(), view(kept, 3, 4), view(dz, 3, 4), dora_gradients{view(dA, 2, 5), view(dB, 4, 2), view(short_one)}),
      graft::shape_error);
  CHECK_THROWS_AS(
      call(l.vx(), view(kept, 3, 4), view(dz, 3, 4), dora_gradients{view(dA, 5, 2), view(dB, 4, 2), view(dg)}),
      graft::shape_error);
  CHECK_THROWS_AS(call(l.vx(), view(kept, 3, 4), view(dz, 3, 4),
                       dora_gradients{view(dA, 2, 5), view(dB, 4, 2), view(dB.data(), 4)}),
                  graft::argument_error);
  CHECK(dz == std::vector<float>(12, 7));
  CHECK(dA == std::vector<float>(10, 7));
  CHECK(dB == std::vector<float>(8, 7));
  CHECK(dg == std::vector<float>(4, 7));
  auto const W = l.W;
  CHECK_THROWS_AS(merge(ex, d, view(l.W, 5, 4)), graft::shape_error);
  CHECK_THROWS_AS(delta_weight(ex, d, l.vW(), l.vW()), graft::argument_error);
  CHECK(l.W == W);
}
