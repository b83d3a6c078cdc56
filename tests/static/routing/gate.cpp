// Which body a gate takes is a fact of types, pinned both ways; which rules its host body computes is one of values.
#include <graft/kernels/gate.hpp>

#include <cstdint>

#include <graft/openmp.hpp>

using namespace graft;
using kernels::body;

namespace {

template <class T>
using rows_of = tensor_view<T, dynamic_extents<2>>;
template <class T>
using strided = tensor_view<T, dynamic_extents<2>, host_space, no_unit_dimension>;
using bias_of = tensor_view<float const, dynamic_extents<1>>;
using ids = rows_of<std::int32_t>;
using wide_ids = strided<std::int64_t>;

template <class E, class Z, class B, class I, class W>
constexpr body gate = kernels::gate_fn::chosen<E, Z, B, I, W>;

static_assert(gate<serial, rows_of<float const>, none_t, ids, rows_of<float>> == body::host);
static_assert(gate<openmp, strided<bfloat16>, none_t, wide_ids, strided<float16>> == body::host);
static_assert(gate<serial, rows_of<double>, none_t, ids, rows_of<float>> == body::generic);
static_assert(gate<serial, rows_of<float>, none_t, ids, rows_of<double>> == body::generic);
static_assert(gate<serial, rows_of<float>, bias_of, ids, rows_of<float>> == body::generic);
static_assert(gate<reference, rows_of<float>, none_t, ids, rows_of<float>> == body::generic);

}  // namespace
