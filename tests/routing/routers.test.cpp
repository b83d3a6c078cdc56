#include <graft/routing/dense_gate.hpp>
#include <graft/routing/expert_choice.hpp>
#include <graft/routing/noisy_topk.hpp>
#include <graft/routing/router.hpp>
#include <graft/routing/switch_top1.hpp>

#include <catch2/catch_test_macros.hpp>

#include "adapters/finite_differences.hpp"
#include "routing/problem.hpp"

using graft::as_const;
using graft::bfloat16;
using graft::none;
using graft::view;
using namespace tests;
using ids_t = std::vector<std::int64_t>;

namespace {

constexpr double difference_bound = 256 * (0x1p-34 + 0x1p-53 * 0x1p17);
graft::openmp const two{2};

}  // namespace

TEST_CASE("router: logits by hand, gradients of weight, bias and x against differences") {
  std::vector<float> const x{1, 2}, W{1, 0, 3, -1, 0, 1}, bias{0, 0.5F, 0};
  std::vector<float> z(3);
  graft::router_logits(two, graft::router{view(W, 3, 2), view(bias)}, view(x, 1, 2), view(z, 1, 3));
  CHECK(z == std::vector<float>{1, 1.5F, 2});

  constexpr index_t T = 5, n = 7, E = 3;
  auto xs = random_numbers<double>(T * n, 1), w = random_numbers<double>(E * n, 2), b = random_numbers<double>(E, 3);
  auto const dz = random_numbers<double>(T * E, 4);
  std::vector<double> dx(xs.size()), dw(w.size()), db(b.size());
  graft::router const r{view(w, E, n), view(b)};
  auto const loss = [&] {
    std::vector<double> logits(T * E);
    graft::router_logits(two, r, view(xs, T, n), view(logits, T, E));
    return inner_product(logits, dz);
  };
  graft::backward(two, r, view(xs, T, n), view(dz, T, E), graft::router_gradients{view(dw, E, n), view(db)},
                  view(dx, T, n));
  CHECK(gradient_error(xs, dx, loss) <= difference_bound);
  CHECK(gradient_error(w, dw, loss) <= difference_bound);
  CHECK(gradient_error(b, db, loss) <= difference_bound);
}

TEST_CASE("router: from x to experts in one call: the bits of two, logits in fp32, scratch as announced") {
  constexpr index_t T = 37, n = 30, E = 9, k = 3;
  auto const check = []<class S>(S) {
    auto const x = random_numbers<S>(T * n, 1), w = random_numbers<S>(E * n, 2), b = random_numbers<S>(E, 3);
    graft::router const r{view(w, E, n), view(b)};
    using value = graft::accumulate_t<S>;
    for_each_executor([&](std::string const& name, auto const& ex) {
      INFO(name);
      std::vector<value> logits(T * E), weights(T * k), expected(T * k);
      std::vector<std::int32_t> ids(T * k), expected_ids(T * k);
      graft::router_logits(ex, r, view(x, T, n), view(logits, T, E));
      graft::route(ex, graft::softmax_topk{}, view(std::as_const(logits), T, E), view(expected_ids, T, k),
                   view(expected, T, k));
      graft::route(ex, graft::softmax_topk{}, r, view(x, T, n), view(ids, T, k), view(weights, T, k));
      CHECK(ids == expected_ids);
      CHECK(weights == expected);
    });
    CHECK(graft::route_scratch_bytes(r, view(x, T, n)) == graft::detail::scratch_size(T, E, sizeof(value), "route"));
  };
  check(float{});
  check(double{});
  check(graft::bfloat16{});
  // A token with a NaN has the number that it has in x.
  std::vector<float> x(4, 1.0F), w(4, 1.0F), weights(2);
  x[2] = std::numeric_limits<float>::quiet_NaN();
  std::vector<std::int32_t> ids(2);
  CHECK(sentence<graft::data_error>([&] {
          graft::route(graft::serial{}, graft::switch_top1{}, graft::router{view(w, 2, 2)}, view(x, 2, 2),
                       view(ids, 2, 1), view(weights, 2, 1));
        }).find("token 1 has a NaN") != std::string::npos);
}

