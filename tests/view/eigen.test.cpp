#include <graft/eigen.hpp>

#include <array>
#include <type_traits>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "support/bits.hpp"

using graft::index_t;

namespace {

using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using column_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic>;

template <class M>
M counted(Eigen::Index rows, Eigen::Index columns) {
  M m(rows, columns);
  for (Eigen::Index i = 0; i < rows; ++i)
    for (Eigen::Index j = 0; j < columns; ++j)
      m(i, j) = static_cast<typename M::Scalar>(static_cast<float>(10 * i + j));
  return m;
}

/// The view has the elements of the expression, at the same addresses.
template <class V, class M>
bool same_elements(V const& v, M const& m) {
  bool same = v.extent(0) == m.rows() && v.extent(1) == m.cols();
  for (index_t i = 0; same && i < v.extent(0); ++i)
    for (index_t j = 0; j < v.extent(1); ++j)
      same = same && static_cast<void const*>(&v(i, j)) == static_cast<void const*>(&m.coeffRef(i, j));
  return same;
}

/// Views of what is taken as Eigen recommends.
template <class Derived>
int unit_of(Eigen::PlainObjectBase<Derived> const& m) {
  return decltype(graft::view(m.derived()))::unit_dimension;
}

}  // namespace

TEST_CASE("Eigen matrices of both storage orders keep their order in the type", "[view][eigen]") {
  auto r = counted<row_major>(3, 4);
  auto c = counted<column_major>(3, 4);
  auto const vr = graft::view(r);
  auto const vc = graft::view(c);
  static_assert(decltype(vr)::unit_dimension == 1 && decltype(vc)::unit_dimension == 0);
  CHECK(same_elements(vr, r));
  CHECK(same_elements(vc, c));
  CHECK(vr.strides() == std::array<index_t, 2>{4, 1});
  CHECK(vc.strides() == std::array<index_t, 2>{1, 3});
  vc(2, 1) = -5.0F;
  CHECK(c(2, 1) == -5.0F);
  CHECK(unit_of(r) == 1);
  CHECK(unit_of(c) == 0);
}

TEST_CASE("const Eigen matrices and maps of const data give views of const elements", "[view][eigen]") {
  auto const c = counted<column_major>(2, 3);
  static_assert(std::is_same_v<decltype(graft::view(c))::element_type, float const>);
  float data[6] = {0, 1, 2, 3, 4, 5};
  Eigen::Map<row_major const> const map(data, 2, 3);
  static_assert(std::is_same_v<decltype(graft::view(map))::element_type, float const>);
  CHECK(graft::view(map)(1, 2) == 5.0F);
  Eigen::Map<row_major> writable(data, 2, 3);
  static_assert(std::is_same_v<decltype(graft::view(writable))::element_type, float>);
  CHECK(graft::view(Eigen::Map<row_major>(data, 2, 3))(1, 0) == 3.0F);  // a temporary map does not own its data
}

TEST_CASE("Eigen blocks keep the stride of the whole", "[view][eigen]") {
  auto r = counted<row_major>(5, 7);
  auto c = counted<column_major>(5, 7);
  auto const block = r.block(1, 2, 3, 4);
  CHECK(same_elements(graft::view(block), block));
  CHECK(graft::view(r.block(1, 2, 3, 4)).stride(0) == 7);
  CHECK(graft::view(r.block(1, 2, 3, 4))(0, 0) == 12.0F);
  CHECK(graft::view(c.middleCols(3, 2)).stride(1) == 5);
  CHECK(graft::view(c.topRows(2))(1, 6) == 16.0F);
  static_assert(decltype(graft::view(c.topRows(2)))::unit_dimension == 0);
  static_assert(decltype(graft::view(r.leftCols(2)))::unit_dimension == 1);
}

TEST_CASE("a transposed Eigen matrix is a transposed view", "[view][eigen]") {
  auto c = counted<column_major>(3, 4);
  auto const v = graft::view(c.transpose());
  static_assert(decltype(v)::unit_dimension == 1);
  CHECK(v.extent(0) == 4);
  CHECK(v(3, 2) == 23.0F);
  CHECK(v.stride(0) == 3);
}

