// SPDX-License-Identifier: Apache-2.0
/// @file
/// The one translation unit of the C interface (graft/c/graft.h). With -fopenmp it has GRAFT_OPENMP.
///
/// A call looks at its views (`signature`), picks the C++ types that they have (`with_types`), and calls the function
/// of the same name. Matrices become views of unknown strides, since host bodies erase types anyway; vectors lie side
/// by side.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory_resource>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <graft/c/graft.h>

#include <graft/graft.hpp>
#if defined(_OPENMP)
#include <graft/openmp.hpp>
#endif

#if !defined(__cpp_exceptions) || defined(GRAFT_ERROR_HANDLER)
#error \
    "graft/c/graft.cpp turns exceptions into status codes: compile it with exceptions and without GRAFT_ERROR_HANDLER"
#endif

namespace {

using graft::index_t;
using graft::none;
using graft::none_t;
using graft::detail::text;

/// Types that do not go together, or something that was not compiled in.
struct unsupported : graft::error {
  using graft::error::error;
};

// ------------------------------------------------------------------------------------------------------------- errors

constexpr std::size_t sentence_bytes = 1024;
thread_local char last_sentence[sentence_bytes] = "";

void keep_sentence(std::string_view sentence) noexcept {
  std::size_t const length = std::min(sentence.size(), sentence_bytes - 1);
  std::memcpy(last_sentence, sentence.data(), length);
  last_sentence[length] = '\0';
}

/// Of the exception that is being handled.
graft_status status_of_exception() noexcept {
  try {
    throw;
  } catch (unsupported const& e) {
    keep_sentence(e.what());
    return GRAFT_ERROR_UNSUPPORTED;
  } catch (graft::shape_error const& e) {
    keep_sentence(e.what());
    return GRAFT_ERROR_SHAPE;
  } catch (graft::argument_error const& e) {
    keep_sentence(e.what());
    return GRAFT_ERROR_ARGUMENT;
  } catch (graft::data_error const& e) {
    keep_sentence(e.what());
    return GRAFT_ERROR_DATA;
  } catch (std::bad_alloc const&) {
    keep_sentence("graft: no memory for scratch");
    return GRAFT_ERROR_OUT_OF_MEMORY;
  } catch (std::exception const& e) {
    keep_sentence(e.what());
    return GRAFT_ERROR_INTERNAL;
  } catch (...) {
    keep_sentence("graft: an exception of an unknown type");
    return GRAFT_ERROR_INTERNAL;
  }
}

template <class F>
graft_status guarded(F const& f) noexcept {
  try {
    f();
    return GRAFT_OK;
  } catch (...) { return status_of_exception(); }
}

template <class T>
T const& required(char const* function, char const* name, T const* pointer) {
  if (pointer == nullptr) [[unlikely]]
    throw graft::argument_error(text(function, ": ", name, " is a null pointer"));
  return *pointer;
}

// ---------------------------------------------------------------------------------------------------------- executors

/// A caller's memory as a resource of C++.
class hook_resource final : public std::pmr::memory_resource {
 public:
  explicit hook_resource(graft_executor const& e) : executor_(e) {}

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    void* const memory = executor_.allocate(executor_.context, bytes, alignment);
    if (memory == nullptr) throw std::bad_alloc();
    if (reinterpret_cast<std::uintptr_t>(memory) % alignment != 0) [[unlikely]] {
      executor_.deallocate(executor_.context, memory, bytes, alignment);
      throw graft::argument_error(text("graft_executor: allocate was asked for an alignment of ", alignment,
                                       " bytes but returned an address that is ",
                                       reinterpret_cast<std::uintptr_t>(memory) % alignment, " mod ", alignment));
    }
    return memory;
  }
  void do_deallocate(void* memory, std::size_t bytes, std::size_t alignment) override {
    executor_.deallocate(executor_.context, memory, bytes, alignment);
  }
  [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
    return this == &other;
  }
  graft_executor const& executor_;
};

/// f(executor). `serial` is OpenMP's executor with one thread where that is compiled in: one instance of every body.
template <class F>
void with_executor(char const* function, graft_executor const* given, F const& f) {
  graft_executor const& e = required(function, "the executor", given);
  if ((e.allocate == nullptr) != (e.deallocate == nullptr)) [[unlikely]]
    throw graft::argument_error(
        text(function, ": the executor has one of allocate and deallocate; give both or neither"));
  hook_resource hooks(e);
  std::pmr::memory_resource* const scratch = e.allocate != nullptr ? &hooks : nullptr;
  switch (e.kind) {
    case GRAFT_REFERENCE: return f(graft::reference{scratch});
#if defined(_OPENMP)
    case GRAFT_SERIAL: return f(graft::openmp{1, scratch});
    case GRAFT_OPENMP:
      if (e.threads < 0 || e.threads > GRAFT_MAX_THREADS) [[unlikely]]
        throw graft::argument_error(text(function, ": the executor has ", e.threads, " threads; at most ",
                                         GRAFT_MAX_THREADS, ", and 0 is OpenMP's maximum"));
      return f(graft::openmp{e.threads, scratch});
#else
    case GRAFT_SERIAL: return f(graft::serial{scratch});
    case GRAFT_OPENMP:
      throw unsupported(text(function, ": the executor is GRAFT_OPENMP but graft.cpp was compiled without -fopenmp"));
#endif
    default: break;
  }
  throw graft::argument_error(text(function, ": the executor has the kind ", e.kind,
                                   "; make one by graft_serial(), graft_openmp(threads) or graft_reference()"));
}

// -------------------------------------------------------------------------------------------------------------- views

template <class T>
inline constexpr std::int32_t dtype_of = std::is_same_v<T, float>             ? GRAFT_FLOAT32
                                         : std::is_same_v<T, graft::float16>  ? GRAFT_FLOAT16
                                         : std::is_same_v<T, graft::bfloat16> ? GRAFT_BFLOAT16
                                         : std::is_same_v<T, double>          ? GRAFT_FLOAT64
                                         : std::is_same_v<T, std::int32_t>    ? GRAFT_INT32
                                                                              : GRAFT_INT64;

constexpr bool is_there(graft_view const* v) { return v != nullptr && v->rank != 0; }

template <class T, std::size_t Rank>
using strided_view = graft::tensor_view<T, graft::dynamic_extents<Rank>, graft::host_space, graft::no_unit_dimension>;
template <class T>
using side_by_side = graft::tensor_view<T, graft::dynamic_extents<1>>;

/// Views of rank 2 and more have any strides, vectors have none.
template <class T, std::size_t Rank>
auto typed(graft_view const& v) {
  std::array<index_t, Rank> shape;
  std::array<index_t, Rank> strides;
  for (std::size_t i = 0; i < Rank; ++i) {
    shape[i] = v.shape[i];
    strides[i] = v.strides[i];
  }
  graft::dynamic_extents<Rank> const extents{shape};
  if constexpr (Rank == 1) return side_by_side<T>{static_cast<T*>(v.data), extents, strides};
  else return strided_view<T, Rank>{static_cast<T*>(v.data), extents, strides};
}
template <class T>
auto vector(graft_view const& v) {
  return typed<T, 1>(v);
}
template <class T>
auto matrix(graft_view const& v) {
  return typed<T, 2>(v);
}
template <class T>
auto blocks(graft_view const& v) {
  return typed<T, 3>(v);
}
template <class T>
auto factors_of_blocks(graft_view const& v) {
  return typed<T, 4>(v);
}

/// f(the view, or none)
template <class T, std::size_t Rank, class F>
void optional(graft_view const* v, F const& f) {
  if (is_there(v)) f(typed<T, Rank>(*v));
  else f(none);
}

/// f(gradients, dx), either of which may be none: all gradients of an adapter, or none of them; something is asked for.
template <class X, class G, class F>
void with_gradients(bool wanted, G const& gradients, graft_view const* dx, F const& f) {
  if (!wanted) f(none, matrix<X>(*dx));
  else optional<X, 2>(dx, [&](auto const& gx) { f(gradients(), gx); });
}
void expects_something(char const* function, bool wanted, graft_view const* dx) {
  if (!wanted && !is_there(dx)) [[unlikely]]
    throw graft::argument_error(text(function, ": there is nothing to compute: neither gradients nor dx is given"));
}

// --------------------------------------------------------------------------------------------------------- signatures

/// What a call was given, view by view; throws at the first that is not as it must be.
class signature {
 public:
  explicit signature(char const* function) : function_(function) {}

  [[nodiscard]] char const* function() const { return function_; }

