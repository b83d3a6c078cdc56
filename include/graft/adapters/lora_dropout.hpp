// SPDX-License-Identifier: Apache-2.0
/// @file
/// LoRA Dropout (Lin et al. 2024, arXiv 2404.09610): masks on the factors in place of the input. Whole input features are dropped
/// from A and whole output features from B, never ranks, and nothing is rescaled:
///
///     A' = A diag(keeps_in)   B' = diag(keeps_out) B   keeps ~ Bernoulli(1 - p)   y += s (x A'^T) B'^T
///
/// so that an element of the product is dropped with probability 2 p - p^2. At inference several masks vote: the mean over N of
/// them. (In the paper, whose factors multiply in the other order, these are rows of A and columns of B.) PEFT's dropout on x
/// is `add_delta(ex, lora, dropout, ...)`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <graft/adapters/detail/low_rank.hpp>
#include <graft/adapters/detail/row_blocks.hpp>
#include <graft/adapters/lora.hpp>
#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/kernels/mask.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// A mask of a LoRA's input and output features: a function of (seed, stream, feature). Give every layer and step its own
/// stream; streams are numbered from `stream` on in an ensemble.
struct lora_dropout {
  double probability = 0.0;
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;

  /// Its two vectors of masks: inputs draw the elements 0, 1, ..., outputs 2^62, 2^62 + 1, ...
  [[nodiscard]] kernels::feature_mask inputs() const { return {{probability, seed, stream}, 0}; }
  [[nodiscard]] kernels::feature_mask outputs() const { return {{probability, seed, stream}, index_t{1} << 62U}; }
};

namespace detail {
template <class E, class L, class A, class B>
consteval bool mandates_drop() {
  GRAFT_MANDATE_EXECUTOR("drop of lora", E)
  GRAFT_MANDATE_OUTPUT("drop of lora", "A_dropped", E, A, 2)
  GRAFT_MANDATE_OUTPUT("drop of lora", "B_dropped", E, B, 2)
  GRAFT_MANDATE_INPUT("drop of lora", "A", E, decltype(L::A), 2)
  GRAFT_MANDATE_INPUT("drop of lora", "B", E, decltype(L::B), 2)
  return accepted_output<E, A, 2> && accepted_output<E, B, 2> && accepted<E, decltype(L::A), decltype(L::B)>;
}
inline namespace GRAFT_TARGET {
inline void expects_mask(std::string_view verb, lora_dropout const& mask) {
  if (!(mask.probability >= 0.0 && mask.probability < 1.0)) [[unlikely]]
    raise(argument_error(
        text("graft::", verb, ": the probability of the dropout is ", mask.probability, " but must lie in [0, 1)")));
}
}  // namespace GRAFT_TARGET
}  // namespace detail

