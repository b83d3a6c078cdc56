#include <graft/io/adapter_config.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "io/files.hpp"

using graft::index_t;
using graft::io::adapter_config;
using graft::io::file_error;
using graft::io::format_error;
using graft::io::not_understood;
using graft::io::pattern_error;
using tests::contains;
using tests::refusal;
using namespace std::string_literals;

namespace {

std::string const data_folder = GRAFT_TEST_DATA;

adapter_config parse(std::string const& members) {
  return adapter_config::parse(R"({"peft_type": "LORA")" + (members.empty() ? "" : ", " + members) + "}", "c.json");
}
/// Of another type.
adapter_config of_type(std::string const& type, std::string const& members) {
  return adapter_config::parse("{\"peft_type\": \"" + type + "\"" + (members.empty() ? "" : ", " + members) + "}",
                               "c.json");
}
/// Refused: in a sentence with the file's name, the key and this reason.
format_error refused(std::string const& members, std::string_view key, std::string_view reason) {
  INFO(members);
  auto const e = refusal<format_error>([&] { return parse(members); });
  CHECK(e.file == "c.json");
  CHECK(e.tensor == key);
  CHECK(contains(e.what(), "graft::io: \"c.json\": " + graft::io::escaped(key) + ": "));
  CHECK(contains(e.what(), reason));
  CHECK(tests::printable(e.what()));
  return e;
}
not_understood const* other(adapter_config const& c, std::string_view name) {
  auto const it = std::find_if(c.others.begin(), c.others.end(), [&](auto const& o) { return o.name == name; });
  return it == c.others.end() ? nullptr : &*it;
}

}  // namespace

TEST_CASE("a configuration without keys has PEFT's defaults", "[io]") {
  auto const c = parse("");
  CHECK(c.peft_type == "LORA");
  CHECK(c.r == 8);
  CHECK(c.lora_alpha == 8);
  CHECK(c.lora_dropout == 0);
  CHECK(c.bias == "none");
  CHECK_FALSE((c.use_rslora || c.use_dora || c.fan_in_fan_out || c.lora_bias || c.target_all_linear));
  CHECK((c.target_modules.empty() && c.exclude_modules.empty() && c.modules_to_save.empty() && c.rank_pattern.empty()));
  CHECK(c.others.empty());
}

TEST_CASE("every key that graft computes with is read", "[io]") {
  auto const c = parse(
      R"("peft_version": "0.21.2", "r": 4, "lora_alpha": 2.5, "lora_dropout": 0.25, "use_rslora": true, "use_dora": false,
    "fan_in_fan_out": true, "lora_bias": true, "bias": "lora_only", "target_modules": ["q", "v"], "exclude_modules": ["k"],
    "layers_to_transform": [1, 3], "layers_pattern": ["layers", "h"], "rank_pattern": {"z": 2, "a": 3}, "alpha_pattern": {"q": 1.5},
    "modules_to_save": ["lm_head"], "target_parameters": ["experts.w"])");
  CHECK(c.peft_version == "0.21.2");
  CHECK(c.r == 4);
  CHECK(c.lora_alpha == 2.5);
  CHECK(c.lora_dropout == 0.25);
  CHECK((c.use_rslora && c.fan_in_fan_out && c.lora_bias && !c.use_dora));
  CHECK(c.bias == "lora_only");
  CHECK(c.target_modules == std::vector<std::string>{"q", "v"});
  CHECK(c.exclude_modules == std::vector<std::string>{"k"});
  CHECK(c.layers_to_transform == std::vector<index_t>{1, 3});
  CHECK(c.layers_pattern == std::vector<std::string>{"layers", "h"});
  CHECK(c.rank_pattern == std::vector<std::pair<std::string, double>>{{"z", 2}, {"a", 3}});  // the file's order
  CHECK(c.alpha_pattern == std::vector<std::pair<std::string, double>>{{"q", 1.5}});
  CHECK(c.modules_to_save == std::vector<std::string>{"lm_head"});
  CHECK(c.target_parameters == std::vector<std::string>{"experts.w"});
  CHECK(c.others.empty());

  auto const d = parse(R"("target_modules": ".*q", "exclude_modules": "a|b", "bias": "all")");
  CHECK(d.target_pattern == ".*q");
  CHECK(d.exclude_pattern == "a|b");
  CHECK(d.bias == "all");
  auto const e = parse(R"("target_modules": ["q"], "layers_to_transform": 2, "layers_pattern": "h")");
  CHECK(e.layers_to_transform == std::vector<index_t>{2});
  CHECK(e.layers_pattern == std::vector<std::string>{"h"});
  for (auto const* const all : {"all-linear", "ALL-Linear"}) {
    auto const f = parse(R"("target_modules": ")" + std::string(all) + "\"");
    CHECK(f.target_all_linear);
    CHECK_FALSE(f.target_pattern);
  }
}

