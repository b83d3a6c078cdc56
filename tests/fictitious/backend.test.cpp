// A new backend is one new header: every verb, LoRA and even a made-up method run on it, with the bits of `reference`.
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <graft/graft.hpp>

#include "fictitious/backends.hpp"
#include "fictitious/spotlight.hpp"
#include "support/bits.hpp"
#include "support/layouts.hpp"
#include "support/random.hpp"

using graft::index_t;
using graft::view;
using tests::layout;
using tests::matrix;
namespace kernels = graft::kernels;

namespace {

struct shape {
  index_t T, n, r, m;
};

/// The tensors of all verbs: each may be read or written.
template <class S>
struct tensors {
  explicit tensors(shape const& s)
      : x(s.T, s.n, layout::padded, 1),
        A(s.r, s.n, layout::contiguous, 2),
        B(s.m, s.r, layout::transposed, 3),
        y(s.T, s.m, layout::column_range, 4),
        v(s.T, s.r, layout::contiguous, 5),
        w(s.m, s.n, layout::strided, 6),
        dx(s.T, s.n, layout::contiguous, 7),
        dA(s.r, s.n, layout::contiguous, 8),
        dB(s.m, s.r, layout::contiguous, 9),
        scratch(s.T, s.r),
        bias(tests::random_numbers<S>(s.m, 10)),
        base_bias(tests::random_numbers<S>(s.m, 11)),
        rows(tests::random_numbers<S>(s.T, 12)),
        panels(static_cast<std::size_t>(graft::panels_view<S>::storage(s.m, s.r))) {}

  matrix<S> x, A, B, y, v, w, dx, dA, dB;
  matrix<std::conditional_t<std::is_same_v<S, double>, double, float>> scratch;
  std::vector<S> bias, base_bias, rows, panels;

  [[nodiscard]] auto lora() { return graft::lora{.A = A.view(), .B = B.view(), .scale = 0.7}; }
  [[nodiscard]] auto lora_with_bias() {
    return graft::lora{.A = A.view(), .B = B.view(), .scale = 0.7, .bias = view(bias)};
  }
  [[nodiscard]] auto lora_fa() { return graft::lora_fa{.A = A.view(), .B = B.view(), .scale = 0.7}; }
  [[nodiscard]] auto packed() { return graft::panels_view<S>(panels.data(), B.view().extent(0), B.view().extent(1)); }

