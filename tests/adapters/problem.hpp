// What the tests of all adapters share: formulas in double, matrices for every argument of a verb in memory of every
// layout, comparisons of executors, and calls that are refused.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include "kernels/parity.hpp"
#include "support/resources.hpp"
#include "support/tolerance.hpp"

namespace tests {

// Not inlined, here and below: otherwise the sanitizers' builds take minutes.

/// A matrix of double with the operations that papers' formulas need. The magnitude of a bound is the same formula of
/// absolute values.
class grid {
 public:
  grid(graft::index_t rows, graft::index_t columns)
      : rows_(rows), columns_(columns), data_(static_cast<std::size_t>(rows * columns)) {}
  /// The values of a view; a vector is one row.
  template <class V>
  [[gnu::noinline]] explicit grid(V const& v) : grid(V::rank() == 1 ? 1 : v.extent(0), v.extent(V::rank() - 1)) {
    for (graft::index_t i = 0; i < rows_; ++i)
      for (graft::index_t j = 0; j < columns_; ++j) {
        if constexpr (V::rank() == 1) (*this)(i, j) = graft::load_as<double>(v(j));
        else (*this)(i, j) = graft::load_as<double>(v(i, j));
      }
  }
  [[nodiscard]] graft::index_t rows() const { return rows_; }
  [[nodiscard]] graft::index_t columns() const { return columns_; }
  double& operator()(graft::index_t i, graft::index_t j) { return data_[static_cast<std::size_t>(i * columns_ + j)]; }
  double operator()(graft::index_t i, graft::index_t j) const {
    return data_[static_cast<std::size_t>(i * columns_ + j)];
  }
  [[nodiscard]] double largest() const {
    double most = 0.0;
    for (double const e : data_) most = std::max(most, std::abs(e));
    return most;
  }
  [[nodiscard]] double sum_of_squares() const {
    double sum = 0.0;
    for (double const e : data_) sum += e * e;
    return sum;
  }

  [[gnu::noinline]] friend grid operator*(grid const& a, grid const& b) {
    grid c(a.rows_, b.columns_);
    for (graft::index_t i = 0; i < a.rows_; ++i)
      for (graft::index_t k = 0; k < a.columns_; ++k)
        for (graft::index_t j = 0; j < b.columns_; ++j) c(i, j) += a(i, k) * b(k, j);
    return c;
  }
  [[gnu::noinline]] friend grid operator*(double factor, grid a) {
    for (double& e : a.data_) e *= factor;
    return a;
  }
  /// One row is added to every row.
  [[gnu::noinline]] friend grid operator+(grid a, grid const& b) {
    for (graft::index_t i = 0; i < a.rows_; ++i)
      for (graft::index_t j = 0; j < a.columns_; ++j) a(i, j) += b(b.rows_ == 1 ? 0 : i, j);
    return a;
  }
  [[gnu::noinline]] friend grid flipped(grid const& a) {
    grid c(a.columns_, a.rows_);
    for (graft::index_t i = 0; i < a.rows_; ++i)
      for (graft::index_t j = 0; j < a.columns_; ++j) c(j, i) = a(i, j);
    return c;
  }
  [[gnu::noinline]] friend grid magnitude(grid a) {
    for (double& e : a.data_) e = std::abs(e);
    return a;
  }
  friend grid row_sums(grid const& a) {  // over tokens
    grid c(1, a.columns_);
    for (graft::index_t i = 0; i < a.rows_; ++i)
      for (graft::index_t j = 0; j < a.columns_; ++j) c(0, j) += a(i, j);
    return c;
  }

 private:
  graft::index_t rows_;
  graft::index_t columns_;
  std::vector<double> data_;
};

/// Empty, or how far the worst element lies beyond `bound(magnitude)` and one rounding to its type.
template <class V, class Bound>
[[nodiscard, gnu::noinline]] std::string beyond(V const& got, grid const& expected, grid const& magnitudes,
                                                Bound const& bound) {
  double worst = 0.0;
  std::string where;
  for (graft::index_t i = 0; i < expected.rows(); ++i)
    for (graft::index_t j = 0; j < expected.columns(); ++j) {
      double element = 0.0;
      if constexpr (V::rank() == 1) element = graft::load_as<double>(got(j));
      else element = graft::load_as<double>(got(i, j));
      double const error = std::abs(element - expected(i, j));
      double const most = with_rounding<typename V::value_type>(expected(i, j), bound(magnitudes(i, j)));
      if (error <= most) continue;
      if (error / most >= worst || !(error == error)) {
        worst = error / most;
        where = "[" + std::to_string(i) + ", " + std::to_string(j) + "] is " + std::to_string(element) +
                " instead of " + std::to_string(expected(i, j)) + ", " + std::to_string(worst) + " times its bound";
      }
    }
  return where;
}

template <class T>
using any_vector = graft::tensor_view<T, graft::dynamic_extents<1>, graft::host_space, graft::no_unit_dimension>;
/// The only row of a matrix.
template <class T>
[[nodiscard]] any_vector<T> as_vector(any_view<T> const& v) {
  return {v.data_handle(), graft::dynamic_extents<1>{v.extent(1)}, {v.stride(1)}};
}

template <class P>
using any_lora = graft::lora<any_view<P>, any_view<P>>;
template <class P>
using any_biased_lora = graft::lora<any_view<P>, any_view<P>, any_vector<P>>;

/// Every argument of every verb: x and dy of X, the parameters of P, what is written of Y.
template <class X, class P, class Y>
struct problem {
  using sums = graft::accumulate_t<X, P, Y>;
  shape s;
  double scale;
  matrix<X> x, dy;
  matrix<P> a, b, bias;
  matrix<Y> y, dx, ga, gb, gbias, w, base_bias;

