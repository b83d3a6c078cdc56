#include <graft/routing/losses.hpp>

#include <graft/routing/route.hpp>
#include <graft/routing/softmax_topk.hpp>

#include <catch2/catch_test_macros.hpp>

#include "adapters/finite_differences.hpp"
#include "routing/problem.hpp"

using graft::as_const;
using graft::bfloat16;
using graft::none;
using graft::view;
using namespace tests;

namespace {

constexpr double difference_bound = 256 * (0x1p-34 + 0x1p-53 * 0x1p17);

/// k choices of T tokens, round robin: perfect balance when E divides T k.
std::vector<std::int32_t> balanced(index_t T, index_t E, index_t k) {
  std::vector<std::int32_t> ids;
  for (index_t i = 0; i < T * k; ++i) ids.push_back(static_cast<std::int32_t>(i % E));
  return ids;
}

}  // namespace

TEST_CASE(
    "at perfect balance Switch, GShard and MoLA give 1, transformers' loss k; Switch gives E when one expert has all") {
  constexpr index_t T = 16, E = 4, k = 2;
  std::vector<float> const flat(T * E);
  auto const ids = balanced(T, E, k);
  graft::serial const ex;
  auto const value = [&](auto const& call) {
    std::vector<float> loss(1);
    call(view(loss));
    return loss[0];
  };
  auto const vi = view(ids, T, k);
  auto const vz = view(flat, T, E);
  std::vector<std::int32_t> first;
  for (index_t t = 0; t < T; ++t) first.push_back(static_cast<std::int32_t>(t % E));
  auto const vf = view(first, T, 1);
  CHECK(value([&](auto const& l) { graft::switch_loss(ex, vz, vf, 1.0, l); }) == 1.0F);
  CHECK(value([&](auto const& l) { graft::switch_loss(ex, vz, vf, 1.0, l, none, 4); }) == 1.0F);
  CHECK(value([&](auto const& l) { graft::gshard_loss(ex, vz, vf, 1.0, l); }) == 1.0F);
  CHECK(value([&](auto const& l) { graft::pooled_balance_loss(ex, vz, vi, none, 1.0, l); }) == 2.0F);
  CHECK(value([&](auto const& l) { graft::mola_loss(ex, vz, vi, 1.0, l); }) == 1.0F);
  CHECK(value([&](auto const& l) { graft::mola_loss(ex, vz, vi, 0.25, l); }) == 0.25F);
  // log(4)^2
  CHECK(std::abs(value([&](auto const& l) { graft::z_loss(ex, vz, 1.0, l); }) - 1.9218121F) < 1e-6F);
  std::vector<float> skewed(T * E, -30.0F);
  for (std::size_t t = 0; t < T; ++t) skewed[t * E + 1] = 30.0F;
  std::vector<std::int32_t> const ones(T, 1);
  CHECK(value([&](auto const& l) { graft::switch_loss(ex, view(skewed, T, E), view(ones, T, 1), 1.0, l); }) == 4.0F);
}

TEST_CASE("layers are pooled before averaging, which is not the mean of their losses; a mask repeats over layers") {
  constexpr index_t T = 3, E = 2;
  // Layer 0 sends everything to expert 0, layer 1 to expert 1: pooled they are balanced.
  std::vector<float> z;
  std::vector<std::int32_t> ids;
  for (int layer = 0; layer < 2; ++layer)
    for (index_t t = 0; t < T; ++t) {
      z.insert(z.end(), {layer == 0 ? 40.0F : -40.0F, 0.0F});
      ids.push_back(layer);
    }
  graft::serial const ex;
  std::vector<float> pooled(1), first(1), masked(1), alone(1);
  graft::pooled_balance_loss(ex, view(z, 2 * T, E), view(ids, 2 * T, 1), none, 1.0, view(pooled));
  graft::pooled_balance_loss(ex, view(z.data(), T, E), view(ids.data(), T, 1), none, 1.0, view(first));
  CHECK(pooled[0] == 1.0F);
  CHECK(first[0] == 2.0F);
  std::vector<float> const r = random_numbers<float>(2 * T * E, 1);
  std::vector<std::uint8_t> const mask{1, 0, 1};
  std::vector<std::int32_t> const some{0, 1, 1, 1, 0, 0};
  graft::pooled_balance_loss(ex, view(r, 2 * T, E), view(some, 2 * T, 1), view(mask), 1.0, view(masked));
  std::vector<float> const kept{r[0], r[1], r[4], r[5], r[6], r[7], r[10], r[11]};
  std::vector<std::int32_t> const kept_ids{0, 1, 1, 0};
  graft::pooled_balance_loss(ex, view(kept, 4, E), view(kept_ids, 4, 1), none, 1.0, view(alone));
  CHECK(masked[0] == alone[0]);
  std::vector<std::uint8_t> const nobody{0, 0, 0};
  std::vector<float> dz(z.size(), 3.0F);
  graft::pooled_balance_loss(ex, view(z, 2 * T, E), view(ids, 2 * T, 1), view(nobody), 1.0, view(pooled),
                             view(dz, 2 * T, E));
  CHECK(pooled[0] == 1.0F);  // nothing is added
  CHECK(dz == std::vector<float>(z.size(), 3.0F));
}

