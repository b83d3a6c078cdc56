#include <graft/kernels/gemm.hpp>

#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/eigen.hpp>

#include "kernels/parity.hpp"
#include "support/tolerance.hpp"

using graft::as_const;
using graft::bfloat16;
using graft::index_t;
using graft::transposed;
using graft::view;
namespace kernels = graft::kernels;
using namespace tests;

namespace {

/// Somebody's product: three loops, of matrices of one scalar. It notes what it was asked.
struct loops {
  static constexpr bool batch_invariant = true;
  std::vector<std::string>* calls = nullptr;

  template <class A, class B, class C>
    requires(std::same_as<typename A::value_type, typename C::value_type> &&
             std::same_as<typename B::value_type, typename C::value_type> && !graft::detail::is_narrow<C>)
  void operator()(A const& a, B const& b, C const& c, double alpha, double beta) const {
    calls->push_back(std::to_string(c.extent(0)) + " x " + std::to_string(a.extent(1)) + " x " +
                     std::to_string(c.extent(1)) + (beta == 0.0 ? " =" : " +="));
    for (index_t i = 0; i < c.extent(0); ++i)
      for (index_t j = 0; j < c.extent(1); ++j) {
        double sum = 0;
        for (index_t k = 0; k < a.extent(1); ++k) sum += static_cast<double>(a(i, k)) * static_cast<double>(b(k, j));
        double const before = beta == 0.0 ? 0.0 : static_cast<double>(c(i, j));
        c(i, j) = static_cast<typename C::value_type>(alpha * sum + before);
      }
  }
};
using with_loops = graft::with_gemm<graft::serial, loops>;
using with_eigen = graft::with_gemm<graft::serial, graft::eigen_gemm>;
struct takes_nothing {
  [[maybe_unused]] static constexpr bool batch_invariant = true;
};
static_assert(graft::gemm_provider<loops> && graft::gemm_provider<graft::eigen_gemm>);
static_assert(!graft::gemm_provider<takes_nothing> && !graft::gemm_provider<int>);
static_assert(graft::host_executor<with_loops> && graft::host_executor<with_eigen>);

// Which body runs is a fact of types.
template <class T>
using rows_of = graft::tensor_view<T, graft::dynamic_extents<2>>;
template <class E, class T, class F = graft::low_rank_factors<>>
inline constexpr kernels::body low_rank =
    kernels::low_rank_add_fn::chosen<E, rows_of<T const>, rows_of<T const>, rows_of<T const>, rows_of<T>, F>;
using vector = graft::tensor_view<float, graft::dynamic_extents<1>>;
static_assert(low_rank<with_eigen, float> == kernels::body::gemm &&
              low_rank<with_eigen, double> == kernels::body::gemm);
static_assert(low_rank<with_eigen, bfloat16> == kernels::body::host &&
              low_rank<graft::serial, float> == kernels::body::host);
static_assert(low_rank<with_eigen, float, graft::low_rank_factors<vector>> == kernels::body::gemm);
static_assert(low_rank<with_eigen, float, graft::low_rank_factors<vector, vector>> == kernels::body::host);
static_assert(low_rank<with_eigen, float, graft::low_rank_factors<graft::none_t, graft::none_t, vector>> ==
              kernels::body::host);
static_assert(kernels::low_rank_add_fn::chosen<with_eigen, rows_of<float>, rows_of<float>,
                                               graft::panels_view<float const>, rows_of<float>> == kernels::body::host);
static_assert(kernels::outer_add_fn::chosen<with_eigen, rows_of<float>, rows_of<float>, rows_of<float>> ==
              kernels::body::gemm);
static_assert(kernels::shrink_fn::chosen<with_eigen, rows_of<bfloat16>, rows_of<float>, rows_of<float>> ==
              kernels::body::host);

/// |got - reference| within the bound for two orders of one sum, element by element.
template <class T>
void check_low_rank(matrix<T> const& got, matrix<T> const& expected, matrix<T> const& magnitude, index_t n, index_t r) {
  for (index_t t = 0; t < got.view().extent(0); ++t)
    for (index_t o = 0; o < got.view().extent(1); ++o) {
      // An unknown order: n + r roundings, beside those of ours.
      double const bound = low_rank_bound<T>(n, r, magnitude.view()(t, o)) +
                           (static_cast<double>(n + r) + 2.0) * unit_roundoff<T>() * magnitude.view()(t, o);
      REQUIRE(std::abs(got.view()(t, o) - expected.view()(t, o)) <= bound);
    }
}

template <class T>
void parity(index_t rows, index_t n, index_t r, index_t m, layout how) {
  INFO("T " << rows << ", n " << n << ", r " << r << ", m " << m << ", " << name(how));
  matrix<T> x(rows, n, how, 1);
  matrix<T> a(r, n, how, 2);
  matrix<T> b(m, r, how, 3);
  matrix<T> y(rows, m, how, 4);
  matrix<T> expected = copy_of<T>(as_const(y.view()));
  matrix<T> magnitude(rows, m);
  for (index_t t = 0; t < rows; ++t)
    for (index_t o = 0; o < m; ++o) {
      double sum = std::abs(y.view()(t, o));
      for (index_t j = 0; j < r; ++j)
        for (index_t k = 0; k < n; ++k)
          sum += std::abs(0.5 * static_cast<double>(x.view()(t, k)) * static_cast<double>(a.view()(j, k)) *
                          static_cast<double>(b.view()(o, j)));
      magnitude.view()(t, o) = static_cast<T>(sum);
    }
  kernels::low_rank_add(graft::reference{}, as_const(x.view()), as_const(a.view()), as_const(b.view()), expected.view(),
                        0.5);
  graft::with_gemm const ex{graft::serial{}, graft::eigen_gemm{}};
  kernels::low_rank_add(ex, x.view(), a.view(), b.view(), y.view(), 0.5);
  check_low_rank(y, expected, magnitude, n, r);
  CHECK(y.outside().empty());
}

}  // namespace

