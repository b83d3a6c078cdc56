// SPDX-License-Identifier: Apache-2.0
/// @file
/// `adapter_config.json` as Hugging Face PEFT writes it, for LORA and VERA; and PEFT's rules of which modules it targets.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <graft/config.hpp>
#include <graft/io/errors.hpp>
#include <graft/io/file_bytes.hpp>
#include <graft/io/json.hpp>
#include <graft/io/name_pattern.hpp>

namespace graft::inline GRAFT_CONTRACT::io {

namespace detail {
class config_reader;
}

/// Something in a checkpoint that graft does not compute with: shown to the caller, never dropped.
struct not_understood {
  std::string name;   ///< Key or tensor.
  std::string value;  ///< As text; a tensor's type and shape.
  std::string reason;
  bool changes_result = false;  ///< PEFT's numbers are others because of it.
};

/// `adapter_config.json` of PEFT's LORA and VERA: the keys that change numbers, by PEFT's names and defaults.
struct adapter_config {
  std::string peft_type;
  std::string peft_version;
  index_t r = 8;
  double lora_alpha = 8;
  double lora_dropout = 0;  ///< VeRA's vera_dropout too.
  bool use_rslora = false;
  bool use_dora = false;
  bool fan_in_fan_out = false;
  bool lora_bias = false;
  index_t projection_prng_key = 0;            ///< VeRA: the seed of its projections,
  bool save_projection = true;                ///< and whether the file holds them.
  std::string bias = "none";                  ///< none, all or lora_only: biases of the base model that were trained.
  std::vector<std::string> target_modules;    ///< Whole names or their ends after a dot,
  std::optional<std::string> target_pattern;  ///< or one regular expression over the whole name,
  bool target_all_linear = false;             ///< or "all-linear".
  std::vector<std::string> exclude_modules;
  std::optional<std::string> exclude_pattern;
  std::vector<index_t> layers_to_transform;
  std::vector<std::string> layers_pattern;
  std::vector<std::pair<std::string, double>> rank_pattern;  ///< In the file's order: the first match wins.
  std::vector<std::pair<std::string, double>> alpha_pattern;
  std::vector<std::string> modules_to_save;
  std::vector<std::string> target_parameters;
  std::vector<not_understood> others;  ///< Keys that graft does not know, or knows and does not compute.

  /// Of a type other than LORA and VERA only peft_type and peft_version are read.
  /// Throws file_error, format_error (wrong JSON, a known key of the wrong type), pattern_error.
  [[nodiscard]] static adapter_config read(std::string const& path) {
    file_bytes const bytes = file_bytes::read(path, largest);
    return parse({reinterpret_cast<char const*>(bytes.bytes().data()), bytes.bytes().size()}, path);
  }
  static constexpr std::size_t largest = 16'000'000;
  [[nodiscard]] static adapter_config parse(std::string_view text, std::string const& file);

  /// r and alpha of a module: the first key k of the pattern for which (.*\.)?(k)$ matches its name; else the key that is
  /// its name; else the default.
  [[nodiscard]] index_t rank_of(std::string_view module) const {
    auto const* const value = value_of(rank_pattern, module);
    return value == nullptr ? r : static_cast<index_t>(*value);
  }
  [[nodiscard]] double alpha_of(std::string_view module) const {
    auto const* const value = value_of(alpha_pattern, module);
    return value == nullptr ? lora_alpha : *value;
  }
  /// Would PEFT adapt a module of this name (of a kind that can be adapted)? "all-linear" leaves out the model's output layer,
  /// which no name tells: it is true here.
  [[nodiscard]] bool targets(std::string_view module) const;

