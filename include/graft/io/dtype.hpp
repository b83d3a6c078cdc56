// SPDX-License-Identifier: Apache-2.0
/// @file
/// Element types of the safetensors format, and what they are here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/view/scalar.hpp>

namespace graft::inline GRAFT_CONTRACT::io {

/// Element types by the format's own names. `other`: one that graft lists but does not read (an 8-bit float, say).
enum class dtype : std::uint8_t { f64, f32, f16, bf16, i64, i32, i16, i8, u64, u32, u16, u8, boolean, other };

namespace detail {
struct dtype_row {
  std::string_view name;
  dtype type;
  index_t width;
};
/// In the order in which the reference implementation writes them.
inline constexpr std::array<dtype_row, 13> dtypes{{{"U64", dtype::u64, 8},
                                                   {"I64", dtype::i64, 8},
                                                   {"F64", dtype::f64, 8},
                                                   {"F32", dtype::f32, 4},
                                                   {"U32", dtype::u32, 4},
                                                   {"I32", dtype::i32, 4},
                                                   {"BF16", dtype::bf16, 2},
                                                   {"F16", dtype::f16, 2},
                                                   {"U16", dtype::u16, 2},
                                                   {"I16", dtype::i16, 2},
                                                   {"I8", dtype::i8, 1},
                                                   {"U8", dtype::u8, 1},
                                                   {"BOOL", dtype::boolean, 1}}};
[[nodiscard]] constexpr dtype_row const* row_of(std::string_view name) {
  for (auto const& r : dtypes)
    if (r.name == name) return &r;
  return nullptr;
}
template <class T>
inline constexpr dtype dtype_of = std::is_same_v<T, double>          ? dtype::f64
                                  : std::is_same_v<T, float>         ? dtype::f32
                                  : std::is_same_v<T, float16>       ? dtype::f16
                                  : std::is_same_v<T, bfloat16>      ? dtype::bf16
                                  : std::is_same_v<T, std::int64_t>  ? dtype::i64
                                  : std::is_same_v<T, std::int32_t>  ? dtype::i32
                                  : std::is_same_v<T, std::int16_t>  ? dtype::i16
                                  : std::is_same_v<T, std::int8_t>   ? dtype::i8
                                  : std::is_same_v<T, std::uint64_t> ? dtype::u64
                                  : std::is_same_v<T, std::uint32_t> ? dtype::u32
                                  : std::is_same_v<T, std::uint16_t> ? dtype::u16
                                  : std::is_same_v<T, std::uint8_t>  ? dtype::u8
                                                                     : dtype::other;
/// Its index in `dtypes`, or their number.
[[nodiscard]] constexpr std::size_t place_of(dtype type) {
  std::size_t i = 0;
  while (i < dtypes.size() && dtypes[i].type != type) ++i;
  return i;
}
[[nodiscard]] constexpr dtype_row const& row_of(dtype type) { return dtypes[place_of(type) % dtypes.size()]; }
}  // namespace detail

/// The bytes of a width of a type; 0 for `dtype::other`.
[[nodiscard]] constexpr index_t width(dtype type) { return type == dtype::other ? 0 : detail::row_of(type).width; }

}  // namespace graft::inline GRAFT_CONTRACT::io
