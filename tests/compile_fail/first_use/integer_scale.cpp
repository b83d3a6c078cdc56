// expect: graft: a scale must be a floating-point number, since alpha / r of two integers truncates; use graft::lora_scale(alpha, r) or graft::rslora_scale(alpha, r)
#include <graft/openmp.hpp>

void f(graft::openmp const& ex, float* a, float* b, float* p, float* out) {
  constexpr int T = 3, n = 8, m = 6, r = 16;
#if defined(GRAFT_KO)
  // [integer scale]
  int const alpha = 8;
  graft::lora const q{.A = graft::view(a, r, n), .B = graft::view(b, m, r), .scale = alpha / r};  // 0
  // [integer scale end]
#else
  graft::lora const q{.A = graft::view(a, r, n), .B = graft::view(b, m, r), .scale = graft::lora_scale(8, r)};
#endif
  graft::add_delta(ex, q, graft::view(p, T, n), graft::view(out, T, m));
}
