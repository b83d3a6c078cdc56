// SPDX-License-Identifier: Apache-2.0
// What a level offers. Included once per level by levels.hpp, after everything else.
namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL {

/// A table of this level. What is not asked for is not compiled.
template <class Bodies>
constexpr Bodies make_bodies() {
  if constexpr (std::is_same_v<Bodies, shrink_bodies>) {
    return {&shrink_chunk<>, &shrink_rows<>, &combine_chunks<>, &unpack<>};
  } else if constexpr (std::is_same_v<Bodies, expand_bodies>) return {&expand_rows<>};
  else if constexpr (std::is_same_v<Bodies, norm_bodies>) return {&norm_rows<>};
  else if constexpr (std::is_same_v<Bodies, rotation_bodies>)
    return {&pack<>, &pack_rotation<>, &rotate<>, &finish_rotation<>};
  else if constexpr (std::is_same_v<Bodies, cayley_bodies>) return {&cayley<>};
  else if constexpr (std::is_same_v<Bodies, dispatch_bodies>) return {&dispatch_rows<>};
  else if constexpr (std::is_same_v<Bodies, combine_bodies>) return {&combine_rows<>};
  else if constexpr (std::is_same_v<Bodies, pair_dot_bodies>) return {&dot_pair_rows<>};
  else if constexpr (std::is_same_v<Bodies, gate_bodies>) return {&gate_rows<>};
  else {
    static_assert(std::is_same_v<Bodies, all_host_bodies>);
    return {make_bodies<shrink_bodies>(),   make_bodies<expand_bodies>(),   make_bodies<norm_bodies>(),
            make_bodies<rotation_bodies>(), make_bodies<cayley_bodies>(),   make_bodies<dispatch_bodies>(),
            make_bodies<combine_bodies>(),  make_bodies<pair_dot_bodies>(), make_bodies<gate_bodies>()};
  }
}
template <class Bodies>
Bodies const& bodies() {
  static constexpr Bodies table = make_bodies<Bodies>();
  return table;
}

}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL
