// smoke: (T=8/n=4096/b=8|cayley/D=16)
// SPDX-License-Identifier: Apache-2.0
// Block rotations of n = 4096 features by 1 to 4 butterfly factors, beside a copy of x and a read of the blocks for each factor (the
// caches' limit) and Eigen's product a block (one factor); Cayley transforms beside a loop of Eigen's LU; merging beside a dense rotation.
#include <memory>

#include "support/peers.hpp"
#include "support/problem.hpp"
#include "support/ratios.hpp"

namespace {

using graft::index_t;
using graft::view;

struct rotation {
  rotation(index_t tokens, index_t features, index_t factors, index_t size)
      : T(tokens),
        n(features),
        N(factors),
        b(size),
        x(bench::random<float>(T * n, 1)),
        y(x.size()),
        R(bench::random<float>(N * n * b, 2)) {}
  index_t T, n, N, b;
  bench::buffer<float> x, y, R;
  [[nodiscard]] auto view4() const {
    return view(R.data(), graft::dynamic_extents<4>(N, n / b, b, b), {n * b, b * b, b, 1});
  }
};

template <class State, class Call>
void add(std::string const& name, std::shared_ptr<State> const& p, double flops, double bytes, Call call) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [p, flops, bytes, call](benchmark::State& state) {
                                 for (auto _ : state) call(*p);
                                 bench::counters(state, flops, bytes);
                               })
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

void rotate(index_t T, index_t b, index_t N, int threads) {
  auto const p = std::make_shared<rotation>(T, 4096, N, b);
  std::string const name = "T=" + std::to_string(T) + "/n=4096/b=" + std::to_string(b) + "/N=" + std::to_string(N) +
                           "/threads=" + std::to_string(threads) + "/";
  double const flops = 2.0 * double(T * p->n * b * N), bytes = 8.0 * double(T * p->n) + 4.0 * double(N * p->n * b);
  graft::openmp const ex{.threads = threads};
  add(name + "graft", p, flops, bytes,
      [ex](rotation& q) { graft::kernels::rotate_blocks(ex, view(q.x, q.T, q.n), q.view4(), view(q.y, q.T, q.n)); });
  add(name + "stream", p, 0, bytes, [threads](rotation& q) {
    benchmark::DoNotOptimize(peers::stream(threads, q.x.data(), q.y.data(), q.T * q.n, q.R.data(), q.n * q.b, q.N));
  });
  if (N == 1)
    add(name + "eigen", p, flops, bytes, [threads](rotation& q) {
      peers::eigen_rotate_blocks(threads, q.x.data(), q.R.data(), q.y.data(), q.T, q.n, q.b);
    });
}

struct blocks {
  blocks(index_t count, index_t size)
      : D(count), b(size), v(bench::random<float>(D * b * (b - 1) / 2, 1)), R(static_cast<std::size_t>(D * b * b)) {}
  index_t D, b;
  bench::buffer<float> v, R;
  [[nodiscard]] auto parameters() const { return view(v, D, b * (b - 1) / 2); }
  [[nodiscard]] auto rotations() { return view(R.data(), graft::dynamic_extents<3>(D, b, b), {b * b, b, 1}); }
};

void cayley(index_t D, index_t b) {
  auto const p = std::make_shared<blocks>(D, b);
  std::string const name = "cayley/D=" + std::to_string(D) + "/b=" + std::to_string(b) + "/";
  double const flops = 2.0 * double(D * b * b * b);
  add(name + "graft", p, flops, 0,
      [](blocks& q) { graft::kernels::cayley(graft::serial{}, q.parameters(), q.rotations()); });
  add(name + "graft_series_5", p, 4 * flops, 0,
      [](blocks& q) { graft::kernels::cayley_neumann(graft::serial{}, q.parameters(), 5, q.rotations()); });
  add(name + "eigen_lu", p, flops, 0, [](blocks& q) { peers::eigen_cayley(q.v.data(), q.R.data(), q.D, q.b); });
}

struct weight : rotation {
  explicit weight(index_t features)
      : rotation(features, features, 2, 4), dense(bench::random<float>(features * features, 3)) {}
  bench::buffer<float> dense;
};

void merge(index_t n, int threads) {
  auto const p = std::make_shared<weight>(n);
  std::string const name = "merge/m=n=" + std::to_string(n) + "/b=4/N=2/threads=" + std::to_string(threads) + "/";
  graft::openmp const ex{.threads = threads};
  add(name + "graft", p, 4.0 * double(n * n * 4), 8.0 * double(n * n),
      [ex](weight& q) { graft::kernels::rotate_blocks_back(ex, view(q.x, q.n, q.n), q.view4(), view(q.y, q.n, q.n)); });
  add(name + "eigen_dense", p, 2.0 * double(n * n) * double(n), 8.0 * double(n * n),
      [threads](weight& q) { peers::eigen_dense_merge(threads, q.x.data(), q.dense.data(), q.y.data(), q.n, q.n); });
}

}  // namespace

int main(int argc, char** argv) {
  for (int const threads : {1, 2})
    for (index_t const b : {4, 8, 32})
      for (index_t const T : {1, 8, 64, 512})
        for (index_t const N : {1, 4}) rotate(T, b, N, threads);
  cayley(16, 4);
  cayley(1024, 4);
  cayley(128, 32);
  merge(1024, 1);
  merge(4096, 2);
  return bench::run(argc, argv);
}
