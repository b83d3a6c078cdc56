// Inert before GCC 15: the bridge is tested where the standard library has <mdspan>.
#include <graft/view/mdspan.hpp>

#include <catch2/catch_test_macros.hpp>

#if defined(__cpp_lib_mdspan)

#include <array>
#include <cstddef>
#include <type_traits>

#include <graft/view/concepts.hpp>

TEST_CASE("std::mdspan keeps its extents and its layout in the type", "[view][mdspan]") {
  float data[24] = {};
  for (int i = 0; i < 24; ++i) data[i] = static_cast<float>(i);
  std::mdspan<float, std::extents<std::size_t, std::dynamic_extent, 4>> const right(data, 6);
  auto const r = graft::view(right);
  static_assert(decltype(r)::static_extent(0) == graft::dynamic && decltype(r)::static_extent(1) == 4 &&
                decltype(r)::unit_dimension == 1);
  CHECK(r(5, 3) == 23.0F);
  CHECK(&r(2, 1) == data + 9);

  std::mdspan<float const, std::dextents<int, 2>, std::layout_left> const left(data, 6, 4);
  auto const l = graft::view(left);
  static_assert(decltype(l)::unit_dimension == 0 && std::is_same_v<decltype(l)::element_type, float const>);
  CHECK(l(5, 1) == 11.0F);

  using shape = std::dextents<int, 2>;
  std::mdspan<float, shape, std::layout_stride> const strided(
      data, std::layout_stride::mapping<shape>(shape(3, 4), std::array<int, 2>{8, 2}));
  auto const s = graft::view(strided);
  static_assert(decltype(s)::unit_dimension == graft::no_unit_dimension);
  CHECK(s(2, 3) == 22.0F);

  CHECK(graft::view(std::mdspan<float, std::dextents<int, 1>>(data, 5)).size() == 5);
}

#else

TEST_CASE("std::mdspan is not in this standard library", "[view][mdspan]") { SKIP("no <mdspan>"); }

#endif
