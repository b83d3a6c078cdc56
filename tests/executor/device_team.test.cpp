// Sums of a group of device threads: the bits of a host's, however many threads share them and however memory is read.
#include <array>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/graft.hpp>

#include "support/bits.hpp"
#include "support/device_dot.hpp"
#include "support/random.hpp"

using graft::index_t;

namespace {

template <class S>
using sum_of = std::conditional_t<std::is_same_v<S, double>, double, float>;

enum class content { numbers, signed_zeros, special };

/// Rows of so many elements, the first aligned to 64 (`shift` elements later).
template <class S>
struct rows_of {
  rows_of(index_t rows, index_t columns, index_t stride, index_t shift, std::uint64_t seed, content what)
      : memory(static_cast<std::size_t>(rows * stride + shift) + 64 / sizeof(S)) {
    auto const at = reinterpret_cast<std::uintptr_t>(memory.data()) % 64;
    data = memory.data() + (64 - at) % 64 / sizeof(S) + shift;
    tests::random_bits bits(seed);
    double const infinity = std::numeric_limits<double>::infinity();
    for (index_t i = 0; i < rows; ++i)
      for (index_t k = 0; k < columns; ++k) {
        double value = static_cast<double>(bits.number());
        if (what == content::signed_zeros) value = bits.below(3) == 0 ? 0.0 : bits.below(2) == 0 ? -0.0 : value * 1e-30;
        if (what == content::special && bits.below(40) == 0)
          value = std::array{infinity, -infinity, std::numeric_limits<double>::quiet_NaN()}[bits() % 3];
        data[i * stride + k] = graft::store_as<S>(value);
      }
  }
  rows_of(rows_of const&) = delete;
  std::vector<S> memory;
  S* data;
};
template <class S>
using row_view = graft::tensor_view<S const, graft::dynamic_extents<2>>;

/// Every thread of a group with what a host has, for R rows.
template <class Accumulate, int R, class W, class X>
std::string compare(index_t k0, index_t k1, W const& w, X const& x) {
  Accumulate host[R];
  Accumulate threads[graft::group_threads][R];
  graft::detail::dot_on_host(k0, k1, w, x, host);
  tests::dots_of_group(k0, k1, w, x, threads);
  for (int q = 0; q < graft::group_threads; ++q)
    for (int t = 0; t < R; ++t)
      if (!tests::same_bits(threads[q][t], host[t]))
        return "thread " + std::to_string(q) + " has " + tests::text_of(threads[q][t]) + " instead of " +
               tests::text_of(host[t]) + " for row " + std::to_string(t);
  return {};
}

template <class S, int R>
void compare_all(tests::tally& tally, content what) {
  using accumulate = sum_of<S>;
  std::vector<index_t> lengths;
  for (index_t n = 0; n <= 40; ++n) lengths.push_back(n);
  lengths.insert(lengths.end(), {511, 512, 513});
  struct {
    char const* name;
    index_t stride, shift;
    bool packed;
  } const layouts[] = {{"packed", 1028, 0, true}, {"odd rows", 1027, 0, false}, {"unaligned", 1028, 1, false}};
  for (auto const& [name, stride, shift, packed] : layouts) {
    rows_of<S> const w_memory(2, 1025, stride, shift, 1, what), x_memory(3, 1025, stride, shift, 2, what);
    row_view<S> const w(w_memory.data, graft::dynamic_extents<2>(2, 1025), {stride, 1});
    row_view<S> const x(x_memory.data, graft::dynamic_extents<2>(3, 1025), {stride, 1});
    if constexpr (sizeof(S) <= 4) {
      bool const all = graft::detail::is_packed(w) && graft::detail::is_packed(x);
      CHECK(all == packed);
    }
    auto const w_terms = graft::detail::terms_of<accumulate>(w, 1);
    auto const x_terms = graft::detail::terms_of<accumulate>(x, graft::detail::row_tile<R>(0, 3));  // the last repeats
    for (index_t const k0 : {0, 512})
      for (index_t const n : lengths)
        tally.add(compare<accumulate, R>(k0, k0 + n, w_terms, x_terms), [&] {
          return std::string(name) + ", " + std::to_string(n) + " terms from " + std::to_string(k0) + ", " +
                 std::to_string(R) + " rows";
        });
  }
}
template <class S>
void compare_scalar() {
  tests::tally tally;
  for (content const what : {content::numbers, content::signed_zeros, content::special}) {
    compare_all<S, 1>(tally, what);
    compare_all<S, 4>(tally, what);
  }
  CHECK(tally.text() == "");
  CHECK(tally.count() == 3 * 2 * 3 * 2 * 44);
}

/// Terms that no one reads four at a time.
struct plain_w {
  float const* data;
  float operator()(index_t k) const { return data[k]; }
};
struct plain_x {
  float const* data;
  float operator()(int t, index_t k) const { return data[1028 * t + k]; }
};
/// Terms that say which of both ways they are read.
struct counting_w : plain_w {
  bool side_by_side;
  int* fours;
  int* ones;
  [[nodiscard]] bool packed() const { return side_by_side; }
  void four(index_t k, float (&out)[4]) const {
    ++*fours;
    for (int l = 0; l < 4; ++l) out[l] = data[k + l];
  }
  float operator()(index_t k) const {
    ++*ones;
    return data[k];
  }
};
struct counting_x : plain_x {
  bool side_by_side;
  [[nodiscard]] bool packed() const { return side_by_side; }
  void four(int t, index_t k, float (&out)[4]) const {
    for (int l = 0; l < 4; ++l) out[l] = data[1028 * t + k + l];
  }
};

}  // namespace

