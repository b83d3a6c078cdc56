#include <graft/adapters/merging.hpp>

#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "adapters/problem.hpp"

using graft::argument_error;
using graft::bfloat16;
using graft::index_t;
using graft::lora;
using graft::lora_fa;
using graft::merge;
using graft::merge_all;
using graft::none;
using graft::shape_error;
using graft::switch_adapter;
using graft::transposed;
using graft::unmerge;
using graft::view;
using namespace tests;

namespace {

constexpr double third = 0x1.555556p-2;

/// Two adapters of different ranks for one weight of W, the first with a bias.
template <class W>
struct pair_of {
  shape s;
  matrix<float> a1, b1, bias, a2, b2;
  matrix<W> w, base_bias;
  explicit pair_of(shape const& of, layout how = layout::contiguous)
      : s(of),
        a1(of.r, of.n, layout::contiguous, 1),
        b1(of.m, of.r, layout::contiguous, 2),
        bias(1, of.m, layout::contiguous, 3),
        a2(of.r + 3, of.n, layout::contiguous, 4),
        b2(of.m, of.r + 3, layout::contiguous, 5),
        w(of.m, of.n, how, 6),
        base_bias(1, of.m, how, 7) {}
  [[nodiscard]] any_biased_lora<float> first() { return {a1.view(), b1.view(), third, as_vector(bias.view())}; }
  [[nodiscard]] auto second() { return lora_fa{a2.view(), b2.view(), -1.25}; }
  [[nodiscard]] auto base() { return as_vector(base_bias.view()); }
};

/// A method of somebody else: W[i, j] += value, no bias, no rows, no product.
struct shifted {
  float value;
};
template <class E, class W>
void merge(E const&, shifted const& s, W const& w) {
  for (index_t i = 0; i < w.extent(0); ++i)
    for (index_t j = 0; j < w.extent(1); ++j)
      w(i, j) = graft::store_as<typename W::value_type>(graft::load_as<float>(w(i, j)) + s.value);
}
template <class E, class W>
void unmerge(E const& ex, shifted const& s, W const& w) {
  merge(ex, shifted{-s.value}, w);
}
template <class E, class D>
void delta_weight(E const&, shifted const&, D const&) {}

std::vector<shape> shapes() {
  return {{1, 1, 1, 1}, {1, 0, 1, 3}, {1, 5, 7, 2}, {1, 64, 4, 65}, {1, 33, 8, 17}, {1, 7, 2, 0}};
}

}  // namespace

TEST_CASE("merge_all and switch_adapter by hand", "[adapters][merging]") {
  // s B A: 2 [1; 2] [1, -1] = [[2, -2], [4, -4]] and 1/2 [2; 0] [3, 1] = [[3, 1], [0, 0]]; half the bias (4, 6).
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> a1{1, -1}, b1{1, 2}, a2{3, 1}, b2{2, 0}, bias{4, 6}, w{10, 20, 30, 40}, base_bias{1, 1};
    auto const first = lora{view(a1, 1, 2), view(b1, 2, 1), 2.0, none};
    auto const second = lora{view(a2, 1, 2), view(b2, 2, 1), 0.5, view(bias)};
    merge_all(ex, view(w, 2, 2), view(base_bias), first, second);
    CHECK(w == std::vector<float>{15, 19, 34, 36});
    CHECK(base_bias == std::vector<float>{3, 4});
    unmerge(ex, second, view(w, 2, 2), view(base_bias));
    CHECK(w == std::vector<float>{12, 18, 34, 36});
    switch_adapter(ex, first, second, view(w, 2, 2), view(base_bias));
    CHECK(w == std::vector<float>{13, 21, 30, 40});
    CHECK(base_bias == std::vector<float>{3, 4});
    switch_adapter(ex, second, first, view(w, 2, 2), view(base_bias));
    CHECK(w == std::vector<float>{12, 18, 34, 36});
    CHECK(base_bias == std::vector<float>{1, 1});
  });
}

