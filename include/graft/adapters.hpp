// SPDX-License-Identifier: Apache-2.0
/// @file
/// The methods, one header each, named as in their papers; and what they share.
#pragma once

#include <graft/adapters/bitfit.hpp>
#include <graft/adapters/boft.hpp>
#include <graft/adapters/composition.hpp>
#include <graft/adapters/concepts.hpp>
#include <graft/adapters/dora.hpp>
#include <graft/adapters/dora_training.hpp>
#include <graft/adapters/hra.hpp>
#include <graft/adapters/ia3.hpp>
#include <graft/adapters/initialize.hpp>
#include <graft/adapters/ln_tuning.hpp>
#include <graft/adapters/lora.hpp>
#include <graft/adapters/lora_dropout.hpp>
#include <graft/adapters/lora_embedding.hpp>
#include <graft/adapters/lora_experts.hpp>
#include <graft/adapters/lora_fa.hpp>
#include <graft/adapters/merging.hpp>
#include <graft/adapters/oft.hpp>
#include <graft/adapters/road.hpp>
#include <graft/adapters/vera.hpp>