inline namespace GRAFT_TARGET {

/// The LoRA of one mask: A and B with what is dropped set to +0, in the caller's memory. All verbs of `lora` take it;
/// for gradients see `backward_dropped`.
///
/// Shapes       A_dropped[r, n], B_dropped[m, r] out. Any strides; scalars as A and B, or wider.
/// Aliasing     they may not overlap each other or the adapter.
/// Determinism  a function of (seed, stream, feature): equal on every executor.
/// Cost         r (n + m) elements read and written, beside the 2 T r (n + m) flops of a forward; n + m rounds of Philox.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class MA, class MB, class MBias, class A, class B>
[[nodiscard]] auto drop(E const& ex, lora<MA, MB, MBias> const& l, lora_dropout const& mask, A const& a_dropped,
                        B const& b_dropped) {
  if constexpr (detail::mandates_drop<E, lora<MA, MB, MBias>, A, B>()) {
    constexpr std::string_view verb = "drop";
    detail::expects_mask(verb, mask);
    detail::expects_low_rank(verb, l);
    detail::expects_shape(verb, "A_dropped", a_dropped, "A", l.A, 0, "A", l.A, 1);
    detail::expects_shape(verb, "B_dropped", b_dropped, "B", l.B, 0, "B", l.B, 1);
    detail::expects_output_of(verb, l, "A_dropped", a_dropped);
    detail::expects_output_of(verb, l, "B_dropped", b_dropped);
    detail::expects_disjoint(verb, "B_dropped", b_dropped, "A_dropped", a_dropped);
    kernels::keep_columns(ex, mask.inputs(), l.A, a_dropped);
    kernels::keep_columns(ex, mask.outputs(), transposed(l.B), transposed(b_dropped));
    auto const a = as_const(a_dropped);
    auto const b = as_const(b_dropped);
    return lora<std::remove_const_t<decltype(a)>, std::remove_const_t<decltype(b)>, MBias>{a, b, l.scale, l.bias};
  }
}

/// Gradients of a forward with `dropped` = drop(ex, l, mask, ...): those of `backward` of `lora`, added only where the mask keeps
/// the factors; dx and the bias as they are.
///
/// Shapes       as `backward` of `lora`; the caller's dA_dropped[r, n] and dB_dropped[m, r] are overwritten.
/// Aliasing     nothing that is written may overlap anything else.
/// Cost         `backward` of `lora` and 3 r (n + m) elements read or written.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class MA, class MB, class MBias, class X, class DY, class GA, class GB, class GBias, class DX,
          class TA, class TB>
void backward_dropped(E const& ex, lora<MA, MB, MBias> const& dropped, lora_dropout const& mask, X const& x,
                      DY const& dy, lora_gradients<GA, GB, GBias> const& gradients, DX const& dx, TA const& da_dropped,
                      TB const& db_dropped) {
  GRAFT_MANDATE_OUTPUT("backward_dropped", "dA_dropped", E, TA, 2)
  GRAFT_MANDATE_OUTPUT("backward_dropped", "dB_dropped", E, TB, 2)
  if constexpr (detail::accepted_output<E, TA, 2> && detail::accepted_output<E, TB, 2> &&
                detail::mandates_backward<E, lora<MA, MB, MBias>, X, DY, lora_gradients<GA, GB, GBias>, DX, none_t>()) {
    constexpr std::string_view verb = "backward_dropped";
    detail::expects_mask(verb, mask);
    detail::expects_equal_extents(verb, "x", x, 1, "A", dropped.A, 1);
    detail::expects_backward(dropped, "x", x, dy, gradients, dx, none);
    detail::expects_backward(dropped, "x", x, dy, lora_gradients<TA, TB, GBias>{da_dropped, db_dropped, gradients.bias},
                             dx, none);
    detail::expects_apart(verb, "dA_dropped", da_dropped, "the gradient of A", gradients.A);
    detail::expects_apart(verb, "dA_dropped", da_dropped, "the gradient of B", gradients.B);
    detail::expects_apart(verb, "dB_dropped", db_dropped, "the gradient of A", gradients.A);
    detail::expects_apart(verb, "dB_dropped", db_dropped, "the gradient of B", gradients.B);
    detail::fill_zero(ex, da_dropped);
    detail::fill_zero(ex, db_dropped);
    backward(ex, dropped, x, dy, lora_gradients<TA, TB, GBias>{da_dropped, db_dropped, gradients.bias}, dx);
    if constexpr (detail::is_there<GA>) kernels::keep_columns_add(ex, mask.inputs(), as_const(da_dropped), gradients.A);
    if constexpr (detail::is_there<GB>)
      kernels::keep_columns_add(ex, mask.outputs(), transposed(as_const(db_dropped)), transposed(gradients.B));
  }
}

/// Inference with several masks: y += the mean over `masks` of the deltas of streams mask.stream, mask.stream + 1, ...
///
/// Shapes       x[T, n] in; y[T, m] in and out; the caller's A_dropped[r, n] and B_dropped[m, r] are overwritten.
/// Precision    each delta is scaled by s / masks and added in order; a 16-bit y is rounded after each.
/// Cost         `masks` times that of `drop` and of `add_delta`.
/// Errors       shape_error, argument_error; nothing is written then.
template <class E, class MA, class MB, class MBias, class X, class Y, class A, class B>
void add_delta_ensemble(E const& ex, lora<MA, MB, MBias> const& l, lora_dropout const& mask, index_t masks, X const& x,
                        Y const& y, A const& a_dropped, B const& b_dropped) {
  if constexpr (detail::mandates_add_delta<E, lora<MA, MB, MBias>, X, Y>() &&
                detail::mandates_drop<E, lora<MA, MB, MBias>, A, B>()) {
    constexpr std::string_view verb = "add_delta_ensemble";
    if (masks <= 0) [[unlikely]]
      detail::raise(
          argument_error(detail::text("graft::", verb, ": the number of masks is ", masks, " but must be positive")));
    detail::expects_mask(verb, mask);
    detail::expects_add_delta(l, x, y);
    detail::expects_shape(verb, "A_dropped", a_dropped, "A", l.A, 0, "A", l.A, 1);
    detail::expects_shape(verb, "B_dropped", b_dropped, "B", l.B, 0, "B", l.B, 1);
    detail::expects_disjoint(verb, "y", y, "A_dropped", a_dropped);
    detail::expects_disjoint(verb, "y", y, "B_dropped", b_dropped);
    detail::expects_disjoint(verb, "A_dropped", a_dropped, "x", x);
    detail::expects_disjoint(verb, "B_dropped", b_dropped, "x", x);
    lora<MA, MB, MBias> const share{l.A, l.B, l.scale.value() / static_cast<double>(masks), l.bias};
    for (index_t i = 0; i < masks; ++i) {
      lora_dropout one = mask;
      one.stream += static_cast<std::uint64_t>(i);
      add_delta(ex, drop(ex, share, one, a_dropped, b_dropped), x, y);
    }
  }
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
