// Where the tensors of tests lie.
#pragma once

#include <cstddef>
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
  /// While one lives the host may touch such memory. Make it after `fence`.
  struct host_access {
    ~host_access() {}  // not trivial: an object that only lives is not unused
  };
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
/// What `make()` returns, made by the host in memory that it may not always touch; zeros.
template <class Memory, class Make>
[[nodiscard]] auto made_in(Make const& make) {
  typename Memory::host_access const access;
  return make();
}
template <class Memory, class T>
[[nodiscard]] auto zeros_in(graft::index_t count) {
  return tests::made_in<Memory>([&] { return typename Memory::template vector<T>(static_cast<std::size_t>(count)); });
}

}  // namespace tests