  /// Activations: all of one type.
  signature& x(char const* name, graft_view const* v, int rank) { return in_role(x_, "activations", name, v, rank); }
  signature& x_or_none(char const* name, graft_view const* v, int rank) {
    return is_there(v) ? x(name, v, rank) : *this;
  }
  /// Parameters: all of one type.
  signature& p(char const* name, graft_view const* v, int rank) { return in_role(p_, "parameters", name, v, rank); }
  signature& p_or_none(char const* name, graft_view const* v, int rank) {
    return is_there(v) ? p(name, v, rank) : *this;
  }
  /// There where `other` is.
  signature& p_of(char const* name, graft_view const* v, int rank, char const* of, graft_view const* other) {
    if (is_there(other)) return p(name, v, rank);
    if (is_there(v)) [[unlikely]]
      throw graft::argument_error(text(function_, ": there is ", name, ", but ", of, " is missing"));
    return *this;
  }
  /// Of the type that sums are carried in.
  signature& s(char const* name, graft_view const* v, int rank) { return in_role(s_, "sums", name, v, rank); }
  signature& s_or_none(char const* name, graft_view const* v, int rank) {
    return is_there(v) ? s(name, v, rank) : *this;
  }
  signature& ids(char const* name, graft_view const* v, int rank) {
    look(name, v, rank);
    if (v->dtype != GRAFT_INT32 && v->dtype != GRAFT_INT64) [[unlikely]]
      throw unsupported(text(function_, ": ", name, " is ", graft_dtype_name(v->dtype), " but must be int32 or int64"));
    return *this;
  }
  signature& int32_or_none(char const* name, graft_view const* v, int rank) {
    if (!is_there(v)) return *this;
    look(name, v, rank);
    if (v->dtype != GRAFT_INT32) [[unlikely]]
      throw unsupported(text(function_, ": ", name, " is ", graft_dtype_name(v->dtype), " but must be int32"));
    return *this;
  }

  /// Are the views of this pair of types, and what is kept of the type of its sums?
  template <class X, class P>
  [[nodiscard]] bool are() const {
    return (x_.name == nullptr || x_.dtype == dtype_of<X>) && (p_.name == nullptr || p_.dtype == dtype_of<P>);
  }
  template <class Sums>
  void expects_sums() const {
    if (s_.name != nullptr && s_.dtype != dtype_of<Sums>) [[unlikely]]
      throw unsupported(text(function_, ": ", s_.name, " is ", graft_dtype_name(s_.dtype), " but must be ",
                             graft_dtype_name(dtype_of<Sums>), ", the type that sums are carried in"));
  }
  [[noreturn]] void refuse() const {
    std::string given;
    for (role const& r : {x_, p_})
      if (r.name != nullptr) given += text(given.empty() ? "" : " and ", r.name, " is ", graft_dtype_name(r.dtype));
    throw unsupported(
        text(function_, ": ", given,
             "; supported pairs of activations and parameters are (float32, float32), (bfloat16, bfloat16), (float16, "
             "float16), (bfloat16, float32), (float16, float32) and (float64, float64)"));
  }

 private:
  struct role {
    char const* name = nullptr;
    std::int32_t dtype = 0;
  };

  void look(char const* name, graft_view const* v, int rank) const {
    if (!is_there(v)) [[unlikely]]
      throw graft::argument_error(text(function_, ": ", name, " is missing: a null pointer, or a view of rank 0"));
    if (v->rank != rank) [[unlikely]]
      throw graft::shape_error(text(function_, ": ", name, " has rank ", v->rank, " but must have rank ", rank));
    index_t size = 1;
    for (int i = 0; i < rank; ++i) {
      if (v->shape[i] < 0 || __builtin_mul_overflow(size, v->shape[i] == 0 ? 1 : v->shape[i], &size)) [[unlikely]]
        throw graft::shape_error(text(function_, ": extent ", i, " of ", name, " is ", v->shape[i],
                                      "; extents are not negative, and their product has 64 bits"));
    }
    expects_addresses(name, *v);
    if (rank == 1 && v->shape[0] > 1 && v->strides[0] != 1) [[unlikely]]
      throw unsupported(text(function_, ": ", name, " is a vector with the stride ", v->strides[0],
                             "; elements of vectors must lie side by side"));
  }
  /// Every element has an address, and one that its type may have: what is computed from strides hereafter fits 64 bits.
  void expects_addresses(char const* name, graft_view const& v) const {
    auto const width = static_cast<index_t>(graft_dtype_bytes(v.dtype));
    if (width == 0) return;  // refused with its type
    index_t low = 0;
    index_t high = width;
    bool empty = false;
    bool wraps = false;
    for (int i = 0; i < v.rank; ++i) {
      empty = empty || v.shape[i] == 0;
      index_t reach = 0;
      wraps |= __builtin_mul_overflow(v.strides[i], width, &reach);
      wraps |= __builtin_mul_overflow(reach, v.shape[i] > 1 ? v.shape[i] - 1 : 1, &reach);
      wraps |= reach == std::numeric_limits<index_t>::min();
      if (v.shape[i] > 1) wraps |= __builtin_add_overflow(reach < 0 ? low : high, reach, reach < 0 ? &low : &high);
    }
    auto const base = reinterpret_cast<std::uintptr_t>(v.data);
    if (v.data != nullptr && !empty)
      wraps = wraps || base < std::uintptr_t{0} - static_cast<std::uintptr_t>(low) ||
              std::numeric_limits<std::uintptr_t>::max() - base < static_cast<std::uintptr_t>(high);
    if (wraps) [[unlikely]]
      throw graft::shape_error(text(function_, ": the strides of ", name, " lead outside of what 64 bits address"));
    if (!empty && base % static_cast<std::uintptr_t>(width) != 0) [[unlikely]]
      throw graft::argument_error(text(function_, ": ", name, " is at an address that is ",
                                       base % static_cast<std::uintptr_t>(width), " mod ", width, "; elements of ",
                                       graft_dtype_name(v.dtype), " lie at multiples of ", width));
  }
  signature& in_role(role& r, char const* what, char const* name, graft_view const* v, int rank) {
    look(name, v, rank);
    if (r.name == nullptr) r = {name, v->dtype};
    else if (r.dtype != v->dtype) [[unlikely]]
      throw unsupported(text(function_, ": ", name, " is ", graft_dtype_name(v->dtype), " but ", r.name, " is ",
                             graft_dtype_name(r.dtype), "; ", what, " have one dtype"));
    return *this;
  }

  char const* function_;
  role x_;
  role p_;
  role s_;
};

template <class X, class P>
struct types {
  using x = X;
  using p = P;
  using sums = graft::accumulate_t<X, P>;
};

/// f(types<X, P>) for the supported pair that the views have. A role without views takes any.
template <class F>
void with_types(signature const& s, F const& f) {
  bool found = false;
  auto const attempt = [&]<class X, class P>(types<X, P> t) {
    if (found || !s.are<X, P>()) return;
    found = true;
    s.expects_sums<typename types<X, P>::sums>();
    f(t);
  };
  using graft::bfloat16;
  using graft::float16;
  attempt(types<float, float>{});
  attempt(types<bfloat16, bfloat16>{});
  attempt(types<float16, float16>{});
  attempt(types<bfloat16, float>{});
  attempt(types<float16, float>{});
  attempt(types<double, double>{});
  if (!found) [[unlikely]]
    s.refuse();
}

/// The same for calls without activations: f(types<P, P>).
template <class F>
void with_parameters(signature const& s, F const& f) {
  with_types(s, [&]<class X, class P>(types<X, P> t) {
    if constexpr (std::is_same_v<X, P>) f(t);
  });
}

/// A call of `f(executor, types)`. The reference executor has the two pairs of types that sums are carried in: every
/// pair costs all readable bodies once more.
template <class Ex, class F, class X, class P>
void call(char const* function, F const& f, Ex const& ex, types<X, P> t) {
  constexpr bool taken = !std::is_same_v<Ex, graft::reference> || (sizeof(X) > 2 && sizeof(P) > 2);
  if constexpr (taken) f(ex, t);
  else
    throw unsupported(text(function, ": the views are ", graft_dtype_name(dtype_of<X>), " and ",
                           graft_dtype_name(dtype_of<P>), " but GRAFT_REFERENCE takes float32 or float64 only"));
}
/// `f(executor, types<X, P>)`
template <class F>
void run(graft_executor const* executor, signature const& s, F const& f) {
  with_executor(s.function(), executor,
                [&](auto const& ex) { with_types(s, [&](auto t) { call(s.function(), f, ex, t); }); });
}
/// The same without activations.
template <class F>
void run_p(graft_executor const* executor, signature const& s, F const& f) {
  with_executor(s.function(), executor,
                [&](auto const& ex) { with_parameters(s, [&](auto t) { call(s.function(), f, ex, t); }); });
}

