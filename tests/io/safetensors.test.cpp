#include <graft/io/safetensors.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "io/files.hpp"
#include "support/random.hpp"

using graft::bfloat16;
using graft::float16;
using graft::index_t;
using graft::io::dtype;
using graft::io::file_error;
using graft::io::format_error;
using graft::io::safetensors_file;
using graft::io::unsupported_error;
using tests::bytes_of;
using tests::contains;
using tests::parse;
using tests::refusal;
using tests::with_header;
using namespace std::string_literals;

namespace {

std::string const data_folder = GRAFT_TEST_DATA;

/// Two tensors and metadata: "a" F32 [2, 2], "b" U8 [3].
std::string const small_header =
    R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"U8","shape":[3],"data_offsets":[16,19]}})";
std::string const small_data = bytes_of(std::vector<float>{1, 2, 3, 4}) + "\x07\x08\x09";
std::string small_file() { return with_header(small_header, small_data); }

/// A file of one tensor "w".
std::string one(std::string_view entry, std::string_view data = "1234") {
  return with_header("{\"w\":" + std::string(entry) + "}", data);
}
std::string one_f32(std::string_view shape, std::string_view offsets, std::string_view data = "1234") {
  return one("{\"dtype\":\"F32\",\"shape\":" + std::string(shape) + ",\"data_offsets\":" + std::string(offsets) + "}",
             data);
}

/// Refused as a whole: in a sentence with the file's name, the tensor and this reason.
format_error refused(std::string const& bytes, std::string_view tensor, std::string_view reason) {
  auto const e = refusal<format_error>([&] { return parse(bytes); });
  INFO(e.what());
  CHECK(e.file == "some.safetensors");
  CHECK(e.tensor == tensor);
  CHECK(contains(e.what(), "graft::io: \"some.safetensors\": "));
  if (!tensor.empty()) CHECK(contains(e.what(), graft::io::escaped(tensor)));
  CHECK(contains(e.what(), reason));
  CHECK(tests::printable(e.what()));
  return e;
}

/// Either good, and then all of it can be read, or a graft::error.
bool survives(std::string const& bytes) {
  try {
    auto const f = parse(bytes);
    std::size_t total = 0;
    for (auto const& t : f.tensors()) {
      total += f.bytes(t).size();
      if (&f.at(t.name) != &t) return false;
      if (t.type != dtype::other && f.bytes(t).size() != static_cast<std::size_t>(t.size() * graft::io::width(t.type)))
        return false;
      try {
        if (f.read_as<float>(t.name).size() != static_cast<std::size_t>(t.size())) return false;
      } catch (format_error const&) {  // integers
      }
      try {
        if (f.read_as<std::int8_t>(t.name).size() != static_cast<std::size_t>(t.size())) return false;
      } catch (format_error const&) {  // others, out of range
      }
      try {
        if (f.view<float, 2>(t.name).size() != t.size()) return false;
      } catch (format_error const&) {}
    }
    std::uint64_t header = 0;
    std::memcpy(&header, bytes.data(), 8);
    return total + 8 + header == bytes.size();  // every byte belongs to something
  } catch (graft::error const&) { return true; }
}

template <class T>
std::string one_value(T value, std::string_view type) {
  return one(
      "{\"dtype\":\"" + std::string(type) + "\",\"shape\":[],\"data_offsets\":[0," + std::to_string(sizeof(T)) + "]}",
      bytes_of(std::vector<T>{value}));
}
template <class T> concept viewable = requires(safetensors_file const& f) { f.view<T, 1>("a"); };

}  // namespace

TEST_CASE("a file is its tensors, in the order of their data, and its metadata", "[io]") {
  auto const f = parse(small_file());
  CHECK(f.path() == "some.safetensors");
  CHECK(f.metadata() == std::map<std::string, std::string>{{"k", "v"}});
  REQUIRE(f.tensors().size() == 2);
  auto const& a = f.tensors()[0];
  auto const data = static_cast<index_t>(8 + small_header.size());
  CHECK(a.name == "a");
  CHECK(a.type == dtype::f32);
  CHECK(a.type_name == "F32");
  CHECK(a.shape == std::vector<index_t>{2, 2});
  CHECK(a.size() == 4);
  CHECK(a.begin == data);
  CHECK(a.end == data + 16);
  CHECK(f.find("b") == &f.tensors()[1]);
  CHECK(tests::text_of(f.bytes(f.at("b"))) == "\x07\x08\x09");
  CHECK(f.find("c") == nullptr);
  auto const e = refusal<format_error>([&] { return f.at("c\n"); });
  CHECK(e.tensor == "c\n");
  CHECK(contains(e.what(), R"("some.safetensors": "c\x0a": there is no tensor of this name)"));

  CHECK(parse(with_header("{}")).tensors().empty());
  CHECK(parse(with_header("{}     ")).tensors().empty());  // padding
  // The order of the header is not that of the data.
  auto const turned = parse(with_header(
      R"({"z":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"y":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
      "zy"));
  CHECK(turned.tensors()[0].name == "z");
}

