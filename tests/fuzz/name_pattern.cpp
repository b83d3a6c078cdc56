// A line is a pattern, the rest a name: refused, or matched in time linear in both (libFuzzer's -timeout watches).
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <graft/io/name_pattern.hpp>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view const text(reinterpret_cast<char const*>(data), size);
  std::size_t const line = text.find('\n');
  try {
    graft::io::name_pattern const pattern{std::string(text.substr(0, line))};
    if (line != std::string_view::npos) static_cast<void>(pattern.matches(text.substr(line + 1)));
  } catch (graft::error const&) {  // the only way out
  }
  return 0;
}
