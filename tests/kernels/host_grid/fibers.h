// Runs a kernel's grid on the calling thread: blocks one after the other, a block's threads as
// fibers with working barriers, shuffles and shared memory (kernels/host_grid.h).
//
// Ends the program with a message when threads diverge: one ends while others of its block wait at
// a barrier, lanes of a warp meet in different collectives, one misses a collective, or an
// early kernel's thread does not wait for what came before. Blocks take
// turns to run their threads upwards and downwards, so that a missing barrier shows. Memory beyond
// the dynamic shared memory is the address sanitizer's to find, and checked after each block.
#ifndef WEIR_TESTS_KERNELS_HOST_GRID_FIBERS_H_
#define WEIR_TESTS_KERNELS_HOST_GRID_FIBERS_H_

#include <functional>

#include "kernels/cuda_stream.h"

namespace weir::host_grid {

// Stacks are made once for a host thread and serve all its launches. `run_thread` is called by each
// thread of each block.
void RunGrid(const LaunchShape& shape, const std::function<void()>& run_thread);

}  // namespace weir::host_grid

#endif  // WEIR_TESTS_KERNELS_HOST_GRID_FIBERS_H_
