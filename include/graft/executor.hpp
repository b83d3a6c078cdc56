// SPDX-License-Identifier: Apache-2.0
/// @file
/// Executors that need no package. `openmp` comes through <graft/openmp.hpp>.
#pragma once

#include <graft/executor/concepts.hpp>
#include <graft/executor/device_team.hpp>
#include <graft/executor/host_team.hpp>
#include <graft/executor/isa.hpp>
#include <graft/executor/launch.hpp>
#include <graft/executor/reference.hpp>
#include <graft/executor/scratch.hpp>
#include <graft/executor/scratch_arena.hpp>
#include <graft/executor/scratch_bytes.hpp>
#include <graft/executor/serial.hpp>
