/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The C interface of graft: C99, also valid C++. Compile graft/c/graft.cpp (C++20) into your program or library, once:
 *
 *     g++ -std=c++20 -O3 -fPIC -shared -fopenmp -Iinclude include/graft/c/graft.cpp -o libgraft_c.so
 *
 * Everything computes what the C++ function of the same name computes, with the same bits; nothing is copied and
 * nothing is owned. Letters: T tokens, n in, m out, r rank, E experts, k choices. Matrices are written as in the
 * papers: x[T, n], y[T, m], weights W[m, n], A[r, n], B[m, r].
 *
 * Rules that hold for every function
 *   Views        are passed by address. A null pointer, or a view of rank 0 (all zeros), is one that is not there; it
 *                may be given where the comment says "or none". Inputs are only read, though `data` is not const.
 *   Shapes       any strides in elements, negative and 0 too for inputs, but elements of vectors lie side by side.
 *                0 tokens are legal, with a null `data` too. Strides that lead outside of 64-bit addresses are refused.
 *   Addresses    `data` is a multiple of the size of an element, also in a mapped file; 64 bytes are fastest.
 *   Types        one dtype for activations, written X below (x, y, dx, dy, W, logits, rows), and one for parameters,
 *                written P (A, B, bias, magnitude, d, b, s, their gradients, weights of gates). The pairs (X, P) are
 *                    (float32, float32)  (bfloat16, bfloat16)  (float16, float16)
 *                    (bfloat16, float32)  (float16, float32)  (float64, float64)
 *                What is kept between calls (norms, factors, rotations), and the bias of a gate, is of the type that
 *                sums are carried in, written S: float32, or float64 where X and P are. Ids are int32 or int64.
 *                Anything else is GRAFT_ERROR_UNSUPPORTED, before any data is touched.
 *   Aliasing     nothing that is written may overlap anything else, unless the comment says so; it is checked.
 *   Errors       a status other than GRAFT_OK, and a sentence in graft_last_error(). Nothing is written then, but for
 *                GRAFT_ERROR_DATA, which is found while data is read, and GRAFT_ERROR_OUT_OF_MEMORY.
 *   Gradients    all of an adapter's parameters, or none of them.
 *   Determinism  bits do not depend on the executor, its threads, the instruction set or the tokens beside a token.
 *   Memory       scratch comes from the executor (see graft_executor); a call that succeeds allocates nothing else.
 *   Enumerations are passed and stored as int32_t, so that a wrong number is an error and nothing worse.
 *   Threads      every function may be called from any number of threads at once, with outputs that do not overlap.
 *   Bindings     what is `static inline` below only fills a struct and is no symbol of the library: a binding writes
 *                those fields itself. Zeros are a right start for views; for gates and capacities they are not.
 *   Versions     structs and numbers are those of one minor version: compare graft_version() with your header's.
 */
#ifndef GRAFT_C_GRAFT_H
#define GRAFT_C_GRAFT_H

#include <stddef.h>
#include <stdint.h>

/** Linkage of every function. Define it before the include for another one, such as __declspec(dllexport). */
#ifndef GRAFT_C_API
#ifdef __cplusplus
#define GRAFT_C_API extern "C" __attribute__((visibility("default")))
#else
#define GRAFT_C_API extern __attribute__((visibility("default")))
#endif
#endif

/* ---------------------------------------------------------------------------------------------------------- errors */

/** What a call returns. */
typedef enum graft_status {
  GRAFT_OK = 0,
  GRAFT_ERROR_SHAPE = 1,         /**< extents, strides or ranks that do not fit each other */
  GRAFT_ERROR_ARGUMENT = 2,      /**< a null pointer, overlapping memory, a value out of its range */
  GRAFT_ERROR_DATA = 3,          /**< an id out of range, a NaN logit: found while data was read */
  GRAFT_ERROR_UNSUPPORTED = 4,   /**< dtypes that do not go together, an executor that was not compiled in */
  GRAFT_ERROR_OUT_OF_MEMORY = 5, /**< no scratch */
  GRAFT_ERROR_INTERNAL = 6       /**< anything else */
} graft_status;

/** "ok", "shape", "argument", "data", "unsupported", "out of memory", "internal"; "unknown" for any other number. */
GRAFT_C_API const char* graft_status_name(int32_t status);

/**
 * The sentence of the last call on this thread that failed; "" before any. It names the operation, the argument and
 * the extents or types involved. Valid until the next call that fails on this thread; cut off at 1023 bytes.
 */
GRAFT_C_API const char* graft_last_error(void);

/** "major.minor.patch" of the graft that was compiled. */
GRAFT_C_API const char* graft_version(void);

/* ------------------------------------------------------------------------------------------------ instruction sets */

/** Instruction sets, of x86-64. */
typedef enum graft_isa_level { GRAFT_ISA_BASELINE = 0, GRAFT_ISA_AVX2 = 1, GRAFT_ISA_AVX512 = 2 } graft_isa_level;

/**
 * "baseline", "avx2" or "avx512": the level that calls run at. The processor's, unless the environment variable
 * GRAFT_ISA or graft_limit_isa lowers it. Null where GRAFT_ISA is none of these; graft_last_error() says so.
 */
GRAFT_C_API const char* graft_isa(void);

/** This level or the processor's, whichever is lower, from the next call on, in the whole program. Same bits. */
GRAFT_C_API graft_status graft_limit_isa(int32_t level);

