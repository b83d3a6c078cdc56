#include <graft/io/peft_writer.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "io/files.hpp"
#include "io/made_checkpoint.hpp"
#include "support/random.hpp"

using graft::bfloat16;
using graft::index_t;
using graft::view;
using graft::io::adapter_config;
using graft::io::adapter_kind;
using graft::io::peft_checkpoint;
using graft::io::peft_writer;
using tests::a_boft;
using tests::an_hra;
using tests::an_ia3;
using tests::an_ia3_feedforward;
using tests::an_oft;
using tests::contains;
using tests::holds;
using tests::only;
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
/// Numbers that lie apart: NaN between them and behind every row, so that whatever is read besides them shows.
template <std::size_t Rank>
class apart {
 public:
  apart(std::array<index_t, Rank> shape, std::uint64_t seed) : shape_(shape) {
    index_t reach = 2, size = 1;  // two numbers apart, and a hole behind each row
    for (std::size_t i = Rank; i-- > 0; reach = reach * shape[i] + 3) strides_[i] = reach, size *= shape[i];
    values = random_numbers<float>(size, seed);
    memory_.assign(static_cast<std::size_t>(reach), std::numeric_limits<float>::quiet_NaN());
    for (index_t k = 0; k < size; ++k) {
      index_t rest = k, at = 0;
      for (std::size_t i = Rank; i-- > 0; rest /= shape[i]) at += rest % shape[i] * strides_[i];
      memory_[static_cast<std::size_t>(at)] = values[static_cast<std::size_t>(k)];
    }
  }
  [[nodiscard]] auto view() const {
    return graft::view(memory_.data(), graft::dynamic_extents<Rank>(shape_), strides_);
  }
  std::vector<float> values;  // row by row

 private:
  std::array<index_t, Rank> shape_;
  std::array<index_t, Rank> strides_{};
  std::vector<float> memory_;
};
/// What is said of it.
template <class Call>
std::string said(Call const& call) {
  try {
    static_cast<void>(call());
  } catch (graft::error const& e) { return e.what(); }
  return "nothing";
}
/// A setting in the written configuration.
bool states(peft_writer const& w, std::string_view setting) { return contains(w.bytes().first, setting); }

