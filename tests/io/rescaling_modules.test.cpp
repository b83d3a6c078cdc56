// (IA)3 and LN tuning in the files of PEFT.
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <graft/io/peft_checkpoint.hpp>

#include <catch2/catch_test_macros.hpp>

#include "io/files.hpp"
#include "io/made_checkpoint.hpp"

using graft::argument_error;
using graft::bfloat16;
using graft::float16;
using graft::index_t;
using graft::shape_error;
using graft::io::adapted_module;
using graft::io::adapter_config;
using graft::io::adapter_kind;
using graft::io::dtype;
using graft::io::format_error;
using graft::io::peft_checkpoint;
using namespace tests;
using namespace std::string_literals;

namespace {

std::string const l = "base_model.model.m.q.ia3_l";
std::string const weight = "base_model.model.m.norm.ln_tuning_layers.weight";
std::string const bias = "base_model.model.m.norm.ln_tuning_layers.bias";

struct ia3 : made {
  explicit ia3(std::string const& members = R"("feedforward_modules": ["down"])",
               std::string const& targets = R"(["q", "down"])")
      : made(R"("target_modules": )" + targets + (members.empty() ? "" : ", ") + members, "IA3") {}
};
struct ln_tuning : made {
  explicit ln_tuning(std::string const& members = R"("target_modules": ["norm"])") : made(members, "LN_TUNING") {}
};

adapted_module const& module_of(peft_checkpoint const& c, std::string_view name) {
  auto const* const m = c.find(name);
  REQUIRE(m != nullptr);
  return *m;
}
std::vector<float> stored(std::string const& folder, std::string const& tensor) {
  return graft::io::safetensors_file::read(data_folder + "/peft_checkpoints/" + folder + "/adapter_model.safetensors")
      .read_as<float>(tensor);
}
/// Is a module of this name a feed-forward one, by these members of the configuration?
bool feedforward(std::string const& members, std::string const& module) {
  return adapter_config::parse(R"({"peft_type": "IA3", )" + members + "}", "c").is_feedforward(module);
}
template <class T, class V>
bool of_type(V const&) {
  return std::is_same_v<typename V::value_type, T>;
}

}  // namespace

TEST_CASE("(IA)3 of PEFT scales outputs, and inputs of feed-forward modules", "[io]") {
  auto const c = real("ia3");
  CHECK(c.others().empty());
  CHECK(c.replaced().empty());
  REQUIRE(c.modules().size() == 6);
  for (auto const& m : c.modules()) {
    INFO(m.name);
    auto const numbers = stored("ia3", "base_model.model." + m.name + ".ia3_l");
    CHECK((m.targeted && m.rank == 0 && m.type == dtype::f32 && !m.fan_in_fan_out));
    if (m.name.ends_with("down_proj")) {
      CHECK(m.kind == adapter_kind::ia3_feedforward);
      CHECK(graft::io::name(m.kind) == "(IA)3 on inputs");
      CHECK(m.in_features == 128);
      CHECK(m.out_features == 0);
      CHECK(c.visit(m.name, only([&](an_ia3_feedforward auto const& a) { return holds(a.l, numbers); })));
    } else {
      CHECK(m.kind == adapter_kind::ia3);
      CHECK(graft::io::name(m.kind) == "(IA)3");
      CHECK(m.in_features == 0);
      CHECK(m.out_features == 64);
      CHECK(c.visit(m.name, only([&](an_ia3 auto const& a) { return holds(a.l, numbers); })));
    }
  }
}

