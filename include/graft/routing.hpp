// SPDX-License-Identifier: Apache-2.0
/// @file
/// Routers of mixtures of experts: gates, one header each, named as in their papers, their losses, and how many tokens an expert takes.
#pragma once

#include <graft/routing/capacity.hpp>
#include <graft/routing/dense_gate.hpp>
#include <graft/routing/expert_choice.hpp>
#include <graft/routing/gshard_top2.hpp>
#include <graft/routing/losses.hpp>
#include <graft/routing/noisy_topk.hpp>
#include <graft/routing/route.hpp>
#include <graft/routing/router.hpp>
#include <graft/routing/sigmoid_topk.hpp>
#include <graft/routing/softmax_topk.hpp>
#include <graft/routing/switch_top1.hpp>
#include <graft/routing/top_p.hpp>
#include <graft/routing/topk_softmax.hpp>
