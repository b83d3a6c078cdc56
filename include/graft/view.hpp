// SPDX-License-Identifier: Apache-2.0
/// @file
/// Everything about views: what the math sees of other people's memory.
#pragma once

#include <graft/view/concepts.hpp>
#include <graft/view/extents.hpp>
#include <graft/view/ids.hpp>
#include <graft/view/mdspan.hpp>
#include <graft/view/scalar.hpp>
#include <graft/view/tensor_view.hpp>