TEST_CASE("merge_all of fp32 and fp64 weights has the bits of one merge after the other",
          "[adapters][merging][parity]") {
  auto const check = [&]<class W>(std::type_identity<W>) {
    for (shape const& s : shapes())
      for_each_executor([&](std::string const& name, auto const& ex) {
        INFO(name << ", " << type_name<W>() << ", " << s.text());
        pair_of<W> p(s, layout::padded), q(s);
        merge_all(ex, p.w.view(), p.base(), p.first(), p.second());
        merge(graft::reference{}, q.first(), q.w.view(), q.base());
        merge(graft::reference{}, q.second(), q.w.view());
        CHECK(differences(p.w.view(), q.w.view()) == "");
        CHECK(differences(p.base_bias.view(), q.base_bias.view()) == "");
        CHECK(p.w.outside() + p.base_bias.outside() == "");
      });
  };
  check(std::type_identity<float>{});
  check(std::type_identity<double>{});
}

TEST_CASE("merge_all of 16-bit weights sums in fp32 and rounds once", "[adapters][merging][parity]") {
  auto const check = [&]<class W>(std::type_identity<W>) {
    for (shape const& s : shapes()) {
      pair_of<W> p(s);
      auto wide = copy_of<float>(p.w.view());
      auto wide_bias = copy_of<float>(p.base_bias.view());
      merge(graft::reference{}, p.first(), wide.view(), as_vector(wide_bias.view()));
      merge(graft::reference{}, p.second(), wide.view());
      auto const expected = copy_of<W>(wide.view());
      auto const expected_bias = copy_of<W>(wide_bias.view());
      for_each_executor([&](std::string const& name, auto const& ex) {
        for (layout const how : {layout::contiguous, layout::transposed, layout::strided}) {
          INFO(name << ", " << type_name<W>() << ", " << s.text() << ", " << tests::name(how));
          pair_of<W> q(s, how);
          merge_all(ex, q.w.view(), q.base(), q.first(), q.second());
          CHECK(differences(graft::as_const(q.w.view()), expected.view()) == "");
          CHECK(differences(graft::as_const(q.base_bias.view()), expected_bias.view()) == "");
          CHECK(q.w.outside() + q.base_bias.outside() == "");
        }
      });
    }
    // Merges one after the other round twice, and that shows.
    shape const s{1, 33, 8, 17};
    pair_of<W> p(s), q(s);
    merge(graft::serial{}, p.first(), p.w.view(), p.base());
    merge(graft::serial{}, p.second(), p.w.view());
    merge_all(graft::serial{}, q.w.view(), q.base(), q.first(), q.second());
    CHECK(differences(p.w.view(), q.w.view()) != "");
  };
  check(std::type_identity<bfloat16>{});
}

TEST_CASE("merge_all adds in the order of its arguments", "[adapters][merging]") {
  // 1 + 2^24 is 2^24 in fp32: what is left depends on the order.
  std::vector<float> const one{1.0F}, large{0x1p24F};
  auto const up = lora{view(large, 1, 1), view(one, 1, 1), 1.0, none};
  auto const down = lora{view(large, 1, 1), view(one, 1, 1), -1.0, none};
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<float> w{1.0F};
    merge_all(ex, view(w, 1, 1), up, down);
    CHECK(w[0] == 0.0F);
    w[0] = 1.0F;
    merge_all(ex, view(w, 1, 1), down, up);
    CHECK(w[0] == 1.0F);
    std::vector<bfloat16> h{bfloat16(1.0F)};
    merge_all(ex, view(h, 1, 1), up, down);
    CHECK(static_cast<float>(h[0]) == 0.0F);
    h[0] = bfloat16(1.0F);
    merge_all(ex, view(h, 1, 1), down, up);
    CHECK(static_cast<float>(h[0]) == 1.0F);
  });
}

