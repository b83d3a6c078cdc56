// SPDX-License-Identifier: Apache-2.0
/// @file
/// The one translation unit of the C interface (graft/c/graft.h). With -fopenmp it has GRAFT_OPENMP.
///
/// A call looks at its views (`signature`), picks the C++ types that they have (`with_types`), and calls the function of the same
/// name. Matrices become views of unknown strides: host bodies erase types anyway. Vectors lie side by side.
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
#error "graft/c/graft.cpp turns exceptions into status codes: compile it with exceptions and without GRAFT_ERROR_HANDLER"
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
      throw graft::argument_error(
          text("graft_executor: allocate was asked for an alignment of ", alignment,
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
      if (e.threads < 0) [[unlikely]]
        throw graft::argument_error(text(function, ": the executor has ", e.threads, " threads; 0 is the maximum"));
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
    if (rank == 1 && v->shape[0] > 1 && v->strides[0] != 1) [[unlikely]]
      throw unsupported(text(function_, ": ", name, " is a vector with the stride ", v->strides[0],
                             "; elements of vectors must lie side by side"));
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

/// A call of `f(executor, types<X, P>)`.
template <class F>
void run(graft_executor const* executor, signature const& s, F const& f) {
  with_executor(s.function(), executor, [&](auto const& ex) { with_types(s, [&](auto t) { f(ex, t); }); });
}

// --------------------------------------------------------------------------------------------------------------- LoRA

template <class P, class Bias>
auto lora_of(graft_lora const& l, Bias const& bias) {
  auto const a = matrix<P>(l.A);
  auto const b = matrix<P>(l.B);
  return graft::lora<std::remove_const_t<decltype(a)>, std::remove_const_t<decltype(b)>, Bias>{a, b, l.scale, bias};
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

}  // namespace

extern "C" {

char const* graft_status_name(graft_status status) {
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
graft_status graft_limit_isa(graft_isa_level level) {
  return guarded([&] {
    int const number = level;
    if (number < GRAFT_ISA_BASELINE || number > GRAFT_ISA_AVX512) [[unlikely]]
      throw graft::argument_error(text("graft_limit_isa: there is no level ", number));
    graft::limit_isa(static_cast<graft::isa>(number));
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
    graft_lora_gradients const g = gradients != nullptr ? *gradients : graft_lora_gradients{};
    signature s(function);
    look_at(s.x("x", x, 2).x("dy", dy, 2).x_or_none("dx", dx, 2), l)
        .p_or_none("the gradient of A", &g.A, 2)
        .p_or_none("the gradient of B", &g.B, 2)
        .p_or_none("the gradient of the bias", &g.bias, 1);
    if (is_there(&g.bias) && !is_there(&l.bias)) [[unlikely]]
      throw graft::argument_error(text(function, ": there is a gradient of the bias but no bias"));
    run(executor, s, [&]<class T>(auto const& ex, T) {
      using X = typename T::x;
      using P = typename T::p;
      optional<P, 2>(&g.A, [&](auto const& ga) {
        optional<P, 2>(&g.B, [&](auto const& gb) {
          optional<X, 2>(dx, [&](auto const& gx) {
            auto const with = [&](auto const& bias, auto const& gbias) {
              graft::backward(ex, lora_of<P>(l, bias), matrix<X>(*x), matrix<X>(*dy),
                              graft::lora_gradients<std::remove_cvref_t<decltype(ga)>, std::remove_cvref_t<decltype(gb)>,
                                                    std::remove_cvref_t<decltype(gbias)>>{ga, gb, gbias},
                              gx);
            };
            if (is_there(&g.bias)) with(vector<P>(l.bias), vector<P>(g.bias));
            else optional<P, 1>(&l.bias, [&](auto const& bias) { with(bias, none); });
          });
        });
      });
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

}  // extern "C"
