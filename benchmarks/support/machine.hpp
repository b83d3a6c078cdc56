// SPDX-License-Identifier: Apache-2.0
// The machine and the compiler in words, for the context of results.
#pragma once

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

#include "support/limits.hpp"

namespace bench {

inline std::vector<std::pair<std::string, std::string>> machine() {
  auto const line_of = [](char const* file, std::string const& key) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);)
      if (line.compare(0, key.size(), key) == 0) {
        auto const at = key.empty() ? std::size_t{0} : line.find(": ");
        return at == std::string::npos ? line : line.substr(key.empty() ? 0 : at + 2);
      }
    return std::string("not known");
  };
  auto const kib = [](int level) { return std::to_string(graft_limits_cache_bytes(level) / 1024) + " KiB"; };
  std::vector<std::pair<std::string, std::string>> lines{
      {"processor", line_of("/proc/cpuinfo", "model name") + ", family " + line_of("/proc/cpuinfo", "cpu family") +
                        " model " + line_of("/proc/cpuinfo", "model\t")},
      {"cores", std::to_string(sysconf(_SC_NPROCESSORS_ONLN))},
      {"caches", "L1 " + kib(0) + " and L2 " + kib(1) + " of a core, last level " + kib(2)},
      {"instruction set of host bodies", graft_limits_isa_name()},
      {"governor", line_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "")},
      {"huge pages", line_of("/sys/kernel/mm/transparent_hugepage/enabled", "")},
#if defined(__clang__)
      {"compiler", "clang " __clang_version__},
#else
      {"compiler", "g++ " __VERSION__},
#endif
  };
  return lines;
}

}  // namespace bench
