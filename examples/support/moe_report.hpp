// SPDX-License-Identifier: Apache-2.0
/// @file
/// What moe_router measures, as a table, as CSV and as a drawing.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "gates.hpp"

namespace moe {

struct outcome {
  std::string gate, loss;
  double accuracy = 0;            // of the test
  std::array<double, E> loads{};  // the share of all pairs that each expert gets
  double cv_squared = 0;          // of these
  double dropped = 0;             // in the last epoch
  double seconds = 0;
  std::uint64_t fingerprint = 0;  // of all parameters
};

inline void print_header() {
  std::printf("%-14s %-15s %8s   %-31s %7s %8s %8s\n", "gate", "balanced by", "test", "load of the experts in %",
              "CV^2", "dropped", "seconds");
}
inline void print_row(outcome const& r) {
  std::printf("%-14s %-15s %6.1f %%  ", r.gate.c_str(), r.loss == "none" ? "-" : r.loss.c_str(), 100 * r.accuracy);
  for (double const load : r.loads) std::printf("%4.0f", 100 * load);
  std::printf(" %7.3f %6.1f %% %8.2f\n", r.cv_squared, 100 * r.dropped, r.seconds);
  std::fflush(stdout);
}
inline void print_legend() {
  std::puts(
      "\nload: of all pairs of an image to learn from and an expert; CV^2: variance / mean^2 of it; dropped: pairs "
      "without "
      "room in\nthe last epoch (expert_choice: images that no expert chose)");
}

/// What must hold; 0 if it does.
[[nodiscard]] inline int print_summary(std::vector<outcome> const& table, int unequal, double accuracy) {
  int wrong = unequal;
  if (unequal > 0)
    std::printf("%d of %zu reruns with another number of threads differ in a bit\n", unequal, table.size());
  else std::printf("%zu reruns with another number of threads: equal bits\n", table.size());
  for (std::size_t i = 0; i < table.size(); ++i) {
    outcome const& r = table[i];
    if (!(r.accuracy >= accuracy)) {
      std::printf("%s (%s) learnt too little: below %.0f %%\n", r.gate.c_str(), r.loss.c_str(), 100 * accuracy);
      ++wrong;
    }
    if (r.loss == "none") continue;
    if (!(r.cv_squared < table[i - 1].cv_squared)) {
      std::printf("%s does not balance %s\n", r.loss.c_str(), r.gate.c_str());
      ++wrong;
    }
  }
  if (wrong == 0)
    std::printf("every gate is right for %.0f %% or more, and every loss makes the loads more even\n", 100 * accuracy);
  return wrong == 0 ? 0 : 1;
}

/// A file to write to; `good` is looked at behind the last byte.
class text_file {
 public:
  explicit text_file(std::string path) : path_(std::move(path)), file_(path_) {}
  template <class... A>
  void print(char const* format, A... a) {
    char text[512];
    std::snprintf(text, sizeof text, format, a...);
    file_ << text;
  }
  void close() {
    file_.close();
    if (!file_) throw std::runtime_error("cannot write " + path_);
  }

 private:
  std::string path_;
  std::ofstream file_;
};

inline void write_csv(std::string const& path, std::vector<outcome> const& table) {
  text_file file(path);
  file.print("%s", "gate,loss,accuracy");
  for (int e = 0; e < E; ++e) file.print(",load_%d", e);
  file.print("%s", ",cv_squared,dropped,seconds\n");
  for (outcome const& r : table) {
    file.print("%s,%s,%.6g", r.gate.c_str(), r.loss.c_str(), r.accuracy);
    for (double const load : r.loads) file.print(",%.6g", load);
    file.print(",%.6g,%.6g,%.3f\n", r.cv_squared, r.dropped, r.seconds);
  }
  file.close();
}

/// A panel a gate: bars of its experts' loads, grey without and teal with the loss, and a line where all are equal.
inline void write_plot(std::string const& path, std::vector<outcome> const& table) {
  constexpr int width = 400, height = 190, bar = 18, base = 160, left = 30, top = 50;
  double largest = 2.0 / E;
  int panels = 0;
  for (outcome const& r : table) {
    largest = std::max(largest, *std::max_element(r.loads.begin(), r.loads.end()));
    if (r.loss == "none") ++panels;
  }
  text_file file(path);
  auto const rows = (panels + 1) / 2;
  file.print(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n",
      2 * width, rows * height + top);
  file.print("<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n", 2 * width, rows * height + top);
  file.print(
      "<text x=\"%d\" y=\"26\" font-size=\"15\">Load of each expert: without (grey) and with (teal) what balances "
      "it</text>\n",
      left);
  int panel = -1;
  for (outcome const& r : table) {
    bool const first = r.loss == "none";
    if (first) ++panel;
    int const x = panel % 2 * width + left, y = panel / 2 * height + top;
    auto const high = [&](double load) { return load / largest * (base - 30); };
    if (first) {
      file.print("<text x=\"%d\" y=\"%d\" font-weight=\"bold\">%s</text>\n", x, y + 14, r.gate.c_str());
      file.print("<path d=\"M%d %dh%d\" stroke=\"black\"/>\n", x, y + base, width - left - 20);
      file.print("<path d=\"M%d %.1fh%d\" stroke=\"#888\" stroke-dasharray=\"4 3\"/>\n", x, y + base - high(1.0 / E),
                 width - left - 20);
    }
    file.print("<text x=\"%d\" y=\"%d\" fill=\"%s\">%s: CV\u00B2 %.3f</text>\n", x + (first ? 130 : 230), y + 14,
               first ? "#777" : "#00796b", first ? "alone" : r.loss.c_str(), r.cv_squared);
    for (int e = 0; e < E; ++e)
      file.print("<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" fill=\"%s\"/>\n",
                 x + 6 + e * 43 + (first ? 0 : bar), y + base - high(r.loads[static_cast<std::size_t>(e)]), bar - 1,
                 high(r.loads[static_cast<std::size_t>(e)]), first ? "#b0b0b0" : "#00897b");
  }
  file.print("%s", "</svg>\n");
  file.close();
}

}  // namespace moe
