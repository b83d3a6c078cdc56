// Verbs on a device have the bits of `reference`, each time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/cuda.hpp>

#include "cuda/memory.hpp"
#include "support/bits.hpp"

namespace tests {

/// Every verb of `list(memory, f)`, which calls f(name, verb), on tensors of such a shape, twice; where `reference`
/// refuses the shape, the device must in the same words. Returns the number of verbs. Not for Catch2: any thread may call
/// it, and complaints go to the tally.
template <class Memory, template <class, class> class Tensors, class S, class Shape, class List, class... Layout>
int compare_on_device(tally& all, stream& on, Shape const& shape, std::string const& described, List const& list,
                      Layout... how) {
  using here = Tensors<S, host_memory>;
  using there = Tensors<S, Memory>;
  struct outcome {
    std::unique_ptr<here> tensors;
    std::string refusal;
  };
  std::vector<outcome> expected;
  list(host_memory{}, [&](char const*, auto const& verb) {
    outcome& o = expected.emplace_back(outcome{std::make_unique<here>(shape, how...), {}});
    o.refusal = sentence_of([&] { verb(graft::reference{}, *o.tensors); });
  });
  std::size_t at = 0;
  list(Memory{}, [&](char const* name, auto const& verb) {
    outcome const& right = expected[at++];
    for (int const time : {1, 2}) {
      there got(shape, how...);
      std::string const refusal = sentence_of([&] { verb(on.executor(), got); });
      std::string complaint = sentence_of([&] {
        on.executor().fence();
        graft::check(on.record[0]);
      });
      if (refusal != right.refusal) complaint += "it says \"" + refusal + "\" instead of \"" + right.refusal + "\"";
      if (complaint.empty()) complaint = got.differences(*right.tensors);
      all.add(complaint, [&] { return std::string(name) + ", " + described + ", run " + std::to_string(time); });
    }
  });
  return static_cast<int>(at);
}

}  // namespace tests
