#include <graft/io/peft_writer.hpp>

#include <cmath>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "io/files.hpp"
#include "support/random.hpp"

using graft::bfloat16;
using graft::index_t;
using graft::view;
using graft::io::adapter_config;
using graft::io::adapter_kind;
using graft::io::peft_checkpoint;
using graft::io::peft_writer;
using tests::contains;
using tests::random_numbers;

namespace {

/// The tensors of one adapter of rank r on a layer of n features in and m out.
struct parts {
  index_t n, m, r;
  std::vector<float> A, B, g, d, bias;
  parts(index_t in, index_t out, index_t rank, std::uint64_t seed)
      : n(in),
        m(out),
        r(rank),
        A(random_numbers<float>(rank * in, seed)),
        B(random_numbers<float>(out * rank, seed + 1)),
        g(random_numbers<float>(out, seed + 2)),
        d(random_numbers<float>(rank, seed + 3)),
        bias(random_numbers<float>(out, seed + 4)) {}
  [[nodiscard]] auto lora(double scale) const { return graft::lora{view(A, r, n), view(B, m, r), scale, {}}; }
  [[nodiscard]] auto biased(double scale) const { return graft::lora{view(A, r, n), view(B, m, r), scale, view(bias)}; }
  [[nodiscard]] auto dora(double scale) const { return graft::dora{lora(scale), view(g)}; }
  [[nodiscard]] auto embedding(double scale) const {
    return graft::lora_embedding{view(A, r, n), view(B, m, r), scale};
  }
};

peft_checkpoint read_back(peft_writer const& w) {
  tests::folder const here;
  w.write(here.path());
  return peft_checkpoint::load(here.path());
}
template <class V>
bool same(V const& got, std::vector<float> const& want) {
  return got.size() == static_cast<index_t>(want.size()) &&
         std::equal(want.begin(), want.end(), reinterpret_cast<float const*>(got.data_handle()));
}
/// The writer that the committed files were made with; the real PEFT loaded them (docs/checkpoints.md).
peft_writer example() {
  parts const q(8, 6, 2, 1), v(8, 6, 3, 10);
  adapter_config settings;
  settings.peft_version = "0.21.2";
  return peft_writer(settings).add("model.q", q.dora(2.0)).add("model.v", v.dora(0.5));
}

}  // namespace

TEST_CASE("what is written is read again: LoRA of several ranks and scales, biases, saved modules", "[io]") {
  parts const q(5, 3, 2, 1), k(5, 4, 3, 10), v(7, 3, 2, 20);
  adapter_config settings;
  settings.lora_dropout = 0.25;
  settings.bias = "lora_only";
  settings.modules_to_save = {"head"};
  auto const head = random_numbers<float>(6, 30);
  auto const c = read_back(peft_writer(settings)
                               .add("m.q", q.biased(2.0))
                               .add("m.k", k.biased(2.0))
                               .add("m.v", v.biased(0.3))
                               .replace("m.q.bias", view(q.g))
                               .replace("head.weight", view(head, 2, 3)));
  CHECK(c.others().empty());
  REQUIRE(c.modules().size() == 3);
  auto const check = [&](std::string const& name, parts const& p, double scale) {
    INFO(name);
    auto const* const m = c.find(name);
    REQUIRE(m != nullptr);
    CHECK(m->targeted);
    CHECK(m->rank == p.r);
    CHECK(std::abs(m->scale - scale) <= 0x1p-52 * scale);
    CHECK(m->dropout == 0.25);
    CHECK(c.visit(name, [&]<class Adapter>(Adapter const& l) {
      if constexpr (requires { l.bias; }) {
        if constexpr (Adapter::has_bias) return same(l.A, p.A) && same(l.B, p.B) && same(l.bias, p.bias);
        else return false;
      } else return false;
    }));
  };
  check("m.q", q, 2.0);
  check("m.k", k, 2.0);
  check("m.v", v, 0.3);
  CHECK(c.read_replaced("m.q.bias") == q.g);
  CHECK(c.read_replaced("head.weight") == head);
}

TEST_CASE("what is written is read again: rsLoRA, DoRA, embeddings, 16 bits, strides", "[io]") {
  parts const q(5, 3, 2, 1), e(11, 4, 2, 10);
  adapter_config rs;
  rs.use_rslora = true;
  auto const r = read_back(peft_writer(rs).add("m.q", q.lora(graft::rslora_scale(3.0, 2))));
  CHECK(r.find("m.q")->rslora);
  CHECK(std::abs(r.find("m.q")->scale - 3.0 / std::sqrt(2.0)) < 1e-15);
  auto const d = read_back(peft_writer().add("m.q", q.dora(1.5)).add("m.e", graft::dora{e.embedding(1.5), view(e.g)}));
  CHECK(d.others().empty());
  CHECK(d.find("m.q")->kind == adapter_kind::dora);
  CHECK(d.find("m.e")->kind == adapter_kind::dora_embedding);
  CHECK(d.visit("m.q", [&](auto const& a) {
    if constexpr (requires { a.magnitude; }) return same(a.low_rank.A, q.A) && same(a.magnitude, q.g);
    else return false;
  }));
  CHECK(d.visit_embedding("m.e", [&](auto const& a) {
    if constexpr (requires { a.magnitude; })
      return same(a.low_rank.A, e.A) && same(a.low_rank.B, e.B) && same(a.magnitude, e.g);
    else return false;
  }));
  auto const plain = read_back(peft_writer().add("m.e", e.embedding(0.5)));
  CHECK(plain.find("m.e")->kind == adapter_kind::lora_embedding);
  // Columns of a wider matrix, and a transposed one.
  std::vector<bfloat16> wide(4 * 9), turned(2 * 3);
  for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = graft::store_as<bfloat16>(static_cast<float>(i));
  for (std::size_t i = 0; i < turned.size(); ++i) turned[i] = graft::store_as<bfloat16>(static_cast<float>(i));
  auto const s = read_back(
      peft_writer().add("m.q", graft::lora{columns(view(wide, 2, 18), 3, 5), transposed(view(turned, 2, 3)), 1.0, {}}));
  CHECK(s.find("m.q")->type == graft::io::dtype::bf16);
  CHECK(graft::load_as<float>(s.lora<bfloat16>("m.q").A(1, 4)) == 25);
  CHECK(graft::load_as<float>(s.lora<bfloat16>("m.q").B(2, 1)) == 5);
}

