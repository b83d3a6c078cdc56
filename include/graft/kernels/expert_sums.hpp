// SPDX-License-Identifier: Apache-2.0
/// @file
/// `expert_sums`: how often, or with what weight, each expert was chosen; and the way back. Memory-bound; the generic body is the body.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/kernels/faults.hpp>
#include <graft/kernels/gate.hpp>
#include <graft/kernels/gate_rule.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {
inline namespace GRAFT_TARGET {

/// Is token t counted? A mask shorter than the tokens repeats.
template <class M>
GRAFT_FN bool counts_token(M const& mask, index_t t) {
  if constexpr (std::is_same_v<M, none_t>) return true;
  else if constexpr (scalar<typename M::value_type>) return load_as<double>(mask(t % mask.extent(0))) != 0.0;
  else return mask(t % mask.extent(0)) != 0;
}

/// Generic body: 512 tokens a team, in order; part[team, E]. Of wide teams a lane adds the choices of its expert, from tiles of pairs
/// in scratch.
template <class Ids, class W, class M, class Accumulate>
struct expert_sums_body {
  static constexpr std::string_view verb = "expert_sums";
  Ids ids;
  W weights;
  M mask;
  index_t experts;
  Accumulate* part;
  gate_codes codes;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const first = tm.league_rank() * kernels::chunk;
    Accumulate* const mine = part + tm.league_rank() * experts;
    index_t const last = first + tile_extent(ids.extent(0), first, kernels::chunk);
    tm.vector(experts, [&](index_t e) { mine[e] = Accumulate{0}; });
    tm.barrier();
    if constexpr (wide_team<Team>) {
      index_t const k = ids.extent(1);
      index_t const block = tokens_at_once(k);
      auto* const expert = tm.template scratch<index_t>(block * k * 2);
      auto* const weight = reinterpret_cast<Accumulate*>(expert + block * k);
      for (index_t t0 = first; t0 < last; t0 += block) {
        index_t const tokens = tile_extent(last, t0, block);
        tm.vector(tokens, [&](index_t i) {
          for (index_t s = 0; s < k; ++s) expert[i * k + s] = -1;
          each_choice(t0 + i, [&](index_t s, index_t e) {
            expert[i * k + s] = e;
            if constexpr (!std::is_same_v<W, none_t>) weight[i * k + s] = weight_of(t0 + i, s);
          });
        });
        tm.barrier();
        tm.vector(experts, [&](index_t e) {
          Accumulate sum = mine[e];
          for (index_t i = 0; i < tokens * k; ++i)
            if (expert[i] == e) {
              if constexpr (std::is_same_v<W, none_t>) sum = sum + Accumulate{1};
              else sum = sum + weight[i];
            }
          mine[e] = sum;
        });
        tm.barrier();
      }
    } else {
      tm.groups(1, [&](index_t) {
        tm.once([&] {
          for (index_t t = first; t < last; ++t)
            each_choice(t, [&](index_t s, index_t e) { mine[e] = mine[e] + weight_of(t, s); });
        });
      });
    }
  }
  static std::size_t scratch(index_t k) {
    return 2 * sizeof(index_t) * static_cast<std::size_t>(tokens_at_once(k) * k);
  }

 private:
  /// Tokens of a tile of at most 2048 pairs, or of one token.
  [[nodiscard]] GRAFT_FN static constexpr index_t tokens_at_once(index_t k) {
    index_t const fit = 2048 / (k < 1 ? 1 : k);
    return fit < 1 ? 1 : fit < kernels::chunk ? fit : kernels::chunk;
  }
  [[nodiscard]] GRAFT_FN Accumulate weight_of(index_t t, index_t s) const {
    if constexpr (std::is_same_v<W, none_t>) return Accumulate{1};
    else return load_as<Accumulate>(weights(t, s));
  }
  /// f(choice, expert) for what is counted of token t.
  template <class F>
  GRAFT_FN void each_choice(index_t t, F const& f) const {
    bool right = true;
    bool const counted = counts_token(mask, t);
    for (index_t s = 0; s < ids.extent(1); ++s) {
      auto const e = static_cast<index_t>(ids(t, s));
      right = right && e >= -1 && e < experts;
      if (counted && e >= 0 && e < experts) f(s, e);
    }
    if (!right) codes.set(t, gate_fault::bad_id);
  }
};

