#include <graft/adapters/lora_experts.hpp>

#include <cmath>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "adapters/finite_differences.hpp"
#include "adapters/problem.hpp"

using graft::as_const;
using graft::index_t;
using graft::lora_experts;
using graft::lora_gradients;
using graft::none;
using graft::view;
using namespace tests;

namespace {

constexpr index_t experts = 3, T = 4, n = 20, r = 5, m = 33;

template <class S>
struct fused {
  std::vector<S> A = random_numbers<S>(experts * r * n, 1);
  std::vector<S> B = random_numbers<S>(m * r * experts, 2);
  std::vector<S> x = random_numbers<S>(experts * T * n, 3);
  std::vector<S> dy = random_numbers<S>(experts * T * m, 4);
  std::vector<S> W = random_numbers<S>(experts * m * n, 5);
  [[nodiscard]] auto adapter() { return lora_experts{view(A, experts * r, n), view(B, m, r * experts), 0.7, experts}; }
  [[nodiscard]] auto vx() { return view(x, experts, T, n); }
  [[nodiscard]] auto vdy() { return view(dy, experts, T, m); }
  [[nodiscard]] auto vW() { return view(W, experts, m, n); }
};

}  // namespace

TEST_CASE("experts, checked by hand: A by expert, B by rank", "[adapters][lora_experts]") {
  // Two experts of rank 2 on 1 feature in, 1 out: A_0 = [1, 2], A_1 = [3, 4]; B_0 = columns 0 and 2, B_1 = columns 1 and 3.
  std::vector<float> const A{1, 2, 3, 4}, B{10, 20, 30, 40};
  lora_experts const l{view(A, 4, 1), view(B, 1, 4), 1.0, 2};
  CHECK(l.rank() == 2);
  CHECK(parameter_count(l) == 8);
  CHECK(expert(l, 1).A(0, 0) == 3);
  CHECK(expert(l, 1).B(0, 1) == 40);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> const x{1, 2};
    std::vector<float> y(2), W(2);
    add_delta(ex, l, view(x, 2, 1, 1), view(y, 2, 1, 1));
    CHECK(y == std::vector<float>{10 + 60, 2 * (60 + 160)});
    merge(ex, l, view(W, 2, 1, 1));
    CHECK(W == std::vector<float>{70, 220});
    unmerge(ex, l, view(W, 2, 1, 1));
    CHECK(W == std::vector<float>{0, 0});
    delta_weight(ex, l, view(W, 2, 1, 1));
    CHECK(W == std::vector<float>{70, 220});
  });
}

TEST_CASE("experts: each is the LoRA of its parts, on every executor; gradients are differences",
          "[adapters][lora_experts]") {
  fused<double> p;
  auto const l = p.adapter();
  std::vector<double> y(experts * T * m);
  add_delta(graft::serial{}, l, p.vx(), view(y, experts, T, m));
  for (index_t e = 0; e < experts; ++e)
    for (index_t t = 0; t < T; ++t)
      for (index_t o = 0; o < m; ++o) {
        double sum = 0;
        for (index_t j = 0; j < r; ++j)
          for (index_t k = 0; k < n; ++k)
            sum += 0.7 * view(p.B, m, r, experts)(o, j, e) * view(p.A, experts, r, n)(e, j, k) * p.vx()(e, t, k);
        CHECK(std::abs(sum - view(y, experts, T, m)(e, t, o)) < 1e-13);
      }
  std::vector<double> dA(p.A.size()), dB(p.B.size()), dx(p.x.size());
  backward(graft::serial{}, l, p.vx(), p.vdy(), lora_gradients{view(dA, experts * r, n), view(dB, m, r * experts)},
           view(dx, experts, T, n));
  auto const loss = [&] {
    std::vector<double> out(y.size());
    add_delta(graft::serial{}, l, p.vx(), view(out, experts, T, m));
    return inner_product(out, p.dy);
  };
  CHECK(gradient_error(p.A, dA, loss) < 1e-6);
  CHECK(gradient_error(p.B, dB, loss) < 1e-6);
  CHECK(gradient_error(p.x, dx, loss) < 1e-6);

  fused<float> q;
  auto const run = [&](auto const& ex) {
    std::vector<float> all(experts * T * m), gA(q.A.size()), gB(q.B.size()), gx(q.x.size()), w = q.W;
    add_delta(ex, q.adapter(), q.vx(), view(all, experts, T, m));
    backward(ex, q.adapter(), q.vx(), q.vdy(), lora_gradients{view(gA, experts * r, n), view(gB, m, r * experts)},
             view(gx, experts, T, n));
    merge(ex, q.adapter(), view(w, experts, m, n));
    for (auto const* const v : {&gA, &gB, &gx, &w}) all.insert(all.end(), v->begin(), v->end());
    return all;
  };
  auto const expected = run(graft::reference{});
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    CHECK(run(ex) == expected);
  });
}

