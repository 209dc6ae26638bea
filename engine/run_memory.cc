#include "engine/run_memory.h"

#include <algorithm>
#include <utility>

#include "engine/kv_pages.h"
#include "engine/pass_inputs.h"
#include "engine/small_tensors.h"
#include "io/base.h"
#include "kernels/cpu_device.h"

namespace weir {
namespace {

constexpr uint64_t kPage = 4096;

// All logits, or the largest and their ids.
uint64_t LogitBytes(const Model& model, const RunShape& shape) {
  const uint32_t floats = std::max(model.config.vocabulary, 2 * kMaxTopLogits);
  return uint64_t{shape.logit_rows} * floats * sizeof(float);
}

uint64_t HostProductBytes(const Model& model, const RunShape& shape, uint32_t in_place_tokens) {
  if (in_place_tokens == 0) return 0;
  return HostProducts::HostBytes(model.config, HostProductsShapeOf(shape, in_place_tokens));
}

uint64_t DeviceProductBytes(const Model& model, const RunShape& shape, uint32_t in_place_tokens) {
  if (in_place_tokens == 0) return 0;
  return HostProducts::DeviceBytes(model.config, HostProductsShapeOf(shape, in_place_tokens));
}

}  // namespace

WorkspaceShape WorkspaceShapeOf(const RunShape& shape) {
  return {.chunk_tokens = shape.chunk_tokens, .logit_rows = shape.logit_rows};
}

HostProductsShape HostProductsShapeOf(const RunShape& shape, uint32_t in_place_tokens) {
  return {.tokens = in_place_tokens, .logit_rows = std::min(shape.logit_rows, in_place_tokens)};
}

OverheadBytes HostOverhead(const Model& model, const RunShape& shape, uint32_t threads) {
  OverheadBytes overhead;
  overhead.small_tensors = AlignUp(SmallTensors::Bytes(model), kPage);
  overhead.kv = AlignUp(KvBytes(model.config, shape.kv, shape.context_tokens), kPage);
  overhead.activations = AlignUp(WorkspaceBytes(model.config, WorkspaceShapeOf(shape)), kPage) +
                         threads * CpuStream::kScratchBytes;
  overhead.rows = AlignUp(PassInputs::Bytes(model, shape, /*for_accelerator=*/false), kPage);
  return overhead;
}

OverheadBytes HostOverheadBesideAccelerator(const Model& model, const RunShape& shape,
                                            uint32_t threads, uint32_t in_place_tokens) {
  OverheadBytes overhead;
  overhead.small_tensors = AlignUp(SmallTensors::Bytes(model), kPage);
  overhead.activations = AlignUp(LogitBytes(model, shape), kPage) +
                         AlignUp(HostProductBytes(model, shape, in_place_tokens), kPage) +
                         threads * CpuStream::kScratchBytes;
  overhead.rows = AlignUp(PassInputs::Bytes(model, shape, /*for_accelerator=*/true), kPage);
  return overhead;
}

DeviceOverheadBytes DeviceOverhead(const Model& model, const RunShape& shape,
                                   uint32_t in_place_tokens) {
  DeviceOverheadBytes overhead;
  overhead.small_tensors = AlignUp(SmallTensors::Bytes(model), kPage);
  overhead.kv = AlignUp(KvBytes(model.config, shape.kv, shape.context_tokens), kPage);
  overhead.activations = AlignUp(WorkspaceBytes(model.config, WorkspaceShapeOf(shape)), kPage) +
                         AlignUp(DeviceProductBytes(model, shape, in_place_tokens), kPage);
  overhead.inputs = AlignUp(PassInputs::Bytes(model, shape, /*for_accelerator=*/true), kPage);
  return overhead;
}

Buffer& HostMemory::largest() const {
  Buffer* found = ring.get();
  for (Buffer* buffer : {arena.get(), workspace.get(), inputs.get()}) {
    if (buffer->size_bytes() > found->size_bytes()) found = buffer;
  }
  return *found;
}

void HostMemory::MoveTo(std::vector<std::unique_ptr<Buffer>>* buffers) {
  for (auto* buffer : {&ring, &arena, &small, &inputs, &kv, &workspace, &logits, &products}) {
    buffers->push_back(std::move(*buffer));
  }
}

absl::StatusOr<HostMemory> TakeHostMemory(Device& cpu, const Model& model, const Plan& plan) {
  HostMemory memory;
  auto take = [&cpu](uint64_t bytes, std::unique_ptr<Buffer>* buffer,
                     Touch touch = Touch::kNow) -> absl::Status {
    WEIR_ASSIGN_OR_RETURN(*buffer, cpu.Allocate(std::max(bytes, kPage), kPage, touch));
    return absl::OkStatus();
  };
  const bool alone = !plan.accelerator.has_value();
  const uint64_t workspace = WorkspaceBytes(model.config, WorkspaceShapeOf(plan.shape));
  WEIR_RETURN_IF_ERROR(take(plan.slots * plan.slot_bytes, &memory.ring));
  WEIR_RETURN_IF_ERROR(take(plan.overhead.kv, &memory.kv));
  WEIR_RETURN_IF_ERROR(take(alone ? AlignUp(workspace, kPage) : 0, &memory.workspace));
  WEIR_RETURN_IF_ERROR(take(plan.overhead.rows, &memory.inputs));
  WEIR_RETURN_IF_ERROR(take(plan.overhead.small_tensors, &memory.small));
  const uint32_t in_place = alone ? 0 : plan.accelerator->in_place_tokens;
  WEIR_RETURN_IF_ERROR(take(alone ? 0 : LogitBytes(model, plan.shape), &memory.logits));
  WEIR_RETURN_IF_ERROR(take(HostProductBytes(model, plan.shape, in_place), &memory.products));
  // Gigabytes, perhaps: the first pass fills them in order, and its reads need not wait for pages
  // that come last. It is asked for last, so that it is refused unless it fits beside the pages
  // that are taken already.
  WEIR_RETURN_IF_ERROR(take(plan.resident_arena_bytes, &memory.arena, Touch::kAtFirstUse));
  return memory;
}

absl::StatusOr<DeviceMemoryParts> TakeDeviceMemory(Device& accelerator, const Model& model,
                                                   const Plan& plan) {
  const AcceleratorPlan& part = *plan.accelerator;
  const uint64_t products = DeviceProductBytes(model, plan.shape, part.in_place_tokens);
  const uint64_t bytes = part.hbm_bytes() - part.overhead.scratch;
  DeviceMemoryParts memory;
  WEIR_ASSIGN_OR_RETURN(memory.all, accelerator.Allocate(bytes, kPage, Touch::kNow));
  uint8_t* free_memory = memory.all->data();
  auto carve = [&free_memory](uint64_t part_bytes) {
    return std::exchange(free_memory, free_memory + AlignUp(part_bytes, kPage));
  };
  memory.small = carve(part.overhead.small_tensors);
  memory.kv = carve(part.overhead.kv);
  memory.workspace = carve(WorkspaceBytes(model.config, WorkspaceShapeOf(plan.shape)));
  memory.products = carve(products);
  memory.inputs = carve(part.overhead.inputs);
  memory.ring = carve(part.slots * part.slot_bytes);
  memory.arena = carve(part.arena_bytes);
  WEIR_CHECK(free_memory <= memory.all->data() + bytes);
  return memory;
}

}  // namespace weir
