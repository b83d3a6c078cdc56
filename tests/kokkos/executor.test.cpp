// What Kokkos' executor promises beyond all others: labels, launches, instances, and clear errors.
#include <graft/kokkos.hpp>

#include <atomic>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include <omp.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include "support/bits.hpp"
#include "support/executors.hpp"
#include "support/layouts.hpp"
#include "support/low_rank_product.hpp"
#include "support/random.hpp"
#include "support/resources.hpp"

using graft::index_t;
using graft::kokkos_executor;
using graft::view;
using tests::kokkos_labels_of;
using tests::layout;
using tests::matrix;
namespace kernels = graft::kernels;
using labels = std::vector<std::string>;

namespace {

template <class S>
using product = tests::low_rank_product<S>;

struct unnamed_body {
  std::atomic<int>* runs;
  template <class Team>
  void operator()(Team const&) const {
    ++*runs;
  }
};

/// Notes in how many threads a league runs, and how many of them a team has.
struct counting_body {
  std::atomic<int>* threads;
  std::atomic<int>* team_size;
  template <class Team>
  void operator()(Team const& tm) const {
    *threads = omp_get_num_threads();
    *team_size = tm.member.team_size();
  }
};

/// Regions inside of regions, while it lives.
struct two_levels {
  int before = omp_get_max_active_levels();
  two_levels() { omp_set_max_active_levels(2); }
  two_levels(two_levels const&) = delete;
  two_levels& operator=(two_levels const&) = delete;
  ~two_levels() { omp_set_max_active_levels(before); }
};

}  // namespace

TEST_CASE("every verb is one launch with its name and body", "[kokkos][labels]") {
  matrix<float> x(9, 40, layout::contiguous, 1);
  matrix<float> a(5, 40, layout::contiguous, 2);
  matrix<float> b(70, 5, layout::contiguous, 3);
  matrix<float> y(9, 70, layout::contiguous, 4);
  matrix<float> v(9, 5, layout::contiguous, 5);
  matrix<float> w(70, 40, layout::contiguous, 6);
  matrix<float> z(9, 40);
  auto rows = tests::random_numbers<float>(9, 7);
  auto columns = tests::random_numbers<float>(70, 8);
  std::vector<float> panels(static_cast<std::size_t>(graft::panels_view<float>::storage(70, 5)));
  kokkos_executor<> const ex;
  graft::dropout const mask{0.4, 1, 2};
  auto const one = [&](char const* label, auto const& call) {
    INFO(label);
    CHECK(kokkos_labels_of(call) == labels{label});
  };
  one("graft::low_rank_add::host", [&] { kernels::low_rank_add(ex, x.view(), a.view(), b.view(), y.view(), 0.7); });
  one("graft::shrink::host", [&] { kernels::shrink(ex, x.view(), a.view(), v.view()); });
  one("graft::expand_add::host", [&] { kernels::expand_add(ex, v.view(), b.view(), y.view()); });
  one("graft::expand_add::host", [&] { kernels::outer_add(ex, b.view(), a.view(), w.view()); });
  one("graft::scale_rows::device", [&] { kernels::scale_rows(ex, view(rows), y.view()); });
  one("graft::scale_columns::device", [&] { kernels::scale_columns(ex, view(columns), y.view()); });
  one("graft::add_bias::device", [&] { kernels::add_bias(ex, view(columns), y.view()); });
  one("graft::sum_rows::device", [&] { kernels::sum_rows(ex, y.view(), view(columns)); });
  one("graft::copy::device", [&] { kernels::copy(ex, x.view(), z.view()); });
  one("graft::drop::device", [&] { kernels::drop(ex, mask, x.view(), z.view()); });
  one("graft::drop_add::device", [&] { kernels::drop_add(ex, mask, x.view(), z.view()); });
  one("graft::fill_uniform::device", [&] { kernels::fill_uniform(ex, {1, 2}, z.view()); });
  one("graft::fill_normal::device", [&] { kernels::fill_normal(ex, {1, 2}, z.view()); });
  one("graft::pack_panels::device",
      [&] { kernels::pack_panels(ex, b.view(), graft::panels_view<float>(panels.data(), 70, 5)); });
  one("graft::low_rank_add::host", [&] {
    kernels::low_rank_add(ex, x.view(), a.view(), graft::panels_view<float>(panels.data(), 70, 5), y.view());
  });
  one("graft::shrink::device", [&] { kernels::shrink.generic(ex, x.view(), a.view(), v.view()); });
  one("graft::expand_add::device", [&] { kernels::expand_add.generic(ex, v.view(), b.view(), y.view()); });
}

