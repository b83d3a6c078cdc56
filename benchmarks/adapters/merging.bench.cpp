// smoke: .*/(fp32|bf16)/m=512/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// Two LoRAs in one weight of n = 4096 columns, and one in place of the other; a 16-bit weight is rounded once.
#include "support/suite.hpp"

namespace {
using namespace bench;

template <class T>
struct problem : low_rank<T> {
  explicit problem(shape const& of) : low_rank<T>(of), W(random<T>(of.m * of.n, 5)) {}
  buffer<T> W;
  [[nodiscard]] auto W_view() { return view(W, this->s.m, this->s.n); }
};

template <class T>
void add_all(index_t m, index_t r) {
  using P = problem<T>;
  shape const s{1, r, 4096, m};
  auto const want = [=](double scale) {
    return check(&P::W, tolerance<T>, [=](P const& p, index_t i) {
      return value(p.W, i) +
             scale * sum(r, [&](index_t j) { return value(p.B, i / s.n * r + j) * value(p.A, j * s.n + i % s.n); });
    });
  };
  work const of{.flops = 4.0 * double(m * s.n * r),
                .read = double(sizeof(T)) * double(r * (m + s.n)),
                .updated = double(sizeof(T)) * double(m * s.n)};
  auto const make = [=] { return P(s); };
  add<P>("merge_all/" + label<T>({{"m", m}, {"r", r}}), of, make, {want(0.75)},
         {{"graft", [](P& p, auto const& ex) { merge_all(ex, p.W_view(), p.lora(0.5), p.lora(0.25)); }}});
  add<P>("switch_adapter/" + label<T>({{"m", m}, {"r", r}}), of, make, {want(-0.25)},
         {{"graft", [](P& p, auto const& ex) { switch_adapter(ex, p.lora(0.5), p.lora(0.25), p.W_view()); }}});
}

suite const all("merging", [] {
  for (index_t const m : {512, 4096}) {
    add_all<float>(m, 16);
    add_all<graft::bfloat16>(m, 16);
  }
});

}  // namespace
