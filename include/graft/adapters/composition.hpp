// SPDX-License-Identifier: Apache-2.0
/// @file
/// `adapted_linear`: any adapters around the framework's own base layer, and the way back.
///
///     k-th adapter, from the inside out: y_k(x) = transform_output_k(x, y_(k-1)(transform_input_k(x)) + delta_k(x))
///     y_0 = base, any callable, without its bias        y = y_K + bias; before the first that scales the bias too, if one does
///
/// Each adapter acts on what the ones before it made of the layer, so it is the layer that merging them in the same order
/// gives (W_k = diag(c_k) (W_(k-1) + s_k B_k A_k) for DoRAs, the sum of all deltas for LoRAs).
#pragma once

#include <cstddef>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include <graft/adapters/concepts.hpp>
#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/bias.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// The framework's layer: forward(x, y) writes y = x W^T; backward(dy, dx) adds dy W to dx; the bias is added after the
/// adapters, before those that scale it. What is not used may be `graft::none`. A bare callable is a layer with forward.
template <class Forward, class Backward = none_t, class Bias = none_t, class BiasGradient = none_t>
struct base_layer {
  Forward forward;
  [[no_unique_address]] Backward backward{};
  [[no_unique_address]] Bias bias{};
  /// The gradient of the bias is added here.
  [[no_unique_address]] BiasGradient bias_gradient{};
};

/// An adapter that is trained: where its gradients go, and with an output_transform kept[T, m], which forward writes and
/// backward reads.
template <class Adapter, class Gradients, class Kept = none_t>
struct trained {
  Adapter adapter;
  Gradients gradients;
  [[no_unique_address]] Kept kept{};
};

