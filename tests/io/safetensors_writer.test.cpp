#include <graft/io/safetensors_writer.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "io/files.hpp"

using graft::argument_error;
using graft::index_t;
using graft::io::dtype;
using graft::io::file_error;
using graft::io::safetensors_bytes;
using graft::io::safetensors_file;
using graft::io::tensor_data;
using tests::bytes_of;
using tests::contains;
using tests::parse;
using tests::refusal;
using tests::with_header;

namespace {

std::string const data_folder = GRAFT_TEST_DATA;

template <class T>
tensor_data tensor(std::string name, std::vector<T> const& values, std::vector<index_t> shape) {
  return {std::move(name), graft::io::detail::dtype_of<T>, std::move(shape), std::as_bytes(std::span(values))};
}

}  // namespace

TEST_CASE("what is written is read again", "[io]") {
  std::vector<double> const f64{1.5, -0.0};
  std::vector<std::uint16_t> const u16{1, 2, 3};
  std::vector<std::int8_t> const i8{-1};
  std::map<std::string, std::string> const metadata{{"format", "pt"}, {"\xc3\xa9\"\n", "\x01"}};
  std::string const bytes = safetensors_bytes({tensor("x", i8, {1, 1}), tensor("y\n\"\xc3\xa9", f64, {2}),
                                               tensor("z", u16, {3}), tensor("", std::vector<float>{}, {0, 5})},
                                              metadata);
  auto const f = parse(bytes);
  CHECK(f.metadata() == metadata);
  CHECK(f.tensors().size() == 4);
  CHECK(f.read_as<double>("y\n\"\xc3\xa9") == f64);
  CHECK(f.read_as<std::uint16_t>("z") == u16);
  CHECK(f.read_as<std::int8_t>("x") == i8);
  CHECK(f.at("x").shape == std::vector<index_t>{1, 1});
  CHECK(f.at("").shape == std::vector<index_t>{0, 5});
  CHECK(f.tensors()[0].begin % 8 == 0);
  CHECK(parse(safetensors_bytes({})).tensors().empty());
}

TEST_CASE("files of the reference implementation are written again byte for byte", "[io]") {
  for (auto const* const name : {"lora_plain", "lora_patterns", "lora_bias_all", "lora_modules_to_save", "lora_regex",
                                 "lora_rslora", "lora_all_linear"}) {
    std::string const path = data_folder + "/peft_checkpoints/" + name + "/adapter_model.safetensors";
    auto const f = safetensors_file::read(path);
    std::vector<tensor_data> all;
    for (auto const& t : f.tensors()) all.push_back({t.name, t.type, t.shape, f.bytes(t)});
    std::reverse(all.begin(), all.end());
    INFO(name);
    CHECK(safetensors_bytes(all, f.metadata()) == tests::read(path));
  }
}

TEST_CASE("tensors are written in the reference implementation's order", "[io]") {
  // By type, from the last of its list to the first, then by name.
  std::vector<std::pair<dtype, std::size_t>> const order{
      {dtype::u64, 8}, {dtype::i64, 8},  {dtype::f64, 8},    {dtype::f32, 4}, {dtype::u32, 4},
      {dtype::i32, 4}, {dtype::bf16, 2}, {dtype::f16, 2},    {dtype::u16, 2}, {dtype::i16, 2},
      {dtype::i8, 1},  {dtype::u8, 1},   {dtype::boolean, 1}};
  std::string const zeros(8, '\0');
  std::vector<tensor_data> all;
  std::vector<std::string> expected;
  for (std::size_t i = 0; i < order.size(); ++i) {
    auto const [type, width] = order[i];
    CHECK(graft::io::width(type) == static_cast<index_t>(width));
    std::string const name(1, static_cast<char>('z' - i));
    for (auto const* const end : {"", "a", "b"}) {
      expected.push_back(name + end);
      all.insert(all.begin(), {name + end, type, {}, tests::as_bytes(zeros).first(width)});
    }
  }
  std::vector<std::string> got;
  auto const f = parse(safetensors_bytes(all));
  for (auto const& t : f.tensors()) got.push_back(t.name);
  CHECK(got == expected);
}

TEST_CASE("the header is compact JSON, padded with spaces to 8 bytes", "[io]") {
  std::vector<float> const v{1};
  std::string const bytes = safetensors_bytes({tensor("w", v, {1})}, {{"b", "2"}, {"a", "1"}});
  std::string const header =
      R"({"__metadata__":{"a":"1","b":"2"},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  CHECK(bytes == with_header(header + std::string((8 - header.size() % 8) % 8, ' '), bytes_of(v)));
}

