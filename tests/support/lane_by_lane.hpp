// Teams of lanes as devices have them. Lane by lane one runs at a time, from one barrier to the next: what a lane reads
// that another one writes without a barrier in between is wrong in one of the orders of lanes. Or each is a thread, for
// TSan.
#pragma once

#include <algorithm>
#include <barrier>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory_resource>
#include <mutex>
#include <thread>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include <graft/executor/device_team.hpp>
#include <graft/executor/reference.hpp>

namespace tests {

/// In which order the lanes run.
enum class lane_order { rising, falling, mixed };

/// Hands the turn from lane to lane. A lane waits until all lanes of its team, or of its group, have come as far.
class lane_turns {
 public:
  lane_turns(int lanes, lane_order order)
      : changed_(static_cast<std::size_t>(lanes)),
        team_(changed_.size()),
        group_(team_),
        ends_(team_),
        order_(changed_.size()) {
    for (std::size_t i = 0; i < order_.size(); ++i)
      order_[i] = order == lane_order::falling ? order_.size() - 1 - i : i;
    if (order == lane_order::mixed)  // 5 has no divisor in common with powers of two
      for (std::size_t i = 0; i < order_.size(); ++i) order_[i] = (5 * i + 3) % order_.size();
  }
  void begin(int lane) {
    std::unique_lock lock(mutex_);
    wait(lock, lane);
  }
  void barrier(int lane) {
    std::unique_lock lock(mutex_);
    ++team_[at(lane)];
    wait(lock, lane);
  }
  void group_barrier(int lane) {
    std::unique_lock lock(mutex_);
    ++group_[at(lane)];
    wait(lock, lane);
  }
  void end(int lane) {
    std::unique_lock const lock(mutex_);
    ends_[at(lane)] = team_[at(lane)];
    team_[at(lane)] = group_[at(lane)] = done;
    pass();
  }
  /// Did a lane come to more barriers than another one?
  [[nodiscard]] bool lanes_parted() const {
    return std::any_of(ends_.begin(), ends_.end(), [&](long n) { return n != ends_.front(); });
  }

 private:
  static constexpr long done = 1L << 40;
  [[nodiscard]] static std::size_t at(int lane) { return static_cast<std::size_t>(lane); }
  [[nodiscard]] bool may_run(std::size_t lane) const {
    if (team_[lane] == done) return false;
    std::size_t const first = lane / graft::group_threads * graft::group_threads;
    for (std::size_t i = first; i < first + graft::group_threads; ++i)
      if (group_[i] < group_[lane]) return false;
    return std::all_of(team_.begin(), team_.end(), [&](long n) { return n >= team_[lane]; });
  }
  void pass() {
    for (std::size_t const lane : order_)
      if (may_run(lane)) {
        turn_ = static_cast<int>(lane);
        changed_[lane].notify_one();
        return;
      }
  }
  void wait(std::unique_lock<std::mutex>& lock, int lane) {
    if (turn_ == lane || turn_ < 0) pass();
    changed_[at(lane)].wait(lock, [&] { return turn_ == lane; });
  }

  std::mutex mutex_;
  std::vector<std::condition_variable> changed_;  // of each lane
  std::vector<long> team_, group_;                // barriers that each lane has come to
  std::vector<long> ends_;
  std::vector<std::size_t> order_;
  int turn_ = -1;
};

/// Where lanes that run at once wait for those of their team, or of their group.
class lane_meetings {
 public:
  explicit lane_meetings(int lanes) : team_(lanes) {
    for (int i = 0; i < lanes; i += graft::group_threads) groups_.emplace_back(graft::group_threads);
  }
  void barrier(int) { team_.arrive_and_wait(); }
  void group_barrier(int lane) { groups_[static_cast<std::size_t>(lane / graft::group_threads)].arrive_and_wait(); }

 private:
  std::barrier<> team_;
  std::deque<std::barrier<>> groups_;
};

template <class Turns>
struct lane_team {
  static constexpr int row_block = 4;
  graft::index_t rank;
  std::byte* memory;
  Turns* turns;
  int lane;
  int all;

