// SPDX-License-Identifier: Apache-2.0
/// @file
/// What is wrong with data, found while it is read: thrown where a call's work is done when it returns, else written to a
/// `fault_record` of the executor's, which `check` reads.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/scratch.hpp>
#include <graft/kernels/gate_rule.hpp>
#include <graft/kernels/summation.hpp>
#include <graft/view/tensor_view.hpp>

namespace graft::inline GRAFT_CONTRACT {

inline namespace GRAFT_TARGET {
/// Throws data_error when a copy of the record in memory of the host, complete (after `fence`), names something.
inline void check(fault_record const& record) {
  if (record.kind == fault_record::id_out_of_range) [[unlikely]]
    detail::raise(data_error(detail::text("graft: token ", record.token, " has the id ", record.id, " but there are ",
                                          record.limit, " rows")));
  if (record.kind != 0) [[unlikely]]
    detail::raise(data_error(
        detail::text("graft: token ", record.token, " ", detail::sentence_of(static_cast<gate_fault>(record.kind)))));
}
}  // namespace GRAFT_TARGET

namespace detail {
inline namespace GRAFT_TARGET {

/// Zeros codes that other bodies only set where something is wrong.
struct clear_codes_body {
  static constexpr std::string_view verb = "clear_codes";
  std::int32_t* code;
  index_t tokens;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    index_t const first = tm.league_rank() * column_tile;
    tm.vector(tile_extent(tokens, first, column_tile), [&](index_t i) { code[first + i] = 0; });
  }
};

/// One team: the lowest i < count with wrong(i) goes to tell(i), unless the record names something already.
template <class Wrong>
struct record_fault_body {
  static constexpr std::string_view verb = "record_fault";
  Wrong wrong;
  index_t count;
  fault_record* record;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    auto* const lowest = tm.template scratch<index_t>(column_tile);
    tm.vector(column_tile, [&](index_t lane) {
      lowest[lane] = count;
      for (index_t i = lane; i < count && lowest[lane] == count; i += column_tile)
        if (wrong(i)) lowest[lane] = i;
    });
    tm.barrier();
    tm.groups(1, [&](index_t) {
      tm.once([&] {
        index_t first = count;
        for (index_t lane = 0; lane < column_tile; ++lane)
          if (lowest[lane] < first) first = lowest[lane];
        if (first < count && record->kind == 0) *record = wrong.fault(first);
      });
    });
  }
};
template <class E, class Wrong>
void record_fault(E const& ex, Wrong const& wrong, index_t count) {
  ex.league(1, sizeof(index_t) * column_tile, record_fault_body<Wrong>{wrong, count, ex.faults});
}
/// Where an executor that cannot throw writes faults.
template <class E>
void expects_fault_record(E const& ex, std::string_view verb) {
  static_assert(
      requires { ex.faults; }, "graft: an executor whose calls return before their work is done has `faults`");
  if (ex.faults == nullptr) [[unlikely]]
    raise(argument_error(text("graft::", verb,
                              ": what is wrong with data cannot be thrown by this executor, whose "
                              "work is not done when a call returns; give the executor a graft::fault_record in its "
                              "memory, or the call a status")));
}

/// A code that says what is wrong with token t.
struct wrong_code {
  std::int32_t const* code;
  GRAFT_FN bool operator()(index_t t) const { return code[t] != 0; }
  GRAFT_FN fault_record fault(index_t t) const { return {code[t], t, 0, 0}; }
};

/// Throws for the lowest token with a fault.
inline void expects_no_fault(std::string_view verb, std::int32_t const* code, index_t step, index_t tokens) {
  index_t first = 0;
  for (std::int32_t any = 0; step == 1 && first + 64 <= tokens; first += 64) {  // most calls have none
    for (index_t i = 0; i < 64; ++i) any |= code[first + i];
    if (any != 0) break;
  }
  for (index_t t = first; t < tokens; ++t)
    if (auto const fault = static_cast<gate_fault>(code[t * step]); fault != gate_fault::right) [[unlikely]]
      raise(data_error(text("graft::", verb, ": token ", t, " ", sentence_of(fault))));
}

/// Runs `call(codes)` and throws, or records, the lowest token with a fault. `call` sets all codes, or (`clear`) only those of
/// tokens with a fault.
template <class E, class Call>
void with_own_codes(E const& ex, std::string_view verb, index_t tokens, bool clear, Call const& call) {
  if constexpr (!works_on_host<E>) expects_fault_record(ex, verb);
  call_scratch const memory(ex, sizeof(std::int32_t) * static_cast<std::size_t>(tokens));
  auto* const code = reinterpret_cast<std::int32_t*>(memory.data());
  if (clear) ex.league(tiles(tokens, column_tile), 0, clear_codes_body{code, tokens});
  call(gate_codes{code, 1});
  if constexpr (!works_on_host<E>) record_fault(ex, wrong_code{code}, tokens);
  else {
    ex.fence();
    expects_no_fault(verb, code, 1, tokens);
  }
}
/// The same with a status of the caller's, which is only written, or `none`.
template <class E, class Report, class Call>
void with_codes(E const& ex, std::string_view verb, Report const& status, index_t tokens, bool refuses,
                Call const& call) {
  if constexpr (!std::is_same_v<Report, none_t>) {
    expects_status(verb, status, tokens);
    call(gate_codes{status.codes.data_handle(), status.codes.stride(0)});
  } else {
    static_assert(has_resource<E>,
                  "graft: this executor cannot report bad logits by an exception; pass a gate_status, and `check` it");
    if constexpr (has_resource<E>) {
      if (refuses) with_own_codes(ex, verb, tokens, false, call);
      else call(gate_codes{});
    }
  }
}

}  // namespace GRAFT_TARGET
}  // namespace detail
}  // namespace graft::inline GRAFT_CONTRACT
