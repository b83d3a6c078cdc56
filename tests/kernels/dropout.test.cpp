#include <graft/kernels/dropout.hpp>

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/parity.hpp"

using graft::as_const;
using graft::dropout;
using graft::index_t;
using graft::view;
using graft::kernels::drop;
using graft::kernels::drop_add;
using namespace tests;

TEST_CASE("drop keeps or zeroes elements, and divides those that stay by 1 - p", "[kernels][dropout]") {
  dropout const mask{.probability = 0.25, .seed = 3, .stream = 4};
  auto const x = random_numbers<float>(40 * 33, 1);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> y(x.size(), NAN);
    drop(ex, mask, view(x, 40, 33), view(y, 40, 33));
    int kept = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      bool const stays = mask.keeps(static_cast<index_t>(i));
      kept += stays ? 1 : 0;
      if (y[i] != (stays ? static_cast<float>(1.0 / 0.75) * x[i] : 0.0F)) FAIL_CHECK("element " << i);
    }
    // 1320 draws, p = 1/4: six standard deviations are 94.
    CHECK(std::abs(kept - 990) < 94);
  });
}

TEST_CASE("drop_add is the transposed map of drop: what was dropped gets no gradient", "[kernels][dropout]") {
  dropout const mask{.probability = 0.5, .seed = 3};
  auto const x = random_numbers<float>(7 * 9, 1);
  auto const start = random_numbers<float>(7 * 9, 2);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    auto y = start;
    drop_add(ex, mask, view(x, 7, 9), view(y, 7, 9));
    for (std::size_t i = 0; i < x.size(); ++i)
      CHECK(y[i] == (mask.keeps(static_cast<index_t>(i)) ? std::fma(2.0F, x[i], start[i]) : start[i]));
  });
}

TEST_CASE("a probability of 0 changes nothing", "[kernels][dropout]") {
  auto const x = random_numbers<float>(7 * 9, 1);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> y(x.size());
    drop(ex, dropout{}, view(x, 7, 9), view(y, 7, 9));
    CHECK(y == x);
  });
}

TEST_CASE("the mask depends on seed, stream and element, not on layout, threads or type", "[kernels][dropout]") {
  tally t;
  dropout const mask{.probability = 0.3, .seed = 11, .stream = 5};
  for (int kind = 0; kind < 3; ++kind)
    with_storage(kind, [&]<class S>(std::type_identity<S>) {
      matrix<S> const start(13, 37, layout::contiguous, 5);
      matrix<S> expected(13, 37);
      matrix<S> added(13, 37);
      matrix<float> const x(13, 37, layout::contiguous, 6);
      auto const factor = static_cast<float>(1.0 / (1.0 - 0.3));
      for (index_t i = 0; i < 13; ++i)
        for (index_t j = 0; j < 37; ++j) {
          float const f = mask.keeps(i * 37 + j) ? factor : 0.0F;
          expected.view()(i, j) = graft::store_as<S>(f * x.view()(i, j));
          added.view()(i, j) =
              graft::store_as<S>(std::fma(f, x.view()(i, j), graft::load_as<float>(start.view()(i, j))));
        }
      for (layout const how : all_layouts) {
        auto const in = copy_of<float>(x.view(), all_layouts[(static_cast<std::size_t>(how) + 3) % 8]);
        for_each_executor([&](std::string const& name, auto const& ex) {
          auto const describe = [&] { return name + ", " + type_name<S>() + " " + tests::name(how); };
          t.add(compare_one<S>(ex, start.view(), how, as_const(expected.view()),
                               [&](auto const& e, auto const& y) { drop(e, mask, in.view(), y); }),
                describe);
          t.add(compare_one<S>(ex, start.view(), how, as_const(added.view()),
                               [&](auto const& e, auto const& y) { drop_add(e, mask, in.view(), y); }),
                describe);
        });
      }
    });
  CHECK(t.text() == "");
  auto const masks = [](dropout const& d) {
    std::vector<bool> v;
    for (index_t i = 0; i < 64; ++i) v.push_back(d.keeps(i));
    return v;
  };
  CHECK(masks({.probability = 0.5, .seed = 1, .stream = 1}) == masks({.probability = 0.5, .seed = 1, .stream = 1}));
  CHECK(masks({.probability = 0.5, .seed = 1, .stream = 1}) != masks({.probability = 0.5, .seed = 2, .stream = 1}));
  CHECK(masks({.probability = 0.5, .seed = 1, .stream = 1}) != masks({.probability = 0.5, .seed = 1, .stream = 2}));
}

TEST_CASE("dropout thins out at the rate it is asked for", "[kernels][dropout]") {
  for (double const p : {0.0, 0.001, 0.1, 0.5, 0.9, 0.999}) {
    dropout const mask{.probability = p, .seed = 77};
    constexpr int count = 200000;
    int dropped = 0;
    for (index_t i = 0; i < count; ++i) dropped += mask.keeps(i) ? 0 : 1;
    INFO(p << ": " << dropped);
    CHECK(std::abs(dropped - count * p) <= 6.0 * std::sqrt(count * p * (1.0 - p)));
  }
}

TEST_CASE("drop of nothing is legal", "[kernels][dropout]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> none;
    drop(ex, dropout{.probability = 0.5}, view(none, 0, 5), view(none, 0, 5));
    drop_add(ex, dropout{.probability = 0.5}, view(none, 5, 0), view(none, 5, 0));
    SUCCEED();
  });
}
