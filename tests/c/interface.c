// Every function of the C interface, for every pair of dtypes, on numbers exact in all of them; strides; errors.
// --layout: sizes and offsets of the structs, for the test from Python.
#include <graft/c/graft.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int wrong = 0;
static long checks = 0;
static char const* where = "";

#define CHECK(condition)                                                                                      \
  do {                                                                                                        \
    ++checks;                                                                                                 \
    if (!(condition)) {                                                                                       \
      ++wrong;                                                                                                \
      printf("line %d: %s is false (%s); last error: %s\n", __LINE__, #condition, where, graft_last_error()); \
    }                                                                                                         \
  } while (0)
#define OK(call) CHECK((call) == GRAFT_OK)
/* A call that fails, with this status and a sentence that holds this part. */
#define REFUSED(call, status, part)                    \
  do {                                                 \
    CHECK((call) == (status));                         \
    CHECK(strstr(graft_last_error(), (part)) != NULL); \
  } while (0)

/* ---- numbers that are exact in every dtype */

static uint16_t narrowed(double value, int32_t dtype) {
  float const f = (float)value;
  uint32_t bits;
  uint32_t a;
  memcpy(&bits, &f, sizeof bits);
  if (dtype == GRAFT_BFLOAT16) return (uint16_t)(bits >> 16);
  a = bits & 0x7fffffffU;
  if (a == 0) return (uint16_t)((bits >> 16) & 0x8000U);
  return (uint16_t)(((bits >> 16) & 0x8000U) | ((a - 0x38000000U) >> 13)); /* normal in binary16 */
}
static double widened(uint16_t h, int32_t dtype) {
  uint32_t bits = (uint32_t)h << 16;
  float f;
  if (dtype == GRAFT_FLOAT16) {
    bits = ((uint32_t)h & 0x8000U) << 16;
    if ((h & 0x7fffU) != 0) bits |= (((uint32_t)h & 0x7fffU) << 13) + 0x38000000U;
  }
  memcpy(&f, &bits, sizeof f);
  return f;
}

/* Memory with numbers in it. */
typedef struct array {
  double aligned; /* what follows is aligned to 8 */
  unsigned char bytes[8 * 64];
  graft_view view;
} array;

static void put(array* a, int i, double value) {
  unsigned char* const at = a->bytes + (size_t)i * graft_dtype_bytes(a->view.dtype);
  if (a->view.dtype == GRAFT_FLOAT64) memcpy(at, &value, sizeof value);
  else if (a->view.dtype == GRAFT_FLOAT32) {
    float const f = (float)value;
    memcpy(at, &f, sizeof f);
  } else if (a->view.dtype == GRAFT_INT32) {
    int32_t const n = (int32_t)value;
    memcpy(at, &n, sizeof n);
  } else if (a->view.dtype == GRAFT_INT64) {
    int64_t const n = (int64_t)value;
    memcpy(at, &n, sizeof n);
  } else {
    uint16_t const h = narrowed(value, a->view.dtype);
    memcpy(at, &h, sizeof h);
  }
}
static double get(array const* a, int i) {
  unsigned char const* const at = a->bytes + (size_t)i * graft_dtype_bytes(a->view.dtype);
  double value;
  float f;
  int32_t n;
  int64_t wide;
  uint16_t h;
  switch (a->view.dtype) {
    case GRAFT_FLOAT64: memcpy(&value, at, sizeof value); return value;
    case GRAFT_FLOAT32: memcpy(&f, at, sizeof f); return f;
    case GRAFT_INT32: memcpy(&n, at, sizeof n); return n;
    case GRAFT_INT64: memcpy(&wide, at, sizeof wide); return (double)wide;
    default: memcpy(&h, at, sizeof h); return widened(h, a->view.dtype);
  }
}
static void fill(array* a, int count, double const* values) {
  int i;
  for (i = 0; i < count; ++i) put(a, i, values[i]);
}
static void vector(array* a, int32_t dtype, int n, double const* values) {
  a->view = graft_view_1d(a->bytes, dtype, n);
  fill(a, n, values);
}
static void matrix(array* a, int32_t dtype, int rows, int columns, double const* values) {
  a->view = graft_view_2d(a->bytes, dtype, rows, columns);
  fill(a, rows * columns, values);
}
static int is(array const* a, int count, double const* values) {
  int i;
  for (i = 0; i < count; ++i)
    if (!(get(a, i) == values[i])) {
      printf("  element %d is %g, not %g (%s)\n", i, get(a, i), values[i], where);
      return 0;
    }
  return 1;
}
#define VALUES(...) \
  (sizeof((double[]){__VA_ARGS__}) / sizeof(double)), (double[]) { __VA_ARGS__ }
#define IS(a, ...) CHECK(is(&(a), (int)VALUES(__VA_ARGS__)))
#define VECTOR(a, dtype, ...) vector(&(a), (dtype), (int)VALUES(__VA_ARGS__))
#define MATRIX(a, dtype, rows, columns, ...) matrix(&(a), (dtype), (rows), (columns), (double[]){__VA_ARGS__})

/* ---- methods */

static void test_lora(graft_executor const* ex, int32_t X, int32_t P) {
  array x, y, dy, dx, W, D, base, A, B, bias, dA, dB, dbias, panels;
  graft_lora l;
  graft_lora_gradients g;
  graft_packed_lora packed;
  memset(&l, 0, sizeof l);
  memset(&g, 0, sizeof g);
  MATRIX(x, X, 2, 3, 1, 2, 3, 0, -1, 2);
  MATRIX(y, X, 2, 2, 9, 9, 9, 9);
  MATRIX(A, P, 1, 3, 1, 1, 1);
  MATRIX(B, P, 2, 1, 1, -1);
  VECTOR(bias, P, 1, 2);
  l.A = A.view;
  l.B = B.view;
  l.scale = graft_lora_scale(2.0, 1);
  CHECK(graft_lora_parameter_count(&l) == 5);
  OK(graft_lora_add_delta(ex, &l, &x.view, &y.view));
  IS(y, 21, -3, 11, 7);

  /* the load-time form */
  VECTOR(panels, P, 0);
  CHECK(graft_lora_packed_size(2, 1) == 64);
  OK(graft_lora_pack(ex, &l, panels.bytes, 64, &packed));
  CHECK(packed.panels.shape[0] == 1 && packed.panels.shape[1] == 1 && packed.panels.shape[2] == 64);
  CHECK(packed.out_features == 2 && packed.scale == 2.0);
  MATRIX(y, X, 2, 2, 9, 9, 9, 9);
  OK(graft_packed_lora_add_delta(ex, &packed, &x.view, &y.view));
  IS(y, 21, -3, 11, 7);

  /* a bias */
  l.bias = bias.view;
  CHECK(graft_lora_parameter_count(&l) == 7);
  MATRIX(y, X, 2, 2, 9, 9, 9, 9);
  OK(graft_lora_add_delta(ex, &l, &x.view, &y.view));
  IS(y, 23, 1, 13, 11);

  MATRIX(dy, X, 2, 2, 1, 0, 2, 1);
  MATRIX(dx, X, 2, 3, 1, 1, 1, 1, 1, 1);
  MATRIX(dA, P, 1, 3, 1, 1, 1);
  MATRIX(dB, P, 2, 1, 1, 1);
  VECTOR(dbias, P, 1, 1);
  g.A = dA.view;
  g.B = dB.view;
  g.bias = dbias.view;
  OK(graft_lora_backward(ex, &l, &x.view, &dy.view, &g, &dx.view));
  IS(dB, 17, 3);
  IS(dA, 3, 3, 11);
  IS(dbias, 7, 3);
  IS(dx, 3, 3, 3, 3, 3, 3);
  OK(graft_lora_backward(ex, &l, &x.view, &dy.view, NULL, &dx.view));
  IS(dx, 5, 5, 5, 5, 5, 5);
  l.bias = graft_none();
  g.bias = graft_none();
  OK(graft_lora_backward(ex, &l, &x.view, &dy.view, &g, NULL));
  IS(dB, 33, 5);
  IS(dbias, 7, 3);
  REFUSED(graft_lora_backward(ex, &l, &x.view, &dy.view, NULL, NULL), GRAFT_ERROR_ARGUMENT, "nothing to compute");

  MATRIX(W, X, 2, 3, 1, 2, 3, 4, 5, 6);
  VECTOR(base, X, 1, 1);
  OK(graft_lora_merge(ex, &l, &W.view, &base.view));
  IS(W, 3, 4, 5, 2, 3, 4);
  IS(base, 1, 1);
  OK(graft_lora_unmerge(ex, &l, &W.view, NULL));
  IS(W, 1, 2, 3, 4, 5, 6);
  l.bias = bias.view;
  OK(graft_lora_merge(ex, &l, &W.view, &base.view));
  IS(base, 3, 5);
  REFUSED(graft_lora_merge(ex, &l, &W.view, NULL), GRAFT_ERROR_ARGUMENT, "base_bias must be given");
  MATRIX(D, X, 2, 3, 7, 7, 7, 7, 7, 7);
  OK(graft_lora_delta_weight(ex, &l, &D.view));
  IS(D, 2, 2, 2, -2, -2, -2);

  OK(graft_lora_initialize(ex, &l, GRAFT_KAIMING_UNIFORM, 7, 1));
  IS(B, 0, 0);
  IS(bias, 0, 0);
  CHECK(get(&A, 0) != 1 && fabs(get(&A, 0)) <= 0.578 && get(&A, 0) != get(&A, 1));
  OK(graft_lora_initialize(ex, &l, GRAFT_GAUSSIAN, 7, 1));
  REFUSED(graft_lora_initialize(ex, &l, GRAFT_ORTHOGONAL, 7, 1), GRAFT_ERROR_ARGUMENT, "rank");
  REFUSED(graft_lora_initialize(ex, &l, 9, 7, 1), GRAFT_ERROR_ARGUMENT, "initialisation 9");
}

static void test_dora(graft_executor const* ex, int32_t X, int32_t P, int32_t S) {
  array x, y, kept, dy, dx, W, A, B, magnitude, norms, factors, base, dA, dB, dmagnitude;
  graft_dora d;
  graft_dora_gradients g;
  memset(&d, 0, sizeof d);
  MATRIX(x, X, 1, 2, 1, 1);
  MATRIX(A, P, 1, 2, 1, 0);
  MATRIX(B, P, 2, 1, 1, 0);
  MATRIX(W, X, 2, 2, 2, 4, 0, 5);
  VECTOR(magnitude, P, 10, 5);
  VECTOR(norms, S, 0, 0);
  VECTOR(factors, S, 0, 0);
  d.A = A.view;
  d.B = B.view;
  d.magnitude = magnitude.view;
  d.norms = norms.view;
  d.scale = 1.0;
  CHECK(graft_dora_parameter_count(&d) == 6);
  OK(graft_dora_update_norms(ex, &d, &W.view, NULL));
  IS(norms, 5, 5);
  VECTOR(base, S, sqrt(20.0), 5);
  OK(graft_dora_update_norms(ex, &d, &W.view, &base.view));
  CHECK(fabs(get(&norms, 0) - 5) < 1e-5 && get(&norms, 1) == 5);
  OK(graft_dora_update_norms(ex, &d, &W.view, NULL));
  OK(graft_dora_prepare(ex, &d, &factors.view));
  IS(factors, 2, 1);

  MATRIX(y, X, 1, 2, 6, 5);
  OK(graft_dora_transform_output(ex, &d, &x.view, &y.view, NULL));
  IS(y, 14, 5);
  MATRIX(y, X, 1, 2, 6, 5);
  MATRIX(kept, X, 1, 2, 0, 0);
  OK(graft_dora_transform_output(ex, &d, &x.view, &y.view, &kept.view));
  IS(y, 14, 5);
  IS(kept, 7, 5);
  MATRIX(y, X, 1, 2, 6, 5);
  OK(graft_dora_transform_output_prepared(ex, &d, &factors.view, &x.view, &y.view));
  IS(y, 14, 5);

  MATRIX(kept, X, 1, 2, 10, 5);
  MATRIX(dy, X, 1, 2, 1, 1);
  MATRIX(dx, X, 1, 2, 0, 0);
  MATRIX(dA, P, 1, 2, 0, 0);
  MATRIX(dB, P, 2, 1, 0, 0);
  VECTOR(dmagnitude, P, 0, 0);
  g.A = dA.view;
  g.B = dB.view;
  g.magnitude = dmagnitude.view;
  OK(graft_dora_backward(ex, &d, &x.view, &kept.view, &dy.view, &g, &dx.view));
  IS(dmagnitude, 2, 1);
  IS(dy, 2, 1);
  IS(dB, 2, 1);
  IS(dA, 2, 2);
  IS(dx, 2, 0);
  OK(graft_dora_backward(ex, &d, &x.view, &kept.view, &dy.view, NULL, &dx.view));
  IS(dx, 6, 0);
  OK(graft_dora_backward(ex, &d, &x.view, &kept.view, &dy.view, &g, NULL));

  OK(graft_dora_merge(ex, &d, &W.view));
  IS(W, 6, 8, 0, 5);
  OK(graft_dora_unmerge(ex, &d, &W.view));
  IS(W, 2, 4, 0, 5);
}

static void test_vera(graft_executor const* ex, int32_t X, int32_t P) {
  array x, y, dy, dx, W, A, B, d, b, dd, db;
  graft_vera v;
  graft_vera_gradients g;
  MATRIX(x, X, 1, 2, 1, 2);
  MATRIX(y, X, 1, 2, 1, 1);
  MATRIX(A, P, 1, 2, 1, 1);
  MATRIX(B, P, 2, 1, 1, 2);
  VECTOR(d, P, 2);
  VECTOR(b, P, 1, 3);
  v.A = A.view;
  v.B = B.view;
  v.d = d.view;
  v.b = b.view;
  CHECK(graft_vera_parameter_count(&v) == 3);
  OK(graft_vera_add_delta(ex, &v, &x.view, &y.view));
  IS(y, 7, 37);
  MATRIX(dy, X, 1, 2, 1, 1);
  MATRIX(dx, X, 1, 2, 1, 1);
  VECTOR(dd, P, 1);
  VECTOR(db, P, 1, 1);
  g.d = dd.view;
  g.b = db.view;
  OK(graft_vera_backward(ex, &v, &x.view, &dy.view, &g, &dx.view));
  IS(dd, 22);
  IS(db, 7, 13);
  IS(dx, 15, 15);
  OK(graft_vera_backward(ex, &v, &x.view, &dy.view, NULL, &dx.view));
  IS(dx, 29, 29);
  OK(graft_vera_backward(ex, &v, &x.view, &dy.view, &g, NULL));
  IS(dd, 43);
  MATRIX(W, X, 2, 2, 1, 0, 0, 1);
  OK(graft_vera_merge(ex, &v, &W.view));
  IS(W, 3, 2, 12, 13);
  OK(graft_vera_unmerge(ex, &v, &W.view));
  IS(W, 1, 0, 0, 1);
  OK(graft_vera_delta_weight(ex, &v, &W.view));
  IS(W, 2, 2, 12, 12);
}

static void test_rotations(graft_executor const* ex, int32_t X, int32_t P, int32_t S) {
  array x, turned, g, dx, W, y, kept, parameters, rotations, dparameters, s, ds;
  graft_oft o;
  graft_boft b;
  /* a quarter turn: Q = ((0, 1), (-1, 0)), R = ((0, -1), (1, 0)) */
  MATRIX(parameters, P, 1, 1, 1);
  VECTOR(rotations, S, 0, 0, 0, 0);
  o.parameters = parameters.view;
  o.rotations = graft_view_3d(rotations.bytes, S, 1, 2, 2);
  o.features = 2;
  o.block_size = 2;
  o.terms = 0;
  CHECK(graft_oft_parameter_count(&o) == 1);
  OK(graft_oft_update_rotations(ex, &o));
  IS(rotations, 0, -1, 1, 0);
  OK(graft_cayley(ex, &parameters.view, 2, &o.rotations)); /* the series of two terms: I + 2 Q */
  IS(rotations, 1, 2, -2, 1);
  OK(graft_cayley(ex, &parameters.view, 0, &o.rotations));
  IS(rotations, 0, -1, 1, 0);

  MATRIX(x, X, 1, 2, 3, 5);
  MATRIX(turned, X, 1, 2, 0, 0);
  OK(graft_oft_transform_input(ex, &o, &x.view, &turned.view));
  IS(turned, 5, -3);
  MATRIX(g, X, 1, 2, 1, 1);
  MATRIX(dx, X, 1, 2, 0, 0);
  MATRIX(dparameters, P, 1, 1, 0);
  OK(graft_oft_backward_input(ex, &o, &x.view, &g.view, &dparameters.view, &dx.view));
  IS(dparameters, -8);
  IS(dx, -1, 1);
  OK(graft_oft_backward_input(ex, &o, &x.view, &g.view, NULL, &dx.view));
  IS(dx, -2, 2);
  OK(graft_oft_backward_input(ex, &o, &x.view, &g.view, &dparameters.view, NULL));
  IS(dparameters, -16);
  MATRIX(W, X, 1, 2, 3, 5);
  OK(graft_oft_merge(ex, &o, &W.view));
  IS(W, -5, 3);
  OK(graft_oft_unmerge(ex, &o, &W.view));
  IS(W, 3, 5);
  OK(graft_oft_transform_input(ex, &o, &x.view, &x.view)); /* in place */
  IS(x, 5, -3);

  /* the same turn as one butterfly factor: A = ((0, 2), (0, 0)) */
  VECTOR(parameters, P, 0, 2, 0, 0);
  VECTOR(dparameters, P, 0, 0, 0, 0);
  VECTOR(rotations, S, 9, 9, 9, 9);
  VECTOR(s, P, 2, 4);
  b.parameters = graft_view_4d(parameters.bytes, P, 1, 1, 2, 2);
  b.rotations = graft_view_4d(rotations.bytes, S, 1, 1, 2, 2);
  b.s = s.view;
  CHECK(graft_boft_parameter_count(&b) == 6);
  OK(graft_boft_update_rotations(ex, &b));
  IS(rotations, 0, -1, 1, 0);
  {
    graft_view const square = graft_view_3d(parameters.bytes, P, 1, 2, 2);
    graft_view const out = graft_view_3d(rotations.bytes, S, 1, 2, 2);
    OK(graft_cayley(ex, &square, 0, &out));
    IS(rotations, 0, -1, 1, 0);
  }
  MATRIX(x, X, 1, 2, 3, 5);
  OK(graft_boft_transform_input(ex, &b, &x.view, &turned.view));
  IS(turned, 5, -3);
  MATRIX(y, X, 1, 2, 1, 3);
  MATRIX(kept, X, 1, 2, 0, 0);
  OK(graft_boft_transform_output(ex, &b, &y.view, &kept.view));
  IS(y, 2, 12);
  IS(kept, 1, 3);
  OK(graft_boft_transform_output(ex, &b, &y.view, NULL));
  IS(y, 4, 48);
  MATRIX(g, X, 1, 2, 1, 1);
  VECTOR(ds, P, 1, 1);
  OK(graft_boft_backward_output(ex, &b, &kept.view, &g.view, &ds.view));
  IS(ds, 2, 4);
  IS(g, 2, 4);
  OK(graft_boft_backward_output(ex, &b, &kept.view, &g.view, NULL));
  IS(g, 4, 16);
  MATRIX(g, X, 1, 2, 1, 1);
  MATRIX(dx, X, 1, 2, 0, 0);
  {
    graft_view const dp = graft_view_4d(dparameters.bytes, P, 1, 1, 2, 2);
    OK(graft_boft_backward_input(ex, &b, &x.view, &g.view, &dp, &dx.view));
    IS(dparameters, 0, -4, 4, 0);
    IS(dx, -1, 1);
    OK(graft_boft_backward_input(ex, &b, &x.view, &g.view, NULL, &dx.view));
    OK(graft_boft_backward_input(ex, &b, &x.view, &g.view, &dp, NULL));
    IS(dparameters, 0, -8, 8, 0);
  }
  MATRIX(W, X, 2, 2, 3, 5, 1, 0);
  OK(graft_boft_merge(ex, &b, &W.view));
  IS(W, -10, 6, 0, 4);
  OK(graft_boft_unmerge(ex, &b, &W.view));
  IS(W, 3, 5, 1, 0);
}

static void test_kernels(graft_executor const* ex, int32_t X, int32_t P, int32_t S) {
  array W, A, B, norms, logits, p, dp, dlogits, codes, scores, values, ids;
  MATRIX(W, X, 2, 2, 3, 4, 0, 5);
  VECTOR(norms, S, 0, 0);
  OK(graft_row_norms(ex, &W.view, NULL, NULL, 1.0, NULL, &norms.view));
  IS(norms, 5, 5);
  MATRIX(A, P, 1, 2, 1, 0);
  MATRIX(B, P, 2, 1, 1, 6);
  OK(graft_row_norms(ex, &W.view, &B.view, &A.view, 2.0, NULL, &norms.view));
  CHECK(fabs(get(&norms, 0) - sqrt(41.0)) < 1e-6 && get(&norms, 1) == 13);
  REFUSED(graft_row_norms(ex, &W.view, &B.view, NULL, 2.0, NULL, &norms.view), GRAFT_ERROR_ARGUMENT, "A is missing");

  MATRIX(logits, X, 1, 2, 1, 1);
  MATRIX(p, P, 1, 2, 0, 0);
  OK(graft_softmax(ex, &logits.view, 1.0, &p.view, NULL));
  IS(p, 0.5, 0.5);
  VECTOR(codes, GRAFT_INT32, 7);
  OK(graft_softmax(ex, &logits.view, 1.0, &p.view, &codes.view));
  IS(codes, 0);
  MATRIX(dp, P, 1, 2, 1, 0);
  MATRIX(dlogits, X, 1, 2, 1, 1);
  OK(graft_softmax_backward(ex, &p.view, &dp.view, 1.0, &dlogits.view));
  IS(dlogits, 1.25, 0.75);
  REFUSED(graft_softmax(ex, &logits.view, 0.0, &p.view, NULL), GRAFT_ERROR_ARGUMENT, "temperature");

  MATRIX(scores, P, 1, 3, 1, 3, 2);
  MATRIX(values, P, 1, 2, 0, 0);
  MATRIX(ids, GRAFT_INT32, 1, 2, 9, 9);
  OK(graft_top_k(ex, &scores.view, &ids.view, &values.view));
  IS(ids, 1, 2);
  IS(values, 3, 2);
  MATRIX(ids, GRAFT_INT64, 1, 2, 9, 9);
  OK(graft_top_k(ex, &scores.view, &ids.view, NULL));
  IS(ids, 1, 2);
}

static void test_gates(graft_executor const* ex, int32_t X, int32_t P, int32_t S, int32_t I) {
  array logits, ids, weights, dweights, dlogits, bias, codes;
  graft_gate g = graft_softmax_topk(1);
  MATRIX(logits, X, 2, 2, 1, 1, 4, 4);
  MATRIX(ids, I, 2, 2, 9, 9, 9, 9);
  MATRIX(weights, P, 2, 2, 9, 9, 9, 9);
  VECTOR(codes, GRAFT_INT32, 9, 9);
  OK(graft_route(ex, &g, &logits.view, NULL, &ids.view, &weights.view, NULL));
  IS(ids, 0, 1, 0, 1);
  IS(weights, 0.5, 0.5, 0.5, 0.5);
  MATRIX(dweights, P, 2, 2, 1, 0, 0, 1);
  MATRIX(dlogits, X, 2, 2, 0, 0, 0, 0);
  OK(graft_route_backward(ex, &g, &logits.view, &ids.view, &dweights.view, &dlogits.view, NULL));
  IS(dlogits, 0.25, -0.25, -0.25, 0.25);
  OK(graft_route_backward(ex, &g, &logits.view, &ids.view, &dweights.view, &dlogits.view, &codes.view));
  IS(dlogits, 0.5, -0.5, -0.5, 0.5);
  IS(codes, 0, 0);
  MATRIX(ids, I, 2, 2, 0, 1, 0, 5);
  REFUSED(graft_route_backward(ex, &g, &logits.view, &ids.view, &dweights.view, &dlogits.view, NULL), GRAFT_ERROR_DATA,
          "token 1");
  OK(graft_route_backward(ex, &g, &logits.view, &ids.view, &dweights.view, &dlogits.view, &codes.view));
  IS(codes, 0, GRAFT_FAULT_BAD_ID);

  g = graft_switch_top1();
  MATRIX(ids, I, 2, 1, 9, 9);
  MATRIX(weights, P, 2, 1, 9, 9);
  OK(graft_route(ex, &g, &logits.view, NULL, &ids.view, &weights.view, NULL));
  IS(ids, 0, 0);
  IS(weights, 0.5, 0.5);

  g = graft_sigmoid_topk(); /* with a bias that only chooses */
  g.scale = 2.0;
  VECTOR(bias, S, 0, 1);
  MATRIX(logits, X, 2, 2, 0, 0, 0, 0);
  OK(graft_route(ex, &g, &logits.view, &bias.view, &ids.view, &weights.view, &codes.view));
  IS(ids, 1, 1);
  IS(weights, 2, 2);
  IS(codes, 0, 0);
  g.renormalize = 0;
  OK(graft_route(ex, &g, &logits.view, NULL, &ids.view, &weights.view, NULL));
  IS(ids, 0, 0);
  IS(weights, 1, 1);

  g = graft_top_p(0.6);
  MATRIX(logits, X, 1, 4, 2, 2, 2, 2);
  MATRIX(ids, I, 1, 4, 9, 9, 9, 9);
  MATRIX(weights, P, 1, 4, 9, 9, 9, 9);
  OK(graft_route(ex, &g, &logits.view, NULL, &ids.view, &weights.view, NULL));
  IS(ids, 0, 1, 2, -1);
  IS(weights, 0.25, 0.25, 0.25, 0);
  g = graft_topk_softmax();
  g.groups = 2; /* of equal size; of equal scores the lower one */
  MATRIX(ids, I, 1, 2, 9, 9);
  MATRIX(weights, P, 1, 2, 9, 9);
  OK(graft_route(ex, &g, &logits.view, NULL, &ids.view, &weights.view, NULL));
  IS(ids, 0, 1);
  g = graft_gshard_top2();
  g.second_expert = GRAFT_SECOND_ABOVE_THRESHOLD;
  g.threshold = 0.75;
  OK(graft_route(ex, &g, &logits.view, NULL, &ids.view, &weights.view, NULL));
  IS(ids, 0, -1);
  CHECK(fabs(get(&weights, 0) - 0.5) < 1e-6 && get(&weights, 1) == 0);

  /* what is wrong with a row */
  g = graft_softmax_topk(1);
  MATRIX(logits, X, 2, 2, 1, 1, 1, 1);
  if (X == GRAFT_FLOAT32 || X == GRAFT_FLOAT64) {
    put(&logits, 3, (double)NAN);
    MATRIX(ids, I, 2, 1, 9, 9);
    MATRIX(weights, P, 2, 1, 9, 9);
    REFUSED(graft_route(ex, &g, &logits.view, NULL, &ids.view, &weights.view, NULL), GRAFT_ERROR_DATA, "token 1");
    OK(graft_route(ex, &g, &logits.view, NULL, &ids.view, &weights.view, &codes.view));
    IS(codes, 0, GRAFT_FAULT_NAN);
    IS(ids, 0, -1);
    IS(weights, 1, 0);
    g.non_finite = GRAFT_NON_FINITE_LAST;
    OK(graft_route(ex, &g, &logits.view, NULL, &ids.view, &weights.view, NULL));
    IS(ids, 0, 0);
  }
  g.score = 7;
  REFUSED(graft_route(ex, &g, &logits.view, NULL, &ids.view, &weights.view, NULL), GRAFT_ERROR_ARGUMENT,
          "gate->score is 7");
}

static void test_plans(graft_executor const* ex, int32_t X, int32_t P, int32_t I) {
  array x, rows, weights, y, dy, dx, drows, dweights, ids, scores, positions;
  static int64_t memory[512];
  graft_plan p;
  graft_capacity c;
  size_t bytes = 0;
  int64_t i;
  static int64_t const permutation[6] = {0, 3, 1, 2, 4, 5};
  MATRIX(ids, I, 3, 2, 0, 1, 1, 0, 1, 2);
  OK(graft_plan_bytes(6, 3, 1, 2, &bytes));
  CHECK(bytes > 6 * 25 && bytes <= sizeof memory);
  OK(graft_plan_make(ex, &ids.view, 3, 1, 2, NULL, NULL, NULL, memory, bytes, &p));
  CHECK(p.tokens == 3 && p.choices == 2 && p.experts == 3 && p.pairs == 6 && p.rows == 6);
  CHECK(p.counts[0] == 2 && p.counts[1] == 3 && p.counts[2] == 1);
  CHECK(p.offsets[0] == 0 && p.offsets[1] == 2 && p.offsets[2] == 5 && p.offsets[3] == 6);
  for (i = 0; i < 6; ++i) {
    CHECK(p.permutation[i] == permutation[i] && p.inverse[permutation[i]] == i && p.dropped[i] == 0);
    CHECK(p.row_tokens[i] == permutation[i] / 2);
  }
  CHECK(p.tiles == 4 && p.tile_experts[0] == 0 && p.tile_experts[1] == 1 && p.tile_rows[2] == 4);

  MATRIX(x, X, 3, 1, 1, 2, 3);
  MATRIX(rows, X, 6, 1, 9, 9, 9, 9, 9, 9);
  MATRIX(weights, P, 3, 2, 0.5, 1, 1, 2, 4, 0.25);
  OK(graft_dispatch(ex, &p, &x.view, NULL, &rows.view));
  IS(rows, 1, 2, 1, 2, 3, 3);
  OK(graft_dispatch(ex, &p, &x.view, &weights.view, &rows.view));
  IS(rows, 0.5, 4, 1, 2, 12, 0.75);
  MATRIX(rows, X, 6, 1, 1, 2, 4, 8, 16, 32);
  MATRIX(y, X, 3, 1, 1, 1, 1);
  OK(graft_combine(ex, &p, &rows.view, NULL, &y.view));
  IS(y, 5, 10, 48);
  OK(graft_combine(ex, &p, &rows.view, &weights.view, &y.view));
  IS(y, 4.5, 12, 72);
  OK(graft_combine_add(ex, &p, &rows.view, NULL, &y.view));
  IS(y, 9.5, 22, 120);
  MATRIX(dx, X, 3, 1, 1, 1, 1);
  OK(graft_dispatch_backward(ex, &p, &rows.view, &dx.view));
  IS(dx, 6, 11, 49);
  MATRIX(dy, X, 3, 1, 1, 2, 3);
  MATRIX(drows, X, 6, 1, 9, 9, 9, 9, 9, 9);
  MATRIX(dweights, P, 3, 2, 9, 9, 9, 9, 9, 9);
  OK(graft_combine_backward(ex, &p, &rows.view, &weights.view, &dy.view, &drows.view, &dweights.view));
  IS(drows, 0.5, 4, 1, 2, 12, 0.75);
  IS(dweights, 1, 4, 16, 4, 48, 96);
  OK(graft_combine_backward(ex, &p, &rows.view, NULL, &dy.view, &drows.view, NULL));
  IS(drows, 1, 2, 1, 2, 3, 3);

  /* capacity: two places an expert; expert 1 is asked three times */
  c = graft_capacity_factor(1.0); /* ceil(3 * 2 * 1 / 3) = 2 */
  MATRIX(positions, I, 3, 2, 9, 9, 9, 9, 9, 9);
  OK(graft_plan_make(ex, &ids.view, 3, 1, 0, &c, NULL, &positions.view, memory, bytes, &p));
  CHECK(p.dropped[4] == 1 && p.inverse[4] == -1 && p.counts[1] == 2 && p.offsets[3] == 5 && p.tiles == 0);
  IS(positions, 0, 0, 1, 1, 2, 0);
  c.order = GRAFT_DROP_BY_PROBABILITY;
  MATRIX(scores, P, 3, 2, 0, 1, 2, 0, 4, 0);
  OK(graft_plan_make(ex, &ids.view, 3, 1, 0, &c, &scores.view, NULL, memory, bytes, &p));
  CHECK(p.dropped[1] == 1 && p.dropped[4] == 0);
  REFUSED(graft_plan_make(ex, &ids.view, 3, 1, 0, &c, NULL, NULL, memory, bytes, &p), GRAFT_ERROR_ARGUMENT, "scores");
  REFUSED(graft_plan_make(ex, &ids.view, 3, 1, 0, &c, &scores.view, &positions.view, memory, bytes, &p),
          GRAFT_ERROR_ARGUMENT, "orders token and choice");
  c.order = GRAFT_DROP_BATCH_PRIORITY;
  OK(graft_plan_make(ex, &ids.view, 3, 1, 0, &c, &scores.view, NULL, memory, bytes, &p));
  c.order = GRAFT_DROP_RANDOM;
  OK(graft_plan_make(ex, &ids.view, 3, 4, 0, &c, NULL, NULL, memory, sizeof memory, &p));
  CHECK(p.offsets[1] == 4);
  REFUSED(graft_plan_make(ex, &ids.view, 2, 1, 0, NULL, NULL, NULL, memory, bytes, &p), GRAFT_ERROR_DATA, "token 2");
  REFUSED(graft_plan_make(ex, &ids.view, 3, 1, 0, NULL, NULL, NULL, memory, 8, &p), GRAFT_ERROR_ARGUMENT, "bytes");
  REFUSED(graft_plan_bytes(-1, 3, 1, 0, &bytes), GRAFT_ERROR_ARGUMENT, "-1 pairs");
}

/* ---- errors, strides, executors */

static void test_errors(void) {
  graft_executor const serial = graft_serial();
  graft_executor strange = graft_serial();
  array x, y, A, B;
  graft_lora l;
  graft_view v;
  memset(&l, 0, sizeof l);
  MATRIX(x, GRAFT_FLOAT32, 2, 3, 1, 2, 3, 4, 5, 6);
  MATRIX(y, GRAFT_FLOAT32, 2, 2, 0, 0, 0, 0);
  MATRIX(A, GRAFT_FLOAT32, 1, 3, 1, 1, 1);
  MATRIX(B, GRAFT_FLOAT32, 2, 1, 1, -1);
  l.A = A.view;
  l.B = B.view;
  l.scale = 1.0;
  REFUSED(graft_lora_add_delta(NULL, &l, &x.view, &y.view), GRAFT_ERROR_ARGUMENT,
          "graft_lora_add_delta: the executor is a null");
  REFUSED(graft_lora_add_delta(&serial, NULL, &x.view, &y.view), GRAFT_ERROR_ARGUMENT, "lora is a null pointer");
  REFUSED(graft_lora_add_delta(&serial, &l, NULL, &y.view), GRAFT_ERROR_ARGUMENT, "x is missing");
  v = graft_none();
  REFUSED(graft_lora_add_delta(&serial, &l, &x.view, &v), GRAFT_ERROR_ARGUMENT, "y is missing");
  v = graft_view_1d(x.bytes, GRAFT_FLOAT32, 3);
  REFUSED(graft_lora_add_delta(&serial, &l, &v, &y.view), GRAFT_ERROR_SHAPE, "x has rank 1 but must have rank 2");
  v = graft_view_2d(x.bytes, GRAFT_FLOAT32, 2, 2);
  REFUSED(graft_lora_add_delta(&serial, &l, &v, &y.view), GRAFT_ERROR_SHAPE, "[2, 2]");
  v = graft_view_2d(x.bytes, GRAFT_FLOAT32, -2, 3);
  REFUSED(graft_lora_add_delta(&serial, &l, &v, &y.view), GRAFT_ERROR_SHAPE, "extent 0 of x is -2");
  v = graft_view_2d(x.bytes, GRAFT_FLOAT32, INT64_MAX, 3);
  REFUSED(graft_lora_add_delta(&serial, &l, &v, &y.view), GRAFT_ERROR_SHAPE, "64 bits");
  v = graft_view_2d(NULL, GRAFT_FLOAT32, 2, 3);
  REFUSED(graft_lora_add_delta(&serial, &l, &v, &y.view), GRAFT_ERROR_ARGUMENT, "pointer is null");
  v = graft_view_2d(x.bytes, GRAFT_FLOAT32, 2, 2);
  REFUSED(graft_lora_add_delta(&serial, &l, &x.view, &v), GRAFT_ERROR_ARGUMENT, "shares memory");
  v = x.view;
  v.dtype = 77;
  REFUSED(graft_lora_add_delta(&serial, &l, &v, &y.view), GRAFT_ERROR_UNSUPPORTED, "unknown");
  v = x.view;
  v.dtype = GRAFT_BFLOAT16;
  REFUSED(graft_lora_add_delta(&serial, &l, &v, &y.view), GRAFT_ERROR_UNSUPPORTED,
          "y is float32 but x is bfloat16; activations have one dtype");
  l.A.dtype = GRAFT_FLOAT64;
  REFUSED(graft_lora_add_delta(&serial, &l, &x.view, &y.view), GRAFT_ERROR_UNSUPPORTED,
          "B is float32 but A is float64; parameters have one dtype");
  l.B.dtype = GRAFT_FLOAT64;
  REFUSED(graft_lora_add_delta(&serial, &l, &x.view, &y.view), GRAFT_ERROR_UNSUPPORTED,
          "x is float32 and A is float64; supported pairs");
  l.A = A.view;
  l.B = B.view;
  {
    int64_t const shape = 2, stride = 2;
    l.bias = graft_view_strided(B.bytes, GRAFT_FLOAT32, 1, &shape, &stride);
    REFUSED(graft_lora_add_delta(&serial, &l, &x.view, &y.view), GRAFT_ERROR_UNSUPPORTED,
            "bias is a vector with the stride 2");
    l.bias = graft_none();
  }
  strange.kind = 9;
  REFUSED(graft_lora_add_delta(&strange, &l, &x.view, &y.view), GRAFT_ERROR_ARGUMENT, "the kind 9");
  strange = graft_openmp(-1);
#ifdef WITH_OPENMP
  REFUSED(graft_lora_add_delta(&strange, &l, &x.view, &y.view), GRAFT_ERROR_ARGUMENT, "-1 threads");
#else
  REFUSED(graft_lora_add_delta(&strange, &l, &x.view, &y.view), GRAFT_ERROR_UNSUPPORTED, "without -fopenmp");
#endif
  strange = graft_reference();
  l.A.dtype = l.B.dtype = GRAFT_BFLOAT16;
  v = y.view;
  x.view.dtype = v.dtype = GRAFT_BFLOAT16;
  REFUSED(graft_lora_add_delta(&strange, &l, &x.view, &v), GRAFT_ERROR_UNSUPPORTED,
          "GRAFT_REFERENCE takes float32 or float64 only");
  IS(y, 0, 0, 0, 0); /* nothing was written */

  CHECK(isnan(graft_lora_scale(1.0, 0)) && strstr(graft_last_error(), "rank is 0") != NULL);
  CHECK(graft_rslora_scale(8.0, 16) == 2.0 && isnan(graft_rslora_scale(1.0, -1)));
  CHECK(graft_lora_packed_size(65, 2) == 256 && graft_lora_packed_size(0, 2) == 0);
  CHECK(strcmp(graft_status_name(GRAFT_ERROR_DATA), "data") == 0);
  CHECK(strcmp(graft_status_name(55), "unknown") == 0);
  CHECK(strcmp(graft_dtype_name(GRAFT_BFLOAT16), "bfloat16") == 0 && strcmp(graft_dtype_name(0), "unknown") == 0);
  CHECK(graft_dtype_bytes(GRAFT_INT64) == 8 && graft_dtype_bytes(0) == 0);
  CHECK(strcmp(graft_version(), "0.1.0") == 0);
}

static void test_strides(graft_executor const* ex) {
  /* y is every second column of a buffer, x is transposed with rows from the back, A is one row for all */
  static float const xt[6] = {0, 1, -1, 2, 2, 3}; /* [3, 2]: column 1 is the first token */
  float y[8] = {9, 5, 9, 5, 9, 5, 9, 5};
  static float const one = 1.0F;
  static float const b[2] = {1, -1};
  int64_t const x_shape[2] = {2, 3}, x_strides[2] = {-1, 2}, y_shape[2] = {2, 2}, y_strides[2] = {4, 2};
  int64_t const a_shape[2] = {1, 3}, a_strides[2] = {0, 0};
  graft_view const x = graft_view_strided(xt + 1, GRAFT_FLOAT32, 2, x_shape, x_strides);
  graft_view const out = graft_view_strided(y, GRAFT_FLOAT32, 2, y_shape, y_strides);
  graft_lora l;
  memset(&l, 0, sizeof l);
  l.A = graft_view_strided(&one, GRAFT_FLOAT32, 2, a_shape, a_strides);
  l.B = graft_view_transposed(graft_view_2d(b, GRAFT_FLOAT32, 1, 2));
  l.scale = 2.0;
  OK(graft_lora_add_delta(ex, &l, &x, &out));
  CHECK(y[0] == 21 && y[2] == -3 && y[4] == 11 && y[6] == 7);
  CHECK(y[1] == 5 && y[3] == 5 && y[5] == 5 && y[7] == 5);
}

typedef struct pool {
  int taken, given_back;
  int refuses, shifts;
} pool;
static void* take(void* context, size_t bytes, size_t alignment) {
  pool* const p = (pool*)context;
  unsigned char* memory;
  if (p->refuses) return NULL;
  ++p->taken;
  memory = (unsigned char*)malloc(bytes + 2 * alignment);
  /* the pointer that malloc gave lies in front */
  {
    unsigned char* const aligned =
        memory + sizeof(void*) + alignment - ((uintptr_t)(memory + sizeof(void*)) % alignment) + (p->shifts ? 4 : 0);
    memcpy(aligned - sizeof(void*), &memory, sizeof memory);
    return aligned;
  }
}
static void give_back(void* context, void* memory, size_t bytes, size_t alignment) {
  pool* const p = (pool*)context;
  void* given;
  (void)bytes;
  (void)alignment;
  ++p->given_back;
  memcpy(&given, (unsigned char*)memory - sizeof given, sizeof given);
  free(given);
}
static void test_scratch(void) {
  pool p = {0, 0, 0, 0};
  graft_executor ex = graft_serial();
  array x, y, A, B;
  graft_lora l;
  memset(&l, 0, sizeof l);
  MATRIX(x, GRAFT_FLOAT32, 2, 3, 1, 2, 3, 4, 5, 6);
  MATRIX(y, GRAFT_FLOAT32, 2, 2, 0, 0, 0, 0);
  MATRIX(A, GRAFT_FLOAT32, 1, 3, 1, 1, 1);
  MATRIX(B, GRAFT_FLOAT32, 2, 1, 1, -1);
  l.A = A.view;
  l.B = B.view;
  l.scale = 1.0;
  ex.allocate = take;
  REFUSED(graft_lora_add_delta(&ex, &l, &x.view, &y.view), GRAFT_ERROR_ARGUMENT, "give both or neither");
  ex.deallocate = give_back;
  ex.context = &p;
  OK(graft_lora_add_delta(&ex, &l, &x.view, &y.view));
  IS(y, 6, -6, 15, -15);
  CHECK(p.taken == 1 && p.given_back == 1);
  p.shifts = 1;
  REFUSED(graft_lora_add_delta(&ex, &l, &x.view, &y.view), GRAFT_ERROR_ARGUMENT, "alignment of 64");
  CHECK(p.taken == 2 && p.given_back == 2);
  p.refuses = 1;
  REFUSED(graft_lora_add_delta(&ex, &l, &x.view, &y.view), GRAFT_ERROR_OUT_OF_MEMORY, "scratch");
}

/* ---- sizes and offsets, as JSON */

#define STRUCT(type) printf("%s\"%s\": {\"\": %lu", first++ ? "},\n " : "{", #type, (unsigned long)sizeof(type))
#define FIELD(type, field) printf(", \"%s\": %lu", #field, (unsigned long)offsetof(type, field))
static void print_layout(void) {
  int first = 0;
  STRUCT(graft_executor);
  FIELD(graft_executor, kind), FIELD(graft_executor, threads), FIELD(graft_executor, allocate);
  FIELD(graft_executor, deallocate), FIELD(graft_executor, context);
  STRUCT(graft_view);
  FIELD(graft_view, data), FIELD(graft_view, dtype), FIELD(graft_view, rank), FIELD(graft_view, shape);
  FIELD(graft_view, strides);
  STRUCT(graft_lora);
  FIELD(graft_lora, A), FIELD(graft_lora, B), FIELD(graft_lora, bias), FIELD(graft_lora, scale);
  STRUCT(graft_lora_gradients);
  FIELD(graft_lora_gradients, A), FIELD(graft_lora_gradients, B), FIELD(graft_lora_gradients, bias);
  STRUCT(graft_packed_lora);
  FIELD(graft_packed_lora, A), FIELD(graft_packed_lora, panels), FIELD(graft_packed_lora, bias);
  FIELD(graft_packed_lora, scale), FIELD(graft_packed_lora, out_features);
  STRUCT(graft_dora);
  FIELD(graft_dora, A), FIELD(graft_dora, B), FIELD(graft_dora, magnitude), FIELD(graft_dora, norms);
  FIELD(graft_dora, scale);
  STRUCT(graft_dora_gradients);
  FIELD(graft_dora_gradients, A), FIELD(graft_dora_gradients, B), FIELD(graft_dora_gradients, magnitude);
  STRUCT(graft_vera);
  FIELD(graft_vera, A), FIELD(graft_vera, B), FIELD(graft_vera, d), FIELD(graft_vera, b);
  STRUCT(graft_packed_vera);
  FIELD(graft_packed_vera, A), FIELD(graft_packed_vera, panels), FIELD(graft_packed_vera, d);
  FIELD(graft_packed_vera, b);
  STRUCT(graft_vera_gradients);
  FIELD(graft_vera_gradients, d), FIELD(graft_vera_gradients, b);
  STRUCT(graft_oft);
  FIELD(graft_oft, parameters), FIELD(graft_oft, rotations), FIELD(graft_oft, features);
  FIELD(graft_oft, block_size), FIELD(graft_oft, terms);
  STRUCT(graft_boft);
  FIELD(graft_boft, parameters), FIELD(graft_boft, s), FIELD(graft_boft, rotations);
  STRUCT(graft_gate);
  FIELD(graft_gate, score), FIELD(graft_gate, renormalize), FIELD(graft_gate, epsilon), FIELD(graft_gate, scale);
  FIELD(graft_gate, temperature), FIELD(graft_gate, top_p), FIELD(graft_gate, groups), FIELD(graft_gate, kept_groups);
  FIELD(graft_gate, second_expert), FIELD(graft_gate, non_finite), FIELD(graft_gate, threshold);
  FIELD(graft_gate, seed), FIELD(graft_gate, stream);
  STRUCT(graft_plan);
  FIELD(graft_plan, tokens), FIELD(graft_plan, choices), FIELD(graft_plan, experts), FIELD(graft_plan, pairs);
  FIELD(graft_plan, rows), FIELD(graft_plan, tiles), FIELD(graft_plan, alignment), FIELD(graft_plan, tile);
  FIELD(graft_plan, counts), FIELD(graft_plan, offsets), FIELD(graft_plan, permutation), FIELD(graft_plan, row_tokens);
  FIELD(graft_plan, inverse), FIELD(graft_plan, dropped), FIELD(graft_plan, tile_experts), FIELD(graft_plan, tile_rows);
  FIELD(graft_plan, status);
  STRUCT(graft_capacity);
  FIELD(graft_capacity, factor), FIELD(graft_capacity, minimum), FIELD(graft_capacity, fixed);
  FIELD(graft_capacity, per_choice), FIELD(graft_capacity, rounds_up), FIELD(graft_capacity, order);
  FIELD(graft_capacity, group), FIELD(graft_capacity, seed), FIELD(graft_capacity, stream);
  printf("}}\n");
}

int main(int count, char** arguments) {
  static int32_t const pairs[6][2] = {{GRAFT_FLOAT32, GRAFT_FLOAT32}, {GRAFT_BFLOAT16, GRAFT_BFLOAT16},
                                      {GRAFT_FLOAT16, GRAFT_FLOAT16}, {GRAFT_BFLOAT16, GRAFT_FLOAT32},
                                      {GRAFT_FLOAT16, GRAFT_FLOAT32}, {GRAFT_FLOAT64, GRAFT_FLOAT64}};
  static char const* const levels[3] = {"baseline", "avx2", "avx512"};
  char text[80];
  int i, k, level;
  if (count > 1 && strcmp(arguments[1], "--layout") == 0) {
    print_layout();
    return 0;
  }
  CHECK(strcmp(graft_last_error(), "") == 0);
  for (level = 2; level >= 0; --level) {
    OK(graft_limit_isa(level));
    CHECK(graft_isa() != NULL && (strcmp(graft_isa(), levels[level]) == 0 || level > 0));
    for (k = 0; k < 3; ++k) {
      graft_executor const ex = k == 0 ? graft_reference() : k == 1 ? graft_serial() : graft_openmp(2);
#ifndef WITH_OPENMP
      if (k == 2) continue;
#endif
      for (i = 0; i < 6; ++i) {
        int32_t const X = pairs[i][0], P = pairs[i][1];
        int32_t const S = X == GRAFT_FLOAT64 ? GRAFT_FLOAT64 : GRAFT_FLOAT32;
        if (k == 0 && (graft_dtype_bytes(X) == 2 || graft_dtype_bytes(P) == 2)) continue;
        sprintf(text, "executor %d, %s and %s, %s", k, graft_dtype_name(X), graft_dtype_name(P), graft_isa());
        where = text;
        test_lora(&ex, X, P);
        test_dora(&ex, X, P, S);
        test_vera(&ex, X, P);
        test_rotations(&ex, X, P, S);
        test_kernels(&ex, X, P, S);
        test_gates(&ex, X, P, S, GRAFT_INT32);
        test_gates(&ex, X, P, S, GRAFT_INT64);
        test_plans(&ex, X, P, GRAFT_INT32);
        test_plans(&ex, X, P, GRAFT_INT64);
      }
      where = "strides";
      test_strides(&ex);
    }
  }
  where = "";
  REFUSED(graft_limit_isa(3), GRAFT_ERROR_ARGUMENT, "no level 3");
  test_errors();
  test_scratch();
  printf("%ld checks, %d wrong\n", checks, wrong);
  return wrong == 0 ? 0 : 1;
}
