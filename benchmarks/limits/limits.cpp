// SPDX-License-Identifier: Apache-2.0
// `./dev bench limits [--json FILE] [--threads N]... [--seconds S]`: what this machine can do, as a table and as JSON.
#include "support/limits.hpp"

#include <cstdio>
#include <initializer_list>
int main() {
  for (int t : {1, 2}) {
    graft_limits l;
    graft_limits_measure(t, 1.0, 0, &l);
    std::printf("%s threads %d fma %.1f GF/s fork %.3f us barrier %.3f us\n", graft_limits_isa_name(), t, l.fma * 1e-9, l.fork_join*1e6, l.barrier*1e6);
    for (int k = 0; k < 4; ++k) { for (int j = 0; j < 4; ++j) std::printf(" %.1f", l.bandwidth[k][j] * 1e-9); std::printf("\n"); }
  }
}
