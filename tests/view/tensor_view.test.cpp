#include <graft/view/tensor_view.hpp>

#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::Message;
using Catch::Matchers::MessageMatches;
using graft::dynamic;
using graft::extents;
using graft::index_t;

namespace {
constexpr index_t largest = std::numeric_limits<index_t>::max();
std::vector<float> counted(int count) {
  std::vector<float> v(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) v[static_cast<std::size_t>(i)] = static_cast<float>(i);
  return v;
}
}  // namespace

TEST_CASE("a view of a pointer is row-major", "[view]") {
  auto data = counted(24);
  auto const v = graft::view(data.data(), 2, 3, 4);
  CHECK(v.rank() == 3);
  CHECK(v.size() == 24);
  CHECK(v.shape() == std::array<index_t, 3>{2, 3, 4});
  CHECK(v.strides() == std::array<index_t, 3>{12, 4, 1});
  CHECK(v(1, 2, 3) == 23.0F);
  static_assert(decltype(v)::unit_dimension == 2);
  v(0, 1, 2) = -1.0F;
  CHECK(data[6] == -1.0F);
}

TEST_CASE("a padded view steps over the padding", "[view]") {
  auto data = counted(20);
  auto const v = graft::view(data.data(), 4, 3, graft::row_stride{5});
  CHECK(v.stride(0) == 5);
  CHECK(v(3, 2) == 17.0F);
  CHECK_THROWS_MATCHES(graft::view(data.data(), 4, 3, graft::row_stride{2}), graft::shape_error,
                       Message("graft::view: row_stride 2 is smaller than the 3 columns"));
  CHECK(graft::view(data.data(), 1, 3, graft::row_stride{0}).size() == 3);  // one row has no next one
}

TEST_CASE("static extents are part of the type and need no storage", "[view]") {
  auto data = counted(32);
  auto const v = graft::view(data.data(), extents<dynamic, 16>{2, 16});
  static_assert(decltype(v)::static_extent(0) == dynamic && decltype(v)::static_extent(1) == 16);
  CHECK(v.extent(0) == 2);
  CHECK(v.extent(1) == 16);
  CHECK(v.stride(0) == 16);
  CHECK(v(1, 15) == 31.0F);
  static_assert(sizeof(extents<4, 16>) <= sizeof(index_t) &&
                sizeof(extents<dynamic, 16, dynamic>) == 2 * sizeof(index_t));
  static_assert(extents<3, dynamic, 5>(3, 4, 5).extent(1) == 4 && extents<3, dynamic, 5>(3, 4, 5).extent(2) == 5);
  static_assert(extents<>::rank() == 0 && extents<dynamic, 2, dynamic>::rank_dynamic() == 2);
  static_assert(std::is_same_v<graft::dynamic_extents<3>, extents<dynamic, dynamic, dynamic>>);
}

TEST_CASE("any strides are legal, and none of them is assumed to be 1", "[view]") {
  auto data = counted(12);
  auto const backwards = graft::view(data.data() + 11, extents<dynamic, dynamic>{3, 4}, {-4, -1});
  CHECK(backwards(0, 0) == 11.0F);
  CHECK(backwards(2, 3) == 0.0F);
  static_assert(decltype(backwards)::unit_dimension == graft::no_unit_dimension);
  auto const everywhere = graft::view(static_cast<float const*>(data.data()), extents<dynamic, dynamic>{7, 9}, {0, 0});
  CHECK(everywhere(6, 8) == 0.0F);
}

TEST_CASE("a stride that the type knows to be 1 is 1 whatever is passed", "[view]") {
  auto data = counted(6);
  graft::tensor_view<float, extents<dynamic, dynamic>> const v(data.data(), extents<dynamic, dynamic>{2, 3}, {3, 77});
  CHECK(v.stride(1) == 1);
  CHECK(v.strides() == std::array<index_t, 2>{3, 1});
  CHECK(v(1, 2) == 5.0F);
}

