// SPDX-License-Identifier: Apache-2.0
/// @file
/// Component graft::openmp: graft and its OpenMP executor. Host bodies belong to the verbs, so there is nothing to add.
#pragma once

#define GRAFT_ENTRY_OPENMP 1

#include <graft/graft.hpp>

#include <graft/executor/openmp.hpp>
