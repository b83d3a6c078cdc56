// Types for compile_fail/: either<Right, Wrong> is Right, and with -DGRAFT_KO Wrong.
#pragma once

#include <cstddef>
#include <vector>

#include <graft/openmp.hpp>

#if defined(GRAFT_KO)
template <class, class Wrong>
using either = Wrong;
#else
template <class Right, class>
using either = Right;
#endif

using matrix = decltype(graft::view(static_cast<float*>(nullptr), 2, 2));
using const_matrix = decltype(graft::view(static_cast<float const*>(nullptr), 2, 2));
using narrow_matrix = decltype(graft::view(static_cast<graft::bfloat16*>(nullptr), 2, 2));
using device_matrix = decltype(graft::view_in<graft::device_space>(static_cast<float*>(nullptr), 2, 2));
using vector = decltype(graft::view(static_cast<float*>(nullptr), 2));
using const_vector = decltype(graft::view(static_cast<float const*>(nullptr), 2));
using no_view = std::vector<float>;
using device_vector = decltype(graft::view_in<graft::device_space>(static_cast<float*>(nullptr), 2));
struct no_executor {};
/// No more than the concept asks for.
struct only_leagues {
  using space_type = graft::host_space;
  static constexpr int row_block = 4;
  template <class Body>
  void league(graft::index_t, std::size_t, Body const&) const {}
  void fence() const {}
};

using lora = graft::lora<matrix, matrix>;
using lora_with_bias = graft::lora<matrix, matrix, vector>;
using lora_fa = graft::lora_fa<matrix, matrix>;
using packed_lora = graft::lora<matrix, graft::panels_view<float const>>;
