// SPDX-License-Identifier: Apache-2.0
/// @file
/// `ids`: token ids, which are read, never computed with.
#pragma once

#include <concepts>
#include <cstddef>
#include <ranges>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/view/concepts.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Ids of tokens: any integers side by side, in memory that the executor can touch.
template <std::integral T, class Space = host_space>
struct id_list {
  using value_type = std::remove_const_t<T>;
  using element_type = T const;
  using space_type = Space;
  static constexpr int unit_dimension = 0;
  T const* data = nullptr;
  index_t count = 0;

  static constexpr std::size_t rank() { return 1; }
  [[nodiscard]] GRAFT_FN constexpr index_t extent(std::size_t) const { return count; }
  [[nodiscard]] GRAFT_FN constexpr index_t stride(std::size_t) const { return 1; }
  [[nodiscard]] GRAFT_FN constexpr index_t size() const { return count; }
  [[nodiscard]] GRAFT_FN constexpr T const* data_handle() const { return data; }
  [[nodiscard]] GRAFT_FN constexpr index_t operator()(index_t i) const { return static_cast<index_t>(data[i]); }
};

/// Is T an `id_list`?
template <class T>
inline constexpr bool is_id_list = false;
template <class T, class S>
inline constexpr bool is_id_list<id_list<T, S>> = true;

inline namespace GRAFT_TARGET {
/// Ids in the memory space `Space`: ids_in<device_space>(pointer, T).
template <class Space, std::integral T>
[[nodiscard]] constexpr id_list<T, Space> ids_in(T const* data, index_t count) {
  if (count < 0) [[unlikely]]
    detail::raise(shape_error(detail::text("graft::ids: the count is ", count, "; it is not negative")));
  return {data, count};
}
/// ids(pointer, T), ids(vector): leading dimensions are one list.
template <std::integral T>
[[nodiscard]] constexpr id_list<T> ids(T const* data, index_t count) {
  return graft::ids_in<host_space>(data, count);
}
template <class R>
  requires(std::ranges::contiguous_range<R> && std::ranges::sized_range<R> &&
           std::integral<std::ranges::range_value_t<R>> && std::is_lvalue_reference_v<R>)
[[nodiscard]] constexpr auto ids(R&& data) {
  return id_list<std::ranges::range_value_t<R>>{std::ranges::data(data), static_cast<index_t>(std::ranges::size(data))};
}
/// Ids [first, first + count). Unchecked.
template <class T, class S>
[[nodiscard]] constexpr id_list<T, S> slice(id_list<T, S> const& list, index_t first, index_t count) {
  return {list.data + first, count};
}
}  // namespace GRAFT_TARGET

/// No id is a padding.
inline constexpr index_t no_padding = -1;

}  // namespace graft::inline GRAFT_CONTRACT