TEST_CASE("what is written is read again: experts and VeRA", "[io]") {
  parts const first(5, 3, 6, 1), second(3, 5, 6, 10), q(4, 4, 2, 20);
  auto const experts = [](parts const& p) {
    return graft::lora_experts{view(p.A, p.r, p.n), view(p.B, p.m, p.r), 2.0, 3};
  };
  auto const c = read_back(
      peft_writer().add("m.experts.up", experts(first)).add("m.q", q.lora(2.0)).add("m.experts.down", experts(second)));
  CHECK(c.others().empty());
  CHECK(c.visit_experts("m.experts.up",
                        [&](auto const& l) { return l.experts == 3 && same(l.A, first.A) && same(l.B, first.B); }));
  CHECK(c.visit_experts("m.experts.down", [&](auto const& l) { return same(l.A, second.A) && same(l.B, second.B); }));
  CHECK(c.find("m.q")->kind == adapter_kind::lora);

  std::vector<float> A(2 * 9), B(7 * 2);
  graft::replay_projections(5, view(A, 2, 9), view(B, 7, 2));
  graft::vera_projections const shared{view(A, 2, 9), view(B, 7, 2)};
  auto const one = sliced(shared, 4, 4, view(q.d), view(q.g));
  adapter_config settings;
  settings.peft_type = "VERA";
  settings.projection_prng_key = 5;
  auto const with = read_back(peft_writer(settings).add("m.q", one).projections(shared));
  CHECK(with.has_projections());
  CHECK(same(with.projections().A, A));
  CHECK(same(with.projections().B, B));
  std::vector<float> const wide_b = random_numbers<float>(7, 3);
  auto without =
      read_back(peft_writer(settings).add("m.q", one).add("m.wide", sliced(shared, 9, 7, view(q.d), view(wide_b))));
  CHECK_FALSE(without.has_projections());
  without.replay_projections(9);
  CHECK(same(without.projections().A, A));
  CHECK(same(without.projections().B, B));
}

TEST_CASE("the written bytes are those that PEFT loaded", "[io]") {
  std::string const folder = std::string(GRAFT_TEST_DATA) + "/written/dora/";
  auto const [config, data] = example().bytes();
  CHECK(config == tests::read(folder + "adapter_config.json"));
  CHECK(data == tests::read(folder + "adapter_model.safetensors"));
  CHECK(example().bytes() == example().bytes());
}

TEST_CASE("an adapter that could not be read again is not written", "[io]") {
  parts const q(5, 3, 2, 1);
  auto const says = [](auto const& call) {
    try {
      static_cast<void>(call());
    } catch (graft::error const& e) { return std::string(e.what()); }
    return std::string("nothing");
  };
  CHECK(contains(says([&] { return peft_writer().bytes(); }), "there is no adapter to write"));
  CHECK(contains(says([&] { return peft_writer().add("m.q", q.lora(1.0)).add("m.q", q.lora(1.0)).bytes(); }),
                 "\"m.q\" was added already"));
  CHECK(contains(says([&] {
                   return peft_writer()
                       .add("m.q", q.lora(1.0))
                       .add("m.v", graft::vera{view(q.A, 2, 5), view(q.B, 3, 2), view(q.d), view(q.g)})
                       .bytes();
                 }),
                 "one folder holds one type"));
  CHECK(contains(says([&] { return peft_writer().add("m.q", q.dora(1.0)).add("m.v", q.lora(1.0)).bytes(); }),
                 "there is no lora_magnitude_vector beside it"));
  CHECK(contains(says([&] { return peft_writer().add("m.q", q.lora(1.0)).replace("head.weight", view(q.g)).bytes(); }),
                 "the configuration does not say what this tensor is"));
  CHECK(contains(
      says([&] {
        return peft_writer().add("down_proj", graft::lora_experts{view(q.A, 2, 5), view(q.B, 3, 2), 1.0, 1}).bytes();
      }),
      "must be a module's name, a dot and a parameter's"));
  adapter_config other;
  other.target_modules = {"k"};
  CHECK(contains(says([&] { return peft_writer(other).add("m.q", q.lora(1.0)).bytes(); }),
                 "would not adapt this module"));
  tests::folder const here;
  CHECK(contains(says([&] {
                   peft_writer().add("m.q", q.lora(1.0)).write(here.path() + "/absent");
                   return 0;
                 }),
                 "cannot be created"));
}
