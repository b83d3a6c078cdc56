// smoke: (T=1|T=8)/r=8/threads=1
// SPDX-License-Identifier: Apache-2.0
// y += s (x A^T) B^T, n = m = 4096: checkpoint B and packed B, against the same compiled -march=native, Eigen's two
// products, and a dot per output.
#include <functional>
#include <memory>

#include "support/peers.hpp"
#include "support/problem.hpp"
#include "support/ratios.hpp"

namespace {

using graft::view;

template <class T>
void add(bench::problem<T>& p, std::string const& name, std::function<void(bench::problem<T>&, T*)> const& call,
         double tolerance) {
  benchmark::RegisterBenchmark((p.s.name(sizeof(T) == 2 ? "bf16" : "fp32") + "/" + name).c_str(),
                               [&p, call, tolerance](benchmark::State& state) {
                                 auto expected = p.y;  // validated once, before timing
                                 graft::kernels::low_rank_add(graft::reference{}, view(p.x, p.s.tokens, p.s.n),
                                                              view(p.A, p.s.rank, p.s.n), view(p.B, p.s.m, p.s.rank),
                                                              view(expected, p.s.tokens, p.s.m), 0.5);
                                 auto y = p.y;
                                 call(p, y.data());
                                 if (bench::difference(y, expected) > tolerance)
                                   return state.SkipWithError("wrong result");
                                 for (auto _ : state) call(p, y.data());
                                 auto const [T_, r, threads, n, m] = p.s;
                                 bench::counters(state, 2.0 * double(T_ * r * (n + m)),
                                                 double(sizeof(T)) * double(r * (n + m) + T_ * n + 2 * T_ * m));
                               })
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

template <class T>
void add_all(bench::shape const& s) {
  static std::vector<std::unique_ptr<bench::problem<T>>> problems;
  problems.push_back(std::make_unique<bench::problem<T>>(s));
  auto& p = *problems.back();
  int const threads = static_cast<int>(s.threads);
  graft::openmp const ex{.threads = threads};
  double const eps = sizeof(T) == 2 ? 0x1p-7 : 1e-5;
  auto const scratch =
      std::make_shared<bench::buffer<float>>(static_cast<std::size_t>((s.tokens + 2 * s.rank) * (s.n + s.m + s.rank)));
  auto const panels =
      std::make_shared<bench::buffer<T>>(static_cast<std::size_t>(graft::panels_view<T>::storage(s.m, s.rank)));
  graft::kernels::pack_panels(graft::serial{}, view(p.B, s.m, s.rank),
                              graft::panels_view<T>{panels->data(), s.m, s.rank});

  add<T>(
      p, "graft",
      [ex](auto& q, T* y) {
        graft::kernels::low_rank_add(ex, view(q.x, q.s.tokens, q.s.n), view(q.A, q.s.rank, q.s.n),
                                     view(q.B, q.s.m, q.s.rank), view(y, q.s.tokens, q.s.m), 0.5);
      },
      0.0);
  add<T>(
      p, "packed",
      [ex, panels](auto& q, T* y) {
        graft::kernels::low_rank_add(ex, view(q.x, q.s.tokens, q.s.n), view(q.A, q.s.rank, q.s.n),
                                     graft::panels_view<T const>{panels->data(), q.s.m, q.s.rank},
                                     view(y, q.s.tokens, q.s.m), 0.5);
      },
      0.0);
  if constexpr (sizeof(T) == 4) {
    add<T>(
        p, "native",
        [threads](auto& q, T* y) {
          peers::native_low_rank_add(threads, q.x.data(), q.A.data(), q.B.data(), y, q.s.tokens, q.s.n, q.s.m, q.s.rank,
                                     0.5F);
        },
        0.0);
    add<T>(
        p, "eigen",
        [threads, scratch](auto& q, T* y) {
          peers::eigen_low_rank_add(threads, q.x.data(), q.A.data(), q.B.data(), y, scratch->data(), q.s.tokens, q.s.n,
                                    q.s.m, q.s.rank, 0.5F);
        },
        eps);
    if (s.tokens <= 64)
      add<T>(
          p, "dots",
          [threads, scratch](auto& q, T* y) {
            peers::dot_low_rank_add(threads, q.x.data(), q.A.data(), q.B.data(), y, scratch->data(), q.s.tokens, q.s.n,
                                    q.s.m, q.s.rank, 0.5F);
          },
          eps);
  } else {
    auto const bits = [](auto* b) { return reinterpret_cast<std::uint16_t const*>(b); };
    add<T>(
        p, "native",
        [threads, bits](auto& q, T* y) {
          peers::native_low_rank_add_bf16(threads, bits(q.x.data()), bits(q.A.data()), bits(q.B.data()),
                                          reinterpret_cast<std::uint16_t*>(y), q.s.tokens, q.s.n, q.s.m, q.s.rank,
                                          0.5F);
        },
        0.0);
    add<T>(
        p, "eigen",
        [threads, scratch, bits](auto& q, T* y) {
          peers::eigen_low_rank_add_bf16(threads, bits(q.x.data()), bits(q.A.data()), bits(q.B.data()),
                                         reinterpret_cast<std::uint16_t*>(y), scratch->data(), q.s.tokens, q.s.n, q.s.m,
                                         q.s.rank, 0.5F);
        },
        eps);
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (graft::index_t threads : {1, 2})
    for (graft::index_t rank : {8, 16, 64})
      for (graft::index_t tokens : {1, 8, 64, 512}) {
        add_all<float>({tokens, rank, threads});
        add_all<graft::bfloat16>({tokens, rank, threads});
      }
  return bench::run(argc, argv);
}
