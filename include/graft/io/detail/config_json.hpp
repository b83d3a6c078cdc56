// SPDX-License-Identifier: Apache-2.0
/// @file
/// `adapter_config.json` of a configuration: the keys of its type.
#pragma once

#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <graft/config.hpp>
#include <graft/io/adapter_config.hpp>
#include <graft/io/detail/peft_types.hpp>
#include <graft/io/json.hpp>

namespace graft::inline GRAFT_CONTRACT::io::detail {

/// Of a type that graft computes. The same configuration gives the same bytes.
[[nodiscard]] inline std::string config_json(adapter_config const& c) {
  peft_type_names const& type = *find_peft_type(c.peft_type);
  nlohmann::json j;                                             // keys in order
  auto const number = [](std::string_view key, double value) {  // JSON has no others
    if (!std::isfinite(value))
      graft::detail::raise(
          argument_error(graft::detail::text("graft::io::peft_writer: ", key, " is ", value, " but must be finite")));
    return value;
  };
  auto const names = [](std::vector<std::string> const& v) { return v.empty() ? nlohmann::json() : nlohmann::json(v); };
  auto const pattern = [&](std::vector<std::pair<std::string, double>> const& p, bool whole) {
    auto out = nlohmann::json::object();
    for (auto const& [key, value] : p)
      if (whole) out[key] = static_cast<index_t>(value);
      else out[key] = number("alpha_pattern", value);
    return out;
  };
  j["peft_type"] = c.peft_type;
  j["task_type"] = nullptr;
  j["inference_mode"] = true;
  j["base_model_name_or_path"] = nullptr;
  if (c.target_all_linear) j["target_modules"] = "all-linear";
  else if (c.target_pattern) j["target_modules"] = *c.target_pattern;
  else j["target_modules"] = c.target_modules;
  j["modules_to_save"] = names(c.modules_to_save);
  if (!type.biases.empty()) j["bias"] = c.bias;
  if (type.layers) {
    j["layers_to_transform"] = c.layers_to_transform.empty() ? nlohmann::json() : nlohmann::json(c.layers_to_transform);
    j["layers_pattern"] = names(c.layers_pattern);
  }
  if (type.type != "VERA") {
    if (c.exclude_pattern) j["exclude_modules"] = *c.exclude_pattern;
    else j["exclude_modules"] = names(c.exclude_modules);
  }
  if (type.type != "HRA" && type.type != "LN_TUNING") j["fan_in_fan_out"] = c.fan_in_fan_out;
  if (type.type == "LORA") {
    j["r"] = c.r;
    j["lora_alpha"] = number("lora_alpha", c.lora_alpha);
    j["lora_dropout"] = number("lora_dropout", c.lora_dropout);
    j["use_rslora"] = c.use_rslora;
    j["use_dora"] = c.use_dora;
    j["lora_bias"] = c.lora_bias;
    j["init_lora_weights"] = true;
    j["rank_pattern"] = pattern(c.rank_pattern, true);
    j["alpha_pattern"] = pattern(c.alpha_pattern, false);
    if (!c.target_parameters.empty()) j["target_parameters"] = c.target_parameters;
  } else if (type.type == "VERA") {
    j["r"] = c.r;
    j["projection_prng_key"] = c.projection_prng_key;
    j["save_projection"] = c.save_projection;
    j["vera_dropout"] = number("vera_dropout", c.lora_dropout);
  } else if (type.type == "BOFT") {
    j["boft_block_size"] = c.boft_block_size;
    j["boft_block_num"] = c.boft_block_num;
    j["boft_n_butterfly_factor"] = c.boft_n_butterfly_factor;
    j["boft_dropout"] = number("boft_dropout", c.boft_dropout);
  } else if (type.type == "OFT") {
    j["peft_version"] = c.peft_version;
    j["r"] = c.r;
    j["oft_block_size"] = c.oft_block_size;
    j["block_share"] = c.block_share;
    j["coft"] = c.coft;
    j["eps"] = number("eps", c.eps);
    j["use_cayley_neumann"] = c.use_cayley_neumann;
    j["num_cayley_neumann_terms"] = c.num_cayley_neumann_terms;
  } else if (type.type == "HRA") {
    j["r"] = c.r;
    j["apply_GS"] = c.apply_GS;
  } else if (type.type == "IA3") {
    if (c.feedforward_pattern) j["feedforward_modules"] = *c.feedforward_pattern;
    else j["feedforward_modules"] = c.feedforward_modules;
  }
  return j.dump(2);
}

}  // namespace graft::inline GRAFT_CONTRACT::io::detail
