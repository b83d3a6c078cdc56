#include <graft/adapters/lora_dropout.hpp>

#include <cmath>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "adapters/finite_differences.hpp"
#include "adapters/problem.hpp"

using graft::as_const;
using graft::index_t;
using graft::lora;
using graft::lora_dropout;
using graft::lora_gradients;
using graft::none;
using graft::view;
using namespace tests;

namespace {

constexpr index_t T = 4, n = 40, r = 3, m = 33;

template <class S>
struct layer {
  std::vector<S> A = random_numbers<S>(r * n, 1), B = random_numbers<S>(m * r, 2), x = random_numbers<S>(T * n, 3),
                 dy = random_numbers<S>(T * m, 4);
  std::vector<S> A1 = std::vector<S>(r * n, 99), B1 = std::vector<S>(m * r, 99);
  [[nodiscard]] auto adapter() { return lora{view(A, r, n), view(B, m, r), 0.5, {}}; }
  [[nodiscard]] auto a() { return view(A1, r, n); }
  [[nodiscard]] auto b() { return view(B1, m, r); }
  [[nodiscard]] auto vx() { return view(x, T, n); }
  [[nodiscard]] auto vdy() { return view(dy, T, m); }
};

}  // namespace

TEST_CASE("LoRA Dropout drops whole features of both factors, rescales nothing, and is a function of its numbers",
          "[adapters][lora_dropout]") {
  lora_dropout const mask{0.4, 11, 12};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    layer<float> l;
    auto const dropped = drop(ex, l.adapter(), mask, l.a(), l.b());
    for (index_t k = 0; k < n; ++k)
      for (index_t j = 0; j < r; ++j) CHECK(dropped.A(j, k) == (mask.inputs().keeps(k) ? l.adapter().A(j, k) : 0.0F));
    for (index_t o = 0; o < m; ++o)
      for (index_t j = 0; j < r; ++j) CHECK(dropped.B(o, j) == (mask.outputs().keeps(o) ? l.adapter().B(o, j) : 0.0F));
    CHECK(dropped.scale.value() == 0.5);
    static_cast<void>(drop(ex, l.adapter(), lora_dropout{0.0, 11, 12}, l.a(), l.b()));
    CHECK(l.A1 == l.A);
    CHECK(l.B1 == l.B);
  });
  // Shares, and independence of the two masks, of streams and of seeds: within five standard deviations.
  index_t constexpr many = 20000;
  auto const share = [](auto const& keeps) {
    index_t count = 0;
    for (index_t i = 0; i < many; ++i) count += keeps(i) ? 1 : 0;
    return static_cast<double>(count) / static_cast<double>(many);
  };
  double const five = 5 * std::sqrt(0.25 / static_cast<double>(many));
  auto const in = mask.inputs(), out = mask.outputs();
  CHECK(std::abs(share([&](index_t i) { return in.keeps(i); }) - 0.6) < five);
  CHECK(std::abs(share([&](index_t i) { return out.keeps(i); }) - 0.6) < five);
  CHECK(std::abs(share([&](index_t i) { return in.keeps(i) && out.keeps(i); }) - 0.36) < five);
  for (lora_dropout const& other : {lora_dropout{0.4, 11, 13}, lora_dropout{0.4, 12, 12}})
    CHECK(std::abs(share([&](index_t i) { return in.keeps(i) && other.inputs().keeps(i); }) - 0.36) < five);
}

TEST_CASE("LoRA Dropout: gradients are differences, added only where the mask keeps", "[adapters][lora_dropout]") {
  lora_dropout const mask{0.4, 11, 12};
  layer<double> l;
  graft::serial const ex;
  std::vector<double> dA(r * n, 2), dB(m * r, 2), dx(T * n), tA(r * n, 99), tB(m * r, 99);
  auto const dropped = drop(ex, l.adapter(), mask, l.a(), l.b());
  backward_dropped(ex, dropped, mask, l.vx(), l.vdy(), lora_gradients{view(dA, r, n), view(dB, m, r)}, view(dx, T, n),
                   view(tA, r, n), view(tB, m, r));
  for (index_t k = 0; k < n; ++k)
    if (!mask.inputs().keeps(k)) CHECK(view(dA, r, n)(0, k) == 2);
  for (index_t o = 0; o < m; ++o)
    if (!mask.outputs().keeps(o)) CHECK(view(dB, m, r)(o, 1) == 2);
  for (double& e : dA) e -= 2;
  for (double& e : dB) e -= 2;
  auto const loss = [&] {
    std::vector<double> y(T * m);
    add_delta(ex, drop(ex, l.adapter(), mask, l.a(), l.b()), l.vx(), view(y, T, m));
    return inner_product(y, l.dy);
  };
  CHECK(gradient_error(l.A, dA, loss) < 1e-6);
  CHECK(gradient_error(l.B, dB, loss) < 1e-6);
  CHECK(gradient_error(l.x, dx, loss) < 1e-6);
}

