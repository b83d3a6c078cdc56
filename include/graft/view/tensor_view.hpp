// SPDX-License-Identifier: Apache-2.0
/// @file
/// `tensor_view`: pointer, extents, strides and memory space. Owns nothing, costs nothing to copy.
/// `graft::view(...)` makes one of whatever a framework has; bridges for other libraries overload it.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <ranges>
#include <type_traits>
#include <utility>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/view/concepts.hpp>
#include <graft/view/extents.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Rows are tokens (`x[T, n]`, `y[T, m]`), weights are `W[m, n]` (out, in). Any stride is legal, so are 0 rows.
/// `UnitDimension` says which dimension is known to have stride 1 (the last for row-major data, `no_unit_dimension` for
/// none): a fact of the type, so that the compiler folds the stride. 64-byte aligned rows are worth 20-25 % of speed.
template <class T, class Extents, class Space = host_space, int UnitDimension = static_cast<int>(Extents::rank()) - 1>
class tensor_view {
  static_assert(
      scalar<T> || integer_element<T>,
      "graft::tensor_view: elements are float, double, graft::bfloat16 or graft::float16; of ids, offsets and "
      "masks std::int32_t, std::int64_t or std::uint8_t");
  static_assert(UnitDimension >= no_unit_dimension && UnitDimension < static_cast<int>(Extents::rank()));

 public:
  using element_type = T;
  using value_type = std::remove_const_t<T>;
  using extents_type = Extents;
  using index_type = index_t;
  using space_type = Space;
  static constexpr int unit_dimension = UnitDimension;
  using shape_type = std::array<index_t, Extents::rank()>;

  static constexpr std::size_t rank() { return Extents::rank(); }
  GRAFT_FN static constexpr index_t static_extent(std::size_t i) { return Extents::static_extent(i); }

  constexpr tensor_view() = default;
  /// Unchecked; `graft::view` checks. `strides[UnitDimension]` is 1 whatever is passed.
  GRAFT_FN constexpr tensor_view(T* data, Extents const& shape, shape_type const& strides)
      : data_(data), extents_(shape), strides_(strides) {}
  /// From a view of mutable elements, or with extents or a unit stride that this type leaves open.
  template <class U, class E, int D>
    requires(std::is_convertible_v<U (*)[], T (*)[]> && E::rank() == Extents::rank() &&
             (D == UnitDimension || UnitDimension == no_unit_dimension) &&
             !std::is_same_v<tensor_view<U, E, Space, D>, tensor_view>)
  GRAFT_FN constexpr tensor_view(tensor_view<U, E, Space, D> const& other)  // NOLINT: implicit, like T* to T const*
      : data_(other.data_handle()), extents_(other.shape()), strides_(other.strides()) {
    static_assert(compatible<E>(std::make_index_sequence<Extents::rank()>{}),
                  "graft::tensor_view: a static extent can only be taken from a view that has the same static extent");
  }

  [[nodiscard]] GRAFT_FN constexpr T* data_handle() const { return data_; }
  [[nodiscard]] GRAFT_FN constexpr index_t extent(std::size_t i) const { return extents_.extent(i); }
  [[nodiscard]] GRAFT_FN constexpr index_t stride(std::size_t i) const {
    return static_cast<int>(i) == UnitDimension ? 1 : strides_[i];
  }
  [[nodiscard]] GRAFT_FN constexpr index_t size() const {
    index_t n = 1;
    for (std::size_t i = 0; i < rank(); ++i) n *= extent(i);
    return n;
  }
  [[nodiscard]] GRAFT_FN constexpr shape_type shape() const {
    shape_type s{};
    for (std::size_t i = 0; i < rank(); ++i) s[i] = extent(i);
    return s;
  }
  [[nodiscard]] GRAFT_FN constexpr shape_type strides() const {
    shape_type s{};
    for (std::size_t i = 0; i < rank(); ++i) s[i] = stride(i);
    return s;
  }
  /// Unchecked.
  template <class... Index>
    requires(sizeof...(Index) == Extents::rank())
  [[nodiscard]] GRAFT_FN constexpr T& operator()(Index... i) const {
    return data_[offset(std::make_index_sequence<Extents::rank()>{}, i...)];
  }

 private:
  template <std::size_t... D, class... Index>
  GRAFT_FN constexpr index_t offset(std::index_sequence<D...>, Index... i) const {
    return (index_t{0} + ... + (static_cast<index_t>(i) * stride(D)));
  }
  template <class E, std::size_t... D>
  static consteval bool compatible(std::index_sequence<D...>) {
    return ((Extents::static_extent(D) == dynamic || Extents::static_extent(D) == E::static_extent(D)) && ...);
  }

  T* data_ = nullptr;
  Extents extents_{};
  shape_type strides_{};
};

/// The distance in elements from one row to the next, for rows with padding behind them.
struct row_stride {
  index_t value;
};

