#include <graft/io/peft_checkpoint.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "io/files.hpp"
#include "io/made_checkpoint.hpp"

using graft::argument_error;
using graft::bfloat16;
using graft::float16;
using graft::index_t;
using graft::io::adapter_kind;
using graft::io::dtype;
using graft::io::file_error;
using graft::io::format_error;
using graft::io::peft_checkpoint;
using graft::io::unsupported_error;
using tests::contains;
using tests::data_folder;
using tests::made;
using tests::names;
using tests::only_listed;
using tests::other;
using tests::real;
using tests::refusal;
using tests::refused;
using tests::replaced;
using namespace std::string_literals;

namespace {

/// For `visit` of what must be a LoRA: f is not asked to take anything else.
template <class F>
auto only_lora(F f) {
  return [f]<class Adapter>(Adapter const& a) {
    if constexpr (requires { Adapter::has_bias; }) return f(a);
    else
      return decltype(f(std::declval<graft::lora<peft_checkpoint::matrix<float>, peft_checkpoint::matrix<float>>>())){};
  };
}

std::string const A = "base_model.model.m.q.lora_A.weight";
std::string const B = "base_model.model.m.q.lora_B.weight";
std::string const bias = "base_model.model.m.q.lora_B.bias";
std::string const magnitude = "base_model.model.m.q.lora_magnitude_vector";
std::string const with_dora = R"("r": 2, "lora_alpha": 2, "target_modules": ["q"], "use_dora": true)";
std::string const lambda_d = "base_model.model.m.q.vera_lambda_d";
std::string const lambda_b = "base_model.model.m.q.vera_lambda_b";
struct vera : made {
  explicit vera(std::string const& members) : made(members, "VERA") {}
};

}  // namespace

TEST_CASE("a real checkpoint hands out its modules", "[io]") {
  auto const c = real("lora_plain");
  CHECK(names(c) == std::vector<std::string>{"model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj",
                                             "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj"});
  CHECK(c.others().empty());
  CHECK(c.replaced().empty());
  CHECK(c.config().r == 8);
  auto const* const m = c.find("model.layers.1.self_attn.v_proj");
  REQUIRE(m != nullptr);
  CHECK(m->rank == 8);
  CHECK(m->in_features == 64);
  CHECK(m->out_features == 64);
  CHECK(m->alpha == 16);
  CHECK(m->scale == 2);
  CHECK(m->dropout == 0);
  CHECK(m->type == dtype::f32);
  CHECK((m->targeted && !m->rslora && !m->has_bias && !m->fan_in_fan_out));
  CHECK(c.find("model.layers.2.self_attn.v_proj") == nullptr);
  CHECK(c.find("v_proj") == nullptr);

  // The numbers are the file's, aligned.
  auto const f =
      graft::io::safetensors_file::read(data_folder + "/peft_checkpoints/lora_plain/adapter_model.safetensors");
  auto const a = f.read_as<float>("base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight");
  auto const b = f.read_as<float>("base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight");
  auto const q = c.lora<float>("model.layers.1.self_attn.v_proj");
  CHECK(q.scale.value() == 2);
  REQUIRE(q.A.shape() == std::array<index_t, 2>{8, 64});
  REQUIRE(q.B.shape() == std::array<index_t, 2>{64, 8});
  CHECK(std::equal(a.begin(), a.end(), q.A.data_handle()));
  CHECK(std::equal(b.begin(), b.end(), q.B.data_handle()));
  CHECK(reinterpret_cast<std::uintptr_t>(q.A.data_handle()) % 64 == 0);
  CHECK(reinterpret_cast<std::uintptr_t>(q.B.data_handle()) % 64 == 0);
}

TEST_CASE("rsLoRA scales by the root of the rank", "[io]") {
  auto const c = real("lora_rslora");
  REQUIRE(c.modules().size() == 4);
  for (auto const& m : c.modules()) {
    CHECK(m.rslora);
    CHECK(m.rank == 16);
    CHECK(m.scale == 2);  // 8 / sqrt(16)
    CHECK(c.lora<float>(m.name).scale.value() == 2);
  }
  CHECK(c.find("model.layers.0.mlp.down_proj")->in_features == 128);
}

TEST_CASE("ranks and alphas of patterns", "[io]") {
  auto const c = real("lora_patterns");
  auto const is = [&](char const* name, index_t rank, double alpha) {
    INFO(name);
    auto const* const m = c.find(name);
    REQUIRE(m != nullptr);
    CHECK(m->rank == rank);
    CHECK(m->alpha == alpha);
    CHECK(m->scale == alpha / static_cast<double>(rank));
  };
  is("model.layers.0.self_attn.q_proj", 4, 16);
  is("model.layers.1.self_attn.q_proj", 4, 16);
  is("model.layers.0.self_attn.v_proj", 8, 32);
  is("model.layers.0.mlp.up_proj", 8, 16);
  is("model.layers.1.mlp.up_proj", 2, 16);
  CHECK(c.others().empty());
}

