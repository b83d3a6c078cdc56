#include <graft/adapters/lora_embedding.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/adapters/dora.hpp>
#include <graft/adapters/dora_training.hpp>
#include <graft/adapters/merging.hpp>

#include "adapters/finite_differences.hpp"
#include "adapters/problem.hpp"

using graft::as_const;
using graft::ids;
using graft::index_t;
using graft::lora_embedding;
using graft::lora_gradients;
using graft::none;
using graft::view;
using namespace tests;

namespace {

/// An embedding of V tokens and d features.
template <class S>
struct table {
  index_t V, d, r;
  std::vector<S> A, B, E;
  table(index_t tokens, index_t features, index_t rank, std::uint64_t seed)
      : V(tokens),
        d(features),
        r(rank),
        A(random_numbers<S>(rank * tokens, seed)),
        B(random_numbers<S>(features * rank, seed + 1)),
        E(random_numbers<S>(tokens * features, seed + 2)) {}
  [[nodiscard]] auto adapter(double scale = 0.5) { return lora_embedding{view(A, r, V), view(B, d, r), scale}; }
  [[nodiscard]] auto weight() { return view(E, V, d); }
  template <class I>
  [[nodiscard]] std::vector<S> lookup(std::vector<I> const& tokens) const {
    std::vector<S> y;
    for (auto const t : tokens)
      for (index_t j = 0; j < d; ++j) y.push_back(E[static_cast<std::size_t>(static_cast<index_t>(t) * d + j)]);
    return y;
  }
};

}  // namespace

TEST_CASE("LoRA on an embedding, checked by hand", "[adapters][lora_embedding]") {
  // A[2, 3]: token 2 is [3, -1]; times B [[1, 1], [2, 0]] is [2, 6], halved.
  std::vector<float> const A{1, 2, 3, 0, 1, -1}, B{1, 1, 2, 0};
  std::vector<std::int64_t> const tokens{2, 0, 2};
  lora_embedding const e{view(A, 2, 3), view(B, 2, 2), 0.5};
  CHECK(e.in_features() == 3);
  CHECK(e.out_features() == 2);
  CHECK(parameter_count(e) == 10);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> y{1, 1, 1, 1, 0, 0};
    add_delta(ex, e, ids(tokens), view(y, 3, 2));
    CHECK(y == std::vector<float>{2, 4, 1.5F, 2, 1, 3});
    // u = dy B / 2 = [[0.5, 0.5], [2, 0], [1.5, 0.5]]; dA's column 2 gets the first and the third.
    std::vector<float> const dy{1, 0, 0, 2, 1, 1};
    std::vector<float> dA(6, 1), dB(4, 1);
    backward(ex, e, ids(tokens), view(dy, 3, 2), lora_gradients{view(dA, 2, 3), view(dB, 2, 2)});
    CHECK(dA == std::vector<float>{3, 1, 3, 1, 1, 2});
    CHECK(dB == std::vector<float>{4, 0, 3.5F, 0.5F});
    backward(ex, e, ids(tokens), view(dy, 3, 2), lora_gradients{view(dA, 2, 3), view(dB, 2, 2)}, 2);  // padding
    CHECK(dA == std::vector<float>{5, 1, 3, 1, 1, 2});
    CHECK(dB == std::vector<float>{7, -1, 6, 0});
    std::vector<float> E(6);
    merge(ex, e, view(E, 3, 2));
    CHECK(E == std::vector<float>{0.5F, 1, 1.5F, 2, 1, 3});
    unmerge(ex, e, view(E, 3, 2));
    CHECK(E == std::vector<float>(6));
    delta_weight(ex, e, view(E, 3, 2));
    CHECK(E == std::vector<float>{0.5F, 1, 1.5F, 2, 1, 3});
  });
}

