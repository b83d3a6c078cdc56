// A group of a device on one host thread.
#pragma once

#include <vector>

#include <graft/executor/device_team.hpp>

namespace tests {

/// What the four threads of a group have after `dot`, each its own. They exchange by the number of the exchange alone:
/// every pass hands out what the others offered in the one before, until the values of both levels are right.
template <class Accumulate, int R, class W, class X>
void dots_of_group(graft::index_t k0, graft::index_t k1, W const& w, X const& x,
                   Accumulate (&out)[graft::group_threads][R]) {
  constexpr int threads = graft::group_threads;
  Accumulate lane[threads][R][graft::thread_lanes];
  for (int q = 0; q < threads; ++q) graft::detail::sums_of_thread(q, k0, k1, w, x, lane[q]);
  std::vector<Accumulate> offered[threads];
  for (int pass = 0; pass < 3; ++pass) {
    auto const before = [&] {
      std::vector<std::vector<Accumulate>> all(offered, offered + threads);
      return all;
    }();
    for (int q = 0; q < threads; ++q) {
      Accumulate mine[R][graft::thread_lanes];
      for (int t = 0; t < R; ++t)
        for (int l = 0; l < graft::thread_lanes; ++l) mine[t][l] = lane[q][t][l];
      offered[q].clear();
      graft::detail::tree_over_threads(
          mine,
          [&](Accumulate value, int offset) {
            auto const number = offered[q].size();
            offered[q].push_back(value);
            auto const& other = before[static_cast<std::size_t>(q ^ offset)];
            return number < other.size() ? other[number] : value;
          },
          out[q]);
    }
  }
}

}  // namespace tests
