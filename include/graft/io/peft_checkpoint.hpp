// SPDX-License-Identifier: Apache-2.0
/// @file
/// A checkpoint as Hugging Face PEFT writes it: `adapter_config.json` and `adapter_model.safetensors` in one folder. Hands
/// out typed adapters by module name, for everything of type LORA, VERA, BOFT, OFT, HRA, IA3 and LN_TUNING; lists everything
/// else.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <graft/adapters/boft.hpp>
#include <graft/adapters/dora.hpp>
#include <graft/adapters/hra.hpp>
#include <graft/adapters/ia3.hpp>
#include <graft/adapters/lora.hpp>
#include <graft/adapters/lora_embedding.hpp>
#include <graft/adapters/lora_experts.hpp>
#include <graft/adapters/oft.hpp>
#include <graft/adapters/vera.hpp>
#include <graft/config.hpp>
#include <graft/io/adapted_module.hpp>
#include <graft/io/adapter_config.hpp>
#include <graft/io/detail/checkpoint_contents.hpp>
#include <graft/io/detail/lora_modules.hpp>
#include <graft/io/detail/rescaling_modules.hpp>
#include <graft/io/detail/rotation_modules.hpp>
#include <graft/io/detail/vera_modules.hpp>
#include <graft/io/safetensors.hpp>

namespace graft::inline GRAFT_CONTRACT::io {

/// The adapters of one folder. Their data lies in memory of this object, every tensor 64-byte aligned.
class peft_checkpoint {
 public:
  /// Throws file_error, format_error (the file, the tensor or key, the offset), pattern_error; unsupported_error for a
  /// peft_type that graft does not compute, for OFT as older versions of PEFT computed it, or when a setting that graft does
  /// not compute would change every module's numbers.
  [[nodiscard]] static peft_checkpoint load(std::string const& folder) {
    return {adapter_config::read(folder + "/adapter_config.json"), folder + "/adapter_config.json",
            safetensors_file::read(folder + "/adapter_model.safetensors")};
  }

  /// The same of what is in memory; `config_name` is for sentences.
  [[nodiscard]] static peft_checkpoint parse(adapter_config config, std::string const& config_name,
                                             safetensors_file file) {
    return {std::move(config), config_name, std::move(file)};
  }

  [[nodiscard]] adapter_config const& config() const { return c_.config; }
  [[nodiscard]] std::vector<adapted_module> const& modules() const { return c_.modules; }
  /// Null when this module is not adapted.
  [[nodiscard]] adapted_module const* find(std::string_view module) const {
    for (auto const& m : c_.modules)
      if (m.name == module) return &m;
    return nullptr;
  }
  /// Full copies of `modules_to_save` ("lm_head.weight"), of LN tuning's layers, and trained biases of the base model, by the
  /// base model's own names: they replace the base tensor of that name.
  [[nodiscard]] std::map<std::string, std::string, std::less<>> const& replaced() const { return c_.replaced; }
  /// Such a tensor as float, row-major.
  [[nodiscard]] std::vector<float> read_replaced(std::string_view base_name) const {
    return c_.file.read_as<float>(stored_name(base_name));
  }
  [[nodiscard]] tensor_info const& replaced_info(std::string_view base_name) const {
    return c_.file.at(stored_name(base_name));
  }
  /// Everything in the folder that graft does not compute with.
  [[nodiscard]] std::vector<not_understood> const& others() const { return c_.others; }

  template <class T>
  using matrix = tensor_view<T const, dynamic_extents<2>>;
  template <class T>
  using vector = tensor_view<T const, dynamic_extents<1>>;
  template <class T>
  using blocks = tensor_view<T const, dynamic_extents<4>>;

