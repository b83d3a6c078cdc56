// Random rows of every kind (NaN, infinities, masks, ties, denormals, the largest numbers; E = 1, k = E) through every gate.
// GRAFT_GATE_ROWS: rows for each gate, more than a test should take.
#include <graft/openmp.hpp>
#include <graft/routing.hpp>

#include <catch2/catch_test_macros.hpp>

#include "routing/problem.hpp"

using graft::gate_fault;
using graft::non_finite_logits;
using graft::view;
using namespace tests;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_rows(random_bits& d, index_t T, index_t E) {
  std::vector<float> z(static_cast<std::size_t>(T * E));
  for (index_t t = 0; t < T; ++t) {
    float* const row = z.data() + t * E;
    index_t const kind = d.below(10);
    for (index_t e = 0; e < E; ++e)
      row[e] = kind == 0   ? static_cast<float>(d.below(3))
               : kind == 1 ? 0x1p-138F * d.number()
               : kind == 2 ? 3.2e38F * d.number()
               : kind == 3 ? (d.below(2) == 0 ? 0.0F : -0.0F)
                           : 20.0F * d.number();
    for (index_t e = 0; e < E && kind >= 6; ++e)
      if (d.below(4) == 0) row[e] = -inf;
    if (kind == 7) row[d.below(E)] = not_a_number;
    if (kind == 8) row[d.below(E)] = inf;
    if (kind == 9 && d.below(4) == 0) std::fill_n(row, E, -inf);
    if (kind == 9 && d.below(8) == 0) row[d.below(E)] = -not_a_number;
  }
  return z;
}
gate_fault fault_of(float const* row, index_t E) {
  bool any = false, infinite = false;
  for (index_t e = 0; e < E; ++e) {
    if (std::isnan(row[e])) return gate_fault::nan;
    infinite = infinite || row[e] == inf;
    any = any || row[e] != -inf;
  }
  return infinite ? gate_fault::infinite : any ? gate_fault::right : gate_fault::none_left;
}

/// What a gate promises beside ids that are distinct and in range.
struct promises {
  bool by_logits = true;      // the k largest, ties to the lower index
  bool may_be_short = false;  // fewer than k, then -1
  bool sums_to_one = false;
  index_t groups = 1, kept_groups = 1;
};

/// What is wrong with the choice of one row, or nothing.
std::string complaint(float const* z, index_t E, index_t k, std::int32_t const* ids, float const* weights,
                      gate_fault code, non_finite_logits mode, promises const& p) {
  bool const last = mode == non_finite_logits::last;
  gate_fault const fault = fault_of(z, E);
  if (code != fault) return "another fault";
  if (!last && code != gate_fault::right) {
    for (index_t s = 0; s < k; ++s)
      if (ids[s] != -1 || weights[s] != 0.0F) return "a choice in a row with a fault";
    return {};
  }
  auto const key = [&](index_t e) {
    float const v = z[e];
    return std::isnan(v) ? -infinity : v == inf ? double{std::numeric_limits<float>::max()} : double{v};
  };
  auto const before = [&](index_t a, index_t b) {  // NaN behind everything
    if (std::isnan(z[a]) != std::isnan(z[b])) return std::isnan(z[b]);
    return key(a) > key(b) || (key(a) == key(b) && a < b);
  };
  std::vector<char> chosen(static_cast<std::size_t>(E)), of_group(static_cast<std::size_t>(p.groups));
  index_t count = 0;
  double sum = 0;
  for (index_t s = 0; s < k; ++s) {
    if (!(weights[s] >= 0.0F) || std::isinf(weights[s])) return "a weight that is negative or not finite";
    sum += static_cast<double>(weights[s]);
    if (ids[s] == -1) {
      if (!p.may_be_short || weights[s] != 0.0F) return "an id is missing";
      continue;
    }
    if (count != s) return "an id behind a missing one";
    ++count;
    if (ids[s] < 0 || ids[s] >= E) return "an id out of range";
    if (chosen[static_cast<std::size_t>(ids[s])]++ != 0) return "an id twice";
    of_group[static_cast<std::size_t>(ids[s] / (E / p.groups))] = 1;
    if (p.by_logits && p.groups == 1 && s > 0 && !before(ids[s - 1], ids[s])) return "not in descending order";
    if (p.by_logits && s > 0 && weights[s] > weights[s - 1]) return "weights not in descending order";
  }
  if (count == 0) return "no expert";
  if (std::count(of_group.begin(), of_group.end(), 1) > p.kept_groups) return "too many groups";
  if (p.by_logits && p.groups == 1 && !p.may_be_short)
    for (index_t e = 0; e < E; ++e)
      if (chosen[static_cast<std::size_t>(e)] == 0 && before(e, ids[k - 1])) return "a larger logit was not chosen";
  if (p.sums_to_one && sum != 0.0 && std::abs(sum - 1.0) > static_cast<double>(k + 2) * 0x1p-24)
    return "weights do not add up";
  return {};
}

