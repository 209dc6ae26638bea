// Scheduler: the state machine that decides which block is read into which slot when, and when each
// step runs. One thread. It owns block states, pins, cursors and slot numbers; no memory, threads,
// clocks or files. Equal events, equal decisions.
//
// Two cursors walk the program: the fetch cursor starts reads as slots come free, the compute
// cursor enqueues each step as soon as its blocks are ready; where the program allows (a group of
// steps without an order), a step whose blocks came early overtakes one that still waits. The fetch
// cursor runs ahead over the end of a pass into the next one, so that the stream never drains at a
// token's end.
//
//   block:  absent -> fetching -> ready (pinned while steps use it) -> absent, or for a resident
//           block ready for good.
#ifndef WEIR_TIERING_SCHEDULER_H_
#define WEIR_TIERING_SCHEDULER_H_

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "tiering/machine.h"
#include "tiering/plan.h"
#include "tiering/pool.h"
#include "tiering/program.h"
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
  // On error (a transfer that failed, also one of those read ahead; Cancelled) everything in flight
  // has ended before it returns, and all slots are free again; resident blocks that were read stay.
  // A later pass starts afresh.
  absl::Status RunPass(const PassSpec& pass, const std::optional<PassSpec>& next);

  // Waits until nothing is in flight; blocks read ahead are dropped. Before memory is freed. What
  // fails or is cancelled meanwhile concerns nobody and is not reported.
  void Drain();

  // True when a resident block's bytes are in place.
  bool IsResident(BlockId block) const;
  const SchedulerStats& stats() const { return stats_; }

 private:
  enum class State : uint8_t { kAbsent, kFetching, kReady };
  struct BlockState {
    State state = State::kAbsent;
    bool discard = false;  // wanted no more when it arrives
    SlotId slot = Transfer::kOwnMemory;
    uint32_t pins = 0;
  };
  // One use of a weight block in program order.
  struct Use {
    StepId step;
    BlockId block;
  };

  StepId EndStep(const PassSpec& pass) const;
  size_t EndUse(const PassSpec& pass) const;
  bool Streams(BlockId block) const;
  bool IsRows(BlockId block) const;
  void ListUses();
  void BeginPass(const PassSpec& pass);
  void Fetch();
  bool FetchAt(size_t use);
  void StartTransfer(BlockId block, SlotId slot);
  void Launch();
  void LaunchStep(StepId step);
  bool IsReady(StepId step) const;
  bool HoldsSlot(StepId step) const;
  void HandleEvents();
  void OnTransferDone(const MachineEvent& event);
  void OnStepDone(const MachineEvent& event);
  void Free(BlockId block);
  void Discard(BlockId block);
  absl::Status Abandon();

  const Program& program_;
  const Plan& plan_;
  Machine& machine_;
  Trace* trace_;
  PassObserver* observer_;

  std::vector<Use> uses_;      // of the longest pass; each block once
  std::vector<BlockId> rows_;  // gathered at the start of every pass
  std::vector<BlockState> blocks_;
  SlotPool pool_;
  std::vector<MachineEvent> events_;  // scratch for Wait
  uint32_t transfers_in_flight_ = 0;
  uint32_t rows_in_flight_ = 0;  // of these
  uint32_t steps_in_flight_ = 0;
  int64_t disk_busy_begin_ns_ = 0;  // since when transfers_in_flight_ > 0

  PassSpec pass_;                 // the one that runs
  std::optional<PassSpec> next_;  // the one read ahead for
  bool fetching_next_ = false;    // the fetch cursor has wrapped into the next pass
  size_t fetch_use_ = 0;          // fetch cursor: index into uses_
  StepId launch_step_ = 0;        // compute cursor: all before it are enqueued
  std::vector<bool> launched_;  // in this pass, by step: those that overtook lie behind the cursor
  StepId steps_done_ = 0;
  absl::Status error_;
  SchedulerStats stats_;
};

}  // namespace weir

#endif  // WEIR_TIERING_SCHEDULER_H_
