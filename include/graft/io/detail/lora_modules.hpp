// SPDX-License-Identifier: Apache-2.0
/// @file
/// Modules of PEFT's LORA: layers, 1x1 convolutions, embeddings, fused experts; with a magnitude they are DoRA.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <graft/adapters/lora.hpp>
#include <graft/config.hpp>
#include <graft/io/adapted_module.hpp>
#include <graft/io/detail/checkpoint_contents.hpp>

namespace graft::inline GRAFT_CONTRACT::io::detail {

class lora_modules {
 public:
  explicit lora_modules(checkpoint_contents& contents) : c_(contents) {}

  void add(std::string const& name, module_tensors const& p) {
    auto const *const A = p.find(".lora_A.weight"), *const B = p.find(".lora_B.weight");
    auto const *const bias = p.find(".lora_B.bias"), *const magnitude = p.find(".lora_magnitude_vector");
    auto const *const embedding_A = p.find(".lora_embedding_A"), *const embedding_B = p.find(".lora_embedding_B");
    if (c_.pair(embedding_A, embedding_B, "lora_embedding_A", "lora_embedding_B")) {
      if (A != nullptr || B != nullptr || bias != nullptr)
        c_.wrong(*embedding_A, "the module has both an embedding's LoRA and a layer's");
      return add_embedding(name, p, *embedding_A, *embedding_B);
    }
    if (!c_.pair(A, B, "lora_A.weight", "lora_B.weight")) c_.wrong(p.first(), "there is no lora_A.weight beside it");
    if (auto const parameter = fused_parameter(name); !parameter.empty()) return add_experts(parameter, p, *A, *B);
    if (name.ends_with(".base_layer"))
      return c_.list_all(p, "no target_parameters of the configuration says which parameter this is");
    adapted_module m;
    m.name = name;
    if (A->shape.size() < 2 || A->shape.size() != B->shape.size() || A->shape.size() > 5)
      return c_.list_all(p,
                         "LoRA on a layer that is neither a matrix nor a convolution is not computed by this version");
    m.convolution = A->shape.size() > 2;
    if (!is_pointwise(*A) || !is_pointwise(*B))
      return c_.list_all(p, graft::detail::text("LoRA on a convolution whose kernel is ", kernel_text(*A),
                                                " is not computed by this version; with a kernel of 1 it is a matrix"));
    m.rank = A->shape[0];
    m.in_features = A->shape[1];
    m.out_features = B->shape[0];
    if (m.convolution && B->shape[1] != 0 && m.rank != B->shape[1] && m.rank % B->shape[1] == 0)
      return c_.list_all(p, "LoRA on a convolution in groups is not computed by this version");
    check_rank(name, *A, *B, m);
    if ((bias != nullptr) != c_.config.lora_bias)
      c_.wrong(bias != nullptr ? *bias : *B,
               c_.config.lora_bias ? "there is no lora_B.bias beside it but the configuration says lora_bias"
                                   : "has a bias but the configuration does not say lora_bias");
    m.kind = check_magnitude(magnitude, *B) ? adapter_kind::dora : adapter_kind::lora;
    if (m.kind == adapter_kind::dora && bias != nullptr) c_.wrong(*bias, "DoRA has no lora_bias");
    if (!c_.one_type(p, m)) return;
    if (bias != nullptr && (bias->shape.size() != 1 || bias->shape[0] != m.out_features))
      c_.wrong(*bias, graft::detail::text("must have ", m.out_features, " elements"));
    if (magnitude != nullptr) c_.expects_vector(*magnitude, m.out_features);
    m.has_bias = bias != nullptr;
    m.fan_in_fan_out = c_.config.fan_in_fan_out;
    keep(std::move(m), p);
  }