/// total[c] += part[0, c] + part[1, c] + ..., in order.
template <class V, class Accumulate>
struct add_parts_body {
  static constexpr std::string_view verb = "expert_sums";
  Accumulate const* part;
  index_t parts;
  V total;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const first = tm.league_rank() * column_tile;
    tm.vector(tile_extent(total.extent(0), first, column_tile), [&](index_t e) {
      index_t const c = first + e;
      Accumulate sum = load_as<Accumulate>(total(c));
      for (index_t i = 0; i < parts; ++i) sum = sum + part[i * total.extent(0) + c];
      total(c) = store_as<typename V::value_type>(sum);
    });
  }
};

template <class DS, class Ids, class DW, class Accumulate>
struct expert_sums_backward_body {
  static constexpr std::string_view verb = "expert_sums_backward";
  DS dsums;
  Ids ids;
  DW dweights;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    row_tile<Team::row_block> const tile(tm.league_rank(), ids.extent(0));
    for (int i = 0; i < tile.count; ++i) {
      index_t const t = tile.row[i];
      tm.vector(ids.extent(1), [&](index_t s) {
        auto const e = static_cast<index_t>(ids(t, s));
        if (e < 0 || e >= dsums.extent(0)) return;
        dweights(t, s) =
            store_as<typename DW::value_type>(load_as<Accumulate>(dweights(t, s)) + load_as<Accumulate>(dsums(e)));
      });
    }
  }
};

/// Checks of a mask over tokens, which may be `none`.
template <class M>
void expects_mask(std::string_view verb, M const& mask, index_t tokens) {
  if constexpr (!std::is_same_v<M, none_t>) {
    static_assert(M::rank() == 1, "graft: a mask over tokens must have rank 1");
    if (mask.extent(0) == 0 ? tokens != 0 : tokens % mask.extent(0) != 0) [[unlikely]]
      raise(shape_error(text("graft::", verb, ": mask", shape_text(mask), " must have an element for each of ", tokens,
                             " tokens, or divide them")));
    expects_data(verb, "mask", mask);
  }
}

}  // namespace GRAFT_TARGET
}  // namespace detail

