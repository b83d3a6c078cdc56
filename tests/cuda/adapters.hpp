// Every verb of kernels and adapters on a device, for one scalar.
#pragma once

#include "cuda/parity.hpp"
#include "support/verbs.hpp"

namespace tests {

[[nodiscard]] inline std::string text_of_shape(verb_shape const& s) {
  return "T = " + std::to_string(s.T) + ", n = " + std::to_string(s.n) + ", r = " + std::to_string(s.r) +
         ", m = " + std::to_string(s.m);
}
/// Those of `for_each_verb` and `for_each_scratch_verb`, which take any shape; the others need T >= 1, even n, m a
/// multiple of 4.
template <class S, bool Remaining>
struct adapter_verbs {
  template <class Memory, class F>
  void operator()(Memory, F const& f) const {
    if constexpr (Remaining) for_each_remaining_verb<S, Memory>(f);
    else {
      for_each_verb<S, Memory>(f);
      for_each_scratch_verb<S, Memory>(f);
    }
  }
};
template <class S>
void compare_any_shapes() {
  tally all;
  stream on;
  for (verb_shape const& s : {verb_shape{1, 511, 15, 3}, verb_shape{4, 513, 17, 3}, verb_shape{3, 512, 16, 257},
                              verb_shape{5, 1028, 8, 260}, verb_shape{65, 33, 2, 17}, verb_shape{0, 1, 3, 3},
                              verb_shape{5, 0, 1, 1}, verb_shape{3, 3, 0, 3}, verb_shape{4, 1, 3, 0}}) {
    adapter_verbs<S, false> const list;
    compare_on_device<managed_memory, tensors, S>(all, on, s, text_of_shape(s), list);
    compare_on_device<managed_rows, tensors, S>(all, on, s, text_of_shape(s) + ", rows", list, layout::contiguous);
    compare_on_device<managed_rows, tensors, S>(all, on, s, text_of_shape(s) + ", padded", list, layout::padded);
  }
  CHECK(all.text() == "");
  CHECK(all.count() > 2 * 3 * 9 * 40);
}
template <class S>
void compare_remaining() {
  tally all;
  stream on;
  for (verb_shape const& s : {verb_shape{5, 30, 4, 20}, verb_shape{1, 2, 2, 4}, verb_shape{3, 514, 2, 260}}) {
    adapter_verbs<S, true> const list;
    compare_on_device<managed_memory, tensors, S>(all, on, s, text_of_shape(s), list);
    compare_on_device<managed_rows, tensors, S>(all, on, s, text_of_shape(s) + ", rows", list, layout::contiguous);
  }
  CHECK(all.text() == "");
  CHECK(all.count() > 2 * 2 * 3 * 50);
}

}  // namespace tests
