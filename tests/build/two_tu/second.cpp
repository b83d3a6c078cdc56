#include <graft/openmp.hpp>
//
#include <graft/graft.hpp>

#include "shared.hpp"

float two_tu::second_serial(float* y) { return run(graft::serial{}, y); }
float two_tu::second_openmp(float* y) { return run(graft::openmp{.threads = 2}, y); }
