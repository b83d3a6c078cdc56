// SPDX-License-Identifier: Apache-2.0
/// @file
/// Component graft::eigen: graft and the bridge to Eigen 3.4 and 5.
#pragma once

#include <graft/graft.hpp>
#include <graft/view/eigen.hpp>
