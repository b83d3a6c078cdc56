#include <graft/contracts.hpp>

#include <array>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include "support/bits.hpp"
#include "support/executors.hpp"
#include "support/random.hpp"
#include "support/resources.hpp"

using Catch::Matchers::Message;
using graft::argument_error;
using graft::dynamic;
using graft::extents;
using graft::index_t;
using graft::shape_error;
using graft::view;
namespace kernels = graft::kernels;

namespace {

constexpr index_t T = 3, n = 64, r = 5, m = 7;

/// Arguments that fit, and the wish that a refused call leaves the outputs alone.
struct arguments {
  std::vector<float> x = tests::random_numbers<float>(T * n, 1);
  std::vector<float> a = tests::random_numbers<float>(r * n, 2);
  std::vector<float> b = tests::random_numbers<float>(m * r, 3);
  std::vector<float> y = tests::random_numbers<float>(T * m, 4);
  std::vector<float> v = tests::random_numbers<float>(T * r, 5);
  std::vector<float> w = tests::random_numbers<float>(m * n, 6);
  std::vector<float> d = tests::random_numbers<float>(m, 7);

  bool operator==(arguments const&) const = default;
};

/// `call(arguments, executor)` throws Error with exactly this sentence on every executor, and writes nothing.
template <class Error, class Call>
void refuses(std::string const& sentence, Call const& call) {
  tests::for_each_executor([&](std::string const& name, auto const& ex) {
    arguments args;
    arguments const before = args;
    INFO(name);
    CHECK_THROWS_MATCHES(call(args, ex), Error, Message(sentence));
    CHECK(args == before);
  });
}
template <class Call>
void accepts(Call const& call) {
  tests::for_each_executor([&](std::string const& name, auto const& ex) {
    arguments args;
    INFO(name);
    CHECK_NOTHROW(call(args, ex));
  });
}

auto strided(float* p, index_t rows, index_t columns, index_t row, index_t column) {
  return view(p, extents<dynamic, dynamic>{rows, columns}, {row, column});
}
float* const nothing = nullptr;

}  // namespace

TEST_CASE("all errors are graft::error, and that is a std::runtime_error", "[contracts]") {
  static_assert(std::is_base_of_v<std::runtime_error, graft::error>);
  static_assert(std::is_base_of_v<graft::error, shape_error> && std::is_base_of_v<graft::error, argument_error> &&
                std::is_base_of_v<graft::error, graft::data_error>);
  CHECK_THROWS_AS(view(nothing, -1), graft::error);
}

TEST_CASE("low_rank_add names the extents that do not fit", "[contracts][kernels]") {
  refuses<shape_error>(
      "graft::kernels::low_rank_add: extent 1 of x[3, 63] is 63 but extent 1 of A[5, 64] is 64; they must be equal",
      [](arguments& q, auto const& ex) {
        kernels::low_rank_add(ex, view(q.x.data(), T, n - 1), view(q.a.data(), r, n), view(q.b.data(), m, r),
                              view(q.y.data(), T, m));
      });
  refuses<shape_error>(
      "graft::kernels::low_rank_add: extent 0 of A[4, 64] is 4 but extent 1 of B[7, 5] is 5; they must be equal",
      [](arguments& q, auto const& ex) {
        kernels::low_rank_add(ex, view(q.x.data(), T, n), view(q.a.data(), r - 1, n), view(q.b.data(), m, r),
                              view(q.y.data(), T, m));
      });
  refuses<shape_error>(
      "graft::kernels::low_rank_add: extent 0 of y[2, 7] is 2 but extent 0 of x[3, 64] is 3; they must be equal",
      [](arguments& q, auto const& ex) {
        kernels::low_rank_add(ex, view(q.x.data(), T, n), view(q.a.data(), r, n), view(q.b.data(), m, r),
                              view(q.y.data(), T - 1, m));
      });
  refuses<shape_error>(
      "graft::kernels::low_rank_add: extent 1 of y[3, 6] is 6 but extent 0 of B[7, 5] is 7; they must be equal",
      [](arguments& q, auto const& ex) {
        kernels::low_rank_add(ex, view(q.x.data(), T, n), view(q.a.data(), r, n), view(q.b.data(), m, r),
                              view(q.y.data(), T, m - 1));
      });
}

