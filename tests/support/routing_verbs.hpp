// Every verb of routing, and those of kernels that adapters do not reach, as a function of an executor and of tensors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

#include <graft/graft.hpp>

#include "support/bits.hpp"
#include "support/layouts.hpp"
#include "support/memory.hpp"
#include "support/random.hpp"

namespace tests {

/// T tokens of H features, k of E experts each; blocks of four features.
struct routing_shape {
  graft::index_t T, H, E, k;
};

template <class S, class Memory = host_memory>
struct routed_tensors {
  using sum = std::conditional_t<std::is_same_v<S, double>, double, float>;
  template <class T>
  using vector = typename Memory::template vector<T>;

  explicit routed_tensors(routing_shape const& s, layout how = layout::contiguous)
      : shape(s),
        logits(s.T, s.E, how, 1, 2.0),
        raw(s.T, s.E, how, 2),
        noise(s.T, s.E, how, 3),
        scores(s.T, s.E, how, 4),
        dlogits(s.T, s.E, how, 5),
        weights(s.T, s.k, how, 6),
        dweights(s.T, s.k, how, 7),
        x(s.T, s.H, how, 8),
        rows(s.T * s.k, s.H, how, 9),
        y(s.T, s.H, how, 10),
        of_experts(s.E, s.T, how, 11),
        bias(tests::numbers_in<vector<S>>(random_numbers<S>(s.E, 12, 0.1))),
        sums(tests::numbers_in<vector<sum>>(random_numbers<sum>(s.E, 13))),
        loss(1),
        ids(static_cast<std::size_t>(s.T * s.k)),
        token_ids(static_cast<std::size_t>(s.E * s.T)),
        positions(static_cast<std::size_t>(s.T * s.k)),
        plan_memory((graft::plan_bytes(s.T * s.k, s.E, {.alignment = 2, .tile = 4}) + 7) / 8),
        parameters(tests::numbers_in<vector<S>>(random_numbers<S>(s.H / 4 * 16, 14, 0.3))),
        rotations(parameters.size()),
        dparameters(tests::numbers_in<vector<S>>(random_numbers<S>(s.H / 4 * 16, 15))) {
    random_bits bits(16);
    for (std::size_t i = 0; i < ids.size(); ++i)
      ids[i] = static_cast<std::int32_t>((bits.below(s.E) + static_cast<std::int64_t>(i) % s.k) % s.E);
  }

  routing_shape shape;
  matrix<S, Memory> logits, raw, noise, scores, dlogits, weights, dweights, x, rows, y, of_experts;
  vector<S> bias;
  vector<sum> sums, loss;
  vector<std::int32_t> ids, token_ids, positions;
  vector<std::int64_t> plan_memory;  // bytes aligned to 8
  vector<S> parameters, rotations, dparameters;

  template <class V, class... Index>
  [[nodiscard]] static auto view(V& v, Index... extents) {
    return tests::view_of<Memory>(v, extents...);
  }
  [[nodiscard]] auto ids_view() { return view(ids, shape.T, shape.k); }
  [[nodiscard]] auto plan() {
    return graft::plan_in(std::as_writable_bytes(std::span(plan_memory.data(), plan_memory.size())), ids_view(),
                          shape.E, {.alignment = 2, .tile = 4});
  }
  /// Blocks of 4 x 4.
  [[nodiscard]] auto blocks(vector<S>& v) { return view(v, shape.H / 4, graft::index_t{4}, graft::index_t{4}); }
  [[nodiscard]] auto packed(vector<S>& v) { return view(v, shape.H / 4, graft::index_t{6}); }

