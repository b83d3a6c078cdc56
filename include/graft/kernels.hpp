// SPDX-License-Identifier: Apache-2.0
/// @file
/// The verbs that every method is made of: the only place with hot loops.
#pragma once

#include <graft/kernels/bias.hpp>
#include <graft/kernels/block_mask.hpp>
#include <graft/kernels/cayley.hpp>
#include <graft/kernels/cayley_backward.hpp>
#include <graft/kernels/columns.hpp>
#include <graft/kernels/combine.hpp>
#include <graft/kernels/copy.hpp>
#include <graft/kernels/dispatch.hpp>
#include <graft/kernels/drop_pairs.hpp>
#include <graft/kernels/dropout.hpp>
#include <graft/kernels/expand_add.hpp>
#include <graft/kernels/gather.hpp>
#include <graft/kernels/invert_blocks.hpp>
#include <graft/kernels/low_rank_add.hpp>
#include <graft/kernels/make_plan.hpp>
#include <graft/kernels/mask.hpp>
#include <graft/kernels/normalize.hpp>
#include <graft/kernels/outer_add.hpp>
#include <graft/kernels/override.hpp>
#include <graft/kernels/pairs.hpp>
#include <graft/kernels/panels.hpp>
#include <graft/kernels/plan.hpp>
#include <graft/kernels/random.hpp>
#include <graft/kernels/reflections.hpp>
#include <graft/kernels/rotate_blocks.hpp>
#include <graft/kernels/rotation.hpp>
#include <graft/kernels/row_norms.hpp>
#include <graft/kernels/scale.hpp>
#include <graft/kernels/shrink.hpp>
#include <graft/kernels/summation.hpp>