namespace detail {
inline namespace GRAFT_TARGET {

/// Row-major strides; refuses negative extents and sizes above 64 bits.
template <std::size_t Rank>
[[nodiscard]] constexpr std::array<index_t, Rank> row_major_strides(std::array<index_t, Rank> const& shape) {
  std::array<index_t, Rank> strides{};
  index_t size = 1;
  for (std::size_t i = Rank; i-- > 0;) {
    if (shape[i] < 0)
      raise(shape_error(text("graft::view: extent ", i, " is ", shape[i], "; extents are not negative")));
    strides[i] = size;
    size = checked_product(size, shape[i] == 0 ? 1 : shape[i], "view");
  }
  return strides;
}

/// What views can be made of.
template <class T> concept viewable = scalar<T> || integer_element<T>;

/// Types with a bridge of their own, though some of them are ranges too (Eigen 5's vectors are, Eigen 3's are not).
template <class T>
inline constexpr bool is_bridged = false;

template <class R>
concept contiguous_data =
    std::ranges::contiguous_range<R> && std::ranges::sized_range<R> && !is_bridged<std::remove_cvref_t<R>> &&
    (std::is_lvalue_reference_v<R> || std::ranges::borrowed_range<R>) && viewable<std::ranges::range_value_t<R>>;

template <class R>
using range_element_t = std::remove_reference_t<std::ranges::range_reference_t<R>>;

}  // namespace GRAFT_TARGET

template <class E>
struct exchanged;
template <index_t A, index_t B>
struct exchanged<extents<A, B>> {
  using type = extents<B, A>;
};

}  // namespace detail

