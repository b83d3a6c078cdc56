// expect: graft::add_delta: x lies in a memory space that this executor cannot touch; use an executor of that space
#include <graft/openmp.hpp>

void f(graft::openmp const& ex, float* a, float* b, float* p, float* out) {
  constexpr int T = 3, n = 8, m = 6, r = 16;
  graft::lora const q{.A = graft::view(a, r, n), .B = graft::view(b, m, r), .scale = 0.5};
#if defined(GRAFT_KO)
  // [device view]
  auto const x = graft::view_in<graft::device_space>(p, T, n);  // memory of a GPU
  graft::add_delta(ex, q, x, graft::view(out, T, m));           // an executor of the host
  // [device view end]
#else
  graft::add_delta(ex, q, graft::view(p, T, n), graft::view(out, T, m));
#endif
}
