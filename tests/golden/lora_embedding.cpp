// SPDX-License-Identifier: Apache-2.0
/// Cases of `lora_embedding`: one or more LoRAs on an embedding, and what a padding token does not train.
#include "linear.hpp"

namespace golden {
namespace {

results lora_embedding(test_case const& c) {
  auto const W = c.input<float>("W", 2);
  auto const ids = c.input<std::int32_t>("ids");
  index_t const T = size_of(ids.shape);
  index_t const d = W.columns();
  auto const adapters = low_rank_of<float>(c, "lora_embedding_");
  auto merged = W.data;
  auto delta = std::vector<float>(merged.size());
  std::vector<float> y(static_cast<std::size_t>(T * d));
  for (index_t t = 0; t < T; ++t) {  // the framework's embedding
    auto const id = ids.data[static_cast<std::size_t>(t)];
    if (id < 0 || id >= W.rows()) throw bad_case("an id is out of range");
    for (index_t j = 0; j < d; ++j)
      y[static_cast<std::size_t>(t * d + j)] = W.data[static_cast<std::size_t>(id * d + j)];
  }
  results out;
  index_t const padding = c.config.contains("padding_idx") && !c.config["padding_idx"].is_null()
                              ? c.config["padding_idx"].get<index_t>()
                              : graft::no_padding;
  bool first = true;
  for (auto const& a : adapters) {
    graft::lora_embedding const e{a.A.matrix(), a.B.matrix(), a.scale};
    graft::merge(ex, e, graft::view(merged, W.rows(), d));
    if (std::exchange(first, false)) graft::delta_weight(ex, e, graft::view(delta, W.rows(), d));
    else graft::merge(ex, e, graft::view(delta, W.rows(), d));
    graft::add_delta(ex, e, graft::ids(ids.data), graft::view(y, T, d));
    if (!c.has("dy")) continue;
    auto const dy = c.input<float>("dy");
    auto dA = std::vector<float>(a.A.data.size());
    auto dB = std::vector<float>(a.B.data.size());
    graft::backward(
        ex, e, graft::ids(ids.data), dy.matrix(),
        graft::lora_gradients{graft::view(dA, a.A.rows(), a.A.columns()), graft::view(dB, a.B.rows(), a.B.columns())},
        padding);
    out.add("grad.lora_embedding_A" + a.suffix, a.A.shape, dA);
    out.add("grad.lora_embedding_B" + a.suffix, a.B.shape, dB);
  }
  shape_t shape = ids.shape;
  shape.push_back(d);
  out.add("y", shape, y);
  out.add("merged.W", W.shape, merged);
  out.add("delta.W", W.shape, delta);
  return out;
}

registration const registered{"lora_embedding", lora_embedding};

}  // namespace
}  // namespace golden
