// SPDX-License-Identifier: Apache-2.0
// Google Benchmark with a last page: for every case the medians of one run side by side, as ratios to the first column.
// Names are "case/what"; run with --benchmark_enable_random_interleaving=true and some repetitions for figures to quote.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <unistd.h>

#include <graft/executor/isa.hpp>

namespace bench {

/// Google Benchmark 1.8 renamed it.
template <class Run>
bool failed(Run const& run) {
  if constexpr (requires { run.error_occurred; }) return run.error_occurred;
  else return run.skipped != decltype(run.skipped){};
}

class ratio_reporter : public benchmark::ConsoleReporter {
 public:
  ratio_reporter() : ConsoleReporter(isatty(1) != 0 ? OO_ColorTabular : OO_Tabular) {}

  void ReportRuns(std::vector<Run> const& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (Run const& run : runs) {
      if (run.run_type != Run::RT_Iteration || failed(run)) continue;
      // Cases and columns in the order of registration, whatever the order of runs.
      auto& one = cases_[run.family_index];
      one.name = run.run_name.function_name;
      one.times.push_back(run.real_accumulated_time / static_cast<double>(run.iterations) * 1e6);
    }
  }
  void Finalize() override {
    ConsoleReporter::Finalize();
    std::string const level(graft::name(graft::active_isa()));
    std::printf("\nmedians in us, and time relative to the first column; one run, host bodies at %s", level.c_str());
    std::string shown;
    double first = 0;
    for (auto& [index, one] : cases_) {
      auto const cut = one.name.rfind('/');
      if (one.name.substr(0, cut) != shown) {
        shown = one.name.substr(0, cut);
        first = 0;
        std::printf("\n%-34s", shown.c_str());
      }
      std::sort(one.times.begin(), one.times.end());
      double const t = one.times[one.times.size() / 2];
      if (first == 0) first = t;
      std::printf("  %s %.1f (%.2fx)", one.name.c_str() + cut + 1, t, t / first);
    }
    std::printf("\n");
  }

 private:
  struct measured {
    std::string name;
    std::vector<double> times;
  };
  std::map<std::int64_t, measured> cases_;
};

inline int run(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  ratio_reporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
  return 0;
}

}  // namespace bench
