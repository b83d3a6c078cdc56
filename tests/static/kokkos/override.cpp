// What body a call on Kokkos takes: pinned both ways.
#include <graft/kokkos.hpp>

#include <type_traits>
#include <utility>

#include "support/executors.hpp"
#include "support/layouts.hpp"

namespace {

using graft::bfloat16;
using graft::float16;
using graft::kernels::body;
using tests::any_view;
using kokkos = graft::kokkos_executor<>;
using device = tests::kokkos_device_bodies;

static_assert(std::is_same_v<kokkos, graft::kokkos_executor<Kokkos::DefaultExecutionSpace>>);
static_assert(graft::executor<kokkos> && graft::host_executor<kokkos>);
static_assert(graft::executor<device> && !graft::host_executor<device>);
static_assert(std::is_same_v<kokkos::space_type, graft::host_space>);

template <class E, class X, class A, class B, class Y>
constexpr body low_rank =
    graft::kernels::low_rank_add_fn::chosen<E, any_view<X>, any_view<A>, any_view<B>, any_view<Y>>;
static_assert(low_rank<kokkos, float, float, float, float> == body::host);
static_assert(low_rank<kokkos, bfloat16, float16, bfloat16, float> == body::host);
static_assert(low_rank<kokkos, float, float, float, double> == body::generic);
static_assert(low_rank<kokkos, double, float, float, float> == body::generic);
static_assert(low_rank<device, float, float, float, float> == body::generic);
static_assert(low_rank<device, bfloat16, bfloat16, bfloat16, bfloat16> == body::generic);
static_assert(low_rank<kokkos, bfloat16, bfloat16, bfloat16, bfloat16> == body::host);
static_assert(low_rank<kokkos, float16, float, bfloat16, float16> == body::host);
static_assert(low_rank<kokkos, double, double, double, double> == body::generic);
template <class E, class T>
constexpr body packed = graft::kernels::low_rank_add_fn::chosen<E, any_view<float>, any_view<float>,
                                                                graft::panels_view<T const>, any_view<float>>;
static_assert(packed<kokkos, float> == body::host && packed<kokkos, bfloat16> == body::host);
static_assert(packed<kokkos, double> == body::generic && packed<device, float> == body::generic);

template <class E, class T>
constexpr body shrink = graft::kernels::shrink_fn::chosen<E, any_view<T>, any_view<T>, any_view<T>>;
template <class E, class T>
constexpr body expand = graft::kernels::expand_add_fn::chosen<E, any_view<T>, any_view<T>, any_view<T>>;
template <class E, class T>
constexpr body outer = graft::kernels::outer_add_fn::chosen<E, any_view<T>, any_view<T>, any_view<T>>;
static_assert(shrink<kokkos, float16> == body::host && shrink<kokkos, double> == body::generic);
static_assert(expand<kokkos, float16> == body::host && expand<kokkos, double> == body::generic);
static_assert(outer<kokkos, float> == body::host && outer<kokkos, double> == body::generic);
static_assert(shrink<device, float> == body::generic && expand<device, float> == body::generic);
static_assert(outer<device, float> == body::generic);
template <class E, class V, class B, class Y>
constexpr body mixed_expand = graft::kernels::expand_add_fn::chosen<E, any_view<V>, any_view<B>, any_view<Y>>;
static_assert(mixed_expand<kokkos, float, bfloat16, float16> == body::host);
static_assert(mixed_expand<kokkos, float, bfloat16, double> == body::generic);
static_assert(mixed_expand<device, float, bfloat16, float16> == body::generic);

// A call from Views, as users make it.
template <class V>
using seen = decltype(graft::view(std::declval<V const&>()));
using right = seen<Kokkos::View<float**, Kokkos::LayoutRight>>;
using left = seen<Kokkos::View<float const**, Kokkos::LayoutLeft>>;
static_assert(graft::kernels::low_rank_add_fn::chosen<kokkos, left, left, left, right> == body::host);

// Spaces: shared memory is everybody's, a device's is not the host's.
template <class Space>
using in = graft::tensor_view<float, graft::dynamic_extents<2>, Space>;
struct device_executor : device {
  using space_type = graft::device_space;
};
static_assert(graft::can_access<kokkos, in<graft::host_space>> && graft::can_access<kokkos, in<graft::shared_space>>);
static_assert(!graft::can_access<kokkos, in<graft::device_space>>);
static_assert(graft::can_access<graft::serial, in<graft::shared_space>> &&
              graft::can_access<graft::reference, in<graft::shared_space>>);
static_assert(graft::can_access<device_executor, in<graft::device_space>>);
static_assert(graft::can_access<device_executor, in<graft::shared_space>>);
static_assert(!graft::can_access<device_executor, in<graft::host_space>>);

}  // namespace