TEST_CASE("switch_adapter puts one adapter in the place of another", "[adapters][merging]") {
  auto const check = [&]<class W>(std::type_identity<W>) {
    for (shape const& s : shapes()) {
      pair_of<W> base(s), merged(s);
      grid const w(base.w.view()), b(base.base_bias.view());
      grid const delta1 = third * (grid(base.b1.view()) * grid(base.a1.view()));
      grid const delta2 = -1.25 * (grid(base.b2.view()) * grid(base.a2.view()));
      grid const all1 = third * (magnitude(grid(base.b1.view())) * magnitude(grid(base.a1.view())));
      grid const all2 = 1.25 * (magnitude(grid(base.b2.view())) * magnitude(grid(base.a2.view())));
      merge(graft::serial{}, merged.first(), merged.w.view(), merged.base());
      auto const start = copy_of<W>(merged.w.view());
      auto const start_bias = copy_of<W>(merged.base_bias.view());
      // The bits: both steps in fp32 (fp64), and one rounding.
      using wide_t = graft::accumulate_t<W>;
      auto wide = copy_of<wide_t>(start.view());
      auto wide_bias = copy_of<wide_t>(start_bias.view());
      unmerge(graft::reference{}, merged.first(), wide.view(), as_vector(wide_bias.view()));
      merge(graft::reference{}, merged.second(), wide.view());
      auto const expected = copy_of<W>(wide.view());
      auto const expected_bias = copy_of<W>(wide_bias.view());
      for_each_executor([&](std::string const& name, auto const& ex) {
        INFO(name << ", " << type_name<W>() << ", " << s.text());
        merged.w.assign(start.view());
        merged.base_bias.assign(start_bias.view());
        switch_adapter(ex, merged.first(), merged.second(), merged.w.view(), merged.base());
        CHECK(differences(graft::as_const(merged.w.view()), expected.view()) == "");
        CHECK(differences(graft::as_const(merged.base_bias.view()), expected_bias.view()) == "");
      });
      // The law: the base weight with `to` in it, up to three merges and the roundings to W.
      auto const bound = [&](double all) {
        return 3.0 * short_axis_bound<wide_t>(s.r + 3, all) + 2.0 * unit_roundoff<W>() * all + half_smallest<W>();
      };
      CHECK(beyond(merged.w.view(), w + delta2, magnitude(w) + all1 + all2, bound) == "");
      CHECK(beyond(merged.base_bias.view(), b, magnitude(b) + magnitude(grid(base.bias.view())), bound) == "");
      CHECK(beyond(start.view(), w + delta1, magnitude(w) + all1, bound) == "");
    }
  };
  check(std::type_identity<float>{});
  check(std::type_identity<bfloat16>{});
}

TEST_CASE("16-bit weights above 4 MiB of fp32 are taken in blocks of rows, stored along either dimension",
          "[adapters][merging]") {
  constexpr index_t m = 5, n = 400000;  // two rows a block, and one left
  matrix<float> a(1, n, layout::contiguous, 1), b(m, 1, layout::contiguous, 2), bias(1, m, layout::contiguous, 3);
  std::vector<bfloat16> w = random_numbers<bfloat16>(m * n, 4);
  std::vector<bfloat16> by_columns(w.size());
  auto const W = view(w, m, n);
  auto const stored = transposed(view(by_columns, n, m));
  graft::kernels::copy(graft::serial{}, W, stored);
  matrix<bfloat16> base_bias(1, m, layout::contiguous, 5);
  auto wide = copy_of<float>(W);
  auto wide_bias = copy_of<float>(base_bias.view());
  auto const l = lora{a.view(), b.view(), third, as_vector(bias.view())};
  auto const f = lora_fa{a.view(), b.view(), 2.0};
  CHECK(graft::merge_all_scratch_bytes(W) == 2 * n * sizeof(float));
  CHECK(graft::merge_all_scratch_bytes(W, as_vector(base_bias.view())) == 2 * n * sizeof(float) + 64);
  merge(graft::serial{}, l, wide.view(), as_vector(wide_bias.view()));
  merge(graft::serial{}, f, wide.view());
  merge_all(graft::openmp{2}, W, as_vector(base_bias.view()), l, f);
  merge_all(graft::openmp{2}, stored, as_vector(copy_of<float>(base_bias.view()).view()), l, f);
  auto const expected = copy_of<bfloat16>(wide.view());
  index_t different = 0;
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < n; ++j)
      different += same_bits(W(i, j), expected.view()(i, j)) && same_bits(stored(i, j), expected.view()(i, j)) ? 0 : 1;
  CHECK(different == 0);
  CHECK(differences(graft::as_const(base_bias.view()), copy_of<bfloat16>(wide_bias.view()).view()) == "");
}

TEST_CASE("methods of others are merged beside graft's, with the bias for those that know one", "[adapters][merging]") {
  static_assert(graft::mergeable<shifted> && !graft::row_mergeable<shifted>);
  pair_of<float> p({1, 9, 2, 5}), q({1, 9, 2, 5});
  merge_all(graft::serial{}, p.w.view(), p.base(), shifted{0.5F}, p.first());
  merge(graft::serial{}, shifted{0.5F}, q.w.view());
  merge(graft::serial{}, q.first(), q.w.view(), q.base());
  CHECK(differences(p.w.view(), q.w.view()) == "");
  CHECK(differences(p.base_bias.view(), q.base_bias.view()) == "");
  switch_adapter(graft::serial{}, shifted{0.5F}, p.second(), p.w.view(), p.base());
  unmerge(graft::serial{}, shifted{0.5F}, q.w.view());
  merge(graft::serial{}, q.second(), q.w.view());
  CHECK(differences(p.w.view(), q.w.view()) == "");
}

