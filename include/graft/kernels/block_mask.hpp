// SPDX-License-Identifier: Apache-2.0
/// @file
/// `block_dropout`: an explicit mask of blocks of one factor of a rotation, a function of (seed, stream): BOFT's multiplicative
/// dropout. Forward and backward share it without storing it, and it is equal on every backend.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/detail/philox.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/kernels/override.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Of D blocks of one factor, chosen at random, int(probability D) are dropped, as PEFT drops them. Give every layer and step its
/// own stream.
struct block_dropout {
  double probability = 0.0;
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;

  /// The factor whose blocks are dropped, of `factors`.
  [[nodiscard]] GRAFT_FN index_t factor(index_t factors) const {
    return factors < 2
               ? 0
               : static_cast<index_t>(detail::philox_word(seed, stream, -1) % static_cast<std::uint32_t>(factors));
  }
  /// How many of `blocks` are dropped.
  [[nodiscard]] GRAFT_FN index_t count(index_t blocks) const {
    return static_cast<index_t>(probability * static_cast<double>(blocks));
  }
};

namespace detail {
inline namespace GRAFT_TARGET {
/// One team: the blocks with the smallest numbers of the stream are those that are dropped. They become I or 0.
template <class R>
struct drop_blocks_body {
  static constexpr std::string_view verb = "drop_blocks";
  static constexpr bool unbounded_scratch = true;
  block_dropout mask;
  R r;
  bool identity;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const blocks = r.extent(0);
    index_t const b = r.extent(1);
    index_t const dropped = mask.count(blocks);
    auto* const key = tm.template scratch<std::uint32_t>(blocks);
    tm.vector(blocks, [&](index_t k) { key[k] = philox_word(mask.seed, mask.stream, k); });
    tm.barrier();
    tm.vector(blocks, [&](index_t k) {
      index_t before = 0;
      for (index_t j = 0; j < blocks; ++j) before += key[j] < key[k] || (key[j] == key[k] && j < k) ? 1 : 0;
      if (before >= dropped) return;
      for (index_t i = 0; i < b; ++i)
        for (index_t j = 0; j < b; ++j) r(k, i, j) = store_as<typename R::value_type>(identity && i == j ? 1.0F : 0.0F);
    });
  }
};
}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// drop_blocks: the blocks that the mask drops become I. zero_blocks: they become 0.
///
/// Shapes       R[D, b, b] in and out: the blocks of the mask's factor. Any strides, any scalar.
/// Determinism  a function of (seed, stream, D): equal on every executor.
/// Cost         D^2 comparisons and D rounds of Philox; the dropped blocks are written. One team.
/// Errors       argument_error unless 0 <= probability < 1; nothing is written then.
template <bool Identity>
struct drop_blocks_fn {
  template <class E, class R>
  void operator()(E const& ex, block_dropout const& mask, R const& r) const {
    GRAFT_MANDATE_EXECUTOR("kernels::drop_blocks, zero_blocks", E)
    GRAFT_MANDATE_OUTPUT("kernels::drop_blocks, zero_blocks", "R", E, R, 3)
    if constexpr (graft::detail::accepted_output<E, R, 3>) {
      constexpr std::string_view verb = Identity ? "kernels::drop_blocks" : "kernels::zero_blocks";
      if (!(mask.probability >= 0.0 && mask.probability < 1.0)) [[unlikely]]
        graft::detail::raise(argument_error(graft::detail::text("graft::", verb, ": the probability of the dropout is ",
                                                                mask.probability, " but must lie in [0, 1)")));
      graft::detail::expects_equal_extents(verb, "R", r, 1, "R", r, 2);
      graft::detail::expects_output(verb, "R", r);
      if (r.size() == 0) return;
      ex.league(1, sizeof(std::uint32_t) * static_cast<std::size_t>(r.extent(0)),
                graft::detail::drop_blocks_body<R>{mask, r, Identity});
    }
  }
};
inline constexpr drop_blocks_fn<true> drop_blocks{};
inline constexpr drop_blocks_fn<false> zero_blocks{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