namespace detail {
template <class T>
inline constexpr bool is_trained = false;
template <class A, class G, class K>
inline constexpr bool is_trained<trained<A, G, K>> = true;

template <class T>
struct adapter_of {
  using type = T;
  static T const& get(T const& a) { return a; }
};
template <class A, class G, class K>
struct adapter_of<trained<A, G, K>> {
  using type = A;
  static A const& get(trained<A, G, K> const& t) { return t.adapter; }
};

template <class T>
inline constexpr bool is_base_layer = false;
template <class... T>
inline constexpr bool is_base_layer<base_layer<T...>> = true;

/// Its own bias would be scaled by what comes after it, where merging leaves biases alone.
template <class A>
inline constexpr bool brings_bias = is_there<bias_of_t<A>>;

/// Something that acts at one of the three places.
template <class T, class E, class X, class Y>
concept acts = requires(E const& ex, typename adapter_of<T>::type const& a, X const& x, Y const& y) {
  add_delta(ex, a, x, y);
} || requires(E const& ex, typename adapter_of<T>::type const& a, X const& x, Y const& y) {
  transform_output(ex, a, x, y);
} || requires(E const& ex, typename adapter_of<T>::type const& a, X const& x) { transform_input(ex, a, x, x); };

/// Does an adapter with a bias of its own stand before an output_transform?
template <class Tuple, std::size_t... At>
consteval bool biases_last(std::index_sequence<At...>) {
  bool seen = false;
  bool good = true;
  [[maybe_unused]] auto const next = [&](bool has_bias, bool transforms) {
    if (transforms && seen) good = false;
    if (has_bias) seen = true;
  };
  (next(brings_bias<typename adapter_of<std::tuple_element_t<At, Tuple>>::type>,
        output_transform<typename adapter_of<std::tuple_element_t<At, Tuple>>::type>),
   ...);
  return good;
}

/// Does its transform_output act on the bias as well?
template <class A>
inline constexpr bool scales_bias = [] {
  if constexpr (requires { A::scales_bias; }) return bool(A::scales_bias);
  else return false;
}();
/// How many adapters act before the base's bias is added.
template <class... A>
consteval std::size_t bias_place(std::tuple<A...> const*) {
  std::size_t place = 0;
  [[maybe_unused]] bool found = false;
  ((found = found || scales_bias<typename adapter_of<A>::type>, place += found ? 0 : 1), ...);
  return place;
}
/// Does an output_transform that leaves the bias alone stand after one that scales it?
template <class... A>
consteval bool bias_scalers_last(std::tuple<A...> const*) {
  [[maybe_unused]] bool seen = false;
  bool good = true;
  ((good =
        good && !(seen && output_transform<typename adapter_of<A>::type> && !scales_bias<typename adapter_of<A>::type>),
    seen = seen || scales_bias<typename adapter_of<A>::type>),
   ...);
  return good;
}

inline namespace GRAFT_TARGET {

template <class E, class Base, class Y>
void add_base_bias(E const& ex, Base const& base, Y const& y) {
  if constexpr (is_base_layer<Base>)
    if constexpr (is_there<std::remove_cvref_t<decltype(base.bias)>>) kernels::add_bias(ex, base.bias, y);
}

template <class Base, class X, class Y>
void call_forward(Base const& base, X const& x, Y const& y) {
  if constexpr (is_base_layer<Base>) base.forward(x, y);
  else base(x, y);
}

/// A matrix of scratch with the rows and the scalar type of x.
template <class E, class X>
class like_x {
 public:
  using value = std::remove_const_t<typename X::value_type>;
  like_x(E const& ex, X const& x, std::string_view verb)
      : rows_(x.extent(0)), columns_(x.extent(1)), memory_(ex, scratch_size(rows_, columns_, sizeof(value), verb)) {}
  [[nodiscard]] auto view() const { return memory_.template view<value>(rows_, columns_); }

 private:
  index_t rows_;
  index_t columns_;
  call_scratch<E> memory_;
};

/// y_K of the first K adapters; the bias after `Place` of them.
template <std::size_t K, std::size_t Place, class E, class Base, class Adapters, class X, class Y>
void forward_of(E const& ex, Base const& base, Adapters const& adapters, X const& x, Y const& y) {
  if constexpr (K == 0) call_forward(base, x, y);
  else {
    auto const& given = std::get<K - 1>(adapters);
    using given_t = std::remove_cvref_t<decltype(given)>;
    auto const& a = adapter_of<given_t>::get(given);
    if constexpr (requires { transform_input(ex, a, x, x); }) {
      like_x<E, X> const turned(ex, x, "adapted_linear");
      transform_input(ex, a, x, turned.view());
      forward_of<K - 1, Place>(ex, base, adapters, as_const(turned.view()), y);
    } else forward_of<K - 1, Place>(ex, base, adapters, x, y);
    if constexpr (requires { add_delta(ex, a, x, y); }) add_delta(ex, a, x, y);
    if constexpr (requires { transform_output(ex, a, x, y); }) {
      if constexpr (is_trained<given_t>) transform_output(ex, a, x, y, given.kept);
      else transform_output(ex, a, x, y);
    }
  }
  if constexpr (K == Place) add_base_bias(ex, base, y);
}

/// dx += of the first K adapters and the base.
template <std::size_t K, std::size_t Place, class E, class Base, class Adapters, class X, class DY, class DX>
void backward_of(E const& ex, Base const& base, Adapters const& adapters, X const& x, DY const& dy, DX const& dx) {
  if constexpr (K == Place)
    if constexpr (is_there<std::remove_cvref_t<decltype(base.bias_gradient)>>)
      kernels::sum_rows(ex, dy, base.bias_gradient);
  if constexpr (K == 0) {
    if constexpr (is_there<DX>) base.backward(as_const(dy), dx);
  } else {
    auto const& t = std::get<K - 1>(adapters);
    auto const& a = t.adapter;
    if constexpr (requires { backward(ex, a, x, t.kept, dy, t.gradients, dx); })
      backward(ex, a, x, t.kept, dy, t.gradients, dx);
    else if constexpr (requires { add_delta(ex, a, x, dy); }) backward(ex, a, x, as_const(dy), t.gradients, dx);
    if constexpr (requires { transform_input(ex, a, x, x); }) {
      like_x<E, X> const turned(ex, x, "adapted_linear_backward");
      like_x<E, X> const gradient(ex, x, "adapted_linear_backward");
      transform_input(ex, a, x, turned.view());
      fill_zero(ex, gradient.view());
      backward_of<K - 1, Place>(ex, base, adapters, as_const(turned.view()), dy, gradient.view());
      backward_input(ex, a, x, as_const(gradient.view()), t.gradients, dx);
    } else backward_of<K - 1, Place>(ex, base, adapters, x, dy, dx);
  }
}

/// f(adapters, second last, last) of base, adapters..., a, b.
template <std::size_t... At, class Tuple, class F>
decltype(auto) with_last(std::index_sequence<At...>, Tuple const& all, F const& f) {
  constexpr std::size_t n = std::tuple_size_v<Tuple>;
  return f(std::tie(std::get<At>(all)...), std::get<n - 2>(all), std::get<n - 1>(all));
}

}  // namespace GRAFT_TARGET

/// The tuple without references.
template <class Tuple>
struct values_of;
template <class... T>
struct values_of<std::tuple<T...>> {
  using type = std::tuple<std::remove_cvref_t<T>...>;
};

template <class E, class X, class Y, class... A>
consteval bool mandates_chain(std::tuple<A...> const*) {
  GRAFT_MANDATE_EXECUTOR("adapted_linear", E)
  GRAFT_MANDATE_OUTPUT("adapted_linear", "y", E, Y, 2)
  static_assert(
      (acts<A, E, X, Y> && ...),
      "graft::adapted_linear: every argument between base and x must be an adapter with add_delta, transform_input or "
      "transform_output for these views (a dora needs norms)");
  static_assert(
      biases_last<std::tuple<A...>>(std::index_sequence_for<A...>{}),
      "graft::adapted_linear: an adapter with a bias of its own stands before one that scales the output, which would "
      "scale that bias, where merging does not; put it last");
  static_assert(bias_scalers_last(static_cast<std::tuple<A...> const*>(nullptr)),
                "graft::adapted_linear: an adapter that scales the output but not the base's bias stands after one "
                "that scales both; "
                "put it before");
  return accepted_output<E, Y, 2> && (acts<A, E, X, Y> && ...) &&
         bias_scalers_last(static_cast<std::tuple<A...> const*>(nullptr)) &&
         biases_last<std::tuple<A...>>(std::index_sequence_for<A...>{});
}
template <class... A>
consteval bool mandates_chain_backward(std::tuple<A...> const*) {
  static_assert((is_trained<A> && ...),
                "graft::adapted_linear_backward: every adapter must be a graft::trained{.adapter, .gradients, .kept}");
  return (is_trained<A> && ...);
}
}  // namespace detail

