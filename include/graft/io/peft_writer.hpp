// SPDX-License-Identifier: Apache-2.0
/// @file
/// Adapters to a folder that Hugging Face PEFT loads: `adapter_config.json` and `adapter_model.safetensors`.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <graft/adapters/boft.hpp>
#include <graft/adapters/dora.hpp>
#include <graft/adapters/hra.hpp>
#include <graft/adapters/ia3.hpp>
#include <graft/adapters/ln_tuning.hpp>
#include <graft/adapters/lora.hpp>
#include <graft/adapters/lora_embedding.hpp>
#include <graft/adapters/lora_experts.hpp>
#include <graft/adapters/oft.hpp>
#include <graft/adapters/vera.hpp>
#include <graft/config.hpp>
#include <graft/io/adapter_config.hpp>
#include <graft/io/detail/config_json.hpp>
#include <graft/io/peft_checkpoint.hpp>
#include <graft/io/safetensors.hpp>
#include <graft/io/safetensors_writer.hpp>

namespace graft::inline GRAFT_CONTRACT::io {

/// Collects adapters by module name and writes them. Ranks and scales become `r`, `lora_alpha` and, for modules that differ from
/// the first, `rank_pattern` and `alpha_pattern`; what was added decides `use_dora`, `lora_bias`, `target_parameters`, the sizes
/// of blocks, `apply_GS`, `feedforward_modules`; without target_modules the configuration lists the modules by their whole
/// names. Tensors are copied when they are added, any strides, elements as they are. Before a byte is written,
/// `peft_checkpoint` reads what would be: what it refuses is refused.
///
/// The same adapters added in the same order give the same bytes.
class peft_writer {
 public:
  /// `settings` is where dropout, use_rslora, fan_in_fan_out, bias, modules_to_save, target_modules and so on come from.
  explicit peft_writer(adapter_config settings = {}) : config_(std::move(settings)) {
    config_.peft_type = config_.peft_type.empty() ? "LORA" : config_.peft_type;
  }

