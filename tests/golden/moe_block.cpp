// SPDX-License-Identifier: Apache-2.0
/// Cases of `moe_block_*`, `router_switch` and `router_gshard_top2`: experts by way of a plan (make_plan, capacity, dispatch, combine,
/// their backwards). Routers and experts are loops in fp64 here.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <graft/kernels/combine.hpp>
#include <graft/routing/capacity.hpp>

#include "linear.hpp"

namespace golden {
namespace {

using doubles = std::vector<double>;

std::size_t at(index_t i) { return static_cast<std::size_t>(i); }
doubles zeros(index_t count) { return doubles(at(count)); }
template <class T>
doubles widened(std::vector<T> const& v) {
  return {v.begin(), v.end()};
}

/// Rows times W^T, and the gradients of both.
struct weight {
  given<float> stored;
  index_t out, in;
  index_t first = 0;  // element where the matrix begins
  [[nodiscard]] double operator()(index_t o, index_t i) const { return double{stored.data[at(first + o * in + i)]}; }
  [[nodiscard]] doubles forward(double const* x) const {
    doubles y = zeros(out);
    for (index_t o = 0; o < out; ++o)
      for (index_t i = 0; i < in; ++i) y[at(o)] += (*this)(o, i) * x[i];
    return y;
  }
  void backward(double const* x, doubles const& dy, doubles& dw, double* dx) const {
    for (index_t o = 0; o < out; ++o)
      for (index_t i = 0; i < in; ++i) {
        dw[at(first + o * in + i)] += dy[at(o)] * x[i];
        dx[i] += dy[at(o)] * (*this)(o, i);
      }
  }
};
weight matrix_of(test_case const& c, std::string const& name) {
  auto g = c.input<float>(name, 2);
  index_t const out = g.rows(), in = g.columns();
  return {std::move(g), out, in};
}
/// Rows [first, first + rows) of matrix e of [E, all, in].
weight part_of(given<float> const& g, index_t e, index_t first, index_t rows) {
  index_t const all = g.shape.at(1), in = g.columns();
  return {g, rows, in, (e * all + first) * in};
}

double sigmoid(double z) { return 1.0 / (1.0 + std::exp(-z)); }
struct activation {
  double value, slope;
};
activation silu(double z) {
  double const s = sigmoid(z);
  return {z * s, s * (1.0 + z * (1.0 - s))};
}

/// down(silu(gate x) * up x), or down(relu(up x)) without a gate.
struct mlp {
  weight const* gate;
  weight const& up;
  weight const& down;
  struct gradients {
    doubles *gate, *up, *down;
  };
  void run(double const* x, double* y, double const* dy, gradients const& d, double* dx) const {
    doubles const u = up.forward(x);
    doubles const g = gate != nullptr ? gate->forward(x) : zeros(up.out);
    doubles hidden = zeros(up.out);
    for (std::size_t i = 0; i < u.size(); ++i)
      hidden[i] = gate != nullptr ? silu(g[i]).value * u[i] : std::max(u[i], 0.0);
    if (y != nullptr) {
      doubles const out = down.forward(hidden.data());
      std::copy(out.begin(), out.end(), y);
    }
    if (dy == nullptr) return;
    doubles dhidden = zeros(up.out), dg = dhidden, du = dhidden;
    down.backward(hidden.data(), doubles(dy, dy + down.out), *d.down, dhidden.data());
    for (std::size_t i = 0; i < u.size(); ++i) {
      du[i] = gate != nullptr ? dhidden[i] * silu(g[i]).value : (u[i] > 0 ? dhidden[i] : 0.0);
      dg[i] = dhidden[i] * silu(g[i]).slope * u[i];
    }
    up.backward(x, du, *d.up, dx);
    if (gate != nullptr) gate->backward(x, dg, *d.gate, dx);
  }
};

/// The indices of the k largest, in descending order.
std::vector<index_t> largest(doubles const& v, index_t k) {
  std::vector<index_t> order(v.size());
  std::iota(order.begin(), order.end(), index_t{0});
  std::sort(order.begin(), order.end(),
            [&](index_t a, index_t b) { return std::pair(-v[at(a)], a) < std::pair(-v[at(b)], b); });
  order.resize(at(k));
  return order;
}
doubles softmax(doubles z) {
  double const top = *std::max_element(z.begin(), z.end());
  double sum = 0;
  for (double& e : z) sum += e = std::exp(e - top);
  for (double& e : z) e /= sum;
  return z;
}

/// A router and what it chose; dlogits are filled by the way back.
struct routed {
  given<float> x;
  weight gate;
  index_t T, d, E;
  doubles wide, logits, dlogits, dgate, dx;

