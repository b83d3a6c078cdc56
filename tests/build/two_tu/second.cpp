#include <graft/openmp.hpp>
//
#include <graft/graft.hpp>

#include "shared.hpp"

void two_tu::second(float* y) { run(graft::openmp{.threads = 2}, y); }
