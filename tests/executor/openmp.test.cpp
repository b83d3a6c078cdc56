#include <graft/openmp.hpp>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "support/bits.hpp"
#include "support/executors.hpp"
#include "support/random.hpp"
#include "support/resources.hpp"

using graft::index_t;
using graft::openmp;
using graft::view;

namespace {

int workers_of(openmp const& ex, int wanted) {
  std::atomic<int> count = 0;
  ex.region(wanted, [&](auto const&) { ++count; });
  return count;
}

/// OpenMP's own setting for the calling thread.
struct max_threads {
  int before = omp_get_max_threads();
  explicit max_threads(int threads) { omp_set_num_threads(threads); }
  max_threads(max_threads const&) = delete;
  max_threads& operator=(max_threads const&) = delete;
  ~max_threads() { omp_set_num_threads(before); }
};

}  // namespace

TEST_CASE("openmp without a number of threads uses OpenMP's maximum", "[executor][openmp]") {
  max_threads const three(3);
  CHECK(openmp{}.concurrency() == 3);
  CHECK(openmp{.threads = 0}.concurrency() == 3);
  CHECK(workers_of(openmp{}, 8) == 3);
  CHECK(openmp{.threads = 2}.concurrency() == 2);
  CHECK(openmp{.threads = 4}.concurrency() == 4);
}

TEST_CASE("openmp starts no more workers than are wanted", "[executor][openmp]") {
  CHECK(workers_of(openmp{.threads = 4}, 1) == 1);
  CHECK(workers_of(openmp{.threads = 4}, 2) == 2);
  CHECK(workers_of(openmp{.threads = 2}, 4) == 2);
  CHECK(workers_of(openmp{.threads = 1}, 4) == 1);
}

TEST_CASE("inside a parallel region openmp runs on its caller", "[executor][openmp]") {
  constexpr index_t T = 24, n = 300, r = 8, m = 200;  // enough for several threads
  auto const x = tests::random_numbers<float>(T * n, 1);
  auto const a = tests::random_numbers<float>(r * n, 2);
  auto const b = tests::random_numbers<float>(m * r, 3);
  auto const y0 = tests::random_numbers<float>(T * m, 4);
  auto expected = y0;
  graft::kernels::low_rank_add(graft::reference{}, view(x, T, n), view(a, r, n), view(b, m, r), view(expected, T, m),
                               0.5F);
  std::vector<std::vector<float>> y(3, y0);
  std::vector<tests::watched_resource> memory(3);
  std::atomic<int> strangers = 0;
#pragma omp parallel num_threads(3)
  {
    auto const me = static_cast<std::size_t>(omp_get_thread_num());
    openmp const ex{.threads = 4, .scratch = &memory[me]};
    auto const thread = std::this_thread::get_id();
    if (ex.concurrency() != 1) ++strangers;
    ex.region(4, [&](auto const& w) {
      if (w.size() != 1 || w.index() != 0 || std::this_thread::get_id() != thread) ++strangers;
      w.barrier();
    });
    graft::kernels::low_rank_add(ex, view(x, T, n), view(a, r, n), view(b, m, r), view(y[me], T, m), 0.5F);
    if (memory[me].thread != thread || memory[me].allocations != 1) ++strangers;
  }
  CHECK(strangers == 0);
  int const ran =
      static_cast<int>(std::count_if(memory.begin(), memory.end(), [](auto const& q) { return q.allocations == 1; }));
  CHECK(ran >= 1);
  for (std::size_t i = 0; i < 3; ++i)
    if (memory[i].allocations == 1) CHECK(tests::differences(view(y[i], T, m), view(expected, T, m)) == "");
}

TEST_CASE("calls from several threads at once do not disturb each other", "[executor][openmp]") {
  constexpr index_t T = 13, n = 530, r = 16, m = 130;
  auto const x = tests::random_numbers<float>(T * n, 1);
  auto const a = tests::random_numbers<float>(r * n, 2);
  auto const b = tests::random_numbers<float>(m * r, 3);
  std::vector<float> expected(static_cast<std::size_t>(T * m));
  graft::kernels::low_rank_add(graft::reference{}, view(x, T, n), view(a, r, n), view(b, m, r), view(expected, T, m));
  std::vector<std::vector<float>> y(3, std::vector<float>(expected.size()));
  openmp const ex{.threads = 2};  // one executor for all
  std::vector<std::thread> threads;
  for (auto& mine : y)
    threads.emplace_back([&] {
      for (int again = 0; again < 5; ++again) {
        std::fill(mine.begin(), mine.end(), 0.0F);
        graft::kernels::low_rank_add(ex, view(x, T, n), view(a, r, n), view(b, m, r), view(mine, T, m));
      }
    });
  for (auto& t : threads) t.join();
  for (auto const& mine : y) CHECK(tests::differences(view(mine, T, m), view(expected, T, m)) == "");
}

TEST_CASE("more threads than rows, columns and ranks change nothing", "[executor][openmp]") {
  for (index_t const T : {1, 2, 3}) {
    constexpr index_t n = 4099, r = 17, m = 3;
    auto const x = tests::random_numbers<float>(T * n, 1);
    auto const a = tests::random_numbers<float>(r * n, 2);
    auto const b = tests::random_numbers<float>(m * r, 3);
    std::vector<float> expected(static_cast<std::size_t>(T * m));
    auto y = expected;
    graft::kernels::low_rank_add(graft::reference{}, view(x, T, n), view(a, r, n), view(b, m, r), view(expected, T, m));
    graft::kernels::low_rank_add(openmp{.threads = 11}, view(x, T, n), view(a, r, n), view(b, m, r), view(y, T, m));
    CHECK(tests::differences(view(y, T, m), view(expected, T, m)) == "");
  }
}