TEST_CASE("LoRA Dropout: every executor has the bits of reference", "[adapters][lora_dropout][parity]") {
  lora_dropout const mask{0.4, 11, 12};
  auto const run = [&](auto const& ex) {
    layer<float> l;
    std::vector<float> y(T * m), dA(r * n, 2), dB(m * r, 2), dx(T * n), tA(r * n), tB(m * r);
    add_delta_ensemble(ex, l.adapter(), mask, 3, l.vx(), view(y, T, m), l.a(), l.b());
    auto const dropped = drop(ex, l.adapter(), mask, l.a(), l.b());
    backward_dropped(ex, dropped, mask, l.vx(), l.vdy(), lora_gradients{view(dA, r, n), view(dB, m, r)}, view(dx, T, n),
                     view(tA, r, n), view(tB, m, r));
    for (auto const* const v : {&dA, &dB, &dx, &l.A1, &l.B1}) y.insert(y.end(), v->begin(), v->end());
    return y;
  };
  auto const expected = run(graft::reference{});
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    CHECK(run(ex) == expected);
  });
}

TEST_CASE("LoRA Dropout: an ensemble is the mean of its masks", "[adapters][lora_dropout]") {
  layer<double> l;
  graft::serial const ex;
  std::vector<double> mean(T * m), y(T * m);
  for (std::uint64_t i = 0; i < 8; ++i) {
    std::vector<double> one(T * m);
    add_delta(ex, drop(ex, l.adapter(), lora_dropout{0.3, 5, 100 + i}, l.a(), l.b()), l.vx(), view(one, T, m));
    for (std::size_t k = 0; k < one.size(); ++k) mean[k] += one[k] / 8;
  }
  add_delta_ensemble(ex, l.adapter(), lora_dropout{0.3, 5, 100}, 8, l.vx(), view(y, T, m), l.a(), l.b());
  for (std::size_t k = 0; k < y.size(); ++k) CHECK(std::abs(y[k] - mean[k]) < 1e-13);
}

TEST_CASE("LoRA Dropout: what does not fit is refused before anything is written", "[adapters][lora_dropout]") {
  layer<float> l;
  graft::serial const ex;
  lora_dropout const mask{0.4, 1, 2};
  std::vector<float> y(T * m, 7);
  for (double const p : {-0.1, 1.0, std::nan("")})
    CHECK_THROWS_AS(drop(ex, l.adapter(), lora_dropout{p, 1, 2}, l.a(), l.b()), graft::argument_error);
  CHECK_THROWS_AS(drop(ex, l.adapter(), mask, view(l.A1, n, r), l.b()), graft::shape_error);
  CHECK_THROWS_AS(drop(ex, l.adapter(), mask, l.a(), view(l.B1, r, m)), graft::shape_error);
  CHECK_THROWS_AS(drop(ex, l.adapter(), mask, view(l.A, r, n), l.b()), graft::argument_error);
  CHECK_THROWS_AS(drop(ex, l.adapter(), mask, l.a(), view(l.A1.data(), m, r)), graft::argument_error);
  CHECK_THROWS_AS(add_delta_ensemble(ex, l.adapter(), mask, 0, l.vx(), view(y, T, m), l.a(), l.b()),
                  graft::argument_error);
  CHECK_THROWS_AS(add_delta_ensemble(ex, l.adapter(), mask, 2, l.vx(), view(y, m, T), l.a(), l.b()),
                  graft::shape_error);
  CHECK_THROWS_AS(add_delta_ensemble(ex, l.adapter(), mask, 2, l.vx(), view(y, T, m), view(y.data(), r, n), l.b()),
                  graft::argument_error);
  CHECK(y == std::vector<float>(T * m, 7));
  CHECK(l.A1 == std::vector<float>(r * n, 99));
  CHECK(l.B1 == std::vector<float>(m * r, 99));
}
