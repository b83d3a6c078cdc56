// SPDX-License-Identifier: Apache-2.0
/// @file
/// `with_gemm`: an executor that gives low-rank products to a matrix product of the caller's (a BLAS, Eigen, a vendor's
/// library). Opt-in, and outside the promises: the caller's product has its own order of summation.
#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/scratch.hpp>
#include <graft/kernels/expand_add.hpp>
#include <graft/kernels/low_rank_add.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/scale.hpp>
#include <graft/kernels/shrink.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
template <class V>
using read_only = decltype(as_const(std::declval<V const&>()));
template <class V>
using turned = decltype(transposed(as_const(std::declval<V const&>())));

/// `G` multiplies views of these types.
template <class G, class A, class B, class C>
concept multiplies = requires(G const& g, A const& a, B const& b, C const& c) { g(a, b, c, 1.0, 0.0); };

/// Of row-major matrices, in one of the memory spaces.
template <class G, class Value, class Space>
concept multiplies_rows =
    multiplies<G, tensor_view<Value const, dynamic_extents<2>, Space>,
               tensor_view<Value const, dynamic_extents<2>, Space>, tensor_view<Value, dynamic_extents<2>, Space>>;
template <class G, class Value>
concept multiplies_somewhere = multiplies_rows<G, Value, host_space> || multiplies_rows<G, Value, device_space>;

/// v of `low_rank_add` in scratch.
template <class E, class X, class A>
using low_rank_v =
    decltype(std::declval<call_scratch<E> const&>()
                 .template view<accumulate_t<typename X::value_type, typename A::value_type>>(index_t{}, index_t{}));
}  // namespace detail

/// A matrix product of somebody else's:
///
///     g(A, B, C, alpha, beta)    C = alpha A B + beta C    A[M, K] and B[K, N] of const, C[M, N]; none of M, N, K is 0
///     G::batch_invariant         does a row of C have the same bits whatever the other rows are, for any threads?
///
/// beta is 0 (C is not read) or 1, alpha and beta are double. Which dimension lies side by side is part of a view's type
/// (`unit_dimension`), so a product that wants one constrains its parameters; the other stride is the caller's, of A and B also
/// 0 or negative, which a BLAS does not take. C shares no memory with A or B. It must be constrained to what it multiplies:
/// graft's own bodies run for all else. On a device it enqueues on the stream of its executor. What it throws passes through;
/// C is unspecified then. Calls from several threads at once are its own to allow.
template <class G>
concept gemm_provider =
    std::copyable<G> && (detail::multiplies_somewhere<G, float> || detail::multiplies_somewhere<G, double>) &&
    requires {
      { G::batch_invariant } -> std::convertible_to<bool>;
    };

/// The executor `E`, whose `shrink`, `expand_add` (so also `outer_add`, merging and every backward) and `low_rank_add` multiply by
/// `gemm` where it takes the views. `kernels::shrink_fn::chosen<with_gemm<E, G>, ...>` says so: `kernels::body::gemm`.
///
///     graft::with_gemm ex{graft::openmp{.threads = 8}, graft::eigen_gemm{}};
///     graft::add_delta(ex, lora, x, y);
///
/// Graft's own bodies stay: for packed B, for `low_rank_add` with factors of outputs (DoRA, VeRA), for mixes of scalars that the
/// product does not take, and for every other verb. Which one runs is a fact of types, never of extents.
/// Promises: those of `gemm`; bits are not those of other executors, and unless `batch_invariant` a row's depend on its batch.
/// Scratch: `low_rank_add` keeps v[T, r] of fp32 or fp64.
template <class E, class G>
struct with_gemm : E {
  static_assert(executor<E>, "graft::with_gemm: the first argument must be an executor, for example graft::serial{}");
  static_assert(
      gemm_provider<G>,
      "graft::with_gemm: the second argument must be a gemm_provider: it says batch_invariant, and multiplies "
      "row-major views of float or double, g(A, B, C, alpha, beta)");
  [[no_unique_address]] G gemm{};
};
template <class E, class G>
with_gemm(E, G) -> with_gemm<E, G>;

namespace kernels {

template <class E, class G, class X, class A, class V>
  requires graft::detail::multiplies<G, graft::detail::read_only<X>, graft::detail::turned<A>, V>
struct override_for<shrink_fn, with_gemm<E, G>, X, A, V> {
  static constexpr body which = body::gemm;
  static void run(with_gemm<E, G> const& ex, X const& x, A const& a, V const& v, scaling scale) {
    if (x.extent(1) == 0) return shrink_fn{}.generic(ex, x, a, v, scale);
    if (v.size() != 0) ex.gemm(as_const(x), transposed(as_const(a)), v, scale.value(), 0.0);
  }
  static std::size_t scratch_bytes(with_gemm<E, G> const&, X const&, A const&, V const&, scaling) { return 0; }
};

template <class E, class G, class V, class B, class Y>
  requires graft::detail::multiplies<G, graft::detail::read_only<V>, graft::detail::turned<B>, Y>
struct override_for<expand_add_fn, with_gemm<E, G>, V, B, Y> {
  static constexpr body which = body::gemm;
  static void run(with_gemm<E, G> const& ex, V const& v, B const& b, Y const& y, scaling scale) {
    if (y.size() != 0 && v.extent(1) != 0) ex.gemm(as_const(v), transposed(as_const(b)), y, scale.value(), 1.0);
  }
  static std::size_t scratch_bytes(with_gemm<E, G> const&, V const&, B const&, Y const&, scaling) { return 0; }
};

template <class E, class G, class X, class A, class B, class Y, class D>
  requires(shrink_fn::chosen<with_gemm<E, G>, X, A, graft::detail::low_rank_v<with_gemm<E, G>, X, A>> == body::gemm &&
           expand_add_fn::chosen<with_gemm<E, G>, graft::detail::low_rank_v<with_gemm<E, G>, X, A>, B, Y> == body::gemm)
struct override_for<low_rank_add_fn, with_gemm<E, G>, X, A, B, Y, low_rank_factors<D, none_t, none_t>> {
  using value = accumulate_t<typename X::value_type, typename A::value_type>;
  using factors_t = low_rank_factors<D, none_t, none_t>;
  static constexpr body which = body::gemm;
  static void run(with_gemm<E, G> const& ex, X const& x, A const& a, B const& b, Y const& y, scaling scale,
                  factors_t const& f) {
    if (y.size() == 0 || a.extent(0) == 0) return;
    graft::detail::call_scratch const memory(ex, scratch_bytes(ex, x, a, b, y, scale, f));
    auto const v = memory.template view<value>(x.extent(0), a.extent(0));
    shrink(ex, x, a, v, scale);
    if constexpr (tensor<D>) scale_columns(ex, f.rank, v);
    expand_add(ex, v, b, y);
  }
  static std::size_t scratch_bytes(with_gemm<E, G> const&, X const& x, A const& a, B const&, Y const&, scaling,
                                   factors_t const&) {
    return sizeof(value) * static_cast<std::size_t>(x.extent(0) * a.extent(0));
  }
};

}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
