// SPDX-License-Identifier: Apache-2.0
/// @file
/// `adapter_config.json` as Hugging Face PEFT writes it, for LORA, VERA, BOFT, OFT, HRA, IA3 and LN_TUNING; and PEFT's rules of
/// which modules it targets.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <graft/config.hpp>
#include <graft/io/detail/config_reader.hpp>
#include <graft/io/detail/peft_types.hpp>
#include <graft/io/errors.hpp>
#include <graft/io/file_bytes.hpp>
#include <graft/io/json.hpp>
#include <graft/io/name_pattern.hpp>

namespace graft::inline GRAFT_CONTRACT::io {

/// Something in a checkpoint that graft does not compute with: shown to the caller, never dropped.
struct not_understood {
  std::string name;   ///< Key or tensor.
  std::string value;  ///< As text; a tensor's type and shape.
  std::string reason;
  bool changes_result = false;  ///< PEFT's numbers are others because of it.
};

/// `adapter_config.json`: the keys that change numbers, by PEFT's names and defaults. Of a type that graft does not compute only
/// peft_type and peft_version are read.
struct adapter_config {
  std::string peft_type;
  std::string peft_version;
  index_t r = 8;  ///< The rank; of OFT the number of blocks, where oft_block_size is 0.
  bool fan_in_fan_out = false;
  std::string bias = "none";  ///< none, all, or lora_only and the like: biases of the base model that were trained.

  double lora_alpha = 8;
  double lora_dropout = 0;  ///< VeRA's vera_dropout too.
  bool use_rslora = false;
  bool use_dora = false;
  bool lora_bias = false;
  std::vector<std::pair<std::string, double>> rank_pattern;  ///< In the file's order: the first match wins.
  std::vector<std::pair<std::string, double>> alpha_pattern;
  std::vector<std::string> target_parameters;

  index_t projection_prng_key = 0;  ///< VeRA: the seed of its projections,
  bool save_projection = true;      ///< and whether the file holds them.

  index_t boft_block_size = 4;  ///< Of this and boft_block_num one is 0.
  index_t boft_block_num = 0;
  index_t boft_n_butterfly_factor = 1;
  double boft_dropout = 0;

  index_t oft_block_size = 32;  ///< Of this and r one is 0.
  bool block_share = false;
  bool coft = false;
  double eps = 6e-5;  ///< Of coft.
  bool use_cayley_neumann = true;
  index_t num_cayley_neumann_terms = 5;

  bool apply_GS = false;  ///< HRA: Gram and Schmidt.

  std::vector<std::string> feedforward_modules;    ///< IA3: names end in one of these, dot or not,
  std::optional<std::string> feedforward_pattern;  ///< or one regular expression over the whole name.

  std::vector<std::string> target_modules;    ///< Whole names or their ends after a dot,
  std::optional<std::string> target_pattern;  ///< or one regular expression over the whole name,
  bool target_all_linear = false;             ///< or "all-linear".
  std::vector<std::string> exclude_modules;
  std::optional<std::string> exclude_pattern;
  std::vector<index_t> layers_to_transform;
  std::vector<std::string> layers_pattern;
  std::vector<std::string> modules_to_save;
  std::vector<not_understood> others;  ///< Keys that graft does not know, or knows and does not compute.

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
  /// Does IA3 scale the inputs of this module?
  [[nodiscard]] bool is_feedforward(std::string_view module) const {
    if (feedforward_pattern) return name_pattern(*feedforward_pattern).matches(module);
    return std::any_of(feedforward_modules.begin(), feedforward_modules.end(),
                       [&](std::string const& m) { return module.ends_with(m); });
  }