/* ------------------------------------------------------------------------------------------------------- executors */

/** The most threads that may be asked for: OpenMP's libraries end the program where they cannot make as many. */
#define GRAFT_MAX_THREADS 4096

typedef enum graft_executor_kind {
  GRAFT_REFERENCE = 1, /**< the readable body of every kernel, on the calling thread: slow; float32 and float64 only */
  GRAFT_SERIAL = 2,    /**< the fast bodies, on the calling thread */
  GRAFT_OPENMP = 3     /**< the same on OpenMP threads; graft.cpp must be compiled with -fopenmp, else UNSUPPORTED */
} graft_executor_kind;

/**
 * Where work runs and where scratch comes from. A value, free to copy; make one by graft_serial() and the others below.
 *
 * Scratch: `allocate(context, bytes, alignment)` is called on the calling thread at most a few times per call, and
 * each block goes back by `deallocate(context, memory, bytes, alignment)` before the call returns. It must return
 * memory at an address that is a multiple of `alignment` (64), or null for GRAFT_ERROR_OUT_OF_MEMORY. It must not
 * jump out (longjmp). Both null: the C++ default resource, operator new.
 */
typedef struct graft_executor {
  int32_t kind;    /**< graft_executor_kind */
  int32_t threads; /**< of GRAFT_OPENMP: to GRAFT_MAX_THREADS; 0 is omp_get_max_threads(). In a region: 1. */
  void* (*allocate)(void* context, size_t bytes, size_t alignment);
  void (*deallocate)(void* context, void* memory, size_t bytes, size_t alignment);
  void* context;
} graft_executor;

static inline graft_executor graft_executor_of(int32_t kind, int32_t threads) {
  graft_executor e;
  e.kind = kind;
  e.threads = threads;
  e.allocate = NULL;
  e.deallocate = NULL;
  e.context = NULL;
  return e;
}
static inline graft_executor graft_reference(void) { return graft_executor_of(GRAFT_REFERENCE, 1); }
static inline graft_executor graft_serial(void) { return graft_executor_of(GRAFT_SERIAL, 1); }
/** threads = 0: OpenMP's maximum. In somebody's parallel region a call runs on its caller. */
static inline graft_executor graft_openmp(int32_t threads) { return graft_executor_of(GRAFT_OPENMP, threads); }

/* ----------------------------------------------------------------------------------------------------------- views */

/** Types of elements. 16-bit floats are storage: sums are carried in float32, and a result is rounded once. */
typedef enum graft_dtype {
  GRAFT_FLOAT32 = 1,
  GRAFT_FLOAT16 = 2,
  GRAFT_BFLOAT16 = 3,
  GRAFT_FLOAT64 = 4,
  GRAFT_INT32 = 5,
  GRAFT_INT64 = 6
} graft_dtype;

/** Bytes of an element; 0 for a number that is no graft_dtype. */
static inline size_t graft_dtype_bytes(int32_t dtype) {
  switch (dtype) {
    case GRAFT_FLOAT16:
    case GRAFT_BFLOAT16: return 2;
    case GRAFT_FLOAT32:
    case GRAFT_INT32: return 4;
    case GRAFT_FLOAT64:
    case GRAFT_INT64: return 8;
    default: return 0;
  }
}
/** "float32" and so on; "unknown" for a number that is no graft_dtype. */
GRAFT_C_API const char* graft_dtype_name(int32_t dtype);

/**
 * Somebody's memory: element (i, j, ...) lies at data + (i * strides[0] + j * strides[1] + ...) elements. Rank 0 (all
 * zeros) is a view that is not there. A framework's tensor is one assignment: its data pointer, sizes and strides as
 * they are.
 */
typedef struct graft_view {
  void* data;
  int32_t dtype; /**< graft_dtype */
  int32_t rank;  /**< 1 to 4; 0 is none */
  int64_t shape[4];
  int64_t strides[4]; /**< in elements, not bytes */
} graft_view;

/** Any strides, of `rank` <= 4. */
static inline graft_view graft_view_strided(void const* data, int32_t dtype, int32_t rank, int64_t const* shape,
                                            int64_t const* strides) {
  graft_view v;
  int32_t i;
  v.data = (void*)(uintptr_t)data;
  v.dtype = dtype;
  v.rank = rank;
  for (i = 0; i < 4; ++i) {
    v.shape[i] = i < rank ? shape[i] : 0;
    v.strides[i] = i < rank ? strides[i] : 0;
  }
  return v;
}
/** Elements side by side. */
static inline graft_view graft_view_1d(void const* data, int32_t dtype, int64_t size) {
  int64_t stride = 1;
  return graft_view_strided(data, dtype, 1, &size, &stride);
}
/** Row-major, without gaps. */
static inline graft_view graft_view_2d(void const* data, int32_t dtype, int64_t rows, int64_t columns) {
  int64_t shape[2], strides[2];
  shape[0] = rows;
  shape[1] = columns;
  strides[0] = columns;
  strides[1] = 1;
  return graft_view_strided(data, dtype, 2, shape, strides);
}
static inline graft_view graft_view_3d(void const* data, int32_t dtype, int64_t a, int64_t b, int64_t c) {
  int64_t shape[3], strides[3];
  shape[0] = a;
  shape[1] = b;
  shape[2] = c;
  strides[0] = b * c;
  strides[1] = c;
  strides[2] = 1;
  return graft_view_strided(data, dtype, 3, shape, strides);
}
static inline graft_view graft_view_4d(void const* data, int32_t dtype, int64_t a, int64_t b, int64_t c, int64_t d) {
  int64_t shape[4], strides[4];
  shape[0] = a;
  shape[1] = b;
  shape[2] = c;
  shape[3] = d;
  strides[0] = b * c * d;
  strides[1] = c * d;
  strides[2] = d;
  strides[3] = 1;
  return graft_view_strided(data, dtype, 4, shape, strides);
}
/** A view that is not there: as a null pointer. */
static inline graft_view graft_none(void) { return graft_view_strided(NULL, 0, 0, NULL, NULL); }
/** Of rank 2: rows and columns exchanged. Weights stored [n, m] (fan_in_fan_out) are passed so. */
static inline graft_view graft_view_transposed(graft_view v) {
  int64_t shape[2], strides[2];
  shape[0] = v.shape[1];
  shape[1] = v.shape[0];
  strides[0] = v.strides[1];
  strides[1] = v.strides[0];
  return graft_view_strided(v.data, v.dtype, 2, shape, strides);
}

