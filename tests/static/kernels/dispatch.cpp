// Which body dispatch, combine and the gradient of its weights take, pinned both ways.
#include <graft/kernels/combine.hpp>

#include <graft/openmp.hpp>

using namespace graft;
using kernels::body;

namespace {

template <class T>
using rows_of = tensor_view<T, dynamic_extents<2>>;
template <class T>
using strided = tensor_view<T, dynamic_extents<2>, host_space, no_unit_dimension>;
template <class T>
using list_of = tensor_view<T, dynamic_extents<1>>;

template <class E, class X, class W, class Y, body b>
constexpr bool all() {
  return kernels::dispatch_fn::chosen<E, rows_of<X const>, rows_of<Y>> == b &&
         kernels::dispatch_fn::chosen<E, strided<X>, strided<Y>, rows_of<W const>> == b &&
         kernels::combine_fn<false>::chosen<E, rows_of<X const>, none_t, rows_of<Y>> == b &&
         kernels::combine_fn<true>::chosen<E, strided<X>, list_of<W const>, strided<Y>> == b &&
         kernels::combine_backward_weights_fn::chosen<E, rows_of<X const>, strided<Y const>, rows_of<W>> == b;
}

// Hosts: the fast body, for all storage and all strides.
static_assert(all<serial, float, float, float, body::host>() && all<openmp, bfloat16, float, float16, body::host>() &&
              all<openmp, float16, bfloat16, float, body::host>());
// The specification is the readable body, and so is that of fp64.
static_assert(all<reference, float, float, float, body::generic>());
static_assert(all<serial, double, double, double, body::generic>());
static_assert(kernels::combine_fn<false>::chosen<openmp, rows_of<float>, rows_of<double>, rows_of<float>> ==
              body::generic);

}  // namespace
