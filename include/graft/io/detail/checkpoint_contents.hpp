// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a checkpoint is read into, and what readers of every type of adapter share: complaints, lists, tensors of one module.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/io/adapted_module.hpp>
#include <graft/io/adapter_config.hpp>
#include <graft/io/detail/peft_types.hpp>
#include <graft/io/errors.hpp>
#include <graft/io/file_bytes.hpp>
#include <graft/io/safetensors.hpp>
#include <graft/view/scalar.hpp>

namespace graft::inline GRAFT_CONTRACT::io::detail {

/// The tensors of one module, by the end of their names.
class module_tensors {
 public:
  void add(std::string_view part, tensor_info const& t) { parts_.emplace_back(part, &t); }
  /// ".lora_A.weight"; null when there is none.
  [[nodiscard]] tensor_info const* find(std::string_view part) const {
    for (auto const& [name, t] : parts_)
      if (name == part) return t;
    return nullptr;
  }
  /// In the order of the file; there is at least one.
  [[nodiscard]] std::vector<std::pair<std::string_view, tensor_info const*>> const& all() const { return parts_; }
  [[nodiscard]] tensor_info const& first() const { return *parts_.front().second; }

 private:
  std::vector<std::pair<std::string_view, tensor_info const*>> parts_;
};

struct checkpoint_contents {
  adapter_config config;
  safetensors_file file;
  std::vector<adapted_module> modules{};
  std::vector<not_understood> others{};
  std::map<std::string, std::string, std::less<>> replaced{};  // base tensors, and what they are called in the file
  std::map<std::string, file_bytes, std::less<>> aligned{};    // by "module:part"
  std::vector<float> vera_A{}, vera_B{};                       // VeRA's projections
  index_t projections_rank = 0, projections_in = 0, projections_out = 0;

