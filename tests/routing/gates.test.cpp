#include <graft/routing/gshard_top2.hpp>
#include <graft/routing/route.hpp>
#include <graft/routing/sigmoid_topk.hpp>
#include <graft/routing/softmax_topk.hpp>
#include <graft/routing/top_p.hpp>
#include <graft/routing/topk_softmax.hpp>

#include <catch2/catch_test_macros.hpp>

#include "adapters/finite_differences.hpp"
#include "routing/problem.hpp"

using graft::as_const;
using graft::bfloat16;
using graft::float16;
using graft::view;
using namespace tests;
using ids_t = std::vector<std::int64_t>;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

bool near(std::vector<float> const& got, std::vector<double> const& wanted, double tolerance = 4e-7) {
  if (got.size() != wanted.size()) return false;
  for (std::size_t i = 0; i < got.size(); ++i)
    if (!(std::abs(static_cast<double>(got[i]) - wanted[i]) <= tolerance)) return false;
  return true;
}

double const e = std::exp(1.0);

}  // namespace

TEST_CASE("softmax_topk: weights of softmax over all, divided by those of the chosen or not") {
  std::vector<float> const z{0, 2, 1, -1};
  double const all = 1 + e * e + e + 1 / e;
  auto const renormalized = route_of(graft::softmax_topk{}, z, 4, 2);
  CHECK(renormalized.ids == ids_t{1, 2});
  CHECK(near(renormalized.weights, {e / (1 + e), 1 / (1 + e)}));
  auto const plain = route_of(graft::softmax_topk{.renormalize = false, .scale = 2.5}, z, 4, 2);
  CHECK(plain.ids == ids_t{1, 2});
  CHECK(near(plain.weights, {2.5 * e * e / all, 2.5 * e / all}));
  auto const warm = route_of(graft::softmax_topk{.temperature = 0.5}, z, 4, 2);
  CHECK(near(warm.weights, {e * e / (1 + e * e), 1 / (1 + e * e)}));
}

TEST_CASE("topk_softmax has the bits of softmax_topk with renormalization") {
  auto const z = random_numbers<float>(64 * 33, 1, 4.0);
  auto const a = route_of(graft::topk_softmax{}, z, 33, 5);
  auto const b = route_of(graft::softmax_topk{}, z, 33, 5);
  CHECK(a.ids == b.ids);
  CHECK(a.weights == b.weights);
}

TEST_CASE("sigmoid_topk: the bias chooses, the weights are without it") {
  std::vector<float> const z{0, 1, -1, 2}, bias{0, 0, 1, -1};
  auto const s = [](double x) { return 1 / (1 + std::exp(-x)); };
  auto const r = route_of(graft::sigmoid_topk{.bias = view(bias), .scale = 2.5}, z, 4, 2);
  CHECK(r.ids == ids_t{2, 1});  // scores with the bias: 0.5, 0.731, 1.269, -0.119
  double const sum = s(-1) + s(1);
  CHECK(near(r.weights, {2.5 * s(-1) / sum, 2.5 * s(1) / sum}));
  auto const plain = route_of(graft::sigmoid_topk<>{.renormalize = false}, z, 4, 1);
  CHECK(plain.ids == ids_t{3});
  CHECK(near(plain.weights, {s(2)}));
}

TEST_CASE("sigmoid_topk: a group that is not kept is never chosen, though all scores of the kept ones are negative") {
  // transformers 45440, vLLM 13474: masked with 0 instead of -inf, the others win as soon as a bias is below -1.
  std::vector<float> const z{0, 0, 3, 3, 0, 1, 1, 0}, bias{-4, -4, -9, -9, -2, -3, -9, -9};
  graft::sigmoid_topk const g{.bias = view(bias), .groups = 4, .kept_groups = 2};
  CHECK(route_of(g, z, 8, 4).ids == ids_t{4, 5, 0, 1});
}

