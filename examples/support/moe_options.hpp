// SPDX-License-Identifier: Apache-2.0
/// @file
/// The command line of moe_router.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include "gates.hpp"

namespace moe {

inline constexpr char const* usage =
    "usage: moe_router [--quick] [--gate NAME] [--csv FILE] [--plot FILE.svg] [options]\n"
    "  --data FILE        digits.csv (default examples/data/digits.csv)\n"
    "  --gate NAME        only softmax_topk, topk_softmax, switch_top1, sigmoid_topk, noisy_topk, expert_choice or "
    "dense_gate\n"
    "  --csv FILE         writes the table there too\n"
    "  --plot FILE.svg    draws the loads of the experts, without and with the loss\n"
    "  --quick            4 epochs in place of 20\n"
    "  --epochs N         or so many\n"
    "  --linear N         features of the linear layer in front, 0 for none (default 32)\n"
    "  --shared           an expert more, for every token\n"
    "  --drop-experts P   in training an expert's output for a token is dropped with this probability (default 0)\n"
    "  --seed S           of everything that is drawn (default 1)\n"
    "  --threads N        of graft (default 1); bits do not depend on it\n"
    "exit status: 0 right, 1 a gate learnt too little, a loss did not balance or a rerun differed in a bit, 2 "
    "refused\n";

struct options {
  std::string data = "examples/data/digits.csv";
  std::string gate, csv, plot;
  bool quick = false, shared = false, help = false;
  int epochs = 0, linear = 32, threads = 1, batch = 64;
  double drop_experts = 0;
  float rate = 0.005F;
  std::uint64_t seed = 1;
};

template <class T>
[[nodiscard]] T number(std::string_view name, std::string_view text, T low, T high) {
  T value{};
  auto const [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc{} || end != text.data() + text.size() || !(value >= low && value <= high))
    throw std::invalid_argument(std::string(name) + " must be a number from " + std::to_string(low) + " to " +
                                std::to_string(high) + ", not '" + std::string(text) + "'");
  return value;
}

[[nodiscard]] inline options parse(int count, char const* const* values) {
  options o;
  for (int i = 1; i < count; ++i) {
    std::string_view const name = values[i];
    auto const value = [&]() -> std::string_view {
      if (i + 1 == count) throw std::invalid_argument(std::string(name) + " needs a value");
      return values[++i];
    };
    if (name == "--help" || name == "-h") o.help = true;
    else if (name == "--quick") o.quick = true;
    else if (name == "--shared") o.shared = true;
    else if (name == "--data") o.data = value();
    else if (name == "--gate") o.gate = value();
    else if (name == "--csv") o.csv = value();
    else if (name == "--plot") o.plot = value();
    else if (name == "--epochs") o.epochs = number(name, value(), 1, 1000);
    else if (name == "--linear") o.linear = number(name, value(), 0, 1024);
    else if (name == "--threads") o.threads = number(name, value(), 1, 1024);
    else if (name == "--seed") o.seed = number<std::uint64_t>(name, value(), 0, UINT64_MAX);
    else if (name == "--drop-experts") o.drop_experts = number(name, value(), 0.0, 0.9);
    else throw std::invalid_argument("there is no option '" + std::string(name) + "'; --help lists all");
  }
  auto const gates = all_setups();
  if (!o.gate.empty() && std::none_of(gates.begin(), gates.end(), [&](setup const& s) { return s.gate == o.gate; }))
    throw std::invalid_argument("there is no gate '" + o.gate + "'; --help lists all");
  if (o.epochs == 0) o.epochs = o.quick ? 4 : 20;
  return o;
}

}  // namespace moe
