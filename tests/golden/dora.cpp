// SPDX-License-Identifier: Apache-2.0
/// Cases of `dora`, `dora_exact`, `dora_chain` and `dora_steps`: magnitudes and directions, one after another, with the norms
/// held constant or differentiated, and some steps of SGD.
#include "linear.hpp"

namespace golden {
namespace {

/// A DoRA of a case: its tensors, its norms, and what is computed for it.
struct adapter {
  adapter(test_case const& c, low_rank<float> l) : low(std::move(l)), magnitude(c.input<float>(magnitude_name())) {
    if (!low.bias_name.empty()) throw bad_case("DoRA has no lora_bias");
    norms.resize(magnitude.data.size());
    dA.resize(low.A.data.size());
    dB.resize(low.B.data.size());
    dmagnitude.resize(magnitude.data.size());
  }
  [[nodiscard]] std::string magnitude_name() const { return "lora_magnitude_vector" + low.suffix; }
  [[nodiscard]] auto view() {
    return graft::dora{graft::lora{low.A.matrix(), low.B.matrix(), low.scale, {}}, magnitude.vector(),
                       graft::view(norms)};
  }
  [[nodiscard]] auto gradients() {
    return graft::dora_gradients{graft::view(dA, low.A.rows(), low.A.columns()),
                                 graft::view(dB, low.B.rows(), low.B.columns()), graft::view(dmagnitude)};
  }
  void add_gradients(results& out) const {
    out.add("grad.lora_A" + low.suffix, low.A.shape, dA);
    out.add("grad.lora_B" + low.suffix, low.B.shape, dB);
    out.add("grad." + magnitude_name(), magnitude.shape, dmagnitude);
  }

