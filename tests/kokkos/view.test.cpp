// graft::view of what Kokkos has: what the type knows, where the elements are, and that nothing is copied.
#include <graft/kokkos.hpp>

#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "support/bits.hpp"
#include "support/random.hpp"

using graft::index_t;
using graft::view;
namespace kernels = graft::kernels;

namespace {

template <class V>
using seen = decltype(view(std::declval<V const&>()));
using right = Kokkos::View<float**, Kokkos::LayoutRight>;
using left = Kokkos::View<float**, Kokkos::LayoutLeft>;
using strided = Kokkos::View<float**, Kokkos::LayoutStride>;

// The layout is a fact of the type.
static_assert(seen<right>::unit_dimension == 1 && seen<left>::unit_dimension == 0);
static_assert(seen<strided>::unit_dimension == graft::no_unit_dimension);
static_assert(seen<Kokkos::View<float***, Kokkos::LayoutRight>>::unit_dimension == 2);
static_assert(seen<Kokkos::View<float***, Kokkos::LayoutLeft>>::unit_dimension == 0);
static_assert(seen<Kokkos::View<float*>>::unit_dimension == 0 && seen<Kokkos::View<float*>>::rank() == 1);
// So are extents that are static.
using mixed = seen<Kokkos::View<float* [16], Kokkos::LayoutRight>>;
static_assert(mixed::static_extent(0) == graft::dynamic && mixed::static_extent(1) == 16);
using fixed = seen<Kokkos::View<float[3][4], Kokkos::LayoutRight>>;
static_assert(fixed::static_extent(0) == 3 && fixed::static_extent(1) == 4);
static_assert(seen<right>::static_extent(0) == graft::dynamic && seen<right>::static_extent(1) == graft::dynamic);
using cube = seen<Kokkos::View<float* [3][4], Kokkos::LayoutLeft>>;
static_assert(cube::rank() == 3 && cube::unit_dimension == 0 && cube::static_extent(0) == graft::dynamic);
static_assert(cube::static_extent(1) == 3 && cube::static_extent(2) == 4);
static_assert(seen<Kokkos::View<double const[5]>>::static_extent(0) == 5);
static_assert(seen<Kokkos::View<float***, Kokkos::LayoutStride>>::unit_dimension == graft::no_unit_dimension);
static_assert(seen<Kokkos::View<float**, Kokkos::LayoutLeft, Kokkos::MemoryUnmanaged>>::unit_dimension == 0);
// And constness, element type, and space.
static_assert(std::is_same_v<seen<Kokkos::View<float const**>>::element_type, float const>);
static_assert(std::is_same_v<seen<right>::element_type, float>);
static_assert(std::is_same_v<seen<Kokkos::View<double*>>::element_type, double>);
static_assert(std::is_same_v<seen<right>::space_type, graft::host_space>);
static_assert(std::is_same_v<seen<Kokkos::View<float**, Kokkos::LayoutRight, Kokkos::AnonymousSpace>>::space_type,
                             graft::host_space>);
static_assert(
    std::is_same_v<seen<Kokkos::View<float**, Kokkos::LayoutRight, Kokkos::HostSpace,
                                     Kokkos::MemoryTraits<Kokkos::Unmanaged | Kokkos::RandomAccess>>>::element_type,
                   float>);
static_assert(graft::output_matrix<seen<right>> && !graft::output_matrix<seen<Kokkos::View<float const**>>>);
// A host-only Kokkos stores fp32 under the names of its 16-bit floats.
static_assert(sizeof(Kokkos::Experimental::half_t) != 4 ||
              std::is_same_v<seen<Kokkos::View<Kokkos::Experimental::half_t**>>::element_type, float>);
static_assert(sizeof(Kokkos::Experimental::bhalf_t) != 4 ||
              std::is_same_v<seen<Kokkos::View<Kokkos::Experimental::bhalf_t const*>>::element_type, float const>);

// What a build of Kokkos with a device would say.
static_assert(std::is_same_v<graft::detail::space_reached_by<true, false>, graft::host_space>);
static_assert(std::is_same_v<graft::detail::space_reached_by<true, true>, graft::shared_space>);
static_assert(std::is_same_v<graft::detail::space_reached_by<false, true>, graft::device_space>);

template <class V>
void fill(V const& v) {
  tests::random_bits bits(3);
  for (std::size_t i = 0; i < v.extent(0); ++i)
    for (std::size_t j = 0; j < v.extent(1); ++j) v(i, j) = bits.number();
}

/// Element by element the same memory, of rank 3.
template <class K>
[[nodiscard]] bool same_cube(K const& k) {
  auto const v = view(k);
  static_assert(decltype(v)::rank() == 3);
  for (std::size_t d = 0; d < 3; ++d)
    if (v.extent(d) != static_cast<index_t>(k.extent(d))) return false;
  for (index_t i = 0; i < v.extent(0); ++i)
    for (index_t j = 0; j < v.extent(1); ++j)
      for (index_t l = 0; l < v.extent(2); ++l)
        if (&v(i, j, l) != &k(static_cast<std::size_t>(i), static_cast<std::size_t>(j), static_cast<std::size_t>(l)))
          return false;
  return true;
}

/// Element by element the same memory.
template <class K>
[[nodiscard]] bool same_elements(K const& k) {
  auto const v = view(k);
  if (v.extent(0) != static_cast<index_t>(k.extent(0)) || v.extent(1) != static_cast<index_t>(k.extent(1)))
    return false;
  for (index_t i = 0; i < v.extent(0); ++i)
    for (index_t j = 0; j < v.extent(1); ++j)
      if (&v(i, j) != &k(static_cast<std::size_t>(i), static_cast<std::size_t>(j))) return false;
  return true;
}

}  // namespace

