#include <graft/kernels/row_norms.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "kernels/parity.hpp"
#include "support/resources.hpp"
#include "support/tolerance.hpp"

using graft::as_const;
using graft::bfloat16;
using graft::float16;
using graft::index_t;
using graft::none;
using graft::view;
using graft::kernels::row_norms;
using namespace tests;

namespace {

/// What is in the memory of a case: the update cancels W, or is large, or W is, and so on.
enum class content { random, cancels, exactly, small_update, no_weight, huge, tiny, zero };

template <class W, class P>
struct problem {
  shape s;  // no T
  matrix<W> w;
  matrix<P> b, a;
  problem(shape const& of, content what, std::uint64_t seed, layout how = layout::contiguous)
      : s(of), w(of.m, of.n, how, seed + 1), b(of.m, of.r, how, seed + 2), a(of.r, of.n, how, seed + 3) {
    auto const v = w.view();
    for (index_t o = 0; o < s.m; ++o)
      for (index_t k = 0; k < s.n; ++k) {
        double const before = graft::load_as<double>(v(o, k));
        double after = before;
        switch (what) {
          case content::random: break;
          case content::cancels: after = -update(o, k) + 1e-3 * before; break;
          case content::exactly: after = -update(o, k); break;
          case content::small_update: after = 100 * before; break;
          case content::no_weight: after = 0; break;
          case content::huge: after = 1e30 * before; break;
          case content::tiny: after = 1e-30 * before; break;
          case content::zero: after = 0; break;
        }
        v(o, k) = graft::store_as<W>(after);
      }
    if (what == content::tiny || what == content::zero) {
      auto const small = a.view();
      for (index_t j = 0; j < s.r; ++j)
        for (index_t k = 0; k < s.n; ++k)
          small(j, k) = graft::store_as<P>(what == content::zero ? 0.0 : 1e-30 * graft::load_as<double>(small(j, k)));
    }
  }
  [[nodiscard]] double update(index_t o, index_t k) {
    double sum = 0;
    for (index_t j = 0; j < s.r; ++j)
      sum +=
          static_cast<double>(0.75F) * graft::load_as<double>(b.view()(o, j)) * graft::load_as<double>(a.view()(j, k));
    return sum;
  }
};

}  // namespace

TEST_CASE("row_norms, checked by hand", "[kernels][row_norms]") {
  // W + 2 B A = [[3, 4], [0, 0], [0, 2]]
  std::vector<float> const W{1, 4, -2, 0, 0, 2}, A{1, 0}, B{1, 1, 0};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> norms(3, NAN), base(3, NAN), again(3, NAN);
    row_norms(ex, view(W, 3, 2), view(B, 3, 1), view(A, 1, 2), view(norms), 2.0);
    CHECK(norms == std::vector<float>{5, 0, 2});
    row_norms(ex, view(std::vector<float>{3, 4, 0, 0, 0, -2}.data(), 3, 2), view(base));
    CHECK(base == std::vector<float>{5, 0, 2});
    row_norms(ex, view(W, 3, 2), view(base));
    row_norms(ex, view(W, 3, 2), view(B, 3, 1), view(A, 1, 2), view(again), 2.0, view(base));
    CHECK(again[1] == 0);
    CHECK(std::abs(again[0] - 5) < 16 * 5 * 0x1p-23F);
    CHECK(again[2] == 2);
    // No columns, no rows, no ranks.
    row_norms(ex, view(W.data(), 3, 0), view(B, 3, 1), view(A.data(), 1, 0), view(norms));
    CHECK(norms == std::vector<float>{0, 0, 0});
    row_norms(ex, view(W.data(), 0, 2), view(B.data(), 0, 1), view(A, 1, 2), view(norms.data(), 0));
    row_norms(ex, view(W, 3, 2), view(B.data(), 3, 0), view(A.data(), 0, 2), view(norms));
    CHECK(norms[2] == 2);
  });
}