/// Elements of views together; 0 where one is no view, or where they are more than 64 bits count.
template <class... Views>
std::int64_t parameters_of(Views const&... views) {
  std::int64_t sum = 0;
  bool wrong = false;
  auto const count = [&](graft_view const& v) {
    std::int64_t size = v.rank == 0 ? 0 : 1;
    wrong = wrong || v.rank < 0 || v.rank > 4;
    for (int i = 0; i < v.rank && i < 4; ++i)
      wrong = v.shape[i] < 0 || __builtin_mul_overflow(size, v.shape[i], &size) || wrong;
    wrong = __builtin_add_overflow(sum, size, &sum) || wrong;
  };
  (count(views), ...);
  return wrong ? 0 : sum;
}

// --------------------------------------------------------------------------------------------------------------- LoRA

template <class P, class Bias>
auto lora_of(graft_lora const& l, Bias const& bias) {
  auto const a = matrix<P>(l.A);
  auto const b = matrix<P>(l.B);
  return graft::lora<std::remove_const_t<decltype(a)>, std::remove_const_t<decltype(b)>, Bias>{a, b, l.scale, bias};
}
template <class A, class B, class Bias>
auto lora_gradients_of(A const& a, B const& b, Bias const& bias) {
  return graft::lora_gradients<A, B, Bias>{a, b, bias};
}
signature& look_at(signature& s, graft_lora const& l) {
  return s.p("A", &l.A, 2).p("B", &l.B, 2).p_or_none("bias", &l.bias, 1);
}

/// merge, unmerge: f(executor, adapter, W, base_bias)
template <class F>
graft_status change_weight(char const* function, graft_executor const* executor, graft_lora const* given,
                           graft_view const* w, graft_view const* base_bias, F const& f) {
  return guarded([&] {
    graft_lora const& l = required(function, "lora", given);
    signature s(function);
    look_at(s, l).x("W", w, 2).x_or_none("base_bias", base_bias, 1);
    if (is_there(&l.bias) && !is_there(base_bias)) [[unlikely]]
      throw graft::argument_error(text(function, ": the adapter has a bias, so base_bias must be given"));
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using P = typename T::p;
      auto const weight = matrix<typename T::x>(*w);
      if (is_there(&l.bias)) f(ex, lora_of<P>(l, vector<P>(l.bias)), weight, vector<typename T::x>(*base_bias));
      else optional<typename T::x, 1>(base_bias, [&](auto const& bias) { f(ex, lora_of<P>(l, none), weight, bias); });
    });
  });
}

/// f(ids)
template <std::size_t Rank, class F>
void with_ids(graft_view const& ids, F const& f) {
  if (ids.dtype == GRAFT_INT32) f(typed<std::int32_t, Rank>(ids));
  else f(typed<std::int64_t, Rank>(ids));
}

// --------------------------------------------------------------------------------------------------------------- DoRA

template <class P, class Norms>
auto dora_of(graft_dora const& d, Norms const& norms) {
  auto const l = graft::lora{matrix<P>(d.A), matrix<P>(d.B), d.scale};
  using low_rank = std::remove_const_t<decltype(l)>;
  return graft::dora<low_rank, side_by_side<P>, Norms>{l, vector<P>(d.magnitude), norms};
}
template <class T>
auto dora_of(graft_dora const& d) {
  return dora_of<typename T::p>(d, vector<typename T::sums>(d.norms));
}
signature& look_at(signature& s, graft_dora const& d) {
  return s.p("A", &d.A, 2).p("B", &d.B, 2).p("magnitude", &d.magnitude, 1).s("norms", &d.norms, 1);
}

// --------------------------------------------------------------------------------------------------------------- VeRA

template <class P>
auto vera_of(graft_vera const& v) {
  return graft::vera<strided_view<P, 2>, strided_view<P, 2>, side_by_side<P>, side_by_side<P>>{
      matrix<P>(v.A), matrix<P>(v.B), vector<P>(v.d), vector<P>(v.b)};
}
signature& look_at(signature& s, graft_vera const& v) {
  return s.p("A", &v.A, 2).p("B", &v.B, 2).p("d", &v.d, 1).p("b", &v.b, 1);
}

// ------------------------------------------------------------------------------------------------------------- panels

/// B of an adapter in panels in `memory`: the view that describes them.
template <class P, class E, class L>
graft_view pack_b(E const& ex, L const& adapter, std::int32_t dtype, void* memory, std::int64_t elements) {
  auto const packed = pack(ex, adapter, std::span<P>{static_cast<P*>(memory), static_cast<std::size_t>(elements)});
  index_t const width = graft::panel_width;
  return graft_view_3d(memory, dtype, (packed.out_features() + width - 1) / width, packed.rank(), width);
}
/// Memory that panels are written to, of the adapter's type.
void look_at_memory(signature& s, void* memory, std::int64_t elements, std::int32_t dtype) {
  if (memory == nullptr || elements < 0) [[unlikely]]
    throw graft::argument_error(text(s.function(), ": there is no memory, or it has ", elements, " elements"));
  graft_view const all = graft_view_1d(memory, dtype, elements);
  s.p("memory", &all, 1);
}
void expects_panels(char const* function, char const* packer, graft_view const& panels, std::int64_t outputs) {
  index_t const width = graft::panel_width;
  index_t const count = outputs / width + (outputs % width != 0);
  if (outputs < 0 || panels.shape[0] != count || panels.shape[2] != width || panels.strides[2] != 1 ||
      panels.strides[1] != width || panels.strides[0] != panels.shape[1] * width) [[unlikely]]
    throw graft::shape_error(
        text(function, ": the panels are not those of ", outputs, " outputs that ", packer, " wrote"));
}
template <class P>
graft::panels_view<P> panels_of(graft_view const& panels, std::int64_t outputs) {
  return {static_cast<P*>(panels.data), outputs, panels.shape[1]};
}

// ------------------------------------------------------------------------------------------------------- OFT and BOFT

template <class T>
auto oft_of(graft_oft const& o) {
  using P = strided_view<typename T::p, 2>;
  using R = strided_view<typename T::sums, 3>;
  return graft::oft<P, R>{matrix<typename T::p>(o.parameters), o.features, o.block_size, o.terms,
                          blocks<typename T::sums>(o.rotations)};
}
signature& look_at(signature& s, graft_oft const& o) {
  return s.p("parameters", &o.parameters, 2).s("rotations", &o.rotations, 3);
}

template <class T>
auto boft_of(graft_boft const& b) {
  using P = strided_view<typename T::p, 4>;
  using R = strided_view<typename T::sums, 4>;
  return graft::boft<P, side_by_side<typename T::p>, R>{factors_of_blocks<typename T::p>(b.parameters),
                                                        vector<typename T::p>(b.s),
                                                        factors_of_blocks<typename T::sums>(b.rotations)};
}
signature& look_at(signature& s, graft_boft const& b) {
  return s.p("parameters", &b.parameters, 4).p("s", &b.s, 1).s("rotations", &b.rotations, 4);
}

/// merge, unmerge: f(executor, types, adapter, W)
template <class Adapter, class F>
graft_status with_weight(char const* function, char const* name, graft_executor const* executor, Adapter const* given,
                         graft_view const* w, F const& f) {
  return guarded([&] {
    Adapter const& a = required(function, name, given);
    signature s(function);
    look_at(s, a).x("W", w, 2);
    run(executor, s, [&]<class T>(auto const& ex, T t) { f(ex, t, a, matrix<typename T::x>(*w)); });
  });
}

// -------------------------------------------------------------------------------------------------------------- gates

int one_of(char const* function, char const* name, std::int32_t value, int last) {
  if (value < 0 || value > last) [[unlikely]]
    throw graft::argument_error(text(function, ": ", name, " is ", value, " but must be from 0 to ", last));
  return value;
}
graft::gate_rule rule_of(char const* function, graft_gate const& g) {
  graft::gate_rule r;
  r.score = static_cast<graft::gate_score>(one_of(function, "gate->score", g.score, 1));
  r.renormalize = one_of(function, "gate->renormalize", g.renormalize, 1) != 0;
  r.epsilon = g.epsilon;
  r.scale = g.scale;
  r.temperature = g.temperature;
  r.top_p = g.top_p;
  r.groups = g.groups;
  r.kept_groups = g.kept_groups;
  r.second = static_cast<graft::second_expert>(one_of(function, "gate->second_expert", g.second_expert, 2));
  r.threshold = g.threshold;
  r.seed = g.seed;
  r.stream = g.stream;
  r.non_finite = static_cast<graft::non_finite_logits>(one_of(function, "gate->non_finite", g.non_finite, 1));
  return r;
}
/// f(gate_status, or none)
template <class F>
void with_status(graft_view const* status, F const& f) {
  if (is_there(status)) f(graft::gate_status{vector<std::int32_t>(*status)});
  else f(none);
}