namespace kernels {
inline namespace GRAFT_TARGET {

/// sums[e] += the number of choices of expert e, or the sum of their weights (the importance of Shazeer et al. 2017, arXiv
/// 1701.06538, equation 6), over tokens whose mask is not 0.
///
/// Shapes       ids[T, k], weights[T, k] or `none`, mask[T] or a divisor of T, repeated (any scalar, or std::uint8_t, std::int32_t, std::int64_t) or `none` in;
///              sums[E] in and out. Any strides; fp32, or fp64 when one is `double`. Ids of -1 are not counted.
/// Order        tokens in order per 512, then these sums in order.
/// Aliasing     sums may not overlap anything else.
/// Cost         T k additions. Scratch: E numbers for 512 tokens, and 4 T bytes; 16 bytes a team for each of
///              2048 pairs, or of those of a token.
/// Errors       shape_error, argument_error; nothing is written then. data_error names the lowest token with an id outside [-1, E);
///              such ids are not counted.
struct expert_sums_fn {
  template <class E, class Ids, class W, class M, class S>
  void operator()(E const& ex, Ids const& ids, W const& weights, M const& mask, S const& sums) const {
    GRAFT_MANDATE_EXECUTOR("kernels::expert_sums", E)
    GRAFT_MANDATE_ID_VIEW("kernels::expert_sums", "ids", E, Ids, 2)
    if constexpr (!std::is_same_v<W, none_t>) { GRAFT_MANDATE_INPUT("kernels::expert_sums", "weights", E, W, 2) }
    GRAFT_MANDATE_OUTPUT("kernels::expert_sums", "sums", E, S, 1)
    if constexpr (graft::detail::accepted_id_view<E, Ids, 2> && graft::detail::accepted_output<E, S, 1>) {
      constexpr std::string_view verb = "kernels::expert_sums";
      graft::detail::expects_data(verb, "ids", ids);
      graft::detail::expects_mask(verb, mask, ids.extent(0));
      graft::detail::expects_output(verb, "sums", sums);
      graft::detail::expects_disjoint(verb, "sums", sums, "ids", ids);
      if constexpr (!std::is_same_v<W, none_t>) {
        graft::detail::expects_equal_extents(verb, "weights", weights, 0, "ids", ids, 0);
        graft::detail::expects_equal_extents(verb, "weights", weights, 1, "ids", ids, 1);
        graft::detail::expects_data(verb, "weights", weights);
        graft::detail::expects_disjoint(verb, "sums", sums, "weights", weights);
      }
      using accumulate = accumulate_t<graft::detail::value_or_float<W>, typename S::value_type>;
      index_t const parts = graft::detail::tiles(ids.extent(0), chunk);
      graft::detail::call_scratch const memory(
          ex, sizeof(accumulate) * static_cast<std::size_t>(
                                       graft::detail::checked_product(parts, sums.extent(0), "kernels::expert_sums")));
      auto* const part = reinterpret_cast<accumulate*>(memory.data());
      graft::detail::with_own_codes(ex, verb, ids.extent(0), true, [&](graft::detail::gate_codes const& codes) {
        using body = graft::detail::expert_sums_body<Ids, W, M, accumulate>;
        ex.league(parts, body::scratch(ids.extent(1)), body{ids, weights, mask, sums.extent(0), part, codes});
        ex.league(graft::detail::tiles(sums.extent(0), graft::detail::column_tile), 0,
                  graft::detail::add_parts_body<S, accumulate>{part, parts, sums});
      });
    }
  }
};
inline constexpr expert_sums_fn expert_sums{};

/// dweights[t, s] += dsums[ids[t, s]], where there is an expert.
///
/// Shapes       dsums[E], ids[T, k] in; dweights[T, k] in and out. Any strides, any scalars.
/// Aliasing     dweights may not overlap anything else.
/// Cost         T k additions. Ids outside [0, E) are passed over: `expert_sums` has refused them.
/// Errors       shape_error, argument_error; nothing is written then.
struct expert_sums_backward_fn {
  template <class E, class DS, class Ids, class DW>
  void operator()(E const& ex, DS const& dsums, Ids const& ids, DW const& dweights) const {
    GRAFT_MANDATE_EXECUTOR("kernels::expert_sums_backward", E)
    GRAFT_MANDATE_INPUT("kernels::expert_sums_backward", "dsums", E, DS, 1)
    GRAFT_MANDATE_ID_VIEW("kernels::expert_sums_backward", "ids", E, Ids, 2)
    GRAFT_MANDATE_OUTPUT("kernels::expert_sums_backward", "dweights", E, DW, 2)
    if constexpr (graft::detail::accepted_input<E, DS, 1> && graft::detail::accepted_id_view<E, Ids, 2> &&
                  graft::detail::accepted_output<E, DW, 2>) {
      constexpr std::string_view verb = "kernels::expert_sums_backward";
      graft::detail::expects_equal_extents(verb, "dweights", dweights, 0, "ids", ids, 0);
      graft::detail::expects_equal_extents(verb, "dweights", dweights, 1, "ids", ids, 1);
      graft::detail::expects_data(verb, "dsums", dsums);
      graft::detail::expects_data(verb, "ids", ids);
      graft::detail::expects_output(verb, "dweights", dweights);
      graft::detail::expects_disjoint(verb, "dweights", dweights, "dsums", dsums);
      graft::detail::expects_disjoint(verb, "dweights", dweights, "ids", ids);
      using accumulate = accumulate_t<typename DS::value_type, typename DW::value_type>;
      ex.league(graft::detail::tiles(ids.extent(0), E::row_block), 0,
                graft::detail::expert_sums_backward_body<DS, Ids, DW, accumulate>{dsums, ids, dweights});
    }
  }
};
inline constexpr expert_sums_backward_fn expert_sums_backward{};

}  // namespace GRAFT_TARGET
}  // namespace kernels
}  // namespace graft::inline GRAFT_CONTRACT
