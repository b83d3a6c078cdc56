// SPDX-License-Identifier: Apache-2.0
/// Cases of `peft_checkpoint`: a folder as PEFT saves it, loaded through graft::io, applied to the base tensors of its
/// reference. Whatever graft does not compute and a module depends on makes the case skipped, never passed.
#include <graft/io.hpp>

#include "linear.hpp"

namespace golden {
namespace {

graft::io::peft_checkpoint load(test_case const& c) {
  try {
    return graft::io::peft_checkpoint::load(c.folder());
  } catch (graft::io::unsupported_error const& e) {
    if (c.expect != expectation::ok) throw;
    throw skip(e.what());
  }
}

/// Settings and tensors that graft leaves out and that change what this module computes.
void expects_understood(graft::io::peft_checkpoint const& adapter, std::string const& module) {
  for (auto const& o : adapter.others()) {
    bool const tensor = o.name.starts_with("base_model.");
    bool const here = o.name.starts_with("base_model.model." + module + ".");
    auto const* const stray = adapter.find(module);
    if (here && stray != nullptr && !stray->targeted) continue;  // PEFT leaves it out, and so do we
    if (here || (!tensor && o.changes_result))
      throw skip(printable(module) + " depends on " + printable(o.name) + ": " + o.reason);
  }
}

/// y, merged.W and merged.bias of one module.
void compute(test_case const& c, graft::io::peft_checkpoint const& adapter, std::string const& module,
             std::string const& kind, results& out) {
  expects_understood(adapter, module);
  auto const* const adapted = adapter.find(module);
  bool const active = adapted != nullptr && adapted->targeted;
  auto w = c.input<float>(module + ".base.W", 2);
  std::optional<given<float>> bias;
  if (c.has(module + ".base.bias")) bias = c.input<float>(module + ".base.bias");
  if (adapter.replaced().contains(module + ".weight")) {
    w.data = adapter.read_replaced(module + ".weight");
    if (adapter.replaced_info(module + ".weight").shape != w.shape)
      throw bad_case("the saved weight of " + printable(module) + " has another shape");
  }
  if (adapter.replaced().contains(module + ".bias"))
    bias = given<float>{adapter.replaced_info(module + ".bias").shape, adapter.read_replaced(module + ".bias")};

  linear<float> const base(std::move(w), std::move(bias), kind == "Conv1D" || (active && adapted->fan_in_fan_out));
  auto merged = base.W.data;
  auto merged_bias = base.bias ? base.bias->data : std::vector<float>(static_cast<std::size_t>(base.out()));
  std::optional<given<float>> x;
  if (c.has(module + ".x")) x = c.input<float>(module + ".x");
  std::vector<float> y(x ? static_cast<std::size_t>(x->rows() * base.out()) : 0);
  /// Merged, and around the base layer.
  auto const use = [&](auto const&... active_adapter) {
    base.with_weight(merged, [&](auto const& view) {
      [[maybe_unused]] auto const one = [&](auto const& a) {
        if constexpr (requires { graft::merge(ex, a, view, graft::view(merged_bias)); })
          graft::merge(ex, a, view, graft::view(merged_bias));
        else graft::merge(ex, a, view);
      };
      (one(active_adapter), ...);
    });
    if (x)
      with_base(base, [&](auto const& layer) {
        graft::adapted_linear(ex, layer, active_adapter..., x->matrix(), graft::view(y, x->rows(), base.out()));
      });
  };
  if (!active) use();
  else
    adapter.visit(
        module,
        [&](auto const& a) {
          std::vector<float> memory, more;  // what is worth keeping between calls
          auto const floats = [](std::vector<float>& v, index_t count) {
            v.resize(static_cast<std::size_t>(count));
            return v.data();
          };
          if constexpr (requires { a.magnitude; }) {
            auto const d = graft::with_norms(a, graft::view(floats(memory, base.out()), base.out()));
            base.with_weight(merged, [&](auto const& view) { graft::update_norms(ex, d, view); });
            use(d);
          } else if constexpr (requires { a.factors(); }) {  // BOFT
            index_t const f = a.factors(), k = a.blocks(), b = a.block_size();
            auto const r = graft::with_rotations(a, graft::view(floats(memory, f * k * b * b), f, k, b, b));
            graft::update_rotations(ex, r);
            use(r);
          } else if constexpr (requires { a.blocks(); }) {  // OFT
            index_t const k = a.parameters.extent(0), b = a.block_size();
            auto const r = graft::with_rotations(a, graft::view(floats(memory, k * b * b), k, b, b));
            graft::update_rotations(ex, r);
            use(r);
          } else if constexpr (requires { a.gram_schmidt; }) {  // HRA
            index_t const n = a.in_features(), r = a.rank();
            auto const h = graft::with_reflections(a, graft::view(floats(memory, r * n), r, n),
                                                   graft::view(floats(more, n * r), n, r));
            graft::update_reflections(ex, h);
            use(h);
          } else use(a);
        },
        base.in());
  if (x) out.add(module + ".y", x->shape_with(base.out()), y);
  out.add(module + ".merged.W", base.W.shape, merged);
  out.add(module + ".merged.bias", {base.out()}, merged_bias);
}

/// A layer of normalisation: RMSNorm where the case has no bias, with the eps of Llama's configuration.
void compute_norm(test_case const& c, graft::io::peft_checkpoint const& adapter, std::string const& module,
                  results& out) {
  expects_understood(adapter, module);
  auto w = c.input<float>(module + ".base.W");
  if (adapter.replaced().contains(module + ".weight")) w.data = adapter.read_replaced(module + ".weight");
  if (c.has(module + ".base.bias")) throw skip(printable(module) + " is a LayerNorm, whose eps the case does not tell");
  auto const x = c.input<float>(module + ".x");
  std::vector<float> y(x.data.size());
  graft::normalize(ex, graft::rms_norm{graft::view(std::as_const(w.data)), 1e-6}, x.matrix(),
                   graft::view(y, x.rows(), x.columns()));
  out.add(module + ".y", x.shape, y);
  out.add(module + ".merged.W", w.shape, w.data);
}

/// A fused parameter of experts, merged.
void compute_fused(test_case const& c, graft::io::peft_checkpoint const& adapter, std::string const& parameter,
                   nlohmann::json const& settings, results& out) {
  expects_understood(adapter, parameter.substr(0, parameter.rfind('.')));
  auto w = c.input<float>(parameter + ".base", 3);
  auto const stored = graft::view(w.data, w.shape[0], w.shape[1], w.shape[2]);
  if (adapter.find(parameter) != nullptr)
    adapter.visit_experts(parameter, [&](auto const& l) {
      if (settings.value("layout", std::string()) == "[experts, in, out]")
        graft::merge(ex, l, graft::transposed(stored));
      else graft::merge(ex, l, stored);
    });
  out.add(parameter + ".merged", w.shape, w.data);
}

/// VeRA's projections, drawn for the model's largest layer where the file does not hold them.
void draw_projections(test_case const& c, graft::io::peft_checkpoint& adapter, results& out) {
  if (!adapter.has_projections()) {
    index_t largest = 0;
    auto const info = c.json("info");
    for (auto const& [module, layer] : info.items())
      if (layer.value("adapted", true)) largest = std::max(largest, layer.at("shape").at(1).get<index_t>());
    // Layers that the case does not list are known by the size of the projections alone.
    if (auto const* const t = c.file().find("shared.vera_A"); t != nullptr && t->shape.size() == 2)
      largest = std::max(largest, t->shape[1]);
    adapter.replay_projections(largest);
  }
  auto const p = adapter.projections();
  auto const add = [&](char const* name, auto const& m) {
    out.add(name, {m.extent(0), m.extent(1)}, std::vector<float>(m.data_handle(), m.data_handle() + m.size()));
  };
  add("shared.vera_A", p.A);
  add("shared.vera_B", p.B);
}

results peft_checkpoint(test_case const& c) {
  auto adapter = load(c);
  results out;
  if (adapter.config().peft_type == "VERA") draw_projections(c, adapter, out);
  if (c.file().metadata().contains("fused_modules")) {
    auto const fused = c.json("fused_modules");
    for (auto const& [parameter, settings] : fused.items()) compute_fused(c, adapter, parameter, settings, out);
  }
  auto const info = c.json("info");
  for (auto const& entry : c.json("modules")) {
    auto const module = entry.get<std::string>();
    auto const kind = info.value(module, nlohmann::json::object()).value("type", std::string("Linear"));
    if (kind == "LNTuningLayer") {
      compute_norm(c, adapter, module, out);
      continue;
    }
    if (kind != "Linear" && kind != "Conv1D" && kind != "HRALinear" && kind != "ModulesToSaveWrapper")
      throw skip(printable(module) + " is a " + printable(kind) + ", which graft does not compute");
    compute(c, adapter, module, kind, out);
  }
  return out;
}

registration const registered{"peft_checkpoint", peft_checkpoint};

}  // namespace
}  // namespace golden
