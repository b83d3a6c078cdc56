// BOFT, OFT and HRA in the files of PEFT.
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <graft/executor/reference.hpp>
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
using graft::io::unsupported_error;
using namespace tests;
using namespace std::string_literals;

namespace {

std::string const R = "base_model.model.m.q.boft_R", s = "base_model.model.m.q.boft_s";
std::string const V = "base_model.model.m.q.oft_R.weight";
std::string const u = "base_model.model.m.q.hra_u";

struct boft : made {
  explicit boft(std::string const& members = R"("boft_block_size": 2, "boft_n_butterfly_factor": 2)")
      : made(R"("target_modules": ["q"], )" + members, "BOFT") {}
  template <class T = float>
  made& module(std::vector<index_t> blocks = {2, 4, 2, 2}, std::vector<index_t> scales = {3, 1}) {
    return add<T>(R, std::move(blocks)).template add<T>(s, std::move(scales));
  }
};
struct oft : made {
  explicit oft(std::string const& members = R"("oft_block_size": 3)")
      : made(R"("target_modules": ["q"], "peft_version": "0.21.2", )" + members, "OFT") {}
};
struct hra : made {
  explicit hra(std::string const& members = R"("r": 3)") : made(R"("target_modules": ["q"], )" + members, "HRA") {}
};

std::vector<float> stored(std::string const& folder, std::string const& tensor) {
  return graft::io::safetensors_file::read(data_folder + "/peft_checkpoints/" + folder + "/adapter_model.safetensors")
      .read_as<float>(tensor);
}
adapted_module const& module_of(peft_checkpoint const& c, std::string_view name) {
  auto const* const m = c.find(name);
  REQUIRE(m != nullptr);
  return *m;
}
/// Refused as one that graft does not compute, for this key of the configuration.
void not_supported(made const& m, std::string_view key, std::string_view reason) {
  m.save();
  auto const e = refusal<unsupported_error>([&] { return peft_checkpoint::load(m.path()); });
  INFO(e.what());
  CHECK(e.file == m.config());
  CHECK(e.tensor == key);
  CHECK(contains(e.what(), reason));
  CHECK(contains(e.what(), "graft would compute wrong numbers"));
  CHECK(printable(e.what()));
}
void wrong_shape(peft_checkpoint const& c, index_t in_features, std::string_view reason) {
  auto const e = refusal<shape_error>([&] { return c.visit("m.q", [](auto const&) { return 0; }, in_features); });
  CHECK(std::string_view(e.what()).starts_with("graft::io::peft_checkpoint::visit: \"m.q\" "));
  CHECK(contains(e.what(), reason));
  CHECK(contains(e.what(), "; in_features is " + std::to_string(in_features)));
}

}  // namespace

TEST_CASE("BOFT of PEFT hands out its blocks and scales", "[io]") {
  for (auto const* const folder : {"boft_m1", "boft_m3"}) {
    INFO(folder);
    auto const c = real(folder);
    index_t const factors = folder == "boft_m1"s ? 1 : 3;
    CHECK(c.others().empty());
    CHECK(c.replaced().empty());
    CHECK(c.modules().size() == (factors == 1 ? 4 : 2));
    for (auto const& m : c.modules()) {
      CHECK(m.kind == adapter_kind::boft);
      CHECK(graft::io::name(m.kind) == "BOFT");
      CHECK(m.factors == factors);
      CHECK(m.block_size == 8);
      CHECK(m.rank == 0);
      CHECK(m.in_features == 64);
      CHECK(m.out_features == 64);
      CHECK((m.targeted && !m.fan_in_fan_out && m.dropout == 0 && m.type == dtype::f32));
      CHECK(c.visit(m.name, only([&](a_boft auto const& a) {
                      return a.parameters.shape() == std::array<index_t, 4>{factors, 8, 8, 8} &&
                             holds(a.parameters, stored(folder, "base_model.model." + m.name + ".boft_R")) &&
                             holds(a.s, stored(folder, "base_model.model." + m.name + ".boft_s"));
                    })));
    }
  }
}

