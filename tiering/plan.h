// Plan: where every block lives and is multiplied, what the budgets are spent on, and the
// prediction. A value: made by a pure function, printed, saved, loaded and compared.
//
// Weight blocks of a plan with an accelerator, by home and compute device, in a decode pass:
//   (device, accelerator)  read once through a slot of the host ring, copied once, stays
//   (host, accelerator)    read once, stays in the host arena; copied to a device slot at each use
//   (disk, accelerator)    read into a host slot, copied to a device slot at each use
//   (host or disk, CPU)    multiplied in the arena or the host slot; in passes of more than
//                          in_place_tokens as if it were (.., accelerator)
// All weight blocks of one step have the same compute device; steps without any run on the
// accelerator. Rows are gathered into host memory of their own whatever the plan is.
#ifndef WEIR_TIERING_PLAN_H_
#define WEIR_TIERING_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/kv_layout.h"
#include "tiering/block.h"
#include "tiering/cost.h"
#include "tiering/program.h"

namespace weir {

// How the model was cut and what a run keeps beside the weights. Chosen before the plan.
struct RunShape {
  uint64_t block_bytes = 0;     // target size of a block
  uint32_t context_tokens = 0;  // positions that the KV pages hold
  uint32_t chunk_tokens = 0;    // tokens per pass at most (prompts)
  uint32_t logit_rows = 1;      // rows of logits kept per pass
  KvFormats kv = {};            // what those pages hold
  // False: a block is read when the step that wants it is next and nothing else happens. What a
  // program does that reads each tensor when it needs it: the arm to compare with, not to use.
  bool reads_ahead = true;
};

// Bytes beside the weight blocks: taken whatever the placement is.
struct OverheadBytes {
  uint64_t small_tensors = 0;  // norms, biases and the like: always resident
  uint64_t kv = 0;
  uint64_t activations = 0;  // with logits and scratch
  uint64_t rows = 0;         // staging for gathered embedding rows

  uint64_t total() const { return small_tensors + kv + activations + rows; }
};

struct Placement {
  Tier home = Tier::kDisk;
  // In plans with an accelerator kCpu means: where it lies in host memory, in passes of few tokens
  // (AcceleratorPlan::in_place_tokens); wider passes copy it to the accelerator.
  ComputeDevice compute_device = ComputeDevice::kCpu;
  uint64_t arena_offset_bytes = 0;  // kHost, kDevice: where in that tier's resident arena
};

// Bytes of the accelerator's memory beside the weight blocks.
struct DeviceOverheadBytes {
  uint64_t small_tensors = 0;
  uint64_t kv = 0;
  uint64_t activations = 0;  // with logits
  uint64_t inputs = 0;       // of a pass: embedding rows, positions, page tables
  uint64_t scratch = 0;      // of kernels

  uint64_t total() const { return small_tensors + kv + activations + inputs + scratch; }
};

// The accelerator's part of a plan.
struct AcceleratorPlan {
  uint64_t hbm_budget_bytes = 0;
  DeviceOverheadBytes overhead;
  uint32_t slots = 0;  // of the ring that copied blocks pass through; 0 when none is
  uint64_t slot_bytes = 0;
  uint64_t arena_bytes = 0;      // of blocks whose home is kDevice
  uint32_t in_place_tokens = 0;  // most tokens of a pass whose kCpu blocks the CPU multiplies

  uint64_t hbm_bytes() const { return overhead.total() + slots * slot_bytes + arena_bytes; }
};

struct Plan {
  uint64_t fingerprint = 0;  // of the program it was made for
  RunShape shape;
  uint64_t dram_budget_bytes = 0;
  OverheadBytes overhead;
  // Of the ring that blocks read from disk pass through: those that stream, and once those whose
  // home is the accelerator.
  uint32_t slots = 0;
  uint64_t slot_bytes = 0;
  uint64_t resident_arena_bytes = 0;  // of blocks whose home is kHost
  std::vector<Placement> placements;  // by block
  std::optional<AcceleratorPlan> accelerator;
  Prediction prediction;

