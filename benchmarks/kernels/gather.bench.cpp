// smoke: .*/fp32/T=64/r=16/threads=1/
// SPDX-License-Identifier: Apache-2.0
// Columns of A[r, V] by token ids, V = 32000, and the way back. A column is spread over r rows: a line of memory an element.
#include "support/suite.hpp"

namespace {
using namespace bench;

constexpr index_t V = 32000;
struct problem {
  problem(index_t tokens, index_t rank)
      : T(tokens), r(rank), A(random(r * V, 1)), u(random(T * r, 2)), ids(random_ids<index_t>(T, 3, V)) {}
  index_t T, r;
  buffer<float> A, u;
  buffer<index_t> ids;
  [[nodiscard]] auto tokens() { return graft::ids(ids.data(), T); }
  [[nodiscard]] index_t id(index_t t) const { return ids[static_cast<std::size_t>(t)]; }
};

void add_all(index_t T, index_t r) {
  double const count = double(T * r);
  auto const make = [=] { return problem(T, r); };
  auto const name = label<float>({{"T", T}, {"r", r}});
  add<problem>("check_ids/" + name, {.read = 8.0 * double(T)}, make, {},
               {{"graft", [](problem& p, auto const& ex) { graft::kernels::check_ids(ex, "gather", p.tokens(), V); }}});
  add<problem>("gather_columns/" + name, {.flops = count, .read = 4 * count + 8.0 * double(T), .written = 4 * count},
               make,
               {check(&problem::u, 1e-6,
                      [](problem const& p, index_t i) { return 0.5 * value(p.A, i % p.r * V + p.id(i / p.r)); })},
               {{"graft", [](problem& p, auto const& ex) {
                   graft::kernels::gather_columns(ex, view(p.A, p.r, V), p.tokens(), view(p.u, p.T, p.r), 0.5);
                 }}});
  add<problem>(
      "scatter_add_columns/" + name, {.flops = count, .read = 4 * count + 8.0 * double(T), .updated = 4 * count}, make,
      {check(&problem::A, 1e-5,
             [](problem const& p, index_t i) {
               return value(p.A, i) +
                      sum(p.T, [&](index_t t) { return p.id(t) == i % V ? value(p.u, t * p.r + i / V) : 0.0; });
             })},
      {{"graft", [](problem& p, auto const& ex) {
          graft::kernels::scatter_add_columns(ex, view(p.u, p.T, p.r), p.tokens(), view(p.A, p.r, V));
        }}});
}

suite const all("gather", [] {
  add_all(64, 16);
  add_all(4096, 16);
});

}  // namespace