TEST_CASE("double takes generic bodies, few rows in two leagues", "[kokkos][labels]") {
  labels const one{"graft::low_rank_add::device"};
  labels const two{"graft::low_rank_add::device", "graft::low_rank_add::device"};
  for (index_t const T : {1, 4, 64, 513}) {
    product<double> p(T, 1030, 17, 530);
    INFO(T);
    kokkos_executor<> const ex;
    CHECK(kokkos_labels_of([&] { p.call(ex); }) == (T <= 4 ? two : one));
    CHECK(p.wrong() == "");
  }
}

TEST_CASE("double is labelled device whatever the verb, 16 bits host where there is a host body", "[kokkos][labels]") {
  kokkos_executor<> const ex;
  auto const check = [&]<class S>(std::type_identity<S>, std::string const& kind) {
    matrix<S> x(9, 40, layout::contiguous, 1);
    matrix<S> a(5, 40, layout::contiguous, 2);
    matrix<S> b(70, 5, layout::contiguous, 3);
    matrix<S> y(9, 70, layout::contiguous, 4);
    matrix<S> v(9, 5, layout::contiguous, 5);
    matrix<S> w(70, 40, layout::contiguous, 6);
    matrix<S> z(9, 40);
    auto columns = tests::random_numbers<S>(70, 8);
    auto const one = [&](std::string const& label, auto const& call) {
      INFO(label);
      CHECK(kokkos_labels_of(call) == labels{label});
    };
    one("graft::shrink::" + kind, [&] { kernels::shrink(ex, x.view(), a.view(), v.view()); });
    one("graft::expand_add::" + kind, [&] { kernels::expand_add(ex, v.view(), b.view(), y.view()); });
    one("graft::expand_add::" + kind, [&] { kernels::outer_add(ex, b.view(), a.view(), w.view()); });
    one("graft::copy::device", [&] { kernels::copy(ex, x.view(), z.view()); });
    one("graft::add_bias::device", [&] { kernels::add_bias(ex, view(columns), y.view()); });
  };
  check(std::type_identity<double>{}, "device");
  check(std::type_identity<graft::bfloat16>{}, "host");
  check(std::type_identity<graft::float16>{}, "host");
}

TEST_CASE("what is empty is not launched", "[kokkos][labels]") {
  kokkos_executor<> const ex;
  product<float> none(0, 7, 3, 5);
  product<double> no_double(0, 7, 3, 5);
  product<float> no_columns(3, 7, 3, 0);
  CHECK(kokkos_labels_of([&] {
          none.call(ex);
          none.generic(ex);
          no_double.call(ex);
          no_columns.call(ex);
        }) == labels{});

  matrix<float> x(0, 40);
  matrix<float> z(0, 40);
  matrix<float> a(5, 40, layout::contiguous, 2);
  matrix<float> b(70, 5, layout::contiguous, 3);
  matrix<float> v(0, 5);
  matrix<float> y(0, 70);
  std::vector<float> rows;
  auto columns = tests::random_numbers<float>(70, 8);
  graft::dropout const mask{0.4, 1, 2};
  CHECK(kokkos_labels_of([&] {
          kernels::shrink(ex, x.view(), a.view(), v.view());
          kernels::shrink.generic(ex, x.view(), a.view(), v.view());
          kernels::expand_add(ex, v.view(), b.view(), y.view());
          kernels::expand_add.generic(ex, v.view(), b.view(), y.view());
          kernels::scale_rows(ex, view(rows), y.view());
          kernels::scale_columns(ex, view(columns), y.view());
          kernels::add_bias(ex, view(columns), y.view());
          kernels::copy(ex, x.view(), z.view());
          kernels::drop(ex, mask, x.view(), z.view());
          kernels::drop_add(ex, mask, x.view(), z.view());
          kernels::fill_uniform(ex, {1, 2}, z.view());
          kernels::fill_normal(ex, {1, 2}, z.view());
          kernels::pack_panels(ex, matrix<float>(0, 5).view(), graft::panels_view<float>(nullptr, 0, 5));
        }) == labels{});
}