/* ------------------------------------------------------------------------------------------------------------ LoRA */

/**
 * LoRA (arXiv 2106.09685): y += scale ((x A^T) B^T + bias). A[r, n], B[m, r], bias[m] or none, all P; as checkpoints
 * store them. scale = alpha / r, or alpha / sqrt(r) for rsLoRA; see graft_lora_scale.
 */
typedef struct graft_lora {
  graft_view A;
  graft_view B;
  graft_view bias;
  double scale;
} graft_lora;

/** Where gradients are added: A[r, n], B[m, r], and bias[m] where the adapter has one; all P. */
typedef struct graft_lora_gradients {
  graft_view A;
  graft_view B;
  graft_view bias;
} graft_lora_gradients;

/** alpha / rank. NaN, with a sentence in graft_last_error(), unless rank > 0. */
GRAFT_C_API double graft_lora_scale(double alpha, int64_t rank);
/** alpha / sqrt(rank). NaN, with a sentence in graft_last_error(), unless rank > 0. */
GRAFT_C_API double graft_rslora_scale(double alpha, int64_t rank);
/**
 * Elements that are trained: r (n + m), and m more with a bias. This and its like below give 0 of a null pointer, of
 * negative extents, and above 64 bits.
 */
GRAFT_C_API int64_t graft_lora_parameter_count(graft_lora const* lora);

/** y += scale ((x A^T) B^T + bias). x[T, n] in, y[T, m] in and out, both X. */
GRAFT_C_API graft_status graft_lora_add_delta(graft_executor const* executor, graft_lora const* lora,
                                              graft_view const* x, graft_view const* y);

/**
 * With v = scale x A^T and u = scale dy B, all added to what is there:
 *     dB += dy^T v    dA += u^T x    dbias += scale sum of dy over tokens    dx += u A
 * x[T, n], dy[T, m] in, dx[T, n] in and out or none, all X. `gradients` may be null: dx only is wanted.
 */
GRAFT_C_API graft_status graft_lora_backward(graft_executor const* executor, graft_lora const* lora,
                                             graft_view const* x, graft_view const* dy,
                                             graft_lora_gradients const* gradients, graft_view const* dx);

/**
 * W += scale B A, and base_bias += scale bias. W[m, n], base_bias[m] in and out, both X. base_bias must be given where
 * the adapter has a bias, and is left alone where it has none. 16-bit weights are rounded once.
 */
GRAFT_C_API graft_status graft_lora_merge(graft_executor const* executor, graft_lora const* lora, graft_view const* W,
                                          graft_view const* base_bias);
/** The same subtracted: equal to the weight before up to rounding, not in bits. */
GRAFT_C_API graft_status graft_lora_unmerge(graft_executor const* executor, graft_lora const* lora, graft_view const* W,
                                            graft_view const* base_bias);
/** D = scale B A, what graft_lora_merge adds. D[m, n] out, X. */
GRAFT_C_API graft_status graft_lora_delta_weight(graft_executor const* executor, graft_lora const* lora,
                                                 graft_view const* D);

/** Ways to draw a fresh adapter; each leaves B A = 0. The distributions are PEFT's, the numbers are graft's own. */
typedef enum graft_lora_init {
  GRAFT_KAIMING_UNIFORM = 1, /**< A uniform in +-1 / sqrt(n), B = 0: PEFT's default */
  GRAFT_GAUSSIAN = 2,        /**< A normal with deviation 1 / r, B = 0 */
  GRAFT_ORTHOGONAL = 3       /**< both factors non-zero, from one orthogonal matrix; r even */
} graft_lora_init;

/** Writes A, B and the bias. A function of (seed, stream, element); give every layer its own stream. */
GRAFT_C_API graft_status graft_lora_initialize(graft_executor const* executor, graft_lora const* lora, int32_t how,
                                               uint64_t seed, uint64_t stream);

/**
 * The load-time form: B[m, r] copied into panels[ceil(m / 64), r, 64], zeros past m; A and the bias as they are.
 * Forwards of a few tokens are faster. For add_delta only: keep the graft_lora for everything else, and pack again
 * when B changes.
 */
typedef struct graft_packed_lora {
  graft_view A;
  graft_view panels;
  graft_view bias;
  double scale;
  int64_t out_features; /**< m */
} graft_packed_lora;

