// Where the tensors of tests lie.
#pragma once

#include <type_traits>
#include <vector>

#include <graft/view.hpp>

namespace tests {

/// The host's. Views of matrices know no unit stride, so that this one type stands for all layouts.
struct host_memory {
  using space = graft::host_space;
  static constexpr int unit_dimension = graft::no_unit_dimension;
  template <class T>
  using vector = std::vector<T>;
};

/// Row-major elements of a vector in such memory.
template <class Memory, class V, class... Index>
[[nodiscard]] auto view_of(V& v, Index... shape) {
  if constexpr (sizeof...(Index) == 0)
    return graft::view_in<typename Memory::space>(v.data(), static_cast<graft::index_t>(v.size()));
  else return graft::view_in<typename Memory::space>(v.data(), shape...);
}
/// The same numbers in a vector of another memory.
template <class V, class From>
[[nodiscard]] V numbers_in(From const& numbers) {
  return V(numbers.begin(), numbers.end());
}

}  // namespace tests
