// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a backend must offer. Every backend: a league of teams. Hosts also: one region of workers with a barrier.
///
/// A team runs one tile of a generic body. Its lanes come in groups of sixteen, and `dot` owns the order of the only
/// sums that there are: lane l takes k0 + l, k0 + l + 16, ... by fma from +0 (missing elements of the last sixteen count
/// as +0 times +0), then one tree adds the lanes (offsets 8, 4, 2, 1). So every backend gives the same bits.
///
///     league_rank()                which tile
///     row_block                    rows a tile takes: the backend's taste; bits do not depend on it
///     groups(count, f)             f(i), each by one group of sixteen lanes
///     dot(k0, k1, w, x, out)       inside groups: out[t] = sum of w(k) x(t, k) for t < R; every lane gets it
///     once(f)                      inside groups: by one lane only
///     vector(count, f)             f(i) spread over all lanes of the team
///     scratch<T>(count)            memory of the team, at most the bytes that the league announced
///     barrier()                    all lanes of the team
#pragma once

#include <concepts>
#include <cstddef>
#include <memory_resource>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/view/concepts.hpp>
#include <graft/view/ids.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// What a generic body is given; see above.
template <class T>
concept team = requires(T const& t) {
  { t.league_rank() } -> std::convertible_to<index_t>;
  { T::row_block } -> std::convertible_to<int>;
  { t.template scratch<float>(index_t{}) } -> std::same_as<float*>;
  t.barrier();
};

/// A team of many lanes that run side by side, `lanes()` of them. Where one lane would do the work of a team, bodies share it out:
/// other work, the same bits.
template <class T>
concept wide_team = team<T> && requires(T const& t) {
  { t.lanes() } -> std::convertible_to<int>;
};

namespace detail {
/// Stand-ins that concepts call with. Bodies are named function objects, never lambdas (nvcc).
struct probe_body {
  template <class Team>
  GRAFT_FN void operator()(Team const&) const {}
};
struct probe_region {
  template <class Worker>
  void operator()(Worker const&) const {}
};
}  // namespace detail

/// Where work runs and which memory it may touch, nothing else. First argument of every verb, cheap to copy.
/// `league(size, bytes, body)` runs `body(team)` for `size` teams with `bytes` of scratch each, or enqueues it;
/// `fence()` waits for what was enqueued; leagues of one executor run one after the other. What it may say besides:
///
///     teams_at_once()              teams that run together: a verb with fewer tiles of rows may cut columns too
///     league_scratch(size, bytes)  bytes that a league takes from resource()
///     wide_teams                   true: its teams are wide (see `wide_team`) and get the scratch that wide teams take
///     resource()                   a std::pmr::memory_resource* for scratch that a call needs between its leagues
///     scratch_left()               bytes that resource() can still give, where it is limited
///     ordered_scratch              true: scratch goes back without a fence, since only later leagues use it again
///     faults                       where a `fault_record` lies; needed where space_type is not the host's
///
/// A body may have `verb`, a name for profilers, `lanes()`, how many lanes a team of it can use, `most_lanes`, the most that
/// it ever says, and
/// `unbounded_scratch`, true where its scratch grows with more than ranks and experts.
template <class E>
concept executor = std::copyable<E> && requires(E const& e) {
  typename E::space_type;
  { E::row_block } -> std::convertible_to<int>;
  e.league(index_t{}, std::size_t{}, detail::probe_body{});
  e.fence();
};

namespace detail {
/// Memory that `E` works on may be read by the caller after `fence`. (No executor: that is another mistake.)
template <class E>
inline constexpr bool works_on_host = !executor<E>;
template <executor E>
inline constexpr bool works_on_host<E> = std::same_as<typename E::space_type, host_space>;

template <class E>
inline constexpr bool has_wide_teams = requires { requires E::wide_teams; };
}  // namespace detail

/// Runs host bodies: `region(workers, f)` calls `f(worker)` on up to `workers` <= concurrency() threads at once, where
/// worker has `index()`, `size()` and `barrier()`. No exception may leave `f`. `resource()` is where scratch comes from.
template <class E>
concept host_executor = executor<E> && std::same_as<typename E::space_type, host_space> && requires(E const& e) {
  { e.concurrency() } -> std::convertible_to<int>;
  { e.resource() } -> std::convertible_to<std::pmr::memory_resource*>;
  e.region(1, detail::probe_region{});
};

/// The first thing that was found wrong with data, by an executor whose work is not done when a call returns. It lies in memory
/// that the executor may write; zeros are nothing found. Copied to the host after `fence`, `check` throws what it says.
struct fault_record {
  static constexpr index_t id_out_of_range = -1;
  index_t kind = 0;  ///< 0, a `gate_fault`, or id_out_of_range
  index_t token = 0;
  index_t id = 0;  ///< of id_out_of_range
  index_t limit = 0;
};

/// `E` may touch the memory of `V`.
template <class E, class V>
concept can_access = executor<E> && (std::same_as<typename E::space_type, typename V::space_type> ||
                                     std::same_as<typename V::space_type, shared_space>);

namespace detail {
/// `E` may read these ids.
template <class E, class Ids> concept accepted_ids = is_id_list<Ids> && can_access<E, Ids>;
}  // namespace detail

}  // namespace graft::inline GRAFT_CONTRACT