/** Elements (of P) of the panels; 0 unless both are positive and 64 bits count them. */
GRAFT_C_API int64_t graft_lora_packed_size(int64_t out_features, int64_t rank);
/**
 * Copies B into `memory` of `elements` elements of P (64-byte aligned is fastest) and describes it in *packed. The
 * memory must hold graft_lora_packed_size(m, r) of them and share none with the adapter. *packed is left alone where
 * the call fails.
 */
GRAFT_C_API graft_status graft_lora_pack(graft_executor const* executor, graft_lora const* lora, void* memory,
                                         int64_t elements, graft_packed_lora* packed);
/** As graft_lora_add_delta, with the same bits. */
GRAFT_C_API graft_status graft_packed_lora_add_delta(graft_executor const* executor, graft_packed_lora const* lora,
                                                     graft_view const* x, graft_view const* y);

/* ------------------------------------------------------------------------------------------------------------ DoRA */

/**
 * DoRA (arXiv 2402.09353): y = c * (base(x) + scale (x A^T) B^T), c = magnitude / norms, norms[o] = || (W + scale B
 * A)[o, :] ||. A[r, n], B[m, r], magnitude[m] P; norms[m] S, memory that graft_dora_update_norms writes after every
 * change of W, A or B.
 */
typedef struct graft_dora {
  graft_view A;
  graft_view B;
  graft_view magnitude;
  graft_view norms;
  double scale;
} graft_dora;

/** Where gradients are added: A[r, n], B[m, r], magnitude[m], all P. */
typedef struct graft_dora_gradients {
  graft_view A;
  graft_view B;
  graft_view magnitude;
} graft_dora_gradients;

/** r (n + m) + m. */
GRAFT_C_API int64_t graft_dora_parameter_count(graft_dora const* dora);

/** norms = || W + scale B A ||, row by row. W[m, n] X; base_norms[m] = || W || S, or none, saves summing W again. */
GRAFT_C_API graft_status graft_dora_update_norms(graft_executor const* executor, graft_dora const* dora,
                                                 graft_view const* W, graft_view const* base_norms);
/** factors = magnitude / norms, 0 where a norm is 0: the form for inference. factors[m] out, S. */
GRAFT_C_API graft_status graft_dora_prepare(graft_executor const* executor, graft_dora const* dora,
                                            graft_view const* factors);
/**
 * y = c * (y + scale (x A^T) B^T), where y comes in as base(x) without its bias (add that afterwards, unscaled). x[T,
 * n] in, y[T, m] in and out, both X. kept[T, m] X out, or none: y + scale (x A^T) B^T, what graft_dora_backward takes.
 */
GRAFT_C_API graft_status graft_dora_transform_output(graft_executor const* executor, graft_dora const* dora,
                                                     graft_view const* x, graft_view const* y, graft_view const* kept);
/** The same by the factors that graft_dora_prepare wrote: costs what LoRA costs. Magnitude and norms are not read. */
GRAFT_C_API graft_status graft_dora_transform_output_prepared(graft_executor const* executor, graft_dora const* dora,
                                                              graft_view const* factors, graft_view const* x,
                                                              graft_view const* y);
/**
 * Norms held constant, as PEFT trains; added to what is there: dmagnitude += sum of dy * kept / norms; then dy <- c *
 * dy in place, and with it dA, dB, dx as graft_lora_backward. x[T, n], kept[T, m] in; dy[T, m] comes in as the
 * gradient of y and goes out as that of base(x); dx[T, n] in and out or none; all X. `gradients` may be null.
 */
GRAFT_C_API graft_status graft_dora_backward(graft_executor const* executor, graft_dora const* dora,
                                             graft_view const* x, graft_view const* kept, graft_view const* dy,
                                             graft_dora_gradients const* gradients, graft_view const* dx);
/** W <- c * (W + scale B A), with the stored norms, which are those of the weight before. W[m, n] in and out, X. */
GRAFT_C_API graft_status graft_dora_merge(graft_executor const* executor, graft_dora const* dora, graft_view const* W);
/** W <- W / c - scale B A. A row whose magnitude is 0 cannot come back: NaN. */
GRAFT_C_API graft_status graft_dora_unmerge(graft_executor const* executor, graft_dora const* dora,
                                            graft_view const* W);

/* ------------------------------------------------------------------------------------------------------------ VeRA */

/**
 * VeRA (arXiv 2310.11454): y += b * ((d * (x A^T)) B^T). A[r, n], B[m, r] frozen and shared by layers (pass the first
 * n columns of A, the first m rows of B), d[r], b[m] trained; all P.
 */
typedef struct graft_vera {
  graft_view A;
  graft_view B;
  graft_view d;
  graft_view b;
} graft_vera;

/** Where gradients are added: d[r], b[m], both P. */
typedef struct graft_vera_gradients {
  graft_view d;
  graft_view b;
} graft_vera_gradients;

/** r + m. */
GRAFT_C_API int64_t graft_vera_parameter_count(graft_vera const* vera);
/** y += b * ((d * (x A^T)) B^T). x[T, n] in, y[T, m] in and out, both X. */
GRAFT_C_API graft_status graft_vera_add_delta(graft_executor const* executor, graft_vera const* vera,
                                              graft_view const* x, graft_view const* y);