TEST_CASE("every prefix of a file is refused, or is a file", "[io][hostile]") {
  std::string const good = small_file();
  REQUIRE(survives(good));
  for (std::size_t n = 0; n < good.size(); ++n) {
    INFO(n);
    CHECK_THROWS_AS(parse(good.substr(0, n)), format_error);
  }
  CHECK_THROWS_AS(parse(good + "x"), format_error);
}

TEST_CASE("files with changed bytes are refused or sound", "[io][hostile]") {
  std::string const good = small_file();
  for (std::size_t i = 0; i < good.size(); ++i)
    for (unsigned const x : {1U, 2U, 4U, 8U, 16U, 32U, 64U, 128U, 255U}) {
      std::string bad = good;
      bad[i] = static_cast<char>(static_cast<unsigned char>(bad[i]) ^ x);
      INFO(i << " ^ " << x);
      CHECK(survives(bad));
    }
  for (std::size_t i = 0; i < good.size(); ++i)
    for (char const c : {'\0', ' ', '"', '{', '}', '[', ']', ',', ':', '0', '9', '-', '\\', '\xff'}) {
      std::string bad = good;
      bad[i] = c;
      INFO(i << " = " << static_cast<int>(c));
      CHECK(survives(bad));
    }
}

TEST_CASE("files with bytes inserted, removed and mixed are refused or sound", "[io][hostile]") {
  std::string const good = small_file();
  tests::random_bits bits(11);
  auto const place = [&](std::size_t size) {
    return static_cast<std::size_t>(bits.below(static_cast<std::int64_t>(size)));
  };
  auto const fix_length = [](std::string& s, std::size_t data) {  // so that the change reaches what is behind it
    if (s.size() < 8 + data) return;
    std::uint64_t const header = s.size() - 8 - data;
    std::memcpy(s.data(), &header, 8);
  };
  for (int i = 0; i < 3000; ++i) {
    std::string bad = good;
    for (auto left = 1 + bits.below(3); left > 0; --left) {
      std::size_t const at = 8 + place(bad.size() - 8);
      std::size_t const from = 8 + place(bad.size() - 8);
      std::size_t const count = std::min(place(12), bad.size() - std::max(at, from));
      switch (bits.below(4)) {
        case 0: bad.insert(at, good.substr(from % good.size(), count)); break;
        case 1: bad.erase(at, count); break;
        case 2: bad.replace(at, count, bad.substr(from, count)); break;
        default: bad.insert(at, 1, "0123456789{}[],:\"\\-.eE \t\n"[place(25)]); break;
      }
      if (bad.size() <= 9) break;
    }
    if (bits.below(2) == 0) fix_length(bad, small_data.size());
    INFO(i << graft::io::escaped(bad));
    CHECK(survives(bad));
  }
}

TEST_CASE("the length of the header is checked against the file and 100 MB", "[io][hostile]") {
  CHECK(refused("", "", "the file has 0 bytes; a safetensors file has at least 8").offset == 0);
  refused("1234567", "", "the file has 7 bytes");
  auto const length = [](std::uint64_t n, std::string const& rest) {
    std::string out(8, '\0');
    std::memcpy(out.data(), &n, 8);
    return out + rest;
  };
  CHECK(refused(length(0, ""), "", "the header is empty").offset == 0);
  refused(length(3, "{}"), "", "the header claims 3 bytes but the file has 2 after its length");
  refused(length(100'000'000, "{}"), "", "the header claims 100000000 bytes but");
  refused(length(100'000'001, "{}"), "", "the header claims 100000001 bytes; at most 100000000 are read");
  CHECK(refused(length(UINT64_MAX, "{}"), "", "the header claims 18446744073709551615 bytes; at most").offset == 0);
  refused(length(UINT64_MAX - 7, "{}"), "", "at most");  // with the 8 before it, zero
  refused(length(std::uint64_t{1} << 63U, "{}"), "", "at most");
}

