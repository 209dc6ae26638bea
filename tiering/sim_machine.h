// SimMachine: the scheduler's four verbs on a virtual clock, so that what it decides can be checked
// for hardware that nobody here owns, hundreds of runs in a second. Pure: no threads, no wall
// clock; equal calls and options, equal events.
//
// Disk: every read waits out a latency, then all that are past theirs share the bandwidth equally.
// Compute: steps run one after the other, each for a fixed time and its weight bytes over a
// bandwidth. Time passes only in Wait and Elapse.
//
// The machine also keeps its own books of what lies where, and holds the scheduler to the contract
// of Machine and to the plan. It checks at every call that
//   * a block goes to the kind of place that the plan gives it, into a slot that exists, is not
//   being
//     read into and is not pinned by a step that has been run and is not done;
//   * no block is read while it is being read, and resident blocks are read once;
//   * a step's blocks have arrived and lie where nothing has been put since; rows are fresh;
//   * steps run in program order, with no more steps and transfers in flight than allowed;
//   * the bytes held are within the plan's budget;
//   * Wait is not called with nothing in flight: it would hang.
// The first violation is kept (violation()); after one the machine goes on as well as it can.
#ifndef WEIR_TIERING_SIM_MACHINE_H_
#define WEIR_TIERING_SIM_MACHINE_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "io/clock.h"
#include "tiering/machine.h"
#include "tiering/plan.h"
#include "tiering/program.h"

namespace weir {

struct SimHardware {
  double disk_bytes_per_s = 1e9;
  int64_t disk_latency_ns = 100'000;  // of each read
  double compute_bytes_per_s = 10e9;  // weight bytes
  int64_t step_ns = 1'000;            // of each step, beside its bytes
  uint32_t max_transfers = 16;
  uint32_t max_steps = 4;
};

struct SimFaults {
  uint64_t seed = 0;
  double spike_share = 0;  // of reads whose latency grows by `spike_ns`
  int64_t spike_ns = 0;
  double late_share = 0;  // of reads told late, up to `late_ns`: others overtake them
  int64_t late_ns = 0;
  double error_share = 0;                     // of reads that fail
  std::optional<uint64_t> error_at_transfer;  // the n-th transfer, from 0, fails
  std::optional<uint64_t> cancel_at_event;    // kCancelled comes just before the n-th event, from 0
};

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
  int64_t compute_busy_ns = 0;
};

class SimMachine final : public Machine {
 public:
  // `program` and `plan` must outlive the machine.
  SimMachine(const Program& program, const Plan& plan, const SimHardware& hardware,
             const SimFaults& faults);

  uint32_t max_transfers() const override { return hardware_.max_transfers; }
  uint32_t max_steps() const override { return hardware_.max_steps; }
  void Start(const Transfer& transfer) override;
  void Run(StepId step) override;
  size_t Wait(absl::Span<MachineEvent> events) override;
  int64_t Now() override { return clock_.NowNs(); }

  // The caller is busy elsewhere: what is in flight goes on.
  void Elapse(int64_t duration_ns);

  // OK as long as every call kept the contract.
  const absl::Status& violation() const { return violation_; }
  // violation(), or an error when something is in flight or not yet told.
  absl::Status CheckIdle() const;
  // Reads of this block that succeeded.
  uint64_t ReadsOf(BlockId block) const { return places_[block].reads; }
  const SimStats& stats() const { return stats_; }

 private:
  // What the machine knows of a block's copy in memory.
  enum class Presence : uint8_t { kAbsent, kArriving, kPresent };
  struct Place {
    Presence presence = Presence::kAbsent;
    SlotId slot = Transfer::kOwnMemory;
    uint32_t pins = 0;  // by steps run and not told done
    bool used = false;  // by a step, since it arrived
    uint64_t reads = 0;
  };
  struct Read {
    Transfer transfer;
    double left_bytes = 0;
    int64_t begin_ns = 0;
    int64_t flowing_ns = 0;  // when its latency is over
    bool fails = false;
  };
  struct Told {
    MachineEvent event;
    int64_t tell_ns = 0;
  };
  struct QueuedStep {
    StepId step;
    int64_t begin_ns;
    int64_t end_ns;
  };

  void Violate(const std::string& what);
  void CheckPlanLayout();
  void CheckDestination(const Transfer& transfer);
  void Occupy(const Transfer& transfer);
  void Vacate(BlockId block);
  bool Streams(BlockId block) const;
  bool SlotIsFree(SlotId slot) const;
  bool DiskIdlesNeedlessly() const;
  void CountHeldBytes();
  double Random();

  std::optional<int64_t> NextInside() const;  // when a read or step next changes
  void Flow(int64_t to_ns);                   // moves bytes and the clock, nothing changes before
  void Settle();                              // what ends now ends
  void AdvanceTo(int64_t to_ns);
  void EndRead(const Read& read);
  bool HasTold(int64_t now_ns) const;
  void Tell(const MachineEvent& event);

  const Program& program_;
  const Plan& plan_;
  SimHardware hardware_;
  SimFaults faults_;
  VirtualClock clock_;
  std::mt19937_64 random_;

  std::vector<Place> places_;                      // by block
  std::vector<std::optional<BlockId>> occupants_;  // by slot
  std::vector<Read> reads_;                        // on the disk
  std::deque<QueuedStep> steps_;                   // not yet ended
  std::deque<Told> told_;                          // ended, not yet told; by tell_ns
  uint64_t started_transfers_ = 0;
  uint32_t transfers_in_flight_ = 0;  // started and not told
  uint32_t steps_in_flight_ = 0;      // run and not told
  int64_t compute_free_ns_ = 0;
  StepId next_step_ = 0;
  uint32_t hangs_ = 0;
  bool cancel_told_ = false;
  absl::Status violation_;
  SimStats stats_;
};

}  // namespace weir

#endif  // WEIR_TIERING_SIM_MACHINE_H_