  [[nodiscard]] std::string differences(tensors& other) {
    std::string all;
    auto const add = [&](char const* name, auto const& mine, auto const& theirs) {
      std::string const d = tests::differences(mine, theirs);
      if (!d.empty()) all += std::string(name) + ": " + d + "\n";
    };
    add("x", x.view(), other.x.view());
    add("A", A.view(), other.A.view());
    add("B", B.view(), other.B.view());
    add("y", y.view(), other.y.view());
    add("v", v.view(), other.v.view());
    add("w", w.view(), other.w.view());
    add("dx", dx.view(), other.dx.view());
    add("dA", dA.view(), other.dA.view());
    add("dB", dB.view(), other.dB.view());
    add("base_bias", view(base_bias), view(other.base_bias));
    add("rows", view(rows), view(other.rows));
    add("panels", view(panels), view(other.panels));
    return all + y.outside() + w.outside();
  }
};

/// f(name, verb) for every verb of kernels and of the adapters; `verb(ex, tensors)` calls it.
template <class S, class F>
void for_each_verb(F const& f) {
  using t_t = tensors<S>;
  f("low_rank_add",
    [](auto const& ex, t_t& t) { kernels::low_rank_add(ex, t.x.view(), t.A.view(), t.B.view(), t.y.view(), 0.7); });
  f("shrink", [](auto const& ex, t_t& t) { kernels::shrink(ex, t.x.view(), t.A.view(), t.v.view(), 0.7); });
  f("expand_add", [](auto const& ex, t_t& t) { kernels::expand_add(ex, t.v.view(), t.B.view(), t.y.view(), 0.7); });
  f("outer_add", [](auto const& ex, t_t& t) { kernels::outer_add(ex, t.B.view(), t.A.view(), t.w.view(), 0.7); });
  f("pack_panels", [](auto const& ex, t_t& t) {
    kernels::pack_panels(ex, t.B.view(), t.packed());
    kernels::low_rank_add(ex, t.x.view(), t.A.view(), t.packed(), t.y.view(), 0.7);
  });
  f("scale_rows", [](auto const& ex, t_t& t) { kernels::scale_rows(ex, view(t.rows), t.y.view()); });
  f("scale_columns", [](auto const& ex, t_t& t) { kernels::scale_columns(ex, view(t.bias), t.y.view()); });
  f("add_bias", [](auto const& ex, t_t& t) { kernels::add_bias(ex, view(t.bias), t.y.view(), 0.7); });
  f("sum_rows", [](auto const& ex, t_t& t) { kernels::sum_rows(ex, t.y.view(), view(t.base_bias), 0.7); });
  f("copy", [](auto const& ex, t_t& t) { kernels::copy(ex, t.x.view(), t.dx.view()); });
  f("drop", [](auto const& ex, t_t& t) { kernels::drop(ex, graft::dropout{0.4, 1, 2}, t.x.view(), t.dx.view()); });
  f("drop_add",
    [](auto const& ex, t_t& t) { kernels::drop_add(ex, graft::dropout{0.4, 1, 2}, t.x.view(), t.dx.view()); });
  f("fill_uniform", [](auto const& ex, t_t& t) { kernels::fill_uniform(ex, {1, 2}, t.y.view(), 0.7); });
  f("fill_normal", [](auto const& ex, t_t& t) { kernels::fill_normal(ex, {1, 2}, t.y.view(), 0.7); });

  f("add_delta of lora", [](auto const& ex, t_t& t) { add_delta(ex, t.lora(), t.x.view(), t.y.view()); });
  if constexpr (sizeof(S) > 2) {  // 16 bits need a row of fp32 scratch
    f("add_delta of lora with bias",
      [](auto const& ex, t_t& t) { add_delta(ex, t.lora_with_bias(), t.x.view(), t.y.view()); });
  }
  f("add_delta of lora with dropout", [](auto const& ex, t_t& t) {
    add_delta(ex, t.lora(), graft::dropout{0.4, 1, 2}, t.x.view(), t.y.view(), t.dx.view());
  });
  f("backward of lora", [](auto const& ex, t_t& t) {
    graft::lora_gradients const g{.A = t.dA.view(), .B = t.dB.view(), .bias = view(t.base_bias)};
    backward(ex, t.lora_with_bias(), t.x.view(), t.y.view(), g, t.dx.view(), t.scratch.view());
  });
  f("merge of lora", [](auto const& ex, t_t& t) { merge(ex, t.lora_with_bias(), t.w.view(), view(t.base_bias)); });
  f("unmerge of lora", [](auto const& ex, t_t& t) { unmerge(ex, t.lora(), t.w.view()); });
  f("delta_weight of lora", [](auto const& ex, t_t& t) { delta_weight(ex, t.lora(), t.w.view()); });
  f("initialize of lora", [](auto const& ex, t_t& t) { initialize(ex, t.lora(), graft::kaiming_uniform{1, 2}); });
  f("pack of lora",
    [](auto const& ex, t_t& t) { add_delta(ex, pack(ex, t.lora(), std::span(t.panels)), t.x.view(), t.y.view()); });
  f("add_delta of lora_fa",
    [](auto const& ex, t_t& t) { add_delta(ex, t.lora_fa(), t.x.view(), t.y.view(), t.v.view()); });
  f("backward of lora_fa", [](auto const& ex, t_t& t) {
    graft::lora_gradients<graft::none_t, decltype(t.dB.view())> const g{{}, t.dB.view(), {}};
    backward(ex, t.lora_fa(), t.v.view(), t.y.view(), g, t.dx.view(), t.scratch.view());
  });
  if constexpr (sizeof(S) > 2) {
    f("merge_all", [](auto const& ex, t_t& t) { merge_all(ex, t.w.view(), t.lora(), t.lora_fa()); });
    f("switch_adapter", [](auto const& ex, t_t& t) { switch_adapter(ex, t.lora_fa(), t.lora(), t.w.view()); });
  }
  // The made-up method on the made-up backend: neither knows of the other.
  f("spotlight", [](auto const& ex, t_t& t) {
    fictitious::spotlight const a{t.A.view(), t.B.view(), view(t.rows), 0.7};
    if (a.light.extent(0) != a.rank()) return;
    add_delta(ex, a, t.x.view(), t.y.view());
    backward(ex, a, t.x.view(), t.y.view(), fictitious::spotlight_gradients{t.dA.view(), t.dB.view()}, t.dx.view());
    merge(ex, a, t.w.view());
  });
}

template <class S, class E>
void check_all(E const& ex) {
  for (shape const& s :
       {shape{11, 530, 11, 70}, shape{1, 1030, 4, 129}, shape{3, 5, 3, 2}, shape{65, 33, 2, 17}, shape{0, 7, 2, 5}})
    for_each_verb<S>([&](char const* name, auto const& verb) {
      INFO(name << ", T = " << s.T << ", n = " << s.n << ", r = " << s.r << ", m = " << s.m);
      tensors<S> before(s);
      tensors<S> expected(s);
      tensors<S> got(s);
      verb(graft::reference{}, expected);
      verb(ex, got);
      CHECK(got.differences(expected) == "");
      if (s.T != 0) CHECK((expected.differences(before) != "" || std::string(name) == "spotlight"));
    });
}

/// The body that a call of low_rank_add takes.
template <class E, class S>
constexpr kernels::body body_of =
    kernels::low_rank_add_fn::chosen<E, tests::any_view<S>, tests::any_view<S>, tests::any_view<S>, tests::any_view<S>>;
static_assert(body_of<fictitious::carousel, float> == kernels::body::generic);
static_assert(body_of<fictitious::carousel, graft::bfloat16> == kernels::body::generic);
static_assert(body_of<fictitious::crowd, float> == kernels::body::host);
static_assert(body_of<fictitious::crowd, graft::bfloat16> == kernels::body::host);
static_assert(body_of<fictitious::crowd, double> == kernels::body::generic);

}  // namespace

TEST_CASE("a made-up executor runs every verb with the bits of reference", "[fictitious]") {
  check_all<float>(fictitious::carousel{});
  check_all<graft::bfloat16>(fictitious::carousel{});
  check_all<double>(fictitious::carousel{});
}

TEST_CASE("a made-up host executor runs every verb with the bits of reference", "[fictitious]") {
  check_all<float>(fictitious::crowd{});
  check_all<graft::bfloat16>(fictitious::crowd{});
  check_all<double>(fictitious::crowd{});
}
