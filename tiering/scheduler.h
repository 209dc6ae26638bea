// Scheduler: the state machine that decides which block is brought where when, and when each step
// runs. One thread. It owns block states, pins, cursors and slot numbers; no memory, threads,
// clocks or files. Equal events, equal decisions.
//
// Three cursors walk the program. The fetch cursor starts reads as host slots come free. The copy
// cursor follows it and starts copies to an accelerator, of blocks that are multiplied there, as
// device slots come free. The compute cursor runs each step as soon as its blocks are in host
// memory or, on the accelerator, their copies were started (the machine runs the step behind them).
// Where the program allows (a group of steps without an order), a step whose blocks came early
// overtakes one that still waits. Fetch and copy cursor run ahead over the end of a pass into the
// next one, so that the streams never drain at a token's end.
//
// A block goes through the states of tiering/residency.h on each tier: a host slot is free again
// once the block's copy is done, or the step that multiplied it there; a device slot once the step
// is done. Blocks that are resident on a tier are ready there for good.
//
// No deadlock: slots are held only by an unbroken row of uses from the compute cursor on, so that
// whatever must come next finds one; a copy that overtakes takes its whole step along, which then
// needs nothing more to run.
#ifndef WEIR_TIERING_SCHEDULER_H_
#define WEIR_TIERING_SCHEDULER_H_

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "tiering/machine.h"
#include "tiering/plan.h"
#include "tiering/program.h"
#include "tiering/residency.h"
#include "tiering/trace.h"

namespace weir {

struct PassSpec {
  bool head = true;  // run the steps from Program::head_step on
  // With an accelerator: more tokens than AcceleratorPlan::in_place_tokens, so that every step runs
  // on the accelerator.
  bool wide = false;
  bool operator==(const PassSpec&) const = default;
};

// Of one compute device.
struct DeviceStats {
  uint64_t steps = 0;
  int64_t busy_ns = 0;  // sum over its steps, as the machine tells their times
};

struct SchedulerStats {
  uint64_t passes = 0;
  uint64_t transfers = 0;       // completed
  uint64_t transfer_bytes = 0;  // as read, padding included
  uint64_t discarded = 0;       // of these, dropped unused: read ahead for a pass that never came
  int64_t compute_ns = 0;       // some step was running, on either device
  int64_t disk_busy_ns = 0;     // some transfer was in flight
  int64_t disk_stall_ns = 0;    // no step was running, and the next one waited for a block
  // With an accelerator:
  uint64_t copies = 0;                 // completed
  uint64_t copy_bytes = 0;             // padding included
  uint64_t copies_discarded = 0;       // of these, dropped unused
  int64_t copy_busy_ns = 0;            // some copy was in flight
  int64_t copy_stall_ns = 0;           // no step was running, the next waited for copies only
  std::array<DeviceStats, 2> devices;  // by ComputeDevice
};

// Called from RunPass as steps complete; must not call the scheduler.
class PassObserver {
 public:
  virtual ~PassObserver() = default;
  virtual void OnStepsDone(uint32_t done, uint32_t total) = 0;
};

class Scheduler {
 public:
  // All must outlive the scheduler; `trace` and `observer` may be null. The plan fits the program
  // (CheckPlanFits) and the program is well formed (program.h); both are checked.
  Scheduler(const Program& program, const Plan& plan, Machine& machine, Trace* trace,
            PassObserver* observer);

  // Runs one pass; returns when its last step is done. `next` is what the following pass is
  // expected to be: blocks are read ahead for it. Another kind may still follow; with none, nothing
  // is read ahead.
  //
  // On error (a transfer that failed, also one of those read ahead; a device that failed;
  // Cancelled) everything in flight has ended before it returns, and all slots are free again;
  // resident blocks that are in place stay. A later pass starts afresh.
  absl::Status RunPass(const PassSpec& pass, const std::optional<PassSpec>& next);

  // Waits until nothing is in flight; blocks read ahead are dropped. Before memory is freed. What
  // fails or is cancelled meanwhile concerns nobody and is not reported.
  void Drain();

