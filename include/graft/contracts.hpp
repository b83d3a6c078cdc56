// SPDX-License-Identifier: Apache-2.0
/// @file
/// Errors and the O(1) checks that every public verb makes before it touches data.
/// All errors derive from `graft::error`. Sentences name the operation, the argument and the extents involved.
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <graft/config.hpp>

namespace graft::inline GRAFT_CONTRACT {

/// Extents, strides and sizes. Signed and 64 bits everywhere; products are checked for overflow.
using index_t = std::int64_t;

/// Base of everything that graft throws.
struct error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// Extents, strides or ranks that do not fit each other.
struct shape_error : error {
  using error::error;
};
/// A value out of its range: a null pointer with elements behind it, overlapping memory, a rank of 0, a bad probability.
struct argument_error : error {
  using error::error;
};
/// A device that refuses a launch, or that failed in earlier work. Names the verb and what the device said.
struct device_error : error {
  using error::error;
};
/// Data that cannot be computed with (an id out of range, a NaN logit), found while it was read.
struct data_error : error {
  using error::error;
};

}  // namespace graft::inline GRAFT_CONTRACT

#if defined(GRAFT_ERROR_HANDLER)
/// Yours: must not return.
[[noreturn]] void GRAFT_ERROR_HANDLER(char const* sentence);
#endif

