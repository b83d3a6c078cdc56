// SPDX-License-Identifier: Apache-2.0
/// @file
/// Proof that the checker compares. Of each case: every expected tensor is moved beyond its tolerance (one element of it and
/// of its twin), is left out of the results, and is made NaN; every list loses its last name. Each such copy must fail, and
/// where a tensor is at fault the failure must name it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>

#include <graft/io/safetensors_writer.hpp>

#include "checker.hpp"

namespace golden {
namespace {

using bytes_t = std::vector<std::byte>;

/// The same file with other bytes for some tensors and another metadata.
graft::io::safetensors_file rewritten(test_case const& c, std::map<std::string, bytes_t> const& changed,
                                      std::map<std::string, std::string> const& metadata) {
  std::vector<graft::io::tensor_data> tensors;
  for (auto const& t : c.file().tensors()) {
    auto const it = changed.find(t.name);
    tensors.push_back(
        {t.name, t.type, t.shape, it == changed.end() ? c.file().bytes(t) : std::span<std::byte const>(it->second)});
  }
  std::string const bytes = graft::io::safetensors_bytes(tensors, metadata);
  return graft::io::safetensors_file::parse(std::as_bytes(std::span(bytes)), c.file().path());
}

template <class T>
void poke(bytes_t& bytes, std::size_t i, T value) {
  std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
}

/// The tensor with one element moved: to three times its own tolerance, or to another integer that no alternative allows.
std::map<std::string, bytes_t> moved(test_case const& c, std::string const& tensor) {
  auto const copy_of = [&](std::string const& n) {
    auto const b = c.file().bytes(c.file().at(n));
    return bytes_t(b.begin(), b.end());
  };
  std::size_t seed = 0;  // the choice of the element: the same in every run
  for (char const ch : c.name + "/" + tensor) seed = seed * 31 + static_cast<unsigned char>(ch);
  auto const count = static_cast<std::size_t>(size_of(c.file().at(tensor).shape));
  std::map<std::string, bytes_t> out{{tensor, copy_of(tensor)}};
  if (c.tol.contains(tensor)) {
    std::size_t const i = seed % count;
    double const old = c.file().read_as<double>(tensor + "64")[i];
    double const bound = c.tol.at(tensor).atol + c.tol.at(tensor).rtol * std::abs(old);
    double const step = bound > 0 ? 3 * bound : 1e-5 * (old == 0 ? 1 : std::abs(old));
    double const now = old + ((seed / count) % 2 == 0 ? step : -step);
    auto& twin = out[tensor + "64"] = copy_of(tensor + "64");
    poke(twin, i, now);
    poke(out[tensor], i, static_cast<float>(now));
    return out;
  }
  auto const ints = c.file().read_as<std::int64_t>(tensor);
  auto const alternatives = c.config.value("alternatives", nlohmann::json::object());
  auto const other =
      alternatives.contains(tensor) ? c.file().read_as<std::int64_t>(alternatives[tensor].get<std::string>()) : ints;
  for (std::size_t n = 0; n < count; ++n) {
    std::size_t const i = (seed + n) % count;
    if (ints[i] != other[i]) continue;  // the method may have taken the alternative
    out[tensor][i * out[tensor].size() / count] ^= std::byte{1};
    return out;
  }
  return {};
}

}  // namespace

outcome self_test(test_case const& c) {
  using verdict = outcome::verdict;
  outcome const honest = run(c);
  if (honest.what != verdict::passed) return honest;
  if (c.expect != expectation::ok) return {verdict::skipped, "expects no tensors", {}};
  std::size_t spoilt = 0;
  std::string accepted;
  auto const demand = [&](std::string const& what, std::string const& tensor, outcome const& o) {
    ++spoilt;
    if (o.what != verdict::failed || o.tensor != tensor)
      accepted += (accepted.empty() ? "" : "; ") + what + " " + printable(tensor) + " gave: " + o.text;
  };
  std::size_t empty = 0;
  for (auto const& tensor : c.expected) {
    demand("removing", tensor, run(c, [&](results& r) { r.by_name.erase(tensor); }));
    demand("another shape of", tensor, run(c, [&](results& r) { r.by_name.at(tensor).shape.push_back(1); }));
    if (size_of(c.file().at(tensor).shape) == 0) {
      ++empty;
      continue;
    }
    demand("moving", tensor, run(test_case(rewritten(c, moved(c, tensor), c.file().metadata()), c.folder())));
    if (c.tol.contains(tensor))
      demand("NaN in", tensor, run(c, [&](results& r) {
               r.by_name.at(tensor).values.back() = std::numeric_limits<double>::quiet_NaN();
             }));
  }
  // Lists that do not describe the file.
  auto const demand_bad = [&](std::string const& key, auto const& change) {
    auto metadata = c.file().metadata();
    auto list = nlohmann::json::parse(metadata.at(key));
    change(list);
    metadata[key] = list.dump();
    ++spoilt;
    try {
      outcome const o = run(test_case(rewritten(c, {}, metadata), c.folder()));
      accepted += (accepted.empty() ? "" : "; ") + ("a wrong list " + key + " gave: " + o.text);
    } catch (bad_case const&) {}
  };
  demand_bad("expected", [](auto& list) { list.erase(list.size() - 1); });
  demand_bad("inputs", [](auto& list) { list.push_back("no such tensor"); });
  demand_bad("inputs", [&](auto& list) { list.push_back(c.expected.front()); });
  demand_bad("tol", [](auto& list) { list["no such tensor"] = {{"rtol", 1}, {"atol", 1}}; });
  if (!c.tol.empty()) demand_bad("tol", [](auto& list) { list.erase(list.begin()); });

  std::string const text =
      std::to_string(spoilt) + " spoilt copies of " + std::to_string(c.expected.size()) + " tensors";
  if (!accepted.empty()) return {verdict::failed, text + ", not refused: " + accepted, {}};
  return {
      verdict::passed,
      text + ", all refused" + (empty == 0 ? "" : " (" + std::to_string(empty) + " without elements were not moved)"),
      {}};
}

}  // namespace golden