TEST_CASE("sigmoid_topk: the score of a group is the sum of its two largest, ties go to the lower group") {
  std::vector<float> const z{3, -3, 1, 1, 1, 1};
  CHECK(route_of(graft::sigmoid_topk<>{.groups = 3, .kept_groups = 1}, z, 6, 1).ids == ids_t{2});
  std::vector<float> const equal(6, 0.5F);
  CHECK(route_of(graft::sigmoid_topk<>{.groups = 3, .kept_groups = 2}, equal, 6, 3).ids == ids_t{0, 1, 2});
  CHECK(route_of(graft::softmax_topk{.groups = 3, .kept_groups = 1}, z, 6, 2).ids == ids_t{0, 1});  // the largest
}

TEST_CASE("sigmoid_topk: a tiny score keeps its digits beside a large bias") {
  // flashinfer 3875: recovered as (score + bias) - bias it would be 0.
  std::vector<float> const z{-18, -17}, bias{12, 12};
  auto const r = route_of(graft::sigmoid_topk{.bias = view(bias)}, z, 2, 2);
  CHECK(r.ids == ids_t{0, 1});  // both scores with the bias round to 12
  CHECK(near(r.weights, {1 / (1 + e), e / (1 + e)}, 1e-6));
}

TEST_CASE("top_p keeps experts until their sum passes p, the one that passes it included") {
  std::vector<float> const z{std::log(0.1F), std::log(0.2F), std::log(0.3F), std::log(0.4F)};
  auto const r = route_of(graft::top_p{.p = 0.6}, z, 4, 4);
  CHECK(r.ids == ids_t{3, 2, -1, -1});
  CHECK(near(r.weights, {0.4, 0.3, 0, 0}));
  auto const n = route_of(graft::top_p{.p = 0.65, .renormalize = true}, z, 4, 4);
  CHECK(n.ids == ids_t{3, 2, -1, -1});
  CHECK(near(n.weights, {4.0 / 7, 3.0 / 7, 0, 0}));
  CHECK(route_of(graft::top_p{.p = 0.0}, z, 4, 3).ids == ids_t{3, -1, -1});
  CHECK(route_of(graft::top_p{.p = 0.95}, z, 4, 2).ids == ids_t{3, 2});  // no more than k
}

TEST_CASE("gshard_top2: weights are normalized over both, also where the second is not used") {
  std::vector<float> const z{0, 1, -1, 0, 9, 0};
  double const w = e / (1 + e), v = std::exp(9.0) / (1 + std::exp(9.0));
  auto const all = route_of(graft::gshard_top2{}, z, 3, 2);
  CHECK(all.ids == ids_t{1, 0, 1, 0});
  CHECK(near(all.weights, {w, 1 - w, v, 1 - v}, 1e-6));
  auto const some =
      route_of(graft::gshard_top2{.second = graft::second_expert::above_threshold, .threshold = 0.2}, z, 3, 2);
  CHECK(some.ids == ids_t{1, 0, 1, -1});
  CHECK(near(some.weights, {w, 1 - w, v, 0}, 1e-6));
}

TEST_CASE("gshard_top2: a random second expert is used with the probability min(1, w / threshold)") {
  constexpr index_t T = 20000;
  std::vector<float> z;
  for (index_t t = 0; t < T; ++t) z.insert(z.end(), {0.0F, static_cast<float>(std::log(9.0)), -50.0F});  // 0.9, 0.1
  graft::gshard_top2 const g{.second = graft::second_expert::random, .threshold = 0.5, .seed = 1, .stream = 2};
  auto const r = route_of(g, z, 3, 2);
  double used = 0;
  for (std::size_t i = 1; i < r.ids.size(); i += 2) used += r.ids[i] == 0 ? 1 : 0;
  CHECK(std::abs(used / T - 0.2) < 5 * std::sqrt(0.2 * 0.8 / T));
  CHECK(route_of(g, z, 3, 2, graft::openmp{3}).ids == r.ids);
  auto other = g;
  other.seed = 3;
  CHECK(route_of(other, z, 3, 2).ids != r.ids);
}

