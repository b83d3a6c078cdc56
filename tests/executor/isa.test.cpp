#include <graft/executor/isa.hpp>

#include <cstdlib>
#include <string>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include "support/executors.hpp"

using graft::isa;

namespace {

/// The environment variable, put back at the end.
struct environment {
  std::string before = std::getenv("GRAFT_ISA") == nullptr ? "" : std::getenv("GRAFT_ISA");
  explicit environment(char const* value) { setenv("GRAFT_ISA", value, 1); }
  environment(environment const&) = delete;
  environment& operator=(environment const&) = delete;
  ~environment() {
    if (before.empty()) unsetenv("GRAFT_ISA");
    else setenv("GRAFT_ISA", before.c_str(), 1);
  }
};

}  // namespace

TEST_CASE("the instruction set can be lowered by a call and raised again up to the processor's", "[executor][isa]") {
  tests::isa_guard const guard;
  isa const best = graft::limit_isa(isa::avx512);
  CHECK(graft::active_isa() == best);
  CHECK(graft::limit_isa(isa::baseline) == isa::baseline);
  CHECK(graft::active_isa() == isa::baseline);
  isa const middle = graft::limit_isa(isa::avx2);
  CHECK(middle == (best < isa::avx2 ? best : isa::avx2));
  CHECK(graft::active_isa() == middle);
  CHECK(graft::limit_isa(isa::avx512) == best);
}

TEST_CASE("the processor is asked for all that a level uses", "[executor][isa]") {
#if defined(__x86_64__)
  isa const best = graft::detail::isa_of_processor();
  bool const avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  bool const avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  CHECK(best == (avx512 ? isa::avx512 : avx2 ? isa::avx2 : isa::baseline));
#else
  CHECK(graft::detail::isa_of_processor() == isa::baseline);
#endif
}

TEST_CASE("the environment variable GRAFT_ISA lowers the instruction set", "[executor][isa]") {
  isa const best = graft::detail::isa_of_processor();
  {
    environment const e("baseline");
    CHECK(graft::detail::isa_from_environment() == isa::baseline);
  }
  {
    environment const e("avx2");
    CHECK(graft::detail::isa_from_environment() == (best < isa::avx2 ? best : isa::avx2));
  }
  {
    environment const e("avx512");
    CHECK(graft::detail::isa_from_environment() == best);
  }
  {
    environment const e("");
    CHECK(graft::detail::isa_from_environment() == best);
  }
}

TEST_CASE("a GRAFT_ISA that is no instruction set is refused", "[executor][isa]") {
  for (char const* const wrong : {"sse2", "AVX2", "avx2 ", "avx"}) {
    environment const e(wrong);
    CHECK_THROWS_MATCHES(graft::detail::isa_from_environment(), graft::argument_error,
                         Catch::Matchers::Message("graft: the environment variable GRAFT_ISA is \"" +
                                                  std::string(wrong) + "\" but must be baseline, avx2 or avx512"));
  }
}

TEST_CASE("levels have the names that the variable takes", "[executor][isa]") {
  CHECK(graft::name(isa::baseline) == "baseline");
  CHECK(graft::name(isa::avx2) == "avx2");
  CHECK(graft::name(isa::avx512) == "avx512");
}
