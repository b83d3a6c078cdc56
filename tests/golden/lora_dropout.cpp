// SPDX-License-Identifier: Apache-2.0
/// Cases of `lora_dropout`: PEFT's dropout on x with a given mask, of LoRA and of DoRA in training.
#include "linear.hpp"

namespace golden {
namespace {

results lora_dropout(test_case const& c) {
  auto const base = linear_of<float>(c);
  auto const l = low_rank_of<float>(c).at(0);
  auto const x = c.input<float>("x");
  auto const mask = c.input<std::uint8_t>("mask");
  auto dy = c.input<float>("dy");
  auto const kept_share = 1.0 - c.config.at("p").get<double>();
  auto const drop = [&](std::vector<float> v) {
    for (std::size_t i = 0; i < v.size(); ++i)
      v[i] = mask.data[i] != 0 ? static_cast<float>(static_cast<double>(v[i]) / kept_share) : 0.0F;
    return v;
  };
  auto const x_dropped = drop(x.data);
  index_t const T = x.rows();
  auto const xd = graft::view(x_dropped, T, base.in());
  auto y = base.output(x);
  auto const vy = graft::view(y, T, base.out());
  auto dx = base.input_gradient(dy);
  auto dx_dropped = std::vector<float>(dx.size());
  auto const vdx = graft::view(dx_dropped, T, base.in());
  auto dA = std::vector<float>(l.A.data.size());
  auto dB = std::vector<float>(l.B.data.size());
  auto const gA = graft::view(dA, l.A.rows(), l.A.columns());
  auto const gB = graft::view(dB, l.B.rows(), l.B.columns());
  graft::lora const lora{l.A.matrix(), l.B.matrix(), l.scale, {}};
  results out;
  if (!c.config.value("use_dora", false)) {
    graft::add_delta(ex, lora, xd, vy);
    graft::backward(ex, lora, xd, dy.matrix(), graft::lora_gradients{gA, gB}, vdx);
  } else {
    auto const magnitude = c.input<float>("lora_magnitude_vector");
    std::vector<float> norms(magnitude.data.size());
    std::vector<float> dmagnitude(magnitude.data.size());
    graft::dora const d{lora, magnitude.vector(), graft::view(norms)};
    auto w = base.W.data;
    base.with_weight(w, [&](auto const& W) { graft::update_norms(ex, d, W); });
    std::vector<float> base_dropped(y.size());
    auto const z = graft::view(base_dropped, T, base.out());
    base.forward(xd, z);
    graft::transform_output_dropped(ex, d, xd, z, vy);
    std::vector<float> dbase(y.size());
    auto const vdbase = graft::view(dbase, T, base.out());
    graft::backward_dropped(ex, d, xd, graft::as_const(z), dy.matrix(),
                            graft::dora_gradients{gA, gB, graft::view(dmagnitude)}, vdx, vdbase);
    base.backward(vdbase, vdx);
    out.add("grad.lora_magnitude_vector", magnitude.shape, dmagnitude);
  }
  dx_dropped = drop(std::move(dx_dropped));
  for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += dx_dropped[i];
  out.add("y", x.shape_with(base.out()), y);
  out.add("grad.lora_A", l.A.shape, dA);
  out.add("grad.lora_B", l.B.shape, dB);
  out.add("grad.x", dy.shape_with(base.in()), dx);
  return out;
}

registration const registered{"lora_dropout", lora_dropout};

}  // namespace
}  // namespace golden
