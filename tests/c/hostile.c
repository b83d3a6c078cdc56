// What no caller should pass, one thing at a time: every view of every function with wrong ranks, extents, strides,
// types and addresses, and numbers out of their range. Nothing may crash (run it with sanitizers), a refusal has a
// sentence, and where one is found before data is read, nothing was written.
#include <graft/c/graft.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int wrong = 0;
static long checks = 0, refusals = 0;

#define CHECK(condition)                                                                          \
  do {                                                                                            \
    ++checks;                                                                                     \
    if (!(condition)) {                                                                           \
      ++wrong;                                                                                    \
      printf("line %d: %s is false; last error: %s\n", __LINE__, #condition, graft_last_error()); \
    }                                                                                             \
  } while (0)

enum { T = 2, n = 4, m = 4, r = 2, E = 4, k = 2, H = 4, b = 2, D = 2, N = 2, most_views = 12, each = 4096 };

/* Of every view: its elements begin in the middle, so that negative strides stay inside. */
static union {
  double aligned[most_views * each / 8];
  unsigned char bytes[most_views * each];
} memory, before;
static float* at(int i) { return (float*)(void*)(memory.bytes + (size_t)i * each + each / 2); }

static graft_view v[most_views];
static int views;
static char const* name;
static graft_executor ex;
static graft_plan plan;
static int64_t plan_memory[64 * 20], plan_before[64 * 20];

static void begin(char const* function) {
  name = function;
  views = 0;
  memset(&memory, 0, sizeof memory);
  memset(v, 0, sizeof v);
}
static void fill(int64_t count) {
  int64_t i;
  for (i = 0; i < count; ++i) at(views)[i] = 1.0F + (float)i;
}
static void add1(int64_t a) { fill(a), v[views] = graft_view_1d(at(views), GRAFT_FLOAT32, a), ++views; }
static void add2(int64_t a, int64_t c) {
  fill(a * c), v[views] = graft_view_2d(at(views), GRAFT_FLOAT32, a, c), ++views;
}
static void add3(int64_t a, int64_t c, int64_t d) {
  fill(a * c * d), v[views] = graft_view_3d(at(views), GRAFT_FLOAT32, a, c, d), ++views;
}
static void add4(int64_t a, int64_t c, int64_t d, int64_t e) {
  fill(a * c * d * e), v[views] = graft_view_4d(at(views), GRAFT_FLOAT32, a, c, d, e), ++views;
}
static void add_ids(int rank) {
  int32_t const ids[T * k] = {0, 2, 1, 0};
  memcpy(at(views), ids, sizeof ids);
  v[views] = rank == 1 ? graft_view_1d(at(views), GRAFT_INT32, T) : graft_view_2d(at(views), GRAFT_INT32, T, k);
  ++views;
}

/* ---- functions, of v[0], v[1], ... */

static graft_lora lora(void) {
  graft_lora l;
  memset(&l, 0, sizeof l);
  l.A = v[0], l.B = v[1], l.bias = v[2], l.scale = 0.5;
  return l;
}
static void with_lora(char const* function) { begin(function), add2(r, n), add2(m, r), add1(m); }
static graft_status lora_add_delta(void) {
  graft_lora const l = lora();
  return graft_lora_add_delta(&ex, &l, &v[3], &v[4]);
}
static graft_status lora_backward(void) {
  graft_lora const l = lora();
  graft_lora_gradients g;
  g.A = v[5], g.B = v[6], g.bias = v[7];
  return graft_lora_backward(&ex, &l, &v[3], &v[4], &g, &v[8]);
}
static graft_status lora_merge(void) {
  graft_lora const l = lora();
  return graft_lora_merge(&ex, &l, &v[3], &v[4]);
}
static graft_status lora_delta_weight(void) {
  graft_lora const l = lora();
  return graft_lora_delta_weight(&ex, &l, &v[3]);
}
static graft_status lora_initialize(void) {
  graft_lora const l = lora();
  return graft_lora_initialize(&ex, &l, GRAFT_KAIMING_UNIFORM, 1, 2);
}
static graft_status lora_pack(void) {
  graft_lora const l = lora();
  graft_packed_lora packed;
  return graft_lora_pack(&ex, &l, v[3].data, v[3].shape[0], &packed);
}
static graft_status packed_lora_add_delta(void) {
  graft_packed_lora l;
  l.A = v[0], l.panels = v[1], l.bias = v[2], l.scale = 0.5, l.out_features = m;
  return graft_packed_lora_add_delta(&ex, &l, &v[3], &v[4]);
}
static graft_dora dora(void) {
  graft_dora d;
  d.A = v[0], d.B = v[1], d.magnitude = v[2], d.norms = v[3], d.scale = 0.5;
  return d;
}
static void with_dora(char const* function) { begin(function), add2(r, n), add2(m, r), add1(m), add1(m); }
static graft_status dora_update_norms(void) {
  graft_dora const d = dora();
  return graft_dora_update_norms(&ex, &d, &v[4], &v[5]);
}
static graft_status dora_prepare(void) {
  graft_dora const d = dora();
  return graft_dora_prepare(&ex, &d, &v[4]);
}
static graft_status dora_transform_output(void) {
  graft_dora const d = dora();
  return graft_dora_transform_output(&ex, &d, &v[4], &v[5], &v[6]);
}
static graft_status dora_transform_output_prepared(void) {
  graft_dora const d = dora();
  return graft_dora_transform_output_prepared(&ex, &d, &v[3], &v[4], &v[5]);
}
static graft_status dora_backward(void) {
  graft_dora const d = dora();
  graft_dora_gradients g;
  g.A = v[7], g.B = v[8], g.magnitude = v[9];
  return graft_dora_backward(&ex, &d, &v[4], &v[5], &v[6], &g, &v[10]);
}
static graft_status dora_merge(void) {
  graft_dora const d = dora();
  return graft_dora_merge(&ex, &d, &v[4]);
}
static graft_status dora_unmerge(void) {
  graft_dora const d = dora();
  return graft_dora_unmerge(&ex, &d, &v[4]);
}
static graft_vera vera(void) {
  graft_vera a;
  a.A = v[0], a.B = v[1], a.d = v[2], a.b = v[3];
  return a;
}
static void with_vera(char const* function) { begin(function), add2(r, n), add2(m, r), add1(r), add1(m); }
static graft_status vera_add_delta(void) {
  graft_vera const a = vera();
  return graft_vera_add_delta(&ex, &a, &v[4], &v[5]);
}
static graft_status vera_pack(void) {
  graft_vera const a = vera();
  graft_packed_vera packed;
  return graft_vera_pack(&ex, &a, v[4].data, v[4].shape[0], &packed);
}
static graft_status packed_vera_add_delta(void) {
  graft_packed_vera a;
  a.A = v[0], a.panels = v[1], a.d = v[2], a.b = v[3];
  return graft_packed_vera_add_delta(&ex, &a, &v[4], &v[5]);
}
static graft_status vera_backward(void) {
  graft_vera const a = vera();
  graft_vera_gradients g;
  g.d = v[6], g.b = v[7];
  return graft_vera_backward(&ex, &a, &v[4], &v[5], &g, &v[8]);
}
static graft_status vera_merge(void) {
  graft_vera const a = vera();
  return graft_vera_merge(&ex, &a, &v[4]);
}
static graft_status vera_delta_weight(void) {
  graft_vera const a = vera();
  return graft_vera_delta_weight(&ex, &a, &v[4]);
}
static int64_t oft_features, oft_block;
static int32_t oft_terms;
static graft_oft oft(void) {
  graft_oft o;
  o.parameters = v[0], o.rotations = v[1], o.features = oft_features, o.block_size = oft_block, o.terms = oft_terms;
  return o;
}
static void with_oft(char const* function) {
  begin(function), add2(D, b * (b - 1) / 2), add3(D, b, b);
  oft_features = n, oft_block = b, oft_terms = 0;
}
static graft_status oft_update_rotations(void) {
  graft_oft const o = oft();
  return graft_oft_update_rotations(&ex, &o);
}
static graft_status oft_transform_input(void) {
  graft_oft const o = oft();
  return graft_oft_transform_input(&ex, &o, &v[2], &v[3]);
}
static graft_status oft_backward_input(void) {
  graft_oft const o = oft();
  return graft_oft_backward_input(&ex, &o, &v[2], &v[3], &v[4], &v[5]);
}
static graft_status oft_merge(void) {
  graft_oft const o = oft();
  return graft_oft_merge(&ex, &o, &v[2]);
}
static graft_status oft_unmerge(void) {
  graft_oft const o = oft();
  return graft_oft_unmerge(&ex, &o, &v[2]);
}
static graft_boft boft(void) {
  graft_boft o;
  o.parameters = v[0], o.rotations = v[1], o.s = v[2];
  return o;
}
static void with_boft(char const* function) { begin(function), add4(N, D, b, b), add4(N, D, b, b), add1(m); }
static graft_status boft_update_rotations(void) {
  graft_boft const o = boft();
  return graft_boft_update_rotations(&ex, &o);
}
static graft_status boft_transform_input(void) {
  graft_boft const o = boft();
  return graft_boft_transform_input(&ex, &o, &v[3], &v[4]);
}
static graft_status boft_transform_output(void) {
  graft_boft const o = boft();
  return graft_boft_transform_output(&ex, &o, &v[3], &v[4]);
}
static graft_status boft_backward_output(void) {
  graft_boft const o = boft();
  return graft_boft_backward_output(&ex, &o, &v[3], &v[4], &v[5]);
}
static graft_status boft_backward_input(void) {
  graft_boft const o = boft();
  return graft_boft_backward_input(&ex, &o, &v[3], &v[4], &v[5], &v[6]);
}
static graft_status boft_merge(void) {
  graft_boft const o = boft();
  return graft_boft_merge(&ex, &o, &v[3]);
}
static int32_t cayley_terms;
static graft_status cayley(void) { return graft_cayley(&ex, &v[0], cayley_terms, &v[1]); }
static graft_status row_norms(void) { return graft_row_norms(&ex, &v[0], &v[1], &v[2], 0.5, &v[3], &v[4]); }
static double temperature;
static graft_status softmax(void) { return graft_softmax(&ex, &v[0], temperature, &v[1], &v[2]); }
static graft_status softmax_backward(void) { return graft_softmax_backward(&ex, &v[0], &v[1], temperature, &v[2]); }
static graft_status top_k(void) { return graft_top_k(&ex, &v[0], &v[1], &v[2]); }
static graft_gate gate;
static graft_status route(void) { return graft_route(&ex, &gate, &v[0], &v[1], &v[2], &v[3], &v[4]); }
static graft_status route_backward(void) { return graft_route_backward(&ex, &gate, &v[0], &v[1], &v[2], &v[3], &v[4]); }
static graft_capacity capacity;
static int64_t plan_experts, plan_alignment, plan_tile;
static graft_status plan_make(void) {
  graft_plan made;
  return graft_plan_make(&ex, &v[0], plan_experts, plan_alignment, plan_tile, &capacity, &v[1], &v[2], plan_memory,
                         sizeof plan_memory, &made);
}
static graft_status dispatch(void) { return graft_dispatch(&ex, &plan, &v[0], &v[1], &v[2]); }
static graft_status dispatch_backward(void) { return graft_dispatch_backward(&ex, &plan, &v[0], &v[1]); }
static graft_status combine(void) { return graft_combine(&ex, &plan, &v[0], &v[1], &v[2]); }
static graft_status combine_add(void) { return graft_combine_add(&ex, &plan, &v[0], &v[1], &v[2]); }
static graft_status combine_backward(void) {
  return graft_combine_backward(&ex, &plan, &v[0], &v[1], &v[2], &v[3], &v[4]);
}

/* ---- what is done to them */

static void attempt(graft_status (*call)(void), char const* what, int view, int dimension) {
  graft_status status;
  memcpy(&before, &memory, sizeof memory);
  memcpy(plan_before, plan_memory, sizeof plan_memory);
  status = call();
  CHECK(status >= GRAFT_OK && status < GRAFT_ERROR_INTERNAL);
  if (status != GRAFT_OK) {
    ++refusals;
    CHECK(strncmp(graft_last_error(), "graft", 5) == 0);
    if (status != GRAFT_ERROR_DATA && status != GRAFT_ERROR_OUT_OF_MEMORY) {
      CHECK(memcmp(&before, &memory, sizeof memory) == 0);
      CHECK(memcmp(plan_before, plan_memory, sizeof plan_memory) == 0);
    }
  }
  if (wrong != 0) {
    printf("  %s: status %d, %s of view %d, dimension %d\n", name, (int)status, what, view, dimension);
    exit(1);
  }
  memcpy(&memory, &before, sizeof memory);
  memcpy(plan_memory, plan_before, sizeof plan_memory);
}

/* Either small, or too large for 64 bits in bytes. */
static int64_t const steps[] = {INT64_MIN, -((int64_t)1 << 62), -2, 0, 1, 3, (int64_t)1 << 61, INT64_MAX};
enum { number_of_steps = sizeof steps / sizeof steps[0] };
static int64_t const huge[] = {INT64_MIN, -1, 0, 1, 3, (int64_t)1 << 40, (int64_t)1 << 60, (int64_t)1 << 62, INT64_MAX};
enum { huge_numbers = sizeof huge / sizeof huge[0] };

/* The view whose rows no other view counts: more of them than there are would be looked for, and are not tried. */
static int free_rows = -1;

/* Each view of `call` on its own, after it was seen to be right as it is. */
static void attack(graft_status (*call)(void)) {
  int32_t const ranks[] = {INT32_MIN, -1, 0, 1, 2, 3, 4, 5, INT32_MAX};
  int32_t const dtypes[] = {INT32_MIN, -1, 0, 1, 2, 3, 4, 5, 6, 7, INT32_MAX};
  int i, j, d;
  size_t a, c;
  memcpy(&before, &memory, sizeof memory);
  CHECK(call() == GRAFT_OK);
  memcpy(&memory, &before, sizeof memory);
  for (i = 0; i < views; ++i) {
    graft_view const right = v[i];
    for (a = 0; a < sizeof ranks / sizeof ranks[0]; ++a) v[i].rank = ranks[a], attempt(call, "rank", i, (int)a);
    v[i] = right;
    for (a = 0; a < sizeof dtypes / sizeof dtypes[0]; ++a) v[i].dtype = dtypes[a], attempt(call, "dtype", i, (int)a);
    v[i] = right;
    for (d = 0; d < right.rank; ++d)
      for (a = 0; a < huge_numbers; ++a) {
        if (i == free_rows && d == 0 && huge[a] > right.shape[0]) continue;
        v[i].shape[d] = huge[a], attempt(call, "extent", i, d);
        for (j = 0; j < right.rank; ++j)
          for (c = 0; c < number_of_steps; ++c) v[i].strides[j] = steps[c], attempt(call, "extent and stride", i, d);
        v[i] = right;
      }
    for (d = 0; d < right.rank; ++d)
      for (a = 0; a < number_of_steps; ++a)
        for (c = 0; c < number_of_steps; ++c) {
          v[i].strides[d] = steps[a], v[i].strides[(d + 1) % 4] = steps[c], attempt(call, "strides", i, d);
          v[i] = right;
        }
    v[i].data = NULL, attempt(call, "null", i, 0);
    for (j = 1; j < 4; ++j) v[i].data = (unsigned char*)right.data + j, attempt(call, "address", i, j);
    v[i].data = (void*)(uintptr_t)(UINTPTR_MAX - 3), attempt(call, "the last address", i, 0);
    for (j = 0; j < views; ++j)
      if (j != i) v[i].data = v[j].data, attempt(call, "alias", i, j);
    v[i] = right;
  }
}

static void attack_all(void) {
  with_lora("lora_add_delta"), add2(T, n), add2(T, m), attack(lora_add_delta);
  with_lora("lora_backward"), add2(T, n), add2(T, m), add2(r, n), add2(m, r), add1(m), add2(T, n);
  attack(lora_backward);
  with_lora("lora_merge"), add2(m, n), add1(m), attack(lora_merge);
  with_lora("lora_delta_weight"), add2(m, n), attack(lora_delta_weight);
  with_lora("lora_initialize"), attack(lora_initialize);
  with_lora("lora_pack"), add1(64 * r), attack(lora_pack);
  begin("packed_lora_add_delta"), add2(r, n), add3(1, r, 64), add1(m), add2(T, n), add2(T, m);
  attack(packed_lora_add_delta);
  with_dora("dora_update_norms"), add2(m, n), add1(m), attack(dora_update_norms);
  with_dora("dora_prepare"), add1(m), attack(dora_prepare);
  with_dora("dora_transform_output"), add2(T, n), add2(T, m), add2(T, m), attack(dora_transform_output);
  with_dora("dora_transform_output_prepared"), add2(T, n), add2(T, m), attack(dora_transform_output_prepared);
  with_dora("dora_backward"), add2(T, n), add2(T, m), add2(T, m), add2(r, n), add2(m, r), add1(m), add2(T, n);
  attack(dora_backward);
  with_dora("dora_merge"), add2(m, n), attack(dora_merge);
  with_dora("dora_unmerge"), add2(m, n), attack(dora_unmerge);
  with_vera("vera_add_delta"), add2(T, n), add2(T, m), attack(vera_add_delta);
  with_vera("vera_pack"), add1(64 * r), attack(vera_pack);
  begin("packed_vera_add_delta"), add2(r, n), add3(1, r, 64), add1(r), add1(m), add2(T, n), add2(T, m);
  attack(packed_vera_add_delta);
  with_vera("vera_backward"), add2(T, n), add2(T, m), add1(r), add1(m), add2(T, n), attack(vera_backward);
  with_vera("vera_merge"), add2(m, n), attack(vera_merge);
  with_vera("vera_delta_weight"), add2(m, n), attack(vera_delta_weight);
  with_oft("oft_update_rotations"), attack(oft_update_rotations);
  with_oft("oft_transform_input"), add2(T, n), add2(T, n), attack(oft_transform_input);
  with_oft("oft_backward_input"), add2(T, n), add2(T, n), add2(D, 1), add2(T, n), attack(oft_backward_input);
  free_rows = 2;
  with_oft("oft_merge"), add2(m, n), attack(oft_merge);
  with_oft("oft_unmerge"), add2(m, n), attack(oft_unmerge);
  free_rows = -1;
  with_boft("boft_update_rotations"), attack(boft_update_rotations);
  with_boft("boft_transform_input"), add2(T, n), add2(T, n), attack(boft_transform_input);
  with_boft("boft_transform_output"), add2(T, m), add2(T, m), attack(boft_transform_output);
  with_boft("boft_backward_output"), add2(T, m), add2(T, m), add1(m), attack(boft_backward_output);
  with_boft("boft_backward_input"), add2(T, n), add2(T, n), add4(N, D, b, b), add2(T, n), attack(boft_backward_input);
  with_boft("boft_merge"), add2(m, n), attack(boft_merge);
  cayley_terms = 0;
  begin("cayley"), add2(D, 1), add3(D, b, b), attack(cayley);
  begin("cayley, square"), add3(D, b, b), add3(D, b, b), attack(cayley);
  begin("row_norms"), add2(m, n), add2(m, r), add2(r, n), add1(m), add1(m), attack(row_norms);
  temperature = 1.0;
  begin("softmax"), add2(T, E), add2(T, E), add_ids(1), attack(softmax);
  begin("softmax_backward"), add2(T, E), add2(T, E), add2(T, E), attack(softmax_backward);
  begin("top_k"), add2(T, E), add_ids(2), add2(T, k), attack(top_k);
  gate = graft_sigmoid_topk();
  begin("route"), add2(T, E), add1(E), add_ids(2), add2(T, k), add_ids(1), attack(route);
  gate = graft_softmax_topk(1);
  begin("route_backward"), add2(T, E), add_ids(2), add2(T, k), add2(T, E), add_ids(1), attack(route_backward);
  capacity = graft_capacity_factor(1.0);
  plan_experts = 3, plan_alignment = 2, plan_tile = 2;
  begin("plan_make"), add_ids(2), add2(T, k), add_ids(2), attack(plan_make);
  begin("plan"), add_ids(2);
  CHECK(graft_plan_make(&ex, &v[0], 3, 2, 2, NULL, NULL, NULL, plan_memory, sizeof plan_memory, &plan) == GRAFT_OK);
  begin("dispatch"), add2(T, H), add2(T, k), add2(plan.rows, H), attack(dispatch);
  begin("dispatch_backward"), add2(plan.rows, H), add2(T, H), attack(dispatch_backward);
  begin("combine"), add2(plan.rows, H), add2(T, k), add2(T, H), attack(combine);
  begin("combine_add"), add2(plan.rows, H), add2(T, k), add2(T, H), attack(combine_add);
  begin("combine_backward"), add2(plan.rows, H), add2(T, k), add2(T, H), add2(plan.rows, H), add2(T, k);
  attack(combine_backward);
}

/* ---- numbers */

#define EACH_HUGE(call, field)                                                                \
  do {                                                                                        \
    int64_t const right_ = (field);                                                           \
    int h_;                                                                                   \
    for (h_ = 0; h_ < huge_numbers; ++h_) (field) = huge[h_], attempt((call), #field, 0, h_); \
    (field) = right_;                                                                         \
  } while (0)
#define EACH_INT32(call, field)                                                                      \
  do {                                                                                               \
    int32_t const numbers_[] = {INT32_MIN, -1, 0, 1, 2, 3, 5, 1 << 20, INT32_MAX}, right_ = (field); \
    int h_;                                                                                          \
    for (h_ = 0; h_ < 9; ++h_) (field) = numbers_[h_], attempt((call), #field, 0, h_);               \
    (field) = right_;                                                                                \
  } while (0)
#define EACH_DOUBLE(call, field)                                                        \
  do {                                                                                  \
    double const zero_ = 0.0, numbers_[] = {0.0 / (zero_ + zero_),                      \
                                            1.0 / zero_,                                \
                                            -1.0 / zero_,                               \
                                            -1.0,                                       \
                                            0.0,                                        \
                                            -0.0,                                       \
                                            5e-324,                                     \
                                            1e-310,                                     \
                                            1e-40,                                      \
                                            1e-30,                                      \
                                            1e30,                                       \
                                            1e300};                                     \
    double const right_ = (field);                                                      \
    int h_;                                                                             \
    for (h_ = 0; h_ < 12; ++h_) (field) = numbers_[h_], attempt((call), #field, 0, h_); \
    (field) = right_;                                                                   \
  } while (0)

static void attack_numbers(void) {
  int i, j, l, o;
  size_t bytes = 0;
  graft_lora huge_lora;
  graft_view negative;
  temperature = 1.0;
  begin("softmax"), add2(T, E), add2(T, E), add_ids(1);
  EACH_DOUBLE(softmax, temperature);
  begin("softmax_backward"), add2(T, E), add2(T, E), add2(T, E);
  EACH_DOUBLE(softmax_backward, temperature);
  for (i = 0; i < 3; ++i) {
    gate = i == 0 ? graft_sigmoid_topk() : i == 1 ? graft_softmax_topk(1) : graft_gshard_top2();
    if (i == 2) gate.second_expert = GRAFT_SECOND_RANDOM;
    for (j = 0; j < 2; ++j) {
      graft_status (*const call)(void) = j == 0 ? route : route_backward;
      begin(j == 0 ? "route" : "route_backward"), add2(T, E);
      if (j == 0) add1(E), add_ids(2), add2(T, k), add_ids(1);
      else add_ids(2), add2(T, k), add2(T, E), add_ids(1);
      if (j == 0 && i > 0) v[1] = graft_none();
      EACH_INT32(call, gate.score);
      EACH_INT32(call, gate.renormalize);
      EACH_INT32(call, gate.second_expert);
      EACH_INT32(call, gate.non_finite);
      EACH_HUGE(call, gate.groups);
      EACH_HUGE(call, gate.kept_groups);
      EACH_DOUBLE(call, gate.epsilon);
      EACH_DOUBLE(call, gate.scale);
      EACH_DOUBLE(call, gate.temperature);
      EACH_DOUBLE(call, gate.top_p);
      EACH_DOUBLE(call, gate.threshold);
    }
  }
  begin("plan_make"), add_ids(2), add2(T, k), add_ids(2);
  for (i = 0; i < 5; ++i) {
    capacity = graft_capacity_factor(1.0);
    capacity.order = i;
    plan_experts = 3, plan_alignment = 2, plan_tile = 2;
    v[2].rank = i < 2 ? 2 : 0;
    EACH_HUGE(plan_make, plan_experts);
    EACH_HUGE(plan_make, plan_alignment);
    EACH_HUGE(plan_make, plan_tile);
    EACH_HUGE(plan_make, capacity.minimum);
    EACH_HUGE(plan_make, capacity.fixed);
    EACH_HUGE(plan_make, capacity.group);
    EACH_DOUBLE(plan_make, capacity.factor);
    EACH_INT32(plan_make, capacity.per_choice);
    EACH_INT32(plan_make, capacity.rounds_up);
    EACH_INT32(plan_make, capacity.order);
  }
  v[2].rank = 2;
  capacity = graft_capacity_factor(1.0);
  begin("plan"), add_ids(2);
  CHECK(graft_plan_make(&ex, &v[0], 3, 2, 2, NULL, NULL, NULL, plan_memory, sizeof plan_memory, &plan) == GRAFT_OK);
  for (i = 0; i < 2; ++i) {
    graft_status (*const call)(void) = i == 0 ? dispatch : combine_backward;
    if (i == 0) begin("dispatch"), add2(T, H), add2(T, k), add2(plan.rows, H);
    else begin("combine_backward"), add2(plan.rows, H), add2(T, k), add2(T, H), add2(plan.rows, H), add2(T, k);
    EACH_HUGE(call, plan.tokens);
    EACH_HUGE(call, plan.choices);
    EACH_HUGE(call, plan.experts);
    EACH_HUGE(call, plan.pairs);
    EACH_HUGE(call, plan.rows);
    EACH_HUGE(call, plan.tiles);
    EACH_HUGE(call, plan.alignment);
    EACH_HUGE(call, plan.tile);
  }
  with_oft("oft"), add2(T, n), add2(T, n);
  for (i = 0; i < 2; ++i) {
    graft_status (*const call)(void) = i == 0 ? oft_update_rotations : oft_transform_input;
    EACH_HUGE(call, oft_features);
    EACH_HUGE(call, oft_block);
    oft_terms = 3;
    attempt(call, "terms", 0, 0);
    EACH_HUGE(call, oft_block);
    oft_terms = -1;
    attempt(call, "terms", 0, 1);
    oft_terms = INT32_MIN;
    attempt(call, "terms", 0, 2);
    oft_terms = 0;
  }
  begin("cayley"), add2(D, 1), add3(D, b, b);
  cayley_terms = -1, attempt(cayley, "terms", 0, 0);
  cayley_terms = INT32_MIN, attempt(cayley, "terms", 0, 1);
  cayley_terms = 0;

  for (i = 0; i < huge_numbers; ++i)
    for (j = 0; j < huge_numbers; ++j) {
      for (l = 0; l < huge_numbers; ++l)
        for (o = 0; o < huge_numbers; ++o) CHECK(graft_plan_bytes(huge[i], huge[j], huge[l], huge[o], &bytes) <= 2);
      CHECK(graft_lora_packed_size(huge[i], huge[j]) >= 0);
      negative = graft_view_2d(NULL, GRAFT_FLOAT32, 1, 1);
      negative.shape[0] = huge[i], negative.shape[1] = huge[j];
      memset(&huge_lora, 0, sizeof huge_lora);
      huge_lora.A = huge_lora.B = huge_lora.bias = negative;
      CHECK(graft_lora_parameter_count(&huge_lora) >= 0);
    }
  CHECK(graft_plan_bytes(1, 1, 1, 1, NULL) == GRAFT_ERROR_ARGUMENT);
  with_lora("lora_pack"), add1(64 * r);
  EACH_HUGE(lora_pack, v[3].shape[0]);
}

#define REFUSED(call, status, part)                    \
  do {                                                 \
    CHECK((call) == (status));                         \
    CHECK(strstr(graft_last_error(), (part)) != NULL); \
  } while (0)

/* What each of the checks says, once. */
static void attack_by_name(void) {
  int64_t const shape[2] = {T, n};
  int64_t strides[2] = {(int64_t)1 << 62, 1};
  graft_packed_lora packed;
  graft_plan made;
  graft_lora l;
  graft_executor many = graft_openmp(GRAFT_MAX_THREADS + 1);
  int i;
  with_lora("names"), add2(T, n), add2(T, m), add1(64 * r), add_ids(2);
  l = lora();
  v[3] = graft_view_strided(at(3), GRAFT_FLOAT32, 2, shape, strides);
  REFUSED(lora_add_delta(), GRAFT_ERROR_SHAPE, "strides of x lead outside of what 64 bits address");
  strides[0] = INT64_MIN;
  v[3] = graft_view_strided(at(3), GRAFT_FLOAT32, 2, shape, strides);
  REFUSED(lora_add_delta(), GRAFT_ERROR_SHAPE, "strides of x lead outside");
  v[3] = graft_view_2d((unsigned char*)at(3) + 2, GRAFT_FLOAT32, T, n);
  REFUSED(lora_add_delta(), GRAFT_ERROR_ARGUMENT,
          "x is at an address that is 2 mod 4; elements of float32 lie at multiples of 4");
  v[3] = graft_view_2d(NULL, GRAFT_FLOAT32, 0, n), v[4] = graft_view_2d((unsigned char*)at(4) + 1, GRAFT_FLOAT32, 0, m);
  CHECK(lora_add_delta() == GRAFT_OK); /* no tokens: no addresses */
  v[3] = graft_view_2d(at(3), GRAFT_FLOAT32, T, n), v[4] = graft_view_2d(at(4), GRAFT_FLOAT32, T, m);
  REFUSED(graft_lora_add_delta(&many, &l, &v[3], &v[4]), GRAFT_ERROR_ARGUMENT, "4097 threads; at most 4096");
  many = graft_openmp(INT32_MAX);
  REFUSED(graft_lora_add_delta(&many, &l, &v[3], &v[4]), GRAFT_ERROR_ARGUMENT, "threads; at most 4096");

  REFUSED(graft_lora_pack(&ex, &l, (unsigned char*)at(5) + 2, 64 * r, &packed), GRAFT_ERROR_ARGUMENT,
          "memory is at an address that is 2 mod 4");
  REFUSED(graft_lora_pack(&ex, &l, l.A.data, 64 * r, &packed), GRAFT_ERROR_ARGUMENT, "shares memory with A");
  REFUSED(graft_lora_pack(&ex, &l, l.B.data, 64 * r, &packed), GRAFT_ERROR_ARGUMENT, "shares memory with B");
  REFUSED(graft_lora_pack(&ex, &l, l.bias.data, 64 * r, &packed), GRAFT_ERROR_ARGUMENT, "shares memory with bias");
  CHECK(graft_lora_packed_size(INT64_MAX, 1) == 0 && graft_lora_packed_size(65, 3) == 128 * 3);
  l.A.shape[0] = l.A.shape[1] = INT64_MAX;
  CHECK(graft_lora_parameter_count(&l) == 0 && graft_lora_parameter_count(NULL) == 0);

  /* temperatures whose inverse is no normal number: NaN would come of the largest logit, or of masked ones */
  begin("temperature"), add2(T, E), add2(T, E), add_ids(2), add2(T, k);
  at(0)[1] = -(float)(1e300 * 1e300); /* -inf: masked */
  gate = graft_softmax_topk(0);
  for (i = 0; i < 6; ++i) {
    double const temperatures[6] = {5e-324, 1e-310, 1e-39, 1e39, 1e300, 1e308};
    temperature = gate.temperature = temperatures[i];
    REFUSED(graft_softmax(&ex, &v[0], temperature, &v[1], NULL), GRAFT_ERROR_ARGUMENT, "temperature");
    REFUSED(graft_route(&ex, &gate, &v[0], NULL, &v[2], &v[3], NULL), GRAFT_ERROR_ARGUMENT, "temperature");
  }
  for (i = 0; i < 2; ++i) {
    int j;
    gate.temperature = i == 0 ? 0x1p-126 : 0x1p126;
    CHECK(graft_softmax(&ex, &v[0], gate.temperature, &v[1], NULL) == GRAFT_OK);
    CHECK(graft_route(&ex, &gate, &v[0], NULL, &v[2], &v[3], NULL) == GRAFT_OK);
    for (j = 0; j < T * E; ++j) CHECK(at(1)[j] >= 0 && at(1)[j] <= 1);
    for (j = 0; j < T * k; ++j) CHECK(at(3)[j] >= 0 && at(3)[j] <= 1);
  }

  begin("plan"), add_ids(2), add2(T, H), add2(8, H);
  CHECK(graft_plan_make(&ex, &v[0], 3, 2, 2, NULL, NULL, NULL, plan_memory, sizeof plan_memory, &made) == GRAFT_OK);
  plan = made, plan.tokens = T + 1;
  REFUSED(graft_dispatch(&ex, &plan, &v[1], NULL, &v[2]), GRAFT_ERROR_SHAPE, "graft_plan_make wrote other numbers");
  plan = made, plan.experts = INT64_MAX;
  REFUSED(graft_dispatch(&ex, &plan, &v[1], NULL, &v[2]), GRAFT_ERROR_SHAPE, "graft");
  memset(&plan, 0, sizeof plan);
  REFUSED(graft_dispatch(&ex, &plan, &v[1], NULL, &v[2]), GRAFT_ERROR_ARGUMENT, "not one that graft_plan_make wrote");
  REFUSED(graft_plan_make(&ex, &v[0], 3, 2, 2, NULL, NULL, NULL, (unsigned char*)plan_memory + 4, 4096, &made),
          GRAFT_ERROR_ARGUMENT, "4 mod 8");
}

int main(void) {
  int32_t kind;
  for (kind = GRAFT_REFERENCE; kind <= GRAFT_OPENMP; ++kind) {
    ex = graft_executor_of(kind, 2);
    attack_all();
    attack_numbers();
    attack_by_name();
  }
  printf("%ld checks, %ld refusals, %d wrong\n", checks, refusals, wrong);
  return wrong != 0;
}