TEST_CASE("equal logits go to the lower index, on every executor; zeros of both signs are equal") {
  std::vector<float> const z{1, 3, 3, 2, 3, -0.0F, 0, -0.0F, -1, -1};
  CHECK(route_of(graft::topk_softmax{}, z, 5, 3).ids == ids_t{1, 2, 4, 0, 1, 2});
  std::vector<float> const flat(300, 0.25F);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    auto const r = route_of(graft::softmax_topk{}, flat, 100, 8, ex);
    CHECK(r.ids == ids_t{0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7});
    for (float const w : r.weights) CHECK(w == 0.125F);
  });
}

TEST_CASE("equal after the softmax rounds them, experts are still chosen by their logits") {
  std::vector<float> const z{20.0F, 20.000002F, -60.0F, -59.0F};
  CHECK(route_of(graft::softmax_topk{.renormalize = false}, z, 4, 4).ids == ids_t{1, 0, 3, 2});
}

TEST_CASE("one expert, all experts, no tokens") {
  CHECK(route_of(graft::softmax_topk{}, {-5, 80, 0}, 1, 1).weights == std::vector<float>{1, 1, 1});
  auto const all = route_of(graft::softmax_topk{.renormalize = false}, {0, 0, 0}, 3, 3);
  CHECK(all.ids == ids_t{0, 1, 2});
  CHECK(near(all.weights, {1.0 / 3, 1.0 / 3, 1.0 / 3}));
  CHECK(route_of(graft::softmax_topk{}, {}, 3, 3).ids.empty());
}

TEST_CASE("a logit of -inf masks an expert: it has weight 0 and is chosen only when no other is left") {
  std::vector<float> const z{-inf, 1, -inf, 1};
  auto const two = route_of(graft::softmax_topk{}, z, 4, 2);
  CHECK(two.ids == ids_t{1, 3});
  CHECK(near(two.weights, {0.5, 0.5}));
  for (auto const gate : {graft::softmax_topk{}, graft::softmax_topk{.renormalize = false}}) {
    auto const three = route_of(gate, z, 4, 3);
    CHECK(three.ids == ids_t{1, 3, 0});
    CHECK(near(three.weights, {0.5, 0.5, 0}));
  }
  CHECK(near(route_of(graft::sigmoid_topk<>{}, z, 4, 3).weights, {0.5, 0.5, 0}));
}

TEST_CASE("a NaN, +inf or a row of -inf only: data_error names the lowest token, the same on every executor") {
  // megablocks and vLLM: NaN logits give expert ids out of range, and later an illegal access.
  struct fault {
    std::vector<float> row;
    char const* what;
  };
  for (fault const& f : {fault{{0, not_a_number, 1}, "has a NaN among its logits"},
                         fault{{0, inf, 1}, "has a logit of +inf"}, fault{{inf, 0, inf}, "has a logit of +inf"},
                         fault{{not_a_number, not_a_number, not_a_number}, "has a NaN among its logits"},
                         fault{{-inf, -inf, -inf}, "has only logits of -inf: there is no expert to choose"},
                         fault{{-inf, not_a_number, inf}, "has a NaN among its logits"}}) {
    std::vector<float> z(3 * 50);
    for (std::size_t i = 0; i < 3; ++i) z[3 * 17 + i] = f.row[i], z[3 * 40 + i] = not_a_number;
    for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name);
      std::string const wanted = "graft::kernels::gate: token 17 " + std::string(f.what);
      CHECK(sentence<graft::data_error>([&] { (void)route_of(graft::softmax_topk{}, z, 3, 2, ex); }) == wanted);
      CHECK(sentence<graft::data_error>([&] { (void)route_of(graft::sigmoid_topk<>{}, z, 3, 2, ex); }) == wanted);
    });
  }
  std::vector<float> const bias{0, not_a_number};
  CHECK(sentence<graft::data_error>([&] { (void)route_of(graft::sigmoid_topk{.bias = view(bias)}, {1, 2}, 2, 1); }) ==
        "graft::kernels::gate: token 0 has a NaN among its logits");
}