TEST_CASE("a header that is no JSON object is refused", "[io][hostile]") {
  CHECK(refused(with_header(" {}"), "", "the header does not begin with '{'").offset == 8);
  refused(with_header("[]"), "", "the header does not begin with '{'");
  refused(with_header("\xef\xbb\xbf{}"), "", "the header does not begin with '{'");
  CHECK(refused(with_header("{}x"), "", "not valid JSON").offset == 10);
  CHECK(refused(with_header("{}\0\0"s), "", "zero byte").offset == 10);
  refused(with_header("{\"a\xff\": 1}"), "", "not valid JSON");
  std::string deep = "{\"a\":";
  for (int i = 0; i < 100'000; ++i) deep += "[";
  refused(with_header(deep), "", "nested more than 64 levels deep");
}

TEST_CASE("names that stand there twice are refused", "[io][hostile]") {
  std::string const entry = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  refused(with_header("{\"w\":" + entry + ",\"w\":" + entry + "}", "1"), "w", "this key stands there twice");
  refused(with_header("{\"w\":" + entry + ",\"\\u0077\":" + entry + "}", "1"), "w", "this key stands there twice");
  refused(one(R"({"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]})", "1"), "dtype",
          "this key stands there twice");
  refused(with_header(R"({"__metadata__":{"k":"1","k":"2"}})"), "k", "this key stands there twice");
  refused(with_header(R"({"__metadata__":{},"__metadata__":{}})"), "__metadata__", "this key stands there twice");
}

TEST_CASE("metadata is an object of strings", "[io][hostile]") {
  for (auto const* const v : {"1", "null", "[]", "\"s\""})
    refused(with_header("{\"__metadata__\":"s + v + "}"), "__metadata__", "must be an object of strings");
  for (auto const* const v : {"1", "null", "{}", "[\"s\"]"})
    refused(with_header("{\"__metadata__\":{\"k\\n\":"s + v + "}}"), "__metadata__",
            R"(the metadata value of "k\x0a" must be a string)");
}

TEST_CASE("an entry has exactly dtype, shape and data_offsets", "[io][hostile]") {
  for (auto const* const entry :
       {"1", "null", "[]", "{}", R"({"dtype":"U8","shape":[1]})", R"({"dtype":"U8","shape":[1],"offsets":[0,1]})",
        R"({"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":1})"})
    refused(one(entry, "1"), "w", "must have exactly dtype, shape and data_offsets");
  for (auto const* const type : {"1", "null", "[\"U8\"]"})
    refused(one("{\"dtype\":"s + type + R"(,"shape":[1],"data_offsets":[0,1]})", "1"), "w", "dtype must be a string");
  refused(with_header(R"({"":1})"), "(empty name)", "must have exactly");
}

TEST_CASE("shapes that are no shapes are refused", "[io][hostile]") {
  for (auto const* const shape : {"1", "null", "{}", "\"1\""})
    refused(one_f32(shape, "[0,4]"), "w", "shape must be an array");
  for (auto const* const shape : {"[-1]", "[1.0]", "[1e0]", "[\"1\"]", "[null]", "[[1]]", "[true]", "[-0]",
                                  "[9223372036854775808]", "[18446744073709551615]", "[18446744073709551616]"})
    refused(one_f32(shape, "[0,4]"), "w", "an extent must be a whole number from 0 to 2^63 - 1");
  std::string many = "[1";
  for (int i = 1; i < 32; ++i) many += ",1";
  CHECK(parse(one_f32(many + "]", "[0,4]")).at("w").shape.size() == 32);
  refused(one_f32(many + ",1]", "[0,4]"), "w", "shape has more than 32 dimensions");
}

TEST_CASE("sizes that overflow are refused", "[io][hostile]") {
  refused(one_f32("[4294967296,4294967296]", "[0,4]"), "w", "the product of its extents overflows 64 bits");
  refused(one_f32("[9223372036854775807,2]", "[0,4]"), "w", "the product of its extents overflows 64 bits");
  // Times 4 bytes this is 2^64 + 4, which would be 4.
  refused(one_f32("[4611686018427387905]", "[0,4]"), "w", "its shape asks for 4611686018427387905 elements of 4 bytes");
  refused(one_f32("[2]", "[0,4]"), "w", "its shape asks for 2 elements of 4 bytes but its data has 4");
  refused(one_f32("[]", "[0,8]", "12345678"), "w", "its shape asks for 1 elements of 4 bytes but its data has 8");
  refused(one_f32("[0]", "[0,4]"), "w", "its shape asks for 0 elements");
}