  /// `turn` 0 is contiguous memory; others are layouts, each argument its own. Values depend on the seed only.
  [[gnu::noinline]] problem(shape const& of, double factor, std::uint64_t seed, int turn = 0)
      : s(of),
        scale(factor),
        x(of.T, of.n, how(turn, 1), seed + 1),
        dy(of.T, of.m, how(turn, 2), seed + 2),
        a(of.r, of.n, how(turn, 3), seed + 3),
        b(of.m, of.r, how(turn, 4), seed + 4),
        bias(1, of.m, how(turn, 5), seed + 5),
        y(of.T, of.m, how(turn, 6), seed + 6),
        dx(of.T, of.n, how(turn, 7), seed + 7),
        ga(of.r, of.n, how(turn, 8), seed + 8),
        gb(of.m, of.r, how(turn, 9), seed + 9),
        gbias(1, of.m, how(turn, 10), seed + 10),
        w(of.m, of.n, how(turn, 11), seed + 11),
        base_bias(1, of.m, how(turn, 12), seed + 12) {}

  [[nodiscard]] any_lora<P> lora() { return {a.view(), b.view(), scale, {}}; }
  [[nodiscard]] any_biased_lora<P> biased() { return {a.view(), b.view(), scale, as_vector(bias.view())}; }
  [[nodiscard]] auto gradients() { return graft::lora_gradients{ga.view(), gb.view(), as_vector(gbias.view())}; }
  [[nodiscard, gnu::noinline]] std::string text() const {
    return std::string("x, dy ") + type_name<X>() + ", A, B " + type_name<P>() + ", outputs " + type_name<Y>() + ", " +
           s.text();
  }

  /// s (x A^T) B^T, its magnitude, and s B A.
  [[nodiscard, gnu::noinline]] grid delta() {
    return scale * ((grid(x.view()) * flipped(grid(a.view()))) * flipped(grid(b.view())));
  }
  [[nodiscard, gnu::noinline]] grid delta_magnitude() {
    return std::abs(scale) *
           ((magnitude(grid(x.view())) * flipped(magnitude(grid(a.view())))) * flipped(magnitude(grid(b.view()))));
  }
  [[nodiscard, gnu::noinline]] grid weight() { return scale * (grid(b.view()) * grid(a.view())); }
  [[nodiscard, gnu::noinline]] grid weight_magnitude() {
    return std::abs(scale) * (magnitude(grid(b.view())) * magnitude(grid(a.view())));
  }

