// SPDX-License-Identifier: Apache-2.0
/// @file
/// A checkpoint as Hugging Face PEFT writes it: `adapter_config.json` and `adapter_model.safetensors` in one folder. Hands
/// out typed adapters by module name, for LoRA and rsLoRA; lists everything else.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <graft/adapters/lora.hpp>
#include <graft/config.hpp>
#include <graft/io/adapter_config.hpp>
#include <graft/io/safetensors.hpp>

namespace graft::inline GRAFT_CONTRACT::io {

/// One adapted module.
struct lora_module {
  std::string name;  ///< "model.layers.0.self_attn.q_proj"
  index_t rank = 0;
  index_t in_features = 0;
  index_t out_features = 0;
  double alpha = 0;
  double scale = 0;  ///< alpha / r, or alpha / sqrt(r).
  double dropout = 0;
  bool rslora = false;
  bool has_bias = false;
  bool fan_in_fan_out = false;
  bool targeted = true;  ///< By the configuration's own rules; a stray module is also listed.
  dtype type = dtype::f32;
};

/// The adapters of one folder. Their data lies in memory of this object, every tensor 64-byte aligned.
class peft_checkpoint {
 public:
  /// Throws file_error, format_error (the file, the tensor or key, the offset), pattern_error; unsupported_error for a
  /// peft_type other than LORA, or when a setting that graft does not compute would change every module's numbers.
  [[nodiscard]] static peft_checkpoint load(std::string const& folder) {
    return {adapter_config::read(folder + "/adapter_config.json"), folder + "/adapter_config.json",
            safetensors_file::read(folder + "/adapter_model.safetensors")};
  }

  [[nodiscard]] adapter_config const& config() const { return config_; }
  [[nodiscard]] std::vector<lora_module> const& modules() const { return modules_; }
  /// Null when this module is not adapted.
  [[nodiscard]] lora_module const* find(std::string_view module) const {
    for (auto const& m : modules_)
      if (m.name == module) return &m;
    return nullptr;
  }
  /// Full copies of `modules_to_save` ("lm_head.weight") and trained biases of the base model, by the base model's own names:
  /// they replace the base tensor of that name.
  [[nodiscard]] std::map<std::string, std::string, std::less<>> const& replaced() const { return replaced_; }
  /// Such a tensor as float, row-major.
  [[nodiscard]] std::vector<float> read_replaced(std::string_view base_name) const {
    return file_.read_as<float>(stored_name(base_name));
  }
  [[nodiscard]] tensor_info const& replaced_info(std::string_view base_name) const {
    return file_.at(stored_name(base_name));
  }
  /// Everything in the folder that graft does not compute with.
  [[nodiscard]] std::vector<not_understood> const& others() const { return others_; }

  template <class T>
  using matrix = tensor_view<T const, dynamic_extents<2>>;
  template <class T>
  using vector = tensor_view<T const, dynamic_extents<1>>;

  /// Calls f(adapter) with the module's `graft::lora` of the stored element type (float, bfloat16 or float16), with or
  /// without a bias. Throws argument_error when the module is not adapted.
  template <class F>
  decltype(auto) visit(std::string_view module, F&& f) const {
    lora_module const& m = at(module);
    if (m.type == dtype::bf16) return typed<bfloat16>(m, f);
    if (m.type == dtype::f16) return typed<float16>(m, f);
    return typed<float>(m, f);
  }
  /// The adapter of a module stored as T without a bias; throws argument_error otherwise (then `visit`).
  template <class T>
  [[nodiscard]] auto lora(std::string_view module) const {
    lora_module const& m = at(module);
    if (m.type != detail::dtype_of<T> || m.has_bias)
      graft::detail::raise(argument_error(graft::detail::text("graft::io::peft_checkpoint::lora: ", escaped(module),
                                                              m.has_bias ? " has a bias" : " is stored as another type",
                                                              "; use visit")));
    return graft::lora<matrix<T>, matrix<T>>{two<T>(m, ".lora_A.weight"), two<T>(m, ".lora_B.weight"), m.scale};
  }

 private:
  peft_checkpoint(adapter_config config, std::string const& config_path, safetensors_file file)
      : config_(std::move(config)), file_(std::move(file)) {
    if (config_.peft_type != "LORA")
      detail::refuse<unsupported_error>(
          config_path,
          graft::detail::text("adapters of type ", escaped(config_.peft_type), " are not computed by this version"),
          "peft_type");
    for (auto const& o : config_.others) {
      others_.push_back(o);
      if (o.changes_result && o.name != "use_dora" && o.name != "init_lora_weights" &&
          o.name != "trainable_token_indices" && o.name != "ensure_weight_tying")
        detail::refuse<unsupported_error>(config_path,
                                          o.reason + "; graft would compute wrong numbers for this checkpoint", o.name);
    }
    for (auto const& t : file_.tensors()) sort_in(t);
    for (auto& [name, parts] : parts_) add_module(name, parts);
  }