/**
 * The load-time form, as graft_packed_lora: B[m, r] copied into panels[ceil(m / 64), r, 64]. Layers that share a B of m
 * rows share its panels. For add_delta only.
 */
typedef struct graft_packed_vera {
  graft_view A;
  graft_view panels;
  graft_view d;
  graft_view b;
} graft_packed_vera;

/** As graft_lora_pack: graft_lora_packed_size(m, r) elements of P. */
GRAFT_C_API graft_status graft_vera_pack(graft_executor const* executor, graft_vera const* vera, void* memory,
                                         int64_t elements, graft_packed_vera* packed);
/** As graft_vera_add_delta, with the same bits. */
GRAFT_C_API graft_status graft_packed_vera_add_delta(graft_executor const* executor, graft_packed_vera const* vera,
                                                     graft_view const* x, graft_view const* y);
/** Added to what is there: dd, db, and dx[T, n] or none. x[T, n], dy[T, m] in; all X. `gradients` may be null. */
GRAFT_C_API graft_status graft_vera_backward(graft_executor const* executor, graft_vera const* vera,
                                             graft_view const* x, graft_view const* dy,
                                             graft_vera_gradients const* gradients, graft_view const* dx);
/** W += diag(b) B diag(d) A. W[m, n] in and out, X. */
GRAFT_C_API graft_status graft_vera_merge(graft_executor const* executor, graft_vera const* vera, graft_view const* W);
/** The same subtracted: equal to the weight before up to rounding, not in bits. */
GRAFT_C_API graft_status graft_vera_unmerge(graft_executor const* executor, graft_vera const* vera,
                                            graft_view const* W);
/** D = diag(b) B diag(d) A. D[m, n] out, X. */
GRAFT_C_API graft_status graft_vera_delta_weight(graft_executor const* executor, graft_vera const* vera,
                                                 graft_view const* D);

/* ---------------------------------------------------------------------------------------------------- OFT and BOFT */

/**
 * OFT (arXiv 2306.07280, 2506.19847): y = (x diag(R_1, ..., R_D)) W^T, D blocks of b x b, D b = n features.
 * parameters[D, b (b - 1) / 2] P, the strict upper triangles of skew Q, row by row; [1, ...] where all blocks are
 * shared. rotations[D or 1, b, b] S, memory that graft_oft_update_rotations writes after every change of the
 * parameters.
 */
typedef struct graft_oft {
  graft_view parameters;
  graft_view rotations;
  int64_t features;   /**< n */
  int64_t block_size; /**< b */
  int32_t terms;      /**< 0: R = (I - Q) (I + Q)^-1, exact; t > 0: the series of t terms, PEFT's default with 5 */
} graft_oft;

/** D b (b - 1) / 2, or b (b - 1) / 2 where blocks are shared. */
GRAFT_C_API int64_t graft_oft_parameter_count(graft_oft const* oft);
/** Writes `rotations` from `parameters`. */
GRAFT_C_API graft_status graft_oft_update_rotations(graft_executor const* executor, graft_oft const* oft);
/** turned = x diag(R), which goes into the base layer. x[T, n] in, turned[T, n] out, both X. turned may be x. */
GRAFT_C_API graft_status graft_oft_transform_input(graft_executor const* executor, graft_oft const* oft,
                                                   graft_view const* x, graft_view const* turned);
/**
 * With g = the gradient of turned, added to what is there: dparameters (as the parameters, P) or none, by way of x, and
 * dx += g diag(R)^T or none. x[T, n], g[T, n], dx[T, n], all X.
 */
GRAFT_C_API graft_status graft_oft_backward_input(graft_executor const* executor, graft_oft const* oft,
                                                  graft_view const* x, graft_view const* g,
                                                  graft_view const* dparameters, graft_view const* dx);
/** W <- W diag(R)^T. W[m, n] in and out, X. */
GRAFT_C_API graft_status graft_oft_merge(graft_executor const* executor, graft_oft const* oft, graft_view const* W);
/** W <- W diag(R)^-T, of a series by the inverses of its blocks. */
GRAFT_C_API graft_status graft_oft_unmerge(graft_executor const* executor, graft_oft const* oft, graft_view const* W);

/**
 * BOFT (arXiv 2311.06243): y = s * ((x B_{N-1} ... B_0) W^T), N butterfly factors of D blocks b x b, D b = n.
 * parameters[N, D, b, b] (Q = (A - A^T) / 2 of each) and s[m] P; rotations[N, D, b, b] S, memory that
 * graft_boft_update_rotations writes.
 */
typedef struct graft_boft {
  graft_view parameters;
  graft_view s;
  graft_view rotations;
} graft_boft;

/** N D b^2 + m. */
GRAFT_C_API int64_t graft_boft_parameter_count(graft_boft const* boft);
/** Writes `rotations` from `parameters`. */
GRAFT_C_API graft_status graft_boft_update_rotations(graft_executor const* executor, graft_boft const* boft);
/** turned = x B_{N-1} ... B_0, which goes into the base layer. x[T, n], turned[T, n], both X. turned may be x. */
GRAFT_C_API graft_status graft_boft_transform_input(graft_executor const* executor, graft_boft const* boft,
                                                    graft_view const* x, graft_view const* turned);
/** y <- s * y; y[T, m] X comes in as what the base layer gives without its bias. kept[T, m] X out or none: y before. */
GRAFT_C_API graft_status graft_boft_transform_output(graft_executor const* executor, graft_boft const* boft,
                                                     graft_view const* y, graft_view const* kept);