 private:
  /// Extents after the second are those of a kernel; true when they are all 1.
  [[nodiscard]] static bool is_pointwise(tensor_info const& t) {
    return std::all_of(t.shape.begin() + 2, t.shape.end(), [](index_t e) { return e == 1; });
  }
  [[nodiscard]] static std::string kernel_text(tensor_info const& t) {
    std::string out;
    for (std::size_t i = 2; i < t.shape.size(); ++i) out += graft::detail::text(i == 2 ? "" : " x ", t.shape[i]);
    return out;
  }
  /// True for DoRA; a configuration and a file that disagree are refused.
  [[nodiscard]] bool check_magnitude(tensor_info const* magnitude, tensor_info const& beside) const {
    if (c_.config.use_dora && magnitude == nullptr)
      c_.wrong(beside, "there is no lora_magnitude_vector beside it but the configuration says use_dora");
    if (!c_.config.use_dora && magnitude != nullptr)
      c_.wrong(*magnitude, "is a magnitude but the configuration does not say use_dora");
    return magnitude != nullptr;
  }
  void check_rank(std::string const& name, tensor_info const& a, tensor_info const& b, adapted_module const& m) const {
    if (m.rank != b.shape[1])
      c_.wrong(b,
               graft::detail::text("has ", b.shape[1], " columns but lora_A has ", m.rank, " rows; both are the rank"));
    if (m.rank <= 0) c_.wrong(a, "has rank 0");
    if (index_t const stated = c_.config.rank_of(name); m.rank != stated)
      c_.wrong(a, graft::detail::text("has rank ", m.rank, " but the configuration says ", stated));
  }
  void add_embedding(std::string const& name, module_tensors const& p, tensor_info const& A, tensor_info const& B) {
    adapted_module m;
    m.name = name;
    for (auto const* const t : {&A, &B}) c_.expects_rank(*t, 2);
    m.rank = A.shape[0];
    m.in_features = A.shape[1];
    m.out_features = B.shape[0];
    check_rank(name, A, B, m);
    auto const* const magnitude = p.find(".lora_magnitude_vector");
    m.kind = check_magnitude(magnitude, B) ? adapter_kind::dora_embedding : adapter_kind::lora_embedding;
    if (!c_.one_type(p, m)) return;
    if (magnitude != nullptr) c_.expects_vector(*magnitude, m.out_features);
    keep(std::move(m), p);
  }
  /// The target parameter that this name wraps: of those of one module the first listed is the innermost, under the most
  /// base_layers. Empty when there is none.
  [[nodiscard]] std::string fused_parameter(std::string_view name) const {
    constexpr std::string_view inner = ".base_layer";
    std::size_t depth = 0;
    while (name.ends_with(inner)) {
      name.remove_suffix(inner.size());
      ++depth;
    }
    std::vector<std::string_view> of_module;
    for (auto const& t : c_.config.target_parameters) {
      std::size_t const dot = t.rfind('.');
      std::string_view const module =
          dot == std::string::npos ? std::string_view() : std::string_view(t).substr(0, dot);
      bool const here =
          module.empty() || name == module ||
          (name.size() > module.size() && name.ends_with(module) && name[name.size() - module.size() - 1] == '.');
      if (here)
        of_module.push_back(dot == std::string::npos ? std::string_view(t) : std::string_view(t).substr(dot + 1));
    }
    if (depth >= of_module.size()) return {};
    return graft::detail::text(name, ".", of_module[of_module.size() - 1 - depth]);
  }
  void add_experts(std::string const& parameter, module_tensors const& p, tensor_info const& A, tensor_info const& B) {
    auto const *const bias = p.find(".lora_B.bias"), *const magnitude = p.find(".lora_magnitude_vector");
    if (bias != nullptr) c_.wrong(*bias, "LoRA on a fused parameter has no bias");
    if (magnitude != nullptr || c_.config.use_dora) c_.wrong(A, "there is no DoRA on a fused parameter");
    for (auto const* const t : {&A, &B}) c_.expects_rank(*t, 2);
    adapted_module m;
    m.name = parameter;
    m.kind = adapter_kind::lora_experts;
    m.rank = c_.config.rank_of(parameter);
    m.in_features = A.shape[1];
    m.out_features = B.shape[0];
    if (A.shape[0] != B.shape[1])
      c_.wrong(B, graft::detail::text("has ", B.shape[1], " columns but lora_A has ", A.shape[0],
                                      " rows; both are the rank times the experts"));
    if (A.shape[0] <= 0 || A.shape[0] % m.rank != 0)
      c_.wrong(A, graft::detail::text("has ", A.shape[0], " rows, which is no multiple of the rank ", m.rank));
    m.experts = A.shape[0] / m.rank;
    if (!c_.one_type(p, m)) return;
    keep(std::move(m), p, true);
  }
  void keep(adapted_module m, module_tensors const& p, bool fused = false) {
    m.dropout = c_.config.lora_dropout;
    m.alpha = c_.config.alpha_of(m.name);
    m.rslora = c_.config.use_rslora;
    m.scale = m.rslora ? rslora_scale(m.alpha, m.rank) : lora_scale(m.alpha, m.rank);
    bool const targeted = fused || c_.config.targets(m.name);
    c_.keep(std::move(m), p, targeted);
  }

  checkpoint_contents& c_;
};

}  // namespace graft::inline GRAFT_CONTRACT::io::detail
