#include <graft/io/errors.hpp>

#include <string>
#include <type_traits>

#include <catch2/catch_test_macros.hpp>

#include "io/files.hpp"

using graft::io::escaped;
using graft::io::file_error;
using graft::io::format_error;
using graft::io::unsupported_error;
using tests::refusal;

TEST_CASE("errors of files are graft::error, and say of which kind they are", "[io]") {
  static_assert(std::is_base_of_v<graft::error, format_error>);
  static_assert(std::is_base_of_v<format_error, unsupported_error> && std::is_base_of_v<format_error, file_error>);
  static_assert(std::is_base_of_v<graft::error, graft::io::pattern_error>);
  static_assert(!std::is_base_of_v<format_error, graft::io::pattern_error>);  // it is about no file
}

TEST_CASE("a sentence names the file, the tensor and the offset that are known", "[io]") {
  namespace detail = graft::io::detail;
  auto const all = refusal<format_error>([] { detail::refuse("a/b.bin", "is bad", "w", 17); });
  CHECK(std::string(all.what()) == "graft::io: \"a/b.bin\": \"w\": is bad (offset 17)");
  CHECK(all.file == "a/b.bin");
  CHECK(all.tensor == "w");
  CHECK(all.offset == 17);

  auto const some = refusal<file_error>([] { detail::refuse<file_error>("f", "is gone"); });
  CHECK(std::string(some.what()) == "graft::io: \"f\": is gone");
  CHECK(some.tensor.empty());
  CHECK(some.offset == -1);

  auto const first = refusal<unsupported_error>([] { detail::refuse<unsupported_error>("f", "no", {}, 0); });
  CHECK(std::string(first.what()) == "graft::io: \"f\": no (offset 0)");
}

TEST_CASE("names are escaped in sentences and stay as they are in fields", "[io]") {
  std::string const hostile = "a\x1b[2J\n\"\\\xff\x7f" + std::string(1, '\0') + "z";
  auto const e = refusal<format_error>([&] { graft::io::detail::refuse(hostile, "is bad", hostile); });
  CHECK(tests::printable(e.what()));
  CHECK(tests::contains(e.what(), R"("a\x1b[2J\x0a\x22\x5c\xff\x7f\x00z")"));
  CHECK(e.file == hostile);
  CHECK(e.tensor == hostile);
}

TEST_CASE("escaped names are quoted and short", "[io]") {
  CHECK(escaped("") == "\"\"");
  CHECK(escaped("model.layers.0.q_proj") == "\"model.layers.0.q_proj\"");
  CHECK(escaped(" ~") == "\" ~\"");  // the first and the last that stay
  CHECK(escaped(std::string("\x1f\x7f", 2)) == R"("\x1f\x7f")");
  CHECK(escaped("\xc3\xa9") == R"("\xc3\xa9")");
  CHECK(escaped(std::string(120, 'a')) == "\"" + std::string(120, 'a') + "\"");
  CHECK(escaped(std::string(121, 'a')) == "\"" + std::string(120, 'a') + "...\"");
  CHECK(escaped(std::string(1'000'000, '\n')).size() < 130);
}