TEST_CASE("offsets that are no place in the file are refused", "[io][hostile]") {
  for (auto const* const offsets : {"[0]", "[0,4,4]", "[]", "4", "{}", "null"})
    refused(one_f32("[1]", offsets), "w", "data_offsets must be two numbers");
  for (auto const* const offsets :
       {"[-4,0]", "[0,4.0]", "[\"0\",4]", "[0,9223372036854775808]", "[18446744073709551615,4]"})
    refused(one_f32("[1]", offsets), "w", "an offset must be a whole number from 0 to 2^63 - 1");
  refused(one_f32("[1]", "[4,0]"), "w", "its data begins at 4, after its end at 0");
  refused(one_f32("[1]", "[0,8]"), "w", "its data ends at 8 but the file has 4 bytes of data");
  refused(one_f32("[1]", "[9223372036854775803,9223372036854775807]"), "w", "its data ends at 9223372036854775807 but");
}

TEST_CASE("bytes that belong to two tensors or to none are refused", "[io][hostile]") {
  auto const two = [](std::string const& a, std::string const& b, std::string_view data) {
    return with_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":" + a +
                           "},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":" + b + "}}",
                       data);
  };
  auto const header = static_cast<index_t>(two("[0,2]", "[2,4]", "").size());
  CHECK(parse(two("[0,2]", "[2,4]", "1234")).tensors().size() == 2);
  CHECK(refused(two("[0,2]", "[1,3]", "123"), "b", "its bytes overlap those of another tensor").offset == header + 1);
  CHECK(refused(two("[0,2]", "[0,2]", "12"), "b", "overlap").offset == header);
  CHECK(refused(two("[0,2]", "[3,5]", "12345"), "b", "there are bytes before it that belong to no tensor").offset ==
        header + 3);
  CHECK(refused(two("[1,3]", "[3,5]", "12345"), "a", "there are bytes before it that belong to no tensor").offset ==
        header + 1);
  CHECK(refused(two("[0,2]", "[2,4]", "12345"), "", "there are 1 bytes after the last tensor").offset == header + 4);
  refused(with_header("{}", "1"), "", "there are 1 bytes after the last tensor");
}

TEST_CASE("tensors without elements take no bytes", "[io]") {
  auto const f = parse(with_header(
      R"({"a":{"dtype":"F32","shape":[0,9000000000000000000],"data_offsets":[0,0]},"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"c":{"dtype":"F64","shape":[3,0],"data_offsets":[1,1]}}   )",
      "1"));
  REQUIRE(f.at("a").begin % 8 == 0);
  CHECK(f.at("a").size() == 0);
  CHECK(f.read_as<float>("a").empty());
  CHECK(f.view<float, 2>("a").shape() == std::array<index_t, 2>{0, 9'000'000'000'000'000'000});
  CHECK(f.read_as<double>("c").empty());
  // Strides of such a view would overflow.
  auto const g =
      parse(with_header(R"({"a":{"dtype":"F32","shape":[0,9000000000000000000,4],"data_offsets":[0,0]}}    )"));
  REQUIRE(g.at("a").begin % 8 == 0);
  auto const e = refusal<format_error>([&] { return g.view<float, 3>("a"); });
  CHECK(contains(e.what(), R"("some.safetensors": "a": has no elements, but extents whose strides overflow 64 bits)"));
}

TEST_CASE("element types that graft does not know are listed and never read", "[io][hostile]") {
  auto const f = parse(one(R"({"dtype":"F8_E4M3","shape":[4611686018427387904],"data_offsets":[0,4]})"));
  CHECK(f.at("w").type == dtype::other);
  CHECK(f.at("w").type_name == "F8_E4M3");
  CHECK(f.bytes(f.at("w")).size() == 4);
  // Its shape is not compared with its bytes: no memory may be asked for.
  auto const e = refusal<unsupported_error>([&] { return f.read_as<float>("w"); });
  CHECK(e.tensor == "w");
  CHECK(e.offset == f.at("w").begin);
  CHECK(contains(e.what(), "graft does not read elements of type \"F8_E4M3\""));
  auto const v = refusal<format_error>([&] { return f.view<float, 1>("w"); });
  CHECK(contains(v.what(), "is stored as \"F8_E4M3\", not as F32"));
  CHECK(tests::printable(
      refusal<format_error>([&] {
        return parse(one("{\"dtype\":\"\\u001b[2J\",\"shape\":[],\"data_offsets\":[0,4]}")).view<float, 1>("w");
      }).what()));
  static_assert(viewable<float> && viewable<double> && viewable<bfloat16> && viewable<float16>);
  static_assert(!viewable<std::uint8_t> && !viewable<char>);  // read_as
}