TEST_CASE("Eigen maps and refs with strides", "[view][eigen]") {
  std::vector<float> data(60);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(i);
  Eigen::Map<row_major, 0, Eigen::OuterStride<>> const padded(data.data(), 4, 5, Eigen::OuterStride<>(9));
  CHECK(graft::view(padded)(3, 4) == 31.0F);
  static_assert(decltype(graft::view(padded))::unit_dimension == 1);
  Eigen::Map<row_major, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> const strided(data.data(), 3, 4, {16, 3});
  static_assert(decltype(graft::view(strided))::unit_dimension == graft::no_unit_dimension);
  CHECK(graft::view(strided).strides() == std::array<index_t, 2>{16, 3});
  CHECK(graft::view(strided)(2, 3) == 41.0F);
  Eigen::Map<column_major, 0, Eigen::Stride<Eigen::Dynamic, 2>> const fixed(data.data(), 3, 4, {10, 2});
  static_assert(decltype(graft::view(fixed))::unit_dimension == graft::no_unit_dimension);
  CHECK(graft::view(fixed)(2, 1) == 14.0F);

  auto c = counted<column_major>(5, 7);
  Eigen::Ref<column_major> const ref = c.block(1, 1, 3, 4);
  CHECK(same_elements(graft::view(ref), ref));
  Eigen::Ref<column_major const> const const_ref = c.block(1, 1, 3, 4);
  static_assert(std::is_same_v<decltype(graft::view(const_ref))::element_type, float const>);
  CHECK(graft::view(const_ref)(2, 3) == 34.0F);
}

TEST_CASE("Eigen vectors become views of rank 1", "[view][eigen]") {
  Eigen::VectorXf column = Eigen::VectorXf::LinSpaced(5, 0.0F, 4.0F);
  Eigen::RowVectorXd row = Eigen::RowVectorXd::LinSpaced(3, 0.0, 2.0);
  CHECK(graft::view(column).size() == 5);
  CHECK(graft::view(column)(4) == 4.0F);
  CHECK(graft::view(row)(2) == 2.0);
  static_assert(graft::vector_view<decltype(graft::view(column))> && decltype(graft::view(row))::unit_dimension == 0);
  auto c = counted<column_major>(3, 4);
  CHECK(graft::view(c.row(2))(3) == 23.0F);
  CHECK(graft::view(c.row(2)).stride(0) == 3);
  static_assert(decltype(graft::view(c.row(2)))::unit_dimension == graft::no_unit_dimension);
  static_assert(decltype(graft::view(c.col(2)))::unit_dimension == 0);
  CHECK(graft::view(c.col(2))(1) == 12.0F);
}

TEST_CASE("fixed sizes, arrays and empty matrices of Eigen", "[view][eigen]") {
  Eigen::Matrix<double, 2, 3, Eigen::RowMajor> fixed;
  fixed << 1, 2, 3, 4, 5, 6;
  CHECK(graft::view(fixed)(1, 1) == 5.0);
  Eigen::ArrayXXf array = Eigen::ArrayXXf::Constant(2, 2, 3.0F);
  CHECK(graft::view(array)(1, 1) == 3.0F);
  column_major empty(0, 4);
  CHECK(graft::view(empty).size() == 0);
  CHECK(graft::view(empty).extent(1) == 4);
}

TEST_CASE("Eigen's 16-bit floats are read as ours, with the same bits", "[view][eigen]") {
  Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic> half(2, 2);
  half.setConstant(Eigen::half(0.333F));
  auto const h = graft::view(half);
  static_assert(std::is_same_v<decltype(h)::element_type, graft::float16>);
  CHECK(h(1, 1).bits == graft::float16(0.333F).bits);
  h(0, 1) = graft::float16(-2.5F);
  CHECK(static_cast<float>(half(0, 1)) == -2.5F);
  Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> brain(2, 2);
  brain.setConstant(Eigen::bfloat16(0.333F));
  auto const& const_brain = brain;
  static_assert(std::is_same_v<decltype(graft::view(const_brain))::element_type, graft::bfloat16 const>);
  CHECK(graft::view(const_brain)(1, 0).bits == graft::bfloat16(0.333F).bits);
}

TEST_CASE("our 16-bit floats round as Eigen's do", "[view][eigen]") {
  int wrong = 0;
  for (std::uint32_t upper = 0; upper < 0x10000U; ++upper)
    for (std::uint32_t const lower : {0U, 1U, 0x0fffU, 0x1000U, 0x7fffU, 0x8000U, 0x8001U, 0xffffU}) {
      auto const f = std::bit_cast<float>(upper << 16U | lower);
      if (f != f) continue;
      wrong += Eigen::numext::bit_cast<std::uint16_t>(Eigen::bfloat16(f)) == graft::bfloat16(f).bits ? 0 : 1;
      wrong += Eigen::numext::bit_cast<std::uint16_t>(Eigen::half(f)) == graft::float16(f).bits ? 0 : 1;
    }
  CHECK(wrong == 0);
}
