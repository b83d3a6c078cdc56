// Every verb of kernels and of the adapters, as a function of an executor and of tensors that each of them may read or write.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <graft/graft.hpp>

#include "support/bits.hpp"
#include "support/layouts.hpp"
#include "support/random.hpp"

namespace tests {

struct verb_shape {
  graft::index_t T, n, r, m;
};

/// The tensors of all verbs: each may be read or written.
template <class S, class Memory = host_memory>
struct tensors {
  using vector = typename Memory::template vector<S>;
  template <class V, class... Index>
  [[nodiscard]] static auto view(V& v, Index... shape) {
    return tests::view_of<Memory>(v, shape...);
  }
  template <class T, class Shape>
  [[nodiscard]] static auto strided(T* data, Shape const& shape,
                                    std::array<graft::index_t, Shape::rank()> const& strides) {
    return graft::tensor_view<T, Shape, typename Memory::space, graft::no_unit_dimension>{data, shape, strides};
  }

  /// Each in another layout.
  explicit tensors(verb_shape const& s)
      : tensors(s, {layout::padded, layout::contiguous, layout::transposed, layout::column_range, layout::contiguous,
                    layout::strided}) {}
  /// All in one.
  tensors(verb_shape const& s, layout how) : tensors(s, {how, how, how, how, how, how}) {}
  matrix<S, Memory> x, A, B, y, v, w, dx, dA, dB, z;
  matrix<std::conditional_t<std::is_same_v<S, double>, double, float>, Memory> scratch;
  vector bias, base_bias, rows, panels, more, ranks, drank;

  [[nodiscard]] static vector zeros(graft::index_t count) { return tests::zeros_in<Memory, S>(count); }
  [[nodiscard]] static vector random(graft::index_t count, std::uint64_t seed) {
    return tests::made_in<Memory>([&] { return tests::numbers_in<vector>(random_numbers<S>(count, seed)); });
  }

  [[nodiscard]] auto lora() { return graft::lora{.A = A.view(), .B = B.view(), .scale = 0.7}; }
  [[nodiscard]] auto lora_with_bias() {
    return graft::lora{.A = A.view(), .B = B.view(), .scale = 0.7, .bias = view(bias)};
  }
  [[nodiscard]] auto lora_fa() { return graft::lora_fa{.A = A.view(), .B = B.view(), .scale = 0.7}; }
  [[nodiscard]] auto vera() { return graft::vera{A.view(), B.view(), view(ranks), view(bias)}; }
  [[nodiscard]] auto dora() { return graft::dora{lora(), view(bias), view(base_bias)}; }
  [[nodiscard]] auto prepared() {
    return graft::prepared_dora<decltype(lora()), decltype(view(bias))>{lora(), view(bias)};
  }
  [[nodiscard]] auto packed() {
    return graft::panels_view<S, typename Memory::space>(panels.data(), B.view().extent(0), B.view().extent(1));
  }

  /// Of other memory too.
  template <class Tensors>
  [[nodiscard]] std::string differences(Tensors& other) {
    typename Memory::host_access const access;
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
    add("base_bias", view(base_bias), other.view(other.base_bias));
    add("rows", view(rows), other.view(other.rows));
    add("panels", view(panels), other.view(other.panels));
    add("z", z.view(), other.z.view());
    add("more", view(more), other.view(other.more));
    add("drank", view(drank), other.view(other.drank));
    return all + y.outside() + w.outside() + v.outside() + dx.outside() + dA.outside() + dB.outside() + z.outside();
  }