 private:
  /// Null when no key is the module's.
  [[nodiscard]] static double const* value_of(std::vector<std::pair<std::string, double>> const& pattern,
                                              std::string_view module) {
    for (auto const& [key, value] : pattern)
      if (name_pattern(as_key(key)).matches(module)) return &value;
    for (auto const& [key, value] : pattern)
      if (key == module) return &value;
    return nullptr;
  }
  // What PEFT matches from the start of a name (re.match), as expressions over the whole name.
  friend class detail::config_reader;
  [[nodiscard]] static std::string as_key(std::string_view key) {
    return graft::detail::text("(.*\\.)?(", key, ")$\\n?");
  }
  [[nodiscard]] static std::string as_saved(std::string_view module) {
    return graft::detail::text("(?:(^|.*\\.)", module, "($|\\..*))(.|\\n)*");
  }
  [[nodiscard]] static std::string as_layers(std::string_view name) {
    return graft::detail::text("(.*\\.)", name, "\\.");
  }
  [[nodiscard]] static bool listed(std::vector<std::string> const& names, std::string_view module) {
    return std::any_of(names.begin(), names.end(), [&](std::string const& n) {
      return module == n ||
             (module.size() > n.size() && module.ends_with(n) && module[module.size() - n.size() - 1] == '.');
    });
  }
};

namespace detail {

/// Reads members of one JSON object, with complaints that name the key, what was expected and what is there.
class config_reader {
 public:
  config_reader(nlohmann::ordered_json const& object, std::string const& file) : object_(object), file_(file) {}

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
      static_cast<void>(name_pattern(adapter_config::as_key(k), file_));
      to.emplace_back(k, number_in(key, value));
    }
  }
  void patterns_of(adapter_config const& c) const {
    for (auto const* const p : {&c.target_pattern, &c.exclude_pattern})
      if (*p) static_cast<void>(name_pattern(**p, file_));
    for (auto const& m : c.modules_to_save) static_cast<void>(name_pattern(adapter_config::as_saved(m), file_));
    for (auto const& p : c.layers_pattern) {
      static_cast<void>(name_pattern(adapter_config::as_layers(p), file_));
      if (p.find_first_of("*+?|()^$") !=
          std::string::npos)  // where the number stands would depend on the way of matching
        refuse(file_, graft::detail::text("repetitions, alternatives and groups are not supported in ", escaped(p)),
               "layers_pattern");
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
inline constexpr std::array<std::string_view, 19> harmless_keys{"auto_mapping",
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

}  // namespace detail

inline adapter_config adapter_config::parse(std::string_view text, std::string const& file) {
  nlohmann::ordered_json const root = detail::parse_json(text, file);
  if (!root.is_object()) detail::refuse(file, "the configuration must be a JSON object");
  detail::config_reader in(root, file);
  adapter_config c;
  in.text("peft_type", c.peft_type);
  if (c.peft_type.empty()) detail::refuse(file, "is missing", "peft_type");
  in.text("peft_version", c.peft_version);
  bool const vera = c.peft_type == "VERA";
  if (c.peft_type != "LORA" && !vera) return c;  // its keys mean other things
  if (vera) c.r = 256;
  if (auto const* const v = in.get("r")) {
    if (!v->is_number_integer()) in.wrong("r", "a whole number", *v);
    c.r = v->get<index_t>();
    if (c.r <= 0) in.wrong("r", "positive", *v);
  }
  if (vera) {
    in.number("vera_dropout", c.lora_dropout);
    in.boolean("save_projection", c.save_projection);
    if (auto const* const v = in.get("projection_prng_key")) {
      if (!v->is_number_unsigned()) in.wrong("projection_prng_key", "a whole number that is not negative", *v);
      c.projection_prng_key = static_cast<index_t>(v->get<std::uint64_t>());
    }
  } else {
    in.number("lora_alpha", c.lora_alpha);
    in.number("lora_dropout", c.lora_dropout);
    in.boolean("use_rslora", c.use_rslora);
    in.boolean("use_dora", c.use_dora);
    in.boolean("lora_bias", c.lora_bias);
  }
  in.boolean("fan_in_fan_out", c.fan_in_fan_out);
  in.text("bias", c.bias);
  std::string_view const only = vera ? "vera_only" : "lora_only";
  if (c.bias != "none" && c.bias != "all" && c.bias != only)
    in.wrong("bias", graft::detail::text("\"none\", \"all\" or \"", only, "\""), root["bias"]);
  in.names_or_text("target_modules", c.target_modules, c.target_pattern);
  bool const one_target = c.target_pattern.has_value();
  if (one_target && detail::lower(*c.target_pattern) == "all-linear")
    c.target_all_linear = true, c.target_pattern.reset();
  in.names_or_text("exclude_modules", c.exclude_modules, c.exclude_pattern);
  if (auto const* const v = in.get("layers_to_transform")) {
    auto const each = [&](nlohmann::ordered_json const& e) {
      if (!e.is_number_integer()) in.wrong("layers_to_transform", "a whole number or a list of them", *v);
      c.layers_to_transform.push_back(e.get<index_t>());
    };
    if (v->is_array()) std::for_each(v->begin(), v->end(), each);
    else each(*v);
  }
  std::optional<std::string> one;
  in.names_or_text("layers_pattern", c.layers_pattern, one);
  if (one && !one->empty()) c.layers_pattern.push_back(*one);
  if (one_target && !c.layers_to_transform.empty())
    detail::refuse(file, "cannot be used when target_modules is a string", "layers_to_transform");
  if (!c.layers_pattern.empty() && c.layers_to_transform.empty())
    detail::refuse(file, "cannot be used without layers_to_transform", "layers_pattern");
  if (!vera) {
    in.pattern("rank_pattern", c.rank_pattern);
    in.pattern("alpha_pattern", c.alpha_pattern);
  }
  for (auto const& [key, value] : c.rank_pattern)
    if (!(value > 0 && value <= 0x1p62) || value != std::floor(value))
      detail::refuse(file, graft::detail::text("the rank of ", escaped(key), " must be a positive whole number"),
                     "rank_pattern");
  in.names("modules_to_save", c.modules_to_save);
  if (!vera) in.names("target_parameters", c.target_parameters);
  in.patterns_of(c);
  for (auto const& [key, value] : root.items()) {
    auto const* const note = std::find_if(detail::changing_keys.begin(), detail::changing_keys.end(),
                                          [&](auto const& n) { return n.key == key; });
    bool const harmless =
        std::find(detail::harmless_keys.begin(), detail::harmless_keys.end(), key) != detail::harmless_keys.end();
    if (note != detail::changing_keys.end()) {
      if (!detail::switched_off(value))
        c.others.push_back({key, detail::config_reader::shown(value), std::string(note->reason), true});
    } else if (key == "init_lora_weights" && detail::changes_base(value))
      c.others.push_back({key, detail::config_reader::shown(value),
                          "this initialisation changes the base weight, which graft does not do", true});
    else if (!in.is_known(key) && !harmless)
      c.others.push_back({key, detail::config_reader::shown(value), "graft does not know this key", false});
  }
  return c;
}

inline bool adapter_config::targets(std::string_view module) const {
  if (exclude_pattern ? name_pattern(*exclude_pattern).matches(module) : listed(exclude_modules, module)) return false;
  for (auto const& m : modules_to_save)
    if (name_pattern(as_saved(m)).matches(module)) return false;
  if (target_all_linear) return true;
  if (target_pattern) return name_pattern(*target_pattern).matches(module);
  if (std::find(target_modules.begin(), target_modules.end(), module) != target_modules.end())
    return true;  // a whole name is not asked for its layer
  if (!listed(target_modules, module)) return false;
  if (layers_to_transform.empty()) return true;
  // The first number that re.match finds with .*?\.[^.]*\.(\d+)\. or, one layers_pattern P after the other, .*?\.P\.(\d+)\.
  auto const number_after = [&](auto const& leads) -> std::optional<index_t> {
    for (std::size_t i = module.find('.'); i != std::string_view::npos; i = module.find('.', i + 1)) {
      std::size_t const end = module.find('.', i + 1);
      if (end == std::string_view::npos) break;
      std::string_view const part = module.substr(i + 1, end - i - 1);
      if (part.empty() || part.find_first_not_of("0123456789") != std::string_view::npos ||
          !leads(module.substr(0, i + 1)))
        continue;
      index_t number = 0;
      for (char const c : part) number = std::min(number, INT64_MAX / 10 - 1) * 10 + (c - '0');
      return number;
    }
    return std::nullopt;
  };
  std::optional<index_t> number;
  if (layers_pattern.empty())
    number = number_after([](std::string_view before) { return before.find('.') + 1 != before.size(); });
  for (auto const& p : layers_pattern)
    if (!number)
      number = number_after(
          [pattern = name_pattern(as_layers(p))](std::string_view before) { return pattern.matches(before); });
  return number &&
         std::find(layers_to_transform.begin(), layers_to_transform.end(), *number) != layers_to_transform.end();
}

}  // namespace graft::inline GRAFT_CONTRACT::io
