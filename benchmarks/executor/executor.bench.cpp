// smoke: launch|n=256/fp32/T=1/
// SPDX-License-Identifier: Apache-2.0
// What an executor itself costs: the launch of an empty kernel, and one call of low_rank_add on each of those that run the
// same host bodies, two threads each. `./dev bench kokkos` measures Kokkos/OpenMP beside them.
#include <algorithm>
#include <memory>
#include <string>
#include <thread>

#include <benchmark/benchmark.h>

#include "support/suite.hpp"

#if GRAFT_WITH_KOKKOS
#include <graft/kokkos.hpp>
#endif

namespace {

struct empty_body {
  [[maybe_unused]] static constexpr std::string_view verb = "empty";
  template <class Team>
  GRAFT_FN void operator()(Team const&) const {}
};
auto const empty_region = [](auto const&) {};

int threads() { return static_cast<int>(std::min(2U, std::thread::hardware_concurrency())); }

template <class Call>
void add(std::string const& name, Call const& call) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [call](benchmark::State& state) {
                                 for (auto _ : state) call();
                               })
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

template <class E>
void add_launch(std::string const& name, E const& ex) {
  add("launch/league of 1/" + name, [ex] { ex.league(1, 0, empty_body{}), ex.fence(); });
}
template <class E>
void add_regions(std::string const& name, E const& ex) {
  add("launch/region/" + name, [ex] { ex.region(ex.concurrency(), empty_region); });
}

template <class E>
void add_call(bench::low_rank<float>& p, std::string const& name, E const& ex) {
  add("n=" + std::to_string(p.s.n) + "/" + bench::label<float>({{"T", p.s.T}, {"r", p.s.r}}) + "/" + name,
      [ex, &p] { graft::kernels::low_rank_add(ex, p.x_view(), p.A_view(), p.B_view(), p.y_view(), 0.5); });
}

template <class F>
void for_each_host_executor(F const& f) {
  f("openmp", graft::openmp{threads()});
#if GRAFT_WITH_KOKKOS
  f("kokkos", graft::kokkos_executor<Kokkos::OpenMP>{});
#endif
  f("serial", graft::serial{});
}

}  // namespace

int main(int argc, char** argv) {
#if GRAFT_WITH_KOKKOS
  Kokkos::ScopeGuard const kokkos(
      Kokkos::InitializationSettings().set_num_threads(threads()).set_disable_warnings(true));
#endif
  for_each_host_executor([](char const* name, auto const& ex) { add_launch(name, ex); });
  add_launch("reference", graft::reference{});
  for_each_host_executor([](char const* name, auto const& ex) { add_regions(name, ex); });
  static std::vector<std::unique_ptr<bench::low_rank<float>>> problems;
  for (graft::index_t const n : {256, 1024, 4096})
    for (graft::index_t const tokens : {1, 8, 64, 512}) {
      problems.push_back(std::make_unique<bench::low_rank<float>>(bench::shape{tokens, 16, n, n}));
      for_each_host_executor([&](char const* name, auto const& ex) { add_call(*problems.back(), name, ex); });
    }
  int const status = bench::run(argc, argv);
  benchmark::ClearRegisteredBenchmarks();  // executors may not outlive Kokkos
  return status;
}