TEST_CASE("OFT of PEFT hands out its parameters and what the configuration says of them", "[io]") {
  auto const check = [](char const* folder, int terms, std::vector<index_t> const& blocks) {
    INFO(folder);
    auto const c = real(folder);
    CHECK(c.others().empty());
    REQUIRE(c.modules().size() == 4);
    for (std::size_t i = 0; i < 4; ++i) {
      auto const& m = c.modules()[i];
      INFO(m.name);
      CHECK(m.kind == adapter_kind::oft);
      CHECK(m.block_size == blocks[i]);
      CHECK(m.in_features == 4 * blocks[i]);
      CHECK(m.out_features == 0);
      CHECK((m.targeted && m.factors == 0 && m.rank == 0 && m.type == dtype::f32));
      CHECK(c.visit(m.name, only([&](an_oft auto const& a) {
                      return a.features == 4 * blocks[i] && a.block == blocks[i] && a.terms == terms &&
                             a.parameters.shape() == std::array<index_t, 2>{4, blocks[i] * (blocks[i] - 1) / 2} &&
                             holds(a.parameters, stored(folder, "base_model.model." + m.name + ".oft_R.weight"));
                    })));
    }
  };
  check("oft_default", 5, {16, 16, 16, 16});
  check("oft_exact_cayley", 0, {32, 16, 32, 16});  // r: equally many blocks
}

TEST_CASE("HRA of PEFT hands out its reflections", "[io]") {
  auto const c = real("hra");
  CHECK(c.others().empty());
  REQUIRE(c.modules().size() == 2);
  for (auto const& m : c.modules()) {
    CHECK(m.kind == adapter_kind::hra);
    CHECK(m.rank == 6);
    CHECK(m.in_features == 64);
    CHECK(m.out_features == 0);
    CHECK((m.targeted && m.type == dtype::f32));
    CHECK(c.visit(m.name, only([&](an_hra auto const& a) {
                    return !a.gram_schmidt && a.u.shape() == std::array<index_t, 2>{64, 6} &&
                           holds(a.u, stored("hra", "base_model.model." + m.name + ".hra_u"));
                  })));
  }
}

TEST_CASE("rotations are handed out in the type that they are stored in", "[io]") {
  auto const check = []<class T>(T, dtype type) {
    auto const is = [](auto const& v) {
      return std::is_same_v<typename std::remove_cvref_t<decltype(v)>::value_type, T>;
    };
    auto const b = boft(R"("boft_block_size": 2, "boft_n_butterfly_factor": 2, "boft_dropout": 0.25,
        "fan_in_fan_out": true, "bias": "boft_only")")
                       .module<T>()
                       .load();
    auto const& m = module_of(b, "m.q");
    CHECK(m.type == type);
    CHECK((m.factors == 2 && m.block_size == 2 && m.in_features == 8 && m.out_features == 3));
    CHECK((m.dropout == 0.25 && m.fan_in_fan_out && m.targeted));
    CHECK(b.others().empty());
    for (index_t const told : {-1, 8})
      CHECK(b.visit("m.q", only([&](a_boft auto const& a) {
                      return is(a.parameters) && is(a.s) && holds(a.parameters, counted(1, 32)) &&
                             holds(a.s, counted(33, 3)) && a.in_features() == 8 && a.out_features() == 3;
                    }),
                    told));
    auto const o =
        oft(R"("oft_block_size": 3, "fan_in_fan_out": true, "num_cayley_neumann_terms": 7)").add<T>(V, {4, 3}).load();
    CHECK(module_of(o, "m.q").type == type);
    CHECK((module_of(o, "m.q").fan_in_fan_out && module_of(o, "m.q").in_features == 12));
    for (index_t const told : {-1, 12})
      CHECK(o.visit("m.q", only([&](an_oft auto const& a) {
                      return is(a.parameters) && holds(a.parameters, counted(1, 12)) && a.in_features() == 12 &&
                             a.block_size() == 3 && a.terms == 7;
                    }),
                    told));
    auto const h = hra(R"("r": 3, "apply_GS": true)").add<T>(u, {5, 3}).load();
    CHECK(module_of(h, "m.q").type == type);
    for (index_t const told : {-1, 5})
      CHECK(h.visit("m.q", only([&](an_hra auto const& a) {
                      return is(a.u) && holds(a.u, counted(1, 15)) && a.rank() == 3 && a.gram_schmidt;
                    }),
                    told));
  };
  check(float{}, dtype::f32);
  check(bfloat16{}, dtype::bf16);
  check(float16{}, dtype::f16);
}

