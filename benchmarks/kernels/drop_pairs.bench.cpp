// smoke: .*/pairs=1024/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// Which pairs of a plan have no room, at a capacity of an even share. The passes over pairs that the docstring counts, 8 bytes each.
#include "support/routed.hpp"

namespace {
using namespace bench;

void add_all(char const* name, graft::drop_order order, double passes, index_t T, index_t k, index_t E) {
  double const pairs = double(T * k);
  index_t const limit = (T * k + E - 1) / E;
  bool const by_choice = order == graft::drop_order::choice;
  add<planned>(std::string(name) + "/pairs=" + std::to_string(T * k) + "/E=" + std::to_string(E),
               {.read = 8 * passes * pairs, .written = pairs}, [=] { return planned(T, E, k); },
               {{[](planned const& p) { return p.T * p.k; },
                 [](planned const& p, index_t i) { return double(p.plan.dropped(i)); },
                 [=](planned const& p, index_t i) { return p.late(i, limit, by_choice) ? 1.0 : 0.0; }, 0}},
               {{"graft", [=](planned& p, auto const& ex) {
                   graft::kernels::drop_pairs(ex, p.plan, graft::drop_rule{.limit = limit, .order = order});
                 }}});
}

suite const all("drop_pairs", [] {
  for (index_t const T : {512, 125000}) {
    index_t const k = T == 512 ? 2 : 8;
    add_all("token", graft::drop_order::token, 1, T, k, 64);
    add_all("choice", graft::drop_order::choice, double(k), T, k, 64);
  }
});

}  // namespace
