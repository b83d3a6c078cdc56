// SPDX-License-Identifier: Apache-2.0
/// @file
/// Modules of PEFT's VERA, and the projections that they share.
#pragma once

#include <string>
#include <utility>

#include <graft/config.hpp>
#include <graft/io/adapted_module.hpp>
#include <graft/io/detail/checkpoint_contents.hpp>

namespace graft::inline GRAFT_CONTRACT::io::detail {

class vera_modules {
 public:
  explicit vera_modules(checkpoint_contents& contents) : c_(contents) {}

  /// True when the tensor is one of the projections.
  [[nodiscard]] bool take(tensor_info const& t) {
    if (t.name == "base_model.vera_A") return A_ = &t, true;
    if (t.name == "base_model.vera_B") return B_ = &t, true;
    return false;
  }
  void read_projections() {
    if (!c_.pair(A_, B_, "base_model.vera_A", "base_model.vera_B")) {
      if (c_.config.save_projection)
        refuse(c_.file.path(), "there is no tensor of this name but the configuration says save_projection",
               "base_model.vera_A");
      return;
    }
    for (auto const* const t : {A_, B_}) c_.expects_rank(*t, 2);
    if (A_->shape[0] != B_->shape[1] || A_->shape[0] != c_.config.r)
      c_.wrong(*A_, graft::detail::text("has ", A_->shape[0], " rows and vera_B ", B_->shape[1],
                                        " columns, but the rank is ", c_.config.r));
    c_.vera_A = c_.file.read_as<float>(A_->name);
    c_.vera_B = c_.file.read_as<float>(B_->name);
    c_.projections_rank = c_.config.r;
    c_.projections_in = A_->shape[1];
    c_.projections_out = B_->shape[0];
  }
  void add(std::string const& name, module_tensors const& p) {
    auto const *const d = p.find(".vera_lambda_d"), *const b = p.find(".vera_lambda_b");
    if (!c_.pair(d, b, "vera_lambda_d", "vera_lambda_b")) return;
    adapted_module m;
    m.name = name;
    m.kind = adapter_kind::vera;
    for (auto const* const t : {d, b}) c_.expects_rank(*t, 1);
    m.rank = d->shape[0];
    m.in_features = c_.projections_in;
    m.out_features = b->shape[0];
    if (m.rank != c_.config.r)
      c_.wrong(*d, graft::detail::text("has ", m.rank, " elements but the configuration says rank ", c_.config.r));
    if (c_.projections_rank > 0 && m.out_features > c_.projections_out)
      c_.wrong(*b,
               graft::detail::text("has ", m.out_features, " elements but vera_B only ", c_.projections_out, " rows"));
    if (!c_.one_type(p, m)) return;
    m.dropout = c_.config.lora_dropout;
    m.fan_in_fan_out = c_.config.fan_in_fan_out;
    c_.keep(std::move(m), p);
  }

 private:
  checkpoint_contents& c_;
  tensor_info const* A_ = nullptr;
  tensor_info const* B_ = nullptr;
};

}  // namespace graft::inline GRAFT_CONTRACT::io::detail
