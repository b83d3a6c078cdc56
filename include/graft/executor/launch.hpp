// SPDX-License-Identifier: Apache-2.0
/// @file
/// How a league becomes blocks of a GPU: arithmetic only, so that it is tested without one.
#pragma once

#include <cstddef>

#include <graft/config.hpp>
#include <graft/contracts.hpp>
#include <graft/executor/scratch.hpp>

namespace graft::inline GRAFT_CONTRACT::detail {

/// What a launch depends on.
struct device_limits {
  int processors = 0;               // multiprocessors
  int threads_of_processor = 0;     // that are resident at once
  std::size_t shared_of_block = 0;  // bytes, the most that a kernel may be allowed
};

/// Threads of a block: lanes that a team can use, in whole warps.
inline constexpr index_t warp = 32;
inline constexpr int most_threads = 256;
/// Blocks of one launch; a larger league loops.
inline constexpr index_t most_blocks = (index_t{1} << 31) - 1;

/// One launch.
struct launch_shape {
  index_t blocks = 0;
  index_t threads = 0;
  std::size_t shared = 0;       // bytes of a block
  std::size_t most_shared = 0;  // that a block may be allowed: the same for every launch, which may run side by side
  std::size_t global = 0;       // bytes of a block, in the executor's scratch where its processor has not so many
  /// Bytes of the executor's scratch.
  [[nodiscard]] constexpr std::size_t scratch() const { return global * static_cast<std::size_t>(blocks); }
};

/// `size` teams of `lanes` lanes with `bytes` of scratch each. Checked for overflow; nothing for no teams.
[[nodiscard]] constexpr launch_shape shape_of_launch(index_t size, std::size_t bytes, index_t lanes,
                                                     device_limits const& limits) {
  launch_shape launch;
  if (size <= 0) return launch;
  launch.threads = lanes < warp ? warp : lanes > most_threads ? most_threads : (lanes + warp - 1) / warp * warp;
  launch.blocks = size < most_blocks ? size : most_blocks;
  if (bytes <= limits.shared_of_block) {
    launch.shared = bytes;
    launch.most_shared = limits.shared_of_block;
    return launch;
  }
  // As many of the largest blocks as are resident at once: more would only need more memory. Lanes count for nothing,
  // since who asks how much a league takes has no body.
  index_t const resident = index_t{limits.processors} * (limits.threads_of_processor / most_threads);
  if (launch.blocks > resident) launch.blocks = resident < 1 ? 1 : resident;
  launch.global = scratch_size(1, static_cast<index_t>(bytes), 1, "a league");
  static_cast<void>(checked_product(launch.blocks, static_cast<index_t>(launch.global), "a league"));
  return launch;
}

/// Its teams may need more scratch than a processor has: then it lies in the executor's. Of other bodies that is refused.
template <class Body>
inline constexpr bool has_unbounded_scratch = requires { requires Body::unbounded_scratch; };

/// Threads that a block of it has at most: fewer leave each of them more registers.
template <class Body>
inline constexpr int threads_of = most_threads;
template <class Body>
  requires(Body::most_lanes > 0)
inline constexpr int threads_of<Body> = Body::most_lanes;

/// Lanes that a team of this body can use; all that there are where it does not say.
template <class Body>
[[nodiscard]] constexpr index_t lanes_of(Body const& body) {
  if constexpr (requires { body.lanes(); }) return body.lanes();
  else return most_threads;
}

}  // namespace graft::inline GRAFT_CONTRACT::detail