  struct parts_of_module {
    tensor_info const* A = nullptr;
    tensor_info const* B = nullptr;
    tensor_info const* bias = nullptr;
    std::vector<tensor_info const*> more;
  };

  [[nodiscard]] static std::string type_text(tensor_info const& t) {
    return t.type == dtype::other ? escaped(t.type_name) : t.type_name;
  }
  void list(tensor_info const& t, std::string reason, bool changes = false) {
    std::string shape = type_text(t) + "[";
    for (std::size_t i = 0; i < t.shape.size(); ++i) shape += graft::detail::text(i == 0 ? "" : ", ", t.shape[i]);
    others_.push_back({t.name, shape + "]", std::move(reason), changes});
  }
  /// What a tensor is, by its name.
  void sort_in(tensor_info const& t) {
    constexpr std::string_view prefix = "base_model.model.";
    std::string_view name = t.name;
    if (!name.starts_with(prefix)) return list(t, "its name does not begin with base_model.model.");
    name.remove_prefix(prefix.size());
    auto const ends = [&](std::string_view suffix) { return name.size() > suffix.size() && name.ends_with(suffix); };
    auto const module = [&](std::string_view suffix) -> parts_of_module& {
      return parts_[std::string(name.substr(0, name.size() - suffix.size()))];
    };
    if (ends(".lora_A.weight")) module(".lora_A.weight").A = &t;
    else if (ends(".lora_B.weight")) module(".lora_B.weight").B = &t;
    else if (ends(".lora_B.bias")) module(".lora_B.bias").bias = &t;
    else if (ends(".lora_magnitude_vector")) module(".lora_magnitude_vector").more.push_back(&t);
    else if (ends(".base_layer.bias"))
      replace(std::string(name.substr(0, name.size() - std::string_view(".base_layer.bias").size())) + ".bias", t);
    else if (name.find("lora_") != std::string_view::npos)
      list(t, "this kind of LoRA tensor is not computed by this version", true);
    else if (ends(".bias") && config_.bias != "none") replace(std::string(name), t);
    else if (is_saved(name)) replace(std::string(name), t);
    else list(t, "the configuration does not say what this tensor is");
  }
  void replace(std::string const& base_name, tensor_info const& t) {
    auto const [it, fresh] = replaced_.emplace(base_name, t.name);
    if (!fresh)
      detail::refuse(
          file_.path(),
          graft::detail::text("takes the place of ", escaped(base_name), ", and so does ", escaped(it->second)), t.name,
          t.begin);
  }
  [[nodiscard]] std::string const& stored_name(std::string_view base_name) const {
    auto const it = replaced_.find(base_name);
    if (it == replaced_.end()) detail::refuse(file_.path(), "no base tensor of this name is replaced", base_name);
    return it->second;
  }
  /// PEFT saves every module whose name ends in one of modules_to_save, dot or not.
  [[nodiscard]] bool is_saved(std::string_view name) const {
    return std::any_of(config_.modules_to_save.begin(), config_.modules_to_save.end(),
                       [&](std::string const& m) { return name.find(m + ".") != std::string_view::npos; });
  }
  void add_module(std::string const& name, parts_of_module const& p) {
    tensor_info const* const any = p.A != nullptr      ? p.A
                                   : p.B != nullptr    ? p.B
                                   : p.bias != nullptr ? p.bias
                                                       : p.more.front();
    auto const list_all = [&](std::string const& reason) {
      for (auto const* const t : {p.A, p.B, p.bias})
        if (t != nullptr) list(*t, reason, true);
      for (auto const* const t : p.more) list(*t, reason, true);
    };
    if (!p.more.empty() || config_.use_dora) return list_all("DoRA is not computed by this version");
    if (name.ends_with(".base_layer") || !config_.target_parameters.empty())
      return list_all("LoRA on a fused parameter is not computed by this version");
    if (p.A == nullptr || p.B == nullptr)
      detail::refuse(file_.path(),
                     p.A == nullptr ? "there is no lora_A.weight beside it" : "there is no lora_B.weight beside it",
                     any->name, any->begin);
    if ((p.bias != nullptr) != config_.lora_bias)
      detail::refuse(file_.path(),
                     config_.lora_bias ? "there is no lora_B.bias beside it but the configuration says lora_bias"
                                       : "has a bias but the configuration does not say lora_bias",
                     p.bias != nullptr ? p.bias->name : p.B->name, p.bias != nullptr ? p.bias->begin : p.B->begin);
    if (p.A->shape.size() != 2 || p.B->shape.size() != 2)
      return list_all("LoRA on a layer that is no matrix is not computed by this version");
    lora_module m;
    m.name = name;
    m.rank = p.A->shape[0];
    m.in_features = p.A->shape[1];
    m.out_features = p.B->shape[0];
    m.type = p.A->type;
    if (m.rank != p.B->shape[1])
      detail::refuse(
          file_.path(),
          graft::detail::text("has ", p.B->shape[1], " columns but lora_A has ", m.rank, " rows; both are the rank"),
          p.B->name, p.B->begin);
    if (m.rank <= 0) detail::refuse(file_.path(), "has rank 0", p.A->name, p.A->begin);
    index_t const stated = config_.rank_of(name);
    if (m.rank != stated)
      detail::refuse(file_.path(), graft::detail::text("has rank ", m.rank, " but the configuration says ", stated),
                     p.A->name, p.A->begin);
    for (auto const* const t : {p.A, p.B, p.bias})
      if (t != nullptr && t->type != dtype::f32 && t->type != dtype::bf16 && t->type != dtype::f16)
        return list_all("elements of type " + type_text(*t) + " are not computed with");
    if (p.B->type != m.type || (p.bias != nullptr && p.bias->type != m.type))
      detail::refuse(file_.path(), "lora_A, lora_B and their bias are stored as different types", p.B->name,
                     p.B->begin);
    if (p.bias != nullptr && (p.bias->shape.size() != 1 || p.bias->shape[0] != m.out_features))
      detail::refuse(file_.path(), graft::detail::text("must have ", m.out_features, " elements"), p.bias->name,
                     p.bias->begin);
    m.alpha = config_.alpha_of(name);
    m.rslora = config_.use_rslora;
    m.scale = m.rslora ? rslora_scale(m.alpha, m.rank) : lora_scale(m.alpha, m.rank);
    m.dropout = config_.lora_dropout;
    m.has_bias = p.bias != nullptr;
    m.fan_in_fan_out = config_.fan_in_fan_out;
    m.targeted = config_.targets(name);
    if (!m.targeted) list(*p.A, "the configuration would not adapt this module; it is handed out all the same");
    for (auto const* const t : {p.A, p.B, p.bias})
      if (t != nullptr) aligned_.emplace(t->name, file_bytes::copy(file_.bytes(*t)));
    modules_.push_back(std::move(m));
  }