TEST_CASE("row_norms are within their bound, whatever cancels, overflows or vanishes", "[kernels][row_norms]") {
  double worst = 0;
  for (shape const& s : {shape{0, 5, 3, 7}, shape{0, 513, 16, 13}, shape{0, 1100, 1, 5}, shape{0, 40, 70, 9},
                         shape{0, 1, 1, 50}, shape{0, 4096, 16, 3}})
    for (content const what : {content::random, content::cancels, content::exactly, content::small_update,
                               content::no_weight, content::huge, content::tiny, content::zero}) {
      INFO(s.text() << ", content " << static_cast<int>(what));
      problem<float, float> p(s, what, 1);
      std::vector<float> norms(static_cast<std::size_t>(s.m));
      row_norms(graft::serial{}, p.w.view(), p.b.view(), p.a.view(), view(norms), 0.75);
      for (index_t o = 0; o < s.m; ++o) {
        long double sum = 0, sizes = 0;
        for (index_t k = 0; k < s.n; ++k) {
          long double v = graft::load_as<double>(p.w.view()(o, k));
          long double size = std::abs(v);
          for (index_t j = 0; j < s.r; ++j) {
            long double const term = static_cast<long double>(0.75F) * graft::load_as<double>(p.b.view()(o, j)) *
                                     graft::load_as<double>(p.a.view()(j, k));
            v += term;
            size += std::abs(term);
          }
          sum += v * v;
          sizes += size * size;
        }
        auto const norm = static_cast<double>(std::sqrt(sum));
        auto const n = static_cast<double>(s.n), r = static_cast<double>(s.r);
        double const bound = 8 * (n / 16 + r / 16 + r + 45) * 0x1p-24 * norm + 0x1p-24 * norm + 0x1p-150 +
                             (n / 16 + r + 22) * 0x1p-53 * static_cast<double>(std::sqrt(sizes));
        double const error = std::abs(static_cast<double>(norms[static_cast<std::size_t>(o)]) - norm);
        CHECK(error <= bound);
        if (norm == 0 && what == content::zero) CHECK(norms[static_cast<std::size_t>(o)] == 0);
        worst = std::max(worst, bound > 0 ? error / bound : 0);
      }
    }
  CHECK(worst > 1e-4);  // the bound is of this world
}

TEST_CASE("row_norms: infinities and NaN stay in their rows", "[kernels][row_norms]") {
  constexpr index_t m = 60, n = 40;
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    problem<float, float> p({0, n, 3, m}, content::random, 1);
    std::vector<float> before(m), after(m);
    row_norms(ex, p.w.view(), p.b.view(), p.a.view(), view(before), 0.75);
    p.w.view()(7, 3) = std::numeric_limits<float>::infinity();
    p.w.view()(50, 0) = std::numeric_limits<float>::quiet_NaN();
    row_norms(ex, p.w.view(), p.b.view(), p.a.view(), view(after), 0.75);
    for (index_t o = 0; o < m; ++o) {
      auto const i = static_cast<std::size_t>(o);
      if (o == 7) CHECK(std::isinf(after[i]));
      else if (o == 50) CHECK(std::isnan(after[i]));
      else CHECK(after[i] == before[i]);
    }
  });
}

