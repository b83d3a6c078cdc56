// expect: graft::with_gemm: the first argument must be an executor
// expect: graft::with_gemm: the second argument must be a gemm_provider
#include <graft/kernels/gemm.hpp>

#include "support/mistakes.hpp"

struct product {
  static constexpr bool batch_invariant = false;
  template <class A, class B, class C>
  void operator()(A const&, B const&, C const&, double, double) const {}
};
struct no_product {
  static constexpr bool batch_invariant = false;
};

template struct graft::with_gemm<either<graft::serial, no_executor>, product>;
template struct graft::with_gemm<graft::openmp, either<product, no_product>>;