TEST_CASE("shrink, expand_add and outer_add name the extents that do not fit", "[contracts][kernels]") {
  refuses<shape_error>(
      "graft::kernels::shrink: extent 1 of x[3, 63] is 63 but extent 1 of A[5, 64] is 64; they must be equal",
      [](arguments& q, auto const& ex) {
        kernels::shrink(ex, view(q.x.data(), T, n - 1), view(q.a.data(), r, n), view(q.v.data(), T, r));
      });
  refuses<shape_error>(
      "graft::kernels::shrink: extent 0 of v[2, 5] is 2 but extent 0 of x[3, 64] is 3; they must be equal",
      [](arguments& q, auto const& ex) {
        kernels::shrink(ex, view(q.x.data(), T, n), view(q.a.data(), r, n), view(q.v.data(), T - 1, r));
      });
  refuses<shape_error>(
      "graft::kernels::shrink: extent 1 of v[3, 4] is 4 but extent 0 of A[5, 64] is 5; they must be equal",
      [](arguments& q, auto const& ex) {
        kernels::shrink(ex, view(q.x.data(), T, n), view(q.a.data(), r, n), view(q.v.data(), T, r - 1));
      });
  refuses<shape_error>(
      "graft::kernels::expand_add: extent 1 of v[3, 4] is 4 but extent 1 of B[7, 5] is 5; they must be equal",
      [](arguments& q, auto const& ex) {
        kernels::expand_add(ex, view(q.v.data(), T, r - 1), view(q.b.data(), m, r), view(q.y.data(), T, m));
      });
  refuses<shape_error>(
      "graft::kernels::expand_add: extent 0 of y[2, 7] is 2 but extent 0 of v[3, 5] is 3; they must be equal",
      [](arguments& q, auto const& ex) {
        kernels::expand_add(ex, view(q.v.data(), T, r), view(q.b.data(), m, r), view(q.y.data(), T - 1, m));
      });
  refuses<shape_error>(
      "graft::kernels::expand_add: extent 1 of y[3, 7] is 7 but extent 0 of B[6, 5] is 6; they must be equal",
      [](arguments& q, auto const& ex) {
        kernels::expand_add(ex, view(q.v.data(), T, r), view(q.b.data(), m - 1, r), view(q.y.data(), T, m));
      });
  refuses<shape_error>(
      "graft::kernels::outer_add: extent 1 of B[7, 4] is 4 but extent 0 of A[5, 64] is 5; they must be equal",
      [](arguments& q, auto const& ex) {
        kernels::outer_add(ex, view(q.b.data(), m, r - 1), view(q.a.data(), r, n), view(q.w.data(), m, n));
      });
  refuses<shape_error>(
      "graft::kernels::outer_add: extent 0 of W[6, 64] is 6 but extent 0 of B[7, 5] is 7; they must be equal",
      [](arguments& q, auto const& ex) {
        kernels::outer_add(ex, view(q.b.data(), m, r), view(q.a.data(), r, n), view(q.w.data(), m - 1, n));
      });
  refuses<shape_error>(
      "graft::kernels::outer_add: extent 1 of W[7, 63] is 63 but extent 1 of A[5, 64] is 64; they must be equal",
      [](arguments& q, auto const& ex) {
        kernels::outer_add(ex, view(q.b.data(), m, r), view(q.a.data(), r, n), view(q.w.data(), m, n - 1));
      });
}

TEST_CASE("the elementwise verbs name the extents that do not fit", "[contracts][kernels]") {
  refuses<shape_error>(
      "graft::kernels::scale_rows: extent 0 of d[7] is 7 but extent 0 of Y[3, 7] is 3; they must be equal",
      [](arguments& q, auto const& ex) { kernels::scale_rows(ex, view(q.d), view(q.y.data(), T, m)); });
  refuses<shape_error>(
      "graft::kernels::scale_columns: extent 0 of d[7] is 7 but extent 1 of Y[7, 3] is 3; they must be equal",
      [](arguments& q, auto const& ex) { kernels::scale_columns(ex, view(q.d), view(q.y.data(), m, T)); });
  refuses<shape_error>(
      "graft::kernels::add_bias: extent 0 of b[7] is 7 but extent 1 of y[7, 3] is 3; they must be equal",
      [](arguments& q, auto const& ex) { kernels::add_bias(ex, view(q.d), view(q.y.data(), m, T)); });
  refuses<shape_error>(
      "graft::kernels::sum_rows: extent 0 of d[7] is 7 but extent 1 of y[7, 3] is 3; they must be equal",
      [](arguments& q, auto const& ex) { kernels::sum_rows(ex, view(q.y.data(), m, T), view(q.d)); });
  refuses<shape_error>(
      "graft::kernels::copy: extent 1 of Y[3, 7] is 7 but extent 1 of X[3, 5] is 5; they must be equal",
      [](arguments& q, auto const& ex) { kernels::copy(ex, view(q.v.data(), T, r), view(q.y.data(), T, m)); });
  refuses<shape_error>(
      "graft::kernels::copy: extent 0 of Y[2, 5] is 2 but extent 0 of X[3, 5] is 3; they must be equal",
      [](arguments& q, auto const& ex) { kernels::copy(ex, view(q.v.data(), T, r), view(q.y.data(), T - 1, r)); });
  refuses<shape_error>(
      "graft::kernels::drop: extent 0 of y[2, 5] is 2 but extent 0 of x[3, 5] is 3; they must be equal",
      [](arguments& q, auto const& ex) {
        kernels::drop(ex, graft::dropout{.probability = 0.5}, view(q.v.data(), T, r), view(q.y.data(), T - 1, r));
      });
  refuses<shape_error>(
      "graft::kernels::drop_add: extent 1 of y[3, 4] is 4 but extent 1 of x[3, 5] is 5; they must be equal",
      [](arguments& q, auto const& ex) {
        kernels::drop_add(ex, graft::dropout{.probability = 0.5}, view(q.v.data(), T, r), view(q.y.data(), T, r - 1));
      });
}

TEST_CASE("a probability that is none is refused", "[contracts][kernels]") {
  for (double const p : {1.0, -0.125, 2.0})
    refuses<argument_error>(
        "graft::kernels::drop: the probability is " + graft::detail::text(p) + " but must lie in [0, 1)",
        [&](arguments& q, auto const& ex) {
          kernels::drop(ex, graft::dropout{.probability = p}, view(q.v.data(), T, r), view(q.y.data(), T, r));
        });
  refuses<argument_error>(
      "graft::kernels::drop_add: the probability is nan but must lie in [0, 1)", [](arguments& q, auto const& ex) {
        kernels::drop_add(ex, graft::dropout{.probability = std::numeric_limits<double>::quiet_NaN()},
                          view(q.v.data(), T, r), view(q.y.data(), T, r));
      });
}

TEST_CASE("a null pointer with elements behind it is refused, for every argument", "[contracts][kernels]") {
  refuses<argument_error>("graft::kernels::low_rank_add: x[3, 64] has elements but its pointer is null",
                          [](arguments& q, auto const& ex) {
                            kernels::low_rank_add(ex, view(nothing, T, n), view(q.a.data(), r, n),
                                                  view(q.b.data(), m, r), view(q.y.data(), T, m));
                          });
  refuses<argument_error>("graft::kernels::low_rank_add: A[5, 64] has elements but its pointer is null",
                          [](arguments& q, auto const& ex) {
                            kernels::low_rank_add(ex, view(q.x.data(), T, n), view(nothing, r, n),
                                                  view(q.b.data(), m, r), view(q.y.data(), T, m));
                          });
  refuses<argument_error>("graft::kernels::low_rank_add: B[7, 5] has elements but its pointer is null",
                          [](arguments& q, auto const& ex) {
                            kernels::low_rank_add(ex, view(q.x.data(), T, n), view(q.a.data(), r, n),
                                                  view(nothing, m, r), view(q.y.data(), T, m));
                          });
  refuses<argument_error>("graft::kernels::low_rank_add: y[3, 7] has elements but its pointer is null",
                          [](arguments& q, auto const& ex) {
                            kernels::low_rank_add(ex, view(q.x.data(), T, n), view(q.a.data(), r, n),
                                                  view(q.b.data(), m, r), view(nothing, T, m));
                          });
  refuses<argument_error>("graft::kernels::shrink: v[3, 5] has elements but its pointer is null",
                          [](arguments& q, auto const& ex) {
                            kernels::shrink(ex, view(q.x.data(), T, n), view(q.a.data(), r, n), view(nothing, T, r));
                          });
  refuses<argument_error>("graft::kernels::shrink: A[5, 64] has elements but its pointer is null",
                          [](arguments& q, auto const& ex) {
                            kernels::shrink(ex, view(q.x.data(), T, n), view(nothing, r, n), view(q.v.data(), T, r));
                          });
  refuses<argument_error>(
      "graft::kernels::expand_add: v[3, 5] has elements but its pointer is null", [](arguments& q, auto const& ex) {
        kernels::expand_add(ex, view(nothing, T, r), view(q.b.data(), m, r), view(q.y.data(), T, m));
      });
  refuses<argument_error>(
      "graft::kernels::scale_rows: d[3] has elements but its pointer is null",
      [](arguments& q, auto const& ex) { kernels::scale_rows(ex, view(nothing, T), view(q.y.data(), T, m)); });
  refuses<argument_error>("graft::kernels::add_bias: y[3, 7] has elements but its pointer is null",
                          [](arguments& q, auto const& ex) { kernels::add_bias(ex, view(q.d), view(nothing, T, m)); });
  refuses<argument_error>(
      "graft::kernels::copy: X[3, 7] has elements but its pointer is null",
      [](arguments& q, auto const& ex) { kernels::copy(ex, view(nothing, T, m), view(q.y.data(), T, m)); });
}

