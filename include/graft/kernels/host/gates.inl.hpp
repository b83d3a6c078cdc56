// SPDX-License-Identifier: Apache-2.0
// Gates of fp32 rows for one instruction set. Sixty-four rows go together: the k-th largest of sixteen maxima of a row bounds its
// choices, the few logits that reach it are put into sorted lists, sixteen rows side by side. Few rows, rows with a fault and rows of
// which too many logits reach the bound, one by one: a maximum a block of sixteen logits, and k times the largest maximum, its first
// block, its first lane. Included once per level by levels.hpp, after convert.inl.hpp.
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
  if constexpr (is_compact) {  // no more of them than need be
    chosen[0] = 1.0F;          // e^0
    for (index_t s = 1; s < p.k; ++s) chosen[s] = portable_exp((chosen[s] - largest) * p.rate);
  } else {
    for (index_t s = p.k; s % 16 != 0; ++s) chosen[s] = largest;
    for (index_t s = 0; s < p.k; s += 16)
      store(chosen + s, exponential(mul(add(load(chosen + s), splat(-largest)), splat(p.rate))));
  }
  auto const divide_all = [&](float by) {
    if constexpr (is_compact)
      for (index_t s = 0; s < p.k; ++s) chosen[s] = chosen[s] / by;
    else
      for (index_t s = 0; s < p.k; s += 16) store(chosen + s, divide(load(chosen + s), splat(by)));
  };
  float divisor = p.sums_over_all ? sum_of_exponentials(z, p.experts, largest, p.rate) : 1.0F;
  if (p.sums_over_all) divide_all(divisor);
  if (p.renormalize) {
    float sum = 0.0F;
    for (index_t s = 0; s < p.k; ++s) sum = sum + chosen[s];
    divisor = sum + p.epsilon;
    divide_all(divisor);
  }
  for (index_t s = 0; s < p.k; ++s) write_choice(p, t, s, id[s], p.scale * chosen[s]);
}

/// Sorted lists of the K largest numbers of each lane and what they are called; equals keep their order.
template <int K>
struct choice_lists {
  lanes value[K];
  order_lanes id[K];

  GRAFT_INLINE void begin() {
    repeat<K>([&](auto s) __attribute__((always_inline)) {
      value[s] = splat(-std::numeric_limits<float>::infinity());
      id[s] = splat_key(0);
    });
  }
  GRAFT_INLINE void insert(lanes z) {
    repeat<K - 1>([&](auto s) __attribute__((always_inline)) {
      int const at = K - 1 - s;
      value[at] = larger(value[at], smaller(value[at - 1], z));
    });
    value[0] = larger(value[0], z);
  }
  GRAFT_INLINE void insert(lanes z, order_lanes number) {
    lane_mask over[K];
    repeat<K>([&](auto s) __attribute__((always_inline)) { over[s] = above(z, value[s]); });
    repeat<K - 1>([&](auto s) __attribute__((always_inline)) {
      int const at = K - 1 - s;
      id[at] = choose(over[at - 1], id[at - 1], choose(over[at], number, id[at]));
    });
    id[0] = choose(over[0], number, id[0]);
    insert(z);
  }
};

/// Choices of a row that goes together with others, at most.
inline constexpr index_t group_choices = 16;
/// Of each of the rows that go together a logit and its number; numbers lie near the logits, whatever the count of slots is.
struct gate_slot {
  float value[gate_group_rows];
  std::int32_t id[gate_group_rows];
};
/// Rows that go through the steps of selection together, so that the next ones' are under way while one's wait: the rows past the
/// last are the first again. A list of the choices of each, and a bit for each row that is left to `gate_row`. Only what keeps lists
/// in registers knows their length when it is compiled.
struct gate_group {
  float const* first;
  index_t step;
  index_t experts;
  index_t vectors;  // of a row
  index_t live;     // lanes of the last one
  std::uint64_t slow = 0;
  gate_slot choice[group_choices];

  [[nodiscard]] GRAFT_INLINE float const* row(index_t l) const { return first + l * step; }
  [[nodiscard]] GRAFT_INLINE lanes last_of(float const* r) const { return load_masked(r + 16 * (vectors - 1), live); }
  GRAFT_INLINE void leave(index_t tile, unsigned which) {
    slow |= std::uint64_t{which} << static_cast<unsigned>(16 * tile);
  }
  template <int K>
  GRAFT_INLINE void put(index_t tile, choice_lists<K> const& list) {
    repeat<K>([&](auto s) __attribute__((always_inline)) {
      store(choice[s].value + 16 * tile, list.value[s]);
      store_keys(choice[s].id + 16 * tile, list.id[s]);
    });
  }
};

