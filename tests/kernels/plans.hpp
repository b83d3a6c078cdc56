// Plans with memory of their own.
#pragma once

#include <cstddef>
#include <vector>

#include <graft/executor/reference.hpp>
#include <graft/kernels/plan.hpp>

namespace tests {

using graft::index_t;
using graft::plan_options;
using list = std::vector<index_t>;

template <class V>
list list_of(V const& v) {
  list l;
  for (index_t i = 0; i < v.extent(0); ++i) l.push_back(static_cast<index_t>(v(i)));
  return l;
}

/// A plan and its memory, which is full of rubbish before.
template <class A>
struct owned_plan {
  owned_plan(A const& a, index_t experts, plan_options const& options = {})
      : memory(graft::plan_bytes(graft::detail::pairs_of(a), experts, options), std::byte{0x5a}),
        p(graft::plan_in(memory, a, experts, options)) {}
  std::vector<std::byte> memory;
  graft::plan<> p;
};

/// The plan of an assignment.
template <class A>
[[nodiscard]] owned_plan<A> plan_of(A const& a, index_t experts, plan_options const& options = {}) {
  owned_plan<A> o(a, experts, options);
  graft::kernels::make_plan(graft::reference{}, a, o.p);
  return o;
}

}  // namespace tests
