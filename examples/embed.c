// SPDX-License-Identifier: Apache-2.0
// From C: LoRA on a layer, and a gate that sends tokens to experts. Linked with graft/c/graft.cpp.
#include <graft/c/graft.h>

#include <stdio.h>
#include <stdlib.h>

static void must(graft_status status) {
  if (status == GRAFT_OK) return;
  fprintf(stderr, "%s error: %s\n", graft_status_name(status), graft_last_error());
  exit(1);
}

enum { T = 3, n = 4, m = 2, r = 1, E = 4, k = 2 };

int main(void) {
  float const x[T * n] = {1, 2, 3, 4, 0, 1, 0, 1, 2, 0, 2, 0};
  float y[T * m] = {0}; /* what the base layer gave */
  float const lora_A[r * n] = {1, 1, 1, 1}, lora_B[m * r] = {1, -1};
  float const logits[T * E] = {0, 1, 2, 3, 3, 2, 1, 0, 1, 1, 1, 1};
  // [apply]
  graft_executor const ex = graft_serial();  // or graft_openmp(threads)
  graft_lora q = {graft_view_2d(lora_A, GRAFT_FLOAT32, r, n), graft_view_2d(lora_B, GRAFT_FLOAT32, m, r), graft_none(),
                  0.0};
  graft_view const vx = graft_view_2d(x, GRAFT_FLOAT32, T, n), vy = graft_view_2d(y, GRAFT_FLOAT32, T, m);
  q.scale = graft_lora_scale(2.0, r);  // alpha / r
  if (graft_lora_add_delta(&ex, &q, &vx, &vy) != GRAFT_OK) fprintf(stderr, "%s\n", graft_last_error());
  // [apply end]

  // [route]
  int32_t ids[T * k];
  float weights[T * k];
  graft_gate const gate = graft_softmax_topk(1);  // Mixtral's; 0: not renormalized
  graft_view const vz = graft_view_2d(logits, GRAFT_FLOAT32, T, E), vids = graft_view_2d(ids, GRAFT_INT32, T, k);
  graft_view const vw = graft_view_2d(weights, GRAFT_FLOAT32, T, k);
  must(graft_route(&ex, &gate, &vz, NULL, &vids, &vw, NULL));

  graft_plan plan;
  size_t bytes;
  must(graft_plan_bytes(T * k, E, 1, 0, &bytes));
  void* memory = malloc(bytes);
  must(graft_plan_make(&ex, &vids, E, 1, 0, NULL, NULL, NULL, memory, bytes, &plan));
  float* rows = malloc(sizeof(float) * (size_t)plan.rows * n);
  graft_view const vrows = graft_view_2d(rows, GRAFT_FLOAT32, plan.rows, n);
  must(graft_dispatch(&ex, &plan, &vx, NULL, &vrows));
  // expert e computes rows plan.offsets[e] to plan.offsets[e] + plan.counts[e] - 1; here all are the identity
  float out[T * n];
  graft_view const vout = graft_view_2d(out, GRAFT_FLOAT32, T, n);
  must(graft_combine(&ex, &plan, &vrows, &vw, &vout));
  // [route end]

  int right = y[0] == 20 && y[1] == -20 && y[4] == 8;
  for (int t = 0; t < T; ++t)
    printf("token %d: y = (%g, %g), experts %d and %d with %.3f and %.3f\n", t, y[t * m], y[t * m + 1], (int)ids[t * k],
           (int)ids[t * k + 1], weights[t * k], weights[t * k + 1]);
  for (int i = 0; i < T * n; ++i) right = right && out[i] > x[i] - 1e-6f && out[i] < x[i] + 1e-6f;
  right = right && ids[0] == 3 && ids[1] == 2 && ids[k] == 0 && plan.offsets[E] == T * k;
  puts(right ? "right" : "wrong");
  free(rows);
  free(memory);
  return right ? 0 : 1;
}
