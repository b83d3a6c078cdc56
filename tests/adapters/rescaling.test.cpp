#include <graft/adapters/bitfit.hpp>
#include <graft/adapters/composition.hpp>
#include <graft/adapters/ia3.hpp>
#include <graft/adapters/ln_tuning.hpp>
#include <graft/adapters/road.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "adapters/finite_differences.hpp"
#include "adapters/problem.hpp"

using graft::as_const;
using graft::bfloat16;
using graft::bitfit;
using graft::ia3;
using graft::ia3_feedforward;
using graft::index_t;
using graft::none;
using graft::road;
using graft::view;
using namespace tests;

namespace {

constexpr index_t T = 5, n = 12, m = 8;
/// The square of the step 2^-17 of the differences, and rounding beside it.
constexpr double difference_bound = 256 * (0x1p-34 + 0x1p-53 * 0x1p17);

/// A layer with a bias in double, and what goes through it.
struct layer {
  std::vector<double> x = random_numbers<double>(T * n, 1), dy = random_numbers<double>(T * m, 2);
  std::vector<double> W = random_numbers<double>(m * n, 3), bias = random_numbers<double>(m, 4);
  std::vector<double> dbias = std::vector<double>(m), y = std::vector<double>(T * m), kept = std::vector<double>(T * m);
  std::vector<double> dx = std::vector<double>(T * n);

  [[nodiscard]] auto base() {
    auto const forward = [this](auto const& in, auto const& out) {
      for (index_t t = 0; t < T; ++t)
        for (index_t o = 0; o < m; ++o) {
          double sum = 0;
          for (index_t k = 0; k < n; ++k) sum += in(t, k) * view(W, m, n)(o, k);
          out(t, o) = sum;
        }
    };
    auto const backward = [this](auto const& dout, auto const& din) {
      for (index_t t = 0; t < T; ++t)
        for (index_t k = 0; k < n; ++k)
          for (index_t o = 0; o < m; ++o) din(t, k) += dout(t, o) * view(W, m, n)(o, k);
    };
    return graft::base_layer{forward, backward, view(bias), view(dbias)};
  }
  [[nodiscard]] auto vx() { return view(x, T, n); }
  [[nodiscard]] auto vy() { return view(y, T, m); }
  [[nodiscard]] auto vW() { return view(W, m, n); }
};

/// Forward, backward, and differences of the loss in `parameters`, the bias and x; then merged weights give the same outputs.
template <class Make>
void obeys_the_laws(std::vector<std::vector<double>*> const& parameters,
                    std::vector<std::vector<double>*> const& gradients, layer& p, Make const& make) {
  graft::openmp const ex{.threads = 2};
  auto const base = p.base();
  auto const run = [&] {
    make([&](auto const&... trained) { graft::adapted_linear(ex, base, trained..., p.vx(), p.vy()); });
    return inner_product(p.y, p.dy);
  };
  run();
  std::vector<double> const outputs = p.y;
  std::vector<double> dy = p.dy;
  make([&](auto const&... trained) {
    graft::adapted_linear_backward(ex, base, trained..., p.vx(), view(dy, T, m), view(p.dx, T, n));
  });
  for (std::size_t i = 0; i < parameters.size(); ++i)
    CHECK(gradient_error(*parameters[i], *gradients[i], run) <= difference_bound);
  CHECK(gradient_error(p.bias, p.dbias, run) <= difference_bound);
  CHECK(gradient_error(p.x, p.dx, run) <= difference_bound);

  std::vector<double> const W = p.W, bias = p.bias;
  auto const merge_all = [&](auto const& t) {
    if constexpr (requires { graft::merge(ex, t.adapter, p.vW(), view(p.bias)); })
      graft::merge(ex, t.adapter, p.vW(), view(p.bias));
    else graft::merge(ex, t.adapter, p.vW());
  };
  make([&](auto const&... trained) { (merge_all(trained), ...); });
  p.base().forward(p.vx(), p.vy());
  graft::kernels::add_bias(ex, view(p.bias), p.vy());
  double most = 1, far = 0;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    most = std::max(most, std::abs(outputs[i]));
    far = std::max(far, std::abs(outputs[i] - p.y[i]));
  }
  CHECK(far <= 64 * static_cast<double>(n) * 0x1p-53 * most);
  p.W = W;
  p.bias = bias;
}