// -------------------------------------------------------------------------------------------------------------- plans

graft::plan<> plan_of(char const* function, graft_plan const* given) {
  graft_plan const& p = required(function, "plan", given);
  if (p.counts == nullptr || p.offsets == nullptr || p.permutation == nullptr || p.row_tokens == nullptr ||
      p.inverse == nullptr || p.dropped == nullptr || p.status == nullptr) [[unlikely]]
    throw graft::argument_error(text(function, ": the plan is not one that graft_plan_make wrote"));
  index_t pairs = 0;
  bool right = p.tokens >= 0 && p.choices >= 0 && p.experts >= 0 && p.alignment >= 1 && p.tile >= 0 &&
               !__builtin_mul_overflow(p.tokens, p.choices, &pairs) && p.pairs == pairs;
  if (right) {
    graft::plan_sizes const sizes = graft::sizes_of_plan(pairs, p.experts, {p.alignment, p.tile});
    right = p.rows == sizes.rows && p.tiles == sizes.tiles &&
            (p.tiles == 0 || (p.tile_experts != nullptr && p.tile_rows != nullptr));
  }
  if (!right) [[unlikely]]
    throw graft::shape_error(text(function, ": the plan has ", p.tokens, " tokens of ", p.choices, " choices, ",
                                  p.pairs, " pairs, ", p.experts, " experts, ", p.rows, " rows, ", p.tiles,
                                  " tiles, alignment ", p.alignment, " and tile ", p.tile,
                                  "; graft_plan_make wrote other numbers"));
  graft::plan<> result{
      graft::view(p.counts, p.experts),     graft::view(p.offsets, p.experts + 1), graft::view(p.permutation, p.rows),
      graft::view(p.row_tokens, p.rows),    graft::view(p.inverse, p.pairs),       graft::view(p.dropped, p.pairs),
      graft::view(p.tile_experts, p.tiles), graft::view(p.tile_rows, p.tiles),     graft::view(p.status, 4)};
  result.tokens = p.tokens;
  result.choices = p.choices;
  result.options = {p.alignment, p.tile};
  return result;
}
graft_plan plan_of(graft::plan<> const& p) {
  graft_plan result{};
  result.tokens = p.tokens;
  result.choices = p.choices;
  result.experts = p.experts();
  result.pairs = p.pairs();
  result.rows = p.permutation.extent(0);
  result.tiles = p.tile_experts.extent(0);
  result.alignment = p.options.alignment;
  result.tile = p.options.tile;
  result.counts = p.counts.data_handle();
  result.offsets = p.offsets.data_handle();
  result.permutation = p.permutation.data_handle();
  result.row_tokens = p.row_tokens.data_handle();
  result.inverse = p.inverse.data_handle();
  result.dropped = p.dropped.data_handle();
  result.tile_experts = p.tile_experts.data_handle();
  result.tile_rows = p.tile_rows.data_handle();
  result.status = p.status.data_handle();
  return result;
}
/// combine, combine_add: f(executor, plan, rows, weights, y)
template <class F>
graft_status combined(char const* function, graft_executor const* executor, graft_plan const* plan,
                      graft_view const* rows, graft_view const* weights, graft_view const* y, F const& f) {
  return guarded([&] {
    graft::plan<> const p = plan_of(function, plan);
    signature s(function);
    s.x("rows", rows, 2).p_or_none("weights", weights, 2).x("y", y, 2);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using X = typename T::x;
      optional<typename T::p, 2>(weights, [&](auto const& w) { f(ex, p, matrix<X>(*rows), w, matrix<X>(*y)); });
    });
  });
}
graft::capacity capacity_of(char const* function, graft_capacity const& c) {
  graft::capacity result;
  result.factor = c.factor;
  result.minimum = c.minimum;
  result.fixed = c.fixed;
  result.per_choice = one_of(function, "capacity->per_choice", c.per_choice, 1) != 0;
  result.rounds_up = one_of(function, "capacity->rounds_up", c.rounds_up, 1) != 0;
  result.order = static_cast<graft::drop_order>(one_of(function, "capacity->order", c.order, 4));
  result.group = c.group;
  result.seed = c.seed;
  result.stream = c.stream;
  return result;
}

}  // namespace

extern "C" {

char const* graft_status_name(std::int32_t status) {
  switch (status) {
    case GRAFT_OK: return "ok";
    case GRAFT_ERROR_SHAPE: return "shape";
    case GRAFT_ERROR_ARGUMENT: return "argument";
    case GRAFT_ERROR_DATA: return "data";
    case GRAFT_ERROR_UNSUPPORTED: return "unsupported";
    case GRAFT_ERROR_OUT_OF_MEMORY: return "out of memory";
    case GRAFT_ERROR_INTERNAL: return "internal";
    default: return "unknown";
  }
}
char const* graft_last_error() { return last_sentence; }

#define GRAFT_C_TEXT_OF(number) #number
#define GRAFT_C_TEXT(number) GRAFT_C_TEXT_OF(number)
char const* graft_version() {
  return GRAFT_C_TEXT(GRAFT_VERSION_MAJOR) "." GRAFT_C_TEXT(GRAFT_VERSION_MINOR) "." GRAFT_C_TEXT(GRAFT_VERSION_PATCH);
}
#undef GRAFT_C_TEXT
#undef GRAFT_C_TEXT_OF

char const* graft_isa() {
  char const* name = nullptr;
  guarded([&] { name = graft::name(graft::active_isa()).data(); });  // a literal
  return name;
}
graft_status graft_limit_isa(std::int32_t level) {
  return guarded([&] {
    if (level < GRAFT_ISA_BASELINE || level > GRAFT_ISA_AVX512) [[unlikely]]
      throw graft::argument_error(text("graft_limit_isa: there is no level ", level));
    graft::limit_isa(static_cast<graft::isa>(level));
  });
}

char const* graft_dtype_name(std::int32_t dtype) {
  switch (dtype) {
    case GRAFT_FLOAT32: return "float32";
    case GRAFT_FLOAT16: return "float16";
    case GRAFT_BFLOAT16: return "bfloat16";
    case GRAFT_FLOAT64: return "float64";
    case GRAFT_INT32: return "int32";
    case GRAFT_INT64: return "int64";
    default: return "unknown";
  }
}

// --- LoRA

double graft_lora_scale(double alpha, std::int64_t rank) {
  double scale = std::numeric_limits<double>::quiet_NaN();
  guarded([&] { scale = graft::lora_scale(alpha, rank); });
  return scale;
}
double graft_rslora_scale(double alpha, std::int64_t rank) {
  double scale = std::numeric_limits<double>::quiet_NaN();
  guarded([&] { scale = graft::rslora_scale(alpha, rank); });
  return scale;
}

graft_status graft_lora_add_delta(graft_executor const* executor, graft_lora const* lora, graft_view const* x,
                                  graft_view const* y) {
  return guarded([&] {
    graft_lora const& l = required("graft_lora_add_delta", "lora", lora);
    signature s("graft_lora_add_delta");
    look_at(s.x("x", x, 2).x("y", y, 2), l);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      optional<typename T::p, 1>(&l.bias, [&](auto const& bias) {
        graft::add_delta(ex, lora_of<typename T::p>(l, bias), matrix<typename T::x>(*x), matrix<typename T::x>(*y));
      });
    });
  });
}

