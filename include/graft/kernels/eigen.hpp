// SPDX-License-Identifier: Apache-2.0
/// @file
/// `eigen_gemm`: Eigen's matrix product, for `with_gemm`. Reached through <graft/eigen.hpp>.
#pragma once

#include <concepts>
#include <type_traits>

#include <Eigen/Core>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {
/// Somebody's matrix as Eigen sees it.
template <class V>
[[nodiscard]] auto eigen_map(V const& v) {
  using value = typename V::value_type;
  constexpr bool rows = V::unit_dimension == 1;
  using plain = Eigen::Matrix<value, Eigen::Dynamic, Eigen::Dynamic, rows ? Eigen::RowMajor : Eigen::ColMajor>;
  using matrix = std::conditional_t<std::is_const_v<typename V::element_type>, plain const, plain>;
  if constexpr (V::unit_dimension == 0 || V::unit_dimension == 1)
    return Eigen::Map<matrix, Eigen::Unaligned, Eigen::OuterStride<>>(v.data_handle(), v.extent(0), v.extent(1),
                                                                      Eigen::OuterStride<>(v.stride(rows ? 0 : 1)));
  else
    return Eigen::Map<matrix, Eigen::Unaligned, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>(
        v.data_handle(), v.extent(0), v.extent(1),
        Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>(v.stride(1), v.stride(0)));
}
}  // namespace GRAFT_TARGET
}  // namespace detail

/// Eigen's matrix product, on Eigen's own threads (its OpenMP ones where the program is compiled with -fopenmp; not the executor's
/// count). For matrices of float or of double alone, any strides; its order of summation depends on shapes and instruction set.
struct eigen_gemm {
  static constexpr bool batch_invariant = false;

  template <matrix_view A, matrix_view B, output_matrix C>
    requires((std::same_as<typename C::value_type, float> || std::same_as<typename C::value_type, double>) &&
             std::same_as<typename A::value_type, typename C::value_type> &&
             std::same_as<typename B::value_type, typename C::value_type> &&
             std::same_as<typename A::space_type, host_space> && std::same_as<typename B::space_type, host_space> &&
             std::same_as<typename C::space_type, host_space>)
  GRAFT_INLINE void operator()(A const& a, B const& b, C const& c, double alpha, double beta) const {
    using value = typename C::value_type;
    auto out = detail::eigen_map(c);
    auto const left = detail::eigen_map(a);
    auto const right = detail::eigen_map(b);
    if (beta == 0.0) out.noalias() = static_cast<value>(alpha) * left * right;
    else {
      if (beta != 1.0) out *= static_cast<value>(beta);
      out.noalias() += static_cast<value>(alpha) * left * right;
    }
  }
};

}  // namespace graft::inline GRAFT_CONTRACT
