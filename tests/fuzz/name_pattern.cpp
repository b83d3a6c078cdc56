// A line is a pattern, the rest a name: refused, or matched in time linear in both (libFuzzer's -timeout watches), and as the
// same pattern in brackets is.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <graft/io/name_pattern.hpp>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view const text(reinterpret_cast<char const*>(data), size);
  std::size_t const line = text.find('\n');
  std::string_view const name = line == std::string_view::npos ? "" : text.substr(line + 1);
  using graft::io::name_pattern;
  try {
    bool const matched = name_pattern(text.substr(0, line)).matches(name);
    // Brackets and a second alternative change nothing; at most they are too deep or too many.
    std::string const once = "(?:" + std::string(text.substr(0, line)) + ")";
    if (name_pattern(once).matches(name) != matched) std::abort();
    if (name_pattern(once + "|" + once).matches(name) != matched) std::abort();
  } catch (graft::io::pattern_error const&) {  // the only way out
  }
  return 0;
}