TEST_CASE("rotations of other types are listed, of mixed types refused", "[io]") {
  only_listed(boft().module<double>(), {R, s}, "elements of type F64 are not computed with");
  only_listed(oft().add<std::int8_t>(V, {4, 3}), {V}, "elements of type I8 are not computed with");
  only_listed(oft(R"("oft_block_size": 3, "coft": true)").add<double>(V, {4, 3}), {V}, "elements of type F64");
  only_listed(hra().add<double>(u, {5, 3}), {u}, "elements of type F64 are not computed with");
  refused(boft().add(R, {2, 4, 2, 2}).add<bfloat16>(s, {3, 1}), s, "is stored as another type than \"" + R + "\"");
}

TEST_CASE("in_features that the file contradicts are a shape_error", "[io]") {
  auto const b = boft().module().load();
  auto const o = oft().add(V, {4, 3}).load();
  auto const h = hra().add(u, {5, 3}).load();
  for (index_t const told : {0, 4, 7, 9}) {
    wrong_shape(b, told, "has 8 input features");
    wrong_shape(o, told, "has 12 input features");
    if (told != 5) wrong_shape(h, told, "has 5 input features");
  }
}

TEST_CASE("rotations are not handed out by other calls", "[io]") {
  auto const says = [](peft_checkpoint const& c, std::string_view what) {
    auto const nothing = [](auto const&...) { return 0; };
    for (auto const& e : {refusal<argument_error>([&] { return c.visit_norm("m.q", nothing); }),
                          refusal<argument_error>([&] { return c.visit_embedding("m.q", nothing); }),
                          refusal<argument_error>([&] { return c.visit_experts("m.q", nothing); })})
      CHECK(contains(e.what(), "\"m.q\" is " + std::string(what) + "; use visit"));
    CHECK(contains(refusal<argument_error>([&] { return c.lora<float>("m.q").scale; }).what(),
                   "is " + std::string(what) + "; use visit"));
  };
  says(boft().module().load(), "BOFT");
  says(oft().add(V, {4, 3}).load(), "OFT");
  says(hra().add(u, {5, 3}).load(), "HRA");
}

TEST_CASE("rotations of modules that the configuration would not adapt are listed too", "[io]") {
  auto const check = [](made const& m, std::string const& tensor) {
    auto const c = m.load();
    CHECK_FALSE(module_of(c, "m.k").targeted);
    REQUIRE(c.others().size() == 1);
    CHECK(c.others()[0].name == tensor);
    CHECK(contains(c.others()[0].reason, "would not adapt this module; it is handed out all the same"));
    CHECK_FALSE(c.others()[0].changes_result);
  };
  std::string const k = "base_model.model.m.k.";
  check(boft().add(k + "boft_R", {2, 4, 2, 2}).add(k + "boft_s", {3, 1}), k + "boft_R");
  check(oft().add(k + "oft_R.weight", {4, 3}), k + "oft_R.weight");
  check(hra().add(k + "hra_u", {5, 3}), k + "hra_u");
}

TEST_CASE("biases of the base model that BOFT, OFT and HRA train replace its own", "[io]") {
  std::string const tensor = "base_model.model.m.q.base_layer.bias";
  auto const check = [&](made const& m) {
    auto const c = m.load();
    CHECK(c.others().empty());
    CHECK(c.modules().size() == 1);
    CHECK(replaced(c) == std::vector<std::string>{"m.q.bias"});
    CHECK(c.replaced_info("m.q.bias").name == tensor);
  };
  check(boft(R"("boft_block_size": 2, "boft_n_butterfly_factor": 2, "bias": "boft_only")").module().add(tensor, {3}));
  check(oft(R"("oft_block_size": 3, "bias": "oft_only")").add(V, {4, 3}).add(tensor, {3}));
  check(hra(R"("r": 3, "bias": "hra_only")").add(u, {5, 3}).add(tensor, {3}));
  for (auto const& members : {R"("bias": "all")", R"("bias": "hra_only")"}) {
    auto const c = hra(R"("r": 3, )"s + members).add(u, {5, 3}).add("base_model.model.m.k.bias", {3}).load();
    CHECK(replaced(c) == std::vector<std::string>{"m.k.bias"});
  }
}

