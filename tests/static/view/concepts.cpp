// Truth tables of what is a view.
#include <graft/view/concepts.hpp>

#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <graft/kernels/panels.hpp>
#include <graft/view.hpp>

using namespace graft;

namespace {

using matrix = tensor_view<float, dynamic_extents<2>>;
using const_matrix = tensor_view<float const, dynamic_extents<2>>;
using vector = tensor_view<double, dynamic_extents<1>>;
using cube = tensor_view<bfloat16, dynamic_extents<3>>;
using device_matrix = tensor_view<float16, extents<dynamic, 16>, device_space>;
using column_major = tensor_view<float, dynamic_extents<2>, host_space, 0>;
using strided = tensor_view<float, dynamic_extents<2>, host_space, no_unit_dimension>;

// tensor
static_assert(tensor<matrix> && tensor<const_matrix> && tensor<vector> && tensor<cube> && tensor<device_matrix> &&
              tensor<strided>);
static_assert(tensor<panels_view<float>> && tensor<panels_view<bfloat16 const>>);
static_assert(!tensor<float*> && !tensor<std::vector<float>> && !tensor<std::span<float>> && !tensor<float> &&
              !tensor<none_t>);
static_assert(!tensor<std::string> && !tensor<matrix&> && !tensor<extents<3, 4>>);

// ranks
static_assert(matrix_view<matrix> && matrix_view<const_matrix> && matrix_view<device_matrix> && !matrix_view<vector> &&
              !matrix_view<cube>);
static_assert(vector_view<vector> && !vector_view<matrix> && !vector_view<none_t>);
static_assert(optional_vector<vector> && optional_vector<none_t> && !optional_vector<matrix> && !optional_vector<int>);

// outputs
static_assert(output_view<matrix> && output_view<vector> && !output_view<const_matrix> && !output_view<none_t>);
static_assert(output_matrix<matrix> && output_matrix<strided> && !output_matrix<const_matrix> &&
              !output_matrix<vector>);
static_assert(output_vector<vector> && !output_vector<matrix>);

// unit strides
static_assert(unit_stride_in<matrix, 1> && !unit_stride_in<matrix, 0> && unit_stride_in<column_major, 0> &&
              unit_stride_in<cube, 2>);
static_assert(!unit_stride_in<strided, 0> && !unit_stride_in<strided, 1> && unit_stride_in<strided, no_unit_dimension>);
static_assert(unit_stride_in<vector, 0> && !unit_stride_in<float*, 0>);

// scalars
static_assert(scalar<float> && scalar<double> && scalar<bfloat16> && scalar<float16> && scalar<float const>);
static_assert(!scalar<int> && !scalar<long double> && !scalar<bool> && !scalar<float&> && !scalar<std::uint16_t>);
static_assert(sizeof(bfloat16) == 2 && sizeof(float16) == 2 && std::is_trivially_copyable_v<bfloat16> &&
              std::is_trivial_v<float16>);
static_assert(!std::is_convertible_v<float, bfloat16> &&
              !std::is_convertible_v<float16, float>);  // no silent rounding, no silent cost
static_assert(!std::is_constructible_v<bfloat16, std::string>);

// views are cheap to pass, and the same type whoever makes them
static_assert(std::is_trivially_copyable_v<matrix> && std::is_trivially_copyable_v<panels_view<float>> &&
              sizeof(matrix) == 40);
static_assert(std::is_same_v<decltype(view(static_cast<float*>(nullptr), 2, 3)), matrix>);
static_assert(std::is_same_v<decltype(view_in<device_space>(static_cast<float*>(nullptr), 2)),
                             tensor_view<float, dynamic_extents<1>, device_space>>);

// spaces
static_assert(std::is_same_v<matrix::space_type, host_space> &&
              std::is_same_v<device_matrix::space_type, device_space>);
static_assert(std::is_same_v<decltype(transposed(std::declval<device_matrix>()))::space_type, device_space>);

/// The concept is structural: somebody else's view is one.
struct foreign_view {
  using element_type = float const;
  using value_type = float;
  using space_type = host_space;
  static constexpr int unit_dimension = no_unit_dimension;
  static constexpr int rank() { return 1; }
  index_t extent(int) const { return 0; }
  index_t stride(int) const { return 1; }
  index_t size() const { return 0; }
  float const* data_handle() const { return nullptr; }
};
static_assert(vector_view<foreign_view> && !output_view<foreign_view>);

}  // namespace