TEST_CASE("a body without a name is labelled so", "[kokkos][labels]") {
  std::atomic<int> runs = 0;
  CHECK(kokkos_labels_of([&] { kokkos_executor<>{}.league(5, 0, unnamed_body{&runs}); }) ==
        labels{"graft::unnamed::device"});
  CHECK(runs == 5);
  CHECK(kokkos_labels_of([&] { kokkos_executor<>{}.region(2, [&](auto const&) { ++runs; }); }) ==
        labels{"graft::unnamed::host"});
  CHECK(runs == 7);
}

TEST_CASE("teams of one to four threads have equal bits", "[kokkos]") {
  auto const check = [&]<class S>(std::type_identity<S>) {
    for (index_t const T : {1, 3, 4, 5, 33}) {
      product<S> p(T, 1030, 19, 259);
      for (int const threads : {0, 1, 2, 3, 4}) {
        INFO(T << " rows, teams of " << threads);
        p.reset();
        p.generic(kokkos_executor<>{.team_size = threads});
        CHECK(p.wrong() == "");
      }
    }
  };
  check(std::type_identity<float>{});
  check(std::type_identity<double>{});
  check(std::type_identity<graft::bfloat16>{});
  check(std::type_identity<graft::float16>{});
}

TEST_CASE("a team has as many threads as were asked for, and one if none were", "[kokkos]") {
  for (int const threads : {0, 1, 2, 3, 4}) {
    std::atomic<int> all = 0;
    std::atomic<int> of_team = 0;
    kokkos_executor<> const ex{.team_size = threads};
    ex.league(9, 0, counting_body{&all, &of_team});
    CHECK(of_team == (threads == 0 ? 1 : threads));
    CHECK(ex.teams_at_once() == 4 / of_team);
  }
}

TEST_CASE("an instance of the application is used as it is", "[kokkos]") {
  {
    two_levels const guard;  // else Kokkos gives copies of the default instance
    auto const instances = Kokkos::Experimental::partition_space(Kokkos::OpenMP{}, 1, 3);
    REQUIRE(instances.size() == 2);
    for (std::size_t i = 0; i < 2; ++i) {
      kokkos_executor const ex{.space = instances[i]};
      static_assert(std::is_same_v<decltype(ex), kokkos_executor<Kokkos::OpenMP> const>);
      CHECK(ex.space == instances[i]);
      REQUIRE(ex.concurrency() == (i == 0 ? 1 : 3));  // more workers than threads would wait forever
      std::atomic<int> workers = 0;
      std::atomic<int> threads = 0;
      ex.region(8, [&](auto const&) {
        ++workers;
        threads = omp_get_num_threads();
      });
      CHECK(workers == ex.concurrency());
      CHECK(threads == ex.concurrency());
      std::atomic<int> of_team = 0;
      ex.league(9, 0, counting_body{&threads, &of_team});
      CHECK(threads == ex.concurrency());
      product<float> p(30, 300, 9, 200);
      p.call(ex);
      CHECK(p.wrong() == "");
      product<double> q(3, 1030, 9, 530);
      q.call(ex);
      CHECK(q.wrong() == "");
    }
  }
  CHECK(kokkos_executor<>{}.concurrency() == 4);  // what the session asked for
}

TEST_CASE("a region has at least one worker", "[kokkos]") {
  for (int const wanted : {-3, 0, 1}) {
    int workers = 0;
    kokkos_executor<>{}.region(wanted, [&](auto const& w) { workers += w.size(); });
    CHECK(workers == 1);
  }
}

TEST_CASE("scratch beyond Kokkos' first level is taken from its second", "[kokkos]") {
  product<double> p(33, 20, 3000, 70);  // 96 KB a team; the first level has 32
  p.generic(kokkos_executor<>{.team_size = 2});
  CHECK(p.wrong() == "");
}

TEST_CASE("a verb whose team needs more scratch than Kokkos has writes nothing", "[kokkos][errors]") {
  constexpr index_t r = 2'700'000;  // four rows of double: 86 MB
  std::vector<double> ones(static_cast<std::size_t>(r), 1.0);
  matrix<double> x(9, 1, layout::contiguous, 1);
  matrix<double> y(9, 1, layout::contiguous, 4);
  matrix<double> before(9, 1, layout::contiguous, 4);
  kokkos_executor<> const ex;
  labels const launched = kokkos_labels_of([&] {
    CHECK_THROWS_MATCHES(
        kernels::low_rank_add(ex, x.view(), view(ones.data(), r, 1), view(ones.data(), 1, r), y.view()),
        graft::argument_error,
        Catch::Matchers::Message(
            "graft::kokkos_executor: a team needs 86400000 bytes of scratch, Kokkos has 83886080"));
  });
  CHECK(launched == labels{});
  CHECK(tests::differences(y.view(), before.view()) == "");
}

