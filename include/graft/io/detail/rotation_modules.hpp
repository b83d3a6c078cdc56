// SPDX-License-Identifier: Apache-2.0
/// @file
/// Modules of PEFT's BOFT, OFT and HRA.
#pragma once

#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <graft/adapters/oft.hpp>
#include <graft/config.hpp>
#include <graft/executor/reference.hpp>
#include <graft/io/adapted_module.hpp>
#include <graft/io/detail/checkpoint_contents.hpp>
#include <graft/view/scalar.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT::io::detail {

/// boft_R[N, D, b, b] and boft_s[m, 1].
inline void add_boft(checkpoint_contents& c, std::string const& name, module_tensors const& p) {
  auto const *const R = p.find(".boft_R"), *const s = p.find(".boft_s");
  if (!c.pair(R, s, "boft_R", "boft_s")) return;
  c.expects_rank(*R, 4);
  c.expects_rank(*s, 2);
  for (auto const* const t : {R, s}) c.expects_elements(*t);
  adapted_module m;
  m.name = name;
  m.kind = adapter_kind::boft;
  m.factors = R->shape[0];
  m.block_size = R->shape[2];
  index_t const blocks = R->shape[1];
  if (R->shape[3] != m.block_size)
    c.wrong(*R, graft::detail::text("has blocks of ", R->shape[2], " x ", R->shape[3], "; they must be square"));
  if (s->shape[1] != 1) {
    if (s->shape[0] != 1) c.wrong(*s, "must be one column");
    return c.list_all(p, "BOFT on a convolution is not computed by this version");
  }
  if (m.factors != c.config.boft_n_butterfly_factor)
    c.wrong(*R, graft::detail::text(
                    "has ", m.factors, " factors but the configuration says ", c.config.boft_n_butterfly_factor,
                    m.factors == 1 ? " (PEFT without its CUDA extension trains one, whatever it is told)" : ""));
  if (c.config.boft_block_size != 0 ? m.block_size != c.config.boft_block_size : blocks != c.config.boft_block_num)
    c.wrong(*R, graft::detail::text("has ", blocks, " blocks of ", m.block_size, " but the configuration says ",
                                    c.config.boft_block_size != 0 ? "blocks of " : "",
                                    c.config.boft_block_size != 0 ? c.config.boft_block_size : c.config.boft_block_num,
                                    c.config.boft_block_size != 0 ? "" : " blocks"));
  if (m.factors > 48) c.wrong(*R, graft::detail::text("has ", m.factors, " factors; at most 48 are computed"));
  if (m.factors > 1 && (m.block_size % 2 != 0 || blocks % (index_t{1} << (m.factors - 1)) != 0))
    c.wrong(*R,
            graft::detail::text(m.factors, " factors need blocks of even size, and a multiple of ",
                                index_t{1} << (m.factors - 1), " of them; there are ", blocks, " of ", m.block_size));
  if (!c.one_type(p, m)) return;
  m.in_features = blocks * m.block_size;
  m.out_features = s->shape[0];
  m.dropout = c.config.boft_dropout;
  m.fan_in_fan_out = c.config.fan_in_fan_out;
  c.keep(std::move(m), p);
}