TEST_CASE("modules of a regular expression and of all-linear are targeted", "[io]") {
  CHECK(names(real("lora_regex")) == std::vector<std::string>{"model.layers.1.mlp.gate_proj",
                                                              "model.layers.1.self_attn.o_proj",
                                                              "model.layers.1.self_attn.q_proj"});
  CHECK(real("lora_all_linear").modules().size() == 14);
  for (auto const* const name : {"lora_regex", "lora_all_linear"}) {
    auto const c = real(name);
    CHECK(c.others().empty());
    for (auto const& m : c.modules()) CHECK(m.targeted);
  }
}

TEST_CASE("trained biases of the base model replace its own", "[io]") {
  auto const c = real("lora_bias_all");
  CHECK(replaced(c) ==
        std::vector<std::string>{"model.layers.0.self_attn.k_proj.bias", "model.layers.0.self_attn.o_proj.bias",
                                 "model.layers.0.self_attn.q_proj.bias", "model.layers.0.self_attn.v_proj.bias",
                                 "model.layers.1.self_attn.k_proj.bias", "model.layers.1.self_attn.o_proj.bias",
                                 "model.layers.1.self_attn.q_proj.bias", "model.layers.1.self_attn.v_proj.bias"});
  CHECK(c.others().empty());
  auto const f =
      graft::io::safetensors_file::read(data_folder + "/peft_checkpoints/lora_bias_all/adapter_model.safetensors");
  CHECK(c.read_replaced("model.layers.0.self_attn.q_proj.bias") ==
        f.read_as<float>("base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias"));
  CHECK(c.read_replaced("model.layers.0.self_attn.k_proj.bias") ==
        f.read_as<float>("base_model.model.model.layers.0.self_attn.k_proj.bias"));
  CHECK(c.replaced_info("model.layers.0.self_attn.q_proj.bias").shape == std::vector<index_t>{64});
  for (auto const& m : c.modules()) CHECK_FALSE(m.has_bias);  // that would be lora_bias
}

TEST_CASE("saved modules replace the base's", "[io]") {
  auto const c = real("lora_modules_to_save");
  CHECK(replaced(c) == std::vector<std::string>{"lm_head.weight"});
  CHECK(c.replaced_info("lm_head.weight").shape == std::vector<index_t>{256, 64});
  CHECK(c.read_replaced("lm_head.weight").size() == 256 * 64);
  CHECK(c.modules().size() == 2);
  CHECK(c.others().empty());
  for (auto const* const absent : {"lm_head.bias", "model.layers.0.self_attn.q_proj", ""}) {
    auto const e = refusal<format_error>([&] { return c.read_replaced(absent); });
    CHECK(e.tensor == absent);
    CHECK(contains(e.what(), "no base tensor of this name is replaced"));
    CHECK(refusal<format_error>([&] { return c.replaced_info(absent).shape; }).tensor == absent);
  }
}

TEST_CASE("adapters are handed out in the type that they are stored in", "[io]") {
  auto const check = []<class T>(T, dtype type) {
    auto const c = made().lora<T>("m.q").load();
    CHECK(c.find("m.q")->type == type);
    CHECK(c.find("m.q")->scale == 2);
    bool called = false;
    int const result = c.visit("m.q", only_lora([&]<class Adapter>(Adapter const& q) {
                                 called = std::is_same_v<typename decltype(q.A)::value_type, T> &&
                                          std::is_same_v<typename decltype(q.B)::value_type, T>;
                                 CHECK_FALSE(Adapter::has_bias);
                                 CHECK(q.A.shape() == std::array<index_t, 2>{2, 5});
                                 CHECK(q.B.shape() == std::array<index_t, 2>{3, 2});
                                 CHECK(graft::load_as<float>(q.A(1, 0)) == 6.0F);
                                 CHECK(graft::load_as<float>(q.B(2, 1)) == 16.0F);
                                 CHECK(q.scale.value() == 2);
                                 return 7;
                               }));
    CHECK(called);
    CHECK(result == 7);
    CHECK(graft::load_as<float>(c.template lora<T>("m.q").A(0, 1)) == 2.0F);
    using wrong = std::conditional_t<std::is_same_v<T, float>, bfloat16, float>;
    auto const e = refusal<argument_error>([&] { return c.template lora<wrong>("m.q").scale; });
    CHECK(contains(e.what(), "\"m.q\" is stored as another type; use visit"));
  };
  check(float{}, dtype::f32);
  check(bfloat16{}, dtype::bf16);
  check(float16{}, dtype::f16);
}