  /// Of other memory too.
  template <class Tensors>
  [[nodiscard]] std::string differences(Tensors& other) {
    typename Memory::host_access const access;
    std::string all;
    auto const add = [&](char const* name, auto const& mine, auto const& theirs) {
      std::string const d = tests::differences(mine, theirs);
      if (!d.empty()) all += std::string(name) + ": " + d + "\n";
    };
    auto const same = [&](char const* name, auto const& mine, auto const& theirs) {
      for (std::size_t i = 0; i < mine.size(); ++i)
        if (mine[i] != theirs[i]) {
          all += std::string(name) + "[" + std::to_string(i) + "] is " + std::to_string(mine[i]) + " instead of " +
                 std::to_string(theirs[i]) + "\n";
          return;
        }
    };
    add("noise", noise.view(), other.noise.view());
    add("scores", scores.view(), other.scores.view());
    add("dlogits", dlogits.view(), other.dlogits.view());
    add("weights", weights.view(), other.weights.view());
    add("dweights", dweights.view(), other.dweights.view());
    add("rows", rows.view(), other.rows.view());
    add("y", y.view(), other.y.view());
    add("of_experts", of_experts.view(), other.of_experts.view());
    add("sums", view(sums), other.view(other.sums));
    add("loss", view(loss), other.view(other.loss));
    add("rotations", view(rotations), other.view(other.rotations));
    add("dparameters", view(dparameters), other.view(other.dparameters));
    same("ids", ids, other.ids);
    same("token_ids", token_ids, other.token_ids);
    same("positions", positions, other.positions);
    same("plan", plan_memory, other.plan_memory);
    return all + weights.outside() + dlogits.outside() + rows.outside() + y.outside() + scores.outside();
  }
};

/// f(name, verb); `verb(ex, tensors)` calls it.
template <class S, class Memory = host_memory, class F>
void for_each_routing_verb(F const& f) {
  using t_t = routed_tensors<S, Memory>;
  f("route of softmax_topk", [](auto const& ex, t_t& t) {
    route(ex, graft::softmax_topk{.renormalize = false}, t.logits.view(), t.ids_view(), t.weights.view());
  });
  f("route of topk_softmax",
    [](auto const& ex, t_t& t) { route(ex, graft::topk_softmax{}, t.logits.view(), t.ids_view(), t.weights.view()); });
  f("route of sigmoid_topk", [](auto const& ex, t_t& t) {
    graft::sigmoid_topk gate;
    gate.groups = 2;
    gate.kept_groups = 1;
    graft::kernels::gate(ex, gate.rule(), t.logits.view(), t.view(t.bias), t.ids_view(), t.weights.view());
  });
  f("route of gshard_top2", [](auto const& ex, t_t& t) {
    route(ex, graft::gshard_top2{}, t.logits.view(), graft::columns(t.ids_view(), 0, 2),
          graft::columns(t.weights.view(), 0, 2));
  });
  f("route of top_p",
    [](auto const& ex, t_t& t) { route(ex, graft::top_p{}, t.logits.view(), t.ids_view(), t.weights.view()); });
  f("route_backward of softmax_topk", [](auto const& ex, t_t& t) {
    route_backward(ex, graft::softmax_topk{.renormalize = false}, t.logits.view(), t.ids_view(), t.dweights.view(),
                   t.dlogits.view());
  });
  f("route of noisy_topk", [](auto const& ex, t_t& t) {
    route(ex, graft::noisy_topk{}, t.logits.view(), t.raw.view(), graft::random_stream{1, 2}, t.scores.view(),
          t.ids_view(), t.weights.view());
    graft::kernels::noisy_logits(ex, t.logits.view(), t.raw.view(), t.noise.view(), t.scores.view());
  });
  f("route_backward of noisy_topk", [](auto const& ex, t_t& t) {
    graft::kernels::noisy_logits_backward(ex, t.raw.view(), t.noise.view(), t.logits.view(), t.scores.view(),
                                          t.dlogits.view());
  });
  f("expert_load", [](auto const& ex, t_t& t) {
    expert_load(ex, graft::noisy_topk{}, t.logits.view(), t.raw.view(), t.noise.view(), t.shape.k, t.scores.view(),
                t.view(t.sums));
  });
  f("expert_load_backward", [](auto const& ex, t_t& t) {
    matrix<S, Memory> dnoisy(t.shape.T, t.shape.E, layout::contiguous, 17);
    expert_load_backward(ex, graft::noisy_topk{}, t.logits.view(), t.raw.view(), t.noise.view(), t.shape.k,
                         t.view(t.sums), t.dlogits.view(), t.scores.view(), dnoisy.view());
    ex.fence();
  });
  f("route of dense_gate",
    [](auto const& ex, t_t& t) { route(ex, graft::dense_gate{}, t.logits.view(), t.scores.view()); });
  f("route_backward of dense_gate", [](auto const& ex, t_t& t) {
    route_backward(ex, graft::dense_gate{}, t.scores.view(), t.raw.view(), t.dlogits.view());
  });
  f("route of expert_choice", [](auto const& ex, t_t& t) {
    route(ex, graft::expert_choice{}, t.logits.view(), t.scores.view(), t.view(t.token_ids, t.shape.E, t.shape.T),
          t.of_experts.view());
  });
  f("route_backward of expert_choice", [](auto const& ex, t_t& t) {
    graft::kernels::top_k(ex, graft::transposed(t.logits.view()), t.view(t.token_ids, t.shape.E, t.shape.T));
    graft::kernels::spread_columns(ex, t.view(t.token_ids, t.shape.E, t.shape.T), t.of_experts.view(),
                                   t.dlogits.view());
  });
  f("make_plan", [](auto const& ex, t_t& t) {
    make_plan(ex, t.ids_view(), graft::capacity{.factor = 0.5}, t.plan(), graft::none,
              t.view(t.positions, t.shape.T, t.shape.k));
  });
  f("make_plan by probability", [](auto const& ex, t_t& t) {
    make_plan(ex, t.ids_view(), graft::capacity{.factor = 0.5, .order = graft::drop_order::probability}, t.plan(),
              t.weights.view());
  });
  f("dispatch", [](auto const& ex, t_t& t) {
    graft::kernels::make_plan(ex, t.ids_view(), t.plan());
    auto const rows = t.rows.view();
    static_cast<void>(rows);
    matrix<S, Memory> all(t.plan().permutation.extent(0), t.shape.H, layout::contiguous, 18);
    graft::kernels::dispatch(ex, t.plan(), t.x.view(), all.view());
    graft::kernels::dispatch(ex, t.plan(), t.x.view(), all.view(), t.weights.view());
    graft::kernels::combine(ex, t.plan(), all.view(), t.weights.view(), t.y.view());
    graft::kernels::combine_add(ex, t.plan(), all.view(), graft::none, t.y.view());
    graft::kernels::combine_backward_weights(ex, t.plan(), all.view(), t.y.view(), t.dweights.view());
    ex.fence();
  });
  f("losses", [](auto const& ex, t_t& t) {
    switch_loss(ex, t.logits.view(), t.ids_view(), 0.5, t.view(t.loss), t.dlogits.view());
    mola_loss(ex, t.logits.view(), t.ids_view(), 0.5, t.view(t.loss), t.dlogits.view());
    z_loss(ex, t.logits.view(), 0.5, t.view(t.loss), t.dlogits.view());
    cv_squared_loss(ex, t.view(t.sums), 0.5, t.view(t.loss));
  });
  f("expert_sums", [](auto const& ex, t_t& t) {
    graft::kernels::expert_sums(ex, t.ids_view(), t.weights.view(), graft::none, t.view(t.sums));
    graft::kernels::expert_sums(ex, t.ids_view(), graft::none, graft::none, t.view(t.sums));
    graft::kernels::expert_sums_backward(ex, t.view(t.sums), t.ids_view(), t.dweights.view());
  });
  f("jitter", [](auto const& ex, t_t& t) {
    graft::kernels::jitter(ex, graft::jitter_noise{0.1, 1, 2}, t.x.view(), t.y.view());
    graft::kernels::jitter_add(ex, graft::jitter_noise{0.1, 1, 2}, t.x.view(), t.y.view());
  });
  f("limit_row_norms", [](auto const& ex, t_t& t) { graft::kernels::limit_row_norms(ex, t.x.view(), 0.5); });
  f("cayley", [](auto const& ex, t_t& t) {
    graft::kernels::cayley(ex, t.blocks(t.parameters), t.blocks(t.rotations));
    graft::kernels::cayley_backward(ex, t.blocks(t.rotations), t.blocks(t.parameters), t.blocks(t.dparameters));
    graft::kernels::cayley(ex, t.packed(t.parameters), t.blocks(t.rotations));
    graft::kernels::cayley_backward(ex, t.blocks(t.rotations), t.blocks(t.parameters), t.packed(t.dparameters));
  });
  f("cayley_neumann", [](auto const& ex, t_t& t) {
    graft::kernels::cayley_neumann(ex, t.packed(t.parameters), 5, t.blocks(t.rotations));
    graft::kernels::cayley_neumann_backward(ex, t.packed(t.parameters), 5, t.blocks(t.rotations),
                                            t.packed(t.dparameters));
    graft::kernels::cayley_neumann(ex, t.blocks(t.parameters), 5, t.blocks(t.rotations));
    graft::kernels::cayley_neumann_backward(ex, t.blocks(t.parameters), 5, t.blocks(t.rotations),
                                            t.blocks(t.dparameters));
  });
  f("drop_blocks", [](auto const& ex, t_t& t) {
    graft::kernels::drop_blocks(ex, graft::block_dropout{0.4, 1, 2}, t.blocks(t.dparameters));
    graft::kernels::zero_blocks(ex, graft::block_dropout{0.4, 1, 3}, t.blocks(t.dparameters));
  });
}

}  // namespace tests
