// The one registry of executors, and of the instruction sets that their bodies exist for.
#pragma once

#include <initializer_list>
#include <memory_resource>
#include <string>

#include <graft/graft.hpp>
#include <graft/openmp.hpp>

namespace tests {

/// f(name, executor) for serial and openmp of one to four threads: the executors that take host bodies.
template <class F>
void for_each_host_executor(F const& f, std::pmr::memory_resource* scratch = nullptr) {
  f(std::string("serial"), graft::serial{scratch});
  for (int const threads : {1, 2, 3, 4}) f("openmp{" + std::to_string(threads) + "}", graft::openmp{threads, scratch});
}

/// f(name, executor) for every executor. A new one is added here and nowhere else.
template <class F>
void for_each_executor(F const& f, std::pmr::memory_resource* scratch = nullptr) {
  f(std::string("reference"), graft::reference{scratch});
  tests::for_each_host_executor(f, scratch);
}

/// Puts the instruction set back that was in use.
class isa_guard {
 public:
  isa_guard() = default;
  isa_guard(isa_guard const&) = delete;
  isa_guard& operator=(isa_guard const&) = delete;
  ~isa_guard() { graft::limit_isa(before_); }

 private:
  graft::isa before_ = graft::active_isa();
};

/// f(name) at every instruction set that this processor has, the lowest first.
template <class F>
void for_each_isa(F const& f) {
  isa_guard const guard;
  for (graft::isa const level : {graft::isa::baseline, graft::isa::avx2, graft::isa::avx512})
    if (graft::limit_isa(level) == level) f(std::string(graft::name(level)));
}

}  // namespace tests