TEST_CASE("views of vectors, arrays and spans know their sizes", "[view]") {
  std::vector<float> const vector{1, 2, 3};
  std::array<double, 4> array{};
  float plain[5] = {};
  CHECK(graft::view(vector).size() == 3);
  CHECK(graft::view(array).extent(0) == 4);
  CHECK(graft::view(plain).extent(0) == 5);
  CHECK(graft::view(std::span<float const>(vector)).data_handle() == vector.data());
  static_assert(std::is_same_v<decltype(graft::view(vector))::element_type, float const>);
  static_assert(std::is_same_v<decltype(graft::view(array))::element_type, double>);
  static_assert(std::is_same_v<decltype(graft::view(std::span<float>(plain)))::element_type, float>);

  auto data = counted(12);
  CHECK(graft::view(data, 3, 4)(2, 1) == 9.0F);
  CHECK_THROWS_MATCHES(graft::view(data, 3, 5), graft::shape_error,
                       Message("graft::view: [3, 5] has 15 elements but the data has 12"));
  CHECK_THROWS_AS(graft::view(std::span<float>(data).first(11), 3, 4), graft::shape_error);
  CHECK(graft::view(std::vector<float>().data(), 0, 4).size() == 0);
  std::vector<float> none;
  CHECK(graft::view(none, 0, 1000).size() == 0);
}

TEST_CASE("ids, offsets and masks have views, which math does not take", "[view]") {
  std::vector<std::int32_t> const ids{1, 2, 3, 4, 5, 6};
  std::vector<std::int64_t> offsets(3);
  std::vector<std::uint8_t> mask(4);
  auto const v = graft::transposed(graft::view(ids, 3, 2));
  CHECK(v(1, 2) == 6);
  graft::view(offsets)(2) = 7;
  CHECK(offsets[2] == 7);
  CHECK(graft::view(mask.data(), 2, 2).size() == 4);
  static_assert(!graft::tensor<decltype(v)> && !graft::tensor<decltype(graft::view(offsets))>);
}

TEST_CASE("negative extents are refused", "[view]") {
  float* const p = nullptr;
  CHECK_THROWS_MATCHES(graft::view(p, -1, 4), graft::shape_error,
                       Message("graft::view: extent 0 is -1; extents are not negative"));
  CHECK_THROWS_MATCHES(graft::view(p, 0, -4), graft::shape_error,
                       Message("graft::view: extent 1 is -4; extents are not negative"));
  CHECK_THROWS_AS(graft::view(p, 2, -4, graft::row_stride{8}), graft::shape_error);
  CHECK_THROWS_AS(graft::view(p, extents<dynamic, 4>{-2, 4}), graft::shape_error);
  CHECK_THROWS_AS(graft::view(p, extents<dynamic, dynamic>{2, -2}, {1, 1}), graft::shape_error);
  CHECK_THROWS_AS(graft::view_in<graft::device_space>(p, -7), graft::shape_error);
}

TEST_CASE("sizes beyond 64 bits are refused, also behind an extent of 0", "[view]") {
  float* const p = nullptr;
  CHECK_THROWS_MATCHES(graft::view(p, largest, 2), graft::shape_error,
                       Message("graft: view: 2 x 9223372036854775807 overflows 64 bits"));
  CHECK_THROWS_AS(graft::view(p, index_t{1} << 32, index_t{1} << 32), graft::shape_error);
  CHECK_THROWS_AS(graft::view(p, 0, index_t{1} << 32, index_t{1} << 32), graft::shape_error);
  CHECK_THROWS_AS(graft::view(p, index_t{1} << 21, index_t{1} << 21, index_t{1} << 21), graft::shape_error);
  CHECK(graft::view(p, 0, largest).size() == 0);
  CHECK(graft::view(p, largest, 0).size() == 0);
  CHECK(graft::view(p, largest).size() == largest);
}

TEST_CASE("an extent of an unsigned type above the signed range is refused", "[view]") {
  float* const p = nullptr;
  CHECK_THROWS_AS(graft::view(p, std::numeric_limits<std::size_t>::max(), 1), graft::shape_error);
}