TEST_CASE("with_gemm gives every product of LoRA to the caller's product", "[kernels][gemm]") {
  std::vector<std::string> calls;
  graft::with_gemm const ex{graft::serial{}, loops{&calls}};
  index_t const tokens = 5;
  index_t const n = 7;
  index_t const m = 6;
  index_t const r = 2;
  matrix<float> x(tokens, n, layout::contiguous, 1);
  matrix<float> a(r, n, layout::contiguous, 2);
  matrix<float> b(m, r, layout::contiguous, 3);
  matrix<float> dy(tokens, m, layout::contiguous, 4);
  graft::lora const q{.A = a.rows_view(), .B = b.rows_view(), .scale = 0.5};

  matrix<float> y(tokens, m, layout::contiguous, 5);
  matrix<float> expected = copy_of<float>(as_const(y.view()));
  graft::add_delta(ex, q, x.rows_view(), y.rows_view());
  CHECK(calls == std::vector<std::string>{"5 x 7 x 2 =", "5 x 2 x 6 +="});
  graft::add_delta(graft::reference{}, q, x.rows_view(), expected.rows_view());
  for (index_t t = 0; t < tokens; ++t)
    for (index_t o = 0; o < m; ++o)  // |x|, |A|, |B| <= 1, |y| <= 1
      CHECK(std::abs(y.view()(t, o) - expected.view()(t, o)) <= 2 * low_rank_bound<float>(n, r, 1.0 + 0.5 * n * r));

  calls.clear();
  matrix<float> da(r, n);
  matrix<float> db(m, r);
  matrix<float> dx(tokens, n);
  for (auto* const g : {&da, &db, &dx}) g->fill(1, 0.0);
  graft::backward(ex, q, x.rows_view(), dy.rows_view(), graft::lora_gradients{.A = da.rows_view(), .B = db.rows_view()},
                  dx.rows_view());
  CHECK(calls.size() == 5);
  calls.clear();
  matrix<float> w(m, n, layout::contiguous, 6);
  graft::merge(ex, q, w.rows_view());
  CHECK(calls == std::vector<std::string>{"6 x 2 x 7 +="});
}

TEST_CASE("with_gemm never asks for an empty product", "[kernels][gemm]") {
  std::vector<std::string> calls;
  graft::with_gemm const ex{graft::serial{}, loops{&calls}};
  std::vector<float> v{3, 4};
  std::vector<float> const none;
  std::vector<float> empty;
  kernels::shrink(ex, view(none, 2, 0), view(none, 1, 0), view(v, 2, 1));
  CHECK(v == std::vector<float>{0, 0});
  kernels::shrink(ex, view(none, 0, 2), view(v, 1, 2), view(empty, 0, 1));
  std::vector<float> y{1, 2};
  kernels::expand_add(ex, view(none, 2, 0), view(none, 1, 0), view(y, 2, 1));
  kernels::low_rank_add(ex, view(none, 1, 0), view(none, 0, 0), view(none, 2, 0), view(y, 1, 2));
  CHECK(y == std::vector<float>{1, 2});
  CHECK(calls.empty());
}

TEST_CASE("with_gemm scales ranks between the products", "[kernels][gemm]") {
  std::vector<std::string> calls;
  graft::with_gemm const ex{graft::serial{}, loops{&calls}};
  std::vector<float> const x{1, 2};
  std::vector<float> const a{1, 0, 0, 1};
  std::vector<float> const b{1, 1};
  std::vector<float> const rank{10, 100};
  std::vector<float> y{0.5F};
  kernels::low_rank_add(ex, view(x, 1, 2), view(a, 2, 2), view(b, 1, 2), view(y, 1, 1), 2.0,
                        graft::low_rank_factors{.rank = view(rank, 2)});
  CHECK(y == std::vector<float>{420.5F});
  CHECK(calls.size() == 2);
  CHECK(kernels::low_rank_add.scratch_bytes(ex, view(x, 1, 2), view(a, 2, 2), view(b, 1, 2), view(y, 1, 1)) == 8);
}

TEST_CASE("eigen_gemm: products of every layout and odd shapes", "[kernels][gemm]") {
  for (auto const how : all_layouts) {
    parity<float>(1, 1, 1, 1, how);
    parity<float>(3, 17, 2, 63, how);
    parity<float>(33, 70, 16, 65, how);
    parity<double>(9, 31, 5, 18, how);
  }
}

TEST_CASE("eigen_gemm reads known unit strides as they are", "[kernels][gemm]") {
  std::vector<float> const a{1, 2, 3, 4};
  std::vector<float> const b{1, 10, 100, 1000};
  std::vector<float> c{1, 1, 1, 1};
  graft::eigen_gemm const gemm;
  gemm(view(a, 2, 2), view(b, 2, 2), view(c, 2, 2), 1.0, 1.0);
  CHECK(c == std::vector<float>{202, 2011, 404, 4031});
  gemm(view(a, 2, 2), transposed(view(b, 2, 2)), transposed(view(c, 2, 2)), 2.0, 0.0);
  CHECK(c == std::vector<float>{42, 86, 4200, 8600});
  gemm(view(a, 2, 2), view(b, 2, 2), view(c, 2, 2), 0.0, 0.5);
  CHECK(c == std::vector<float>{21, 43, 2100, 4300});
}
