#include <graft/openmp.hpp>
//
#include <graft/graft.hpp>

#include "shared.hpp"

float second_serial(float* y) { return run(graft::serial{}, y); }
float second_openmp(float* y) { return run(graft::openmp{.threads = 2}, y); }