TEST_CASE("gradients of the losses against differences in double") {
  constexpr index_t T = 12, E = 5, k = 2;
  auto z = random_numbers<double>(T * E, 3, 2.0);
  std::vector<double> w(T * k);
  std::vector<std::int64_t> ids(T * k);
  graft::openmp const ex{2};
  graft::route(ex, graft::softmax_topk{}, view(z, T, E), view(ids, T, k), view(w, T, k));
  ids[5] = -1;
  std::vector<std::uint8_t> const mask{1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1};
  auto const check = [&](char const* what, auto const& call) {
    INFO(what);
    std::vector<double> dz(z.size()), loss(1);
    call(view(loss), view(dz, T, E));
    CHECK(gradient_error(z, dz, [&] {
            std::vector<double> l(1);
            call(view(l), none);
            return l[0];
          }) <= difference_bound);
    auto const once = loss[0];
    call(view(loss), none);
    CHECK(std::abs(loss[0] - 2 * once) <= 0x1p-50);  // it adds
  };
  auto const vz = view(z, T, E);
  auto const vi = view(ids, T, k);
  check("switch", [&](auto const& l, auto const& d) { graft::switch_loss(ex, vz, vi, 0.7, l, d, 3); });
  check("gshard", [&](auto const& l, auto const& d) { graft::gshard_loss(ex, vz, vi, 0.7, l, d); });
  check("pooled", [&](auto const& l, auto const& d) { graft::pooled_balance_loss(ex, vz, vi, view(mask), 0.7, l, d); });
  check("mola", [&](auto const& l, auto const& d) { graft::mola_loss(ex, vz, vi, 0.7, l, d); });
  check("z", [&](auto const& l, auto const& d) { graft::z_loss(ex, vz, 0.7, l, d); });
  check("z masked", [&](auto const& l, auto const& d) { graft::z_loss(ex, vz, 0.7, l, d, view(mask)); });
}

TEST_CASE("CV^2: by hand, its gradient, one expert") {
  graft::serial const ex;
  std::vector<double> v{1, 2, 3, 6}, loss(1), dv(4);
  graft::cv_squared_loss(ex, view(v), 1.0, view(loss), view(dv));
  CHECK(std::abs(loss[0] - 3.5 / 9) < 1e-10);  // mean 3, squares 4 + 1 + 0 + 9
  CHECK(gradient_error(v, dv, [&] {
          std::vector<double> l(1);
          graft::cv_squared_loss(ex, view(v), 1.0, view(l));
          return l[0];
        }) <= difference_bound);
  std::vector<double> one{5}, nothing(1);
  graft::cv_squared_loss(ex, view(one), 1.0, view(nothing));
  CHECK(nothing[0] == 0.0);
  std::vector<double> unbiased(1);
  graft::kernels::cv_squared(ex, view(v), 1.0, view(unbiased), none, graft::variance::unbiased, 0.0);
  CHECK(std::abs(unbiased[0] - 14.0 / 3 / 9) < 1e-15);
}

