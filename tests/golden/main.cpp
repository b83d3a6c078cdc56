// SPDX-License-Identifier: Apache-2.0
/// @file
/// graft_golden [--self-test] DIR...: every case below these folders, one line each; the last line is
/// "N passed, N failed, N skipped". Exit status 0: nothing failed and something passed.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checker.hpp"

namespace {

namespace fs = std::filesystem;
using golden::outcome;
using verdict = golden::outcome::verdict;

struct totals {
  int passed = 0;
  int failed = 0;
  int skipped = 0;
};

class checker {
 public:
  explicit checker(bool self_test) : self_test_(self_test) {}

  /// A folder given by the user. Without a single case it is a failure.
  void start(std::string const& path) {
    int const before = count();
    seen_.clear();
    std::string const name = golden::printable(path);
    try {
      if (fs::is_directory(path)) walk(path);
      else if (fs::is_regular_file(path)) file(path);
      else return report(verdict::failed, name, "there is no such folder");
    } catch (fs::filesystem_error const& e) { return report(verdict::failed, name, e.what()); }
    if (count() == before) report(verdict::failed, name, "holds no case");
  }
  [[nodiscard]] totals const& sums() const { return totals_; }

 private:
  [[nodiscard]] int count() const { return totals_.passed + totals_.failed + totals_.skipped; }

  void report(verdict v, std::string const& name, std::string const& text) {
    (v == verdict::passed ? totals_.passed : v == verdict::failed ? totals_.failed : totals_.skipped) += 1;
    char const* const word = v == verdict::passed ? "PASS" : v == verdict::failed ? "FAIL" : "SKIP";
    std::printf("%s %s %s\n", word, name.c_str(), text.c_str());
  }

  /// A folder with adapter_config.json is one case; any other is walked, in order of names, each real folder once.
  void walk(fs::path const& folder) {
    if (!seen_.insert(fs::canonical(folder)).second) return;
    if (fs::exists(folder / "adapter_config.json")) return one(folder / "reference.safetensors", true);
    std::vector<fs::path> entries;
    for (auto const& entry : fs::directory_iterator(folder)) entries.push_back(entry.path());
    std::sort(entries.begin(), entries.end());
    for (auto const& entry : entries) {
      if (fs::is_directory(entry)) walk(entry);
      else file(entry);
    }
  }
  void file(fs::path const& path) {
    if (path.extension() == ".safetensors") one(path, false);
  }

  /// A file without metadata `method` is no case, unless it is a checkpoint's reference.
  void one(fs::path const& path, bool checkpoint) {
    std::string name = golden::printable((path.parent_path().filename() / path.stem()).string());
    if (checkpoint) name = golden::printable(path.parent_path().string());
    try {
      auto data = graft::io::safetensors_file::read(path.string());
      if (!checkpoint && !data.metadata().contains("method")) return;
      golden::test_case const c(std::move(data), path.parent_path().string());
      name = golden::printable(c.method + "/" + c.name);
      if (checkpoint && c.method != "peft_checkpoint")
        throw golden::bad_case("the method of a checkpoint's reference is " + golden::printable(c.method));
      outcome const o = self_test_ ? golden::self_test(c) : golden::run(c);
      report(o.what, name, o.text);
    } catch (std::exception const& e) { report(verdict::failed, name, e.what()); }
  }

  bool self_test_;
  totals totals_;
  std::set<fs::path> seen_;
};

}  // namespace

int main(int count, char** values) {
  std::vector<std::string> folders;
  bool self_test = false;
  bool usage = false;
  for (int i = 1; i < count; ++i) {
    std::string_view const argument = values[i];
    if (argument == "--self-test") self_test = true;
    else if (argument.starts_with("--")) usage = true;
    else folders.emplace_back(argument);
  }
  if (usage || folders.empty()) {
    std::fputs("usage: graft_golden [--self-test] DIR...\n", stderr);
    return 2;
  }
  checker all(self_test);
  for (auto const& folder : folders) all.start(folder);
  auto const& sums = all.sums();
  std::printf("%d passed, %d failed, %d skipped\n", sums.passed, sums.failed, sums.skipped);
  return sums.failed == 0 && sums.passed > 0 ? 0 : 1;
}
