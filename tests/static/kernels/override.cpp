// Which body runs is a fact of types, pinned both ways: what is fast must not silently become slow, nor the reverse.
#include <graft/kernels/override.hpp>

#include <cstddef>
#include <cstdint>

#include <graft/openmp.hpp>

using namespace graft;
using kernels::body;

namespace {

template <class T>
using rows_of = tensor_view<T, dynamic_extents<2>>;
template <class T>
using columns_of = tensor_view<T, dynamic_extents<2>, host_space, 0>;
template <class T>
using strided = tensor_view<T, dynamic_extents<2>, host_space, no_unit_dimension>;
template <class T>
using fixed = tensor_view<T, extents<dynamic, 16>>;

template <class E, class X, class A, class B, class Y>
constexpr body low_rank = kernels::low_rank_add_fn::chosen<E, X, A, B, Y>;
template <class E, class X, class A, class V>
constexpr body shrink = kernels::shrink_fn::chosen<E, X, A, V>;
template <class E, class V, class B, class Y>
constexpr body expand = kernels::expand_add_fn::chosen<E, V, B, Y>;
template <class E, class B, class A, class W>
constexpr body outer = kernels::outer_add_fn::chosen<E, B, A, W>;

/// All verbs take body `b` on E for these element types, at any strides.
template <class E, class S, class T, class O, body b>
constexpr bool all_verbs() {
  return low_rank<E, rows_of<S const>, rows_of<T const>, rows_of<T const>, rows_of<O>> == b &&
         low_rank<E, strided<S>, columns_of<T>, fixed<T const>, strided<O>> == b &&
         low_rank<E, columns_of<S>, strided<T>, columns_of<T>, columns_of<O>> == b &&
         low_rank<E, rows_of<S>, rows_of<T>, panels_view<T const>, rows_of<O>> == b &&
         shrink<E, rows_of<S const>, rows_of<T const>, rows_of<O>> == b &&
         shrink<E, strided<S>, columns_of<T>, columns_of<O>> == b &&
         shrink<E, columns_of<S const>, fixed<T>, strided<O>> == b &&
         expand<E, rows_of<S const>, rows_of<T const>, rows_of<O>> == b &&
         expand<E, columns_of<S>, strided<T const>, columns_of<O>> == b &&
         expand<E, strided<S>, panels_view<T>, strided<O>> == b &&
         outer<E, rows_of<S const>, rows_of<T const>, rows_of<O>> == b &&
         outer<E, strided<S>, columns_of<T>, columns_of<O>> == b;
}
template <class E, body b>
constexpr bool all_storage() {
  return all_verbs<E, float, float, float, b>() && all_verbs<E, bfloat16, bfloat16, bfloat16, b>() &&
         all_verbs<E, float16, float16, float16, b>() && all_verbs<E, bfloat16, float, float, b>() &&
         all_verbs<E, float, bfloat16, float16, b>() && all_verbs<E, float16, float, bfloat16, b>();
}

// Hosts: the fast body, for all storage and all strides.
static_assert(all_storage<serial, body::host>());
static_assert(all_storage<openmp, body::host>());
// The specification is the readable body.
static_assert(all_storage<reference, body::generic>());

// double takes the readable body as soon as one operand is double.
static_assert(all_verbs<serial, double, double, double, body::generic>() &&
              all_verbs<openmp, double, double, double, body::generic>());
static_assert(all_verbs<serial, double, float, float, body::generic>() &&
              all_verbs<serial, float, double, float, body::generic>() &&
              all_verbs<openmp, float, float, double, body::generic>());

/// Somebody's own host executor gets the fast bodies, somebody's league does not.
struct pool : serial {};
struct league_only {
  using space_type = host_space;
  static constexpr int row_block = 2;
  template <class Body>
  void league(index_t, std::size_t, Body const&) const {}
  void fence() const {}
};
static_assert(host_executor<pool> && all_storage<pool, body::host>());
static_assert(executor<league_only> && all_storage<league_only, body::generic>());

// A user's own 16-bit float is a scalar, and is computed with by the readable body.
struct users_float {
  std::uint16_t bits;
  explicit users_float(float) : bits(0) {}
  explicit operator float() const { return 0.0F; }
};

}  // namespace

template <>
inline constexpr bool graft::is_scalar<users_float> = true;

namespace {

static_assert(tensor<rows_of<users_float>>);
static_assert(low_rank<serial, rows_of<users_float>, rows_of<float>, rows_of<float>, rows_of<float>> == body::generic);
static_assert(shrink<openmp, rows_of<float>, rows_of<users_float const>, rows_of<float>> == body::generic);
static_assert(expand<serial, rows_of<float>, rows_of<float>, rows_of<users_float>> == body::generic);

// Rotations: host bodies of all but double.
template <class T>
using factors_of = tensor_view<T, dynamic_extents<4>>;
template <class E, class X, class R, class Y>
constexpr body rotates = kernels::rotate_blocks_fn<false, false>::chosen<E, X, R, Y>;
static_assert(rotates<serial, rows_of<float>, factors_of<float const>, rows_of<bfloat16>> == body::host);
static_assert(rotates<openmp, rows_of<float>, factors_of<double>, rows_of<float>> == body::generic);
static_assert(rotates<reference, rows_of<float>, factors_of<float>, rows_of<float>> == body::generic);
static_assert(kernels::cayley_fn::chosen<serial, rows_of<float>, tensor_view<float, dynamic_extents<3>>> == body::host);
static_assert(kernels::cayley_fn::chosen<serial, rows_of<double>, tensor_view<float, dynamic_extents<3>>> ==
              body::generic);
static_assert(rotates<league_only, rows_of<float>, factors_of<float>, rows_of<float>> == body::generic);

}  // namespace