inline namespace GRAFT_TARGET {

/// Row-major data in the memory space `Space`: `view_in<device_space>(pointer, T, n)`.
template <class Space, detail::viewable T, std::integral... Index>
  requires(sizeof...(Index) > 0)
[[nodiscard]] constexpr auto view_in(T* data, Index... shape) {
  std::array<index_t, sizeof...(Index)> const all{static_cast<index_t>(shape)...};
  return tensor_view<T, dynamic_extents<sizeof...(Index)>, Space>{data, dynamic_extents<sizeof...(Index)>{all},
                                                                  detail::row_major_strides(all)};
}

/// Row-major host data: `view(pointer, T, n)`.
template <detail::viewable T, std::integral... Index>
  requires(sizeof...(Index) > 0)
[[nodiscard]] constexpr auto view(T* data, Index... shape) {
  return graft::view_in<host_space>(data, shape...);
}

/// Row-major host data with padded rows: `view(pointer, T, n, row_stride{1024})`.
template <detail::viewable T, std::integral Rows, std::integral Columns>
[[nodiscard]] constexpr auto view(T* data, Rows rows, Columns columns, row_stride stride) {
  std::array<index_t, 2> const all{static_cast<index_t>(rows), static_cast<index_t>(columns)};
  static_cast<void>(detail::row_major_strides(all));
  if (stride.value < all[1] && all[0] > 1) [[unlikely]]
    detail::raise(shape_error(
        detail::text("graft::view: row_stride ", stride.value, " is smaller than the ", all[1], " columns")));
  return tensor_view<T, dynamic_extents<2>>{data, dynamic_extents<2>{all}, {stride.value, 1}};
}

/// Row-major host data, extents static where known: `view(pointer, extents<dynamic, 16>{T, 16})`.
template <detail::viewable T, index_t... E>
[[nodiscard]] constexpr auto view(T* data, extents<E...> const& shape) {
  std::array<index_t, sizeof...(E)> all{};
  for (std::size_t i = 0; i < sizeof...(E); ++i) all[i] = shape.extent(i);
  return tensor_view<T, extents<E...>>{data, shape, detail::row_major_strides(all)};
}

/// Host data with any strides (elements; negative and 0 are legal for inputs). No dimension is assumed to be contiguous;
/// `with_unit_stride` finds out.
template <detail::viewable T, index_t... E>
[[nodiscard]] constexpr auto view(T* data, extents<E...> const& shape,
                                  std::array<index_t, sizeof...(E)> const& strides) {
  std::array<index_t, sizeof...(E)> all{};
  for (std::size_t i = 0; i < sizeof...(E); ++i) all[i] = shape.extent(i);
  static_cast<void>(detail::row_major_strides(all));
  return tensor_view<T, extents<E...>, host_space, no_unit_dimension>{data, shape, strides};
}

/// A vector over anything contiguous: std::span, std::vector, std::array, an array.
template <class R>
  requires detail::contiguous_data<R>
[[nodiscard]] constexpr auto view(R&& data) {
  return graft::view(std::ranges::data(data), static_cast<index_t>(std::ranges::size(data)));
}

/// Row-major extents over anything contiguous; its size must be their product.
template <class R, std::integral... Index>
  requires(detail::contiguous_data<R> && sizeof...(Index) > 0)
[[nodiscard]] constexpr auto view(R&& data, Index... shape) {
  auto const v = graft::view(static_cast<detail::range_element_t<R>*>(std::ranges::data(data)), shape...);
  if (v.size() != static_cast<index_t>(std::ranges::size(data))) [[unlikely]]
    detail::raise(
        shape_error(detail::text("graft::view: ", detail::shape_text(v), " has ", v.size(),
                                 " elements but the data has ", static_cast<index_t>(std::ranges::size(data)))));
  return v;
}

/// A view is its own view: generic code may wrap what it is given.
template <class T, class E, class S, int D>
[[nodiscard]] GRAFT_FN constexpr auto view(tensor_view<T, E, S, D> const& v) {
  return v;
}

/// The same elements, read-only.
template <class T, class E, class S, int D>
[[nodiscard]] GRAFT_FN constexpr auto as_const(tensor_view<T, E, S, D> const& v) {
  return tensor_view<T const, E, S, D>{v};
}

/// The same elements with rows and columns exchanged; the unit dimension moves along.
template <class T, class E, class S, int D>
  requires(E::rank() == 2)
[[nodiscard]] GRAFT_FN constexpr auto transposed(tensor_view<T, E, S, D> const& v) {
  using shape = typename detail::exchanged<E>::type;
  constexpr int unit = D == no_unit_dimension ? no_unit_dimension : 1 - D;
  return tensor_view<T, shape, S, unit>{v.data_handle(), shape{v.extent(1), v.extent(0)}, {v.stride(1), v.stride(0)}};
}

/// Matrix `i` of a view of three dimensions: one expert of [E, m, n]. Checked.
template <class T, class E, class S, int D>
  requires(E::rank() == 3)
[[nodiscard]] constexpr auto layer(tensor_view<T, E, S, D> const& v, index_t i) {
  if (i < 0 || i >= v.extent(0)) [[unlikely]]
    detail::raise(shape_error(detail::text("graft::layer: there is no layer ", i, " of ", detail::shape_text(v))));
  using shape = extents<E::static_extent(1), E::static_extent(2)>;
  constexpr int unit = D == 1 || D == 2 ? D - 1 : no_unit_dimension;
  return tensor_view<T, shape, S, unit>{v.data_handle() + (v.size() == 0 ? 0 : i * v.stride(0)),
                                        shape{v.extent(1), v.extent(2)},
                                        {v.stride(1), v.stride(2)}};
}
/// The same elements with the last two dimensions exchanged: experts stored [E, n, m] as [E, m, n].
template <class T, class E, class S, int D>
  requires(E::rank() == 3)
[[nodiscard]] GRAFT_FN constexpr auto transposed(tensor_view<T, E, S, D> const& v) {
  using shape = extents<E::static_extent(0), E::static_extent(2), E::static_extent(1)>;
  constexpr int unit = D == 2 ? 1 : D == 1 ? 2 : D;
  return tensor_view<T, shape, S, unit>{
      v.data_handle(), shape{v.extent(0), v.extent(2), v.extent(1)}, {v.stride(0), v.stride(2), v.stride(1)}};
}

/// Rows [first, first + count) of a matrix. Checked.
template <class T, class E, class S, int D>
  requires(E::rank() == 2)
[[nodiscard]] constexpr auto rows(tensor_view<T, E, S, D> const& v, index_t first, index_t count) {
  if (first < 0 || count < 0 || first > v.extent(0) - count) [[unlikely]]
    detail::raise(shape_error(detail::text("graft::rows: rows ", first, " + ", count, " of ", detail::shape_text(v))));
  using shape = extents<dynamic, E::static_extent(1)>;
  return tensor_view<T, shape, S, D>{v.data_handle() + (count == 0 ? 0 : first * v.stride(0)),
                                     shape{count, v.extent(1)}, v.strides()};
}

/// Columns [first, first + count) of a matrix, in place: a fused q, k, v output is three of these. Checked.
template <class T, class E, class S, int D>
  requires(E::rank() == 2)
[[nodiscard]] constexpr auto columns(tensor_view<T, E, S, D> const& v, index_t first, index_t count) {
  if (first < 0 || count < 0 || first > v.extent(1) - count) [[unlikely]]
    detail::raise(
        shape_error(detail::text("graft::columns: columns ", first, " + ", count, " of ", detail::shape_text(v))));
  using shape = extents<E::static_extent(0), dynamic>;
  return tensor_view<T, shape, S, D>{v.data_handle() + (count == 0 ? 0 : first * v.stride(1)),
                                     shape{v.extent(0), count}, v.strides()};
}

/// Calls `f` with `v` typed by the unit stride that it has at run time: bridges that only know strides branch here, once.
template <class T, class E, class S, class F>
decltype(auto) with_unit_stride(tensor_view<T, E, S, no_unit_dimension> const& v, F&& f) {
  constexpr int last = static_cast<int>(E::rank()) - 1;
  if (v.stride(static_cast<std::size_t>(last)) == 1)
    return std::forward<F>(f)(tensor_view<T, E, S, last>{v.data_handle(), E{v.shape()}, v.strides()});
  if constexpr (last > 0)
    if (v.stride(0) == 1)
      return std::forward<F>(f)(tensor_view<T, E, S, 0>{v.data_handle(), E{v.shape()}, v.strides()});
  return std::forward<F>(f)(v);
}

}  // namespace GRAFT_TARGET

}  // namespace graft::inline GRAFT_CONTRACT
