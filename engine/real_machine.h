// RealMachine: the scheduler's four verbs on this computer: transfers are reads into slot memory,
// steps are kernels on a stream, and one Wait listens to both.
#ifndef WEIR_ENGINE_REAL_MACHINE_H_
#define WEIR_ENGINE_REAL_MACHINE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "io/clock.h"
#include "io/reader.h"
#include "kernels/device.h"
#include "tiering/machine.h"
#include "tiering/plan.h"
#include "tiering/program.h"

namespace weir {

// Enqueues the kernels of a step; called from Run, on the scheduler's thread.
class StepRunner {
 public:
  virtual ~StepRunner() = default;
  virtual void EnqueueStep(StepId step) = 0;
};

// One embedding row to gather: where it is on disk and where it goes.
struct RowRead {
  const File* file = nullptr;
  uint64_t offset_bytes = 0;  // widened to the file's alignment, as `bytes`
  uint64_t bytes = 0;
  uint64_t required_bytes = 0;
  uint8_t* memory = nullptr;
};

// All borrowed; they outlive the machine.
struct RealMachineOptions {
  const Program* program = nullptr;
  const Plan* plan = nullptr;
  std::vector<const File*> files;  // by Segment::file
  Reader* reader = nullptr;
  Stream* stream = nullptr;  // steps run here
  StepRunner* runner = nullptr;
  uint8_t* ring = nullptr;                    // plan->slots * plan->slot_bytes, page-aligned
  uint8_t* arena = nullptr;                   // plan->resident_arena_bytes, page-aligned
  uint32_t max_rows = 0;                      // RowReads of one pass at most
  const std::atomic<bool>* cancel = nullptr;  // may be null; polled at least ten times a second
};

// One thread uses it. Nothing is allocated after construction except the text of errors.
class RealMachine final : public Machine {
 public:
  explicit RealMachine(const RealMachineOptions& options);

  uint32_t max_transfers() const override { return max_transfers_; }
  uint32_t max_steps() const override { return kMaxSteps; }
  void Start(const Transfer& transfer) override;
  void StartCopy(const Copy& copy) override;
  void Run(StepId step, ComputeDevice device) override;
  size_t Wait(absl::Span<MachineEvent> events) override;
  int64_t Now() override { return clock_.NowNs(); }

  // What the rows block's next transfer reads: none when all rows are in memory already.
  void SetRows(absl::Span<const RowRead> rows);
  // Where each block lies now: valid for blocks that are in memory.
  const std::vector<uint8_t*>& block_memory() const { return block_memory_; }

 private:
  static constexpr uint32_t kMaxSteps = 32;
  // Times are kept for longer than steps are in flight: a step begins where the one before it
  // ended.
  static constexpr uint32_t kStepRing = 2 * kMaxSteps;

  // One segment's read; the pool of them is as large as can ever be in flight.
  struct Piece {
    ReadOp op;
    BlockId block = 0;
  };
  struct BlockProgress {
    uint32_t pieces_left = 0;
    absl::Status status;
    int64_t begin_ns = 0;
    int64_t end_ns = 0;  // of the read that ended last
  };

  static void OnStepComplete(void* machine);  // on a thread of the device's
  bool FreesSlot(StepId step) const;
  void AddPiece(BlockId block, const File& file, const Segment& segment, uint8_t* memory,
                bool urgent);
  void SubmitPending();
  void FinishPiece(Piece* piece);
  size_t CollectEvents(absl::Span<MachineEvent> events);
  size_t CollectSteps(absl::Span<MachineEvent> events);

  RealMachineOptions options_;
  RealClock clock_;
  uint32_t max_transfers_ = 0;
  std::vector<uint8_t*> block_memory_;
  std::vector<BlockProgress> progress_;  // by block

  std::vector<Piece> pieces_;
  std::vector<Piece*> free_pieces_;
  std::vector<Piece*> pending_;  // a ring: not yet with the reader
  size_t pending_begin_ = 0;
  size_t pending_count_ = 0;
  std::vector<ReadOp*> done_ops_;     // scratch for the reader's Wait
  std::vector<BlockId> done_blocks_;  // finished, not yet told
  std::vector<RowRead> rows_;

  // Steps complete in order, so numbers are enough. The device's thread writes steps_done_ and
  // step_end_ns_, the scheduler's thread the rest.
  std::vector<StepId> step_ids_;          // a ring, by order of Run
  std::vector<uint8_t> step_frees_slot_;  // whether a slot comes free when it is done
  std::vector<int64_t> step_begin_ns_;
  std::vector<std::atomic<int64_t>> step_end_ns_;
  std::atomic<uint64_t> steps_run_{0};
  uint64_t steps_told_ = 0;
  std::atomic<uint64_t> steps_done_{0};
  bool cancel_told_ = false;
};

}  // namespace weir

#endif  // WEIR_ENGINE_REAL_MACHINE_H_
