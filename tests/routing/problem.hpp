// What tests of gates share: ids in any layout, one call on every executor, an oracle in double.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <graft/routing.hpp>

#include "support/bits.hpp"
#include "support/executors.hpp"
#include "support/layouts.hpp"
#include "support/random.hpp"

namespace tests {

using graft::index_t;

inline constexpr double infinity = std::numeric_limits<double>::infinity();

/// Owns ids[T, k], rows in a wider buffer and every other column, between guards.
template <class I>
class id_matrix {
 public:
  id_matrix(index_t rows, index_t columns) : rows_(rows), columns_(columns) {
    memory_.assign(static_cast<std::size_t>(rows * row() + 2), guard);
  }
  using view_type = graft::tensor_view<I, graft::dynamic_extents<2>, graft::host_space, graft::no_unit_dimension>;
  [[nodiscard]] view_type view() {
    return {memory_.data() + 1, graft::dynamic_extents<2>{rows_, columns_}, {row(), 2}};
  }
  /// All ids; empty when memory around them was written.
  [[nodiscard]] std::vector<std::int64_t> values() {
    auto const v = view();
    std::vector<std::int64_t> all;
    for (index_t t = 0; t < rows_; ++t)
      for (index_t s = 0; s < columns_; ++s) all.push_back(std::int64_t{v(t, s)});
    std::size_t guards = 0;
    for (I const e : memory_) guards += e == guard ? 1 : 0;
    return guards + all.size() == memory_.size() ? all : std::vector<std::int64_t>{};
  }

 private:
  static constexpr I guard = -77;
  [[nodiscard]] index_t row() const { return 2 * columns_ + 3; }
  index_t rows_;
  index_t columns_;
  std::vector<I> memory_;
};

struct routed {
  std::vector<std::int64_t> ids;
  std::vector<float> weights;
};

/// `route` with contiguous fp32 and std::int32_t.
template <class G, class E = graft::serial>
[[nodiscard]] routed route_of(G const& gate, std::vector<float> const& logits, index_t experts, index_t k,
                              E const& ex = {}) {
  auto const T = static_cast<index_t>(logits.size()) / experts;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(T * k), -77);
  routed r;
  r.weights.assign(ids.size(), -77.0F);
  graft::route(ex, gate, graft::view(logits, T, experts), graft::view(ids, T, k), graft::view(r.weights, T, k));
  r.ids.assign(ids.begin(), ids.end());
  return r;
}

/// Rows that a test draws; GRAFT_GATE_ROWS asks for more than a test should take.
[[nodiscard]] inline index_t rows_to_draw(index_t usual) {
  char const* const asked = std::getenv("GRAFT_GATE_ROWS");
  return asked != nullptr ? std::max<index_t>(1, std::atoll(asked)) : usual;
}

/// The sentence of what `f` throws as Error; empty if it throws nothing.
template <class Error, class F>
[[nodiscard]] std::string sentence(F const& f) {
  try {
    f();
  } catch (Error const& e) { return e.what(); }
  return {};
}

}  // namespace tests