TEST_CASE("null is as absent", "[io]") {
  std::string members;
  for (auto const* const key :
       {"peft_version", "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "fan_in_fan_out", "lora_bias",
        "bias", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "rank_pattern",
        "alpha_pattern", "modules_to_save", "target_parameters"})
    members += std::string(members.empty() ? "" : ", ") + "\"" + key + "\": null";
  auto const c = parse(members);
  CHECK(c.r == 8);
  CHECK(c.bias == "none");
  CHECK(c.others.empty());
}

TEST_CASE("values of the wrong type are refused by their key", "[io]") {
  for (auto const* const key : {"use_rslora", "use_dora", "fan_in_fan_out", "lora_bias"})
    for (auto const* const v : {"1", "\"true\"", "[]", "{}"})
      refused("\""s + key + "\": " + v, key, "must be true or false but is "s + v);
  for (auto const* const key : {"lora_alpha", "lora_dropout"})
    for (auto const* const v : {"\"8\"", "true", "[8]"})
      refused("\""s + key + "\": " + v, key, "must be a number but is "s + v);
  for (auto const* const v : {"8.5", "8.0", "\"8\"", "true", "[8]"})
    refused("\"r\": "s + v, "r", "must be a whole number but is");
  for (auto const* const v : {"0", "-1"}) refused("\"r\": "s + v, "r", "must be positive but is "s + v);
  refused(R"("r": 18446744073709551615)", "r", "must be below 2^63 but is 18446744073709551615");
  for (auto const* const v : {"1", "[]", "false"}) refused("\"bias\": "s + v, "bias", "must be a string");
  refused(R"("bias": "lora\u001b")", "bias", R"(must be "none", "all" or "lora_only" but is "lora\u001b")");
  for (auto const* const key : {"target_modules", "exclude_modules", "layers_pattern"})
    for (auto const* const v : {"1", "{}", "true", "[1]", "[\"a\",null]"})
      refused("\""s + key + "\": " + v, key, "must be a list of names");
  for (auto const* const key : {"modules_to_save", "target_parameters"})
    for (auto const* const v : {"\"lm_head\"", "1", "{}", "[[]]"})
      refused("\""s + key + "\": " + v, key, "must be a list of names");
  for (auto const* const v : {"\"1\"", "1.5", "[1.5]", "[\"1\"]", "true", "{}"})
    refused("\"layers_to_transform\": "s + v, "layers_to_transform", "must be a whole number or a list of them");
  for (auto const* const key : {"rank_pattern", "alpha_pattern"}) {
    for (auto const* const v : {"[]", "1", "\"q\""})
      refused("\""s + key + "\": " + v, key, "must be an object of numbers");
    for (auto const* const v : {"\"4\"", "null", "true", "[4]"})
      refused("\""s + key + "\": {\"q\": " + v + "}", key, "must be a number");
  }
  for (auto const* const v : {"0", "-2", "2.5", "1e300", "1e19"})
    refused("\"rank_pattern\": {\"q\\n\": "s + v + "}", "rank_pattern",
            R"(the rank of "q\x0a" must be a positive whole number)");
  CHECK(parse(R"("alpha_pattern": {"q": -2.5})").alpha_of("q") == -2.5);
  CHECK(parse(R"("rank_pattern": {"q": 16.0})").rank_of("q") == 16);
  // A long value is cut.
  CHECK(std::string_view(refused("\"r\": \"" + std::string(100'000, 'a') + "\"", "r", "...").what()).size() < 300);
}

TEST_CASE("a file that is no configuration is refused", "[io]") {
  auto const text = [](std::string const& t) {
    return refusal<format_error>([&] { return adapter_config::parse(t, "c.json"); });
  };
  CHECK(contains(text("").what(), "not valid JSON"));
  CHECK(contains(text("[]").what(), "must be a JSON object"));
  CHECK(contains(text("1").what(), "must be a JSON object"));
  CHECK(text("{}").tensor == "peft_type");
  CHECK(contains(text("{}").what(), "\"peft_type\": is missing"));
  CHECK(text(R"({"peft_type": null})").tensor == "peft_type");
  CHECK(contains(text(R"({"peft_type": 1})").what(), "must be a string"));
  CHECK(text(R"({"peft_type": "LORA", "r": 8, "r": 16})").tensor == "r");
  CHECK(text(R"({"peft_type": "LORA", "rank_pattern": {"q": 8, "q": 16}})").tensor == "q");
  CHECK(text("{\"peft_type\": \"LORA\", \"a\": 1e999}").file == "c.json");
  CHECK(text("{\"peft_type\": \"LORA\"}\0{}"s).offset == 21);
  CHECK(text(R"({"peft_type": "LORA", "a": NaN})").offset == 27);
}

TEST_CASE("every byte of a configuration may be wrong", "[io][hostile]") {
  std::string const good =
      R"j({"peft_type":"LORA","r":8,"lora_alpha":16,"target_modules":["q"],"layers_to_transform":[0],"layers_pattern":"h","rank_pattern":{"a.*b":2},"exclude_modules":"x|(y)","use_dora":false})j";
  auto const survives = [](std::string const& text) {
    try {
      auto const c = adapter_config::parse(text, "c.json");
      static_cast<void>(c.targets("model.h.0.q"));
      static_cast<void>(c.rank_of("model.h.0.q"));
      return c.peft_type == "LORA" ? c.r > 0 : !c.peft_type.empty();
    } catch (graft::error const&) { return true; }
  };
  REQUIRE(adapter_config::parse(good, "c.json").targets("model.h.0.q"));
  for (std::size_t n = 0; n < good.size(); ++n)
    CHECK_THROWS_AS(adapter_config::parse(good.substr(0, n), "c.json"), format_error);
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (unsigned const x : {1U, 2U, 4U, 8U, 16U, 32U, 64U, 128U}) {
      std::string bad = good;
      bad[i] = static_cast<char>(static_cast<unsigned char>(bad[i]) ^ x);
      INFO(i << " ^ " << x);
      CHECK(survives(bad));
    }
    for (char const c : {'\0', '"', '{', '[', '(', '*', '\\', '0', '-', '\xff'}) {
      std::string bad = good;
      bad[i] = c;
      INFO(i << " = " << static_cast<int>(c));
      CHECK(survives(bad));
    }
  }
}

TEST_CASE("configurations are read from files of at most 16 MB", "[io]") {
  tests::folder const here;
  tests::write(here / "c.json", R"({"peft_type": "LORA", "r": 3})");
  CHECK(adapter_config::read(here / "c.json").r == 3);
  CHECK(refusal<file_error>([&] { return adapter_config::read(here / "absent"); }).file == here / "absent");
  tests::write(here / "large", R"({"peft_type": "LORA"})" + std::string(16'000'000, ' '));
  CHECK(contains(refusal<format_error>([&] { return adapter_config::read(here / "large"); }).what(),
                 "more than the 16000000 that are read"));
  tests::write(here / "bad", "{");
  CHECK(refusal<format_error>([&] { return adapter_config::read(here / "bad"); }).file == here / "bad");
}

TEST_CASE("of other types only the type and the version are read", "[io]") {
  auto const c = adapter_config::parse(
      R"({"peft_type": "ADALORA", "peft_version": "0.1", "r": "any", "target_modules": 7})", "c.json");
  CHECK(c.peft_type == "ADALORA");
  CHECK(c.peft_version == "0.1");
}

TEST_CASE("unknown keys are listed, whatever their value", "[io]") {
  auto const c = parse(R"("new_thing": {"a": [1, 2]}, "off": false, "nothing": null, "empty": [], "zero": 0)");
  REQUIRE(c.others.size() == 5);
  for (auto const& o : c.others) {
    CHECK(o.reason == "graft does not know this key");
    CHECK_FALSE(o.changes_result);
  }
  REQUIRE(other(c, "new_thing") != nullptr);
  CHECK(other(c, "new_thing")->value == R"({"a":[1,2]})");
  CHECK(other(c, "off")->value == "false");
  auto const d = parse("\"x\": \"" + std::string(1000, 'a') + "\", \"\\u001b\": \"\\u001b\xc3\xa9\x7f\"");
  CHECK(other(d, "x")->value.size() == 120);
  CHECK(tests::printable(other(d, "\x1b")->value));
}

TEST_CASE("keys that change the result are listed when they are on", "[io]") {
  for (auto const* const key : {"use_qalora", "use_bdlora", "alora_invocation_tokens", "layer_replication",
                                "trainable_token_indices", "megatron_config", "velora_config", "kasa_config",
                                "monteclora_config", "arrow_config", "modules_to_tie", "ensure_weight_tying"}) {
    INFO(key);
    for (auto const* const off : {"null", "false", "[]", "{}", "\"\"", "0", "0.0"})
      CHECK(parse("\""s + key + "\": " + off).others.empty());
    for (auto const* const on : {"true", "[1]", "{\"a\": 1}", "\"x\"", "1"}) {
      auto const c = parse("\""s + key + "\": " + on);
      REQUIRE(c.others.size() == 1);
      CHECK(c.others[0].name == key);
      CHECK(c.others[0].changes_result);
      CHECK(!c.others[0].reason.empty());
    }
  }
}

TEST_CASE("DoRA is a setting, VeRA a type with keys of its own", "[io]") {
  auto const c = parse(R"("use_dora": true)");
  CHECK(c.use_dora);
  CHECK(c.others.empty());
  auto const vera = [](std::string const& members) {
    return adapter_config::parse("{\"peft_type\": \"VERA\"" + members + "}", "c.json");
  };
  auto const plain = vera("");
  CHECK(plain.r == 256);
  CHECK(plain.projection_prng_key == 0);
  CHECK(plain.save_projection);
  auto const full = vera(
      R"(, "r": 16, "projection_prng_key": 7, "save_projection": false, "vera_dropout": 0.5, "d_initial": 0.1,
         "init_weights": true, "bias": "vera_only", "target_modules": ["q"], "fan_in_fan_out": true)");
  CHECK(full.r == 16);
  CHECK(full.projection_prng_key == 7);
  CHECK_FALSE(full.save_projection);
  CHECK(full.lora_dropout == 0.5);
  CHECK(full.bias == "vera_only");
  CHECK(full.fan_in_fan_out);
  CHECK(full.targets("a.q"));
  CHECK(full.others.empty());
  CHECK(vera(R"(, "lora_alpha": 3)").others.at(0).name == "lora_alpha");  // VeRA has none
  auto const refusal = [&](std::string const& members) {
    return tests::refusal<graft::io::format_error>([&] { return vera(members); }).tensor;
  };
  CHECK(refusal(R"(, "projection_prng_key": -1)") == "projection_prng_key");
  CHECK(refusal(R"(, "projection_prng_key": 1.5)") == "projection_prng_key");
  CHECK(refusal(R"(, "save_projection": "yes")") == "save_projection");
  CHECK(refusal(R"(, "vera_dropout": "x")") == "vera_dropout");
  CHECK(refusal(R"(, "r": 0)") == "r");
  CHECK(refusal(R"(, "bias": "lora_only")") == "bias");
}

TEST_CASE("BOFT, OFT, HRA, IA3 and LN tuning have PEFT's defaults", "[io]") {
  auto const boft = of_type("BOFT", "");
  CHECK((boft.boft_block_size == 4 && boft.boft_block_num == 0 && boft.boft_n_butterfly_factor == 1));
  CHECK((boft.boft_dropout == 0 && !boft.fan_in_fan_out && boft.bias == "none"));
  auto const oft = of_type("OFT", R"("oft_block_size": null, "peft_version": "0.21.2")");
  CHECK((oft.r == 0 && oft.oft_block_size == 32 && oft.eps == 6e-5 && oft.num_cayley_neumann_terms == 5));
  CHECK((oft.use_cayley_neumann && !oft.coft && !oft.block_share && !oft.fan_in_fan_out && oft.bias == "none"));
  auto const hra = of_type("HRA", "");
  CHECK((hra.r == 8 && !hra.apply_GS && hra.bias == "none"));
  auto const ia3 = of_type("IA3", "");
  CHECK((ia3.feedforward_modules.empty() && !ia3.feedforward_pattern && !ia3.fan_in_fan_out));
  for (auto const& c : {boft, oft, hra, ia3, of_type("LN_TUNING", "")}) CHECK(c.others.empty());
}

TEST_CASE("every key of BOFT, OFT, HRA, IA3 and LN tuning is read", "[io]") {
  std::string const common =
      R"("target_modules": ["q"], "exclude_modules": ["k"], "modules_to_save": ["head"], "inference_mode": true, )";
  std::string const layers = R"("layers_to_transform": [1], "layers_pattern": "h", "init_weights": true, )";
  auto const boft = of_type("BOFT", common + layers +
                                        R"("boft_block_size": 0, "boft_block_num": 8, "boft_n_butterfly_factor": 3,
      "boft_dropout": 0.25, "fan_in_fan_out": true, "bias": "boft_only")");
  CHECK((boft.boft_block_size == 0 && boft.boft_block_num == 8 && boft.boft_n_butterfly_factor == 3));
  CHECK((boft.boft_dropout == 0.25 && boft.fan_in_fan_out && boft.bias == "boft_only"));
  auto const oft = of_type("OFT", common + layers + R"("r": 4, "oft_block_size": 0, "block_share": true, "coft": true,
      "eps": 0.5, "use_cayley_neumann": false, "num_cayley_neumann_terms": 7, "fan_in_fan_out": true, "bias": "oft_only",
      "module_dropout": 0.5)");
  CHECK((oft.r == 4 && oft.oft_block_size == 0 && oft.block_share && oft.coft && oft.eps == 0.5));
  CHECK((!oft.use_cayley_neumann && oft.num_cayley_neumann_terms == 7 && oft.fan_in_fan_out && oft.bias == "oft_only"));
  auto const hra = of_type("HRA", common + layers + R"("r": 5, "apply_GS": true, "bias": "hra_only")");
  CHECK((hra.r == 5 && hra.apply_GS && hra.bias == "hra_only"));
  auto const ia3 =
      of_type("IA3", common + R"("feedforward_modules": ["q"], "fan_in_fan_out": true, "init_ia3_weights": true)");
  CHECK((ia3.feedforward_modules == std::vector<std::string>{"q"} && ia3.fan_in_fan_out));
  CHECK(of_type("IA3", R"("feedforward_modules": "a|b")").feedforward_pattern == "a|b");
  auto const ln = of_type("LN_TUNING", common + R"("task_type": null)");
  for (auto const& c : {boft, oft, hra, ia3, ln}) {
    INFO(c.peft_type);
    CHECK(c.others.empty());
    CHECK(c.modules_to_save == std::vector<std::string>{"head"});
    CHECK_FALSE(c.targets("m.h.1.k"));
    CHECK(c.targets("m.h.1.q"));
    CHECK(c.targets("m.h.2.q") == (c.peft_type == "IA3" || c.peft_type == "LN_TUNING"));
  }
  for (auto const& c : {boft, oft, hra}) CHECK(c.layers_to_transform == std::vector<index_t>{1});
}

TEST_CASE("keys of BOFT, OFT, HRA and IA3 of the wrong type are refused", "[io]") {
  auto const refuses = [](std::string const& type, std::string const& key, std::string const& value,
                          std::string_view reason) {
    std::string const size = type == "OFT" && key != "oft_block_size" ? R"("oft_block_size": 4, )" : "";
    auto const e = refusal<format_error>([&] { return of_type(type, size + "\"" + key + "\": " + value); });
    INFO(e.what());
    CHECK(e.file == "c.json");
    CHECK(e.tensor == key);
    CHECK(contains(e.what(), reason));
  };
  using pair = std::pair<char const*, char const*>;
  for (auto const& [type, key] : {pair{"BOFT", "fan_in_fan_out"}, pair{"OFT", "block_share"}, pair{"OFT", "coft"},
                                  pair{"OFT", "use_cayley_neumann"}, pair{"OFT", "fan_in_fan_out"},
                                  pair{"HRA", "apply_GS"}, pair{"IA3", "fan_in_fan_out"}})
    for (auto const* const v : {"1", "\"true\"", "[]"}) refuses(type, key, v, "must be true or false but is "s + v);
  for (auto const& [type, key] : {pair{"BOFT", "boft_dropout"}, pair{"OFT", "eps"}})
    for (auto const* const v : {"\"8\"", "true", "[8]"}) refuses(type, key, v, "must be a number but is "s + v);
  for (auto const& [type, key] :
       {pair{"BOFT", "boft_block_size"}, pair{"BOFT", "boft_block_num"}, pair{"BOFT", "boft_n_butterfly_factor"},
        pair{"OFT", "oft_block_size"}, pair{"OFT", "r"}, pair{"OFT", "num_cayley_neumann_terms"}, pair{"HRA", "r"}}) {
    for (auto const* const v : {"2.5", "\"2\"", "true", "[2]"}) refuses(type, key, v, "must be a whole number but is");
    refuses(type, key, "18446744073709551615", "must be below 2^63 but is");
  }
  for (auto const& [type, key] : {pair{"BOFT", "boft_block_size"}, pair{"BOFT", "boft_block_num"},
                                  pair{"OFT", "oft_block_size"}, pair{"OFT", "r"}})
    refuses(type, key, "-1", "must be not negative but is -1");
  for (auto const& [type, key] :
       {pair{"BOFT", "boft_n_butterfly_factor"}, pair{"OFT", "num_cayley_neumann_terms"}, pair{"HRA", "r"}})
    for (auto const* const v : {"0", "-1"}) refuses(type, key, v, "must be positive but is "s + v);
  refuses("OFT", "eps", "-0.5", "must not be negative");
  for (auto const* const v : {"1", "{}", "[1]", "[\"a\", null]"})
    refuses("IA3", "feedforward_modules", v, "must be a list of names");
  for (auto const& [type, only] : {pair{"BOFT", "boft_only"}, pair{"OFT", "oft_only"}, pair{"HRA", "hra_only"}})
    refuses(type, "bias", "\"lora_only\"", "must be \"none\", \"all\" or \""s + only + "\" but is \"lora_only\"");
}

TEST_CASE("blocks: their size or their number, and 0 for the other", "[io]") {
  auto const refuses = [](char const* type, std::string const& members, std::string_view key, std::string_view reason) {
    auto const e = refusal<format_error>([&] { return of_type(type, members); });
    CHECK(e.tensor == key);
    CHECK(contains(e.what(), reason));
  };
  refuses("BOFT", R"("boft_block_size": 4, "boft_block_num": 2)", "boft_block_size",
          "is 4 and boft_block_num is 2; exactly one of them must be 0");
  refuses("BOFT", R"("boft_block_num": 2)", "boft_block_size", "is 4 and boft_block_num is 2");  // 4 is the default
  refuses("BOFT", R"("boft_block_size": 0)", "boft_block_size", "is 0 and boft_block_num is 0");
  refuses("OFT", R"("oft_block_size": 4, "r": 2)", "oft_block_size", "is 4 and r is 2; exactly one of them must be 0");
  refuses("OFT", R"("oft_block_size": null, "r": 2)", "oft_block_size", "is 32 and r is 2");
  refuses("OFT", R"("oft_block_size": 0)", "oft_block_size", "is 0 and r is 0");
}

TEST_CASE("keys that a type does not have are listed", "[io]") {
  CHECK(of_type("IA3", R"("bias": "all")").others.at(0).name == "bias");
  CHECK(of_type("LN_TUNING", R"("bias": "all")").others.at(0).name == "bias");
  CHECK(of_type("LN_TUNING", R"("fan_in_fan_out": true)").others.at(0).name == "fan_in_fan_out");
  CHECK(of_type("HRA", R"("fan_in_fan_out": true)").others.at(0).name == "fan_in_fan_out");
  CHECK(of_type("IA3", R"("layers_to_transform": [1])").others.at(0).name == "layers_to_transform");
  CHECK(of_type("BOFT", R"("oft_block_size": 3)").others.at(0).name == "oft_block_size");
  CHECK(of_type("HRA", R"("lora_alpha": 3)").others.at(0).name == "lora_alpha");
}

TEST_CASE("keys about making and keeping an adapter are not listed", "[io]") {
  CHECK(
      parse(
          R"("auto_mapping": {"a": 1}, "base_model_name_or_path": "m", "inference_mode": true, "init_lora_weights": true, "loftq_config": {"a": 1},
    "megatron_core": "megatron.core", "revision": "main", "task_type": "CAUSAL_LM", "corda_config": {"a": 1}, "eva_config": {"rho": 2.0}, "lora_ga_config": {"a": 1},
    "qalora_group_size": 16, "runtime_config": {"ephemeral_gpu_offload": false})")
          .others.empty());
}

TEST_CASE("initialisations that change the base weight are listed", "[io]") {
  for (auto const* const v : {"true", "false", "null", "\"gaussian\"", "\"eva\"", "\"orthogonal\"", "\"mica\""})
    CHECK(parse("\"init_lora_weights\": "s + v).others.empty());
  for (auto const* const v : {"pissa", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga"}) {
    auto const c = parse("\"init_lora_weights\": \""s + v + "\"");
    INFO(v);
    REQUIRE(c.others.size() == 1);
    CHECK(c.others[0].name == "init_lora_weights");
    CHECK(c.others[0].changes_result);
    CHECK(contains(c.others[0].reason, "changes the base weight"));
  }
}

TEST_CASE("real configurations are understood", "[io]") {
  for (auto const* const name :
       {"lora_plain", "lora_patterns", "lora_bias_all", "lora_modules_to_save", "lora_regex", "lora_rslora",
        "lora_all_linear", "boft_m1", "boft_m3", "oft_default", "oft_exact_cayley", "hra", "ia3", "ln_tuning"}) {
    INFO(name);
    auto const c = adapter_config::read(data_folder + "/peft_checkpoints/" + name + "/adapter_config.json");
    CHECK(c.others.empty());
    CHECK(c.peft_version == "0.21.2");
  }
}

TEST_CASE("listed modules are whole names or their ends after a dot", "[io]") {
  auto const c = parse(R"("target_modules": ["q_proj", "mlp.up", "lm_head"])");
  CHECK(c.targets("q_proj"));
  CHECK(c.targets("model.layers.0.q_proj"));
  CHECK(c.targets("a.mlp.up"));
  CHECK(c.targets("lm_head"));
  CHECK_FALSE(c.targets("xq_proj"));
  CHECK_FALSE(c.targets("a.xq_proj"));
  CHECK_FALSE(c.targets("q_proj.x"));
  CHECK_FALSE(c.targets("a.up"));
  CHECK_FALSE(c.targets("amlp.up"));
  CHECK_FALSE(c.targets(""));
  CHECK_FALSE(parse(R"("target_modules": ["q.proj"])").targets("qxproj"));  // no expression
  CHECK_FALSE(parse(R"("target_modules": [".*"])").targets("a"));
  CHECK_FALSE(parse("").targets("q_proj"));
  CHECK_FALSE(parse(R"("target_modules": [])").targets("q_proj"));
}

TEST_CASE("a string is one expression over the whole name", "[io]") {
  auto const c = parse(R"j("target_modules": ".*\\.layers\\.1\\.(self_attn\\.(q|o)_proj|mlp\\.gate_proj)")j");
  CHECK(c.targets("model.layers.1.self_attn.q_proj"));
  CHECK(c.targets("model.layers.1.mlp.gate_proj"));
  CHECK_FALSE(c.targets("model.layers.11.self_attn.q_proj"));
  CHECK_FALSE(c.targets("model.layers.1.self_attn.v_proj"));
  CHECK_FALSE(c.targets("layers.1.mlp.gate_proj"));
  CHECK_FALSE(c.targets("model.layers.1.mlp.gate_proj.x"));
  CHECK_FALSE(parse(R"("target_modules": "q_proj")").targets("a.q_proj"));  // not an end
  CHECK(parse(R"("target_modules": "all-linear")").targets("any.name"));
}

TEST_CASE("excluded modules are not adapted", "[io]") {
  auto const list = parse(R"("target_modules": ["q", "v"], "exclude_modules": ["0.q", "v"])");
  CHECK(list.targets("h.1.q"));
  CHECK_FALSE(list.targets("h.0.q"));
  CHECK(list.targets("h.10.q"));
  CHECK_FALSE(list.targets("h.1.v"));
  auto const text = parse(R"("target_modules": "all-linear", "exclude_modules": ".*\\.0\\..*|lm_head")");
  CHECK(text.targets("h.1.q"));
  CHECK_FALSE(text.targets("h.0.q"));
  CHECK_FALSE(text.targets("lm_head"));
  CHECK(text.targets("a.lm_head"));
  CHECK(parse(R"("target_modules": ["q"], "exclude_modules": "")").targets("q"));
  CHECK(parse(R"("target_modules": ["q"], "exclude_modules": [])").targets("q"));
}

TEST_CASE("modules that are saved whole are not adapted", "[io]") {
  auto const c = parse(R"("target_modules": ["dense", "lm_head"], "modules_to_save": ["classifier", "lm_head"])");
  CHECK(c.targets("encoder.dense"));
  CHECK_FALSE(c.targets("lm_head"));
  CHECK_FALSE(c.targets("model.lm_head"));
  CHECK_FALSE(c.targets("classifier.dense"));  // inside of one
  CHECK_FALSE(c.targets("a.classifier.b.dense"));
  CHECK(c.targets("xclassifier.dense"));
  CHECK(c.targets("classifierx.dense"));
  CHECK_FALSE(parse(R"("target_modules": "all-linear", "modules_to_save": ["score"])").targets("score"));
  CHECK_FALSE(parse(R"("target_modules": ".*", "modules_to_save": ["h.0"])").targets("h.0.q"));
}

TEST_CASE("layers_to_transform keeps the layers of these numbers", "[io]") {
  auto const c = parse(R"("target_modules": ["q", "h.2.k", "m.h.5.q"], "layers_to_transform": [1, 3])");
  CHECK(c.targets("m.h.1.q"));
  CHECK(c.targets("m.layers.3.a.q"));
  CHECK_FALSE(c.targets("m.h.2.q"));
  CHECK_FALSE(c.targets("m.h.13.q"));
  CHECK(c.targets("m.h.01.q"));                // a number, not a text
  CHECK_FALSE(c.targets("m.q"));               // no layer
  CHECK(c.targets("q"));                       // a whole name is not asked for its layer
  CHECK(c.targets("m.layers.1.experts.0.q"));  // the first number
  CHECK_FALSE(c.targets("m.layers.0.experts.1.q"));
  CHECK_FALSE(c.targets("m.h.1x.q"));
  CHECK_FALSE(c.targets("m.h.x1.q"));
  CHECK_FALSE(c.targets("m.h.99999999999999999999999.q"));
  CHECK_FALSE(c.targets("m.h.18446744073709551617.q"));  // 2^64 + 1
  // .*?\.[^.]*\.(\d+)\. wants a dot before the name before the number.
  CHECK_FALSE(c.targets("h.1.q"));
  CHECK(c.targets(".h.1.q"));
  CHECK(c.targets("a.0.1.q"));  // "0" is that name here
  CHECK_FALSE(c.targets("a.0.2.q"));
  // A whole name is adapted in any layer, an end is not.
  CHECK(c.targets("m.h.5.q"));
  CHECK_FALSE(c.targets("x.m.h.5.q"));
  CHECK_FALSE(c.targets("m.h.2.k"));
  CHECK(parse(R"("target_modules": ["q"], "layers_to_transform": [])").targets("m.h.7.q"));
  CHECK(parse(R"("target_modules": ["q"], "layers_to_transform": 7)").targets("m.h.7.q"));
  CHECK_FALSE(parse(R"("target_modules": ["q"], "layers_to_transform": 0)").targets("m.h.7.q"));
}

TEST_CASE("layers_pattern says after which name the number stands", "[io]") {
  auto const c = parse(R"("target_modules": ["q"], "layers_to_transform": [1], "layers_pattern": "layers")");
  CHECK(c.targets("m.layers.1.q"));
  CHECK(c.targets("m.3.layers.1.q"));
  CHECK(c.targets("m.blocks.3.layers.1.q"));
  CHECK_FALSE(c.targets("m.blocks.1.layers.3.q"));
  CHECK_FALSE(c.targets("m.h.1.q"));
  CHECK_FALSE(c.targets("m.xlayers.1.q"));
  CHECK_FALSE(c.targets("layers.1.q"));
  // The first that is found at all decides, not the first in the name.
  auto const two =
      parse(R"("target_modules": ["q"], "layers_to_transform": [1], "layers_pattern": ["experts", "layers"])");
  CHECK(two.targets("m.layers.0.experts.1.q"));
  CHECK_FALSE(two.targets("m.layers.1.experts.0.q"));
  CHECK(two.targets("m.layers.1.q"));
  // An expression.
  CHECK(parse(R"("target_modules": ["q"], "layers_to_transform": [1], "layers_pattern": "decoder\\.layers")")
            .targets("m.decoder.layers.1.q"));
  CHECK(parse(R"("target_modules": ["q"], "layers_to_transform": [1], "layers_pattern": "decoder.layers")")
            .targets("m.decoder.layers.1.q"));
  CHECK(parse(R"("target_modules": ["q"], "layers_to_transform": [1], "layers_pattern": "[hl]")").targets("m.l.1.q"));
  refused(R"("target_modules": ["q"], "layers_to_transform": [1], "layers_pattern": "layers|h")", "layers_pattern",
          R"(are not supported in "layers|h")");
  refused(R"("target_modules": ["q"], "layers_to_transform": [1], "layers_pattern": ["h", ".*"])", "layers_pattern",
          R"(are not supported in ".*")");
}

TEST_CASE("combinations that PEFT refuses are refused", "[io]") {
  refused(R"("target_modules": ".*q", "layers_to_transform": [1])", "layers_to_transform",
          "cannot be used when target_modules is a string");
  refused(R"("target_modules": "all-linear", "layers_to_transform": 1)", "layers_to_transform",
          "cannot be used when target_modules is a string");
  refused(R"("target_modules": ["q"], "layers_pattern": "h")", "layers_pattern",
          "cannot be used without layers_to_transform");
}

TEST_CASE("rank_pattern and alpha_pattern: the first key that matches wins", "[io]") {
  auto const c = parse(
      R"("r": 8, "lora_alpha": 16, "rank_pattern": {"layers\\.1\\..*q": 2, "q": 4, "1.k": 5, "^m\\.v": 6, "a|b": 7},
                          "alpha_pattern": {"q": 1.5})");
  CHECK(c.rank_of("m.layers.0.q") == 4);
  CHECK(c.rank_of("m.layers.1.q") == 2);
  CHECK(c.rank_of("m.layers.1.self.q") == 2);
  CHECK(c.rank_of("q") == 4);
  CHECK(c.rank_of("xq") == 8);
  CHECK(c.rank_of("q.x") == 8);
  CHECK(c.rank_of("m.1.k") == 5);
  CHECK(c.rank_of("m.10k") == 5);  // an expression
  CHECK(c.rank_of("m.1k") == 8);
  CHECK(c.rank_of("m.v") == 6);
  CHECK(c.rank_of("x.m.v") == 8);
  CHECK(c.rank_of("m.a") == 7);
  CHECK(c.rank_of("m.b") == 7);
  CHECK(c.rank_of("ma") == 8);
  CHECK(c.alpha_of("m.q") == 1.5);
  CHECK(c.alpha_of("m.k") == 16);
  auto const swapped = parse(R"("rank_pattern": {"q": 4, "layers\\.1\\..*q": 2})");
  CHECK(swapped.rank_of("m.layers.1.q") == 4);
  // A key that is the name itself counts though it does not match as an expression, but after those that do.
  auto const exact = parse(R"("rank_pattern": {"m.a[0]": 3, "m.a+": 4, "a\\+": 5})");
  CHECK(exact.rank_of("m.a[0]") == 3);
  CHECK(exact.rank_of("m.a+") == 5);
}

TEST_CASE("a rank is exact whatever its size", "[io]") {
  CHECK(parse(R"("r": 9007199254740993)").rank_of("q") == 9'007'199'254'740'993);  // 2^53 + 1 is no double
  CHECK(parse(R"("r": 9223372036854775807)").rank_of("q") == INT64_MAX);
  CHECK(parse(R"("r": 8, "rank_pattern": {"q": 4611686018427387904})").rank_of("q") == index_t{1} << 62);
}

TEST_CASE("expressions that are not supported are found when they are read", "[io]") {
  auto const refuses = [](std::string const& members, std::string_view pattern) {
    INFO(members);
    auto const e = refusal<pattern_error>([&] { return parse(members); });
    CHECK(contains(e.pattern, pattern));
    CHECK(contains(e.what(), pattern));
  };
  refuses(R"("target_modules": "q{2}")", "q{2}");
  refuses(R"j("exclude_modules": "(?!q)")j", "(?!q)");
  refuses(R"j("rank_pattern": {"(?i)q": 4})j", "(?i)q");
  refuses(R"j("alpha_pattern": {"q)": 4})j", "q)");
  refuses(R"("modules_to_save": ["lm_head{2}"])", "lm_head{2}");
  refuses(R"("target_modules": ["q"], "layers_to_transform": [1], "layers_pattern": "[h")", "[h");
}