  /// A layer. Throws argument_error when the name is there already, or VeRA meets something else.
  template <class A, class B, class Bias>
  peft_writer& add(std::string const& module, graft::lora<A, B, Bias> const& l) {
    start(module, "LORA");
    note(module, l.rank(), l.scale.value());
    keep(prefix(module) + ".lora_A.weight", l.A);
    keep(prefix(module) + ".lora_B.weight", l.B);
    if constexpr (graft::lora<A, B, Bias>::has_bias) {
      config_.lora_bias = true;
      keep(prefix(module) + ".lora_B.bias", l.bias);
    }
    return *this;
  }
  /// A layer or an embedding, with its magnitude.
  template <class L, class M, class N>
  peft_writer& add(std::string const& module, dora<L, M, N> const& d) {
    add(module, d.low_rank);
    config_.use_dora = true;
    keep(prefix(module) + ".lora_magnitude_vector", d.magnitude);
    return *this;
  }
  /// An embedding.
  template <class A, class B>
  peft_writer& add(std::string const& module, lora_embedding<A, B> const& l) {
    start(module, "LORA");
    note(module, l.rank(), l.scale.value());
    keep(prefix(module) + ".lora_embedding_A", l.A);
    keep(prefix(module) + ".lora_embedding_B", l.B);
    return *this;
  }
  /// A fused parameter, by the module's and the parameter's name: "model.layers.0.mlp.experts.down_proj".
  template <class A, class B>
  peft_writer& add(std::string const& parameter, lora_experts<A, B> const& l) {
    std::size_t const dot = parameter.rfind('.');
    if (dot == std::string::npos || dot == 0)
      graft::detail::raise(argument_error(graft::detail::text("graft::io::peft_writer: ", escaped(parameter),
                                                              " must be a module's name, a dot and a parameter's")));
    start(parameter, "LORA");
    note(parameter, l.rank(), l.scale.value());
    std::string const module = parameter.substr(0, dot);
    fused_[module].push_back({parameter, copied(l.A), copied(l.B)});
    config_.target_parameters.push_back(parameter);
    return *this;
  }
  /// A layer of VeRA. The projections go into the file with `projections`; else PEFT draws them from projection_prng_key.
  template <class A, class B, class D, class Bv>
  peft_writer& add(std::string const& module, vera<A, B, D, Bv> const& v) {
    if (modules_.empty()) config_.save_projection = false;
    start(module, "VERA");
    if (modules_.size() == 1) config_.r = v.rank();
    keep(prefix(module) + ".vera_lambda_d", v.d);
    keep(prefix(module) + ".vera_lambda_b", v.b);
    return *this;
  }
  template <class A, class B>
  peft_writer& projections(vera_projections<A, B> const& shared) {
    config_.save_projection = true;
    keep("base_model.vera_A", shared.A);
    keep("base_model.vera_B", shared.B);
    return *this;
  }
  /// A layer of BOFT; all of one folder have the same number of factors, and blocks of one size, or equally many.
  template <class P, class S, class R>
  peft_writer& add(std::string const& module, boft<P, S, R> const& b) {
    start(module, "BOFT");
    same(module, config_.boft_n_butterfly_factor, b.factors(), "factors");
    note_blocks(b.block_size(), b.blocks());
    keep(prefix(module) + ".boft_R", b.parameters);
    keep(prefix(module) + ".boft_s", b.s, {b.s.extent(0), 1});
    return *this;
  }
  /// A layer of OFT; all of one folder take the same terms, have blocks of one size, or equally many, and share them or not. A
  /// projection (COFT) is a matter of the settings, `coft` and `eps`.
  template <class P, class R>
  peft_writer& add(std::string const& module, oft<P, R> const& o) {
    start(module, "OFT");
    bool const shared = o.parameters.extent(0) == 1 && o.blocks() > 1;
    if (only_single_blocks_) config_.block_share = shared;
    if (o.blocks() > 1) {  // of a layer of one block, both is true
      only_single_blocks_ = false;
      same(module, config_.block_share, shared, "shared blocks");
    }
    same(module, config_.use_cayley_neumann, o.terms != 0, "series");
    if (o.terms != 0) same(module, config_.num_cayley_neumann_terms, static_cast<index_t>(o.terms), "terms");
    note_blocks(o.block_size(), o.blocks());
    keep(prefix(module) + ".oft_R.weight", o.parameters);
    return *this;
  }
  /// A layer of HRA; all of one folder have one rank, and make their columns orthonormal or not.
  template <class U, class V, class S>
  peft_writer& add(std::string const& module, hra<U, V, S> const& h) {
    start(module, "HRA");
    same(module, config_.r, h.rank(), "reflections");
    same(module, config_.apply_GS, h.gram_schmidt, "Gram and Schmidt");
    keep(prefix(module) + ".hra_u", h.u);
    return *this;
  }
  template <class L>
  peft_writer& add(std::string const& module, ia3<L> const& a) {
    start(module, "IA3");
    keep(prefix(module) + ".ia3_l", a.l, {a.l.extent(0), 1});
    return *this;
  }
  template <class L>
  peft_writer& add(std::string const& module, ia3_feedforward<L> const& a) {
    start(module, "IA3");
    feedforward_.push_back(module);
    keep(prefix(module) + ".ia3_l", a.l, {1, a.l.extent(0)});
    return *this;
  }
  /// A layer of normalisation, by LN tuning. Its eps is the base model's and not written.
  template <class W, class B>
  peft_writer& add(std::string const& module, layer_norm<W, B> const& n) {
    add(module, rms_norm<W>{n.weight});
    if constexpr (graft::detail::is_there<B>) keep(prefix(module) + ".ln_tuning_layers.bias", n.bias);
    return *this;
  }
  template <class W>
  peft_writer& add(std::string const& module, rms_norm<W> const& n) {
    start(module, "LN_TUNING");
    keep(prefix(module) + ".ln_tuning_layers.weight", n.weight);
    return *this;
  }
  /// A tensor that takes the place of the base model's of this name ("lm_head.weight", "model.layers.0.q_proj.bias"):
  /// modules_to_save must list its module, or bias be other than "none".
  template <class View>
  peft_writer& replace(std::string const& base_name, View const& v) {
    replaced_.emplace_back(base_name, copied(v));
    return *this;
  }

