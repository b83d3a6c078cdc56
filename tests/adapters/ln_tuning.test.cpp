#include <graft/adapters/ln_tuning.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "adapters/problem.hpp"
#include "adapters/rescaled_layer.hpp"

using graft::index_t;
using graft::view;
using namespace tests;

TEST_CASE("layer_norm and rms_norm, checked by hand", "[adapters][ln_tuning]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    // Mean 2, variance 1; mean square 5 with (1, 3), 12.5 with (3, 4) and eps -11.5: 1.
    std::vector<double> const x{1, 3}, w{10, 100}, b{1, 2}, z{3, 4};
    std::vector<double> y(2);
    normalize(ex, graft::layer_norm{view(w), view(b), 0.0}, view(x, 1, 2), view(y, 1, 2));
    CHECK(y == std::vector<double>{-9, 102});
    normalize(ex, graft::layer_norm<decltype(view(w))>{view(w), {}, 3.0}, view(x, 1, 2), view(y, 1, 2));
    CHECK(y == std::vector<double>{-5, 50});
    normalize(ex, graft::rms_norm{view(w), -11.5}, view(z, 1, 2), view(y, 1, 2));
    CHECK(y == std::vector<double>{30, 400});
    y = z;
    normalize(ex, graft::rms_norm{view(w), -11.5}, view(y, 1, 2), view(y, 1, 2));  // in place
    CHECK(y == std::vector<double>{30, 400});
  });
}

TEST_CASE("layer_norm and rms_norm: gradients are differences; rows do not know each other; NaN stays in its row",
          "[adapters][ln_tuning]") {
  for (index_t const features : {1, 7, 40}) {
    std::vector<double> x = random_numbers<double>(T * features, 1), w = random_numbers<double>(features, 2),
                        b = random_numbers<double>(features, 3);
    std::vector<double> const dy = random_numbers<double>(T * features, 4);
    auto const of = [&](auto& v) { return view(v, T, features); };
    auto const law = [&](auto const& a, bool has_bias) {
      std::vector<double> y(x.size()), dx(x.size()), dw(w.size()), db(b.size());
      auto const loss = [&] {
        normalize(graft::serial{}, a, of(x), of(y));
        return inner_product(y, dy);
      };
      if constexpr (requires { a.bias; })
        backward(graft::openmp{.threads = 2}, a, of(x), of(dy), graft::norm_gradients{view(dw), view(db)}, of(dx));
      else
        backward(graft::openmp{.threads = 2}, a, of(x), of(dy), graft::norm_gradients<decltype(view(dw))>{view(dw), {}},
                 of(dx));
      // Second derivatives reach 1 / (variance + eps): the step's square counts that much.
      double const bound = difference_bound * 64;
      CHECK(gradient_error(x, dx, loss) <= bound);
      CHECK(gradient_error(w, dw, loss) <= bound);
      if (has_bias) CHECK(gradient_error(b, db, loss) <= bound);
      loss();
      std::vector<double> const together = y;
      for (index_t t = 0; t < T; ++t)
        normalize(graft::serial{}, a, view(x.data() + t * features, 1, features),
                  view(y.data() + t * features, 1, features));
      CHECK(y == together);
      double const before = x[0];
      x[0] = std::numeric_limits<double>::quiet_NaN();
      loss();
      CHECK(std::isnan(y[0]));
      if (features > 0) CHECK(std::equal(y.begin() + features, y.end(), together.begin() + features));
      x[0] = before;
    };
    law(graft::layer_norm{view(w), view(b), 0.1}, true);
    law(graft::rms_norm{view(w), 0.1}, false);
  }
}

TEST_CASE("layer_norm and rms_norm: every executor has the bits of reference, also in 16 bits",
          "[adapters][ln_tuning][parity]") {
  same_everywhere([]<class S>(auto const& ex, S) {
    constexpr index_t tokens = 530, features = 36;
    std::vector<S> const weight = random_numbers<S>(features, 1), bias = random_numbers<S>(features, 3),
                         x = random_numbers<S>(tokens * features, 4), dy = random_numbers<S>(tokens * features, 5);
    std::vector<S> y(x.size()), dx(x.size()), dw(weight.size()), db(weight.size());
    auto const vx = view(x, tokens, features), vdy = view(dy, tokens, features);
    graft::layer_norm const norm{view(weight), view(bias), 1e-5};
    graft::rms_norm const rms{view(weight), 1e-6};
    normalize(ex, norm, vx, view(y, tokens, features));
    auto const centred = y;
    backward(ex, norm, vx, vdy, graft::norm_gradients{view(dw), view(db)}, view(dx, tokens, features));
    normalize(ex, rms, vx, view(y, tokens, features));
    backward(ex, rms, vx, vdy, graft::norm_gradients<decltype(view(dw))>{view(dw), {}}, view(dx, tokens, features));
    return floats(centred, y, dw, db, dx);
  });
}

TEST_CASE("layer_norm and rms_norm: what does not fit is refused before anything is written", "[adapters][ln_tuning]") {
  std::vector<float> v(8, 1.0F), y(8, 3.0F);
  graft::serial const ex;
  auto const refused = [&](auto const& call, std::string const& sentence) {
    CHECK_THROWS_MATCHES(call(), graft::error, Catch::Matchers::Message(sentence));
    CHECK(y == std::vector<float>(8, 3.0F));
  };
  refused([&] { normalize(ex, graft::rms_norm{view(v)}, view(y, 2, 4), view(y, 2, 4)); },
          "graft::kernels::rms_norm: extent 0 of weight[8] is 8 but extent 1 of x[2, 4] is 4; they must be equal");
}
