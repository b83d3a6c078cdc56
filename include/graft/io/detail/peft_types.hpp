// SPDX-License-Identifier: Apache-2.0
/// @file
/// The peft_types that graft reads and writes, and what the tensors of each are called.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

#include <graft/config.hpp>

namespace graft::inline GRAFT_CONTRACT::io::detail {

struct peft_type_names {
  std::string_view type;  // as the configuration has it
  std::string_view name;  // as people say it
  std::string_view mark;  // in the name of every tensor of this type, also of those that are not computed
  std::string_view
      biases;   // besides "none" and "all": trained biases of adapted modules only. Empty: there is no key `bias`
  bool layers;  // has layers_to_transform and layers_pattern
  std::array<std::string_view, 6> parts;  // ends of names that are computed; empty ones count for nothing
};
inline constexpr std::array<peft_type_names, 7> peft_types{{
    {"LORA",
     "LoRA",
     "lora_",
     "lora_only",
     true,
     {".lora_A.weight", ".lora_B.weight", ".lora_B.bias", ".lora_magnitude_vector", ".lora_embedding_A",
      ".lora_embedding_B"}},
    {"VERA", "VeRA", "vera_", "vera_only", true, {".vera_lambda_d", ".vera_lambda_b"}},
    {"BOFT", "BOFT", "boft_", "boft_only", true, {".boft_R", ".boft_s"}},
    {"OFT", "OFT", "oft_", "oft_only", true, {".oft_R.weight"}},
    {"HRA", "HRA", "hra_", "hra_only", true, {".hra_u"}},
    {"IA3", "(IA)3", "ia3_", "", false, {".ia3_l"}},
    {"LN_TUNING", "LN tuning", ".ln_tuning_layers", "", false, {".ln_tuning_layers.weight", ".ln_tuning_layers.bias"}},
}};
/// Null for a type that graft does not compute.
[[nodiscard]] constexpr peft_type_names const* find_peft_type(std::string_view type) {
  auto const* const it =
      std::find_if(peft_types.begin(), peft_types.end(), [&](auto const& t) { return t.type == type; });
  return it == peft_types.end() ? nullptr : it;
}

}  // namespace graft::inline GRAFT_CONTRACT::io::detail