TEST_CASE("a gate_status has the fault of every token, and nothing is thrown; ids of such tokens are -1") {
  std::vector<float> const z{0, 1, 2, 0, not_a_number, 2, -inf, -inf, -inf, 0, inf, 1};
  std::vector<std::int32_t> ids(8), codes(4, 9);
  std::vector<float> weights(8), dz(12);
  auto const vz = view(z, 4, 3);
  auto const vi = view(ids, 4, 2);
  auto const vw = view(weights, 4, 2);
  graft::gate_status const status{view(codes)};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    graft::route(ex, graft::softmax_topk{}, vz, vi, vw, status);
    CHECK(codes == std::vector<std::int32_t>{0, 1, 3, 2});
    CHECK(ids == std::vector<std::int32_t>{2, 1, -1, -1, -1, -1, -1, -1});
    for (std::size_t i = 2; i < 8; ++i) CHECK(weights[i] == 0.0F);
    CHECK(sentence<graft::data_error>([&] { graft::check(status); }) ==
          "graft::kernels::gate: token 1 has a NaN among its logits");
  });
  graft::route(graft::serial{}, graft::softmax_topk{}, view(z.data(), 1, 3), view(ids.data(), 1, 2),
               view(weights.data(), 1, 2), graft::gate_status{view(codes.data(), 1)});
  CHECK_NOTHROW(graft::check(graft::gate_status{view(codes.data(), 1)}));
}

TEST_CASE(
    "rows beside one with a fault, and rows of which many logits are equal, have the experts and weights that they "
    "have alone") {
  for (index_t const experts : {8, 16, 70, 600}) {
    auto z = random_numbers<float>(67 * experts, 12, 3.0);
    auto const at = [&](index_t t, index_t c) -> float& { return z[static_cast<std::size_t>(t * experts + c)]; };
    at(5, 7) = not_a_number;
    at(6, 3) = -not_a_number;
    at(21, 0) = inf;
    at(40, 2) = -inf;
    at(66, 1) = not_a_number;
    for (index_t c = 0; c < experts; ++c) {
      at(22, c) = -inf;
      at(23, c) = 0.25F;
      at(24, c) = c == 4 ? 1.0F : -inf;
      at(25, c) = c % 16 == 3 ? 20.0F : at(25, c);
    }
    std::vector<std::int32_t> codes(67, 9), ids(67 * 3);
    std::vector<float> w(67 * 3);
    for_each_isa([&](std::string const& level) {
      INFO(level << ", E = " << experts);
      graft::route(graft::serial{}, graft::softmax_topk{}, view(z, 67, experts), view(ids, 67, 3), view(w, 67, 3),
                   graft::gate_status{view(codes)});
      for (index_t t = 0; t < 67; ++t) {
        auto const first = static_cast<std::size_t>(3 * t);
        std::int32_t const wanted = t == 5 || t == 6 || t == 66 ? 1 : t == 21 ? 2 : t == 22 ? 3 : 0;
        CHECK(codes[static_cast<std::size_t>(t)] == wanted);
        if (wanted != 0) {
          CHECK(ids[first] == -1);
          continue;
        }
        auto const alone = route_of(graft::softmax_topk{}, {&at(t, 0), &at(t, 0) + experts}, experts, 3);
        CHECK(ids_t(ids.begin() + 3 * t, ids.begin() + 3 * t + 3) == alone.ids);
        CHECK(std::vector<float>(w.begin() + 3 * t, w.begin() + 3 * t + 3) == alone.weights);
      }
    });
  }
}

