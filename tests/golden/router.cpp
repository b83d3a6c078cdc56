// SPDX-License-Identifier: Apache-2.0
/// Cases of `router_mixtral`, `router_qwen_moe`, `router_deepseek_v3`, `router_expert_choice`, `router_noisy_topk`, `router_ties` and
/// `router_bad_logits`: gates in which tokens or experts choose, their losses and gradients.
#include <algorithm>
#include <tuple>
#include <utility>

#include <graft/routing.hpp>

#include "linear.hpp"

namespace golden {
namespace {

using ids_t = std::vector<std::int32_t>;
using numbers = std::vector<float>;

numbers zeros(index_t rows, index_t columns) { return numbers(static_cast<std::size_t>(rows * columns)); }
auto as(numbers& v, index_t rows, index_t columns) { return graft::view(v, rows, columns); }
auto as(ids_t& v, index_t rows, index_t columns) { return graft::view(v, rows, columns); }

/// x, the router's weight and the logits: what most cases begin with.
struct routed {
  given<float> x, weight;
  index_t T, n, E;
  numbers logits, dlogits;

  [[nodiscard]] auto router() const { return graft::router{weight.matrix()}; }
  auto z() { return as(logits, T, E); }
  auto dz() { return as(dlogits, T, E); }

  explicit routed(test_case const& c)
      : x(c.input<float>("x")),
        weight(c.input<float>("gate.weight", 2)),
        T(x.rows()),
        n(x.columns()),
        E(weight.rows()),
        logits(zeros(T, E)),
        dlogits(zeros(T, E)) {
    graft::router_logits(ex, router(), x.matrix(), z());
  }
  /// The gradients of weight and of x (added to `dx`) from those of the logits.
  void backward(results& out, std::string const& of_weight, std::string const& of_x, numbers dx = {}) {
    if (dx.empty()) dx = zeros(T, n);
    auto dw = zeros(E, n);
    graft::backward(ex, router(), x.matrix(), dz(), graft::router_gradients{as(dw, E, n)}, as(dx, T, n));
    out.add(of_weight, weight.shape, dw);
    if (!of_x.empty()) out.add(of_x, x.shape, dx);
  }
};

/// Weights of chosen experts as a matrix over all.
numbers combined(ids_t const& ids, numbers const& weights, index_t T, index_t E, index_t k) {
  auto all = zeros(T, E);
  for (index_t i = 0; i < T * k; ++i)
    all[static_cast<std::size_t>(i / k * E + ids[static_cast<std::size_t>(i)])] = weights[static_cast<std::size_t>(i)];
  return all;
}

void add_loss(results& out, test_case const& c, std::string const& suffix, numbers const& loss, numbers const& dlogits,
              shape_t const& shape) {
  if (c.expects("aux_loss" + suffix)) out.add("aux_loss" + suffix, {}, loss);
  std::string const of_logits =
      suffix.empty() && c.expects("grad.logits") ? "grad.logits" : "grad.logits.aux_loss" + suffix;
  if (c.expects(of_logits)) out.add(of_logits, shape, dlogits);
}

/// softmax, top-k, with or without renormalization, and transformers' loss.
results softmax_and_top_k(test_case const& c) {
  results out;
  auto const k = c.config.at("top_k").get<index_t>();
  if (!c.has("x")) {  // the loss of several layers
    auto const z = c.input<float>("logits");
    index_t const rows = z.rows(), E = z.columns();
    ids_t ids(static_cast<std::size_t>(rows * k));
    auto w = zeros(rows, k), loss = zeros(1, 1), dz = zeros(rows, E);
    graft::route(ex, graft::softmax_topk{}, z.matrix(), as(ids, rows, k), as(w, rows, k));
    graft::pooled_balance_loss(ex, z.matrix(), as(ids, rows, k), graft::none, 1.0, graft::view(loss), as(dz, rows, E));
    add_loss(out, c, "", loss, dz, z.shape);
    return out;
  }
  routed r(c);
  graft::softmax_topk const gate{.renormalize = c.config.at("norm_topk_prob").get<bool>()};
  ids_t ids(static_cast<std::size_t>(r.T * k));
  auto w = zeros(r.T, k), p = zeros(r.T, r.E);
  graft::route(ex, gate, r.z(), as(ids, r.T, k), as(w, r.T, k));
  graft::route(ex, graft::dense_gate{}, r.z(), as(p, r.T, r.E));
  auto const dw = c.input<float>("d_topk_weights");
  graft::route_backward(ex, gate, r.z(), as(ids, r.T, k), dw.matrix(), r.dz());
  out.add("logits", {r.T, r.E}, r.logits);
  out.add("topk_indices", {r.T, k}, ids);
  out.add("topk_weights", {r.T, k}, w);
  out.add("combine", {r.T, r.E}, combined(ids, w, r.T, r.E, k));
  r.backward(out, "grad.gate.weight", "grad.x");
  if (c.expects("probs")) out.add("probs", {r.T, r.E}, p);
  auto const with_mask = [&](std::string const& suffix, auto const& mask) {
    auto loss = zeros(1, 1), dz = zeros(r.T, r.E);
    graft::pooled_balance_loss(ex, r.z(), as(ids, r.T, k), mask, 1.0, graft::view(loss), as(dz, r.T, r.E));
    add_loss(out, c, suffix, loss, dz, {r.T, r.E});
  };
  with_mask("", graft::none);
  if (c.has("attention_mask")) {
    auto const mask = c.input<std::uint8_t>("attention_mask");
    with_mask("_masked", graft::view(mask.data));
  }
  return out;
}

results deepseek_v3(test_case const& c) {
  routed r(c);
  auto const k = c.config.at("top_k").get<index_t>();
  auto const bias = c.input<float>("e_score_correction_bias"), d = c.input<float>("d_combine");
  graft::sigmoid_topk const gate{.bias = graft::view(bias.data),
                                 .renormalize = c.config.at("norm_topk_prob").get<bool>(),
                                 .scale = c.config.at("routed_scaling_factor").get<double>(),
                                 .epsilon = 1e-20,
                                 .groups = c.config.at("n_group").get<index_t>(),
                                 .kept_groups = c.config.at("topk_group").get<index_t>()};
  ids_t ids(static_cast<std::size_t>(r.T * k));
  auto w = zeros(r.T, k), dw = zeros(r.T, k);
  graft::route(ex, gate, r.z(), as(ids, r.T, k), as(w, r.T, k));
  for (std::size_t i = 0; i < ids.size(); ++i)
    dw[i] = d.data[i / static_cast<std::size_t>(k) * static_cast<std::size_t>(r.E) + static_cast<std::size_t>(ids[i])];
  graft::route_backward(ex, gate, r.z(), as(ids, r.T, k), as(dw, r.T, k), r.dz());
  results out;
  out.add("logits", {r.T, r.E}, r.logits);
  out.add("combine", {r.T, r.E}, combined(ids, w, r.T, r.E, k));
  r.backward(out, "grad.gate.weight", "grad.x");
  for (index_t t = 0; t < r.T; ++t) {  // stored ascending by index
    std::vector<std::pair<std::int32_t, float>> row;
    for (index_t s = t * k; s < (t + 1) * k; ++s)
      row.emplace_back(ids[static_cast<std::size_t>(s)], w[static_cast<std::size_t>(s)]);
    std::sort(row.begin(), row.end());
    for (index_t s = 0; s < k; ++s)
      std::tie(ids[static_cast<std::size_t>(t * k + s)], w[static_cast<std::size_t>(t * k + s)]) =
          row[static_cast<std::size_t>(s)];
  }
  out.add("topk_indices", {r.T, k}, ids);
  out.add("topk_weights", {r.T, k}, w);
  return out;
}

results expert_choice(test_case const& c) {
  routed r(c);
  auto const C = graft::expert_capacity(r.T, r.E, c.config.at("capacity_factor").get<double>());
  auto const experts = c.input<float>("experts.weight", 3), dy = c.input<float>("dy");
  ids_t ids(static_cast<std::size_t>(r.E * C)), chosen_by(static_cast<std::size_t>(r.T));
  auto scores = zeros(r.T, r.E), w = zeros(r.E, C), dw = zeros(r.E, C), dscores = zeros(r.T, r.E), y = zeros(r.T, r.n),
       dx = zeros(r.T, r.n);
  graft::expert_choice const gate{};
  graft::route(ex, gate, r.z(), as(scores, r.T, r.E), as(ids, r.E, C), as(w, r.E, C));
  auto const vx = r.x.matrix(), vdy = dy.matrix();
  auto const vy = as(y, r.T, r.n), vdx = as(dx, r.T, r.n), vw = as(w, r.E, C), vdw = as(dw, r.E, C);
  for (index_t e = 0; e < r.E; ++e) {
    auto const W = graft::layer(graft::view(experts.data, r.E, r.n, r.n), e);
    for (index_t s = 0; s < C; ++s) {
      index_t const t = as(ids, r.E, C)(e, s);
      ++chosen_by[static_cast<std::size_t>(t)];
      double dgate = 0;
      for (index_t o = 0; o < r.n; ++o) {
        double expert = 0;
        for (index_t i = 0; i < r.n; ++i) {
          expert += static_cast<double>(W(o, i)) * static_cast<double>(vx(t, i));
          vdx(t, i) += vw(e, s) * W(o, i) * vdy(t, o);
        }
        vy(t, o) += vw(e, s) * static_cast<float>(expert);
        dgate += expert * static_cast<double>(vdy(t, o));
      }
      vdw(e, s) = static_cast<float>(dgate);
    }
  }
  graft::route_backward(ex, gate, as(scores, r.T, r.E), as(ids, r.E, C), vdw, as(dscores, r.T, r.E), r.dz());
  results out;
  out.add("scores", {r.T, r.E}, scores);
  out.add("token_indices", {r.E, C}, ids);
  out.add("gates", {r.E, C}, w);
  out.add("experts_per_token", {r.T}, chosen_by);
  out.add("y", r.x.shape, y);
  r.backward(out, "grad.gate.weight", "grad.x", dx);
  return out;
}

results noisy_topk(test_case const& c) {
  auto const x = c.input<float>("x"), w_gate = c.input<float>("w_gate"), w_noise = c.input<float>("w_noise");
  auto const noise = c.input<float>("noise"), dg = c.input<float>("d_gates");
  index_t const T = x.rows(), n = x.columns(), E = w_gate.columns(), k = c.config.at("top_k").get<index_t>();
  graft::noisy_topk const gate{.floor = c.config.at("noise_eps").get<double>()};
  graft::router const clean_router{graft::transposed(w_gate.matrix())},
      noise_router{graft::transposed(w_noise.matrix())};
  auto clean = zeros(T, E), raw = zeros(T, E), noisy = zeros(T, E), w = zeros(T, k), p = zeros(T, E),
       deviation = zeros(T, E), importance = zeros(1, E), load = zeros(1, E),
       ones(std::vector<float>(static_cast<std::size_t>(T * E), 1.0F)), nothing = zeros(T, E);
  ids_t ids(static_cast<std::size_t>(T * k));
  auto const m = [&](numbers& v) { return as(v, T, E); };
  graft::router_logits(ex, clean_router, x.matrix(), m(clean));
  graft::router_logits(ex, noise_router, x.matrix(), m(raw));
  graft::route(ex, gate, m(clean), m(raw), noise.matrix(), m(noisy), as(ids, T, k), as(w, T, k));
  graft::kernels::noisy_logits(ex, m(nothing), m(raw), m(ones), m(deviation), gate.floor);
  graft::kernels::expert_sums(ex, as(ids, T, k), as(w, T, k), graft::none, graft::view(importance));
  graft::expert_load(ex, gate, m(clean), m(raw), m(noisy), k, m(p), graft::view(load));
  results out;
  out.add("clean_logits", {T, E}, clean);
  out.add("noise_stddev", {T, E}, deviation);
  out.add("noisy_logits", {T, E}, noisy);
  out.add("topk_indices", {T, k}, ids);
  out.add("gates", {T, E}, combined(ids, w, T, E, k));
  out.add("importance", {E}, importance);
  out.add("load", {E}, load);
  out.add("load_prob", {T, E}, p);

  // What is differentiated: dw of the weights, dload of the loads.
  auto const backward = [&](std::string const& of, numbers dw, numbers dload) {
    auto dclean = zeros(T, E), draw = zeros(T, E), dnoisy = zeros(T, E), dw_gate = zeros(n, E), dw_noise = zeros(n, E),
         dx = zeros(T, n);
    graft::expert_load_backward(ex, gate, m(clean), m(raw), m(noisy), k, graft::view(dload), m(dclean), m(draw),
                                m(dnoisy));
    graft::route_backward(ex, gate, m(raw), noise.matrix(), m(noisy), as(ids, T, k), as(dw, T, k), m(dnoisy), m(dclean),
                          m(draw));
    graft::backward(ex, clean_router, x.matrix(), m(dclean),
                    graft::router_gradients{graft::transposed(as(dw_gate, n, E))}, as(dx, T, n));
    graft::backward(ex, noise_router, x.matrix(), m(draw),
                    graft::router_gradients{graft::transposed(as(dw_noise, n, E))}, as(dx, T, n));
    out.add("grad.w_gate." + of, w_gate.shape, dw_gate);
    out.add("grad.w_noise." + of, w_noise.shape, dw_noise);
    out.add("grad.x." + of, x.shape, dx);
  };
  auto dw = zeros(T, k);
  for (std::size_t i = 0; i < ids.size(); ++i)
    dw[i] = dg.data[i / static_cast<std::size_t>(k) * static_cast<std::size_t>(E) + static_cast<std::size_t>(ids[i])];
  backward("gates", dw, zeros(1, E));
  auto const cv = [&](std::string const& name, numbers& v, auto const& then) {
    auto loss = zeros(1, 1), unbiased = zeros(1, 1), dv = zeros(1, E);
    graft::cv_squared_loss(ex, graft::view(v), 1.0, graft::view(loss), graft::view(dv));
    graft::kernels::cv_squared(ex, graft::view(v), 1.0, graft::view(unbiased), graft::none, graft::variance::unbiased);
    out.add("cv2_" + name + "_population", {}, loss);
    out.add("cv2_" + name + "_unbiased", {}, unbiased);
    then("cv2_" + name + "_population", dv);
  };
  cv("importance", importance, [&](std::string const& name, numbers& dv) {
    auto d = zeros(T, k);
    graft::kernels::expert_sums_backward(ex, graft::view(dv), as(ids, T, k), as(d, T, k));
    backward(name, d, zeros(1, E));
  });
  cv("load", load, [&](std::string const& name, numbers& dv) { backward(name, zeros(T, k), dv); });
  return out;
}

results logits_only(test_case const& c) {
  auto const z = c.input<float>("logits");
  index_t const T = z.rows(), k = c.config.at("top_k").get<index_t>();
  ids_t ids(static_cast<std::size_t>(T * k));
  auto w = zeros(T, k);
  graft::softmax_topk const gate{.renormalize = c.config.at("norm_topk_prob").get<bool>()};
  graft::route(ex, gate, z.matrix(), as(ids, T, k), as(w, T, k));
  results out;
  out.add("topk_indices", {T, k}, ids);
  out.add("topk_weights", {T, k}, w);
  return out;
}

registration const mixtral{"router_mixtral", softmax_and_top_k};
registration const qwen{"router_qwen_moe", softmax_and_top_k};
registration const deepseek{"router_deepseek_v3", deepseek_v3};
registration const by_experts{"router_expert_choice", expert_choice};
registration const noisy{"router_noisy_topk", noisy_topk};
registration const ties{"router_ties", logits_only};
registration const bad{"router_bad_logits", logits_only};

}  // namespace
}  // namespace golden