TEST_CASE("embeddings: a forward is a lookup in what merging gives, gradients are differences",
          "[adapters][lora_embedding]") {
  for (index_t const T : {0, 1, 5, 300}) {
    INFO(T << " tokens");
    table<double> t(23, 17, 5, 1);
    std::vector<std::int32_t> tokens;
    random_bits bits(9);
    for (index_t i = 0; i < T; ++i) tokens.push_back(static_cast<std::int32_t>(bits.below(23)));
    auto y = t.lookup(tokens);
    add_delta(graft::serial{}, t.adapter(), ids(tokens), view(y, T, 17));
    auto merged = t;
    merge(graft::serial{}, t.adapter(), merged.weight());
    auto const expected = merged.lookup(tokens);
    double worst = 0;
    for (std::size_t i = 0; i < y.size(); ++i) worst = std::max(worst, std::abs(y[i] - expected[i]));
    CHECK(worst < 8 * 0x1p-52 * 4);  // eight roundings of numbers below 4
    if (T > 5) continue;
    auto const dy = random_numbers<double>(T * 17, 4);
    std::vector<double> dA(t.A.size()), dB(t.B.size());
    backward(graft::serial{}, t.adapter(), ids(tokens), view(dy, T, 17),
             lora_gradients{view(dA, 5, 23), view(dB, 17, 5)});
    auto const loss = [&] {
      auto out = t.lookup(tokens);
      add_delta(graft::serial{}, t.adapter(), ids(tokens), view(out, T, 17));
      return inner_product(out, dy);
    };
    CHECK(gradient_error(t.A, dA, loss) < 1e-6);
    CHECK(gradient_error(t.B, dB, loss) < 1e-6);
  }
}

TEST_CASE("embeddings: every executor, scalar and layout has the bits of reference; rows do not know their batch",
          "[adapters][lora_embedding][parity]") {
  tally t;
  auto const check = [&]<class P, class Y>(layout how) {
    constexpr index_t V = 37, d = 70, r = 17, T = 300;
    matrix<P> const A(r, V, how, 1), B(d, r, how, 2);
    std::vector<std::int64_t> tokens;
    random_bits bits(9);
    for (index_t i = 0; i < T; ++i) tokens.push_back(bits.below(V));
    lora_embedding const e{A.view(), B.view(), 0.7};
    auto const run = [&](auto const& ex, matrix<Y>& y, matrix<Y>& dA, matrix<Y>& dB) {
      add_delta(ex, e, ids(tokens), y.view());
      backward(ex, e, ids(tokens), as_const(y.view()), lora_gradients{dA.view(), dB.view()}, 5);
    };
    matrix<Y> y(T, d, how, 3), dA(r, V, how, 4), dB(d, r, how, 5);
    run(graft::reference{}, y, dA, dB);
    for_each_executor([&](std::string const& name, auto const& ex) {
      matrix<Y> y1(T, d, how, 3), dA1(r, V, how, 4), dB1(d, r, how, 5);
      run(ex, y1, dA1, dB1);
      t.add(differences(y1.view(), y.view()) + differences(dA1.view(), dA.view()) + differences(dB1.view(), dB.view()) +
                y1.outside() + dA1.outside() + dB1.outside(),
            [&] { return name + ", " + type_name<P>() + ", " + type_name<Y>() + ", " + tests::name(how); });
      matrix<Y> row(T, d, how, 3);
      for (index_t i = 0; i < 3; ++i) add_delta(ex, e, graft::slice(ids(tokens), i, 1), rows(row.view(), i, 1));
      t.add(differences(rows(row.view(), 0, 3), rows(y.view(), 0, 3)), [&] { return name + ", one row at a time"; });
    });
  };
  for (layout const how : {layout::contiguous, layout::transposed, layout::strided}) {
    check.operator()<float, float>(how);
    check.operator()<graft::bfloat16, float>(how);
    check.operator()<float, graft::bfloat16>(how);
    check.operator()<graft::float16, graft::float16>(how);
    check.operator()<double, float>(how);
  }
  CHECK(t.text() == "");
}

