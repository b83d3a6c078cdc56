// SPDX-License-Identifier: Apache-2.0
/// @file
/// Routers of mixtures of experts: how tokens come to experts, and how many an expert takes.
#pragma once

#include <graft/routing/capacity.hpp>
