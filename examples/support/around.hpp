// SPDX-License-Identifier: Apache-2.0
/// @file
/// Everything that graft does for a layer with an adapter around it: BOFT, OFT, HRA, (IA)3. Forward and backward by
/// `adapted_linear`, which calls the framework's own GEMM with what the adapter makes of x.
#pragma once

#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

#include <Eigen/Core>
#include <graft/eigen.hpp>
#include <graft/graft.hpp>
#include <graft/openmp.hpp>

#include "around64.hpp"
#include "report.hpp"

namespace demo {

/// Memory for what is worth keeping between calls, and the adapter with it, up to date: f(adapter).
template <class A, class F>
void with_memory(graft::openmp const& ex, A const& a, F const& f) {
  std::vector<float> memory, more;
  auto const floats = [](std::vector<float>& v, graft::index_t count) {
    v.resize(static_cast<std::size_t>(count));
    return v.data();
  };
  if constexpr (requires { a.factors(); }) {  // BOFT
    graft::index_t const N = a.factors(), D = a.blocks(), b = a.block_size();
    auto const ready = graft::with_rotations(a, graft::view(floats(memory, N * D * b * b), N, D, b, b));
    graft::update_rotations(ex, ready);  // after every step
    f(ready);
  } else if constexpr (requires { a.blocks(); }) {  // OFT
    graft::index_t const rows = a.parameters.extent(0), b = a.block_size();
    auto const ready = graft::with_rotations(a, graft::view(floats(memory, rows * b * b), rows, b, b));
    graft::update_rotations(ex, ready);
    f(ready);
  } else if constexpr (requires { a.gram_schmidt; }) {  // HRA
    graft::index_t const n = a.in_features(), r = a.rank();
    auto const ready =
        graft::with_reflections(a, graft::view(floats(memory, r * n), r, n), graft::view(floats(more, n * r), n, r));
    graft::update_reflections(ex, ready);
    f(ready);
  } else f(a);
}

/// Elements of a view of any rank, in order, in float64.
template <class View>
[[nodiscard]] matrix64 elements(View const& v) {
  matrix64 out(1, v.size());
  for (graft::index_t k = 0; k < v.size(); ++k) {
    graft::index_t rest = k, offset = 0;
    for (std::size_t i = View::rank(); i-- > 0; rest /= v.extent(i)) offset += rest % v.extent(i) * v.stride(i);
    out(0, k) = graft::load_as<double>(v.data_handle()[offset]);
  }
  return out;
}

/// The adapter in fp32, in memory of ours; widening is exact. For one that is stored in 16 bits: the program compiles half as long
/// as with kernels for every type.
template <class A, class F>
void with_fp32(A const& a, F const& f) {
  matrix first, second;
  auto const widened = [](auto const& v, matrix& to) -> float const* {
    to = elements(v).template cast<float>();
    return to.data();
  };
  if constexpr (requires { a.factors(); })
    f(graft::boft{graft::view(widened(a.parameters, first), a.factors(), a.blocks(), a.block_size(), a.block_size()),
                  graft::view(widened(a.s, second), a.s.extent(0))});
  else if constexpr (requires { a.blocks(); })
    f(graft::oft{graft::view(widened(a.parameters, first), a.parameters.extent(0), a.parameters.extent(1)), a.features,
                 a.block, a.terms});
  else if constexpr (requires { a.gram_schmidt; })
    f(graft::hra{graft::view(widened(a.u, first), a.u.extent(0), a.u.extent(1)), a.gram_schmidt});
  else if constexpr (requires { a.out_features(); }) f(graft::ia3{graft::view(widened(a.l, first), a.l.extent(0))});
  else f(graft::ia3_feedforward{graft::view(widened(a.l, first), a.l.extent(0))});
}

/// The adapter as its paper writes it.
template <class S, class A>
[[nodiscard]] std::function<around<S>(matrix64 const&)> maker([[maybe_unused]] A const& a) {
  if constexpr (requires { a.factors(); })
    return
        [N = a.factors(), D = a.blocks(), b = a.block_size()](matrix64 const& p) { return boft_around<S>(p, N, D, b); };
  else if constexpr (requires { a.blocks(); })
    return [D = a.blocks(), b = a.block_size(), terms = a.terms](matrix64 const& p) {
      return oft_around<S>(p, D, b, terms);
    };
  else if constexpr (requires { a.gram_schmidt; })
    return [n = a.in_features(), r = a.rank(), gs = a.gram_schmidt](matrix64 const& p) {
      return hra_around<S>(Eigen::Map<matrix64 const>(p.data(), n, r), gs);
    };
  else return scaled_around<S>;
}
/// Parameters of what acts on inputs, and scales of outputs; either may be empty.
template <class A>
[[nodiscard]] std::pair<matrix64, matrix64> parameters_of(A const& a) {
  if constexpr (requires { a.factors(); }) return {elements(a.parameters), elements(a.s)};
  else if constexpr (requires { a.blocks(); }) return {elements(a.parameters), matrix64(1, 0)};
  else if constexpr (requires { a.gram_schmidt; }) return {elements(a.u), matrix64(1, 0)};
  else if constexpr (requires { a.out_features(); }) return {matrix64(1, 0), elements(a.l)};
  else return {elements(a.l), matrix64(1, 0)};
}

/// Forward, merge, unmerge, backward. The framework's GEMM is Eigen's.
template <class A>
[[nodiscard]] around_outcome apply_around(graft::openmp const& ex, A const& a, layer const& l) {
  Eigen::Index const T = l.x.rows(), n = l.W.cols(), m = l.W.rows();
  around_outcome out;
  out.y = matrix::Zero(T, m);
  out.dx = matrix::Zero(T, n);
  out.merged = l.W;
  auto const [parameters, scales] = parameters_of(a);
  out.dparameters.assign(static_cast<std::size_t>(parameters.size()), 0.0F);
  if (scales.size() != 0) out.dscales = row_vector::Zero(m);
  matrix kept(scales.size() != 0 ? T : 0, m), dy = l.dy;

  auto const rows = [](auto const& v) { return Eigen::Map<matrix>(v.data_handle(), v.extent(0), v.extent(1)); };
  auto const const_rows = [](auto const& v) {
    return Eigen::Map<matrix const>(v.data_handle(), v.extent(0), v.extent(1));
  };
  auto const forward = [&](auto const& x, auto const& y) { rows(y).noalias() = const_rows(x) * l.W.transpose(); };
  auto const backward = [&](auto const& g, auto const& dx) { rows(dx).noalias() += const_rows(g) * l.W; };
  with_memory(ex, a, [&](auto const& ready) {
    auto const gradients = [&] {
      float* const p = out.dparameters.data();
      if constexpr (requires { a.factors(); })
        return graft::boft_gradients{graft::view(p, a.factors(), a.blocks(), a.block_size(), a.block_size()),
                                     graft::view(out.dscales)};
      else if constexpr (requires { a.blocks(); })
        return graft::oft_gradients{graft::view(p, a.parameters.extent(0), a.parameters.extent(1))};
      else if constexpr (requires { a.gram_schmidt; })
        return graft::hra_gradients{graft::view(p, a.u.extent(0), a.u.extent(1))};
      else if constexpr (requires { a.out_features(); }) return graft::ia3_gradients{graft::view(out.dscales)};
      else return graft::ia3_gradients{graft::view(p, a.l.extent(0))};
    }();
    graft::trained const t{ready, gradients, graft::view(kept)};
    auto const run = [&](auto const& base) {
      graft::adapted_linear(ex, base, t, graft::view(l.x), graft::view(out.y));
      graft::adapted_linear_backward(ex, base, t, graft::view(l.x), graft::view(dy), graft::view(out.dx));
    };
    if (l.bias.size() != 0) run(graft::base_layer{forward, backward, graft::view(l.bias), graft::none});
    else run(graft::base_layer{forward, backward, graft::none, graft::none});

    if (l.bias.size() != 0) out.merged_bias = l.bias;
    auto const merge_with = [&](auto const&... bias) {
      graft::merge(ex, ready, graft::view(out.merged), bias...);
      out.unmerged = out.merged;
    };
    if constexpr (requires { A::scales_bias; }) {
      if (l.bias.size() != 0) merge_with(graft::view(out.merged_bias));
      else merge_with();
    } else merge_with();
    graft::unmerge(ex, ready, graft::view(out.unmerged));
  });
  return out;
}

/// Medians at `tokens` rows: graft's transforms, and the same as one would write it with Eigen.
template <class A>
[[nodiscard]] timing measure_around(graft::openmp const& ex, A const& a, layer const& l, Eigen::Index tokens,
                                    drawn& numbers) {
  matrix const x = numbers.values(tokens, l.W.cols(), 1.0F);
  matrix y = matrix::Zero(tokens, l.W.rows()), turned = x;
  timing t;
  t.base = median_us([&] { y.noalias() = x * l.W.transpose(); });
  auto const [parameters, scales] = parameters_of(a);
  row_vector const s = scales.template cast<float>();
  auto const eigen = maker<float>(a)(parameters);
  t.eigen = median_us([&] {
    if (parameters.size() != 0) turned = eigen.forth(x);
    if (s.size() != 0) y.array().rowwise() *= s.array();
  });
  with_memory(ex, a, [&](auto const& ready) {
    t.adapter = median_us([&] {
      if constexpr (requires { graft::transform_input(ex, ready, graft::view(x), graft::view(turned)); })
        graft::transform_input(ex, ready, graft::view(x), graft::view(turned));
      if constexpr (requires { graft::transform_output(ex, ready, graft::view(x), graft::view(y)); })
        graft::transform_output(ex, ready, graft::view(x), graft::view(y));
    });
  });
  return t;
}

}  // namespace demo
