// `scratch_arena` hands out one block of memory; `scratch_bytes` says how large it must be.
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/graft.hpp>

#include "support/layouts.hpp"
#include "support/random.hpp"
#include "support/sentence.hpp"
#include "support/verbs.hpp"

using graft::index_t;
using graft::scratch_arena;
using tests::sentence_of;
namespace kernels = graft::kernels;

namespace {

/// Aligned to 64; `from` bytes behind that.
struct memory {
  alignas(64) std::byte bytes[1024];
  [[nodiscard]] void* at(std::size_t from) { return bytes + from; }
};

/// Memory of a device that the host may touch.
struct near_memory : tests::host_memory {
  using space = graft::device_space;
};
template <class V, class... Index>
[[nodiscard]] auto view(V& v, Index... shape) {
  return tests::view_of<near_memory>(v, shape...);
}
/// Runs at once, with the arena of the caller's as its only scratch.
struct in_order {
  using space_type = graft::device_space;
  static constexpr int row_block = 4;
  static constexpr bool ordered_scratch = true;
  int* launches;
  scratch_arena* scratch = nullptr;
  graft::fault_record* faults = nullptr;

  [[nodiscard]] scratch_arena* resource() const { return scratch; }
  [[nodiscard]] std::size_t scratch_left() const { return scratch == nullptr ? 0 : scratch->left(); }
  [[nodiscard]] static constexpr index_t teams_at_once() { return 100; }
  [[nodiscard]] static constexpr std::size_t league_scratch(index_t, std::size_t bytes) { return bytes; }
  template <class Body>
  void league(index_t size, std::size_t bytes, Body const& body) const {
    if (size == 0) return;
    ++*launches;
    graft::reference{scratch}.league(size, bytes, body);
  }
  void fence() const {}
};
static_assert(graft::executor<in_order> && graft::detail::has_ordered_scratch<in_order>);

/// The bytes that `call` takes; with those it runs, with one less it is refused before its first launch.
template <class Call>
std::size_t bytes_of(std::string_view what, Call const& call) {
  INFO(what);
  int launches = 0;
  graft::fault_record record;
  std::size_t const bytes = graft::scratch_bytes(in_order{&launches, nullptr, &record}, call);
  CHECK(launches == 0);
  std::vector<std::byte> all(bytes + 64);
  std::byte* const aligned = all.data() + (64 - reinterpret_cast<std::uintptr_t>(all.data()) % 64) % 64;
  scratch_arena enough(aligned, bytes);
  call(in_order{&launches, &enough, &record});
  CHECK(launches > 0);
  CHECK(enough.most() == bytes);
  CHECK(enough.used() == 0);
  launches = 0;
  REQUIRE(bytes > 0);
  scratch_arena little(aligned, bytes - 1);
  CHECK(sentence_of([&] { call(in_order{&launches, &little, &record}); }).find("graft::scratch_arena: a call needs ") ==
        0);
  CHECK(little.used() == 0);
  return bytes;
}

}  // namespace

TEST_CASE("an arena hands out its front and takes it back in reverse order", "[executor][scratch_arena]") {
  memory m{};
  scratch_arena arena(m.at(0), 1024);
  CHECK((arena.left() == 1024 && arena.used() == 0 && arena.most() == 0));
  void* const a = arena.allocate(100, 64);
  CHECK((a == m.at(0) && arena.used() == 100 && arena.left() == 1024 - 128 && arena.left(1) == 924));
  void* const b = arena.allocate(64, 64);
  CHECK((b == m.at(128) && arena.used() == 192 && arena.most() == 192));
  void* const c = arena.allocate(3, 1);
  CHECK((c == m.at(192) && arena.used() == 195 && arena.most() == 195 && arena.left() == 1024 - 256));
  arena.deallocate(c, 3, 1);
  CHECK((arena.used() == 192 && arena.most() == 195));
  arena.deallocate(b, 64, 64);
  CHECK(arena.used() == 128);  // what was skipped stays so until the block before goes
  CHECK(arena.allocate(64, 64) == b);
  arena.deallocate(b, 64, 64);
  arena.deallocate(a, 100, 64);
  CHECK((arena.used() == 0 && arena.left() == 1024 && arena.most() == 195));
}

TEST_CASE("an arena aligns blocks wherever its memory begins", "[executor][scratch_arena]") {
  memory m{};
  for (std::size_t const from : {std::size_t{1}, std::size_t{8}, std::size_t{63}}) {
    scratch_arena arena(m.at(from), 256);
    CHECK(arena.left() == 256 - (64 - from));
    void* const a = arena.allocate(10, 64);
    CHECK(a == m.at(64));
    CHECK(arena.allocate(16, 32) == m.at(96));
    arena.deallocate(m.at(96), 16, 32);
    arena.deallocate(a, 10, 64);
    CHECK(arena.used() == 64 - from);
    CHECK(arena.allocate(10, 64) == a);
  }
  scratch_arena tiny(m.at(1), 40);  // ends before the next aligned address
  CHECK((tiny.left() == 0 && tiny.left(1) == 40));
  CHECK_THROWS_AS(tiny.allocate(1, 64), graft::argument_error);
}