 private:
  tensors(verb_shape const& s, std::array<layout, 6> const& l)
      : x(s.T, s.n, l[0], 1),
        A(s.r, s.n, l[1], 2),
        B(s.m, s.r, l[2], 3),
        y(s.T, s.m, l[3], 4),
        v(s.T, s.r, l[4], 5),
        w(s.m, s.n, l[5], 6),
        dx(s.T, s.n, l[4], 7),
        dA(s.r, s.n, l[1], 8),
        dB(s.m, s.r, l[1], 9),
        z(s.T, s.m, l[5], 13),
        scratch(s.T, s.r),
        bias(tests::numbers_in<vector>(random_numbers<S>(s.m, 10))),
        base_bias(tests::numbers_in<vector>(random_numbers<S>(s.m, 11))),
        rows(tests::numbers_in<vector>(random_numbers<S>(s.T, 12))),
        panels(static_cast<std::size_t>(graft::panels_view<S>::storage(s.m, s.r))),
        more(tests::numbers_in<vector>(random_numbers<S>(s.m, 14))),
        ranks(tests::numbers_in<vector>(random_numbers<S>(s.r, 15))),
        drank(tests::numbers_in<vector>(random_numbers<S>(s.r, 16))) {}
};

/// f(name, verb) for every verb of kernels and of the adapters; `verb(ex, tensors)` calls it.
template <class S, class Memory = host_memory, class F>
void for_each_verb(F const& f) {
  using t_t = tensors<S, Memory>;
  f("low_rank_add", [](auto const& ex, t_t& t) {
    graft::kernels::low_rank_add(ex, t.x.view(), t.A.view(), t.B.view(), t.y.view(), 0.7);
  });
  f("shrink", [](auto const& ex, t_t& t) { graft::kernels::shrink(ex, t.x.view(), t.A.view(), t.v.view(), 0.7); });
  f("expand_add",
    [](auto const& ex, t_t& t) { graft::kernels::expand_add(ex, t.v.view(), t.B.view(), t.y.view(), 0.7); });
  f("outer_add",
    [](auto const& ex, t_t& t) { graft::kernels::outer_add(ex, t.B.view(), t.A.view(), t.w.view(), 0.7); });
  f("pack_panels", [](auto const& ex, t_t& t) {
    graft::kernels::pack_panels(ex, t.B.view(), t.packed());
    graft::kernels::low_rank_add(ex, t.x.view(), t.A.view(), t.packed(), t.y.view(), 0.7);
  });
  f("scale_rows", [](auto const& ex, t_t& t) { graft::kernels::scale_rows(ex, t.view(t.rows), t.y.view()); });
  f("scale_columns", [](auto const& ex, t_t& t) { graft::kernels::scale_columns(ex, t.view(t.bias), t.y.view()); });
  f("add_bias", [](auto const& ex, t_t& t) { graft::kernels::add_bias(ex, t.view(t.bias), t.y.view(), 0.7); });
  f("sum_rows", [](auto const& ex, t_t& t) { graft::kernels::sum_rows(ex, t.y.view(), t.view(t.base_bias), 0.7); });
  f("copy", [](auto const& ex, t_t& t) { graft::kernels::copy(ex, t.x.view(), t.dx.view()); });
  f("drop",
    [](auto const& ex, t_t& t) { graft::kernels::drop(ex, graft::dropout{0.4, 1, 2}, t.x.view(), t.dx.view()); });
  f("drop_add",
    [](auto const& ex, t_t& t) { graft::kernels::drop_add(ex, graft::dropout{0.4, 1, 2}, t.x.view(), t.dx.view()); });
  f("add_scaled_columns", [](auto const& ex, t_t& t) {
    graft::kernels::add_scaled_columns(ex, t.view(t.bias), t.y.view(), t.z.view(), -1.0);
  });
  f("dot_columns",
    [](auto const& ex, t_t& t) { graft::kernels::dot_columns(ex, t.y.view(), t.z.view(), t.view(t.base_bias)); });
  f("divide", [](auto const& ex, t_t& t) {
    graft::kernels::divide(ex, t.view(t.bias), t.view(t.more), t.view(t.base_bias));
    graft::kernels::divide_add(ex, t.view(t.more), t.view(t.bias), t.view(t.base_bias));
  });
  f("keep_columns", [](auto const& ex, t_t& t) {
    graft::kernels::keep_columns(ex, {{0.4, 1, 2}, 5}, t.x.view(), t.dx.view());
    graft::kernels::keep_columns_add(ex, {{0.4, 1, 3}, 5}, t.x.view(), t.dx.view());
  });
  f("low_rank_add with factors", [](auto const& ex, t_t& t) {
    graft::kernels::low_rank_add(ex, t.x.view(), t.A.view(), t.B.view(), t.y.view(), 0.7,
                                 graft::low_rank_factors{t.view(t.ranks), t.view(t.bias), t.view(t.more)});
    graft::kernels::low_rank_add(ex, t.x.view(), t.A.view(), t.B.view(), t.z.view(), 0.7,
                                 graft::low_rank_factors{graft::none, graft::none, t.view(t.more)});
  });
  f("add_delta of vera", [](auto const& ex, t_t& t) { add_delta(ex, t.vera(), t.x.view(), t.y.view()); });
  f("transform_output of a prepared dora",
    [](auto const& ex, t_t& t) { transform_output(ex, t.prepared(), t.x.view(), t.y.view()); });
  f("fill_uniform", [](auto const& ex, t_t& t) { graft::kernels::fill_uniform(ex, {1, 2}, t.y.view(), 0.7); });
  f("fill_normal", [](auto const& ex, t_t& t) { graft::kernels::fill_normal(ex, {1, 2}, t.y.view(), 0.7); });

  f("add_delta of lora", [](auto const& ex, t_t& t) { add_delta(ex, t.lora(), t.x.view(), t.y.view()); });
  if constexpr (sizeof(S) > 2) {  // 16 bits need a row of fp32 scratch
    f("add_delta of lora with bias",
      [](auto const& ex, t_t& t) { add_delta(ex, t.lora_with_bias(), t.x.view(), t.y.view()); });
  }
  f("add_delta of lora with dropout", [](auto const& ex, t_t& t) {
    add_delta(ex, t.lora(), graft::dropout{0.4, 1, 2}, t.x.view(), t.y.view(), t.dx.view());
  });
  f("backward of lora", [](auto const& ex, t_t& t) {
    graft::lora_gradients const g{.A = t.dA.view(), .B = t.dB.view(), .bias = t.view(t.base_bias)};
    backward(ex, t.lora_with_bias(), t.x.view(), t.y.view(), g, t.dx.view(), t.scratch.view());
  });
  f("merge of lora", [](auto const& ex, t_t& t) { merge(ex, t.lora_with_bias(), t.w.view(), t.view(t.base_bias)); });
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
}

/// The same for those that take scratch from the executor's resource.
template <class S, class Memory = host_memory, class F>
void for_each_scratch_verb(F const& f) {
  using t_t = tensors<S, Memory>;
  f("row_norms", [](auto const& ex, t_t& t) {
    graft::kernels::row_norms(ex, t.w.view(), t.B.view(), t.A.view(), t.view(t.base_bias), 0.7);
    graft::kernels::row_norms(ex, t.w.view(), t.view(t.more));
  });
  f("backward of vera", [](auto const& ex, t_t& t) {
    backward(ex, t.vera(), t.x.view(), t.y.view(), graft::vera_gradients{t.view(t.drank), t.view(t.base_bias)},
             t.dx.view());
  });
  f("merge of vera", [](auto const& ex, t_t& t) { merge(ex, t.vera(), t.w.view()); });
  f("update_norms of dora", [](auto const& ex, t_t& t) { update_norms(ex, t.dora(), t.w.view()); });
  f("transform_output of dora",
    [](auto const& ex, t_t& t) { transform_output(ex, t.dora(), t.x.view(), t.y.view(), t.z.view()); });
  f("transform_output_dropped of dora",
    [](auto const& ex, t_t& t) { transform_output_dropped(ex, t.dora(), t.x.view(), t.z.view(), t.y.view()); });
  f("backward of dora", [](auto const& ex, t_t& t) {
    graft::dora_gradients const g{.A = t.dA.view(), .B = t.dB.view(), .magnitude = t.view(t.more)};
    backward(ex, t.dora(), t.x.view(), t.z.view(), t.y.view(), g, t.dx.view());
  });
  f("backward_exact of dora", [](auto const& ex, t_t& t) {
    graft::dora_gradients const g{.A = t.dA.view(), .B = t.dB.view(), .magnitude = t.view(t.more)};
    backward_exact(ex, t.dora(), t.w.view(), t.x.view(), t.z.view(), t.y.view(), g, t.dx.view());
  });
  f("merge of dora", [](auto const& ex, t_t& t) { merge(ex, t.dora(), t.w.view()); });
  f("unmerge of dora", [](auto const& ex, t_t& t) { unmerge(ex, t.dora(), t.w.view()); });
}

/// What is left: verbs whose own tests compare every executor, for the table of methods. T >= 1.
template <class S, class Memory = host_memory, class F>
void for_each_remaining_verb(F const& f) {
  using t_t = tensors<S, Memory>;
  auto const gradients = [](t_t& t) { return graft::lora_gradients{.A = t.dA.view(), .B = t.dB.view(), .bias = {}}; };
  f("merge of lora_fa", [](auto const& ex, t_t& t) { merge(ex, t.lora_fa(), t.w.view()); });
  f("unmerge of lora_fa", [](auto const& ex, t_t& t) { unmerge(ex, t.lora_fa(), t.w.view()); });
  f("initialize of lora_fa", [](auto const& ex, t_t& t) { initialize(ex, t.lora_fa(), graft::gaussian{1, 2}); });
  f("unmerge of vera", [](auto const& ex, t_t& t) { unmerge(ex, t.vera(), t.w.view()); });
  f("initialize of vera", [](auto const& ex, t_t& t) { initialize(ex, t.vera(), 0.1); });
  f("initialize of dora",
    [](auto const& ex, t_t& t) { initialize(ex, t.dora(), t.w.view(), graft::kaiming_uniform{1, 2}); });

  auto const of_tokens = [](auto const& v) {
    return t_t::strided(v.data_handle(), graft::dynamic_extents<3>(1, v.extent(0), v.extent(1)),
                        {0, v.stride(0), v.stride(1)});
  };
  auto const experts = [](t_t& t) { return graft::lora_experts{t.A.view(), t.B.view(), 0.7, 1}; };
  f("add_delta of lora_experts",
    [=](auto const& ex, t_t& t) { add_delta(ex, experts(t), of_tokens(t.x.view()), of_tokens(t.y.view())); });
  f("backward of lora_experts", [=](auto const& ex, t_t& t) {
    backward(ex, experts(t), of_tokens(t.x.view()), of_tokens(t.y.view()),
             graft::lora_gradients{.A = t.dA.view(), .B = t.dB.view(), .bias = {}}, of_tokens(t.dx.view()));
  });
  f("merge of lora_experts", [=](auto const& ex, t_t& t) { merge(ex, experts(t), of_tokens(t.w.view())); });
  f("unmerge of lora_experts", [=](auto const& ex, t_t& t) { unmerge(ex, experts(t), of_tokens(t.w.view())); });
  f("initialize of lora_experts", [=](auto const& ex, t_t& t) { initialize(ex, experts(t), graft::gaussian{1, 2}); });

  auto const embedding = [](t_t& t) { return graft::lora_embedding{t.A.view(), t.B.view(), 0.7}; };
  auto const some_ids = [](t_t& t) {
    return tests::made_in<Memory>([&] {
      typename Memory::template vector<graft::index_t> ids;
      for (graft::index_t i = 0; i < t.y.view().extent(0); ++i) ids.push_back((3 * i) % t.A.view().extent(1));
      return ids;
    });
  };
  f("add_delta of lora_embedding", [=](auto const& ex, t_t& t) {
    auto const ids = some_ids(t);
    add_delta(ex, embedding(t),
              graft::ids_in<typename Memory::space>(ids.data(), static_cast<graft::index_t>(ids.size())), t.y.view());
  });
  f("backward of lora_embedding", [=](auto const& ex, t_t& t) {
    auto const ids = some_ids(t);
    backward(ex, embedding(t),
             graft::ids_in<typename Memory::space>(ids.data(), static_cast<graft::index_t>(ids.size())), t.y.view(),
             gradients(t));
  });
  f("merge of lora_embedding", [=](auto const& ex, t_t& t) { merge(ex, embedding(t), graft::transposed(t.w.view())); });
  f("unmerge of lora_embedding",
    [=](auto const& ex, t_t& t) { unmerge(ex, embedding(t), graft::transposed(t.w.view())); });
  f("initialize of lora_embedding",
    [=](auto const& ex, t_t& t) { initialize(ex, embedding(t), graft::standard_normal_b{1, 2}); });

  auto const with_hra = [](t_t& t, auto const& use) {
    auto const n = t.x.view().extent(1), r = t.A.view().extent(0);
    auto vectors = t_t::zeros(r * n), spread = t_t::zeros(r * n);
    use(graft::hra{graft::transposed(t.A.view()), false, t.view(vectors, r, n), t.view(spread, n, r)});
  };
  f("transform_input of hra", [=](auto const& ex, t_t& t) {
    with_hra(t, [&](auto const& a) {
      update_reflections(ex, a);
      transform_input(ex, a, t.x.view(), t.dx.view());
    });
  });
  f("backward_input of hra", [=](auto const& ex, t_t& t) {
    with_hra(t, [&](auto const& a) {
      update_reflections(ex, a);
      backward_input(ex, a, t.x.view(), t.x.view(), graft::hra_gradients{graft::transposed(t.dA.view())}, t.dx.view());
    });
  });
  f("merge of hra", [=](auto const& ex, t_t& t) {
    with_hra(t, [&](auto const& a) {
      update_reflections(ex, a);
      merge(ex, a, t.w.view());
    });
  });
  f("unmerge of hra", [=](auto const& ex, t_t& t) {
    with_hra(t, [&](auto const& a) {
      update_reflections(ex, a);
      unmerge(ex, a, t.w.view());
    });
  });
  f("initialize of hra", [=](auto const& ex, t_t& t) {
    with_hra(t, [&](auto const& a) { initialize(ex, a, graft::repeated_reflections{1, 2}); });
  });

  f("transform_output of ia3", [](auto const& ex, t_t& t) {
    transform_output(ex, graft::ia3{t.view(t.bias)}, t.x.view(), t.y.view(), t.z.view());
  });
  f("backward of ia3", [](auto const& ex, t_t& t) {
    backward(ex, graft::ia3{t.view(t.bias)}, t.x.view(), t.z.view(), t.y.view(),
             graft::ia3_gradients{t.view(t.base_bias)}, graft::none);
    auto const l = t_t::random(t.x.view().extent(1), 23);
    backward_input(ex, graft::ia3_feedforward{t.view(l)}, t.x.view(), t.x.view(), graft::ia3_gradients<>{},
                   t.dx.view());
  });
  f("merge of ia3",
    [](auto const& ex, t_t& t) { merge(ex, graft::ia3{t.view(t.bias)}, t.w.view(), t.view(t.base_bias)); });
  f("unmerge of ia3",
    [](auto const& ex, t_t& t) { unmerge(ex, graft::ia3{t.view(t.bias)}, t.w.view(), t.view(t.base_bias)); });
  f("initialize of ia3", [](auto const& ex, t_t& t) { initialize(ex, graft::ia3{t.view(t.base_bias)}); });

  auto const with_road = [](t_t& t, auto const& use) {
    auto const m = t.y.view().extent(1);
    auto factors = t_t::zeros(2 * m);
    use(graft::road{t.view(t.bias), t.view(t.more), 4, t.view(factors, 2, m)});
  };
  f("transform_output of road", [=](auto const& ex, t_t& t) {
    with_road(t, [&](auto const& a) {
      update_factors(ex, a);
      transform_output(ex, a, t.x.view(), t.y.view(), t.z.view());
    });
  });
  f("backward of road", [=](auto const& ex, t_t& t) {
    with_road(t, [&](auto const& a) {
      update_factors(ex, a);
      auto dalpha = t_t::zeros(t.y.view().extent(1));
      backward(ex, a, t.x.view(), t.z.view(), t.y.view(), graft::road_gradients{t.view(t.base_bias), t.view(dalpha)},
               graft::none);
    });
  });
  f("merge of road", [=](auto const& ex, t_t& t) {
    with_road(t, [&](auto const& a) {
      update_factors(ex, a);
      merge(ex, a, t.w.view(), t.view(t.base_bias));
    });
  });
  f("unmerge of road", [=](auto const& ex, t_t& t) {
    with_road(t, [&](auto const& a) {
      update_factors(ex, a);
      unmerge(ex, a, t.w.view(), t.view(t.base_bias));
    });
  });
  f("initialize of road", [=](auto const& ex, t_t& t) {
    auto factors = t_t::zeros(2 * t.y.view().extent(1));
    initialize(ex, graft::road{t.view(t.base_bias), t.view(t.more), 4, t.view(factors, 2, t.y.view().extent(1))});
  });

  f("add_delta of bitfit",
    [](auto const& ex, t_t& t) { add_delta(ex, graft::bitfit{t.view(t.bias)}, t.x.view(), t.y.view()); });
  f("backward of bitfit", [](auto const& ex, t_t& t) {
    backward(ex, graft::bitfit{t.view(t.bias)}, t.x.view(), t.y.view(), graft::bitfit_gradients{t.view(t.base_bias)},
             graft::none);
  });
  f("merge of bitfit",
    [](auto const& ex, t_t& t) { merge(ex, graft::bitfit{t.view(t.bias)}, t.w.view(), t.view(t.base_bias)); });
  f("unmerge of bitfit",
    [](auto const& ex, t_t& t) { unmerge(ex, graft::bitfit{t.view(t.bias)}, t.w.view(), t.view(t.base_bias)); });
  f("initialize of bitfit", [](auto const& ex, t_t& t) { initialize(ex, graft::bitfit{t.view(t.base_bias)}); });

  f("normalize of ln_tuning", [](auto const& ex, t_t& t) {
    normalize(ex, graft::layer_norm{t.view(t.bias), t.view(t.more), 1e-5}, t.y.view(), t.z.view());
    normalize(ex, graft::rms_norm{t.view(t.bias)}, t.z.view(), t.y.view());
  });
  f("backward of ln_tuning", [](auto const& ex, t_t& t) {
    auto db = t_t::zeros(t.y.view().extent(1));
    backward(ex, graft::layer_norm{t.view(t.bias), t.view(t.more), 1e-5}, t.y.view(), t.y.view(),
             graft::norm_gradients{t.view(t.base_bias), t.view(db)}, t.z.view());
    backward(ex, graft::rms_norm{t.view(t.bias)}, t.y.view(), t.y.view(),
             graft::norm_gradients<decltype(t.view(db))>{t.view(t.base_bias), {}}, t.z.view());
  });
  f("initialize of ln_tuning",
    [](auto const& ex, t_t& t) { initialize(ex, graft::layer_norm{t.view(t.base_bias), t.view(t.drank), 1e-5}); });

  // Rotations of blocks of two features, in memory of their own; gradients are added to the first rows of dA.
  auto const with_boft = [](t_t& t, auto const& use) {
    auto const n = t.x.view().extent(1);
    auto parameters = t_t::random(2 * n, 21), rotations = t_t::zeros(2 * n);
    graft::dynamic_extents<4> const shape(1, n / 2, 2, 2);
    use(graft::boft{t_t::strided(parameters.data(), shape, {0, 4, 2, 1}), t.view(t.bias),
                    t_t::strided(rotations.data(), shape, {0, 4, 2, 1})},
        [&](S* data) { return t_t::strided(data, shape, {0, 4, 2, 1}); });
  };
  auto const with_oft = [](t_t& t, auto const& use) {
    auto const n = t.x.view().extent(1);
    auto parameters = t_t::random(n / 2, 22), rotations = t_t::zeros(2 * n);
    use(graft::oft{t.view(parameters, n / 2, 1), n, 2, 5,
                   t_t::strided(rotations.data(), graft::dynamic_extents<3>(n / 2, 2, 2), {4, 2, 1})});
  };
  auto const add_to = [](auto const& ex, auto const& matrix, typename t_t::vector const& d) {
    ex.fence();
    typename Memory::host_access const access;
    for (std::size_t i = 0; i < d.size(); ++i) {
      auto const at = static_cast<graft::index_t>(i);
      matrix(at / matrix.extent(1), at % matrix.extent(1)) = d[i];
    }
  };
  f("transform_input of boft", [=](auto const& ex, t_t& t) {
    with_boft(t, [&](auto const& a, auto const&) {
      update_rotations(ex, a);
      transform_input(ex, a, t.x.view(), t.dx.view());
    });
  });
  f("transform_output of boft", [=](auto const& ex, t_t& t) {
    with_boft(t, [&](auto const& a, auto const&) { transform_output(ex, a, t.x.view(), t.y.view(), t.z.view()); });
  });
  f("backward of boft", [=](auto const& ex, t_t& t) {
    with_boft(t, [&](auto const& a, auto const& like) {
      update_rotations(ex, a);
      auto d = t_t::zeros(a.parameters.size());
      graft::boft_gradients const g{like(d.data()), t.view(t.base_bias)};
      backward(ex, a, t.x.view(), t.z.view(), t.y.view(), g, graft::none);
      backward_input(ex, a, t.x.view(), t.x.view(), g, t.dx.view());
      add_to(ex, t.dA.view(), d);
    });
  });
  f("merge of boft", [=](auto const& ex, t_t& t) {
    with_boft(t, [&](auto const& a, auto const&) {
      update_rotations(ex, a);
      merge(ex, a, t.w.view());
    });
  });
  f("unmerge of boft", [=](auto const& ex, t_t& t) {
    with_boft(t, [&](auto const& a, auto const&) {
      update_rotations(ex, a);
      unmerge(ex, a, t.w.view());
    });
  });
  f("initialize of boft", [=](auto const& ex, t_t& t) {
    with_boft(t, [&](auto const& a, auto const&) {
      initialize(ex, a);
      transform_input(ex, a, t.x.view(), t.dx.view());
    });
  });
  f("transform_input of oft", [=](auto const& ex, t_t& t) {
    with_oft(t, [&](auto const& a) {
      update_rotations(ex, a);
      transform_input(ex, a, t.x.view(), t.dx.view());
    });
  });
  f("backward_input of oft", [=](auto const& ex, t_t& t) {
    with_oft(t, [&](auto const& a) {
      update_rotations(ex, a);
      auto d = t_t::zeros(a.parameters.size());
      backward_input(ex, a, t.x.view(), t.x.view(), graft::oft_gradients{t.view(d, a.parameters.extent(0), 1)},
                     t.dx.view());
      add_to(ex, t.dA.view(), d);
    });
  });
  f("merge of oft", [=](auto const& ex, t_t& t) {
    with_oft(t, [&](auto const& a) {
      update_rotations(ex, a);
      merge(ex, a, t.w.view());
    });
  });
  f("unmerge of oft", [=](auto const& ex, t_t& t) {
    with_oft(t, [&](auto const& a) {
      update_rotations(ex, a);
      unmerge(ex, a, t.w.view());
    });
  });
  f("initialize of oft", [=](auto const& ex, t_t& t) {
    with_oft(t, [&](auto const& a) {
      initialize(ex, a);
      transform_input(ex, a, t.x.view(), t.dx.view());
    });
  });

  constexpr graft::lora_dropout mask{.probability = 0.4, .seed = 1, .stream = 2};
  f("add_delta of lora_dropout", [=](auto const& ex, t_t& t) {
    add_delta(ex, drop(ex, t.lora(), mask, t.dA.view(), t.dB.view()), t.x.view(), t.y.view());
  });
  f("backward of lora_dropout", [=](auto const& ex, t_t& t) {
    auto const r = t.A.view().extent(0), n = t.A.view().extent(1), m = t.B.view().extent(0);
    auto da = t_t::zeros(r * n), db = t_t::zeros(m * r);
    auto const da_dropped = t.view(da, r, n), db_dropped = t.view(db, m, r);
    backward_dropped(ex, t.lora(), mask, t.x.view(), t.y.view(), gradients(t), t.dx.view(), da_dropped, db_dropped);
  });
}

}  // namespace tests