TEST_CASE("a view of mutable elements becomes one of const elements, never the other way round", "[view]") {
  auto data = counted(6);
  auto const v = graft::view(data.data(), 2, 3);
  graft::tensor_view<float const, extents<dynamic, dynamic>> const c = v;
  CHECK(c(1, 2) == 5.0F);
  CHECK(graft::as_const(v).data_handle() == data.data());
  using mutable_view = decltype(graft::view(data.data(), 2, 3));
  using const_view = decltype(graft::as_const(v));
  static_assert(std::is_convertible_v<mutable_view, const_view> && !std::is_constructible_v<mutable_view, const_view>);
  static_assert(!std::is_constructible_v<const_view, graft::tensor_view<double, extents<dynamic, dynamic>>>);
  static_assert(!std::is_constructible_v<graft::tensor_view<float, extents<dynamic, dynamic>, graft::device_space>,
                                         mutable_view>);
}

TEST_CASE("knowledge of the type can be given up, not invented", "[view]") {
  auto data = counted(32);
  auto const v = graft::view(data.data(), extents<dynamic, 16>{2, 16});
  graft::tensor_view<float const, extents<dynamic, dynamic>, graft::host_space, graft::no_unit_dimension> const any = v;
  CHECK(any.stride(1) == 1);
  CHECK(any.extent(1) == 16);
  CHECK(any(1, 3) == 19.0F);
  using row_major = graft::tensor_view<float, extents<dynamic, dynamic>>;
  using column_major = graft::tensor_view<float, extents<dynamic, dynamic>, graft::host_space, 0>;
  static_assert(!std::is_constructible_v<row_major, graft::tensor_view<float, extents<dynamic, dynamic>,
                                                                       graft::host_space, graft::no_unit_dimension>>);
  static_assert(!std::is_constructible_v<row_major, column_major>);
  static_assert(!std::is_constructible_v<row_major, graft::tensor_view<float, extents<dynamic>>>);
}

TEST_CASE("a transposed view exchanges extents, strides and the unit dimension", "[view]") {
  auto data = counted(32);
  auto const v = graft::view(data.data(), extents<dynamic, 16>{2, 16});
  auto const t = graft::transposed(v);
  static_assert(decltype(t)::unit_dimension == 0 && decltype(t)::static_extent(0) == 16 &&
                decltype(t)::static_extent(1) == dynamic);
  CHECK(t.shape() == std::array<index_t, 2>{16, 2});
  CHECK(t.strides() == std::array<index_t, 2>{1, 16});
  CHECK(t(5, 1) == v(1, 5));
  static_assert(std::is_same_v<decltype(graft::transposed(t)), std::remove_const_t<decltype(v)>>);
  auto const any = graft::view(data.data(), extents<dynamic, dynamic>{3, 4}, {1, 3});
  static_assert(decltype(graft::transposed(any))::unit_dimension == graft::no_unit_dimension);
  CHECK(graft::transposed(any).stride(0) == 3);
}

TEST_CASE("rows and columns are cut in place", "[view]") {
  auto data = counted(20);
  auto const v = graft::view(data.data(), 4, 5);
  auto const r = graft::rows(v, 1, 2);
  CHECK(r.shape() == std::array<index_t, 2>{2, 5});
  CHECK(r(1, 4) == 14.0F);
  auto const c = graft::columns(v, 2, 3);
  CHECK(c.shape() == std::array<index_t, 2>{4, 3});
  CHECK(c.stride(0) == 5);
  CHECK(c(3, 0) == 17.0F);
  static_assert(decltype(c)::unit_dimension == 1 && decltype(r)::unit_dimension == 1);
  CHECK(graft::columns(graft::transposed(v), 1, 2)(4, 1) == 14.0F);
  CHECK(graft::rows(graft::view(data.data() + 19, extents<dynamic, dynamic>{4, 5}, {-5, -1}), 3, 1)(0, 4) == 0.0F);
  static_assert(decltype(graft::rows(graft::view(data.data(), extents<dynamic, 5>{4, 5}), 0, 1))::static_extent(1) ==
                5);
}

