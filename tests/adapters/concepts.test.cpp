#include <graft/adapters/concepts.hpp>

#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "adapters/problem.hpp"

using graft::additive_adapter;
using graft::index_t;
using graft::mergeable;
using graft::none;
using graft::parameter_count;
using graft::row_mergeable;
using graft::trainable_adapter;
using graft::view;

namespace somebody {

/// y += x: additive, and nothing else. Outside of graft: concepts ask for functions, found by ADL.
struct residual {
  index_t n;
  [[nodiscard]] index_t in_features() const { return n; }
  [[nodiscard]] index_t out_features() const { return n; }
};
template <class E, class X, class Y>
void add_delta(E const&, residual const&, X const&, Y const&) {}

/// Mergeable, but not by rows.
struct whole {};
template <class E, class W>
void merge(E const&, whole const&, W const&) {}
template <class E, class W>
void unmerge(E const&, whole const&, W const&) {}
template <class E, class W>
void delta_weight(E const&, whole const&, W const&) {}

/// The same, by rows too.
struct by_rows : whole {};
inline by_rows output_rows(by_rows const& a, index_t, index_t) { return a; }

/// Merge without the way back.
struct one_way {};
template <class E, class W>
void merge(E const&, one_way const&, W const&) {}

/// Three trained members of any rank.
struct trained {
  graft::tensor_view<float, graft::dynamic_extents<1>> scales;
  graft::tensor_view<double, graft::dynamic_extents<2>> matrix;
  graft::tensor_view<graft::bfloat16, graft::dynamic_extents<3>> blocks;
};
inline auto trainable(trained const& t) {
  return std::tuple{graft::parameter<decltype(t.scales)>{"scales", t.scales},
                    graft::parameter<decltype(t.matrix)>{"matrix", t.matrix},
                    graft::parameter<decltype(t.blocks)>{"blocks", t.blocks}};
}
struct untrained {};
inline std::tuple<> trainable(untrained const&) { return {}; }

}  // namespace somebody

TEST_CASE("concepts ask for the functions of a method, whoever wrote it", "[adapters][concepts]") {
  using namespace somebody;
  static_assert(additive_adapter<residual> && !mergeable<residual> && !row_mergeable<residual> &&
                !trainable_adapter<residual>);
  static_assert(mergeable<whole> && !row_mergeable<whole> && !additive_adapter<whole>);
  static_assert(mergeable<by_rows> && row_mergeable<by_rows>);
  static_assert(!mergeable<one_way> && !row_mergeable<one_way>);
  static_assert(trainable_adapter<trained> && !additive_adapter<trained> && !mergeable<trained>);
  static_assert(!additive_adapter<int> && !mergeable<int> && !trainable_adapter<int>);
  SUCCEED();
}

TEST_CASE("graft's methods model the concepts for views of every type", "[adapters][concepts]") {
  using plain = graft::lora<tests::any_view<float const>, tests::any_view<graft::bfloat16 const>>;
  using biased = tests::any_biased_lora<double>;
  using frozen = graft::lora_fa<tests::any_view<float const>, tests::any_view<float>>;
  static_assert(additive_adapter<plain> && row_mergeable<plain> && trainable_adapter<plain>);
  static_assert(additive_adapter<biased> && trainable_adapter<biased>);
  static_assert(additive_adapter<frozen> && row_mergeable<frozen> && trainable_adapter<frozen>);
  SUCCEED();
}

TEST_CASE("parameter_count follows from what is trained", "[adapters][concepts]") {
  std::vector<float> a(2 * 5), b(7 * 2), bias(7);
  auto const A = view(a, 2, 5);
  auto const B = view(b, 7, 2);
  CHECK(parameter_count(graft::lora{A, B, 1.0, none}) == 2 * (5 + 7));
  CHECK(parameter_count(graft::lora{A, B, 1.0, view(bias)}) == 2 * (5 + 7) + 7);
  CHECK(parameter_count(graft::lora_fa{A, B, 1.0}) == 7 * 2);
  float* const nothing = nullptr;
  graft::bfloat16* const none_of_16_bits = nullptr;
  CHECK(parameter_count(somebody::trained{view(nothing, 3), view(static_cast<double*>(nullptr), 4, 5),
                                          view(none_of_16_bits, 2, 3, 4)}) == 3 + 20 + 24);
  CHECK(parameter_count(somebody::untrained{}) == 0);
  // A count, not an int: 7 billion elements.
  CHECK(parameter_count(graft::lora_fa{A, view(nothing, index_t{1} << 30, 7), 1.0}) == index_t{7} << 30);
}

TEST_CASE("trained members are named as in the struct, and are the views themselves", "[adapters][concepts]") {
  std::vector<float> a(2 * 5), b(7 * 2), bias(7);
  auto const l = graft::lora{view(a, 2, 5), view(b, 7, 2), 1.0, view(bias)};
  auto const all = trainable(l);
  static_assert(std::tuple_size_v<decltype(all)> == 3);
  CHECK(std::get<0>(all).name == "A");
  CHECK(std::get<0>(all).view.data_handle() == a.data());
  CHECK(std::get<1>(all).name == "B");
  CHECK(std::get<1>(all).view.data_handle() == b.data());
  CHECK(std::get<2>(all).name == "bias");
  CHECK(std::get<2>(all).view.data_handle() == bias.data());
  auto const of_fa = trainable(graft::lora_fa{view(a, 2, 5), view(b, 7, 2), 1.0});
  static_assert(std::tuple_size_v<decltype(of_fa)> == 1);
  CHECK(std::get<0>(of_fa).name == "B");
  CHECK(std::get<0>(of_fa).view.data_handle() == b.data());
}
