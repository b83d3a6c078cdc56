// SPDX-License-Identifier: Apache-2.0
/// Cases of `lora_experts`: one LoRA for a fused parameter [experts, out, in] or [experts, in, out].
#include "linear.hpp"

namespace golden {
namespace {

results lora_experts(test_case const& c) {
  auto const W = c.input<float>("W", 3);
  index_t const experts = W.shape[0];
  auto const l = low_rank_of<float>(c, "lora_", experts).at(0);
  bool const turned = c.config.at("W_layout").get<std::string>() == "[experts, in, out]";
  index_t const out_features = W.shape[turned ? 2 : 1];
  index_t const in_features = W.shape[turned ? 1 : 2];
  graft::lora_experts const all{l.A.matrix(), l.B.matrix(), l.scale, experts};
  auto const with_weight = [&](std::vector<float>& w, auto const& f) {
    auto const stored = graft::view(w, W.shape[0], W.shape[1], W.shape[2]);
    if (turned) f(graft::transposed(stored));
    else f(stored);
  };
  auto merged = W.data;
  auto delta = std::vector<float>(merged.size());
  with_weight(merged, [&](auto const& w) { graft::merge(ex, all, w); });
  with_weight(delta, [&](auto const& w) { graft::delta_weight(ex, all, w); });
  results out;
  out.add("merged.W", W.shape, merged);
  out.add("delta.W", W.shape, delta);
  if (!c.has("x")) return out;

  auto const x = c.input<float>("x", 3);
  index_t const T = x.shape[1];
  auto const three = [&](auto& v, index_t last) { return graft::view(v, experts, T, last); };
  std::vector<float> y(static_cast<std::size_t>(experts * T * out_features));
  auto base = W.data;
  with_weight(base, [&](auto const& w) {  // the framework's experts
    for (index_t e = 0; e < experts; ++e)
      for (index_t t = 0; t < T; ++t)
        for (index_t o = 0; o < out_features; ++o) {
          double sum = 0;
          for (index_t k = 0; k < in_features; ++k)
            sum += static_cast<double>(three(x.data, in_features)(e, t, k)) * static_cast<double>(w(e, o, k));
          three(y, out_features)(e, t, o) = static_cast<float>(sum);
        }
  });
  graft::add_delta(ex, all, three(x.data, in_features), three(y, out_features));
  out.add("y", {experts, T, out_features}, y);
  if (!c.has("dy")) return out;
  auto const dy = c.input<float>("dy", 3);
  auto dA = std::vector<float>(l.A.data.size());
  auto dB = std::vector<float>(l.B.data.size());
  std::vector<float> dx(x.data.size());
  with_weight(base, [&](auto const& w) {
    for (index_t e = 0; e < experts; ++e)
      for (index_t t = 0; t < T; ++t)
        for (index_t k = 0; k < in_features; ++k) {
          double sum = 0;
          for (index_t o = 0; o < out_features; ++o)
            sum += static_cast<double>(three(dy.data, out_features)(e, t, o)) * static_cast<double>(w(e, o, k));
          three(dx, in_features)(e, t, k) = static_cast<float>(sum);
        }
  });
  graft::backward(
      ex, all, three(x.data, in_features), three(dy.data, out_features),
      graft::lora_gradients{graft::view(dA, l.A.rows(), l.A.columns()), graft::view(dB, l.B.rows(), l.B.columns())},
      three(dx, in_features));
  out.add("grad.lora_A", l.A.shape, dA);
  out.add("grad.lora_B", l.B.shape, dB);
  out.add("grad.x", x.shape, dx);
  return out;
}

registration const registered{"lora_experts", lora_experts};

}  // namespace
}  // namespace golden
