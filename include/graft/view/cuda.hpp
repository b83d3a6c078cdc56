// SPDX-License-Identifier: Apache-2.0
/// @file
/// Pointers into a GPU's memory as views, with CUDA's 16-bit floats read as ours (same bits).
#pragma once

#include <concepts>
#include <type_traits>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <graft/config.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
template <class T>
struct cuda_scalar {
  using type = T;
};
template <>
struct cuda_scalar<__half> {
  using type = float16;
};
template <>
struct cuda_scalar<__nv_bfloat16> {
  using type = bfloat16;
};
/// T, or graft's own 16-bit float in place of CUDA's, const where T is.
template <class T, class S = typename cuda_scalar<std::remove_const_t<T>>::type>
using cuda_element = std::conditional_t<std::is_const_v<T>, S const, S>;
}  // namespace detail

inline namespace GRAFT_TARGET {
/// Row-major data in a GPU's memory: `device_view(pointer, T, n)`, of float, double, __half, __nv_bfloat16, graft's own 16-bit
/// floats, ids or masks.
template <class T, std::integral... Index>
  requires(sizeof...(Index) > 0 && detail::viewable<detail::cuda_element<T>>)
[[nodiscard]] auto device_view(T* data, Index... shape) {
  return graft::view_in<device_space>(reinterpret_cast<detail::cuda_element<T>*>(data), shape...);
}
}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
