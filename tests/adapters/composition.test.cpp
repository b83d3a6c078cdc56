#include <graft/adapters/composition.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/adapters/dora.hpp>
#include <graft/adapters/dora_training.hpp>
#include <graft/adapters/lora.hpp>
#include <graft/adapters/vera.hpp>

#include "adapters/finite_differences.hpp"
#include "support/executors.hpp"
#include "support/random.hpp"
#include "support/resources.hpp"

using graft::adapted_linear;
using graft::adapted_linear_backward;
using graft::as_const;
using graft::base_layer;
using graft::dora;
using graft::dora_gradients;
using graft::index_t;
using graft::lora;
using graft::lora_gradients;
using graft::none;
using graft::trained;
using graft::view;
using namespace tests;

namespace somebody {

/// x' = x * wheel, an input_transform that nobody published.
template <class V>
struct wheel {
  V spokes;
  struct gradients {};
};
template <class E, class V, class X, class Out>
void transform_input(E const& ex, wheel<V> const& w, X const& x, Out const& out) {
  graft::kernels::copy(ex, x, out);
  graft::kernels::scale_columns(ex, w.spokes, out);
}
template <class V>
struct wheel_gradients {
  V spokes;
};
/// dx += dx' * wheel, dspokes += sum of x * dx'.
template <class E, class V, class X, class D, class G, class DX>
void backward_input(E const& ex, wheel<V> const& w, X const& x, D const& turned, wheel_gradients<G> const& g,
                    DX const& dx) {
  graft::kernels::dot_columns(ex, x, turned, g.spokes);
  graft::kernels::add_scaled_columns(ex, w.spokes, turned, dx);
}
/// W' = W diag(wheel)
template <class E, class V, class W>
void merge(E const& ex, wheel<V> const& w, W const& weight) {
  graft::kernels::scale_columns(ex, w.spokes, weight);
}
static_assert(graft::input_transform<wheel<graft::detail::archetype_vector>> &&
              !graft::output_transform<wheel<graft::detail::archetype_vector>> &&
              !graft::additive_adapter<wheel<graft::detail::archetype_vector>>);

}  // namespace somebody

