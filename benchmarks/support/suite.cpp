// SPDX-License-Identifier: Apache-2.0
#include "support/suite.hpp"

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <numeric>
#include <string_view>

#include <benchmark/benchmark.h>
#include <omp.h>
#include <sys/resource.h>
#include <unistd.h>

#include "support/limits.hpp"
#include "support/machine.hpp"

namespace bench {
namespace {

using clock = std::chrono::steady_clock;
double seconds_since(clock::time_point start) { return std::chrono::duration<double>(clock::now() - start).count(); }

/// One, and all.
std::vector<int> thread_counts() {
  if (omp_get_num_procs() == 1) return {1};
  return {1, omp_get_num_procs()};
}

/// A smoke test looks at results; its figures mean nothing.
bool smoke() {
  static bool const set = std::getenv("GRAFT_BENCH_SMOKE") != nullptr;
  return set;
}

// ---- Limits, measured once for each number of threads.

graft_limits measure(int threads) {
  graft_limits l;
  graft_limits_measure(threads, smoke() ? 0.01 : 0.3, 1, &l);
  return l;
}
graft_limits const& limits(int threads) {
  static std::map<int, graft_limits> known;
  auto const at = known.find(threads);
  return at != known.end() ? at->second : known.emplace(threads, measure(threads)).first->second;
}

/// Seconds that the machine needs at least, were everything else free: flops at the peak, or bytes from the level that holds them all.
/// A byte read and one written go together as in an update; what is left of either goes at the speed of reading.
double bound(work const& of, int threads, bool cold) {
  graft_limits const& l = limits(threads);
  double const held = of.read + of.updated + of.written;
  int level = 0;
  while (level < graft_limits_levels - 1 && (cold || held > l.capacity[level])) ++level;
  double const pairs = of.updated + std::min(of.read, of.written);
  double const rest = of.bytes() - 2 * pairs;
  double const update = std::max(l.bandwidth[graft_limits_update][level], l.bandwidth[graft_limits_read][level]);
  return std::max(of.flops / l.fma, 2 * pairs / update + rest / l.bandwidth[graft_limits_read][level]);
}

/// Reads twice the last level of cache, shared out over all threads.
void evict() {
  static buffer<char> memory;
  if (memory.empty()) memory.resize(std::max<std::size_t>(2 * graft_limits_cache_bytes(2), std::size_t{64} << 20), 1);
  std::size_t const lines = memory.size() / 64;
  int sum = 0;
#pragma omp parallel for reduction(+ : sum) schedule(static)
  for (std::size_t i = 0; i < lines; ++i) sum += memory[64 * i];
  benchmark::DoNotOptimize(sum);
}

/// How often the system took the core from this thread.
long taken_away() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  return use.ru_nivcsw;
}

// ---- Cases

struct group {
  std::string name;
  work of;
  std::function<std::shared_ptr<void>()> make;
  std::vector<detail::any_check> checks;
};

/// The problem of the group that ran last is kept; another takes its place.
std::shared_ptr<void> problem_of(std::shared_ptr<group const> const& g) {
  static std::shared_ptr<group const> last;
  static std::shared_ptr<void> problem;
  if (last != g) {
    problem.reset();
    problem = g->make();
    last = g;
  }
  return problem;
}

/// Empty, or what is wrong with the first call.
std::string refuted(group const& g, detail::any_column const& column, graft::openmp const& ex) {
  auto const before = g.make();
  auto const after = g.make();
  column.call(after.get(), ex);
  std::size_t output = 0;
  for (auto const& check : g.checks) {
    index_t const count = check.count(after.get());
    index_t step = std::max<index_t>(count / 60, 1);
    while (std::gcd(step, index_t{2 * 3 * 5 * 7}) != 1) ++step;  // meets every place of a tile
    double worst = 0;
    double largest = 1e-30;
    std::string text;
    for (index_t i = 0; i < count; i = i + step < count || i == count - 1 ? i + step : count - 1) {
      double const got = check.got(after.get(), i);
      double const want = check.want(before.get(), i);
      largest = std::max(largest, std::fabs(want));
      double const error = std::fabs(got - want);
      if (error <= worst) continue;
      worst = std::isnan(error) ? 1e300 : error;
      text = "wrong result: number " + std::to_string(i) + " of output " + std::to_string(output) + " is " +
             std::to_string(got) + " instead of " + std::to_string(want);
    }
    if (worst > check.tolerance * largest) return text;
    ++output;
  }
  return {};
}

void register_case(std::shared_ptr<group const> const& g, detail::any_column const& column, int threads, bool cold) {
  auto const checked = std::make_shared<bool>(!column.same);
  auto const body = [=](benchmark::State& state) {
    graft::openmp const ex{.threads = threads};
    if (!*checked) {
      std::string const wrong = refuted(*g, column, ex);
      if (!wrong.empty()) return state.SkipWithError(wrong.c_str());
      *checked = true;
    }
    auto const p = problem_of(g);
    double seconds = 0;
    if (cold) {
      for (auto _ : state) {
        double t = 0;
        for (int tries = 0; tries < 5; ++tries) {  // until nobody else took the core
          evict();
          long const before = taken_away();
          auto const start = clock::now();
          column.call(p.get(), ex);
          t = seconds_since(start);
          if (taken_away() == before) break;
        }
        state.SetIterationTime(t);
        seconds += t;
      }
    } else {
      column.call(p.get(), ex);  // warm
      auto const start = clock::now();
      for (auto _ : state) column.call(p.get(), ex);
      seconds = seconds_since(start);
    }
    using benchmark::Counter;
    if (g->of.flops > 0) state.counters["flop/s"] = Counter(g->of.flops, Counter::kIsIterationInvariantRate);
    state.counters["byte/s"] = Counter(g->of.bytes(), Counter::kIsIterationInvariantRate, Counter::kIs1024);
    state.counters["bound"] = bound(g->of, threads, cold) * static_cast<double>(state.iterations()) / seconds;
  };
  std::string const name = g->name + "/threads=" + std::to_string(threads) + "/" + column.name + (cold ? "_cold" : "");
  auto* const registered = benchmark::RegisterBenchmark(name.c_str(), body)->Unit(benchmark::kMicrosecond);
  if (cold) registered->UseManualTime()->Iterations(smoke() ? 2 : 20);
  else registered->UseRealTime();
}

std::vector<std::pair<std::string, void (*)()>>& suites() {
  static std::vector<std::pair<std::string, void (*)()>> all;
  return all;
}
std::string suite_in_use;

// ---- Output

/// Google Benchmark 1.8 renamed it.
template <class Run>
bool failed(Run const& run) {
  if constexpr (requires { run.error_occurred; }) return run.error_occurred;
  else return run.skipped != decltype(run.skipped){};
}

/// Google Benchmark's table with a last page: for every case the medians of this run side by side, relative to the first column, and
/// the fraction of the bound.
class reporter : public benchmark::ConsoleReporter {
 public:
  reporter() : ConsoleReporter(isatty(1) != 0 ? OO_ColorTabular : OO_Tabular) {}
  void ReportRuns(std::vector<Run> const& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (Run const& run : runs) {
      wrong |= failed(run);
      if (run.run_type != Run::RT_Iteration || failed(run)) continue;
      // Cases and columns in the order of registration, whatever the order of runs.
      auto& one = cases_[run.family_index];
      one.name = run.run_name.function_name;
      auto const fraction = run.counters.find("bound");
      one.samples.emplace_back(run.real_accumulated_time / static_cast<double>(run.iterations) * 1e6,
                               fraction == run.counters.end() ? 0.0 : fraction->second.value);
    }
  }
  void Finalize() override {
    ConsoleReporter::Finalize();
    std::printf("\nmedians in us, times the first column, and the fraction of what this machine allows; one run, at %s",
                graft_limits_isa_name());
    std::string shown;
    double first = 0;
    for (auto& [index, one] : cases_) {
      auto const cut = one.name.rfind('/');
      if (one.name.substr(0, cut) != shown) {
        shown = one.name.substr(0, cut);
        first = 0;
        std::printf("\n%-44s", shown.c_str());
      }
      std::sort(one.samples.begin(), one.samples.end());
      auto const [t, fraction] = one.samples[one.samples.size() / 2];
      if (first == 0) first = t;
      std::printf("  %s %.4g (%.2fx", one.name.c_str() + cut + 1, t, t / first);
      if (fraction > 0) std::printf(", %.0f %%", 100 * fraction);
      std::printf(")");
    }
    std::printf("\n");
  }
  bool wrong = false;