TEST_CASE("a module that is not adapted is an argument_error", "[io]") {
  auto const c = made().lora("m.q").load();
  for (auto const* const name : {"q", "m.q.lora_A", "", "m.k"}) {
    auto const e = refusal<argument_error>([&] { return c.visit(name, [](auto const&) { return 0; }); });
    CHECK(contains(e.what(), graft::io::escaped(name) + " is not an adapted module of \""));
    CHECK_THROWS_AS(c.lora<float>(name), argument_error);
    CHECK(c.find(name) == nullptr);
  }
}

TEST_CASE("adapters outlive a move of the checkpoint", "[io]") {
  auto a = made().lora("m.q").load();
  auto const before = a.lora<float>("m.q");
  peft_checkpoint const b = std::move(a);
  CHECK(b.lora<float>("m.q").A.data_handle() == before.A.data_handle());
  CHECK(before.A(1, 4) == 10.0F);
}

TEST_CASE("lora_bias is part of the adapter", "[io]") {
  auto const c =
      made(R"("r": 2, "lora_alpha": 4, "target_modules": ["q"], "lora_bias": true)").lora("m.q").add(bias, {3}).load();
  CHECK(c.find("m.q")->has_bias);
  CHECK(c.others().empty());
  bool const seen = c.visit("m.q", only_lora([]<class Adapter>(Adapter const& q) {
                              if constexpr (Adapter::has_bias)
                                return q.bias.extent(0) == 3 && graft::load_as<float>(q.bias(0)) == 17.0F &&
                                       graft::load_as<float>(q.bias(2)) == 19.0F;
                              else return false;
                            }));
  CHECK(seen);
  CHECK(contains(refusal<argument_error>([&] { return c.lora<float>("m.q").scale; }).what(), "has a bias; use visit"));

  std::string const with = R"("r": 2, "target_modules": ["q"], "lora_bias": true)";
  refused(made(with).lora("m.q").add(bias, {4}), bias, "must have 3 elements");
  refused(made(with).lora("m.q").add(bias, {3, 1}), bias, "must have 3 elements");
  refused(made(with).lora("m.q"), B, "there is no lora_B.bias beside it");
  refused(made().lora("m.q").add(bias, {3}), bias, "the configuration does not say lora_bias");
  refused(made(with).add(bias, {3}), bias, "there is no lora_A.weight beside it");
}

TEST_CASE("A without B and B without A are refused", "[io]") {
  refused(made().add(A, {2, 5}), A, "there is no lora_B.weight beside it");
  refused(made().add(B, {3, 2}), B, "there is no lora_A.weight beside it");
  refused(made().lora("m.k").add(A, {2, 5}), A, "there is no lora_B.weight beside it");
}

TEST_CASE("ranks that disagree are refused", "[io]") {
  refused(made().add(A, {2, 5}).add(B, {3, 4}), B, "has 4 columns but lora_A has 2 rows; both are the rank");
  refused(made().lora("m.q", 4), A, "has rank 4 but the configuration says 2");
  refused(made(R"("r": 2, "target_modules": ["q"], "rank_pattern": {"m.q": 3})").lora("m.q", 2), A,
          "has rank 2 but the configuration says 3");
  CHECK(made(R"("r": 2, "target_modules": ["q"], "rank_pattern": {"m.q": 3})").lora("m.q", 3).load().modules().size() ==
        1);
  refused(made()
              .lora("m.q", 2)
              .add("base_model.model.m.v.lora_A.weight", {0, 5})
              .add("base_model.model.m.v.lora_B.weight", {3, 0}),
          "base_model.model.m.v.lora_A.weight", "has rank 0");
}

TEST_CASE("types that do not fit are refused or listed", "[io]") {
  refused(made().add(A, {2, 5}).add<bfloat16>(B, {3, 2}), B,
          "is stored as another type than \"base_model.model.m.q.lora_A.weight\"");
  refused(made(R"("r": 2, "target_modules": ["q"], "lora_bias": true)").lora("m.q").add<float16>(bias, {3}), bias,
          "is stored as another type");
  only_listed(made().lora<double>("m.q"), {A, B}, "elements of type F64 are not computed with");
  only_listed(made().add<std::int8_t>(A, {2, 5}).add<std::int8_t>(B, {3, 2}), {A, B},
              "elements of type I8 are not computed with");
  auto const c = made().lora<double>("m.q").load();
  CHECK(other(c, A)->value == "F64[2, 5]");
}

