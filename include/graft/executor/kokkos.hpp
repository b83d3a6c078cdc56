// SPDX-License-Identifier: Apache-2.0
/// @file
/// `kokkos_executor`: any execution space of Kokkos. Reached only through <graft/kokkos.hpp>.
#pragma once

#if !defined(GRAFT_ENTRY_KOKKOS)
#error "include <graft/kokkos.hpp>: an executor comes through its entry header"
#endif

#include <cstddef>
#include <limits>
#include <memory_resource>
#include <string>
#include <string_view>
#include <type_traits>

#include <Kokkos_Core.hpp>
#if defined(KOKKOS_ENABLE_OPENMP)
#include <omp.h>
#endif

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/device_team.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/executor/scratch_arena.hpp>

namespace graft::inline GRAFT_CONTRACT {
namespace detail {

/// Its kernels cannot read what `malloc` gives. Of no space of Kokkos, Kokkos is not asked: one error, which is ours.
template <class Space>
inline constexpr bool on_device = false;
template <class Space>
  requires(Kokkos::is_execution_space_v<Space>)
inline constexpr bool on_device<Space> = !Kokkos::SpaceAccessibility<Space, Kokkos::HostSpace>::accessible;

template <class Space>
inline constexpr bool is_kokkos_cuda = false;
#if defined(KOKKOS_ENABLE_CUDA)
template <>
inline constexpr bool is_kokkos_cuda<Kokkos::Cuda> = true;
#endif

template <class Space>
using kokkos_member = typename Kokkos::TeamPolicy<Space>::member_type;

inline namespace GRAFT_TARGET {

/// Kokkos' own failure for this is an abort deep inside of it.
template <class Space>
void expects_kokkos() {
  if (!Kokkos::is_initialized() || Kokkos::is_finalized()) [[unlikely]]
    raise(argument_error(
        text("graft::kokkos_executor: Kokkos is ", Kokkos::is_finalized() ? "finalised" : "not initialised",
             "; the application initialises it (Kokkos::initialize or Kokkos::ScopeGuard) before it makes an executor, "
             "graft never does")));
#if defined(KOKKOS_ENABLE_OPENMP)
  if constexpr (std::is_same_v<Space, Kokkos::OpenMP>)
    if (int const level = omp_get_level(); level > 1 || (level == 1 && omp_get_max_active_levels() < 2)) [[unlikely]]
      raise(argument_error(
          "graft::kokkos_executor: called inside an OpenMP parallel region or a Kokkos kernel, where Kokkos launches "
          "nothing; call graft outside, or with graft::serial inside"));
#endif
}

template <class Space>
[[nodiscard]] Space default_instance() {
  expects_kokkos<Space>();
  return Space{};
}

/// "graft::shrink::host", made once.
template <class Body>
[[nodiscard]] std::string const& launch_label(Body const& body, std::string_view kind) {
  static std::string const label = [&] {
    if constexpr (requires { body.verb; }) return text("graft::", body.verb, "::", kind);
    else return text("graft::unnamed::", kind);
  }();
  return label;
}

/// A Kokkos team. On hosts a thread plays all sixteen lanes of its group; on devices a group is four vector lanes.
/// `dot` is ours: Kokkos' reductions have another order, a vector length of 1 on hosts and a tree that may change.
template <class Space, int Rows>
struct kokkos_team {
  static constexpr int row_block = Rows;
  kokkos_member<Space> const& member;
  int scratch_level;

  [[nodiscard]] GRAFT_FN index_t league_rank() const { return member.league_rank(); }
  [[nodiscard]] GRAFT_FN int lanes() const
    requires(on_device<Space>)
  {
    return member.team_size() * group_threads;
  }
  GRAFT_FN void barrier() const { member.team_barrier(); }
  template <class T>
  [[nodiscard]] GRAFT_FN T* scratch(index_t count) const {
    return static_cast<T*>(
        member.team_scratch(scratch_level)
            .get_shmem_aligned(sizeof(T) * static_cast<std::size_t>(count), scratch_block::alignment));
  }
  template <class F>
  GRAFT_FN void groups(index_t count, F const& f) const {
    for (index_t i = member.team_rank(); i < count; i += member.team_size()) f(i);
  }
  template <class F>
  GRAFT_FN void vector(index_t count, F const& f) const {
    Kokkos::parallel_for(Kokkos::TeamVectorRange(member, count), f);
  }
  template <class F>
  GRAFT_FN void once(F const& f) const {
    Kokkos::single(Kokkos::PerThread(member), f);
  }
  template <class Accumulate, int R, class W, class X>
  GRAFT_FN void dot(index_t k0, index_t k1, W const& w, X const& x, Accumulate (&out)[R]) const {
    if constexpr (!on_device<Space>) detail::dot_on_host(k0, k1, w, x, out);
    else {
#if defined(KOKKOS_ENABLE_CUDA) && defined(__CUDA_ARCH__)
      // Kokkos' own block: vector lanes are threadIdx.x, threads of the team threadIdx.y.
      unsigned const first = threadIdx.y * group_threads % 32;
      detail::dot_on_device(static_cast<int>(threadIdx.x), 0xfU << first, k0, k1, w, x, out);
#endif
    }
  }
};

template <class Space, class Body, int Rows>
struct kokkos_league {
  Body body;
  int scratch_level;
  GRAFT_FN void operator()(kokkos_member<Space> const& member) const {
    body(kokkos_team<Space, Rows>{member, scratch_level});
  }
};

template <class Space>
struct kokkos_worker {
  kokkos_member<Space> const& member;
  [[nodiscard]] int index() const { return member.team_rank(); }
  [[nodiscard]] int size() const { return member.team_size(); }
  void barrier() const { member.team_barrier(); }
};

template <class Space, class F>
struct kokkos_region {
  F const* f;
  void operator()(kokkos_member<Space> const& member) const { (*f)(kokkos_worker<Space>{member}); }
};

}  // namespace GRAFT_TARGET
}  // namespace detail

/// Kokkos on an instance of an execution space: the default one, or any that the application has (made from a stream,
/// or by `Kokkos::Experimental::partition_space`). Initialising and finalising Kokkos stays with the application.
///
///     graft::kokkos_executor ex{.space = my_instance};
///
/// On a host space (OpenMP, Serial, Threads) it is a `host_executor`: host bodies run as one league of one team, whose
/// members are the workers, and return when they are done. Generic bodies run as a league of many teams, and elsewhere than
/// on a host space are only enqueued; `fence` waits. Every launch is labelled `graft::<verb>::host` or `::device` after the
/// body that it runs. A team of a host space has 64 threads at most, so host bodies use no more.
///
/// Errors       argument_error when Kokkos is not initialised, or from within a kernel or a parallel region.
template <class Space = Kokkos::DefaultExecutionSpace>
struct kokkos_executor {
  static_assert(Kokkos::is_execution_space_v<Space>,
                "graft::kokkos_executor: its parameter is an execution space of Kokkos, for example Kokkos::OpenMP");
  static_assert(!Kokkos::is_execution_space_v<Space> || !detail::on_device<Space> || detail::is_kokkos_cuda<Space>,
                "graft::kokkos_executor: of Kokkos' devices this version of graft runs on CUDA");
  static constexpr bool on_host = !detail::on_device<Space>;
  using space_type = std::conditional_t<on_host, host_space, device_space>;
  static constexpr int row_block = 4;

