// SPDX-License-Identifier: Apache-2.0
/// @file
/// One JSON object of a configuration, read key by key; which keys change numbers, and which do not.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <graft/config.hpp>
#include <graft/io/errors.hpp>
#include <graft/io/json.hpp>
#include <graft/io/name_pattern.hpp>

namespace graft::inline GRAFT_CONTRACT::io::detail {

// What PEFT matches from the start of a name (re.match), as expressions over the whole name.
[[nodiscard]] inline std::string as_key(std::string_view key) {
  return graft::detail::text("(.*\\.)?(", key, ")$\\n?");
}
[[nodiscard]] inline std::string as_saved(std::string_view module) {
  return graft::detail::text("(?:(^|.*\\.)", module, "($|\\..*))(.|\\n)*");
}
[[nodiscard]] inline std::string as_layers(std::string_view name) {
  return graft::detail::text("(.*\\.)", name, "\\.");
}
/// Is it one of these, or does it end in a dot and one?
[[nodiscard]] inline bool listed(std::vector<std::string> const& names, std::string_view module) {
  return std::any_of(names.begin(), names.end(), [&](std::string const& n) {
    return module == n ||
           (module.size() > n.size() && module.ends_with(n) && module[module.size() - n.size() - 1] == '.');
  });
}

/// Reads members of one JSON object, with complaints that name the key, what was expected and what is there.
class config_reader {
 public:
  config_reader(nlohmann::ordered_json const& object, std::string const& file) : object_(object), file_(file) {}

  [[nodiscard]] std::string const& file() const { return file_; }
  [[nodiscard]] bool has(std::string const& key) const { return object_.contains(key); }
  /// Null and absent are the same.
  [[nodiscard]] nlohmann::ordered_json const* get(std::string const& key) {
    known_.push_back(key);
    auto const it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }
  void boolean(std::string const& key, bool& to) {
    if (auto const* const v = get(key)) {
      if (!v->is_boolean()) wrong(key, "true or false", *v);
      to = v->get<bool>();
    }
  }
  void text(std::string const& key, std::string& to) {
    if (auto const* const v = get(key)) {
      if (!v->is_string()) wrong(key, "a string", *v);
      to = v->get<std::string>();
    }
  }
  void number(std::string const& key, double& to) {
    if (auto const* const v = get(key)) to = number_in(key, *v);
  }
  /// A whole number, `least` (0 or 1) or more.
  void whole(std::string const& key, index_t& to, index_t least) {
    auto const* const v = get(key);
    if (v == nullptr) return;
    if (!v->is_number_integer()) wrong(key, "a whole number", *v);
    if (v->is_number_unsigned() && v->get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX))
      wrong(key, "below 2^63", *v);
    to = v->get<index_t>();
    if (to < least) wrong(key, least > 0 ? "positive" : "not negative", *v);
  }
  void names(std::string const& key, std::vector<std::string>& to) {
    if (auto const* const v = get(key)) names_in(key, *v, to);
  }
  /// A list of names, or one string.
  void names_or_text(std::string const& key, std::vector<std::string>& names, std::optional<std::string>& text) {
    auto const* const v = get(key);
    if (v == nullptr) return;
    if (v->is_string()) text = v->get<std::string>();
    else names_in(key, *v, names);
  }
  void pattern(std::string const& key, std::vector<std::pair<std::string, double>>& to) {
    auto const* const v = get(key);
    if (v == nullptr) return;
    if (!v->is_object()) wrong(key, "an object of numbers", *v);
    for (auto const& [k, value] : v->items()) {
      static_cast<void>(name_pattern(as_key(k), file_));
      to.emplace_back(k, number_in(key, value));
    }
  }
  [[noreturn]] void wrong(std::string const& key, std::string_view expected, nlohmann::ordered_json const& v) const {
    refuse(file_, graft::detail::text("must be ", expected, " but is ", shown(v)), key);
  }
  [[nodiscard]] bool is_known(std::string const& key) const {
    return std::find(known_.begin(), known_.end(), key) != known_.end();
  }
  [[nodiscard]] static std::string shown(nlohmann::ordered_json const& v) {
    std::string out = v.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    if (out.size() > 120) out = out.substr(0, 117) + "...";
    return out;
  }

 private:
  [[nodiscard]] double number_in(std::string const& key, nlohmann::ordered_json const& v) const {
    if (!v.is_number()) wrong(key, "a number", v);
    return v.get<double>();
  }
  void names_in(std::string const& key, nlohmann::ordered_json const& v, std::vector<std::string>& to) const {
    if (!v.is_array()) wrong(key, "a list of names", v);
    for (auto const& e : v) {
      if (!e.is_string()) wrong(key, "a list of names", v);
      to.push_back(e.get<std::string>());
    }
  }

  nlohmann::ordered_json const& object_;
  std::string const& file_;
  std::vector<std::string> known_;
};

struct key_note {
  std::string_view key;
  std::string_view reason;
};
/// Keys that change the result when they are switched on (neither null, false, empty nor zero).
inline constexpr std::array<key_note, 12> changing_keys{
    {{"use_qalora", "QA-LoRA averages groups of inputs"},
     {"use_bdlora", "BD-LoRA stores block-diagonal factors"},
     {"alora_invocation_tokens", "activated LoRA depends on the tokens"},
     {"layer_replication", "layers of the base model are replicated"},
     {"trainable_token_indices", "rows of an embedding are replaced"},
     {"megatron_config", "Megatron layers are split over machines"},
     {"velora_config", "VeLoRA is not computed"},
     {"kasa_config", "KaSA changes the base weight"},
     {"monteclora_config", "MonteCLoRA samples its factors"},
     {"arrow_config", "Arrow routes between adapters"},
     {"modules_to_tie", "tied modules"},
     {"ensure_weight_tying", "tied weights share an adapter"}}};
/// Keys that say how the adapter was made or is used, and change nothing that is computed from its tensors.
inline constexpr std::array<std::string_view, 21> harmless_keys{"auto_mapping",
                                                                "base_model_name_or_path",
                                                                "inference_mode",
                                                                "init_lora_weights",
                                                                "loftq_config",
                                                                "megatron_core",
                                                                "revision",
                                                                "task_type",
                                                                "corda_config",
                                                                "eva_config",
                                                                "lora_ga_config",
                                                                "qalora_group_size",
                                                                "runtime_config",
                                                                "peft_version",
                                                                "peft_type",
                                                                "lora_dropout",
                                                                "d_initial",
                                                                "init_weights",
                                                                "init_ia3_weights",
                                                                "module_dropout",
                                                                "r"};
/// Values of init_lora_weights for which making the adapter, and loading it again, changes the base weight.
[[nodiscard]] inline bool changes_base(nlohmann::ordered_json const& init) {
  if (!init.is_string()) return false;
  std::string const& name = init.get_ref<std::string const&>();
  return name.starts_with("pissa") || name.starts_with("corda") || name == "olora" || name == "loftq" ||
         name == "lora_ga";
}

[[nodiscard]] inline bool switched_off(nlohmann::ordered_json const& v) {
  return v.is_null() || (v.is_boolean() && !v.get<bool>()) || ((v.is_array() || v.is_object()) && v.empty()) ||
         (v.is_string() && v.get_ref<std::string const&>().empty()) || (v.is_number() && v.get<double>() == 0);
}
[[nodiscard]] inline std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

}  // namespace graft::inline GRAFT_CONTRACT::io::detail
