// smoke: pairs=1024/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// A plan of pairs of tokens and experts: graft's counting sort, beside std::stable_sort of the pairs (which gives the permutation only).
#include "support/routed.hpp"

#include <benchmark/benchmark.h>

#if defined(__clang__)
#pragma clang diagnostic ignored "-Wdeprecated-declarations"  // inside libstdc++'s stable_sort
#endif

namespace {
using namespace bench;

void add_all(index_t T, index_t k, index_t E) {
  double const pairs = double(T * k);
  add<planned>("pairs=" + std::to_string(T * k) + "/E=" + std::to_string(E),
               {.read = 8 * pairs, .written = 33 * pairs + 16.0 * double(E)}, [=] { return planned(T, E, k); },
               {{[](planned const& p) { return p.T * p.k; },
                 [](planned const& p, index_t i) { return double(p.plan.permutation(i)); },
                 [](planned const& p, index_t i) { return double(p.pair_of(i)); }, 0}},
               {{"graft", [](planned& p, auto const& ex) { graft::kernels::make_plan(ex, p.assigned(), p.plan); }},
                {"stable_sort",
                 [](planned& p, auto const&) {
                   std::iota(p.sorted.begin(), p.sorted.end(), index_t{0});
                   std::stable_sort(p.sorted.begin(), p.sorted.end(),
                                    [&](index_t a, index_t b) { return p.id(a) < p.id(b); });
                   benchmark::DoNotOptimize(p.sorted.data());
                 },
                 false}});
}

suite const all("make_plan", [] {
  add_all(125000, 8, 64);
  add_all(125000, 8, 256);
  add_all(512, 2, 64);
});

}  // namespace