TEST_CASE("non_finite_logits::last: NaN is chosen last and counts as -inf, +inf as the largest number") {
  graft::softmax_topk const g{.non_finite = graft::non_finite_logits::last};
  std::vector<float> const z{0,    not_a_number, -inf, 0, not_a_number, not_a_number,
                             -inf, not_a_number, inf,  1, inf,          not_a_number};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    auto const r = route_of(g, z, 4, 4, ex);
    CHECK(r.ids == ids_t{0, 3, 2, 1, 2, 0, 1, 3, 0, 2, 1, 3});
    CHECK(near(r.weights, {0.5, 0.5, 0, 0, 0, 0, 0, 0, 0.5, 0.5, 0, 0}));
  });
  std::vector<float> dz(12), dw(12, 1.0F);
  std::vector<std::int32_t> ids{0, 3, 2, 1, 2, 0, 1, 3, 0, 2, 1, 3};
  graft::route_backward(graft::serial{}, g, view(z, 3, 4), view(ids, 3, 4), view(dw, 3, 4), view(dz, 3, 4));
  for (float const d : dz) CHECK(d == 0.0F);
}

TEST_CASE("k outside [1, E], groups that do not fit and shapes that differ are refused before anything is written") {
  std::vector<float> z(12), w(24, 7.0F);
  std::vector<std::int32_t> ids(24, 7);
  graft::serial const ex;
  auto const run = [&](auto const& gate, index_t k, index_t rows = 3) {
    return sentence<graft::error>(
        [&] { graft::route(ex, gate, view(z, 3, 4), view(ids.data(), rows, k), view(w.data(), 3, k)); });
  };
  CHECK(run(graft::softmax_topk{}, 5) == "graft::kernels::gate: k is 5 but must be from 1 to the 4 experts");
  CHECK(run(graft::softmax_topk{}, 0) == "graft::kernels::gate: k is 0 but must be from 1 to the 4 experts");
  CHECK(run(graft::softmax_topk{.groups = 3}, 1).find("groups must have equal sizes") != std::string::npos);
  CHECK(run(graft::softmax_topk{.groups = 2, .kept_groups = 3}, 1).find("are kept") != std::string::npos);
  CHECK(run(graft::softmax_topk{.groups = 2, .kept_groups = 1}, 3) ==
        "graft::kernels::gate: k is 3 but 1 of 2 groups have 2 experts");
  for (double const temperature : {0.0, -1.0, 0x1p-127, 0x1p127, static_cast<double>(infinity), std::nan("")})
    CHECK(run(graft::softmax_topk{.temperature = temperature}, 2).find("the temperature from 2^-126 to 2^126") !=
          std::string::npos);
  CHECK(run(graft::softmax_topk{.scale = infinity}, 2).find("finite") != std::string::npos);
  CHECK(run(graft::gshard_top2{.second = graft::second_expert::random}, 3).find("needs k = 2") != std::string::npos);
  CHECK(run(graft::softmax_topk{}, 2, 2) ==
        "graft::kernels::gate: extent 0 of ids[2, 2] is 2 but extent 0 of logits[3, 4] is 3; they must be equal");
  std::vector<float> const bias(3);
  CHECK(run(graft::sigmoid_topk{.bias = view(bias)}, 2).find("bias[3]") != std::string::npos);
  std::vector<std::int32_t> codes(2);
  CHECK(sentence<graft::shape_error>([&] {
          graft::route(ex, graft::softmax_topk{}, view(z, 3, 4), view(ids.data(), 3, 2), view(w.data(), 3, 2),
                       graft::gate_status{view(codes)});
        }).find("status[2]") != std::string::npos);
  CHECK(sentence<graft::argument_error>([&] {
          graft::route(ex, graft::softmax_topk{}, view(z, 3, 4), view(ids.data(), 3, 2), view(z.data(), 3, 2));
        }).find("shares memory") != std::string::npos);
  CHECK(ids == std::vector<std::int32_t>(24, 7));
  CHECK(w == std::vector<float>(24, 7.0F));
}