/** ds += sum over tokens of dy * kept (ds[m] P or none), and dy <- s * dy in place. kept[T, m], dy[T, m], both X. */
GRAFT_C_API graft_status graft_boft_backward_output(graft_executor const* executor, graft_boft const* boft,
                                                    graft_view const* kept, graft_view const* dy, graft_view const* ds);
/** As graft_oft_backward_input; dparameters[N, D, b, b] P or none. */
GRAFT_C_API graft_status graft_boft_backward_input(graft_executor const* executor, graft_boft const* boft,
                                                   graft_view const* x, graft_view const* g,
                                                   graft_view const* dparameters, graft_view const* dx);
/** W <- diag(s) W (B_{N-1} ... B_0)^T. W[m, n] in and out, X. */
GRAFT_C_API graft_status graft_boft_merge(graft_executor const* executor, graft_boft const* boft, graft_view const* W);
/** Back, by the transposes and 1 / s: an s of 0 cannot come back (NaN). */
GRAFT_C_API graft_status graft_boft_unmerge(graft_executor const* executor, graft_boft const* boft,
                                            graft_view const* W);

/* --------------------------------------------------------------------------------------------------------- kernels */

/**
 * Blocks of skew parameters to rotations[D, b, b] S. parameters P: packed [D, b (b - 1) / 2] or square [D, b, b], Q =
 * (A - A^T) / 2. terms = 0: (I - Q) (I + Q)^-1. terms = t > 0: I + 2 Q + ... + 2 Q^(t-2) + Q^(t-1), which turns the
 * other way.
 */
GRAFT_C_API graft_status graft_cayley(graft_executor const* executor, graft_view const* parameters, int32_t terms,
                                      graft_view const* rotations);
/**
 * norms[o] = || W[o, :] + scale (B A)[o, :] ||. W[m, n] X; B[m, r] and A[r, n] P, or both none; base_norms[m] S in, or
 * none; norms[m] S out.
 */
GRAFT_C_API graft_status graft_row_norms(graft_executor const* executor, graft_view const* W, graft_view const* B,
                                         graft_view const* A, double scale, graft_view const* base_norms,
                                         graft_view const* norms);
/**
 * p = softmax(logits / temperature), row by row; the temperature from 2^-126 to 2^126. logits[T, E] X in, p[T, E] P
 * out. status[T] int32 or none, see graft_route; rows with a NaN, a +inf or only -inf are NaN.
 */
GRAFT_C_API graft_status graft_softmax(graft_executor const* executor, graft_view const* logits, double temperature,
                                       graft_view const* p, graft_view const* status);
/** dlogits += p (dp - sum of p dp) / temperature. p[T, E], dp[T, E] P in; dlogits[T, E] X in and out. */
GRAFT_C_API graft_status graft_softmax_backward(graft_executor const* executor, graft_view const* p,
                                                graft_view const* dp, double temperature, graft_view const* dlogits);
/**
 * ids[t, s] = the index of the s-th largest of row t, ties to the lower index, NaN last; values[t, s] = that number.
 * scores[T, E] P in; ids[T, k] int32 or int64 out; values[T, k] P out, or none.
 */
GRAFT_C_API graft_status graft_top_k(graft_executor const* executor, graft_view const* scores, graft_view const* ids,
                                     graft_view const* values);

/* ----------------------------------------------------------------------------------------------------------- gates */

typedef enum graft_gate_score { GRAFT_SCORE_SOFTMAX = 0, GRAFT_SCORE_SIGMOID = 1 } graft_gate_score;

/** Which tokens use their second expert (GShard); k = 2. */
typedef enum graft_second_expert {
  GRAFT_SECOND_ALWAYS = 0,
  GRAFT_SECOND_ABOVE_THRESHOLD = 1, /**< those whose second weight is above `threshold` */
  GRAFT_SECOND_RANDOM = 2 /**< those with weight / threshold above a uniform number of (seed, stream, token) */
} graft_second_expert;

/** What becomes of NaN, +inf, and rows of only -inf. */
typedef enum graft_non_finite {
  GRAFT_NON_FINITE_REFUSE = 0, /**< GRAFT_ERROR_DATA, or a code in `status` */
  GRAFT_NON_FINITE_LAST = 1    /**< NaN is chosen last, as -inf; +inf is the largest finite number */
} graft_non_finite;

/** Codes of `status`. */
typedef enum graft_gate_fault {
  GRAFT_FAULT_NONE = 0,
  GRAFT_FAULT_NAN = 1,       /**< a NaN among the logits */
  GRAFT_FAULT_INFINITE = 2,  /**< a logit of +inf */
  GRAFT_FAULT_NONE_LEFT = 3, /**< only -inf */
  GRAFT_FAULT_BAD_ID = 4     /**< backward: an id outside [-1, E) */
} graft_gate_fault;

/**
 * How a token chooses. With u = e^((z - max z) / temperature), or sigmoid(z), and c = z, or sigmoid(z) + bias: the k
 * experts with the largest c, of the `kept_groups` best of `groups` groups only, have the weights
 *
 *     scale u / sum over all u                               (sigmoid: scale u)
 *     renormalize:               scale u / sum over the chosen u
 *     renormalize with epsilon:  scale p / (sum over the chosen p + epsilon), p = u / sum over all u   (sigmoid: p = u)
 *
 * Of the best k only the first whose p add up to more than top_p are kept, where that is below 1. Make one by the
 * functions below, and change what differs.
 */
