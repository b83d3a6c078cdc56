// SPDX-License-Identifier: Apache-2.0
/// @file
/// The methods, one header each, named as in their papers.
#pragma once

#include <graft/adapters/concepts.hpp>
#include <graft/adapters/lora.hpp>