TEST_CASE("convolutions: a kernel of 1 is a matrix, others are listed by their size", "[io]") {
  only_listed(made().add(A, {2, 5, 3, 3}).add(B, {3, 2, 1, 1}), {A, B}, "LoRA on a convolution whose kernel is 3 x 3");
  only_listed(made().add(A, {2, 5, 3}).add(B, {3, 2, 1}), {A, B}, "LoRA on a convolution whose kernel is 3 is");
  only_listed(made().add(A, {2, 5, 1, 1}).add(B, {3, 1, 1, 1}), {A, B}, "LoRA on a convolution in groups");
  only_listed(made().add(A, {2}).add(B, {3, 2}), {A, B}, "neither a matrix nor a convolution");
  auto const c = made().add(A, {2, 5, 1, 1}).add(B, {3, 2, 1, 1}).load();
  REQUIRE(c.modules().size() == 1);
  CHECK(c.find("m.q")->convolution);
  CHECK(c.lora<float>("m.q").A.shape() == std::array<index_t, 2>{2, 5});
  CHECK(c.lora<float>("m.q").B(2, 1) == 16);
  auto const d = made(with_dora).add(A, {2, 5, 1, 1}).add(B, {3, 2, 1, 1}).add(magnitude, {1, 3, 1, 1}).load();
  CHECK(d.find("m.q")->kind == adapter_kind::dora);
}

TEST_CASE("DoRA is handed out with its magnitude, and file and configuration must agree", "[io]") {
  auto const c = made(with_dora).lora("m.q").add(magnitude, {3}).load();
  CHECK(c.others().empty());
  CHECK(c.find("m.q")->kind == adapter_kind::dora);
  bool const seen = c.visit("m.q", []<class Adapter>(Adapter const& q) {
    if constexpr (requires { q.magnitude; })
      return graft::load_as<float>(q.low_rank.A(1, 4)) == 10 && q.low_rank.scale.value() == 1 &&
             q.magnitude.extent(0) == 3 && graft::load_as<float>(q.magnitude(0)) == 17;
    else return false;
  });
  CHECK(seen);
  CHECK(contains(refusal<argument_error>([&] { return c.lora<float>("m.q").scale; }).what(), "is DoRA; use visit"));
  refused(made(with_dora).lora("m.q"), B, "there is no lora_magnitude_vector beside it");
  refused(made().lora("m.q").add(magnitude, {3}), magnitude, "the configuration does not say use_dora");
  refused(made(with_dora).add(magnitude, {3}), magnitude, "there is no lora_A.weight beside it");
  refused(made(with_dora).lora("m.q").add(magnitude, {4}), magnitude, "must have 3 elements");
  refused(made(with_dora).lora("m.q").add(magnitude, {3, 2}), magnitude, "must have 3 elements");
  refused(made(with_dora).lora("m.q").add<bfloat16>(magnitude, {3}), magnitude, "is stored as another type");
  refused(made(R"("r": 2, "target_modules": ["q"], "use_dora": true, "lora_bias": true)")
              .lora("m.q")
              .add(magnitude, {3})
              .add(bias, {3}),
          bias, "DoRA has no lora_bias");
  auto const real_one = real("lora_dora");
  CHECK(real_one.modules().size() == 4);
  CHECK(real_one.others().empty());
}

TEST_CASE("embeddings are handed out by a call of their own", "[io]") {
  std::string const e = "base_model.model.m.embed.lora_embedding_";
  auto const make = [&](made&& m) -> made& { return m.add(e + "A", {2, 7}).add(e + "B", {3, 2}); };
  std::string const plain = R"("r": 2, "lora_alpha": 4, "target_modules": ["embed"])";
  auto const c = make(made(plain)).load();
  REQUIRE(c.modules().size() == 1);
  CHECK(c.modules()[0].kind == adapter_kind::lora_embedding);
  CHECK(c.modules()[0].in_features == 7);
  CHECK(c.modules()[0].out_features == 3);
  float const last = c.visit_embedding("m.embed", [](auto const& l) {
    if constexpr (requires { l.magnitude; }) return 0.0F;
    else
      return graft::load_as<float>(l.A(1, 6)) + 100 * graft::load_as<float>(l.B(2, 1)) +
             10000 * static_cast<float>(l.scale.value());
  });
  CHECK(last == 14 + 2000 + 20000);
  CHECK(contains(refusal<argument_error>([&] { return c.visit("m.embed", [](auto const&) { return 0; }); }).what(),
                 "is LoRA on an embedding; use visit_embedding"));
  CHECK(contains(
      refusal<argument_error>([&] { return c.visit_experts("m.embed", [](auto const&) { return 0; }); }).what(),
      "use visit_embedding"));
  std::string const vector = "base_model.model.m.embed.lora_magnitude_vector";
  std::string const dora = R"("r": 2, "target_modules": ["embed"], "use_dora": true)";
  auto const d = make(made(dora)).add(vector, {3}).load();
  CHECK(d.modules()[0].kind == adapter_kind::dora_embedding);
  CHECK(d.visit_embedding("m.embed", [](auto const& l) {
    if constexpr (requires { l.magnitude; })
      return graft::load_as<float>(l.magnitude(2)) == 23 && l.out_features() == 3;
    else return false;
  }));
  refused(make(made(dora)), e + "B", "there is no lora_magnitude_vector");
  refused(make(made(dora)).add(vector, {7}), vector, "must have 3 elements");
  refused(made(plain).add(e + "A", {2, 7}), e + "A", "there is no lora_embedding_B beside it");
  refused(made(plain).add(e + "A", {3, 7}).add(e + "B", {3, 3}), e + "A", "has rank 3 but the configuration says 2");
  refused(made(plain).add(e + "A", {2, 7}).add(e + "B", {2, 3}), e + "B", "has 3 columns but lora_A has 2 rows");
  refused(make(made(plain)).lora("m.embed"), e + "A", "both an embedding's LoRA and a layer's");
}