TEST_CASE("views are written when they are contiguous", "[io]") {
  std::vector<float> const v{1, 2, 3, 4, 5, 6};
  auto const t = graft::io::to_write("w", graft::view(v.data(), 2, 3));
  CHECK(t.name == "w");
  CHECK(t.type == dtype::f32);
  CHECK(t.shape == std::vector<index_t>{2, 3});
  CHECK(parse(safetensors_bytes({t})).read_as<float>("w") == v);
  auto const e = refusal<argument_error>(
      [&] { return graft::io::to_write("w\n", graft::transposed(graft::view(v.data(), 2, 3))); });
  CHECK(contains(e.what(), R"("w\x0a" is not contiguous; copy it first)"));
  CHECK_THROWS_AS(graft::io::to_write("w", graft::view(v.data(), 2, 2, graft::row_stride{3})), argument_error);
  CHECK(graft::io::to_write("w", graft::view(v.data(), 1, 2, graft::row_stride{3})).shape ==
        std::vector<index_t>{1, 2});  // one row has no next one
}

TEST_CASE("what could not be read again is not written", "[io]") {
  std::string const four = "1234";
  auto const data = tests::as_bytes(four);
  auto const refuses = [](std::vector<tensor_data> const& tensors, std::string_view reason,
                          std::map<std::string, std::string> const& metadata = {}) {
    auto const e = refusal<argument_error>([&] { return safetensors_bytes(tensors, metadata); });
    INFO(e.what());
    CHECK(contains(e.what(), "graft::io::write_safetensors: "));
    CHECK(contains(e.what(), reason));
  };
  refuses({{"w", dtype::f32, {1}, data}, {"w", dtype::f32, {1}, data}}, "two tensors are named \"w\"");
  refuses({{"w", dtype::f32, {1}, data}, {"w", dtype::u8, {4}, data}}, "two tensors are named \"w\"");
  refuses({{"__metadata__", dtype::f32, {1}, data}}, "no tensor can be named \"__metadata__\"");
  refuses({{"w\xff", dtype::f32, {1}, data}}, R"(no tensor can be named "w\xff")");
  refuses({{"w", dtype::other, {1}, data}}, "the type or the number of dimensions of \"w\"");
  refuses({{"w", dtype::f32, std::vector<index_t>(33, 1), data}}, "the type or the number of dimensions of \"w\"");
  refuses({{"w", dtype::f32, {2}, data}}, "the bytes of \"w\" do not fit its type and shape");
  refuses({{"w", dtype::f32, {}, {}}}, "the bytes of \"w\" do not fit its type and shape");
  refuses({{"w", dtype::u8, {-1, -4}, data}}, "the bytes of \"w\" do not fit its type and shape");
  refuses({{"w", dtype::u8, {4294967296, 4294967296}, {}}}, "the bytes of \"w\" do not fit its type and shape");
  refuses({}, "the metadata of \"k\" is not UTF-8", {{"k", "\xff"}});
  refuses({}, R"(the metadata of "\xff" is not UTF-8)", {{"\xff", "v"}});
  refuses({}, "more than 100000000", {{"k", std::string(100'000'000, 'v')}});
}

TEST_CASE("files appear whole or not at all", "[io]") {
  tests::folder const here;
  std::vector<float> const v{1, 2, 3};
  std::vector<tensor_data> const tensors{tensor("w", v, {3})};
  graft::io::write_safetensors(here / "f.safetensors", tensors, {{"k", "v"}});
  CHECK(tests::read(here / "f.safetensors") == safetensors_bytes(tensors, {{"k", "v"}}));
  CHECK(here.count() == 1);  // nothing is left beside it
  graft::io::write_safetensors(here / "f.safetensors", {});
  CHECK(safetensors_file::read(here / "f.safetensors").tensors().empty());

  // A refused call leaves the old file alone.
  std::string const before = tests::read(here / "f.safetensors");
  CHECK_THROWS_AS(graft::io::write_safetensors(here / "f.safetensors", {tensor("w", v, {4})}), argument_error);
  CHECK(tests::read(here / "f.safetensors") == before);
  CHECK(here.count() == 1);
}

TEST_CASE("a disk that is full leaves the old file", "[io]") {
  if (!std::filesystem::exists("/dev/full")) SKIP("no /dev/full");
  tests::folder const here;
  for (std::size_t const size : {1U, 1'000'000U}) {  // noticed at the end, and on the way
    tests::write(here / "f", "before");
    std::filesystem::create_symlink("/dev/full", here / "f.partial");
    std::vector<float> const v(size);
    auto const e = refusal<file_error>(
        [&] { return graft::io::write_safetensors(here / "f", {tensor("w", v, {static_cast<index_t>(size)})}), 0; });
    CHECK(e.file == here / "f");
    CHECK(contains(e.what(), "cannot be written: "));
    CHECK(tests::read(here / "f") == "before");
    CHECK(here.count() == 1);
  }
}

TEST_CASE("what cannot be written is a file_error", "[io]") {
  tests::folder const here;
  auto const e = refusal<file_error>([&] { return graft::io::write_safetensors(here / "absent/f", {}), 0; });
  CHECK(contains(e.what(), "cannot be created: "));
  CHECK(contains(e.file, "absent/f"));
  std::filesystem::create_directories(here / "folder/inside");
  auto const f = refusal<file_error>([&] { return graft::io::write_safetensors(here / "folder", {}), 0; });
  CHECK(contains(f.what(), "cannot be written: "));
  CHECK(here.count() == 1);
}
