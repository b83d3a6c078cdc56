// SPDX-License-Identifier: Apache-2.0
// Butterfly-orthogonal rotations of a row in double, one feature at a time.
#pragma once

#include <utility>

#include "support/buffers.hpp"

namespace bench {

/// The feature that element i of block k of factor f is, and the block and element of a feature.
inline index_t feature(index_t b, index_t f, index_t k, index_t i) {
  if (f == 0) return k * b + i;
  index_t const half = b / 2, group = b << f, in_group = index_t{1} << f;  // blocks of a group
  return k / in_group * group + i / half * (group / 2) + k % in_group * half + i % half;
}
inline std::pair<index_t, index_t> place(index_t b, index_t f, index_t at) {
  if (f == 0) return {at / b, at % b};
  index_t const half = b / 2, group = b << f, in_group = index_t{1} << f;
  index_t const within = at % group;
  return {at / group * in_group + within % (group / 2) / half, within / (group / 2) * half + within % half};
}
/// (x B_{N-1} ... B_f)[t, at] for p.N factors p.R of p.n features in blocks of p.b.
template <class P>
double turned(P const& p, buffer<float> const& x, index_t f, index_t t, index_t at) {
  if (f == p.N) return value(x, t * p.n + at);
  auto const [k, j] = place(p.b, f, at);
  return sum(p.b, [&](index_t i) {
    return turned(p, x, f + 1, t, feature(p.b, f, k, i)) * value(p.R, ((f * (p.n / p.b) + k) * p.b + i) * p.b + j);
  });
}
/// (x (B_f ... B_0)^T)[t, at].
template <class P>
double turned_back(P const& p, buffer<float> const& x, index_t f, index_t t, index_t at) {
  if (f < 0) return value(x, t * p.n + at);
  auto const [k, j] = place(p.b, f, at);
  return sum(p.b, [&](index_t i) {
    return turned_back(p, x, f - 1, t, feature(p.b, f, k, i)) * value(p.R, ((f * (p.n / p.b) + k) * p.b + j) * p.b + i);
  });
}

}  // namespace bench
