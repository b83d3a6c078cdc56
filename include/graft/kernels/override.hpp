// SPDX-License-Identifier: Apache-2.0
/// @file
/// The one override mechanism: which body of a verb runs for which executor and views. A compile-time fact, pinned by
/// tests both ways.
#pragma once

#include <cstddef>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/view/concepts.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
/// Every argument that mandates have accepted.
template <class E, class... V> concept accepted = executor<E> && ((tensor<V> && can_access<E, V>) && ...);
template <class E, class V, std::size_t Rank> concept accepted_input = accepted<E, V> && V::rank() == Rank;
template <class E, class V, std::size_t Rank> concept accepted_output = accepted_input<E, V, Rank> && output_view<V>;
/// A vector of factors, or none.
template <class E, class F> concept accepted_factor = std::is_same_v<F, none_t> || accepted_input<E, F, 1>;

template <class V>
struct value_or_float_of {
  using type = float;
};
template <tensor V>
struct value_or_float_of<V> {
  using type = typename V::value_type;
};
/// The scalar of a view that may be `none`.
template <class V>
using value_or_float = typename value_or_float_of<V>::type;

inline namespace GRAFT_TARGET {
/// Factor `i` of a vector of factors; `graft::none` is one of ones.
template <class Accumulate, class F>
GRAFT_FN Accumulate factor(F const& f, index_t i) {
  if constexpr (std::is_same_v<F, none_t>) return Accumulate{1};
  else return load_as<Accumulate>(f(i));
}

/// What a league of `size` teams with `bytes` each takes from the executor's resource; 0 where the executor does not say.
template <class E>
[[nodiscard]] std::size_t league_bytes(E const& ex, index_t size, std::size_t bytes) {
  if constexpr (requires { ex.league_scratch(size, bytes); }) return ex.league_scratch(size, bytes);
  else return 0;
}
}  // namespace GRAFT_TARGET
template <class E, class V, std::size_t Rank>
concept accepted_id_view = executor<E> && id_view<V> && can_access<E, V> && V::rank() == Rank;
template <class E, class V, std::size_t Rank>
concept accepted_id_output = accepted_id_view<E, V, Rank> && !std::is_const_v<typename V::element_type>;
}  // namespace detail

namespace kernels {

/// Bodies of a verb. `generic` is the readable one that every backend can run; `gemm` gives products to the caller's (gemm.hpp).
enum class body { generic, host, gemm };

/// No override. A specialisation has `static constexpr body which`, `static void run(ex, arguments...)` and, with the same
/// arguments, `static std::size_t scratch_bytes`.
/// A class template, not an overload found by ADL: a late specialisation of it is an error, where a late overload would
/// silently be ignored in one translation unit and taken in another.
template <class Verb, class Exec, class... Args>
struct override_for {
  static constexpr body which = body::generic;
};

/// Storage that host bodies take, at any mix and any strides. `double` takes the generic body.
template <class V>
concept host_storage =
    tensor<V> && (std::is_same_v<typename V::value_type, float> || std::is_same_v<typename V::value_type, bfloat16> ||
                  std::is_same_v<typename V::value_type, float16>);

}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
