// How leagues become blocks of a device.
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/graft.hpp>

using graft::index_t;
using graft::detail::launch_shape;
using graft::detail::shape_of_launch;

namespace {

constexpr std::size_t kib = 1024;
/// An H100's.
constexpr graft::detail::device_limits h100{
    .processors = 132, .threads_of_processor = 2048, .shared_of_block = 227 * kib};

struct narrow_body {
  index_t n;
  [[nodiscard]] constexpr index_t lanes() const { return n; }
};
struct any_body {};

/// Cuts leagues as `cuda_stream_executor` does on an H100 and launches nothing.
struct on_paper {
  using space_type = graft::device_space;
  static constexpr int row_block = 4;
  static constexpr bool wide_teams = true;
  static constexpr bool ordered_scratch = true;
  std::vector<launch_shape>* launches;
  graft::scratch_arena* scratch = nullptr;
  graft::fault_record* faults = nullptr;

  [[nodiscard]] graft::scratch_arena* resource() const { return scratch; }
  [[nodiscard]] std::size_t scratch_left() const { return scratch == nullptr ? 0 : scratch->left(); }
  [[nodiscard]] static constexpr index_t teams_at_once() { return 132 * 8; }
  template <class Body>
  void league(index_t size, std::size_t bytes, Body const& body) const {
    launches->push_back(shape_of_launch(size, bytes, graft::detail::lanes_of(body), h100));
  }
  void fence() const {}
};
/// A tensor in memory that nobody has: far from all others.
template <class T, class... Index>
auto far_away(std::uintptr_t number, Index... shape) {
  return graft::view_in<graft::device_space>(reinterpret_cast<T*>(number << 56U), shape...);
}

}  // namespace

TEST_CASE("no teams are no launch", "[executor][launch]") {
  for (index_t const size : {index_t{0}, index_t{-1}}) {
    launch_shape const s = shape_of_launch(size, 100 * kib, 256, h100);
    CHECK((s.blocks == 0 && s.threads == 0 && s.shared == 0 && s.global == 0 && s.scratch() == 0));
  }
}

TEST_CASE("a team is a block, up to the size of a grid", "[executor][launch]") {
  constexpr index_t most = (index_t{1} << 31) - 1;
  for (index_t const size : {index_t{1}, index_t{2}, index_t{7}, index_t{257}, most - 1, most})
    CHECK(shape_of_launch(size, 0, 256, h100).blocks == size);
  for (index_t const size : {most + 1, most + 2, index_t{1} << 40, (std::numeric_limits<index_t>::max)()})
    CHECK(shape_of_launch(size, 0, 256, h100).blocks == most);
  CHECK(shape_of_launch((index_t{1} << 62) + 12345, 4096, 256, h100).shared == 4096);
}

TEST_CASE("a block has whole warps for the lanes that a team can use", "[executor][launch]") {
  struct {
    index_t lanes, threads;
  } const all[] = {{-5, 32},   {0, 32},    {1, 32},    {31, 32},    {32, 32},
                   {33, 64},   {64, 64},   {65, 96},   {224, 224},  {225, 256},
                   {255, 256}, {256, 256}, {257, 256}, {1000, 256}, {(std::numeric_limits<index_t>::max)(), 256}};
  for (auto const& [lanes, threads] : all) CHECK(shape_of_launch(5, 0, lanes, h100).threads == threads);
  CHECK(graft::detail::lanes_of(any_body{}) == 256);
  CHECK(graft::detail::lanes_of(narrow_body{48}) == 48);
}

TEST_CASE("scratch of teams is shared memory while a block has so much", "[executor][launch]") {
  for (std::size_t const bytes : {std::size_t{0}, std::size_t{1}, 48 * kib, 48 * kib + 1, 227 * kib}) {
    launch_shape const s = shape_of_launch(100000, bytes, 256, h100);
    CHECK((s.shared == bytes && s.global == 0 && s.scratch() == 0 && s.blocks == 100000));
  }
}

TEST_CASE("scratch beyond shared memory is global, for the teams that are resident", "[executor][launch]") {
  launch_shape const s = shape_of_launch(100000, 227 * kib + 1, 256, h100);
  CHECK((s.shared == 0 && s.global == 227 * kib + 64 && s.blocks == 132 * 8));
  CHECK(s.scratch() == (227 * kib + 64) * 132 * 8);
  CHECK(shape_of_launch(7, 227 * kib + 64, 256, h100).global == 227 * kib + 64);
  CHECK(shape_of_launch(7, 227 * kib + 65, 256, h100).global == 227 * kib + 128);
  CHECK(shape_of_launch(7, 300 * kib, 256, h100).scratch() == 7 * 300 * kib);
  CHECK(shape_of_launch(132 * 8 - 1, 300 * kib, 256, h100).blocks == 132 * 8 - 1);
  CHECK(shape_of_launch(132 * 8 + 1, 300 * kib, 256, h100).blocks == 132 * 8);
  // A device that says nothing of itself still has a block.
  CHECK(shape_of_launch(7, 1, 256, {}).blocks == 1);
}