TEST_CASE("experts: the first parameter listed is the innermost", "[io]") {
  std::string const outer = "base_model.model.m.experts.lora_", inner = "base_model.model.m.experts.base_layer.lora_";
  std::string const both = R"("r": 2, "lora_alpha": 4, "target_parameters": ["experts.first", "experts.second"])";
  auto const two = [&](made&& m) -> made& {
    return m.add(inner + "A.weight", {6, 5})
        .add(inner + "B.weight", {3, 6})
        .add(outer + "A.weight", {6, 3})
        .add(outer + "B.weight", {5, 6});
  };
  auto const c = two(made(both)).load();
  CHECK(names(c) == std::vector<std::string>{"m.experts.first", "m.experts.second"});
  auto const* const first = c.find("m.experts.first");
  REQUIRE(first != nullptr);
  CHECK(first->kind == adapter_kind::lora_experts);
  CHECK(first->experts == 3);
  CHECK(first->rank == 2);
  CHECK(first->in_features == 5);
  CHECK(first->out_features == 3);
  CHECK(c.visit_experts("m.experts.first", [](auto const& l) {
    return l.experts == 3 && graft::load_as<float>(expert(l, 2).A(1, 4)) == 30 &&
           graft::load_as<float>(expert(l, 2).B(2, 1)) == 48;
  }));
  CHECK(contains(
      refusal<argument_error>([&] { return c.visit("m.experts.first", [](auto const&) { return 0; }); }).what(),
      "is LoRA on experts; use visit_experts"));
  // Layers beside them are what they were.
  CHECK(two(made(R"("r": 2, "target_modules": ["q"], "target_parameters": ["experts.first", "experts.second"])"))
            .lora("m.q")
            .load()
            .find("m.q")
            ->kind == adapter_kind::lora);
  only_listed(made().add(inner + "A.weight", {2, 5}).add(inner + "B.weight", {3, 2}),
              {inner + "A.weight", inner + "B.weight"},
              "no target_parameters of the configuration says which parameter this is");
  std::string const one = R"("r": 2, "target_parameters": ["experts.first"])";
  refused(made(one).add(outer + "A.weight", {5, 5}).add(outer + "B.weight", {3, 5}), outer + "A.weight",
          "has 5 rows, which is no multiple of the rank 2");
  refused(made(one).add(outer + "A.weight", {6, 5}).add(outer + "B.weight", {3, 4}), outer + "B.weight",
          "has 4 columns but lora_A has 6 rows");
  refused(made(R"("r": 2, "target_parameters": ["experts.first"], "use_dora": true)")
              .add(outer + "A.weight", {6, 5})
              .add(outer + "B.weight", {3, 6}),
          outer + "A.weight", "there is no DoRA on a fused parameter");
  auto const real_one = real("lora_mixtral_experts");
  CHECK(real_one.find("model.layers.0.mlp.experts.gate_up_proj")->out_features == 48);
  CHECK(real_one.find("model.layers.1.mlp.experts.down_proj")->in_features == 24);
  CHECK(real_one.others().empty());
}

