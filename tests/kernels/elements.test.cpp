// Passes over elements take them in another order on wide teams, and cut columns where executors want many teams.
#include <graft/kernels/elements.hpp>

#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>

#include "kernels/parity.hpp"

using graft::index_t;
using graft::view;
using namespace tests;

namespace {

/// A device: wide teams, as many at once as there are.
struct device : wide_reference {
  [[nodiscard]] static constexpr index_t teams_at_once() { return 1000; }
};
static_assert(graft::executor<device>);

/// Every verb that is a pass, on y of such a shape: all that it wrote.
template <class S, class E>
[[nodiscard]] std::vector<S> written(E const& ex, index_t rows, index_t columns, layout how) {
  using namespace graft::kernels;
  std::vector<S> all;
  matrix<S> const x(rows, columns, how, 1);
  auto const d = random_numbers<S>(columns, 2), of_rows = random_numbers<S>(rows, 3);
  std::vector<int> ids(static_cast<std::size_t>(rows));
  for (index_t t = 0; t < rows; ++t) ids[static_cast<std::size_t>(t)] = static_cast<int>(t % 4);  // 3 is not there
  matrix<S> const table(columns, 3, layout::contiguous, 4);
  auto const run = [&](auto const& call) {
    matrix<S> y(rows, columns, how, 5);
    call(y.view());
    CHECK(y.outside() == "");
    for (index_t t = 0; t < rows; ++t)
      for (index_t j = 0; j < columns; ++j) all.push_back(y.view()(t, j));
  };
  run([&](auto const& y) { copy(ex, x.view(), y); });
  run([&](auto const& y) { fill(ex, 0.3, y); });
  run([&](auto const& y) { scale_rows(ex, view(of_rows), y); });
  run([&](auto const& y) { scale_columns(ex, view(d), y); });
  run([&](auto const& y) { limit_row_norms(ex, y, 0.5); });
  run([&](auto const& y) { add_bias(ex, view(d), y, 0.7); });
  run([&](auto const& y) { add_scaled_columns(ex, view(d), x.view(), y, 0.7); });
  run([&](auto const& y) { drop_add(ex, graft::dropout{0.3, 1, 2}, x.view(), y); });
  run([&](auto const& y) { jitter(ex, graft::jitter_noise{0.3, 1, 2}, y, y); });
  run([&](auto const& y) { keep_columns(ex, feature_mask{{0.3, 1, 2}}, x.view(), y); });
  run([&](auto const& y) { keep_columns_add(ex, feature_mask{{0.3, 1, 2}}, x.view(), y); });
  run([&](auto const& y) { fill_normal(ex, graft::random_stream{1, 2}, y); });
  run([&](auto const& y) { gather_columns(ex, table.view(), graft::ids(ids), y, 0.7); });
  run([&](auto const& y) { noisy_logits(ex, x.view(), x.view(), graft::random_stream{1, 2}, y); });
  run([&](auto const& y) {
    matrix<S> dclean(rows, columns, layout::contiguous, 6);
    noisy_logits_backward(ex, x.view(), graft::random_stream{1, 2}, x.view(), dclean.view(), y);
    for (index_t t = 0; t < rows; ++t)
      for (index_t j = 0; j < columns; ++j) all.push_back(dclean.view()(t, j));
  });
  run([&](auto const& y) { layer_norm(ex, y, view(d), view(d), 1e-5, y); });
  run([&](auto const& y) { rms_norm(ex, x.view(), view(d), graft::none, 1e-5, y); });
  run([&](auto const& y) {
    std::vector<S> dweight(d.size()), dbias(d.size());
    layer_norm_backward(ex, x.view(), view(d), 1e-5, x.view(), view(dweight), view(dbias), y);
    all.insert(all.end(), dweight.begin(), dweight.end());
    all.insert(all.end(), dbias.begin(), dbias.end());
  });
  run([&](auto const& y) { rms_norm_backward(ex, x.view(), view(d), 1e-5, x.view(), graft::none, graft::none, y); });
  for (index_t const group : {2, 8})
    if (columns % group == 0) {
      run([&](auto const& y) { rotate_pairs(ex, view(d), view(d), group, y); });
      run([&](auto const& y) { rotate_pairs_back(ex, view(d), view(d), group, y); });
      run([&](auto const& y) { rotate_pairs_inverse(ex, view(d), view(d), group, y); });
    }
  return all;
}

template <class S>
void compare(tally& t) {
  int turn = 0;
  auto const shape = [&](index_t rows, index_t columns) {
    layout const how = all_layouts[static_cast<std::size_t>(++turn % 8)];
    auto const expected = written<S>(graft::reference{}, rows, columns, how);
    auto const check = [&](char const* name, auto const& ex) {
      auto const got = written<S>(ex, rows, columns, how);
      index_t const size = static_cast<index_t>(expected.size());
      t.add(differences(view(got.data(), 1, size), view(expected.data(), 1, size)), [&] {
        return std::string(name) + ", " + type_name<S>() + ", " + std::to_string(rows) + " x " +
               std::to_string(columns);
      });
    };
    check("wide teams", wide_reference{});
    check("a device", device{});
    check("serial", graft::serial{});
  };
  for (index_t const rows : {0, 1, 3, 4, 5})
    for (index_t const columns : {0, 1, 3, 16, 31, 32, 33, 64, 65, 255, 256, 257, 512, 513, 1024, 1025})
      shape(rows, columns);
  for (index_t const rows : {63, 64, 65, 130}) shape(rows, 17);
}

}  // namespace

TEST_CASE("passes over elements have the bits of reference on wide teams, and where columns are cut",
          "[kernels][elements][parity]") {
  tally t;
  compare<float>(t);
  compare<graft::bfloat16>(t);
  compare<double>(t);
  CHECK(t.text() == "");
  CHECK(t.count() == 3 * 3 * (5 * 16 + 4));
}

TEST_CASE("the lowest id that is not there is found whatever the order", "[kernels][elements]") {
  for_each_executor([&](std::string const& name, auto const& ex) {
    INFO(name);
    std::vector<int> ids(700, 2);
    CHECK_NOTHROW(graft::kernels::check_ids(ex, "test", graft::ids(ids), 3));
    ids[600] = ids[599] = ids[301] = ids[511] = 3;
    CHECK_THROWS_WITH(graft::kernels::check_ids(ex, "test", graft::ids(ids), 3),
                      "graft::test: token 301 has the id 3 but there are 3 rows");
  });
}
