// The one registry of executors, and of the instruction sets that their bodies exist for.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <memory_resource>
#include <string>
#include <string_view>
#include <vector>

#include <graft/graft.hpp>
#include <graft/openmp.hpp>
#if GRAFT_WITH_KOKKOS
#include <graft/kokkos.hpp>
#endif

namespace tests {

/// A team that says it is wide, as those of devices are.
template <class Team>
struct widened : Team {
  [[nodiscard]] static constexpr int lanes() { return 256; }
};
template <class Body>
struct on_wide_teams {
  Body body;
  template <class Team>
  void operator()(Team const& tm) const {
    body(widened<Team>{tm});
  }
};
/// Generic bodies as wide teams run them, on one thread.
struct wide_reference {
  using space_type = graft::host_space;
  static constexpr bool wide_teams = true;
  static constexpr int row_block = graft::reference::row_block;
  std::pmr::memory_resource* scratch = nullptr;

  [[nodiscard]] std::pmr::memory_resource* resource() const { return graft::reference{scratch}.resource(); }
  /// Scratch of teams is not the resource's, as on devices, and nobody counts it.
  struct team_resource : std::pmr::memory_resource {
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
      return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    }
    void do_deallocate(void* data, std::size_t, std::size_t) override { std::free(data); }
    [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
      return this == &other;
    }
  };
  static inline team_resource team_memory;
  [[nodiscard]] static constexpr std::size_t league_scratch(graft::index_t, std::size_t) { return 0; }
  template <class Body>
  void league(graft::index_t size, std::size_t bytes, Body const& body) const {
    graft::reference{&team_memory}.league(size, bytes, on_wide_teams<Body>{body});
  }
  void fence() const {}
};
static_assert(graft::executor<wide_reference> && graft::wide_team<widened<graft::host_team<4>>>);
/// It costs a third of the time that tests take to compile: by plain g++ is enough. With Kokkos teams of two are wide, and
/// executor/deferred.test.cpp has every verb on wide teams for the others.
#if defined(__clang__) || defined(GRAFT_WITH_KOKKOS)
inline constexpr int with_wide = 0;
#else
inline constexpr int with_wide = 1;
#endif

#if GRAFT_WITH_KOKKOS
/// With the name that launches are labelled with, where there is one.
template <class Body>
struct named_wide : on_wide_teams<Body> {};
template <class Body>
  requires requires { Body::verb; }
struct named_wide<Body> : on_wide_teams<Body> {
  static constexpr std::string_view verb = Body::verb;
};
/// The switch that only tests have: Kokkos without `region`, so that every verb runs its generic body there, as on a device;
/// with more than one thread a team as wide teams do.
struct kokkos_device_bodies {
  using space_type = graft::kokkos_executor<>::space_type;
  static constexpr bool wide_teams = true;
  static constexpr int row_block = graft::kokkos_executor<>::row_block;
  graft::kokkos_executor<> kokkos;

  [[nodiscard]] std::pmr::memory_resource* resource() const { return kokkos.resource(); }
  [[nodiscard]] graft::index_t teams_at_once() const { return kokkos.teams_at_once(); }
  [[nodiscard]] std::size_t league_scratch(graft::index_t size, std::size_t bytes) const {
    return kokkos.league_scratch(size, bytes);
  }
  template <class Body>
  void league(graft::index_t size, std::size_t bytes, Body const& body) const {
    if (kokkos.team_size > 1) kokkos.league(size, bytes, named_wide<Body>{{body}});
    else kokkos.league(size, bytes, body);
  }
  void fence() const { kokkos.fence(); }
};
static_assert(graft::executor<kokkos_device_bodies> && !graft::host_executor<kokkos_device_bodies>);

