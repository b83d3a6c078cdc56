#include <graft/io/file_bytes.hpp>

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <thread>
#include <utility>

#include <catch2/catch_test_macros.hpp>

#include "io/files.hpp"

using graft::io::file_bytes;
using graft::io::file_error;
using graft::io::format_error;
using tests::refusal;
using tests::text_of;

namespace {
std::string numbered(std::size_t count) {
  std::string out(count, '\0');
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<char>(i * 31 + i / 251);
  return out;
}
bool aligned(file_bytes const& b) { return reinterpret_cast<std::uintptr_t>(b.bytes().data()) % 64 == 0; }
}  // namespace

TEST_CASE("reading and mapping give the bytes of the file", "[io]") {
  tests::folder const here;
  for (std::size_t const size : {0U, 1U, 7U, 64U, 4095U, 4096U, 4097U, 100'000U}) {
    INFO(size);
    std::string const content = numbered(size);
    tests::write(here / "f", content);
    auto const r = file_bytes::read(here / "f");
    auto const m = file_bytes::map(here / "f");
    CHECK(text_of(r.bytes()) == content);
    CHECK(text_of(m.bytes()) == content);
    CHECK(aligned(r));
  }
}

TEST_CASE("what was read does not change with the file", "[io]") {
  tests::folder const here;
  tests::write(here / "f", "before");
  auto const b = file_bytes::read(here / "f");
  tests::write(here / "f", "after, and longer");
  CHECK(text_of(b.bytes()) == "before");
}

TEST_CASE("copied bytes are aligned and independent", "[io]") {
  std::string source = "xabcdef";
  auto b = file_bytes::copy(tests::as_bytes(std::string_view(source).substr(1)));
  source.assign(7, '!');
  CHECK(text_of(b.bytes()) == "abcdef");
  b.owned()[1] = std::byte{'-'};
  CHECK(text_of(b.bytes()) == "a-cdef");
  CHECK(aligned(b));
  auto const none = file_bytes::copy({});
  CHECK(none.bytes().empty());
  CHECK(none.bytes().data() != nullptr);
}

TEST_CASE("bytes move with their owner", "[io]") {
  tests::folder const here;
  tests::write(here / "f", "content");
  for (bool const mapped : {false, true}) {
    auto a = mapped ? file_bytes::map(here / "f") : file_bytes::read(here / "f");
    auto const* const data = a.bytes().data();
    file_bytes b = std::move(a);
    CHECK(b.bytes().data() == data);
    file_bytes c;
    CHECK(c.bytes().empty());
    c = std::move(b);
    CHECK(text_of(c.bytes()) == "content");
  }
}

TEST_CASE("a limit refuses larger files", "[io]") {
  tests::folder const here;
  tests::write(here / "f", "0123456789");
  CHECK(file_bytes::read(here / "f", 10).bytes().size() == 10);
  auto const e = refusal<format_error>([&] { return file_bytes::read(here / "f", 9); });
  CHECK(e.file == here / "f");
  CHECK(tests::contains(e.what(), "the file has 10 bytes, more than the 9 that are read"));
}

TEST_CASE("a limit holds where the size is not known beforehand", "[io]") {
  tests::folder const here;
  std::string const pipe = here / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  for (std::size_t const size : {1000U, 4096U, 4097U, 50'000U})
    for (bool const fits : {true, false}) {
      INFO(size << fits);
      std::string const content = numbered(size);
      std::jthread const writer([&] {  // joined at the end
        std::ofstream out(pipe, std::ios::binary);
        out.write(content.data(), static_cast<std::streamsize>(size));
      });
      if (fits) {
        CHECK(text_of(file_bytes::read(pipe, size).bytes()) == content);
      } else {
        auto const e = refusal<format_error>([&] { return file_bytes::read(pipe, size - 1); });
        CHECK(tests::contains(e.what(), "more than the " + std::to_string(size - 1)));
      }
    }
}

TEST_CASE("what cannot be opened or read is a file_error", "[io]") {
  tests::folder const here;
  for (std::string const& path : {here / "absent", here / "absent/f", std::string()})
    for (bool const mapped : {false, true}) {
      auto const e = refusal<file_error>([&] { return mapped ? file_bytes::map(path) : file_bytes::read(path); });
      CHECK(e.file == path);
      CHECK(e.offset == -1);
      CHECK(tests::contains(e.what(), "cannot be opened: "));
    }
  // A folder can be opened, and says that it has 2^63 - 1 bytes.
  auto const read = refusal<file_error>([&] { return file_bytes::read(here.path()); });
  CHECK(read.file == here.path());
  CHECK(tests::contains(read.what(), "folder"));
  CHECK(tests::contains(refusal<file_error>([&] { return file_bytes::map(here.path()); }).what(), "cannot be mapped"));
}
