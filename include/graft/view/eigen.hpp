// SPDX-License-Identifier: Apache-2.0
/// @file
/// Eigen matrices, maps, blocks and refs, both storage orders. Eigen already knows pointer, extents, strides and which
/// dimension is contiguous at compile time; the bridge carries them over. Vectors become views of rank 1.
/// Eigen::half and Eigen::bfloat16 are read as graft::float16 and graft::bfloat16 (same bits).
#pragma once

#include <type_traits>

#include <Eigen/Core>

#include <graft/config.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
template <class S>
using eigen_scalar_t = std::conditional_t<std::is_same_v<S, Eigen::half>, float16,
                                          std::conditional_t<std::is_same_v<S, Eigen::bfloat16>, bfloat16, S>>;

template <class M>
concept eigen_direct_access = std::is_base_of_v<Eigen::DenseBase<std::remove_cvref_t<M>>, std::remove_cvref_t<M>> &&
                              bool(Eigen::internal::traits<std::remove_cvref_t<M>>::Flags & Eigen::DirectAccessBit);
template <class M>
  requires eigen_direct_access<M>
inline constexpr bool is_bridged<M> = true;
}  // namespace detail

inline namespace GRAFT_TARGET {
/// Elements are const when `m` is const or maps const data. Temporaries that own data are refused: they would dangle.
template <class M>
  requires detail::eigen_direct_access<M>
[[nodiscard]] auto view(M&& m) {
  using matrix = std::remove_cvref_t<M>;
  static_assert(std::is_lvalue_reference_v<M> || !std::is_base_of_v<Eigen::PlainObjectBase<matrix>, matrix>,
                "graft::view: this Eigen matrix is a temporary; the view would outlive its data");
  using element = std::remove_pointer_t<decltype(m.data())>;
  using stored = detail::eigen_scalar_t<std::remove_const_t<element>>;
  using type = std::conditional_t<std::is_const_v<element>, stored const, stored>;
  auto* const data = reinterpret_cast<type*>(m.data());
  constexpr bool contiguous = matrix::InnerStrideAtCompileTime == 1;
  if constexpr (matrix::IsVectorAtCompileTime) {
    using shape = dynamic_extents<1>;
    return tensor_view<type, shape, host_space, contiguous ? 0 : no_unit_dimension>{
        data, shape{m.size()}, {m.innerStride()}};
  } else {
    using shape = dynamic_extents<2>;
    constexpr int unit = !contiguous ? no_unit_dimension : matrix::IsRowMajor ? 1 : 0;
    return tensor_view<type, shape, host_space, unit>{data, shape{m.rows(), m.cols()}, {m.rowStride(), m.colStride()}};
  }
}
}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT
