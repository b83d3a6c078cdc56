// Two translation units of one program, entry headers in different orders: nothing may be defined twice, and both must
// compute the same bits, also where one is compiled for another instruction set.
#include <graft/graft.hpp>
#include <graft/openmp.hpp>

#include "shared.hpp"

void two_tu::first(float* y) { run(graft::openmp{.threads = 2}, y); }

int main() {
  using namespace two_tu;
  float a[T * m], b[T * m], c[T * m];
  first(a);
  second(b);
  run(graft::reference{}, c);
  bool equal = true;
  for (int i = 0; i < T * m; ++i) equal = equal && a[i] == c[i] && b[i] == c[i];
  std::puts(equal ? "equal" : "the translation units disagree");
  return equal ? 0 : 1;
}
