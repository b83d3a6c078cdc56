// SPDX-License-Identifier: Apache-2.0
/// @file
/// The gates and losses that moe_router compares: from logits to ids and weights of tokens, whatever the gate, and back.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include <graft/eigen.hpp>
#include <graft/openmp.hpp>

#include "experts.hpp"

namespace moe {

inline constexpr int E = 8;

/// DeepSeek-V3's gate: a bias of each expert, moved by hand after every step and not by a gradient.
struct sigmoid_with_bias {};
using any_gate = std::variant<graft::softmax_topk, graft::topk_softmax, graft::switch_top1, sigmoid_with_bias,
                              graft::noisy_topk, graft::expert_choice, graft::dense_gate>;

/// What keeps the experts' loads even.
enum class balance { none, pooled_loss, mola_loss, switch_loss, bias, cv_squared };

struct setup {
  std::string gate;
  std::string loss;
  any_gate rule;
  int k;
  balance how = balance::none;
  double weight = 0;  // of the loss, or what a bias moves by
  graft::capacity limit = graft::dropless;
};

/// Two rows where a gate has a loss: without it, then with it.
[[nodiscard]] inline std::vector<setup> all_setups() {
  // Switch: max(4, floor(1.25 T / E)) tokens an expert.
  graft::capacity const of_switch{.factor = 1.25, .minimum = 4, .per_choice = false, .rounds_up = false};
  return {
      {"softmax_topk", "none", graft::softmax_topk{}, 2},
      {"softmax_topk", "pooled_balance", graft::softmax_topk{}, 2, balance::pooled_loss, 0.02},
      {"topk_softmax", "none", graft::topk_softmax{}, 2},
      {"topk_softmax", "mola", graft::topk_softmax{}, 2, balance::mola_loss, 0.04},
      {"switch_top1", "none", graft::switch_top1{}, 1, balance::none, 0, of_switch},
      {"switch_top1", "switch", graft::switch_top1{}, 1, balance::switch_loss, 0.04, of_switch},
      {"sigmoid_topk", "none", sigmoid_with_bias{}, 2},
      {"sigmoid_topk", "bias", sigmoid_with_bias{}, 2, balance::bias, 0.005},
      {"noisy_topk", "none", graft::noisy_topk{}, 2},
      {"noisy_topk", "cv_squared", graft::noisy_topk{}, 2, balance::cv_squared, 0.1},
      {"expert_choice", "none", graft::expert_choice{}, 2},
      {"dense_gate", "none", graft::dense_gate{}, E},
  };
}

template <class... F>
struct overloaded : F... {
  using F::operator()...;
};
template <class... F>
overloaded(F...) -> overloaded<F...>;

/// A router and its gate: the projection, choices and weights, the loss, and gradients of all of them.
class gated {
 public:
  using id_matrix = Eigen::Matrix<std::int32_t, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  gated(graft::openmp const& ex, setup const& s, parameters& all, Eigen::Index inputs, std::uint64_t seed)
      : ex_(ex), s_(s), seed_(seed), W_(all.add(E, inputs, 0)), W_noise_(all.add(E, inputs, 0)) {
    bias_.setZero(E);
    // Noise tells experts apart where both weights begin at 0.
    if (!noisy()) graft::initialize(ex_, graft::router{graft::view(W_.value)}, graft::small_normal{.seed = seed});
  }

  /// ids[T, K] and weights[T, K] for a plan. K is k, or E where tokens do not choose: -1 then is none.
  void forward(matrix const& h, bool training, std::uint64_t step) {
    using graft::view;
    auto const T = h.rows();
    logits_.resize(T, E);
    graft::router_logits(ex_, graft::router{view(W_.value)}, view(h), view(logits_));
    step_ = step;
    std::visit(overloaded{
                   [&](graft::dense_gate const& g) {
                     prepare(T, E);
                     graft::route(ex_, g, view(logits_), view(weights));
                     for (int e = 0; e < E; ++e) ids.col(e).setConstant(e);
                   },
                   [&](graft::expert_choice const& g) {
                     auto const C = graft::expert_capacity(T, E, s_.k);
                     token_ids_.resize(E, C);
                     chosen_.resize(E, C);
                     scores_.resize(T, E);
                     graft::route(ex_, g, view(logits_), view(scores_), view(token_ids_), view(chosen_));
                     by_token(T);
                   },
                   [&](graft::noisy_topk const& g) {
                     prepare(T, s_.k);
                     if (!training)
                       return graft::route(ex_, graft::topk_softmax{}, view(logits_), view(ids), view(weights));
                     raw_.resize(T, E);
                     noisy_.resize(T, E);
                     graft::router_logits(ex_, graft::router{view(W_noise_.value)}, view(h), view(raw_));
                     graft::route(ex_, g, view(logits_), view(raw_), noise(), view(noisy_), view(ids), view(weights));
                   },
                   [&](sigmoid_with_bias const&) {
                     prepare(T, s_.k);
                     graft::route(ex_, graft::sigmoid_topk{.bias = view(bias_)}, view(logits_), view(ids),
                                  view(weights));
                   },
                   [&](auto const& g) {
                     prepare(T, s_.k);
                     graft::route(ex_, g, view(logits_), view(ids), view(weights));
                   },
               },
               s_.rule);
  }

