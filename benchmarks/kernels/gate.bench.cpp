// smoke: .*/fp32/T=64/E=64/k=2/threads=1/
// SPDX-License-Identifier: Apache-2.0
// Softmax gates with renormalized and with plain weights, beside std::partial_sort of the indices of each row (ties to the lower index)
// and std::exp. A row is read once. Exponentials count as no flops.
#include "support/routed.hpp"

namespace {
using namespace bench;

void with_partial_sort(routed& r, bool renormalize) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(r.E));
  for (index_t t = 0; t < r.T; ++t) {
    float const* const row = r.z.data() + t * r.E;
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + r.k, order.end(),
                      [&](std::int32_t a, std::int32_t b) { return row[a] > row[b] || (row[a] == row[b] && a < b); });
    float const most = row[order[0]];
    float all = 0;
    if (!renormalize)
      for (index_t e = 0; e < r.E; ++e) all += std::exp(row[e] - most);
    for (index_t s = 0; s < r.k; ++s) {
      auto const at = static_cast<std::size_t>(t * r.k + s);
      r.ids[at] = order[static_cast<std::size_t>(s)];
      r.w[at] = std::exp(row[r.ids[at]] - most);
      if (renormalize) all += r.w[at];
    }
    for (index_t s = 0; s < r.k; ++s) r.w[static_cast<std::size_t>(t * r.k + s)] /= all;
  }
}

void add_all(bool renormalize, index_t T, index_t E, index_t k) {
  add<routed>(
      std::string(renormalize ? "renormalized/" : "plain/") + label<float>({{"T", T}, {"E", E}, {"k", k}}),
      {.flops = double(T * (E + 2 * k)), .read = 4.0 * double(T * E), .written = 8.0 * double(T * k)},
      [=] { return routed(T, E, k); },
      {check(&routed::ids, 0,
             [](routed const& r, index_t i) { return double(r.order(i / r.k)[static_cast<std::size_t>(i % r.k)]); }),
       check(&routed::w, 1e-5,
             [=](routed const& r, index_t i) {
               index_t const t = i / r.k;
               auto const order = r.order(t);
               auto const p = [&](index_t s) { return r.softmax(t, order[static_cast<std::size_t>(s)]); };
               return renormalize ? p(i % r.k) / sum(r.k, p) : p(i % r.k);
             })},
      {{"graft",
        [=](routed& r, auto const& ex) {
          graft::kernels::gate(ex, graft::softmax_topk{.renormalize = renormalize}.rule(), r.logits(), graft::none,
                               r.ids_view(), r.w_view());
        }},
       {"partial_sort", [=](routed& r, auto const&) { with_partial_sort(r, renormalize); }}});
}

suite const all("gate", [] {
  for (index_t const T : {64, 4096})
    for (bool const renormalize : {true, false}) {
      for (index_t const E : {8, 64, 256}) add_all(renormalize, T, E, 2);
      if (T == 4096)
        for (index_t const E : {64, 256}) add_all(renormalize, T, E, 8);
    }
});

}  // namespace