namespace graft::inline GRAFT_CONTRACT::detail {
inline namespace GRAFT_TARGET {

/// The one place where an error leaves graft.
template <class Error>
[[noreturn]] void raise(Error const& e) {
#if defined(GRAFT_ERROR_HANDLER)
  GRAFT_ERROR_HANDLER(e.what());
  std::abort();
#elif defined(__cpp_exceptions)
  throw e;
#else
  std::fputs(e.what(), stderr);
  std::fputc('\n', stderr);
  std::abort();
#endif
}

/// Sentences without streams: text("x has ", 3, " rows").
inline void append(std::string& out, std::string_view part) { out += part; }
template <class N>
  requires std::is_integral_v<N> || std::is_floating_point_v<N>
void append(std::string& out, N number) {
  std::array<char, 32> digits{};
  auto const end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  out.append(digits.data(), end);
}
template <class... Parts>
[[nodiscard]] std::string text(Parts const&... parts) {
  std::string out;
  (detail::append(out, parts), ...);
  return out;
}

/// "[3, 64]"
template <class View>
[[nodiscard]] std::string shape_text(View const& v) {
  std::string out = "[";
  for (std::size_t i = 0; i < View::rank(); ++i) {
    if (i != 0) out += ", ";
    detail::append(out, v.extent(i));
  }
  return out + "]";
}

/// a * b, or an error that names what was being sized.
[[nodiscard]] constexpr index_t checked_product(index_t a, index_t b, std::string_view what) {
  index_t p = 0;
  if (__builtin_mul_overflow(a, b, &p))
    raise(shape_error(text("graft: ", what, ": ", a, " x ", b, " overflows 64 bits")));
  return p;
}
[[nodiscard]] constexpr index_t checked_sum(index_t a, index_t b, std::string_view what) {
  index_t s = 0;
  if (__builtin_add_overflow(a, b, &s))
    raise(shape_error(text("graft: ", what, ": ", a, " + ", b, " overflows 64 bits")));
  return s;
}

/// Extent `i` of `a` must equal extent `j` of `b`.
template <class ViewA, class ViewB>
void expects_equal_extents(std::string_view operation, std::string_view name_a, ViewA const& a, std::size_t i,
                           std::string_view name_b, ViewB const& b, std::size_t j) {
  if (a.extent(i) != b.extent(j)) [[unlikely]]
    raise(shape_error(text("graft::", operation, ": extent ", i, " of ", name_a, shape_text(a), " is ", a.extent(i),
                           " but extent ", j, " of ", name_b, shape_text(b), " is ", b.extent(j),
                           "; they must be equal")));
}

/// No elements, or a pointer to them.
template <class View>
void expects_data(std::string_view operation, std::string_view name, View const& v) {
  if (v.data_handle() == nullptr && v.size() != 0) [[unlikely]]
    raise(
        argument_error(text("graft::", operation, ": ", name, shape_text(v), " has elements but its pointer is null")));
}

/// Each element of an output has its own address.
template <class View>
void expects_output(std::string_view operation, std::string_view name, View const& v) {
  expects_data(operation, name, v);
  // Dimensions by rising stride: each must step over all that the smaller ones reach.
  constexpr std::size_t rank = View::rank();
  auto const step = [&](std::size_t i) { return v.stride(i) < 0 ? -v.stride(i) : v.stride(i); };
  std::array<std::size_t, rank> order{};
  for (std::size_t i = 0; i < rank; ++i) {
    order[i] = i;
    for (std::size_t k = i; k > 0 && step(order[k]) < step(order[k - 1]); --k) std::swap(order[k], order[k - 1]);
  }
  if (v.size() == 0) return;
  index_t reach = 0;
  for (std::size_t const i : order) {
    if (v.extent(i) <= 1) continue;
    if (step(i) <= reach || step(i) == 0) [[unlikely]]
      raise(argument_error(text("graft::", operation, ": ", name, shape_text(v), " is written but stride ", v.stride(i),
                                " of extent ", i, " makes elements share memory")));
    reach += step(i) * (v.extent(i) - 1);
  }
}

/// The bytes [first, last) that a view can touch; empty for a view without elements.
struct byte_range {
  std::uintptr_t first = 0;
  std::uintptr_t last = 0;
};
template <class View>
[[nodiscard]] byte_range bytes_of(View const& v) {
  if (v.size() == 0) return {};
  constexpr index_t width = sizeof(typename View::value_type);
  if constexpr (requires { v.storage_size(); }) {  // a packed form
    auto const first = reinterpret_cast<std::uintptr_t>(v.data_handle());
    return {first, first + static_cast<std::uintptr_t>(v.storage_size() * width)};
  }
  index_t low = 0;
  index_t high = 0;
  for (std::size_t i = 0; i < View::rank(); ++i) {
    index_t const reach = v.stride(i) * (v.extent(i) - 1);
    (reach < 0 ? low : high) += reach;
  }
  auto const base = reinterpret_cast<std::uintptr_t>(v.data_handle());
  return {base + static_cast<std::uintptr_t>(low * width), base + static_cast<std::uintptr_t>((high + 1) * width)};
}

/// True for two column ranges of one row-major buffer that share no column (fused q, k, v).
template <class ViewA, class ViewB>
[[nodiscard]] bool disjoint_columns(ViewA const& a, ViewB const& b) {
  if constexpr (
      ViewA::rank() != 2 || ViewB::rank() != 2 || requires { a.storage_size(); } || requires { b.storage_size(); })
    return false;
  else {
    constexpr index_t width_a = sizeof(typename ViewA::value_type);
    constexpr index_t width_b = sizeof(typename ViewB::value_type);
    // Either dimension may be the contiguous one.
    std::size_t const ca = a.stride(1) == 1 ? 1 : 0;
    std::size_t const cb = b.stride(1) == 1 ? 1 : 0;
    index_t const row = a.stride(1 - ca) * width_a;
    if (a.stride(ca) != 1 || b.stride(cb) != 1 || row <= 0 || row != b.stride(1 - cb) * width_b) return false;
    index_t const columns_a = a.extent(ca) * width_a;
    index_t const columns_b = b.extent(cb) * width_b;
    auto const pa = reinterpret_cast<std::uintptr_t>(a.data_handle());
    auto const pb = reinterpret_cast<std::uintptr_t>(b.data_handle());
    index_t const ahead =
        pb >= pa ? static_cast<index_t>(pb - pa) % row : (row - static_cast<index_t>(pa - pb) % row) % row;
    return columns_a <= ahead && ahead + columns_b <= row;
  }
}

/// The very same elements of two matrices, so that each row may be replaced.
template <class X, class Y>
[[nodiscard]] bool is_same_view(X const& x, Y const& y) {
  return static_cast<void const*>(x.data_handle()) == static_cast<void const*>(y.data_handle()) &&
         std::is_same_v<typename X::value_type, typename Y::value_type> && x.stride(0) == y.stride(0) &&
         x.stride(1) == y.stride(1);
}

/// `out` is written while `in` is read: they must not share an element. O(1): memory ranges, then column ranges of one
/// buffer; other interleaved layouts are refused.
template <class Out, class In>
void expects_disjoint(std::string_view operation, std::string_view name_out, Out const& out, std::string_view name_in,
                      In const& in) {
  byte_range const a = bytes_of(out);
  byte_range const b = bytes_of(in);
  if (a.first < b.last && b.first < a.last && !disjoint_columns(out, in)) [[unlikely]]
    raise(argument_error(text("graft::", operation, ": ", name_out, shape_text(out),
                              " is written but shares memory with ", name_in, shape_text(in))));
}

}  // namespace GRAFT_TARGET
}  // namespace graft::inline GRAFT_CONTRACT::detail
