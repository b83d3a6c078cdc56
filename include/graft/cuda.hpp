// SPDX-License-Identifier: Apache-2.0
/// @file
/// Component graft::cuda: graft, the executor on a CUDA stream and views of device memory. For files that nvcc (13) or clang compile as CUDA.
#pragma once

#define GRAFT_ENTRY_CUDA 1

#include <graft/graft.hpp>

#include <graft/executor/cuda.hpp>
#include <graft/view/cuda.hpp>
