// SPDX-License-Identifier: Apache-2.0
/// @file
/// Component graft::eigen: graft, the bridge to Eigen 3.4 and 5, and its matrix product.
#pragma once

#include <graft/graft.hpp>
#include <graft/kernels/eigen.hpp>
#include <graft/view/eigen.hpp>
