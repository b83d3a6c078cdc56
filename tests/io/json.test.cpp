#include <graft/io/json.hpp>

#include <string>
#include <string_view>

#include <catch2/catch_test_macros.hpp>

#include "io/files.hpp"

using graft::io::format_error;
using graft::io::detail::is_utf8;
using graft::io::detail::parse_json;
using tests::contains;
using tests::refusal;
using namespace std::string_literals;

namespace {
format_error refused(std::string const& text, graft::index_t base = 0) {
  INFO(graft::io::escaped(text));
  auto const e = refusal<format_error>([&] { return parse_json(text, "c.json", base); });
  CHECK(e.file == "c.json");
  CHECK(contains(e.what(), "\"c.json\""));
  CHECK(contains(e.what(), "not valid JSON: "));
  CHECK(tests::printable(e.what()));
  return e;
}
std::string nested(std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }
}  // namespace

TEST_CASE("JSON is read with its keys in the order of the text", "[io]") {
  auto const v = parse_json(R"( {"z": [1, -2, 2.5, "s", true, null], "a": {"c": {}, "b": []}} )", "f");
  CHECK(v.dump() == R"({"z":[1,-2,2.5,"s",true,null],"a":{"c":{},"b":[]}})");
  CHECK(v["z"][0].is_number_unsigned());
  CHECK(v["z"][1].is_number_integer());
  CHECK(v["z"][2].is_number_float());
  CHECK(parse_json("7", "f") == 7);
  CHECK(parse_json(R"("A\u00e9\n")", "f") == "A\xc3\xa9\n");
}

TEST_CASE("equal keys of one object are refused, however they are spelt", "[io]") {
  auto const e = refused(R"({"a": 1, "b": 2, "a": 1})");
  CHECK(e.tensor == "a");
  CHECK(contains(e.what(), "\"a\": not valid JSON: this key stands there twice"));
  CHECK(e.offset == -1);
  CHECK(refused(R"({"a": 1, "\u0061": 2})").tensor == "a");
  CHECK(refused(R"([{"x": {"k": 1, "k": 2}}])").tensor == "k");
  CHECK(parse_json(R"({"a": {"a": {"a": 1}}, "b": {"a": 2}})", "f")["b"]["a"] == 2);  // not of one object
  CHECK(parse_json(R"([{"a": 1}, {"a": 2}])", "f").size() == 2);
  auto const hostile = refused("{\"\\u001b[2J\": 1, \"\\u001b[2J\": 2}");
  CHECK(hostile.tensor == "\x1b[2J");
}

TEST_CASE("nesting above 64 levels is refused", "[io]") {
  CHECK(parse_json(nested(64), "f").is_array());
  CHECK(contains(refused(nested(65)).what(), "nested more than 64 levels deep"));
  std::string objects;
  for (int i = 0; i < 65; ++i) objects += "{\"a\":";
  CHECK(contains(refused(objects).what(), "nested more than 64 levels deep"));
  CHECK(contains(refused(std::string(1'000'000, '[')).what(), "nested"));  // would end a recursive reader
}

TEST_CASE("what is no JSON is refused at its place", "[io]") {
  CHECK(refused("[1, x]").offset == 4);
  CHECK(refused("[1, x]", 100).offset == 104);
  CHECK(refused("[1] 2").offset == 4);
  CHECK(refused("{\"a\": 1,}").offset == 8);
  for (auto const* const text :
       {"",   " ",       "{",        "[",        "[1",      "{\"a\"",    "{\"a\":",     "{\"a\": 1",
        "\"", "\"a",     "nul",      "tru",      "-",       "1.",        "01",          "+1",
        ".5", "1e",      "NaN",      "Infinity", "'a'",     "{a: 1}",    "[1 2]",       "[1,]",
        "}",  "// c\n1", "/* c */1", "[\"\t\"]", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\udc00\""})
    refused(text);
}

TEST_CASE("numbers out of range are refused", "[io]") {
  CHECK(contains(refused("[1e999]").what(), "number overflow"));
  CHECK(contains(refused("[-1e999]").what(), "number overflow"));
  CHECK(parse_json("18446744073709551615", "f").get<std::uint64_t>() == UINT64_MAX);
  CHECK(parse_json("18446744073709551616", "f").is_number_float());
}

TEST_CASE("zero bytes end nothing", "[io]") {
  CHECK(refused("{}\0"s).offset == 2);
  CHECK(refused("{}\0 {\"hidden\": 1}"s, 8).offset == 10);
  CHECK(contains(refused("\0{}"s).what(), "zero byte"));
  CHECK(refused("{\"a\0b\": 1}"s).offset == 3);
  CHECK(parse_json(R"({"a\u0000b": 1})", "f").begin().key() == "a\0b"s);  // escaped it is a character
}

TEST_CASE("text that is not UTF-8 is refused", "[io]") {
  for (auto const& bytes : {"\xff"s, "\x80"s, "\xc3"s, "\xc0\xaf"s, "\xe0\x80\xaf"s, "\xed\xa0\x80"s,
                            "\xf4\x90\x80\x80"s, "\xf5\x80\x80\x80"s, "\xe2\x82"s, "\xf0\x80\x80\xaf"s}) {
    INFO(graft::io::escaped(bytes));
    refused("[\"" + bytes + "\"]");
    refused("{\"" + bytes + "\": 1}");
    CHECK_FALSE(is_utf8(bytes));
    CHECK_FALSE(is_utf8("a" + bytes + "a"));
  }
  for (auto const& good : {""s, "a\x7f"s, "\xc2\x80"s, "\xdf\xbf"s, "\xe0\xa0\x80"s, "\xed\x9f\xbf"s, "\xee\x80\x80"s,
                           "\xef\xbf\xbf"s, "\xf0\x90\x80\x80"s, "\xf4\x8f\xbf\xbf"s, "a\0b"s}) {
    INFO(graft::io::escaped(good));
    CHECK(is_utf8(good));
  }
  CHECK(parse_json("\"\xf0\x9f\x98\x80\"", "f") == "\xf0\x9f\x98\x80");
}

TEST_CASE("sentences do not repeat what was read", "[io]") {
  CHECK(std::string_view(refused("[\"" + std::string(1'000'000, 'a') + "\x01\"]").what()).size() < 400);
  CHECK(std::string_view(refused("[" + std::string(1'000'000, '9') + "e999]").what()).size() < 400);
  CHECK_FALSE(contains(refused("[\"\x9b secret \xff\"]").what(), "secret"));
}

TEST_CASE("an object of very many keys is read in time", "[io]") {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) text += "\"" + std::to_string(i) + "\":0,";
  text.back() = '}';
  auto const v = parse_json(text, "f");
  CHECK(v.size() == 200'000);
  CHECK(v.begin().key() == "0");
}