TEST_CASE("backward: ids out of range are a data_error, -1 has no gradient") {
  std::vector<float> z(6), dw(4, 1.0F), dz(6);
  std::vector<std::int32_t> ids{0, 1, 3, -1};
  auto const run = [&] {
    graft::route_backward(graft::serial{}, graft::softmax_topk{.renormalize = false}, view(z, 2, 3), view(ids, 2, 2),
                          view(dw, 2, 2), view(dz, 2, 3));
  };
  CHECK(sentence<graft::data_error>(run) ==
        "graft::kernels::gate_backward: token 1 names an expert that does not exist");
  ids[2] = -1;
  dz.assign(6, 0.0F);
  run();
  CHECK(near(dz, {1.0 / 9, 1.0 / 9, -2.0 / 9, 0, 0, 0}));
}

namespace {

/// Finite differences of a gate's weights in double, with the ids held fixed; also that both give the ids.
template <class G>
void has_right_gradients(char const* what, G const& gate, index_t experts, index_t k, double spread = 2.0) {
  INFO(what);
  constexpr index_t T = 7;
  auto z = random_numbers<double>(T * experts, 5, spread);
  auto const dw = random_numbers<double>(T * k, 6);
  std::vector<double> w(dw.size()), dz(z.size());
  std::vector<std::int64_t> ids(dw.size());
  graft::serial const ex;
  auto const loss = [&] {
    graft::route(ex, gate, view(z, T, experts), view(ids, T, k), view(w, T, k));
    return inner_product(w, dw);
  };
  loss();
  auto const chosen = ids;
  graft::route_backward(ex, gate, view(z, T, experts), view(chosen, T, k), view(dw, T, k), view(dz, T, experts));
  CHECK(gradient_error(z, dz, loss) <= 256 * (0x1p-34 + 0x1p-53 * 0x1p17));
  auto twice = dz;
  graft::route_backward(ex, gate, view(z, T, experts), view(chosen, T, k), view(dw, T, k), view(twice, T, experts));
  double worst = 0;
  for (std::size_t i = 0; i < dz.size(); ++i) worst = std::max(worst, std::abs(twice[i] - 2 * dz[i]));
  CHECK(worst <= 0x1p-50);  // it adds
}

}  // namespace

TEST_CASE("gradients of every gate against differences in double") {
  has_right_gradients("renormalized", graft::softmax_topk{.scale = 1.7, .temperature = 0.7}, 9, 3);
  has_right_gradients("not", graft::softmax_topk{.renormalize = false, .scale = 1.7, .temperature = 0.7}, 9, 3);
  has_right_gradients("one of one", graft::softmax_topk{.renormalize = false}, 1, 1);
  has_right_gradients("all", graft::softmax_topk{.renormalize = false}, 20, 20);
  has_right_gradients("chosen first", graft::topk_softmax{.scale = 0.3}, 9, 4);
  has_right_gradients("groups", graft::softmax_topk{.renormalize = false, .groups = 4, .kept_groups = 2}, 16, 3);
  auto const bias = random_numbers<double>(12, 8);
  has_right_gradients("sigmoid", graft::sigmoid_topk{.bias = view(bias), .scale = 2.5, .groups = 3, .kept_groups = 2},
                      12, 4);
  has_right_gradients("plain sigmoid", graft::sigmoid_topk<>{.renormalize = false, .scale = 2.5}, 12, 1);
  has_right_gradients("top_p", graft::top_p{.p = 0.6}, 9, 9);
  has_right_gradients("top_p renormalized", graft::top_p{.p = 0.6, .renormalize = true}, 9, 9);
  has_right_gradients("gshard", graft::gshard_top2{.epsilon = 0.1}, 9, 2);
  has_right_gradients("gshard, not all",
                      graft::gshard_top2{.second = graft::second_expert::above_threshold, .threshold = 0.3}, 9, 2);
  has_right_gradients("gshard, random",
                      graft::gshard_top2{.second = graft::second_expert::random, .seed = 4, .epsilon = 0.1}, 9, 2);
  has_right_gradients("gshard, after", graft::gshard_top2{.renormalize = false}, 9, 2);
}

