// The table of methods in README.md: what each has, on which executors, as these tests find it. Every verb on every executor is
// much to compile, and adapters/parity tests it too: once, by plain g++, is enough for a page.
#if !defined(__clang__)
#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "io/files.hpp"
#include "support/executors.hpp"
#include "support/verbs.hpp"

using namespace tests;

namespace {

/// Executors by the letter that the table has for them, in its order. `executors.hpp` names them.
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> letters{
    {{"reference", "R"}, {"serial", "S"}, {"openmp", "O"}, {"kokkos", "K"}}};
constexpr std::array<std::string_view, 4> columns{"forward", "backward", "merge", "initialise"};

std::string_view column_of(std::string_view verb) {
  if (verb == "add_delta" || verb.starts_with("transform_") || verb == "normalize") return "forward";
  if (verb == "backward" || verb == "backward_input") return "backward";
  if (verb == "merge" || verb == "unmerge") return "merge";
  return verb == "initialize" ? "initialise" : "";
}

/// A verb of a method, and the executors on which it gives the bits of `reference`, in the order of `letters`.
struct finding {
  std::string_view verb;
  std::string method;
  std::string executors;
};

std::vector<finding> find_out() {
  std::vector<finding> all;
  verb_shape const shape{5, 30, 4, 20};
  auto const look = [&](std::string_view name, auto const& verb) {
    std::size_t const of = name.find(" of ");
    if (of == std::string_view::npos || column_of(name.substr(0, of)).empty() || name.find(' ', of + 4) != name.npos)
      return;
    finding found{name.substr(0, of), std::string(name.substr(of + 4)), ""};
    tensors<float> expected(shape);
    verb(graft::reference{}, expected);
    // A letter stands when every executor of its name agrees.
    std::array<int, letters.size()> met{}, agreed{};
    for_each_executor([&](std::string const& executor, auto const& ex) {
      for (std::size_t i = 0; i < letters.size(); ++i) {
        if (!executor.starts_with(letters[i].first)) continue;
        tensors<float> got(shape);
        verb(ex, got);
        ++met[i];
        agreed[i] += got.differences(expected).empty() ? 1 : 0;
      }
    });
    for (std::size_t i = 0; i < letters.size(); ++i)
      if (met[i] > 0 && agreed[i] == met[i])
        found.executors += (found.executors.empty() ? "" : " ") + std::string(letters[i].second);
    all.push_back(std::move(found));
  };
  for_each_verb<float>(look);
  for_each_scratch_verb<float>(look);
  for_each_remaining_verb<float>(look);
  return all;
}

/// What PEFT's file of an adapter is called when it is written and read again.
template <class Adapter>
std::string file_of(Adapter const& a, std::string const& name) {
  folder const here;
  graft::io::peft_writer().add(name, a).write(here.path());
  auto const back = graft::io::peft_checkpoint::load(here.path());
  REQUIRE(back.modules().size() == 1);
  return std::string(graft::io::name(back.modules()[0].kind));
}
std::string file_of_method(std::string_view method, tensors<float>& t) {
  if (method == "lora") return file_of(t.lora(), "q_proj");
  if (method == "vera") return file_of(t.vera(), "q_proj");
  if (method == "dora") return file_of(t.dora(), "q_proj");
  if (method == "lora_embedding") return file_of(graft::lora_embedding{t.A.view(), t.B.view(), 0.7}, "embed");
  if (method == "lora_experts") return file_of(graft::lora_experts{t.A.view(), t.B.view(), 0.7, 2}, "experts.down");
  if (method == "boft")
    return file_of(graft::boft{graft::view(t.more.data(), 1, 2, 2, 2), graft::view(t.bias)}, "q_proj");
  if (method == "oft") return file_of(graft::oft{graft::view(t.more.data(), 2, 1), 4, 2, 5}, "q_proj");
  if (method == "hra") return file_of(graft::hra{t.B.view()}, "q_proj");
  if (method == "ia3") return file_of(graft::ia3{graft::view(t.bias)}, "q_proj");
  if (method == "ln_tuning") return file_of(graft::rms_norm{graft::view(t.bias)}, "norm");
  if (method == "bitfit") return "`bias` of others";                      // peft_writer::replace
  if (method == "lora_fa" || method == "lora_dropout") return "as LoRA";  // they train one
  return "-";
}

/// A page's heading.
std::string title(std::string_view method) {
  std::string const page = read(GRAFT_TEST_DATA "/../../docs/methods/" + std::string(method) + ".md");
  REQUIRE(page.starts_with("# "));
  return page.substr(2, page.find('\n') - 2);
}

std::string table() {
  std::vector<finding> const all = find_out();
  std::vector<std::string> methods;
  for (finding const& f : all)
    if (std::find(methods.begin(), methods.end(), f.method) == methods.end()) methods.push_back(f.method);
  std::sort(methods.begin(), methods.end());
  std::string out = "| method |";
  std::string rule = "\n|---|";
  for (std::string_view const c : columns) out += " " + std::string(c) + " |", rule += "---|";
  out += " PEFT file |" + rule + "---|\n";
  tensors<float> t({5, 30, 4, 20}, layout::contiguous);
  for (std::string const& method : methods) {
    out += "| [" + title(method) + "](docs/methods/" + method + ".md) |";
    for (std::string_view const c : columns) {
      // The executors of all its verbs: the fewest.
      std::string cell = "-";
      for (finding const& f : all)
        if (f.method == method && column_of(f.verb) == c && (cell == "-" || f.executors.size() < cell.size()))
          cell = f.executors;
      out += " " + cell + " |";
    }
    out += " " + file_of_method(method, t) + " |\n";
  }
  return out;
}

}  // namespace

TEST_CASE("the table of methods in README.md is what the tests find", "[io][table]") {
  constexpr std::string_view begin = "<!-- methods: what tests/io/method_table.test.cpp finds -->\n";
  constexpr std::string_view end = "<!-- methods end -->";
  std::string const text = read(GRAFT_TEST_DATA "/../../README.md");
  std::size_t const from = text.find(begin), to = text.find(end);
  REQUIRE(from != std::string::npos);
  REQUIRE(to != std::string::npos);
  std::string shown = text.substr(from + begin.size(), to - from - begin.size());
  if (with_kokkos == 0)  // tests with Kokkos look at that column
    for (std::size_t at = 0; (at = shown.find(" K |", at)) != std::string::npos;) shown.erase(at, 2);
  CHECK(shown == table());
}
#endif