/// Lane l of out[i]: the largest logit of row l of a tile among those that are i of 16. With a NaN, or infinities of both signs, or
/// sums that overflow, false.
template <int = 0>
GRAFT_INLINE bool look_at_tile(gate_group const& g, index_t tile, lanes* out) {
  lanes all = zero();
  if (g.vectors == 1)
    repeat<16>([&](auto l) __attribute__((always_inline)) {
      out[l] = g.last_of(g.row(16 * tile + l));
      all = add(all, out[l]);
    });
  else
    for (index_t l = 0; l < 16; ++l) {
      float const* const row = g.row(16 * tile + l);
      lanes largest = g.last_of(row);
      lanes sum = largest;
      index_t e = 0;
      for (; e + 64 <= g.experts; e += 64) {
        lanes const a = load(row + e);
        lanes const b = load(row + e + 16);
        lanes const c = load(row + e + 32);
        lanes const d = load(row + e + 48);
        largest = larger(largest, larger(larger(a, b), larger(c, d)));
        sum = add(sum, add(add(a, b), add(c, d)));
      }
      for (; e + 16 <= g.experts; e += 16) {
        lanes const x = load(row + e);
        largest = larger(largest, x);
        sum = add(sum, x);
      }
      out[l] = largest;
      all = add(all, sum);
    }
  transpose16(out);
  constexpr float infinite = std::numeric_limits<float>::infinity();
  if (bits_of(above(all, splat(-infinite))) == 0xffff) return true;
  float each[16];
  store(each, all);
  for (float const e : each)
    if (e != e) return false;
  return true;
}

/// Which of the first 64 logits are at least `bound`, or NaN.
GRAFT_INLINE std::uint64_t reaching_of(float const* z, index_t count, lanes bound) {
  lanes x[4];
  if (count >= 64) {
    repeat<4>([&](auto i) __attribute__((always_inline)) { x[i] = load(z + 16 * i); });
    return reaching(x, bound);
  }
  repeat<4>([&](auto i) __attribute__((always_inline)) {
    index_t const left = count - 16 * i;
    x[i] = load_masked(z + 16 * i, left < 0 ? 0 : left < 16 ? left : 16);
  });
  return reaching(x, bound) & ((std::uint64_t{1} << static_cast<unsigned>(count)) - 1);
}

/// Candidates of a row that lists of K choices have room for.
template <int K>
inline constexpr index_t candidates_kept = 2 * K + 4;
/// Logits that are at least least[row], k or more, in the order of their numbers, and -inf past the last. Returns how many a row has
/// at most. A function of its own: it needs all registers.
template <int K, bool OneWord>
__attribute__((noinline)) index_t find_candidates(gate_group& g, index_t k, index_t tiles, float const* least,
                                                  gate_slot* out) {
  constexpr index_t room = candidates_kept<K>;
  constexpr float masked = -std::numeric_limits<float>::infinity();
  for (index_t s = 0; s < room; ++s)
    for (index_t l = 0; l < gate_group_rows; l += 16) {
      store(out[s].value + l, splat(masked));
      store_keys(out[s].id + l, splat_key(0));
    }
  // Slots are written without asking whether there is another candidate, as far as there mostly is.
  constexpr index_t each = K > 4 ? 4 : 0;
  index_t const sure = OneWord ? (K <= 2 ? K : k) : each;
  index_t deepest = k;
  for (index_t l = 0; l < 16 * tiles; ++l) {
    float const* const row = g.row(l);
    lanes const bound = splat(least[l]);
    index_t n = 0;
    for (index_t e0 = 0; e0 < g.experts && n <= room; e0 += 64) {
      index_t const count = g.experts - e0;
      std::uint64_t const last = std::uint64_t{1} << (count < 64 ? static_cast<unsigned>(count - 1) : 63U);
      std::uint64_t word = reaching_of(row + e0, count, bound);
      index_t const found = __builtin_popcountll(word);
      auto const put = [&](index_t s) __attribute__((always_inline)) {
        index_t const e = e0 + __builtin_ctzll(OneWord ? word : word | last);
        out[s].id[l] = static_cast<std::int32_t>(e);
        out[s].value[l] = row[e];
        word &= word - 1;
      };
      for (index_t i = 0; i < sure; ++i) put(n + i);
      for (index_t i = sure; i < found && n + i < room; ++i) put(n + i);
      n += found;
      if constexpr (OneWord) break;
    }
    if (n > room) {
      g.slow |= std::uint64_t{1} << static_cast<unsigned>(l);
      continue;
    }
    if constexpr (!OneWord)
      for (index_t i = 0; i < sure; ++i) out[n + i].value[l] = masked;
    if (n > deepest) deepest = n;
  }
  return deepest;
}