TEST_CASE("scratch and leagues that Kokkos cannot have are refused before anything runs", "[kokkos][errors]") {
  std::atomic<int> runs = 0;
  kokkos_executor<> const ex;
  CHECK_THROWS_MATCHES(ex.league(1, std::size_t{1} << 30U, unnamed_body{&runs}), graft::argument_error,
                       Catch::Matchers::Message(
                           "graft::kokkos_executor: a team needs 1073741824 bytes of scratch, Kokkos has 83886080"));
  CHECK_THROWS_MATCHES(
      ex.league(index_t{1} << 31U, 0, unnamed_body{&runs}), graft::argument_error,
      Catch::Matchers::Message("graft::kokkos_executor: a league of 2147483648 teams is more than Kokkos takes"));
  for (int const threads : {-1, 5, 1000})
    CHECK_THROWS_MATCHES((kokkos_executor<>{.team_size = threads}.league(1, 0, unnamed_body{&runs})),
                         graft::argument_error,
                         Catch::Matchers::Message("graft::kokkos_executor: team_size is " + std::to_string(threads) +
                                                  " but must be from 1 to 4 here, or 0 for the executor's choice"));
  CHECK(runs == 0);
}

TEST_CASE("inside a parallel region or a kernel Kokkos launches nothing, and graft says so", "[kokkos][errors]") {
  std::string const sentence =
      "graft::kokkos_executor: called inside an OpenMP parallel region or a Kokkos kernel, where Kokkos launches "
      "nothing; call graft outside, or with graft::serial inside";
  product<float> p(9, 30, 3, 20);
  matrix<float> before(9, 20, layout::contiguous, 4);
  kokkos_executor<> const ex;
  std::atomic<int> said = 0;
  auto const attempt_one = [&](auto const& call) {
    try {
      call();
    } catch (graft::argument_error const& e) {
      if (e.what() == sentence) ++said;
    }
  };
  auto const attempt = [&] {
    attempt_one([&] { p.call(ex); });     // a region
    attempt_one([&] { p.generic(ex); });  // a league
    attempt_one([] { kokkos_executor<> const made_inside; });
  };
#pragma omp parallel num_threads(2)
  {
#pragma omp single
    attempt();
  }
  CHECK(said == 3);
  Kokkos::parallel_for(Kokkos::RangePolicy<Kokkos::OpenMP>(0, 2), [&](int i) {
    if (i == 0) attempt();
  });
  CHECK(said == 6);
  CHECK(tests::differences(p.y.view(), before.view()) == "");
}

TEST_CASE("one executor serves several threads at once", "[kokkos]") {
  kokkos_executor<> const ex;
  std::vector<std::string> wrong(3);
  std::vector<std::thread> threads;
  for (std::string& mine : wrong)
    threads.emplace_back([&] {
      product<float> p(13, 530, 16, 130);
      for (int again = 0; again < 5; ++again) {
        p.reset();
        p.call(ex);
        mine += p.wrong();
        p.reset();
        p.generic(ex);
        mine += p.wrong();
      }
    });
  for (auto& t : threads) t.join();
  for (auto const& w : wrong) CHECK(w == "");
}

TEST_CASE("scratch_bytes of low_rank_add is what is taken, whatever the body", "[kokkos]") {
  auto const check = [&](auto& p, auto const& ex, tests::watched_resource const& memory, bool some) {
    int const before = memory.allocations;
    std::size_t const bytes_before = memory.bytes;
    auto const bytes = kernels::low_rank_add.scratch_bytes(ex, p.x.view(), p.a.view(), p.b.view(), p.y.view());
    p.call(ex);
    CHECK((bytes != 0) == some);
    CHECK(memory.allocations == before + (some ? 1 : 0));
    CHECK(memory.bytes == bytes_before + bytes);
    CHECK_FALSE(memory.overrun);
    CHECK(memory.deallocations == memory.allocations);
    CHECK(p.wrong() == "");
  };
  for (int const team_size : {1, 2}) {
    tests::watched_resource memory;
    kokkos_executor<> const ex{.scratch = &memory, .team_size = team_size};
    product<float> host(3, 530, 9, 530);
    check(host, ex, memory, true);
    product<double> few(3, 530, 9, 530);
    check(few, ex, memory, true);
    product<double> many(40, 530, 9, 530);
    check(many, ex, memory, false);  // Kokkos' own
  }
}