  /// The two files' contents: of adapter_config.json, and of adapter_model.safetensors. Throws format_error, argument_error.
  [[nodiscard]] std::pair<std::string, std::string> bytes() const {
    adapter_config const config = completed();
    std::string const text = detail::config_json(config);
    std::string data = safetensors_bytes(tensors(), {{"format", "pt"}});
    auto const check =
        peft_checkpoint::parse(adapter_config::parse(text, "adapter_config.json"), "adapter_config.json",
                               safetensors_file::parse({reinterpret_cast<std::byte const*>(data.data()), data.size()},
                                                       "adapter_model.safetensors"));
    for (auto const& o : check.others())
      if (o.name.starts_with("base_model."))
        graft::detail::raise(
            argument_error(graft::detail::text("graft::io::peft_writer: ", escaped(o.name), ": ", o.reason)));
    return {text, std::move(data)};
  }
  /// Writes both files into an existing folder, each by way of a file beside it. Throws file_error too.
  void write(std::string const& folder) const {
    auto const [text, data] = bytes();
    write_bytes(folder + "/adapter_config.json", text);
    write_bytes(folder + "/adapter_model.safetensors", data);
  }

 private:
  struct stored {
    dtype type = dtype::f32;
    std::vector<index_t> shape;
    std::string bytes;
  };
  struct fused {
    std::string name;
    stored A;
    stored B;
  };

  [[nodiscard]] static std::string prefix(std::string const& module) { return "base_model.model." + module; }

