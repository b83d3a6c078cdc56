#include <graft/kernels/cayley.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include "kernels/parity.hpp"
#include "support/rotations.hpp"
#include "support/scratch.hpp"

using graft::bfloat16;
using graft::float16;
using graft::index_t;
using graft::view;
using namespace tests;

namespace {

/// Skew parameters, their rotations.
template <class S>
std::vector<S> rotations_of(std::vector<S> const& packed, index_t blocks, index_t b) {
  std::vector<S> r(static_cast<std::size_t>(blocks * b * b));
  graft::kernels::cayley(graft::serial{}, view(packed, blocks, b * (b - 1) / 2), blocks_view(r.data(), blocks, b));
  return r;
}

}  // namespace

TEST_CASE("cayley, checked by hand: two features turn by twice the arc tangent", "[kernels][cayley]") {
  // (I - Q)(I + Q)^-1 with Q = [[0, 1/2], [-1/2, 0]]: [[3, -4], [4, 3]] / 5.
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<double> const v{0.5}, A{7, 2, 1, 9};  // (A - A^T) / 2 = Q
    std::vector<double> r(4), again(4), series(4);
    graft::kernels::cayley(ex, view(v, 1, 1), blocks_view(r.data(), 1, 2));
    CHECK(std::abs(r[0] - 0.6) < 0x1p-50);
    CHECK(std::abs(r[1] + 0.8) < 0x1p-50);
    CHECK(std::abs(r[2] - 0.8) < 0x1p-50);
    CHECK(std::abs(r[3] - 0.6) < 0x1p-50);
    graft::kernels::cayley(ex, blocks_view(A.data(), 1, 2), blocks_view(again.data(), 1, 2));
    CHECK(again == r);
    // Q^2 = -1/4 I: I; I + 2 Q; I + 2 Q + 2 Q^2 + Q^3 twice; I + 2 Q + 2 Q^2 + 2 Q^3 + Q^4. Exact in double.
    std::vector<std::vector<double>> const expected{{1, 0, 0, 1},
                                                    {1, 1, -1, 1},
                                                    {0.5, 0.875, -0.875, 0.5},
                                                    {0.5, 0.875, -0.875, 0.5},
                                                    {0.5625, 0.75, -0.75, 0.5625}};
    for (int terms = 1; terms <= 5; ++terms) {
      graft::kernels::cayley_neumann(ex, view(v, 1, 1), terms, blocks_view(series.data(), 1, 2));
      CHECK(series == expected[static_cast<std::size_t>(terms - 1)]);
    }
  });
}

TEST_CASE("cayley: orthogonal within its bound, determinant 1, the series goes to the transpose", "[kernels][cayley]") {
  for (index_t const b : {1, 2, 3, 8, 32, 33})
    for (float const size : {0.01F, 1.0F, 30.0F}) {
      index_t const D = 5, p = b * (b - 1) / 2;
      std::vector<float> v = random_numbers<float>(D * p, static_cast<std::uint64_t>(b));
      for (float& e : v) e *= size / std::sqrt(static_cast<float>(b));
      std::vector<float> const r = rotations_of(v, D, b);
      for (index_t k = 0; k < D; ++k) {
        double square = 0;
        for (index_t i = 0; i < p; ++i)
          square += 2 * std::pow(static_cast<double>(v[static_cast<std::size_t>(k * p + i)]), 2);
        double const norm = 1 + std::sqrt(square);
        double const bound = 8 * static_cast<double>(b) * 0x1p-24 * norm * norm;
        std::vector<double> m(static_cast<std::size_t>(b * b));
        for (std::size_t i = 0; i < m.size(); ++i)
          m[i] = static_cast<double>(r[static_cast<std::size_t>(k * b * b) + i]);
        for (index_t i = 0; i < b; ++i)
          for (index_t j = 0; j < b; ++j) {
            double sum = i == j ? -1 : 0;
            for (index_t l = 0; l < b; ++l)
              sum += m[static_cast<std::size_t>(l * b + i)] * m[static_cast<std::size_t>(l * b + j)];
            CHECK(std::abs(sum) <= bound);
          }
        double determinant = 1;
        for (index_t i = 0; i < b; ++i) {  // elimination with pivots
          index_t best = i;
          for (index_t l = i; l < b; ++l)
            if (std::abs(m[static_cast<std::size_t>(l * b + i)]) > std::abs(m[static_cast<std::size_t>(best * b + i)]))
              best = l;
          if (best != i) determinant = -determinant;
          for (index_t j = 0; j < b; ++j)
            std::swap(m[static_cast<std::size_t>(i * b + j)], m[static_cast<std::size_t>(best * b + j)]);
          determinant *= m[static_cast<std::size_t>(i * b + i)];
          for (index_t l = i + 1; l < b; ++l) {
            double const factor = m[static_cast<std::size_t>(l * b + i)] / m[static_cast<std::size_t>(i * b + i)];
            for (index_t j = i; j < b; ++j)
              m[static_cast<std::size_t>(l * b + j)] -= factor * m[static_cast<std::size_t>(i * b + j)];
          }
        }
        CHECK(std::abs(determinant - 1) <= static_cast<double>(b) * bound);
      }
      if (size > 0.1F) continue;
      std::vector<float> series(r.size());
      graft::kernels::cayley_neumann(graft::serial{}, view(v, D, p), 12, blocks_view(series.data(), D, b));
      for (index_t k = 0; k < D; ++k)
        for (index_t i = 0; i < b; ++i)
          for (index_t j = 0; j < b; ++j)
            CHECK(std::abs(series[static_cast<std::size_t>((k * b + i) * b + j)] -
                           r[static_cast<std::size_t>((k * b + j) * b + i)]) <= 32 * static_cast<float>(b) * 0x1p-24F);
    }
}