TEST_CASE("a Kokkos::View of every layout is the same memory", "[kokkos][view]") {
  CHECK(same_elements(right("right", 5, 7)));
  CHECK(same_elements(left("left", 5, 7)));
  CHECK(same_elements(strided("strided", Kokkos::LayoutStride(5, 3, 7, 40))));
  CHECK(same_elements(right(Kokkos::view_alloc("padded", Kokkos::AllowPadding), 5, 1001)));
  CHECK(same_elements(left(Kokkos::view_alloc("padded", Kokkos::AllowPadding), 1001, 5)));
  CHECK(same_elements(Kokkos::View<double**, Kokkos::LayoutRight>("double", 4, 3)));
  CHECK(same_elements(Kokkos::View<float* [4], Kokkos::LayoutRight>("mixed", 3)));
  CHECK(same_elements(Kokkos::View<float[3][4], Kokkos::LayoutLeft>("fixed")));
  right const whole("whole", 9, 12);
  CHECK(same_elements(Kokkos::View<float const**, Kokkos::LayoutRight>(whole)));
  CHECK(same_elements(Kokkos::View<float**, Kokkos::LayoutRight, Kokkos::MemoryUnmanaged>(whole.data(), 9, 12)));
  CHECK(same_elements(Kokkos::subview(whole, Kokkos::pair(2, 5), Kokkos::ALL)));
  CHECK(same_elements(Kokkos::subview(whole, Kokkos::ALL, Kokkos::pair(3, 8))));
  CHECK(same_elements(Kokkos::subview(left("left", 9, 12), Kokkos::pair(1, 4), Kokkos::pair(3, 8))));
  auto const column = view(Kokkos::subview(whole, Kokkos::ALL, 3));
  static_assert(decltype(column)::rank() == 1 && decltype(column)::unit_dimension == graft::no_unit_dimension);
  CHECK(column.extent(0) == 9);
  CHECK(&column(4) == &whole(4, 3));
  auto const row = view(Kokkos::subview(whole, 2, Kokkos::ALL));
  CHECK(row.extent(0) == 12);
  CHECK(&row(7) == &whole(2, 7));
  CHECK(same_cube(Kokkos::View<float***, Kokkos::LayoutLeft>("left", 2, 3, 4)));
  CHECK(same_cube(Kokkos::View<float***, Kokkos::LayoutRight>("right", 2, 3, 4)));
  CHECK(same_cube(Kokkos::View<float***, Kokkos::LayoutStride>("strided", Kokkos::LayoutStride(2, 1, 3, 30, 4, 3))));
  Kokkos::View<double* [3][4], Kokkos::LayoutRight> const mixed_cube("mixed", 2);
  CHECK(same_cube(Kokkos::View<double const* [3][4], Kokkos::LayoutRight>(mixed_cube)));
}

TEST_CASE("padding behind the rows of a View is stepped over", "[kokkos][view]") {
  right const padded(Kokkos::view_alloc("padded", Kokkos::AllowPadding), 5, 1001);
  REQUIRE(padded.stride(0) > 1001);  // else this shows nothing
  CHECK(view(padded).stride(0) == static_cast<index_t>(padded.stride(0)));
  CHECK(view(padded).stride(1) == 1);
}

