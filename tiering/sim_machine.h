// SimMachine: the scheduler's four verbs on a virtual clock, so that what it decides can be checked
// for hardware that nobody here owns, thousands of runs in a second. Pure: no threads, no wall
// clock; equal calls and options, equal events.
//
// Disk: tiering/sim_disk.h. Compute: steps run one after the other, in the order of Run. With an
// accelerator (the plan says) there are a link, whose copies flow one after the other while their
// latencies overlap, and a queue of steps for each device. A step begins when its copies are done,
// the one before it on its device is, and everything before its group (tiering/program.h) is; a
// step on the CPU begins a link latency after that, and counts as done for what is behind its group
// a link latency late, since activations cross. Time passes only in Wait and Elapse. What the
// machine leaves out: docs/decisions.md, "What the simulator is".
//
// The machine holds the scheduler to the contract of Machine, to the program and to the plan, at
// every call and event: tiering/sim_books.h lists the invariants. The first breach is kept
// (violation()); after one the machine goes on as well as it can.
#ifndef WEIR_TIERING_SIM_MACHINE_H_
#define WEIR_TIERING_SIM_MACHINE_H_

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "io/clock.h"
#include "tiering/machine.h"
#include "tiering/plan.h"
#include "tiering/program.h"
#include "tiering/sim_books.h"
#include "tiering/sim_disk.h"
#include "tiering/sim_faults.h"

namespace weir {

struct SimHardware {
  double disk_bytes_per_s = 1e9;
  int64_t disk_latency_ns = 100'000;  // of each attempt of a read
  // Of gathering embedding rows, instead of disk_latency_ns: 0 when the table is in memory.
  std::optional<int64_t> rows_latency_ns = std::nullopt;
  // Above 0; a read that has not ended by then is told as failed, DeadlineExceeded.
  int64_t read_timeout_ns = 60'000'000'000;

  // What a step takes on the compute device (the accelerator, in plans with one) with one token:
  // `step_ns`, by step of the program, or where that is empty its weight bytes over a bandwidth and
  // a constant.
  std::vector<int64_t> step_ns = {};
  double compute_bytes_per_s = 10e9;
  int64_t each_step_ns = 1'000;

  // With an accelerator: the same of the CPU beside it, and the link.
  std::vector<int64_t> host_step_ns = {};
  double host_compute_bytes_per_s = 10e9;
  double link_bytes_per_s = 25e9;
  int64_t link_latency_ns = 10'000;  // of each copy, and of activations that cross

  uint32_t max_transfers = 16;  // 0: as engine/real_machine.h: the plan's slots and 2, at least 8
  uint32_t max_steps = 4;
  uint32_t max_copies = 16;
};

// The duration of a step with one token, on the compute device.
int64_t StepNs(const SimHardware& hardware, const Program& program, StepId step);
// The same on the CPU beside an accelerator.
int64_t HostStepNs(const SimHardware& hardware, const Program& program, StepId step);

struct SimStats {
  uint64_t events = 0;     // told, kCancelled apart
  uint64_t transfers = 0;  // that succeeded
  uint64_t failed_transfers = 0;
  uint64_t transfer_bytes = 0;  // of those that succeeded
  uint64_t steps = 0;
  uint64_t unused_transfers = 0;  // overwritten or read again before any step used them
  uint64_t idle_disk_waits = 0;   // Wait with no read in flight, a slot free, a block not in memory
  uint64_t peak_held_bytes = 0;   // with the plan's overhead
  int64_t disk_busy_ns = 0;       // some read was past its latency
  int64_t compute_busy_ns = 0;    // of the compute device
  // With an accelerator:
  uint64_t copies = 0;
  uint64_t copy_bytes = 0;
  uint64_t unused_copies = 0;        // overwritten before any step used them
  uint64_t peak_device_bytes = 0;    // with the plan's overhead there
  int64_t link_busy_ns = 0;          // some copy was past its latency
  int64_t host_compute_busy_ns = 0;  // of the CPU
  uint64_t host_steps = 0;           // of `steps`, on the CPU
  uint64_t late_reads = 0;           // told after they ended
  SimFaultStats faults;
};

class SimMachine final : public Machine {
 public:
  // `program` and `plan` must outlive the machine.
  SimMachine(const Program& program, const Plan& plan, const SimHardware& hardware,
             const SimFaults& faults);