/// What Kokkos launched since the program began, by the end of its label (kokkos_session.cpp asks Kokkos itself).
struct kokkos_launches {
  long host = 0;
  long device = 0;
};
[[nodiscard]] kokkos_launches kokkos_launched();
/// Counts a case for each kind of body that ran since `before`.
void count_kokkos_case(kokkos_launches const& before);
/// The labels of all that is launched while `f` runs, in order.
[[nodiscard]] std::vector<std::string> kokkos_labels_of(std::function<void()> const& f);
#endif

#if GRAFT_WITH_KOKKOS
inline constexpr int with_kokkos = 1;

/// f(name, executor), and a case of what Kokkos launched meanwhile.
template <class F, class E>
void kokkos_case(F const& f, std::string const& name, E const& ex) {
  auto const before = kokkos_launched();
  f(name, ex);
  count_kokkos_case(before);
}
#else
inline constexpr int with_kokkos = 0;
#endif

/// f(name, executor) for Kokkos as a user has it: host bodies, and generic ones for `double`.
template <class F>
void for_each_kokkos_host_executor([[maybe_unused]] F const& f,
                                   [[maybe_unused]] std::pmr::memory_resource* scratch = nullptr) {
#if GRAFT_WITH_KOKKOS
  tests::kokkos_case(f, "kokkos", graft::kokkos_executor<>{.scratch = scratch});
#endif
}
/// f(name, executor) for Kokkos with generic bodies only, one and two threads a team.
template <class F>
void for_each_kokkos_generic_executor([[maybe_unused]] F const& f,
                                      [[maybe_unused]] std::pmr::memory_resource* scratch = nullptr) {
#if GRAFT_WITH_KOKKOS
  for (int const threads : {1, 2})
    tests::kokkos_case(f, "kokkos, generic bodies, teams of " + std::to_string(threads),
                       kokkos_device_bodies{{.scratch = scratch, .team_size = threads}});
#endif
}
/// Both.
template <class F>
void for_each_kokkos_executor(F const& f) {
  tests::for_each_kokkos_host_executor(f);
  tests::for_each_kokkos_generic_executor(f);
}

/// Scratch of teams does not come from the resource of the executor of this name.
[[nodiscard]] inline bool brings_team_scratch(std::string const& name) {
  return name.starts_with("kokkos, generic") || name.starts_with("reference, wide");
}

/// f(name, executor) for those that take host bodies: serial, openmp of one to four threads, kokkos.
inline constexpr int host_executor_count = 5 + with_kokkos;
template <class F>
void for_each_host_executor(F const& f, std::pmr::memory_resource* scratch = nullptr) {
  f(std::string("serial"), graft::serial{scratch});
  for (int const threads : {1, 2, 3, 4}) f("openmp{" + std::to_string(threads) + "}", graft::openmp{threads, scratch});
  tests::for_each_kokkos_host_executor(f, scratch);
}

/// f(name, executor) for every executor. A new one is added here and nowhere else.
inline constexpr int executor_count = 1 + with_wide + host_executor_count + 2 * with_kokkos;
template <class F>
void for_each_executor(F const& f, std::pmr::memory_resource* scratch = nullptr) {
  f(std::string("reference"), graft::reference{scratch});
  if constexpr (with_wide == 1) f(std::string("reference, wide teams"), wide_reference{scratch});
  tests::for_each_host_executor(f, scratch);
  tests::for_each_kokkos_generic_executor(f, scratch);
}

/// Puts the instruction set back that was in use.
class isa_guard {
 public:
  isa_guard() = default;
  isa_guard(isa_guard const&) = delete;
  isa_guard& operator=(isa_guard const&) = delete;
  ~isa_guard() { graft::limit_isa(before_); }

 private:
  graft::isa before_ = graft::active_isa();
};

/// f(name) at every instruction set that this processor has, the lowest first.
template <class F>
void for_each_isa(F const& f) {
  isa_guard const guard;
  for (graft::isa const level : {graft::isa::baseline, graft::isa::avx2, graft::isa::avx512})
    if (graft::limit_isa(level) == level) f(std::string(graft::name(level)));
}

}  // namespace tests
