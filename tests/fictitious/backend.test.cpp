// A new backend is one new header: every verb, LoRA and even a made-up method run on it, with the bits of `reference`.
#include <string>

#include <catch2/catch_test_macros.hpp>
#include <graft/graft.hpp>

#include "fictitious/backends.hpp"
#include "fictitious/spotlight.hpp"
#include "support/layouts.hpp"
#include "support/verbs.hpp"

using graft::view;
namespace kernels = graft::kernels;

namespace {

/// The made-up method on the made-up backend: neither knows of the other.
template <class S, class F>
void for_each_verb(F const& f) {
  tests::for_each_verb<S>(f);
  using t_t = tests::tensors<S>;
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
  for (tests::verb_shape const& s :
       {tests::verb_shape{11, 530, 11, 70}, tests::verb_shape{1, 1030, 4, 129}, tests::verb_shape{3, 5, 3, 2},
        tests::verb_shape{65, 33, 2, 17}, tests::verb_shape{0, 7, 2, 5}})
    for_each_verb<S>([&](char const* name, auto const& verb) {
      INFO(name << ", T = " << s.T << ", n = " << s.n << ", r = " << s.r << ", m = " << s.m);
      tests::tensors<S> before(s);
      tests::tensors<S> expected(s);
      tests::tensors<S> got(s);
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
