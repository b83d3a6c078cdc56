// SPDX-License-Identifier: Apache-2.0
// Tensors of verbs that pass over rows: x[T, n], y[T, n], z[T, n] and vectors of n.
#pragma once

#include "support/suite.hpp"

namespace bench {

struct rows {
  rows(index_t tokens, index_t features)
      : T(tokens),
        n(features),
        x(random(T * n, 1, 2.0F)),
        y(random(T * n, 2, 2.0F)),
        z(random(T * n, 3, 2.0F)),
        d(random(n, 4, 2.0F)),
        e(random(n, 5, 2.0F)),
        signs(random(n, 6)) {
    for (float& s : signs) s = s < 0 ? -1.0F : 1.0F;
  }
  index_t T, n;
  buffer<float> x, y, z, d, e;
  buffer<float> signs;  // what may be multiplied with again and again
  [[nodiscard]] auto x_view() { return view(x, T, n); }
  [[nodiscard]] auto y_view() { return view(y, T, n); }
  [[nodiscard]] auto z_view() { return view(z, T, n); }
};

/// What an element costs, in flops and in bytes, of [T, n].
struct of_element {
  double flops = 0, read = 0, updated = 0, written = 0;
};
/// One verb at two sizes: of a second-level cache, and beyond.
inline void add_rows(std::string const& verb, of_element const& one, check_of<rows> const& check,
                     std::function<void(rows&, graft::openmp const&)> const& call) {
  for (index_t const T : {16, 1024}) {
    double const count = double(T * 4096);
    add<rows>(verb + "/" + label<float>({{"T", T}, {"n", 4096}}),
              {.flops = one.flops * count,
               .read = one.read * count,
               .updated = one.updated * count,
               .written = one.written * count},
              [=] { return rows(T, 4096); }, {check}, {{"graft", call}});
  }
}

}  // namespace bench