TEST_CASE("null pointers without elements are legal", "[contracts][kernels]") {
  accepts([](arguments&, auto const& ex) {
    kernels::low_rank_add(ex, view(nothing, 0, n), view(nothing, 0, n), view(nothing, m, 0), view(nothing, 0, m));
  });
  accepts([](arguments& q, auto const& ex) {
    kernels::low_rank_add(ex, view(nothing, 0, n), view(q.a.data(), r, n), view(q.b.data(), m, r), view(nothing, 0, m));
  });
  accepts([](arguments& q, auto const& ex) {  // n = 0: v is zero
    auto const before = q.y;
    kernels::low_rank_add(ex, view(nothing, T, 0), view(nothing, r, 0), view(q.b.data(), m, r), view(q.y.data(), T, m));
    CHECK(q.y == before);
  });
  accepts([](arguments& q, auto const& ex) {
    kernels::low_rank_add(ex, view(q.x.data(), T, n), view(q.a.data(), r, n), view(nothing, 0, r), view(nothing, T, 0));
  });
  accepts([](arguments&, auto const& ex) {
    kernels::shrink(ex, view(nothing, 0, n), view(nothing, 0, n), view(nothing, 0, 0));
    kernels::expand_add(ex, view(nothing, 0, 0), view(nothing, 0, 0), view(nothing, 0, 0));
    kernels::outer_add(ex, view(nothing, 0, r), view(nothing, r, 0), view(nothing, 0, 0));
    kernels::scale_rows(ex, view(nothing, 0), view(nothing, 0, m));
    kernels::scale_columns(ex, view(nothing, 0), view(nothing, T, 0));
    kernels::add_bias(ex, view(nothing, 0), view(nothing, T, 0));
    kernels::sum_rows(ex, view(nothing, T, 0), view(nothing, 0));
    kernels::copy(ex, view(nothing, 0, m), view(nothing, 0, m));
    kernels::drop(ex, graft::dropout{.probability = 0.5}, view(nothing, 0, m), view(nothing, 0, m));
  });
}