namespace {

/// Every executor at every instruction set against `reference`, one storage type, strided ids of both widths.
template <class S, class I, class G>
void equal_everywhere(tally& all, std::string const& what, G const& gate, index_t T, index_t experts, index_t k,
                      std::uint64_t seed, double spread) {
  matrix<S> z(T, experts, all_layouts[seed % 8]);
  {
    random_bits bits(seed);
    for (index_t t = 0; t < T; ++t)  // coarse, so that there are ties; now and then a masked expert
      for (index_t c = 0; c < experts; ++c)
        z.view()(t, c) =
            graft::store_as<S>(t > 0 && c > 0 && bits.below(9) == 0 ? -infinity
                               : bits.below(2) == 0                 ? spread * static_cast<double>(bits.number())
                                                    : std::round(3.0 * static_cast<double>(bits.number())));
  }
  auto const run = [&](auto const& ex, id_matrix<I>& ids, matrix<S>& w, matrix<S>& dz) {
    graft::route(ex, gate, as_const(z.view()), ids.view(), w.view());
    graft::route_backward(ex, gate, as_const(z.view()), ids.view(), as_const(w.view()), dz.view());
  };
  id_matrix<I> ids(T, k);
  matrix<S> w(T, k, layout::strided), dz(T, experts, layout::padded, 3);
  run(graft::reference{}, ids, w, dz);
  auto const compare = [&](std::string const& name, auto const& ex) {
    id_matrix<I> other(T, k);
    matrix<S> ow(T, k, all_layouts[(seed + 3) % 8]), odz(T, experts, all_layouts[(seed + 5) % 8], 3);
    run(ex, other, ow, odz);
    auto const where = [&] {
      return what + ", " + name + ", T = " + std::to_string(T) + ", E = " + std::to_string(experts) +
             ", k = " + std::to_string(k);
    };
    all.add(other.values() == ids.values() ? "" : "the ids differ", where);
    all.add(differences(as_const(ow.view()), as_const(w.view())) + ow.outside(), where);
    all.add(differences(as_const(odz.view()), as_const(dz.view())) + odz.outside(), where);
  };
  for_each_executor(compare);
  for_each_isa([&](std::string const& level) { compare("serial at " + level, graft::serial{}); });
}

template <class S, class I>
void equal_for(tally& all, std::string const& type) {
  std::uint64_t seed = 1;
  for (index_t const experts : {1, 2, 8, 15, 17, 64, 100, 256, 600})
    for (index_t const k : {index_t{1}, index_t{2}, index_t{8}, index_t{40}, experts}) {
      if (k > experts) continue;
      ++seed;
      index_t const T = seed % 3 == 0 ? 1 : seed % 3 == 1 ? 19 : 67;  // one row, less than a group, more
      equal_everywhere<S, I>(all, type + " renormalized", graft::softmax_topk{.scale = 1.5}, T, experts, k, seed, 4.0);
      equal_everywhere<S, I>(all, type, graft::softmax_topk{.renormalize = false, .temperature = 0.6}, T, experts, k,
                             seed, 30.0);
    }
  equal_everywhere<S, I>(all, type + " sigmoid", graft::sigmoid_topk<>{.groups = 8, .kept_groups = 4}, 19, 256, 8, 3,
                         4.0);
  equal_everywhere<S, I>(all, type + " groups", graft::softmax_topk{.groups = 4, .kept_groups = 2}, 19, 64, 6, 4, 4.0);
  equal_everywhere<S, I>(all, type + " top_p", graft::top_p{.p = 0.7}, 19, 64, 9, 5, 4.0);
  equal_everywhere<S, I>(all, type + " gshard", graft::gshard_top2{.second = graft::second_expert::random}, 19, 17, 2,
                         6, 4.0);
  equal_everywhere<S, I>(all, type + " last", graft::softmax_topk{.non_finite = graft::non_finite_logits::last}, 19, 64,
                         6, 7, 1e30);
}

}  // namespace

