// SPDX-License-Identifier: Apache-2.0
/// @file
/// Where a method acts around the framework's own base layer, and what it offers. Structural: a method models a concept
/// by having the functions, and proves it with a closing static_assert.
#pragma once

#include <concepts>
#include <cstddef>
#include <string_view>
#include <tuple>

#include <graft/config.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// A member that is trained, by name.
template <class View>
struct parameter {
  std::string_view name;
  View view;
};

inline namespace GRAFT_TARGET {
/// Elements that get gradients: follows from `trainable(adapter)`.
template <class Adapter>
  requires requires(Adapter const& a) { trainable(a); }
[[nodiscard]] index_t parameter_count(Adapter const& adapter) {
  return std::apply([](auto const&... p) { return (index_t{0} + ... + p.view.size()); }, trainable(adapter));
}
}  // namespace GRAFT_TARGET

namespace detail {
/// Stand-ins that concepts call with: any executor, matrices of float.
struct archetype_executor {
  using space_type = host_space;
  static constexpr int row_block = 1;
  template <class Body>
  void league(index_t, std::size_t, Body const&) const {}
  void fence() const {}
};
using archetype_matrix = tensor_view<float, dynamic_extents<2>>;
using archetype_vector = tensor_view<float, dynamic_extents<1>>;
}  // namespace detail

/// y += delta(x).
template <class A>
concept additive_adapter = requires(detail::archetype_executor ex, A const& a, detail::archetype_matrix m) {
  add_delta(ex, a, m, m);
  { a.in_features() } -> std::same_as<index_t>;
  { a.out_features() } -> std::same_as<index_t>;
};

/// x' = transform_input(x), before the base layer: transform_input(ex, a, x, x').
template <class A>
concept input_transform =
    requires(detail::archetype_executor ex, A const& a, detail::archetype_matrix m) { transform_input(ex, a, m, m); };

/// y = transform_output(x, y), after it, without the bias: transform_output(ex, a, x, y).
template <class A>
concept output_transform =
    requires(detail::archetype_executor ex, A const& a, detail::archetype_matrix m) { transform_output(ex, a, m, m); };

/// Into W and back. An adapter with a bias also takes the base layer's: merge(ex, a, W, base_bias).
template <class A>
concept mergeable = requires(detail::archetype_executor ex, A const& a, detail::archetype_matrix m) {
  merge(ex, a, m);
  unmerge(ex, a, m);
};

/// Can be cut by output features, so that it can be merged a block of rows at a time.
template <class A>
concept row_mergeable = mergeable<A> && requires(A const& a, index_t i) {
  { output_rows(a, i, i) } -> mergeable;
};

/// Has members that are trained.
template <class A>
concept trainable_adapter = requires(A const& a) {
  trainable(a);
  { parameter_count(a) } -> std::same_as<index_t>;
};

/// Has gradients: backward(ex, a, x, dy, gradients, dx), or with an output_transform backward(ex, a, x, kept, dy, gradients,
/// dx), where dy goes out as the gradient of base(x), or with an input_transform backward_input(ex, a, x, g, gradients, dx) of
/// the gradient g of x'. `A::gradients` is its aggregate of gradients without any.
template <class A>
concept differentiable =
    trainable_adapter<A> && requires(detail::archetype_executor ex, A const& a, detail::archetype_matrix m) {
      typename A::gradients;
      requires requires { backward(ex, a, m, m, typename A::gradients{}, m); } || requires {
        backward(ex, a, m, m, m, typename A::gradients{}, m);
      } || requires { backward_input(ex, a, m, m, typename A::gradients{}, m); };
    };

inline namespace GRAFT_TARGET {
/// Calls without an executor: one sentence instead of a list of candidates. Taken only when an adapter comes first.
template <trainable_adapter A, class... Rest>
void add_delta(A const&, Rest const&...) {
  GRAFT_MANDATE_EXECUTOR("add_delta", A)
}
template <trainable_adapter A, class... Rest>
void backward(A const&, Rest const&...) {
  GRAFT_MANDATE_EXECUTOR("backward", A)
}
template <trainable_adapter A, class... Rest>
void merge(A const&, Rest const&...) {
  GRAFT_MANDATE_EXECUTOR("merge", A)
}
template <trainable_adapter A, class... Rest>
void unmerge(A const&, Rest const&...) {
  GRAFT_MANDATE_EXECUTOR("unmerge", A)
}
template <trainable_adapter A, class... Rest>
void transform_output(A const&, Rest const&...) {
  GRAFT_MANDATE_EXECUTOR("transform_output", A)
}
template <trainable_adapter A, class... Rest>
void transform_input(A const&, Rest const&...) {
  GRAFT_MANDATE_EXECUTOR("transform_input", A)
}
template <trainable_adapter A, class... Rest>
void delta_weight(A const&, Rest const&...) {
  GRAFT_MANDATE_EXECUTOR("delta_weight", A)
}
}  // namespace GRAFT_TARGET

}  // namespace graft::inline GRAFT_CONTRACT