  low_rank<float> low;
  given<float> magnitude;
  std::vector<float> norms, dA, dB, dmagnitude, kept;
};

std::vector<adapter> adapters_of(test_case const& c) {
  std::vector<adapter> out;
  for (auto& l : low_rank_of<float>(c)) out.emplace_back(c, std::move(l));
  if (!c.config.contains("order")) return out;
  std::vector<adapter> ordered;
  for (auto const& name : c.config["order"])
    for (auto const& a : out)
      if (a.low.suffix == "." + name.get<std::string>()) ordered.push_back(a);
  if (ordered.size() != out.size()) throw bad_case("order does not name every adapter once");
  return ordered;
}

/// merged.W, delta.W, weight_norm: the same chain on the weight. One after another: delta is what a single DoRA says.
void add_weights(results& out, linear<float> const& base, std::vector<adapter>& all) {
  for (auto& a : all) {
    auto w = base.W.data;
    base.with_weight(w, [&](auto const& view) { graft::update_norms(ex, a.view(), view); });
    out.add("weight_norm" + a.low.suffix, {base.out()}, a.norms);
  }
  auto w = base.W.data;
  for (auto& a : all) base.with_weight(w, [&](auto const& view) { graft::merge(ex, a.view(), view); });
  out.add("merged.W", base.W.shape, w);
  auto d = std::vector<float>(w.size());
  if (all.size() == 1) {
    auto original = base.W.data;
    base.with_weight(original, [&](auto const& W) {
      base.with_weight(d, [&](auto const& D) { graft::delta_weight(ex, all[0].view(), W, D); });
    });
  } else
    for (std::size_t i = 0; i < d.size(); ++i) d[i] = w[i] - base.W.data[i];
  out.add("delta.W", base.W.shape, d);
}

/// f(adapters as graft::trained...) of one or two.
template <class F>
void with_trained(std::vector<adapter>& all, index_t tokens, F const& f) {
  auto const one = [&](adapter& a) {
    a.kept.resize(static_cast<std::size_t>(tokens * a.low.B.rows()));
    return graft::trained{a.view(), a.gradients(), graft::view(a.kept, tokens, a.low.B.rows())};
  };
  if (all.size() == 1) f(one(all[0]));
  else if (all.size() == 2) f(one(all[0]), one(all[1]));
  else if (all.size() == 3) f(one(all[0]), one(all[1]), one(all[2]));
  else throw skip("more than three adapters in a chain");
}

results dora(test_case const& c) {
  auto const base = linear_of<float>(c);
  auto all = adapters_of(c);
  results out;
  add_weights(out, base, all);
  if (!c.has("x")) return out;
  auto const x = c.input<float>("x");
  std::vector<float> y(static_cast<std::size_t>(x.rows() * base.out()));
  with_base(base, [&](auto const& layer) {
    with_trained(all, x.rows(), [&](auto const&... a) {
      graft::adapted_linear(ex, layer, a..., x.matrix(), graft::view(y, x.rows(), base.out()));
    });
  });
  out.add("y", x.shape_with(base.out()), y);
  if (!c.has("dy")) return out;
  auto dy = c.input<float>("dy");
  std::vector<float> dx(static_cast<std::size_t>(x.rows() * base.in()));
  auto const upstream = graft::view(dy.data, dy.rows(), base.out());
  auto const input_gradient = graft::view(dx, x.rows(), base.in());
  if (c.method == "dora_exact") {
    auto w = base.W.data;
    base.with_weight(w, [&](auto const& W) {
      graft::backward_exact(ex, all.at(0).view(), graft::as_const(W), x.matrix(),
                            graft::as_const(graft::view(all[0].kept, x.rows(), base.out())), upstream,
                            all[0].gradients(), input_gradient);
    });
    base.backward(upstream, input_gradient);
  } else
    with_base(base, [&](auto const& layer) {
      with_trained(all, x.rows(), [&](auto const&... a) {
        graft::adapted_linear_backward(ex, layer, a..., x.matrix(), upstream, input_gradient);
      });
    });
  out.add("grad.x", dy.shape_with(base.in()), dx);
  for (auto const& a : all) a.add_gradients(out);
  return out;
}

/// Plain SGD on 0.5 mean over tokens of |y - target|^2; the norms follow the parameters.
results dora_steps(test_case const& c) {
  auto const base = linear_of<float>(c);
  auto all = adapters_of(c);
  adapter& a = all.at(0);
  auto const X = c.input<float>("X", 3);
  auto const target = c.input<float>("target", 3);
  auto const rate = static_cast<float>(c.config.at("lr").get<double>());
  auto const steps = X.shape[0];
  index_t const tokens = size_of({X.shape.begin() + 1, X.shape.end() - 1});
  if (target.shape[0] != steps || size_of(target.shape) != steps * tokens * base.out())
    throw bad_case("target does not fit X");
  results out;
  for (index_t step = 0; step < steps; ++step) {
    auto const x = graft::view(X.data.data() + step * tokens * base.in(), tokens, base.in());
    float const* const want = target.data.data() + step * tokens * base.out();
    std::vector<float> y(static_cast<std::size_t>(tokens * base.out()));
    auto w = base.W.data;
    base.with_weight(w, [&](auto const& view) { graft::update_norms(ex, a.view(), view); });
    with_base(base, [&](auto const& layer) {
      with_trained(all, tokens, [&](auto const&... t) {
        graft::adapted_linear(ex, layer, t..., x, graft::view(y, tokens, base.out()));
      });
    });
    double loss = 0;
    auto dy = y;
    for (std::size_t i = 0; i < y.size(); ++i) {
      double const error = static_cast<double>(y[i]) - static_cast<double>(want[i]);
      loss += 0.5 * error * error / static_cast<double>(tokens);
      dy[i] = static_cast<float>(error / static_cast<double>(tokens));
    }
    a.dA.assign(a.dA.size(), 0.0F);
    a.dB.assign(a.dB.size(), 0.0F);
    a.dmagnitude.assign(a.dmagnitude.size(), 0.0F);
    with_base(base, [&](auto const& layer) {
      with_trained(all, tokens, [&](auto const&... t) {
        graft::adapted_linear_backward(ex, layer, t..., x, graft::view(dy, tokens, base.out()), graft::none);
      });
    });
    auto const move = [&](std::vector<float>& p, std::vector<float> const& g) {
      for (std::size_t i = 0; i < p.size(); ++i) p[i] -= rate * g[i];
    };
    move(a.low.A.data, a.dA);
    move(a.low.B.data, a.dB);
    move(a.magnitude.data, a.dmagnitude);
    std::string const name = "step" + std::to_string(step) + ".";
    shape_t shape(X.shape.begin() + 1, X.shape.end());
    shape.back() = base.out();
    out.add(name + "y", shape, y);
    out.add(name + "loss", {}, std::vector<double>{loss});
    out.add(name + "lora_A", a.low.A.shape, a.low.A.data);
    out.add(name + "lora_B", a.low.B.shape, a.low.B.data);
    out.add(name + "lora_magnitude_vector", a.magnitude.shape, a.magnitude.data);
  }
  return out;
}

registration const plain{"dora", dora};
registration const exact{"dora_exact", dora};
registration const chain{"dora_chain", dora};
registration const steps{"dora_steps", dora_steps};

}  // namespace
}  // namespace golden