  uint32_t max_transfers() const override { return hardware_.max_transfers; }
  uint32_t max_steps() const override { return hardware_.max_steps; }
  uint32_t max_copies() const override { return hardware_.max_copies; }
  void Start(const Transfer& transfer) override;
  void StartCopy(const Copy& copy) override;
  void Run(StepId step, ComputeDevice device) override;
  size_t Wait(absl::Span<MachineEvent> events) override;
  int64_t Now() override { return clock_.NowNs(); }

  // The caller is busy elsewhere: what is in flight goes on.
  void Elapse(int64_t duration_ns);
  // How many times what they take with one token the next steps take.
  void SetStepScale(double scale) { step_scale_ = scale; }
  // Events that may still come before the scheduler counts as going round in circles.
  void SetEventBudget(uint64_t events) { event_limit_ = stats_.events + events; }

  // OK as long as every call kept the contract.
  const absl::Status& violation() const { return books_.violation(); }
  Invariant breached() const { return books_.breached(); }
  // violation(), or an error when something is in flight or not yet told.
  absl::Status CheckIdle() const;
  // Reads of this block that succeeded, and copies.
  uint64_t ReadsOf(BlockId block) const { return books_.reads_of(block); }
  uint64_t CopiesOf(BlockId block) const { return books_.copies_of(block); }
  SimStats stats() const;
  // Of every call and event so far, with their times.
  uint64_t trace_hash() const { return trace_hash_; }

 private:
  struct Told {
    MachineEvent event;
    uint64_t transfer = 0;  // kTransferDone: its number
    int64_t tell_ns = 0;
    bool is_held = false;                        // until another transfer was told
    ComputeDevice device = ComputeDevice::kCpu;  // kStepDone
  };
  struct QueuedStep {
    StepId step;
    int64_t begin_ns;
    int64_t end_ns;
  };
  struct QueuedCopy {
    BlockId block;
    int64_t begin_ns;
    int64_t flowing_ns;  // when its latency is over and the one before it is done
    int64_t end_ns;
  };

  bool HasAccelerator() const { return has_accelerator_; }
  int64_t CrossingNs() const { return HasAccelerator() ? hardware_.link_latency_ns : 0; }
  void EnterGroupOf(StepId step);
  int64_t BeginOf(StepId step, ComputeDevice device) const;
  std::optional<int64_t> NextInside() const;  // when a read, copy or step next changes
  void Flow(int64_t to_ns);                   // moves bytes and the clock, nothing changes before
  void Settle();                              // what ends now ends
  void AdvanceTo(int64_t to_ns);
  absl::Status StatusOf(const SimDisk::Ended& ended) const;
  void SettleCopies(int64_t now_ns);
  void SettleSteps(ComputeDevice device, int64_t now_ns);
  void QueueTransfer(const SimDisk::Ended& ended);
  bool HasTold() const;
  void ReleaseHeld();
  void AdvanceToNextTold();
  size_t TellCancelled(MachineEvent* event);
  size_t TellHang(const std::string& what, MachineEvent* event);
  void Tell(const Told& told);
  void TellTransfer(const MachineEvent& event);
  void Record(uint64_t a, uint64_t b);  // into the trace's hash, with the time

  const Program& program_;
  SimHardware hardware_;
  SimFaults faults_;
  bool has_accelerator_;
  VirtualClock clock_;
  SimBooks books_;
  SimDisk disk_;
  std::vector<SimDisk::Ended> ended_;            // scratch
  std::deque<QueuedCopy> copies_;                // not yet ended
  std::array<std::deque<QueuedStep>, 2> steps_;  // the same, by device
  std::deque<Told> told_;                        // ended, not yet told
  int64_t link_free_ns_ = 0;
  std::array<int64_t, 2> compute_free_ns_ = {};  // by device
  std::vector<int64_t> copy_end_ns_;  // by block, of its last copy; empty without an accelerator
  StepId group_begin_ = 0;            // of the step that was run last
  int64_t before_group_ns_ = 0;       // when everything before that group is done
  int64_t group_ns_ = 0;              // when what was run of it is
  double step_scale_ = 1;
  uint64_t event_limit_ = UINT64_MAX;
  uint32_t hangs_ = 0;
  bool cancel_told_ = false;
  uint64_t trace_hash_ = 0;
  SimStats stats_;
};

}  // namespace weir

#endif  // WEIR_TIERING_SIM_MACHINE_H_