template <class A>
double undone(layer& p, A const& a) {
  graft::serial const ex;
  std::vector<double> const W = p.W, bias = p.bias;
  if constexpr (requires { graft::merge(ex, a, p.vW(), view(p.bias)); }) {
    graft::merge(ex, a, p.vW(), view(p.bias));
    graft::unmerge(ex, a, p.vW(), view(p.bias));
  } else {
    graft::merge(ex, a, p.vW());
    graft::unmerge(ex, a, p.vW());
  }
  double far = 0;
  for (std::size_t i = 0; i < W.size(); ++i) far = std::max(far, std::abs(W[i] - p.W[i]));
  for (std::size_t i = 0; i < bias.size(); ++i) far = std::max(far, std::abs(bias[i] - p.bias[i]));
  return far;
}

}  // namespace

TEST_CASE("(IA)3, RoAd and BitFit, checked by hand", "[adapters][ia3][road][bitfit]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> const l{2, -1}, W{1, 2, 3, 4}, theta{0}, alpha{2}, x{1, 1};
    std::vector<float> y{5, 7}, w = W, bias{10, 20}, D(4), turned(2), factors(4);
    transform_output(ex, ia3{view(l)}, view(x, 1, 2), view(y, 1, 2));
    CHECK(y == std::vector<float>{10, -7});
    merge(ex, ia3{view(l)}, view(w, 2, 2), view(bias));
    CHECK(w == std::vector<float>{2, 4, -3, -4});
    CHECK(bias == std::vector<float>{20, -20});
    unmerge(ex, ia3{view(l)}, view(w, 2, 2), view(bias));
    CHECK(w == W);
    CHECK(bias == std::vector<float>{10, 20});
    delta_weight(ex, ia3{view(l)}, view(W, 2, 2), view(D, 2, 2));
    CHECK(D == std::vector<float>{1, 2, -6, -8});
    merge(ex, ia3_feedforward{view(l)}, view(w, 2, 2));
    CHECK(w == std::vector<float>{2, -2, 6, -4});
    delta_weight(ex, ia3_feedforward{view(l)}, view(W, 2, 2), view(D, 2, 2));
    CHECK(D == std::vector<float>{1, -4, 3, -8});
    transform_input(ex, ia3_feedforward{view(l)}, view(x, 1, 2), view(turned, 1, 2));
    CHECK(turned == std::vector<float>{2, -1});

    // No turn, twice as long.
    road const r{view(theta), view(alpha), 2, view(factors, 2, 2)};
    update_factors(ex, r);
    CHECK(factors == std::vector<float>{2, 2, 0, 0});
    // By hand: c = (3, 5), s = (4, 6): (1, 2) -> (3 - 8, 10 + 6).
    factors = {3, 5, 4, 6};
    y = {1, 2};
    transform_output(ex, r, view(x, 1, 2), view(y, 1, 2));
    CHECK(y == std::vector<float>{-5, 16});
    w = W;
    merge(ex, r, view(w, 2, 2));
    CHECK(w == std::vector<float>{-9, -10, 21, 32});

    std::vector<float> const b{1, -1};
    y = {1, 2};
    bias = {10, 20};
    w = W;
    add_delta(ex, bitfit{view(b)}, view(x, 1, 2), view(y, 1, 2));
    CHECK(y == std::vector<float>{2, 1});
    merge(ex, bitfit{view(b)}, view(w, 2, 2), view(bias));
    CHECK(bias == std::vector<float>{11, 19});
    CHECK(w == W);
    unmerge(ex, bitfit{view(b)}, view(w, 2, 2), view(bias));
    CHECK(bias == std::vector<float>{10, 20});
    CHECK(parameter_count(bitfit{view(b)}) == 2);
    CHECK(parameter_count(r) == 2);
  });
}

TEST_CASE("(IA)3: gradients are differences, also of the bias that it scales; merging gives the outputs",
          "[adapters][ia3]") {
  layer p;
  std::vector<double> l = random_numbers<double>(m, 5), dl(m), in = random_numbers<double>(n, 6), din(n);
  for (double& e : l) e += 3;
  obeys_the_laws({&l, &in}, {&dl, &din}, p, [&](auto const& use) {
    use(graft::trained{ia3_feedforward{view(in)}, graft::ia3_gradients{view(din)}, {}},
        graft::trained{ia3{view(l)}, graft::ia3_gradients{view(dl)}, view(p.kept, T, m)});
  });
  CHECK(undone(p, ia3{view(l)}) <= 8 * 0x1p-53 * 4);
  l[3] = 0;  // what is switched off cannot come back
  merge(graft::serial{}, ia3{view(l)}, p.vW(), view(p.bias));
  unmerge(graft::serial{}, ia3{view(l)}, p.vW(), view(p.bias));
  CHECK(std::isnan(p.bias[3]));
  initialize(graft::serial{}, ia3{view(l)});
  CHECK(l == std::vector<double>(m, 1.0));
}