 private:
  /// Null when no key is the module's.
  [[nodiscard]] static double const* value_of(std::vector<std::pair<std::string, double>> const& pattern,
                                              std::string_view module) {
    for (auto const& [key, value] : pattern)
      if (name_pattern(detail::as_key(key)).matches(module)) return &value;
    for (auto const& [key, value] : pattern)
      if (key == module) return &value;
    return nullptr;
  }
};

namespace detail {

inline void read_lora_keys(config_reader& in, adapter_config& c) {
  in.whole("r", c.r, 1);
  in.number("lora_alpha", c.lora_alpha);
  in.number("lora_dropout", c.lora_dropout);
  in.boolean("use_rslora", c.use_rslora);
  in.boolean("use_dora", c.use_dora);
  in.boolean("lora_bias", c.lora_bias);
  in.boolean("fan_in_fan_out", c.fan_in_fan_out);
  in.pattern("rank_pattern", c.rank_pattern);
  in.pattern("alpha_pattern", c.alpha_pattern);
  for (auto const& [key, value] : c.rank_pattern)
    if (!(value > 0 && value <= 0x1p62) || value != std::floor(value))
      refuse(in.file(), graft::detail::text("the rank of ", escaped(key), " must be a positive whole number"),
             "rank_pattern");
  in.names("target_parameters", c.target_parameters);
}
inline void read_vera_keys(config_reader& in, adapter_config& c) {
  c.r = 256;
  in.whole("r", c.r, 1);
  in.number("vera_dropout", c.lora_dropout);
  in.boolean("save_projection", c.save_projection);
  if (auto const* const v = in.get("projection_prng_key")) {
    if (!v->is_number_unsigned()) in.wrong("projection_prng_key", "a whole number that is not negative", *v);
    c.projection_prng_key = static_cast<index_t>(v->get<std::uint64_t>());
  }
  in.boolean("fan_in_fan_out", c.fan_in_fan_out);
}
/// PEFT takes the size of a block or their number, and 0 for the other.
inline void expects_one(config_reader const& in, std::string_view size, index_t of_size, std::string_view number,
                        index_t of_number) {
  if ((of_size == 0) == (of_number == 0))
    refuse(in.file(),
           graft::detail::text("is ", of_size, " and ", number, " is ", of_number, "; exactly one of them must be 0"),
           size);
}
inline void read_boft_keys(config_reader& in, adapter_config& c) {
  in.whole("boft_block_size", c.boft_block_size, 0);
  in.whole("boft_block_num", c.boft_block_num, 0);
  in.whole("boft_n_butterfly_factor", c.boft_n_butterfly_factor, 1);
  in.number("boft_dropout", c.boft_dropout);
  in.boolean("fan_in_fan_out", c.fan_in_fan_out);
  expects_one(in, "boft_block_size", c.boft_block_size, "boft_block_num", c.boft_block_num);
}
/// Is this version of PEFT below major.minor? One that cannot be read, or none, counts as old, as for PEFT itself.
[[nodiscard]] inline bool is_before(std::string_view version, int major, int minor) {
  int numbers[2] = {0, 0};
  for (int& n : numbers) {
    auto const [end, failed] = std::from_chars(version.data(), version.data() + version.size(), n);
    if (failed != std::errc{}) return true;
    version.remove_prefix(static_cast<std::size_t>(end - version.data()));
    if (version.starts_with('.')) version.remove_prefix(1);
  }
  return numbers[0] < major || (numbers[0] == major && numbers[1] < minor);
}
inline void read_oft_keys(config_reader& in, adapter_config& c) {
  if (!in.has("oft_block_size")) {
    c.others.push_back({"oft_block_size", "",
                        "OFT of PEFT before 0.14.0 has no oft_block_size: it stored and computed another rotation",
                        true});
    return;
  }
  c.r = 0;
  in.whole("r", c.r, 0);
  in.whole("oft_block_size", c.oft_block_size, 0);
  in.boolean("block_share", c.block_share);
  in.boolean("coft", c.coft);
  in.number("eps", c.eps);
  in.boolean("use_cayley_neumann", c.use_cayley_neumann);
  in.whole("num_cayley_neumann_terms", c.num_cayley_neumann_terms, 1);
  in.boolean("fan_in_fan_out", c.fan_in_fan_out);
  expects_one(in, "oft_block_size", c.oft_block_size, "r", c.r);
  if (!(c.eps >= 0)) refuse(in.file(), "must not be negative", "eps");
  if (c.use_cayley_neumann && c.num_cayley_neumann_terms > 64)
    c.others.push_back({"num_cayley_neumann_terms", graft::detail::text(c.num_cayley_neumann_terms),
                        "a series of more than 64 terms is not computed by this version", true});
  if (c.use_cayley_neumann && is_before(c.peft_version, 0, 18))
    c.others.push_back(
        {"use_cayley_neumann", "true",
         graft::detail::text("the Cayley-Neumann series of PEFT before 0.18.0 ends in another coefficient, and "
                             "peft_version ",
                             c.peft_version.empty() ? "is missing" : "is " + escaped(c.peft_version)),
         true});
}
inline void read_hra_keys(config_reader& in, adapter_config& c) {
  in.whole("r", c.r, 1);
  in.boolean("apply_GS", c.apply_GS);
}
inline void read_ia3_keys(config_reader& in, adapter_config& c) {
  in.names_or_text("feedforward_modules", c.feedforward_modules, c.feedforward_pattern);
  in.boolean("fan_in_fan_out", c.fan_in_fan_out);
  if (c.feedforward_pattern) static_cast<void>(name_pattern(*c.feedforward_pattern, in.file()));
  if (c.target_modules.empty()) return;
  for (auto const& m : c.feedforward_modules)
    if (std::find(c.target_modules.begin(), c.target_modules.end(), m) == c.target_modules.end())
      refuse(in.file(), graft::detail::text(escaped(m), " is not among the target_modules"), "feedforward_modules");
}

/// Which modules: the same for every type.
inline void read_targets(config_reader& in, adapter_config& c, bool layers) {
  in.names_or_text("target_modules", c.target_modules, c.target_pattern);
  bool const one_target = c.target_pattern.has_value();
  if (one_target && lower(*c.target_pattern) == "all-linear") c.target_all_linear = true, c.target_pattern.reset();
  in.names_or_text("exclude_modules", c.exclude_modules, c.exclude_pattern);
  in.names("modules_to_save", c.modules_to_save);
  for (auto const* const p : {&c.target_pattern, &c.exclude_pattern})
    if (*p) static_cast<void>(name_pattern(**p, in.file()));
  for (auto const& m : c.modules_to_save) static_cast<void>(name_pattern(as_saved(m), in.file()));
  if (!layers) return;
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
    refuse(in.file(), "cannot be used when target_modules is a string", "layers_to_transform");
  if (!c.layers_pattern.empty() && c.layers_to_transform.empty())
    refuse(in.file(), "cannot be used without layers_to_transform", "layers_pattern");
  for (auto const& p : c.layers_pattern) {
    static_cast<void>(name_pattern(as_layers(p), in.file()));
    if (p.find_first_of("*+?|()^$") !=
        std::string::npos)  // where the number stands would depend on the way of matching
      refuse(in.file(), graft::detail::text("repetitions, alternatives and groups are not supported in ", escaped(p)),
             "layers_pattern");
  }
}
/// Keys that nobody asked for.
inline void list_others(config_reader const& in, nlohmann::ordered_json const& root, adapter_config& c) {
  for (auto const& [key, value] : root.items()) {
    auto const* const note =
        std::find_if(changing_keys.begin(), changing_keys.end(), [&](auto const& n) { return n.key == key; });
    bool const harmless = std::find(harmless_keys.begin(), harmless_keys.end(), key) != harmless_keys.end();
    if (note != changing_keys.end()) {
      if (!switched_off(value)) c.others.push_back({key, config_reader::shown(value), std::string(note->reason), true});
    } else if (key == "init_lora_weights" && changes_base(value))
      c.others.push_back({key, config_reader::shown(value),
                          "this initialisation changes the base weight, which graft does not do", true});
    else if (!in.is_known(key) && !harmless)
      c.others.push_back({key, config_reader::shown(value), "graft does not know this key", false});
  }
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
  auto const* const type = detail::find_peft_type(c.peft_type);
  if (type == nullptr) return c;  // its keys mean other things
  if (!type->biases.empty()) {
    in.text("bias", c.bias);
    if (c.bias != "none" && c.bias != "all" && c.bias != type->biases)
      in.wrong("bias", graft::detail::text("\"none\", \"all\" or \"", type->biases, "\""), *in.get("bias"));
  }
  detail::read_targets(in, c, type->layers);
  if (type->type == "LORA") detail::read_lora_keys(in, c);
  else if (type->type == "VERA") detail::read_vera_keys(in, c);
  else if (type->type == "BOFT") detail::read_boft_keys(in, c);
  else if (type->type == "OFT") detail::read_oft_keys(in, c);
  else if (type->type == "HRA") detail::read_hra_keys(in, c);
  else if (type->type == "IA3") detail::read_ia3_keys(in, c);
  detail::list_others(in, root, c);
  return c;
}

inline bool adapter_config::targets(std::string_view module) const {
  if (exclude_pattern ? name_pattern(*exclude_pattern).matches(module) : detail::listed(exclude_modules, module))
    return false;
  for (auto const& m : modules_to_save)
    if (name_pattern(detail::as_saved(m)).matches(module)) return false;
  if (target_all_linear) return true;
  if (target_pattern) return name_pattern(*target_pattern).matches(module);
  if (std::find(target_modules.begin(), target_modules.end(), module) != target_modules.end())
    return true;  // a whole name is not asked for its layer
  if (!detail::listed(target_modules, module)) return false;
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
          [pattern = name_pattern(detail::as_layers(p))](std::string_view before) { return pattern.matches(before); });
  return number &&
         std::find(layers_to_transform.begin(), layers_to_transform.end(), *number) != layers_to_transform.end();
}

}  // namespace graft::inline GRAFT_CONTRACT::io
