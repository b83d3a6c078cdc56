// Prints one number made of all bits of many results. Built by many compilers with many options, and run at every
// instruction set: each must print the same. Fails by itself when its own executors disagree.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include <graft/openmp.hpp>

namespace {

struct digest {
  std::uint64_t hash = 0xcbf29ce484222325U;  // FNV-1a
  void add(void const* data, std::size_t bytes) {
    auto const* const p = static_cast<unsigned char const*>(data);
    for (std::size_t i = 0; i < bytes; ++i) hash = (hash ^ p[i]) * 0x100000001b3U;
  }
  template <class T>
  void add(std::vector<T> const& v) {
    add(static_cast<void const*>(v.data()), v.size() * sizeof(T));
  }
};

template <class T>
std::vector<T> numbers(graft::index_t count, std::uint32_t seed) {
  std::vector<T> v(static_cast<std::size_t>(count));
  for (T& e : v) {
    seed = seed * 1664525U + 1013904223U;
    e = graft::store_as<T>(static_cast<float>(static_cast<std::int32_t>(seed >> 8U) - (1 << 23)) * 0x1p-23F);
  }
  return v;
}

struct shape {
  graft::index_t T, n, r, m;
};

/// X: x and dy. W: A and B. Y: outputs.
template <class X, class W, class Y, class E>
void run(E const& ex, shape const s, digest& d) {
  using graft::transposed;
  using graft::view;
  auto const x = numbers<X>(s.T * s.n, 1);
  auto const a = numbers<W>(s.r * s.n, 2);
  auto const b = numbers<W>(s.m * s.r, 3);
  auto const dy = numbers<X>(s.T * s.m, 4);
  auto y = numbers<Y>(s.T * s.m, 5);
  auto const x_view = view(x, s.T, s.n);
  auto const a_view = view(a, s.r, s.n);
  auto const b_view = view(b, s.m, s.r);
  auto const y_view = view(y, s.T, s.m);
  graft::lora const l{.A = a_view, .B = b_view, .scale = 0.3};

  graft::kernels::low_rank_add(ex, x_view, a_view, b_view, y_view, 0.7F);
  d.add(y);
  std::vector<Y> v(static_cast<std::size_t>(s.T * s.r));
  graft::kernels::shrink(ex, x_view, a_view, view(v, s.T, s.r), -1.3F);
  d.add(v);
  graft::kernels::expand_add(ex, view(v, s.T, s.r), b_view, y_view);
  graft::kernels::expand_add(ex, b_view, view(v, s.T, s.r), transposed(view(y.data(), s.T, s.m)), 0.11F);
  d.add(y);

  auto d_a = numbers<Y>(s.r * s.n, 6);
  auto d_b = numbers<Y>(s.m * s.r, 7);
  auto dx = numbers<Y>(s.T * s.n, 8);
  graft::backward(ex, l, x_view, view(dy, s.T, s.m), graft::lora_gradients{view(d_a, s.r, s.n), view(d_b, s.m, s.r)},
                  view(dx, s.T, s.n));
  d.add(d_a);
  d.add(d_b);
  d.add(dx);
  auto w = numbers<Y>(s.m * s.n, 9);
  graft::merge(ex, l, view(w, s.m, s.n));
  graft::unmerge(ex, l, transposed(transposed(view(w, s.m, s.n))));
  d.add(w);

  auto const factors = numbers<X>(s.m, 10);
  graft::kernels::scale_columns(ex, view(factors), y_view);
  graft::kernels::add_bias(ex, view(factors), y_view, 0.9F);
  auto sums = numbers<Y>(s.m, 11);
  graft::kernels::sum_rows(ex, y_view, view(sums), 0.6F);
  d.add(sums);
  graft::kernels::drop(ex, graft::dropout{.probability = 0.3, .seed = 5, .stream = 2}, view(dy, s.T, s.m), y_view);
  d.add(y);
  graft::kernels::fill_normal(ex, graft::random_stream{.seed = 7, .stream = 1}, y_view, 0.4);
  d.add(y);
}

/// Plans, and rows of tokens to experts and back.
template <class X, class Y, class E>
void run_experts(E const& ex, digest& d) {
  using graft::view;
  constexpr graft::index_t T = 61, k = 3, experts = 7, H = 531;
  std::vector<std::int32_t> ids(T * k);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * i % (experts + 1)) - 1;
  std::vector<std::byte> memory(graft::plan_bytes(T * k, experts));
  auto const p = graft::plan_in(memory, view(ids, T, k), experts);
  auto const x = numbers<X>(T * H, 1);
  auto const w = numbers<float>(T * k, 2);
  std::vector<Y> rows(T * k * H), y(T * H);
  std::vector<float> dw(T * k);
  for (auto const order : {graft::drop_order::choice, graft::drop_order::random, graft::drop_order::batch_priority}) {
    graft::make_plan(ex, view(ids, T, k), {.factor = 0.8, .order = order}, p, view(w, T, k));
    graft::kernels::dispatch(ex, p, view(x, T, H), view(rows, T * k, H), view(w, T, k));
    graft::kernels::combine(ex, p, view(rows, T * k, H), view(w, T, k), view(y, T, H));
    graft::kernels::combine_backward_weights(ex, p, view(rows, T * k, H), view(x, T, H), view(dw, T, k));
    d.add(rows);
    d.add(y);
    d.add(dw);
  }
}

template <class E>
digest all(E const& ex) {
  digest d;
  run<float, float, float>(ex, {1, 1, 1, 1}, d);
  run<float, float, float>(ex, {3, 77, 5, 67}, d);
  run<float, float, float>(ex, {13, 523, 17, 131}, d);  // enough for two threads
  run<float, float, float>(ex, {67, 33, 3, 19}, d);
  run<graft::bfloat16, graft::bfloat16, graft::bfloat16>(ex, {1, 130, 9, 65}, d);
  run<graft::bfloat16, graft::bfloat16, graft::bfloat16>(ex, {31, 101, 21, 129}, d);
  run<graft::float16, float, graft::float16>(ex, {5, 65, 7, 33}, d);
  run<graft::float16, float, graft::float16>(ex, {513, 7, 3, 17}, d);  // two chunks of tokens
  run<double, double, double>(ex, {5, 521, 3, 17}, d);
  run_experts<float, float>(ex, d);
  run_experts<graft::bfloat16, graft::float16>(ex, d);
  return d;
}

}  // namespace

int main() {
  digest const reference = all(graft::reference{});
  digest const serial = all(graft::serial{});
  digest const openmp = all(graft::openmp{.threads = 2});
  std::printf("%016llx\n", static_cast<unsigned long long>(reference.hash));
  if (serial.hash == reference.hash && openmp.hash == reference.hash) return 0;
  std::printf("serial %016llx openmp %016llx: the executors disagree\n", static_cast<unsigned long long>(serial.hash),
              static_cast<unsigned long long>(openmp.hash));
  return 1;
}
