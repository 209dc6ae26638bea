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

struct MachineEvent {
  enum class Kind : uint8_t {
    kTransferDone,  // `id` is the block; `status` tells how it ended
    kStepDone,      // `id` is the step; steps complete in the order they were run
    kCancelled,     // the user wants the pass to end
  };
  Kind kind = Kind::kTransferDone;
  uint32_t id = 0;
  absl::Status status;
  int64_t begin_ns = 0;  // on the machine's clock; for traces and times
  int64_t end_ns = 0;
};

class Machine {
 public:
  virtual ~Machine() = default;

  // Transfers that may be in flight at once; the scheduler never starts more.
  virtual uint32_t max_transfers() const = 0;
  // Steps that may be enqueued and not yet done.
  virtual uint32_t max_steps() const = 0;

  // Begins a transfer; its kTransferDone comes from Wait, exactly once. Until then the destination
  // is the machine's.
  virtual void Start(const Transfer& transfer) = 0;
  // Enqueues a step behind those already enqueued. Its blocks are in memory, and stay there until
  // its kStepDone.
  virtual void Run(StepId step) = 0;
  // Blocks until there is at least one event and returns their number. Something is in flight
  // (checked by the caller: nothing would ever come otherwise).
  virtual size_t Wait(absl::Span<MachineEvent> events) = 0;
  // Monotonic nanoseconds.
  virtual int64_t Now() = 0;
};

}  // namespace weir

#endif  // WEIR_TIERING_MACHINE_H_