TEST_CASE("a view shows the tensor in place", "[io]") {
  auto const f = parse(with_header(R"({"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}       )",
                                   bytes_of(std::vector<float>{1, 2, 3, 4})));
  REQUIRE(f.at("a").begin % 4 == 0);
  auto const v = f.view<float, 2>("a");
  CHECK(v.shape() == std::array<index_t, 2>{2, 2});
  CHECK(v.strides() == std::array<index_t, 2>{2, 1});
  CHECK(v(1, 0) == 3.0F);
  CHECK(static_cast<void const*>(v.data_handle()) == f.bytes(f.at("a")).data());

  auto const type = refusal<format_error>([&] { return f.view<double, 2>("a"); });
  CHECK(contains(type.what(), "\"a\": is stored as F32, not as F64"));
  CHECK(type.offset == f.at("a").begin);
  CHECK(contains(refusal<format_error>([&] { return f.view<float, 1>("a"); }).what(), "has 2 dimensions, not 1"));
  CHECK(refusal<format_error>([&] { return f.view<float, 2>("b"); }).tensor == "b");
}

TEST_CASE("misaligned data is refused as a view and read as a copy", "[io]") {
  std::vector<double> const values{1.5, -2.5};
  for (std::size_t padding = 0; padding < 8; ++padding) {
    auto const f = parse(with_header(
        R"({"a":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}})" + std::string(padding, ' '), bytes_of(values)));
    CHECK(f.read_as<double>("a") == values);
    CHECK(f.read_as<float>("a") == std::vector<float>{1.5F, -2.5F});
    if (f.at("a").begin % 8 == 0) {
      CHECK(f.view<double, 1>("a")(1) == -2.5);
    } else {
      auto const e = refusal<format_error>([&] { return f.view<double, 1>("a"); });
      CHECK(contains(e.what(), "is not aligned in the file; read a copy"));
      CHECK(e.offset == f.at("a").begin);
    }
  }
}

TEST_CASE("floating elements are converted with one rounding", "[io]") {
  auto const read = []<class T>(std::string const& file, T) { return parse(file).read_as<T>("w")[0]; };
  CHECK(read(one_value(1.1, "F64"), 0.0) == 1.1);
  CHECK(read(one_value(1.1, "F64"), 0.0F) == 1.1F);
  CHECK(read(one_value(1.1F, "F32"), 0.0) == static_cast<double>(1.1F));
  CHECK(read(one_value(1e300, "F64"), 0.0F) == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(read(one_value(std::numeric_limits<double>::quiet_NaN(), "F64"), 0.0F)));
  CHECK(read(one_value<std::uint16_t>(0x3f81, "BF16"), 0.0F) == 1.0078125F);
  CHECK(read(one_value<std::uint16_t>(0x3c01, "F16"), 0.0) == 1.0009765625);
  CHECK(read(one_value<std::uint16_t>(0x7c00, "F16"), 0.0F) == std::numeric_limits<float>::infinity());
  CHECK(read(one_value<std::uint16_t>(0x0001, "F16"), 0.0) == 0x1p-24);
  auto const bits16 = [](auto v) { return std::bit_cast<std::uint16_t>(v); };
  CHECK(bits16(read(one_value<std::uint16_t>(0x7fc1, "BF16"), bfloat16{})) == 0x7fc1);  // the same type: the same bits
  CHECK(bits16(read(one_value(1.00390625F + 0x1p-20F, "F32"), bfloat16{})) == 0x3f81);
  CHECK(bits16(read(one_value(1.00390625F, "F32"), bfloat16{})) == 0x3f80);  // half way: to even
  CHECK(bits16(read(one_value(0.1F, "F32"), float16{})) == 0x2e66);
  // By way of fp32 this would be rounded twice, to the even 1.0.
  CHECK(bits16(read(one_value(1.00390625 + 0x1p-40, "F64"), bfloat16{})) == 0x3f81);
}

