// SPDX-License-Identifier: Apache-2.0
/// @file
/// The regular expressions that PEFT users write in target_modules, exclude_modules and the keys of rank_pattern, matched in
/// time proportional to pattern times name: never std::regex, which overflows the stack on long names and can run for minutes.
///
///     literals  .  *  +  ?  |  ( )  (?: )  [a-z] [^...]  \. and other escaped punctuation  \d \w \s \D \W \S  ^  $
///
/// Characters are bytes: a . or [^a] is one byte of a name beyond ASCII, and \d \w \s know ASCII only; in a pattern, such a
/// character stands for itself. Other syntax ({2,3}, look-around, back-references, lazy repetition, \b, flags, sets with
/// characters beyond ASCII) is a pattern_error: it is never matched approximately.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <graft/config.hpp>
#include <graft/io/errors.hpp>

namespace graft::inline GRAFT_CONTRACT::io {

/// A pattern that cannot be matched: names the pattern and the place.
struct pattern_error : error {
  pattern_error(std::string const& sentence, std::string of_pattern, index_t at)
      : error(sentence), pattern(std::move(of_pattern)), position(at) {}
  std::string pattern;
  index_t position;
};

/// Compiled once: a nondeterministic automaton of at most 20,000 states, simulated over all states at once.
class name_pattern {
 public:
  static constexpr std::size_t longest = 10'000;
  static constexpr int deepest = 200;

  /// Throws pattern_error. `where` is put into its sentence: the file that the pattern comes from.
  explicit name_pattern(std::string_view pattern, std::string_view where = {}) : text_(pattern), where_(where) {
    if (text_.size() > longest) fail(graft::detail::text("has more than ", longest, " characters"));
    fragment const all = alternatives(0);
    if (at_ != text_.size()) fail("has a ')' without its '('");
    accept_ = add({kind::accept});
    connect(all, accept_);
    start_ = all.first;
  }

  /// Python's re.fullmatch: the whole name matches.
  [[nodiscard]] bool matches(std::string_view name) const {
    std::vector<std::uint32_t> now;
    std::vector<std::uint32_t> next;
    std::vector<std::size_t> seen(states_.size(), 0);
    std::size_t step = 1;
    follow(start_, 0, name, now, seen, step);
    for (std::size_t i = 0; i < name.size() && !now.empty(); ++i) {
      ++step;
      next.clear();
      for (std::uint32_t const s : now)
        if (states_[s].what == kind::set && sets_[states_[s].set][static_cast<unsigned char>(name[i])])
          follow(states_[s].out, i + 1, name, next, seen, step);
      now.swap(next);
    }
    for (std::uint32_t const s : now)
      if (s == accept_) return true;
    return false;
  }

  [[nodiscard]] std::string const& pattern() const { return text_; }

 private:
  enum class kind : std::uint8_t { set, split, begin, end, accept };
  static constexpr std::uint32_t nowhere = static_cast<std::uint32_t>(-1);
  struct state {
    kind what;
    std::uint32_t out = nowhere;
    std::uint32_t other = nowhere;
    std::uint32_t set = 0;
  };
  using characters = std::bitset<256>;
  /// An automaton with loose ends: (state, which of its two arrows).
  struct fragment {
    std::uint32_t first = nowhere;
    std::vector<std::pair<std::uint32_t, bool>> ends;
  };

  [[noreturn]] void fail(std::string_view what) const {
    graft::detail::raise(
        pattern_error(graft::detail::text("graft::io: ", where_.empty() ? "" : escaped(where_) + ": ", "the pattern ",
                                          escaped(text_), " ", what, " (character ", at_, ")"),
                      text_, static_cast<index_t>(at_)));
  }
  std::uint32_t add(state s) {
    if (states_.size() >= 2 * longest) fail("is too large");
    states_.push_back(s);
    return static_cast<std::uint32_t>(states_.size() - 1);
  }
  void connect(fragment const& f, std::uint32_t to) {
    for (auto const& [s, second] : f.ends) (second ? states_[s].other : states_[s].out) = to;
  }
  [[nodiscard]] bool more() const { return at_ < text_.size(); }
  [[nodiscard]] char peek() const { return text_[at_]; }