  [[nodiscard]] graft::index_t league_rank() const { return rank; }
  [[nodiscard]] int lanes() const { return all; }
  void barrier() const { turns->barrier(lane); }
  template <class T>
  [[nodiscard]] T* scratch(graft::index_t) const {
    return reinterpret_cast<T*>(memory);
  }
  template <class F>
  void groups(graft::index_t count, F const& f) const {
    for (graft::index_t i = lane / graft::group_threads; i < count; i += all / graft::group_threads) f(i);
  }
  template <class F>
  void vector(graft::index_t count, F const& f) const {
    for (graft::index_t i = lane; i < count; i += all) f(i);
  }
  template <class F>
  void once(F const& f) const {
    if (lane % graft::group_threads == 0) f();
    turns->group_barrier(lane);
  }
  template <class Accumulate, int R, class W, class X>
  void dot(graft::index_t k0, graft::index_t k1, W const& w, X const& x, Accumulate (&out)[R]) const {
    graft::detail::dot_on_host(k0, k1, w, x, out);
    turns->group_barrier(lane);
  }
};
static_assert(graft::wide_team<lane_team<lane_turns>>);

/// Generic bodies by such teams, one after the other. Scratch is full of rubbish before.
struct lane_by_lane {
  using space_type = graft::host_space;
  static constexpr int row_block = lane_team<lane_turns>::row_block;
  static constexpr bool wide_teams = true;
  lane_order order = lane_order::rising;
  int lanes = 8;

  [[nodiscard]] static std::pmr::memory_resource* resource() { return graft::reference{}.resource(); }
  [[nodiscard]] static constexpr graft::index_t teams_at_once() { return 64; }
  template <class Body>
  void league(graft::index_t size, std::size_t bytes, Body const& body) const {
    graft::detail::scratch_block const memory(resource(), bytes);
    for (graft::index_t rank = 0; rank < size; ++rank) {
      std::fill_n(memory.data(), bytes, std::byte{0x5a});
      lane_turns turns(lanes, order);
      std::vector<std::thread> threads;
      for (int lane = 0; lane < lanes; ++lane)
        threads.emplace_back([&, lane] {
          turns.begin(lane);
          body(lane_team<lane_turns>{rank, memory.data(), &turns, lane, lanes});
          turns.end(lane);
        });
      for (std::thread& t : threads) t.join();
      CHECK_FALSE(turns.lanes_parted());
    }
  }
  void fence() const {}
};
static_assert(graft::executor<lane_by_lane>);

/// Generic bodies by teams of threads that run at once.
struct lanes_at_once {
  using space_type = graft::host_space;
  static constexpr int row_block = lane_team<lane_meetings>::row_block;
  static constexpr bool wide_teams = true;
  int lanes = 8;

  [[nodiscard]] static std::pmr::memory_resource* resource() { return graft::reference{}.resource(); }
  [[nodiscard]] static constexpr graft::index_t teams_at_once() { return 64; }
  template <class Body>
  void league(graft::index_t size, std::size_t bytes, Body const& body) const {
    graft::detail::scratch_block const memory(resource(), bytes);
    lane_meetings meetings(lanes);
    std::vector<std::thread> threads;
    for (int lane = 0; lane < lanes; ++lane)
      threads.emplace_back([&, lane] {
        for (graft::index_t rank = 0; rank < size; ++rank) {
          body(lane_team<lane_meetings>{rank, memory.data(), &meetings, lane, lanes});
          meetings.barrier(lane);  // scratch is reused
        }
      });
    for (std::thread& t : threads) t.join();
  }
  void fence() const {}
};
static_assert(graft::executor<lanes_at_once>);

/// f(name, executor) in every order of lanes.
template <class F>
void for_each_lane_order(F const& f) {
  f("lane by lane", lane_by_lane{lane_order::rising});
  f("lane by lane, falling", lane_by_lane{lane_order::falling});
  f("lane by lane, mixed", lane_by_lane{lane_order::mixed});
}

}  // namespace tests
