// SPDX-License-Identifier: Apache-2.0
/// Cases of `vera`: layers of several shapes that slice one pair of shared projections.
#include "linear.hpp"

namespace golden {
namespace {

results vera(test_case const& c) {
  auto const A = c.input<float>("vera_A", 2);
  auto const B = c.input<float>("vera_B", 2);
  graft::vera_projections const shared{A.matrix(), B.matrix()};
  results out;
  for (std::size_t i = 0; i < c.config.at("layers").size(); ++i) {
    std::string const layer = "layer" + std::to_string(i) + ".";
    std::optional<given<float>> bias;
    if (c.has(layer + "bias")) bias = c.input<float>(layer + "bias");
    linear<float> const base(c.input<float>(layer + "W", 2), std::move(bias), c.config.value("fan_in_fan_out", false));
    auto const d = c.input<float>(layer + "vera_lambda_d");
    auto const b = c.input<float>(layer + "vera_lambda_b");
    auto const v = graft::sliced(shared, base.in(), base.out(), d.vector(), b.vector());

    auto merged = base.W.data;
    auto delta = std::vector<float>(merged.size());
    base.with_weight(merged, [&](auto const& w) { graft::merge(ex, v, w); });
    base.with_weight(delta, [&](auto const& w) { graft::delta_weight(ex, v, w); });
    out.add(layer + "merged.W", base.W.shape, merged);
    out.add(layer + "delta.W", base.W.shape, delta);
    if (!c.has(layer + "x")) continue;
    auto const x = c.input<float>(layer + "x");
    std::vector<float> y(static_cast<std::size_t>(x.rows() * base.out()));
    with_base(base, [&](auto const& bare) {
      graft::adapted_linear(ex, bare, v, x.matrix(), graft::view(y, x.rows(), base.out()));
    });
    out.add(layer + "y", x.shape_with(base.out()), y);
    if (!c.has(layer + "dy")) continue;
    auto const dy = c.input<float>(layer + "dy");
    auto dd = std::vector<float>(d.data.size());
    auto db = std::vector<float>(b.data.size());
    auto dx = base.input_gradient(dy);
    graft::backward(ex, v, x.matrix(), dy.matrix(), graft::vera_gradients{graft::view(dd), graft::view(db)},
                    graft::view(dx, dy.rows(), base.in()));
    out.add(layer + "grad.vera_lambda_d", d.shape, dd);
    out.add(layer + "grad.vera_lambda_b", b.shape, db);
    out.add(layer + "grad.x", dy.shape_with(base.in()), dx);
  }
  return out;
}

registration const registered{"vera", vera};

}  // namespace
}  // namespace golden
