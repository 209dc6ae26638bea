// SimBooks: what lies where on a simulated machine, kept apart from the scheduler's own account of
// it, and the invariants that every scheduler must hold at every call and event:
//
//   plan      resident blocks lie inside the arena, apart from each other, within the budget
//   place     a block goes to the kind of place that the plan gives it, into a slot that exists and
//             is not being read into; no block is read while it is being read, none that is
//             resident is read twice
//   budget    the bytes held are within the plan's budget
//   pinned    bytes that a step uses stay as they were when it was run until it is done: every
//             arrival has a number of its own, and a step must find those that it was run with
//   arrival   a step's blocks have arrived and nothing was put over them; rows are fresh
//   order     each step runs once a pass; a group of steps (tiering/program.h) after everything
//             before it and before everything behind it; a pass that met no error is complete
//   limits    no more transfers and steps in flight than the machine allows
//   progress  nobody waits with nothing in flight, and no pass goes on for ever
//
// The first breach is kept; the books go on as well as they can.
#ifndef WEIR_TIERING_SIM_BOOKS_H_
#define WEIR_TIERING_SIM_BOOKS_H_

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
  void OnRun(StepId step);
  void OnStepTold(StepId step);
  void OnCancelTold() { pass_failed_ = true; }
  // Every step in flight finds what it was run with.
  void CheckContents();
  // `when` goes in front of the message.
  void Breach(Invariant invariant, const std::string& what);
  void SetMoment(int64_t now_ns, uint64_t events);  // for messages

  bool Streams(BlockId block) const {
    return program_.blocks[block].kind == BlockKind::kWeights &&
           plan_.placements[block].home == Tier::kDisk;
  }
  // A slot is free or its block used up, and some streamed block is not in memory.
  bool CouldRead() const;

  Invariant breached() const { return breached_; }
  const absl::Status& violation() const { return violation_; }  // OK: none
  uint32_t transfers_in_flight() const { return transfers_in_flight_; }
  uint32_t steps_in_flight() const { return static_cast<uint32_t>(running_.size()); }
  uint64_t reads_of(BlockId block) const { return places_[block].reads; }
  uint64_t unused_transfers() const { return unused_transfers_; }
  uint64_t peak_held_bytes() const { return peak_held_bytes_; }

 private:
  enum class Presence : uint8_t { kAbsent, kArriving, kPresent };
  // A block's copy in memory.
  struct Place {
    Presence presence = Presence::kAbsent;
    SlotId slot = Transfer::kOwnMemory;
    uint32_t pins = 0;  // by steps run and not told done
    bool used = false;  // by a step, since it arrived
    uint64_t reads = 0;
  };
  // What a step in flight was run with.
  struct Seen {
    BlockId block;
    SlotId slot;
    uint64_t content;
  };
  struct Running {
    StepId step;
    std::vector<Seen> seen;
  };

  bool IsRows(BlockId block) const { return program_.blocks[block].kind == BlockKind::kRows; }
  uint64_t* ContentAt(BlockId block, SlotId slot);
  StepId GroupEnd(StepId begin) const;
  void CheckPlanLayout();
  void CheckDestination(const Transfer& transfer);
  void CheckOrder(StepId step);
  void BeginPass();
  void EnterGroup(StepId begin);
  void MarkRun(StepId step);
  void Vacate(BlockId block);
  void Hold(uint64_t bytes);

  const Program& program_;
  const Plan& plan_;
  bool has_rows_ = false;
  std::vector<Place> places_;                      // by block
  std::vector<std::optional<BlockId>> occupants_;  // by slot
  // Number of the arrival whose bytes lie there, 0 while they change.
  std::vector<uint64_t> slot_contents_;  // by slot
  std::vector<uint64_t> own_contents_;   // by block, of those with memory of their own
  uint64_t arrivals_ = 0;
  uint32_t transfers_in_flight_ = 0;  // started and not told
  std::deque<Running> running_;
  uint64_t held_bytes_ = 0;
  uint64_t peak_held_bytes_ = 0;
  uint64_t unused_transfers_ = 0;

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
