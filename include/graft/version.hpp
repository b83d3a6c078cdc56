// SPDX-License-Identifier: Apache-2.0
/// @file
/// The version of graft; the one place where it is written (CMake and the packages read it from here).
#pragma once

#define GRAFT_VERSION_MAJOR 0
#define GRAFT_VERSION_MINOR 1
#define GRAFT_VERSION_PATCH 0
