// Scratch is what the queries announce, of verbs of kernels and of adapters.
#pragma once

#include <cstddef>
#include <memory_resource>
#include <string>
#include <type_traits>

#include <catch2/catch_test_macros.hpp>
#include <graft/executor/reference.hpp>

#include "support/executors.hpp"
#include "support/resources.hpp"

namespace tests {

/// On every executor verb(ex, arguments...) takes verb.scratch_bytes(ex, arguments...).
template <class Verb, class... Arguments>
void takes_its_scratch(Verb const& verb, Arguments const&... arguments) {
  watched_resource memory;
  for_each_executor(
      [&](std::string const& name, auto const& ex) {
        INFO(name);
        std::size_t const before = memory.bytes, announced = verb.scratch_bytes(ex, arguments...);
        verb(ex, arguments...);
        CHECK(memory.bytes - before == announced);
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(ex)>, graft::reference>) CHECK(announced > 0);
      },
      &memory);
  CHECK_FALSE(memory.overrun);
}

/// Runs readable bodies; `resource()` gives what an adapter asks for beside its kernels.
struct scratch_of_adapters {
  using space_type = graft::host_space;
  static constexpr int row_block = graft::reference::row_block;
  std::pmr::memory_resource* scratch;

  [[nodiscard]] std::pmr::memory_resource* resource() const { return scratch; }
  template <class Body>
  void league(graft::index_t size, std::size_t bytes, Body const& body) const {
    graft::reference{}.league(size, bytes, body);
  }
  void fence() const {}
};

/// Bytes that call(ex) of an adapter's verb holds at most at one time, beside those of its kernels.
template <class Call>
[[nodiscard]] std::size_t scratch_beside_kernels(Call const& call) {
  watched_resource memory;
  call(scratch_of_adapters{&memory});
  CHECK_FALSE(memory.overrun);
  CHECK(memory.held == 0);
  return memory.most;
}

}  // namespace tests
