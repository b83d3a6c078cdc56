// SPDX-License-Identifier: Apache-2.0
/// @file
/// The command line of peft_checkpoint.
#pragma once

#include <charconv>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace demo {

inline constexpr char const* usage =
    "usage: peft_checkpoint DIR [--reference FILE] [--threads N] [--seed S] [--tokens T]\n"
    "  DIR               a folder that PEFT saved: adapter_config.json and adapter_model.safetensors\n"
    "  --reference FILE  base tensors and PEFT's outputs (docs/golden.md); without it they are drawn and results are\n"
    "                    compared with a float64 evaluation\n"
    "  --threads N       threads (default 1); 0 is OpenMP's maximum\n"
    "  --seed S          of what is drawn (default 1)\n"
    "  --tokens T        rows of x that are drawn and timed (default 64)\n"
    "exit status: 0 within bounds, 1 a bound was exceeded, 2 the input was refused\n";

struct usage_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct options {
  std::string folder;
  std::string reference;
  int threads = 1;  // the times of small layers on a busy machine say nothing with more
  std::uint64_t seed = 1;
  std::int64_t tokens = 64;
  bool help = false;
};

template <class T>
[[nodiscard]] T number(std::string_view name, std::string_view text, T low, T high) {
  T value{};
  auto const [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc{} || end != text.data() + text.size() || value < low || value > high)
    throw usage_error(std::string(name) + " must be a whole number from " + std::to_string(low) + " to " +
                      std::to_string(high) + ", not '" + std::string(text) + "'");
  return value;
}

[[nodiscard]] inline options parse(int count, char const* const* values) {
  options o;
  for (int i = 1; i < count; ++i) {
    std::string_view const name = values[i];
    auto const value = [&]() -> std::string_view {
      if (i + 1 == count) throw usage_error(std::string(name) + " needs a value");
      return values[++i];
    };
    if (name == "--help" || name == "-h") o.help = true;
    else if (name == "--reference") o.reference = value();
    else if (name == "--threads") o.threads = number(name, value(), 0, 1024);
    else if (name == "--seed") o.seed = number<std::uint64_t>(name, value(), 0, UINT64_MAX);
    else if (name == "--tokens") o.tokens = number<std::int64_t>(name, value(), 1, 1 << 20);
    else if (name.starts_with("-")) throw usage_error("there is no option " + std::string(name));
    else if (o.folder.empty()) o.folder = name;
    else throw usage_error("one folder at a time, please");
  }
  if (o.folder.empty() && !o.help) throw usage_error("which folder?");
  return o;
}

}  // namespace demo