  // True when the bytes of a block that stays in host memory or on the accelerator are in place.
  bool IsResident(BlockId block) const;
  const SchedulerStats& stats() const { return stats_; }

 private:
  // One use of a weight block in program order.
  struct Use {
    StepId step;
    BlockId block;
  };

  // What the program and the plan say (scheduler.cc).
  void ListUses();
  StepId EndStep(const PassSpec& pass) const;
  size_t EndUse(const PassSpec& pass) const { return first_use_[EndStep(pass)]; }
  bool IsRows(BlockId block) const;
  Tier Home(BlockId block) const { return plan_.placements[block].home; }
  bool HasHostSlot(BlockId block) const { return !IsRows(block) && Home(block) != Tier::kHost; }
  bool HasDeviceSlot(BlockId block) const { return Home(block) != Tier::kDevice; }
  bool RunsOnAccelerator(BlockId block, const PassSpec& pass) const;

  // The cursors (scheduler.cc).
  void BeginPass(const PassSpec& pass);
  void TakeOver(const PassSpec& pass);
  void RestartCopies(size_t use);
  void Fetch();
  bool FetchAt(size_t use);
  bool IsDue(size_t use) const;
  void StartTransfer(BlockId block);
  void CopyAhead();
  bool IsCopied(size_t use, const PassSpec& pass) const;
  bool HasArrived(size_t use) const;
  bool CanCopy(size_t use) const;
  bool Overtake(const PassSpec& pass);
  bool CopyWhole(StepId step, const PassSpec& pass);
  void StartCopy(size_t use);
  void Launch();
  void LaunchStep(StepId step, ComputeDevice device);
  bool IsReady(StepId step, ComputeDevice device) const;
  bool HoldsSlot(StepId step, ComputeDevice device) const;

  // What comes back (scheduler_events.cc).
  bool IsAnythingInFlight() const;
  Residency& TierOf(BlockId block, ComputeDevice device);
  bool AreCopiesDone(StepId step) const;
  bool WaitsForCopiesOnly(StepId step) const;
  int64_t& WaitedNs();
  void HandleEvents();
  void OnTransferDone(const MachineEvent& event);
  void OnCopyDone(const MachineEvent& event);
  void OnStepDone(const MachineEvent& event);
  void DropRead(BlockId block);
  void DropCopy(BlockId block);
  absl::Status Abandon();

  const Program& program_;
  const Plan& plan_;
  Machine& machine_;
  Trace* trace_;
  PassObserver* observer_;

  std::vector<Use> uses_;          // of the longest pass; each block once
  std::vector<size_t> first_use_;  // by step, and one behind the last: where its uses begin
  std::vector<BlockId> rows_;      // gathered at the start of every pass
  Residency host_;
  Residency device_;
  std::vector<MachineEvent> events_;  // scratch for Wait
  uint32_t transfers_in_flight_ = 0;
  uint32_t rows_in_flight_ = 0;  // of these
  uint32_t copies_in_flight_ = 0;
  std::array<std::vector<StepId>, 2> running_;  // by device: steps in flight, in order of Run
  int64_t disk_busy_begin_ns_ = 0;              // since when transfers_in_flight_ > 0
  int64_t copy_busy_begin_ns_ = 0;              // the same of copies

  PassSpec pass_;                 // the one that runs
  std::optional<PassSpec> next_;  // the one read ahead for
  bool fetching_next_ = false;    // the fetch cursor has wrapped into the next pass
  size_t fetch_use_ = 0;          // fetch cursor: index into uses_
  bool copying_next_ = false;     // the same of the copy cursor, which never passes the other
  size_t copy_use_ = 0;
  std::vector<bool> overtook_;  // by use, of the pass that is copied for: before their turn
  StepId launch_step_ = 0;      // compute cursor: all before it are enqueued
  std::vector<bool> launched_;  // in this pass, by step: those that overtook lie behind the cursor
  StepId steps_done_ = 0;
  absl::Status error_;
  SchedulerStats stats_;
};

}  // namespace weir

#endif  // WEIR_TIERING_SCHEDULER_H_
