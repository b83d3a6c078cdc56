#include <graft/io/name_pattern.hpp>

#include <array>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "io/files.hpp"
#include "support/random.hpp"

using graft::io::name_pattern;
using graft::io::pattern_error;
using tests::contains;
using tests::refusal;

namespace {

// What Python's re.fullmatch(pattern, name) says: x for a match. Python made this table.
struct row {
  std::string_view pattern;
  std::string_view matches;
};
// clang-format off
std::array<std::string_view, 28> constexpr names{"", "a", "b", "ab", "aa", "abc", "a.b", "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.v_proj", "model.layers.11.mlp.up_proj", "q_proj", "xq_proj", "lm_head", "a-b", "a]b", "a\\b", "a\n", "\n", "0", "7", "_", " ", "\x1c", "(a)", "a^$b", "a*b", "aab", "abab"};
std::array<row, 87> constexpr rows{{
    {"", "x..........................."},
    {"a", ".x.........................."},
    {"ab", "...x........................"},
    {"a|b", ".xx........................."},
    {"a|ab", ".x.x........................"},
    {"ab|a", ".x.x........................"},
    {"|a", "xx.........................."},
    {"a|", "xx.........................."},
    {"()", "x..........................."},
    {"(a)", ".x.........................."},
    {"(|a)b?", "xxxx........................"},
    {"a*", "xx..x......................."},
    {"a+", ".x..x......................."},
    {"a?", "xx.........................."},
    {"(ab)*", "x..x.......................x"},
    {"(ab)+", "...x.......................x"},
    {"(ab)?", "x..x........................"},
    {"(a|b)*", "xxxxx.....................xx"},
    {"(a*)*", "xx..x......................."},
    {"(a+)+", ".x..x......................."},
    {"(a|b|)+", "xxxxx.....................xx"},
    {"a.b", "......x......xxx.........xx."},
    {"a\\.b", "......x....................."},
    {".", ".xx...............xxxxx....."},
    {".*", "xxxxxxxxxxxxxxxx..xxxxxxxxxx"},
    {".+", ".xxxxxxxxxxxxxxx..xxxxxxxxxx"},
    {"..", "...xx......................."},
    {"[ab]", ".xx........................."},
    {"[ab]+", ".xxxx.....................xx"},
    {"[^a]", "..x..............xxxxxx....."},
    {"[^a]+", "..x.......xx.....xxxxxx....."},
    {"[a-c]+", ".xxxxx....................xx"},
    {"[a\\-b]+", ".xxxx........x............xx"},
    {"[-ab]+", ".xxxx........x............xx"},
    {"[ab-]+", ".xxxx........x............xx"},
    {"[]ab]+", ".xxxx.........x...........xx"},
    {"[^]a]+", "..x.......xx.....xxxxxx....."},
    {"[\\]ab]+", ".xxxx.........x...........xx"},
    {"[\\\\ab]+", ".xxxx..........x..........xx"},
    {".*\\.q_proj", ".......x...................."},
    {".*q_proj", ".......x..xx................"},
    {".*\\.(q|v)_proj", ".......xx..................."},
    {".*\\.layers\\.1\\.(self_attn\\.(q|v)_proj|mlp\\.up_proj)", "........x..................."},
    {"model\\.layers\\.\\d+\\..*", ".......xxx.................."},
    {"model\\.layers\\.[0-9]\\..*", ".......xx..................."},
    {"(?:.*\\.)?q_proj", ".......x..x................."},
    {".*(_proj|_head)", ".......xxxxxx..............."},
    {"model\\.(layers|blocks)\\.(0|1)\\.self_attn\\.[qkv]_proj", ".......xx..................."},
    {"^a$", ".x.........................."},
    {"^", "x..........................."},
    {"$", "x..........................."},
    {"a$", ".x.........................."},
    {"^a", ".x.........................."},
    {"a^b", "............................"},
    {"a$b", "............................"},
    {"(^a|b)b?", ".xxx........................"},
    {"(a$|a)\\n", "................x..........."},
    {"a$\\n", "................x..........."},
    {"$\\n", ".................x.........."},
    {"a\\^\\$b", "........................x..."},
    {"\\(a\\)", ".......................x...."},
    {"a\\*b", ".........................x.."},
    {"a\\\\b", "...............x............"},
    {"\\d", "..................xx........"},
    {"\\D", ".xx..............x..xxx....."},
    {"\\w", ".xx...............xxx......."},
    {"\\W", ".................x...xx....."},
    {"\\s", ".................x...xx....."},
    {"\\S", ".xx...............xxx......."},
    {"\\w+", ".xxxxx....xxx.....xxx.....xx"},
    {"[\\w.]+", ".xxxxxxxxxxxx.....xxx.....xx"},
    {"[^\\w]", ".................x...xx....."},
    {"[^\\W\\d]", ".xx.................x......."},
    {"[\\d_]", "..................xxx......."},
    {"\\n", ".................x.........."},
    {"a\\n", "................x..........."},
    {"a-b", ".............x.............."},
    {"a]b", "..............x............."},
    {".\\.?.", "...xx.x....................."},
    {"(a|b)(a|b)(a|b)?", "...xx.....................x."},
    {"((a|ab)(c|bcd|b))?", "x..x.x......................"},
    {"(.*)(.*)(.*)b", "..xx..x......xxx........xxxx"},
    {"[.]", "............................"},
    {"[*+?|()$^]", "............................"},
    {"a[.]b", "......x....................."},
    {"\\_", "....................x......."},
    {"\\ ", ".....................x......"},
}};
// clang-format on

bool matches(std::string_view pattern, std::string_view name) { return name_pattern(pattern).matches(name); }

/// Refused as a whole, in a sentence that names the pattern and this reason.
pattern_error refused(std::string const& pattern, std::string_view reason) {
  INFO(graft::io::escaped(pattern));
  auto const e = refusal<pattern_error>([&] { return name_pattern(pattern); });
  CHECK(e.pattern == pattern);
  CHECK(contains(e.what(), "graft::io: the pattern " + graft::io::escaped(pattern) + " "));
  CHECK(contains(e.what(), reason));
  CHECK(contains(e.what(), "(character " + std::to_string(e.position) + ")"));
  CHECK(tests::printable(e.what()));
  return e;
}

/// An expression that says for itself where its matches end: independent of any automaton.
struct node {
  using places = std::set<std::size_t>;
  virtual ~node() = default;
  [[nodiscard]] virtual std::string text() const = 0;
  [[nodiscard]] virtual places ends(std::string_view s, std::size_t from) const = 0;
};
using expression = std::unique_ptr<node>;

struct letter : node {
  std::string shown, set;
  letter(std::string t, std::string s) : shown(std::move(t)), set(std::move(s)) {}
  [[nodiscard]] std::string text() const override { return shown; }
  [[nodiscard]] places ends(std::string_view s, std::size_t i) const override {
    return i < s.size() && contains(set, s.substr(i, 1)) ? places{i + 1} : places{};
  }
};
struct anchor : node {
  bool last;
  explicit anchor(bool end) : last(end) {}
  [[nodiscard]] std::string text() const override { return last ? "$" : "^"; }
  [[nodiscard]] places ends(std::string_view s, std::size_t i) const override {
    return i == (last ? s.size() : 0) ? places{i} : places{};
  }
};
struct pair : node {
  expression a, b;
  bool either;
  pair(expression x, expression y, bool e) : a(std::move(x)), b(std::move(y)), either(e) {}
  [[nodiscard]] std::string text() const override {
    return either ? "(" + a->text() + "|" + b->text() + ")" : a->text() + b->text();
  }
  [[nodiscard]] places ends(std::string_view s, std::size_t i) const override {
    places out;
    if (either) out = b->ends(s, i);
    for (std::size_t const e : a->ends(s, i)) either ? out.insert({e}) : out.merge(b->ends(s, e));
    return out;
  }
};
struct repeat : node {
  expression a;
  char how;
  repeat(expression x, char h) : a(std::move(x)), how(h) {}
  [[nodiscard]] std::string text() const override { return "(" + a->text() + ")" + how; }
  [[nodiscard]] places ends(std::string_view s, std::size_t i) const override {
    places out = a->ends(s, i);
    if (how != '?') {
      std::vector<std::size_t> open(out.begin(), out.end());
      while (!open.empty()) {
        std::size_t const at = open.back();
        open.pop_back();
        for (std::size_t const e : a->ends(s, at))
          if (out.insert(e).second) open.push_back(e);
      }
    }
    if (how != '+') out.insert(i);
    return out;
  }
};
expression random_expression(tests::random_bits& bits, int size) {
  if (size <= 1) {
    switch (bits.below(8)) {
      case 0: return std::make_unique<letter>(".", "ab.");
      case 1: return std::make_unique<letter>("[^a]", "b.");
      case 2: return std::make_unique<letter>("[ab]", "ab");
      case 3: return std::make_unique<letter>("\\.", ".");
      case 4: return std::make_unique<anchor>(bits.below(2) == 0);
      case 5: return std::make_unique<letter>("b", "b");
      default: return std::make_unique<letter>("a", "a");
    }
  }
  auto const kind = bits.below(5);
  if (kind == 0) return std::make_unique<repeat>(random_expression(bits, size - 1), "*+?"[bits.below(3)]);
  int const left = 1 + static_cast<int>(bits.below(size - 1));
  auto a = random_expression(bits, left);
  auto b = random_expression(bits, size - left);
  return std::make_unique<pair>(std::move(a), std::move(b), kind == 1);
}

}  // namespace

