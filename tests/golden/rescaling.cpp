// SPDX-License-Identifier: Apache-2.0
/// Cases of `ia3`, `road`, `bitfit` and `ln_tuning`: outputs, inputs, biases and normalised rows that are rescaled.
#include "linear.hpp"

namespace golden {
namespace {

results ia3(test_case const& c) {
  auto const base = linear_of<float>(c);
  auto const l = c.input<float>("ia3_l");
  std::vector<float> dl(l.data.size()), kept(static_cast<std::size_t>(c.input<float>("x").rows() * base.out()));
  graft::ia3_gradients const gradients{graft::view(dl)};
  results out;
  if (c.config.at("is_feedforward").get<bool>()) {
    graft::ia3_feedforward const a{graft::view(l.data)};
    add_adapted_weights(out, base, a);
    add_adapted_pass(out, c, base, graft::trained{a, gradients, {}});
  } else {
    graft::ia3 const a{graft::view(l.data)};
    add_adapted_weights(out, base, a);
    add_adapted_pass(out, c, base,
                     graft::trained{a, gradients, graft::view(kept, c.input<float>("x").rows(), base.out())});
  }
  out.add("grad.ia3_l", l.shape, dl);
  return out;
}

results road(test_case const& c) {
  auto const base = linear_of<float>(c);
  auto const theta = c.input<float>("road_theta"), alpha = c.input<float>("road_alpha");
  index_t const m = base.out(), rows = c.input<float>("x").rows();
  std::vector<float> factors(static_cast<std::size_t>(2 * m)), dtheta(theta.data.size()), dalpha(alpha.data.size());
  std::vector<float> kept(static_cast<std::size_t>(rows * m)), r(static_cast<std::size_t>(m * m));
  graft::road const a{graft::view(theta.data), graft::view(alpha.data), c.config.at("group_size").get<index_t>(),
                      graft::view(factors, 2, m)};
  graft::update_factors(ex, a);
  results out;
  for (index_t i = 0; i < m; ++i) r[static_cast<std::size_t>(i * m + i)] = 1.0F;
  graft::merge(ex, a, graft::view(r, m, m));
  out.add("R", {m, m}, r);
  add_adapted_weights(out, base, a);
  add_adapted_pass(
      out, c, base,
      graft::trained{a, graft::road_gradients{graft::view(dtheta), graft::view(dalpha)}, graft::view(kept, rows, m)});
  out.add("grad.road_theta", theta.shape, dtheta);
  out.add("grad.road_alpha", alpha.shape, dalpha);
  return out;
}

results bitfit(test_case const& c) {
  auto const base = linear_of<float>(c);
  auto const delta = c.input<float>("delta_bias");
  std::vector<float> d(delta.data.size());
  graft::bitfit const a{graft::view(delta.data)};
  results out;
  auto w = base.W.data;
  auto bias = base.bias ? base.bias->data : std::vector<float>(static_cast<std::size_t>(base.out()));
  base.with_weight(w, [&](auto const& view) { graft::merge(ex, a, view, graft::view(bias)); });
  out.add("merged.bias", {base.out()}, bias);
  add_adapted_pass(out, c, base, graft::trained{a, graft::bitfit_gradients{graft::view(d)}, {}});
  out.add("grad.bias", delta.shape, d);
  return out;
}

results ln_tuning(test_case const& c) {
  auto const x = c.input<float>("x"), weight = c.input<float>("weight"), bias = c.input<float>("bias"),
             dy = c.input<float>("dy");
  std::vector<float> y(x.data.size()), dx(x.data.size()), dweight(weight.data.size()), dbias(bias.data.size());
  graft::layer_norm const a{graft::view(weight.data), graft::view(bias.data),
                            c.config.at("layer_norm_eps").get<double>()};
  graft::rms_norm const b{graft::view(weight.data), c.config.at("rms_eps").get<double>()};
  auto const of = [&](std::vector<float>& v) { return graft::view(v, x.rows(), x.columns()); };
  results out;
  graft::normalize(ex, a, x.matrix(), of(y));
  graft::backward(ex, a, x.matrix(), dy.matrix(), graft::norm_gradients{graft::view(dweight), graft::view(dbias)},
                  of(dx));
  out.add("y", x.shape, y);
  out.add("grad.x", x.shape, dx);
  out.add("grad.weight", weight.shape, dweight);
  out.add("grad.bias", bias.shape, dbias);
  dx.assign(dx.size(), 0.0F);
  dweight.assign(dweight.size(), 0.0F);
  graft::normalize(ex, b, x.matrix(), of(y));
  graft::backward(ex, b, x.matrix(), dy.matrix(),
                  graft::norm_gradients<decltype(graft::view(dweight))>{graft::view(dweight), {}}, of(dx));
  out.add("rms.y", x.shape, y);
  out.add("rms.grad.x", x.shape, dx);
  out.add("rms.grad.weight", weight.shape, dweight);
  return out;
}

registration const scales{"ia3", ia3};
registration const pairs{"road", road};
registration const biases{"bitfit", bitfit};
registration const norms{"ln_tuning", ln_tuning};

}  // namespace
}  // namespace golden