  [[noreturn]] void wrong(tensor_info const& t, std::string_view what) const {
    refuse(file.path(), what, t.name, t.begin);
  }
  [[nodiscard]] static std::string type_text(tensor_info const& t) {
    return t.type == dtype::other ? escaped(t.type_name) : t.type_name;
  }
  void list(tensor_info const& t, std::string reason, bool changes = false) {
    std::string shape = type_text(t) + "[";
    for (std::size_t i = 0; i < t.shape.size(); ++i) shape += graft::detail::text(i == 0 ? "" : ", ", t.shape[i]);
    others.push_back({t.name, shape + "]", std::move(reason), changes});
  }
  void list_all(module_tensors const& p, std::string const& reason) {
    for (auto const& [part, t] : p.all()) list(*t, reason, true);
  }
  void replace(std::string const& base_name, tensor_info const& t) {
    auto const [it, fresh] = replaced.emplace(base_name, t.name);
    if (!fresh)
      wrong(t, graft::detail::text("takes the place of ", escaped(base_name), ", and so does ", escaped(it->second)));
  }
  /// Both or neither; true when both are there.
  [[nodiscard]] bool pair(tensor_info const* a, tensor_info const* b, std::string_view name_a,
                          std::string_view name_b) const {
    if (a != nullptr && b == nullptr) wrong(*a, graft::detail::text("there is no ", name_b, " beside it"));
    if (a == nullptr && b != nullptr) wrong(*b, graft::detail::text("there is no ", name_a, " beside it"));
    return a != nullptr;
  }
  /// All of one floating type that graft computes with. False when the type is another one: then the module is listed.
  [[nodiscard]] bool one_type(module_tensors const& p, adapted_module& m) {
    m.type = p.first().type;
    for (auto const& [part, t] : p.all())
      if (t->type != dtype::f32 && t->type != dtype::bf16 && t->type != dtype::f16) {
        list_all(p, "elements of type " + type_text(*t) + " are not computed with");
        return false;
      }
    for (auto const& [part, t] : p.all())
      if (t->type != m.type) wrong(*t, graft::detail::text("is stored as another type than ", escaped(p.first().name)));
    return true;
  }
  void expects_rank(tensor_info const& t, std::size_t rank) const {
    constexpr std::string_view words[] = {"no", "one", "two", "three", "four"};
    if (t.shape.size() != rank)
      wrong(t, graft::detail::text("must have ", words[rank], rank == 1 ? " dimension" : " dimensions"));
  }
  /// Elements of a vector that may be stored with extents of 1 beside its own.
  void expects_vector(tensor_info const& t, index_t size) const {
    if (t.size() != size || std::count(t.shape.begin(), t.shape.end(), 1) + (size == 1 ? 0 : 1) !=
                                static_cast<std::ptrdiff_t>(t.shape.size()))
      wrong(t, graft::detail::text("must have ", size, " elements"));
  }
  void expects_elements(tensor_info const& t) const {
    if (t.size() == 0) wrong(t, "is empty");
  }
  /// Hands the module out: its tensors are copied to aligned memory, by their parts without the dot ("lora_A.weight").
  void keep(adapted_module m, module_tensors const& p, bool targeted) {
    m.targeted = targeted;
    if (!m.targeted) list(p.first(), "the configuration would not adapt this module; it is handed out all the same");
    for (auto const& [part, t] : p.all()) aligned.emplace(key(m.name, part), file_bytes::copy(file.bytes(*t)));
    modules.push_back(std::move(m));
  }
  void keep(adapted_module m, module_tensors const& p) {
    bool const targeted = config.targets(m.name);
    keep(std::move(m), p, targeted);
  }
  [[nodiscard]] static std::string key(std::string_view module, std::string_view part) {
    return graft::detail::text(module, ":", part);
  }
  template <class T>
  [[nodiscard]] T const* data(adapted_module const& m, std::string_view part) const {
    return reinterpret_cast<T const*>(aligned.find(key(m.name, part))->second.bytes().data());
  }
};

/// f(std::type_identity<T>) of the type that the module is stored as: what `one_type` has let through.
template <class F>
decltype(auto) with_type(adapted_module const& m, F const& f) {
  if (m.type == dtype::bf16) return f(std::type_identity<bfloat16>{});
  if (m.type == dtype::f16) return f(std::type_identity<float16>{});
  return f(std::type_identity<float>{});
}

/// The file's tensors by module, in order of names; what belongs to no adapter is listed, or takes the place of a tensor of the
/// base model. `shared` is told of those that belong to no module (VeRA's projections): true when it takes one.
template <class Shared>
[[nodiscard]] std::map<std::string, module_tensors> sort_tensors(checkpoint_contents& c, peft_type_names const& type,
                                                                 Shared const& shared) {
  constexpr std::string_view prefix = "base_model.model.", base_bias = ".base_layer.bias";
  std::map<std::string, module_tensors> modules;
  // PEFT saves every module whose name has one of modules_to_save and a dot in it, whatever stands before.
  auto const is_saved = [&](std::string_view name) {
    return std::any_of(c.config.modules_to_save.begin(), c.config.modules_to_save.end(),
                       [&](std::string const& m) { return name.find(m + ".") != std::string_view::npos; });
  };
  auto const sort_in = [&](tensor_info const& t) {
    std::string_view name = t.name;
    if (shared(t)) return;
    if (!name.starts_with(prefix)) return c.list(t, "its name does not begin with base_model.model.");
    name.remove_prefix(prefix.size());
    auto const ends = [&](std::string_view suffix) { return name.size() > suffix.size() && name.ends_with(suffix); };
    auto const before = [&](std::string_view suffix) {
      return std::string(name.substr(0, name.size() - suffix.size()));
    };
    for (auto const part : type.parts)
      if (!part.empty() && ends(part)) return modules[before(part)].add(part, t);
    if (ends(base_bias)) c.replace(before(base_bias) + ".bias", t);
    else if (name.find(type.mark) != std::string_view::npos)
      c.list(t, graft::detail::text("this kind of ", type.name, " tensor is not computed by this version"), true);
    else if ((ends(".bias") && c.config.bias != "none") || is_saved(name)) c.replace(std::string(name), t);
    else c.list(t, "the configuration does not say what this tensor is");
  };
  for (auto const& t : c.file.tensors()) sort_in(t);
  return modules;
}

}  // namespace graft::inline GRAFT_CONTRACT::io::detail