TEST_CASE("VeRA: projections from the file, cut for the layer", "[io]") {
  auto const c = vera(R"("r": 2, "target_modules": ["q", "k"])")
                     .add("base_model.vera_A", {2, 7})
                     .add("base_model.vera_B", {4, 2})
                     .add(lambda_d, {2})
                     .add(lambda_b, {3})
                     .load();
  REQUIRE(c.modules().size() == 1);
  CHECK(c.has_projections());
  CHECK(c.modules()[0].kind == adapter_kind::vera);
  CHECK(c.modules()[0].in_features == 7);
  CHECK(c.modules()[0].out_features == 3);
  CHECK(c.others().empty());
  auto const shape_of = [&](index_t n) {
    return c.visit(
        "m.q",
        [](auto const& v) {
          if constexpr (requires { v.d; })
            return std::vector<index_t>{v.in_features(),
                                        v.out_features(),
                                        v.rank(),
                                        static_cast<index_t>(graft::load_as<float>(v.A(1, 0))),
                                        static_cast<index_t>(graft::load_as<float>(v.d(0))),
                                        static_cast<index_t>(graft::load_as<float>(v.b(2)))};
          else return std::vector<index_t>{};
        },
        n);
  };
  CHECK(shape_of(-1) == std::vector<index_t>{7, 3, 2, 8, 23, 27});
  CHECK(shape_of(5) == std::vector<index_t>{5, 3, 2, 8, 23, 27});
  CHECK_THROWS_AS(shape_of(8), graft::shape_error);
  CHECK(real("vera_with_projection").modules().size() == 6);
}

TEST_CASE("VeRA without projections needs to be told the largest layer", "[io]") {
  auto c = vera(R"("r": 2, "save_projection": false, "projection_prng_key": 5, "target_modules": ["q", "k"])")
               .add(lambda_d, {2})
               .add(lambda_b, {3})
               .add("base_model.model.m.k.vera_lambda_d", {2})
               .add("base_model.model.m.k.vera_lambda_b", {6})
               .load();
  CHECK_FALSE(c.has_projections());
  CHECK(contains(refusal<argument_error>([&] { return c.visit("m.q", [](auto const&) { return 0; }); }).what(),
                 "holds no projections (save_projection is false); replay_projections"));
  CHECK_THROWS_AS(c.replay_projections(0), argument_error);
  c.replay_projections(9);
  CHECK_THROWS_AS(c.replay_projections(9), argument_error);
  std::vector<float> drawn_A(18), drawn_B(12);
  graft::replay_projections(5, graft::view(drawn_A, 2, 9), graft::view(drawn_B, 6, 2));
  auto const p = c.projections();
  CHECK(std::equal(drawn_A.begin(), drawn_A.end(), p.A.data_handle()));
  CHECK(std::equal(drawn_B.begin(), drawn_B.end(), p.B.data_handle()));
  CHECK(c.find("m.q")->in_features == 9);
  CHECK_FALSE(real("vera_no_projection").has_projections());
}

TEST_CASE("VeRA files that contradict themselves are refused", "[io]") {
  std::string const stored = R"("r": 2, "target_modules": ["q"])", bare = R"("r": 2, "save_projection": false)";
  std::string const first = "base_model.vera_A", second = "base_model.vera_B";
  refused(vera(bare).add(lambda_d, {2}), lambda_d, "there is no vera_lambda_b beside it");
  refused(vera(bare).add(lambda_b, {2}), lambda_b, "there is no vera_lambda_d beside it");
  refused(vera(bare).add(lambda_d, {3}).add(lambda_b, {3}), lambda_d,
          "has 3 elements but the configuration says rank 2");
  refused(vera(bare).add(lambda_d, {2, 1}).add(lambda_b, {3}), lambda_d, "must have one dimension");
  refused(vera(bare).add(lambda_d, {2}).add<bfloat16>(lambda_b, {3}), lambda_b, "is stored as another type");
  refused(vera(stored).add(first, {2, 5}), first, "there is no base_model.vera_B beside it");
  refused(vera(stored).add(first, {3, 5}).add(second, {4, 3}), first, "but the rank is 2");
  refused(vera(stored).add(first, {2, 5}).add(second, {2, 2}).add(lambda_d, {2}).add(lambda_b, {3}), lambda_b,
          "has 3 elements but vera_B only 2 rows");
  auto const absent = refusal<format_error>([&] { return vera(stored).add(lambda_d, {2}).add(lambda_b, {3}).load(); });
  CHECK(contains(absent.what(), "the configuration says save_projection"));
  auto const stray = vera(bare).add("base_model.model.m.q.vera_lambda_b.default", {3}).load();
  CHECK(stray.others().at(0).changes_result);
}

TEST_CASE("LoRA tensors of names that are not known are listed", "[io]") {
  for (auto const* const name :
       {"lora_A.default.weight", "lora_E", "lora_A", "lora_magnitude_vector.weight", "lora_A.bias"}) {
    std::string const full = "base_model.model.m.q."s + name;
    only_listed(made().add(full, {2, 5}), {full}, "this kind of LoRA tensor is not computed");
  }
  only_listed(made().add("base_model.model..lora_A.weight", {2, 5}), {"base_model.model..lora_A.weight"},
              "this kind of LoRA tensor");
}