TEST_CASE("tensors of rotations that are not computed are listed", "[io]") {
  std::string const q = "base_model.model.m.q.";
  for (auto const* const name : {"boft_P", "boft_R.default", "boft_dropout"})
    only_listed(boft().add(q + name, {2, 2}), {q + name}, "this kind of BOFT tensor is not computed by this version");
  for (auto const* const name : {"oft_embedding_R.weight", "oft_R", "oft_R.bias", "oft_s"})
    only_listed(oft().add(q + name, {2, 3}), {q + name}, "this kind of OFT tensor is not computed by this version");
  only_listed(hra().add(q + "hra_v", {2, 2}), {q + "hra_v"}, "this kind of HRA tensor is not computed");
}

TEST_CASE("BOFT files that contradict themselves are refused", "[io]") {
  refused(boft().add(R, {2, 4, 2, 2}), R, "there is no boft_s beside it");
  refused(boft().add(s, {3, 1}), s, "there is no boft_R beside it");
  refused(boft().module({8, 2, 2}), R, "must have four dimensions");
  refused(boft().module({2, 4, 2, 2, 1}), R, "must have four dimensions");
  refused(boft().module({2, 4, 2, 2}, {3}), s, "must have two dimensions");
  refused(boft().module({2, 4, 2, 2}, {3, 1, 1}), s, "must have two dimensions");
  refused(boft().module({2, 4, 2, 2}, {3, 2}), s, "must be one column");
  refused(boft().module({2, 4, 2, 2}, {0, 1}), s, "is empty");
  for (auto const& empty : {std::vector<index_t>{0, 4, 2, 2}, {2, 0, 2, 2}, {2, 4, 0, 0}})
    refused(boft().module(empty), R, "is empty");
  refused(boft().module({2, 4, 2, 3}), R, "has blocks of 2 x 3; they must be square");
  // PEFT has [1, m] for a convolution; of one output feature it is a layer's.
  only_listed(boft().module({2, 4, 2, 2}, {1, 3}), {R, s}, "BOFT on a convolution is not computed by this version");
  CHECK(boft().module({2, 4, 2, 2}, {1, 1}).load().find("m.q")->out_features == 1);
}

TEST_CASE("BOFT's factors and blocks are those of the configuration", "[io]") {
  CHECK_FALSE(
      contains(refused(boft().module({3, 4, 2, 2}), R, "has 3 factors but the configuration says 2").what(), "CUDA"));
  refused(
      boft().module({1, 4, 2, 2}), R,
      "has 1 factors but the configuration says 2 (PEFT without its CUDA extension trains one, whatever it is told)");
  auto const factors = [](std::string const& blocks, int n) {
    return blocks + R"(, "boft_n_butterfly_factor": )" + std::to_string(n);
  };
  refused(boft(factors(R"("boft_block_size": 4)", 2)).module(), R,
          "has 4 blocks of 2 but the configuration says blocks of 4");
  refused(boft(factors(R"("boft_block_size": 0, "boft_block_num": 2)", 2)).module(), R,
          "has 4 blocks of 2 but the configuration says 2 blocks");
  auto const by_number = boft(factors(R"("boft_block_size": 0, "boft_block_num": 4)", 2)).module().load();
  CHECK(module_of(by_number, "m.q").block_size == 2);
  // More than one factor: even blocks, 2^(factors - 1) of them or a multiple.
  refused(boft(factors(R"("boft_block_size": 3)", 2)).module({2, 4, 3, 3}), R,
          "2 factors need blocks of even size, and a multiple of 2 of them; there are 4 of 3");
  refused(boft(factors(R"("boft_block_size": 2)", 2)).module({2, 3, 2, 2}), R,
          "2 factors need blocks of even size, and a multiple of 2 of them; there are 3 of 2");
  refused(boft(factors(R"("boft_block_size": 2)", 3)).module({3, 6, 2, 2}), R, "a multiple of 4 of them; there are 6");
  CHECK(boft(factors(R"("boft_block_size": 2)", 3)).module({3, 4, 2, 2}).load().modules().size() == 1);
  refused(boft(factors(R"("boft_block_size": 2)", 48)).module({48, 1, 2, 2}), R,
          "48 factors need blocks of even size, and a multiple of 140737488355328 of them");
  refused(boft(factors(R"("boft_block_size": 2)", 49)).module({49, 1, 2, 2}), R,
          "has 49 factors; at most 48 are computed");
  // One factor: any.
  for (index_t const b : {1, 3})
    CHECK(boft(factors("\"boft_block_size\": " + std::to_string(b), 1))
              .module({1, 5, b, b})
              .load()
              .find("m.q")
              ->in_features == 5 * b);
}

