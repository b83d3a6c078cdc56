// What every executor promises about leagues, regions and scratch.
#include <graft/executor/serial.hpp>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "support/executors.hpp"
#include "support/resources.hpp"

using graft::index_t;

namespace {

/// A body that notes which teams ran (once for all threads of a team), on which thread, with which memory.
struct record {
  std::vector<std::atomic<int>>* runs;
  std::mutex* lock;
  std::map<void*, std::set<std::thread::id>>* memory;
  std::set<std::thread::id>* threads;

  template <class Team>
  void operator()(Team const& tm) const {
    static_assert(graft::team<Team>);
    tm.vector(1, [&](index_t) { (*runs)[static_cast<std::size_t>(tm.league_rank())] += 1; });
    auto* const scratch = tm.template scratch<float>(16);
    std::lock_guard const hold(*lock);
    (*memory)[scratch].insert(std::this_thread::get_id());
    threads->insert(std::this_thread::get_id());
  }
};
struct result {
  std::vector<int> runs;
  std::map<void*, std::set<std::thread::id>> memory;  // and who used it
  std::set<std::thread::id> threads;
};
template <class E>
result run_league(E const& ex, index_t size, std::size_t bytes) {
  std::vector<std::atomic<int>> runs(static_cast<std::size_t>(size));
  std::mutex lock;
  result r;
  ex.league(size, bytes, record{&runs, &lock, &r.memory, &r.threads});
  ex.fence();
  r.runs.assign(runs.begin(), runs.end());
  return r;
}

}  // namespace

TEST_CASE("a league runs every team once", "[executor]") {
  for (index_t const size : {0, 1, 2, 3, 4, 5, 7, 64, 1001})
    tests::for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name << ", " << size << " teams");
      auto const r = run_league(ex, size, 64);
      CHECK(std::count(r.runs.begin(), r.runs.end(), 1) == size);
    });
}

TEST_CASE("teams that run at once have scratch of their own, aligned to 64 bytes", "[executor]") {
  tests::for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    auto const r = run_league(ex, 100, 65);
    CHECK(!r.memory.empty());
    std::uintptr_t before = 0;
    for (auto const& [p, users] : r.memory) {
      CHECK(users.size() == (name.ends_with("teams of 2") ? 2 : 1));
      CHECK(p != nullptr);
      CHECK(reinterpret_cast<std::uintptr_t>(p) % 64 == 0);
      CHECK(reinterpret_cast<std::uintptr_t>(p) - before >= 65);
      before = reinterpret_cast<std::uintptr_t>(p);
    }
  });
}

TEST_CASE("a league takes what league_scratch says, once, from the executor's resource, on the calling thread",
          "[executor]") {
  tests::watched_resource memory;
  tests::for_each_executor(
      [&](std::string const& name, auto const& ex) {
        INFO(name);
        int const before = memory.allocations;
        int const takes = ex.league_scratch(100, 1000) == 0 ? 0 : 1;
        CHECK((takes == 1 || name.starts_with("kokkos") || tests::brings_team_scratch(name)));
        run_league(ex, 100, 1000);
        CHECK(memory.allocations == before + takes);
        CHECK(memory.deallocations == memory.allocations);
        if (takes == 1) CHECK(memory.thread == std::this_thread::get_id());
        run_league(ex, 100, 0);
        CHECK(memory.allocations == before + takes);  // nothing wanted, nothing taken
      },
      &memory);
  CHECK_FALSE(memory.overrun);
}

TEST_CASE("the default resource is the program's", "[executor]") {
  tests::watched_resource memory;
  auto* const before = std::pmr::set_default_resource(&memory);
  tests::for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    CHECK(ex.resource() == &memory);
  });
  std::pmr::set_default_resource(before);
}

TEST_CASE("a region runs each of its workers once, and its barrier holds all of them", "[executor]") {
  tests::for_each_host_executor([&](std::string const& name, auto const& ex) {
    for (int const wanted : {1, 2, 3, 4, 9}) {
      INFO(name << ", " << wanted << " workers");
      std::atomic<int> arrived = 0;
      std::atomic<int> late = 0;
      std::atomic<int> size = 0;
      std::vector<std::atomic<int>> runs(16);
      ex.region(wanted, [&](auto const& w) {
        runs[static_cast<std::size_t>(w.index())] += 1;
        size = w.size();
        ++arrived;
        w.barrier();
        if (arrived != w.size()) ++late;
      });
      CHECK(size >= 1);
      CHECK(size <= wanted);
      CHECK(size <= ex.concurrency());
      CHECK(late == 0);
      CHECK(arrived == size);
      for (int i = 0; i < 16; ++i) CHECK(runs[static_cast<std::size_t>(i)] == (i < size ? 1 : 0));
    }
  });
}

TEST_CASE("serial and reference stay on the calling thread", "[executor]") {
  CHECK(run_league(graft::serial{}, 50, 64).threads == std::set{std::this_thread::get_id()});
  CHECK(run_league(graft::reference{}, 50, 64).threads == std::set{std::this_thread::get_id()});
  CHECK(graft::serial{}.concurrency() == 1);
}

TEST_CASE("what a league's scratch cannot be given is thrown before it starts", "[executor]") {
  tests::empty_resource none;
  tests::for_each_executor(
      [&](std::string const& name, auto const& ex) {
        INFO(name);
        if (ex.league_scratch(10, 64) != 0) CHECK_THROWS_AS(run_league(ex, 10, 64), std::bad_alloc);
        CHECK_NOTHROW(run_league(ex, 10, 0));
      },
      &none);
}