  /// Calls f(adapter) with what a layer's adapter is, of the stored element type (float, bfloat16 or float16): a `graft::lora`
  /// with or without a bias; a `graft::dora` without norms, a `graft::boft` or `graft::oft` without rotations, a `graft::hra`
  /// without reflections (`with_norms`, `with_rotations`, `with_reflections` give them memory); a `graft::ia3` or
  /// `graft::ia3_feedforward`; a `graft::vera`. `in_features` is the layer's: it is asked of an OFT with shared blocks, may be
  /// less than VeRA's projections have, and must else be what the file says, where it does.
  ///
  /// Throws argument_error when the module is not adapted, is of another kind, or its projections have not been replayed;
  /// shape_error when in_features does not fit.
  template <class F>
  decltype(auto) visit(std::string_view module, F&& f, index_t in_features = -1) const {
    adapted_module const& m = at(module);
    if (auto const right = call_for(m.kind); right != "visit") wrong_call("visit", m, right);
    if (m.kind == adapter_kind::vera && !has_projections())
      graft::detail::raise(argument_error(graft::detail::text(
          "graft::io::peft_checkpoint::visit: ", escaped(c_.file.path()),
          " holds no projections (save_projection is false); replay_projections(largest in_features) draws them")));
    index_t const in = features_of(m, in_features);
    return detail::with_type(m, [&]<class T>(std::type_identity<T>) -> decltype(auto) { return typed<T>(m, f, in); });
  }
  /// Calls f(weight, bias) with the vectors of a layer that LN tuning has trained; bias is `graft::none` where there is none.
  /// Whether it is a `graft::layer_norm` or a `graft::rms_norm`, and its eps, are the base model's.
  template <class F>
  decltype(auto) visit_norm(std::string_view module, F&& f) const {
    adapted_module const& m = at(module);
    if (m.kind != adapter_kind::ln_tuning) wrong_call("visit_norm", m, call_for(m.kind));
    return detail::with_type(m, [&]<class T>(std::type_identity<T>) -> decltype(auto) {
      auto const weight = one<T>(m, ".ln_tuning_layers.weight", m.in_features);
      if (!m.has_bias) return f(weight, none);
      return f(weight, one<T>(m, ".ln_tuning_layers.bias", m.in_features));
    });
  }
  /// Calls f(adapter) with the `graft::lora_embedding` of an embedding, or a `graft::dora` of one without norms.
  template <class F>
  decltype(auto) visit_embedding(std::string_view module, F&& f) const {
    adapted_module const& m = at(module);
    if (m.kind != adapter_kind::lora_embedding && m.kind != adapter_kind::dora_embedding)
      wrong_call("visit_embedding", m, call_for(m.kind));
    return detail::with_type(m, [&]<class T>(std::type_identity<T>) -> decltype(auto) {
      graft::lora_embedding<matrix<T>, matrix<T>> const l{
          graft::view(data<T>(m, ".lora_embedding_A"), m.rank, m.in_features),
          graft::view(data<T>(m, ".lora_embedding_B"), m.out_features, m.rank), m.scale};
      if (m.kind == adapter_kind::lora_embedding) return f(l);
      return f(dora<graft::lora_embedding<matrix<T>, matrix<T>>, vector<T>>{
          l, one<T>(m, ".lora_magnitude_vector", m.out_features)});
    });
  }
  /// Calls f(adapter) with the `graft::lora_experts` of a fused parameter; its name is the module's and the parameter's.
  template <class F>
  decltype(auto) visit_experts(std::string_view parameter, F&& f) const {
    adapted_module const& m = at(parameter);
    if (m.kind != adapter_kind::lora_experts) wrong_call("visit_experts", m, call_for(m.kind));
    return detail::with_type(m, [&]<class T>(std::type_identity<T>) -> decltype(auto) {
      return f(graft::lora_experts<matrix<T>, matrix<T>>{
          graft::view(data<T>(m, ".lora_A.weight"), m.experts * m.rank, m.in_features),
          graft::view(data<T>(m, ".lora_B.weight"), m.out_features, m.rank * m.experts), m.scale, m.experts});
    });
  }