TEST_CASE("OFT files that contradict themselves are refused", "[io]") {
  refused(oft().add(V, {3}), V, "must have two dimensions");
  refused(oft().add(V, {4, 3, 1}), V, "must have two dimensions");
  refused(oft().add(V, {0, 3}), V, "is empty");
  for (index_t const columns : {2, 4, 5, 7, 9, 11})
    refused(oft().add(V, {4, columns}), V,
            "has " + std::to_string(columns) + " columns, which are not the b (b - 1) / 2 of any block size b");
  refused(oft(R"("oft_block_size": 4)").add(V, {4, 3}), V, "has 4 blocks of 3 but the configuration says blocks of 4");
  refused(oft(R"("oft_block_size": 0, "r": 2)").add(V, {4, 3}), V,
          "has 4 blocks of 3 but the configuration says 2 blocks");
  CHECK(oft(R"("oft_block_size": 0, "r": 4)").add(V, {4, 3}).load().find("m.q")->block_size == 3);
}

TEST_CASE("every block size is told from the number of parameters", "[io]") {
  for (index_t b = 1; b <= 40; ++b) {
    INFO(b);
    auto const c = oft("\"oft_block_size\": " + std::to_string(b)).add(V, {2, b * (b - 1) / 2}).load();
    CHECK(module_of(c, "m.q").block_size == b);
    CHECK(c.visit("m.q", only([&](an_oft auto const& a) {
                    return a.parameters.extent(0) == 2 && a.parameters.extent(1) == b * (b - 1) / 2 &&
                           a.features == 2 * b;
                  })));
  }
}

TEST_CASE("rows without numbers cost neither memory nor time", "[io][hostile]") {
  auto const header = [](index_t rows, index_t columns) {
    return "{\"" + V + "\": {\"dtype\": \"F32\", \"shape\": [" + std::to_string(rows) + ", " + std::to_string(columns) +
           "], \"data_offsets\": [0, 0]}}";
  };
  // 2^24 is where features end; what a COFT would limit is not there.
  auto const load = [&](std::string const& members, index_t rows, index_t columns = 0) {
    return peft_checkpoint::parse(
        adapter_config::parse(
            R"({"peft_type": "OFT", "peft_version": "0.21.2", "target_modules": ["q"], )" + members + "}", "c"),
        "c", tests::parse(with_header(header(rows, columns))));
  };
  auto const c = load(R"("oft_block_size": 1, "coft": true)", index_t{1} << 24);
  CHECK(module_of(c, "m.q").in_features == index_t{1} << 24);
  for (auto const* const members : {R"("oft_block_size": 1)", R"("oft_block_size": 1, "coft": true)",
                                    R"("oft_block_size": 0, "r": 3)", R"("oft_block_size": 1, "block_share": true)"})
    for (index_t const rows : {(index_t{1} << 24) + 1, index_t{1} << 40, index_t{1} << 62}) {
      auto const e = refusal<format_error>([&] { return load(members, rows); });
      CHECK(contains(e.what(), "is for more than 16777216 features"));
      CHECK(e.tensor == V);
    }
  CHECK(contains(refusal<format_error>([&] { return load(R"("oft_block_size": 3)", 0, index_t{1} << 40); }).what(),
                 "is empty"));
}