TEST_CASE("LN tuning of PEFT takes the place of the base's tensors, and hands out vectors", "[io]") {
  auto const c = real("ln_tuning");
  CHECK(c.others().empty());
  REQUIRE(c.modules().size() == 2);
  CHECK(replaced(c) ==
        std::vector<std::string>{"model.layers.0.input_layernorm.weight", "model.layers.1.input_layernorm.weight"});
  for (auto const& m : c.modules()) {
    INFO(m.name);
    auto const numbers = stored("ln_tuning", "base_model.model." + m.name + ".ln_tuning_layers.weight");
    CHECK(m.kind == adapter_kind::ln_tuning);
    CHECK(graft::io::name(m.kind) == "LN tuning");
    CHECK((m.in_features == 64 && m.out_features == 64 && !m.has_bias && m.targeted && m.type == dtype::f32));
    CHECK(c.read_replaced(m.name + ".weight") == numbers);
    CHECK(c.visit_norm(m.name, [&](auto const& w, auto const& b) {
      return holds(w, numbers) && std::is_same_v<std::remove_cvref_t<decltype(b)>, graft::none_t>;
    }));
  }
}

TEST_CASE("scales and norms are handed out in the type that they are stored in", "[io]") {
  auto const check = []<class T>(T, dtype type) {
    auto const c = ia3(R"("feedforward_modules": ["down"], "fan_in_fan_out": true)")
                       .add<T>(l, {3, 1})
                       .template add<T>("base_model.model.m.down.ia3_l", {1, 5})
                       .load();
    CHECK(c.others().empty());
    CHECK((module_of(c, "m.q").type == type && module_of(c, "m.down").type == type));
    CHECK((module_of(c, "m.q").fan_in_fan_out && module_of(c, "m.down").fan_in_fan_out));
    CHECK(c.visit("m.q", only([](an_ia3 auto const& a) { return of_type<T>(a.l) && holds(a.l, counted(1, 3)); })));
    // How many inputs a layer has whose outputs are scaled is not in the file.
    CHECK(c.visit("m.q", only([](an_ia3 auto const& a) { return a.out_features() == 3; }), 1000));
    auto const inputs = [](an_ia3_feedforward auto const& a) { return of_type<T>(a.l) && holds(a.l, counted(4, 5)); };
    CHECK(c.visit("m.down", only(inputs)));
    CHECK(c.visit("m.down", only(inputs), 5));
    CHECK(contains(refusal<shape_error>([&] { return c.visit("m.down", only(inputs), 3); }).what(),
                   "\"m.down\" has 5 input features; in_features is 3"));
    auto const n = ln_tuning().add<T>(weight, {4}).template add<T>(bias, {4}).load();
    CHECK(n.others().empty());
    CHECK(replaced(n) == std::vector<std::string>{"m.norm.bias", "m.norm.weight"});
    CHECK(n.read_replaced("m.norm.weight") == counted(1, 4));
    CHECK(n.read_replaced("m.norm.bias") == counted(5, 4));
    CHECK(n.replaced_info("m.norm.bias").name == bias);
    CHECK((module_of(n, "m.norm").type == type && module_of(n, "m.norm").has_bias));
    CHECK((module_of(n, "m.norm").in_features == 4 && module_of(n, "m.norm").out_features == 4));
    CHECK(n.visit_norm("m.norm", []<class B>(auto const& w, B const& b) {
      if constexpr (std::is_same_v<B, graft::none_t>) return false;
      else return of_type<T>(w) && of_type<T>(b) && holds(w, counted(1, 4)) && holds(b, counted(5, 4));
    }));
  };
  check(float{}, dtype::f32);
  check(bfloat16{}, dtype::bf16);
  check(float16{}, dtype::f16);
}

TEST_CASE("scales and norms of other types are listed, of mixed types refused", "[io]") {
  only_listed(ia3().add<double>(l, {3, 1}), {l}, "elements of type F64 are not computed with");
  only_listed(ln_tuning().add<double>(weight, {4}), {weight}, "elements of type F64 are not computed with");
  CHECK(ln_tuning().add<double>(weight, {4}).load().replaced().empty());
  refused(ln_tuning().add<float16>(bias, {4}).add(weight, {4}), bias, "is stored as another type than \"" + weight);
}