/// The lists of a group. At least k logits reach the k-th largest of the maxima of a row's lanes, and what does not is no choice.
template <int K>
GRAFT_INLINE void select_choices(gate_group& g, index_t k, index_t tiles) {
  constexpr float infinite = std::numeric_limits<float>::infinity();
  float least[gate_group_rows];
  for (index_t tile = 0; tile < tiles; ++tile) {
    lanes most[16];
    if (!look_at_tile(g, tile, most)) {
      g.leave(tile, 0xffff);
      for (lanes& m : most) m = splat(-infinite);
    }
    choice_lists<K> list;
    list.begin();
    if (g.vectors == 1) {
      for (index_t e = 0; e < g.experts; ++e) list.insert(most[e], splat_key(static_cast<std::int32_t>(e)));
      g.put(tile, list);
    } else {
      for (index_t l = 0; l < 16; ++l) list.insert(most[l]);
      store(least + 16 * tile, list.value[k - 1]);
    }
  }
  if (g.vectors > 1) {
    gate_slot found[candidates_kept<K> + K];
    index_t const deepest = g.experts <= 64 ? find_candidates<K, true>(g, k, tiles, least, found)
                                            : find_candidates<K, false>(g, k, tiles, least, found);
    for (index_t tile = 0; tile < tiles; ++tile) {
      choice_lists<K> list;
      list.begin();
      for (index_t s = 0; s < deepest; ++s)
        list.insert(load(found[s].value + 16 * tile), load_keys(found[s].id + 16 * tile));
      g.put(tile, list);
    }
  }
  for (index_t tile = 0; tile < tiles; ++tile)
    g.leave(tile, 0xffffU & ~(bits_of(above(load(g.choice[k - 1].value + 16 * tile), splat(-infinite))) &
                              bits_of(above(splat(infinite), load(g.choice[0].value + 16 * tile)))));
}

/// Of the rows of a tile, the sum over all of e^((z - most) rate).
template <int = 0>
__attribute__((noinline)) lanes sums_of_exponentials(gate_group const& g, index_t tile, float const* most, float rate) {
  constexpr index_t step = kernels::chunk / 16;
  lanes sum = zero();
  for (index_t first = 0; first < g.vectors; first += step) {
    index_t const last = g.vectors - first < step ? g.vectors : first + step;
    lanes part[16];
    for (index_t l = 0; l < 16; ++l) {
      float const* const row = g.row(16 * tile + l);
      lanes const below = splat(-most[l]);
      auto const of = [&](lanes x)
                          __attribute__((always_inline)) { return exponential(mul(add(x, below), splat(rate))); };
      lanes all = zero();
      for (index_t v = first; v < last && v + 1 < g.vectors; ++v) all = add(all, of(load(row + 16 * v)));
      if (last == g.vectors)
        all = add(all, first_lanes(of(load_part(row + 16 * (last - 1), g.live)), static_cast<int>(g.live)));
      part[l] = all;
    }
    sum = first == 0 ? tree16(part) : add(sum, tree16(part));
  }
  return sum;
}

/// Weights in place of the values of the lists.
template <class Size>
GRAFT_INLINE void weigh_choices(gate_problem const& p, Size k, gate_group& g, index_t tiles) {
  lanes const rate = splat(p.rate);
  for (index_t tile = 0; tile < tiles; ++tile) {
    auto const value = [&](index_t s) __attribute__((always_inline)) { return g.choice[s].value + 16 * tile; };
    lanes u[group_choices];
    lanes const below = mul(load(value(0)), splat(-1.0F));
    u[0] = splat(1.0F);  // e^0
    repeat_up_to(k, [&](auto s) __attribute__((always_inline)) {
      if (s > 0) u[s] = exponential(mul(add(load(value(s)), below), rate));
    });
    if (p.sums_over_all) {
      lanes const all = sums_of_exponentials(g, tile, value(0), p.rate);
      repeat_up_to(k, [&](auto s) __attribute__((always_inline)) { u[s] = divide(u[s], all); });
    }
    if (p.renormalize) {
      lanes sum = zero();
      repeat_up_to(k, [&](auto s) __attribute__((always_inline)) { sum = add(sum, u[s]); });
      sum = add(sum, splat(p.epsilon));
      repeat_up_to(k, [&](auto s) __attribute__((always_inline)) { u[s] = divide(u[s], sum); });
    }
    repeat_up_to(k, [&](auto s) __attribute__((always_inline)) { store(value(s), mul(u[s], splat(p.scale))); });
  }
}