TEST_CASE("router: small weights to begin with, a function of the seed") {
  std::vector<float> w(64 * 64), again(64 * 64), b(64, 3.0F);
  graft::initialize(two, graft::router{view(w, 64, 64), view(b)}, graft::small_normal{.seed = 1});
  graft::initialize(graft::reference{}, graft::router{view(again, 64, 64)}, graft::small_normal{.seed = 1});
  CHECK(w == again);
  CHECK(b == std::vector<float>(64));
  double squares = 0;
  for (float const v : w) squares += static_cast<double>(v) * static_cast<double>(v);
  CHECK(std::abs(std::sqrt(squares / 4096) - 0.02) < 0.001);
}

TEST_CASE("dense_gate: softmax over all, with a temperature; bad logits are refused; gradients") {
  std::vector<float> const z{0, std::log(3.0F)};
  std::vector<float> w(2);
  graft::route(two, graft::dense_gate{}, view(z, 1, 2), view(w, 1, 2));
  CHECK(std::abs(w[0] - 0.25F) < 1e-6F);
  graft::route(two, graft::dense_gate{.temperature = 0.5}, view(z, 1, 2), view(w, 1, 2));
  CHECK(std::abs(w[0] - 0.1F) < 1e-6F);
  std::vector<float> const bad{0, 1, 2, static_cast<float>(infinity)};
  std::vector<float> two_rows(4);
  CHECK(sentence<graft::data_error>([&] {
          graft::route(two, graft::dense_gate{}, view(bad, 2, 2), view(two_rows, 2, 2));
        }) == "graft::kernels::softmax: token 1 has a logit of +inf");
  std::vector<std::int32_t> codes(2, 5);
  graft::route(two, graft::dense_gate{}, view(bad, 2, 2), view(two_rows, 2, 2), graft::gate_status{view(codes)});
  CHECK(codes == std::vector<std::int32_t>{0, 2});

  constexpr index_t T = 4, E = 6;
  auto zs = random_numbers<double>(T * E, 1, 3.0);
  auto const dw = random_numbers<double>(T * E, 2);
  std::vector<double> p(T * E), dz(T * E);
  graft::dense_gate const g{.temperature = 0.7};
  auto const loss = [&] {
    graft::route(two, g, view(zs, T, E), view(p, T, E));
    return inner_product(p, dw);
  };
  loss();
  graft::route_backward(two, g, view(p, T, E), view(dw, T, E), view(dz, T, E));
  CHECK(gradient_error(zs, dz, loss) <= difference_bound);
}

TEST_CASE("expert_choice: each expert takes the tokens that score highest, ties to the lower token") {
  std::vector<float> const z{0, 1, 2, 0, 0, 0, 2, 0};
  std::vector<float> scores(8), w(4);
  std::vector<std::int32_t> ids(4);
  CHECK(graft::expert_capacity(4, 2, 1.0) == 2);
  CHECK(graft::expert_capacity(10, 4, 1.0) == 2);
  CHECK(graft::expert_capacity(3, 8, 1.0) == 1);
  CHECK(graft::expert_capacity(3, 1, 9.0) == 3);
  graft::route(two, graft::expert_choice{}, view(z, 4, 2), view(scores, 4, 2), view(ids, 2, 2), view(w, 2, 2));
  CHECK(ids == std::vector<std::int32_t>{1, 3, 0, 2});
  CHECK(w[0] == w[1]);
  CHECK(w[3] == 0.5F);
  CHECK(sentence<graft::argument_error>([&] {
          std::vector<std::int32_t> many(10);
          std::vector<float> more(10);
          graft::route(two, graft::expert_choice{}, view(z, 4, 2), view(scores, 4, 2), view(many, 2, 5),
                       view(more, 2, 5));
        }) == "graft::route of expert_choice: k is 5 but must be from 1 to the 4 tokens");

  constexpr index_t T = 9, E = 3, C = 4;
  auto zs = random_numbers<double>(T * E, 5, 2.0);
  auto const dw = random_numbers<double>(E * C, 6);
  std::vector<double> s(T * E), ws(E * C), ds(T * E), dz(T * E);
  std::vector<std::int64_t> chosen(E * C);
  auto const loss = [&] {
    graft::route(two, graft::expert_choice{}, view(zs, T, E), view(s, T, E), view(chosen, E, C), view(ws, E, C));
    return inner_product(ws, dw);
  };
  loss();
  graft::route_backward(two, graft::expert_choice{}, view(s, T, E), view(chosen, E, C), view(dw, E, C), view(ds, T, E),
                        view(dz, T, E));
  CHECK(gradient_error(zs, dz, loss) <= difference_bound);
}