TEST_CASE("RoAd: gradients are differences for all three sizes; merging gives the outputs, unmerging takes it back",
          "[adapters][road]") {
  for (index_t const count : {m / 2, m, 2 * m}) {
    layer p;
    std::vector<double> theta = random_numbers<double>(count, 5), alpha = random_numbers<double>(count, 6),
                        factors(2 * m);
    std::vector<double> dtheta(theta.size()), dalpha(alpha.size());
    for (double& e : alpha) e += 3;
    for (double& e : theta) e *= 0.5;
    road const a{view(theta), view(alpha), 4, view(factors, 2, m)};
    obeys_the_laws({&theta, &alpha}, {&dtheta, &dalpha}, p, [&](auto const& use) {
      update_factors(graft::serial{}, a);
      use(graft::trained{a, graft::road_gradients{view(dtheta), view(dalpha)}, view(p.kept, T, m)});
    });
    update_factors(graft::serial{}, a);
    CHECK(undone(p, a) <= 64 * 0x1p-53 * 16);
    std::vector<double> D(p.W.size()), merged;
    delta_weight(graft::serial{}, a, as_const(p.vW()), view(D, m, n));
    std::vector<double> const W = p.W;
    merge(graft::serial{}, a, p.vW());
    for (std::size_t i = 0; i < D.size(); ++i) CHECK(std::abs(W[i] + D[i] - p.W[i]) <= 8 * 0x1p-53 * 16);
    initialize(graft::serial{}, a);
    merge(graft::serial{}, a, p.vW());
    CHECK(factors[0] == 1);
    CHECK(factors[static_cast<std::size_t>(m)] == 0);
  }
}

TEST_CASE("a LoRA, a BitFit and an (IA)3 around a layer: its bias and theirs are scaled, merged or not",
          "[adapters][ia3][bitfit]") {
  layer p;
  index_t const r = 2;
  std::vector<double> A = random_numbers<double>(r * n, 5), B = random_numbers<double>(m * r, 6),
                      l = random_numbers<double>(m, 7);
  std::vector<double> b = random_numbers<double>(m, 8), dA(A.size()), dB(B.size()), dl(l.size()), db(b.size());
  graft::lora const lora{view(A, r, n), view(B, m, r), 0.5, {}};
  obeys_the_laws({&A, &B, &l, &b}, {&dA, &dB, &dl, &db}, p, [&](auto const& use) {
    use(graft::trained{lora, graft::lora_gradients{view(dA, r, n), view(dB, m, r)}, {}},
        graft::trained{ia3{view(l)}, graft::ia3_gradients{view(dl)}, view(p.kept, T, m)},
        graft::trained{bitfit{view(b)}, graft::bitfit_gradients{view(db)}, {}});
  });
}

