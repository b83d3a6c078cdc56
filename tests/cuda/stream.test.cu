// `cuda_stream_executor` itself: scratch of teams, streams side by side, captures, errors, faults.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "cuda/adapters.hpp"

using graft::cuda_stream_executor;
using graft::index_t;
using tests::managed;

namespace tests {

/// Every team fills its scratch, looks at what the others of its block wrote, and adds 1 to its own place.
struct fill_scratch_body {
  static constexpr std::string_view verb = "fill_scratch";
  static constexpr bool unbounded_scratch = true;
  index_t words;
  std::int32_t* right;

  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    auto* const own = tm.template scratch<std::uint32_t>(words);
    auto const mark = static_cast<std::uint32_t>(tm.league_rank()) * 2654435761U;
    tm.vector(words, [&](index_t i) { own[i] = mark + static_cast<std::uint32_t>(i); });
    tm.barrier();
    tm.groups(1, [&](index_t) {
      tm.once([&] {
        bool all = true;
        for (index_t i = 0; i < words; ++i) all = all && own[i] == mark + static_cast<std::uint32_t>(i);
        right[tm.league_rank()] += all ? 1 : 0;
      });
    });
  }
};
}  // namespace tests

namespace {

/// One lane of a team at a time.
struct narrow_body {
  static constexpr std::string_view verb = "narrow";
  std::int32_t* threads;
  [[nodiscard]] constexpr index_t lanes() const { return 40; }
  template <class Team>
  GRAFT_FN void operator()(Team const& tm) const {
    tm.vector(1, [&](index_t) { threads[tm.league_rank()] = static_cast<std::int32_t>(1); });
  }
};

[[nodiscard]] std::size_t shared_memory() {
  return static_cast<std::size_t>(tests::attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
}

}  // namespace

TEST_CASE("teams have the scratch that they ask for, shared or global", "[cuda]") {
  GRAFT_TESTS_NEED_DEVICE();
  tests::stream on(std::size_t{1} << 30U);
  cuda_stream_executor const ex = on.executor();
  for (std::size_t const bytes : {std::size_t{4}, std::size_t{48} << 10U, (std::size_t{48} << 10U) + 4, shared_memory(),
                                  shared_memory() + 4, std::size_t{300} << 10U})
    for (index_t const size : {index_t{1}, index_t{3}, ex.teams_at_once() + 5}) {
      INFO(bytes << " bytes, " << size << " teams");
      managed<std::int32_t> right(static_cast<std::size_t>(size));
      for (int time = 0; time < 2; ++time)
        ex.league(size, bytes, tests::fill_scratch_body{static_cast<index_t>(bytes / 4), right.data()});
      ex.fence();
      CHECK(right == managed<std::int32_t>(static_cast<std::size_t>(size), 2));
      CHECK((ex.league_scratch(size, bytes) > 0) == (bytes > shared_memory()));
      CHECK(on.arena.used() == 0);
    }
}

TEST_CASE("teams of a device need an arena beyond its shared memory", "[cuda]") {
  GRAFT_TESTS_NEED_DEVICE();
  tests::stream on(64);
  managed<std::int32_t> right(1);
  std::size_t const bytes = shared_memory() + 4;
  tests::fill_scratch_body const body{1, right.data()};
  cuda_stream_executor const none{.stream = on.handle};
  CHECK(tests::sentence_of([&] {
          none.league(1, bytes, body);
        }).find("bytes of scratch but its executor has none; give it a graft::scratch_arena") != std::string::npos);
  CHECK(tests::sentence_of([&] { on.executor().league(1, bytes, body); }).find("graft::scratch_arena: a call needs ") ==
        0);
  on.executor().fence();
  CHECK(right[0] == 0);
}

TEST_CASE("teams whose scratch is bounded are refused beyond shared memory", "[cuda]") {
  GRAFT_TESTS_NEED_DEVICE();
  tests::stream on;
  managed<std::int32_t> seen(7);
  std::size_t const bytes = shared_memory() + 4;
  CHECK(tests::sentence_of([&] { on.executor().league(7, bytes, narrow_body{seen.data()}); }) ==
        "graft::narrow: a team needs " + std::to_string(bytes) +
            " bytes of scratch, more than a block of this device can have");
  on.executor().league(7, bytes - 4, narrow_body{seen.data()});
  on.executor().fence();
  CHECK(seen == managed<std::int32_t>(7, 1));
}

TEST_CASE("leagues of no teams and of few lanes", "[cuda]") {
  GRAFT_TESTS_NEED_DEVICE();
  tests::stream on;
  managed<std::int32_t> seen(7);
  on.executor().league(0, 0, narrow_body{nullptr});
  on.executor().league(7, 0, narrow_body{seen.data()});
  on.executor().fence();
  CHECK(seen == managed<std::int32_t>(7, 1));
}

TEST_CASE("verbs whose teams need much scratch have the bits of reference", "[cuda][parity]") {
  GRAFT_TESTS_NEED_DEVICE();
  tests::tally all;
  tests::stream on(std::size_t{1} << 30U);
  auto const list = []<class Memory>(Memory, auto const& f) {
    using t_t = tests::tensors<float, Memory>;
    f("add_delta of lora", [](auto const& ex, t_t& t) { add_delta(ex, t.lora(), t.x.view(), t.y.view()); });
    f("add_delta of vera", [](auto const& ex, t_t& t) { add_delta(ex, t.vera(), t.x.view(), t.y.view()); });
    f("backward of lora", [](auto const& ex, t_t& t) {
      graft::lora_gradients const g{.A = t.dA.view(), .B = t.dB.view(), .bias = {}};
      backward(ex, t.lora(), t.x.view(), t.y.view(), g, t.dx.view());
    });
    f("route over many experts", [](auto const& ex, t_t& t) {
      auto const tokens = t.v.view().extent(0);
      typename Memory::template vector<std::int32_t> ids(static_cast<std::size_t>(2 * tokens));
      route(ex, graft::softmax_topk{}, t.v.view(), t.view(ids, tokens, 2), graft::columns(t.y.view(), 0, 2));
      ex.fence();
    });
  };
  // Ranks and experts: four rows of them are more than 48 KiB.
  for (index_t const T : {1, 9}) {
    tests::verb_shape const s{T, 5, 3100, 9};
    tests::compare_on_device<tests::managed_memory, tests::tensors, float>(all, on, s, tests::text_of_shape(s), list);
    tests::compare_on_device<tests::managed_rows, tests::tensors, float>(all, on, s, tests::text_of_shape(s) + ", rows",
                                                                         list, tests::layout::contiguous);
  }
  CHECK(all.text() == "");
  CHECK(all.count() == 2 * 2 * 2 * 4);
}

TEST_CASE("verbs whose teams need more scratch than there is shared have the bits of reference", "[cuda][parity]") {
  GRAFT_TESTS_NEED_DEVICE();
  tests::tally all;
  tests::stream on(std::size_t{1} << 30U);
  auto const list = []<class Memory>(Memory, auto const& f) {
    using t_t = tests::tensors<float, Memory>;
    auto const block = [](auto const& v) {  // of contiguous rows
      return t_t::strided(v.data_handle(), graft::dynamic_extents<3>(1, v.extent(0), v.extent(1)),
                          {0, v.extent(1), index_t{1}});
    };
    f("cayley", [=](auto const& ex, t_t& t) { graft::kernels::cayley(ex, block(t.A.view()), block(t.dA.view())); });
    f("top_k over many", [](auto const& ex, t_t& t) {
      auto ids = tests::zeros_in<Memory, std::int32_t>(2);
      graft::kernels::top_k(ex, t.view(t.rows, 1, t.x.view().extent(0)), t.view(ids, 1, 2));
      ex.fence();
      for (std::size_t i = 0; i < 2; ++i) t.drank[i] = static_cast<float>(ids[i]);
    });
  };
  tests::verb_shape const s{static_cast<index_t>(shared_memory() / sizeof(float)) + 100, 256, 256, 4};
  CHECK(tests::compare_on_device<tests::managed_rows, tests::tensors, float>(all, on, s, tests::text_of_shape(s), list,
                                                                             tests::layout::contiguous) == 2);
  CHECK(all.text() == "");
  CHECK(on.arena.most() > 0);
}

TEST_CASE("scratch_bytes is what calls take on this device", "[cuda]") {
  GRAFT_TESTS_NEED_DEVICE();
  for (index_t const r : {index_t{4}, index_t{3100}}) {
    tests::tensors<float, tests::managed_memory> t({5, 30, r, 20});
    graft::lora_gradients const g{.A = t.dA.view(), .B = t.dB.view(), .bias = {}};
    auto const call = [&](auto const& ex) { backward(ex, t.lora(), t.x.view(), t.y.view(), g, t.dx.view()); };
    std::size_t const bytes = graft::scratch_bytes(cuda_stream_executor{}, call);
    tests::stream enough(bytes), little(bytes - 1);
    call(enough.executor());
    enough.executor().fence();
    CHECK(enough.arena.most() == bytes);
    CHECK(tests::sentence_of([&] { call(little.executor()); }).find("graft::scratch_arena: a call needs ") == 0);
  }
}

TEST_CASE("streams of two threads at once have the bits of reference", "[cuda][parity]") {
  GRAFT_TESTS_NEED_DEVICE();
  if (tests::attribute(cudaDevAttrConcurrentManagedAccess) == 0) SKIP("hosts may not touch managed memory meanwhile");
  tests::tally all[2];
  {
    tests::stream one, two;
    auto const work = [](tests::tally& said, tests::stream& on, index_t T) {
      try {
        for (int time = 0; time < 3; ++time) {
          tests::verb_shape const s{T, 513, 4, 260};
          tests::compare_on_device<tests::managed_rows, tests::tensors, float>(
              said, on, s, tests::text_of_shape(s), tests::adapter_verbs<float, false>{}, tests::layout::contiguous);
        }
      } catch (std::exception const& e) {
        said.add(e.what(), [] { return std::string("a thread ended"); });
      }
    };
    std::thread other([&] {
      static_cast<void>(cudaSetDevice(0));
      work(all[1], two, 9);
    });
    work(all[0], one, 5);
    other.join();
  }
  for (tests::tally const& said : all) {
    CHECK(said.text() == "");
    CHECK(said.count() > 2 * 3 * 40);
  }
}

namespace {
/// Several leagues and scratch between them.
constexpr auto several_calls = [](auto const& ex, auto& t) {
  add_delta(ex, t.lora(), t.x.view(), t.y.view());
  update_norms(ex, t.dora(), t.w.view());
  graft::lora_gradients const g{.A = t.dA.view(), .B = t.dB.view(), .bias = {}};
  backward(ex, t.lora(), t.x.view(), t.y.view(), g, t.dx.view());
};
using of_device = tests::tensors<float, tests::managed_memory>;
}  // namespace

TEST_CASE("streams of one thread have the bits of reference, without a wait in between", "[cuda][parity]") {
  GRAFT_TESTS_NEED_DEVICE();
  constexpr tests::verb_shape shape{65, 513, 17, 257};
  tests::tensors<float> expected(shape);
  of_device got[3]{of_device(shape), of_device(shape), of_device(shape)};
  tests::stream on[3];
  for (int time = 0; time < 3; ++time) {
    several_calls(graft::reference{}, expected);
    for (int i = 0; i < 3; ++i) several_calls(on[i].executor(), got[i]);
  }
  for (tests::stream& s : on) s.executor().fence();
  for (of_device& t : got) CHECK(t.differences(expected) == "");
}

TEST_CASE("devices of one thread have the bits of reference, and streams belong to them", "[cuda][parity]") {
  GRAFT_TESTS_NEED_DEVICE();
  int devices = 0;
  tests::right(cudaGetDeviceCount(&devices), "cudaGetDeviceCount");
  if (devices < 2) SKIP("one CUDA device: two are needed");
  auto const on_device = [](int d) { tests::right(cudaSetDevice(d), "cudaSetDevice"); };
  constexpr tests::verb_shape shape{65, 513, 17, 257};
  tests::tensors<float> expected(shape);
  of_device got[2]{of_device(shape), of_device(shape)};
  std::unique_ptr<tests::stream> on[2];
  for (int d = 0; d < 2; ++d) {
    on_device(d);
    on[d] = std::make_unique<tests::stream>();
  }
  for (int time = 0; time < 3; ++time) {
    several_calls(graft::reference{}, expected);
    for (int d = 0; d < 2; ++d) {
      on_device(d);
      several_calls(on[d]->executor(), got[d]);
    }
  }
  for (int d = 0; d < 2; ++d) {
    on_device(d);
    on[d]->executor().fence();
  }
  for (of_device& t : got) CHECK(t.differences(expected) == "");
  // Device 1 is current, the stream is of device 0.
  std::string const said = tests::sentence_of([&] { several_calls(on[0]->executor(), got[0]); });
  CHECK(said.find("graft::cuda_stream_executor: graft::") == 0);
  CHECK(said.find(" (cudaErrorInvalidResourceHandle)") != std::string::npos);
  static_cast<void>(cudaGetLastError());
  on_device(0);
}

TEST_CASE("calls can be captured, since they only enqueue", "[cuda]") {
  GRAFT_TESTS_NEED_DEVICE();
  tests::stream on;
  tests::tensors<float> expected({5, 30, 4, 20});
  of_device got({5, 30, 4, 20});
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t ready = nullptr;
  tests::right(cudaStreamBeginCapture(on.handle, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  several_calls(on.executor(), got);
  tests::right(cudaStreamEndCapture(on.handle, &graph), "cudaStreamEndCapture");
  tests::right(cudaGraphInstantiate(&ready, graph, 0), "cudaGraphInstantiate");
  for (int time = 0; time < 2; ++time) {
    tests::right(cudaGraphLaunch(ready, on.handle), "cudaGraphLaunch");
    on.executor().fence();
    several_calls(graft::reference{}, expected);
    CHECK(got.differences(expected) == "");
  }
  tests::right(cudaGraphExecDestroy(ready), "cudaGraphExecDestroy");
  tests::right(cudaGraphDestroy(graph), "cudaGraphDestroy");
}

TEST_CASE("errors of the runtime name the verb, the launch and what CUDA says", "[cuda]") {
  GRAFT_TESTS_NEED_DEVICE();
  tests::stream on;
  managed<std::int32_t> seen(7);
  cudaGraph_t graph = nullptr;
  // A stream that is captured cannot be waited for, and a capture that went wrong takes no launches.
  tests::right(cudaStreamBeginCapture(on.handle, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  CHECK_THROWS_AS(on.executor().fence(), graft::device_error);
  std::string const said = tests::sentence_of([&] { on.executor().league(7, 128, narrow_body{seen.data()}); });
  CHECK(said.find("graft::cuda_stream_executor: graft::narrow, a launch of 7 blocks of 64 threads with 128 bytes of "
                  "shared memory each: ") == 0);
  CHECK(said.find(" (cudaErrorStreamCaptureInvalidated)") != std::string::npos);
  CHECK(tests::sentence_of([&] {
          on.executor().fence();
        }).find("graft::cuda_stream_executor: cudaStreamSynchronize: ") == 0);
  static_cast<void>(cudaStreamEndCapture(on.handle, &graph));
  static_cast<void>(cudaGetLastError());
  // Nothing is left of it.
  CHECK(tests::sentence_of([&] {
          on.executor().league(7, 128, narrow_body{seen.data()});
          on.executor().fence();
        }) == "");
  CHECK(seen == managed<std::int32_t>(7, 1));
}

TEST_CASE("faults of data go to the record of a stream", "[cuda]") {
  GRAFT_TESTS_NEED_DEVICE();
  tests::stream on;
  using memory = tests::managed_memory;
  managed<float> a(10, 1.0F), b(6, 1.0F), y(12), logits(5 * 4, 0.5F), weights(10), sums(4);
  managed<std::int64_t> ids{0, 4, 7, -2};
  managed<std::int32_t> chosen(10), codes(5, 9);
  auto const said = [&] {
    on.executor().fence();
    std::string sentence = tests::sentence_of([&] { graft::check(on.record[0]); });
    on.record[0] = {};
    return sentence;
  };
  graft::lora_embedding const l{tests::view_of<memory>(a, 2, 5), tests::view_of<memory>(b, 3, 2), 1.0};
  add_delta(on.executor(), l, graft::ids_in<graft::shared_space>(ids.data(), 4), tests::view_of<memory>(y, 4, 3));
  CHECK(said() == "graft: token 2 has the id 7 but there are 5 rows");

  logits[4 * 3 + 1] = logits[4 * 2 + 3] = std::numeric_limits<float>::quiet_NaN();
  auto const z = tests::view_of<memory>(logits, 5, 4);
  auto const choices = tests::view_of<memory>(chosen, 5, 2);
  auto const w = tests::view_of<memory>(weights, 5, 2);
  route(on.executor(), graft::softmax_topk{}, z, choices, w);
  CHECK(said().find("graft: token 2 ") == 0);
  route(cuda_stream_executor{.stream = on.handle}, graft::softmax_topk{}, z, choices, w,
        graft::gate_status{tests::view_of<memory>(codes)});
  CHECK(said() == "");
  CHECK((codes[0] == 0 && codes[1] == 0 && codes[2] != 0 && codes[3] != 0 && codes[4] == 0));

  chosen = {0, 1, -1, 2, 3, 3, 0, 4, -5, 0};
  graft::kernels::expert_sums(on.executor(), choices, graft::none, graft::none, tests::view_of<memory>(sums));
  CHECK(said().find("graft: token 3 ") == 0);
  CHECK(sums == managed<float>{3, 1, 1, 2});
}