  uint64_t dram_bytes() const {  // what the run will take; <= dram_budget_bytes
    return overhead.total() + slots * slot_bytes + resident_arena_bytes;
  }
};

struct PlanSummary {
  uint64_t resident_payload_bytes = 0;  // in host memory or the accelerator's
  uint64_t device_payload_bytes = 0;    // of these, in the accelerator's
  uint64_t streamed_payload_bytes = 0;
  uint64_t streamed_read_bytes = 0;  // read at every pass: with the padding of direct reads
  // In a decode pass, with an accelerator:
  uint64_t copied_payload_bytes = 0;
  uint64_t copied_bytes = 0;            // over the link: with that padding
  uint64_t in_place_payload_bytes = 0;  // multiplied by the CPU
  double resident_share() const {
    const double all = static_cast<double>(resident_payload_bytes + streamed_payload_bytes);
    return all == 0 ? 1.0 : static_cast<double>(resident_payload_bytes) / all;
  }
};
PlanSummary Summarise(const Program& program, const Plan& plan);

// Where a step runs, in a pass of more than AcceleratorPlan::in_place_tokens tokens (`wide`) or
// not.
ComputeDevice StepDevice(const Program& program, const Plan& plan, StepId step, bool wide);

// What a decode pass under this placement would take.
Prediction PredictPlan(const Program& program, const Plan& plan, const Ceilings& ceilings);

// Which blocks in host memory the CPU multiplies where they lie, in passes of few tokens.
enum class InPlace : uint8_t {
  kAuto,  // the share that makes a pass shortest by the cost model; none if that does not know
  kOff,
  kOn,  // all whose home is kHost
};

struct PlanOptions {
  RunShape shape;
  OverheadBytes overhead;
  // Bytes of ring that keep the disk busy (bandwidth x latency, with room for the step that
  // computes).
  uint64_t preferred_ring_bytes = 48 << 20;
  Ceilings ceilings;

  // With an accelerator only:
  DeviceOverheadBytes device_overhead;
  // Bytes of device ring that keep the link busy.
  uint64_t preferred_device_ring_bytes = 64 << 20;
  InPlace in_place = InPlace::kAuto;
  uint32_t in_place_tokens = 4;  // AcceleratorPlan::in_place_tokens
};

// The least DRAM that a run of this shape works in: overhead and the smallest ring.
uint64_t FloorBytes(const Program& program, const PlanOptions& options);
// The same with an accelerator, whatever its memory.
uint64_t AcceleratorDramFloorBytes(const Program& program, const PlanOptions& options);
// The least device memory: its overhead and the smallest ring of device slots.
uint64_t HbmFloorBytes(const Program& program, const PlanOptions& options);

// Dense plan: what fits stays resident, spread evenly over the program's order so that reads and
// compute alternate at the finest grain; the rest streams through a ring of slots.
// ResourceExhausted below the floor, with the floor and its parts.
absl::StatusOr<Plan> MakePlan(const Program& program, uint64_t dram_budget_bytes,
                              const PlanOptions& options);

// The same with a share of the weight bytes (0..1) as the goal; the budget is what that takes.
absl::StatusOr<Plan> MakePlanForResidentShare(const Program& program, double share,
                                              const PlanOptions& options);

// For an accelerator: what fits into its memory beside overhead and ring lives there, what then
// fits into DRAM in the host arena, the rest on disk; each kind spread evenly over the program's
// order, so that disk, link and both devices have work at the same time. ResourceExhausted below
// either floor, with the floor, its parts and the option to raise (--dram, --hbm).
absl::StatusOr<Plan> MakeAcceleratorPlan(const Program& program, uint64_t dram_budget_bytes,
                                         uint64_t hbm_budget_bytes, const PlanOptions& options);

// "a 12.0 MiB, b 3.0 MiB" for messages.
std::string DescribeOverhead(const OverheadBytes& overhead);
std::string DescribeOverhead(const DeviceOverheadBytes& overhead);

// JSON, documented in docs/plan.md. Parse refuses what is not a plan, is internally inconsistent,
// or exceeds its own budget; CheckPlanFits refuses a plan made for another program. Neither knows
// what this machine has free or what this run keeps beside the weights: whoever loads a plan
// compares the budgets and overheads with that. Derived fields, `prediction` among them,
// are written for the reader and ignored on reading (it holds for the machine that made the plan).
std::string PlanToJson(const Program& program, const Plan& plan);
absl::StatusOr<Plan> ParsePlanJson(const std::string& text, const std::string& source);
absl::Status CheckPlanFits(const Program& program, const Plan& plan, const std::string& source);

}  // namespace weir

#endif  // WEIR_TIERING_PLAN_H_