TEST_CASE("the divisor nearest to what is wanted is PEFT's, of two the smaller", "[io]") {
  using graft::io::detail::nearest_divisor;
  CHECK(nearest_divisor(50, 32) == 25);
  CHECK(nearest_divisor(12, 5) == 4);  // and 6 is as near
  CHECK(nearest_divisor(15, 4) == 3);
  CHECK(nearest_divisor(7, 4) == 1);
  CHECK(nearest_divisor(8, 3) == 2);
  CHECK(nearest_divisor(64, 100) == 64);
  CHECK(nearest_divisor(64, 64) == 64);
  CHECK(nearest_divisor(1, 32) == 1);
  CHECK(nearest_divisor(97, 1) == 1);
  CHECK(nearest_divisor(64, INT64_MAX) == 64);
  // As PEFT searches: upwards and downwards from what is wanted.
  for (index_t n = 1; n <= 60; ++n)
    for (index_t wanted = 1; wanted <= 70; ++wanted) {
      index_t low = wanted, high = wanted;
      while (low > 1 && n % low != 0) --low;
      while (high < n && n % high != 0) ++high;
      index_t const by_peft = wanted >= n ? n : wanted - low <= high - wanted ? low : high;
      INFO(n << ", " << wanted);
      CHECK(nearest_divisor(n, wanted) == by_peft);
    }
}

TEST_CASE("OFT's blocks are the nearest that divide the features", "[io]") {
  auto const size_of = [](char const* members, index_t rows, index_t b) {
    return module_of(oft(members).add(V, {rows, b * (b - 1) / 2}).load(), "m.q").in_features;
  };
  CHECK(size_of(R"("oft_block_size": 32)", 2, 25) == 50);
  CHECK(size_of(R"("oft_block_size": 32)", 1, 7) == 7);
  CHECK(size_of(R"("oft_block_size": 5)", 3, 4) == 12);
  CHECK(size_of(R"("oft_block_size": 4)", 7, 1) == 7);
  CHECK(size_of(R"("oft_block_size": 0, "r": 5)", 4, 3) == 12);
  CHECK(size_of(R"("oft_block_size": 0, "r": 100)", 12, 1) == 12);
  refused(oft(R"("oft_block_size": 5)").add(V, {2, 15}), V,
          "has 2 blocks of 6 but the configuration says blocks of 5");  // of 12; 4 is as near, and smaller
  refused(oft(R"("oft_block_size": 32)").add(V, {5, 45}), V,
          "has 5 blocks of 10 but the configuration says blocks of 32");
  refused(oft(R"("oft_block_size": 0, "r": 5)").add(V, {6, 1}), V,
          "has 6 blocks of 2 but the configuration says 5 blocks");
}

TEST_CASE("shared blocks: the caller tells how many features there are", "[io]") {
  std::string const shared = R"("oft_block_size": 3, "block_share": true)";
  auto const c = oft(shared).add(V, {1, 3}).load();
  CHECK(module_of(c, "m.q").in_features == 0);
  CHECK(module_of(c, "m.q").block_size == 3);
  for (index_t const n : {3, 12})
    CHECK(c.visit("m.q", only([&](an_oft auto const& a) {
                    return a.features == n && a.block == 3 && a.blocks() == n / 3 &&
                           a.parameters.shape() == std::array<index_t, 2>{1, 3} && holds(a.parameters, counted(1, 3));
                  }),
                  n));
  for (index_t const n : {-1, 0, 2, 10, -3})
    wrong_shape(
        c, n,
        "shares one block of 3 among all its features, whose number the file does not say: it must be a positive "
        "multiple of that");
  refused(oft(shared).add(V, {2, 3}), V, "has 2 rows but the configuration says block_share");
  // The block may be smaller than what is stated: that depends on the features.
  CHECK(oft(R"("oft_block_size": 32, "block_share": true)").add(V, {1, 300}).load().find("m.q")->block_size == 25);
}

