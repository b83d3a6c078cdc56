// A method that nobody published, as CONTRIBUTING.md asks for one: a header of its own, written against views, executors,
// kernels and the adapters' concepts, and nothing else. It fits without a change to any file of graft.
//
//     x[T, n]  down[r, n]  up[m, r]  light[r] fixed  y[T, m]  W[m, n]
//     y += s ((x down^T) diag(light)) up^T
#pragma once

#include <cstddef>
#include <memory_resource>
#include <tuple>
#include <type_traits>
#include <vector>

#include <graft/adapters/concepts.hpp>
#include <graft/kernels.hpp>
#include <graft/view.hpp>

namespace fictitious {

using graft::index_t;

template <class Down, class Up, class Light>
struct spotlight {
  static_assert(graft::matrix_view<Down> && graft::matrix_view<Up> && graft::vector_view<Light>);

  Down down;
  Up up;
  Light light;
  graft::scaling strength;

  [[nodiscard]] index_t rank() const { return down.extent(0); }
  [[nodiscard]] index_t in_features() const { return down.extent(1); }
  [[nodiscard]] index_t out_features() const { return up.extent(0); }
};

/// A matrix of scratch, where the executor keeps its own, else where the program does.
class temporary {
 public:
  template <class E>
  temporary(E const& ex, index_t rows, index_t columns)
      : rows_(rows), columns_(columns), data_(static_cast<std::size_t>(rows * columns), resource_of(ex)) {}
  [[nodiscard]] auto view() { return graft::view(data_.data(), rows_, columns_); }

 private:
  template <class E>
  static std::pmr::memory_resource* resource_of(E const& ex) {
    if constexpr (requires { ex.resource(); }) return ex.resource();
    else return std::pmr::get_default_resource();
  }
  index_t rows_;
  index_t columns_;
  std::pmr::vector<float> data_;
};

template <class E, class D, class U, class L, class X, class Y>
void add_delta(E const& ex, spotlight<D, U, L> const& a, X const& x, Y const& y) {
  temporary v(ex, x.extent(0), a.rank());
  graft::kernels::shrink(ex, x, a.down, v.view(), a.strength);
  graft::kernels::scale_columns(ex, a.light, v.view());
  graft::kernels::expand_add(ex, v.view(), a.up, y);
}

template <class Down, class Up>
struct spotlight_gradients {
  Down down;
  Up up;
};

template <class E, class D, class U, class L, class X, class DY, class GD, class GU, class DX>
void backward(E const& ex, spotlight<D, U, L> const& a, X const& x, DY const& dy,
              spotlight_gradients<GD, GU> const& gradients, DX const& dx) {
  temporary v(ex, x.extent(0), a.rank());
  graft::kernels::shrink(ex, x, a.down, v.view(), a.strength);
  graft::kernels::scale_columns(ex, a.light, v.view());
  graft::kernels::expand_add(ex, graft::transposed(dy), graft::transposed(v.view()), gradients.up);
  graft::kernels::shrink(ex, dy, graft::transposed(a.up), v.view(), a.strength);
  graft::kernels::scale_columns(ex, a.light, v.view());
  graft::kernels::expand_add(ex, graft::transposed(v.view()), graft::transposed(x), gradients.down);
  graft::kernels::expand_add(ex, v.view(), graft::transposed(a.down), dx);
}

/// W += factor up diag(light) down
template <class E, class D, class U, class L, class W>
void add_weight(E const& ex, spotlight<D, U, L> const& a, W const& w, double factor) {
  temporary lit(ex, a.out_features(), a.rank());
  graft::kernels::copy(ex, a.up, lit.view());
  graft::kernels::scale_columns(ex, a.light, lit.view());
  graft::kernels::outer_add(ex, lit.view(), a.down, w, factor);
}
template <class E, class D, class U, class L, class W>
void merge(E const& ex, spotlight<D, U, L> const& a, W const& w) {
  add_weight(ex, a, w, a.strength.value());
}
template <class E, class D, class U, class L, class W>
void unmerge(E const& ex, spotlight<D, U, L> const& a, W const& w) {
  add_weight(ex, a, w, -a.strength.value());
}
template <class E, class D, class U, class L, class W>
void delta_weight(E const& ex, spotlight<D, U, L> const& a, W const& w) {
  static constexpr float zero = 0;
  graft::kernels::copy(ex, graft::view(&zero, graft::dynamic_extents<2>(w.extent(0), w.extent(1)), {0, 0}), w);
  add_weight(ex, a, w, a.strength.value());
}

template <class D, class U, class L>
[[nodiscard]] auto output_rows(spotlight<D, U, L> const& a, index_t first, index_t count) {
  auto const up = graft::rows(a.up, first, count);
  return spotlight<D, std::remove_const_t<decltype(up)>, L>{a.down, up, a.light, a.strength};
}

template <class D, class U, class L>
[[nodiscard]] auto trainable(spotlight<D, U, L> const& a) {
  return std::tuple{graft::parameter<D>{"down", a.down}, graft::parameter<U>{"up", a.up}};
}

using example = spotlight<graft::tensor_view<float, graft::dynamic_extents<2>>,
                          graft::tensor_view<float, graft::dynamic_extents<2>>,
                          graft::tensor_view<float const, graft::dynamic_extents<1>>>;
static_assert(graft::additive_adapter<example> && graft::mergeable<example> && graft::row_mergeable<example> &&
              graft::trainable_adapter<example>);

}  // namespace fictitious
