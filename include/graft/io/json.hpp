// SPDX-License-Identifier: Apache-2.0
/// @file
/// JSON from strangers, through nlohmann's SAX interface: its parser silently keeps the last of two equal keys, and has no
/// bound on depth.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <graft/config.hpp>
#include <graft/io/errors.hpp>

namespace graft::inline GRAFT_CONTRACT::io::detail {

/// Builds a value; refuses duplicate keys and nesting above 64.
class json_builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  static constexpr std::size_t deepest = 64;
  nlohmann::json root;
  std::string problem;
  std::string problem_key;
  std::size_t problem_at = 0;

  bool null() override { return put(nullptr); }
  bool boolean(bool v) override { return put(v); }
  bool number_integer(number_integer_t v) override { return put(v); }
  bool number_unsigned(number_unsigned_t v) override { return put(v); }
  bool number_float(number_float_t v, string_t const&) override { return put(v); }
  bool string(string_t& v) override { return put(std::move(v)); }
  bool binary(binary_t&) override { return fail("binary data"); }
  bool start_object(std::size_t) override { return open(nlohmann::json::object()); }
  bool start_array(std::size_t) override { return open(nlohmann::json::array()); }
  bool key(string_t& k) override {
    if (!keys_.back().insert(k).second) {
      problem_key = k;
      return fail("this key stands there twice");
    }
    key_ = std::move(k);
    return true;
  }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t at, std::string const&, nlohmann::json::exception const& e) override {
    problem_at = at;
    std::string_view const what = e.what();  // "[json.exception...] parse error at line 1, column 2: ..."
    auto const colon = what.find("parse error");
    return fail(std::string(colon == std::string_view::npos ? what : what.substr(colon)));
  }

 private:
  bool fail(std::string what) {
    if (problem.empty()) problem = std::move(what);
    return false;
  }
  nlohmann::json* insert(nlohmann::json&& v) {
    if (stack_.empty()) {
      root = std::move(v);
      return &root;
    }
    if (stack_.back()->is_array()) return &stack_.back()->emplace_back(std::move(v));
    return &((*stack_.back())[key_] = std::move(v));
  }
  template <class V>
  bool put(V&& v) {
    insert(nlohmann::json(std::forward<V>(v)));
    return true;
  }
  bool open(nlohmann::json&& v) {
    if (stack_.size() == deepest) return fail("nested more than 64 levels deep");
    stack_.push_back(insert(std::move(v)));
    keys_.emplace_back();
    return true;
  }
  bool close() {
    stack_.pop_back();
    keys_.pop_back();
    return true;
  }

  std::vector<nlohmann::json*> stack_;
  std::vector<std::set<std::string>> keys_;
  std::string key_;
};

inline namespace GRAFT_TARGET {
/// `base` is where the text starts in the file, for the offset of a complaint.
[[nodiscard]] inline nlohmann::json parse_json(std::string_view text, std::string const& file, index_t base = 0) {
  json_builder builder;
  bool const good = nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  if (!good || !builder.problem.empty())
    refuse(file, graft::detail::text("not valid JSON: ", builder.problem.empty() ? "unknown" : builder.problem.c_str()), builder.problem_key,
           base + static_cast<index_t>(builder.problem_at));
  return std::move(builder.root);
}
}  // namespace GRAFT_TARGET

}  // namespace graft::inline GRAFT_CONTRACT::io::detail
