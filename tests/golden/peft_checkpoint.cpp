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
  std::vector<float> y;
  if (c.has(module + ".x")) {
    x = c.input<float>(module + ".x");
    y = base.output(*x);
  }
  if (active)
    adapter.visit(module, [&](auto const& l) {
      base.with_weight(merged, [&](auto const& view) { graft::merge(ex, l, view, graft::view(merged_bias)); });
      if (x) graft::add_delta(ex, l, x->matrix(), graft::view(y, x->rows(), base.out()));
    });
  if (x) out.add(module + ".y", x->shape_with(base.out()), y);
  out.add(module + ".merged.W", base.W.shape, merged);
  out.add(module + ".merged.bias", {base.out()}, merged_bias);
}

results peft_checkpoint(test_case const& c) {
  auto const adapter = load(c);
  if (c.file().metadata().contains("fused_modules") && !c.json("fused_modules").empty())
    throw skip("graft does not compute LoRA on fused parameters");
  auto const info = c.json("info");
  results out;
  for (auto const& entry : c.json("modules")) {
    auto const module = entry.get<std::string>();
    auto const kind = info.value(module, nlohmann::json::object()).value("type", std::string("Linear"));
    if (kind != "Linear" && kind != "Conv1D" && kind != "ModulesToSaveWrapper")
      throw skip(printable(module) + " is a " + printable(kind) + ", which graft does not compute");
    compute(c, adapter, module, kind, out);
  }
  return out;
}

registration const registered{"peft_checkpoint", peft_checkpoint};

}  // namespace
}  // namespace golden