TEST_CASE("gates have equal bits on every executor, at every instruction set, for every layout and storage type") {
  tally all;
  equal_for<float, std::int32_t>(all, "float");
  equal_for<bfloat16, std::int64_t>(all, "bfloat16");
  equal_for<float16, std::int32_t>(all, "float16");
  equal_for<double, std::int64_t>(all, "double");
  CHECK(all.text().empty());
  INFO(all.text());
  CHECK(all.count() > 1000);
}

TEST_CASE("a token's experts and weights do not depend on the tokens beside it") {
  auto const z = random_numbers<float>(40 * 70, 9, 3.0);
  for (auto const gate : {graft::softmax_topk{}, graft::softmax_topk{.renormalize = false}}) {
    auto const all = route_of(gate, z, 70, 6);
    for (index_t const t : {0, 13, 39}) {
      auto const one = route_of(gate, {z.begin() + 70 * t, z.begin() + 70 * (t + 1)}, 70, 6);
      CHECK(one.ids == ids_t(all.ids.begin() + 6 * t, all.ids.begin() + 6 * (t + 1)));
      CHECK(one.weights == std::vector<float>(all.weights.begin() + 6 * t, all.weights.begin() + 6 * (t + 1)));
    }
  }
}

TEST_CASE("invariants of random rows: ids distinct, in range, descending, ties to the lower index; weights add up") {
  index_t const rows = rows_to_draw(200000);
  graft::openmp const ex{};
  random_bits bits(11);
  index_t wrong = 0, seen = 0;
  while (seen < rows) {
    index_t const T = std::min<index_t>(rows - seen, 4096);
    index_t const experts = 1 + bits.below(seen % 5 == 0 ? 300 : 40);
    index_t const k = 1 + bits.below(std::min<index_t>(experts, 12));
    bool const coarse = bits.below(2) == 0;
    std::vector<float> z(static_cast<std::size_t>(T * experts));
    for (float& v : z) {
      v = coarse ? static_cast<float>(bits.below(5)) : 8.0F * bits.number();
      if (bits.below(50) == 0) v = -inf;
    }
    for (index_t t = 0; t < T; ++t) z[static_cast<std::size_t>(t * experts + bits.below(experts))] = 1.5F;
    graft::softmax_topk const gate{.renormalize = bits.below(2) == 0};
    auto const r = route_of(gate, z, experts, k, ex);
    std::vector<index_t> order(static_cast<std::size_t>(experts));
    for (index_t t = 0; t < T; ++t) {
      float const* const row = z.data() + t * experts;
      std::iota(order.begin(), order.end(), index_t{0});
      std::partial_sort(order.begin(), order.begin() + k, order.end(),
                        [&](index_t a, index_t b) { return row[a] > row[b] || (row[a] == row[b] && a < b); });
      double sum = 0, all = 0;
      bool right = true;
      float const most = row[order[0]];
      if (!gate.renormalize)
        for (index_t c = 0; c < experts; ++c) all += std::exp(static_cast<double>(row[c] - most));
      for (index_t s = 0; s < k; ++s) {
        auto const i = static_cast<std::size_t>(t * k + s);
        right = right && r.ids[i] == order[static_cast<std::size_t>(s)] && r.weights[i] >= 0.0F &&
                (s == 0 || r.weights[i] <= r.weights[i - 1]);
        sum += static_cast<double>(r.weights[i]);
        if (!gate.renormalize) {
          double const p = std::exp(static_cast<double>(row[r.ids[i]] - most)) / all;
          right = right && std::abs(static_cast<double>(r.weights[i]) - p) <= 60 * 0x1p-24 * p;
        }
      }
      if (gate.renormalize) right = right && std::abs(sum - 1.0) <= static_cast<double>(k + 2) * 0x1p-24;
      wrong += right ? 0 : 1;
    }
    seen += T;
  }
  CHECK(wrong == 0);
  CHECK(seen == rows);
}