TEST_CASE("rescaling: every executor has the bits of reference, also in 16 bits",
          "[adapters][ia3][road][ln_tuning][parity]") {
  auto const floats = []<class S>(std::vector<S> const& v) {
    std::vector<float> out;
    for (S const e : v) out.push_back(graft::load_as<float>(e));
    return out;
  };
  auto const compare = [&]<class S>(S) {
    std::vector<std::vector<float>> expected;
    for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name);
      constexpr index_t tokens = 530, features = 36;
      std::vector<S> const l = random_numbers<S>(features, 1), theta = random_numbers<S>(features, 2);
      std::vector<S> const alpha = random_numbers<S>(features, 3), x = random_numbers<S>(tokens * features, 4);
      std::vector<S> y = random_numbers<S>(tokens * features, 5), kept(y.size()), dl(l.size()), dtheta(l.size()),
                     dalpha(l.size());
      std::vector<S> W = random_numbers<S>(features * 7, 6), bias = random_numbers<S>(features, 7), dx(y.size()),
                     dw(l.size());
      std::vector<S> D(W.size()), db(l.size()), normal(y.size());
      std::vector<float> factors(2 * features);
      std::vector<std::vector<float>> got;
      auto const vx = view(x, tokens, features);
      auto const vy = view(y, tokens, features), vk = view(kept, tokens, features);
      auto const vW = view(W, features, 7);
      road const r{view(theta), view(alpha), 12, view(factors, 2, features)};
      update_factors(ex, r);
      transform_output(ex, ia3{view(l)}, vx, vy, vk);
      got.push_back(floats(y));
      transform_output(ex, r, vx, vy);
      got.push_back(floats(y));
      backward(ex, r, vx, vk, vy, graft::road_gradients{view(dtheta), view(dalpha)}, none);
      backward(ex, ia3{view(l)}, vx, vk, vy, graft::ia3_gradients{view(dl)}, none);
      backward_input(ex, ia3_feedforward{view(l)}, vx, as_const(vy), graft::ia3_gradients{view(dl)},
                     view(dx, tokens, features));
      for (auto const* v : {&y, &kept, &dl, &dtheta, &dalpha, &dx}) got.push_back(floats(*v));
      merge(ex, r, vW, view(bias));
      merge(ex, ia3{view(l)}, vW, view(bias));
      delta_weight(ex, r, as_const(vW), view(D, features, 7));
      got.push_back(floats(W));
      unmerge(ex, ia3{view(l)}, vW, view(bias));
      unmerge(ex, r, vW, view(bias));
      for (auto const* v : {&W, &bias, &D}) got.push_back(floats(*v));
      graft::layer_norm const norm{view(l), view(alpha), 1e-5};
      graft::rms_norm const rms{view(l), 1e-6};
      normalize(ex, norm, vx, view(normal, tokens, features));
      got.push_back(floats(normal));
      backward(ex, norm, vx, as_const(vy), graft::norm_gradients{view(dw), view(db)}, view(dx, tokens, features));
      normalize(ex, rms, vx, view(normal, tokens, features));
      backward(ex, rms, vx, as_const(vy), graft::norm_gradients<decltype(view(dw))>{view(dw), {}},
               view(dx, tokens, features));
      for (auto const* v : {&normal, &dw, &db, &dx}) got.push_back(floats(*v));
      if (expected.empty()) expected = got;
      CHECK(got == expected);
    });
  };
  compare(float{});
  compare(bfloat16{});
  compare(double{});
}

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

TEST_CASE("rescaling: what does not fit is refused before anything is written", "[adapters][ia3][road][ln_tuning]") {
  std::vector<float> v(8, 1.0F), w(32, 2.0F), y(8, 3.0F), factors(16, 4.0F);
  graft::serial const ex;
  auto const refused = [&](auto const& call, std::string const& sentence) {
    CHECK_THROWS_MATCHES(call(), graft::error, Catch::Matchers::Message(sentence));
    CHECK(w == std::vector<float>(32, 2.0F));
    CHECK(y == std::vector<float>(8, 3.0F));
    CHECK(factors == std::vector<float>(16, 4.0F));
  };
  refused([&] { transform_output(ex, ia3{view(v)}, view(y, 2, 4), view(y, 2, 4)); },
          "graft::transform_output: extent 1 of y[2, 4] is 4 but extent 0 of l[8] is 8; they must be equal");
  refused([&] { merge(ex, ia3{view(v)}, view(w, 4, 8)); },
          "graft::merge: extent 0 of W[4, 8] is 4 but extent 0 of l[8] is 8; they must be equal");
  refused([&] { merge(ex, ia3_feedforward{view(v)}, view(w, 8, 4)); },
          "graft::merge: extent 1 of W[8, 4] is 4 but extent 0 of l[8] is 8; they must be equal");
  refused([&] { static_cast<void>(output_rows(ia3{view(v)}, -1, 2)); }, "graft::output_rows: rows -1 + 2 of [8]");
  refused([&] { merge(ex, bitfit{view(v)}, view(w, 4, 8), view(y)); },
          "graft::merge: extent 0 of W[4, 8] is 4 but extent 0 of the bias[8] is 8; they must be equal");
  refused([&] { update_factors(ex, road{view(v.data(), 3), view(v.data(), 3), 2, view(factors, 2, 8)}); },
          "graft::update_factors: theta[3] and the factors[2, 8] do not fit: theta has half, once or twice as many "
          "numbers as there "
          "are features, and the factors two rows of them");
  refused([&] { update_factors(ex, road{view(v), view(v), 3, view(factors, 2, 8)}); },
          "graft::update_factors: groups of 3 must be even and divide the 8 features of the factors[2, 8]");
  refused([&] { normalize(ex, graft::rms_norm{view(v)}, view(y, 2, 4), view(y, 2, 4)); },
          "graft::kernels::rms_norm: extent 0 of weight[8] is 8 but extent 1 of x[2, 4] is 4; they must be equal");
}
