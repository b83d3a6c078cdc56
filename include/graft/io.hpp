// SPDX-License-Identifier: Apache-2.0
/// @file
/// Component graft::io: adapters to and from files. Needs nlohmann-json.
#pragma once

#include <graft/io/adapted_module.hpp>
#include <graft/io/adapter_config.hpp>
#include <graft/io/dtype.hpp>
#include <graft/io/errors.hpp>
#include <graft/io/file_bytes.hpp>
#include <graft/io/json.hpp>
#include <graft/io/name_pattern.hpp>
#include <graft/io/peft_checkpoint.hpp>
#include <graft/io/peft_writer.hpp>
#include <graft/io/safetensors.hpp>
#include <graft/io/safetensors_writer.hpp>