TEST_CASE("feed-forward modules: names that end so, dot or not, or one expression", "[io]") {
  std::string const list = R"("feedforward_modules": ["down", "mlp.up"])";
  for (auto const* const yes : {"down", "m.down", "m.xdown", "mlp.up", "amlp.up"}) CHECK(feedforward(list, yes));
  for (auto const* const no : {"m.down.x", "m.up", "m.dow", "", "m.mlpxup"}) CHECK_FALSE(feedforward(list, no));
  std::string const text = R"j("feedforward_modules": ".*\\.(down|up)")j";
  for (auto const* const yes : {"m.down", "a.b.up"}) CHECK(feedforward(text, yes));
  for (auto const* const no : {"down", "m.xdown", "m.down.x", ""}) CHECK_FALSE(feedforward(text, no));
  for (auto const* const none : {R"("feedforward_modules": null)", R"("feedforward_modules": [])", R"("r": 1)"})
    CHECK_FALSE(feedforward(none, "m.down"));
  // By pattern and by list, the module is the same.
  for (auto const* const members : {R"("feedforward_modules": ["q"])", R"("feedforward_modules": ".*q")"}) {
    auto const c = ia3(members).add(l, {1, 5}).load();
    CHECK(module_of(c, "m.q").kind == adapter_kind::ia3_feedforward);
    CHECK(c.visit("m.q", only([](an_ia3_feedforward auto const& a) { return holds(a.l, counted(1, 5)); })));
  }
  CHECK(module_of(ia3(R"("feedforward_modules": ".*q")", R"(".*q")").add(l, {1, 5}).load(), "m.q").targeted);
}

