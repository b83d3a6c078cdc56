// How leagues become blocks of a device.
#include <cstddef>
#include <limits>
#include <string>

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

TEST_CASE("launches are arithmetic that a compiler can do", "[executor][launch]") {
  STATIC_CHECK(shape_of_launch(3, 16, 1, h100).threads == 32);
}
