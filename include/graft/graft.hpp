// SPDX-License-Identifier: Apache-2.0
/// @file
/// Everything that needs no third-party package: views, executors, kernels, adapters, routing.
#pragma once

#include <graft/adapters.hpp>
#include <graft/executor.hpp>
#include <graft/kernels.hpp>
#include <graft/routing.hpp>
#include <graft/version.hpp>
#include <graft/view.hpp>