TEST_CASE("patterns match whole names as Python's re.fullmatch does", "[io]") {
  for (auto const& [pattern, expected] : rows) {
    name_pattern const p(pattern);
    CHECK(p.pattern() == pattern);
    std::string got;
    for (auto const name : names) got += p.matches(name) ? 'x' : '.';
    INFO(graft::io::escaped(pattern));
    CHECK(got == expected);
  }
}

TEST_CASE("patterns match what their definition says", "[io]") {
  tests::random_bits bits(7);
  int matched = 0;
  int missed = 0;
  std::vector<std::string> strings{""};
  for (std::size_t i = 0; i < strings.size() && strings[i].size() < 5; ++i)
    for (char const c : {'a', 'b', '.'}) strings.push_back(strings[i] + c);
  for (int i = 0; i < 500; ++i) {
    auto const e = random_expression(bits, 1 + static_cast<int>(bits.below(12)));
    name_pattern const p(e->text());
    std::string wrong;
    for (auto const& s : strings) {
      bool const expected = e->ends(s, 0).contains(s.size());
      (expected ? matched : missed) += 1;
      if (p.matches(s) != expected) wrong += "\"" + s + "\" ";
    }
    INFO(e->text());
    CHECK(wrong.empty());
  }
  CHECK(matched > 5'000);
  CHECK(missed > 5'000);
}

TEST_CASE("patterns that backtracking cannot finish are matched in time", "[io]") {
  std::string const a(100'000, 'a');
  for (auto const* const text : {"(a*)*b", "(a|a)*b", "(a+)+b", "(a|aa)+b", "((a*)*)*b", "(.*a)*b",
                                 "(.*)(.*)(.*)(.*)(.*)b", "(a?a?a?a?a?a?a?a?)*b", "(|a|a)*b", "(a*)*(a*)*(a*)*b"}) {
    INFO(text);
    name_pattern const p(text);
    CHECK_FALSE(p.matches(a));
    CHECK(p.matches(a + "b"));
  }
  std::string optional;
  std::string certain;
  for (int i = 0; i < 60; ++i) optional += "a?", certain += "a";
  CHECK(matches(optional + certain, certain));  // 2^60 ways
  CHECK_FALSE(matches(optional + certain, certain.substr(1)));
  CHECK(matches("(.*\\.)?(q_proj)$", std::string(100'000, '.') + "q_proj"));  // std::regex overflows the stack
}

TEST_CASE("characters beyond ASCII stand for themselves", "[io]") {
  std::string const e = "\xc3\xa9";
  CHECK(matches(e, e));
  CHECK(matches(".*\\." + e + "t" + e, "layers." + e + "t" + e));
  CHECK_FALSE(matches(e, "\xc3"));
  CHECK(matches(e + "*", e + e + e));  // a repetition is of the character, not of its last byte
  CHECK_FALSE(matches(e + "*", "\xc3\xa9\xa9"));
  CHECK(matches("x" + e + "?", "x"));
  CHECK(matches("(" + e + "|b)+", "b" + e + "b"));
  CHECK(matches(".*", e));
  CHECK(matches("[^a]+", e));
  refused("[" + e + "]", "has a character beyond ASCII in [...]");
  refused("[a-" + e + "]", "has a character beyond ASCII in [...]");
  refused("\\" + e, "uses an escape that is not supported");
}

TEST_CASE("other syntax is a pattern_error that names the pattern and the place", "[io]") {
  CHECK(refused("a{2}", "uses {...}, which is not supported").position == 1);
  CHECK(refused("q_proj{2,3}", "uses {...}, which is not supported").position == 6);
  CHECK(refused("{", "repeats nothing").position == 0);
  CHECK(refused("(?=a)", "of which only (?:...) is supported").position == 1);
  for (auto const* const text :
       {"(?!a)b", "(?<=a)b", "(?<!a)b", "(?P<n>a)", "(?P=n)", "(?i)a", "(?i:a)", "(?#c)", "(?>a)", "(?", "(?)"})
    refused(text, "of which only (?:...) is supported");
  CHECK(refused(R"((a)\1)", "uses an escape that is not supported").position == 4);
  for (auto const* const text :
       {R"(\b)", R"(\B)", R"(\A)", R"(a\Z)", R"(\0)", R"(\x41)", R"(\u0041)", R"([\b])", R"(\p)", R"(\f)", R"(\r)"})
    refused(text, "uses an escape that is not supported");
  CHECK(refused("a*?", "has a repetition of a repetition").position == 2);
  for (auto const* const text : {"a+?", "a??", "a**", "a*+", "a++", "a+*", "a*{2}", "(a)+?"})
    refused(text, "repetition of a repetition");
  for (auto const* const text : {"*a", "+", "?", "(*a)", "a|*", "(|+)", "^*", "a$+", "^?a"})
    refused(text, "repeats nothing");
  CHECK(refused("a)", "has a ')' without its '('").position == 1);
  refused(")", "has a ')' without its '('");
  for (auto const* const text : {"(", "(a", "((a)", "(a|", "(?:a"}) refused(text, "has a '(' without its ')'");
  for (auto const* const text : {"[", "[]", "[^", "[^]", "[a", "[a-", "[]a"})
    refused(text, "has a '[' without its ']'");
  refused("[b-a]", "has a range whose end lies before its beginning");
  for (auto const* const text : {R"([\d-z])", R"([+-\d])", R"([a-\]])"})
    refused(text, "uses an escape as the end of a range");
  for (auto const* const text : {"\\", "a\\", "[\\"}) refused(text, "ends in a backslash");
}

TEST_CASE("patterns are bounded", "[io]") {
  CHECK(matches(std::string(10'000, 'a'), std::string(10'000, 'a')));
  refused(std::string(10'001, 'a'), "has more than 10000 characters");
  auto const brackets = [](std::size_t depth) { return std::string(depth, '(') + "a" + std::string(depth, ')'); };
  CHECK(matches(brackets(200), "a"));
  refused(brackets(201), "has brackets nested too deep");
  refused(std::string(10'000, '('), "has brackets nested too deep");
  refused(std::string(10'000, '|'), "is too large");
  refused("\x1b[2J" + std::string(1, '\0') + "(", "without");  // shown escaped
}