TEST_CASE("an output may not overlap an input", "[contracts][kernels]") {
  refuses<argument_error>("graft::kernels::low_rank_add: y[3, 7] is written but shares memory with x[3, 64]",
                          [](arguments& q, auto const& ex) {
                            kernels::low_rank_add(ex, view(q.x.data(), T, n), view(q.a.data(), r, n),
                                                  view(q.b.data(), m, r), view(q.x.data() + 20, T, m));
                          });
  refuses<argument_error>("graft::kernels::low_rank_add: y[3, 7] is written but shares memory with A[5, 64]",
                          [](arguments& q, auto const& ex) {
                            kernels::low_rank_add(ex, view(q.x.data(), T, n), view(q.a.data(), r, n),
                                                  view(q.b.data(), m, r), view(q.a.data() + r * n - T * m, T, m));
                          });
  refuses<argument_error>("graft::kernels::low_rank_add: y[3, 7] is written but shares memory with B[7, 5]",
                          [](arguments& q, auto const& ex) {
                            kernels::low_rank_add(ex, view(q.x.data(), T, n), view(q.a.data(), r, n),
                                                  view(q.b.data(), m, r), view(q.b.data(), T, m));
                          });
  refuses<argument_error>(
      "graft::kernels::shrink: v[3, 5] is written but shares memory with x[3, 64]", [](arguments& q, auto const& ex) {
        kernels::shrink(ex, view(q.x.data(), T, n), view(q.a.data(), r, n), view(q.x.data() + T * n - T * r, T, r));
      });
  refuses<argument_error>("graft::kernels::expand_add: y[3, 5] is written but shares memory with v[3, 5]",
                          [](arguments& q, auto const& ex) {
                            kernels::expand_add(ex, view(q.v.data(), T, r), view(q.b.data(), r, r),
                                                view(q.v.data(), T, r));
                          });
  refuses<argument_error>("graft::kernels::scale_columns: Y[3, 7] is written but shares memory with d[7]",
                          [](arguments& q, auto const& ex) {
                            kernels::scale_columns(ex, view(q.y.data() + T * m - m, m), view(q.y.data(), T, m));
                          });
  refuses<argument_error>(
      "graft::kernels::copy: Y[3, 7] is written but shares memory with X[3, 7]",
      [](arguments& q, auto const& ex) { kernels::copy(ex, view(q.y.data(), T, m), view(q.y.data(), T, m)); });
  refuses<argument_error>(
      "graft::kernels::drop: y[3, 7] is written but shares memory with x[3, 7]", [](arguments& q, auto const& ex) {
        kernels::drop(ex, graft::dropout{.probability = 0.5}, view(q.y.data(), T, m), view(q.y.data(), T, m));
      });
  refuses<argument_error>(
      "graft::kernels::sum_rows: d[7] is written but shares memory with y[3, 7]",
      [](arguments& q, auto const& ex) { kernels::sum_rows(ex, view(q.y.data(), T, m), view(q.y.data() + m, m)); });
  // One element in common, by its last byte: a view of 16-bit elements into the other's memory.
  refuses<argument_error>("graft::kernels::copy: Y[1, 3] is written but shares memory with X[1, 3]",
                          [](arguments& q, auto const& ex) {
                            auto* const p = reinterpret_cast<graft::bfloat16*>(q.y.data());
                            kernels::copy(ex, view(q.y.data() + 1, 1, 3), view(p, 1, 3));
                          });
}

TEST_CASE("neighbours in memory are legal", "[contracts][kernels]") {
  accepts([](arguments& q, auto const& ex) { kernels::copy(ex, view(q.x.data(), 2, 7), view(q.x.data() + 14, 2, 7)); });
  accepts([](arguments& q, auto const& ex) { kernels::copy(ex, view(q.x.data() + 14, 2, 7), view(q.x.data(), 2, 7)); });
  accepts([](arguments& q, auto const& ex) {
    auto const backwards = strided(q.x.data() + 27, 2, 7, -7, -1);  // 14 ... 27
    kernels::copy(ex, backwards, view(q.x.data(), 2, 7));
    CHECK(q.x[0] == q.x[27]);
    CHECK(q.x[13] == q.x[14]);
  });
}