 private:
  struct measured {
    std::string name;
    std::vector<std::pair<double, double>> samples;
  };
  std::map<std::int64_t, measured> cases_;
};

}  // namespace

void detail::add_cases(std::string const& name, work const& of, std::function<std::shared_ptr<void>()> make,
                       std::vector<any_check> checks, std::vector<any_column> columns) {
  auto const g =
      std::make_shared<group const>(group{suite_in_use + "/" + name, of, std::move(make), std::move(checks)});
  for (int const threads : thread_counts())
    for (std::size_t i = 0; i < columns.size(); ++i) {
      register_case(g, columns[i], threads, false);
      if (i == 0) register_case(g, columns[i], threads, true);
    }
}

suite::suite(char const* name, void (*add_all)()) { suites().emplace_back(name, add_all); }

int run(int argc, char** argv) {
  std::sort(suites().begin(), suites().end());
  for (auto const& [name, add_all] : suites()) {
    suite_in_use = name;
    add_all();
  }
  for (auto const& [key, text] : machine()) benchmark::AddCustomContext(key, text);
  benchmark::AddCustomContext("flags", GRAFT_BENCH_FLAGS);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  for (int const threads : thread_counts()) {
    auto const& l = limits(threads);
    char text[300];
    std::snprintf(text, sizeof text,
                  "fp32 %.0f GFLOP/s; read %.0f / %.0f / %.0f / %.0f GB/s, update %.0f / %.0f / %.0f / %.0f GB/s in "
                  "L1 / L2 / L3 / memory; fork-join %.2f us",
                  l.fma * 1e-9, l.bandwidth[graft_limits_read][0] * 1e-9, l.bandwidth[graft_limits_read][1] * 1e-9,
                  l.bandwidth[graft_limits_read][2] * 1e-9, l.bandwidth[graft_limits_read][3] * 1e-9,
                  l.bandwidth[graft_limits_update][0] * 1e-9, l.bandwidth[graft_limits_update][1] * 1e-9,
                  l.bandwidth[graft_limits_update][2] * 1e-9, l.bandwidth[graft_limits_update][3] * 1e-9,
                  l.fork_join * 1e6);
    benchmark::AddCustomContext("limits, threads=" + std::to_string(threads), text);
  }
  reporter out;
  benchmark::RunSpecifiedBenchmarks(&out);
  benchmark::Shutdown();
  for (int const threads : smoke() ? std::vector<int>{} : thread_counts()) {
    double const before = limits(threads).fma, after = measure(threads).fma;
    if (after < 0.9 * before || before < 0.9 * after)
      std::printf("contended: the FMA peak of %d threads was %.0f GFLOP/s before and %.0f after\n", threads,
                  before * 1e-9, after * 1e-9);
  }
  return out.wrong ? 1 : 0;
}

}  // namespace bench