namespace {

constexpr index_t T = 4, n = 13, m = 19;

template <class S>
struct layer {
  std::vector<S> W = random_numbers<S>(m * n, 1);
  std::vector<S> bias = random_numbers<S>(m, 2);
  [[nodiscard]] auto weight() { return view(W, m, n); }
  template <class X, class Y>
  void forward(X const& x, Y const& y) const {
    for (index_t t = 0; t < x.extent(0); ++t)
      for (index_t o = 0; o < m; ++o) {
        double sum = 0;
        for (index_t k = 0; k < n; ++k)
          sum += static_cast<double>(x(t, k)) * static_cast<double>(W[static_cast<std::size_t>(o * n + k)]);
        y(t, o) = static_cast<S>(sum);
      }
  }
  template <class DY, class DX>
  void backward(DY const& dy, DX const& dx) const {
    for (index_t t = 0; t < dy.extent(0); ++t)
      for (index_t k = 0; k < n; ++k) {
        double sum = static_cast<double>(dx(t, k));
        for (index_t o = 0; o < m; ++o)
          sum += static_cast<double>(dy(t, o)) * static_cast<double>(W[static_cast<std::size_t>(o * n + k)]);
        dx(t, k) = static_cast<S>(sum);
      }
  }
  [[nodiscard]] auto calls() {
    return base_layer{[this](auto const& x, auto const& y) { this->forward(x, y); },
                      [this](auto const& dy, auto const& dx) { this->backward(dy, dx); }, view(bias), none};
  }
};

/// The tensors of one adapter and of its gradients.
template <class S>
struct parts {
  index_t r;
  std::vector<S> A, B, g, norms, dA, dB, dg, kept;
  parts(index_t rank, std::uint64_t seed)
      : r(rank),
        A(random_numbers<S>(rank * n, seed)),
        B(random_numbers<S>(m * rank, seed + 1)),
        g(random_numbers<S>(m, seed + 2)),
        norms(m),
        dA(A.size()),
        dB(B.size()),
        dg(m),
        kept(T * m) {}
  [[nodiscard]] auto low(double scale) { return lora{view(A, r, n), view(B, m, r), scale, {}}; }
  [[nodiscard]] auto scaled(double scale) { return dora{low(scale), view(g), view(norms)}; }
  [[nodiscard]] auto train_low(double scale) {
    return trained{low(scale), lora_gradients{view(dA, r, n), view(dB, m, r)}};
  }
  [[nodiscard]] auto train_scaled(double scale) {
    return trained{scaled(scale), dora_gradients{view(dA, r, n), view(dB, m, r), view(dg)}, view(kept, T, m)};
  }
};

/// x W^T + bias of this weight.
template <class S>
std::vector<S> output(std::vector<S> const& W, std::vector<S> const& bias, std::vector<S> const& x) {
  layer<S> l;
  l.W = W;
  std::vector<S> y(static_cast<std::size_t>(T * m));
  l.forward(view(x, T, n), view(y, T, m));
  for (index_t t = 0; t < T; ++t)
    for (index_t o = 0; o < m; ++o) y[static_cast<std::size_t>(t * m + o)] += bias[static_cast<std::size_t>(o)];
  return y;
}
double distance(std::vector<double> const& a, std::vector<double> const& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

}  // namespace

TEST_CASE("adapted_linear is the layer that merging in the same order gives", "[adapters][composition]") {
  layer<double> l;
  parts<double> a(3, 10), b(2, 20), c(4, 30);
  auto const x = random_numbers<double>(T * n, 3);
  auto const spokes = random_numbers<double>(n, 4);
  update_norms(graft::reference{}, a.scaled(0.7), l.weight());
  update_norms(graft::reference{}, c.scaled(1.3), l.weight());
  somebody::wheel<decltype(view(spokes))> const wheel{view(spokes)};
  auto const merged = [&](auto const& ex, auto const&... adapters) {
    auto w = l.W;
    (merge(ex, adapters, view(w, m, n)), ...);
    return output(w, l.bias, x);
  };
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<double> y(T * m, 99);
    auto const check = [&](auto const&... adapters) {
      adapted_linear(ex, l.calls(), adapters..., view(x, T, n), view(y, T, m));
      CHECK(distance(y, merged(ex, adapters...)) < 1e-12);
    };
    check();
    check(b.low(0.5));
    check(a.scaled(0.7));
    check(b.low(0.5), a.scaled(0.7));
    check(a.scaled(0.7), b.low(0.5));
    check(a.scaled(0.7), b.low(0.5), c.scaled(1.3));
    check(wheel);
    check(b.low(0.5), wheel);  // the wheel turns what the LoRA sees
    check(wheel, b.low(0.5));  // and here it does not
    check(wheel, a.scaled(0.7), wheel, c.scaled(1.3), b.low(0.5));
    // A base that is only a callable has no bias.
    std::vector<double> bare(T * m);
    adapted_linear(
        ex, [&](auto const& in, auto const& out) { l.forward(in, out); }, b.low(0.5), view(x, T, n), view(bare, T, m));
    auto w = l.W;
    merge(ex, b.low(0.5), view(w, m, n));
    CHECK(distance(bare, output(w, std::vector<double>(m), x)) < 1e-12);
  });
}

