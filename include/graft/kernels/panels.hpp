// SPDX-License-Identifier: Apache-2.0
/// @file
/// `panels_view`: the load-time form of B, ordered as expansion streams it. Reads like a matrix view of [m, r].
#pragma once

#include <cstddef>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/elements.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Columns of y that one panel feeds.
inline constexpr index_t panel_width = 64;

/// B[m, r] as [ceil(m / 64)][r][64]: 64 outputs side by side for each rank; the outputs past m are zero. 64-byte aligned
/// data is worth 20-25 %. Not a strided view: element (o, j) lies at (o / 64 * r + j) * 64 + o % 64.
template <class T, class Space = host_space>
class panels_view {
 public:
  using element_type = T;
  using value_type = std::remove_const_t<T>;
  using space_type = Space;
  static constexpr int unit_dimension = no_unit_dimension;

  static constexpr std::size_t rank() { return 2; }
  constexpr panels_view() = default;
  GRAFT_FN constexpr panels_view(T* data, index_t outputs, index_t ranks)
      : data_(data), outputs_(outputs), ranks_(ranks) {}
  template <class U>
    requires(std::is_convertible_v<U (*)[], T (*)[]> && !std::is_same_v<U, T>)
  GRAFT_FN constexpr panels_view(panels_view<U, Space> const& v)  // NOLINT: implicit, like T* to T const*
      : data_(v.data_handle()), outputs_(v.extent(0)), ranks_(v.extent(1)) {}

  [[nodiscard]] GRAFT_FN constexpr T* data_handle() const { return data_; }
  [[nodiscard]] GRAFT_FN constexpr index_t extent(std::size_t i) const { return i == 0 ? outputs_ : ranks_; }
  /// Within a panel.
  [[nodiscard]] GRAFT_FN constexpr index_t stride(std::size_t i) const { return i == 0 ? 1 : panel_width; }
  [[nodiscard]] GRAFT_FN constexpr index_t size() const { return outputs_ * ranks_; }
  [[nodiscard]] GRAFT_FN constexpr T& operator()(index_t o, index_t j) const {
    return data_[(o / panel_width * ranks_ + j) * panel_width + o % panel_width];
  }
  /// Elements of memory behind it, padding included.
  [[nodiscard]] GRAFT_FN constexpr index_t storage_size() const { return storage(outputs_, ranks_); }
  [[nodiscard]] static constexpr index_t storage(index_t outputs, index_t ranks) {
    return (outputs + panel_width - 1) / panel_width * panel_width * ranks;
  }

 private:
  T* data_ = nullptr;
  index_t outputs_ = 0;
  index_t ranks_ = 0;
};

/// Is V a `panels_view`?
template <class V>
inline constexpr bool is_panels = false;
template <class T, class S>
inline constexpr bool is_panels<panels_view<T, S>> = true;

namespace detail {
inline namespace GRAFT_TARGET {
/// Generic body: one panel a team.
template <class B, class P>
struct pack_panels_body {
  static constexpr std::string_view verb = "pack_panels";
  B b;
  P panels;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const first = tm.league_rank() * panel_width;
    index_t const r = b.extent(1);
    auto* const out = panels.data_handle() + first * r;
    pass_over(
        tm, r * panel_width,
        [&](index_t i) {
          index_t const o = first + i % panel_width;
          return o < b.extent(0) ? b(o, i / panel_width) : typename P::value_type(0.0F);
        },
        [&](index_t i, typename P::value_type element) { out[i] = element; });
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// Copies B[m, r] into panels (done once, when an adapter is loaded). The memory must hold `panels_view::storage(m, r)`
/// elements and must not overlap B. Bits are copied.
template <executor E, matrix_view B, class T, class S>
  requires(can_access<E, B> && can_access<E, panels_view<T, S>> && std::is_same_v<T, typename B::value_type>)
void pack_panels(E const& ex, B const& b, panels_view<T, S> const& panels) {
  constexpr std::string_view verb = "kernels::pack_panels";
  graft::detail::expects_equal_extents(verb, "panels", panels, 0, "B", b, 0);
  graft::detail::expects_equal_extents(verb, "panels", panels, 1, "B", b, 1);
  graft::detail::expects_data(verb, "B", b);
  graft::detail::expects_data(verb, "panels", panels);
  graft::detail::expects_disjoint(verb, "panels", panels, "B", b);
  ex.league((b.extent(0) + panel_width - 1) / panel_width, 0,
            graft::detail::pack_panels_body<B, panels_view<T, S>>{b, panels});
}

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
