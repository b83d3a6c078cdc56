// SPDX-License-Identifier: Apache-2.0
/// @file
/// Errors of readers and writers. Every byte of a file is hostile, its names too: they are escaped before they are shown.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <graft/config.hpp>
#include <graft/contracts.hpp>

namespace graft::inline GRAFT_CONTRACT::io {

/// A file that is not what it says: names the file, and the tensor or key and the offset where those are known.
struct format_error : error {
  format_error(std::string sentence, std::string in_file, std::string of_tensor = {}, index_t at_offset = -1)
      : error(sentence), file(std::move(in_file)), tensor(std::move(of_tensor)), offset(at_offset) {}
  std::string file;
  std::string tensor;  ///< Or the key of a configuration; empty when it is about the file.
  index_t offset;      ///< In bytes from the start of the file; -1 when there is none.
};

/// A file that is sound but holds something that graft does not compute.
struct unsupported_error : format_error {
  using format_error::format_error;
};

/// A file that could not be opened, read or written.
struct file_error : format_error {
  using format_error::format_error;
};

inline namespace GRAFT_TARGET {

/// A name from a file, safe to print: control characters, quotes, backslashes and bytes above 126 as \xHH, at most 120
/// characters, in quotes.
[[nodiscard]] inline std::string escaped(std::string_view name) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out = "\"";
  for (char const c : name) {
    if (out.size() > 120) {
      out += "...";
      break;
    }
    auto const u = static_cast<unsigned char>(c);
    if (u < 32 || u > 126 || c == '"' || c == '\\') {
      out += "\\x";
      out += digits[u >> 4U];
      out += digits[u & 15U];
    } else out += c;
  }
  return out + "\"";
}

}  // namespace GRAFT_TARGET

namespace detail {
/// "FILE: tensor "NAME": what (offset 17)"
template <class Error = format_error>
[[noreturn]] void refuse(std::string const& file, std::string_view what, std::string_view tensor = {},
                         index_t offset = -1) {
  std::string sentence = graft::detail::text("graft::io: ", escaped(file), ": ");
  if (!tensor.empty()) sentence += escaped(tensor) + ": ";
  sentence += what;
  if (offset >= 0) sentence += graft::detail::text(" (offset ", offset, ")");
  graft::detail::raise(Error(sentence, file, std::string(tensor), offset));
}
}  // namespace detail

}  // namespace graft::inline GRAFT_CONTRACT::io