 private:
  static layout how(int turn, int argument) {
    return turn == 0 ? layout::contiguous : all_layouts[static_cast<std::size_t>(turn + argument * 3 + turn / 8) % 8];
  }
};

/// Empty, or the first matrix of two problems, written or not, that differs, or around which something was written.
template <class P>
[[nodiscard, gnu::noinline]] std::string differences_of(P& got, P& expected) {
  auto const one = [](char const* what, auto& g, auto& e) -> std::string {
    std::string const text = differences(g.view(), e.view());
    std::string const all = text.empty() ? g.outside() : text;
    return all.empty() ? all : what + (": " + all);
  };
  std::string text;
  auto const add = [&](char const* what, auto& g, auto& e) {
    if (text.empty()) text = one(what, g, e);
  };
  add("x", got.x, expected.x);
  add("dy", got.dy, expected.dy);
  add("A", got.a, expected.a);
  add("B", got.b, expected.b);
  add("bias", got.bias, expected.bias);
  add("y", got.y, expected.y);
  add("dx", got.dx, expected.dx);
  add("gradient of A", got.ga, expected.ga);
  add("gradient of B", got.gb, expected.gb);
  add("gradient of bias", got.gbias, expected.gbias);
  add("W", got.w, expected.w);
  add("base_bias", got.base_bias, expected.base_bias);
  return text;
}

/// `run(executor, problem)` gives the bits that it gives with `reference` on contiguous memory, for every executor, in
/// memory of every layout. `expected` is what reference gave.
template <class X, class P, class Y, class Run>
void same_everywhere(tally& t, problem<X, P, Y>& expected, std::uint64_t seed, Run const& run) {
  int turn = static_cast<int>(seed % 8);
  for_each_executor([&](std::string const& name, auto const& ex) {
    problem<X, P, Y> p(expected.s, expected.scale, seed, ++turn);
    run(ex, p);
    t.add(differences_of(p, expected), [&] { return name + ", turn " + std::to_string(turn) + ", " + p.text(); });
  });
}

/// f.template operator()<X, P, Y>() for mixes in which every type is read and written, double beside others too. Few: each
/// is compiled for every executor, and the kernels' tests have all mixes.
template <class F>
void for_each_mix(F const& f) {
  f.template operator()<float, float, float>();
  f.template operator()<graft::bfloat16, graft::float16, graft::bfloat16>();
  f.template operator()<float, double, graft::float16>();
}

/// No tokens, no features, rank 1, ranks above both features, and one to either side of blocks of 16 and 64.
[[nodiscard]] inline std::vector<shape> odd_shapes() {
  return {{0, 5, 2, 3},   {1, 1, 1, 1},     {1, 0, 1, 2},  {2, 3, 5, 1},   {3, 17, 1, 65}, {5, 64, 16, 63},
          {7, 33, 40, 9}, {2, 513, 3, 129}, {9, 15, 2, 0}, {4, 16, 4, 64}, {33, 31, 8, 7}};
}

/// Arguments of every verb in plain vectors, and whether a refused call left them alone.
struct arguments {
  static constexpr graft::index_t T = 3, n = 6, r = 2, m = 4;
  std::vector<float> x = random_numbers<float>(T * n, 1);
  std::vector<float> dy = random_numbers<float>(T * m, 2);
  std::vector<float> a = random_numbers<float>(r * n, 3);
  std::vector<float> b = random_numbers<float>(m * r, 4);
  std::vector<float> bias = random_numbers<float>(m, 5);
  std::vector<float> y = random_numbers<float>(T * m, 6);
  std::vector<float> v = random_numbers<float>(T * r, 7);
  std::vector<float> dx = random_numbers<float>(T * n, 8);
  std::vector<float> ga = random_numbers<float>(r * n, 9);
  std::vector<float> gb = random_numbers<float>(m * r, 10);
  std::vector<float> gbias = random_numbers<float>(m, 11);
  std::vector<float> w = random_numbers<float>(m * n, 12);
  std::vector<float> base_bias = random_numbers<float>(m, 13);
  std::vector<float> more = random_numbers<float>(T * n, 14);

  [[gnu::noinline]] arguments() {}  // NOLINT: not inlined into every case
  arguments(arguments const&) = default;
  bool operator==(arguments const&) const = default;

  [[nodiscard]] auto X() { return graft::view(x, T, n); }
  [[nodiscard]] auto DY() { return graft::view(dy, T, m); }
  [[nodiscard]] auto A() { return graft::view(a, r, n); }
  [[nodiscard]] auto B() { return graft::view(b, m, r); }
  [[nodiscard]] auto Y() { return graft::view(y, T, m); }
  [[nodiscard]] auto V() { return graft::view(v, T, r); }
  [[nodiscard]] auto DX() { return graft::view(dx, T, n); }
  [[nodiscard]] auto GA() { return graft::view(ga, r, n); }
  [[nodiscard]] auto GB() { return graft::view(gb, m, r); }
  [[nodiscard]] auto W() { return graft::view(w, m, n); }
  [[nodiscard]] auto More() { return graft::view(more, T, n); }
};

/// `call` throws Error with exactly this sentence, having taken no scratch and written nothing.
template <class Error>
void refuses(std::string const& sentence, void (*call)(arguments&, graft::serial const&)) {
  empty_resource nothing;
  arguments args;
  arguments const before = args;
  CHECK_THROWS_MATCHES(call(args, graft::serial{&nothing}), Error, Catch::Matchers::Message(sentence));
  CHECK(args == before);
}

/// Bytes that `call` takes from `watched`, which get them all back untouched beyond their ends.
template <class Call>
[[nodiscard]] std::size_t taken_by(watched_resource& watched, Call const& call) {
  std::size_t const before = watched.bytes;
  call();
  CHECK(watched.allocations == watched.deallocations);
  CHECK_FALSE(watched.overrun);
  return watched.bytes - before;
}

}  // namespace tests