graft_status graft_lora_backward(graft_executor const* executor, graft_lora const* lora, graft_view const* x,
                                 graft_view const* dy, graft_lora_gradients const* gradients, graft_view const* dx) {
  return guarded([&] {
    char const* const function = "graft_lora_backward";
    graft_lora const& l = required(function, "lora", lora);
    graft_lora_gradients const* const g = gradients;
    signature s(function);
    look_at(s.x("x", x, 2).x("dy", dy, 2).x_or_none("dx", dx, 2), l);
    if (g != nullptr)
      s.p("the gradient of A", &g->A, 2)
          .p("the gradient of B", &g->B, 2)
          .p_of("the gradient of the bias", &g->bias, 1, "the bias", &l.bias);
    expects_something(function, g != nullptr, dx);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using X = typename T::x;
      using P = typename T::p;
      auto const call = [&](auto const& adapter, auto const& all) {
        with_gradients<X>(g != nullptr, all, dx, [&]<class G>(G const& of_adapter, auto const& of_x) {
          if constexpr (std::is_same_v<G, none_t>)
            backward(ex, adapter, matrix<X>(*x), matrix<X>(*dy), graft::lora_gradients<>{}, of_x);
          else backward(ex, adapter, matrix<X>(*x), matrix<X>(*dy), of_adapter, of_x);
        });
      };
      if (is_there(&l.bias))
        call(lora_of<P>(l, vector<P>(l.bias)),
             [&] { return lora_gradients_of(matrix<P>(g->A), matrix<P>(g->B), vector<P>(g->bias)); });
      else call(lora_of<P>(l, none), [&] { return lora_gradients_of(matrix<P>(g->A), matrix<P>(g->B), none); });
    });
  });
}

graft_status graft_lora_merge(graft_executor const* executor, graft_lora const* lora, graft_view const* W,
                              graft_view const* base_bias) {
  return change_weight("graft_lora_merge", executor, lora, W, base_bias,
                       [](auto const& ex, auto const& l, auto const& w, auto const& bias) { merge(ex, l, w, bias); });
}
graft_status graft_lora_unmerge(graft_executor const* executor, graft_lora const* lora, graft_view const* W,
                                graft_view const* base_bias) {
  return change_weight("graft_lora_unmerge", executor, lora, W, base_bias,
                       [](auto const& ex, auto const& l, auto const& w, auto const& bias) { unmerge(ex, l, w, bias); });
}

graft_status graft_lora_delta_weight(graft_executor const* executor, graft_lora const* lora, graft_view const* D) {
  return guarded([&] {
    graft_lora const& l = required("graft_lora_delta_weight", "lora", lora);
    signature s("graft_lora_delta_weight");
    look_at(s, l).x("D", D, 2);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      delta_weight(ex, lora_of<typename T::p>(l, none), matrix<typename T::x>(*D));
    });
  });
}
graft_status graft_lora_initialize(graft_executor const* executor, graft_lora const* lora, std::int32_t how,
                                   std::uint64_t seed, std::uint64_t stream) {
  return guarded([&] {
    char const* const function = "graft_lora_initialize";
    graft_lora const& l = required(function, "lora", lora);
    signature s(function);
    look_at(s, l);
    run_p(executor, s, [&]<class T>(auto const& ex, T) {
      optional<typename T::p, 1>(&l.bias, [&](auto const& bias) {
        auto const adapter = lora_of<typename T::p>(l, bias);
        switch (how) {
          case GRAFT_KAIMING_UNIFORM: return initialize(ex, adapter, graft::kaiming_uniform{seed, stream});
          case GRAFT_GAUSSIAN: return initialize(ex, adapter, graft::gaussian{seed, stream});
          case GRAFT_ORTHOGONAL: return initialize(ex, adapter, graft::orthogonal{seed, stream});
          default: break;
        }
        throw graft::argument_error(text(function, ": there is no initialisation ", how));
      });
    });
  });
}
std::int64_t graft_lora_parameter_count(graft_lora const* lora) {
  return lora == nullptr ? 0 : parameters_of(lora->A, lora->B, lora->bias);
}

std::int64_t graft_lora_packed_size(std::int64_t out_features, std::int64_t rank) {
  index_t const width = graft::panel_width;
  index_t size = 0;
  if (out_features <= 0 || rank <= 0 || __builtin_add_overflow(out_features, width - 1, &size) ||
      __builtin_mul_overflow(size / width * width, rank, &size))
    return 0;
  return size;
}
graft_status graft_lora_pack(graft_executor const* executor, graft_lora const* lora, void* memory,
                             std::int64_t elements, graft_packed_lora* packed) {
  return guarded([&] {
    char const* const function = "graft_lora_pack";
    graft_lora const& l = required(function, "lora", lora);
    graft_packed_lora* const out = packed;
    static_cast<void>(required(function, "packed", packed));
    signature s(function);
    look_at(s, l);
    look_at_memory(s, memory, elements, l.B.dtype);
    run_p(executor, s, [&]<class T>(auto const& ex, T) {
      if (is_there(&l.bias)) {
        auto const all = vector<typename T::p>(graft_view_1d(memory, l.B.dtype, elements));
        graft::detail::expects_disjoint("pack", "memory", all, "bias", vector<typename T::p>(l.bias));
      }
      out->panels = pack_b<typename T::p>(ex, lora_of<typename T::p>(l, none), l.B.dtype, memory, elements);
      out->A = l.A;
      out->bias = l.bias;
      out->scale = l.scale;
      out->out_features = l.B.shape[0];
    });
  });
}
graft_status graft_packed_lora_add_delta(graft_executor const* executor, graft_packed_lora const* lora,
                                         graft_view const* x, graft_view const* y) {
  return guarded([&] {
    char const* const function = "graft_packed_lora_add_delta";
    graft_packed_lora const& l = required(function, "lora", lora);
    signature s(function);
    s.x("x", x, 2).x("y", y, 2).p("A", &l.A, 2).p("panels", &l.panels, 3).p_or_none("bias", &l.bias, 1);
    expects_panels(function, "graft_lora_pack", l.panels, l.out_features);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using X = typename T::x;
      using P = typename T::p;
      optional<P, 1>(&l.bias, [&]<class Bias>(Bias const& bias) {
        graft::lora<strided_view<P, 2>, graft::panels_view<P>, Bias> const adapter{
            matrix<P>(l.A), panels_of<P>(l.panels, l.out_features), l.scale, bias};
        add_delta(ex, adapter, matrix<X>(*x), matrix<X>(*y));
      });
    });
  });
}

// --- DoRA

std::int64_t graft_dora_parameter_count(graft_dora const* dora) {
  return dora == nullptr ? 0 : parameters_of(dora->A, dora->B, dora->magnitude);
}
graft_status graft_dora_update_norms(graft_executor const* executor, graft_dora const* dora, graft_view const* W,
                                     graft_view const* base_norms) {
  return guarded([&] {
    graft_dora const& d = required("graft_dora_update_norms", "dora", dora);
    signature s("graft_dora_update_norms");
    look_at(s, d).x("W", W, 2).s_or_none("base_norms", base_norms, 1);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      optional<typename T::sums, 1>(
          base_norms, [&](auto const& base) { update_norms(ex, dora_of<T>(d), matrix<typename T::x>(*W), base); });
    });
  });
}
graft_status graft_dora_prepare(graft_executor const* executor, graft_dora const* dora, graft_view const* factors) {
  return guarded([&] {
    graft_dora const& d = required("graft_dora_prepare", "dora", dora);
    signature s("graft_dora_prepare");
    look_at(s, d).s("factors", factors, 1);
    run_p(executor, s, [&]<class T>(auto const& ex, T) {
      static_cast<void>(prepare(ex, dora_of<T>(d), vector<typename T::sums>(*factors)));
    });
  });
}
graft_status graft_dora_transform_output(graft_executor const* executor, graft_dora const* dora, graft_view const* x,
                                         graft_view const* y, graft_view const* kept) {
  return guarded([&] {
    graft_dora const& d = required("graft_dora_transform_output", "dora", dora);
    signature s("graft_dora_transform_output");
    look_at(s.x("x", x, 2).x("y", y, 2).x_or_none("kept", kept, 2), d);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using X = typename T::x;
      auto const adapter = dora_of<T>(d);
      if (is_there(kept)) transform_output(ex, adapter, matrix<X>(*x), matrix<X>(*y), matrix<X>(*kept));
      else transform_output(ex, adapter, matrix<X>(*x), matrix<X>(*y));
    });
  });
}
graft_status graft_dora_transform_output_prepared(graft_executor const* executor, graft_dora const* dora,
                                                  graft_view const* factors, graft_view const* x, graft_view const* y) {
  return guarded([&] {
    char const* const function = "graft_dora_transform_output_prepared";
    graft_dora const& d = required(function, "dora", dora);
    signature s(function);
    s.x("x", x, 2).x("y", y, 2).p("A", &d.A, 2).p("B", &d.B, 2).s("factors", factors, 1);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using X = typename T::x;
      using P = typename T::p;
      auto const l = graft::lora{matrix<P>(d.A), matrix<P>(d.B), d.scale};
      using low_rank = std::remove_const_t<decltype(l)>;
      graft::prepared_dora<low_rank, side_by_side<typename T::sums>> const adapter{l,
                                                                                   vector<typename T::sums>(*factors)};
      transform_output(ex, adapter, matrix<X>(*x), matrix<X>(*y));
    });
  });
}
graft_status graft_dora_backward(graft_executor const* executor, graft_dora const* dora, graft_view const* x,
                                 graft_view const* kept, graft_view const* dy, graft_dora_gradients const* gradients,
                                 graft_view const* dx) {
  return guarded([&] {
    char const* const function = "graft_dora_backward";
    graft_dora const& d = required(function, "dora", dora);
    graft_dora_gradients const* const g = gradients;
    signature s(function);
    look_at(s.x("x", x, 2).x("kept", kept, 2).x("dy", dy, 2).x_or_none("dx", dx, 2), d);
    if (g != nullptr)
      s.p("the gradient of A", &g->A, 2)
          .p("the gradient of B", &g->B, 2)
          .p("the gradient of the magnitude", &g->magnitude, 1);
    expects_something(function, g != nullptr, dx);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using X = typename T::x;
      using P = typename T::p;
      auto const all = [&] {
        return graft::dora_gradients<strided_view<P, 2>, strided_view<P, 2>, side_by_side<P>>{
            matrix<P>(g->A), matrix<P>(g->B), vector<P>(g->magnitude)};
      };
      with_gradients<X>(g != nullptr, all, dx, [&]<class G>(G const& of_adapter, auto const& of_x) {
        auto const call = [&](auto const& of) {
          backward(ex, dora_of<T>(d), matrix<X>(*x), matrix<X>(*kept), matrix<X>(*dy), of, of_x);
        };
        if constexpr (std::is_same_v<G, none_t>) call(graft::dora_gradients<>{});
        else call(of_adapter);
      });
    });
  });
}
graft_status graft_dora_merge(graft_executor const* executor, graft_dora const* dora, graft_view const* W) {
  return with_weight(
      "graft_dora_merge", "dora", executor, dora, W,
      []<class T>(auto const& ex, T, graft_dora const& d, auto const& w) { merge(ex, dora_of<T>(d), w); });
}
graft_status graft_dora_unmerge(graft_executor const* executor, graft_dora const* dora, graft_view const* W) {
  return with_weight(
      "graft_dora_unmerge", "dora", executor, dora, W,
      []<class T>(auto const& ex, T, graft_dora const& d, auto const& w) { unmerge(ex, dora_of<T>(d), w); });
}