TEST_CASE("disjoint columns of one buffer are legal: a fused q, k, v", "[contracts][kernels]") {
  accepts([](arguments& q, auto const& ex) {
    // x is columns 0 ... 19 of a buffer of 64, y the 7 behind them, and B's 5 columns lie in the same rows as well.
    auto const all = view(q.w.data(), m, n);
    auto const x = columns(all, 0, 20);
    auto const y = columns(all, 20, m);
    auto const a = columns(all, 27, 20);
    auto const before = q.w;
    kernels::low_rank_add(ex, x, rows(a, 0, r), view(q.b.data(), m, r), y);
    arguments fresh;
    std::vector<float> expected(static_cast<std::size_t>(m * m));
    for (index_t i = 0; i < m; ++i)
      for (index_t j = 0; j < m; ++j)
        expected[static_cast<std::size_t>(i * m + j)] = before[static_cast<std::size_t>(i * n + 20 + j)];
    auto const old = view(fresh.w.data(), m, n);
    kernels::low_rank_add(graft::reference{}, columns(old, 0, 20), rows(columns(old, 27, 20), 0, r),
                          view(fresh.b.data(), m, r), view(expected.data(), m, m));
    CHECK(tests::differences(y, view(expected.data(), m, m)) == "");
    // Nothing else was touched.
    for (index_t i = 0; i < m; ++i)
      for (index_t j = 0; j < m; ++j)
        q.w[static_cast<std::size_t>(i * n + 20 + j)] = before[static_cast<std::size_t>(i * n + 20 + j)];
    CHECK(q.w == before);
  });
  accepts([](arguments& q, auto const& ex) {  // in either order, with a neighbour that ends where the row ends
    auto const all = view(q.w.data(), m, n);
    kernels::copy(ex, columns(all, n - 10, 10), columns(all, n - 20, 10));
    kernels::copy(ex, columns(all, 0, 10), columns(all, n - 10, 10));
    kernels::copy(ex, transposed(columns(all, 0, 10)), transposed(columns(all, 10, 10)));
    kernels::copy(ex, rows(columns(all, 0, 10), 2, 3), rows(columns(all, 10, 10), 4, 3));
  });
}

TEST_CASE("columns of one buffer that overlap are refused", "[contracts][kernels]") {
  refuses<argument_error>(
      "graft::kernels::copy: Y[7, 10] is written but shares memory with X[7, 10]", [](arguments& q, auto const& ex) {
        kernels::copy(ex, columns(view(q.w.data(), m, n), 0, 10), columns(view(q.w.data(), m, n), 9, 10));
      });
  refuses<argument_error>(
      "graft::kernels::copy: Y[7, 10] is written but shares memory with X[7, 10]", [](arguments& q, auto const& ex) {
        kernels::copy(ex, columns(view(q.w.data(), m, n), 9, 10), columns(view(q.w.data(), m, n), 0, 10));
      });
  // Columns that wrap around the end of a row: the range of one view is not a range of columns of the other.
  refuses<argument_error>("graft::kernels::copy: Y[2, 10] is written but shares memory with X[2, 10]",
                          [](arguments& q, auto const& ex) {
                            kernels::copy(ex, view(q.w.data() + n - 5, 2, 10, graft::row_stride{n}),
                                          view(q.w.data() + n, 2, 10, graft::row_stride{n}));
                          });
}

TEST_CASE("interleaved layouts that are not column ranges are refused", "[contracts][kernels]") {
  refuses<argument_error>("graft::kernels::copy: Y[2, 8] is written but shares memory with X[2, 8]",
                          [](arguments& q, auto const& ex) {
                            kernels::copy(ex, strided(q.w.data(), 2, 8, n, 2), strided(q.w.data() + 1, 2, 8, n, 2));
                          });
  refuses<argument_error>("graft::kernels::copy: Y[2, 8] is written but shares memory with X[2, 8]",
                          [](arguments& q, auto const& ex) {
                            kernels::copy(ex, view(q.w.data(), 2, 8, graft::row_stride{20}),
                                          view(q.w.data() + 10, 2, 8, graft::row_stride{21}));
                          });
}

TEST_CASE("an output whose elements share memory is refused", "[contracts][kernels]") {
  auto const check = [](std::string const& sentence, index_t rows, index_t columns, index_t row, index_t column) {
    INFO(rows << " x " << columns << " strides " << row << ", " << column);
    refuses<argument_error>("graft::kernels::copy: Y" + sentence, [&](arguments& q, auto const& ex) {
      kernels::copy(ex, view(q.x.data(), rows, columns), strided(q.w.data() + 200, rows, columns, row, column));
    });
  };
  check("[3, 7] is written but stride 0 of extent 0 makes elements share memory", 3, 7, 0, 1);
  check("[3, 7] is written but stride 0 of extent 1 makes elements share memory", 3, 7, 7, 0);
  check("[3, 7] is written but stride 6 of extent 0 makes elements share memory", 3, 7, 6, 1);
  check("[3, 7] is written but stride -6 of extent 0 makes elements share memory", 3, 7, -6, 1);
  check("[3, 7] is written but stride 2 of extent 1 makes elements share memory", 3, 7, 1, 2);
  check("[2, 2] is written but stride 1 of extent 1 makes elements share memory", 2, 2, 1, 1);
  refuses<argument_error>(
      "graft::kernels::sum_rows: d[7] is written but stride 0 of extent 0 makes elements share memory",
      [](arguments& q, auto const& ex) {
        kernels::sum_rows(ex, view(q.y.data(), T, m), view(q.d.data(), extents<dynamic>{m}, {0}));
      });
}

