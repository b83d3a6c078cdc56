// SPDX-License-Identifier: Apache-2.0
/// @file
/// Host bodies at every instruction set, in every translation unit. A region of target attributes surrounds the whole
/// body: g++ does not change __AVX512F__ inside, so levels are selected by GRAFT_LEVEL_NUMBER; and a lambda only takes
/// the target of its region if all that it is inlined into lies in the region too.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/executor/isa.hpp>
#include <graft/kernels/gate_rule.hpp>
#include <graft/kernels/host/operand.hpp>
#include <graft/kernels/rotation.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/kernels/top_k.hpp>

#if defined(GRAFT_HAS_LEVELS)
#include <immintrin.h>
#endif

namespace graft::inline GRAFT_CONTRACT::detail {

// ---- Blocking: sizes of what is kept in caches. Bits do not depend on them. ---------------------------------------------

inline constexpr index_t shrink_row_step = 12;                      // rows of x widened at a time
inline constexpr index_t shrink_rank_step = 64;                     // ranks of A packed at a time,
inline constexpr index_t shrink_packs_rows = 24;                    // from so many rows on; fewer read fp32 as it lies
inline constexpr index_t shrink_rank_group = 16;                    // ranks of a packed A that the first cache holds
inline constexpr index_t expand_row_group = 96;                     // rows of v packed at a time
inline constexpr index_t expand_w_floats = index_t{1} << 16;        // a block of w: 256 KiB
inline constexpr index_t expand_small_w_floats = index_t{1} << 12;  // for few rows: 16 KiB
inline constexpr index_t expand_stage_floats = index_t{1} << 17;    // a block of y that is not row-major fp32: 512 KiB

/// Bytes of copies from which on they go past the caches: half of what processors of two to sixteen cores share.
inline constexpr index_t streamed_bytes = index_t{1} << 24;

/// Padding of rows in scratch: strides that are powers of two would put sixteen rows into the same cache set.
inline constexpr index_t row_padding = 16;
inline constexpr index_t packed_row = kernels::chunk + row_padding;

/// Bytes of `count` floats, so that what follows them stays aligned.
[[nodiscard]] constexpr std::size_t float_bytes(index_t count) {
  return scratch_block::rounded(sizeof(float) * static_cast<std::size_t>(count));
}

/// Rows of W whose norms are taken while a chunk of A is packed, and of these at most at a time.
inline constexpr index_t norm_row_block = 96;
inline constexpr index_t norm_row_step = 6;
/// Floats of scratch of shrink_chunk and shrink_rows.
[[nodiscard]] constexpr index_t shrink_scratch(index_t ranks) {
  return (shrink_row_step + (ranks < shrink_rank_step ? ranks : shrink_rank_step)) * packed_row;
}

/// Floats of scratch of norm_rows: u, p, b and |w|^2 of a block of rows, and what shrink_rows takes.
[[nodiscard]] constexpr index_t norm_scratch(index_t ranks) {
  return norm_row_block * (2 * ranks + (ranks + 15) / 16 * 16 + 1) + norm_row_step * packed_row + shrink_scratch(ranks);
}

/// A row of features in scratch.
[[nodiscard]] GRAFT_FN constexpr index_t packed_features(index_t features) {
  return (features + 15) / 16 * 16 + row_padding;
}

/// Floats of scratch of `cayley`: sixteen blocks side by side, and what their elimination or their series needs.
[[nodiscard]] GRAFT_FN constexpr index_t cayley_scratch(index_t size, int terms) {
  return 16 * (terms == 0 ? size * size + 2 * size : 3 * size * size);
}

/// Choices that host bodies of gates have room for, rows that go together, and how many are worth it.
inline constexpr index_t gate_host_choices = 64;
inline constexpr index_t gate_group_rows = 64;
inline constexpr index_t gate_group_experts = 4096;
inline constexpr index_t gate_tile_rows = 5;
/// Floats of scratch of `gate_rows`: keys of a row, maxima of its blocks, and rows.
[[nodiscard]] GRAFT_FN constexpr index_t gate_keys(index_t experts) {
  return (experts + 15) / 16 * 16 + (experts + 255) / 256 * 16;
}
[[nodiscard]] GRAFT_FN constexpr index_t gate_scratch(index_t experts, index_t rows) {
  index_t const together = rows < gate_tile_rows ? 1 : rows < gate_group_rows ? (rows + 15) / 16 * 16 : gate_group_rows;
  return gate_keys(experts) + together * ((experts + 15) / 16 * 16);
}

/// A block of columns of w, ready to be streamed.
struct expand_block {
  void const* w;
  index_t ldw;
  index_t panel_bytes;
  void const* tail;
  index_t columns;
  storage kind;
};

struct expand_sizes {
  index_t rows;     // that one pass over w serves
  index_t columns;  // of one block
  index_t w;        // floats of scratch
  index_t v;
  index_t stage;
  [[nodiscard]] constexpr index_t floats() const { return w + v + stage; }
};

// What a level offers, in tables by what verbs take together: a unit compiles the bodies of the tables that it asks for. No part
// of the namespace of a target: units of different targets share one table.
struct shrink_bodies {
  void (*shrink_chunk)(shrink_problem const&, index_t, index_t, index_t, index_t, index_t, float*, index_t, bool,
                       float*);
  void (*shrink_rows)(shrink_problem const&, index_t, index_t, float*, float*);
  void (*combine_chunks)(float const*, index_t, index_t, index_t, index_t, float, float*);
  void (*unpack)(float const*, index_t, index_t, index_t, operand const&);
};
struct expand_bodies {
  void (*expand_rows)(expand_problem const&, index_t, index_t, index_t, index_t, float*);
};
struct norm_bodies {
  void (*norm_rows)(norm_problem const&, index_t, index_t, float const*, float*);
};
struct rotation_bodies {
  void (*pack)(operand const&, index_t, index_t, float*, index_t);
  void (*pack_rotation)(rotation_problem const&, index_t, index_t, index_t, float*);
  void (*rotate)(rotation_problem const&, index_t, float const*, float const*, index_t, float*, index_t, index_t,
                 index_t, index_t, float*);
  void (*finish_rotation)(rotation_problem const&, index_t, index_t, float const*, index_t, float*);
};
struct cayley_bodies {
  void (*cayley)(cayley_problem const&, index_t, index_t, float*);
};
struct dispatch_bodies {
  void (*dispatch_rows)(dispatch_problem const&, index_t, index_t);
};
struct combine_bodies {
  void (*combine_rows)(combine_problem const&, index_t, index_t);
};
struct pair_dot_bodies {
  void (*dot_pair_rows)(combine_problem const&, index_t, index_t);
};
struct gate_bodies {
  void (*gate_rows)(gate_problem const&, index_t, index_t, float*);
};
struct all_host_bodies : shrink_bodies,
                         expand_bodies,
                         norm_bodies,
                         rotation_bodies,
                         cayley_bodies,
                         dispatch_bodies,
                         combine_bodies,
                         pair_dot_bodies,
                         gate_bodies {};

#if defined(GRAFT_HOST_BODIES_ELSEWHERE) || defined(GRAFT_HOST_BODIES_HERE)
/// The bodies of the level in use, from the unit that has them.
all_host_bodies const& shared_host_functions();
#endif

inline namespace GRAFT_TARGET {

/// Is y computed in a copy? When it is not row-major, or 16-bit (rounded once) or scaled afterwards with more than one chunk.
[[nodiscard]] inline bool expand_is_staged(expand_problem const& p) {
  return p.y.column != 1 || ((p.y.kind != storage::fp32 || p.delta != nullptr) && p.depth > kernels::chunk);
}
/// v is broadcast element by element; it is copied when it is narrow, unscaled or spread over too many pages.
[[nodiscard]] inline bool expand_packs_v(expand_problem const& p) {
  return p.v.kind != storage::fp32 || (!p.scale_on_w && p.scale != 1.0F) || p.v.column > 256 || p.v.column < -256;
}
/// Is w streamed as it lies in memory? When its outputs are side by side and it is fp32, or 16-bit and used only once.
[[nodiscard]] inline bool expand_streams_w(expand_problem const& p, index_t rows) {
  bool const scaled = p.scale_on_w && p.scale != 1.0F;
  return !scaled && (p.w.kind == storage::fp32 || rows <= 4) && (p.w.panel_rank > 0 || p.w.row == 1);
}
/// Is w, stored output by output, turned in registers? When that is cheaper than packing it.
[[nodiscard]] inline bool expand_turns_w(expand_problem const& p, index_t rows) {
  bool const scaled = p.scale_on_w && p.scale != 1.0F;
  return rows <= 4 && rows > 0 && !scaled && p.w.kind == storage::fp32 && p.w.panel_rank == 0 && p.w.column == 1 &&
         p.w.row != 1 && p.depth <= kernels::chunk && !expand_is_staged(p) && !expand_packs_v(p);
}
[[nodiscard]] inline expand_sizes expand_sizes_of(expand_problem const& p, index_t rows) {
  auto const round_up = [](index_t n) { return (n + panel_width - 1) / panel_width * panel_width; };
  index_t const depth = p.depth < kernels::chunk ? (p.depth == 0 ? 1 : p.depth) : kernels::chunk;
  index_t const all = round_up(p.columns);
  bool const streams = expand_streams_w(p, rows);
  index_t const block = rows > 8 ? expand_w_floats : streams ? all * depth : expand_small_w_floats;
  index_t const fits = block / depth / panel_width * panel_width;
  expand_sizes s{};
  s.columns = fits < all ? (fits < panel_width ? panel_width : fits) : all;
  s.w = (streams ? panel_width : s.columns) * depth;  // a streamed w only packs its tail
  s.v = expand_packs_v(p) ? (rows < expand_row_group ? rows : expand_row_group) * packed_row : 0;
  s.rows = rows == 0 ? 1 : rows;
  if (expand_is_staged(p)) {
    index_t const most = expand_stage_floats / s.columns;
    if (s.rows > most) s.rows = most < 6 ? 6 : most;
    s.stage = s.rows * (s.columns + row_padding);
  }
  return s;
}

/// Floats of scratch that `expand_rows` may take for any number of rows up to `rows`: a driver knows how many rows a worker
/// gets at most, not how many it gets. Sizes grow with the rows but for two steps: above 4 a narrow w is no longer streamed,
/// above 8 its blocks grow.
[[nodiscard]] inline index_t expand_scratch(expand_problem const& p, index_t rows) {
  index_t floats = 0;
  for (index_t const r : {rows, index_t{8}, index_t{4}}) {
    index_t const f = expand_sizes_of(p, r < rows ? r : rows).floats();
    if (f > floats) floats = f;
  }
  return floats;
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT::detail

#if !defined(GRAFT_CALLS_HOST_BODIES)

#define GRAFT_LEVEL baseline
#define GRAFT_LEVEL_NUMBER 0
#include <graft/kernels/host/body.inl.hpp>
#undef GRAFT_LEVEL
#undef GRAFT_LEVEL_NUMBER

#if defined(GRAFT_HAS_LEVELS)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,bmi2,tune=haswell")
#endif
#define GRAFT_LEVEL avx2
#define GRAFT_LEVEL_NUMBER 1
#include <graft/kernels/host/body.inl.hpp>
#undef GRAFT_LEVEL
#undef GRAFT_LEVEL_NUMBER
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2,tune=icelake-server")
#endif
#define GRAFT_LEVEL avx512
#define GRAFT_LEVEL_NUMBER 2
#include <graft/kernels/host/body.inl.hpp>
#undef GRAFT_LEVEL
#undef GRAFT_LEVEL_NUMBER
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif

#endif  // GRAFT_CALLS_HOST_BODIES

namespace graft::inline GRAFT_CONTRACT::detail {
inline namespace GRAFT_TARGET {
/// Bodies of the level in use: one of the tables above.
template <class Bodies>
[[nodiscard]] inline Bodies const& host_bodies() {
#if defined(GRAFT_CALLS_HOST_BODIES)
  return shared_host_functions();
#else
#if defined(GRAFT_HAS_LEVELS)
  isa const level = active_isa();
  if (level == isa::avx512) return avx512::bodies<Bodies>();
  if (level == isa::avx2) return avx2::bodies<Bodies>();
#endif
  return baseline::bodies<Bodies>();
#endif
}
}  // namespace GRAFT_TARGET

#if defined(GRAFT_HOST_BODIES_HERE)
all_host_bodies const& shared_host_functions() { return host_bodies<all_host_bodies>(); }
#endif
}  // namespace graft::inline GRAFT_CONTRACT::detail
