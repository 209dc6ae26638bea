// SimBooks: what lies where on a simulated machine, kept apart from the scheduler's own account of
// it, and the invariants that every scheduler must hold at every call and event:
//
//   plan      resident blocks lie inside their tier's arena, apart from each other, within its
//             budget
//   place     a block goes to the kind of place that the plan gives it, into a slot that exists and
//             is not being written to; no block is brought while it is being brought, none that is
//             resident is brought twice; a step runs on the device that the plan gives it
//   budget    the bytes held on each tier are within the plan's budget for it
//   pinned    bytes that a step uses stay as they were when it was run until it is done, those that
//             are copied until the copy is done: every arrival has a number of its own, and a step
//             must find those that it was run with
//   arrival   a step's blocks have arrived, or on the accelerator their copies were started, and
//             nothing was put over them; what is copied is in host memory; rows are fresh
//   order     each step runs once a pass; a group of steps (tiering/program.h) after everything
//             before it and before everything behind it; a pass that met no error is complete
//   limits    no more transfers, copies and steps in flight than the machine allows
//   progress  nobody waits with nothing in flight, and no pass goes on for ever
//
// The first breach is kept; the books go on as well as they can.
#ifndef WEIR_TIERING_SIM_BOOKS_H_
#define WEIR_TIERING_SIM_BOOKS_H_

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "tiering/machine.h"
#include "tiering/plan.h"
#include "tiering/program.h"
#include "tiering/sim_memory.h"

namespace weir {

enum class Invariant : uint8_t {
  kNone,
  kPlan,
  kPlace,
  kBudget,
  kPinned,
  kArrival,
  kOrder,
  kLimits,
  kProgress,
};
std::string_view InvariantName(Invariant invariant);

uint64_t ReadBytes(const Block& block);  // that one read of it moves

class SimBooks {
 public:
  // Both must outlive the books.
  SimBooks(const Program& program, const Plan& plan);

  void OnStart(const Transfer& transfer);
  void OnTransferTold(BlockId block, bool good);
  void OnStartCopy(const Copy& copy);
  void OnCopyTold(BlockId block);
  void OnRun(StepId step, ComputeDevice device);
  void OnStepTold(StepId step, ComputeDevice device);
  void OnCancelTold() { pass_failed_ = true; }
  // Every step and copy in flight finds what it was run with.
  void CheckContents();
  // `when` goes in front of the message.
  void Breach(Invariant invariant, const std::string& what);
  void SetMoment(int64_t now_ns, uint64_t events);  // for messages

  // A host slot is free or its block used up, and some block that is read is not in memory.
  bool CouldRead() const;

  Invariant breached() const { return breached_; }
  const absl::Status& violation() const { return violation_; }  // OK: none
  uint32_t transfers_in_flight() const { return transfers_in_flight_; }
  uint32_t copies_in_flight() const { return static_cast<uint32_t>(copies_.size()); }
  uint32_t steps_in_flight() const {
    return static_cast<uint32_t>(running_[0].size() + running_[1].size());
  }
  uint64_t reads_of(BlockId block) const { return host_.at(block).arrivals; }
  uint64_t copies_of(BlockId block) const { return device_.at(block).arrivals; }
  uint64_t unused_transfers() const { return host_.unused(); }
  uint64_t unused_copies() const { return device_.unused(); }
  uint64_t peak_held_bytes() const { return host_.peak_held_bytes(); }
  uint64_t peak_device_bytes() const { return device_.peak_held_bytes(); }

 private:
  using Presence = SimMemory::Presence;
  // What a step or a copy in flight was run with.
  struct Seen {
    SimMemory* memory;
    BlockId block;
    SlotId slot;
    uint64_t content;
  };
  struct Running {
    StepId step;
    std::vector<Seen> seen;
  };

  bool IsRows(BlockId block) const { return program_.blocks[block].kind == BlockKind::kRows; }
  Tier Home(BlockId block) const { return plan_.placements[block].home; }
  // It passes through the host ring.
  bool Streams(BlockId block) const { return !IsRows(block) && Home(block) != Tier::kHost; }
  void CheckPlanLayout();
  void CheckArena(Tier home, uint64_t arena_bytes);
  void CheckDestination(const Transfer& transfer);
  void CheckSlot(const SimMemory& memory, BlockId id, SlotId slot);
  void CheckCopyDestination(const Copy& copy);
  void CheckCopySource(BlockId block);
  void CheckBudgets();
  void CheckDevice(StepId step, ComputeDevice device);
  void Use(BlockId block, ComputeDevice device, Running* running);
  std::string NameOf(const SimMemory& memory) const { return &memory == &host_ ? "" : "device "; }
  void CheckOrder(StepId step);
  void BeginPass();
  void EnterGroup(StepId begin);
  void MarkRun(StepId step);

  const Program& program_;
  const Plan& plan_;
  bool has_rows_ = false;
  SimMemory host_;
  SimMemory device_;
  uint64_t arrivals_ = 0;
  uint32_t transfers_in_flight_ = 0;            // started and not told
  std::deque<Seen> copies_;                     // the same, in order: what they copy
  std::array<std::deque<Running>, 2> running_;  // by device, in order

  StepId group_begin_ = 0;
  StepId group_end_ = 0;
  uint32_t group_left_ = 0;    // steps of it that have not been run
  std::vector<bool> was_run_;  // by step, of the group
  bool pass_began_ = false;    // some step was run
  bool pass_failed_ = false;   // it may end before it is complete

  int64_t now_ns_ = 0;
  uint64_t events_ = 0;
  Invariant breached_ = Invariant::kNone;
  absl::Status violation_;
};

}  // namespace weir

#endif  // WEIR_TIERING_SIM_BOOKS_H_
