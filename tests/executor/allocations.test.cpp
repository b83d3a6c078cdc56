// Replaces this program's operator new, so that an allocation that goes past the executor's resource is seen.
#include <atomic>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "support/executors.hpp"
#include "support/random.hpp"
#include "support/resources.hpp"
#include "support/sanitizers.hpp"

namespace {
std::atomic<long> allocations = 0;
}  // namespace

#if !TESTS_WITH_TSAN  // TSan's runtime brings these operators itself, and they cannot be replaced
namespace {

void* allocate(std::size_t size, std::size_t alignment) {
  ++allocations;
  void* const p = alignment <= alignof(std::max_align_t)
                      ? std::malloc(size == 0 ? 1 : size)
                      : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (p == nullptr) throw std::bad_alloc{};
  return p;
}
}  // namespace

// Not inlined: g++ 12 would take new and free for a mismatched pair.
[[gnu::noinline]] void* operator new(std::size_t size) { return allocate(size, 0); }
[[gnu::noinline]] void* operator new[](std::size_t size) { return allocate(size, 0); }
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t a) {
  return allocate(size, static_cast<std::size_t>(a));
}
[[gnu::noinline]] void* operator new[](std::size_t size, std::align_val_t a) {
  return allocate(size, static_cast<std::size_t>(a));
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
#endif

using graft::index_t;
using graft::transposed;
using graft::view;
namespace kernels = graft::kernels;

namespace {

/// Memory that was there before, for one block at a time.
class prepared_resource : public std::pmr::memory_resource {
 public:
  explicit prepared_resource(std::size_t size) : memory_(size + 64) {}
  int taken = 0;
  int held = 0;
  std::size_t bytes = 0;

 private:
  void* do_allocate(std::size_t size, std::size_t) override {
    ++taken;
    bytes += size;
    if (held++ != 0 || size + 64 > memory_.size()) throw std::bad_alloc{};
    auto const at = reinterpret_cast<std::uintptr_t>(memory_.data());
    return memory_.data() + (64 - at % 64);
  }
  void do_deallocate(void*, std::size_t, std::size_t) override { --held; }
  [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
    return this == &other;
  }

  std::vector<std::byte> memory_;
};

}  // namespace

TEST_CASE("verbs take scratch once from the executor's resource and allocate nothing else", "[executor][kernels]") {
  constexpr index_t n = 700, r = 13, m = 150;
  for (index_t const T : {1, 3, 40, 600}) {
    auto const x = tests::random_numbers<float>(T * n, 1);
    auto const a = tests::random_numbers<float>(r * n, 2);
    auto const b = tests::random_numbers<graft::bfloat16>(m * r, 3);
    auto y = tests::random_numbers<float>(T * m, 4);
    auto h = tests::random_numbers<graft::float16>(T * m, 4);
    auto v = tests::random_numbers<float>(T * r, 5);
    auto g = tests::random_numbers<float>(r * n, 5);
    auto w = tests::random_numbers<float>(r * T, 5);
    auto z = tests::random_numbers<double>(T * m, 4);
    auto const d = tests::random_numbers<float>(m, 6);
    prepared_resource memory(std::size_t{64} << 20U);
    tests::for_each_executor(
        [&](std::string const& name, auto const& ex) {
          INFO(name << ", " << T << " rows");
          auto const counted = [&](char const* what, std::size_t bytes, auto const& call) {
            call();  // threads are started by the first call
            long const before = allocations;
            memory.taken = 0;
            memory.bytes = 0;
            call();
            long const after = allocations;
            INFO(what);
            // Kokkos makes strings of a launch's label; how many does not depend on the work.
            if (name.starts_with("kokkos")) CHECK(after - before <= 2 * 4);
            else CHECK(after == before);
            CHECK(memory.taken == (bytes == 0 ? 0 : 1));
            CHECK(memory.bytes == bytes);
            CHECK(memory.held == 0);
          };
          // A verb on these arguments takes what its query says.
          auto const queried = [&](char const* what, auto const& verb, auto const&... arguments) {
            counted(what, verb.scratch_bytes(ex, arguments...), [&] { verb(ex, arguments...); });
          };
          queried("low_rank_add", kernels::low_rank_add, view(x, T, n), view(a, r, n), view(b, m, r), view(y, T, m),
                  0.5F);
          if (!tests::brings_team_scratch(name)) CHECK(memory.taken == 1);
          queried("low_rank_add, 16 bits", kernels::low_rank_add, view(x, T, n), view(a, r, n), view(b, m, r),
                  view(h, T, m), 0.5F);
          queried("low_rank_add, double", kernels::low_rank_add, view(x, T, n), view(a, r, n), view(b, m, r),
                  view(z, T, m), 0.5F);
          if (!name.starts_with("kokkos") && !tests::brings_team_scratch(name)) CHECK(memory.taken == 1);
          queried("shrink", kernels::shrink, view(x, T, n), view(a, r, n), view(v, T, r));
          queried("expand_add", kernels::expand_add, view(v, T, r), view(b, m, r), view(y, T, m));
          queried("expand_add, 16 bits", kernels::expand_add, view(v, T, r), view(b, m, r), transposed(view(h, m, T)));
          queried("expand_add over rows", kernels::expand_add, transposed(view(v, T, r)), transposed(view(x, T, n)),
                  view(g, r, n));
          queried("outer_add", kernels::outer_add, view(x, T, n), transposed(view(g, r, n)), transposed(view(w, r, T)),
                  0.25F);
          counted("scale_columns", 0, [&] { kernels::scale_columns(ex, view(d), view(y, T, m)); });
          counted("add_bias", 0, [&] { kernels::add_bias(ex, view(d), view(y, T, m)); });
          counted("copy", 0, [&] { kernels::copy(ex, view(y, T, m), view(h, T, m)); });
          counted("drop", 0,
                  [&] { kernels::drop(ex, graft::dropout{.probability = 0.5}, view(y, T, m), view(h, T, m)); });
        },
        &memory);
  }
}

TEST_CASE("the counting of allocations counts", "[executor]") {
  if (TESTS_WITH_TSAN) SKIP("the thread sanitizer's operator new cannot be replaced");
  long const before = allocations;
  ::operator delete(::operator new(12));  // by name: a compiler may leave out a new-expression, as clang does
  CHECK(allocations > before);
}