template <class Size>
GRAFT_INLINE void write_choices(gate_problem const& p, Size k, index_t t0, index_t count, gate_group const& g) {
  bool const plain = p.weights.kind == storage::fp32 && p.weights.column == 1 && !p.wide_ids && p.id_column == 1;
  bool const pairs = plain && k == 2 && p.weights.row == 2 && p.id_row == 2;
  auto* const ids = static_cast<std::int32_t*>(p.ids) + t0 * p.id_row;
  float* const weights = p.weights.as<float>() + t0 * p.weights.row;
  for (index_t first = 0; first < count; first += 16) {
    index_t const some = count - first < 16 ? count - first : 16;
    auto const slow = static_cast<unsigned>(g.slow >> static_cast<unsigned>(first)) & 0xffffU;
    auto const value = [&](index_t s) __attribute__((always_inline)) { return g.choice[s].value + first; };
    auto const id = [&](index_t s) __attribute__((always_inline)) { return g.choice[s].id + first; };
    if (pairs && some == 16 && slow == 0) {
      store_pairs(ids + 2 * first, load_keys(id(0)), load_keys(id(1)));
      store_pairs(weights + 2 * first, load(value(0)), load(value(1)));
      continue;
    }
    if (plain && slow == 0) {
      lanes w[16];
      lanes e[16];
      repeat_up_to(k, [&](auto s) __attribute__((always_inline)) {
        w[s] = load(value(s));
        e[s] = lanes_of(load_keys(id(s)));
      });
      for (int s = k; s < 16; ++s) w[s] = e[s] = zero();
      transpose16(w);
      transpose16(e);
      for (index_t l = 0; l < some; ++l) {
        store_part(weights + (first + l) * p.weights.row, w[l], k);
        store_part_of_keys(ids + (first + l) * p.id_row, e[l], k);
      }
      continue;
    }
    for (index_t l = 0; l < some; ++l)
      if ((slow >> static_cast<unsigned>(l) & 1U) == 0)
        for (index_t s = 0; s < k; ++s) write_choice(p, t0 + first + l, s, id(s)[l], value(s)[l]);
  }
}

/// Rows [t0, t0 + count), at most 64. Bits of the result: rows that are left. The most usual numbers
/// of choices have bodies of their own.
template <class Size>
std::uint64_t gate_rows_together(gate_problem const& p, Size k, index_t t0, index_t count, float* scratch) {
  index_t const ld = (p.experts + 15) / 16 * 16;
  index_t const tiles = (count + 15) / 16;
  bool const direct = p.logits.kind == storage::fp32 && p.logits.column == 1 && count % 16 == 0;
  gate_group g;
  g.first = direct ? p.logits.at(t0, 0).as<float const>() : scratch;
  g.step = direct ? p.logits.row : ld;
  g.experts = p.experts;
  g.vectors = ld / 16;
  g.live = p.experts - ld + 16;
  if (!direct) {
    pack<>(p.logits.at(t0, 0), count, p.experts, scratch, ld);
    for (index_t l = count; l < 16 * tiles; ++l)
      std::memcpy(scratch + l * ld, scratch, sizeof(float) * static_cast<std::size_t>(ld));
  }
  if constexpr (!std::is_same_v<Size, int>) select_choices<Size::value>(g, k, tiles);
  else if (k <= 4) select_choices<4>(g, k, tiles);
  else if (k <= 8) select_choices<8>(g, k, tiles);
  else select_choices<group_choices>(g, k, tiles);
  weigh_choices(p, k, g, tiles);
  write_choices(p, k, t0, count, g);
  return g.slow;
}

/// Rows [first, last); `scratch` holds gate_scratch floats.
template <int = 0>
inline void gate_rows(gate_problem const& p, index_t first, index_t last, float* scratch) {
  index_t const ld = (p.experts + 15) / 16 * 16;
  auto* const key = reinterpret_cast<std::int32_t*>(scratch);
  float* const z = scratch + gate_keys(p.experts);
  for (index_t t = first; t < last; t += gate_group_rows) {
    index_t const count = last - t < gate_group_rows ? last - t : gate_group_rows;
    std::uint64_t slow = ~std::uint64_t{0};
    if constexpr (!is_compact)
      if (count >= gate_tile_rows && p.k <= group_choices && p.experts <= gate_group_experts)
        slow = p.k == 1   ? gate_rows_together(p, std::integral_constant<int, 1>{}, t, count, z)
               : p.k == 2 ? gate_rows_together(p, std::integral_constant<int, 2>{}, t, count, z)
               : p.k == 8 ? gate_rows_together(p, std::integral_constant<int, 8>{}, t, count, z)
                          : gate_rows_together(p, static_cast<int>(p.k), t, count, z);
    p.codes.set_right(t, count);
    if (count < gate_group_rows) slow &= (std::uint64_t{1} << static_cast<unsigned>(count)) - 1;
    for (; slow != 0; slow &= slow - 1) {
      index_t const at = t + __builtin_ctzll(slow);
      pack<>(p.logits.at(at, 0), 1, p.experts, z, ld);
      gate_row(p, at, z, key, key + ld);
    }
  }
}

}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL
