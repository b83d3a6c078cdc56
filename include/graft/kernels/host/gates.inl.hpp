// SPDX-License-Identifier: Apache-2.0
// Gates of fp32 rows for one instruction set. Sixteen rows side by side: a logit of each sinks into sorted lists of k. Few rows, one by
// one: a maximum a block of sixteen logits, and k times the largest maximum, its first block, its first lane. Included once per level by levels.hpp, after convert.inl.hpp.
namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL {

/// The sum over all of e^((z - most) rate): sixteen lanes and a tree per 512, these in order.
GRAFT_INLINE float sum_of_exponentials(float const* z, index_t count, float most, float rate) {
  float sum = 0.0F;
  for (index_t k0 = 0; k0 < count; k0 += kernels::chunk) {
    lanes part = zero();
    for (index_t k = k0; k < count && k < k0 + kernels::chunk; k += 16) {
      lanes const e = exponential(mul(add(load(z + k), splat(-most)), splat(rate)));
      part = add(part, count - k < 16 ? first_lanes(e, static_cast<int>(count - k)) : e);
    }
    float lane[16];
    store(lane, part);
    sum = k0 == 0 ? tree(lane) : sum + tree(lane);
  }
  return sum;
}

GRAFT_INLINE void write_choice(gate_problem const& p, index_t t, index_t s, index_t id, float weight) {
  index_t const at = t * p.id_row + s * p.id_column;
  if (p.wide_ids) static_cast<std::int64_t*>(p.ids)[at] = id;
  else static_cast<std::int32_t*>(p.ids)[at] = static_cast<std::int32_t>(id);
  index_t const w = t * p.weights.row + s * p.weights.column;
  if (p.weights.kind == storage::fp32) p.weights.as<float>()[w] = weight;
  else if (p.weights.kind == storage::bf16) p.weights.as<bfloat16>()[w] = bfloat16(weight);
  else p.weights.as<float16>()[w] = float16(weight);
}

/// What is wrong with a row whose largest magnitude and largest order key are these.
GRAFT_INLINE gate_fault fault_of(std::int32_t magnitude, std::int32_t largest) {
  constexpr std::int32_t infinite = 0x7f800000;
  constexpr std::int32_t masked = static_cast<std::int32_t>(0x807fffffU);  // -inf
  return magnitude > infinite  ? gate_fault::nan
         : largest == infinite ? gate_fault::infinite
         : largest == masked   ? gate_fault::none_left
                               : gate_fault::right;
}

/// One row, its logits in z[E up to a multiple of 16].
GRAFT_INLINE void gate_row(gate_problem const& p, index_t t, float const* z, std::int32_t* key, std::int32_t* most) {
  index_t const blocks = (p.experts + 15) / 16;
  index_t const groups = (blocks + 15) / 16;
  auto const live = static_cast<int>(p.experts - (blocks - 1) * 16);  // of the last block
  order_lanes magnitude = splat_key(0);
  for (index_t g = 0; g < groups; ++g) {
    order_lanes maxima = splat_key(no_key<std::int32_t>);
    index_t const last = 16 * g + 16 < blocks ? 16 * g + 16 : blocks;
    for (index_t b = 16 * g; b < last; ++b) {
      lanes const row = load(z + 16 * b);
      order_lanes k = keys_of(row);
      order_lanes m = magnitude_keys(row);
      if (b == blocks - 1) {
        k = first_keys(k, live, no_key<std::int32_t>);
        m = first_keys(m, live, 0);
      }
      magnitude = larger(magnitude, m);
      store_keys(key + 16 * b, k);
      maxima = put(maxima, static_cast<int>(b - 16 * g), largest_key(k));
    }
    store_keys(most + 16 * g, maxima);
  }
  float chosen[gate_host_choices] = {};
  std::int32_t id[gate_host_choices];
  gate_fault fault = gate_fault::right;
  for (index_t s = 0; s < p.k; ++s) {
    order_lanes maxima = load_keys(most);
    index_t g = 0;
    std::int32_t top = 0;
    if (groups == 1) top = largest_key(maxima);
    else {
      order_lanes over = maxima;
      for (index_t h = 1; h < groups; ++h) over = larger(over, load_keys(most + 16 * h));
      top = largest_key(over);
      while (first_lane(maxima, top) >= 16) maxima = load_keys(most + 16 * ++g);
    }
    if (s == 0) fault = fault_of(largest_key(magnitude), top);
    if (fault != gate_fault::right) break;
    int const b = first_lane(maxima, top);
    order_lanes block = load_keys(key + 16 * (16 * g + b));
    int const l = first_lane(block, top);
    id[s] = static_cast<std::int32_t>(16 * (16 * g + b) + l);
    chosen[s] = z[id[s]];
    block = put(block, l, no_key<std::int32_t>);
    store_keys(key + 16 * (16 * g + b), block);
    store_keys(most + 16 * g, put(maxima, b, largest_key(block)));
  }
  p.codes.set(t, fault);
  if (fault != gate_fault::right) {
    for (index_t s = 0; s < p.k; ++s) write_choice(p, t, s, -1, 0.0F);
    return;
  }
  float const largest = chosen[0];
  for (index_t s = p.k; s % 16 != 0; ++s) chosen[s] = largest;
  for (index_t s = 0; s < p.k; s += 16)
    store(chosen + s, exponential(mul(add(load(chosen + s), splat(-largest)), splat(p.rate))));
  float divisor = p.sums_over_all ? sum_of_exponentials(z, p.experts, largest, p.rate) : 1.0F;
  if (p.sums_over_all) {
    lanes const all = splat(divisor);
    for (index_t s = 0; s < p.k; s += 16) store(chosen + s, divide(load(chosen + s), all));
  }
  if (p.renormalize) {
    float sum = 0.0F;
    for (index_t s = 0; s < p.k; ++s) sum = sum + chosen[s];
    divisor = sum + p.epsilon;
    for (index_t s = 0; s < p.k; s += 16) store(chosen + s, divide(load(chosen + s), splat(divisor)));
  }
  for (index_t s = 0; s < p.k; ++s) write_choice(p, t, s, id[s], p.scale * chosen[s]);
}

/// The sum over all of sixteen rows, e^((z - most) rate) with z[E, 16]: the sixteen lanes of each row lie in sixteen vectors.
GRAFT_INLINE lanes sums_of_exponentials(float const* z, index_t count, lanes most, lanes rate) {
  lanes const below = mul(most, splat(-1.0F));
  lanes sum = zero();
  for (index_t k0 = 0; k0 < count; k0 += kernels::chunk) {
    lanes part[16];
    for (auto& l : part) l = zero();
    for (index_t k = k0; k < count && k < k0 + kernels::chunk; k += 16) {
      index_t const last = count - k < 16 ? count - k : 16;
      for (index_t l = 0; l < last; ++l)
        part[l] = add(part[l], exponential(mul(add(load(z + 16 * (k + l)), below), rate)));
    }
    for (int offset = 8; offset > 0; offset /= 2)
      for (int l = 0; l < offset; ++l) part[l] = add(part[l], part[l + offset]);
    sum = k0 == 0 ? part[0] : add(sum, part[0]);
  }
  return sum;
}

/// Sorted lists of the k largest keys of each lane of z[E, 16], and their numbers: every logit sinks into them. K: k, known so that
/// the lists stay in registers, or 0. Returns the largest magnitudes.
template <int K>
GRAFT_INLINE order_lanes sink(float const* z, index_t experts, index_t k, order_lanes* top, order_lanes* id) {
  constexpr int room = K == 0 ? static_cast<int>(gate_host_choices) : K;
  order_lanes t[room];
  order_lanes n[room];
  auto const each = [&](auto const& f) __attribute__((always_inline)) {
    if constexpr (K == 0)
      for (index_t s = 0; s < k; ++s) f(s);
    else repeat<K>(f);
  };
  each([&](auto s) __attribute__((always_inline)) {
    t[s] = splat_key(no_key<std::int32_t>);
    n[s] = splat_key(0);
  });
  order_lanes magnitude = splat_key(0);
  for (index_t e = 0; e < experts; ++e) {
    lanes const logits = load(z + 16 * e);
    magnitude = larger(magnitude, magnitude_keys(logits));
    order_lanes candidate = keys_of(logits);
    if constexpr (K == 0 || K > 2)
      if (!any_greater(candidate, t[K == 0 ? k - 1 : K - 1])) continue;
    order_lanes number = splat_key(static_cast<std::int32_t>(e));
    lane_mask moved;
    clear(moved);
    each([&](auto s) __attribute__((always_inline)) { exchange(t[s], n[s], candidate, number, moved); });
  }
  each([&](auto s) __attribute__((always_inline)) {
    top[s] = t[s];
    id[s] = n[s];
  });
  return magnitude;
}

/// Rows [t0, t0 + count), at most sixteen, their logits in z[E, 16].
GRAFT_INLINE void gate_tile(gate_problem const& p, index_t t0, index_t count, float const* z) {
  order_lanes top[gate_host_choices];
  order_lanes id[gate_host_choices];
  order_lanes const magnitude = p.k == 1   ? sink<1>(z, p.experts, p.k, top, id)
                                : p.k == 2 ? sink<2>(z, p.experts, p.k, top, id)
                                : p.k == 4 ? sink<4>(z, p.experts, p.k, top, id)
                                : p.k == 8 ? sink<8>(z, p.experts, p.k, top, id)
                                           : sink<0>(z, p.experts, p.k, top, id);
  lanes const most = numbers_of(top[0]);
  lanes const rate = splat(p.rate);
  lanes const below = mul(most, splat(-1.0F));
  lanes weight[gate_host_choices];
  for (index_t s = 0; s < p.k; ++s) weight[s] = exponential(mul(add(numbers_of(top[s]), below), rate));
  if (p.sums_over_all) {
    lanes const all = sums_of_exponentials(z, p.experts, most, rate);
    for (index_t s = 0; s < p.k; ++s) weight[s] = divide(weight[s], all);
  }
  if (p.renormalize) {
    lanes sum = zero();
    for (index_t s = 0; s < p.k; ++s) sum = add(sum, weight[s]);
    sum = add(sum, splat(p.epsilon));
    for (index_t s = 0; s < p.k; ++s) weight[s] = divide(weight[s], sum);
  }
  std::int32_t ids[16 * gate_host_choices];
  float weights[16 * gate_host_choices];
  std::int32_t largest[16];
  std::int32_t sizes[16];
  store_keys(largest, top[0]);
  store_keys(sizes, magnitude);
  for (index_t s = 0; s < p.k; ++s) {
    store_keys(ids + 16 * s, id[s]);
    store(weights + 16 * s, mul(weight[s], splat(p.scale)));
  }
  for (index_t l = 0; l < count; ++l) {
    gate_fault const fault = fault_of(sizes[l], largest[l]);
    p.codes.set(t0 + l, fault);
    bool const right = fault == gate_fault::right;
    for (index_t s = 0; s < p.k; ++s)
      write_choice(p, t0 + l, s, right ? ids[16 * s + l] : -1, right ? weights[16 * s + l] : 0.0F);
  }
}

/// Rows [first, last); scratch of gate_scratch(experts) floats.
template <int = 0>
inline void gate_rows(gate_problem const& p, index_t first, index_t last, float* scratch) {
  index_t const ld = (p.experts + 15) / 16 * 16;
  auto* const key = reinterpret_cast<std::int32_t*>(scratch + 16 * ld);
  for (index_t t = first; t < last;) {
    index_t const count = last - t < 16 ? last - t : 16;
    if (count >= gate_tile_rows) {
      pack<>(p.logits.at(t, 0).transposed(), p.experts, count, scratch, 16);
      gate_tile(p, t, count, scratch);
      t += count;
    } else {
      pack<>(p.logits.at(t, 0), 1, p.experts, scratch, ld);
      gate_row(p, t++, scratch, key, key + ld);
    }
  }
}

}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL
