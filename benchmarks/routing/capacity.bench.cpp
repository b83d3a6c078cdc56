// smoke: .*/pairs=1024/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// Plans under a capacity of an even share: two plans and the pairs that are dropped in between.
#include "support/routed.hpp"

namespace {
using namespace bench;

void add_all(char const* name, graft::drop_order order, index_t T, index_t k, index_t E) {
  double const pairs = double(T * k);
  bool const by_choice = order == graft::drop_order::choice;
  add<planned>(
      std::string(name) + "/pairs=" + std::to_string(T * k) + "/E=" + std::to_string(E),
      {.read = 24 * pairs, .written = 67 * pairs}, [=] { return planned(T, E, k); },
      {{[](planned const& p) { return p.T * p.k; },
        [](planned const& p, index_t i) { return double(p.plan.dropped(i)); },
        [=](planned const& p, index_t i) { return p.late(i, (T * k + E - 1) / E, by_choice) ? 1.0 : 0.0; }, 0}},
      {{"graft", [=](planned& p, auto const& ex) {
          make_plan(ex, p.assigned(), graft::capacity{.factor = 1.0, .order = order}, p.plan);
        }}});
}

suite const all("capacity", [] {
  for (index_t const T : {512, 125000}) {
    add_all("token", graft::drop_order::token, T, T == 512 ? 2 : 8, 64);
    add_all("choice", graft::drop_order::choice, T, T == 512 ? 2 : 8, 64);
  }
});

}  // namespace