// --- VeRA

std::int64_t graft_vera_parameter_count(graft_vera const* vera) {
  return vera == nullptr ? 0 : parameters_of(vera->d, vera->b);
}
graft_status graft_vera_add_delta(graft_executor const* executor, graft_vera const* vera, graft_view const* x,
                                  graft_view const* y) {
  return guarded([&] {
    graft_vera const& v = required("graft_vera_add_delta", "vera", vera);
    signature s("graft_vera_add_delta");
    look_at(s.x("x", x, 2).x("y", y, 2), v);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      add_delta(ex, vera_of<typename T::p>(v), matrix<typename T::x>(*x), matrix<typename T::x>(*y));
    });
  });
}
graft_status graft_vera_pack(graft_executor const* executor, graft_vera const* vera, void* memory,
                             std::int64_t elements, graft_packed_vera* packed) {
  return guarded([&] {
    char const* const function = "graft_vera_pack";
    graft_vera const& v = required(function, "vera", vera);
    graft_packed_vera* const out = packed;
    static_cast<void>(required(function, "packed", packed));
    signature s(function);
    look_at(s, v);
    look_at_memory(s, memory, elements, v.B.dtype);
    run_p(executor, s, [&]<class T>(auto const& ex, T) {
      out->panels = pack_b<typename T::p>(ex, vera_of<typename T::p>(v), v.B.dtype, memory, elements);
      out->A = v.A;
      out->d = v.d;
      out->b = v.b;
    });
  });
}
graft_status graft_packed_vera_add_delta(graft_executor const* executor, graft_packed_vera const* vera,
                                         graft_view const* x, graft_view const* y) {
  return guarded([&] {
    char const* const function = "graft_packed_vera_add_delta";
    graft_packed_vera const& v = required(function, "vera", vera);
    signature s(function);
    s.x("x", x, 2).x("y", y, 2).p("A", &v.A, 2).p("panels", &v.panels, 3).p("d", &v.d, 1).p("b", &v.b, 1);
    index_t const outputs = v.b.shape[0];
    expects_panels(function, "graft_vera_pack", v.panels, outputs);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using X = typename T::x;
      using P = typename T::p;
      graft::vera<strided_view<P, 2>, graft::panels_view<P>, side_by_side<P>, side_by_side<P>> const adapter{
          matrix<P>(v.A), panels_of<P>(v.panels, outputs), vector<P>(v.d), vector<P>(v.b)};
      add_delta(ex, adapter, matrix<X>(*x), matrix<X>(*y));
    });
  });
}
graft_status graft_vera_backward(graft_executor const* executor, graft_vera const* vera, graft_view const* x,
                                 graft_view const* dy, graft_vera_gradients const* gradients, graft_view const* dx) {
  return guarded([&] {
    char const* const function = "graft_vera_backward";
    graft_vera const& v = required(function, "vera", vera);
    graft_vera_gradients const* const g = gradients;
    signature s(function);
    look_at(s.x("x", x, 2).x("dy", dy, 2).x_or_none("dx", dx, 2), v);
    if (g != nullptr) s.p("the gradient of d", &g->d, 1).p("the gradient of b", &g->b, 1);
    expects_something(function, g != nullptr, dx);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using X = typename T::x;
      using P = typename T::p;
      auto const all = [&] {
        return graft::vera_gradients<side_by_side<P>, side_by_side<P>>{vector<P>(g->d), vector<P>(g->b)};
      };
      with_gradients<X>(g != nullptr, all, dx, [&]<class G>(G const& of_adapter, auto const& of_x) {
        auto const call = [&](auto const& of) { backward(ex, vera_of<P>(v), matrix<X>(*x), matrix<X>(*dy), of, of_x); };
        if constexpr (std::is_same_v<G, none_t>) call(graft::vera_gradients<>{});
        else call(of_adapter);
      });
    });
  });
}
graft_status graft_vera_merge(graft_executor const* executor, graft_vera const* vera, graft_view const* W) {
  return with_weight(
      "graft_vera_merge", "vera", executor, vera, W,
      []<class T>(auto const& ex, T, graft_vera const& v, auto const& w) { merge(ex, vera_of<typename T::p>(v), w); });
}
graft_status graft_vera_unmerge(graft_executor const* executor, graft_vera const* vera, graft_view const* W) {
  return with_weight("graft_vera_unmerge", "vera", executor, vera, W,
                     []<class T>(auto const& ex, T, graft_vera const& v, auto const& w) {
                       unmerge(ex, vera_of<typename T::p>(v), w);
                     });
}
graft_status graft_vera_delta_weight(graft_executor const* executor, graft_vera const* vera, graft_view const* D) {
  return guarded([&] {
    graft_vera const& v = required("graft_vera_delta_weight", "vera", vera);
    signature s("graft_vera_delta_weight");
    look_at(s, v).x("D", D, 2);
    run(executor, s,
        [&]<class T>(auto const& ex, T) { delta_weight(ex, vera_of<typename T::p>(v), matrix<typename T::x>(*D)); });
  });
}

// --- OFT and BOFT

