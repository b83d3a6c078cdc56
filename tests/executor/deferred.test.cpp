// Every verb on a device that the host only enqueues for: nothing is touched before `fence`, nothing on the stack is
// kept, all scratch comes from the arena, and the bits are those of `reference`.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/graft.hpp>

#include "support/bits.hpp"
#include "support/deferred.hpp"
#include "support/random.hpp"
#include "support/routing_verbs.hpp"
#include "support/sanitizers.hpp"
#include "support/sentence.hpp"
#include "support/verbs.hpp"

using namespace tests;
using graft::index_t;

namespace {

template <class T>
using far = deferred_memory::vector<T>;
/// Made while the host may touch it.
template <class T, class... Arguments>
[[nodiscard]] T made(Arguments const&... arguments) {
  return made_in<deferred_memory>([&] { return T(arguments...); });
}
[[nodiscard]] graft::fault_record found(far<graft::fault_record> const& record) {
  far_memory::host_access const access;
  return record[0];
}

/// What `verb` leaves on a device with so much scratch, or what it says; `shared`: bytes that a block of it has.
struct outcome {
  std::string said;
  std::size_t waiting = 0;
  std::size_t most = 0;
};
template <class Verb, class Tensors>
outcome run(Verb const& verb, Tensors& t, std::size_t scratch, std::size_t shared) {
  work_queue queue;
  auto memory = made<far<std::byte>>(scratch, std::byte{0xa5});
  auto record = zeros_in<deferred_memory, graft::fault_record>(1);
  graft::scratch_arena arena(memory.data(), memory.size());
  outcome o;
  try {
    verb(deferred{&queue, &arena, record.data(), shared}, t);
  } catch (graft::error const& e) { o.said = e.what(); }
  o.waiting = queue.waiting();
  o.most = arena.most();
  queue.run_all();
  CHECK(arena.used() == 0);
  CHECK(found(record).kind == 0);
  return o;
}

/// Of one kind of tensors: every verb of `list(memory, f)` on `reference` and deferred, with the scratch that it asks for
/// and with a byte less. Returns how many there were.
template <template <class, class> class Tensors, class S, class Shape, class List>
int compare_all(Shape const& shape, std::size_t shared, List const& list) {
  std::vector<std::unique_ptr<Tensors<S, host_memory>>> expected;
  list(host_memory{}, [&](char const*, auto const& verb) {
    expected.push_back(std::make_unique<Tensors<S, host_memory>>(shape));
    verb(graft::reference{}, *expected.back());
  });
  using far_tensors = Tensors<S, deferred_memory>;
  std::size_t at = 0;
  list(deferred_memory{}, [&](char const* name, auto const& verb) {
    INFO(name << ", " << shared << " bytes of shared memory");
    auto& right = *expected[at++];
    work_queue none;
    auto const record = zeros_in<deferred_memory, graft::fault_record>(1);
    auto probe = made<far_tensors>(shape);
    std::size_t const bytes =
        graft::scratch_bytes(deferred{&none, nullptr, const_cast<graft::fault_record*>(record.data()), shared},
                             [&](auto const& ex) { verb(ex, probe); });
    CHECK(none.verbs.empty());
    auto got = made<far_tensors>(shape);
    outcome const o = run(verb, got, bytes, shared);
    CHECK(o.said == "");
    CHECK(o.most == bytes);
    CHECK(got.differences(right) == "");
    if (bytes == 0) return;
    auto less = made<far_tensors>(shape);
    outcome const refused = run(verb, less, bytes - 1, shared);
    if (refused.said.empty()) CHECK(less.differences(right) == "");  // low_rank_add makes one league do
    else CHECK(refused.said.find("graft::scratch_arena: a call needs ") == 0);
  });
  return static_cast<int>(at);
}
template <class S>
int compare_adapters(verb_shape const& shape, std::size_t shared) {
  return compare_all<tensors, S>(shape, shared, []<class Memory>(Memory, auto const& f) {
    for_each_verb<S, Memory>(f);
    for_each_scratch_verb<S, Memory>(f);
    for_each_remaining_verb<S, Memory>(f);
  });
}
template <class S>
int compare_routing(routing_shape const& shape, std::size_t shared) {
  return compare_all<routed_tensors, S>(
      shape, shared, []<class Memory>(Memory, auto const& f) { for_each_routing_verb<S, Memory>(f); });
}
[[maybe_unused]] constexpr std::size_t plenty = std::size_t{48} << 10U;
[[maybe_unused]] constexpr std::size_t hardly_any = 64;  // nearly all scratch of teams is the arena's

}  // namespace

