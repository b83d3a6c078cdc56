// Two translation units of one program, entry headers in different orders: nothing may be defined twice, and both must
// compute the same bits, also where one is compiled for another instruction set.
#include <graft/graft.hpp>
#include <graft/openmp.hpp>

#include "shared.hpp"

float first_serial(float* y) { return run(graft::serial{}, y); }
float first_openmp(float* y) { return run(graft::openmp{.threads = 2}, y); }

int main() {
  float a[rows * outputs], b[rows * outputs], c[rows * outputs], d[rows * outputs], e[rows * outputs];
  run(graft::reference{}, e);
  first_serial(a), first_openmp(b), second_serial(c), second_openmp(d);
  bool equal = true;
  for (int i = 0; i < rows * outputs; ++i) equal = equal && a[i] == e[i] && b[i] == e[i] && c[i] == e[i] && d[i] == e[i];
  std::puts(equal ? "equal" : "the translation units disagree");
  return equal ? 0 : 1;
}