TEST_CASE("sums of device threads have the bits of hosts, float", "[executor][device_team]") {
  compare_scalar<float>();
}
TEST_CASE("sums of device threads have the bits of hosts, double", "[executor][device_team]") {
  compare_scalar<double>();
}
TEST_CASE("sums of device threads have the bits of hosts, bfloat16", "[executor][device_team]") {
  compare_scalar<graft::bfloat16>();
}
TEST_CASE("sums of device threads have the bits of hosts, float16", "[executor][device_team]") {
  compare_scalar<graft::float16>();
}

TEST_CASE("what is missing of sixteen counts as +0: a sum of -0 is +0", "[executor][device_team]") {
  std::vector<float> const minus(1028, -0.0F), one(1028, 1.0F);
  for (index_t const n : {0, 1, 16, 17}) {
    float all[graft::group_threads][1];
    tests::dots_of_group(0, n, plain_w{one.data()}, plain_x{minus.data()}, all);
    for (auto const& q : all) CHECK(tests::same_bits(q[0], 0.0F));
  }
}

TEST_CASE("memory is read four at a time where both factors lie so", "[executor][device_team]") {
  rows_of<float> const memory(2, 1025, 1028, 0, 3, content::numbers);
  for (bool const w_packed : {false, true})
    for (bool const x_packed : {false, true}) {
      int fours = 0, ones = 0;
      counting_w const w{{memory.data}, w_packed, &fours, &ones};
      counting_x const x{{memory.data}, x_packed};
      float lane[2][graft::thread_lanes];
      graft::detail::sums_of_thread(2, index_t{0}, index_t{70}, w, x, lane);  // four whole sixteens and 6 terms
      CHECK(fours == (w_packed && x_packed ? 4 : 0));
      CHECK(ones == (w_packed && x_packed ? 0 : 16));  // thread 2 has terms 8, ..., 11 of a sixteen
      CHECK(compare<float, 2>(0, 70, w, x) == "");
    }
  CHECK(compare<float, 2>(512, 1025, plain_w{memory.data}, plain_x{memory.data}) == "");
}

TEST_CASE("four threads that run side by side agree with the host", "[executor][device_team]") {
  rows_of<float> const memory(4, 1025, 1028, 0, 4, content::numbers);
  plain_w const w{memory.data};
  plain_x const x{memory.data};
  for (index_t const n : {1, 15, 16, 37, 512}) {
    float host[4];
    graft::detail::dot_on_host(index_t{0}, n, w, x, host);
    float out[graft::group_threads][4];
    std::array<float, graft::group_threads> shared{};
    std::barrier meeting(graft::group_threads);
    std::vector<std::thread> threads;
    for (int q = 0; q < graft::group_threads; ++q)
      threads.emplace_back([&, q] {
        float lane[4][graft::thread_lanes];
        graft::detail::sums_of_thread(q, index_t{0}, n, w, x, lane);
        graft::detail::tree_over_threads(
            lane,
            [&](float value, int offset) {
              shared[static_cast<std::size_t>(q)] = value;
              meeting.arrive_and_wait();
              float const other = shared[static_cast<std::size_t>(q ^ offset)];
              meeting.arrive_and_wait();
              return other;
            },
            out[q]);
      });
    for (std::thread& t : threads) t.join();
    for (auto const& q : out)
      for (int t = 0; t < 4; ++t) CHECK(tests::same_bits(q[t], host[t]));
  }
}