TEST_CASE("integers are converted when they are in range", "[io]") {
  auto const fails = []<class T>(std::string const& file, T, std::string_view value) {
    auto const f = parse(file);
    auto const e = refusal<format_error>([&] { return f.read_as<T>("w"); });
    INFO(e.what());
    CHECK(e.tensor == "w");
    CHECK(e.offset == f.at("w").begin);
    CHECK(contains(e.what(), "element 0 is " + std::string(value) + ", out of the range"));
  };
  auto const read = []<class T>(std::string const& file, T) { return parse(file).read_as<T>("w")[0]; };
  CHECK(read(one_value<std::int64_t>(INT64_MIN, "I64"), std::int64_t{}) == INT64_MIN);
  CHECK(read(one_value<std::uint64_t>(UINT64_MAX, "U64"), std::uint64_t{}) == UINT64_MAX);
  CHECK(read(one_value<std::int64_t>(-128, "I64"), std::int8_t{}) == -128);
  CHECK(read(one_value<std::int32_t>(-7, "I32"), std::int64_t{}) == -7);
  CHECK(read(one_value<std::uint32_t>(4'000'000'000U, "U32"), std::int64_t{}) == 4'000'000'000);
  CHECK(read(one_value<std::int16_t>(255, "I16"), std::uint8_t{}) == 255);
  CHECK(read(one_value<std::uint16_t>(65'535, "U16"), std::int32_t{}) == 65'535);
  CHECK(read(one_value<std::int8_t>(-1, "I8"), std::int16_t{}) == -1);
  CHECK(read(one_value<std::uint8_t>(200, "U8"), std::int16_t{}) == 200);
  CHECK(read(one_value<std::uint8_t>(1, "BOOL"), std::uint8_t{}) == 1);
  fails(one_value<std::int64_t>(-129, "I64"), std::int8_t{}, "-129");
  fails(one_value<std::int64_t>(-1, "I64"), std::uint64_t{}, "-1");
  fails(one_value<std::uint64_t>(UINT64_MAX, "U64"), std::int64_t{}, "18446744073709551615");
  fails(one_value<std::uint32_t>(1U << 31U, "U32"), std::int32_t{}, "2147483648");
  fails(one_value<std::int32_t>(65'536, "I32"), std::uint16_t{}, "65536");
  fails(one_value<std::int16_t>(-1, "I16"), std::uint8_t{}, "-1");
  fails(one_value<std::uint16_t>(32'768, "U16"), std::int16_t{}, "32768");
  fails(one_value<std::int8_t>(-1, "I8"), std::uint8_t{}, "-1");
  fails(one_value<std::uint8_t>(128, "U8"), std::int8_t{}, "128");
}

TEST_CASE("integers are no floating numbers, and the reverse", "[io]") {
  auto const e = refusal<format_error>([] { return parse(one_value<std::int32_t>(1, "I32")).read_as<float>("w"); });
  CHECK(contains(e.what(), "is stored as I32, which is not converted to the type asked for"));
  CHECK(e.tensor == "w");
  CHECK(contains(refusal<format_error>([] { return parse(one_value(1.0F, "F32")).read_as<std::int32_t>("w"); }).what(),
                 "is stored as F32"));
  CHECK(contains(
      refusal<format_error>([] { return parse(one_value<std::uint8_t>(1, "BOOL")).read_as<float>("w"); }).what(),
      "is stored as BOOL"));
}

TEST_CASE("a mapped file is what a read one is", "[io]") {
  std::string const path = data_folder + "/golden/lora/plain.safetensors";
  auto const r = safetensors_file::read(path);
  auto const m = safetensors_file::map(path);
  REQUIRE(r.tensors().size() == m.tensors().size());
  REQUIRE(!r.tensors().empty());
  CHECK(r.metadata() == m.metadata());
  for (std::size_t i = 0; i < r.tensors().size(); ++i) {
    CHECK(r.tensors()[i].name == m.tensors()[i].name);
    CHECK(tests::text_of(r.bytes(r.tensors()[i])) == tests::text_of(m.bytes(m.tensors()[i])));
  }
  tests::folder const here;
  tests::write(here / "empty", "");
  CHECK(contains(refusal<format_error>([&] { return safetensors_file::map(here / "empty"); }).what(),
                 "the file has 0 bytes"));
  CHECK(refusal<file_error>([&] { return safetensors_file::map(here / "absent"); }).file == here / "absent");
  CHECK(refusal<file_error>([&] { return safetensors_file::read(here / "absent"); }).file == here / "absent");
  CHECK(refusal<format_error>([&] { return safetensors_file::read(here / "empty"); }).file == here / "empty");
}

TEST_CASE("a file outlives its move", "[io]") {
  auto a = parse(small_file());
  auto const b = std::move(a);
  CHECK(b.read_as<float>("a") == std::vector<float>{1, 2, 3, 4});
  CHECK(b.find("b") == &b.tensors()[1]);
}