/// The writers that the committed files were made with; the real PEFT loaded them (docs/checkpoints.md).
peft_writer example_of_dora() {
  parts const q(8, 6, 2, 1), v(8, 6, 3, 10);
  adapter_config settings;
  settings.peft_version = "0.21.2";
  return peft_writer(settings).add("model.q", q.dora(2.0)).add("model.v", v.dora(0.5));
}
peft_writer example_of_oft() {
  auto const q = random_numbers<float>(12, 7, 0.25), v = random_numbers<float>(12, 8, 0.25);
  return peft_writer().add("model.q", graft::oft{view(q, 2, 6), 8, 4}).add("model.v", graft::oft{view(v, 2, 6), 8, 4});
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

TEST_CASE("what is written is read again: BOFT, whose blocks are of one size or equally many", "[io]") {
  apart<4> const wide({2, 4, 2, 2}, 1), small({2, 2, 2, 2}, 2), large({2, 4, 6, 6}, 3), odd({2, 6, 6, 6}, 9);
  apart<1> const q({3}, 4), k({5}, 5);
  adapter_config settings;
  settings.boft_dropout = 0.25;
  settings.bias = "boft_only";
  settings.fan_in_fan_out = true;
  settings.peft_type = "BOFT";
  auto const check = [](peft_checkpoint const& c, std::string const& name, apart<4> const& R, apart<1> const& s) {
    INFO(name);
    REQUIRE(c.find(name) != nullptr);
    CHECK((c.find(name)->targeted && c.find(name)->dropout == 0.25 && c.find(name)->fan_in_fan_out));
    CHECK(c.visit(name, only([&](a_boft auto const& a) {
                    return holds(a.parameters, R.values) && holds(a.s, s.values) && a.factors() == 2 &&
                           a.block_size() == R.view().extent(2);
                  })));
  };
  auto const by_size = peft_writer(settings)
                           .add("m.q", graft::boft{wide.view(), q.view()})
                           .add("m.k", graft::boft{small.view(), k.view()})
                           .replace("m.q.bias", k.view());
  auto const c = read_back(by_size);
  CHECK(c.others().empty());
  CHECK(c.read_replaced("m.q.bias") == k.values);
  check(c, "m.q", wide, q);
  check(c, "m.k", small, k);
  CHECK((states(by_size, R"("boft_block_size": 2)") && states(by_size, R"("boft_block_num": 0)")));
  auto const by_number = peft_writer(settings)
                             .add("m.q", graft::boft{wide.view(), q.view()})
                             .add("m.k", graft::boft{large.view(), k.view()})
                             .add("m.v", graft::boft{wide.view(), k.view()});
  auto const d = read_back(by_number);
  CHECK(d.others().empty());
  check(d, "m.q", wide, q);
  check(d, "m.k", large, k);
  check(d, "m.v", wide, k);
  CHECK((states(by_number, R"("boft_block_size": 0)") && states(by_number, R"("boft_block_num": 4)")));
  CHECK(by_number.bytes() == by_number.bytes());

  CHECK(contains(
      said([&] {
        return peft_writer()
            .add("m.q", graft::boft{wide.view(), q.view()})
            .add("m.k", graft::boft{odd.view(), k.view()});
      }),
      "\"m.k\" has 6 blocks of 6, and those before neither the one nor the other; one folder holds blocks of one "
      "size, or equally many"));
  // The first two have the number in common, the third has the size of the first.
  CHECK(contains(said([&] {
                   return peft_writer()
                       .add("m.q", graft::boft{wide.view(), q.view()})
                       .add("m.k", graft::boft{large.view(), k.view()})
                       .add("m.v", graft::boft{small.view(), k.view()});
                 }),
                 "\"m.v\" has 2 blocks of 2, and those before neither"));
  apart<4> const one({1, 4, 2, 2}, 6);
  CHECK(contains(said([&] {
                   return peft_writer()
                       .add("m.q", graft::boft{wide.view(), q.view()})
                       .add("m.k", graft::boft{one.view(), k.view()});
                 }),
                 "\"m.k\" has 1 factors but those before have 2 factors; one folder holds one kind"));
}

TEST_CASE("what is written is read again: OFT, exact and as a series, with blocks of its own and shared", "[io]") {
  apart<2> const two({2, 3}, 1), four({4, 3}, 2), large({2, 10}, 3), one({1, 3}, 4);
  auto const check = [](peft_checkpoint const& c, std::string const& name, apart<2> const& v, index_t n, index_t b,
                        int terms) {
    INFO(name);
    REQUIRE(c.find(name) != nullptr);
    CHECK((c.find(name)->targeted && c.find(name)->block_size == b));
    CHECK(c.visit(name, only([&](an_oft auto const& a) {
                    return holds(a.parameters, v.values) && a.features == n && a.block == b && a.terms == terms;
                  }),
                  n));
  };
  for (int const terms : {0, 1, 5, 64}) {
    auto const w =
        peft_writer().add("m.q", graft::oft{two.view(), 6, 3, terms}).add("m.k", graft::oft{four.view(), 12, 3, terms});
    auto const c = read_back(w);
    CHECK(c.others().empty());
    check(c, "m.q", two, 6, 3, terms);
    check(c, "m.k", four, 12, 3, terms);
    CHECK((states(w, R"("oft_block_size": 3)") && states(w, R"("r": 0)") && states(w, R"("block_share": false)")));
    CHECK(states(w, terms == 0 ? R"("use_cayley_neumann": false)" : R"("use_cayley_neumann": true)"));
    CHECK(states(w, R"("peft_version": "0.18.0")"));  // PEFT asks for it
    CHECK(w.bytes() == w.bytes());
  }
  auto const numbers =
      peft_writer().add("m.q", graft::oft{two.view(), 6, 3}).add("m.k", graft::oft{large.view(), 10, 5});
  CHECK((states(numbers, R"("oft_block_size": 0)") && states(numbers, R"("r": 2)")));
  check(read_back(numbers), "m.q", two, 6, 3, 5);
  check(read_back(numbers), "m.k", large, 10, 5, 5);

  auto const shared = peft_writer().add("m.q", graft::oft{one.view(), 6, 3}).add("m.k", graft::oft{one.view(), 12, 3});
  auto const s = read_back(shared);
  CHECK(states(shared, R"("block_share": true)"));
  CHECK(s.find("m.q")->in_features == 0);
  check(s, "m.q", one, 6, 3, 5);
  check(s, "m.k", one, 12, 3, 5);

  // A layer of one block shares it or not, as the others do.
  auto const q_of = [&](apart<2> const& v, index_t n) { return graft::oft{v.view(), n, 3}; };
  for (auto const& w : {peft_writer().add("m.q", q_of(one, 3)).add("m.k", q_of(one, 6)),
                        peft_writer().add("m.k", q_of(one, 6)).add("m.q", q_of(one, 3))}) {
    CHECK(states(w, R"("block_share": true)"));
    check(read_back(w), "m.q", one, 3, 3, 5);
    check(read_back(w), "m.k", one, 6, 3, 5);
  }
  for (auto const& w : {peft_writer().add("m.q", q_of(one, 3)).add("m.k", q_of(two, 6)),
                        peft_writer().add("m.k", q_of(two, 6)).add("m.q", q_of(one, 3))}) {
    CHECK(states(w, R"("block_share": false)"));
    check(read_back(w), "m.q", one, 3, 3, 5);
    CHECK(read_back(w).find("m.q")->in_features == 3);
    check(read_back(w), "m.k", two, 6, 3, 5);
  }

  adapter_config coft;
  coft.coft = true;
  coft.eps = 0.125;
  auto const limited = peft_writer(coft).add("m.q", graft::oft{two.view(), 6, 3});
  CHECK((states(limited, R"("coft": true)") && states(limited, R"("eps": 0.125)")));
  auto want = two.values;
  graft::project(graft::reference{}, graft::oft{view(want, 2, 3), 6, 3}, 0.125);
  CHECK(want != two.values);
  CHECK(read_back(limited).visit("m.q", only([&](an_oft auto const& a) { return holds(a.parameters, want); })));

  auto const says = [&](auto const& second) {
    return said([&] { return peft_writer().add("m.q", graft::oft{two.view(), 6, 3}).add("m.k", second); });
  };
  CHECK(contains(says(graft::oft{four.view(), 12, 3, 0}),
                 "\"m.k\" has no series but those before have series; one folder"));
  CHECK(contains(says(graft::oft{four.view(), 12, 3, 4}), "\"m.k\" has 4 terms but those before have 5 terms"));
  CHECK(contains(says(graft::oft{one.view(), 6, 3}), "has shared blocks but those before have no shared blocks"));
  CHECK(contains(says(graft::oft{large.view(), 20, 5}), "\"m.k\" has 4 blocks of 5, and those before neither"));
  CHECK(contains(
      said([&] { return peft_writer().add("m.k", q_of(one, 3)).add("m.q", q_of(one, 6)).add("m.v", q_of(four, 12)); }),
      "has no shared blocks but those before have shared blocks"));
  adapter_config old;
  old.peft_version = "0.17.1";
  CHECK(contains(said([&] { return peft_writer(old).add("m.q", graft::oft{two.view(), 6, 3}).bytes(); }),
                 "peft_version is \"0.17.1\""));
}

TEST_CASE("what is written is read again: HRA, with and without Gram and Schmidt", "[io]") {
  apart<2> const q({5, 3}, 1), k({4, 3}, 2), two({5, 2}, 3);
  for (bool const gs : {false, true}) {
    auto const w = peft_writer().add("m.q", graft::hra{q.view(), gs}).add("m.k", graft::hra{k.view(), gs});
    auto const c = read_back(w);
    CHECK(c.others().empty());
    for (auto const& [name, u] : {std::pair{"m.q", &q}, std::pair{"m.k", &k}}) {
      REQUIRE(c.find(name) != nullptr);
      CHECK((c.find(name)->targeted && c.find(name)->rank == 3));
      CHECK(c.visit(name, only([&](an_hra auto const& a) { return holds(a.u, u->values) && a.gram_schmidt == gs; })));
    }
    CHECK(w.bytes() == w.bytes());
  }
  auto const says = [&](auto const& second) {
    return said([&] { return peft_writer().add("m.q", graft::hra{q.view(), true}).add("m.k", second); });
  };
  CHECK(contains(says(graft::hra{two.view(), true}), "\"m.k\" has 2 reflections but those before have 3 reflections"));
  CHECK(contains(says(graft::hra{k.view(), false}),
                 "\"m.k\" has no Gram and Schmidt but those before have Gram and Schmidt"));
  apart<2> const flat({2, 3}, 4);
  CHECK(contains(said([&] { return peft_writer().add("m.q", graft::hra{flat.view(), true}).bytes(); }),
                 "has more columns, 3, than the 2"));
}

TEST_CASE("what is written is read again: (IA)3 on outputs and inputs", "[io]") {
  apart<1> const q({3}, 1), down({5}, 2), last({4}, 3);
  auto const w = peft_writer()
                     .add("m.down", graft::ia3_feedforward{down.view()})
                     .add("m.q", graft::ia3{q.view()})
                     .add("m.last", graft::ia3_feedforward{last.view()});
  auto const c = read_back(w);
  CHECK(c.others().empty());
  REQUIRE(c.modules().size() == 3);
  for (auto const& m : c.modules()) CHECK(m.targeted);
  CHECK(c.visit("m.q", only([&](an_ia3 auto const& a) { return holds(a.l, q.values); })));
  CHECK(c.visit("m.down", only([&](an_ia3_feedforward auto const& a) { return holds(a.l, down.values); })));
  CHECK(c.visit("m.last", only([&](an_ia3_feedforward auto const& a) { return holds(a.l, last.values); })));
  CHECK(w.bytes() == w.bytes());
  CHECK(read_back(peft_writer().add("m.q", graft::ia3{q.view()})).find("m.q")->kind == adapter_kind::ia3);
  adapter_config settings;
  settings.feedforward_pattern = ".*(down|last)";
  auto const by_pattern = read_back(
      peft_writer(settings).add("m.down", graft::ia3_feedforward{down.view()}).add("m.q", graft::ia3{q.view()}));
  CHECK(by_pattern.find("m.down")->kind == adapter_kind::ia3_feedforward);
  CHECK(by_pattern.find("m.q")->kind == adapter_kind::ia3);
  // PEFT asks for the end of a name, dot or not: these two cannot be told apart.
  CHECK(contains(said([&] {
                   return peft_writer()
                       .add("down", graft::ia3_feedforward{down.view()})
                       .add("m.xdown", graft::ia3{q.view()})
                       .bytes();
                 }),
                 "must be one row, since the module is among the feedforward_modules"));
}

TEST_CASE("what is written is read again: LN tuning", "[io]") {
  apart<1> const w({4}, 1), b({4}, 2), rms({6}, 3);
  auto const all = peft_writer()
                       .add("m.norm", graft::layer_norm{w.view(), b.view(), 1e-3})
                       .add("m.bare", graft::layer_norm{w.view(), graft::none})
                       .add("m.rms", graft::rms_norm{rms.view()});
  auto const c = read_back(all);
  CHECK(c.others().empty());
  REQUIRE(c.modules().size() == 3);
  for (auto const& m : c.modules()) CHECK((m.targeted && m.has_bias == (m.name == "m.norm")));
  CHECK(c.visit_norm("m.norm", [&]<class B>(auto const& weight, B const& bias) {
    if constexpr (std::is_same_v<B, graft::none_t>) return false;
    else return holds(weight, w.values) && holds(bias, b.values);
  }));
  for (auto const& [name, v] : {std::pair{"m.bare", &w}, std::pair{"m.rms", &rms}})
    CHECK(c.visit_norm(name, [&]<class B>(auto const& weight, B const&) {
      return std::is_same_v<B, graft::none_t> && holds(weight, v->values);
    }));
  CHECK(c.read_replaced("m.norm.weight") == w.values);
  CHECK(c.read_replaced("m.norm.bias") == b.values);
  CHECK(c.replaced().size() == 4);
  CHECK(all.bytes() == all.bytes());
}

TEST_CASE("one folder holds adapters of one type", "[io]") {
  apart<1> const l({3}, 1);
  apart<2> const u({3, 2}, 2);
  CHECK(contains(said([&] { return peft_writer().add("m.q", graft::ia3{l.view()}).add("m.k", graft::hra{u.view()}); }),
                 "\"m.k\" is of type HRA but those before are IA3; one folder holds one type"));
  CHECK(contains(
      said([&] { return peft_writer().add("m.n", graft::rms_norm{l.view()}).add("m.n", graft::rms_norm{l.view()}); }),
      "\"m.n\" was added already"));
  // What a type has once for all modules is the first module's, whatever the settings say.
  adapter_config settings;
  settings.r = 7;
  settings.apply_GS = true;
  CHECK(read_back(peft_writer(settings).add("m.q", graft::hra{u.view()})).find("m.q")->rank == 2);
}

TEST_CASE("the written bytes are those that PEFT loaded", "[io]") {
  auto const check = [](std::string const& name, auto const& example) {
    INFO(name);
    std::string const folder = std::string(GRAFT_TEST_DATA) + "/written/" + name + "/";
    auto const [config, data] = example().bytes();
    CHECK(config == tests::read(folder + "adapter_config.json"));
    CHECK(data == tests::read(folder + "adapter_model.safetensors"));
    CHECK(example().bytes() == example().bytes());
  };
  check("dora", example_of_dora);
  check("oft", example_of_oft);
}

TEST_CASE("an adapter that could not be read again is not written", "[io]") {
  parts const q(5, 3, 2, 1);
  auto const says = [](auto const& call) { return said(call); };
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
  CHECK(contains(says([&] { return peft_writer().add("m.q", q.lora(INFINITY)).bytes(); }),
                 "lora_alpha is inf but must be finite"));
  tests::folder const here;
  CHECK(contains(says([&] {
                   peft_writer().add("m.q", q.lora(1.0)).write(here.path() + "/absent");
                   return 0;
                 }),
                 "cannot be created"));
}