TEST_CASE("strides that do not matter are not looked at", "[contracts][kernels]") {
  accepts(
      [](arguments& q, auto const& ex) { kernels::copy(ex, view(q.x.data(), 1, 7), strided(q.w.data(), 1, 7, 0, 1)); });
  accepts(
      [](arguments& q, auto const& ex) { kernels::copy(ex, view(q.x.data(), 7, 1), strided(q.w.data(), 7, 1, 1, 0)); });
  accepts(
      [](arguments& q, auto const& ex) { kernels::copy(ex, view(q.x.data(), 0, 7), strided(q.w.data(), 0, 7, 0, 0)); });
  accepts([](arguments& q, auto const& ex) {  // an input may repeat one row for all tokens
    kernels::copy(ex, strided(q.x.data(), 3, 7, 0, 1), view(q.w.data(), 3, 7));
    CHECK(q.w[0] == q.x[0]);
    CHECK(q.w[14 + 6] == q.x[6]);
  });
}

TEST_CASE("an output that is a transposed or reversed matrix is legal", "[contracts][kernels]") {
  accepts([](arguments& q, auto const& ex) {
    kernels::copy(ex, view(q.x.data(), 3, 7), strided(q.w.data(), 3, 7, 1, 3));
    CHECK(q.w[3 * 6 + 2] == q.x[7 * 2 + 6]);
    kernels::copy(ex, view(q.x.data(), 3, 7), strided(q.w.data() + 20, 3, 7, -7, -1));
    CHECK(q.w[0] == q.x[20]);
    kernels::copy(ex, view(q.x.data(), 3, 7), strided(q.w.data(), 3, 7, 20, 2));
    CHECK(q.w[20 * 2 + 2 * 6] == q.x[20]);
  });
}

TEST_CASE("nothing is written when there is no memory for scratch", "[contracts][kernels]") {
  tests::empty_resource none;
  arguments q;
  arguments const before = q;
  tests::for_each_executor(
      [&](std::string const& name, auto const& ex) {
        INFO(name);
        if (kernels::low_rank_add.scratch_bytes(ex, view(q.x.data(), T, n), view(q.a.data(), r, n),
                                                view(q.b.data(), m, r), view(q.y.data(), T, m)) == 0) {
          CHECK(tests::brings_team_scratch(name));
          return;
        }
        CHECK_THROWS_AS(kernels::low_rank_add(ex, view(q.x.data(), T, n), view(q.a.data(), r, n),
                                              view(q.b.data(), m, r), view(q.y.data(), T, m)),
                        std::bad_alloc);
      },
      &none);
  CHECK(q == before);
}

TEST_CASE("error text has all digits of extents", "[contracts]") {
  CHECK(graft::detail::text("a ", std::numeric_limits<index_t>::min(), " b") == "a -9223372036854775808 b");
  CHECK(graft::detail::text(0.1) == "0.1");
  CHECK(graft::detail::text(-1.7976931348623157e308) == "-1.7976931348623157e+308");
  CHECK(graft::detail::shape_text(view(nothing, 0, 12, 345)) == "[0, 12, 345]");
  CHECK(graft::detail::shape_text(view(nothing, 0)) == "[0]");
}

TEST_CASE("products and sums of extents are checked", "[contracts]") {
  constexpr index_t largest = std::numeric_limits<index_t>::max();
  CHECK(graft::detail::checked_product(index_t{1} << 31, index_t{1} << 31, "x") == index_t{1} << 62);
  CHECK_THROWS_MATCHES(graft::detail::checked_product(largest, 2, "what"), shape_error,
                       Message("graft: what: 9223372036854775807 x 2 overflows 64 bits"));
  CHECK(graft::detail::checked_sum(largest, 0, "x") == largest);
  CHECK_THROWS_MATCHES(graft::detail::checked_sum(largest, 1, "what"), shape_error,
                       Message("graft: what: 9223372036854775807 + 1 overflows 64 bits"));
}
