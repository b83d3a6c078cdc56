// SPDX-License-Identifier: Apache-2.0
/// @file
/// Routers of mixtures of experts: gates, one header each, named as in their papers, their losses, and how many tokens an expert takes.
#pragma once

#include <graft/routing/capacity.hpp>
#include <graft/routing/gshard_top2.hpp>
#include <graft/routing/route.hpp>
#include <graft/routing/sigmoid_topk.hpp>
#include <graft/routing/softmax_topk.hpp>
#include <graft/routing/top_p.hpp>
#include <graft/routing/topk_softmax.hpp>