  explicit routed(test_case const& c)
      : x(c.input<float>("x")),
        gate(matrix_of(c, "gate.weight")),
        T(x.rows()),
        d(x.columns()),
        E(gate.out),
        wide(widened(x.data)),
        dlogits(zeros(T * E)),
        dgate(zeros(E * d)),
        dx(zeros(T * d)) {
    for (index_t t = 0; t < T; ++t) {
      doubles const z = gate.forward(row(t));
      logits.insert(logits.end(), z.begin(), z.end());
    }
  }
  [[nodiscard]] double const* row(index_t t) const { return wide.data() + t * d; }
  [[nodiscard]] doubles of(index_t t) const { return {logits.begin() + t * E, logits.begin() + (t + 1) * E}; }
  /// dlogits of a softmax from those of its probabilities.
  void softmax_backward(index_t t, doubles const& p, doubles const& dp) {
    double const mean = std::inner_product(p.begin(), p.end(), dp.begin(), 0.0);
    for (index_t e = 0; e < E; ++e) dlogits[at(t * E + e)] += p[at(e)] * (dp[at(e)] - mean);
  }
  void backward() {
    for (index_t t = 0; t < T; ++t)
      gate.backward(row(t), {dlogits.begin() + t * E, dlogits.begin() + (t + 1) * E}, dgate, dx.data() + t * d);
  }
  /// dW of other dlogits alone.
  [[nodiscard]] doubles gate_gradient(doubles const& of_logits) const {
    doubles dw = zeros(E * d), ignored = zeros(d);
    for (index_t t = 0; t < T; ++t)
      gate.backward(row(t), {of_logits.begin() + t * E, of_logits.begin() + (t + 1) * E}, dw, ignored.data());
    return dw;
  }
};

/// y = sum w expert(x) of chosen experts, and back: dx is added to, dw[T, k] is returned. `run(e, x, y, dy, dx)` is an expert; y or dy may
/// be null.
using expert = std::function<void(index_t, double const*, double*, double const*, double*)>;
template <class Plan, class Assigned>
std::vector<float> through_experts(Plan const& p, Assigned const& ids, routed& r, std::vector<float> const& weights,
                                   given<float> const& dy, std::vector<float>& y, expert const& run) {
  index_t const R = p.offsets(r.E), k = ids.extent(1);
  auto const w = graft::view(weights, r.T, k);
  std::vector<float> in(at(R * r.d)), out(in.size()), dout(in.size()), din(in.size()), dw(weights.size()),
      dx(at(r.T * r.d));
  y.resize(at(r.T * r.d));
  auto const of = [&](std::vector<float>& v) { return graft::view(v, R, r.d); };
  graft::kernels::dispatch(ex, p, r.x.matrix(), of(in));
  auto const sweep = [&](bool back) {
    graft::for_each_expert(p, of(in), [&](index_t e, auto const& rows) {
      auto const outs = graft::expert_rows(p, of(out), e), douts = graft::expert_rows(p, of(dout), e),
                 dins = graft::expert_rows(p, of(din), e);
      for (index_t i = 0; i < rows.extent(0); ++i) {
        doubles a = zeros(r.d), b = a, c = a, g = a;
        for (index_t j = 0; j < r.d; ++j) a[at(j)] = double{rows(i, j)}, c[at(j)] = double{douts(i, j)};
        run(e, a.data(), back ? nullptr : b.data(), back ? c.data() : nullptr, g.data());
        for (index_t j = 0; j < r.d; ++j) (back ? dins : outs)(i, j) = static_cast<float>((back ? g : b)[at(j)]);
      }
    });
  };
  sweep(false);
  graft::kernels::combine(ex, p, of(out), w, graft::view(y, r.T, r.d));
  graft::kernels::combine_backward(ex, p, of(out), w, dy.matrix(), of(dout), graft::view(dw, r.T, k));
  sweep(true);
  graft::kernels::dispatch_backward(ex, p, of(din), graft::view(dx, r.T, r.d));
  for (std::size_t i = 0; i < dx.size(); ++i) r.dx[i] += double{dx[i]};
  return dw;
}

results moe_block(test_case const& c) {
  routed r(c);
  auto const dy = c.input<float>("dy");
  auto const gate_up = c.input<float>("experts.gate_up_proj", 3), down = c.input<float>("experts.down_proj", 3);
  index_t const k = c.config.at("top_k").get<index_t>(), f = down.columns();
  bool const sigmoids = c.has("gate.e_score_correction_bias");
  bool const renormalize = !c.config.contains("norm_topk_prob") || c.config.at("norm_topk_prob").get<bool>();
  double const scale = sigmoids ? c.config.at("routed_scaling_factor").get<double>() : 1.0;

  std::vector<std::int32_t> ids(at(r.T * k)), ascending;
  std::vector<float> weights(ids.size()), all(at(r.T * r.E)), y;
  std::vector<doubles> scores;
  for (index_t t = 0; t < r.T; ++t) {
    doubles s = r.of(t);
    if (sigmoids) std::transform(s.begin(), s.end(), s.begin(), sigmoid);
    else s = softmax(s);
    doubles by = s;
    if (sigmoids) {
      auto const bias = c.input<float>("gate.e_score_correction_bias");
      for (std::size_t e = 0; e < by.size(); ++e) by[e] += double{bias.data[e]};
      index_t const groups = c.config.at("n_group").get<index_t>(), size = r.E / groups;
      doubles of_groups;
      for (index_t g = 0; g < groups; ++g) {
        doubles const mine(by.begin() + g * size, by.begin() + (g + 1) * size);
        auto const two = largest(mine, std::min(size, index_t{2}));
        of_groups.push_back(
            std::accumulate(two.begin(), two.end(), 0.0, [&](double sum, index_t e) { return sum + mine[at(e)]; }));
      }
      auto const kept = largest(of_groups, c.config.at("topk_group").get<index_t>());
      for (index_t e = 0; e < r.E; ++e)
        if (std::find(kept.begin(), kept.end(), e / size) == kept.end()) by[at(e)] = -HUGE_VAL;
    }
    auto const chosen = largest(by, k);
    double sum = 0;
    for (index_t const e : chosen) sum += s[at(e)];
    for (index_t i = 0; i < k; ++i) {
      double const w = scale * s[at(chosen[at(i)])] / (renormalize ? sum : 1.0);
      ids[at(t * k + i)] = static_cast<std::int32_t>(chosen[at(i)]);
      weights[at(t * k + i)] = all[at(t * r.E + chosen[at(i)])] = static_cast<float>(w);
    }
    ascending.insert(ascending.end(), ids.end() - (r.T - t) * k, ids.end() - (r.T - t - 1) * k);
    std::sort(ascending.end() - k, ascending.end());
    scores.push_back(s);
  }

  auto const assigned = graft::view(ids, r.T, k);
  graft::plan_options const options{.alignment = 4};
  std::vector<std::byte> memory(graft::plan_bytes(r.T * k, r.E, options));
  auto const p = graft::plan_in(memory, assigned, r.E, options);
  graft::kernels::make_plan(ex, assigned, p);
  doubles dgate_up = zeros(size_of(gate_up.shape)), ddown = zeros(size_of(down.shape));
  auto const dw = through_experts(
      p, assigned, r, weights, dy, y, [&](index_t e, double const* x, double* out, double const* dout, double* dx) {
        weight const g = part_of(gate_up, e, 0, f), u = part_of(gate_up, e, f, f), o = part_of(down, e, 0, r.d);
        mlp{&g, u, o}.run(x, out, dout, {&dgate_up, &dgate_up, &ddown}, dx);
      });

  for (index_t t = 0; t < r.T; ++t) {
    doubles const& s = scores[at(t)];
    double sum = 0, mean = 0;
    for (index_t i = 0; i < k; ++i) sum += s[at(ids[at(t * k + i)])];
    for (index_t i = 0; i < k; ++i) mean += double{dw[at(t * k + i)]} * s[at(ids[at(t * k + i)])] / sum;
    doubles ds = zeros(r.E);
    for (index_t i = 0; i < k; ++i) {
      double const g = double{dw[at(t * k + i)]};
      ds[at(ids[at(t * k + i)])] = scale * (renormalize ? (g - mean) / sum : g);
    }
    if (!sigmoids) r.softmax_backward(t, s, ds);
    else
      for (index_t e = 0; e < r.E; ++e) r.dlogits[at(t * r.E + e)] = ds[at(e)] * s[at(e)] * (1.0 - s[at(e)]);
  }

  results out;
  std::string const shared = c.has("shared_expert.up_proj.weight") ? "shared_expert" : "shared_experts";
  if (c.has(shared + ".up_proj.weight")) {
    weight const g = matrix_of(c, shared + ".gate_proj.weight"), u = matrix_of(c, shared + ".up_proj.weight"),
                 o = matrix_of(c, shared + ".down_proj.weight");
    doubles dg = zeros(g.out * g.in), du = dg, down_gradient = dg, dopen = zeros(r.d);
    bool const gated = c.has("shared_expert_gate.weight");
    for (index_t t = 0; t < r.T; ++t) {
      doubles value = zeros(r.d), from = value;
      mlp{&g, u, o}.run(r.row(t), value.data(), nullptr, {}, nullptr);
      double open = 1.0;
      if (gated) {
        weight const gate = matrix_of(c, "shared_expert_gate.weight");
        open = sigmoid(gate.forward(r.row(t))[0]);
        double dot = 0;
        for (index_t j = 0; j < r.d; ++j) dot += value[at(j)] * double{dy.data[at(t * r.d + j)]};
        gate.backward(r.row(t), {dot * open * (1.0 - open)}, dopen, r.dx.data() + t * r.d);
      }
      for (index_t j = 0; j < r.d; ++j) {
        y[at(t * r.d + j)] += static_cast<float>(open * value[at(j)]);
        from[at(j)] = open * double{dy.data[at(t * r.d + j)]};
      }
      mlp{&g, u, o}.run(r.row(t), nullptr, from.data(), {&dg, &du, &down_gradient}, r.dx.data() + t * r.d);
    }
    out.add("grad." + shared + ".gate_proj.weight", g.stored.shape, dg);
    out.add("grad." + shared + ".up_proj.weight", u.stored.shape, du);
    out.add("grad." + shared + ".down_proj.weight", o.stored.shape, down_gradient);
    if (gated) out.add("grad.shared_expert_gate.weight", {1, r.d}, dopen);
  }
  r.backward();
  out.add("router_logits", {r.T, r.E}, r.logits);
  out.add("topk_indices_ascending", {r.T, k}, ascending);
  out.add("combine", {r.T, r.E}, all);
  out.add("y", r.x.shape, y);
  out.add("grad.x", r.x.shape, r.dx);
  out.add("grad.gate.weight", r.gate.stored.shape, r.dgate);
  out.add("grad.experts.gate_up_proj", gate_up.shape, dgate_up);
  out.add("grad.experts.down_proj", down.shape, ddown);
  return out;
}

results router_switch(test_case const& c) {
  routed r(c);
  auto const dy = c.input<float>("dy");
  auto const wi = c.input<float>("experts.wi", 3), wo = c.input<float>("experts.wo", 3);
  index_t const S = r.x.shape.at(r.x.shape.size() - 2), B = S == 0 ? 0 : r.T / S;
  std::vector<std::int32_t> ids(at(r.T)), positions(ids.size()), mask(at(r.T * r.E)), dropped;
  std::vector<float> weights(ids.size()), y;
  std::vector<doubles> p_of;
  for (index_t t = 0; t < r.T; ++t) {
    p_of.push_back(softmax(r.of(t)));
    index_t const e = largest(p_of.back(), 1)[0];
    ids[at(t)] = static_cast<std::int32_t>(e);
    weights[at(t)] = static_cast<float>(p_of.back()[at(e)]);
  }
  auto const assigned = graft::view(ids, r.T, 1);
  std::vector<std::byte> memory(graft::plan_bytes(r.T, r.E));
  auto const p = graft::plan_in(memory, assigned, r.E);
  graft::make_plan(ex, assigned, {.fixed = c.config.at("capacity").get<index_t>(), .group = S}, p, graft::none,
                   graft::view(positions, r.T, 1));
  doubles dwi = zeros(size_of(wi.shape)), dwo = zeros(size_of(wo.shape));
  auto const dw = through_experts(p, assigned, r, weights, dy, y,
                                  [&](index_t e, double const* x, double* out, double const* dout, double* dx) {
                                    weight const i = part_of(wi, e, 0, wi.shape.at(1)), o = part_of(wo, e, 0, r.d);
                                    mlp{nullptr, i, o}.run(x, out, dout, {nullptr, &dwi, &dwo}, dx);
                                  });
  double aux = 0, z_loss = 0;
  doubles daux = zeros(r.T * r.E), dz = daux;
  for (index_t b = 0; b < B; ++b) {
    doubles f = zeros(r.E), mean = f;
    for (index_t t = b * S; t < (b + 1) * S; ++t)
      for (index_t e = 0; e < r.E; ++e) {
        f[at(e)] += (ids[at(t)] == e ? 1.0 : 0.0) / static_cast<double>(S);
        mean[at(e)] += p_of[at(t)][at(e)] / static_cast<double>(S);
      }
    double const experts = static_cast<double>(r.E), batch = static_cast<double>(B);
    aux += experts / batch * std::inner_product(f.begin(), f.end(), mean.begin(), 0.0);
    for (index_t t = b * S; t < (b + 1) * S; ++t) {
      doubles const& q = p_of[at(t)];
      double const of = std::inner_product(f.begin(), f.end(), q.begin(), 0.0);
      for (index_t e = 0; e < r.E; ++e)
        daux[at(t * r.E + e)] = experts / (batch * static_cast<double>(S)) * q[at(e)] * (f[at(e)] - of);
    }
  }
  for (index_t t = 0; t < r.T; ++t) {
    doubles dp = zeros(r.E);
    dp[at(ids[at(t)])] = double{dw[at(t)]};
    r.softmax_backward(t, p_of[at(t)], dp);
    double const log_sum = r.of(t)[0] - std::log(p_of[at(t)][0]), tokens = static_cast<double>(r.T);
    z_loss += log_sum * log_sum / tokens;
    for (index_t e = 0; e < r.E; ++e) dz[at(t * r.E + e)] = 2.0 * log_sum * p_of[at(t)][at(e)] / tokens;
    dropped.push_back(p.dropped(t));
    mask[at(t * r.E + ids[at(t)])] = 1 - p.dropped(t);
  }
  r.backward();
  results out;
  shape_t const tokens(r.x.shape.begin(), r.x.shape.end() - 1), logits = r.x.shape_with(r.E);
  out.add("logits", logits, r.logits);
  out.add("top1_index", tokens, ids);
  out.add("top1_prob", tokens, weights);
  out.add("position_in_expert", tokens, positions);
  out.add("dropped", tokens, dropped);
  out.add("dispatch_mask", logits, mask);
  out.add("y", r.x.shape, y);
  out.add("grad.x", r.x.shape, r.dx);
  out.add("grad.gate.weight", r.gate.stored.shape, r.dgate);
  out.add("grad.experts.wi", wi.shape, dwi);
  out.add("grad.experts.wo", wo.shape, dwo);
  out.add("aux_loss", {}, doubles{aux});
  out.add("z_loss", {}, doubles{z_loss});
  out.add("grad.logits.aux_loss", logits, daux);
  out.add("grad.logits.z_loss", logits, dz);
  return out;
}

/// The combine weights of a plan: rows of ones, one column an expert.
results router_gshard_top2(test_case const& c) {
  routed r(c);
  auto const upstream = c.input<float>("d_combine");
  bool const after = c.config.at("normalize").get<std::string>().starts_with("after");
  std::vector<std::int32_t> ids(at(r.T * 2)), positions(ids.size()), kept;
  std::vector<doubles> p_of;
  for (index_t t = 0; t < r.T; ++t) {
    p_of.push_back(softmax(r.of(t)));
    auto const two = largest(p_of.back(), 2);
    for (index_t s = 0; s < 2; ++s) ids[at(2 * t + s)] = static_cast<std::int32_t>(two[at(s)]);
  }
  auto const assigned = graft::view(ids, r.T, 2);
  std::vector<std::byte> memory(graft::plan_bytes(r.T * 2, r.E));
  auto const p = graft::plan_in(memory, assigned, r.E);
  graft::make_plan(ex, assigned, {.fixed = c.config.at("capacity").get<index_t>(), .order = graft::drop_order::choice},
                   p, graft::none, graft::view(positions, r.T, 2));
  std::vector<float> gates(ids.size());
  doubles f = zeros(r.E), mean = f, daux = zeros(r.T * r.E);
  std::vector<double> sums;
  for (index_t t = 0; t < r.T; ++t) {
    doubles const& q = p_of[at(t)];
    double sum = 0;
    for (index_t s = 0; s < 2; ++s)
      if (!after || p.dropped(2 * t + s) == 0) sum += q[at(ids[at(2 * t + s)])];
    for (index_t s = 0; s < 2; ++s) {
      kept.push_back(1 - p.dropped(2 * t + s));
      gates[at(2 * t + s)] = kept.back() == 0 ? 0.0F : static_cast<float>(q[at(ids[at(2 * t + s)])] / sum);
    }
    sums.push_back(sum);
    f[at(ids[at(2 * t)])] += 1.0 / static_cast<double>(r.T);
    for (index_t e = 0; e < r.E; ++e) mean[at(e)] += q[at(e)] / static_cast<double>(r.T);
  }
  // Row i of an expert is the unit vector of that expert, so that combine gives the matrix of weights and its backward the choices'.
  index_t const R = p.offsets(r.E);
  std::vector<float> units(at(R * r.E)), combined(at(r.T * r.E)), dgates(gates.size());
  graft::for_each_expert(p, graft::view(units, R, r.E), [&](index_t e, auto const& rows) {
    for (index_t i = 0; i < rows.extent(0); ++i) rows(i, e) = 1.0F;
  });
  graft::kernels::combine(ex, p, graft::view(units, R, r.E), graft::view(gates, r.T, 2),
                          graft::view(combined, r.T, r.E));
  graft::kernels::combine_backward_weights(ex, p, graft::view(units, R, r.E), upstream.matrix(),
                                           graft::view(dgates, r.T, 2));
  double aux = 0;
  for (index_t t = 0; t < r.T; ++t) {
    doubles dp = zeros(r.E);
    double of_sum = 0;
    for (index_t s = 0; s < 2; ++s) of_sum += double{gates[at(2 * t + s)]} * double{dgates[at(2 * t + s)]};
    for (index_t s = 0; s < 2; ++s)
      if (!after || kept[at(2 * t + s)] != 0)
        dp[at(ids[at(2 * t + s)])] = (double{dgates[at(2 * t + s)]} - of_sum) / sums[at(t)];
    r.softmax_backward(t, p_of[at(t)], dp);
    double const of = std::inner_product(f.begin(), f.end(), p_of[at(t)].begin(), 0.0);
    for (index_t e = 0; e < r.E; ++e)
      daux[at(t * r.E + e)] =
          static_cast<double>(r.E) / static_cast<double>(r.T) * p_of[at(t)][at(e)] * (f[at(e)] - of);
  }
  aux = static_cast<double>(r.E) * std::inner_product(f.begin(), f.end(), mean.begin(), 0.0);
  r.backward();
  results out;
  out.add("logits", {r.T, r.E}, r.logits);
  out.add("top2_indices", {r.T, 2}, ids);
  out.add("position_in_expert", {r.T, 2}, positions);
  out.add("kept", {r.T, 2}, kept);
  out.add("gates", {r.T, 2}, gates);
  out.add("combine", {r.T, r.E}, combined);
  out.add("aux_loss", {}, doubles{aux});
  out.add("grad.x", r.x.shape, r.dx);
  out.add("grad.gate.weight", r.gate.stored.shape, r.dgate);
  out.add("grad.gate.weight.aux_loss", r.gate.stored.shape, r.gate_gradient(daux));
  return out;
}

registration const mixtral{"moe_block_mixtral", moe_block};
registration const qwen2{"moe_block_qwen2", moe_block};
registration const qwen3{"moe_block_qwen3", moe_block};
registration const deepseek{"moe_block_deepseek_v3", moe_block};
registration const switches{"router_switch", router_switch};
registration const gshard{"router_gshard_top2", router_gshard_top2};

}  // namespace
}  // namespace golden