TEST_CASE("row_norms: every executor and instruction set has the bits of reference; rows do not know each other",
          "[kernels][row_norms][parity]") {
  tally t;
  std::uint64_t seed = 0;
  auto const check = [&]<class W, class P, class N>(std::vector<shape> const& shapes) {
    for (shape const& s : shapes)
      for (content const what : {content::random, content::cancels, content::tiny}) {
        ++seed;
        layout const how = all_layouts[seed % 8];
        problem<W, P> p(s, what, seed, how);
        std::vector<N> expected(static_cast<std::size_t>(s.m)), plain(expected), with_base(expected);
        auto const base = random_numbers<N>(s.m, seed, 2.0);
        auto const all = [&](auto const& ex, std::vector<N>& one, std::vector<N>& two, std::vector<N>& three) {
          row_norms(ex, p.w.view(), p.b.view(), p.a.view(), view(one), 0.75);
          row_norms(ex, p.w.view(), view(two));
          row_norms(ex, p.w.view(), p.b.view(), p.a.view(), view(three), 0.75, view(base));
        };
        all(graft::reference{}, expected, plain, with_base);
        auto const compare = [&](std::string const& name, auto const& ex) {
          std::vector<N> one(expected.size()), two(one), three(one);
          all(ex, one, two, three);
          t.add(differences(view(one), view(expected)) + differences(view(two), view(plain)) +
                    differences(view(three), view(with_base)),
                [&] {
                  return name + ", " + s.text() + ", content " + std::to_string(static_cast<int>(what)) + ", " +
                         tests::name(how) + ", " + type_name<W>() + ", " + type_name<P>() + ", " + type_name<N>();
                });
        };
        for_each_executor(compare);
        compare("fewer threads than promised", short_handed{});
        for_each_isa([&](std::string const& level) { compare("serial at " + level, graft::serial{}); });
        if (s.m > 2) {
          std::vector<N> row(1);
          row_norms(graft::openmp{2}, rows(p.w.view(), 2, 1), rows(p.b.view(), 2, 1), p.a.view(), view(row), 0.75);
          t.add(same_bits(row[0], expected[2]) ? "" : "the third row alone differs", [&] { return s.text(); });
        }
      }
  };
  std::vector<shape> const shapes{{0, 1, 1, 1},     {0, 15, 2, 5},    {0, 16, 8, 6},    {0, 33, 9, 7},
                                  {0, 511, 16, 47}, {0, 512, 17, 48}, {0, 513, 3, 49},  {0, 1025, 70, 13},
                                  {0, 40, 130, 97}, {0, 0, 3, 4},     {0, 600, 16, 200}};
  check.operator()<float, float, float>(shapes);
  check.operator()<bfloat16, float, float>(shapes);
  check.operator()<float, float16, bfloat16>(shapes);
  check.operator()<double, float, float>(shapes);
  CHECK(t.text() == "");
}

TEST_CASE("row_norms: scratch is what was asked for", "[kernels][row_norms]") {
  for (shape const& s : {shape{0, 600, 16, 200}, shape{0, 33, 3, 5}, shape{0, 1, 70, 1}}) {
    problem<float, float> p(s, content::random, 1);
    std::vector<float> norms(static_cast<std::size_t>(s.m));
    for_each_host_executor([&](std::string const& name, auto ex) {
      INFO(name << ", " << s.text());
      watched_resource memory;
      ex.scratch = &memory;
      row_norms(ex, p.w.view(), p.b.view(), p.a.view(), view(norms), 0.75);
      CHECK(memory.bytes == row_norms.scratch_bytes(ex, p.w.view(), p.b.view(), p.a.view(), view(norms), 0.75));
      CHECK(memory.allocations == 1);
      CHECK_FALSE(memory.overrun);
    });
  }
}

TEST_CASE("row_norms: what does not fit is refused before anything is written", "[kernels][row_norms]") {
  graft::serial const ex;
  std::vector<float> W(12), B(6), A(8), norms(3, 7), base(3);
  CHECK_THROWS_AS(row_norms(ex, view(W, 4, 3), view(B, 3, 2), view(A, 2, 4), view(norms)), graft::shape_error);
  CHECK_THROWS_AS(row_norms(ex, view(W, 3, 4), view(B, 2, 3), view(A, 2, 4), view(norms)), graft::shape_error);
  CHECK_THROWS_AS(row_norms(ex, view(W, 3, 4), view(B, 3, 2), view(A, 4, 2), view(norms)), graft::shape_error);
  CHECK_THROWS_AS(row_norms(ex, view(W, 3, 4), view(B, 3, 2), view(A, 2, 4), view(norms.data(), 2)),
                  graft::shape_error);
  CHECK_THROWS_AS(row_norms(ex, view(W, 3, 4), view(B, 3, 2), view(A, 2, 4), view(norms), 1.0, view(base.data(), 2)),
                  graft::shape_error);
  CHECK_THROWS_AS(row_norms(ex, view(W, 3, 4), view(B, 3, 2), view(A, 2, 4), view(W.data(), 3)), graft::argument_error);
  CHECK_THROWS_AS(row_norms(ex, view(W, 3, 4), view(B, 3, 2), view(A, 2, 4), view(norms), 1.0, view(norms)),
                  graft::argument_error);
  CHECK_THROWS_AS(row_norms(ex, view(static_cast<float*>(nullptr), 3, 4), view(norms)), graft::argument_error);
  CHECK(norms == std::vector<float>(3, 7));
}
