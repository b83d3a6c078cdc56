// SPDX-License-Identifier: Apache-2.0
/// Cases of `lora`: one or more LoRA or rsLoRA adapters on a linear layer.
#include "linear.hpp"

namespace golden {
namespace {

results lora(test_case const& c) {
  auto const base = linear_of<float>(c);
  auto const adapters = low_rank_of<float>(c);
  results out;
  add_merged(out, base, adapters);
  if (!c.has("x")) return out;
  auto const x = c.input<float>("x");
  auto y = base.output(x);
  for (auto const& a : adapters)
    a.with_lora([&](auto const& l) { graft::add_delta(ex, l, x.matrix(), graft::view(y, x.rows(), base.out())); });
  out.add("y", x.shape_with(base.out()), y);

  if (!c.has("dy")) return out;
  auto const dy = c.input<float>("dy");
  auto dx = base.input_gradient(dy);
  for (auto const& a : adapters) {
    auto dA = std::vector<float>(a.A.data.size());
    auto dB = std::vector<float>(a.B.data.size());
    auto dbias = std::vector<float>(a.bias.data.size());
    a.with_lora([&](auto const& l) {
      auto const run = [&](auto const& gradients) {
        graft::backward(ex, l, x.matrix(), dy.matrix(), gradients, graft::view(dx, dy.rows(), base.in()));
      };
      auto const gA = graft::view(dA, a.A.rows(), a.A.columns());
      auto const gB = graft::view(dB, a.B.rows(), a.B.columns());
      if constexpr (std::remove_cvref_t<decltype(l)>::has_bias) run(graft::lora_gradients{gA, gB, graft::view(dbias)});
      else run(graft::lora_gradients{gA, gB});
    });
    out.add("grad.lora_A" + a.suffix, a.A.shape, dA);
    out.add("grad.lora_B" + a.suffix, a.B.shape, dB);
    if (!a.bias_name.empty()) out.add("grad." + a.bias_name, a.bias.shape, dbias);
  }
  out.add("grad.x", dy.shape_with(base.in()), dx);
  return out;
}

registration const registered{"lora", lora};

}  // namespace
}  // namespace golden