TEST_CASE("expert_sums counts choices or weights; ids that do not exist are a data_error") {
  graft::serial const ex;
  std::vector<std::int32_t> ids{0, 2, 2, -1, 0, 2};
  std::vector<float> const w{0.5F, 0.25F, 1, 8, 2, 4};
  std::vector<float> counts{0, 0, 10}, sums(3), dw(6), dsums{1, 2, 3};
  graft::kernels::expert_sums(ex, view(ids, 3, 2), none, none, view(counts));
  CHECK(counts == std::vector<float>{2, 0, 13});
  graft::kernels::expert_sums(ex, view(ids, 3, 2), view(w, 3, 2), none, view(sums));
  CHECK(sums == std::vector<float>{2.5F, 0, 5.25F});
  graft::kernels::expert_sums_backward(ex, view(dsums), view(ids, 3, 2), view(dw, 3, 2));
  CHECK(dw == std::vector<float>{1, 3, 3, 0, 1, 3});
  ids[3] = 3;
  CHECK(sentence<graft::data_error>([&] {
          graft::kernels::expert_sums(ex, view(ids, 3, 2), none, none, view(counts));
        }) == "graft::kernels::expert_sums: token 1 names an expert that does not exist");
}

TEST_CASE("losses refuse bad logits before they write, and shapes that do not fit") {
  constexpr index_t T = 600, E = 3;
  std::vector<float> z(T * E), loss{7}, dz(T * E, 7.0F);
  std::vector<std::int32_t> ids(T);
  z[3 * 520] = std::numeric_limits<float>::quiet_NaN();
  z[3 * 530] = static_cast<float>(infinity);
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    CHECK(sentence<graft::data_error>([&] { graft::z_loss(ex, view(z, T, E), 1.0, view(loss), view(dz, T, E)); }) ==
          "graft::kernels::router_losses: token 520 has a NaN among its logits");
  });
  CHECK(loss[0] == 7.0F);
  CHECK(dz == std::vector<float>(T * E, 7.0F));
  graft::serial const ex;
  CHECK(sentence<graft::shape_error>([&] {
          graft::switch_loss(ex, view(z, T, E), view(ids, T, 1), 1.0, view(loss), none, 7);
        }).find("not 7 sequences") != std::string::npos);
  std::vector<std::uint8_t> const mask(7);
  CHECK(sentence<graft::shape_error>([&] {
          graft::pooled_balance_loss(ex, view(z, T, E), view(ids, T, 1), view(mask), 1.0, view(loss));
        }).find("mask[7]") != std::string::npos);
  std::vector<float> two(2);
  CHECK(sentence<graft::shape_error>([&] { graft::z_loss(ex, view(z, T, E), 1.0, view(two)); }).find("loss[2]") !=
        std::string::npos);
}

namespace {

template <class S>
void losses_equal_everywhere(tally& all, std::string const& type) {
  for (auto const& [T, E] : std::vector<std::pair<index_t, index_t>>{{0, 3}, {1, 1}, {700, 5}, {1100, 40}}) {
    matrix<S> const z(T, E, layout::padded, 1, 3.0);
    id_matrix<std::int64_t> ids(T, 2);
    for (index_t t = 0; t < T; ++t)
      for (index_t s = 0; s < 2; ++s) ids.view()(t, s) = (t * t + 3 * s) % E;
    auto const run = [&](auto const& ex, std::vector<S>& loss, matrix<S>& dz) {
      auto const l = [&](std::size_t i) { return view(loss.data() + i, 1); };
      graft::pooled_balance_loss(ex, z.view(), ids.view(), none, 0.7, l(0), dz.view());
      graft::mola_loss(ex, z.view(), ids.view(), 0.7, l(1), dz.view());
      graft::z_loss(ex, z.view(), 0.7, l(2), dz.view());
    };
    std::vector<S> loss(3);
    matrix<S> dz(T, E, layout::transposed, 2);
    run(graft::reference{}, loss, dz);
    for_each_executor([&, tokens = T](std::string const& name, auto const& ex) {
      std::vector<S> other(3);
      matrix<S> odz(tokens, z.view().extent(1), layout::strided, 2);
      run(ex, other, odz);
      auto const where = [&] { return type + ", " + name + ", T = " + std::to_string(tokens); };
      all.add(differences(view(other), view(loss)), where);
      all.add(differences(as_const(odz.view()), as_const(dz.view())) + odz.outside(), where);
    });
  }
}

}  // namespace

TEST_CASE("losses have equal bits on every executor") {
  tally all;
  losses_equal_everywhere<float>(all, "float");
  losses_equal_everywhere<bfloat16>(all, "bfloat16");
  losses_equal_everywhere<double>(all, "double");
  INFO(all.text());
  CHECK(all.text().empty());
}
