// SPDX-License-Identifier: Apache-2.0
/// @file
/// Component graft::kokkos: graft, the executor on Kokkos' spaces and the bridge to Kokkos::View. Tested with Kokkos 5.2.
#pragma once

#define GRAFT_ENTRY_KOKKOS 1

#include <graft/graft.hpp>

#include <graft/executor/kokkos.hpp>
#include <graft/view/kokkos.hpp>