TEST_CASE("experts: exchanged experts give exchanged results", "[adapters][lora_experts]") {
  fused<float> p, q;
  for (index_t j = 0; j < r; ++j)
    for (index_t k = 0; k < n; ++k) std::swap(view(q.A, experts, r, n)(0, j, k), view(q.A, experts, r, n)(2, j, k));
  for (index_t o = 0; o < m; ++o)
    for (index_t j = 0; j < r; ++j) std::swap(view(q.B, m, r, experts)(o, j, 0), view(q.B, m, r, experts)(o, j, 2));
  std::vector<float> first(experts * m * n), second(experts * m * n);
  delta_weight(graft::serial{}, p.adapter(), view(first, experts, m, n));
  delta_weight(graft::serial{}, q.adapter(), view(second, experts, m, n));
  for (index_t e = 0; e < experts; ++e)
    CHECK(differences(layer(view(first, experts, m, n), e), layer(view(second, experts, m, n), 2 - e)) == "");
}

TEST_CASE("experts: both layouts of the weight, no tokens, one expert, packed", "[adapters][lora_experts]") {
  fused<float> p;
  auto w = p.W;
  merge(graft::serial{}, p.adapter(), view(w, experts, m, n));
  std::vector<float> turned(p.W.size());
  for (index_t e = 0; e < experts; ++e)
    for (index_t o = 0; o < m; ++o)
      for (index_t k = 0; k < n; ++k) view(turned, experts, n, m)(e, k, o) = p.vW()(e, o, k);
  merge(graft::openmp{2}, p.adapter(), transposed(view(turned, experts, n, m)));
  bool same = true;
  for (index_t e = 0; e < experts; ++e)
    for (index_t o = 0; o < m; ++o)
      for (index_t k = 0; k < n; ++k)
        same = same && view(turned, experts, n, m)(e, k, o) == view(w, experts, m, n)(e, o, k);
  CHECK(same);
  std::vector<float> nothing;
  add_delta(graft::serial{}, p.adapter(), view(nothing, experts, 0, n), view(nothing, experts, 0, m));
  lora_experts const one{view(p.A.data(), r, n), view(p.B.data(), m, r), 0.7, 1};
  std::vector<float> y(T * m), plain(T * m);
  add_delta(graft::serial{}, one, view(p.x.data(), 1, T, n), view(y, 1, T, m));
  add_delta(graft::serial{}, graft::lora{one.A, one.B, 0.7, {}}, view(p.x.data(), T, n), view(plain, T, m));
  CHECK(y == plain);
  auto const l = expert(p.adapter(), 1);
  std::vector<float> memory(static_cast<std::size_t>(packed_size(l)));
  auto const fast = pack(graft::serial{}, l, std::span(memory));
  std::vector<float> a(T * m), b(T * m);
  add_delta(graft::serial{}, l, layer(p.vx(), 1), view(a, T, m));
  add_delta(graft::serial{}, fast, layer(p.vx(), 1), view(b, T, m));
  CHECK(a == b);
}

TEST_CASE("experts: what does not fit is refused before anything is written", "[adapters][lora_experts]") {
  fused<float> p;
  graft::serial const ex;
  std::vector<float> y(experts * T * m, 7), dA(p.A.size(), 7), dB(p.B.size(), 7);
  auto const v = view(y, experts, T, m);
  auto const with = [&](index_t count) {
    return lora_experts{view(p.A, experts * r, n), view(p.B, m, r * experts), 0.7, count};
  };
  CHECK_THROWS_AS(add_delta(ex, with(0), p.vx(), v), graft::shape_error);
  CHECK_THROWS_AS(add_delta(ex, with(-1), p.vx(), v), graft::shape_error);
  CHECK_THROWS_AS(add_delta(ex, with(2), p.vx(), v), graft::shape_error);
  CHECK_THROWS_AS(add_delta(ex, with(5), p.vx(), v), graft::shape_error);
  CHECK_THROWS_AS(add_delta(ex, p.adapter(), view(p.x, T, experts, n), v), graft::shape_error);
  CHECK_THROWS_AS(add_delta(ex, p.adapter(), p.vx(), view(y, experts, m, T)), graft::shape_error);
  CHECK_THROWS_AS(add_delta(ex, p.adapter(), p.vx(), view(p.A.data(), experts, T, m)), graft::argument_error);
  CHECK_THROWS_AS(expert(p.adapter(), 3), graft::argument_error);
  CHECK_THROWS_AS(expert(p.adapter(), -1), graft::argument_error);
  CHECK_THROWS_AS(merge(ex, p.adapter(), view(p.W, experts, n, m)), graft::shape_error);
  auto const g = lora_gradients{view(dA, n, experts * r), view(dB, m, r * experts)};
  CHECK_THROWS_AS(backward(ex, p.adapter(), p.vx(), p.vdy(), g, none), graft::shape_error);
  CHECK(y == std::vector<float>(y.size(), 7));
  CHECK(dB == std::vector<float>(dB.size(), 7));
}
