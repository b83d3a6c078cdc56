// SPDX-License-Identifier: Apache-2.0
// What this machine can do: bandwidths by level of cache and kind of traffic, FMA peak, fork-join and barrier of OpenMP.
//
//     graft_limits [--json FILE] [--seconds S] [--threads N]...        (S a thread count, 4; one thread, and all of them)
#include "support/limits.hpp"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include <omp.h>

#include "support/machine.hpp"

namespace {

constexpr char const* traffic_names[] = {"read", "copy", "update", "stream_copy"};
constexpr char const* level_names[] = {"L1", "L2", "L3", "memory"};

struct measured {
  int threads;
  graft_limits limits;
};

std::string bytes_text(double bytes) {
  char text[40];
  if (bytes < 1 << 20) std::snprintf(text, sizeof text, "%.0f KiB", bytes / 1024);
  else std::snprintf(text, sizeof text, "%.4g MiB", bytes / 1048576);
  return text;
}

void print(measured const& m) {
  auto const& l = m.limits;
  std::printf("\n%d thread%s%38s", m.threads, m.threads == 1 ? " " : "s", "working set");
  for (auto const* name : traffic_names) std::printf("%14s", name);
  std::printf("   GB/s\n");
  for (int level = 0; level < graft_limits_levels; ++level) {
    std::printf("  %-30s%16s", level_names[level], bytes_text(l.bytes[level]).c_str());
    for (int kind = 0; kind < 4; ++kind) std::printf("%14.1f", l.bandwidth[kind][level] * 1e-9);
    std::printf("\n");
  }
  std::printf("  fp32 fused multiply-add %25.1f GFLOP/s\n", l.fma * 1e-9);
  std::printf("  fork and join of a region %23.3f us\n  barrier in a region %29.3f us\n", l.fork_join * 1e6,
              l.barrier * 1e6);
}

bool write_json(std::string const& file, std::vector<measured> const& all) {
  std::ofstream out(file);
  auto const quoted = [](std::string const& text) {
    std::string safe = "\"";
    for (char const c : text)
      if (static_cast<unsigned char>(c) >= ' ')
        safe += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
    return safe + '"';
  };
  out << "{\n  \"machine\": {";
  char const* separator = "";
  for (auto const& [key, text] : bench::machine()) {
    out << separator << "\n    " << quoted(key) << ": " << quoted(text);
    separator = ",";
  }
  out << "\n  },\n  \"limits\": [";
  separator = "";
  for (auto const& m : all) {
    out << separator << "\n    {\"threads\": " << m.threads << ", \"fma_flops\": " << m.limits.fma
        << ", \"fork_join_s\": " << m.limits.fork_join << ", \"barrier_s\": " << m.limits.barrier
        << ",\n     \"bandwidth_bytes_per_s\": {";
    char const* comma = "";
    for (int level = 0; level < graft_limits_levels; ++level) {
      out << comma << "\n       \"" << level_names[level] << "\": {\"working_set_bytes\": " << m.limits.bytes[level];
      for (int kind = 0; kind < 4; ++kind)
        out << ", \"" << traffic_names[kind] << "\": " << m.limits.bandwidth[kind][level];
      out << "}";
      comma = ",";
    }
    out << "}}";
    separator = ",";
  }
  out << "\n  ]\n}\n";
  return static_cast<bool>(out.flush());
}

}  // namespace

int main(int argc, char** argv) {
  std::string json;
  double seconds = 4;
  std::vector<int> threads;
  for (int i = 1; i < argc; ++i) {
    std::string_view const option = argv[i];
    if (i + 1 < argc && option == "--json") json = argv[++i];
    else if (i + 1 < argc && option == "--seconds") seconds = std::atof(argv[++i]);
    else if (i + 1 < argc && option == "--threads") threads.push_back(std::atoi(argv[++i]));
    else {
      std::fprintf(stderr, "graft_limits [--json FILE] [--seconds S] [--threads N]...\n");
      return 2;
    }
  }
  if (threads.empty()) threads = {1, omp_get_num_procs()};
  if (threads.size() == 2 && threads[0] == threads[1]) threads.pop_back();
  for (auto const& [key, text] : bench::machine()) std::printf("%-32s%s\n", key.c_str(), text.c_str());
  std::vector<measured> all;
  for (int const count : threads) {
    if (count < 1 || !(seconds > 0)) {
      std::fprintf(stderr, "graft_limits: threads and seconds must be above 0\n");
      return 2;
    }
    all.push_back({count, {}});
    graft_limits_measure(count, seconds, 0, &all.back().limits);
    print(all.back());
    if (!(all.back().limits.fma > 0) || !(all.back().limits.bandwidth[graft_limits_read][3] > 0)) {
      std::fprintf(stderr, "graft_limits: nothing was measured\n");
      return 1;
    }
  }
  if (!json.empty() && !write_json(json, all)) {
    std::fprintf(stderr, "graft_limits: cannot write %s\n", json.c_str());
    return 1;
  }
  return 0;
}