typedef struct graft_gate {
  int32_t score;       /**< graft_gate_score */
  int32_t renormalize; /**< 0 or 1 */
  double epsilon;
  double scale;
  double temperature; /**< from 2^-126 to 2^126 */
  double top_p;
  int64_t groups; /**< of equal size, side by side */
  int64_t kept_groups;
  int32_t second_expert; /**< graft_second_expert */
  int32_t non_finite;    /**< graft_non_finite */
  double threshold;
  uint64_t seed; /**< of GRAFT_SECOND_RANDOM */
  uint64_t stream;
} graft_gate;

/** One expert a token, with its softmax as weight (Switch Transformer, arXiv 2101.03961): k = 1. */
static inline graft_gate graft_switch_top1(void) {
  graft_gate g;
  g.score = GRAFT_SCORE_SOFTMAX;
  g.renormalize = 0;
  g.epsilon = 0.0;
  g.scale = 1.0;
  g.temperature = 1.0;
  g.top_p = 1.0;
  g.groups = 1;
  g.kept_groups = 1;
  g.second_expert = GRAFT_SECOND_ALWAYS;
  g.non_finite = GRAFT_NON_FINITE_REFUSE;
  g.threshold = 0.5;
  g.seed = 0;
  g.stream = 0;
  return g;
}
/** Softmax over all experts, then the k largest; divided by their sum (Mixtral), or not (DeepSeek-V2: 0). */
static inline graft_gate graft_softmax_topk(int renormalize) {
  graft_gate g = graft_switch_top1();
  g.renormalize = renormalize != 0;
  return g;
}
/** The k largest logits, then softmax over those (gpt-oss). */
static inline graft_gate graft_topk_softmax(void) { return graft_softmax_topk(1); }
/** Sigmoids; groups, and a bias that only chooses, where given (DeepSeek-V3, arXiv 2412.19437). */
static inline graft_gate graft_sigmoid_topk(void) {
  graft_gate g = graft_switch_top1();
  g.score = GRAFT_SCORE_SIGMOID;
  g.renormalize = 1;
  g.epsilon = 1e-20;
  return g;
}
/** As many experts as pass the probability p, at most k; ids behind the last are -1 (arXiv 2403.07652). */
static inline graft_gate graft_top_p(double p) {
  graft_gate g = graft_switch_top1();
  g.top_p = p;
  return g;
}
/** Two experts, the second perhaps (GShard, arXiv 2006.16668): k = 2; see second_expert and threshold. */
static inline graft_gate graft_gshard_top2(void) {
  graft_gate g = graft_switch_top1();
  g.renormalize = 1;
  g.epsilon = 1e-9;
  return g;
}

/**
 * ids[T, k] and weights[T, k] of logits[T, E], in falling order, ties to the lower index. logits X in; bias[E] S in,
 * or none (of sigmoid scores); ids int32 or int64 out, -1 where the rule drops a choice, with weight 0; weights P out.
 * status[T] int32 out, or none: with one, what is wrong with a token is a graft_gate_fault there and the call is
 * GRAFT_OK; without one the call is GRAFT_ERROR_DATA and the sentence names the first such token. Its ids are -1 and
 * its weights 0 in either case.
 */
GRAFT_C_API graft_status graft_route(graft_executor const* executor, graft_gate const* gate, graft_view const* logits,
                                     graft_view const* bias, graft_view const* ids, graft_view const* weights,
                                     graft_view const* status);
/** dlogits[T, E] += the gradient of the sum of weights * dweights, ids held fixed. dlogits X, dweights P. */
GRAFT_C_API graft_status graft_route_backward(graft_executor const* executor, graft_gate const* gate,
                                              graft_view const* logits, graft_view const* ids,
                                              graft_view const* dweights, graft_view const* dlogits,
                                              graft_view const* status);

/* ------------------------------------------------------------------------------------------------------------ plans */

/**
 * Which row of which expert a pair of a token and a choice becomes, and the way back. Pair = t k + s. Expert e has the
 * rows offsets[e] to offsets[e] + counts[e] - 1, in the order of its pairs, then padding up to offsets[e + 1];
 * offsets[E] is the number of rows. The pointers lead into the memory that graft_plan_make was given; read them as you
 * like, and change nothing: what they hold is trusted, only the numbers are compared with each other.
 */
typedef struct graft_plan {
  int64_t tokens;  /**< T */
  int64_t choices; /**< k */
  int64_t experts; /**< E */
  int64_t pairs;   /**< T k */
  int64_t rows;    /**< R: what any assignment can need, pairs + min(pairs, experts) (alignment - 1) */
  int64_t tiles;   /**< extent of the tile table; 0 without */
  int64_t alignment;
  int64_t tile;
  int64_t* counts;       /**< [E] pairs of each expert, without those dropped */
  int64_t* offsets;      /**< [E + 1] */
  int64_t* permutation;  /**< [R] row -> pair; -1 in padding */
  int64_t* row_tokens;   /**< [R] row -> token; -1 in padding */
  int64_t* inverse;      /**< [pairs] pair -> row; -1 when it names no expert or was dropped */
  uint8_t* dropped;      /**< [pairs] 1 for pairs whose expert had no room */
  int64_t* tile_experts; /**< [tiles] tile -> expert; -1 behind the last */
  int64_t* tile_rows;    /**< [tiles] tile -> its first row */
  int64_t* status;       /**< [4] graft's own */
} graft_plan;

