// SPDX-License-Identifier: Apache-2.0
/// @file
/// `openmp`: the host bodies in parallel. Reached only through <graft/openmp.hpp>.
#pragma once

#if !defined(GRAFT_ENTRY_OPENMP)
#error "include <graft/openmp.hpp>: an executor comes through its entry header"
#endif
#if !defined(_OPENMP)
#error \
    "graft/openmp.hpp needs -fopenmp (link graft::openmp): without it every parallel region would silently run on one thread"
#endif

#include <cstddef>
#include <memory_resource>

#include <omp.h>

#include <graft/config.hpp>
#include <graft/executor/concepts.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/executor/serial.hpp>

namespace graft::inline GRAFT_CONTRACT {

namespace detail {
struct openmp_worker {
  int id;
  int count;
  [[nodiscard]] int index() const { return id; }
  [[nodiscard]] int size() const { return count; }
  void barrier() const {
    if (count == 1) return;  // also inside somebody's parallel region
#pragma omp barrier
  }
};
}  // namespace detail

/// OpenMP threads on host memory. Results do not depend on the number of threads.
struct openmp {
  using space_type = host_space;
  static constexpr int row_block = 4;

  /// Threads of a call; 0 is OpenMP's maximum. Inside a parallel region a call runs on its caller.
  int threads = 0;
  /// Scratch comes from here, once per call on the calling thread; null is `std::pmr::get_default_resource()`.
  std::pmr::memory_resource* scratch = nullptr;

  [[nodiscard]] std::pmr::memory_resource* resource() const {
    return scratch != nullptr ? scratch : std::pmr::get_default_resource();
  }
  [[nodiscard]] int concurrency() const {
    if (omp_in_parallel() != 0) return 1;
    return threads > 0 ? threads : omp_get_max_threads();
  }
  /// Scratch of a league.
  [[nodiscard]] std::size_t league_scratch(index_t size, std::size_t bytes) const {
    int const workers = workers_of(size);
    return workers <= 1 ? bytes : detail::scratch_block::rounded(bytes) * static_cast<std::size_t>(workers);
  }
  template <class Body>
  void league(index_t size, std::size_t bytes, Body const& body) const {
    int const workers = workers_of(size);
    if (workers <= 1) return serial{scratch}.league(size, bytes, body);
    std::size_t const each = detail::scratch_block::rounded(bytes);
    detail::scratch_block const memory(resource(), each * static_cast<std::size_t>(workers));
#pragma omp parallel num_threads(workers)
    {
      index_t const me = omp_get_thread_num(), all = omp_get_num_threads();
      std::byte* const mine = each == 0 ? nullptr : memory.data() + each * static_cast<std::size_t>(me);
      index_t const most = (size + all - 1) / all;
      detail::run_teams<row_block>(body, me * most < size ? me * most : size,
                                   (me + 1) * most < size ? (me + 1) * most : size, mine);
    }
  }
  template <class F>
  void region(int workers, F const& f) const {
    int const n = workers < concurrency() ? workers : concurrency();
    if (n <= 1) return f(detail::openmp_worker{0, 1});
#pragma omp parallel num_threads(n)
    f(detail::openmp_worker{omp_get_thread_num(), omp_get_num_threads()});
  }
  void fence() const {}

 private:
  [[nodiscard]] int workers_of(index_t size) const {
    return size < concurrency() ? static_cast<int>(size) : concurrency();
  }
};

static_assert(host_executor<openmp>);

}  // namespace graft::inline GRAFT_CONTRACT