TEST_CASE("switch_top1: the largest probability, not renormalized; jitter leaves the input of experts alone") {
  auto const r = route_of(graft::switch_top1{}, {0, std::log(3.0F)}, 2, 1);
  CHECK(r.ids == ids_t{1});
  CHECK(std::abs(r.weights[0] - 0.75F) < 1e-6F);
  constexpr index_t T = 50, n = 40;
  auto const x = random_numbers<float>(T * n, 1);
  auto const before = x;
  std::vector<float> y(x.size()), again(x.size()), ones(x.size(), 1.0F), factors(x.size(), 2.0F);
  graft::jitter_noise const noise{0.01, 7, 8};
  graft::kernels::jitter(two, noise, view(x, T, n), view(y, T, n));
  CHECK(x == before);
  graft::kernels::jitter_add(graft::reference{}, noise, view(ones, T, n), view(factors, T, n));
  bool right = true;
  float least = 2, most = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    float const u = factors[i] - 2.0F;
    right = right && std::abs(y[i] - x[i] * u) <= 0x1p-22F;
    least = std::min(least, u);
    most = std::max(most, u);
  }
  CHECK(right);
  CHECK((least > 0.9899F && least < 0.9905F && most > 1.0095F && most < 1.0101F));
  graft::kernels::jitter(two, {0.0}, view(x, T, n), view(again, T, n));
  CHECK(again == x);
  CHECK(sentence<graft::argument_error>([&] {
          graft::kernels::jitter(two, {1.0}, view(x, T, n), view(again, T, n));
        }).find("[0, 1)") != std::string::npos);
}

TEST_CASE("noisy_topk: no deviation is no noise; the load counts tokens when there is hardly any") {
  std::vector<float> const clean{3, 1, 2, 0, 1, 5}, raw(6, -800.0F), noise{9, -9, 9, -9, 9, -9};
  std::vector<float> h(6), w(2), p(6), load(3);
  std::vector<std::int32_t> ids(2);
  graft::noisy_topk const g{};
  graft::route(two, g, view(clean, 2, 3), view(raw, 2, 3), view(noise, 2, 3), view(h, 2, 3), view(ids, 2, 1),
               view(w, 2, 1));
  CHECK(h == clean);
  CHECK(ids == std::vector<std::int32_t>{0, 2});
  graft::expert_load(two, g, view(clean, 2, 3), view(raw, 2, 3), view(h, 2, 3), 1, view(p, 2, 3), view(load));
  CHECK(load == std::vector<float>{1, 0, 1});
  load.assign(3, 0.0F);
  graft::expert_load(two, g, view(clean, 2, 3), view(raw, 2, 3), view(h, 2, 3), 3, view(p, 2, 3), view(load));
  CHECK(load == std::vector<float>{2, 2, 2});  // all experts, always
}