/// The divisor of n that PEFT takes for `wanted`: the nearest, of two the smaller.
[[nodiscard]] inline index_t nearest_divisor(index_t n, index_t wanted) {
  index_t best = 1;
  auto const distance = [&](index_t d) { return d < wanted ? wanted - d : d - wanted; };
  auto const consider = [&](index_t d) {
    if (distance(d) < distance(best) || (distance(d) == distance(best) && d < best)) best = d;
  };
  for (index_t d = 1; d <= n / d; ++d)
    if (n % d == 0) consider(d), consider(n / d);
  return best;
}
/// COFT: PEFT limits the parameters before every use, so those in the file may lie beyond.
template <class T>
void project_in_place(checkpoint_contents& c, adapted_module const& m, tensor_info const& t) {
  auto* const p = reinterpret_cast<T*>(c.aligned.find(c.key(m.name, ".oft_R.weight"))->second.owned().data());
  project(reference{}, oft{view(p, t.shape[0], t.shape[1]), m.block_size * t.shape[0], m.block_size}, c.config.eps);
}
/// PEFT 0.14 and 0.15 stored whole blocks, oft_r, and scales, oft_s.
inline void refuse_old_oft(checkpoint_contents const& c, tensor_info const& t) {
  if (c.config.peft_type == "OFT" && t.name.ends_with(".oft_r"))
    refuse<unsupported_error>(
        c.file.path(), "is OFT as PEFT before 0.16.0 stored it: other parameters of another rotation", t.name, t.begin);
}
/// oft_R.weight[D, b (b - 1) / 2], or of one row where blocks are shared: then only the layer tells how many features it has.
inline void add_oft(checkpoint_contents& c, std::string const& name, module_tensors const& p) {
  tensor_info const& R = *p.find(".oft_R.weight");
  c.expects_rank(R, 2);
  index_t const rows = R.shape[0], numbers = R.shape[1];
  if (rows <= 0) c.wrong(R, "is empty");
  adapted_module m;
  m.name = name;
  m.kind = adapter_kind::oft;
  // Rows of blocks of 1 hold no numbers: their count costs a file nothing, and a reader the search below.
  constexpr index_t most = index_t{1} << 24;
  auto const too_many = [&] { c.wrong(R, graft::detail::text("is for more than ", most, " features")); };
  if (rows > most || numbers > most * (most - 1) / 2) too_many();
  m.block_size = static_cast<index_t>(std::lround((1.0 + std::sqrt(1.0 + 8.0 * static_cast<double>(numbers))) / 2.0));
  if (m.block_size * (m.block_size - 1) / 2 != numbers)
    c.wrong(R, graft::detail::text("has ", numbers, " columns, which are not the b (b - 1) / 2 of any block size b"));
  if (c.config.block_share) {
    if (rows != 1) c.wrong(R, graft::detail::text("has ", rows, " rows but the configuration says block_share"));
  } else {
    // PEFT takes the nearest that divides the features.
    bool const by_size = c.config.oft_block_size != 0;
    index_t const stated = by_size ? c.config.oft_block_size : c.config.r;
    if (rows > most / m.block_size) too_many();
    index_t const features = rows * m.block_size;
    if (nearest_divisor(features, stated) != (by_size ? m.block_size : rows))
      c.wrong(R, graft::detail::text("has ", rows, " blocks of ", m.block_size, " but the configuration says ",
                                     by_size ? "blocks of " : "", stated, by_size ? "" : " blocks"));
    m.in_features = features;
  }
  if (!c.one_type(p, m)) return;
  m.fan_in_fan_out = c.config.fan_in_fan_out;
  c.keep(m, p);
  if (!c.config.coft || numbers == 0) return;
  with_type(m, [&]<class T>(std::type_identity<T>) { project_in_place<T>(c, m, R); });
}

/// hra_u[n, r].
inline void add_hra(checkpoint_contents& c, std::string const& name, module_tensors const& p) {
  tensor_info const& u = *p.find(".hra_u");
  c.expects_rank(u, 2);
  c.expects_elements(u);
  adapted_module m;
  m.name = name;
  m.kind = adapter_kind::hra;
  m.in_features = u.shape[0];
  m.rank = u.shape[1];
  if (m.rank != c.config.r)
    c.wrong(u, graft::detail::text("has ", m.rank, " columns but the configuration says rank ", c.config.r));
  if (c.config.apply_GS && m.rank > m.in_features)
    c.wrong(u, graft::detail::text("has more columns, ", m.rank, ", than the ", m.in_features,
                                   " that can be made orthonormal (apply_GS)"));
  if (!c.one_type(p, m)) return;
  c.keep(std::move(m), p);
}

}  // namespace graft::inline GRAFT_CONTRACT::io::detail
