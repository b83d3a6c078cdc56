// SPDX-License-Identifier: Apache-2.0
// What routing works on: logits[T, E], ids[T, k] that are distinct in a token, weights, and rows of H features.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>

#include "support/suite.hpp"

namespace bench {

struct routed {
  routed(index_t tokens, index_t experts, index_t choices)
      : T(tokens),
        E(experts),
        k(choices),
        z(random(T * E, 1, 8.0F)),
        p(random(T * E, 2, 2.0F)),
        dz(random(T * E, 3)),
        w(random(T * k, 4, 2.0F)),
        sums(random(E, 5, 2.0F)),
        loss(filled(1)),
        ids(random_ids(T * k, 6, E)) {
    for (index_t i = 0; i < T * k; ++i)
      if (i % k > 0) id(i) = static_cast<std::int32_t>((id(i / k * k) + i % k * (E / k)) % E);
  }
  index_t T, E, k;
  buffer<float> z, p, dz, w, sums, loss;
  buffer<std::int32_t> ids;
  std::int32_t& id(index_t i) { return ids[static_cast<std::size_t>(i)]; }
  [[nodiscard]] std::int32_t id(index_t i) const { return ids[static_cast<std::size_t>(i)]; }
  [[nodiscard]] auto logits() { return view(z, T, E); }
  [[nodiscard]] auto ids_view() { return view(ids, T, k); }
  [[nodiscard]] auto w_view() { return view(w, T, k); }

  [[nodiscard]] double logit(index_t t, index_t e) const { return value(z, t * E + e); }
  /// log of the sum of exponentials of a row, and softmax.
  [[nodiscard]] double log_sum(index_t t) const {
    double most = logit(t, 0);
    for (index_t e = 1; e < E; ++e) most = std::max(most, logit(t, e));
    return most + std::log(sum(E, [&](index_t e) { return std::exp(logit(t, e) - most); }));
  }
  [[nodiscard]] double softmax(index_t t, index_t e) const { return std::exp(logit(t, e) - log_sum(t)); }
  /// The experts of a row in falling order of logits, ties to the lower index.
  [[nodiscard]] std::vector<index_t> order(index_t t) const {
    std::vector<index_t> all(static_cast<std::size_t>(E));
    std::iota(all.begin(), all.end(), index_t{0});
    std::sort(all.begin(), all.end(),
              [&](index_t a, index_t b) { return logit(t, a) > logit(t, b) || (logit(t, a) == logit(t, b) && a < b); });
    return all;
  }
};

/// A plan of ids[T, k], and what it should be.
struct planned : routed {
  planned(index_t tokens, index_t experts, index_t choices)
      : routed(tokens, experts, choices),
        memory(graft::plan_bytes(T * k, E)),
        plan(graft::plan_in(memory, assigned(), E)),
        sorted(static_cast<std::size_t>(T * k)),
        place(sorted.size()) {
    std::iota(sorted.begin(), sorted.end(), index_t{0});
    std::sort(sorted.begin(), sorted.end(),
              [&](index_t a, index_t b) { return id(a) < id(b) || (id(a) == id(b) && a < b); });
    for (std::size_t i = 0; i < sorted.size(); ++i)
      place[static_cast<std::size_t>(sorted[i])] = static_cast<index_t>(i);
    graft::kernels::make_plan(graft::serial{}, assigned(), plan);
  }
  std::vector<std::byte> memory;
  graft::plan<> plan;
  std::vector<index_t> sorted, place;  // pairs by expert, and the row of a pair
  [[nodiscard]] graft::tensor_view<std::int32_t const, graft::dynamic_extents<2>> assigned() const {
    return view(ids.data(), T, k);
  }
  [[nodiscard]] index_t row_of(index_t pair) const { return place[static_cast<std::size_t>(pair)]; }
  [[nodiscard]] index_t pair_of(index_t row) const { return sorted[static_cast<std::size_t>(row)]; }
  /// Is a pair behind `limit` others of its expert, token by token or (`by_choice`) first choices first?
  [[nodiscard]] bool late(index_t pair, index_t limit, bool by_choice) const {
    index_t before = 0;
    for (index_t other = 0; other < T * k; ++other) {
      bool const earlier = by_choice ? other % k < pair % k || (other % k == pair % k && other < pair) : other < pair;
      before += earlier && id(other) == id(pair) ? 1 : 0;
    }
    return before >= limit;
  }
};

}  // namespace bench
