// SPDX-License-Identifier: Apache-2.0
// Blocks of operands to rows of fp32 and back, rounded once, for one instruction set.
// Included once per level by levels.hpp, after lanes.inl.hpp.
namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL {

/// f(pointer) with the elements' own type: once around many loads or stores, so that the sums between exist once only.
template <class F>
GRAFT_INLINE void typed(operand const& m, F const& f) {
  if (m.kind == storage::fp32) f(m.as<float>());
  else if (m.kind == storage::bf16) f(m.as<bfloat16>());
  else f(m.as<float16>());
}

/// out[i * ld + k] = m(i, k) for i < ni, k < nk; k is filled up to a multiple of 16 with +0.
template <class T>
void pack_as(operand const& m, index_t ni, index_t nk, float* out, index_t ld) {
  T const* const p = m.as<T const>();
  if (m.column == 1) {
    for (index_t i = 0; i < ni; ++i) {
      index_t k = 0;
      for (; k + 16 <= nk; k += 16) store(out + i * ld + k, load(p + i * m.row + k));
      if (k < nk) store(out + i * ld + k, load_part(p + i * m.row + k, nk - k));
    }
  } else if (m.row == 1) {
    for (index_t i = 0; i < ni; i += 16)
      for (index_t k = 0; k < nk; k += 16) {
        lanes v[16];
        index_t const wide = ni - i < 16 ? ni - i : 16;
        index_t const deep = nk - k < 16 ? nk - k : 16;
        if (wide == 16 && deep == 16) {
          if constexpr (std::is_same_v<T, float>) load_transposed(v, p + i + k * m.column, m.column);
          else {
            for (int l = 0; l < 16; ++l) v[l] = load(p + i + (k + l) * m.column);
            transpose16(v);
          }
        } else {
          for (int l = 0; l < 16; ++l) v[l] = l < deep ? load_part(p + i + (k + l) * m.column, wide) : zero();
          transpose16(v);
        }
        for (index_t l = 0; l < wide; ++l) store(out + (i + l) * ld + k, v[l]);
      }
  } else {
    for (index_t i = 0; i < ni; ++i)
      for (index_t k = 0; k < (nk + 15) / 16 * 16; ++k)
        out[i * ld + k] = k < nk ? load_as<float>(p[i * m.row + k * m.column]) : 0.0F;
  }
}
template <int = 0>
inline void pack(operand const& m, index_t ni, index_t nk, float* out, index_t ld) {
  if (m.kind == storage::fp32) pack_as<float>(m, ni, nk, out, ld);
  else if (m.kind == storage::bf16) pack_as<bfloat16>(m, ni, nk, out, ld);
  else pack_as<float16>(m, ni, nk, out, ld);
}

/// m(i, k) = in[i * ld + k], rounded once.
template <class T>
void unpack_as(float const* in, index_t ld, index_t ni, index_t nk, operand const& m) {
  T* const p = m.as<T>();
  if (m.column == 1) {
    for (index_t i = 0; i < ni; ++i) {
      index_t k = 0;
      for (; k + 16 <= nk; k += 16) store(p + i * m.row + k, load(in + i * ld + k));
      if (k < nk) store_part(p + i * m.row + k, load_part(in + i * ld + k, nk - k), nk - k);
    }
  } else if (m.row == 1) {
    for (index_t i = 0; i < ni; i += 16)
      for (index_t k = 0; k < nk; k += 16) {
        index_t const wide = ni - i < 16 ? ni - i : 16;
        index_t const deep = nk - k < 16 ? nk - k : 16;
        lanes v[16];
        for (int l = 0; l < 16; ++l) v[l] = l < wide ? load_part(in + (i + l) * ld + k, deep) : zero();
        transpose16(v);
        for (index_t l = 0; l < deep; ++l) {
          if (wide == 16) store(p + i + (k + l) * m.column, v[l]);
          else store_part(p + i + (k + l) * m.column, v[l], wide);
        }
      }
  } else {
    for (index_t i = 0; i < ni; ++i)
      for (index_t k = 0; k < nk; ++k) p[i * m.row + k * m.column] = store_as<T>(in[i * ld + k]);
  }
}
template <int = 0>
inline void unpack(float const* in, index_t ld, index_t ni, index_t nk, operand const& m) {
  if (m.kind == storage::fp32) unpack_as<float>(in, ld, ni, nk, m);
  else if (m.kind == storage::bf16) unpack_as<bfloat16>(in, ld, ni, nk, m);
  else unpack_as<float16>(in, ld, ni, nk, m);
}

template <int = 0>
inline void multiply(float* v, index_t count, float s) {
  index_t i = 0;
  for (; i + 16 <= count; i += 16) store(v + i, mul(splat(s), load(v + i)));
  for (; i < count; ++i) v[i] = s * v[i];
}

}  // namespace graft::inline GRAFT_CONTRACT::detail::inline GRAFT_TARGET::GRAFT_LEVEL