inline namespace GRAFT_TARGET {

/// adapted_linear(ex, base, adapters..., x, y): y = the layer with its adapters, from the inside out.
///
/// `base` is a callable base(x, y) that writes y = x W^T, or a `base_layer` with a bias; an adapter is anything with add_delta,
/// transform_input or transform_output, or a `trained` of it, whose output_transform then keeps what backward needs.
///
/// Shapes       x[T, n] in (of embeddings: ids[T]); y[T, m] out.
/// Aliasing     y may not overlap x or an adapter.
/// Precision    that of the adapters, one after the other; 16-bit y is rounded after each.
/// Cost         the base's and the adapters'.
/// Scratch      the adapters'; an input_transform takes T n elements more. Nothing else is allocated.
/// Errors       those of the adapters: a misfit of a later one is found after the base has written y.
template <class E, class Base, class... Arguments>
  requires(sizeof...(Arguments) >= 2)
void adapted_linear(E const& ex, Base const& base, Arguments const&... arguments) {
  constexpr std::size_t count = sizeof...(Arguments) - 2;
  detail::with_last(std::make_index_sequence<count>{}, std::tie(arguments...),
                    [&]<class X, class Y>(auto const& adapters, X const& x, Y const& y) {
                      using types = typename detail::values_of<std::remove_cvref_t<decltype(adapters)>>::type;
                      if constexpr (detail::mandates_chain<E, X, Y>(static_cast<types const*>(nullptr))) {
                        constexpr std::size_t place = detail::bias_place(static_cast<types const*>(nullptr));
                        detail::forward_of<count, place>(ex, base, adapters, x, y);
                      }
                    });
}

/// adapted_linear_backward(ex, base, trained..., x, dy, dx): gradients of everything, added to what is there.
///
/// Shapes       x[T, n] as forward had it; dy[T, m] comes in as the gradient of y and goes out as that of the base's output
///              where an output_transform takes part (dy is then overwritten; the gradient of W is dy^T x); dx[T, n] in and
///              out, or `graft::none`.
/// Everything else: that of the adapters' backward. An input_transform takes 2 T n elements of scratch and, since its base
/// must be differentiated, dx. The gradient of the base's bias is the sum over tokens of dy where the bias was added.
template <class E, class Base, class... Arguments>
  requires(sizeof...(Arguments) >= 3)
void adapted_linear_backward(E const& ex, Base const& base, Arguments const&... arguments) {
  constexpr std::size_t count = sizeof...(Arguments) - 3;
  static_assert(detail::is_base_layer<Base>,
                "graft::adapted_linear_backward: base must be a graft::base_layer{.forward, .backward}");
  if constexpr (detail::is_base_layer<Base>)
    detail::with_last(std::make_index_sequence<count + 1>{}, std::tie(arguments...),
                      [&]<class DY, class DX>(auto const& adapters_and_x, DY const& dy, DX const& dx) {
                        [&]<std::size_t... At>(std::index_sequence<At...>) {
                          auto const adapters = std::tie(std::get<At>(adapters_and_x)...);
                          using types = typename detail::values_of<std::remove_cvref_t<decltype(adapters)>>::type;
                          if constexpr (detail::mandates_chain_backward(static_cast<types const*>(nullptr))) {
                            constexpr std::size_t place = detail::bias_place(static_cast<types const*>(nullptr));
                            detail::backward_of<count, place>(ex, base, adapters, std::get<count>(adapters_and_x), dy,
                                                              dx);
                          }
                        }(std::make_index_sequence<count>{});
                      });
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