TEST_CASE("a view of a View copies nothing, keeps nothing alive, and shows what is written", "[kokkos][view]") {
  right const k("k", 4, 6);
  auto const v = view(k);
  CHECK(v.data_handle() == k.data());
  CHECK(k.use_count() == 1);
  v(2, 5) = 3;
  CHECK(k(2, 5) == 3);
  k(1, 0) = 4;
  CHECK(v(1, 0) == 4);
}

TEST_CASE("Views of Kokkos' 16-bit floats have the values that Kokkos stored", "[kokkos][view]") {
  auto const check = [](auto const& k) {
    using stored = std::remove_cvref_t<decltype(k(0))>;
    for (int i = 0; i < 3; ++i) k(static_cast<std::size_t>(i)) = stored(1.5F - static_cast<float>(i));
    auto const v = view(k);
    static_assert(sizeof(typename decltype(v)::element_type) == sizeof(stored));
    CHECK(static_cast<void const*>(v.data_handle()) == static_cast<void const*>(k.data()));
    for (index_t i = 0; i < 3; ++i) CHECK(graft::load_as<float>(v(i)) == 1.5F - static_cast<float>(i));
  };
  check(Kokkos::View<Kokkos::Experimental::half_t*>("half", 3));
  check(Kokkos::View<Kokkos::Experimental::bhalf_t*>("bhalf", 3));
}

TEST_CASE("a Kokkos::View without elements is a view without elements", "[kokkos][view]") {
  auto const none = view(right("none", 0, 7));
  CHECK(none.extent(0) == 0);
  CHECK(none.extent(1) == 7);
  CHECK(none.size() == 0);
  CHECK(view(right()).size() == 0);
  graft::kokkos_executor<> const ex;
  right const x("x", 0, 7), a("a", 3, 7), b("b", 5, 3), y("y", 0, 5);
  CHECK_NOTHROW(kernels::low_rank_add(ex, view(x), view(a), view(b), view(y)));
  CHECK_NOTHROW(kernels::copy(ex, view(right()), view(right())));
  right const rows("rows", 2, 7), no_ranks("no ranks", 0, 7), of_none("of none", 5, 0), kept("kept", 2, 5);
  fill(kept);
  right const before("before", 2, 5);
  Kokkos::deep_copy(before, kept);
  kernels::low_rank_add(ex, view(rows), view(no_ranks), view(of_none), view(kept));
  CHECK(tests::differences(view(kept), view(before)) == "");
}

TEST_CASE("Kokkos' mdspan is taken with its layout", "[kokkos][view]") {
  std::vector<float> data(60);
  using all = Kokkos::dextents<std::size_t, 2>;
  Kokkos::mdspan<float, all> const r(data.data(), 5, 12);
  static_assert(seen<decltype(r)>::unit_dimension == 1);
  CHECK(&view(r)(3, 4) == &data[40]);
  Kokkos::mdspan<float const, Kokkos::extents<int, 5, Kokkos::dynamic_extent>, Kokkos::layout_left> const l(data.data(),
                                                                                                            12);
  static_assert(seen<decltype(l)>::unit_dimension == 0 && seen<decltype(l)>::static_extent(0) == 5);
  static_assert(seen<decltype(l)>::static_extent(1) == graft::dynamic);
  static_assert(std::is_same_v<seen<decltype(l)>::element_type, float const>);
  CHECK(view(l).extent(1) == 12);
  CHECK(&view(l)(3, 4) == &data[23]);
  Kokkos::layout_stride::mapping<all> const map(all(3, 4), std::array<std::size_t, 2>{20, 2});
  Kokkos::mdspan<float, all, Kokkos::layout_stride> const s(data.data(), map);
  static_assert(seen<decltype(s)>::unit_dimension == graft::no_unit_dimension);
  CHECK(&view(s)(2, 3) == &data[46]);
  Kokkos::mdspan<float, Kokkos::dextents<int, 3>> const three(data.data(), 3, 4, 5);
  static_assert(seen<decltype(three)>::rank() == 3 && seen<decltype(three)>::unit_dimension == 2);
  CHECK(&view(three)(2, 1, 3) == &data[48]);

  right const from("from", 3, 4);
  fill(from);
  kernels::copy(graft::kokkos_executor<>{}, view(from), view(s));
  CHECK(tests::differences(view(s), view(from)) == "");
  CHECK(data[1] == 0);  // between its elements
}