TEST_CASE("listed feed-forward modules are among the listed target_modules, as PEFT has it", "[io]") {
  ia3 const m(R"("feedforward_modules": ["down", "u\u001bp"])");
  m.save();
  auto const e = refusal<format_error>([&] { return peft_checkpoint::load(m.path()); });
  CHECK(e.file == m.config());
  CHECK(e.tensor == "feedforward_modules");
  CHECK(contains(e.what(), R"("u\x1bp" is not among the target_modules)"));
  // Only where both are lists.
  CHECK(ia3(R"("feedforward_modules": ["up"])", R"(".*")").add(l, {3, 1}).load().modules().size() == 1);
  CHECK(ia3(R"("feedforward_modules": "up")").add(l, {3, 1}).load().modules().size() == 1);
  CHECK(feedforward(R"("feedforward_modules": ["up"])", "m.up"));
  ia3 const bad(R"("feedforward_modules": "(q")");
  bad.save();
  CHECK(refusal<graft::io::pattern_error>([&] { return peft_checkpoint::load(bad.path()); }).pattern == "(q");
}

TEST_CASE("a vector of (IA)3 lies as its module asks", "[io]") {
  refused(ia3().add(l, {1, 3}), l,
          "must be one column, since the module is not among the feedforward_modules of the configuration");
  refused(ia3(R"("feedforward_modules": ["q"])").add(l, {3, 1}), l,
          "must be one row, since the module is among the feedforward_modules of the configuration");
  refused(ia3().add(l, {3, 2}), l, "must be one column");
  refused(ia3().add(l, {3}), l, "must have two dimensions");
  refused(ia3().add(l, {1, 1, 1, 1, 1, 3}), l, "must have two dimensions");
  refused(ia3().add(l, {0, 1}), l, "is empty");
  CHECK(ia3().add(l, {1, 1}).load().find("m.q")->out_features == 1);
  for (auto const& shape : {std::vector<index_t>{1, 3, 1}, {1, 3, 1, 1}, {1, 3, 1, 1, 1}})
    only_listed(ia3().add(l, shape), {l}, "(IA)3 on a convolution is not computed by this version");
}

TEST_CASE("LN tuning files that contradict themselves are refused", "[io]") {
  refused(ln_tuning().add(bias, {4}), bias, "there is no ln_tuning_layers.weight beside it");
  refused(ln_tuning().add(weight, {0}), weight, "is empty");
  refused(ln_tuning().add(weight, {4}).add(bias, {5}), bias, "must have 4 elements");
  refused(ln_tuning().add(weight, {4}).add(bias, {4, 1}), bias, "must have 4 elements");
  only_listed(ln_tuning().add(weight, {3, 4}), {weight}, "LN tuning of a layer whose weight is not a vector");
  only_listed(ln_tuning().add(weight, {3, 4}).add(bias, {3}), {weight, bias}, "whose weight is not a vector");
  CHECK(ln_tuning().add(weight, {3, 4}).load().replaced().empty());
  std::string const running = "base_model.model.m.norm.ln_tuning_layers.running_mean";
  only_listed(ln_tuning().add(running, {4}), {running}, "this kind of LN tuning tensor is not computed");
}

TEST_CASE("a saved module and LN tuning cannot both take the place of one tensor", "[io]") {
  // PEFT saves whatever has "orm." in its name; "m.norm" is not "orm", so it is adapted all the same.
  refused(ln_tuning(R"("target_modules": ["norm"], "modules_to_save": ["orm"])")
              .add("base_model.model.m.norm.weight", {4})
              .add(weight, {4}),
          weight, "takes the place of \"m.norm.weight\", and so does \"base_model.model.m.norm.weight\"");
  auto const both = ln_tuning(R"("target_modules": ["norm"], "modules_to_save": ["head"])")
                        .add("base_model.model.head.weight", {2, 2})
                        .add(weight, {4})
                        .load();
  CHECK(replaced(both) == std::vector<std::string>{"head.weight", "m.norm.weight"});
  CHECK(both.others().empty());
}

TEST_CASE("scales and norms of modules that the configuration would not adapt are listed too", "[io]") {
  auto const check = [](peft_checkpoint const& c, std::string const& tensor) {
    REQUIRE(c.modules().size() == 1);
    CHECK_FALSE(c.modules()[0].targeted);
    REQUIRE(c.others().size() == 1);
    CHECK(c.others()[0].name == tensor);
    CHECK(contains(c.others()[0].reason, "would not adapt this module; it is handed out all the same"));
    CHECK(c.replaced().empty());
  };
  check(ia3("", R"(["k"])").add(l, {3, 1}).load(), l);
  auto const n = ln_tuning(R"("target_modules": ["other"])").add(weight, {4}).load();
  check(n, weight);
  CHECK(n.visit_norm("m.norm", [](auto const& w, auto const&) { return holds(w, counted(1, 4)); }));
  check(ln_tuning(R"("target_modules": ["norm"], "exclude_modules": ["m.norm"])").add(weight, {4}).load(), weight);
  check(ln_tuning(R"("target_modules": ["norm"], "modules_to_save": ["m"])").add(weight, {4}).load(), weight);
}

TEST_CASE("scales and norms are not handed out by other calls", "[io]") {
  auto const nothing = [](auto const&...) { return 0; };
  auto const c = ia3().add(l, {3, 1}).add("base_model.model.m.down.ia3_l", {1, 5}).load();
  auto const says = [&](auto const& call, std::string_view what) {
    auto const e = refusal<argument_error>(call);
    INFO(e.what());
    CHECK(std::string_view(e.what()).ends_with(what));
  };
  says([&] { return c.visit_norm("m.q", nothing); }, "::visit_norm: \"m.q\" is (IA)3; use visit");
  says([&] { return c.visit_embedding("m.q", nothing); }, "::visit_embedding: \"m.q\" is (IA)3; use visit");
  says([&] { return c.visit_experts("m.down", nothing); }, "::visit_experts: \"m.down\" is (IA)3 on inputs; use visit");
  says([&] { return c.lora<float>("m.q").scale; }, "is (IA)3; use visit");
  auto const n = ln_tuning().add(weight, {4}).load();
  says([&] { return n.visit("m.norm", nothing); }, "::visit: \"m.norm\" is LN tuning; use visit_norm");
  says([&] { return n.visit("m.norm", nothing, 4); }, "::visit: \"m.norm\" is LN tuning; use visit_norm");
  says([&] { return n.visit_embedding("m.norm", nothing); }, "is LN tuning; use visit_norm");
  says([&] { return n.visit_experts("m.norm", nothing); }, "is LN tuning; use visit_norm");
  CHECK(contains(refusal<argument_error>([&] { return n.visit_norm("m.q", nothing); }).what(),
                 "\"m.q\" is not an adapted module of"));
}
