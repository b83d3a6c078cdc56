// SPDX-License-Identifier: Apache-2.0
/// @file
/// Modules of PEFT's IA3 and LN_TUNING.
#pragma once

#include <string>
#include <utility>

#include <graft/config.hpp>
#include <graft/io/adapted_module.hpp>
#include <graft/io/detail/checkpoint_contents.hpp>

namespace graft::inline GRAFT_CONTRACT::io::detail {

/// ia3_l[m, 1], or [1, n] of a feed-forward module.
inline void add_ia3(checkpoint_contents& c, std::string const& name, module_tensors const& p) {
  tensor_info const& l = *p.find(".ia3_l");
  if (l.shape.size() > 2 && l.shape.size() < 6)
    return c.list_all(p, "(IA)3 on a convolution is not computed by this version");
  c.expects_rank(l, 2);
  c.expects_elements(l);
  adapted_module m;
  m.name = name;
  bool const inputs = c.config.is_feedforward(name);
  m.kind = inputs ? adapter_kind::ia3_feedforward : adapter_kind::ia3;
  if (l.shape[inputs ? 0 : 1] != 1)
    c.wrong(l, graft::detail::text("must be one ", inputs ? "row" : "column", ", since the module is ",
                                   inputs ? "" : "not ", "among the feedforward_modules of the configuration"));
  (inputs ? m.in_features : m.out_features) = l.size();
  if (!c.one_type(p, m)) return;
  m.fan_in_fan_out = c.config.fan_in_fan_out;
  c.keep(std::move(m), p);
}

/// ln_tuning_layers.weight[n] and .bias[n]: the module's own, trained; they take their places.
inline void add_ln_tuning(checkpoint_contents& c, std::string const& name, module_tensors const& p) {
  auto const *const weight = p.find(".ln_tuning_layers.weight"), *const bias = p.find(".ln_tuning_layers.bias");
  if (weight == nullptr) c.wrong(*bias, "there is no ln_tuning_layers.weight beside it");
  if (weight->shape.size() != 1)
    return c.list_all(p, "LN tuning of a layer whose weight is not a vector is not computed by this version");
  c.expects_elements(*weight);
  adapted_module m;
  m.name = name;
  m.kind = adapter_kind::ln_tuning;
  m.in_features = m.out_features = weight->shape[0];
  m.has_bias = bias != nullptr;
  if (bias != nullptr && bias->shape != weight->shape)
    c.wrong(*bias, graft::detail::text("must have ", m.in_features, " elements"));
  if (!c.one_type(p, m)) return;
  if (!c.config.targets(name)) return c.keep(std::move(m), p);
  c.replace(name + ".weight", *weight);
  if (bias != nullptr) c.replace(name + ".bias", *bias);
  c.keep(std::move(m), p);
}

}  // namespace graft::inline GRAFT_CONTRACT::io::detail
