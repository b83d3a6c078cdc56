// smoke: .*/T=16/.*threads=1/
// SPDX-License-Identifier: Apache-2.0
// Elements from one view to another, as they are, transposed, and rounded to 16 bits.
#include "support/rows.hpp"

namespace {
using namespace bench;

struct narrowed : rows {
  using rows::rows;
  buffer<graft::bfloat16> narrow = filled<graft::bfloat16>(T * n);
};

suite const all("copy", [] {
  add_rows("plain", {.read = 4, .written = 4},
           check(&rows::y, 0, [](rows const& p, index_t i) { return value(p.x, i); }),
           [](rows& p, auto const& ex) { graft::kernels::copy(ex, p.x_view(), p.y_view()); });
  add_rows(
      "transposed", {.read = 4, .written = 4},
      check(&rows::y, 0, [](rows const& p, index_t i) { return value(p.x, i % p.T * p.n + i / p.T); }),
      [](rows& p, auto const& ex) { graft::kernels::copy(ex, graft::transposed(p.x_view()), view(p.y, p.n, p.T)); });
  for (index_t const T : {16, 1024})
    add<narrowed>(
        "narrowed/" + label<graft::bfloat16>({{"T", T}, {"n", 4096}}),
        {.read = 4.0 * double(T * 4096), .written = 2.0 * double(T * 4096)}, [=] { return narrowed(T, 4096); },
        {check(&narrowed::narrow, 0x1p-9, [](narrowed const& p, index_t i) { return value(p.x, i); })},
        {{"graft",
          [](narrowed& p, auto const& ex) { graft::kernels::copy(ex, p.x_view(), view(p.narrow, p.T, p.n)); }}});
});

}  // namespace