TEST_CASE("tensors that nobody mentions are listed", "[io]") {
  auto const c = made()
                     .lora("m.q")
                     .add("base_model.model.m.norm.weight", {4})
                     .add("m.k.lora_A.weight", {2, 5})
                     .add("base_model.model.m.k.bias", {3})
                     .load();
  CHECK(names(c) == std::vector<std::string>{"m.q"});
  CHECK(c.others().size() == 3);
  REQUIRE(other(c, "base_model.model.m.norm.weight") != nullptr);
  CHECK(other(c, "base_model.model.m.norm.weight")->value == "F32[4]");
  CHECK(contains(other(c, "base_model.model.m.norm.weight")->reason,
                 "the configuration does not say what this tensor is"));
  REQUIRE(other(c, "m.k.lora_A.weight") != nullptr);
  CHECK(contains(other(c, "m.k.lora_A.weight")->reason, "does not begin with base_model.model."));
  CHECK(other(c, "base_model.model.m.k.bias") != nullptr);  // bias is "none"
  CHECK(c.replaced().empty());
}

TEST_CASE("stray modules are handed out and listed", "[io]") {
  auto const c = made(R"("r": 2, "target_modules": ["q"], "exclude_modules": ["1.q"])")
                     .lora("m.0.q")
                     .lora("m.1.q")
                     .lora("m.0.v")
                     .load();
  CHECK(names(c) == std::vector<std::string>{"m.0.q", "m.0.v", "m.1.q"});
  CHECK(c.find("m.0.q")->targeted);
  CHECK_FALSE(c.find("m.1.q")->targeted);
  CHECK_FALSE(c.find("m.0.v")->targeted);
  CHECK(c.others().size() == 2);
  CHECK(contains(other(c, "base_model.model.m.1.q.lora_A.weight")->reason, "would not adapt this module"));
  auto const layers = made(R"("r": 2, "target_modules": ["q"], "layers_to_transform": [1], "layers_pattern": "h")")
                          .lora("m.h.0.q")
                          .lora("m.h.1.q")
                          .load();
  CHECK_FALSE(layers.find("m.h.0.q")->targeted);
  CHECK(layers.find("m.h.1.q")->targeted);
  auto const saved =
      made(R"("r": 2, "target_modules": ["q"], "modules_to_save": ["m.q"])").lora("m.q").lora("k.q").load();
  CHECK_FALSE(saved.find("m.q")->targeted);
  CHECK(saved.find("k.q")->targeted);
}

TEST_CASE("modules_to_save is everything below a name of that end", "[io]") {
  auto const c = made(R"("r": 2, "target_modules": ["q"], "modules_to_save": ["head", "score"])")
                     .add("base_model.model.m.head.weight", {2, 2})
                     .add("base_model.model.m.head.bias", {2})
                     .add("base_model.model.score.inner.weight", {2})
                     .add("base_model.model.lm_head.weight", {2})      // PEFT asks for the end, dot or not
                     .add("base_model.model.xhead1.head.weight", {2})  // not the first place where it stands
                     .add("base_model.model.headx.weight", {2})
                     .add("base_model.model.m.head", {2})
                     .load();
  CHECK(replaced(c) == std::vector<std::string>{"lm_head.weight", "m.head.bias", "m.head.weight", "score.inner.weight",
                                                "xhead1.head.weight"});
  CHECK(c.others().size() == 2);
  CHECK(other(c, "base_model.model.headx.weight") != nullptr);
  CHECK(other(c, "base_model.model.m.head") != nullptr);
}

TEST_CASE("two tensors cannot take the place of one", "[io]") {
  std::string const all = R"("r": 2, "target_modules": ["q"], "bias": "all")";
  auto const c = made(all).lora("m.q").add("base_model.model.m.q.base_layer.bias", {3}).load();
  CHECK(replaced(c) == std::vector<std::string>{"m.q.bias"});
  auto const e = refused(
      made(all).lora("m.q").add("base_model.model.m.q.base_layer.bias", {3}).add("base_model.model.m.q.bias", {3}),
      "base_model.model.m.q.bias",
      "takes the place of \"m.q.bias\", and so does \"base_model.model.m.q.base_layer.bias\"");
  static_cast<void>(e);
}

TEST_CASE("replaced tensors are read as float", "[io]") {
  auto const c = made(R"("r": 2, "target_modules": ["q"], "modules_to_save": ["head"])")
                     .add<bfloat16>("base_model.model.head.weight", {2, 2})
                     .add<std::int32_t>("base_model.model.head.table", {2})
                     .load();
  CHECK(c.read_replaced("head.weight") == std::vector<float>{1, 2, 3, 4});
  auto const e = refusal<format_error>([&] { return c.read_replaced("head.table"); });
  CHECK(e.tensor == "base_model.model.head.table");
  CHECK(contains(e.what(), "is stored as I32"));
}

