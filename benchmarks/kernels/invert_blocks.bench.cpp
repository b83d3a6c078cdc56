// smoke: fp32/D=16/b=4/threads=1/
// SPDX-License-Identifier: Apache-2.0
// Inverses of many small matrices in fp64, once a merge. The bound is that of fp32's multiply-adds.
#include "support/square.hpp"
#include "support/suite.hpp"

namespace {
using namespace bench;

struct problem {
  problem(index_t count, index_t size)
      : D(count), b(size), R(random(D * b * b, 1, 0.1F)), M(filled<double>(D * b * b)) {
    for (index_t k = 0; k < D; ++k)
      for (index_t i = 0; i < b; ++i) R[static_cast<std::size_t>((k * b + i) * b + i)] += 1;
  }
  index_t D, b;
  buffer<float> R;
  buffer<double> M;
};

void add_all(index_t D, index_t b) {
  double const count = double(D * b * b);
  add<problem>(
      label<float>({{"D", D}, {"b", b}}), {.flops = 4 * count * double(b), .read = 4 * count, .written = 8 * count},
      [=] { return problem(D, b); },
      {check(&problem::M, 1e-9,
             [](problem const& p, index_t i) { return square(p.R, i / (p.b * p.b), p.b).inverse()[i % (p.b * p.b)]; })},
      {{"graft", [](problem& p, auto const& ex) {
          graft::kernels::invert_blocks(ex, blocks(p.R, p.D, p.b), blocks(p.M, p.D, p.b));
        }}});
}

suite const all("invert_blocks", [] {
  add_all(16, 4);
  add_all(128, 32);
});

}  // namespace