  /// Adds the gradients of the loss and of the weights to those of the router, and to dh. `dweights` is used up.
  void backward(matrix const& h, matrix& dweights, matrix& dh) {
    using graft::view;
    dlogits_.setZero(h.rows(), E);
    add_loss();
    std::visit(overloaded{
                   [&](graft::dense_gate const& g) {
                     graft::route_backward(ex_, g, view(weights), view(dweights), view(dlogits_));
                   },
                   [&](graft::expert_choice const& g) {
                     matrix dchosen(E, token_ids_.cols()), dscores(h.rows(), E);
                     for (Eigen::Index e = 0; e < E; ++e)
                       for (Eigen::Index c = 0; c < dchosen.cols(); ++c) dchosen(e, c) = dweights(token_ids_(e, c), e);
                     graft::route_backward(ex_, g, view(scores_), view(token_ids_), view(dchosen), view(dscores),
                                           view(dlogits_));
                   },
                   [&](graft::noisy_topk const& g) { backward_of_noisy(g, h, dweights, dh); },
                   [&](sigmoid_with_bias const&) {
                     graft::route_backward(ex_, graft::sigmoid_topk{.bias = view(bias_)}, view(logits_), view(ids),
                                           view(dweights), view(dlogits_));
                   },
                   [&](auto const& g) {
                     graft::route_backward(ex_, g, view(logits_), view(ids), view(dweights), view(dlogits_));
                   },
               },
               s_.rule);
    graft::backward(ex_, graft::router{view(W_.value)}, view(h), view(dlogits_),
                    graft::router_gradients{view(W_.gradient)}, view(dh));
    if (s_.how == balance::bias) move_bias();
  }

  id_matrix ids;
  matrix weights;

 private:
  [[nodiscard]] bool noisy() const { return std::holds_alternative<graft::noisy_topk>(s_.rule); }
  [[nodiscard]] graft::random_stream noise() const { return {.seed = seed_ + 1, .stream = step_}; }
  void prepare(Eigen::Index tokens, Eigen::Index choices) {
    ids.resize(tokens, choices);
    weights.resize(tokens, choices);
  }

  /// What experts chose, as choices of tokens: column e is expert e.
  void by_token(Eigen::Index tokens) {
    prepare(tokens, E);
    ids.setConstant(-1);
    for (Eigen::Index e = 0; e < E; ++e)
      for (Eigen::Index c = 0; c < token_ids_.cols(); ++c) ids(token_ids_(e, c), e) = static_cast<std::int32_t>(e);
    graft::kernels::spread_columns(ex_, graft::view(token_ids_), graft::view(chosen_), graft::view(weights));
  }

  void add_loss() {
    using graft::view;
    Eigen::Matrix<float, 1, 1> value;  // of the loss, which training does not look at
    value.setZero();
    auto const z = view(logits_), dz = view(dlogits_);
    auto const loss = view(value);
    switch (s_.how) {
      case balance::pooled_loss: return graft::pooled_balance_loss(ex_, z, view(ids), graft::none, s_.weight, loss, dz);
      case balance::mola_loss: return graft::mola_loss(ex_, z, view(ids), s_.weight, loss, dz);
      case balance::switch_loss: return graft::switch_loss(ex_, z, view(ids), s_.weight, loss, dz);
      default: return;  // noisy_topk's goes by way of its weights and loads
    }
  }

  void backward_of_noisy(graft::noisy_topk const& g, matrix const& h, matrix& dweights, matrix& dh) {
    using graft::view;
    matrix draw = matrix::Zero(h.rows(), E), dnoisy = draw, p(h.rows(), E);
    if (s_.how == balance::cv_squared) {
      Eigen::RowVectorXf importance, load, dimportance, dload, value;
      for (auto* const v : {&importance, &load, &dimportance, &dload}) v->setZero(E);
      value.setZero(1);
      graft::kernels::expert_sums(ex_, view(ids), view(weights), graft::none, view(importance));
      graft::cv_squared_loss(ex_, view(importance), s_.weight, view(value), view(dimportance));
      graft::kernels::expert_sums_backward(ex_, view(dimportance), view(ids), view(dweights));
      graft::expert_load(ex_, g, view(logits_), view(raw_), view(noisy_), s_.k, view(p), view(load));
      graft::cv_squared_loss(ex_, view(load), s_.weight, view(value), view(dload));
      graft::expert_load_backward(ex_, g, view(logits_), view(raw_), view(noisy_), s_.k, view(dload), view(dlogits_),
                                  view(draw), view(dnoisy));
    }
    graft::route_backward(ex_, g, view(raw_), noise(), view(noisy_), view(ids), view(dweights), view(dnoisy),
                          view(dlogits_), view(draw));
    graft::backward(ex_, graft::router{view(W_noise_.value)}, view(h), view(draw),
                    graft::router_gradients{view(W_noise_.gradient)}, view(dh));
  }

  /// Up where an expert was chosen less than on average, down where more (arXiv 2408.15664).
  void move_bias() {
    Eigen::RowVectorXf counts = Eigen::RowVectorXf::Zero(E);
    graft::kernels::expert_sums(ex_, graft::view(ids), graft::none, graft::none, graft::view(counts));
    float const mean = static_cast<float>(ids.size()) / E;
    for (int e = 0; e < E; ++e)
      if (counts(e) != mean) bias_(e) += static_cast<float>(counts(e) < mean ? s_.weight : -s_.weight);
  }

  graft::openmp ex_;
  setup s_;
  std::uint64_t seed_, step_ = 0;
  parameter &W_, &W_noise_;
  Eigen::RowVectorXf bias_;
  matrix logits_, dlogits_, raw_, noisy_, scores_, chosen_;
  id_matrix token_ids_;
};

}  // namespace moe