TEST_CASE("an arena that is too small says what is wanted and what is left", "[executor][scratch_arena]") {
  memory m{};
  scratch_arena arena(std::span<std::byte>(m.bytes, 200));
  void* const a = arena.allocate(60, 64);
  CHECK(sentence_of([&] { static_cast<void>(arena.allocate(137, 64)); }) ==
        "graft::scratch_arena: a call needs 137 bytes more of scratch but 136 of 200 are left; "
        "graft::scratch_bytes(ex, call) "
        "says how many a call takes");
  CHECK((arena.used() == 60 && arena.most() == 60));
  void* const b = arena.allocate(136, 64);
  CHECK((arena.left() == 0 && arena.used() == 200));
  arena.deallocate(b, 136, 64);
  arena.deallocate(a, 60, 64);
  scratch_arena none(nullptr, 0);
  CHECK(none.left() == 0);
  CHECK_THROWS_AS(none.allocate(1, 64), graft::argument_error);
}

TEST_CASE("arenas are equal to themselves only", "[executor][scratch_arena]") {
  memory m{};
  scratch_arena a(m.at(0), 64), b(m.at(0), 64);
  CHECK((a == a && a != b));
}

TEST_CASE("scratch_bytes is what a call takes, and not a byte less will do", "[executor][scratch_arena]") {
  tests::tensors<float, near_memory> t({5, 30, 4, 20});
  graft::lora_gradients const of_lora{.A = t.dA.view(), .B = t.dB.view(), .bias = {}};
  std::size_t const bytes = bytes_of("backward of lora", [&](auto const& ex) {
    backward(ex, t.lora(), t.x.view(), t.y.view(), of_lora, t.dx.view());
  });
  CHECK(bytes >= 5 * 4 * sizeof(float));
  graft::dora_gradients const of_dora{.A = t.dA.view(), .B = t.dB.view(), .magnitude = t.view(t.more)};
  bytes_of("backward of dora",
           [&](auto const& ex) { backward(ex, t.dora(), t.x.view(), t.z.view(), t.y.view(), of_dora, t.dx.view()); });
  std::vector<float> parameters(60, 0.25F), rotations(60), gradients(60);
  graft::boft const boft{view(parameters, 1, 15, 2, 2), t.view(t.bias), view(rotations, 1, 15, 2, 2)};
  graft::boft_gradients const of_boft{view(gradients, 1, 15, 2, 2), t.view(t.base_bias)};
  bytes_of("backward of boft",
           [&](auto const& ex) { backward_input(ex, boft, t.x.view(), t.x.view(), of_boft, t.dx.view()); });
  bytes_of("row_norms", [&](auto const& ex) {
    kernels::row_norms(ex, t.w.view(), t.B.view(), t.A.view(), t.view(t.base_bias), 0.7);
  });
  bytes_of("update_norms of dora", [&](auto const& ex) { update_norms(ex, t.dora(), t.w.view()); });

  std::vector<std::int32_t> ids(100);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(3 * i % 7);
  auto const assigned = view(ids, 50, 2);
  std::vector<std::int64_t> plan_memory(graft::plan_bytes(100, 7) / 8 + 1);
  auto const plan = graft::plan_in(std::as_writable_bytes(std::span(plan_memory)), assigned, 7);
  int launches = 0;
  CHECK(bytes_of("make_plan", [&](auto const& ex) { kernels::make_plan(ex, assigned, plan); }) ==
        kernels::make_plan.scratch_bytes(in_order{&launches}, assigned, plan));

  std::vector<float> w(8 * 30, 0.5F), weights(10);
  std::vector<std::int32_t> chosen(10);
  graft::router const router{view(w, 8, 30)};
  std::size_t const routed = bytes_of("route of a router", [&](auto const& ex) {
    route(ex, graft::softmax_topk{}, router, t.x.view(), view(chosen, 5, 2), view(weights, 5, 2));
  });
  CHECK(routed > graft::route_scratch_bytes(router, t.x.view()));
}

TEST_CASE("scratch_bytes makes every check of its call", "[executor][scratch_arena]") {
  tests::tensors<float, near_memory> t({5, 30, 4, 20});
  int launches = 0;
  in_order const ex{&launches};
  CHECK_THROWS_AS(graft::scratch_bytes(ex, [&](auto const& e) { kernels::copy(e, t.x.view(), t.y.view()); }),
                  graft::shape_error);
  CHECK(graft::scratch_bytes(ex, [&](auto const& e) { kernels::copy(e, t.x.view(), t.dx.view()); }) == 0);
  CHECK(launches == 0);
  CHECK(sentence_of([&] { kernels::row_norms(ex, t.w.view(), t.view(t.more)); }) == "");  // needs none
  CHECK(sentence_of([&] {
          kernels::row_norms(ex, t.w.view(), t.B.view(), t.A.view(), t.view(t.base_bias), 0.7);
        }).find("bytes of scratch but its executor has none; give it a graft::scratch_arena") != std::string::npos);
}
