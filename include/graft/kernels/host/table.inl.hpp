// SPDX-License-Identifier: Apache-2.0
// What a level offers. Included once per level by levels.hpp, after everything else.
namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL {

template <int = 0>
inline level_functions const& functions() {
  static constexpr level_functions table{
      &shrink_chunk<>,    &shrink_rows<>,   &combine_chunks<>, &expand_rows<>,   &unpack<>,
      &norm_rows<>,       &pack<>,          &pack_rotation<>,  &rotate<>,        &cayley<>,
      &finish_rotation<>, &dispatch_rows<>, &combine_rows<>,   &dot_pair_rows<>, &gate_rows<>};
  return table;
}

}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL
