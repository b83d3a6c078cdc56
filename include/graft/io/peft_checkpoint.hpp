// SPDX-License-Identifier: Apache-2.0
/// @file
/// A checkpoint as Hugging Face PEFT writes it: `adapter_config.json` and `adapter_model.safetensors` in one folder. Hands
/// out typed adapters by module name, for everything of type LORA and VERA; lists everything else.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <graft/adapters/dora.hpp>
#include <graft/adapters/lora.hpp>
#include <graft/adapters/lora_embedding.hpp>
#include <graft/adapters/lora_experts.hpp>
#include <graft/adapters/vera.hpp>
#include <graft/config.hpp>
#include <graft/io/adapter_config.hpp>
#include <graft/io/safetensors.hpp>

namespace graft::inline GRAFT_CONTRACT::io {

/// What an adapted module is, and so which call hands it out: `visit`, `visit_embedding` or `visit_experts`.
enum class adapter_kind : std::uint8_t { lora, dora, vera, lora_embedding, dora_embedding, lora_experts };

/// As people say it: "LoRA", "DoRA on an embedding".
[[nodiscard]] constexpr std::string_view name(adapter_kind kind) {
  switch (kind) {
    case adapter_kind::lora: return "LoRA";
    case adapter_kind::dora: return "DoRA";
    case adapter_kind::vera: return "VeRA";
    case adapter_kind::lora_embedding: return "LoRA on an embedding";
    case adapter_kind::dora_embedding: return "DoRA on an embedding";
    case adapter_kind::lora_experts: return "LoRA on experts";
  }
  return "";
}

/// One adapted module, or fused parameter of one.
struct adapted_module {
  std::string name;  ///< "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.experts.down_proj"
  adapter_kind kind = adapter_kind::lora;
  index_t rank = 0;  ///< Of one expert, where there are several.
  index_t in_features =
      0;  ///< Of an embedding the number of tokens. Of VeRA all that the projections have; 0 until they are
          ///< replayed: the layer's own number is not in the file.
  index_t out_features = 0;
  index_t experts = 0;  ///< Of lora_experts.
  double alpha = 0;
  double scale = 1;  ///< alpha / r, or alpha / sqrt(r). VeRA has none.
  double dropout = 0;
  bool rslora = false;
  bool has_bias = false;
  bool fan_in_fan_out = false;
  bool convolution = false;  ///< With a kernel of 1: the matrix form is the whole of it.
  bool targeted = true;      ///< By the configuration's own rules; a stray module is also listed.
  dtype type = dtype::f32;
};

/// The adapters of one folder. Their data lies in memory of this object, every tensor 64-byte aligned.
class peft_checkpoint {
 public:
  /// Throws file_error, format_error (the file, the tensor or key, the offset), pattern_error; unsupported_error for a
  /// peft_type other than LORA and VERA, or when a setting that graft does not compute would change every module's numbers.
  [[nodiscard]] static peft_checkpoint load(std::string const& folder) {
    return {adapter_config::read(folder + "/adapter_config.json"), folder + "/adapter_config.json",
            safetensors_file::read(folder + "/adapter_model.safetensors")};
  }

  /// The same of what is in memory; `config_name` is for sentences.
  [[nodiscard]] static peft_checkpoint parse(adapter_config config, std::string const& config_name,
                                             safetensors_file file) {
    return {std::move(config), config_name, std::move(file)};
  }

  [[nodiscard]] adapter_config const& config() const { return config_; }
  [[nodiscard]] std::vector<adapted_module> const& modules() const { return modules_; }
  /// Null when this module is not adapted.
  [[nodiscard]] adapted_module const* find(std::string_view module) const {
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

  /// Calls f(adapter) with what the module is, of the stored element type (float, bfloat16 or float16): a `graft::lora` with or
  /// without a bias, a `graft::dora` without norms (they depend on the weight: `with_norms`, `update_norms`), or a `graft::vera`
  /// for a layer of `in_features` (as many as the projections have, unless it is told). Throws argument_error when the module
  /// is not adapted, is of another kind, or its projections have not been replayed; shape_error when they are too small.
  template <class F>
  decltype(auto) visit(std::string_view module, F&& f, index_t in_features = -1) const {
    adapted_module const& m = at(module);
    if (m.kind != adapter_kind::lora && m.kind != adapter_kind::dora && m.kind != adapter_kind::vera)
      wrong_call("visit", m, m.kind == adapter_kind::lora_experts ? "visit_experts" : "visit_embedding");
    if (m.kind == adapter_kind::vera && !has_projections())
      graft::detail::raise(argument_error(graft::detail::text(
          "graft::io::peft_checkpoint::visit: ", escaped(file_.path()),
          " holds no projections (save_projection is false); replay_projections(largest in_features) draws them")));
    if (m.type == dtype::bf16) return typed<bfloat16>(m, f, in_features);
    if (m.type == dtype::f16) return typed<float16>(m, f, in_features);
    return typed<float>(m, f, in_features);
  }
  /// Calls f(adapter) with the `graft::lora_embedding` of an embedding, or a `graft::dora` of one without norms.
  template <class F>
  decltype(auto) visit_embedding(std::string_view module, F&& f) const {
    adapted_module const& m = at(module);
    if (m.kind != adapter_kind::lora_embedding && m.kind != adapter_kind::dora_embedding)
      wrong_call("visit_embedding", m, m.kind == adapter_kind::lora_experts ? "visit_experts" : "visit");
    if (m.type == dtype::bf16) return typed_embedding<bfloat16>(m, f);
    if (m.type == dtype::f16) return typed_embedding<float16>(m, f);
    return typed_embedding<float>(m, f);
  }
  /// Calls f(adapter) with the `graft::lora_experts` of a fused parameter; its name is the module's and the parameter's.
  template <class F>
  decltype(auto) visit_experts(std::string_view parameter, F&& f) const {
    adapted_module const& m = at(parameter);
    if (m.kind != adapter_kind::lora_experts)
      wrong_call("visit_experts", m,
                 m.kind == adapter_kind::lora_embedding || m.kind == adapter_kind::dora_embedding ? "visit_embedding"
                                                                                                  : "visit");
    auto const run = [&]<class T>(std::type_identity<T>) {
      return f(graft::lora_experts<matrix<T>, matrix<T>>{
          graft::view(data<T>(m, "A"), m.experts * m.rank, m.in_features),
          graft::view(data<T>(m, "B"), m.out_features, m.rank * m.experts), m.scale, m.experts});
    };
    if (m.type == dtype::bf16) return run(std::type_identity<bfloat16>{});
    if (m.type == dtype::f16) return run(std::type_identity<float16>{});
    return run(std::type_identity<float>{});
  }

  /// False for VeRA without projections in its file, until they are replayed. True for everything else.
  [[nodiscard]] bool has_projections() const { return config_.peft_type != "VERA" || projections_rank_ > 0; }
  /// Draws VeRA's projections as PEFT does, from the configuration's projection_prng_key. `largest_in` is the largest number of
  /// input features of all targeted layers, which the file does not say; that of output features is in it. Throws
  /// argument_error when they are there already or the number is not positive.
  void replay_projections(index_t largest_in) {
    if (has_projections() || largest_in <= 0)
      graft::detail::raise(argument_error(graft::detail::text(
          "graft::io::peft_checkpoint::replay_projections: ",
          largest_in <= 0 ? "the number of input features must be positive" : "there are projections already")));
    index_t rows = 0;
    for (auto const& m : modules_) rows = (std::max)(rows, m.out_features);
    index_t const rank = modules_.empty() ? config_.r : modules_.front().rank;
    vera_A_.resize(static_cast<std::size_t>(graft::detail::checked_product(rank, largest_in, "replay_projections")));
    vera_B_.resize(static_cast<std::size_t>(graft::detail::checked_product(rows, rank, "replay_projections")));
    set_projections(rank, largest_in, rows);
    graft::replay_projections(static_cast<std::uint64_t>(config_.projection_prng_key),
                              graft::view(vera_A_, rank, largest_in), graft::view(vera_B_, rows, rank));
  }
  /// VeRA's A[r, largest in] and B[largest out, r], as float. Empty without.
  [[nodiscard]] vera_projections<matrix<float>, matrix<float>> projections() const {
    return {graft::view(vera_A_.data(), projections_rank_, projections_in_),
            graft::view(vera_B_.data(), projections_out_, projections_rank_)};
  }

  /// The adapter of a module stored as T without a bias; throws argument_error otherwise (then `visit`).
  template <class T>
  [[nodiscard]] auto lora(std::string_view module) const {
    adapted_module const& m = at(module);
    if (m.kind != adapter_kind::lora || m.type != detail::dtype_of<T> || m.has_bias)
      graft::detail::raise(argument_error(graft::detail::text("graft::io::peft_checkpoint::lora: ", escaped(module),
                                                              m.kind != adapter_kind::lora
                                                                  ? graft::detail::text(" is ", graft::io::name(m.kind))
                                                              : m.has_bias ? std::string(" has a bias")
                                                                           : std::string(" is stored as another type"),
                                                              "; use visit")));
    return low_rank<T>(m);
  }

 private:
  peft_checkpoint(adapter_config config, std::string const& config_path, safetensors_file file)
      : config_(std::move(config)), file_(std::move(file)) {
    bool const vera = config_.peft_type == "VERA";
    if (config_.peft_type != "LORA" && !vera)
      detail::refuse<unsupported_error>(
          config_path,
          graft::detail::text("adapters of type ", escaped(config_.peft_type), " are not computed by this version"),
          "peft_type");
    for (auto const& o : config_.others) {
      others_.push_back(o);
      if (o.changes_result && o.name != "init_lora_weights" && o.name != "trainable_token_indices" &&
          o.name != "ensure_weight_tying")
        detail::refuse<unsupported_error>(config_path,
                                          o.reason + "; graft would compute wrong numbers for this checkpoint", o.name);
    }
    for (auto const& t : file_.tensors()) sort_in(t);
    if (vera) read_projections();
    for (auto& [name, parts] : parts_) {
      if (vera) add_vera(name, parts);
      else add_module(name, parts);
    }
    std::sort(modules_.begin(), modules_.end(), [](auto const& a, auto const& b) { return a.name < b.name; });
  }

  /// The tensors of one name, by what they are.
  struct parts_of_module {
    tensor_info const* A = nullptr;
    tensor_info const* B = nullptr;
    tensor_info const* bias = nullptr;
    tensor_info const* magnitude = nullptr;
    tensor_info const* embedding_A = nullptr;
    tensor_info const* embedding_B = nullptr;
    tensor_info const* lambda_d = nullptr;
    tensor_info const* lambda_b = nullptr;

    [[nodiscard]] std::vector<tensor_info const*> all() const {
      std::vector<tensor_info const*> out;
      for (auto const* const t : {A, B, bias, magnitude, embedding_A, embedding_B, lambda_d, lambda_b})
        if (t != nullptr) out.push_back(t);
      return out;
    }
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
    bool const vera = config_.peft_type == "VERA";
    std::string_view name = t.name;
    if (vera && name == "base_model.vera_A") return static_cast<void>(stored_A_ = &t);
    if (vera && name == "base_model.vera_B") return static_cast<void>(stored_B_ = &t);
    if (!name.starts_with(prefix)) return list(t, "its name does not begin with base_model.model.");
    name.remove_prefix(prefix.size());
    auto const ends = [&](std::string_view suffix) { return name.size() > suffix.size() && name.ends_with(suffix); };
    auto const part = [&](std::string_view suffix, tensor_info const* parts_of_module::* where) {
      if (!ends(suffix)) return false;
      parts_[std::string(name.substr(0, name.size() - suffix.size()))].*where = &t;
      return true;
    };
    using parts = parts_of_module;
    if (vera ? part(".vera_lambda_d", &parts::lambda_d) || part(".vera_lambda_b", &parts::lambda_b)
             : part(".lora_A.weight", &parts::A) || part(".lora_B.weight", &parts::B) ||
                   part(".lora_B.bias", &parts::bias) || part(".lora_magnitude_vector", &parts::magnitude) ||
                   part(".lora_embedding_A", &parts::embedding_A) || part(".lora_embedding_B", &parts::embedding_B))
      return;
    if (ends(".base_layer.bias"))
      replace(std::string(name.substr(0, name.size() - std::string_view(".base_layer.bias").size())) + ".bias", t);
    else if (name.find(vera ? "vera_" : "lora_") != std::string_view::npos)
      list(t, graft::detail::text("this kind of ", vera ? "VeRA" : "LoRA", " tensor is not computed by this version"),
           true);
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
  [[noreturn]] void wrong(tensor_info const& t, std::string_view what) const {
    detail::refuse(file_.path(), what, t.name, t.begin);
  }
  void list_all(parts_of_module const& p, std::string const& reason) {
    for (auto const* const t : p.all()) list(*t, reason, true);
  }
  /// Both or neither; true when both are there.
  bool pair(tensor_info const* a, tensor_info const* b, std::string_view name_a, std::string_view name_b) const {
    if (a != nullptr && b == nullptr) wrong(*a, graft::detail::text("there is no ", name_b, " beside it"));
    if (a == nullptr && b != nullptr) wrong(*b, graft::detail::text("there is no ", name_a, " beside it"));
    return a != nullptr;
  }
  /// All of one floating type that graft computes with. False when the type is another one: then the module is listed.
  bool one_type(parts_of_module const& p, adapted_module& m) {
    auto const all = p.all();
    m.type = all.front()->type;
    for (auto const* const t : all)
      if (t->type != dtype::f32 && t->type != dtype::bf16 && t->type != dtype::f16) {
        list_all(p, "elements of type " + type_text(*t) + " are not computed with");
        return false;
      }
    for (auto const* const t : all)
      if (t->type != m.type)
        wrong(*t, graft::detail::text("is stored as another type than ", escaped(all.front()->name)));
    return true;
  }
  /// Extents after the second are those of a kernel; true when they are all 1.
  [[nodiscard]] static bool is_pointwise(tensor_info const& t) {
    return std::all_of(t.shape.begin() + 2, t.shape.end(), [](index_t e) { return e == 1; });
  }
  [[nodiscard]] static std::string kernel_text(tensor_info const& t) {
    std::string out;
    for (std::size_t i = 2; i < t.shape.size(); ++i) out += graft::detail::text(i == 2 ? "" : " x ", t.shape[i]);
    return out;
  }
  /// Elements of a vector that may be stored with extents of 1 beside its own.
  void expects_vector(tensor_info const& t, index_t size) const {
    if (t.size() != size || std::count(t.shape.begin(), t.shape.end(), 1) + (size == 1 ? 0 : 1) !=
                                static_cast<std::ptrdiff_t>(t.shape.size()))
      wrong(t, graft::detail::text("must have ", size, " elements"));
  }

  void add_module(std::string const& name, parts_of_module const& p) {
    if (pair(p.embedding_A, p.embedding_B, "lora_embedding_A", "lora_embedding_B")) {
      if (p.A != nullptr || p.B != nullptr || p.bias != nullptr)
        wrong(*p.embedding_A, "the module has both an embedding's LoRA and a layer's");
      return add_embedding(name, p);
    }
    if (!pair(p.A, p.B, "lora_A.weight", "lora_B.weight"))
      wrong(*p.all().front(), "there is no lora_A.weight beside it");
    if (auto const parameter = fused_parameter(name); !parameter.empty()) return add_experts(parameter, p);
    if (name.ends_with(".base_layer"))
      return list_all(p, "no target_parameters of the configuration says which parameter this is");
    adapted_module m;
    m.name = name;
    if (p.A->shape.size() < 2 || p.A->shape.size() != p.B->shape.size() || p.A->shape.size() > 5)
      return list_all(p, "LoRA on a layer that is neither a matrix nor a convolution is not computed by this version");
    m.convolution = p.A->shape.size() > 2;
    if (!is_pointwise(*p.A) || !is_pointwise(*p.B))
      return list_all(p, graft::detail::text("LoRA on a convolution whose kernel is ", kernel_text(*p.A),
                                             " is not computed by this version; with a kernel of 1 it is a matrix"));
    m.rank = p.A->shape[0];
    m.in_features = p.A->shape[1];
    m.out_features = p.B->shape[0];
    if (m.convolution && p.B->shape[1] != 0 && m.rank != p.B->shape[1] && m.rank % p.B->shape[1] == 0)
      return list_all(p, "LoRA on a convolution in groups is not computed by this version");
    check_rank(name, *p.A, *p.B, m);
    if ((p.bias != nullptr) != config_.lora_bias)
      wrong(p.bias != nullptr ? *p.bias : *p.B,
            config_.lora_bias ? "there is no lora_B.bias beside it but the configuration says lora_bias"
                              : "has a bias but the configuration does not say lora_bias");
    if (!check_magnitude(p, *p.B)) m.kind = adapter_kind::lora;
    else m.kind = adapter_kind::dora;
    if (m.kind == adapter_kind::dora && p.bias != nullptr) wrong(*p.bias, "DoRA has no lora_bias");
    if (!one_type(p, m)) return;
    if (p.bias != nullptr && (p.bias->shape.size() != 1 || p.bias->shape[0] != m.out_features))
      wrong(*p.bias, graft::detail::text("must have ", m.out_features, " elements"));
    if (p.magnitude != nullptr) expects_vector(*p.magnitude, m.out_features);
    m.has_bias = p.bias != nullptr;
    m.fan_in_fan_out = config_.fan_in_fan_out;
    keep(std::move(m), {{"A", p.A}, {"B", p.B}, {"bias", p.bias}, {"magnitude", p.magnitude}});
  }
  /// True for DoRA; a configuration and a file that disagree are refused.
  [[nodiscard]] bool check_magnitude(parts_of_module const& p, tensor_info const& beside) const {
    if (config_.use_dora && p.magnitude == nullptr)
      wrong(beside, "there is no lora_magnitude_vector beside it but the configuration says use_dora");
    if (!config_.use_dora && p.magnitude != nullptr)
      wrong(*p.magnitude, "is a magnitude but the configuration does not say use_dora");
    return p.magnitude != nullptr;
  }
  void check_rank(std::string const& name, tensor_info const& a, tensor_info const& b, adapted_module const& m) const {
    if (m.rank != b.shape[1])
      wrong(b, graft::detail::text("has ", b.shape[1], " columns but lora_A has ", m.rank, " rows; both are the rank"));
    if (m.rank <= 0) wrong(a, "has rank 0");
    if (index_t const stated = config_.rank_of(name); m.rank != stated)
      wrong(a, graft::detail::text("has rank ", m.rank, " but the configuration says ", stated));
  }
  void add_embedding(std::string const& name, parts_of_module const& p) {
    adapted_module m;
    m.name = name;
    for (auto const* const t : {p.embedding_A, p.embedding_B})
      if (t->shape.size() != 2) wrong(*t, "must have two dimensions");
    m.rank = p.embedding_A->shape[0];
    m.in_features = p.embedding_A->shape[1];
    m.out_features = p.embedding_B->shape[0];
    check_rank(name, *p.embedding_A, *p.embedding_B, m);
    m.kind = check_magnitude(p, *p.embedding_B) ? adapter_kind::dora_embedding : adapter_kind::lora_embedding;
    if (!one_type(p, m)) return;
    if (p.magnitude != nullptr) expects_vector(*p.magnitude, m.out_features);
    keep(std::move(m), {{"A", p.embedding_A}, {"B", p.embedding_B}, {"magnitude", p.magnitude}});
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
    for (auto const& t : config_.target_parameters) {
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
  void add_experts(std::string const& parameter, parts_of_module const& p) {
    if (p.bias != nullptr) wrong(*p.bias, "LoRA on a fused parameter has no bias");
    if (p.magnitude != nullptr || config_.use_dora) wrong(*p.A, "there is no DoRA on a fused parameter");
    for (auto const* const t : {p.A, p.B})
      if (t->shape.size() != 2) wrong(*t, "must have two dimensions");
    adapted_module m;
    m.name = parameter;
    m.kind = adapter_kind::lora_experts;
    m.rank = config_.rank_of(parameter);
    m.in_features = p.A->shape[1];
    m.out_features = p.B->shape[0];
    if (p.A->shape[0] != p.B->shape[1])
      wrong(*p.B, graft::detail::text("has ", p.B->shape[1], " columns but lora_A has ", p.A->shape[0],
                                      " rows; both are the rank times the experts"));
    if (p.A->shape[0] <= 0 || p.A->shape[0] % m.rank != 0)
      wrong(*p.A, graft::detail::text("has ", p.A->shape[0], " rows, which is no multiple of the rank ", m.rank));
    m.experts = p.A->shape[0] / m.rank;
    if (!one_type(p, m)) return;
    keep(std::move(m), {{"A", p.A}, {"B", p.B}}, true);
  }

  void read_projections() {
    if (!pair(stored_A_, stored_B_, "base_model.vera_A", "base_model.vera_B")) {
      if (config_.save_projection)
        detail::refuse(file_.path(), "there is no tensor of this name but the configuration says save_projection",
                       "base_model.vera_A");
      return;
    }
    for (auto const* const t : {stored_A_, stored_B_})
      if (t->shape.size() != 2) wrong(*t, "must have two dimensions");
    if (stored_A_->shape[0] != stored_B_->shape[1] || stored_A_->shape[0] != config_.r)
      wrong(*stored_A_, graft::detail::text("has ", stored_A_->shape[0], " rows and vera_B ", stored_B_->shape[1],
                                            " columns, but the rank is ", config_.r));
    vera_A_ = file_.read_as<float>(stored_A_->name);
    vera_B_ = file_.read_as<float>(stored_B_->name);
    set_projections(config_.r, stored_A_->shape[1], stored_B_->shape[0]);
  }
  void set_projections(index_t rank, index_t in, index_t out) {
    projections_rank_ = rank;
    projections_in_ = in;
    projections_out_ = out;
    for (auto& m : modules_) m.in_features = in;
  }
  void add_vera(std::string const& name, parts_of_module const& p) {
    if (!pair(p.lambda_d, p.lambda_b, "vera_lambda_d", "vera_lambda_b")) return;
    adapted_module m;
    m.name = name;
    m.kind = adapter_kind::vera;
    for (auto const* const t : {p.lambda_d, p.lambda_b})
      if (t->shape.size() != 1) wrong(*t, "must have one dimension");
    m.rank = p.lambda_d->shape[0];
    m.in_features = projections_in_;
    m.out_features = p.lambda_b->shape[0];
    if (m.rank != config_.r)
      wrong(*p.lambda_d, graft::detail::text("has ", m.rank, " elements but the configuration says rank ", config_.r));
    if (has_projections() && m.out_features > projections_out_)
      wrong(*p.lambda_b,
            graft::detail::text("has ", m.out_features, " elements but vera_B only ", projections_out_, " rows"));
    if (!one_type(p, m)) return;
    m.fan_in_fan_out = config_.fan_in_fan_out;
    keep(std::move(m), {{"d", p.lambda_d}, {"b", p.lambda_b}});
  }
  /// Hands the module out: its tensors are copied to aligned memory.
  void keep(adapted_module m, std::vector<std::pair<std::string, tensor_info const*>> const& tensors,
            bool fused = false) {
    m.dropout = config_.lora_dropout;
    if (m.kind != adapter_kind::vera) {
      m.alpha = config_.alpha_of(m.name);
      m.rslora = config_.use_rslora;
      m.scale = m.rslora ? rslora_scale(m.alpha, m.rank) : lora_scale(m.alpha, m.rank);
    }
    m.targeted = fused || config_.targets(m.name);
    if (!m.targeted)
      list(*tensors.front().second, "the configuration would not adapt this module; it is handed out all the same");
    for (auto const& [part, t] : tensors)
      if (t != nullptr) aligned_.emplace(graft::detail::text(m.name, ":", part), file_bytes::copy(file_.bytes(*t)));
    modules_.push_back(std::move(m));
  }

  [[nodiscard]] adapted_module const& at(std::string_view module) const {
    if (auto const* const m = find(module)) return *m;
    graft::detail::raise(argument_error(graft::detail::text("graft::io::peft_checkpoint: ", escaped(module),
                                                            " is not an adapted module of ", escaped(file_.path()))));
  }
  [[noreturn]] void wrong_call(std::string_view called, adapted_module const& m, std::string_view right) const {
    graft::detail::raise(
        argument_error(graft::detail::text("graft::io::peft_checkpoint::", called, ": ", escaped(m.name), " is ",
                                           graft::io::name(m.kind), "; use ", right)));
  }
  template <class T>
  [[nodiscard]] T const* data(adapted_module const& m, std::string_view part) const {
    return reinterpret_cast<T const*>(aligned_.find(graft::detail::text(m.name, ":", part))->second.bytes().data());
  }
  template <class T>
  [[nodiscard]] auto low_rank(adapted_module const& m) const {
    return graft::lora<matrix<T>, matrix<T>>{graft::view(data<T>(m, "A"), m.rank, m.in_features),
                                             graft::view(data<T>(m, "B"), m.out_features, m.rank), m.scale};
  }
  template <class T>
  [[nodiscard]] vector<T> one(adapted_module const& m, std::string_view part, index_t size) const {
    return graft::view(data<T>(m, part), size);
  }
  template <class T, class F>
  decltype(auto) typed(adapted_module const& m, F& f, index_t in_features) const {
    if (m.kind == adapter_kind::vera)
      return f(sliced(projections(), in_features < 0 ? projections_in_ : in_features, m.out_features,
                      one<T>(m, "d", m.rank), one<T>(m, "b", m.out_features)));
    auto const l = low_rank<T>(m);
    if (m.kind == adapter_kind::dora)
      return f(dora<graft::lora<matrix<T>, matrix<T>>, vector<T>>{l, one<T>(m, "magnitude", m.out_features)});
    if (!m.has_bias) return f(l);
    return f(graft::lora<matrix<T>, matrix<T>, vector<T>>{l.A, l.B, m.scale, one<T>(m, "bias", m.out_features)});
  }
  template <class T, class F>
  decltype(auto) typed_embedding(adapted_module const& m, F& f) const {
    graft::lora_embedding<matrix<T>, matrix<T>> const l{graft::view(data<T>(m, "A"), m.rank, m.in_features),
                                                        graft::view(data<T>(m, "B"), m.out_features, m.rank), m.scale};
    if (m.kind == adapter_kind::dora_embedding)
      return f(dora<graft::lora_embedding<matrix<T>, matrix<T>>, vector<T>>{l, one<T>(m, "magnitude", m.out_features)});
    return f(l);
  }

  adapter_config config_;
  safetensors_file file_;
  std::map<std::string, parts_of_module> parts_;
  std::vector<adapted_module> modules_;
  std::vector<not_understood> others_;
  std::map<std::string, std::string, std::less<>> replaced_;
  std::map<std::string, file_bytes, std::less<>> aligned_;  // by "module:part"
  tensor_info const* stored_A_ = nullptr;                   // VeRA's projections: only while reading
  tensor_info const* stored_B_ = nullptr;
  std::vector<float> vera_A_;
  std::vector<float> vera_B_;
  index_t projections_rank_ = 0;
  index_t projections_in_ = 0;
  index_t projections_out_ = 0;
};

}  // namespace graft::inline GRAFT_CONTRACT::io