TEST_CASE("noisy_topk: gradients of weights and of loads against differences") {
  constexpr index_t T = 6, E = 5, k = 2;
  auto clean = random_numbers<double>(T * E, 1), raw = random_numbers<double>(T * E, 2);
  auto const dw = random_numbers<double>(T * k, 3), dload = random_numbers<double>(E, 4);
  graft::random_stream const noise{5, 6};
  graft::noisy_topk const g{.floor = 0.01};
  std::vector<double> h(T * E), w(T * k), p(T * E), dh(T * E), dclean(T * E), draw(T * E);
  std::vector<std::int32_t> ids(T * k);
  auto const m = [](std::vector<double>& v) { return view(v, T, E); };
  auto const loss = [&] {
    std::vector<double> load(E);
    graft::route(two, g, m(clean), m(raw), noise, m(h), view(ids, T, k), view(w, T, k));
    graft::expert_load(two, g, m(clean), m(raw), m(h), k, m(p), view(load));
    return inner_product(w, dw) + inner_product(load, dload);
  };
  loss();
  auto const chosen = ids;
  auto noisy = h;
  graft::expert_load_backward(two, g, m(clean), m(raw), m(noisy), k, view(dload), m(dclean), m(draw), m(dh));
  graft::route_backward(two, g, m(raw), noise, m(noisy), view(chosen, T, k), view(dw, T, k), m(dh), m(dclean), m(draw));
  CHECK(gradient_error(clean, dclean, loss) <= 8 * difference_bound);
  CHECK(gradient_error(raw, draw, loss) <= 8 * difference_bound);
}

TEST_CASE("dense_gate, expert_choice and noisy_topk have equal bits on every executor") {
  constexpr index_t T = 37, E = 19, k = 3, C = 6;
  matrix<bfloat16> const z(T, E, layout::padded, 1, 3.0), raw(T, E, layout::transposed, 2);
  struct all_results {
    matrix<float> p{T, E}, scores{T, E}, h{T, E}, load_p{T, E}, dz{T, E, layout::strided, 3},
        dclean{T, E, layout::contiguous, 4}, draw{T, E, layout::contiguous, 5}, dh{T, E, layout::contiguous, 6},
        w{T, k}, by_expert{E, C}, ds{T, E};
    id_matrix<std::int32_t> ids{T, k}, tokens{E, C};
    std::vector<float> load = std::vector<float>(E);
  };
  auto const run = [&](auto const& ex, all_results& r) {
    graft::random_stream const noise{1, 2};
    graft::noisy_topk const g{};
    graft::route(ex, graft::dense_gate{.temperature = 0.7}, z.view(), r.p.view());
    graft::route_backward(ex, graft::dense_gate{}, as_const(r.p.view()), z.view(), r.dz.view());
    graft::route(ex, graft::expert_choice{}, z.view(), r.scores.view(), r.tokens.view(), r.by_expert.view());
    graft::route_backward(ex, graft::expert_choice{}, as_const(r.scores.view()), r.tokens.view(),
                          as_const(r.by_expert.view()), r.ds.view(), r.dz.view());
    graft::route(ex, g, z.view(), raw.view(), noise, r.h.view(), r.ids.view(), r.w.view());
    graft::expert_load(ex, g, z.view(), raw.view(), as_const(r.h.view()), k, r.load_p.view(), view(r.load));
    graft::expert_load_backward(ex, g, z.view(), raw.view(), as_const(r.h.view()), k, view(r.load), r.dclean.view(),
                                r.draw.view(), r.dh.view());
    graft::route_backward(ex, g, raw.view(), noise, as_const(r.h.view()), r.ids.view(), as_const(r.w.view()),
                          r.dh.view(), r.dclean.view(), r.draw.view());
  };
  all_results expected;
  run(graft::reference{}, expected);
  tally all;
  for_each_executor([&](std::string const& name, auto const& ex) {
    all_results r;
    run(ex, r);
    auto const where = [&] { return name; };
    for (auto const member : {&all_results::p, &all_results::scores, &all_results::h, &all_results::load_p,
                              &all_results::dz, &all_results::dclean, &all_results::draw, &all_results::dh,
                              &all_results::w, &all_results::by_expert, &all_results::ds})
      all.add(differences(as_const((r.*member).view()), as_const((expected.*member).view())) + (r.*member).outside(),
              where);
    all.add(differences(view(r.load), view(expected.load)), where);
    all.add(
        r.ids.values() == expected.ids.values() && r.tokens.values() == expected.tokens.values() ? "" : "ids differ",
        where);
  });
  INFO(all.text());
  CHECK(all.text().empty());
}
