// SPDX-License-Identifier: Apache-2.0
/// @file
/// The checker of golden data: reads cases, hands their inputs to the method that they name, compares every expected tensor.
/// The format is described in docs/golden.md. Methods register themselves and see inputs only, never expectations.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <graft/io/safetensors.hpp>
#include <graft/view/tensor_view.hpp>
#include <nlohmann/json.hpp>

namespace golden {

using graft::index_t;
using shape_t = std::vector<index_t>;

/// The case breaks the rules of the format: it fails.
struct bad_case : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// Thrown by a method that does not compute this case: it is skipped for this reason.
struct skip : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A name from a file, safe to print.
[[nodiscard]] std::string printable(std::string_view name);
[[nodiscard]] std::string shape_text(shape_t const& shape);
[[nodiscard]] index_t size_of(shape_t const& shape);

/// A given tensor, copied.
template <class T>
struct given {
  shape_t shape;
  std::vector<T> data;

  /// The last extent, and the product of the others: tokens are rows, whatever their leading dimensions.
  [[nodiscard]] index_t columns() const { return shape.back(); }
  [[nodiscard]] index_t rows() const { return size_of({shape.begin(), shape.end() - 1}); }
  [[nodiscard]] auto matrix() const { return graft::view(data.data(), rows(), columns()); }
  [[nodiscard]] auto vector() const { return graft::view(data); }
  /// The shape of a tensor with the same leading dimensions.
  [[nodiscard]] shape_t shape_with(index_t last) const {
    shape_t s = shape;
    s.back() = last;
    return s;
  }
};

enum class expectation { ok, error, implementation_defined };
struct tolerance {
  double rtol = 0;
  double atol = 0;
};

/// One case: a file that has been checked against the rules of the format. Throws bad_case or graft::error when it breaks
/// them.
class test_case {
 public:
  test_case(graft::io::safetensors_file file, std::string folder);

  std::string method;
  std::string name;
  nlohmann::json config;
  expectation expect = expectation::ok;
  std::vector<std::string> expected;
  std::map<std::string, tolerance> tol;

  /// Where the file lies; a checkpoint's adapter lies there too.
  [[nodiscard]] std::string const& folder() const { return folder_; }
  /// A value of the metadata.
  [[nodiscard]] std::string const& text(std::string const& key) const;
  [[nodiscard]] nlohmann::json json(std::string const& key) const;

  [[nodiscard]] bool has(std::string const& input) const { return inputs_.contains(input); }
  [[nodiscard]] bool expects(std::string const& tensor) const;
  [[nodiscard]] graft::io::dtype type(std::string const& input) const { return info(input).type; }
  /// A given tensor of at least `rank` dimensions. Anything but an input is refused.
  template <class T>
  [[nodiscard]] given<T> input(std::string const& input, std::size_t rank = 1) const {
    auto const& t = info(input);
    if (t.shape.size() < rank)
      throw bad_case("input " + printable(input) + shape_text(t.shape) + " has too few dimensions");
    if (graft::scalar<T> && graft::io::width(t.type) > static_cast<index_t>(sizeof(T)))
      throw bad_case("input " + printable(input) + " is stored as " + t.type_name + ", wider than it is used");
    return {t.shape, file_.read_as<T>(input)};
  }

  /// For the checker only.
  [[nodiscard]] graft::io::safetensors_file const& file() const { return file_; }

 private:
  [[nodiscard]] graft::io::tensor_info const& info(std::string const& input) const;
  void check_lists() const;
  void check_twin(std::string const& tensor) const;

  graft::io::safetensors_file file_;
  std::string folder_;
  std::set<std::string> inputs_;
};

/// What a method computed, by the names of the format.
struct result {
  shape_t shape;
  std::vector<double> values;  ///< Exact: no element type is wider.
  bool integer = false;
};
class results {
 public:
  template <class T>
  void add(std::string const& name, shape_t const& shape, std::vector<T> const& values) {
    result r{shape, {}, std::is_integral_v<T>};
    r.values.reserve(values.size());
    for (T const v : values) {
      if constexpr (std::is_integral_v<T>) r.values.push_back(static_cast<double>(v));
      else r.values.push_back(graft::load_as<double>(v));
    }
    by_name[name] = std::move(r);
  }
  std::map<std::string, result> by_name;
};

/// A new method is a file with one of these: `golden::registration const r{"lora", run};`
using method = results (*)(test_case const&);
struct registration {
  registration(std::string_view name, method m);
};

/// What became of one case.
struct outcome {
  enum class verdict { passed, failed, skipped };
  verdict what = verdict::failed;
  std::string text;    ///< One line for people.
  std::string tensor;  ///< The worst expected tensor of a failure, where there is one.
};
/// Runs the method and compares. `alter` may spoil the results first (self_test.cpp).
[[nodiscard]] outcome run(test_case const& c, std::function<void(results&)> const& alter = {});

/// Proves that the checker compares: see self_test.cpp. Passed when every spoilt copy of the case was refused.
[[nodiscard]] outcome self_test(test_case const& c);

}  // namespace golden