TEST_CASE("cuts may be empty, at the end and of nothing", "[view]") {
  auto data = counted(20);
  auto const v = graft::view(data.data(), 4, 5);
  CHECK(graft::rows(v, 4, 0).size() == 0);
  CHECK(graft::columns(v, 5, 0).size() == 0);
  CHECK(graft::rows(v, 0, 4).size() == 20);
  graft::tensor_view<float, extents<dynamic, dynamic>> const nothing;
  CHECK(nothing.size() == 0);
  CHECK(nothing.data_handle() == nullptr);
  CHECK(graft::rows(nothing, 0, 0).data_handle() == nullptr);
}

TEST_CASE("cuts outside of the matrix are refused", "[view]") {
  auto data = counted(20);
  auto const v = graft::view(data.data(), 4, 5);
  CHECK_THROWS_MATCHES(graft::rows(v, 3, 2), graft::shape_error, Message("graft::rows: rows 3 + 2 of [4, 5]"));
  CHECK_THROWS_MATCHES(graft::columns(v, 4, 2), graft::shape_error, Message("graft::columns: columns 4 + 2 of [4, 5]"));
  CHECK_THROWS_AS(graft::rows(v, -1, 2), graft::shape_error);
  CHECK_THROWS_AS(graft::rows(v, 1, -1), graft::shape_error);
  CHECK_THROWS_AS(graft::columns(v, -1, 1), graft::shape_error);
  CHECK_THROWS_AS(graft::rows(v, largest, 1), graft::shape_error);
  CHECK_THROWS_AS(graft::rows(v, 1, largest), graft::shape_error);
  CHECK_THROWS_AS(graft::columns(v, largest, largest), graft::shape_error);
}

TEST_CASE("with_unit_stride finds the contiguous dimension at run time", "[view]") {
  auto data = counted(24);
  auto const unit_of = [](auto const& v) {
    return graft::with_unit_stride(
        v, [](auto const& typed) { return static_cast<int>(std::remove_cvref_t<decltype(typed)>::unit_dimension); });
  };
  CHECK(unit_of(graft::view(data.data(), extents<dynamic, dynamic>{3, 4}, {5, 1})) == 1);
  CHECK(unit_of(graft::view(data.data(), extents<dynamic, dynamic>{3, 4}, {1, 3})) == 0);
  CHECK(unit_of(graft::view(data.data(), extents<dynamic, dynamic>{3, 4}, {8, 2})) == graft::no_unit_dimension);
  CHECK(unit_of(graft::view(data.data(), extents<dynamic, dynamic>{3, 4}, {-1, 4})) == graft::no_unit_dimension);
  CHECK(unit_of(graft::view(data.data(), extents<dynamic, dynamic>{1, 1}, {1, 1})) == 1);
  CHECK(unit_of(graft::view(data.data(), extents<dynamic>{3}, {1})) == 0);
  CHECK(unit_of(graft::view(data.data(), extents<dynamic>{3}, {2})) == graft::no_unit_dimension);
  graft::with_unit_stride(graft::view(data.data(), extents<dynamic, 4>{3, 4}, {1, 3}), [&](auto const& typed) {
    CHECK(typed(2, 3) == 11.0F);
    CHECK(typed.stride(1) == 3);
    CHECK(typed.extent(0) == 3);
  });
}

TEST_CASE("a view of a view is that view", "[view]") {
  auto data = counted(6);
  auto const v = graft::view(data.data(), 2, 3);
  static_assert(std::is_same_v<decltype(graft::view(v)), std::remove_const_t<decltype(v)>>);
  CHECK(graft::view(v).data_handle() == v.data_handle());
}

TEST_CASE("views can be used at compile time", "[view]") {
  static constexpr float data[] = {1, 2, 3, 4, 5, 6};
  constexpr auto v = graft::view(data, 2, 3);
  static_assert(v(1, 0) == 4 && graft::transposed(v)(2, 0) == 3 && graft::rows(v, 1, 1)(0, 2) == 6 && v.size() == 6);
  SUCCEED();
}
