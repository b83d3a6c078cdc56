// smoke: pairs=1000000/E=64/threads=1
// SPDX-License-Identifier: Apache-2.0
// A plan of a million pairs of tokens and experts: graft's counting sort, with a capacity, and std::stable_sort of the pairs (which gives
// the permutation only).
#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include <graft/routing.hpp>

#include "support/problem.hpp"
#include "support/ratios.hpp"

#if defined(__clang__)
#pragma clang diagnostic ignored "-Wdeprecated-declarations"  // inside libstdc++'s stable_sort
#endif

namespace {

using graft::index_t;
using graft::view;

struct choices {
  choices(index_t tokens, index_t chosen, index_t experts)
      : T(tokens),
        k(chosen),
        E(experts),
        ids(static_cast<std::size_t>(T * k)),
        order(ids.size()),
        memory(graft::plan_bytes(T * k, E)),
        p(graft::plan_in(memory, assigned(), E)) {
    for (std::size_t i = 0; i < ids.size(); ++i)
      ids[i] = static_cast<std::int32_t>(graft::detail::philox_word(1, 2, static_cast<index_t>(i)) %
                                         static_cast<std::uint32_t>(E));
  }
  index_t T, k, E;
  std::vector<std::int32_t> ids;
  std::vector<index_t> order;
  std::vector<std::byte> memory;
  graft::plan<> p;
  void sort() {
    std::iota(order.begin(), order.end(), index_t{0});
    std::stable_sort(order.begin(), order.end(), [&](index_t a, index_t b) {
      return ids[static_cast<std::size_t>(a)] < ids[static_cast<std::size_t>(b)];
    });
    benchmark::DoNotOptimize(order.data());
  }
  [[nodiscard]] graft::tensor_view<std::int32_t const, graft::dynamic_extents<2>> assigned() const {
    return view(ids.data(), T, k);
  }
};

void add(index_t T, index_t k, index_t E, int threads) {
  auto const c = std::make_shared<choices>(T, k, E);
  std::string const name =
      "pairs=" + std::to_string(T * k) + "/E=" + std::to_string(E) + "/threads=" + std::to_string(threads) + "/";
  graft::openmp const ex{.threads = threads};
  auto const reg = [&](char const* what, auto call) {
    benchmark::RegisterBenchmark((name + what).c_str(),
                                 [c, call](benchmark::State& state) {
                                   for (auto _ : state) call(*c);
                                   bench::counters(state, 0, 41.0 * double(c->T * c->k));
                                 })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  };
  reg("graft", [ex](choices& q) { graft::kernels::make_plan(ex, q.assigned(), q.p); });
  reg("graft_capacity", [ex](choices& q) { graft::make_plan(ex, q.assigned(), {.factor = 1.0}, q.p); });
  reg("graft_choice", [ex](choices& q) {
    graft::make_plan(ex, q.assigned(), {.factor = 1.0, .order = graft::drop_order::choice}, q.p);
  });
  if (threads == 1) reg("stable_sort", [](choices& q) { q.sort(); });
  // Validated once: the permutation is that of the sort.
  c->sort();
  graft::kernels::make_plan(ex, c->assigned(), c->p);
  for (std::size_t i = 0; i < c->order.size(); ++i)
    if (c->p.permutation(static_cast<index_t>(i)) != c->order[i]) throw std::runtime_error("another order: " + name);
}

}  // namespace

int main(int argc, char** argv) {
  for (int const threads : {1, 2}) {
    add(125000, 8, 64, threads);
    add(125000, 8, 256, threads);
    add(512, 2, 64, threads);
  }
  return bench::run(argc, argv);
}
