// Files for tests of graft::io: folders of their own, safetensors made by hand, errors caught by their exact type.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <typeinfo>
#include <vector>

#include <graft/io.hpp>

#include <catch2/catch_test_macros.hpp>

namespace tests {

/// A folder that exists as long as this object.
class folder {
 public:
  folder() {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("graft_io_" + std::to_string(::getpid()) + "_" + std::to_string(++count));
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  folder(folder const&) = delete;
  folder& operator=(folder const&) = delete;
  ~folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string path() const { return path_.string(); }
  [[nodiscard]] std::string operator/(std::string_view name) const { return (path_ / name).string(); }
  [[nodiscard]] std::size_t count() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator{}));
  }

 private:
  std::filesystem::path path_;
};

inline void write(std::string const& path, std::string_view bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  REQUIRE(out.good());
}
inline std::string read(std::string const& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE(in.good());
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::span<std::byte const> as_bytes(std::string_view text) {
  return {reinterpret_cast<std::byte const*>(text.data()), text.size()};
}
template <class T>
std::string bytes_of(std::vector<T> const& values) {
  return {reinterpret_cast<char const*>(values.data()), values.size() * sizeof(T)};
}
inline std::string text_of(std::span<std::byte const> bytes) {
  return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

/// A safetensors file with this header, sound or not.
inline std::string with_header(std::string_view header, std::string_view data = {}) {
  auto const length = static_cast<std::uint64_t>(header.size());
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  return out.append(header).append(data);
}
inline graft::io::safetensors_file parse(std::string_view bytes) {
  return graft::io::safetensors_file::parse(as_bytes(bytes), "some.safetensors");
}

/// The error that `call` throws, which must be an E and not one derived from it.
template <class E, class Call>
E refusal(Call const& call) {
  try {
    static_cast<void>(call());
  } catch (E const& e) {
    INFO(e.what());
    REQUIRE(typeid(e) == typeid(E));
    return e;
  } catch (std::exception const& e) { FAIL("another error: " << e.what()); }
  FAIL("nothing was thrown");
  throw std::logic_error("not reached");
}

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

/// Nothing that a terminal would take for more than a letter.
inline bool printable(std::string_view text) {
  for (char const c : text)
    if (c < 32 || c > 126) return false;
  return true;
}

}  // namespace tests
