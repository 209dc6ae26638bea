// Machine: what the scheduler asks of the world, in four verbs. The real machine
// (engine/real_machine.h) owns memory, a Reader and Devices; the simulated one
// (tiering/sim_machine.h) a virtual clock. The scheduler cannot tell them apart.
#ifndef WEIR_TIERING_MACHINE_H_
#define WEIR_TIERING_MACHINE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "tiering/block.h"
#include "tiering/pool.h"

namespace weir {

// Bring a block from disk into memory.
struct Transfer {
  // `slot` of a block that has memory of its own (resident, or gathered rows).
  static constexpr SlotId kOwnMemory = UINT32_MAX;

  BlockId block = 0;
  SlotId slot = kOwnMemory;
};

// Bring a block from host memory (its slot, or its place in the host arena) into the accelerator's.
struct Copy {
  // `device_slot` of a block that stays on the accelerator.
  static constexpr SlotId kOwnMemory = UINT32_MAX;

  BlockId block = 0;
  SlotId device_slot = kOwnMemory;
};

struct MachineEvent {
  enum class Kind : uint8_t {
    kTransferDone,  // `id` is the block
    kCopyDone,      // `id` is the block; copies complete in the order they were started, and are
                    // told before any step that was run behind them
    kStepDone,      // `id` is the step; steps of one device complete in the order they were run
    kCancelled,     // the user wants the pass to end
  };
  Kind kind = Kind::kTransferDone;
  uint32_t id = 0;
  absl::Status status;   // how it ended; the first that is wanted and not OK ends the pass
  int64_t begin_ns = 0;  // on the machine's clock; for traces and times
  int64_t end_ns = 0;
};

class Machine {
 public:
  virtual ~Machine() = default;

  // Transfers that may be in flight at once; the scheduler never starts more.
  virtual uint32_t max_transfers() const = 0;
  // Steps that may be enqueued and not yet done, on all devices together.
  virtual uint32_t max_steps() const = 0;

  // Begins a transfer; its kTransferDone comes from Wait, exactly once. Until then the destination
  // is the machine's.
  virtual void Start(const Transfer& transfer) = 0;
  // Copies that may be started and not yet done; 0 without an accelerator.
  virtual uint32_t max_copies() const { return 0; }
  // Enqueues a copy of Block::memory_bytes behind those already enqueued. The block's bytes are in
  // host memory and stay there until its kCopyDone; until then the destination is the machine's.
  // The same block may be read anew, for the next pass, while its copy is still in use.
  virtual void StartCopy(const Copy& copy) = 0;
  // Enqueues a step on a device behind those already enqueued there. Its blocks stay where they are
  // until its kStepDone. On the CPU they are in host memory; on the accelerator they are in its
  // memory, or on the way there by a copy that was started: the machine runs the step behind it.
  // Whatever is before the step's group has been run (tiering/program.h); the machine makes steps
  // of one device wait for those of the other where they depend on them. Rows blocks are in host
  // memory whatever the device: the machine brings them to the accelerator itself.
  virtual void Run(StepId step, ComputeDevice device) = 0;
  // Blocks until there is at least one event and returns their number. Something is in flight
  // (checked by the caller: nothing would ever come otherwise).
  virtual size_t Wait(absl::Span<MachineEvent> events) = 0;
  // Monotonic nanoseconds.
  virtual int64_t Now() = 0;
};

}  // namespace weir

#endif  // WEIR_TIERING_MACHINE_H_
