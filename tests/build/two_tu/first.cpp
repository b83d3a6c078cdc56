// Two translation units of one program, entry headers in different orders: nothing may be defined twice, and both must
// compute the same bits, also where one is compiled for another instruction set.
#include <graft/graft.hpp>
#include <graft/openmp.hpp>

#include "shared.hpp"

float two_tu::first_serial(float* y) { return run(graft::serial{}, y); }
float two_tu::first_openmp(float* y) { return run(graft::openmp{.threads = 2}, y); }

int main() {
  using namespace two_tu;
  float a[T * m], b[T * m], c[T * m], d[T * m], e[T * m];
  run(graft::reference{}, e);
  first_serial(a), first_openmp(b), second_serial(c), second_openmp(d);
  bool equal = true;
  for (int i = 0; i < T * m; ++i) equal = equal && a[i] == e[i] && b[i] == e[i] && c[i] == e[i] && d[i] == e[i];
  std::puts(equal ? "equal" : "the translation units disagree");
  return equal ? 0 : 1;
}