TEST_CASE("other types of adapters are not supported", "[io]") {
  tests::folder const here;
  std::filesystem::copy(data_folder + "/peft_checkpoints/lora_plain/adapter_model.safetensors",
                        here / "adapter_model.safetensors");
  for (auto const* const type : {"FOURIERFT", "ADALORA", "lora", "\\u001b"}) {
    tests::write(here / "adapter_config.json", "{\"peft_type\": \""s + type + "\", \"r\": \"x\"}");
    auto const e = refusal<unsupported_error>([&] { return peft_checkpoint::load(here.path()); });
    CHECK(e.tensor == "peft_type");
    CHECK(e.file == here.path() + "/adapter_config.json");
    CHECK(contains(e.what(), "are not computed by this version"));
    CHECK(tests::printable(e.what()));
  }
}

TEST_CASE("settings that would change every number are not supported", "[io]") {
  for (auto const* const key :
       {"use_qalora", "use_bdlora", "alora_invocation_tokens", "layer_replication", "megatron_config", "velora_config",
        "kasa_config", "monteclora_config", "arrow_config"}) {
    made const m(R"("r": 2, "target_modules": ["q"], ")"s + key + "\": [1]");
    m.save();
    auto const e = refusal<unsupported_error>([&] { return peft_checkpoint::load(m.path()); });
    CHECK(e.tensor == key);
    CHECK(e.file == m.config());
    CHECK(contains(e.what(), "graft would compute wrong numbers"));
  }
}

TEST_CASE("settings that change something else are listed", "[io]") {
  for (auto const* const setting :
       {R"("trainable_token_indices": [1])", R"("ensure_weight_tying": true)", R"("init_lora_weights": "pissa")"}) {
    auto const c = made(R"("r": 2, "target_modules": ["q"], )"s + setting).lora("m.q").load();
    INFO(setting);
    CHECK(c.modules().size() == 1);
    REQUIRE(c.others().size() == 1);
    CHECK(c.others()[0].changes_result);
  }
  auto const c = made(R"("r": 2, "target_modules": ["q"], "new_key": 3)").lora("m.q").load();
  REQUIRE(c.others().size() == 1);
  CHECK(c.others()[0].name == "new_key");
  CHECK(c.others()[0].value == "3");
  CHECK_FALSE(c.others()[0].changes_result);
}

TEST_CASE("files that are missing or broken are named", "[io]") {
  made const m;
  auto const absent = refusal<file_error>([&] { return peft_checkpoint::load(m.path()); });
  CHECK(absent.file == m.path() + "/adapter_model.safetensors");
  CHECK(refusal<file_error>([&] { return peft_checkpoint::load(m.path() + "/none"); }).file ==
        m.path() + "/none/adapter_config.json");
  tests::write(m.file(), "1234567");
  CHECK(refusal<format_error>([&] { return peft_checkpoint::load(m.path()); }).file == m.file());
  tests::write(m.config(), "{\"peft_type\": 1}");
  CHECK(refusal<format_error>([&] { return peft_checkpoint::load(m.path()); }).file == m.config());
}

TEST_CASE("every byte of a checkpoint may be wrong", "[io][hostile]") {
  made n(R"("r": 2, "target_modules": ["q"], "lora_bias": true, "bias": "all", "modules_to_save": ["h"])");
  n.lora("m.q")
      .add(bias, {3})
      .add("base_model.model.m.q.base_layer.bias", {3})
      .add("base_model.model.h.weight", {2})
      .save();
  std::string const good = tests::read(n.file());
  auto const survives = [&] {
    try {
      auto const c = peft_checkpoint::load(n.path());
      double sum = 0;
      for (auto const& each : c.modules())
        c.visit(each.name, only_lora([&](auto const& q) {
                  sum += graft::load_as<float>(q.A(q.A.extent(0) - 1, q.A.extent(1) - 1)) +
                         graft::load_as<float>(q.B(q.B.extent(0) - 1, q.B.extent(1) - 1));
                  return 0;
                }));
      for (auto const& [base, stored] : c.replaced()) static_cast<void>(c.replaced_info(base));
      return c.modules().size() + c.replaced().size() + c.others().size() > 0;
    } catch (graft::error const&) { return true; }
  };
  REQUIRE(n.load().modules().size() == 1);
  for (std::size_t i = 0; i < good.size(); ++i)
    for (unsigned const x : {1U, 32U, 128U}) {
      std::string bad = good;
      bad[i] = static_cast<char>(static_cast<unsigned char>(bad[i]) ^ x);
      tests::write(n.file(), bad);
      INFO(i << " ^ " << x);
      CHECK(survives());
    }
}
