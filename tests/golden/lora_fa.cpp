// SPDX-License-Identifier: Apache-2.0
/// Cases of `lora_fa`: LoRA with A frozen. The forward keeps s x A^T, the backward starts from it; x is not used again.
#include <graft/adapters/lora_fa.hpp>

#include "linear.hpp"

namespace golden {
namespace {

results lora_fa(test_case const& c) {
  auto const base = linear_of<float>(c);
  auto const adapters = low_rank_of<float>(c);
  results out;
  add_merged(out, base, adapters);
  if (!c.has("x")) return out;
  auto const x = c.input<float>("x");
  auto y = base.output(x);
  std::vector<std::vector<float>> kept;
  for (auto const& a : adapters) {
    if (!a.bias_name.empty()) throw skip("graft's lora_fa has no lora_bias");
    auto& v = kept.emplace_back(static_cast<std::size_t>(x.rows() * a.A.rows()));
    graft::lora_fa const l{a.A.matrix(), a.B.matrix(), a.scale};
    graft::add_delta(ex, l, x.matrix(), graft::view(y, x.rows(), base.out()), graft::view(v, x.rows(), a.A.rows()));
  }
  out.add("y", x.shape_with(base.out()), y);

  if (!c.has("dy")) return out;
  auto const dy = c.input<float>("dy");
  auto dx = base.input_gradient(dy);
  for (std::size_t i = 0; i < adapters.size(); ++i) {
    auto const& a = adapters[i];
    graft::lora_fa const l{a.A.matrix(), a.B.matrix(), a.scale};
    auto dB = std::vector<float>(a.B.data.size());
    auto const gB = graft::view(dB, a.B.rows(), a.B.columns());
    graft::backward(ex, l, graft::as_const(graft::view(kept[i], x.rows(), a.A.rows())), dy.matrix(),
                    graft::lora_gradients{.B = gB}, graft::view(dx, dy.rows(), base.in()));
    out.add("grad.lora_B" + a.suffix, a.B.shape, dB);
    // Only where it is expected: with r > n it would be dominated by the 1e-8 of its definition.
    for (auto const& name : {"grad.lora_B" + a.suffix + ".projected", "grad.lora_B.projected" + a.suffix})
      if (c.expects(name)) {
        auto projected = std::vector<float>(dB.size());
        graft::project_gradient(ex, l, graft::as_const(gB), graft::view(projected, a.B.rows(), a.B.columns()));
        out.add(name, a.B.shape, projected);
      }
  }
  out.add("grad.x", dy.shape_with(base.in()), dx);
  return out;
}

registration const registered{"lora_fa", lora_fa};

}  // namespace
}  // namespace golden
