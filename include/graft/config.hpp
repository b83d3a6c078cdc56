// SPDX-License-Identifier: Apache-2.0
/// @file
/// The only preprocessor decisions of graft. Complete without any generated file.
#pragma once

#include <graft/version.hpp>

#if !defined(__cplusplus) || __cplusplus < 202002L
#error "graft needs C++20: compile with -std=c++20 or link graft::graft, which asks for it"
#endif

// Promised bits need IEEE arithmetic: fast-math reorders sums and drops signed zeros and NaN.
#if (defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__)) && !defined(GRAFT_ALLOW_FAST_MATH)
#error "graft promises equal bits, which -ffast-math breaks; define GRAFT_ALLOW_FAST_MATH to give the promises up"
#endif

// Device code calls the standard library's constexpr functions.
#if defined(__NVCC__) && defined(__CUDACC__) && !defined(__CUDACC_RELAXED_CONSTEXPR__)
#error "graft's device code needs nvcc's --expt-relaxed-constexpr, which the CMake target graft::cuda passes"
#endif

/// Mark of every function that device code may call; always inlined, so such functions never become symbols.
#if defined(__CUDACC__) || defined(__HIPCC__)
#define GRAFT_FN __host__ __device__ __forceinline__
#else
#define GRAFT_FN inline __attribute__((always_inline))
#endif

/// Mark of host functions that must be part of their caller (and so of its instruction set).
#define GRAFT_INLINE inline __attribute__((always_inline))

/// What a failed check does: throws, or (GRAFT_ERROR_HANDLER, -fno-exceptions) never returns. It changes bodies, so it
/// is part of every name: objects built with different levels do not link by accident.
#if defined(GRAFT_ERROR_HANDLER)
#define GRAFT_CONTRACT handled
#elif defined(__cpp_exceptions)
#define GRAFT_CONTRACT thrown
#else
#define GRAFT_CONTRACT aborted
#endif

/// Host bodies are compiled into every translation unit that uses them. A program of many units may have them once: it
/// defines GRAFT_HOST_BODIES_ELSEWHERE for all its units, and GRAFT_HOST_BODIES_HERE in one.
#if defined(GRAFT_HOST_BODIES_ELSEWHERE) && !defined(GRAFT_HOST_BODIES_HERE)
#define GRAFT_CALLS_HOST_BODIES 1
#endif

/// The instruction set this translation unit is compiled for, and where its host bodies are. Function templates live in an
/// inline namespace of this name, so that the linker never merges a body compiled for one instruction set with a body
/// compiled for another; types do not, so that they can be passed between such translation units.
#if defined(GRAFT_CALLS_HOST_BODIES)
#if defined(__AVX512F__)
#define GRAFT_TARGET target_avx512_calls
#elif defined(__AVX2__)
#define GRAFT_TARGET target_avx2_calls
#elif defined(__AVX__)
#define GRAFT_TARGET target_avx_calls
#else
#define GRAFT_TARGET target_baseline_calls
#endif
#elif defined(__AVX512F__)
#define GRAFT_TARGET target_avx512
#elif defined(__AVX2__)
#define GRAFT_TARGET target_avx2
#elif defined(__AVX__)
#define GRAFT_TARGET target_avx
#else
#define GRAFT_TARGET target_baseline
#endif

/// One sentence per mistake of type, rank or space, on the first line of the compiler's output. Used inside consteval
/// functions named `mandates`, whose result decides whether the body is compiled at all.
#define GRAFT_MANDATE_EXECUTOR(verb, E)                                                                           \
  static_assert(::graft::executor<E>, "graft::" verb                                                              \
                                      ": the first argument must be an executor, for example graft::serial{} or " \
                                      "graft::openmp{.threads = 8}");
#define GRAFT_MANDATE_INPUT(verb, name, E, V, dimensions)                                                    \
  static_assert(::graft::tensor<V>, "graft::" verb ": " name                                                 \
                                    " must be a view; wrap the data: graft::view(pointer, rows, "            \
                                    "columns)");                                                             \
  if constexpr (::graft::tensor<V>) {                                                                        \
    static_assert(V::rank() == dimensions, "graft::" verb ": " name " must have rank " #dimensions);         \
    static_assert(!::graft::executor<E> || ::graft::can_access<E, V>,                                        \
                  "graft::" verb ": " name                                                                   \
                  " lies in a memory space that this executor cannot touch; use an executor of that space"); \
  }
#define GRAFT_MANDATE_OUTPUT(verb, name, E, V, dimensions)    \
  GRAFT_MANDATE_INPUT(verb, name, E, V, dimensions)           \
  if constexpr (::graft::tensor<V>)                           \
    static_assert(!std::is_const_v<typename V::element_type>, \
                  "graft::" verb ": " name " is written, so its elements must not be const");
#define GRAFT_MANDATE_IDS(verb, E, Ids)                                                                    \
  static_assert(::graft::is_id_list<Ids>,                                                                  \
                "graft::" verb ": ids must be a list of them; wrap the data: graft::ids(pointer, count)"); \
  if constexpr (::graft::is_id_list<Ids>)                                                                  \
    static_assert(!::graft::executor<E> || ::graft::can_access<E, Ids>,                                    \
                  "graft::" verb                                                                           \
                  ": ids lie in a memory space that this executor cannot touch; use an executor of that space");
#define GRAFT_MANDATE_PAIRS(verb, name, E, W)                                                                        \
  static_assert(std::is_same_v<W, ::graft::none_t> || ::graft::tensor<W>,                                            \
                "graft::" verb ": " name " must be a view of [T, k], of [pairs] for a ragged plan, or graft::none"); \
  if constexpr (::graft::tensor<W>) {                                                                                \
    static_assert(W::rank() == 1 || W::rank() == 2, "graft::" verb ": " name " must have rank 1 or 2");              \
    static_assert(!::graft::executor<E> || ::graft::can_access<E, W>,                                                \
                  "graft::" verb ": " name                                                                           \
                  " lies in a memory space that this executor cannot touch; use an executor of that space");         \
  }
#define GRAFT_MANDATE_PLAN(verb, E, Space)                                             \
  static_assert(!::graft::executor<E> || ::graft::can_access<E, ::graft::plan<Space>>, \
                "graft::" verb                                                         \
                ": the plan lies in a memory space that this executor cannot touch; use an executor of that space");
#define GRAFT_MANDATE_ID_VIEW(verb, name, E, V, dimensions)                                                  \
  static_assert(::graft::id_view<V>, "graft::" verb ": " name                                                \
                                     " must be a view of std::int32_t or std::int64_t; wrap the data: "      \
                                     "graft::view(pointer, rows, columns)");                                 \
  if constexpr (::graft::id_view<V>) {                                                                       \
    static_assert(V::rank() == dimensions, "graft::" verb ": " name " must have rank " #dimensions);         \
    static_assert(!::graft::executor<E> || ::graft::can_access<E, V>,                                        \
                  "graft::" verb ": " name                                                                   \
                  " lies in a memory space that this executor cannot touch; use an executor of that space"); \
  }
#define GRAFT_MANDATE_ID_OUTPUT(verb, name, E, V, dimensions) \
  GRAFT_MANDATE_ID_VIEW(verb, name, E, V, dimensions)         \
  if constexpr (::graft::id_view<V>)                          \
    static_assert(!std::is_const_v<typename V::element_type>, \
                  "graft::" verb ": " name " is written, so its elements must not be const");
