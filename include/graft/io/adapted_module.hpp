// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a checkpoint says of one module that it adapts.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <graft/config.hpp>
#include <graft/io/safetensors.hpp>

namespace graft::inline GRAFT_CONTRACT::io {

/// What an adapted module is, and so which call hands it out: `visit` unless it says otherwise.
enum class adapter_kind : std::uint8_t {
  lora,
  dora,
  vera,
  boft,
  oft,
  hra,
  ia3,
  ia3_feedforward,
  ln_tuning,       ///< `visit_norm`
  lora_embedding,  ///< `visit_embedding`
  dora_embedding,  ///< `visit_embedding`
  lora_experts     ///< `visit_experts`
};

/// As people say it: "LoRA", "DoRA on an embedding".
[[nodiscard]] constexpr std::string_view name(adapter_kind kind) {
  switch (kind) {
    case adapter_kind::lora: return "LoRA";
    case adapter_kind::dora: return "DoRA";
    case adapter_kind::vera: return "VeRA";
    case adapter_kind::boft: return "BOFT";
    case adapter_kind::oft: return "OFT";
    case adapter_kind::hra: return "HRA";
    case adapter_kind::ia3: return "(IA)3";
    case adapter_kind::ia3_feedforward: return "(IA)3 on inputs";
    case adapter_kind::ln_tuning: return "LN tuning";
    case adapter_kind::lora_embedding: return "LoRA on an embedding";
    case adapter_kind::dora_embedding: return "DoRA on an embedding";
    case adapter_kind::lora_experts: return "LoRA on experts";
  }
  return "";
}

/// One adapted module, or fused parameter of one. What its kind does not have, or its tensors do not tell, is 0.
struct adapted_module {
  std::string name;  ///< "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.experts.down_proj"
  adapter_kind kind = adapter_kind::lora;
  index_t rank = 0;        ///< Of low-rank kinds and HRA; of one expert, where there are several.
  index_t block_size = 0;  ///< Of BOFT and OFT.
  index_t factors = 0;     ///< Of BOFT.
  /// Of an embedding the number of tokens. Of VeRA all that the projections have; 0 until they are replayed: the layer's own
  /// number is not in the file. 0 of an OFT whose blocks are shared, and of (IA)3 on outputs.
  index_t in_features = 0;
  index_t out_features = 0;  ///< 0 of OFT, HRA and (IA)3 on inputs. Of LN tuning both are the normalized features.
  index_t experts = 0;       ///< Of lora_experts.
  double alpha = 0;
  double scale = 1;  ///< alpha / r, or alpha / sqrt(r), of LoRA and DoRA.
  double dropout = 0;
  bool rslora = false;
  bool has_bias = false;
  bool fan_in_fan_out = false;
  bool convolution = false;  ///< With a kernel of 1: the matrix form is the whole of it.
  bool targeted = true;      ///< By the configuration's own rules; a stray module is also listed.
  dtype type = dtype::f32;
};

}  // namespace graft::inline GRAFT_CONTRACT::io
