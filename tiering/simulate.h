// SimulateDecode: what generating text would be like on some hardware: the shipped scheduler under
// a plan, on the simulated machine. Pure and quick (a few milliseconds for a thousand blocks), so
// that a plan can be judged before it is run.
#ifndef WEIR_TIERING_SIMULATE_H_
#define WEIR_TIERING_SIMULATE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "tiering/cost.h"
#include "tiering/plan.h"
#include "tiering/program.h"
#include "tiering/scheduler.h"
#include "tiering/sim_faults.h"
#include "tiering/sim_machine.h"
#include "tiering/trace.h"

namespace weir {

struct SimulateOptions {
  uint32_t prompt_passes = 0;    // first of all, wide ones; only the last of them makes logits
  double prompt_step_scale = 1;  // how many times what it takes with one token a step then takes
  uint32_t warm_up_passes = 1;   // then: the first reads what stays resident, and fills the ring
  uint32_t passes = 8;           // then: those that are timed
  int64_t between_ns = 0;        // after every pass: sampling, printing
};

// Times and bytes of the timed passes together, unless said otherwise.
struct Simulation {
  // What ended the run early: a fault, a cancellation; or FailedPrecondition where the plan has an
  // accelerator and the hardware's figures for it are missing: then nothing was simulated.
  absl::Status status;
  absl::Status violation;  // an invariant that the scheduler broke (tiering/sim_books.h)

  uint32_t passes = 0;          // that were completed
  int64_t first_logits_ns = 0;  // when the first pass that makes logits was done; 0: none was
  int64_t steady_ns = 0;
  uint64_t disk_bytes = 0;   // as read, padding included
  int64_t disk_busy_ns = 0;  // bytes flowed
  int64_t compute_busy_ns = 0;
  int64_t disk_stall_ns = 0;  // no step was running: the next one waited for a block
  // With an accelerator, whose steps compute_busy_ns is about:
  uint64_t link_bytes = 0;
  int64_t link_busy_ns = 0;
  int64_t host_compute_busy_ns = 0;
  int64_t copy_stall_ns = 0;  // no step was running: the next one waited for copies only

  // The least that one pass can take, by each link and device, and by both devices together when
  // the order of the groups is kept (tiering/cost.h).
  int64_t disk_bound_ns = 0;
  int64_t link_bound_ns = 0;
  int64_t compute_bound_ns = 0;
  int64_t host_compute_bound_ns = 0;
  int64_t path_bound_ns = 0;  // without an accelerator: compute_bound_ns
  std::string bottleneck;     // "disk", "link", "compute" or "cpu"

  int64_t total_ns = 0;      // of the whole run
  SimStats machine;          // of the whole run
  SchedulerStats scheduler;  // of the whole run, up to its last pass
  uint64_t trace_hash = 0;   // equal for equal runs

  int64_t bound_ns() const;
  double pass_ns() const;  // mean; 0 without a timed pass
  double tokens_per_s() const;
  double share_of_bound() const;  // 1: as fast as the slowest link allows
};

// The hardware that the ceilings describe, with a machine like the real one.
SimHardware SimHardwareFrom(const Ceilings& ceilings);

// `trace` may be null.
Simulation SimulateDecode(const Program& program, const Plan& plan, const SimHardware& hardware,
                          const SimFaults& faults, const SimulateOptions& options, Trace* trace);

}  // namespace weir

#endif  // WEIR_TIERING_SIMULATE_H_