  /// False for VeRA without projections in its file, until they are replayed. True for everything else.
  [[nodiscard]] bool has_projections() const { return c_.config.peft_type != "VERA" || c_.projections_rank > 0; }
  /// Draws VeRA's projections as PEFT does, from the configuration's projection_prng_key. `largest_in` is the largest number of
  /// input features of all targeted layers, which the file does not say; that of output features is in it. Throws
  /// argument_error when they are there already or the number is not positive.
  void replay_projections(index_t largest_in) {
    if (has_projections() || largest_in <= 0)
      graft::detail::raise(argument_error(graft::detail::text(
          "graft::io::peft_checkpoint::replay_projections: ",
          largest_in <= 0 ? "the number of input features must be positive" : "there are projections already")));
    index_t rows = 0;
    for (auto const& m : c_.modules) rows = (std::max)(rows, m.out_features);
    index_t const rank = c_.modules.empty() ? c_.config.r : c_.modules.front().rank;
    auto const size = [](index_t a, index_t b) {
      return static_cast<std::size_t>(graft::detail::checked_product(a, b, "replay_projections"));
    };
    c_.vera_A.resize(size(rank, largest_in));
    c_.vera_B.resize(size(rows, rank));
    c_.projections_rank = rank;
    c_.projections_in = largest_in;
    c_.projections_out = rows;
    for (auto& m : c_.modules) m.in_features = largest_in;
    graft::replay_projections(static_cast<std::uint64_t>(c_.config.projection_prng_key),
                              graft::view(c_.vera_A, rank, largest_in), graft::view(c_.vera_B, rows, rank));
  }
  /// VeRA's A[r, largest in] and B[largest out, r], as float. Empty without.
  [[nodiscard]] vera_projections<matrix<float>, matrix<float>> projections() const {
    return {graft::view(c_.vera_A.data(), c_.projections_rank, c_.projections_in),
            graft::view(c_.vera_B.data(), c_.projections_out, c_.projections_rank)};
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
      : c_{.config = std::move(config), .file = std::move(file)} {
    auto const* const type = detail::find_peft_type(c_.config.peft_type);
    if (type == nullptr)
      detail::refuse<unsupported_error>(
          config_path,
          graft::detail::text("adapters of type ", escaped(c_.config.peft_type), " are not computed by this version"),
          "peft_type");
    for (auto const& o : c_.config.others) {
      c_.others.push_back(o);
      if (o.changes_result && o.name != "init_lora_weights" && o.name != "trainable_token_indices" &&
          o.name != "ensure_weight_tying")
        detail::refuse<unsupported_error>(config_path,
                                          o.reason + "; graft would compute wrong numbers for this checkpoint", o.name);
    }
    detail::lora_modules lora(c_);
    detail::vera_modules vera(c_);
    auto const tensors = detail::sort_tensors(c_, *type, [&](tensor_info const& t) {
      detail::refuse_old_oft(c_, t);
      return type->type == "VERA" && vera.take(t);
    });
    if (type->type == "VERA") vera.read_projections();
    for (auto const& [name, parts] : tensors) {
      if (type->type == "LORA") lora.add(name, parts);
      else if (type->type == "VERA") vera.add(name, parts);
      else if (type->type == "BOFT") detail::add_boft(c_, name, parts);
      else if (type->type == "OFT") detail::add_oft(c_, name, parts);
      else if (type->type == "HRA") detail::add_hra(c_, name, parts);
      else if (type->type == "IA3") detail::add_ia3(c_, name, parts);
      else detail::add_ln_tuning(c_, name, parts);
    }
    std::sort(c_.modules.begin(), c_.modules.end(), [](auto const& a, auto const& b) { return a.name < b.name; });
  }

  [[nodiscard]] std::string const& stored_name(std::string_view base_name) const {
    auto const it = c_.replaced.find(base_name);
    if (it == c_.replaced.end()) detail::refuse(c_.file.path(), "no base tensor of this name is replaced", base_name);
    return it->second;
  }
  [[nodiscard]] adapted_module const& at(std::string_view module) const {
    if (auto const* const m = find(module)) return *m;
    graft::detail::raise(argument_error(graft::detail::text("graft::io::peft_checkpoint: ", escaped(module),
                                                            " is not an adapted module of ", escaped(c_.file.path()))));
  }
  [[nodiscard]] static constexpr std::string_view call_for(adapter_kind kind) {
    switch (kind) {
      case adapter_kind::ln_tuning: return "visit_norm";
      case adapter_kind::lora_embedding:
      case adapter_kind::dora_embedding: return "visit_embedding";
      case adapter_kind::lora_experts: return "visit_experts";
      default: return "visit";
    }
  }
  [[noreturn]] void wrong_call(std::string_view called, adapted_module const& m, std::string_view right) const {
    graft::detail::raise(
        argument_error(graft::detail::text("graft::io::peft_checkpoint::", called, ": ", escaped(m.name), " is ",
                                           graft::io::name(m.kind), "; use ", right)));
  }
  /// The layer's input features: the file's, or those that the caller tells (-1: nothing).
  [[nodiscard]] index_t features_of(adapted_module const& m, index_t told) const {
    auto const wrong = [&](auto const&... what) {
      graft::detail::raise(shape_error(graft::detail::text("graft::io::peft_checkpoint::visit: ", escaped(m.name),
                                                           what..., "; in_features is ", told)));
    };
    if (m.kind == adapter_kind::oft && m.in_features == 0) {  // one block for all
      if (told <= 0 || told % m.block_size != 0)
        wrong(" shares one block of ", m.block_size,
              " among all its features, whose number the file does not say: it must be a positive multiple of that");
      return told;
    }
    if (told >= 0 && m.kind != adapter_kind::vera && m.in_features != 0 && told != m.in_features)
      wrong(" has ", m.in_features, " input features");
    return told < 0 ? m.in_features : told;
  }
  template <class T>
  [[nodiscard]] T const* data(adapted_module const& m, std::string_view part) const {
    return c_.data<T>(m, part);
  }
  template <class T>
  [[nodiscard]] vector<T> one(adapted_module const& m, std::string_view part, index_t size) const {
    return graft::view(data<T>(m, part), size);
  }
  template <class T>
  [[nodiscard]] auto low_rank(adapted_module const& m) const {
    return graft::lora<matrix<T>, matrix<T>>{graft::view(data<T>(m, ".lora_A.weight"), m.rank, m.in_features),
                                             graft::view(data<T>(m, ".lora_B.weight"), m.out_features, m.rank),
                                             m.scale};
  }
  template <class T, class F>
  decltype(auto) typed(adapted_module const& m, F& f, index_t in_features) const {
    switch (m.kind) {
      case adapter_kind::vera:
        return f(sliced(projections(), in_features, m.out_features, one<T>(m, ".vera_lambda_d", m.rank),
                        one<T>(m, ".vera_lambda_b", m.out_features)));
      case adapter_kind::boft:
        return f(graft::boft<blocks<T>, vector<T>>{
            graft::view(data<T>(m, ".boft_R"), m.factors, m.in_features / m.block_size, m.block_size, m.block_size),
            one<T>(m, ".boft_s", m.out_features)});
      case adapter_kind::oft:
        return f(graft::oft<matrix<T>>{
            graft::view(data<T>(m, ".oft_R.weight"), m.in_features == 0 ? 1 : in_features / m.block_size,
                        m.block_size * (m.block_size - 1) / 2),
            in_features, m.block_size,
            c_.config.use_cayley_neumann ? static_cast<int>(c_.config.num_cayley_neumann_terms) : 0});
      case adapter_kind::hra:
        return f(graft::hra<matrix<T>>{graft::view(data<T>(m, ".hra_u"), m.in_features, m.rank), c_.config.apply_GS});
      case adapter_kind::ia3: return f(graft::ia3<vector<T>>{one<T>(m, ".ia3_l", m.out_features)});
      case adapter_kind::ia3_feedforward:
        return f(graft::ia3_feedforward<vector<T>>{one<T>(m, ".ia3_l", m.in_features)});
      case adapter_kind::dora:
        return f(dora<graft::lora<matrix<T>, matrix<T>>, vector<T>>{
            low_rank<T>(m), one<T>(m, ".lora_magnitude_vector", m.out_features)});
      default: break;
    }
    auto const l = low_rank<T>(m);
    if (!m.has_bias) return f(l);
    return f(
        graft::lora<matrix<T>, matrix<T>, vector<T>>{l.A, l.B, m.scale, one<T>(m, ".lora_B.bias", m.out_features)});
  }

  detail::checkpoint_contents c_;
};

}  // namespace graft::inline GRAFT_CONTRACT::io