index_t rows_asked() { return rows_to_draw(20000); }
/// f(executor) of one of four, in turn.
template <class F>
void on_one(index_t turn, F const& f) {
  if (turn % 4 == 0) f(graft::reference{});
  else if (turn % 4 == 1) f(graft::serial{});
  else if (turn % 4 == 2) f(wide_reference{});
  else f(graft::openmp{.threads = 2});
}

/// Batches of rows through make(bits, E, k), which returns a gate and its promises.
template <class Make>
void run(std::string const& name, Make const& make) {
  random_bits d(17);
  index_t seen = 0, turn = 0;
  std::string first;
  for (index_t const rows = rows_asked(); seen < rows && first.empty(); ++turn) {
    index_t const T = std::min<index_t>(rows - seen, 1 + d.below(700));
    index_t E = d.below(6) == 0 ? 1 : 1 + d.below(d.below(9) == 0 ? 300 : 24);
    index_t k = d.below(5) == 0 ? E : 1 + d.below(std::min<index_t>(E, 10));
    auto const mode = d.below(3) == 0 ? non_finite_logits::last : non_finite_logits::refuse;
    auto [gate, p] = make(d, E, k);
    gate.non_finite = mode;
    std::vector<float> const z = random_rows(d, T, E);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(T * k), -77), codes(static_cast<std::size_t>(T), -77);
    std::vector<float> weights(ids.size(), -77.0F);
    on_one(turn, [&](auto const& ex) {
      graft::route(ex, gate, view(z, T, E), view(ids, T, k), view(weights, T, k), graft::gate_status{view(codes)});
    });
    for (index_t t = 0; t < T && first.empty(); ++t) {
      first = complaint(z.data() + t * E, E, k, ids.data() + t * k, weights.data() + t * k,
                        static_cast<gate_fault>(codes[static_cast<std::size_t>(t)]), mode, p);
      if (!first.empty())
        first += " in row " + std::to_string(t) + " of batch " + std::to_string(turn) + ", E = " + std::to_string(E) +
                 ", k = " + std::to_string(k);
    }
    seen += T;
  }
  INFO(name);
  CHECK(first == "");
  CHECK(seen >= std::min<index_t>(rows_asked(), 1));
}

}  // namespace

TEST_CASE("random rows through softmaxes: ids are distinct, in range, in order; faults are found", "[routing]") {
  run("softmax_topk",
      [](random_bits&, index_t, index_t) { return std::pair{graft::softmax_topk{}, promises{.sums_to_one = true}}; });
  run("softmax_topk, plain, warm", [](random_bits& d, index_t, index_t) {
    return std::pair{
        graft::softmax_topk{.renormalize = false, .scale = 2.0, .temperature = 0.25 + static_cast<double>(d.below(8))},
        promises{}};
  });
  run("softmax_topk with groups", [](random_bits& d, index_t& E, index_t& k) {
    index_t const groups = 1 + d.below(4), kept = 1 + d.below(groups);
    E *= groups;
    k = std::min(k, kept * (E / groups));
    return std::pair{graft::softmax_topk{.groups = groups, .kept_groups = kept},
                     promises{.groups = groups, .kept_groups = kept}};
  });
  run("topk_softmax",
      [](random_bits&, index_t, index_t) { return std::pair{graft::topk_softmax{}, promises{.sums_to_one = true}}; });
  run("switch_top1", [](random_bits&, index_t, index_t& k) {
    k = 1;
    return std::pair{graft::switch_top1{}, promises{}};
  });
  run("top_p", [](random_bits& d, index_t, index_t) {
    return std::pair{graft::top_p{.p = 0.1 * static_cast<double>(1 + d.below(9)), .renormalize = d.below(2) == 0},
                     promises{.may_be_short = true}};
  });
}

TEST_CASE("random rows through GShard's two experts", "[routing]") {
  for (auto const second :
       {graft::second_expert::always, graft::second_expert::above_threshold, graft::second_expert::random})
    run("gshard_top2", [&](random_bits& d, index_t& E, index_t& k) {
      E = std::max<index_t>(E, 2);
      k = 2;
      return std::pair{graft::gshard_top2{.second = second, .threshold = 0.3, .seed = d()},
                       promises{.may_be_short = second != graft::second_expert::always}};
    });
}