std::int64_t graft_oft_parameter_count(graft_oft const* oft) {
  return oft == nullptr ? 0 : parameters_of(oft->parameters);
}
std::int64_t graft_boft_parameter_count(graft_boft const* boft) {
  return boft == nullptr ? 0 : parameters_of(boft->parameters, boft->s);
}
graft_status graft_oft_update_rotations(graft_executor const* executor, graft_oft const* oft) {
  return guarded([&] {
    graft_oft const& o = required("graft_oft_update_rotations", "oft", oft);
    signature s("graft_oft_update_rotations");
    look_at(s, o);
    run_p(executor, s, [&]<class T>(auto const& ex, T) { update_rotations(ex, oft_of<T>(o)); });
  });
}
graft_status graft_boft_update_rotations(graft_executor const* executor, graft_boft const* boft) {
  return guarded([&] {
    graft_boft const& b = required("graft_boft_update_rotations", "boft", boft);
    signature s("graft_boft_update_rotations");
    look_at(s, b);
    run_p(executor, s, [&]<class T>(auto const& ex, T) { update_rotations(ex, boft_of<T>(b)); });
  });
}
graft_status graft_oft_transform_input(graft_executor const* executor, graft_oft const* oft, graft_view const* x,
                                       graft_view const* turned) {
  return guarded([&] {
    graft_oft const& o = required("graft_oft_transform_input", "oft", oft);
    signature s("graft_oft_transform_input");
    look_at(s.x("x", x, 2).x("turned", turned, 2), o);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      transform_input(ex, oft_of<T>(o), matrix<typename T::x>(*x), matrix<typename T::x>(*turned));
    });
  });
}
graft_status graft_boft_transform_input(graft_executor const* executor, graft_boft const* boft, graft_view const* x,
                                        graft_view const* turned) {
  return guarded([&] {
    graft_boft const& b = required("graft_boft_transform_input", "boft", boft);
    signature s("graft_boft_transform_input");
    look_at(s.x("x", x, 2).x("turned", turned, 2), b);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      transform_input(ex, boft_of<T>(b), matrix<typename T::x>(*x), matrix<typename T::x>(*turned));
    });
  });
}
graft_status graft_boft_transform_output(graft_executor const* executor, graft_boft const* boft, graft_view const* y,
                                         graft_view const* kept) {
  return guarded([&] {
    graft_boft const& b = required("graft_boft_transform_output", "boft", boft);
    signature s("graft_boft_transform_output");
    look_at(s.x("y", y, 2).x_or_none("kept", kept, 2), b);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using X = typename T::x;
      optional<X, 2>(kept,
                     [&](auto const& k) { transform_output(ex, boft_of<T>(b), matrix<X>(*y), matrix<X>(*y), k); });
    });
  });
}
graft_status graft_boft_backward_output(graft_executor const* executor, graft_boft const* boft, graft_view const* kept,
                                        graft_view const* dy, graft_view const* ds) {
  return guarded([&] {
    graft_boft const& b = required("graft_boft_backward_output", "boft", boft);
    signature s("graft_boft_backward_output");
    look_at(s.x("kept", kept, 2).x("dy", dy, 2), b).p_or_none("the gradient of s", ds, 1);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using X = typename T::x;
      optional<typename T::p, 1>(ds, [&]<class S>(S const& of_s) {
        backward(ex, boft_of<T>(b), matrix<X>(*kept), matrix<X>(*kept), matrix<X>(*dy),
                 graft::boft_gradients<none_t, S>{none, of_s}, none);
      });
    });
  });
}
graft_status graft_oft_backward_input(graft_executor const* executor, graft_oft const* oft, graft_view const* x,
                                      graft_view const* g, graft_view const* dparameters, graft_view const* dx) {
  return guarded([&] {
    char const* const function = "graft_oft_backward_input";
    graft_oft const& o = required(function, "oft", oft);
    signature s(function);
    look_at(s.x("x", x, 2).x("g", g, 2).x_or_none("dx", dx, 2), o)
        .p_or_none("the gradient of the parameters", dparameters, 2);
    expects_something(function, is_there(dparameters), dx);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using X = typename T::x;
      auto const all = [&] { return matrix<typename T::p>(*dparameters); };
      with_gradients<X>(is_there(dparameters), all, dx, [&]<class G>(G const& of_parameters, auto const& of_x) {
        backward_input(ex, oft_of<T>(o), matrix<X>(*x), matrix<X>(*g), graft::oft_gradients<G>{of_parameters}, of_x);
      });
    });
  });
}
graft_status graft_boft_backward_input(graft_executor const* executor, graft_boft const* boft, graft_view const* x,
                                       graft_view const* g, graft_view const* dparameters, graft_view const* dx) {
  return guarded([&] {
    char const* const function = "graft_boft_backward_input";
    graft_boft const& b = required(function, "boft", boft);
    signature s(function);
    look_at(s.x("x", x, 2).x("g", g, 2).x_or_none("dx", dx, 2), b)
        .p_or_none("the gradient of the parameters", dparameters, 4);
    expects_something(function, is_there(dparameters), dx);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using X = typename T::x;
      auto const all = [&] { return factors_of_blocks<typename T::p>(*dparameters); };
      with_gradients<X>(is_there(dparameters), all, dx, [&]<class G>(G const& of_parameters, auto const& of_x) {
        backward_input(ex, boft_of<T>(b), matrix<X>(*x), matrix<X>(*g),
                       graft::boft_gradients<G, none_t>{of_parameters, none}, of_x);
      });
    });
  });
}
graft_status graft_oft_merge(graft_executor const* executor, graft_oft const* oft, graft_view const* W) {
  return with_weight("graft_oft_merge", "oft", executor, oft, W,
                     []<class T>(auto const& ex, T, graft_oft const& o, auto const& w) { merge(ex, oft_of<T>(o), w); });
}
graft_status graft_oft_unmerge(graft_executor const* executor, graft_oft const* oft, graft_view const* W) {
  return with_weight(
      "graft_oft_unmerge", "oft", executor, oft, W,
      []<class T>(auto const& ex, T, graft_oft const& o, auto const& w) { unmerge(ex, oft_of<T>(o), w); });
}
graft_status graft_boft_merge(graft_executor const* executor, graft_boft const* boft, graft_view const* W) {
  return with_weight(
      "graft_boft_merge", "boft", executor, boft, W,
      []<class T>(auto const& ex, T, graft_boft const& b, auto const& w) { merge(ex, boft_of<T>(b), w); });
}
graft_status graft_boft_unmerge(graft_executor const* executor, graft_boft const* boft, graft_view const* W) {
  return with_weight(
      "graft_boft_unmerge", "boft", executor, boft, W,
      []<class T>(auto const& ex, T, graft_boft const& b, auto const& w) { unmerge(ex, boft_of<T>(b), w); });
}

// --- kernels

graft_status graft_cayley(graft_executor const* executor, graft_view const* parameters, std::int32_t terms,
                          graft_view const* rotations) {
  return guarded([&] {
    char const* const function = "graft_cayley";
    bool const square = is_there(parameters) && parameters->rank == 3;
    signature s(function);
    s.p("parameters", parameters, square ? 3 : 2).s("rotations", rotations, 3);
    run_p(executor, s, [&]<class T>(auto const& ex, T) {
      auto const call = [&](auto const& p) {
        auto const r = blocks<typename T::sums>(*rotations);
        if (terms == 0) graft::kernels::cayley(ex, p, r);
        else graft::kernels::cayley_neumann(ex, p, terms, r);
      };
      if (square) call(blocks<typename T::p>(*parameters));
      else call(matrix<typename T::p>(*parameters));
    });
  });
}
graft_status graft_row_norms(graft_executor const* executor, graft_view const* W, graft_view const* B,
                             graft_view const* A, double scale, graft_view const* base_norms, graft_view const* norms) {
  return guarded([&] {
    char const* const function = "graft_row_norms";
    signature s(function);
    s.x("W", W, 2).p_of("B", B, 2, "A", A).p_of("A", A, 2, "B", B).s_or_none("base_norms", base_norms, 1);
    s.s("norms", norms, 1);
    if (!is_there(B) && is_there(base_norms)) [[unlikely]]
      throw graft::argument_error(
          text(function, ": base_norms are those of W; without B and A there is nothing to add"));
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using P = typename T::p;
      using S = typename T::sums;
      auto const w = matrix<typename T::x>(*W);
      auto const out = vector<S>(*norms);
      if (!is_there(B)) graft::kernels::row_norms(ex, w, out);
      else
        optional<S, 1>(base_norms, [&](auto const& base) {
          graft::kernels::row_norms(ex, w, matrix<P>(*B), matrix<P>(*A), out, scale, base);
        });
    });
  });
}
graft_status graft_softmax(graft_executor const* executor, graft_view const* logits, double temperature,
                           graft_view const* p, graft_view const* status) {
  return guarded([&] {
    signature s("graft_softmax");
    s.x("logits", logits, 2).p("p", p, 2).int32_or_none("status", status, 1);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      with_status(status, [&](auto const& codes) {
        graft::kernels::softmax(ex, matrix<typename T::x>(*logits), matrix<typename T::p>(*p), temperature, codes);
      });
    });
  });
}
graft_status graft_softmax_backward(graft_executor const* executor, graft_view const* p, graft_view const* dp,
                                    double temperature, graft_view const* dlogits) {
  return guarded([&] {
    signature s("graft_softmax_backward");
    s.p("p", p, 2).p("dp", dp, 2).x("dlogits", dlogits, 2);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using P = typename T::p;
      graft::kernels::softmax_backward(ex, matrix<P>(*p), matrix<P>(*dp), matrix<typename T::x>(*dlogits), temperature);
    });
  });
}
graft_status graft_top_k(graft_executor const* executor, graft_view const* scores, graft_view const* ids,
                         graft_view const* values) {
  return guarded([&] {
    signature s("graft_top_k");
    s.p("scores", scores, 2).ids("ids", ids, 2).p_or_none("values", values, 2);
    run_p(executor, s, [&]<class T>(auto const& ex, T) {
      using P = typename T::p;
      with_ids<2>(*ids, [&](auto const& i) {
        optional<P, 2>(values, [&](auto const& v) { graft::kernels::top_k(ex, matrix<P>(*scores), i, v); });
      });
    });
  });
}