TEST_CASE("copy goes between Views of all layouts, and writes its output only", "[kokkos][view]") {
  graft::kokkos_executor<> const ex;
  left const from("from", 4, 6);
  fill(from);
  auto const check = [&](auto const& whole, auto const& part) {
    Kokkos::deep_copy(whole, -7.0F);
    kernels::copy(ex, view(from), view(part));
    CHECK(tests::differences(view(part), view(from)) == "");
    index_t others = 0;
    for (std::size_t i = 0; i < whole.extent(0); ++i)
      for (std::size_t j = 0; j < whole.extent(1); ++j) others += whole(i, j) == -7.0F ? 1 : 0;
    CHECK(others == static_cast<index_t>(whole.size()) - 24);
  };
  right const r("right", 9, 12);
  check(r, Kokkos::subview(r, Kokkos::pair(2, 6), Kokkos::pair(3, 9)));
  left const l("left", 9, 12);
  check(l, Kokkos::subview(l, Kokkos::pair(2, 6), Kokkos::pair(3, 9)));
  strided const s("strided", Kokkos::LayoutStride(9, 2, 12, 40));
  check(s, Kokkos::subview(s, Kokkos::pair(5, 9), Kokkos::pair(0, 6)));
  Kokkos::View<float**, Kokkos::LayoutRight, Kokkos::MemoryUnmanaged> const unmanaged(r.data(), 9, 12);
  check(unmanaged, Kokkos::subview(unmanaged, Kokkos::pair(0, 4), Kokkos::pair(6, 12)));
}

TEST_CASE("Views of all layouts in one call have the bits of plain memory", "[kokkos][view]") {
  constexpr index_t T = 11, n = 530, r = 7, m = 131;
  Kokkos::View<float* [n], Kokkos::LayoutRight> x("x", T);
  left a("A", r, n);
  strided b("B", Kokkos::LayoutStride(m, 2 * r, r, 2));
  left y("y", T, m);
  fill(x), fill(a), fill(b), fill(y);
  right x2("x2", T, n), a2("a2", r, n), b2("b2", m, r), y2("y2", T, m);
  Kokkos::deep_copy(x2, x);
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < r; ++j) b2(i, j) = b(i, j);
  for (index_t i = 0; i < r; ++i)
    for (index_t j = 0; j < n; ++j) a2(i, j) = a(i, j);
  for (index_t i = 0; i < T; ++i)
    for (index_t j = 0; j < m; ++j) y2(i, j) = y(i, j);
  Kokkos::View<float const**, Kokkos::LayoutLeft> const frozen = a;
  kernels::low_rank_add(graft::reference{}, view(x2), view(a2), view(b2), view(y2), 0.7);
  kernels::low_rank_add(graft::kokkos_executor<>{}, view(x), view(frozen), view(b), view(y), 0.7);
  for (index_t i = 0; i < T; ++i)
    for (index_t j = 0; j < m; ++j)
      if (!tests::same_bits(y(i, j), y2(i, j))) FAIL("at " << i << ", " << j << ": " << y(i, j) << " for " << y2(i, j));
}

TEST_CASE("Views of double, of padded rows and of ranges of rows have the bits of reference", "[kokkos][view]") {
  constexpr index_t T = 7, n = 1030, r = 9, m = 530;
  using matrix = Kokkos::View<double**, Kokkos::LayoutRight>;
  matrix const all("all", T + 4, n);
  auto const x = Kokkos::subview(all, Kokkos::pair(2, 2 + static_cast<int>(T)), Kokkos::ALL);
  matrix const a(Kokkos::view_alloc("A", Kokkos::AllowPadding), r, n);
  Kokkos::View<double* [r], Kokkos::LayoutLeft> const b("B", m);
  matrix const y("y", T, m), expected("expected", T, m);
  fill(all), fill(a), fill(b), fill(y);
  Kokkos::deep_copy(expected, y);
  Kokkos::View<double const**, Kokkos::LayoutRight> const frozen = a;
  kernels::low_rank_add(graft::reference{}, view(x), view(frozen), view(b), view(expected), 0.7);
  kernels::low_rank_add(graft::kokkos_executor<>{}, view(x), view(frozen), view(b), view(y), 0.7);
  CHECK(tests::differences(view(y), view(expected)) == "");
  matrix const start("start", T, m);
  fill(start);
  CHECK(tests::differences(view(y), view(start)) != "");  // something was added
}