TEST_CASE("cayley and its series: every executor, instruction set and scalar has the bits of reference",
          "[kernels][cayley][parity]") {
  auto const compare = []<class P, class R>(P, R) {
    for (index_t const b : {0, 1, 2, 3, 8, 17, 32})
      for (index_t const D : {0, 1, 5, 16, 33}) {
        index_t const p = b * (b - 1) / 2;
        std::vector<P> const packed = random_numbers<P>(2 * D * p, 1), square = random_numbers<P>(D * b * b, 2);
        for (int const terms : {0, 1, 2, 5}) {
          // Packed numbers apart, blocks of R transposed in memory.
          auto const strided = view(packed.data(), graft::dynamic_extents<2>(D, p), {2 * p, 2});
          std::vector<R> expected(static_cast<std::size_t>(2 * D * b * b)), got(expected.size());
          auto const run = [&](auto const& ex, std::vector<R>& out, auto const& call) {
            auto const first = view(out.data(), graft::dynamic_extents<3>(D, b, b), {b * b, 1, b});
            auto const second = view(out.data() + D * b * b, graft::dynamic_extents<3>(D, b, b), {b * b, b, 1});
            call(ex, strided, first);
            call(ex, blocks_view(square.data(), D, b), second);
          };
          run(graft::reference{}, expected, [&](auto const& ex, auto const& v, auto const& r) {
            if (terms == 0) graft::kernels::cayley.generic(ex, v, r);
            else graft::kernels::cayley_neumann.generic(ex, v, terms, r);
          });
          auto const call = [&](auto const& ex, auto const& v, auto const& r) {
            if (terms == 0) graft::kernels::cayley(ex, v, r);
            else graft::kernels::cayley_neumann(ex, v, terms, r);
          };
          auto const same = [&] {
            for (std::size_t i = 0; i < got.size(); ++i)
              if (std::memcmp(&got[i], &expected[i], sizeof(R)) != 0) return false;
            return true;
          };
          for_each_executor([&](std::string const& name, auto const& ex) {
            INFO(name << ", b = " << b << ", D = " << D << ", terms = " << terms);
            run(ex, got, call);
            CHECK(same());
          });
          for_each_isa([&](std::string const& level) {
            INFO(level << ", b = " << b << ", D = " << D << ", terms = " << terms);
            run(graft::serial{}, got, call);
            CHECK(same());
          });
        }
      }
  };
  compare(float{}, float{});
  compare(bfloat16{}, float16{});
}

TEST_CASE("cayley: what does not fit is refused before anything is written", "[kernels][cayley]") {
  std::vector<float> const x(24, 1.0F);
  std::vector<float> r(200, 3.0F);
  graft::serial const ex;
  auto const refused = [&](auto const& call, std::string const& sentence) {
    CHECK_THROWS_MATCHES(call(), graft::error, Catch::Matchers::Message(sentence));
    CHECK(r == std::vector<float>(200, 3.0F));
  };
  refused([&] { graft::kernels::cayley(ex, view(x, 3, 8), blocks_view(r.data(), 3, 4)); },
          "graft::kernels::cayley: parameters[3, 8] has 8 numbers a block but R[3, 4, 4] has blocks of 4 x 4, which "
          "take 6");
  refused([&] { graft::kernels::cayley_neumann(ex, view(x, 4, 6), 0, blocks_view(r.data(), 4, 4)); },
          "graft::kernels::cayley_neumann: the number of terms is 0 but must be 1 to 64");
}

TEST_CASE("cayley and its series take the scratch that they announce", "[kernels][cayley]") {
  auto const check = []<class S>(S, index_t D, index_t b) {
    std::vector<S> const v = random_numbers<S>(D * b * (b - 1) / 2, 1);
    std::vector<S> r(static_cast<std::size_t>(D * b * b));
    takes_its_scratch(graft::kernels::cayley, view(v, D, b * (b - 1) / 2), blocks_view(r.data(), D, b));
    takes_its_scratch(graft::kernels::cayley_neumann, view(v, D, b * (b - 1) / 2), 5, blocks_view(r.data(), D, b));
  };
  check(float{}, 5, 3);
  check(float{}, 70, 24);  // several groups of sixteen, several workers
  check(double{}, 5, 3);
  index_t const b = 513;  // more than host bodies take
  std::vector<float> const v = random_numbers<float>(b * (b - 1) / 2, 1);
  std::vector<float> r(static_cast<std::size_t>(b * b));
  takes_its_scratch(graft::kernels::cayley_neumann, view(v, 1, b * (b - 1) / 2), 1, blocks_view(r.data(), 1, b));
  CHECK(graft::kernels::cayley.scratch_bytes(graft::serial{}, view(v.data(), 0, 3), blocks_view(r.data(), 0, 3)) == 0);
}
