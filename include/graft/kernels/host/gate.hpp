// SPDX-License-Identifier: Apache-2.0
/// @file
/// Host body of `gate`: rows over workers. For softmaxes without groups, dropped choices or a bias, and k <= 64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/gate.hpp>
#include <graft/kernels/host/levels.hpp>
#include <graft/kernels/host/shrink.hpp>
#include <graft/kernels/override.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {

template <class E>
void gate_on_host(E const& ex, gate_problem const& p) {
  gate_bodies const& f = host_bodies<gate_bodies>();
  int const workers = useful_workers(ex.concurrency(), p.rows * (p.experts + 16 * p.k) * 4);
  std::size_t const each = float_bytes(gate_scratch(p.experts, p.rows));
  scratch_block const memory(ex.resource(), each * static_cast<std::size_t>(workers));
  ex.region(workers,
            verb_region{"gate", [&](auto const& w) {
                          f.gate_rows(
                              p, part_begin(p.rows, w.index(), w.size()), part_begin(p.rows, w.index() + 1, w.size()),
                              reinterpret_cast<float*>(memory.data() + each * static_cast<std::size_t>(w.index())));
                        }});
}

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
/// Taken on hosts for float, bfloat16 and float16 at any mix and any strides; `takes` says whether for a rule.
template <host_executor E, host_storage Z, id_view Ids, host_storage W>
struct override_for<gate_fn, E, Z, none_t, Ids, W> {
  static constexpr body which = body::host;
  static bool takes(gate_rule const& rule, Ids const& ids) {
    return rule.score == gate_score::softmax && rule.groups == 1 && rule.top_p >= 1.0 &&
           rule.second == second_expert::always && rule.non_finite == non_finite_logits::refuse &&
           ids.extent(1) <= graft::detail::gate_host_choices;
  }
  template <class Report>
  static void run(E const& ex, gate_rule const& rule, Z const& logits, Ids const& ids, W const& weights,
                  Report const& status) {
    if (logits.size() == 0) return;
    using graft::detail::erased;
    graft::detail::with_codes(
        ex, gate_fn::verb, status, logits.extent(0), true, [&](graft::detail::gate_codes const& codes) {
          graft::detail::gate_on_host(
              ex, {erased(logits), erased(weights), ids.data_handle(), sizeof(typename Ids::value_type) == 8,
                   ids.stride(0), ids.stride(1), logits.extent(0), logits.extent(1), ids.extent(1),
                   rule.sums_over_all(), rule.renormalize, static_cast<float>(rule.epsilon),
                   static_cast<float>(rule.scale), static_cast<float>(1.0 / rule.temperature), codes});
        });
  }
};
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