/** In which order the pairs of an expert take its places; ties: the lower pair first. */
typedef enum graft_drop_order {
  GRAFT_DROP_BY_TOKEN = 0,       /**< token by token, choice by choice of one (Switch) */
  GRAFT_DROP_BY_CHOICE = 1,      /**< all first choices, then all second ones, ... (GShard) */
  GRAFT_DROP_BY_PROBABILITY = 2, /**< the highest score first */
  GRAFT_DROP_BATCH_PRIORITY = 3, /**< by choice, and of one choice tokens of the highest score first (V-MoE) */
  GRAFT_DROP_RANDOM = 4          /**< by numbers of (seed, stream, pair) */
} graft_drop_order;

/**
 * An expert takes C pairs of each group of `group` tokens (0: the whole batch): C = fixed where that is not negative,
 * else max(minimum, ceil or floor of G k factor / E), without the k where per_choice is 0.
 */
typedef struct graft_capacity {
  double factor;
  int64_t minimum;
  int64_t fixed;      /**< -1: by the factor */
  int32_t per_choice; /**< 0 or 1 */
  int32_t rounds_up;  /**< 0 or 1 */
  int32_t order;      /**< graft_drop_order */
  int64_t group;
  uint64_t seed; /**< of GRAFT_DROP_RANDOM */
  uint64_t stream;
} graft_capacity;

/** ceil(T k factor / E), by token: Megatron's and Tutel's. */
static inline graft_capacity graft_capacity_factor(double factor) {
  graft_capacity c;
  c.factor = factor;
  c.minimum = 0;
  c.fixed = -1;
  c.per_choice = 1;
  c.rounds_up = 1;
  c.order = GRAFT_DROP_BY_TOKEN;
  c.group = 0;
  c.seed = 0;
  c.stream = 0;
  return c;
}

/** *bytes = what graft_plan_make needs for `pairs` = T k over `experts`; alignment and tile as there. */
GRAFT_C_API graft_status graft_plan_bytes(int64_t pairs, int64_t experts, int64_t alignment, int64_t tile,
                                          size_t* bytes);
/**
 * Sorts ids[T, k] (int32 or int64; -1 names no expert) by expert, stably, into a plan in `memory` of `bytes` bytes,
 * aligned to 8.
 *   alignment   each expert's rows begin at a multiple of it; 1 for none
 *   tile        rows of a tile of the tile table; 0 makes none
 *   capacity    or null: nothing is dropped
 *   scores      [T, k] of any floating-point dtype, or none: what GRAFT_DROP_BY_PROBABILITY and
 *               GRAFT_DROP_BATCH_PRIORITY sort by
 *   positions   [T, k] int32 or int64 out, or none: the place of each pair in its expert's order; for the first two
 *               orders
 * GRAFT_ERROR_DATA names the first token with an id outside [-1, E).
 */
GRAFT_C_API graft_status graft_plan_make(graft_executor const* executor, graft_view const* ids, int64_t experts,
                                         int64_t alignment, int64_t tile, graft_capacity const* capacity,
                                         graft_view const* scores, graft_view const* positions, void* memory,
                                         size_t bytes, graft_plan* plan);

/**
 * rows[i] = x[token of row i], or weights times that; +0 in padding and behind the plan's rows. x[T, H] in, rows[N, H]
 * out with offsets[E] <= N <= plan.rows, both X; weights[T, k] P in, or none.
 */
GRAFT_C_API graft_status graft_dispatch(graft_executor const* executor, graft_plan const* plan, graft_view const* x,
                                        graft_view const* weights, graft_view const* rows);
/** The backward of graft_dispatch without weights: dx[t] += the sum of its rows of drows[N, H]. dx[T, H]; both X. */
GRAFT_C_API graft_status graft_dispatch_backward(graft_executor const* executor, graft_plan const* plan,
                                                 graft_view const* drows, graft_view const* dx);
/**
 * y[t] = sum over the choices s of t of weights[t, s] rows[inverse(t, s)], in the order of choices; +0 for a token
 * that has none. rows[N, H] in, y[T, H] out, both X; weights[T, k] P in, or none for ones.
 */
GRAFT_C_API graft_status graft_combine(graft_executor const* executor, graft_plan const* plan, graft_view const* rows,
                                       graft_view const* weights, graft_view const* y);
/** The same added to what is in y. */
GRAFT_C_API graft_status graft_combine_add(graft_executor const* executor, graft_plan const* plan,
                                           graft_view const* rows, graft_view const* weights, graft_view const* y);
/**
 * The backward of graft_combine: drows[i] = weights dy[token of row i], +0 in padding, and dweights[t, s] = dy[t] .
 * rows[inverse(t, s)]. Both are written, not added to. rows[N, H], dy[T, H] in, drows[N, H] out, all X; weights[T, k]
 * P in, or none for ones; dweights[T, k] P out, or none.
 */
GRAFT_C_API graft_status graft_combine_backward(graft_executor const* executor, graft_plan const* plan,
                                                graft_view const* rows, graft_view const* weights, graft_view const* dy,
                                                graft_view const* drows, graft_view const* dweights);

#endif