TEST_CASE("COFT's parameters are limited when they are read", "[io]") {
  auto const check = []<class T>(T, char const* members, index_t rows, double eps) {
    INFO(members);
    auto const c = oft(members).add<T>(V, {rows, 3}).load();
    std::vector<T> want;
    for (float const v : counted(1, rows * 3)) want.push_back(graft::store_as<T>(v));
    auto const before = want;
    graft::project(graft::reference{}, graft::oft{graft::view(want, rows, 3), 3 * rows, 3}, eps);
    bool const seen = c.visit(
        "m.q", only([&](an_oft auto const& a) {
          if constexpr (std::is_same_v<typename decltype(a.parameters)::value_type, T>)
            return bytes_of(std::vector<T>(a.parameters.data_handle(), a.parameters.data_handle() + 3 * rows)) ==
                       bytes_of(want) &&
                   reinterpret_cast<std::uintptr_t>(a.parameters.data_handle()) % 64 == 0;
          else return false;
        }),
        12);
    CHECK(seen);
    return bytes_of(want) == bytes_of(before);
  };
  auto const of_type = [&]<class T>(T) {
    CHECK_FALSE(check(T{}, R"("oft_block_size": 3, "coft": true)", 4, 6e-5));
    CHECK_FALSE(check(T{}, R"("oft_block_size": 3, "coft": true, "eps": 0.5)", 4, 0.5));
    CHECK_FALSE(check(T{}, R"("oft_block_size": 3, "coft": true, "eps": 20)", 4, 20));  // some rows only
    CHECK(check(T{}, R"("oft_block_size": 3, "coft": true, "eps": 1000)", 4, 1000));
    CHECK_FALSE(check(T{}, R"("oft_block_size": 3, "coft": true, "block_share": true, "eps": 0.5)", 1, 0.5));
    CHECK_FALSE(check(T{}, R"("oft_block_size": 3, "coft": true, "eps": 0)", 4, 0));
  };
  of_type(float{});
  of_type(bfloat16{});
  of_type(float16{});
  // Without coft, eps is not asked; blocks of 1 have nothing to limit.
  auto const c = oft(R"("oft_block_size": 3, "eps": 0.5)").add(V, {4, 3}).load();
  CHECK(c.visit("m.q", only([](an_oft auto const& a) { return holds(a.parameters, counted(1, 12)); })));
  CHECK(oft(R"("oft_block_size": 1, "coft": true)").add(V, {4, 0}).load().modules().size() == 1);
  // By hand: |Q| = sqrt(2) |v| = sqrt(2) 5 is scaled to eps = 1 / sqrt(1 row).
  auto const one = oft(R"("oft_block_size": 3, "coft": true, "eps": 1, "block_share": true)").add(V, {1, 3}).load();
  CHECK(one.visit("m.q", only([](an_oft auto const& a) {
                    double sum = 0;
                    for (index_t i = 0; i < 3; ++i) {
                      double const v = graft::load_as<double>(a.parameters(0, i));
                      sum += 2 * v * v;
                    }
                    return std::abs(sum - 1) < 3 * 0x1p-23;  // two roundings of 2^-24 in each v, squared
                  }),
                  3));
}