// --- gates

graft_status graft_route(graft_executor const* executor, graft_gate const* gate, graft_view const* logits,
                         graft_view const* bias, graft_view const* ids, graft_view const* weights,
                         graft_view const* status) {
  return guarded([&] {
    char const* const function = "graft_route";
    graft::gate_rule const rule = rule_of(function, required(function, "gate", gate));
    signature s(function);
    s.x("logits", logits, 2).s_or_none("bias", bias, 1).ids("ids", ids, 2).p("weights", weights, 2);
    s.int32_or_none("status", status, 1);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      with_ids<2>(*ids, [&](auto const& i) {
        optional<typename T::sums, 1>(bias, [&](auto const& b) {
          with_status(status, [&](auto const& codes) {
            graft::kernels::gate(ex, rule, matrix<typename T::x>(*logits), b, i, matrix<typename T::p>(*weights),
                                 codes);
          });
        });
      });
    });
  });
}
graft_status graft_route_backward(graft_executor const* executor, graft_gate const* gate, graft_view const* logits,
                                  graft_view const* ids, graft_view const* dweights, graft_view const* dlogits,
                                  graft_view const* status) {
  return guarded([&] {
    char const* const function = "graft_route_backward";
    graft::gate_rule const rule = rule_of(function, required(function, "gate", gate));
    signature s(function);
    s.x("logits", logits, 2).ids("ids", ids, 2).p("dweights", dweights, 2).x("dlogits", dlogits, 2);
    s.int32_or_none("status", status, 1);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using X = typename T::x;
      with_ids<2>(*ids, [&](auto const& i) {
        with_status(status, [&](auto const& codes) {
          graft::kernels::gate_backward(ex, rule, matrix<X>(*logits), i, matrix<typename T::p>(*dweights),
                                        matrix<X>(*dlogits), codes);
        });
      });
    });
  });
}

// --- plans

graft_status graft_plan_bytes(std::int64_t pairs, std::int64_t experts, std::int64_t alignment, std::int64_t tile,
                              std::size_t* bytes) {
  return guarded([&] {
    static_cast<void>(required("graft_plan_bytes", "bytes", bytes));
    *bytes = graft::plan_bytes(pairs, experts, {alignment, tile});
  });
}
graft_status graft_plan_make(graft_executor const* executor, graft_view const* ids, std::int64_t experts,
                             std::int64_t alignment, std::int64_t tile, graft_capacity const* capacity,
                             graft_view const* scores, graft_view const* positions, void* memory, std::size_t bytes,
                             graft_plan* plan) {
  return guarded([&] {
    char const* const function = "graft_plan_make";
    static_cast<void>(required(function, "plan", plan));
    if (memory == nullptr) [[unlikely]]
      throw graft::argument_error(text(function, ": memory is a null pointer"));
    signature s(function);
    s.ids("ids", ids, 2).p_or_none("scores", scores, 2);
    if (is_there(positions)) s.ids("positions", positions, 2);
    if (is_there(positions) && capacity == nullptr) [[unlikely]]
      throw graft::argument_error(text(function, ": positions are those of a capacity, but capacity is null"));
    graft::capacity const room = capacity == nullptr ? graft::dropless : capacity_of(function, *capacity);
    bool const by_score =
        room.order == graft::drop_order::probability || room.order == graft::drop_order::batch_priority;
    if (by_score && !is_there(scores)) [[unlikely]]
      throw graft::argument_error(text(function, ": dropping by probability or batch priority takes scores"));
    if (is_there(positions) && room.order != graft::drop_order::token && room.order != graft::drop_order::choice)
        [[unlikely]]
      throw graft::argument_error(text(function, ": positions are those of the orders token and choice"));
    auto const filled = [&](auto const& assigned, auto const& fill) {
      graft::plan<> const p =
          graft::plan_in({static_cast<std::byte*>(memory), bytes}, assigned, experts, {alignment, tile});
      fill(p);
      *plan = plan_of(p);
    };
    auto const on = [&](auto const& ex, auto const& of_scores, auto const& of_positions) {
      with_ids<2>(*ids, [&](auto const& assigned) {
        filled(assigned, [&](auto const& p) { graft::make_plan(ex, assigned, room, p, of_scores, of_positions); });
      });
    };
    if (by_score) run_p(executor, s, [&]<class T>(auto const& ex, T) { on(ex, matrix<typename T::p>(*scores), none); });
    else
      with_executor(function, executor, [&](auto const& ex) {
        if (capacity == nullptr && ids->strides[1] == 1)  // the usual ids; a plan is bound by reading them
          with_ids<2>(*ids, [&]<class Ids>(Ids const& any) {
            using rows = graft::tensor_view<typename Ids::element_type, graft::dynamic_extents<2>>;
            rows const assigned{any.data_handle(), graft::dynamic_extents<2>{any.shape()}, any.strides()};
            filled(assigned, [&](auto const& p) { graft::kernels::make_plan(ex, assigned, p); });
          });
        else if (is_there(positions)) with_ids<2>(*positions, [&](auto const& places) { on(ex, none, places); });
        else on(ex, none, none);
      });
  });
}
graft_status graft_dispatch(graft_executor const* executor, graft_plan const* plan, graft_view const* x,
                            graft_view const* weights, graft_view const* rows) {
  return guarded([&] {
    graft::plan<> const p = plan_of("graft_dispatch", plan);
    signature s("graft_dispatch");
    s.x("x", x, 2).p_or_none("weights", weights, 2).x("rows", rows, 2);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using X = typename T::x;
      optional<typename T::p, 2>(
          weights, [&](auto const& w) { graft::kernels::dispatch(ex, p, matrix<X>(*x), matrix<X>(*rows), w); });
    });
  });
}
graft_status graft_dispatch_backward(graft_executor const* executor, graft_plan const* plan, graft_view const* drows,
                                     graft_view const* dx) {
  return guarded([&] {
    graft::plan<> const p = plan_of("graft_dispatch_backward", plan);
    signature s("graft_dispatch_backward");
    s.x("drows", drows, 2).x("dx", dx, 2);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      graft::kernels::dispatch_backward(ex, p, matrix<typename T::x>(*drows), matrix<typename T::x>(*dx));
    });
  });
}
graft_status graft_combine(graft_executor const* executor, graft_plan const* plan, graft_view const* rows,
                           graft_view const* weights, graft_view const* y) {
  return combined("graft_combine", executor, plan, rows, weights, y,
                  [](auto const&... arguments) { graft::kernels::combine(arguments...); });
}
graft_status graft_combine_add(graft_executor const* executor, graft_plan const* plan, graft_view const* rows,
                               graft_view const* weights, graft_view const* y) {
  return combined("graft_combine_add", executor, plan, rows, weights, y,
                  [](auto const&... arguments) { graft::kernels::combine_add(arguments...); });
}
graft_status graft_combine_backward(graft_executor const* executor, graft_plan const* plan, graft_view const* rows,
                                    graft_view const* weights, graft_view const* dy, graft_view const* drows,
                                    graft_view const* dweights) {
  return guarded([&] {
    graft::plan<> const p = plan_of("graft_combine_backward", plan);
    signature s("graft_combine_backward");
    s.x("rows", rows, 2).p_or_none("weights", weights, 2).x("dy", dy, 2).x("drows", drows, 2);
    s.p_or_none("dweights", dweights, 2);
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using X = typename T::x;
      using P = typename T::p;
      optional<P, 2>(weights, [&](auto const& w) {
        optional<P, 2>(dweights, [&](auto const& dw) {
          graft::kernels::combine_backward(ex, p, matrix<X>(*rows), w, matrix<X>(*dy), matrix<X>(*drows), dw);
        });
      });
    });
  });
}

}  // extern "C"