  Space space = detail::default_instance<Space>();
  /// Hosts: where scratch comes from, once per call on the calling thread; null is `std::pmr::get_default_resource()`.
  /// Devices: memory of theirs; null where no call needs any.
  std::conditional_t<on_host, std::pmr::memory_resource, scratch_arena>* scratch = nullptr;
  /// Threads of a team in generic bodies; 0 is one on hosts and 64 groups on devices. Bits do not depend on it.
  int team_size = 0;
  /// Devices: where data faults are written; see `fault_record`.
  fault_record* faults = nullptr;

  static constexpr bool wide_teams = !on_host;
  static constexpr bool ordered_scratch = !on_host;
  [[nodiscard]] std::pmr::memory_resource* resource() const {
    if constexpr (on_host) return scratch != nullptr ? scratch : std::pmr::get_default_resource();
    else return scratch;
  }
  [[nodiscard]] std::size_t scratch_left() const
    requires(!on_host)
  {
    return scratch == nullptr ? 0 : scratch->left();
  }
  /// Teams of generic bodies that run at once.
  [[nodiscard]] index_t teams_at_once() const { return space.concurrency() / (threads() * lanes); }
  /// A league's scratch is Kokkos' own.
  [[nodiscard]] static constexpr std::size_t league_scratch(index_t, std::size_t) { return 0; }

  template <class Body>
  void league(index_t size, std::size_t bytes, Body const& body) const {
    using policy = Kokkos::TeamPolicy<Space>;
    detail::expects_kokkos<Space>();
    if (size == 0) return;
    if (size > (std::numeric_limits<int>::max)()) [[unlikely]]
      detail::raise(argument_error(
          detail::text("graft::kokkos_executor: a league of ", size, " teams is more than Kokkos takes")));
    using functor = detail::kokkos_league<Space, Body, row_block>;
    if (team_size != 0)
      if (int const most = policy(space, 1, 1, lanes).team_size_max(functor{body, 0}, Kokkos::ParallelForTag{});
          team_size < 0 || team_size > most) [[unlikely]]
        detail::raise(
            argument_error(detail::text("graft::kokkos_executor: team_size is ", team_size, " but must be from 1 to ",
                                        most, " here, or 0 for the executor's choice")));
    std::size_t const wanted = bytes == 0 ? 0 : bytes + detail::scratch_block::alignment;
    int const level = wanted <= static_cast<std::size_t>(policy::scratch_size_max(0)) ? 0 : 1;
    if (wanted > static_cast<std::size_t>(policy::scratch_size_max(level))) [[unlikely]]
      detail::raise(argument_error(detail::text("graft::kokkos_executor: a team needs ", static_cast<index_t>(bytes),
                                                " bytes of scratch, Kokkos has ", policy::scratch_size_max(level))));
    policy teams(space, static_cast<int>(size), threads(), lanes);
    teams.set_scratch_size(level, Kokkos::PerTeam(wanted));
    Kokkos::parallel_for(detail::launch_label(body, "device"), teams, functor{body, level});
  }

  [[nodiscard]] int concurrency() const
    requires on_host
  {
    return Kokkos::TeamPolicy<Space>(space, 1, 1).team_size_max(detail::probe_region{}, Kokkos::ParallelForTag{});
  }
  template <class F>
  void region(int workers, F const& f) const
    requires on_host
  {
    detail::expects_kokkos<Space>();
    int const most = concurrency();
    int const n = workers < 1 ? 1 : workers < most ? workers : most;
    Kokkos::parallel_for(detail::launch_label(f, "host"), Kokkos::TeamPolicy<Space>(space, 1, n),
                         detail::kokkos_region<Space, F>{&f});
    fence();  // `f` and its scratch are the caller's
  }
  void fence() const { space.fence("graft::fence"); }

 private:
  static constexpr int lanes = on_host ? 1 : group_threads;
  [[nodiscard]] int threads() const { return team_size > 0 ? team_size : on_host ? 1 : 64; }
};

}  // namespace graft::inline GRAFT_CONTRACT
