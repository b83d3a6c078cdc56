// One low-rank product with what `reference` makes of it.
#pragma once

#include <string>

#include <graft/graft.hpp>

#include "support/bits.hpp"
#include "support/layouts.hpp"

namespace tests {

template <class S>
struct low_rank_product {
  matrix<S> x, a, b, y, expected;
  low_rank_product(graft::index_t T, graft::index_t n, graft::index_t r, graft::index_t m)
      : x(T, n, layout::padded, 1),
        a(r, n, layout::contiguous, 2),
        b(m, r, layout::transposed, 3),
        y(T, m, layout::contiguous, 4),
        expected(T, m, layout::contiguous, 4) {
    graft::kernels::low_rank_add(graft::reference{}, x.view(), a.view(), b.view(), expected.view(), 0.7);
  }
  /// On y as it is.
  template <class E>
  void call(E const& ex) {
    graft::kernels::low_rank_add(ex, x.view(), a.view(), b.view(), y.view(), 0.7);
  }
  template <class E>
  void generic(E const& ex) {
    graft::kernels::low_rank_add.generic(ex, x.view(), a.view(), b.view(), y.view(), 0.7);
  }
  /// y as it was at first.
  void reset() { y.fill(4); }
  [[nodiscard]] std::string wrong() {
    return tests::differences(graft::as_const(y.view()), graft::as_const(expected.view()));
  }
};

}  // namespace tests