TEST_CASE("OFT of older versions of PEFT is not computed", "[io]") {
  auto const is_refused = [](std::string const& members, std::string_view key, std::string_view reason) {
    INFO(members);
    made m(members, "OFT");
    m.add(V, {4, 3});
    not_supported(m, key, reason);
  };
  auto const is_read = [](std::string const& members) {
    INFO(members);
    made m(members, "OFT");
    auto const c = m.add(V, {4, 3}).load();
    CHECK(c.modules().size() == 1);
    CHECK(c.others().empty());
  };
  std::string const old = "OFT of PEFT before 0.14.0 has no oft_block_size: it stored and computed another rotation";
  is_refused(R"("r": 8, "target_modules": ["q"])", "oft_block_size", old);
  is_refused(R"("r": 8, "peft_version": "0.21.2", "target_modules": ["q"])", "oft_block_size", old);
  is_refused(R"("r": -1, "eps": "x")", "oft_block_size", old);  // nothing else of it is read

  std::string const members = R"("oft_block_size": 3, "target_modules": ["q"])";
  std::string const series =
      "the Cayley-Neumann series of PEFT before 0.18.0 ends in another coefficient, and peft_version ";
  is_refused(members, "use_cayley_neumann", series + "is missing");
  is_refused(members + R"(, "use_cayley_neumann": true)", "use_cayley_neumann", series + "is missing");
  for (auto const* const version : {"0.17.1", "0.17.1@abc", "0.9", "0", "v0.21.2", "one", "-1.2", "0.x", "\\u001b", "1",
                                    "99999999999999999999.1"}) {
    std::string const stated = R"(, "peft_version": ")"s + version + "\"";
    is_refused(members + stated, "use_cayley_neumann", series + "is \"");
    is_read(members + stated + R"(, "use_cayley_neumann": false)");
  }
  is_read(members + R"(, "use_cayley_neumann": false)");
  for (auto const* const version : {"0.18.0", "0.18", "0.18.0@abc", "0.18.1.dev0", "0.100.0", "1.0", "1.2.3"})
    for (auto const* const use : {"true", "false"})
      is_read(members + R"(, "peft_version": ")"s + version + R"(", "use_cayley_neumann": )" + use);
}

TEST_CASE("OFT that older versions of PEFT stored is not computed", "[io]") {
  for (auto const* const name : {"base_model.model.m.q.oft_r", "base_model.model.m.q.hada.oft_r", "q.oft_r"}) {
    INFO(name);
    auto const m = [&] {
      return refusal<unsupported_error>([&] { return oft().add(V, {4, 3}).add(name, {4, 3, 3}).load(); });
    }();
    CHECK(m.tensor == name);
    CHECK(m.offset > 8);
    CHECK(contains(m.file, "adapter_model.safetensors"));
    CHECK(contains(m.what(), "is OFT as PEFT before 0.16.0 stored it: other parameters of another rotation"));
  }
  // In other types such a name means nothing.
  CHECK(other(hra().add(u, {5, 3}).add("base_model.model.m.q.oft_r", {4}).load(), "base_model.model.m.q.oft_r") !=
        nullptr);
}

TEST_CASE("a series of more terms than are computed is not supported", "[io]") {
  struct series : oft {
    explicit series(std::string const& n, std::string const& more = "")
        : oft(R"("oft_block_size": 3, "num_cayley_neumann_terms": )" + n + more) {
      add(V, {4, 3});
    }
    [[nodiscard]] bool has(int terms) const {
      return load().visit("m.q", only([&](an_oft auto const& a) { return a.terms == terms; }));
    }
  };
  for (auto const* const n : {"65", "9223372036854775807"})
    not_supported(series(n), "num_cayley_neumann_terms", "a series of more than 64 terms is not computed");
  for (int const n : {1, 2, 64}) CHECK(series(std::to_string(n)).has(n));
  CHECK(series("65", R"(, "use_cayley_neumann": false)").has(0));  // the exact transform has none
}

TEST_CASE("HRA files that contradict themselves are refused", "[io]") {
  refused(hra().add(u, {3}), u, "must have two dimensions");
  refused(hra().add(u, {5, 3, 1}), u, "must have two dimensions");
  refused(hra().add(u, {0, 3}), u, "is empty");
  refused(hra().add(u, {5, 0}), u, "is empty");
  refused(hra().add(u, {5, 4}), u, "has 4 columns but the configuration says rank 3");
  refused(hra("\"bias\": \"none\"").add(u, {5, 3}), u, "has 3 columns but the configuration says rank 8");
  refused(hra(R"("r": 6, "apply_GS": true)").add(u, {5, 6}), u,
          "has more columns, 6, than the 5 that can be made orthonormal (apply_GS)");
  CHECK(hra(R"("r": 5, "apply_GS": true)").add(u, {5, 5}).load().modules().size() == 1);
  CHECK(hra(R"("r": 6)").add(u, {5, 6}).load().find("m.q")->rank == 6);
}
