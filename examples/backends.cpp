// SPDX-License-Identifier: Apache-2.0
// One source for every backend: the same calls, the same bits. docs/backends.md explains what is chosen where.
// test:
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <vector>

#include <graft/openmp.hpp>
#if GRAFT_WITH_KOKKOS  // in your own program: include it where you have Kokkos
#include <graft/kokkos.hpp>
#endif

namespace {

constexpr int T = 5, n = 300, m = 200, r = 16;

std::vector<float> numbers(int count, unsigned seed) {
  std::vector<float> v(static_cast<std::size_t>(count));
  graft::kernels::fill_uniform(graft::serial{}, {.seed = seed}, graft::view(v, 1, count));
  return v;
}
std::vector<float> const x = numbers(T * n, 1), A = numbers(r * n, 2), B = numbers(m * r, 3), base = numbers(T * m, 4);

/// What a framework writes: it names no backend.
template <class E, class X, class Y>
void adapt(E const& ex, X const& in, Y const& out) {
  graft::lora const q{.A = graft::view(A, r, n), .B = graft::view(B, m, r), .scale = graft::lora_scale(32.0, r)};
  graft::add_delta(ex, q, in, out);
}

std::vector<float> run(auto const& ex) {
  std::vector<float> y = base;
  adapt(ex, graft::view(x, T, n), graft::view(y, T, m));
  ex.fence();  // asynchronous executors only enqueue
  return y;
}

std::vector<float> const expected = run(graft::reference{});  // the specification
int wrong = 0;

/// Which body a call takes is a constant of the executor's and the views' types.
template <class E, class X, class Y>
void report(std::string_view name, E const&, X const&, Y const& y) {
  using factor = decltype(graft::view(A, r, n));
  constexpr bool host_body =
      graft::kernels::low_rank_add_fn::chosen<E, X, factor, factor, Y> == graft::kernels::body::host;
  bool const same = std::memcmp(y.data_handle(), expected.data(), sizeof(float) * expected.size()) == 0;
  wrong += same ? 0 : 1;
  std::printf("%-34.*s %s body, %s\n", static_cast<int>(name.size()), name.data(), host_body ? "host   " : "generic",
              same ? "bits of reference" : "other bits");
}

void show(std::string_view name, auto const& ex) {
  std::vector<float> y = run(ex);
  report(name, ex, graft::view(x, T, n), graft::view(y, T, m));
}

}  // namespace

int main() {
  show("reference", graft::reference{});
  show("serial", graft::serial{});
  show("openmp, 2 threads", graft::openmp{.threads = 2});
#if GRAFT_WITH_KOKKOS
  Kokkos::ScopeGuard const kokkos;  // starting and ending Kokkos is the application's business
  show("kokkos, default instance", graft::kokkos_executor<>{});
  Kokkos::DefaultHostExecutionSpace const instance;
  graft::kokkos_executor const ex{.space = instance};  // or one that you made from a stream
  show("kokkos, an instance", ex);

  // Its own Views, where they are and as they are: no copy.
  Kokkos::View<float**, Kokkos::LayoutLeft, Kokkos::HostSpace> in("x", T, n);
  Kokkos::View<float**, Kokkos::LayoutRight, Kokkos::HostSpace> out("y", T, m);
  graft::kernels::copy(ex, graft::view(x, T, n), graft::view(in));
  graft::kernels::copy(ex, graft::view(base, T, m), graft::view(out));
  adapt(ex, graft::view(in), graft::view(out));
  ex.fence();
  report("kokkos, Views of two layouts", ex, graft::view(in), graft::view(out));
#endif
  return wrong;
}
