// SPDX-License-Identifier: Apache-2.0
/// @file
/// Which features the blocks of a butterfly factor act on (Liu et al. 2023, arXiv 2311.06243, as PEFT numbers them).
///
/// A rotation is R[N, D, b, b]: N factors of D blocks of b x b, D b = n features. In factor 0 block k acts on the features k b,
/// ..., k b + b - 1. In factor f the features lie in groups of b 2^f, a group in two halves, and block w of a group takes the
/// b / 2 features number w of either half: elements i < b / 2 of the block are those of the first one. One factor reaches b
/// features from each, log2(D) + 1 factors all. As one matrix the rotation is B_{N-1} ... B_1 B_0, and rows are multiplied from
/// the left: x B_{N-1} first.
#pragma once

#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace kernels {
/// The feature that element `i` of block `k` of factor `f` is.
[[nodiscard]] GRAFT_FN constexpr index_t block_feature(index_t f, index_t b, index_t k, index_t i) {
  index_t const half = b / 2;
  if (f == 0 || i < half) return f == 0 ? k * b + i : (k >> f) * (b << f) + (k - ((k >> f) << f)) * half + i;
  return (k >> f) * (b << f) + (k - ((k >> f) << f)) * half + (half << f) + i - half;
}
}  // namespace kernels

namespace detail {
/// The coefficient of Q^power in a series of `terms` terms: 1, 2, ..., 2, 1; three terms are four, as in PEFT.
[[nodiscard]] GRAFT_FN constexpr int neumann_coefficient(int terms, int power) {
  if (terms <= 2) return power + 1;
  return power == 0 || power == (terms == 3 ? 3 : terms - 1) ? 1 : 2;
}
[[nodiscard]] GRAFT_FN constexpr int neumann_degree(int terms) { return terms == 3 ? 3 : terms - 1; }

inline namespace GRAFT_TARGET {
/// R[N, D, b, b], factors number `first` and on, fits n features: blocks are square, D b = n, and above factor 0 b is even and D a
/// multiple of 2^(first + N - 1).
template <class R, class X>
void expects_rotation(std::string_view verb, R const& r, std::string_view name, X const& x, index_t first = 0) {
  expects_equal_extents(verb, "R", r, 2, "R", r, 3);
  expects_data(verb, "R", r);
  index_t const blocks = r.extent(1), b = r.extent(2), n = x.extent(X::rank() - 1);
  if (r.extent(0) < 1 || first < 0 || r.extent(0) > 48 || first > 48) [[unlikely]]
    raise(shape_error(text("graft::", verb, ": R", shape_text(r), " has ", r.extent(0), " factors from ", first,
                           " on; there are 1 to 48")));
  index_t const factors = first + r.extent(0);
  if (b != 0 ? blocks != n / b || n % b != 0 : n != 0) [[unlikely]]
    raise(shape_error(text("graft::", verb, ": the ", blocks, " blocks of R", shape_text(r), " do not cover the ", n,
                           " features of ", name, shape_text(x))));
  if (factors > 1 && (b % 2 != 0 || blocks % (index_t{1} << (factors - 1)) != 0)) [[unlikely]]
    raise(shape_error(text("graft::", verb, ": ", factors, " factors of R", shape_text(r),
                           " need blocks of even size, and a number of blocks that is a multiple of ",
                           index_t{1} << (factors - 1))));
}
}  // namespace GRAFT_TARGET
}  // namespace detail
}  // namespace graft::inline GRAFT_CONTRACT
