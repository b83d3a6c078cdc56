// The C interface gives the bits of the C++ functions that it stands for, on one thread and on two.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <vector>

#include <graft/openmp.hpp>

#include <graft/c/graft.h>

#include "support/random.hpp"

namespace {

using graft::index_t;
using graft::none;
using graft::view;

int wrong = 0;
int checks = 0;

template <class T>
constexpr graft_dtype dtype() {
  if constexpr (std::is_same_v<T, float>) return GRAFT_FLOAT32;
  else if constexpr (std::is_same_v<T, graft::bfloat16>) return GRAFT_BFLOAT16;
  else if constexpr (std::is_same_v<T, double>) return GRAFT_FLOAT64;
  else return GRAFT_INT64;
}
template <class T>
using numbers = std::vector<T>;

template <class T>
void equal(char const* what, numbers<T> const& got, numbers<T> const& expected) {
  ++checks;
  if (got.size() == expected.size() && std::memcmp(got.data(), expected.data(), got.size() * sizeof(T)) == 0) return;
  ++wrong;
  std::printf("%s: other bits than C++\n", what);
}
void ok(graft_status status) {
  ++checks;
  if (status == GRAFT_OK) return;
  ++wrong;
  std::printf("%s: %s\n", graft_status_name(status), graft_last_error());
}
template <class T>
graft_view c_view(numbers<T>& v) {
  return graft_view_1d(v.data(), dtype<T>(), static_cast<index_t>(v.size()));
}
template <class T>
graft_view c_view(numbers<T>& v, index_t rows) {
  return graft_view_2d(v.data(), dtype<T>(), rows, static_cast<index_t>(v.size()) / rows);
}
template <class T>
numbers<T> drawn(index_t count, std::uint64_t seed) {
  return tests::random_numbers<T>(count, seed);
}

constexpr index_t T = 37, n = 96, m = 130, r = 8;

/// What stands for one call in both languages: copies of the outputs, then bit by bit.
template <class X, class P>
void methods(graft_executor const& c, graft::openmp const& ex) {
  using S = graft::accumulate_t<X, P>;
  auto x = drawn<X>(T * n, 1), dy = drawn<X>(T * m, 2), w = drawn<X>(m * n, 3), y = drawn<X>(T * m, 4);
  auto a = drawn<P>(r * n, 5), b = drawn<P>(m * r, 6), bias = drawn<P>(m, 7), magnitude = drawn<P>(m, 8);
  auto d = drawn<P>(r, 9);
  auto y2 = y;
  auto const vx = view(x, T, n), vdy = view(dy, T, m);
  auto const va = view(a, r, n), vb = view(b, m, r);
  graft_view const cx = c_view(x, T), cdy = c_view(dy, T), cy2 = c_view(y2, T);

  {  // LoRA
    graft::lora const l{va, vb, 0.75, view(bias)};
    graft_lora const cl{c_view(a, r), c_view(b, m), c_view(bias), 0.75};
    add_delta(ex, l, vx, view(y, T, m));
    ok(graft_lora_add_delta(&c, &cl, &cx, &cy2));
    equal("lora add_delta", y2, y);
    numbers<P> da(a.size()), db(b.size()), dbias(bias.size()), da2 = da, db2 = db, dbias2 = dbias;
    numbers<X> dx(x.size()), dx2 = dx;
    backward(ex, l, vx, vdy, graft::lora_gradients{view(da, r, n), view(db, m, r), view(dbias)}, view(dx, T, n));
    graft_lora_gradients const g{c_view(da2, r), c_view(db2, m), c_view(dbias2)};
    graft_view const cdx = c_view(dx2, T);
    ok(graft_lora_backward(&c, &cl, &cx, &cdy, &g, &cdx));
    equal("lora dA", da2, da);
    equal("lora dB", db2, db);
    equal("lora dbias", dbias2, dbias);
    equal("lora dx", dx2, dx);
    graft_lora const plain{c_view(a, r), c_view(b, m), graft_none(), 0.75};
    auto w1 = w, w2 = w;
    merge(ex, graft::lora{va, vb, 0.75}, view(w1, m, n));
    graft_view const cw = c_view(w2, m);
    ok(graft_lora_merge(&c, &plain, &cw, nullptr));
    equal("lora merge", w2, w1);
    numbers<P> panels(static_cast<std::size_t>(graft_lora_packed_size(m, r)));
    graft_packed_lora packed;
    auto y3 = y;
    ok(graft_lora_pack(&c, &plain, panels.data(), static_cast<index_t>(panels.size()), &packed));
    graft_view const cy3 = c_view(y3, T);
    add_delta(ex, graft::lora{va, vb, 0.75}, vx, view(y, T, m));
    ok(graft_packed_lora_add_delta(&c, &packed, &cx, &cy3));
    equal("packed lora", y3, y);
  }
  {  // DoRA
    numbers<S> norms(static_cast<std::size_t>(m)), norms2 = norms;
    auto const dora =
        graft::dora<graft::lora<std::remove_const_t<decltype(va)>, std::remove_const_t<decltype(vb)>>,
                    decltype(view(magnitude)), decltype(view(norms))>{{va, vb, 1.5}, view(magnitude), view(norms)};
    graft_dora const cd{c_view(a, r), c_view(b, m), c_view(magnitude), c_view(norms2), 1.5};
    graft_view const cw = c_view(w, m);
    update_norms(ex, dora, view(w, m, n));
    ok(graft_dora_update_norms(&c, &cd, &cw, nullptr));
    equal("dora norms", norms2, norms);
    numbers<X> kept(y.size()), kept2 = kept;
    y2 = y;
    graft_view const ckept = c_view(kept2, T);
    transform_output(ex, dora, vx, view(y, T, m), view(kept, T, m));
    ok(graft_dora_transform_output(&c, &cd, &cx, &cy2, &ckept));
    equal("dora y", y2, y);
    equal("dora kept", kept2, kept);
    numbers<S> factors(norms.size()), factors2 = factors;
    auto const prepared = prepare(ex, dora, view(factors));
    graft_view const cfactors = c_view(factors2);
    ok(graft_dora_prepare(&c, &cd, &cfactors));
    transform_output(ex, prepared, vx, view(y, T, m));
    ok(graft_dora_transform_output_prepared(&c, &cd, &cfactors, &cx, &cy2));
    equal("dora factors", factors2, factors);
    equal("prepared dora y", y2, y);
    numbers<P> da(a.size()), db(b.size()), dg(magnitude.size()), da2 = da, db2 = db, dg2 = dg;
    numbers<X> dx(x.size()), dx2 = dx;
    auto dy1 = dy, dy2 = dy;
    backward(ex, dora, vx, view(kept, T, m), view(dy1, T, m),
             graft::dora_gradients<decltype(view(da, r, n)), decltype(view(db, m, r)), decltype(view(dg))>{
                 view(da, r, n), view(db, m, r), view(dg)},
             view(dx, T, n));
    graft_dora_gradients const g{c_view(da2, r), c_view(db2, m), c_view(dg2)};
    graft_view const cdy2 = c_view(dy2, T), cdx = c_view(dx2, T);
    ok(graft_dora_backward(&c, &cd, &cx, &ckept, &cdy2, &g, &cdx));
    equal("dora dA", da2, da);
    equal("dora dB", db2, db);
    equal("dora dmagnitude", dg2, dg);
    equal("dora dy", dy2, dy1);
    equal("dora dx", dx2, dx);
    auto w1 = w, w2 = w;
    merge(ex, dora, view(w1, m, n));
    graft_view const cw2 = c_view(w2, m);
    ok(graft_dora_merge(&c, &cd, &cw2));
    equal("dora merge", w2, w1);
  }
  {  // VeRA
    graft::vera<std::remove_const_t<decltype(va)>, std::remove_const_t<decltype(vb)>, decltype(view(d)),
                decltype(view(bias))> const v{va, vb, view(d), view(bias)};
    graft_vera const cv{c_view(a, r), c_view(b, m), c_view(d), c_view(bias)};
    y2 = y;
    auto y3 = y;
    add_delta(ex, v, vx, view(y, T, m));
    ok(graft_vera_add_delta(&c, &cv, &cx, &cy2));
    numbers<P> panels(static_cast<std::size_t>(graft_lora_packed_size(m, r)));
    graft_packed_vera packed;
    graft_view const cy3 = c_view(y3, T);
    ok(graft_vera_pack(&c, &cv, panels.data(), static_cast<index_t>(panels.size()), &packed));
    ok(graft_packed_vera_add_delta(&c, &packed, &cx, &cy3));
    equal("packed vera", y3, y);
    equal("vera y", y2, y);
    numbers<P> dd(d.size()), db(bias.size()), dd2 = dd, db2 = db;
    numbers<X> dx(x.size()), dx2 = dx;
    backward(ex, v, vx, vdy, graft::vera_gradients<decltype(view(dd)), decltype(view(db))>{view(dd), view(db)},
             view(dx, T, n));
    graft_vera_gradients const g{c_view(dd2), c_view(db2)};
    graft_view const cdx = c_view(dx2, T);
    ok(graft_vera_backward(&c, &cv, &cx, &cdy, &g, &cdx));
    equal("vera dd", dd2, dd);
    equal("vera db", db2, db);
    equal("vera dx", dx2, dx);
  }
  {  // BOFT: three factors of 12 blocks of 8
    constexpr index_t N = 3, D = 12, bs = 8;
    auto parameters = drawn<P>(N * D * bs * bs, 10);
    numbers<S> rotations(parameters.size()), rotations2 = rotations;
    using blocks = graft::tensor_view<P, graft::dynamic_extents<4>>;
    using turns = graft::tensor_view<S, graft::dynamic_extents<4>>;
    graft::boft<blocks, decltype(view(bias)), turns> const boft{view(parameters, N, D, bs, bs), view(bias),
                                                                view(rotations, N, D, bs, bs)};
    graft_boft const cb{graft_view_4d(parameters.data(), dtype<P>(), N, D, bs, bs), c_view(bias),
                        graft_view_4d(rotations2.data(), dtype<S>(), N, D, bs, bs)};
    update_rotations(ex, boft);
    ok(graft_boft_update_rotations(&c, &cb));
    equal("boft rotations", rotations2, rotations);
    numbers<X> turned(x.size()), turned2 = turned;
    graft_view const ct = c_view(turned2, T);
    transform_input(ex, boft, vx, view(turned, T, n));
    ok(graft_boft_transform_input(&c, &cb, &cx, &ct));
    equal("boft x'", turned2, turned);
    numbers<P> dp(parameters.size()), dp2 = dp;
    numbers<X> dx(x.size()), dx2 = dx;
    backward_input(ex, boft, vx, view(turned, T, n), graft::boft_gradients<blocks>{view(dp, N, D, bs, bs)},
                   view(dx, T, n));
    graft_view const cdp = graft_view_4d(dp2.data(), dtype<P>(), N, D, bs, bs), cdx = c_view(dx2, T);
    ok(graft_boft_backward_input(&c, &cb, &cx, &ct, &cdp, &cdx));
    equal("boft dparameters", dp2, dp);
    equal("boft dx", dx2, dx);
    auto w1 = w, w2 = w;
    merge(ex, boft, view(w1, m, n));
    graft_view const cw = c_view(w2, m);
    ok(graft_boft_merge(&c, &cb, &cw));
    equal("boft merge", w2, w1);
  }
}

template <class X, class P>
void routing(graft_executor const& c, graft::openmp const& ex) {
  constexpr index_t tokens = 300, E = 16, k = 3, H = 40;
  auto logits = drawn<X>(tokens * E, 20), x = drawn<X>(tokens * H, 21);
  auto dweights = drawn<P>(tokens * k, 22);
  numbers<index_t> ids(tokens * k), ids2 = ids;
  numbers<P> weights(tokens * k), weights2 = weights;
  graft_view const cz = c_view(logits, tokens), ci = c_view(ids2, tokens), cw = c_view(weights2, tokens);
  auto const vz = view(logits, tokens, E);
  auto const both = [&](auto const& gate, graft_gate const& same) {
    route(ex, gate, vz, view(ids, tokens, k), view(weights, tokens, k));
    ok(graft_route(&c, &same, &cz, nullptr, &ci, &cw, nullptr));
    equal("ids", ids2, ids);
    equal("weights", weights2, weights);
    numbers<X> dz(logits.size()), dz2 = dz;
    graft_view const cdw = c_view(dweights, tokens), cdz = c_view(dz2, tokens);
    route_backward(ex, gate, vz, view(ids, tokens, k), view(dweights, tokens, k), view(dz, tokens, E));
    ok(graft_route_backward(&c, &same, &cz, &ci, &cdw, &cdz, nullptr));
    equal("dlogits", dz2, dz);
  };
  both(graft::top_p{.p = 0.5}, graft_top_p(0.5));
  both(graft::sigmoid_topk<>{}, graft_sigmoid_topk());
  both(graft::softmax_topk{.renormalize = false}, graft_softmax_topk(0));
  both(graft::topk_softmax{}, graft_topk_softmax());

  std::vector<std::byte> memory(graft::plan_bytes(tokens * k, E)), memory2 = memory;
  auto const plan = graft::plan_in(memory, view(ids, tokens, k), E);
  make_plan(ex, view(ids, tokens, k), graft::capacity{.factor = 1.25}, plan);
  graft_capacity const capacity = graft_capacity_factor(1.25);
  graft_plan cp;
  ok(graft_plan_make(&c, &ci, E, 1, 0, &capacity, nullptr, nullptr, memory2.data(), memory2.size(), &cp));
  auto const same = [&](char const* what, index_t const* got, auto const& expected) {
    equal(what, numbers<index_t>(got, got + expected.extent(0)),
          numbers<index_t>(expected.data_handle(), expected.data_handle() + expected.extent(0)));
  };
  same("offsets", cp.offsets, plan.offsets);
  same("permutation", cp.permutation, plan.permutation);
  same("inverse", cp.inverse, plan.inverse);
  numbers<X> rows(static_cast<std::size_t>(plan.permutation.extent(0) * H)), rows2 = rows, y(x.size()), y2 = y;
  graft_view const cx = c_view(x, tokens), cr = c_view(rows2, cp.rows), cy = c_view(y2, tokens);
  graft::kernels::dispatch(ex, plan, view(x, tokens, H), view(rows, cp.rows, H), view(weights, tokens, k));
  ok(graft_dispatch(&c, &cp, &cx, &cw, &cr));
  equal("dispatch", rows2, rows);
  graft::kernels::combine(ex, plan, view(rows, cp.rows, H), view(weights, tokens, k), view(y, tokens, H));
  ok(graft_combine(&c, &cp, &cr, &cw, &cy));
  equal("combine", y2, y);
}

}  // namespace

int main() {
  for (int const threads : {1, 2}) {
    graft_executor const c = threads == 1 ? graft_serial() : graft_openmp(threads);
    graft::openmp const ex{.threads = 3 - threads};  // bits do not depend on it
    methods<float, float>(c, ex);
    methods<graft::bfloat16, float>(c, ex);
    routing<float, float>(c, ex);
    routing<graft::bfloat16, float>(c, ex);
  }
  std::printf("%d checks, %d wrong\n", checks, wrong);
  return wrong == 0 ? 0 : 1;
}
