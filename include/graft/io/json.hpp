// SPDX-License-Identifier: Apache-2.0
/// @file
/// JSON from strangers, through nlohmann's SAX interface: its parser silently keeps the last of two equal keys, has no bound
/// on depth, and takes a zero byte for the end.
#pragma once

#include <algorithm>
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

/// Builds a value with its keys in the order of the text; refuses duplicate keys and nesting above 64.
class json_builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  static constexpr std::size_t deepest = 64;
  nlohmann::ordered_json root;
  std::string problem;
  std::string problem_key;
  std::size_t problem_at = 0;  ///< Counted from 1; 0 when it is not known.

  bool null() override { return put(nullptr); }
  bool boolean(bool v) override { return put(v); }
  bool number_integer(number_integer_t v) override { return put(v); }
  bool number_unsigned(number_unsigned_t v) override { return put(v); }
  bool number_float(number_float_t v, string_t const&) override { return put(v); }
  bool string(string_t& v) override { return put(std::move(v)); }
  bool binary(binary_t&) override { return fail("binary data"); }
  bool start_object(std::size_t) override { return open(nlohmann::ordered_json::object()); }
  bool start_array(std::size_t) override { return open(nlohmann::ordered_json::array()); }
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
    std::string_view what = e.what();  // "[json.exception...] parse error at line 1, column 2: ..."
    what.remove_prefix(std::min(what.find("] "), what.size() - 2) + 2);
    std::string out;
    for (char const c :
         what.substr(0, what.find("; last read"))) {  // what was read is not repeated: it is hostile and may be long
      if (out.size() == 200) break;
      out += c < 32 || c > 126 ? '?' : c;
    }
    return fail(std::move(out));
  }

 private:
  bool fail(std::string what) {
    if (problem.empty()) problem = std::move(what);
    return false;
  }
  nlohmann::ordered_json* insert(nlohmann::ordered_json&& v) {
    if (stack_.empty()) {
      root = std::move(v);
      return &root;
    }
    if (stack_.back()->is_array()) return &stack_.back()->emplace_back(std::move(v));
    // It is known to be new: the vector's emplace_back, because the map's would search all keys for each.
    return &stack_.back()
                ->get_ref<nlohmann::ordered_json::object_t&>()
                .emplace_back(std::move(key_), std::move(v))
                .second;
  }
  template <class V>
  bool put(V&& v) {
    insert(nlohmann::ordered_json(std::forward<V>(v)));
    return true;
  }
  bool open(nlohmann::ordered_json&& v) {
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

  std::vector<nlohmann::ordered_json*> stack_;
  std::vector<std::set<std::string>> keys_;
  std::string key_;
};

inline namespace GRAFT_TARGET {
/// `base` is where the text starts in the file, for the offset of a complaint.
[[nodiscard]] inline nlohmann::ordered_json parse_json(std::string_view text, std::string const& file,
                                                       index_t base = 0) {
  if (auto const zero = text.find('\0'); zero != std::string_view::npos)
    refuse(file, "not valid JSON: a zero byte", {}, base + static_cast<index_t>(zero));
  json_builder builder;
  bool const good = nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  if (!good || !builder.problem.empty())
    refuse(file, graft::detail::text("not valid JSON: ", builder.problem.empty() ? "unknown" : builder.problem.c_str()),
           builder.problem_key, builder.problem_at == 0 ? -1 : base + static_cast<index_t>(builder.problem_at) - 1);
  return std::move(builder.root);
}

[[nodiscard]] inline bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    auto const at = [&](std::size_t k) { return k < text.size() ? static_cast<unsigned char>(text[k]) : 0U; };
    unsigned const lead = at(i);
    std::size_t const more = lead < 0x80                   ? 0
                             : lead >= 0xc2 && lead < 0xe0 ? 1
                             : (lead & 0xf0U) == 0xe0      ? 2
                             : lead >= 0xf0 && lead < 0xf5 ? 3
                                                           : 4;
    if (more == 4) return false;
    for (std::size_t k = 1; k <= more; ++k)
      if ((at(i + k) & 0xc0U) != 0x80) return false;
    // Overlong forms, surrogates, above U+10FFFF.
    unsigned const second = at(i + 1);
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) || (lead == 0xf0 && second < 0x90) ||
        (lead == 0xf4 && second > 0x8f))
      return false;
    i += more + 1;
  }
  return true;
}
}  // namespace GRAFT_TARGET

}  // namespace graft::inline GRAFT_CONTRACT::io::detail