TEST_CASE("adapted_linear: gradients of every adapter, the input and the bias", "[adapters][composition]") {
  layer<double> l;
  parts<double> a(3, 10), b(2, 20), c(4, 30);
  auto x = random_numbers<double>(T * n, 3);
  auto const dy = random_numbers<double>(T * m, 5);
  auto spokes = random_numbers<double>(n, 4);
  std::vector<double> dspokes(n), dx(T * n), dbias(m), y(T * m), dz = dy;
  update_norms(graft::reference{}, a.scaled(0.7), l.weight());
  update_norms(graft::reference{}, c.scaled(1.3), l.weight());
  graft::serial const ex;
  somebody::wheel<decltype(view(spokes))> const wheel{view(spokes)};
  auto const calls = l.calls();
  base_layer const base{calls.forward, calls.backward, calls.bias, view(dbias)};
  auto const with_all = [&](auto const& f) {
    f(a.train_scaled(0.7), trained{wheel, somebody::wheel_gradients<decltype(view(dspokes))>{view(dspokes)}},
      b.train_low(0.5), c.train_scaled(1.3));
  };
  with_all([&](auto const&... t) {
    adapted_linear(ex, base, t..., view(x, T, n), view(y, T, m));
    adapted_linear_backward(ex, base, t..., view(x, T, n), view(dz, T, m), view(dx, T, n));
  });
  auto const loss = [&] {
    std::vector<double> out(T * m);
    adapted_linear(ex, base, a.scaled(0.7), wheel, b.low(0.5), c.scaled(1.3), view(x, T, n), view(out, T, m));
    return inner_product(out, dy);
  };
  CHECK(gradient_error(x, dx, loss) < 1e-6);
  CHECK(gradient_error(l.bias, dbias, loss) < 1e-6);
  CHECK(gradient_error(spokes, dspokes, loss) < 1e-6);
  CHECK(gradient_error(a.A, a.dA, loss) < 1e-6);
  CHECK(gradient_error(a.B, a.dB, loss) < 1e-6);
  CHECK(gradient_error(a.g, a.dg, loss) < 1e-6);
  CHECK(gradient_error(b.A, b.dA, loss) < 1e-6);
  CHECK(gradient_error(b.B, b.dB, loss) < 1e-6);
  CHECK(gradient_error(c.A, c.dA, loss) < 1e-6);
  CHECK(gradient_error(c.B, c.dB, loss) < 1e-6);
  CHECK(gradient_error(c.g, c.dg, loss) < 1e-6);
}

TEST_CASE("adapted_linear: every executor has the bits of reference, and no dx is asked of the base",
          "[adapters][composition]") {
  layer<float> l;
  parts<float> a(3, 10), b(2, 20);
  auto const x = random_numbers<float>(T * n, 3);
  update_norms(graft::reference{}, a.scaled(0.7), l.weight());
  auto const run = [&](auto const& ex) {
    std::vector<float> y(T * m), dz = random_numbers<float>(T * m, 5);
    for (auto* const g : {&a.dA, &a.dB, &a.dg, &b.dA, &b.dB}) g->assign(g->size(), 0);
    auto const base =
        base_layer{[&](auto const& in, auto const& out) { l.forward(in, out); }, none, view(l.bias), none};
    adapted_linear(ex, base, b.train_low(0.5), a.train_scaled(0.7), view(x, T, n), view(y, T, m));
    adapted_linear_backward(ex, base, b.train_low(0.5), a.train_scaled(0.7), view(x, T, n), view(dz, T, m), none);
    for (auto const* const v : {&dz, &a.dA, &a.dB, &a.dg, &b.dA, &b.dB}) y.insert(y.end(), v->begin(), v->end());
    return y;
  };
  auto const expected = run(graft::reference{});
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    CHECK(run(ex) == expected);
  });
}

TEST_CASE("adapted_linear allocates nothing of its own", "[adapters][composition]") {
  layer<float> l;
  parts<float> a(3, 10), b(2, 20);
  auto const x = random_numbers<float>(T * n, 3);
  std::vector<float> y(T * m), factors(m);
  update_norms(graft::reference{}, a.scaled(0.7), l.weight());
  auto const fast = prepare(graft::reference{}, a.scaled(0.7), view(factors));
  watched_resource memory;
  graft::reference const ex{&memory};
  adapted_linear(ex, l.calls(), b.low(0.5), fast, view(x, T, n), view(y, T, m));
  auto const kernels = [&](auto const& d) {
    return graft::kernels::low_rank_add.scratch_bytes(ex, view(x, T, n), d.A, d.B, view(y, T, m));
  };
  CHECK(memory.bytes == kernels(b.low(0.5)) + kernels(fast.low_rank));
}