TEST_CASE("DoRA on an embedding: one factor a feature, lookups and merge agree, gradients are differences",
          "[adapters][lora_embedding][dora]") {
  table<double> t(11, 6, 3, 1);
  auto g = random_numbers<double>(6, 7);
  std::vector<double> norms(6);
  graft::dora const d{t.adapter(), view(g), view(norms)};
  graft::serial const ex;
  update_norms(ex, d, t.weight());
  std::vector<std::int32_t> const tokens{3, 0, 3, 10};
  auto const forward = [&](auto const& kept) {
    auto y = t.lookup(tokens);
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(kept)>, graft::none_t>)
      transform_output(ex, d, ids(tokens), view(y, 4, 6));
    else transform_output(ex, d, ids(tokens), view(y, 4, 6), kept);
    return y;
  };
  std::vector<double> kept(4 * 6);
  auto const y = forward(view(kept, 4, 6));
  CHECK(y == forward(none));
  auto merged = t;
  merge(ex, d, merged.weight());
  auto const expected = merged.lookup(tokens);
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(std::abs(y[i] - expected[i]) < 1e-14);
  for (index_t j = 0; j < 6; ++j) {  // the norm runs over all tokens
    double sum = 0;
    auto only = t;
    merge(ex, t.adapter(), only.weight());
    for (index_t v = 0; v < 11; ++v) sum += only.weight()(v, j) * only.weight()(v, j);
    CHECK(std::abs(norms[static_cast<std::size_t>(j)] - std::sqrt(sum)) < 1e-14);
  }
  unmerge(ex, d, merged.weight());
  for (std::size_t i = 0; i < t.E.size(); ++i) CHECK(std::abs(merged.E[i] - t.E[i]) < 1e-12);
  auto const dy = random_numbers<double>(4 * 6, 5);
  auto dz = dy;
  std::vector<double> dA(t.A.size()), dB(t.B.size()), dg(6), exact_A(t.A.size()), exact_B(t.B.size()), exact_g(6);
  backward(ex, d, ids(tokens), as_const(view(kept, 4, 6)), view(dz, 4, 6),
           graft::dora_gradients{view(dA, 3, 11), view(dB, 6, 3), view(dg)});
  auto const constant = [&] { return inner_product(forward(none), dy); };
  CHECK(gradient_error(t.A, dA, constant) < 1e-6);
  CHECK(gradient_error(t.B, dB, constant) < 1e-6);
  CHECK(gradient_error(g, dg, constant) < 1e-6);
  dz = dy;
  backward_exact(ex, d, t.weight(), ids(tokens), as_const(view(kept, 4, 6)), view(dz, 4, 6),
                 graft::dora_gradients{view(exact_A, 3, 11), view(exact_B, 6, 3), view(exact_g)});
  auto const exact = [&] {
    update_norms(ex, d, t.weight());
    return inner_product(forward(none), dy);
  };
  CHECK(gradient_error(t.A, exact_A, exact) < 1e-6);
  CHECK(gradient_error(t.B, exact_B, exact) < 1e-6);
  std::vector<double> factors(6);
  auto const fast = prepare(ex, d, view(factors));
  auto again = t.lookup(tokens);
  transform_output(ex, fast, ids(tokens), view(again, 4, 6));
  CHECK(again == forward(none));
}

TEST_CASE("embeddings: a fresh adapter, several in one weight, 16 bits", "[adapters][lora_embedding]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    table<float> t(500, 40, 4, 1);
    initialize(ex, t.adapter(), graft::standard_normal_b{1, 2});
    CHECK(t.A == std::vector<float>(t.A.size()));
    double sum = 0;
    for (float const b : t.B) sum += static_cast<double>(b) * static_cast<double>(b);
    CHECK(std::abs(sum / 160 - 1) < 0.5);
    table<float> first(20, 33, 3, 5), second(20, 33, 2, 6);
    std::vector<graft::bfloat16> narrow(first.E.size());
    for (std::size_t i = 0; i < narrow.size(); ++i) narrow[i] = graft::store_as<graft::bfloat16>(first.E[i]);
    std::vector<float> wide(narrow.size());
    for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = graft::load_as<float>(narrow[i]);
    merge(graft::reference{}, first.adapter(), view(wide, 20, 33));
    merge(graft::reference{}, second.adapter(), view(wide, 20, 33));
    merge_all(ex, view(narrow, 20, 33), first.adapter(), second.adapter());
    bool same = true;
    for (std::size_t i = 0; i < wide.size(); ++i)
      same = same && same_bits(narrow[i], graft::store_as<graft::bfloat16>(wide[i]));
    CHECK(same);
  });
}

