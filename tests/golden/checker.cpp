// SPDX-License-Identifier: Apache-2.0
#include "checker.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <utility>

#include <graft/contracts.hpp>

namespace golden {

using graft::io::dtype;

std::string printable(std::string_view name) {
  std::string const quoted = graft::io::escaped(name);
  return quoted.substr(1, quoted.size() - 2);
}
std::string shape_text(shape_t const& shape) {
  std::string out = "[";
  for (index_t const e : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(e);
  return out + "]";
}
index_t size_of(shape_t const& shape) {
  index_t n = 1;
  for (index_t const e : shape) n *= e;
  return n;
}

namespace {

std::string number(double v, int digits = 9) {
  std::array<char, 40> text{};
  static_cast<void>(std::snprintf(text.data(), text.size(), "%.*g", digits, v));
  return text.data();
}

std::vector<std::string> names(nlohmann::json const& list, char const* key) {
  std::vector<std::string> out;
  if (!list.is_array()) throw bad_case(std::string("metadata ") + key + " is not a list");
  for (auto const& n : list) {
    if (!n.is_string()) throw bad_case(std::string("metadata ") + key + " holds something that is not a name");
    out.push_back(n.get<std::string>());
  }
  return out;
}

bool is_integer(dtype t) {
  return t != dtype::f64 && t != dtype::f32 && t != dtype::f16 && t != dtype::bf16 && t != dtype::other;
}

}  // namespace

test_case::test_case(graft::io::safetensors_file file, std::string folder)
    : file_(std::move(file)), folder_(std::move(folder)) {
  method = text("method");
  name = text("case");
  config = json("config");
  if (!config.is_object()) throw bad_case("metadata config is not an object");
  std::string const& kind = text("expect");
  if (kind == "error") expect = expectation::error;
  else if (kind == "implementation-defined") expect = expectation::implementation_defined;
  else if (kind != "ok")
    throw bad_case("metadata expect is " + printable(kind) + ": not ok, error or implementation-defined");
  expected = names(json("expected"), "expected");
  auto const tolerances = json("tol");
  if (!tolerances.is_object()) throw bad_case("metadata tol is not an object");
  for (auto const& [tensor, t] : tolerances.items()) {
    auto const value = [&, &of = tensor, &entry = t](char const* key) {
      auto const it = entry.is_object() ? entry.find(key) : entry.end();
      if (!entry.is_object() || it == entry.end() || !it->is_number() || !(it->template get<double>() >= 0) ||
          !std::isfinite(it->template get<double>()))
        throw bad_case("tol of " + printable(of) + " has no usable " + key);
      return it->template get<double>();
    };
    tol[tensor] = {value("rtol"), value("atol")};
  }
  auto const given_names = names(json("inputs"), "inputs");
  inputs_ = {given_names.begin(), given_names.end()};
  check_lists();
}

std::string const& test_case::text(std::string const& key) const {
  auto const it = file_.metadata().find(key);
  if (it == file_.metadata().end()) throw bad_case("the metadata has no " + key);
  return it->second;
}
nlohmann::json test_case::json(std::string const& key) const {
  return graft::io::detail::parse_json(text(key), file_.path() + " (" + key + ")");
}

bool test_case::expects(std::string const& tensor) const {
  return std::find(expected.begin(), expected.end(), tensor) != expected.end();
}

graft::io::tensor_info const& test_case::info(std::string const& input) const {
  if (!has(input)) throw bad_case("there is no input " + printable(input));
  return file_.at(input);
}

/// Inputs, expected, twins and informative partition the tensors of the file; the keys of tol are the floating expectations.
void test_case::check_lists() const {
  std::map<std::string, std::string> list_of;
  auto const take = [&](std::string const& tensor, std::string const& list) {
    if (file_.find(tensor) == nullptr) throw bad_case(list + " " + printable(tensor) + " is not in the file");
    auto const [it, fresh] = list_of.emplace(tensor, list);
    if (!fresh) throw bad_case(printable(tensor) + " stands there twice: " + it->second + " and " + list);
  };
  for (auto const& n : names(json("inputs"), "inputs")) take(n, "input");
  for (auto const& n : expected) take(n, "expected tensor");
  for (auto const& [n, t] : tol) {
    take(n + "64", "float64 twin");
    if (!expects(n)) throw bad_case("tol names " + printable(n) + ", which is not expected");
    check_twin(n);
  }
  for (auto const& n : names(json("informative"), "informative")) take(n, "informative tensor");
  for (auto const& t : file_.tensors())
    if (!list_of.contains(t.name)) throw bad_case("tensor " + printable(t.name) + " is in none of the lists");
  for (auto const& n : expected)
    if (!tol.contains(n) && !is_integer(file_.at(n).type))
      throw bad_case("expected tensor " + printable(n) + " has no tolerance");
  if (auto const it = config.find("alternatives"); it != config.end()) {
    if (!it->is_object()) throw bad_case("config.alternatives is not an object");
    for (auto const& [n, other] : it->items()) {
      if (!other.is_string() || !expects(n) || tol.contains(n) ||
          list_of[other.get<std::string>()] != "informative tensor" ||
          file_.at(other.get<std::string>()).shape != file_.at(n).shape)
        throw bad_case("config.alternatives of " + printable(n) + " does not name an informative tensor of its shape");
    }
  }
  if ((expect == expectation::ok) == expected.empty())
    throw bad_case(expected.empty() ? "nothing is expected" : "tensors are expected beside an expected error");
}

void test_case::check_twin(std::string const& tensor) const {
  auto const& rounded = file_.at(tensor);
  auto const& twin = file_.at(tensor + "64");
  if (rounded.type != dtype::f32 || twin.type != dtype::f64 || rounded.shape != twin.shape)
    throw bad_case(printable(tensor) + " and its twin must be F32 and F64 of one shape");
  auto const low = file_.read_as<float>(tensor);
  auto const high = file_.read_as<double>(tensor + "64");
  for (std::size_t i = 0; i < low.size(); ++i)
    if (low[i] != static_cast<float>(high[i]))
      throw bad_case(printable(tensor) + " is not its twin rounded to fp32 at element " + std::to_string(i));
}

namespace {

std::map<std::string, method, std::less<>>& registry() {
  static std::map<std::string, method, std::less<>> methods;
  return methods;
}

/// The worst element of one tensor.
struct comparison {
  double worst = 0;  ///< error / bound; infinite where nothing can be compared
  std::string problem;
};

std::string index_text(shape_t const& shape, std::size_t flat) {
  shape_t at(shape.size());
  for (std::size_t d = shape.size(); d-- > 0;) {
    at[d] = static_cast<index_t>(flat) % shape[d];
    flat /= static_cast<std::size_t>(shape[d]);
  }
  return shape_text(at);
}

comparison compare(test_case const& c, std::string const& tensor, result const& got) {
  constexpr double never = std::numeric_limits<double>::infinity();
  auto const& want = c.file().at(tensor);
  if (got.shape != want.shape) return {never, "shape " + shape_text(got.shape) + ", want " + shape_text(want.shape)};
  if (got.values.size() != static_cast<std::size_t>(size_of(want.shape)))
    return {never, "its values do not fill its shape"};
  if (got.integer == c.tol.contains(tensor)) return {never, "integers and floating numbers cannot be compared"};
  comparison worst;
  auto const note = [&](double ratio, std::size_t i, double wanted, double bound) {
    if (!(ratio > worst.worst)) return;
    worst.worst = ratio;
    worst.problem = index_text(want.shape, i) + " got " + number(got.values[i]) + ", want " + number(wanted) +
                    ", |error| " + number(std::abs(got.values[i] - wanted), 3) + ", bound " + number(bound, 3);
  };
  if (!got.integer) {
    auto const& t = c.tol.at(tensor);
    auto const twin = c.file().read_as<double>(tensor + "64");
    for (std::size_t i = 0; i < twin.size(); ++i) {
      double const error = std::abs(got.values[i] - twin[i]);
      double const bound = t.atol + t.rtol * std::abs(twin[i]);
      bool const good = std::isfinite(got.values[i]) && error <= bound;
      double const ratio = error == 0 ? 0 : error / bound;
      note(good ? ratio : ratio > 1 ? ratio : never, i, twin[i], bound);
    }
  } else {
    auto const alternatives = c.config.value("alternatives", nlohmann::json::object());
    auto const ints = c.file().read_as<std::int64_t>(tensor);
    auto const other =
        alternatives.contains(tensor) ? c.file().read_as<std::int64_t>(alternatives[tensor].get<std::string>()) : ints;
    for (std::size_t i = 0; i < ints.size(); ++i)
      if (got.values[i] != static_cast<double>(ints[i]) && got.values[i] != static_cast<double>(other[i]))
        note(never, i, static_cast<double>(ints[i]), 0);
  }
  return worst;
}

outcome compare_all(test_case const& c, results const& got) {
  std::size_t compared = 0;
  std::size_t bad = 0;
  comparison worst;
  std::string worst_tensor;
  for (auto const& tensor : c.expected) {
    auto const it = got.by_name.find(tensor);
    comparison const one = it == got.by_name.end()
                               ? comparison{std::numeric_limits<double>::infinity(), "was not computed"}
                               : compare(c, tensor, it->second);
    compared += it != got.by_name.end() ? 1U : 0U;
    bad += one.worst > 1 ? 1U : 0U;
    if (worst_tensor.empty() || one.worst > worst.worst) {
      worst = one;
      worst_tensor = tensor;
    }
  }
  std::string text = "compared " + std::to_string(compared) + " of " + std::to_string(c.expected.size());
  if (bad == 0) return {outcome::verdict::passed, text + ", max error/bound " + number(worst.worst, 2), {}};
  return {outcome::verdict::failed,
          text + ", " + std::to_string(bad) + " wrong, worst " + printable(worst_tensor) + ": " + worst.problem,
          worst_tensor};
}

/// The rule for inputs whose result is up to the library: k distinct experts for each token, finite weights.
outcome check_selection(test_case const& c, results const& got) {
  auto const refuse = [](std::string text) { return outcome{outcome::verdict::failed, std::move(text), {}}; };
  index_t const k = c.config.value("top_k", index_t{0});
  double const experts = c.config.value("num_experts", 0.0);
  bool indices = false;
  bool weights = false;
  for (auto const& [name, r] : got.by_name) {
    if (!r.integer) {
      weights = true;
      if (!std::all_of(r.values.begin(), r.values.end(), [](double v) { return std::isfinite(v); }))
        return refuse(printable(name) + " is not finite");
    } else if (name.find("indices") != std::string::npos) {
      indices = true;
      if (k <= 0 || r.shape.empty() || r.shape.back() != k)
        return refuse(printable(name) + shape_text(r.shape) + " does not hold top_k indices a token");
      auto const width = static_cast<std::size_t>(k);
      for (std::size_t row = 0; row + width <= r.values.size(); row += width) {
        std::set<double> const chosen(r.values.begin() + static_cast<std::ptrdiff_t>(row),
                                      r.values.begin() + static_cast<std::ptrdiff_t>(row + width));
        if (chosen.size() != width || *chosen.begin() < 0 || *chosen.rbegin() >= experts)
          return refuse(printable(name) + ": token " + std::to_string(row / width) +
                        " has repeated or unknown experts");
      }
    }
  }
  if (!indices || !weights) return refuse("neither an error nor indices and weights were returned");
  return {outcome::verdict::passed, "finite weights of distinct experts (implementation-defined)", {}};
}

}  // namespace

registration::registration(std::string_view name, method m) { registry().emplace(name, m); }

outcome run(test_case const& c, std::function<void(results&)> const& alter) {
  auto const it = registry().find(c.method);
  if (it == registry().end()) return {outcome::verdict::skipped, "graft has no method " + printable(c.method), {}};
  results got;
  std::optional<std::string> refused;
  try {
    got = it->second(c);
  } catch (skip const& reason) {
    return {outcome::verdict::skipped, reason.what(), {}};
  } catch (graft::error const& e) { refused = e.what(); } catch (std::exception const& e) {
    return {outcome::verdict::failed, e.what(), {}};
  }
  if (refused) {
    if (c.expect == expectation::ok) return {outcome::verdict::failed, "refused: " + *refused, {}};
    return {outcome::verdict::passed, "refused as expected: " + *refused, {}};
  }
  if (alter) alter(got);
  switch (c.expect) {
    case expectation::error: return {outcome::verdict::failed, "an error was expected but numbers were returned", {}};
    case expectation::implementation_defined: return check_selection(c, got);
    case expectation::ok: break;
  }
  return compare_all(c, got);
}

}  // namespace golden