TEST_CASE("random rows through sigmoids with a bias and groups", "[routing]") {
  std::vector<float> bias(2000);
  random_bits b(3);
  for (float& v : bias) v = 4.0F * b.number();
  run("sigmoid_topk", [&](random_bits& d, index_t& E, index_t& k) {
    index_t const groups = 1 + d.below(4), kept = 1 + d.below(groups);
    E *= groups;
    k = std::min(k, kept * (E / groups));
    return std::pair{
        graft::sigmoid_topk{.bias = view(std::as_const(bias).data(), E), .groups = groups, .kept_groups = kept},
        promises{.by_logits = false, .groups = groups, .kept_groups = kept}};
  });
}

TEST_CASE("random rows through noisy top-k, dense gates and expert choice", "[routing]") {
  random_bits d(23);
  index_t const rows = rows_asked();
  index_t wrong = 0, turn = 0;
  for (index_t seen = 0; seen < rows; ++turn) {
    index_t const T = std::min<index_t>(rows - seen, 1 + d.below(700));
    index_t const E = d.below(6) == 0 ? 1 : 1 + d.below(24), k = d.below(5) == 0 ? E : 1 + d.below(E);
    std::vector<float> const z = random_rows(d, T, E);
    std::vector<float> raw(z.size()), noisy(z.size()), weights(static_cast<std::size_t>(T * k)), dense(z.size());
    for (float& v : raw) v = 4.0F * d.number();
    std::vector<std::int32_t> ids(weights.size(), -77), codes(static_cast<std::size_t>(T), -77), of_dense(codes);
    on_one(turn, [&](auto const& ex) {
      graft::route(ex, graft::noisy_topk{}, view(z, T, E), view(raw, T, E),
                   graft::random_stream{7, static_cast<std::uint64_t>(turn)}, view(noisy, T, E), view(ids, T, k),
                   view(weights, T, k), graft::gate_status{view(codes)});
      graft::route(ex, graft::dense_gate{}, view(z, T, E), view(dense, T, E), graft::gate_status{view(of_dense)});
    });
    for (index_t t = 0; t < T; ++t) {
      float const* const h = noisy.data() + t * E;
      auto const code = static_cast<gate_fault>(codes[static_cast<std::size_t>(t)]);
      wrong += complaint(h, E, k, ids.data() + t * k, weights.data() + t * k, code, non_finite_logits::refuse,
                         {.sums_to_one = true})
                       .empty()
                   ? 0
                   : 1;
      auto const fault = static_cast<gate_fault>(of_dense[static_cast<std::size_t>(t)]);
      wrong += fault == fault_of(z.data() + t * E, E) ? 0 : 1;
      double sum = 0;
      bool right = true;
      for (index_t e = 0; e < E; ++e) {
        float const w = dense[static_cast<std::size_t>(t * E + e)];
        right = right && (fault != gate_fault::right || (w >= 0.0F && w <= 1.0F));
        sum += static_cast<double>(w);
      }
      wrong +=
          fault != gate_fault::right || (right && std::abs(sum - 1.0) <= static_cast<double>(E + 40) * 0x1p-24) ? 0 : 1;
    }
    // Experts choose among the same rows with their faults mended.
    std::vector<float> sound = z, scores(z.size());
    for (float& v : sound)
      if (!std::isfinite(v)) v = -3.0F;
    index_t const C = 1 + d.below(T);
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(E * C), -77);
    std::vector<float> of_tokens(tokens.size());
    on_one(turn + 1, [&](auto const& ex) {
      graft::route(ex, graft::expert_choice{}, view(sound, T, E), view(scores, T, E), view(tokens, E, C),
                   view(of_tokens, E, C));
    });
    for (index_t e = 0; e < E; ++e)
      for (index_t s = 0; s < C; ++s) {
        auto const at = static_cast<std::size_t>(e * C + s);
        bool const in_range = tokens[at] >= 0 && tokens[at] < T;
        wrong += in_range && of_tokens[at] == scores[static_cast<std::size_t>(tokens[at] * E + e)] ? 0 : 1;
        wrong += s == 0 || of_tokens[at] < of_tokens[at - 1] ||
                         (of_tokens[at] == of_tokens[at - 1] && tokens[at] > tokens[at - 1])
                     ? 0
                     : 1;
      }
    seen += T;
  }
  CHECK(wrong == 0);
}