TEST_CASE("the host cannot touch memory of the device", "[executor][deferred]") {
  auto v = made<far<float>>(std::size_t{1}, 3.0F);
  pid_t const child = ::fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    float const volatile& element = *v.data();
    ::_exit(element == 3.0F ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  far_memory::host_access const access;
  CHECK(v[0] == 3.0F);
}
// Every verb is much to compile: for g++ without Kokkos, and under ASan, which sees what is kept of a stack, for one scalar.
#if (!defined(__clang__) || TESTS_WITH_ASAN) && !defined(GRAFT_WITH_KOKKOS)
TEST_CASE("verbs of adapters only enqueue, with the bits of reference", "[executor][deferred]") {
  for (std::size_t const shared : {plenty, hardly_any}) {
    CHECK(compare_adapters<float>({5, 30, 4, 20}, shared) > 90);
    CHECK(compare_adapters<float>({1, 2, 2, 4}, shared) > 90);
#if !TESTS_WITH_ASAN
    CHECK(compare_adapters<graft::bfloat16>({3, 514, 2, 260}, shared) > 90);
#endif
  }
}
TEST_CASE("verbs of routing only enqueue, with the bits of reference", "[executor][deferred]") {
  for (std::size_t const shared : {plenty, hardly_any}) {
    CHECK(compare_routing<float>({13, 8, 6, 2}, shared) == 24);
#if !TESTS_WITH_ASAN
    CHECK(compare_routing<graft::bfloat16>({520, 12, 10, 3}, shared) == 24);
#endif
  }
}
#endif

namespace {

/// Four tokens that ask for rows of A[2, 5].
struct embedding_problem {
  work_queue queue;
  far<float> a = made<far<float>>(std::size_t{10}, 1.0F), b = made<far<float>>(std::size_t{6}, 1.0F),
             y = made<far<float>>(std::size_t{12}, 0.0F);
  far<std::int64_t> ids = made_in<deferred_memory>([] { return far<std::int64_t>{0, 4, 7, -2}; });
  far<graft::fault_record> record = zeros_in<deferred_memory, graft::fault_record>(1);
  far<std::byte> memory = made<far<std::byte>>(std::size_t{4096});
  graft::scratch_arena arena{memory.data(), memory.size()};

  void call(graft::fault_record* faults) {
    graft::lora_embedding const l{view_of<deferred_memory>(a, 2, 5), view_of<deferred_memory>(b, 3, 2), 1.0};
    add_delta(deferred{&queue, &arena, faults}, l, graft::ids_in<graft::device_space>(ids.data(), 4),
              view_of<deferred_memory>(y, 4, 3));
  }
};
/// Five tokens, two of which have no right logits.
struct gate_problem {
  work_queue queue;
  far<float> logits = made_in<deferred_memory>([] {
    far<float> z(5 * 4, 0.5F);
    z[4 * 3 + 1] = z[4 * 2 + 3] = std::numeric_limits<float>::quiet_NaN();
    return z;
  });
  far<float> weights = made<far<float>>(std::size_t{10}, -1.0F);
  far<float> sums = made<far<float>>(std::size_t{4}, 0.0F);
  far<std::int32_t> ids = made<far<std::int32_t>>(std::size_t{10}, 0);
  far<std::int32_t> codes = made<far<std::int32_t>>(std::size_t{5}, 9);
  far<graft::fault_record> record = zeros_in<deferred_memory, graft::fault_record>(1);
  far<std::byte> memory = made<far<std::byte>>(std::size_t{1U << 16U});
  graft::scratch_arena arena{memory.data(), memory.size()};

  [[nodiscard]] deferred with(graft::fault_record* faults) { return {&queue, &arena, faults}; }
  [[nodiscard]] auto ids_view() { return view_of<deferred_memory>(ids, 5, 2); }
  template <class... Status>
  void call(graft::fault_record* faults, Status const&... status) {
    route(with(faults), graft::softmax_topk{}, view_of<deferred_memory>(logits, 5, 4), ids_view(),
          view_of<deferred_memory>(weights, 5, 2), status...);
  }
};

}  // namespace

TEST_CASE("ids out of range go to the record", "[executor][deferred]") {
  embedding_problem p;
  p.call(p.record.data());
  CHECK(found(p.record).kind == 0);
  p.queue.run_all();
  graft::fault_record const record = found(p.record);
  CHECK(record.kind == graft::fault_record::id_out_of_range);
  CHECK((record.token == 2 && record.id == 7 && record.limit == 5));
  CHECK_THROWS_AS(graft::check(record), graft::data_error);
  CHECK(sentence_of([&] { graft::check(record); }) == "graft: token 2 has the id 7 but there are 5 rows");
}

TEST_CASE("a record keeps the first fault", "[executor][deferred]") {
  embedding_problem p;
  p.call(p.record.data());
  p.queue.run_all();
  {
    far_memory::host_access const access;
    p.ids = {9, 9, 9, 9};
  }
  p.call(p.record.data());
  p.queue.run_all();
  CHECK((found(p.record).token == 2 && found(p.record).id == 7));
}

TEST_CASE("bad logits go to the record, or to a status", "[executor][deferred]") {
  gate_problem p;
  p.call(p.record.data());
  p.queue.run_all();
  graft::fault_record const record = found(p.record);
  CHECK(record.token == 2);
  CHECK(sentence_of([&] { graft::check(record); }).find("graft: token 2 ") == 0);

  gate_problem q;
  q.call(nullptr, graft::gate_status{view_of<deferred_memory>(q.codes)});
  q.queue.run_all();
  far_memory::host_access const access;
  CHECK((q.codes[0] == 0 && q.codes[1] == 0 && q.codes[2] != 0 && q.codes[3] != 0 && q.codes[4] == 0));
  CHECK(q.codes[2] == record.kind);
}

TEST_CASE("experts that do not exist go to the record of expert_sums", "[executor][deferred]") {
  gate_problem p;
  {
    far_memory::host_access const access;
    p.ids = {0, 1, -1, 2, 3, 3, 0, 4, -5, 0};
  }
  graft::kernels::expert_sums(p.with(p.record.data()), p.ids_view(), graft::none, graft::none,
                              view_of<deferred_memory>(p.sums));
  p.queue.run_all();
  CHECK(found(p.record).token == 3);
  CHECK(sentence_of([&] { graft::check(found(p.record)); }).find("graft: token 3 ") == 0);
  far_memory::host_access const access;
  CHECK((p.sums == far<float>{3, 1, 1, 2}));
}

TEST_CASE("without a record nothing is enqueued", "[executor][deferred]") {
  std::string const end =
      ": what is wrong with data cannot be thrown by this executor, whose work is not done when a call returns; give "
      "the "
      "executor a graft::fault_record in its memory, or the call a status";
  embedding_problem e;
  CHECK_THROWS_AS(e.call(nullptr), graft::argument_error);
  CHECK(sentence_of([&] { e.call(nullptr); }).find(end) != std::string::npos);
  CHECK(e.queue.verbs.empty());
  CHECK(e.arena.used() == 0);
  gate_problem g;
  CHECK(sentence_of([&] { g.call(nullptr); }).find(end) != std::string::npos);
  CHECK(sentence_of([&] {
          graft::kernels::expert_sums(g.with(nullptr), g.ids_view(), graft::none, graft::none,
                                      view_of<deferred_memory>(g.sums));
        }).find(end) != std::string::npos);
  CHECK(g.queue.verbs.empty());
  CHECK(g.arena.used() == 0);
}

TEST_CASE("without scratch nothing is enqueued", "[executor][deferred]") {
  embedding_problem e;
  graft::lora_embedding const l{view_of<deferred_memory>(e.a, 2, 5), view_of<deferred_memory>(e.b, 3, 2), 1.0};
  deferred const none{&e.queue, nullptr, e.record.data()};
  CHECK(sentence_of([&] {
          add_delta(none, l, graft::ids_in<graft::device_space>(e.ids.data(), 4), view_of<deferred_memory>(e.y, 4, 3));
        }) == "graft: a call needs 8 bytes of scratch but its executor has none; give it a graft::scratch_arena");
  CHECK(e.queue.verbs.empty());
}