TEST_CASE("embeddings: the lowest bad id is named, before anything is written", "[adapters][lora_embedding]") {
  table<float> t(11, 6, 3, 1);
  std::vector<std::int32_t> tokens(1000, 3);
  tokens[700] = 11;
  tokens[421] = -1;
  tokens[999] = 1 << 30;
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> y(6000, 7), dA(33, 7), dB(18, 7);
    auto const said = [&](auto const& call) {
      try {
        call();
      } catch (graft::data_error const& e) { return std::string(e.what()); }
      return std::string();
    };
    CHECK(said([&] { add_delta(ex, t.adapter(), ids(tokens), view(y, 1000, 6)); }) ==
          "graft::add_delta: token 421 has the id -1 but there are 11 rows");
    CHECK(said([&] {
            backward(ex, t.adapter(), ids(tokens), as_const(view(y, 1000, 6)),
                     lora_gradients{view(dA, 3, 11), view(dB, 6, 3)});
          }) == "graft::backward: token 421 has the id -1 but there are 11 rows");
    CHECK(y == std::vector<float>(6000, 7));
    CHECK(dA == std::vector<float>(33, 7));
    CHECK(dB == std::vector<float>(18, 7));
  });
}

TEST_CASE("embeddings: what does not fit is refused before anything is written", "[adapters][lora_embedding]") {
  table<float> t(11, 6, 3, 1);
  std::vector<std::int32_t> const tokens{1, 2};
  graft::serial const ex;
  std::vector<float> y(12, 7), dA(33, 7), dB(18, 7);
  CHECK_THROWS_AS(add_delta(ex, t.adapter(), ids(tokens), view(y, 3, 4)), graft::shape_error);
  CHECK_THROWS_AS(add_delta(ex, t.adapter(), ids(tokens.data(), 1), view(y, 2, 6)), graft::shape_error);
  CHECK_THROWS_AS(add_delta(ex, t.adapter(), ids(static_cast<std::int32_t const*>(nullptr), 2), view(y, 2, 6)),
                  graft::argument_error);
  CHECK_THROWS_AS(add_delta(ex, t.adapter(), ids(tokens), view(t.B.data(), 2, 6)), graft::argument_error);
  auto const call = [&](auto const& g) { backward(ex, t.adapter(), ids(tokens), as_const(view(y, 2, 6)), g); };
  CHECK_THROWS_AS(call(lora_gradients{view(dA, 11, 3), view(dB, 6, 3)}), graft::shape_error);
  CHECK_THROWS_AS(call(lora_gradients{view(dA, 3, 11), view(dB, 3, 6)}), graft::shape_error);
  CHECK_THROWS_AS(call(lora_gradients{view(t.A, 3, 11), view(dB, 6, 3)}), graft::argument_error);
  CHECK_THROWS_AS(call(lora_gradients{view(dA, 3, 11), view(dA.data(), 6, 3)}), graft::argument_error);
  CHECK_THROWS_AS(merge(ex, t.adapter(), view(t.E, 6, 11)), graft::shape_error);
  CHECK_THROWS_AS(merge_all(ex, view(t.E, 6, 11), t.adapter()), graft::shape_error);
  CHECK_THROWS_AS(ids(tokens.data(), -1), graft::shape_error);
  CHECK(y == std::vector<float>(12, 7));
  CHECK(dA == std::vector<float>(33, 7));
  CHECK(dB == std::vector<float>(18, 7));
}
