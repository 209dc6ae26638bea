// RealMachine: the scheduler's verbs on this computer: transfers are reads into slot memory, copies
// go from there to the accelerator's on a copy stream, steps are kernels on the streams of devices,
// and one Wait listens to all.
#ifndef WEIR_ENGINE_REAL_MACHINE_H_
#define WEIR_ENGINE_REAL_MACHINE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/completion_queue.h"
#include "engine/pinned_memory.h"
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
  // On the streams of that device; with an accelerator a step of the CPU may use both.
  virtual void EnqueueStep(StepId step, ComputeDevice device) = 0;
  // Whether a step of this pass takes the CPU many milliseconds. Then few are enqueued ahead: what
  // is enqueued runs to its end even if the pass is cancelled.
  virtual bool HasLongSteps() const = 0;
};

// One embedding row to gather: where it is on disk and where it goes.
struct RowRead {
  const File* file = nullptr;
  uint64_t offset_bytes = 0;  // widened to the file's alignment, as `bytes`
  uint64_t bytes = 0;
  uint64_t required_bytes = 0;
  uint8_t* memory = nullptr;
};

// The accelerator's side of the machine. All borrowed; they outlive it.
struct MachineAccelerator {
  Device* device = nullptr;     // pins the memory that copies leave from
  Stream* compute = nullptr;    // steps of the accelerator run here
  Stream* copy = nullptr;       // copies to it
  uint8_t* ring = nullptr;      // its slots * slot_bytes, and
  uint8_t* arena = nullptr;     // arena_bytes, of its memory
  bool runs_far_ahead = false;  // many steps are enqueued at once, and not each is notified of
};

// All borrowed; they outlive the machine.
struct RealMachineOptions {
  const Program* program = nullptr;
  const Plan* plan = nullptr;
  std::vector<const File*> files;  // by Segment::file
  Reader* reader = nullptr;
  Stream* stream = nullptr;  // of the CPU device: its steps run here
  StepRunner* runner = nullptr;
  uint8_t* ring = nullptr;                        // plan->slots * plan->slot_bytes, page-aligned
  uint8_t* arena = nullptr;                       // plan->resident_arena_bytes, page-aligned
  uint32_t max_rows = 0;                          // RowReads of one pass at most
  const std::atomic<bool>* cancel = nullptr;      // may be null; polled at least ten times a second
  std::optional<MachineAccelerator> accelerator;  // as the plan has one
};

// One thread uses it. Nothing is allocated after construction except the text of errors.
class RealMachine final : public Machine {
 public:
  explicit RealMachine(const RealMachineOptions& options);

  uint32_t max_transfers() const override { return max_transfers_; }
  uint32_t max_steps() const override;
  uint32_t max_copies() const override { return max_copies_; }
  void Start(const Transfer& transfer) override;
  void StartCopy(const Copy& copy) override;
  void Run(StepId step, ComputeDevice device) override;
  size_t Wait(absl::Span<MachineEvent> events) override;
  int64_t Now() override { return clock_.NowNs(); }

  // What the rows block's next transfer reads: none when all rows are in memory already.
  void SetRows(absl::Span<const RowRead> rows);
  // Host memory that copies will leave from, pinned: a part of it. With an accelerator only.
  absl::StatusOr<absl::Span<uint8_t>> PinForProbe();
  // Where each block lies now, in host memory and in the accelerator's: valid for blocks that are
  // there.
  const std::vector<uint8_t*>& block_memory() const { return block_memory_; }
  const std::vector<uint8_t*>& device_block_memory() const { return device_block_memory_; }

 private:
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

  static void Wake(void* machine);  // on a thread of a device's
  void PlaceResidentBlocks();
  void MakeCopyMemory();
  bool FreesSlot(StepId step, ComputeDevice device) const;
  absl::Status EnsurePinned(BlockId block);
  void WaitForCopies(StepId step);
  absl::Status AcceleratorStatus() const;
  void AddPiece(BlockId block, const File& file, const Segment& segment, uint8_t* memory,
                bool urgent);
  void SubmitPending();
  void FinishPiece(Piece* piece);
  size_t CollectEvents(absl::Span<MachineEvent> events);
  size_t CollectCopies(uint64_t known, absl::Span<MachineEvent> events);
  size_t CollectAcceleratorSteps(absl::Span<MachineEvent> events);
  size_t CollectCpuSteps(absl::Span<MachineEvent> events);
  size_t CollectTransfers(absl::Span<MachineEvent> events);

  RealMachineOptions options_;
  RealClock clock_;
  uint32_t max_transfers_ = 0;
  uint32_t max_steps_ = 0;
  uint32_t max_copies_ = 0;
  std::vector<uint8_t*> block_memory_;
  std::vector<uint8_t*> device_block_memory_;
  std::vector<BlockProgress> progress_;  // by block

  std::vector<Piece> pieces_;
  std::vector<Piece*> free_pieces_;
  std::vector<Piece*> pending_;  // a ring: not yet with the reader
  size_t pending_begin_ = 0;
  size_t pending_count_ = 0;
  std::vector<ReadOp*> done_ops_;     // scratch for the reader's Wait
  std::vector<BlockId> done_blocks_;  // finished, not yet told
  std::vector<RowRead> rows_;

  CompletionQueue cpu_steps_;
  // With an accelerator:
  std::optional<CompletionQueue> accelerator_steps_;
  std::optional<CompletionQueue> copies_;
  std::optional<PinnedMemory> pinned_ring_;
  std::optional<PinnedMemory> pinned_arena_;
  struct CopyProgress {
    uint64_t number = 0;  // of the block's latest copy
    Event event;
    absl::Status status;  // of pinning what it leaves from
  };
  std::vector<CopyProgress> copy_progress_;  // by block
  uint64_t copies_awaited_ = 0;              // the compute stream waits for copies up to this one
  std::vector<uint64_t> step_copies_;        // by number of the accelerator's step, a ring: these
  bool cancel_told_ = false;
};

}  // namespace weir

#endif  // WEIR_ENGINE_REAL_MACHINE_H_