  /// Row-major, whatever the strides.
  template <class View>
  [[nodiscard]] static stored copied(View const& v) {
    using value = typename View::value_type;
    static_assert(!is_panels<View>, "graft::io::peft_writer: this adapter is packed for add_delta; use the original");
    static_assert(std::is_same_v<typename View::space_type, host_space>,
                  "graft::io::peft_writer: views must lie in host memory; copy them first");
    stored out{detail::dtype_of<value>, {}, {}};
    for (std::size_t i = 0; i < View::rank(); ++i) out.shape.push_back(v.extent(i));
    std::vector<value> elements;
    elements.reserve(static_cast<std::size_t>(v.size()));
    std::array<index_t, View::rank()> at{};
    for (index_t k = 0; k < v.size(); ++k) {
      index_t offset = 0;
      for (std::size_t i = 0; i < View::rank(); ++i) offset += at[i] * v.stride(i);
      elements.push_back(v.data_handle()[offset]);
      for (std::size_t i = View::rank(); i-- > 0 && ++at[i] == v.extent(i);) at[i] = 0;
    }
    out.bytes.assign(reinterpret_cast<char const*>(elements.data()), elements.size() * sizeof(value));
    return out;
  }
  template <class View>
  void keep(std::string name, View const& v) {
    tensors_.emplace_back(std::move(name), copied(v));
  }
  /// A vector that PEFT stores as a matrix.
  template <class View>
  void keep(std::string name, View const& v, std::vector<index_t> shape) {
    keep(std::move(name), v);
    tensors_.back().second.shape = std::move(shape);
  }
  /// What the configuration has once for all modules: the first decides.
  template <class Value>
  void same(std::string const& module, Value& stated, Value value, std::string_view what) {
    if (modules_.size() == 1) stated = value;
    if (stated != value)
      graft::detail::raise(argument_error(graft::detail::text("graft::io::peft_writer: ", escaped(module), " has ",
                                                              in_words(value, what), " but those before have ",
                                                              in_words(stated, what), "; one folder holds one kind")));
  }
  [[nodiscard]] static std::string in_words(index_t value, std::string_view what) {
    return graft::detail::text(value, " ", what);
  }
  [[nodiscard]] static std::string in_words(bool value, std::string_view what) {
    return graft::detail::text(value ? "" : "no ", what);
  }
  void note_blocks(index_t size, index_t number) {
    if (modules_.size() == 1) block_size_ = size, block_number_ = number;
    if (block_size_ != size) block_size_ = 0;
    if (block_number_ != number) block_number_ = 0;
    if (block_size_ == 0 && block_number_ == 0)
      graft::detail::raise(argument_error(graft::detail::text(
          "graft::io::peft_writer: ", escaped(modules_.back()), " has ", number, " blocks of ", size,
          ", and those before neither the one nor the other; one folder holds blocks of one size, or equally many")));
  }
  void start(std::string const& module, std::string_view type) {
    if (modules_.empty()) config_.peft_type = type;
    if (config_.peft_type != type)
      graft::detail::raise(argument_error(graft::detail::text("graft::io::peft_writer: ", escaped(module),
                                                              " is of type ", type, " but those before are ",
                                                              config_.peft_type, "; one folder holds one type")));
    for (auto const& m : modules_)
      if (m == module)
        graft::detail::raise(
            argument_error(graft::detail::text("graft::io::peft_writer: ", escaped(module), " was added already")));
    modules_.push_back(module);
  }
  /// The first adapter's rank and alpha are the defaults; those of others are patterns.
  void note(std::string const& module, index_t r, double scale) {
    double const alpha =
        config_.use_rslora ? scale * std::sqrt(static_cast<double>(r)) : scale * static_cast<double>(r);
    if (modules_.size() == 1) {
      config_.r = r;
      config_.lora_alpha = alpha;
    }
    if (r != config_.r) config_.rank_pattern.emplace_back(pattern_of(module), static_cast<double>(r));
    if (alpha != config_.lora_alpha) config_.alpha_pattern.emplace_back(pattern_of(module), alpha);
  }
  /// A name as the expression that it is read as.
  [[nodiscard]] static std::string pattern_of(std::string const& module) {
    std::string out = "^";
    for (char const c : module) {
      if (std::string_view(".*+?|()[]{}^$\\").find(c) != std::string_view::npos) out += '\\';
      out += c;
    }
    return out;
  }
  [[nodiscard]] adapter_config completed() const {
    if (modules_.empty()) graft::detail::raise(argument_error("graft::io::peft_writer: there is no adapter to write"));
    adapter_config c = config_;
    if (c.peft_type == "BOFT") {
      c.boft_block_size = block_size_;
      c.boft_block_num = block_size_ == 0 ? block_number_ : 0;
    } else if (c.peft_type == "OFT") {
      c.oft_block_size = block_size_;
      c.r = block_size_ == 0 ? block_number_ : 0;
      if (c.peft_version.empty()) c.peft_version = formulas_of;
    }
    if (!c.feedforward_pattern && c.feedforward_modules.empty()) c.feedforward_modules = feedforward_;
    if (c.target_modules.empty() && !c.target_pattern && !c.target_all_linear)
      for (auto const& m : modules_)
        if (!is_fused(m)) c.target_modules.push_back(m);
    return c;
  }
  [[nodiscard]] bool is_fused(std::string const& name) const {
    for (auto const& [module, parameters] : fused_)
      for (auto const& p : parameters)
        if (p.name == name) return true;
    return false;
  }
  [[nodiscard]] std::vector<tensor_data> tensors() const {
    std::vector<tensor_data> out;
    auto const put = [&](std::string name, stored const& s) {
      out.push_back(
          {std::move(name), s.type, s.shape, {reinterpret_cast<std::byte const*>(s.bytes.data()), s.bytes.size()}});
    };
    for (auto const& [name, s] : tensors_) put(name, s);
    for (auto const& [module, parameters] : fused_)
      for (std::size_t i = 0; i < parameters.size(); ++i) {  // the first added is the innermost
        std::string name = prefix(module);
        for (std::size_t k = i + 1; k < parameters.size(); ++k) name += ".base_layer";
        put(name + ".lora_A.weight", parameters[i].A);
        put(name + ".lora_B.weight", parameters[i].B);
      }
    for (auto const& [base, s] : replaced_) {
      std::string name = base;
      if (name.ends_with(".bias"))
        if (std::string const module = name.substr(0, name.size() - 5);
            std::find(modules_.begin(), modules_.end(), module) != modules_.end())
          name = module + ".base_layer.bias";
      put(prefix(name), s);
    }
    return out;
  }
  /// The version of PEFT whose formulas the adapters follow; it asks this of OFT.
  static constexpr std::string_view formulas_of = "0.18.0";
  adapter_config config_;
  std::vector<std::string> modules_;
  std::vector<std::string> feedforward_;
  index_t block_size_ = 0;
  index_t block_number_ = 0;
  bool only_single_blocks_ = true;
  std::vector<std::pair<std::string, stored>> tensors_;
  std::map<std::string, std::vector<fused>> fused_;
  std::vector<std::pair<std::string, stored>> replaced_;
};

}  // namespace graft::inline GRAFT_CONTRACT::io
