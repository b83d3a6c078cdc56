// SPDX-License-Identifier: Apache-2.0
// Google Benchmark with a last page: for every case the medians of one run side by side, as ratios to the first column.
// Names are "case/what"; run with --benchmark_enable_random_interleaving=true and some repetitions for figures to quote.
#pragma once

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include <graft/executor/isa.hpp>

namespace bench {

class ratio_reporter : public benchmark::ConsoleReporter {
 public:
  void ReportRuns(std::vector<Run> const& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (Run const& run : runs) {
      if (run.run_type != Run::RT_Iteration || run.error_occurred) continue;
      std::string const name = run.run_name.function_name;
      auto const cut = name.rfind('/');
      auto& columns = cases_[name.substr(0, cut)];
      if (columns.empty()) order_.push_back(name.substr(0, cut));
      std::string const what = name.substr(cut + 1);
      auto at = std::find_if(columns.begin(), columns.end(), [&](auto const& c) { return c.first == what; });
      if (at == columns.end()) at = columns.insert(columns.end(), {what, {}});
      at->second.push_back(run.real_accumulated_time / static_cast<double>(run.iterations) * 1e6);
    }
  }
  void Finalize() override {
    ConsoleReporter::Finalize();
    std::string const level(graft::name(graft::active_isa()));
    std::printf("\nmedians in us and time relative to graft, one run, host bodies at %s\n", level.c_str());
    for (auto const& key : order_) {
      std::printf("%-34s", key.c_str());
      double first = 0;
      for (auto& [what, times] : cases_[key]) {
        std::sort(times.begin(), times.end());
        double const t = times[times.size() / 2];
        if (first == 0) first = t;
        std::printf("  %s %.1f (%.2fx)", what.c_str(), t, t / first);
      }
      std::printf("\n");
    }
  }

 private:
  std::map<std::string, std::vector<std::pair<std::string, std::vector<double>>>> cases_;
  std::vector<std::string> order_;
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