  fragment alternatives(int depth) {
    if (depth > deepest) fail("has brackets nested too deep");
    fragment left = sequence(depth);
    while (more() && peek() == '|') {
      ++at_;
      fragment right = sequence(depth);
      std::uint32_t const fork = add({kind::split, left.first, right.first});
      left.first = fork;
      left.ends.insert(left.ends.end(), right.ends.begin(), right.ends.end());
    }
    return left;
  }
  fragment sequence(int depth) {
    fragment all = empty();
    while (more() && peek() != '|' && peek() != ')') {
      fragment part = repeated(depth);
      connect(all, part.first);
      all.ends = std::move(part.ends);
    }
    return all;
  }
  fragment empty() {
    std::uint32_t const s = add({kind::split});  // with one arrow
    return {s, {{s, false}}};
  }
  fragment repeated(int depth) {
    bool const anchored = peek() == '^' || peek() == '$';
    fragment f = single(depth);
    if (!more()) return f;
    char const c = peek();
    if (anchored && (c == '*' || c == '+' || c == '?')) fail("repeats nothing");
    if (c == '{') fail("uses {...}, which is not supported");
    if (c != '*' && c != '+' && c != '?') return f;
    ++at_;
    if (more() && (peek() == '*' || peek() == '+' || peek() == '?' || peek() == '{'))
      fail("has a repetition of a repetition (or a lazy or possessive one), which is not supported");
    std::uint32_t const fork = add({kind::split, f.first});
    if (c == '?') {
      f.first = fork;
      f.ends.emplace_back(fork, true);
      return f;
    }
    connect(f, fork);
    return {c == '*' ? fork : f.first, {{fork, true}}};
  }
  fragment single(int depth) {
    char const c = text_[at_++];
    switch (c) {
      case '(': {
        if (more() && peek() == '?') {
          if (at_ + 1 >= text_.size() || text_[at_ + 1] != ':') fail("uses (?...), of which only (?:...) is supported");
          at_ += 2;
        }
        fragment f = alternatives(depth + 1);
        if (!more()) fail("has a '(' without its ')'");
        ++at_;
        return f;
      }
      case '[': return of(bracket());
      case '.': {
        characters any;
        any.set();
        any.reset('\n');
        return of(any);
      }
      case '^': return anchor(kind::begin);
      case '$': return anchor(kind::end);
      case '\\': return of(escape());
      case '*':
      case '+':
      case '?':
      case '{': --at_; fail("repeats nothing");
      default: {
        fragment f = of(c);
        if (static_cast<unsigned char>(c) < 128) return f;
        while (more() && (static_cast<unsigned char>(peek()) & 0xc0U) == 0x80U) {  // the rest of one character
          fragment const next = of(text_[at_++]);
          connect(f, next.first);
          f.ends = next.ends;
        }
        return f;
      }
    }
  }
  fragment of(char c) {
    characters one;
    one.set(static_cast<unsigned char>(c));
    return of(one);
  }
  fragment of(characters const& set) {
    sets_.push_back(set);
    std::uint32_t const s = add({kind::set, nowhere, nowhere, static_cast<std::uint32_t>(sets_.size() - 1)});
    return {s, {{s, false}}};
  }
  fragment anchor(kind what) {
    std::uint32_t const s = add({what});
    return {s, {{s, false}}};
  }
  /// After a backslash.
  characters escape() {
    if (!more()) fail("ends in a backslash");
    auto const c = static_cast<unsigned char>(text_[at_++]);
    characters set;
    auto const range = [&](unsigned char a, unsigned char b) {
      for (unsigned i = a; i <= b; ++i) set.set(i);
    };
    switch (c) {
      case 'd':
      case 'D': range('0', '9'); break;
      case 'w':
      case 'W': range('0', '9'), range('a', 'z'), range('A', 'Z'), set.set('_'); break;
      case 's':
      case 'S':
        range('\t', '\r'), range(0x1c, ' ');  // as Python has it
        break;
      case 't': set.set('\t'); return set;
      case 'n': set.set('\n'); return set;
      default:
        if (c >= 128 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
          --at_;
          fail("uses an escape that is not supported");
        }
        set.set(c);
        return set;
    }
    return c == 'D' || c == 'W' || c == 'S' ? ~set : set;
  }
  /// After an opening bracket.
  characters bracket() {
    characters set;
    bool const negated = more() && peek() == '^';
    if (negated) ++at_;
    for (bool first = true; !(more() && peek() == ']' && !first); first = false) {
      if (!more()) fail("has a '[' without its ']'");
      auto const low = static_cast<unsigned char>(text_[at_++]);
      if (low >= 128) --at_, fail("has a character beyond ASCII in [...], which is not supported");
      characters one;
      if (low == '\\') one = escape();
      else one.set(low);
      if (at_ + 1 < text_.size() && peek() == '-' && text_[at_ + 1] != ']') {
        auto const high = static_cast<unsigned char>(text_[at_ + 1]);
        if (low == '\\' || high == '\\') fail("uses an escape as the end of a range, which is not supported");
        if (high >= 128) fail("has a character beyond ASCII in [...], which is not supported");
        if (high < low) fail("has a range whose end lies before its beginning");
        for (unsigned i = low; i <= high; ++i) one.set(i);
        at_ += 2;
      }
      set |= one;
    }
    ++at_;
    return negated ? ~set : set;
  }

  /// Adds `s` and all that is reached without reading, each once a step. No recursion: patterns are hostile.
  void follow(std::uint32_t s, std::size_t position, std::string_view name, std::vector<std::uint32_t>& out,
              std::vector<std::size_t>& seen, std::size_t step) const {
    std::vector<std::uint32_t> open{s};
    while (!open.empty()) {
      std::uint32_t const at = open.back();
      open.pop_back();
      if (at == nowhere || seen[at] == step) continue;
      seen[at] = step;
      state const& here = states_[at];
      switch (here.what) {
        case kind::split: open.push_back(here.other), open.push_back(here.out); break;
        case kind::begin:
          if (position == 0) open.push_back(here.out);
          break;
        case kind::end:  // also before a line break at the end, as Python has it
          if (position == name.size() || (position + 1 == name.size() && name.back() == '\n')) open.push_back(here.out);
          break;
        case kind::set:
        case kind::accept: out.push_back(at); break;
      }
    }
  }

  std::string text_;
  std::string_view where_;  // only while it is read
  std::size_t at_ = 0;
  std::vector<state> states_;
  std::vector<characters> sets_;
  std::uint32_t start_ = nowhere;
  std::uint32_t accept_ = nowhere;
};

}  // namespace graft::inline GRAFT_CONTRACT::io