TEST_CASE("global scratch does not depend on lanes: who asks how much has no body", "[executor][launch]") {
  for (index_t const lanes : {1, 32, 33, 128, 256, 1000})
    for (index_t const size : {index_t{1}, index_t{1000}, index_t{100000}})
      CHECK(shape_of_launch(size, 300 * kib, lanes, h100).scratch() ==
            shape_of_launch(size, 300 * kib, graft::detail::most_threads, h100).scratch());
}

TEST_CASE("scratch that overflows is refused", "[executor][launch]") {
  constexpr auto most = static_cast<std::size_t>((std::numeric_limits<index_t>::max)());
  auto const sentence = [](index_t size, std::size_t bytes) -> std::string {
    try {
      static_cast<void>(shape_of_launch(size, bytes, 256, h100));
    } catch (graft::shape_error const& e) { return e.what(); }
    return {};
  };
  CHECK(sentence(1, most - 64) == "");
  CHECK(sentence(1, most - 63).find("graft: a league: ") == 0);
  CHECK(sentence(1, most).find("graft: a league: ") == 0);
  CHECK(sentence(2, most / 2) != "");
  CHECK(sentence(132 * 8, (std::size_t{1} << 52U)) == "");
  CHECK(sentence(132 * 8, (std::size_t{1} << 53U)) != "");
  CHECK(sentence(4, (std::size_t{1} << 61U) - 64) == "");
}

TEST_CASE("verbs are cut for no rows, odd ones and more than 32 bits can count", "[executor][launch]") {
  using graft::bfloat16;
  constexpr index_t n = 4099, r = 17, E = 65, k = 3;
  constexpr index_t most = graft::detail::most_blocks;
  auto const blocks = [](index_t size) { return size < most ? size : most; };
  for (index_t const T : {index_t{0}, index_t{1}, index_t{5}, index_t{4225}, (index_t{1} << 31) + 1,
                          (index_t{3} << 32) + 7, (index_t{1} << 40) - 1}) {
    INFO("T = " << T);
    std::vector<launch_shape> launches;
    auto* const far_memory = reinterpret_cast<void*>(std::uintptr_t{1} << 55U);
    graft::scratch_arena arena(far_memory, std::size_t{1} << 54U);
    on_paper const ex{&launches, &arena, static_cast<graft::fault_record*>(far_memory)};
    auto const launched = [&] { return std::exchange(launches, {}); };
    index_t const tiles = T / 4 + (T % 4 != 0 ? 1 : 0);
    auto const x = far_away<bfloat16>(1, T, n), y = far_away<bfloat16>(2, T, n), v = far_away<bfloat16>(3, T, r);
    auto const a = far_away<bfloat16>(4, r, n), b = far_away<bfloat16>(5, n, r), logits = far_away<bfloat16>(6, T, E);
    auto const ids = far_away<std::int32_t>(7, T, k);
    auto const weights = far_away<float>(8, T, k);
    auto const one = [&](index_t size, index_t threads, std::size_t shared) {
      auto const all = launched();
      REQUIRE(all.size() == 1);
      CHECK(all[0].blocks == blocks(size));
      CHECK(all[0].threads == (size == 0 ? 0 : threads));
      CHECK(all[0].shared == (size == 0 ? 0 : shared));
      CHECK(all[0].global == 0);
    };

    graft::kernels::shrink(ex, x, a, v);  // two tiles of ranks, four of nine chunks at once
    one(tiles * 2, 256, 4 * 16 * (1 + 4) * sizeof(float));
    graft::kernels::expand_add(ex, v, b, y);
    one(tiles * 17, 256, 4 * r * sizeof(float));
    graft::kernels::copy(ex, x, y);
    one(tiles * 9, 256, 0);
    graft::kernels::scale_rows(ex, far_away<float>(9, T), y);
    one(tiles * 9, 256, 0);
    graft::kernels::sum_rows(ex, y, far_away<float>(10, n));
    one(17, 256, 0);

    graft::kernels::low_rank_add(ex, x, a, b, y);
    if (tiles < 132 * 8 && T != 0) {  // few tiles: ranks and chunks, then columns
      auto const two = launched();
      REQUIRE(two.size() == 2);
      CHECK((two[0].blocks == tiles * 2 * 9 && two[0].threads == 64 && two[0].shared == 0));
      CHECK((two[1].blocks == tiles * 17 && two[1].threads == 256 && two[1].shared == 4 * r * sizeof(float)));
      CHECK(arena.most() == static_cast<std::size_t>(9 * T * r) * sizeof(float));
    } else one(tiles, 256, 4 * r * (1 + 3) * sizeof(float));

    graft::kernels::gate(ex, {}, logits, graft::none, ids, weights);
    auto const gate = launched();
    REQUIRE(gate.size() == 2);  // and what is wrong goes to the record
    CHECK((gate[0].blocks == blocks(T) && gate[0].threads == (T == 0 ? 0 : 96)));
    CHECK((gate[1].blocks == 1 && gate[1].shared == 256 * sizeof(index_t)));
    CHECK(arena.used() == 0);
  }
}

TEST_CASE("launches are arithmetic that a compiler can do", "[executor][launch]") {
  STATIC_CHECK(shape_of_launch(3, 16, 1, h100).threads == 32);
}