  [[nodiscard]] lora_module const& at(std::string_view module) const {
    if (auto const* const m = find(module)) return *m;
    graft::detail::raise(argument_error(graft::detail::text("graft::io::peft_checkpoint: ", escaped(module),
                                                            " is not an adapted module of ", escaped(file_.path()))));
  }
  template <class T>
  [[nodiscard]] T const* data(lora_module const& m, std::string_view suffix) const {
    return reinterpret_cast<T const*>(
        aligned_.find(graft::detail::text("base_model.model.", m.name, suffix))->second.bytes().data());
  }
  template <class T>
  [[nodiscard]] matrix<T> two(lora_module const& m, std::string_view suffix) const {
    bool const is_a = suffix == ".lora_A.weight";
    return graft::view(data<T>(m, suffix), is_a ? m.rank : m.out_features, is_a ? m.in_features : m.rank);
  }
  template <class T, class F>
  decltype(auto) typed(lora_module const& m, F& f) const {
    auto const A = two<T>(m, ".lora_A.weight");
    auto const B = two<T>(m, ".lora_B.weight");
    if (!m.has_bias) return f(graft::lora<matrix<T>, matrix<T>>{A, B, m.scale});
    return f(graft::lora<matrix<T>, matrix<T>, vector<T>>{A, B, m.scale,
                                                          graft::view(data<T>(m, ".lora_B.bias"), m.out_features)});
  }

  adapter_config config_;
  safetensors_file file_;
  std::map<std::string, parts_of_module> parts_;
  std::vector<lora_module> modules_;
  std::vector<not_understood> others_;
  std::map<std::string, std::string, std::less<>> replaced_;
  std::map<std::string, file_bytes, std::less<>> aligned_;
};

}  // namespace graft::inline GRAFT_CONTRACT::io