TEST_CASE("merge_all takes the scratch that it says", "[adapters][merging][scratch]") {
  watched_resource watched;
  auto const bytes_of_call = [&](auto const& call) { return tests::taken_by(watched, call); };
  for (shape const& s : shapes())
    for_each_executor(
        [&](std::string const& name, auto const& ex) {
          INFO(name << ", " << s.text());
          pair_of<bfloat16> p(s);
          pair_of<float> q(s);
          matrix<float> block(s.m, s.n, layout::contiguous, 1);
          std::size_t const merges = bytes_of_call([&] {
            merge(ex, q.first(), block.view(), q.base());
            merge(ex, q.second(), block.view());
          });
          std::size_t const asked = graft::merge_all_scratch_bytes(p.w.view(), p.base());
          auto const part = [](index_t count) {
            return graft::detail::scratch_block::rounded(static_cast<std::size_t>(count) * sizeof(float));
          };
          CHECK(asked == part(s.m * s.n) + part(s.m));
          std::size_t const all = bytes_of_call([&] { merge_all(ex, p.w.view(), p.base(), p.first(), p.second()); });
          CHECK(all == asked + merges);
          CHECK(bytes_of_call([&] { switch_adapter(ex, p.first(), p.second(), p.w.view(), p.base()); }) ==
                asked + merges);
          CHECK(graft::merge_all_scratch_bytes(q.w.view(), q.base()) == 0);
          CHECK(bytes_of_call([&] { merge_all(ex, q.w.view(), q.base(), q.first(), q.second()); }) == merges);
        },
        &watched);
}

TEST_CASE("merge_all and switch_adapter check every adapter before the first is merged",
          "[adapters][merging][contracts]") {
  using q_t = arguments;
  using ex_t = graft::serial;
  refuses<shape_error>("graft::merge_all: extent 1 of W[4, 6] is 6 but extent 1 of A[2, 5] is 5; they must be equal",
                       [](q_t& q, ex_t const& ex) {
                         merge_all(ex, q.W(), lora{q.A(), q.B(), 1.0, none},
                                   lora{view(q.ga.data(), 2, 5), q.B(), 1.0, none});
                       });
  refuses<shape_error>(
      "graft::merge_all: extent 0 of base_bias[3] is 3 but extent 0 of B[4, 2] is 4; they must be equal",
      [](q_t& q, ex_t const& ex) {
        merge_all(ex, q.W(), view(q.base_bias.data(), 3), lora{q.A(), q.B(), 1.0, none}, lora_fa{q.A(), q.B(), 1.0});
      });
  refuses<argument_error>(
      "graft::merge_all: W[4, 6] is written but shares memory with B[4, 2]", [](q_t& q, ex_t const& ex) {
        merge_all(ex, q.W(), lora{q.A(), q.B(), 1.0, none}, lora{q.A(), view(q.w.data(), 4, 2), 1.0, none});
      });
  refuses<argument_error>(
      "graft::switch_adapter: A[0, 6] has rank 0; the rank must be positive", [](q_t& q, ex_t const& ex) {
        switch_adapter(ex, lora{q.A(), q.B(), 1.0, none}, lora{view(q.a.data(), 0, 6), q.B(), 1.0, none}, q.W());
      });
  refuses<argument_error>(
      "graft::switch_adapter: base_bias[4] is written but shares memory with bias[4]", [](q_t& q, ex_t const& ex) {
        switch_adapter(ex, lora_fa{q.A(), q.B(), 1.0}, lora{q.A(), q.B(), 1.0, view(q.bias)}, q.W(), view(q.bias));
      });
  refuses<argument_error>("graft::switch_adapter: W[4, 6] has elements but its pointer is null",
                          [](q_t& q, ex_t const& ex) {
                            switch_adapter(ex, lora_fa{q.A(), q.B(), 1.0}, lora_fa{q.A(), q.B(), 2.0},
                                           view(static_cast<float*>(nullptr), 4, 6));
                          });
}
