// SPDX-License-Identifier: Apache-2.0
// All host bodies at one level, in order. Included once per level by levels.hpp.
// Functions are templates, `template <int = 0>` where they have no other parameter: a unit that calls no verb compiles none.
#include <graft/kernels/host/lanes.inl.hpp>
//
#include <graft/kernels/host/convert.inl.hpp>
#include <graft/kernels/host/order_lanes.inl.hpp>
#include <graft/kernels/host/pieces.inl.hpp>
//
#include <graft/kernels/host/dots.inl.hpp>
//
#include <graft/kernels/host/cayley.inl.hpp>
#include <graft/kernels/host/chains.inl.hpp>
#include <graft/kernels/host/gates.inl.hpp>
#include <graft/kernels/host/norms.inl.hpp>
#include <graft/kernels/host/pair_rows.inl.hpp>
#include <graft/kernels/host/rotations.inl.hpp>
//
#include <graft/kernels/host/table.inl.hpp>
